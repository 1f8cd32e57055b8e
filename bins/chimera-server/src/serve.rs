//! Listeners, workers and their end.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    thread,
    time::Duration,
};

use bytes::Bytes;
use chimera_gateway::{Admin, Body, Gateway};
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use crate::{
    connection::{Activity, Answering, Farewell, Guarded, Patience, Watched},
    crowd::Crowd,
    plane::Plane,
    spoken::{Asked, Spoken},
    stream::Stream,
    supervise::supervised,
};

const BACKLOG: i32 = 4096;

/// Bytes that the system takes of an answer ahead of what it has sent. Left to itself it takes megabytes, and then says
/// nothing until a third of them is gone: a client that reads slowly would look like one that does not read.
#[cfg(any(target_os = "linux", target_os = "android"))]
const AHEAD: u32 = 64 * 1024;

/// Binds a listener whose backlog is long enough for a crowd.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listener.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_notsent_lowat(AHEAD)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The least number of open files that the system allows this process.
pub(crate) fn open_files_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}

/// What every connection shares.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) patience: Patience,
    pub(crate) farewell: Farewell,
    /// Every connection, on whichever worker.
    pub(crate) connections: TaskTracker,
}

/// A connection on its way to a worker, with its places among all of them and among the worker's. It counts as open
/// from here on: whoever waits for the last to end must not miss it.
struct Accepted {
    stream: std::net::TcpStream,
    places: (OwnedSemaphorePermit, Served, TaskTrackerToken),
}

/// Counts among a worker's connections while it lives, however that ends.
struct Served(Arc<AtomicUsize>);

impl Served {
    fn new(load: &Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Relaxed);
        Self(load.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The worker threads, each with an event loop of its own: a request never leaves its thread.
pub(crate) struct Workers {
    queues: Vec<(mpsc::UnboundedSender<Accepted>, Arc<AtomicUsize>)>,
    places: Arc<Semaphore>,
    open: TaskTracker,
}

impl Workers {
    /// Starts them. They end when this value is dropped and their connections have.
    pub(crate) fn start(
        count: usize,
        max_connections: usize,
        gateway: &Gateway,
        shared: &Shared,
    ) -> io::Result<Self> {
        let mut queues = Vec::new();
        for index in 0..count {
            let (sender, receiver) = mpsc::unbounded_channel();
            let load = Arc::new(AtomicUsize::new(0));
            let (gateway, shared) = (gateway.worker(index), shared.clone());
            thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                match runtime {
                    Ok(runtime) => runtime.block_on(work(receiver, gateway, shared)),
                    Err(error) => tracing::error!(%error, "a worker cannot start"),
                }
            })?;
            queues.push((sender, load));
        }
        let open = shared.connections.clone();
        Ok(Self { queues, places: Arc::new(Semaphore::new(max_connections)), open })
    }

    /// Accepts connections and hands each to the worker with the fewest, until the future is dropped.
    pub(crate) async fn accept(&self, listener: &TcpListener) -> Infallible {
        loop {
            // At the bound nobody is accepted: the backlog waits, and no file is opened in vain.
            let Ok(place) = self.places.clone().acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let stream = accept_one(listener).await;
            let Ok(stream) = stream.into_std() else { continue };
            let least = self.queues.iter().min_by_key(|(_, load)| load.load(Relaxed));
            if let Some((queue, load)) = least {
                // The worker lives as long as this value does.
                let places = (place, Served::new(load), self.open.token());
                let _ = queue.send(Accepted { stream, places });
            }
        }
    }
}

/// Accepts one connection; when the system has no more files to give, waits a little instead of
/// spinning.
async fn accept_one(listener: &TcpListener) -> TcpStream {
    let mut pause = Duration::from_millis(20);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.set_nodelay(true) {
                Ok(()) => return stream,
                Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
            },
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again soon");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Keeps connections to providers ready, where they are to be, until the worker ends.
async fn keep_warm(gateway: &Gateway) -> Infallible {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        gateway.warm().await;
    }
}

async fn work(mut queue: mpsc::UnboundedReceiver<Accepted>, gateway: Gateway, shared: Shared) {
    let own = TaskTracker::new();
    let warming = supervised("warming", async || keep_warm(&gateway).await);
    let serving = async {
        supervised("worker", async || {
            while let Some(Accepted { stream, places }) = queue.recv().await {
                let Ok(stream) = TcpStream::from_std(stream) else { continue };
                let connection = serve_data(stream, gateway.clone(), &shared);
                own.spawn(async move {
                    connection.await;
                    drop(places);
                });
            }
        })
        .await;
        own.close();
        own.wait().await;
    };
    tokio::select! {
        never = warming => match never {},
        () = serving => {}
    }
}

