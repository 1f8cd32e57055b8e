//! The request that a provider gets, and the judgement of what it answers.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{ArrayFramer, DialectId, Observed, Operation, StreamWatch, Usage, json, sse};
use chimera_provider_pool::{Classify, Deployment, Judging, Refusal, Verdict};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, response, uri::PathAndQuery};

use crate::{
    mixed::Mixed,
    reading::{Read, Reading},
    refusal::{self, retry_after, retry_delay},
    settings::SizeLimits,
};

/// The version sent to Anthropic for callers that name none.
const ANTHROPIC_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const USER_AGENT: HeaderValue = HeaderValue::from_static(concat!("chimera/", env!("CARGO_PKG_VERSION")));
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

static ANTHROPIC_VERSION_NAME: HeaderName = HeaderName::from_static("anthropic-version");
/// Caller's headers that go on to a provider of the same dialect, and no others.
static FORWARDED: [(Option<DialectId>, HeaderName); 5] = [
    (Some(DialectId::OpenAi), HeaderName::from_static("openai-beta")),
    (Some(DialectId::Anthropic), HeaderName::from_static("anthropic-version")),
    (Some(DialectId::Anthropic), HeaderName::from_static("anthropic-beta")),
    (None, HeaderName::from_static("traceparent")),
    (None, HeaderName::from_static("tracestate")),
];

/// The names of those headers, for one dialect.
pub(crate) fn forwarded_names(dialect: DialectId) -> impl Iterator<Item = &'static HeaderName> {
    let passes = move |of: &Option<DialectId>| of.is_none_or(|of| of == dialect);
    FORWARDED.iter().filter(move |(of, _)| passes(of)).map(|(_, name)| name)
}

/// The caller's headers that a provider gets.
pub(crate) fn forwarded(dialect: DialectId, headers: &HeaderMap) -> Vec<(HeaderName, HeaderValue)> {
    forwarded_names(dialect)
        .flat_map(|name| headers.get_all(name).iter().map(|value| (name.clone(), value.clone())))
        .collect()
}

/// The path before the verb. OpenAI's base URL comes with its version; one without any path gets it.
pub(crate) fn base_path(dialect: DialectId, deployment: &Deployment) -> &str {
    match deployment.provider().settings().target.path() {
        "" if matches!(dialect, DialectId::OpenAi | DialectId::Responses) => "/v1",
        path => path,
    }
}

/// One change to a body that leaves every other byte as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) range: Range<usize>,
    pub(crate) with: String,
}

/// Applies edits that do not overlap.
pub(crate) fn edited(body: &Bytes, mut edits: Vec<Edit>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|edit| edit.range.start);
    let mut out = BytesMut::with_capacity(body.len() + 64);
    let mut at = 0;
    for edit in edits {
        out.extend_from_slice(body.get(at..edit.range.start).unwrap_or_default());
        out.extend_from_slice(edit.with.as_bytes());
        at = edit.range.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out.freeze()
}

/// Everything about a call that its upstream request is made from.
pub(crate) struct Outgoing {
    pub(crate) dialect: DialectId,
    /// The path after the provider's base; for Gemini the verb after the model.
    pub(crate) verb: &'static str,
    /// `?alt=sse`, `?beta=true`, or nothing: what is passed on of the query.
    pub(crate) query: &'static str,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
    /// The model name for deployments that set none, and where the body names it.
    pub(crate) model: String,
    pub(crate) model_range: Option<Range<usize>>,
    /// Whether the caller's own name for the model is `model`.
    pub(crate) same_name: bool,
    pub(crate) edits: Vec<Edit>,
}

