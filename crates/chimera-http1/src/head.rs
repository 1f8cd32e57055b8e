//! The head of a request: read, and held against what RFC 9112 allows.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts};

use crate::{
    decoder::Decoder,
    fields::{tokens, within},
    scratch,
};

/// The largest head.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// The longest target.
const MAX_TARGET: usize = 32 * 1024;
/// Headers that are expected, and the most that are read.
const FEW_HEADERS: usize = 32;
const MAX_HEADERS: usize = 100;

/// The head of a request.
pub(crate) struct Head {
    pub(crate) parts: Parts,
    /// Where its body ends.
    pub(crate) body: Decoder,
    /// Whether another request may follow it.
    pub(crate) keeps_alive: bool,
    /// Whether the client waits for leave to send the body.
    pub(crate) expects_continue: bool,
    /// Bytes that the head took.
    pub(crate) length: usize,
}

/// Why a head is not served: the status that says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) StatusCode);

const BAD: Refused = Refused(StatusCode::BAD_REQUEST);
const TOO_LARGE: Refused = Refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);

/// Reads a head; `None` when it is not all there yet.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Head>, Refused> {
    match read_up_to::<FEW_HEADERS>(bytes) {
        Err(Why::TooMany) => match read_up_to::<MAX_HEADERS>(bytes) {
            Err(Why::TooMany) => Err(TOO_LARGE),
            Err(Why::Refused(refused)) => Err(refused),
            Ok(read) => Ok(read),
        },
        Err(Why::Refused(refused)) => Err(refused),
        Ok(read) => Ok(read),
    }
}

enum Why {
    TooMany,
    Refused(Refused),
}

impl From<Refused> for Why {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

fn read_up_to<const N: usize>(bytes: &[u8]) -> Result<Option<Head>, Why> {
    let mut headers = [httparse::EMPTY_HEADER; N];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length > MAX_HEAD => return Err(TOO_LARGE.into()),
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => return Err(TOO_LARGE.into()),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Why::TooMany),
        Err(_) => return Err(BAD.into()),
    };
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = request.method.unwrap_or_default().as_bytes();
    let target = request.path.unwrap_or_default().as_bytes();
    if target.len() > MAX_TARGET {
        return Err(Refused(StatusCode::URI_TOO_LONG).into());
    }
    // One copy holds the target and all values; it keeps no more than this head alive.
    let head = Bytes::copy_from_slice(bytes.get(..length).unwrap_or(bytes));
    let mut framing = Framing::default();
    let mut map = scratch::take_headers();
    map.reserve(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD)?;
        let value = within(&head, bytes, field.value);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BAD)?;
        framing.see(&name, &value)?;
        // It is done here: nobody behind shall do it again.
        if name != header::TRANSFER_ENCODING {
            map.append(name, value);
        }
    }
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = Method::from_bytes(method).map_err(|_| BAD)?;
    parts.uri = Uri::from_maybe_shared(within(&head, bytes, target)).map_err(|_| BAD)?;
    (parts.version, parts.headers) = (version, map);
    let body = framing.body(version)?;
    Ok(Some(Head {
        parts,
        body,
        keeps_alive: match version {
            Version::HTTP_11 => !framing.close,
            _ => framing.keep_alive && !framing.close,
        },
        expects_continue: framing.expects_continue && version == Version::HTTP_11,
        length,
    }))
}

