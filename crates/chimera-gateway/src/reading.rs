//! Reading a provider's unary answer: undo its encoding, check its JSON, find what it cost. Small ones are
//! read where they arrive, large ones on another thread: the event loop serves others meanwhile.

use bytes::Bytes;
use chimera_protocol::{DialectId, Operation, Usage};
use http::{HeaderMap, HeaderValue, header};

use crate::compress;

/// Answers above this are read on another thread.
const INLINE: usize = 256 * 1024;
/// And compressed ones above this, which may be a hundred times as long.
const INLINE_ENCODED: usize = 16 * 1024;

/// The encoding of an answer, where it has one although identity was asked for.
pub(crate) fn encoding(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(header::CONTENT_ENCODING).filter(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// A refusal's body without its encoding; `None` where it has none, or one that cannot be undone within bounds. It is
/// undone where it arrives: what says no is short.
pub(crate) fn decoded_refusal(encoding: Option<&HeaderValue>, body: &[u8]) -> Option<Bytes> {
    compress::decode(encoding.filter(|_| body.len() <= INLINE_ENCODED)?, body, INLINE)
}

/// What reading an answer needs to know.
pub(crate) struct Reading {
    pub(crate) dialect: DialectId,
    pub(crate) operation: Operation,
    /// The encoding of an answer that was compressed although identity was asked for.
    pub(crate) encoding: Option<HeaderValue>,
    pub(crate) max_answer: usize,
}

/// What was read of a good answer.
pub(crate) struct Read {
    pub(crate) usage: Option<Usage>,
    /// The answer, where it came compressed.
    pub(crate) decoded: Option<Bytes>,
}

impl Reading {
    /// Whether reading a body of this length would hold up the event loop.
    pub(crate) fn is_long(&self, length: usize) -> bool {
        length > if self.encoding.is_some() { INLINE_ENCODED } else { INLINE }
    }

    /// Reads it, or says what is wrong with it.
    pub(crate) fn read(&self, body: &[u8]) -> Result<Read, &'static str> {
        let decoded = match &self.encoding {
            None => None,
            Some(encoding) => {
                let decoded = compress::decode(encoding, body, self.max_answer);
                Some(decoded.ok_or("its encoding cannot be undone within bounds")?)
            }
        };
        let plain = decoded.as_deref().unwrap_or(body);
        let usage = self.dialect.dialect().read_answer(self.operation, plain);
        let usage = usage.map_err(|_| "it is not the JSON that its dialect promises")?;
        Ok(Read { usage, decoded })
    }
}