impl Outgoing {
    /// The request for one deployment. Without a change of name the caller's bytes go on untouched.
    pub(crate) fn build(&self, deployment: &Deployment) -> Result<Request<Bytes>, http::Error> {
        let model = deployment.model().unwrap_or(&self.model);
        let base = base_path(self.dialect, deployment);
        let path = match self.dialect {
            DialectId::Gemini => [base, "/v1beta/models/", &escaped(model), self.verb, self.query].concat(),
            _ => [base, self.verb, self.query].concat(),
        };
        let mut request = Request::new(self.body_for(deployment, model));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = PathAndQuery::try_from(path)?.into();
        let headers = request.headers_mut();
        headers.reserve(self.headers.len() + 6);
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(header::ACCEPT_ENCODING, IDENTITY);
        headers.insert(header::USER_AGENT, USER_AGENT);
        if self.dialect == DialectId::Anthropic {
            headers.insert(&ANTHROPIC_VERSION_NAME, ANTHROPIC_VERSION);
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    fn body_for(&self, deployment: &Deployment, model: &str) -> Bytes {
        if self.edits.is_empty() && self.same_name && deployment.model().is_none() {
            return self.body.clone();
        }
        let mut edits = self.edits.clone();
        if (!self.same_name || deployment.model().is_some())
            && let Some(range) = &self.model_range
        {
            let with = serde_json::Value::from(model).to_string();
            if self.body.get(range.clone()) != Some(with.as_bytes()) {
                edits.push(Edit { range: range.clone(), with });
            }
        }
        edited(&self.body, edits)
    }
}

/// A model name as one path segment.
fn escaped(model: &str) -> std::borrow::Cow<'_, str> {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b':' | b'@');
    if model.bytes().all(plain) {
        return model.into();
    }
    let mut out = String::with_capacity(model.len() + 8);
    for byte in model.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out.into()
}

/// How an answer is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Framing {
    /// One JSON document.
    Unary,
    /// Server-sent events.
    Events,
    /// Gemini's stream without `alt=sse`: a JSON array written element by element.
    Array,
}

/// The beginning of a stream, event by event.
struct Opening {
    frames: Frames,
    watch: StreamWatch,
    seen: usize,
    /// Whether all of it is looked at, to its end.
    whole: bool,
}

/// Judges the answers of one request.
pub(crate) struct Judge {
    /// What the deployment that is tried speaks.
    pub(crate) dialect: DialectId,
    operation: Operation,
    pub(crate) framing: Framing,
    /// Where deployments speak different dialects.
    mixed: Option<Arc<Mixed>>,
    max_answer: usize,
    max_event: usize,
    success: bool,
    status: u16,
    retry_after: Option<Duration>,
    encoding: Option<HeaderValue>,
    /// What was read of a stream; a unary answer has none.
    stream: Option<Box<Opening>>,
    /// The body of a unary answer that was compressed although identity was asked for.
    pub(crate) decoded: Option<Bytes>,
    /// What a unary answer cost.
    pub(crate) usage: Option<Usage>,
    /// Attempts so far.
    pub(crate) attempts: u32,
    /// What the request is like, where its group goes by that.
    pub(crate) affinity: Option<u64>,
    /// On whose behalf it is made: a number that is the tenant's own.
    pub(crate) tenant: u64,
    /// Whether a stream is judged by its end, not by its first content.
    pub(crate) whole: bool,
}

impl Judge {
    pub(crate) fn new(
        dialect: DialectId,
        operation: Operation,
        framing: Framing,
        mixed: Option<Arc<Mixed>>,
        sizes: &SizeLimits,
    ) -> Self {
        let (max_answer, max_event) = (sizes.answer, sizes.event);
        Self {
            dialect,
            operation,
            framing,
            mixed,
            max_answer,
            max_event,
            success: false,
            status: 0,
            retry_after: None,
            encoding: None,
            stream: None,
            decoded: None,
            usage: None,
            attempts: 0,
            affinity: None,
            tenant: 0,
            whole: false,
        }
    }

    fn refused(&self, body: &[u8]) -> Verdict {
        let Some(kind) = refusal::kind(self.status, body) else { return Verdict::Accept };
        let retry_after = self.retry_after.or_else(|| retry_delay(body));
        Verdict::Refuse(Refusal { kind, retry_after })
    }

    fn reading(&self) -> Reading {
        Reading {
            dialect: self.dialect,
            operation: self.operation,
            encoding: self.encoding.clone(),
            max_answer: self.max_answer,
        }
    }

    fn unary(&mut self, body: &[u8]) -> Verdict {
        let reading = self.reading();
        if reading.is_long(body.len()) { Verdict::Aside } else { self.is_read(reading.read(body)) }
    }

