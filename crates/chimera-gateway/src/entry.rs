//! One cached answer, in every form that a caller may ask for, each made once.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use bytes::Bytes;
use chimera_protocol::{DialectId, UnfoldOptions, sse};
use http::HeaderValue;

use crate::{
    aside::{LARGE_ANSWER, aside},
    compress::Encoding,
    told::Told,
    upstream::Framing,
};

/// The form in which a caller wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) framing: Framing,
    /// Whether an OpenAI stream ends with its usage.
    pub(crate) include_usage: bool,
}

/// The unary form.
pub(crate) const UNARY: Form = Form { framing: Framing::Unary, include_usage: true };

/// A complete, successful answer.
///
/// It keeps the bytes as the provider sent them, unary or streamed, and derives the other forms when
/// they are first asked for: a stream is folded into an answer, an answer unfolded into a stream. An
/// entry that has grown by that is to be weighed again.
pub(crate) struct Entry {
    dialect: DialectId,
    origin: Origin,
    derived: OnceLock<Box<Derived>>,
    /// Whether a form was made since the entry was last weighed.
    grown: AtomicBool,
    /// The tenant whose it is.
    owner: Arc<str>,
    /// What its caller would have it purged by besides, a line each.
    tags: Option<Arc<str>>,
    /// Who answered, as the response headers say it.
    pub(crate) provider: HeaderValue,
    pub(crate) model: HeaderValue,
}

/// Forms made of the bytes that came; most entries are never asked for another, so they lie apart.
#[derive(Default)]
struct Derived {
    /// In the entry's own dialect; `None` where that cannot be done.
    own: [OnceLock<Option<Bytes>>; 7],
    /// In other dialects.
    told: Told,
}

/// A form that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    Folded,
    Unfolded,
    WithoutUsage,
    Array,
    Encoded(Encoding),
}

impl Made {
    fn index(self) -> usize {
        match self {
            Self::Folded => 0,
            Self::Unfolded => 1,
            Self::WithoutUsage => 2,
            Self::Array => 3,
            Self::Encoded(encoding) => 4 + encoding as usize,
        }
    }
}

/// The bytes as they came.
enum Origin {
    Unary(Bytes),
    /// Server-sent events, with usage.
    Stream(Bytes),
    /// A status and a body that say what is wrong with the request.
    Refusal(u16, Bytes),
}

impl Entry {
    pub(crate) fn unary(
        dialect: DialectId,
        owner: Arc<str>,
        body: Bytes,
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Self::new(dialect, owner, Origin::Unary(body), provider, model)
    }

    pub(crate) fn stream(
        dialect: DialectId,
        owner: Arc<str>,
        events: Bytes,
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Self::new(dialect, owner, Origin::Stream(events), provider, model)
    }

    pub(crate) fn refusal(
        dialect: DialectId,
        owner: Arc<str>,
        (status, body): (u16, Bytes),
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Self::new(dialect, owner, Origin::Refusal(status, body), provider, model)
    }

    /// The same with tags. An entry that is shared already stays as it is.
    pub(crate) fn tagged(mut entry: Arc<Self>, tags: Option<Arc<str>>) -> Arc<Self> {
        if tags.is_some()
            && let Some(entry) = Arc::get_mut(&mut entry)
        {
            entry.tags = tags;
        }
        entry
    }

    fn new(
        dialect: DialectId,
        owner: Arc<str>,
        origin: Origin,
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Arc::new(Self {
            dialect,
            origin,
            derived: OnceLock::new(),
            grown: AtomicBool::new(false),
            owner,
            tags: None,
            provider,
            model,
        })
    }

    pub(crate) fn dialect(&self) -> DialectId {
        self.dialect
    }

    /// Whether it came as a stream, and its bytes.
    pub(crate) fn as_came(&self) -> (bool, &Bytes) {
        (matches!(self.origin, Origin::Stream(_)), self.origin())
    }

    /// The status, where it is a refusal.
    pub(crate) fn refused_with(&self) -> Option<u16> {
        match self.origin {
            Origin::Refusal(status, _) => Some(status),
            Origin::Unary(_) | Origin::Stream(_) => None,
        }
    }

    /// The tenant whose it is.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    /// The model that answered, by which answers are purged.
    pub(crate) fn tag(&self) -> &str {
        self.model.to_str().unwrap_or_default()
    }

