//! The server's half of HTTP/1.1, for services that answer small requests fast and stream long answers.
//!
//! A [`Connection`] is a future: give it any pipe and a service from request to response, and poll it to the
//! end of the connection.
//!
//! ```
//! use bytes::Bytes;
//! use chimera_http1::{Connection, RequestBody};
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let (mut client, server) = tokio::io::duplex(1024);
//! let connection = Connection::new(server, |request: Request<RequestBody>| async move {
//!     Response::new(Full::new(Bytes::from(format!("you asked for {}", request.uri()))))
//! });
//! let asking = async move {
//!     client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
//!     let mut answer = String::new();
//!     client.read_to_string(&mut answer).await?;
//!     std::io::Result::Ok(answer)
//! };
//! let (_, answer) = tokio::join!(connection, asking);
//! assert!(answer.unwrap().ends_with("\r\n\r\nyou asked for /a"));
//! # });
//! ```
//!
//! # How it works
//!
//! Sockets are read into one buffer per thread and answers are written from another, so a connection that
//! waits holds no buffer at all. A request whose body came with its head, as most do, is two exact copies
//! and no state; an answer at hand is one write. What a streamed body has ready is gathered and leaves in
//! one write, and nothing is held back: when the body has no more, what there is has left.
//!
//! # What it promises
//!
//! - **Framing**: RFC 9112, strictly. A length beside chunks, two lengths, a length or a size that is not
//!   plain digits, a coding but `chunked`, a folded line, a bare carriage return: 400, and the connection
//!   closes. What frames an answer is made here and never copied from the service's headers.
//!   `transfer-encoding` is not shown to the service: it is done. A request with chunk extensions or trailers
//!   is served, and its connection closed.
//! - **Order**: pipelined requests are answered in order, one after the other. What the service did not
//!   read of a request's body is read and dropped where it is at hand; otherwise the connection closes.
//! - **Cancellation**: a client that leaves ends the connection, at any moment: the service's future or the
//!   answer's body is dropped on the spot. Dropping the connection does the same. One that shuts down its side
//!   alone looks the same and leaves, too, unless all that is missing of its answer is at hand: that it gets.
//! - **Bounds**: a head is at most 64 KiB and 100 headers (431), a target 32 KiB (414); at most
//!   64 KiB are read ahead. An answer is asked for as the client reads it: 16 KiB at a time.
//! - **Errors**: a head that cannot be read is answered with its status and what the service says to it
//!   ([`Service::refuse`]), and the client gets to read that. An answer's body that fails cuts the connection off, so that nobody takes it for whole.
//!
//! # What it does not do
//!
//! Timeouts (it has no clock but for `date`: wrap the pipe and watch it), TLS, upgrades and `CONNECT`,
//! trailers (read and dropped, never written). HTTP/2: a connection that begins with its preface
//! is handed back as [`Ended::Http2`].

mod answer;
mod body;
mod connection;
mod decoder;
mod fields;
mod head;
mod outbox;
mod scratch;
mod wire;

pub use body::{BodyError, RequestBody};
pub use connection::{Connection, Ended, Service};
pub use decoder::{ChunkError, Chunks, Decoder};
pub use fields::{tokens, within};
pub use scratch::{poll_read, with_scratch};
