//! A TCP proxy that does to a connection what networks and attackers do.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    /// Nothing is forwarded any more; connections stay open.
    Freeze,
    /// Nothing is forwarded any more over the connections there are; new ones work.
    Strand,
    /// Connections end, and new ones end at once.
    Cut,
    /// Every second answer comes so late.
    DelayHalf(Duration),
    /// Answers of more bytes than this lose the rest, and the connection ends.
    Truncate(usize),
    /// In the middle of every long answer one bit is flipped.
    Flip,
    /// Every request is answered with this.
    Answer(Vec<u8>),
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    fault: Mutex<Fault>,
    changed: Notify,
}

impl State {
    fn fault(&self) -> Fault {
        self.fault.lock().unwrap().clone()
    }
}

impl Proxy {
    pub(crate) async fn start(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State { fault: Mutex::new(Fault::None), changed: Notify::new() });
        let mut tasks = JoinSet::new();
        let shared = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if shared.fault() != Fault::Cut {
                    connections.spawn(pass(client, target, shared.clone()));
                }
            }
        });
        Self { port, state, _tasks: tasks }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.state.fault.lock().unwrap() = fault;
        self.state.changed.notify_waiters();
    }
}

async fn pass(client: TcpStream, target: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut count = 0_u32;
    let is_new = state.fault() == Fault::Strand;
    loop {
        let changed = state.changed.notified();
        match state.fault() {
            Fault::Cut => return,
            Fault::Freeze => {
                changed.await;
                continue;
            }
            Fault::Strand if !is_new => {
                changed.await;
                continue;
            }
            _ => {}
        }
        tokio::select! {
            () = changed => {}
            read = from_client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                if let Fault::Answer(answer) = state.fault() {
                    if to_client.write_all(&answer).await.is_err() { return }
                } else if to_server.write_all(&asked[..read]).await.is_err() { return }
            }
            read = from_server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                count += 1;
                let bytes = &mut answered[..read];
                match state.fault() {
                    Fault::DelayHalf(delay) if count.is_multiple_of(2) => tokio::time::sleep(delay).await,
                    Fault::Truncate(most) if read > most => {
                        let _ = to_client.write_all(&bytes[..most]).await;
                        return;
                    }
                    Fault::Flip if read > 100 => bytes[read / 2] ^= 1,
                    _ => {}
                }
                if to_client.write_all(bytes).await.is_err() { return }
            }
        }
    }
}
