//! The judgement of what a provider answers: good, to be tried elsewhere, or not yet known.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use chimera_protocol::{DialectId, Observed, Operation, StreamWatch, Usage};
use chimera_provider_pool::{Classify, Deployment, Judging, Refusal, Verdict};
use http::{HeaderValue, header, response};

use crate::{
    mixed::Mixed,
    reading::{self, Read, Reading},
    refusal::{self, retry_after, retry_delay},
    settings::SizeLimits,
    traces::Calling,
    upstream::{Frames, Framing},
};

/// The beginning of a stream, event by event.
struct Opening {
    frames: Frames,
    watch: StreamWatch,
    dialect: DialectId,
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
    /// Where they are counted for a caller who may leave before the call ends.
    pub(crate) tries: Option<Arc<AtomicU32>>,
    /// What the request is like, where its group goes by that.
    pub(crate) affinity: Option<u64>,
    /// On whose behalf it is made: a number that is the tenant's own.
    pub(crate) tenant: u64,
    /// The model that it names: a number that is the name's own.
    pub(crate) model: u64,
    /// Whether nobody waits for the answer.
    pub(crate) background: bool,
    /// Whether a stream is judged by its end, not by its first content.
    pub(crate) whole: bool,
    /// Where the call is traced.
    pub(crate) calling: Option<Calling>,
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
            tries: None,
            affinity: None,
            tenant: 0,
            model: 0,
            background: false,
            whole: false,
            calling: None,
        }
    }

    fn refused(&self, body: &[u8]) -> Verdict {
        let decoded = reading::decoded_refusal(self.encoding.as_ref(), body);
        let body = decoded.as_deref().unwrap_or(body);
        let Some(kind) = refusal::kind(self.status, body) else { return Verdict::Accept };
        let retry_after = self.retry_after.or_else(|| retry_delay(body));
        Verdict::Refuse(Refusal { kind, retry_after })
    }

    /// The error that a stream was refused for.
    pub(crate) fn error_in(&self, held: Bytes) -> Option<Bytes> {
        let mut frames = Frames::new(self.framing, self.max_event);
        let mut watch = StreamWatch::new(self.dialect);
        frames.push(held);
        while let Ok(Some(event)) = frames.next() {
            if frames.watch(&mut watch, &event) == Observed::Error {
                return Some(frames.data(&event));
            }
        }
        None
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
                    return Verdict::Refuse(refusal::of_event(self.dialect, &self.frames.data(&event)));
                }
                Observed::Content | Observed::End => return Verdict::Accept,
            }
        }
    }
}

impl Classify for Judge {
    fn may_try(&mut self, deployment: &Deployment) -> bool {
        if let Some(calling) = &self.calling {
            calling.considers(deployment.name());
        }
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

    fn model(&self) -> u64 {
        self.model
    }

    fn is_background(&self) -> bool {
        self.background
    }

    fn fork(&self) -> Option<Self> {
        let sizes = SizeLimits { answer: self.max_answer, event: self.max_event, ..SizeLimits::default() };
        let mut other = Self::new(self.dialect, self.operation, self.framing, self.mixed.clone(), &sizes);
        (other.tenant, other.affinity, other.whole) = (self.tenant, self.affinity, self.whole);
        (other.model, other.background) = (self.model, self.background);
        other.calling.clone_from(&self.calling);
        other.tries.clone_from(&self.tries);
        Some(other)
    }

    fn begins(&mut self, attempt: u32) {
        self.attempts = attempt;
        if let Some(tries) = &self.tries {
            tries.fetch_add(1, Relaxed);
        }
        if let Some(calling) = &self.calling {
            calling.tries();
        }
    }

    fn head(&mut self, parts: &response::Parts) -> Verdict {
        self.status = parts.status.as_u16();
        self.success = parts.status.is_success();
        // Nobody is asked to wait by an answer; the clock is spared.
        self.retry_after = if self.success { None } else { retry_after(&parts.headers, SystemTime::now()) };
        self.stream = (self.framing != Framing::Unary).then(|| {
            let frames = Frames::new(self.framing, self.max_event);
            let (dialect, whole) = (self.dialect, self.whole);
            Box::new(Opening { frames, watch: StreamWatch::new(dialect), dialect, seen: 0, whole })
        });
        self.decoded = None;
        self.encoding = reading::encoding(&parts.headers).cloned();
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
