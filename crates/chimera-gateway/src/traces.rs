//! Traces: what a request and the call behind it look like to a tracing system, when one is configured.
//!
//! A caller's W3C trace context is continued, and the provider is handed a context of its own under it. Whether
//! a request is traced is the caller's decision where it sends one (its `sampled` flag), and a matter of the
//! configured share where it does not. A request that is not traced costs one look at a pointer.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use chimera_protocol::{DialectId, Operation, Usage};
use http::{HeaderName, HeaderValue, Response, request::Parts};
use tokio::time::Instant;

use crate::{body::Body, respond::names};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Bytes of a prompt that a span takes at most.
const MAX_PROMPT: usize = 16 * 1024;

/// One request that has ended, as spans: the request itself, and each call to a provider.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trace {
    /// Of all spans that belong together.
    pub trace_id: [u8; 16],
    /// Of the request's span.
    pub span_id: [u8; 8],
    /// The caller's span, if it sent one.
    pub parent: Option<[u8; 8]>,
    /// When the request came.
    pub started: SystemTime,
    /// How long it took, to the last byte of a stream.
    pub took: Duration,
    /// Its method.
    pub method: String,
    /// The route as a path, with names in braces for what varies.
    pub route: &'static str,
    /// The status that it was answered with; `None` when the caller left before.
    pub status: Option<u16>,
    /// Its id.
    pub request_id: String,
    /// On whose behalf it was made.
    pub tenant: Option<Arc<str>>,
    /// What became of it in the cache, as `x-chimera-cache` says.
    pub cache: Option<String>,
    /// Why it failed: the gateway's stable code.
    pub error: Option<&'static str>,
    /// The calls to providers that it began, in their order: its own, and those of a pipeline that asks a model on the
    /// way or asks once more. Who joins another's call has none.
    pub calls: Vec<CallTrace>,
}

/// A call to a provider, over all its attempts.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CallTrace {
    /// Of the call's span.
    pub span_id: [u8; 8],
    /// What the caller speaks.
    pub dialect: DialectId,
    /// What was asked for.
    pub operation: Operation,
    /// The model that was asked for.
    pub model: String,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// After the request came, when the call began.
    pub began: Duration,
    /// After the request came, when the first content was there.
    pub heard: Option<Duration>,
    /// The provider that answered, and the model by its name there.
    pub answered_by: Option<(String, String)>,
    /// What it cost, where the provider says so.
    pub usage: Option<Usage>,
    /// Each attempt: after the request came, and the deployment that was asked.
    pub attempts: Vec<(Duration, String)>,
    /// What was asked, cut to 16 KiB; only where prompts are to be recorded.
    pub prompt: Option<String>,
}

/// Where finished traces go. It must not wait.
type Sink = Box<dyn Fn(Trace) + Send + Sync>;

/// Decides what is traced and hands on what was.
pub struct Tracer {
    share: f64,
    prompts: bool,
    sink: Sink,
    ids: RandomState,
    count: AtomicU64,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer")
            .field("share", &self.share)
            .field("prompts", &self.prompts)
            .finish_non_exhaustive()
    }
}

impl Tracer {
    /// A tracer of this share (0 to 1) of the requests that come without a trace context. `sink` is handed each
    /// trace as its request ends, on the thread that served it: it must not wait. With `prompts`, what was asked
    /// is recorded; leave it off unless whoever reads traces may read that.
    pub fn new(share: f64, prompts: bool, sink: impl Fn(Trace) + Send + Sync + 'static) -> Self {
        Self { share, prompts, sink: Box::new(sink), ids: RandomState::new(), count: AtomicU64::new(0) }
    }

    fn number(&self) -> u64 {
        // SipHash under a key of its own: nobody outside can tell one from the last. Zero is no id.
        self.ids.hash_one(self.count.fetch_add(1, Relaxed)).max(1)
    }