    fn is_read(&mut self, read: Result<Read, &'static str>) -> Verdict {
        match read {
            Ok(read) => {
                (self.usage, self.decoded) = (read.usage, read.decoded);
                Verdict::Accept
            }
            Err(why) => Verdict::Invalid(why),
        }
    }
}

impl Opening {
    /// Looks at the whole events that came since the last look, until one tells.
    fn judge(&mut self, so_far: &[u8], ended: bool) -> Verdict {
        self.frames.push(Bytes::copy_from_slice(so_far.get(self.seen..).unwrap_or_default()));
        self.seen = so_far.len();
        loop {
            let event = match self.frames.next() {
                Ok(Some(event)) => event,
                Ok(None) if ended && self.whole && self.watch.may_end_here() => return Verdict::Accept,
                Ok(None) if ended && self.whole => return Verdict::Invalid("it ended before its end"),
                Ok(None) if ended => return Verdict::Invalid("it ended before its first content"),
                Ok(None) => return Verdict::NeedMore,
                Err(_) => return Verdict::Invalid("an event is larger than the limit"),
            };
            if self.whole && !self.frames.is_sound(&event) {
                return Verdict::Invalid("an event is not valid JSON");
            }
            match self.frames.watch(&mut self.watch, &event) {
                Observed::Lifecycle | Observed::Usage => {}
                Observed::Content if self.whole => {}
                Observed::Error => {
                    let refusal =
                        Refusal { kind: refusal::kind_of_event(&event), retry_after: retry_delay(&event) };
                    return Verdict::Refuse(refusal);
                }
                Observed::Content | Observed::End => return Verdict::Accept,
            }
        }
    }
}

impl Classify for Judge {
    fn may_try(&mut self, deployment: &Deployment) -> bool {
        let Some(mixed) = &self.mixed else { return true };
        (self.dialect, self.framing) = mixed.spoken(deployment);
        mixed.foreign_for(deployment).is_ok()
    }

    fn affinity(&self) -> Option<u64> {
        self.affinity
    }

    fn tenant(&self) -> u64 {
        self.tenant
    }

    fn fork(&self) -> Option<Self> {
        let sizes = SizeLimits { answer: self.max_answer, event: self.max_event, ..SizeLimits::default() };
        let mut other = Self::new(self.dialect, self.operation, self.framing, self.mixed.clone(), &sizes);
        (other.tenant, other.affinity, other.whole) = (self.tenant, self.affinity, self.whole);
        Some(other)
    }

    fn begins(&mut self, attempt: u32) {
        self.attempts = attempt;
    }

    fn head(&mut self, parts: &response::Parts) -> Verdict {
        self.status = parts.status.as_u16();
        self.success = parts.status.is_success();
        // Nobody is asked to wait by an answer; the clock is spared.
        self.retry_after = if self.success { None } else { retry_after(&parts.headers, SystemTime::now()) };
        self.stream = (self.framing != Framing::Unary).then(|| {
            let frames = Frames::new(self.framing, self.max_event);
            Box::new(Opening { frames, watch: StreamWatch::new(self.dialect), seen: 0, whole: self.whole })
        });
        self.decoded = None;
        self.encoding = parts
            .headers
            .get(header::CONTENT_ENCODING)
            .filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
            .cloned();
        if parts.status.is_redirection() {
            return Verdict::Invalid("it redirects elsewhere");
        }
        if self.success && self.framing != Framing::Unary {
            if self.encoding.is_some() {
                return Verdict::Invalid("it is compressed although identity was asked for");
            }
            let wanted =
                if self.framing == Framing::Events { "text/event-stream" } else { "application/json" };
            let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
            if !kind.get(..wanted.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(wanted.as_bytes())) {
                return Verdict::Invalid("it is not the event stream that was asked for");
            }
        }
        Verdict::NeedMore
    }

    fn body(&mut self, so_far: &[u8], ended: bool) -> Verdict {
        match (self.success, self.framing) {
            (true, Framing::Events | Framing::Array) => match &mut self.stream {
                Some(stream) => stream.judge(so_far, ended),
                None => Verdict::Invalid("its head was not judged"),
            },
            _ if !ended => Verdict::NeedMore,
            (true, Framing::Unary) => self.unary(so_far),
            (false, _) => self.refused(so_far),
        }
    }