/// What the fields say about where the message ends and what comes after it.
#[derive(Default)]
struct Framing {
    length: Option<u64>,
    codings: u32,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl Framing {
    fn see(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
        match *name {
            header::CONTENT_LENGTH => {
                let length = digits(value.as_bytes()).ok_or(BAD)?;
                if self.length.is_some_and(|other| other != length) {
                    return Err(BAD);
                }
                self.length = Some(length);
            }
            header::TRANSFER_ENCODING => {
                for coding in tokens(value) {
                    self.codings += 1;
                    if !coding.eq_ignore_ascii_case(b"chunked") {
                        return Err(BAD);
                    }
                }
                // An empty one is a coding of no name.
                self.codings += u32::from(tokens(value).next().is_none()) * 2;
            }
            header::CONNECTION => {
                for word in tokens(value) {
                    self.close |= word.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            header::EXPECT => {
                self.expects_continue = value.as_bytes().eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112, section 6.3, for a request. A length beside chunks, which it lets a server pass over, is
    /// refused: no client has a reason for it but to be read in two ways.
    fn body(&self, version: Version) -> Result<Decoder, Refused> {
        match (self.codings, self.length) {
            (0, length) => Ok(Decoder::length(length.unwrap_or(0))),
            (1, None) if version == Version::HTTP_11 => Ok(Decoder::chunked()),
            _ => Err(BAD),
        }
    }
}

/// A number of plain digits.
fn digits(text: &[u8]) -> Option<u64> {
    let plain = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    plain.then(|| std::str::from_utf8(text).ok()?.parse().ok()).flatten()
}

/// Whether the head may be all there, given that it was not when `seen` bytes were.
pub(crate) fn may_be_whole(bytes: &[u8], seen: usize) -> bool {
    let new = bytes.get(seen.saturating_sub(2)..).unwrap_or_default();
    bytes.len() >= MAX_HEAD
        || memchr::memmem::find(new, b"\n\r\n").is_some()
        || memchr::memmem::find(new, b"\n\n").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        read(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_head_says_what_is_asked_where_the_body_ends_and_what_comes_after() {
        let cases = [
            ("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", Decoder::Ended, true, false),
            ("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n", Decoder::length(5), true, false),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n",
                Decoder::length(5),
                true,
                false,
            ),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n", Decoder::chunked(), true, false),
            (
                "POST / HTTP/1.1\r\nConnection: x, Close\r\ncontent-length: 0\r\n\r\n",
                Decoder::Ended,
                false,
                false,
            ),
            ("GET / HTTP/1.0\r\n\r\n", Decoder::Ended, false, false),
            ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", Decoder::Ended, true, false),
            (
                "POST / HTTP/1.1\r\nexpect: 100-Continue\r\ncontent-length: 5\r\n\r\n",
                Decoder::length(5),
                true,
                true,
            ),
            (
                "POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
                Decoder::length(5),
                false,
                false,
            ),
        ];
        for (text, body, keeps_alive, expects) in cases {
            let head = head(text);
            assert_eq!(
                (&head.body, head.keeps_alive, head.expects_continue, head.length),
                (&body, keeps_alive, expects, text.len()),
                "{text}"
            );
            assert!(!head.parts.headers.contains_key("transfer-encoding"));
        }
        let head = head("PUT http://a/b?c HTTP/1.1\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n");
        assert_eq!((head.parts.method, head.parts.uri.to_string()), (Method::PUT, "http://a/b?c".to_owned()));
        assert_eq!(head.parts.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn c11_heads_that_could_mean_two_things_are_refused() {
        for fields in [
            "content-length: 5\r\ncontent-length: 6",
            "content-length: +5",
            "content-length: -1",
            "content-length: 0x5",
            "content-length: 5, 5",
            "content-length: 5 5",
            "content-length: 99999999999999999999",
            "content-length:",
            "content-length: 5\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 0",
            "transfer-encoding: gzip, chunked",
            "transfer-encoding: chunked, identity",
            "transfer-encoding: identity",
            "transfer-encoding: xchunked",
            "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked, chunked",
            "transfer-encoding:",
            "transfer-encoding: \"chunked\"",
            "transfer-encoding : chunked",
            "transfer-encoding\t: chunked",
            "content-length : 5",
            "a: b\r\n c",
            "a: b\rc",
            "a: \0",
            "a b: c",
            ": c",
        ] {
            let text = format!("POST / HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n");
            assert_eq!(read(text.as_bytes()).map(|_| ()).unwrap_err(), BAD, "{text:?}");
        }
        for text in [
            "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET / HTTP/1.2\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / x HTTP/1.1\r\n\r\n",
            "G{T / HTTP/1.1\r\n\r\n",
            " GET / HTTP/1.1\r\n\r\n",
            "GET \0 HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(read(text.as_bytes()).map(|_| ()).unwrap_err(), BAD, "{text:?}");
        }
    }

    #[test]
    fn c04_a_head_is_read_when_it_is_all_there_and_within_bounds() {
        let text = "POST / HTTP/1.1\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello";
        let end = text.len() - 5;
        for at in 0..end {
            let part = &text.as_bytes()[..at];
            assert!(read(part).unwrap().is_none() && !may_be_whole(part, 0), "{at}");
        }
        assert_eq!(read(text.as_bytes()).unwrap().unwrap().length, end);
        for seen in 0..end {
            assert!(may_be_whole(&text.as_bytes()[..end], seen), "{seen}");
        }
        let many = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(head(&many(100)).parts.headers.get_all("a").iter().count(), 100);
        assert_eq!(read(many(101).as_bytes()).map(|_| ()).unwrap_err(), TOO_LARGE);
        let long = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(MAX_HEAD));
        assert_eq!(read(long.as_bytes()).map(|_| ()).unwrap_err(), TOO_LARGE);
        let target = format!("GET /{} HTTP/1.1\r\n\r\n", "b".repeat(MAX_TARGET));
        assert_eq!(read(target.as_bytes()).map(|_| ()).unwrap_err().0, StatusCode::URI_TOO_LONG);
    }
}
