//! One cached answer, in every form that a caller may ask for, each made once.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{DialectId, Fingerprint, UnfoldOptions, sse};
use http::HeaderValue;

use crate::{compress::Encoding, upstream::Framing};

/// The form in which a caller wants an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    pub(crate) framing: Framing,
    /// Whether an OpenAI stream ends with its usage.
    pub(crate) include_usage: bool,
}

/// A complete, successful answer.
///
/// It keeps the bytes as the provider sent them, unary or streamed, and derives the other form when
/// it is first asked for: a stream is folded into an answer, an answer unfolded into a stream.
pub(crate) struct Entry {
    dialect: DialectId,
    origin: Origin,
    derived: OnceLock<Box<Derived>>,
    /// Who answered, as the response headers say it.
    pub(crate) provider: HeaderValue,
    pub(crate) model: HeaderValue,
}

/// Forms made of the bytes that came; most entries are never asked for another, so they lie apart.
#[derive(Default)]
struct Derived {
    folded: OnceLock<Option<Bytes>>,
    unfolded: OnceLock<Option<Bytes>>,
    without_usage: OnceLock<Option<Bytes>>,
    array: OnceLock<Option<Bytes>>,
    encoded: [OnceLock<Option<Bytes>>; 3],
}

/// The bytes as they came.
enum Origin {
    Unary(Bytes),
    /// Server-sent events, with usage.
    Stream(Bytes),
}

impl Entry {
    pub(crate) fn unary(
        dialect: DialectId,
        body: Bytes,
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Self::new(dialect, Origin::Unary(body), provider, model)
    }

    pub(crate) fn stream(
        dialect: DialectId,
        events: Bytes,
        provider: HeaderValue,
        model: HeaderValue,
    ) -> Arc<Self> {
        Self::new(dialect, Origin::Stream(events), provider, model)
    }

    fn new(dialect: DialectId, origin: Origin, provider: HeaderValue, model: HeaderValue) -> Arc<Self> {
        Arc::new(Self { dialect, origin, derived: OnceLock::new(), provider, model })
    }

    fn derived(&self) -> &Derived {
        self.derived.get_or_init(Box::default)
    }

    /// The answer in a form; `None` when it cannot be put into that form.
    pub(crate) fn body(&self, form: Form) -> Option<&Bytes> {
        match form.framing {
            Framing::Unary => self.whole(),
            Framing::Events if form.include_usage || self.dialect != DialectId::OpenAi => self.events(),
            Framing::Events => self.without_usage(),
            Framing::Array => self.as_array(),
        }
    }

    /// The unary form in an encoding, encoded once. `None` when it does not get smaller.
    pub(crate) fn encoded(&self, encoding: Encoding) -> Option<&Bytes> {
        self.derived()
            .encoded
            .get(encoding as usize)?
            .get_or_init(|| {
                let plain = self.whole()?;
                encoding.encode(plain).ok().filter(|encoded| encoded.len() < plain.len())
            })
            .as_ref()
    }

    fn whole(&self) -> Option<&Bytes> {
        match &self.origin {
            Origin::Unary(body) => Some(body),
            Origin::Stream(events) => self
                .derived()
                .folded
                .get_or_init(|| self.dialect.dialect().fold(events).ok().map(Bytes::from))
                .as_ref(),
        }
    }

    fn events(&self) -> Option<&Bytes> {
        match &self.origin {
            Origin::Stream(events) => Some(events),
            Origin::Unary(body) => self
                .derived()
                .unfolded
                .get_or_init(|| {
                    let options = UnfoldOptions { include_usage: true };
                    self.dialect.dialect().unfold(body, options).ok().map(Bytes::from)
                })
                .as_ref(),
        }
    }

    fn without_usage(&self) -> Option<&Bytes> {
        self.derived()
            .without_usage
            .get_or_init(|| {
                let events = self.events()?;
                let mut kept = BytesMut::with_capacity(events.len());
                for event in whole_events(events)? {
                    if !chimera_protocol::is_usage_only(sse::Event::parse(&event).data()) {
                        kept.extend_from_slice(&event);
                    }
                }
                Some(kept.freeze())
            })
            .as_ref()
    }

    fn as_array(&self) -> Option<&Bytes> {
        self.derived()
            .array
            .get_or_init(|| {
                let mut out = BytesMut::from(&b"["[..]);
                for event in whole_events(self.events()?)? {
                    if out.len() > 1 {
                        out.extend_from_slice(b",\r\n");
                    }
                    out.extend_from_slice(sse::Event::parse(&event).data());
                }
                out.extend_from_slice(b"]");
                Some(out.freeze())
            })
            .as_ref()
    }

    /// Bytes that the entry may come to hold. The derived forms are counted before they exist, so that
    /// making one never pushes the cache over its capacity: the other form, the variants of the
    /// stream, and encodings that together are smaller than the plain text.
    fn bytes(&self) -> usize {
        let origin = match &self.origin {
            Origin::Unary(body) | Origin::Stream(body) => body.len(),
        };
        origin.saturating_mul(3) + size_of::<Self>() + size_of::<Derived>()
    }
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
pub(crate) fn weigh(_: &Fingerprint, entry: &Arc<Entry>) -> usize {
    entry.bytes()
}