    /// What its caller would have it purged by besides.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &str> {
        self.tags.as_deref().into_iter().flat_map(str::lines)
    }

    /// The same, a line each.
    pub(crate) fn tag_lines(&self) -> &str {
        self.tags.as_deref().unwrap_or_default()
    }

    /// The answer in a form; `None` when it cannot be put into that form.
    pub(crate) fn body(&self, form: Form) -> Option<&Bytes> {
        match self.which(form) {
            Some(made) => self.made(made),
            None => Some(self.origin()),
        }
    }

    /// The unary form in an encoding. `None` when it does not get smaller.
    pub(crate) fn encoded(&self, encoding: Encoding) -> Option<&Bytes> {
        self.made(Made::Encoded(encoding))
    }

    /// Makes a form on a thread of its own, where that would take the event loop too long.
    pub(crate) async fn prepare(self: &Arc<Self>, form: Form, encoding: Option<Encoding>) {
        if self.origin().len() <= LARGE_ANSWER {
            return;
        }
        let wanted = [self.which(form), encoding.map(Made::Encoded)];
        let missing = wanted.into_iter().flatten().filter(|made| !self.is_made(*made));
        for made in missing.collect::<Vec<_>>() {
            let entry = self.clone();
            // Whether it worked is seen when the form is asked for.
            let _ = aside(move || entry.made(made).is_some()).await;
        }
    }

    /// What it is in other dialects.
    pub(crate) fn told(&self) -> &Told {
        &self.derived.get_or_init(Box::default).told
    }

    /// Notes that it got another form.
    pub(crate) fn grows(&self) {
        self.grown.store(true, Relaxed);
    }

    /// Whether it has grown since this was last asked.
    pub(crate) fn has_grown(&self) -> bool {
        self.grown.load(Relaxed) && self.grown.swap(false, Relaxed)
    }

    /// The bytes as they came.
    pub(crate) fn origin(&self) -> &Bytes {
        match &self.origin {
            Origin::Unary(bytes) | Origin::Stream(bytes) | Origin::Refusal(_, bytes) => bytes,
        }
    }

    /// The form to be made, unless it is the one that came.
    fn which(&self, form: Form) -> Option<Made> {
        match (form.framing, &self.origin) {
            (_, Origin::Refusal(..)) | (Framing::Unary, Origin::Unary(_)) => None,
            (Framing::Unary, Origin::Stream(_)) => Some(Made::Folded),
            (Framing::Array, _) => Some(Made::Array),
            (Framing::Events, _) if self.dialect == DialectId::OpenAi && !form.include_usage => {
                Some(Made::WithoutUsage)
            }
            (Framing::Events, Origin::Stream(_)) => None,
            (Framing::Events, Origin::Unary(_)) => Some(Made::Unfolded),
        }
    }

    fn is_made(&self, made: Made) -> bool {
        let slot = self.derived.get().and_then(|derived| derived.own.get(made.index()));
        slot.is_some_and(|slot| slot.get().is_some())
    }

    fn made(&self, made: Made) -> Option<&Bytes> {
        let slot = self.derived.get_or_init(Box::default).own.get(made.index())?;
        let mut grown = false;
        let form = slot.get_or_init(|| {
            grown = true;
            // Room to spare would be held as long as the entry.
            self.make(made).map(|bytes| bytes.into_boxed_slice().into())
        });
        if grown {
            self.grows();
        }
        form.as_ref()
    }

    fn make(&self, made: Made) -> Option<Vec<u8>> {
        let dialect = self.dialect.dialect();
        match made {
            Made::Folded => dialect.fold(self.origin()).ok(),
            Made::Unfolded => dialect.unfold(self.origin(), UnfoldOptions { include_usage: true }).ok(),
            Made::WithoutUsage => without_usage(self.body(EVENTS)?),
            Made::Array => as_array(self.body(EVENTS)?),
            Made::Encoded(encoding) => {
                let plain = self.body(UNARY)?;
                encoding.encode(plain).ok().filter(|encoded| encoded.len() < plain.len())
            }
        }
    }

    /// Bytes that it holds.
    fn bytes(&self) -> usize {
        let tags = self.tags.as_ref().map_or(0, |tags| tags.len() + ALLOCATIONS);
        let own = self.origin().len() + self.model.len() + size_of::<Self>() + ALLOCATIONS + tags;
        let derived = self.derived.get().map_or(0, |derived| {
            let forms = derived.own.iter().filter_map(|slot| slot.get()?.as_ref());
            let own: usize = forms.map(|form| form.len() + ALLOCATIONS).sum();
            size_of::<Derived>() + own + derived.told.bytes(ALLOCATIONS)
        });
        own + derived
    }
}