/// The body of an answer, watched as its protocol needs it.
enum Answer {
    /// HTTP/1: its request is being answered until the body is dropped; stalls are seen at the socket.
    Plain(Body, #[expect(dead_code, reason = "it counts while it lives")] Answering),
    /// HTTP/2.
    Stream(Stream),
}

impl Answer {
    fn new(version: Version, body: Body, answering: Answering) -> Self {
        match version {
            Version::HTTP_2 => Self::Stream(answering.stream(body)),
            _ => Self::Plain(body, answering),
        }
    }
}

/// What of a request its answer depends on.
#[derive(Clone, Copy)]
struct Wanted {
    version: Version,
    is_head: bool,
}

impl Wanted {
    fn by<B>(request: &Request<B>) -> Self {
        Self { version: request.version(), is_head: *request.method() == Method::HEAD }
    }

    fn answer(self, response: Response<Body>, answering: Answering) -> Response<Answer> {
        let response = match self.version {
            Version::HTTP_2 if self.is_head => bare(response),
            _ => response,
        };
        response.map(|body| Answer::new(self.version, body, answering))
    }
}

/// The answer to HEAD, which has the length that GET's would have. HTTP/1 sees to that by itself; by HTTP/2 the body
/// would be sent, and a client must take that for a fault of the stream.
fn bare(response: Response<Body>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Response::from_parts(parts, Body::empty())
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = chimera_gateway::Aborted;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Plain(body, _) => Pin::new(body).poll_frame(cx),
            Self::Stream(stream) => Pin::new(stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Plain(body, _) => body.is_end_stream(),
            Self::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Plain(body, _) => body.size_hint(),
            Self::Stream(stream) => stream.size_hint(),
        }
    }
}

fn serve_data(
    stream: TcpStream,
    gateway: Gateway,
    shared: &Shared,
) -> impl Future<Output = ()> + Send + use<> {
    let activity = Activity::new();
    let io = Watched::new(stream, activity.clone());
    let (noted, refused, refusing) = (activity.clone(), activity.clone(), gateway.clone());
    let refuse = move |status| {
        refusing.refuse(status).map(|body| Answer::new(Version::HTTP_11, body, refused.request()))
    };
    let service = move |request: Request<Asked>| {
        let answering = noted.request();
        let gateway = gateway.clone();
        async move {
            let wanted = Wanted::by(&request);
            wanted.answer(gateway.handle(request).await, answering)
        }
    };
    Guarded::new(Spoken::new(io, service, refuse), activity, shared.patience, shared.farewell.clone())
}

/// Serves the admin listener until the future is dropped; its connections end with it. Once it is handed over, those
/// that are open are served still.
pub(crate) async fn serve_admin(
    listener: &TcpListener,
    plane: &Plane,
    shared: Shared,
    handed_over: &CancellationToken,
) -> Infallible {
    /// More than a scraper, some scripts, and browsers with six connections each ever need.
    const MOST: usize = 256;
    let mut crowd = Crowd::new(MOST);
    loop {
        let stream = tokio::select! {
            biased;
            () = handed_over.cancelled() => break,
            stream = accept_one(listener) => stream,
        };
        let plane = plane.clone();
        let activity = Activity::new();
        let io = Watched::new(stream, activity.clone());
        let (noted, refused) = (activity.clone(), activity.clone());
        let refuse = move |status| {
            Admin::refuse(status).map(|body| Answer::new(Version::HTTP_11, body, refused.request()))
        };
        let service = move |request: Request<Asked>| {
            let answering = noted.request();
            let wanted = Wanted::by(&request);
            let response = plane.handle(request);
            async move { wanted.answer(response.await, answering) }
        };
        let connection = Spoken::new(io, service, refuse);
        let guarded = Guarded::new(connection, activity.clone(), shared.patience, shared.farewell.clone());
        crowd.serve(activity, guarded).await;
    }
    crowd.ended().await;
    std::future::pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_an_answer_to_head_has_the_length_and_not_the_body() {
        let answered = |version, is_head| {
            let wanted = Wanted { version, is_head };
            wanted.answer(Response::new(Body::whole("hello")), Activity::new().request())
        };
        let bare = answered(Version::HTTP_2, true);
        assert_eq!(bare.headers()["content-length"], "5");
        assert!(bare.body().is_end_stream());
        for (version, is_head) in [(Version::HTTP_2, false), (Version::HTTP_11, true)] {
            assert_eq!(answered(version, is_head).body().size_hint().exact(), Some(5));
        }
    }
}