    /// The trace of a request, if it is to be traced.
    pub(crate) fn begin(self: &Arc<Self>, parts: &Parts) -> Option<Box<Tracing>> {
        let context = parts.headers.get(TRACEPARENT).and_then(|value| Parent::read(value.as_bytes()));
        let (trace_id, parent) = match context {
            Some(parent) if parent.sampled => (parent.trace_id, Some(parent.span_id)),
            Some(_) => return None,
            None => {
                let low = self.number();
                // The share is decided by the low half, as tracing libraries do.
                if (low as f64) >= self.share * u64::MAX as f64 && self.share < 1.0 {
                    return None;
                }
                (u128::from(self.number()) << 64 | u128::from(low), None)
            }
        };
        Some(Box::new(Tracing {
            tracer: self.clone(),
            began: Instant::now(),
            calls: Vec::new(),
            trace: Trace {
                trace_id: trace_id.to_be_bytes(),
                span_id: self.number().to_be_bytes(),
                parent,
                started: SystemTime::now(),
                took: Duration::ZERO,
                method: parts.method.as_str().to_owned(),
                route: "",
                status: None,
                request_id: String::new(),
                tenant: None,
                cache: None,
                error: None,
                calls: Vec::new(),
            },
        }))
    }
}

/// The trace of a request under way.
pub(crate) struct Tracing {
    tracer: Arc<Tracer>,
    pub(crate) trace: Trace,
    began: Instant,
    calls: Vec<Calling>,
}

impl Tracing {
    /// What is known once there is an answer.
    pub(crate) fn answered(&mut self, response: &Response<Body>) {
        self.trace.status = Some(response.status().as_u16());
        let cache = response.headers().get(&names::CACHE).and_then(|value| value.to_str().ok());
        self.trace.cache = cache.map(str::to_owned);
    }

    /// A call to a provider that the request may begin. It is told of the trace by `headers`.
    pub(crate) fn calls(
        &mut self,
        (dialect, operation, stream): (DialectId, Operation, bool),
        model: &str,
        body: &Bytes,
        headers: &mut Vec<(HeaderName, HeaderValue)>,
    ) -> Calling {
        let span_id = self.tracer.number().to_be_bytes();
        let context = format!("00-{}-{}-01", hex(&self.trace.trace_id), hex(&span_id));
        headers.retain(|(name, _)| *name != TRACEPARENT);
        if let Ok(context) = HeaderValue::from_str(&context) {
            headers.push((TRACEPARENT, context));
        }
        let call = CallTrace {
            span_id,
            dialect,
            operation,
            model: model.to_owned(),
            stream,
            began: Duration::ZERO,
            heard: None,
            answered_by: None,
            usage: None,
            attempts: Vec::new(),
            prompt: self.tracer.prompts.then(|| cut(body)),
        };
        let calling = Calling {
            began: self.began,
            noted: Arc::new(Mutex::new(Noted { began: false, considered: String::new(), call })),
        };
        self.calls.push(calling.clone());
        calling
    }

    /// Hands the trace on.
    pub(crate) fn end(mut self: Box<Self>, took: Duration) {
        self.trace.took = took;
        let begun = |calling: &Calling| {
            let noted = calling.lock();
            noted.began.then(|| noted.call.clone())
        };
        self.trace.calls = self.calls.iter().filter_map(begun).collect();
        (self.tracer.sink)(self.trace);
    }
}

/// The beginning of a prompt, whole characters of it.
fn cut(body: &Bytes) -> String {
    String::from_utf8_lossy(body.get(..MAX_PROMPT).unwrap_or(body)).trim_end_matches('\u{fffd}').to_owned()
}

/// What is known of a call.
struct Noted {
    /// Whether it was made.
    began: bool,
    considered: String,
    call: CallTrace,
}

/// A call's side of a trace: whoever makes the call notes here what becomes of it.
#[derive(Clone)]
pub(crate) struct Calling {
    began: Instant,
    noted: Arc<Mutex<Noted>>,
}

impl Calling {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn begins(&self) {
        let mut noted = self.lock();
        (noted.began, noted.call.began) = (true, self.began.elapsed());
    }

    /// Notes the deployment that is asked next, if it admits the call.
    pub(crate) fn considers(&self, deployment: &str) {
        deployment.clone_into(&mut self.lock().considered);
    }

    pub(crate) fn tries(&self) {
        let at = self.began.elapsed();
        let mut noted = self.lock();
        let deployment = noted.considered.clone();
        noted.call.attempts.push((at, deployment));
    }