/// The stream with its usage, whatever the dialect.
const EVENTS: Form = Form { framing: Framing::Events, include_usage: true };

/// What a form costs beside its bytes: counts of references and the rounding of an allocator.
const ALLOCATIONS: usize = 64;

fn without_usage(events: &Bytes) -> Option<Vec<u8>> {
    let mut kept = Vec::with_capacity(events.len());
    for event in whole_events(events)? {
        if !chimera_protocol::is_usage_only(sse::Event::parse(&event).data()) {
            kept.extend_from_slice(&event);
        }
    }
    Some(kept)
}

fn as_array(events: &Bytes) -> Option<Vec<u8>> {
    let mut out = vec![b'['];
    for event in whole_events(events)? {
        if out.len() > 1 {
            out.extend_from_slice(b",\r\n");
        }
        out.extend_from_slice(sse::Event::parse(&event).data());
    }
    out.push(b']');
    Some(out)
}

/// Splits stored events; they were whole when they were stored.
fn whole_events(events: &Bytes) -> Option<Vec<Bytes>> {
    let mut framer = sse::Framer::new(events.len().max(1));
    framer.push(events.clone());
    let mut whole = Vec::new();
    while let Some(event) = framer.next_event().ok()? {
        whole.push(event);
    }
    Some(whole)
}

/// What an entry weighs in the cache.
pub(crate) fn weigh(entry: &Arc<Entry>) -> usize {
    entry.bytes()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answers(length: usize) -> [(DialectId, serde_json::Value); 3] {
        let text = "word ".repeat(length / 5);
        let openai = json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "m", "system_fingerprint": "f",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        });
        let anthropic = json!({
            "id": "m", "type": "message", "role": "assistant", "model": "c",
            "content": [{ "type": "text", "text": text }],
            "stop_reason": "end_turn", "stop_sequence": null,
            "usage": { "input_tokens": 3, "output_tokens": 4 },
        });
        let gemini = json!({
            "candidates": [{ "content": { "parts": [{ "text": text }], "role": "model" }, "finishReason": "STOP" }],
            "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7 },
        });
        [(DialectId::OpenAi, openai), (DialectId::Anthropic, anthropic), (DialectId::Gemini, gemini)]
    }

    /// Every form that somebody can ask for.
    fn all_forms(entry: &Entry) -> Vec<&Bytes> {
        let framings = [Framing::Unary, Framing::Events, Framing::Array];
        let forms = framings
            .into_iter()
            .flat_map(|framing| [true, false].map(|include_usage| Form { framing, include_usage }));
        let mut all: Vec<_> = forms.map(|form| entry.body(form).unwrap()).collect();
        all.extend(Encoding::ALL.into_iter().filter_map(|encoding| entry.encoded(encoding)));
        all.sort_by_key(|bytes| bytes.as_ptr());
        all.dedup_by_key(|bytes| bytes.as_ptr());
        all
    }

    #[test]
    fn m01_an_entry_weighs_what_it_holds_whatever_was_made_of_it() {
        for length in [0, 40, 2_000, 100_000] {
            for (dialect, answer) in answers(length) {
                let none = HeaderValue::from_static("p");
                let body = Bytes::from(answer.to_string());
                let events = dialect.dialect().unfold(&body, UnfoldOptions { include_usage: true }).unwrap();
                for entry in [
                    Entry::unary(dialect, "".into(), body.clone(), none.clone(), none.clone()),
                    Entry::stream(dialect, "".into(), events.into(), none.clone(), none.clone()),
                ] {
                    let before = entry.bytes();
                    assert!(before >= entry.origin().len() && !entry.has_grown());
                    let held: usize = all_forms(&entry).iter().map(|bytes| bytes.len()).sum();
                    let after = entry.bytes();
                    assert!(after >= held && after < held + 2048, "{dialect:?} {length}: {after} of {held}");
                    assert!(entry.has_grown() && !entry.has_grown());
                }
            }
        }
    }
}
