//! The provider behind a socket, or any other pipe.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    Sim,
    connection::{Control, FaultIo},
    seen::OpenConnection,
};

/// The service's only error: the connection is to end without a head.
#[derive(Debug, thiserror::Error)]
#[error("reset before the head")]
struct ResetBeforeHead;

impl Sim {
    /// Accepts connections until the future is dropped, which also ends the open ones.
    pub async fn serve(&self, listener: TcpListener) -> Infallible {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let sim = self.clone();
                        connections.spawn(async move { sim.serve_tcp(stream).await });
                    }
                    // Out of file descriptors: wait for some to be given back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    /// Serves one connection over any pipe, until it is closed.
    ///
    /// Faults that reset end such a pipe by dropping it.
    pub async fn serve_io<T>(&self, io: T)
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve_connection(io, |_| ()).await;
    }

    async fn serve_tcp(&self, stream: TcpStream) {
        // Without it the last event of a burst waits for an acknowledgement; failing leaves a slower socket.
        let _: io::Result<()> = stream.set_nodelay(true);
        self.serve_connection(stream, |stream| {
            let _: io::Result<()> = stream.set_zero_linger();
        })
        .await;
    }

    async fn serve_connection<T>(&self, io: T, abort: fn(&T))
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _open = OpenConnection::new(self.record());
        let control = Arc::new(Control::default());
        let io = FaultIo::new(io, Arc::clone(&control), abort);
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let (sim, control) = (self.clone(), Arc::clone(&control));
            async move {
                let answer = sim.answer(request, Some(control)).await;
                answer.map_err(|flight| {
                    flight.finish();
                    ResetBeforeHead
                })
            }
        });
        // Errors here are clients that left and faults that were asked for.
        let _: hyper::Result<()> =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), service).await;
    }
}