    pub(crate) fn heard(&self, provider: &HeaderValue, model: &HeaderValue) {
        let text = |value: &HeaderValue| value.to_str().unwrap_or("?").to_owned();
        let call = &mut self.lock().call;
        call.heard = Some(self.began.elapsed());
        call.answered_by = Some((text(provider), text(model)));
    }

    pub(crate) fn costs(&self, usage: Usage) {
        self.lock().call.usage = Some(usage);
    }
}

/// A W3C trace context (Trace Context Level 1, section 3.2).
struct Parent {
    trace_id: u128,
    span_id: [u8; 8],
    sampled: bool,
}

impl Parent {
    /// Reads one of version 00, or of a later version as far as that is laid out the same.
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let sound = lower(version, 2) && lower(trace, 32) && lower(span, 16) && lower(flags, 2);
        if !sound || version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok().filter(|id| *id != 0)?;
        let span_id = u64::from_str_radix(span, 16).ok().filter(|id| *id != 0)?.to_be_bytes();
        Some(Self { trace_id, span_id, sampled: u8::from_str_radix(flags, 16).ok()? & 1 == 1 })
    }
}

/// Bytes in hex digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(context: Option<&str>) -> Parts {
        let mut request = http::Request::post("/v1/chat/completions");
        if let Some(context) = context {
            request = request.header("traceparent", context);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn tracer(share: f64) -> Arc<Tracer> {
        Arc::new(Tracer::new(share, true, |_| {}))
    }

    #[test]
    fn a_context_is_continued_and_what_is_none_is_not() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let span = "00f067aa0ba902b7";
        let begun = tracer(0.0).begin(&parts(Some(&format!("00-{trace}-{span}-01")))).unwrap();
        assert_eq!(
            (hex(&begun.trace.trace_id), hex(&begun.trace.parent.unwrap())),
            (trace.into(), span.into())
        );
        let later = format!("01-{trace}-{span}-03-more");
        assert!(tracer(0.0).begin(&parts(Some(&later))).is_some());
        assert!(tracer(1.0).begin(&parts(Some(&format!("00-{trace}-{span}-00")))).is_none());
        for bad in [
            format!("00-{trace}-{span}"),
            format!("00-{trace}-{span}-01-x"),
            format!("ff-{trace}-{span}-01"),
            format!("00-{}-{span}-01", "0".repeat(32)),
            format!("00-{trace}-{}-01", "0".repeat(16)),
            format!("00-{}-{span}-01", trace.to_uppercase()),
            "nonsense".to_owned(),
        ] {
            let begun = tracer(1.0).begin(&parts(Some(&bad))).unwrap();
            assert_eq!(begun.trace.parent, None, "{bad}");
        }
    }

    #[test]
    fn the_share_is_that_of_requests_without_a_context() {
        let count = |share: f64| {
            let tracer = tracer(share);
            (0..10_000).filter(|_| tracer.begin(&parts(None)).is_some()).count()
        };
        assert_eq!((count(0.0), count(1.0)), (0, 10_000));
        let tenth = count(0.1);
        assert!((800..1200).contains(&tenth), "{tenth}");
    }

    #[test]
    fn the_provider_is_told_and_a_prompt_is_cut_between_characters() {
        let mut begun = tracer(1.0).begin(&parts(None)).unwrap();
        let mut headers = vec![(TRACEPARENT, HeaderValue::from_static("of the caller"))];
        let body = Bytes::from("ä".repeat(MAX_PROMPT));
        let calling = begun.calls((DialectId::OpenAi, Operation::Chat, false), "m", &body, &mut headers);
        let span = hex(&calling.lock().call.span_id);
        let told = format!("00-{}-{span}-01", hex(&begun.trace.trace_id));
        assert_eq!(headers, [(TRACEPARENT, HeaderValue::from_str(&told).unwrap())]);
        assert_eq!(calling.lock().call.prompt.as_ref().unwrap().len(), MAX_PROMPT);
        let odd = Bytes::from(format!("x{}", "ä".repeat(MAX_PROMPT)));
        assert_eq!(cut(&odd).len(), MAX_PROMPT - 1);
    }
}
