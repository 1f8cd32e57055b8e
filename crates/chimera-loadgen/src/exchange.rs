//! One request and its answer, looked at while it comes.

use std::{
    ops::Deref,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chimera_protocol::{
    Observed, StreamWatch, Usage,
    json::Document,
    sse::{Event, Framer},
};
use http::{Method, Request as HttpRequest, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::{Response, body::Incoming, client::conn::http1::SendRequest};

use crate::{
    connection::Connection,
    mix::{Request, Template},
    tally::{Class, MixTally},
};

/// Larger answers, and larger events, are errors.
const LARGEST: usize = 64 * 1024 * 1024;

/// How much of an answer that is an error is shown.
const SHOWN: usize = 200;

/// What became of a request that did not succeed.
pub(crate) enum Failed {
    /// The connection ended before any of an answer came. One that was kept had probably ended before.
    Stale,
    /// It counts as an error.
    Error(Class, String),
}

/// What was learnt of a good answer beside its times, and whether its connection can be used again.
pub(crate) struct Good {
    pub(crate) usage: Option<Usage>,
    pub(crate) received: u64,
    pub(crate) cache: Option<http::HeaderValue>,
    pub(crate) seen: Seen,
}

/// Times of a stream's events, from the intended start.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) first_event: Option<Duration>,
    pub(crate) first_content: Option<Duration>,
}

/// Sends a request and reads its answer. Gaps between events are handed to `gap` as they come, so that
/// a long stream takes no memory.
pub(crate) async fn exchange(
    connection: &mut Connection,
    template: &Template,
    body: Bytes,
    (intended, deadline): (Instant, Instant),
    gap: impl FnMut(Duration),
) -> Result<Good, Failed> {
    connection
        .drive(deadline, async |sender, room| {
            let response = send(sender, template, body).await?;
            read(response, template, intended, room, gap).await
        })
        .await
        .unwrap_or_else(|| Err(Failed::Error(Class::Timeout, "no answer in time".to_owned())))
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    template: &Template,
    body: Bytes,
) -> Result<Response<Incoming>, Failed> {
    if sender.ready().await.is_err() {
        return Err(Failed::Stale);
    }
    let mut request = HttpRequest::new(Full::new(body));
    *request.method_mut() = Method::POST;
    request.uri_mut().clone_from(&template.uri);
    request.headers_mut().clone_from(&template.headers);
    sender.send_request(request).await.map_err(|error| {
        // Before the head of an answer, all that can go wrong but its spelling is a connection that ended.
        if error.is_parse() { broken(&error) } else { Failed::Stale }
    })
}

fn broken(error: &hyper::Error) -> Failed {
    Failed::Error(Class::Broken, error.to_string())
}

async fn read(
    mut response: Response<Incoming>,
    template: &Template,
    intended: Instant,
    room: &mut Vec<u8>,
    gap: impl FnMut(Duration),
) -> Result<Good, Failed> {
    let status = response.status().as_u16();
    let cache = response.headers_mut().remove("x-chimera-cache");
    let kind = response.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
    let events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
    let mut body = response.into_body();
    if status != 200 {
        let whole = collect(&mut body, room).await?;
        let text = String::from_utf8_lossy(whole.get(..SHOWN.min(whole.len())).unwrap_or_default());
        return Err(Failed::Error(Class::Status(status), text.into_owned()));
    }
    if template.mix.stream {
        if !events {
            return Err(Failed::Error(Class::Invalid, "a stream was asked for, none came".into()));
        }
        return stream(&mut body, template, intended, cache, gap).await;
    }
    let whole = collect(&mut body, room).await?;
    let request = template.mix.request;
    let usage = match request {
        // A transform has no usage: it says what it did.
        Request::Transform => {
            let reports = Document::parse(&whole).is_ok_and(|answer| answer.root().get("report").is_some());
            reports.then_some(None).ok_or("it has no report")
        }
        request => {
            let read = request.dialect().dialect().read_answer(request.operation(), &whole);
            read.map_err(|error| error.0)
        }
    };
    let usage = usage.map_err(|error| Failed::Error(Class::Invalid, error.to_owned()))?;
    Ok(Good { usage, received: whole.len() as u64, cache, seen: Seen::default() })
}

/// The whole body: as it came, if it came in one piece, and else put together in `room`.
async fn collect<'a>(body: &mut Incoming, room: &'a mut Vec<u8>) -> Result<Whole<'a>, Failed> {
    let Some(first) = piece(body).await? else { return Ok(Whole::Piece(Bytes::new())) };
    if body.is_end_stream() {
        return Ok(Whole::Piece(first));
    }
    room.clear();
    room.extend_from_slice(&first);
    while let Some(more) = piece(body).await? {
        if room.len() + more.len() > LARGEST {
            return Err(Failed::Error(Class::Invalid, "the answer is larger than 64 MiB".into()));
        }
        room.extend_from_slice(&more);
    }
    Ok(Whole::Joined(room))
}

async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, Failed> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.map_err(|error| broken(&error))?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// A body.
enum Whole<'a> {
    Piece(Bytes),
    Joined(&'a [u8]),
}

impl Deref for Whole<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Piece(piece) => piece,
            Self::Joined(joined) => joined,
        }
    }
}

async fn stream(
    body: &mut Incoming,
    template: &Template,
    intended: Instant,
    cache: Option<http::HeaderValue>,
    mut gap: impl FnMut(Duration),
) -> Result<Good, Failed> {
    let mut framer = Framer::new(LARGEST);
    let mut watch = StreamWatch::new(template.mix.request.dialect());
    let (mut seen, mut last, mut received) = (Seen::default(), None::<Instant>, 0);
    while let Some(data) = piece(body).await? {
        let now = Instant::now();
        received += data.len() as u64;
        framer.push(data);
        let large = |_| Failed::Error(Class::Invalid, "an event is larger than 64 MiB".into());
        while let Some(raw) = framer.next_event().map_err(large)? {
            let event = Event::parse(&raw);
            let Some(data) = event.data else { continue };
            seen.first_event.get_or_insert(now - intended);
            if watch.event(event.event, &data) == Observed::Content {
                seen.first_content.get_or_insert(now - intended);
                if let Some(last) = last.replace(now) {
                    gap(now - last);
                }
            }
            if watch.error_seen() {
                let text = String::from_utf8_lossy(data.get(..SHOWN.min(data.len())).unwrap_or_default());
                return Err(Failed::Error(Class::ErrorEvent, text.into_owned()));
            }
        }
    }
    if !watch.may_end_here() {
        return Err(Failed::Error(Class::Cut, "the stream ended before its end".into()));
    }
    Ok(Good { usage: watch.usage(), received, cache, seen })
}

impl Good {
    /// Adds it to what is counted.
    pub(crate) fn count(self, latency: Duration, sent: u64, mix: &mut MixTally) {
        mix.ok += 1;
        mix.latency.record(latency);
        mix.bytes_sent += sent;
        mix.bytes_received += self.received;
        if let Some(first) = self.seen.first_event {
            mix.first_event.record(first);
        }
        if let Some(first) = self.seen.first_content {
            mix.first_content.record(first);
        }
        if let Some(value) = self.cache {
            mix.cache(value.as_bytes());
        }
        if let Some(usage) = self.usage {
            mix.input_tokens = mix.input_tokens.saturating_add(usage.input_tokens.unwrap_or(0));
            mix.output_tokens = mix.output_tokens.saturating_add(usage.output_tokens.unwrap_or(0));
        }
    }
}
