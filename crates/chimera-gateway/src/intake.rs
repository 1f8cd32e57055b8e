//! Taking a request in: is its head sound, may its body be read, and the reading of it.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri, header, request::Parts, uri::Authority};
use http_body::Body as HttpBody;

use crate::{
    failure::{Code, Failure},
    gateway::Shared,
    settings::{SizeLimits, Timeouts},
};

/// Refuses heads that could mean two things: routing must never depend on which one was read.
pub(crate) fn check_head(parts: &Parts) -> Result<(), Failure> {
    let refuse = |why: &'static str| Err(Failure::invalid(why).close());
    if matches!(parts.method, Method::CONNECT | Method::TRACE) {
        return Err(Failure::invalid("this method is not served here")
            .allow("GET, HEAD, POST, OPTIONS")
            .close());
    }
    if let Some(why) = host_fault(&parts.uri, &parts.headers) {
        return refuse(why);
    }
    let has_none = parts.uri.authority().is_none() && !parts.headers.contains_key(header::HOST);
    if has_none && parts.version == http::Version::HTTP_11 {
        return refuse("there is no host header");
    }
    Ok(())
}

/// Why a request does not name one host.
pub(crate) fn host_fault(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().map(http::HeaderValue::as_bytes)?;
    if hosts.next().is_some() {
        return Some("there is more than one host header");
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._:[]~%!$&'()*+,=".contains(byte);
    if !host.iter().all(plain) {
        return Some("the host header is not a host");
    }
    let differs = |authority: &Authority| !authority.as_str().as_bytes().eq_ignore_ascii_case(host);
    uri.authority()
        .is_some_and(differs)
        .then_some("the host header and the request target name different hosts")
}

/// Whether a body of this kind is read at all.
pub(crate) fn check_kind(headers: &HeaderMap) -> Result<(), Failure> {
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        let kind = kind.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        if !kind.eq_ignore_ascii_case(b"application/json") {
            return Err(Failure::invalid("the content type must be application/json").param("content-type"));
        }
    }
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if !encoding.as_bytes().eq_ignore_ascii_case(b"identity") => {
            let why = "compressed request bodies are not read; send it as it is";
            Err(Failure::invalid(why).param("content-encoding").status(415).close())
        }
        _ => Ok(()),
    }
}

/// Bytes of a body in memory, counted while they are.
pub(crate) struct InFlight {
    shared: Arc<Shared>,
    bytes: usize,
}

impl InFlight {
    /// Counts more of it. A body that begins while little is left is refused, so that those under way end.
    fn grow(&mut self, by: usize, sizes: &SizeLimits) -> Result<(), Failure> {
        let (most, is_new) = (sizes.requests_in_flight, self.bytes == 0);
        self.bytes += by;
        let before = self.shared.bodies.fetch_add(by, Relaxed);
        if before.saturating_add(by) > most || is_new && before > most - most / 20 {
            let why = "too many bytes of requests are in flight";
            return Err(Failure::new(Code::Overloaded, why).retry_after(Duration::from_secs(1)).close());
        }
        Ok(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.shared.bodies.fetch_sub(self.bytes, Relaxed);
    }
}

/// Reads a body whole, under the caps of one body and of all bodies, within the time for all of it and
/// for each pause.
pub(crate) async fn read<B>(
    mut body: B,
    headers: &HeaderMap,
    shared: &Arc<Shared>,
    sizes: &SizeLimits,
    timeouts: &Timeouts,
) -> Result<(Bytes, InFlight), Failure>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let stated = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if stated.is_some_and(|length: u64| length > sizes.request as u64) {
        return Err(too_large(sizes));
    }
    let mut in_flight = InFlight { shared: shared.clone(), bytes: 0 };
    let reading = async {
        let mut first: Option<Bytes> = None;
        let mut gathered = BytesMut::new();
        let idle = timeouts.request_body_idle;
        while let Some(frame) =
            within(idle, poll_fn(|cx| Pin::new(&mut body).poll_frame(cx))).await.ok_or_else(late)?
        {
            let frame = frame.map_err(|_| Failure::invalid("the body ended before its end").close())?;
            let Ok(data) = frame.into_data() else { continue };
            if in_flight.bytes + data.len() > sizes.request {
                return Err(too_large(sizes));
            }
            in_flight.grow(data.len(), sizes)?;
            match first.take() {
                None if gathered.is_empty() => first = Some(data),
                None => gathered.extend_from_slice(&data),
                Some(one) => {
                    gathered.reserve(one.len() + data.len());
                    gathered.extend_from_slice(&one);
                    gathered.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| gathered.freeze()))
    };
    let read = within(timeouts.request_body, reading).await.ok_or_else(late)?;
    Ok((read?, in_flight))
}

fn late() -> Failure {
    Failure::new(Code::Timeout, "the body did not arrive in time").status(408).close()
}

/// Waits for a future for so long. Most bodies come with their head: a timer is made only when not.
async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        return Some(output);
    }
    tokio::time::timeout(limit, future).await.ok()
}

fn too_large(sizes: &SizeLimits) -> Failure {
    Failure::invalid(format!("the body is larger than {} bytes", sizes.request)).status(413).close()
}
