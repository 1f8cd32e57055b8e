//! Wire formats of LLM APIs as data: OpenAI, Anthropic and Gemini.
//!
//! What a gateway must know of these formats to carry them: where things are in a request, which
//! request is the same as another, where events begin and end, what an error looks like, and how a
//! stream and a whole answer become each other. Values in, values out: no I/O, no clock, no state
//! beyond what a caller holds.
//!
//! ```
//! use chimera_protocol::{DialectId, LookOver, Operation, json::Document};
//!
//! let body = br#"{"model":"gpt-4o","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
//! let document = Document::parse(body)?;
//! let request = LookOver::of(DialectId::OpenAi, Operation::Chat, &document)?;
//! assert_eq!(request.model.as_deref(), Some("gpt-4o"));
//! assert!(request.stream);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! [`json::Document`] validates a body in one pass and notes where everything is, so that the bytes
//! can go on untouched. [`Fingerprint`] hashes what a request means, not how it is spelled.
//! [`sse::Framer`] cuts a stream into whole events without a copy. [`Dialect`] holds one vendor's
//! rules, one file each; [`StreamWatch`] applies them to a stream that passes by. [`translate`] puts
//! requests, answers, streams and errors of one vendor into another's words.
//!
//! # Guarantees
//! - **Any bytes**: nothing panics, loops or recurses beyond [`json::MAX_DEPTH`], whatever comes.
//! - **Memory**: bounded by the input, or by the limit given for one event.
//! - **Errors**: name the offset or the member at fault and quote nothing of the content.
//! - **Cancellation**: there is nothing to cancel.
//!
//! # What it does not do
//! It counts no tokens, and runs no tools.

pub mod json;
pub mod sse;

mod anthropic;
mod array;
mod canonical;
mod dialect;
mod fingerprint;
mod gemini;
mod lookover;
mod needle;
mod openai;
mod responses;
mod shape;
mod spelling;
mod stream_watch;
pub mod translate;
mod usage;

pub use array::ArrayFramer;
pub use canonical::canonical;
pub use dialect::{
    Choices, Dialect, DialectId, ErrorParts, FoldError, InvalidAnswer, Observed, Operation, UnfoldOptions,
};
pub use fingerprint::{Fingerprint, Scope, derived_key};
pub use lookover::{CacheMember, LookOver, Refusal, Splice, ask_usage};
pub use shape::Shape;
pub use stream_watch::StreamWatch;
pub use usage::{Classes, Reported, Usage};

/// Whether an event's data is the chunk with which an OpenAI stream tells its usage, and nothing else.
pub fn is_usage_only(data: &[u8]) -> bool {
    openai::is_usage_only(data)
}