    fn aside(&mut self, whole: Bytes) -> Judging<'_> {
        let reading = self.reading();
        let read = tokio::task::spawn_blocking(move || reading.read(&whole));
        Box::pin(async move {
            let read = read.await.unwrap_or_else(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err("it was not read: the gateway is stopping"),
            });
            self.is_read(read)
        })
    }
}

/// The whole events of a stream, in either framing.
pub(crate) enum Frames {
    Sse(sse::Framer),
    Array(ArrayFramer),
}

impl Frames {
    pub(crate) fn new(framing: Framing, max_event: usize) -> Self {
        match framing {
            Framing::Array => Self::Array(ArrayFramer::new(max_event)),
            _ => Self::Sse(sse::Framer::new(max_event)),
        }
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        match self {
            Self::Sse(framer) => framer.push(bytes),
            Self::Array(framer) => framer.push(bytes),
        }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, sse::SseError> {
        match self {
            Self::Sse(framer) => framer.next_event(),
            Self::Array(framer) => framer.next_element(),
        }
    }

    /// What is left when the bytes have ended: an event whose last line end was a lone return.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        match self {
            Self::Sse(framer) => framer.finish(),
            Self::Array(_) => None,
        }
    }

    /// Shows an event to the stream's watch.
    pub(crate) fn watch(&self, watch: &mut StreamWatch, raw: &[u8]) -> Observed {
        match self {
            Self::Sse(_) => {
                let event = sse::Event::parse(raw);
                watch.event(event.event, event.data())
            }
            Self::Array(_) => match ArrayFramer::element(raw) {
                b"" => {
                    watch.end();
                    Observed::End
                }
                element => watch.event(None, element),
            },
        }
    }

    /// Whether an event holds a JSON document, or says the end, or says nothing.
    fn is_sound(&self, raw: &[u8]) -> bool {
        match self {
            Self::Sse(_) => {
                let event = sse::Event::parse(raw);
                let data = event.data();
                data.is_empty() || data == b"[DONE]" || json::Document::parse(data).is_ok()
            }
            Self::Array(_) => {
                let element = ArrayFramer::element(raw);
                element.is_empty() || json::Document::parse(element).is_ok()
            }
        }
    }

    /// Whether these are server-sent events and nothing is left of the last ones.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Sse(framer) if framer.unfinished() == 0)
    }

    /// A complete stream in this framing as server-sent events, the form that is kept.
    pub(crate) fn as_sse(&self, stream: Bytes) -> Option<Bytes> {
        let Self::Array(_) = self else { return Some(stream) };
        let document = json::Document::parse(&stream).ok()?;
        let mut events = String::with_capacity(stream.len() + 64);
        for element in document.root().elements() {
            events.push_str("data: ");
            // Line ends stand between words only: within strings they are escaped.
            events.extend(element.raw().chars().map(|c| if matches!(c, '\r' | '\n') { ' ' } else { c }));
            events.push_str("\r\n\r\n");
        }
        Some(events.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_leave_every_other_byte_alone() {
        let body = Bytes::from_static(br#"{ "a" : 1 , "model":"x"}"#);
        let edits = vec![
            Edit { range: 20..23, with: "\"yy\"".into() },
            Edit { range: 1..1, with: "\"s\":1,".into() },
        ];
        assert_eq!(edited(&body, edits), &br#"{"s":1, "a" : 1 , "model":"yy"}"#[..]);
    }

    #[test]
    fn pain_3_an_array_that_is_kept_as_events_is_spelled_as_it_came() {
        let array = Bytes::from_static(b"[{\n  \"a\": 1.50,\r\n\"b\": \"x\\ny\"}\n,\r\n{}]");
        let events = Frames::new(Framing::Array, 100).as_sse(array).unwrap();
        assert_eq!(events, &b"data: {   \"a\": 1.50,  \"b\": \"x\\ny\"}\r\n\r\ndata: {}\r\n\r\n"[..]);
    }

    #[test]
    fn model_names_become_one_path_segment() {
        assert_eq!(escaped("gemini-2.0"), "gemini-2.0");
        assert_eq!(escaped("a/b?c#d e"), "a%2Fb%3Fc%23d%20e");
    }
}
