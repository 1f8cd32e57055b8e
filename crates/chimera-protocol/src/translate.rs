//! Translation between dialects: requests, whole answers, streams, embeddings and errors.
//!
//! A request is read into a small shared vocabulary and written from it; so is an answer, and each piece
//! of a stream. No dialect knows another. Strings, numbers, schemas and arguments of tools travel as they
//! are spelled, so nothing is rounded, reordered or escaped anew.
//!
//! ```
//! use bytes::BytesMut;
//! use chimera_protocol::{DialectId, json::Document, translate::{self, RequestContext}};
//!
//! let body = br#"{"model":"claude","messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#;
//! let document = Document::parse(body)?;
//! let context = RequestContext { from: DialectId::OpenAi, to: DialectId::Anthropic, model: "claude-opus-4-1", stream: false };
//! let mut out = BytesMut::new();
//! let translated = translate::request(&document, &context, &mut out)?;
//! assert!(translated.dropped.is_empty());
//! assert_eq!(
//!     &out[..],
//!     br#"{"model":"claude-opus-4-1","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}"#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What cannot be said
//! A member that the other side does not know is [refused](Refused) by its path in the caller's words,
//! or, where leaving it out cannot change the answer, [dropped](Dropped) and named. Proofs that only
//! their provider can read come back to it by way of places that the caller's SDK keeps; see
//! `translate/carrier.rs` for the table.
//!
//! # OpenAI's responses
//! They are a caller's dialect: requests are read, answers and streams written. State is kept by nobody,
//! so `previous_response_id` is refused.
//!
//! # What is not translated
//! Tools that a provider runs itself, files that were given to a provider, citations of documents that were
//! sent along, and pictures or sounds as answers. Nothing is fetched: a URL goes on as a URL or is refused.

mod alike;
mod anthropic;
mod base64;
mod carrier;
mod citation;
mod collect;
mod count;
mod embed;
mod error;
mod field;
mod gemini;
mod media;
mod openai;
mod pick;
mod refuse;
mod responses;
mod scan;
mod stream;
mod text;
mod vocabulary;
mod write;

use bytes::BytesMut;

pub use count::{count_answer, count_request};
pub use embed::{EmbedTranslated, embed_answer, embed_request};
pub use error::{ErrorFacts, ErrorKind};
pub use refuse::{Dropped, Refused};
pub use stream::StreamTranslator;

use crate::{
    DialectId, FoldError,
    json::{Document, Kind, Value},
    usage::{Reported, Usage},
};

/// The most that a stream may make its translator hold back: thoughts until their proof comes, a call
/// until it is whole, and what waits for it.
const HOLD_LIMIT: usize = 8 << 20;

/// What is known of a request besides its body.
#[derive(Debug, Clone, Copy)]
pub struct RequestContext<'a> {
    /// The caller's dialect.
    pub from: DialectId,
    /// The provider's dialect.
    pub to: DialectId,
    /// The model's name as its provider knows it.
    pub model: &'a str,
    /// Whether the path asks for a stream, as Gemini's does.
    pub stream: bool,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translated {
    /// Members that were left out because they cannot change the answer.
    pub dropped: Dropped,
    /// Whether the request asks for a stream.
    pub stream: bool,
}

/// Translates a request for a generation. What was appended to `out` is of no use after an error.
pub fn request(
    document: &Document<'_>,
    context: &RequestContext<'_>,
    out: &mut BytesMut,
) -> Result<Translated, Refused> {
    let mut dropped = Dropped::default();
    let root = document.root();
    let request = match context.from {
        DialectId::OpenAi => openai::request_in::read(root, &mut dropped),
        DialectId::Anthropic => anthropic::request_in::read(root, &mut dropped),
        DialectId::Gemini => gemini::request_in::read(root, context.stream, &mut dropped),
        DialectId::Responses => responses::request_in::read(root, &mut dropped),
    }?;
    let mut side = field::Side { caller: context.from, model: context.model, dropped: &mut dropped };
    match context.to {
        DialectId::OpenAi => openai::request_out::write(&request, &mut side, out),
        DialectId::Anthropic => anthropic::request_out::write(&request, &mut side, out),
        DialectId::Gemini => gemini::request_out::write(&request, &mut side, out),
        DialectId::Responses => {
            Err(Refused::here("this model's provider must be asked in its own dialect").inside("model"))
        }
    }?;
    let stream = request.stream;
    Ok(Translated { dropped, stream })
}

/// What an answer says of itself where its provider did not.
#[derive(Debug, Clone, Copy)]
pub struct AnswerContext<'a> {
    /// The answer's id.
    pub id: &'a str,
    /// The model's name.
    pub model: &'a str,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// Translates a whole answer from the provider's dialect to the caller's.
pub fn answer(
    body: &[u8],
    from: DialectId,
    to: DialectId,
    context: &AnswerContext<'_>,
    out: &mut BytesMut,
) -> Result<(), FoldError> {
    let document = Document::parse(body).map_err(|_| FoldError::NotJson)?;
    let mut pieces = Vec::new();
    let mut sink = |piece| {
        pieces.push(piece);
        Ok(())
    };
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(FoldError::NotJson);
    }
    match from {
        DialectId::OpenAi => openai::stream_in::Reader::default().chunk(root, &mut sink)?,
        DialectId::Anthropic => anthropic::stream_in::Reader::default().whole(root, &mut sink)?,
        DialectId::Gemini => {
            let mut reader = gemini::stream_in::Reader::default();
            reader.chunk(root, context, &mut sink)?;
            reader.end(&mut sink)?;
        }
        DialectId::Responses => return Err(FoldError::Shape("a dialect that is translated")),
    }
    let completion = collect::collect(pieces)?;
    if completion.choices.is_empty() {
        return Err(FoldError::Shape("an answer"));
    }
    match to {
        DialectId::OpenAi => openai::answer_out::write(&completion, context, out),
        DialectId::Anthropic => anthropic::answer_out::write(&completion, context, out)?,
        DialectId::Gemini => gemini::answer_out::write(&completion, context, out)?,
        DialectId::Responses => responses::answer_out::write(&completion, context, out),
    }
    Ok(())
}

/// What a provider reported of usage.
fn usage_in(value: Value<'_>, dialect: DialectId) -> Option<Usage> {
    let reported = Reported::read(value.raw().as_bytes())?;
    Some(dialect.dialect().usage_of(&reported))
}
