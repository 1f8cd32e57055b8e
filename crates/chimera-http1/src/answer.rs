//! The head of an answer, and how its body is framed.

use std::{
    cell::RefCell,
    time::{SystemTime, UNIX_EPOCH},
};

use http::{HeaderName, Method, Response, StatusCode, Version, header};
use http_body::Body;

use crate::fields::tokens;

/// How the body of an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Nothing goes out: there is no body, or the method wants none.
    Nothing,
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunked,
    /// Until the connection closes, for clients of HTTP/1.0.
    UntilClose,
}

/// What of a request its answer depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) is_head: bool,
    pub(crate) version: Version,
}

impl Asked {
    pub(crate) fn new(method: &Method, version: Version) -> Self {
        Self { is_head: *method == Method::HEAD, version }
    }
}

/// Appends the head of an answer and says how its body is framed, and whether the connection is kept.
/// `keeps` is whether it may be.
pub(crate) fn write<B: Body>(
    response: &Response<B>,
    asked: Asked,
    mut keeps: bool,
    out: &mut Vec<u8>,
) -> (Framing, bool) {
    let status = response.status();
    let length = response.body().size_hint().exact();
    let bare =
        status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if bare => Framing::Nothing,
        Some(length) => Framing::Length(length),
        None if asked.version == Version::HTTP_11 => Framing::Chunked,
        None => {
            keeps = false;
            Framing::UntilClose
        }
    };
    status_line(status, asked.version, out);
    let mut stated = None;
    for (name, value) in response.headers() {
        match *name {
            header::TRANSFER_ENCODING => {}
            header::CONTENT_LENGTH => stated = Some(value),
            header::CONNECTION => {
                keeps &= !tokens(value).any(|word| word.eq_ignore_ascii_case(b"close"));
            }
            _ => line(name, value.as_bytes(), out),
        }
    }
    match framing {
        // The answer to HEAD states the length that GET would have; only the service can know it.
        Framing::Length(0) if asked.is_head && stated.is_some() => {
            line(&header::CONTENT_LENGTH, stated.map_or(b"0", |value| value.as_bytes()), out);
        }
        Framing::Length(length) => {
            line(&header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes(), out);
        }
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Nothing | Framing::UntilClose => {}
    }
    if !response.headers().contains_key(header::DATE) {
        date(out);
    }
    match asked.version {
        _ if !keeps => out.extend_from_slice(b"connection: close\r\n"),
        Version::HTTP_10 => out.extend_from_slice(b"connection: keep-alive\r\n"),
        _ => {}
    }
    out.extend_from_slice(b"\r\n");
    (if asked.is_head { Framing::Nothing } else { framing }, keeps)
}

/// Appends an answer to a head that could not be read.
pub(crate) fn refuse(status: StatusCode, out: &mut Vec<u8>) {
    status_line(status, Version::HTTP_11, out);
    out.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n");
    date(out);
    out.extend_from_slice(b"\r\n");
}

fn status_line(status: StatusCode, version: Version, out: &mut Vec<u8>) {
    if (status, version) == (StatusCode::OK, Version::HTTP_11) {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(if version == Version::HTTP_10 { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn line(name: &HeaderName, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

thread_local! {
    /// The line of the second that is running.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

fn date(out: &mut Vec<u8>) {
    let now = SystemTime::now();
    let second = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(known, text)| {
        if *known != second || text.is_empty() {
            (*known, *text) = (second, format!("date: {}\r\n", httpdate::fmt_http_date(now)));
        }
        out.extend_from_slice(text.as_bytes());
    });
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::{Empty, Full, StreamBody};

    use super::*;

    fn written<B: Body>(response: &Response<B>, asked: &str) -> (String, Framing, bool) {
        let (method, version) = asked.split_once(' ').unwrap();
        let version = if version == "1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
        let asked = Asked::new(&Method::from_bytes(method.as_bytes()).unwrap(), version);
        let mut out = Vec::new();
        let (framing, keeps) = write(response, asked, true, &mut out);
        let text = String::from_utf8(out).unwrap();
        let (before, date) = text.split_once("date: ").unwrap();
        let (date, after) = date.split_once("\r\n").unwrap();
        assert!(httpdate::parse_http_date(date).is_ok());
        (format!("{before}{after}").replace("\r\n", "|"), framing, keeps)
    }

    fn pieces() -> impl Body<Data = Bytes> {
        StreamBody::new(NoStream)
    }

    struct NoStream;

    impl futures_core::Stream for NoStream {
        type Item = Result<http_body::Frame<Bytes>, std::convert::Infallible>;

        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(None)
        }
    }

    #[test]
    fn framing_is_made_here_and_never_copied() {
        let full = Response::builder()
            .header("content-length", "9")
            .header("transfer-encoding", "chunked")
            .header("a", "b")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        let wanted = "HTTP/1.1 200 OK|a: b|content-length: 5||".to_owned();
        assert_eq!(written(&full, "GET 1.1"), (wanted.clone(), Framing::Length(5), true));
        assert_eq!(written(&full, "HEAD 1.1"), (wanted, Framing::Nothing, true));
        let old = "HTTP/1.0 200 OK|a: b|content-length: 5|connection: keep-alive||".to_owned();
        assert_eq!(written(&full, "GET 1.0"), (old, Framing::Length(5), true));
        let chunks = "HTTP/1.1 200 OK|transfer-encoding: chunked||".to_owned();
        assert_eq!(written(&Response::new(pieces()), "GET 1.1"), (chunks, Framing::Chunked, true));
        let close = "HTTP/1.0 200 OK|connection: close||".to_owned();
        assert_eq!(written(&Response::new(pieces()), "GET 1.0"), (close, Framing::UntilClose, false));
    }

    #[test]
    fn a_service_may_close_and_may_state_what_get_would_have() {
        let head = Response::builder()
            .header("connection", "x, close")
            .header("content-length", "9")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let wanted = "HTTP/1.1 200 OK|content-length: 9|connection: close||".to_owned();
        assert_eq!(written(&head, "HEAD 1.1"), (wanted, Framing::Nothing, false));
        let none = Response::builder().status(204).body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(
            written(&none, "GET 1.1"),
            ("HTTP/1.1 204 No Content||".to_owned(), Framing::Nothing, true)
        );
        let odd = Response::builder().status(599).body(Empty::<Bytes>::new()).unwrap();
        let wanted = "HTTP/1.1 599 |content-length: 0||".to_owned();
        assert_eq!(written(&odd, "GET 1.1"), (wanted, Framing::Length(0), true));
    }
}
