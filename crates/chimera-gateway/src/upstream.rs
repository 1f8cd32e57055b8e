//! The request that a provider gets, and the pieces in which its answer comes.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use chimera_protocol::{ArrayFramer, DialectId, Observed, StreamWatch, json, sse};
use chimera_provider_pool::Deployment;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header, uri::PathAndQuery};

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
        let names = |wanted: &HeaderName| self.headers.iter().any(|(name, _)| name == wanted);
        if self.dialect == DialectId::Anthropic && !names(&ANTHROPIC_VERSION_NAME) {
            headers.insert(&ANTHROPIC_VERSION_NAME, ANTHROPIC_VERSION);
        }
        // A header may stand there more than once, and says all that it says.
        for (name, value) in &self.headers {
            headers.append(name.clone(), value.clone());
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

    /// What an event says, without its framing.
    pub(crate) fn data(&self, raw: &[u8]) -> Bytes {
        match self {
            Self::Sse(_) => Bytes::copy_from_slice(sse::Event::parse(raw).data()),
            Self::Array(_) => Bytes::copy_from_slice(ArrayFramer::element(raw)),
        }
    }

    /// Whether an event holds a JSON document, or says the end, or says nothing.
    pub(crate) fn is_sound(&self, raw: &[u8]) -> bool {
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
