//! Servers on loopback, well and ill.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::MS;

pub(crate) const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Ill {
    /// Answers after so long.
    Well(Duration),
    /// Reads and never answers.
    BlackHole,
    Fails,
    /// The connection is cut after the request.
    Resets,
    /// A byte now and then.
    SlowLoris,
    Throttles,
}

/// A server that counts what it was asked: its port and its count.
pub(crate) async fn serve(ill: Ill) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, ill, count.clone()));
        }
    });
    (port, asked)
}

async fn answer(mut io: TcpStream, ill: Ill, asked: Arc<AtomicUsize>) -> std::io::Result<()> {
    io.set_nodelay(true)?;
    let mut request = [0; 4096];
    while io.read(&mut request).await? > 0 {
        asked.fetch_add(1, Relaxed);
        match ill {
            Ill::Well(after) => {
                if !after.is_zero() {
                    tokio::time::sleep(after).await;
                }
                io.write_all(OK).await?;
            }
            Ill::BlackHole => std::future::pending().await,
            Ill::Fails => io.write_all(b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno").await?,
            Ill::Throttles => io.write_all(b"HTTP/1.1 429 X\r\ncontent-length: 2\r\n\r\nno").await?,
            Ill::Resets => return Ok(()),
            Ill::SlowLoris => {
                for byte in OK {
                    tokio::time::sleep(200 * MS).await;
                    io.write_all(&[*byte]).await?;
                }
            }
        }
    }
    Ok(())
}
