//! How a simulated provider behaves when nothing goes wrong.

use std::time::Duration;

/// The knobs of a [`Sim`](crate::Sim); every field has a sensible default.
///
/// All latencies are zero by default, so that a test which does not care about
/// time does not pay for it. Values that make no sense (zero tokens per event)
/// are read as the nearest one that does.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time from the complete request to the first content event, and to a unary answer's first token.
    pub first_token: Duration,
    /// Time each further token takes.
    pub per_token: Duration,
    /// How many times slower `sim-large` is than every other model.
    pub large_factor: u32,
    /// Tokens in an answer, when neither the request nor `answer_bytes` says otherwise.
    pub tokens: usize,
    /// Makes the answer text exactly this many bytes long instead of counting tokens.
    pub answer_bytes: Option<usize>,
    /// Answers with this text, whatever was asked.
    pub answer: Option<String>,
    /// Tokens that travel in one stream event.
    pub tokens_per_event: usize,
    /// How the bytes of a stream are cut into pieces.
    pub framing: Framing,
    /// Model names that the model lists show.
    pub models: Vec<String>,
    /// Answers requests for models that `models` does not name.
    pub any_model: bool,
    /// The key clients must send; without one every key is accepted.
    pub required_key: Option<String>,
    /// How many prompts are remembered, to tell how much of a new one was sent before; none by default.
    /// Usage then depends on what came before, as nothing else does.
    pub prompt_cache: usize,
    /// Changes every answer; equal seeds give equal answers.
    pub seed: u64,
    /// Length of an embedding when the request names none.
    pub dimensions: usize,
    /// How many received requests are kept for [`Sim::seen`](crate::Sim::seen).
    pub keep_seen: usize,
    /// Largest request body that is read.
    pub max_request_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            first_token: Duration::ZERO,
            per_token: Duration::ZERO,
            large_factor: 3,
            tokens: 32,
            answer_bytes: None,
            answer: None,
            tokens_per_event: 1,
            framing: Framing::Event,
            models: vec!["sim-small".into(), "sim-large".into()],
            any_model: true,
            required_key: None,
            prompt_cache: 0,
            seed: 0,
            dimensions: 256,
            keep_seen: 256,
            max_request_bytes: 64 * 1024 * 1024,
        }
    }
}

/// How the bytes of a stream are cut into body frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One frame per event, each when its time has come.
    Event,
    /// Frames of this many bytes, so that events are cut anywhere.
    Bytes(usize),
    /// The whole stream in one frame, once its first token is due.
    Burst,
}

/// The pace of one answer, after the model and the request's own wishes are known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) first_token: Duration,
    pub(crate) per_token: Duration,
    pub(crate) tokens: usize,
}

impl Pace {
    /// Resolves the pace for `model`, with the `x-sim-*` headers of a direct client.
    pub(crate) fn resolve(settings: &Settings, headers: &http::HeaderMap, model: &str) -> Self {
        let factor = if model == "sim-large" { settings.large_factor.max(1) } else { 1 };
        let millis = |name| number(headers, name).map(Duration::from_millis);
        Self {
            first_token: millis("x-sim-first-token-ms")
                .unwrap_or(settings.first_token.saturating_mul(factor)),
            per_token: millis("x-sim-per-token-ms").unwrap_or(settings.per_token.saturating_mul(factor)),
            tokens: number(headers, "x-sim-tokens")
                .and_then(|n| usize::try_from(n).ok())
                .unwrap_or(settings.tokens)
                .min(MAX_TOKENS),
        }
    }

    /// When a unary answer of `tokens` tokens is complete.
    pub(crate) fn unary(&self, tokens: usize) -> Duration {
        let further = u32::try_from(tokens.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first_token.saturating_add(self.per_token.saturating_mul(further))
    }
}

/// A request header cannot ask for an answer that exhausts the memory of the process.
pub(crate) const MAX_TOKENS: usize = 1_000_000;

fn number(headers: &http::HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}
