//! The heads of HTTP/1.1: a request's is written, an answer's is read.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header, request, response::Parts,
};

use chimera_http1::{Decoder, tokens, within};

use super::Fault;

/// The largest head of an answer that is read.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Headers that are expected, and the most that are read.
const FEW_HEADERS: usize = 32;
const MAX_HEADERS: usize = 100;

/// Writes the head of a request with a body of `length` bytes. What frames the message is made here
/// and never copied from the request's own headers.
pub(super) fn write(
    parts: &request::Parts,
    host: &HeaderValue,
    credential: Option<(&HeaderName, &HeaderValue)>,
    length: usize,
) -> Vec<u8> {
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    line(&mut out, &header::HOST, host.as_bytes());
    if let Some((name, value)) = credential {
        line(&mut out, name, value.as_bytes());
    }
    for (name, value) in &parts.headers {
        let is_ours = matches!(
            *name,
            header::HOST
                | header::CONTENT_LENGTH
                | header::TRANSFER_ENCODING
                | header::CONNECTION
                | header::EXPECT
        );
        if !is_ours && credential.is_none_or(|(credential, _)| credential != name) {
            line(&mut out, name, value.as_bytes());
        }
    }
    if length > 0 || !matches!(parts.method, Method::GET | Method::HEAD) {
        line(&mut out, &header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out
}

fn line(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// The head of an answer.
pub(super) struct Head {
    pub(super) parts: Parts,
    /// Where its body ends.
    pub(super) body: Decoder,
    /// Whether the connection may carry another request after it.
    pub(super) keeps_alive: bool,
    /// Bytes that the head took.
    pub(super) length: usize,
}

/// Reads the head of an answer to a request that is not `HEAD`; `None` when it is not all there yet.
pub(super) fn read(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    match read_up_to::<FEW_HEADERS>(bytes) {
        Err(Fault::Head("it has too many headers")) => read_up_to::<MAX_HEADERS>(bytes),
        read => read,
    }
}

fn read_up_to<const N: usize>(bytes: &[u8]) -> Result<Option<Head>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; N];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() >= MAX_HEAD => {
            return Err(Fault::Head("it is too large"));
        }
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(Fault::Head("it has too many headers")),
        Err(_) => return Err(Fault::Head("it is not HTTP/1.1")),
    };
    let version = if response.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::Head("its status is none"))?;
    // One copy holds all values; it keeps no more than this head alive.
    let head = Bytes::copy_from_slice(bytes.get(..length).unwrap_or(bytes));
    let mut map = HeaderMap::with_capacity(response.headers.len());
    for header in response.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes());
        let name = name.map_err(|_| Fault::Head("a header's name is none"))?;
        let value = HeaderValue::from_maybe_shared(within(&head, bytes, header.value));
        map.append(name, value.map_err(|_| Fault::Head("a header's value is none"))?);
    }
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, map);
    let body = framing(&parts)?;
    let keeps_alive = keeps_alive(&parts) && body != Decoder::UntilClose;
    Ok(Some(Head { parts, body, keeps_alive, length }))
}

/// RFC 9112, section 6.3, for an answer.
fn framing(parts: &Parts) -> Result<Decoder, Fault> {
    if parts.status.is_informational()
        || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(Decoder::Ended);
    }
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        if parts.version == Version::HTTP_10 {
            return Err(Fault::Head("HTTP/1.0 has no transfer encodings"));
        }
        let mut codings = parts.headers.get_all(header::TRANSFER_ENCODING).iter().flat_map(tokens);
        return match (codings.next(), codings.next()) {
            (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => Ok(Decoder::chunked()),
            _ => Err(Fault::Head("its transfer encoding is not chunked")),
        };
    }
    let mut lengths = parts.headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(Decoder::UntilClose) };
    if lengths.any(|other| other != first) {
        return Err(Fault::Head("its length is stated twice"));
    }
    let digits = first.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse().ok());
    length.map(Decoder::length).ok_or(Fault::Head("its length is not a number"))
}

fn keeps_alive(parts: &Parts) -> bool {
    let mut words = parts.headers.get_all(header::CONNECTION).iter().flat_map(tokens);
    match parts.version {
        Version::HTTP_11 => !words.any(|word| word.eq_ignore_ascii_case(b"close")),
        _ => words.any(|word| word.eq_ignore_ascii_case(b"keep-alive")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        read(text.as_bytes()).unwrap_or_else(|fault| panic!("{text}: {fault}")).unwrap()
    }

    #[test]
    fn a_request_is_framed_anew() {
        let request = http::Request::post("/v1/x?y=1")
            .header("content-type", "application/json")
            .header("content-length", "99")
            .header("transfer-encoding", "chunked")
            .header("connection", "close")
            .header("authorization", "Bearer of the caller")
            .body(())
            .unwrap();
        let (parts, ()) = request.into_parts();
        let credential = (header::AUTHORIZATION, HeaderValue::from_static("Bearer ours"));
        let host = HeaderValue::from_static("a.example");
        let written = write(&parts, &host, Some((&credential.0, &credential.1)), 3);
        assert_eq!(
            String::from_utf8(written).unwrap(),
            "POST /v1/x?y=1 HTTP/1.1\r\nhost: a.example\r\nauthorization: Bearer ours\r\n\
             content-type: application/json\r\ncontent-length: 3\r\n\r\n"
        );
    }

    #[test]
    fn an_answer_says_where_its_body_ends_and_whether_the_connection_lives_on() {
        let cases = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", Decoder::length(5), true),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", Decoder::chunked(), true),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close\r\n\r\n",
                Decoder::length(5),
                false,
            ),
            ("HTTP/1.1 200 OK\r\n\r\n", Decoder::UntilClose, false),
            ("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\n", Decoder::length(5), false),
            (
                "HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive\r\n\r\n",
                Decoder::length(5),
                true,
            ),
            ("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", Decoder::Ended, true),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Decoder::Ended, true),
        ];
        for (text, body, keeps_alive) in cases {
            let head = head(text);
            assert_eq!(
                (&head.body, head.keeps_alive, head.length),
                (&body, keeps_alive, text.len()),
                "{text}"
            );
        }
    }

    #[test]
    fn u09_heads_that_could_mean_two_things_are_faults() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length:\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "garbage\r\n\r\n",
        ] {
            assert!(read(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_head_is_read_when_it_is_all_there_and_within_bounds() {
        let text = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-a: b\r\n\r\nhello";
        let end = text.len() - 5;
        for at in 0..end {
            assert!(read(&text.as_bytes()[..at]).unwrap().is_none(), "{at}");
        }
        let head = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!((head.length, head.parts.headers["x-a"].as_bytes()), (end, &b"b"[..]));
        let many = |count: usize| format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(self::head(&many(100)).parts.headers.get_all("a").iter().count(), 100);
        assert!(read(many(101).as_bytes()).is_err());
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD));
        assert!(read(long.as_bytes()).is_err());
    }
}
