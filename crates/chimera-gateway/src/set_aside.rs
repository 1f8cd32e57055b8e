//! Tokens set aside for calls under way, so that many at once do not pass a limit that has room for one.
//!
//! What a call will use is known when it ends. Until then its tenant's limit is debited with what it may come to: its
//! text at four bytes a token, and the most that it lets the answer have. Where it names no such bound, that is the
//! largest answer that the tenant had of late. When it ends the limit is settled with what was really used. A limit
//! that is not used up yet lets one call through, however large: it is overdrawn by that one at most.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use chimera_protocol::{
    DialectId, Operation, Usage,
    json::{Document, Kind, Value},
};

use crate::{auth::Tenant, limits::Exceeded};

/// What a token has of text, about, in bytes.
const BYTES: u64 = 4;
/// What an image or a file counts as, in bytes: a thousand tokens.
const BLOB: u64 = 4000;
/// A string that is this long and begins without white space is no text.
const LONG: usize = 1024;
/// Bodies larger than this are not looked through: they count as one of this size.
const MOST: usize = 256 * 1024;

/// The tokens of one call. What was not settled is given back on drop.
#[derive(Default)]
pub(crate) struct SetAside {
    of: Option<Arc<Tenant>>,
    tokens: AtomicU64,
}

impl SetAside {
    /// Sets aside what a call may come to, unless the limit is used up.
    pub(crate) fn new(
        tenant: &Arc<Tenant>,
        dialect: DialectId,
        operation: Operation,
        body: &[u8],
        now: Instant,
    ) -> Result<Self, Exceeded> {
        if !tenant.limits.has_token_limit() || operation == Operation::CountTokens {
            return Ok(Self::default());
        }
        let document = (body.len() <= MOST).then(|| Document::parse(body).ok()).flatten();
        let root = document.as_ref().map(Document::root);
        let text = root.map_or(body.len().min(MOST) as u64, |root| bytes(root).min(body.len() as u64));
        let answer = match operation {
            Operation::Chat => {
                root.and_then(|root| bound(dialect, root)).unwrap_or(tenant.limits.usual_answer())
            }
            _ => 0,
        };
        let tokens = (text / BYTES).saturating_add(answer).max(1);
        tenant.limits.set_aside(tokens, now)?;
        Ok(Self { of: Some(tenant.clone()), tokens: AtomicU64::new(tokens) })
    }

    /// Puts what was used in place of what was set aside.
    pub(crate) fn settle(&self, usage: &Usage) {
        if let Some(tenant) = &self.of {
            tenant.limits.settle(self.tokens.swap(0, Relaxed), usage);
        }
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        if let Some(tenant) = &self.of {
            tenant.limits.give_back(self.tokens.swap(0, Relaxed));
        }
    }
}

/// What a value has of text, in bytes, its punctuation included.
fn bytes(value: Value<'_>) -> u64 {
    match value.kind() {
        Kind::Object => value.members().map(|(_, value)| bytes(value)).sum(),
        Kind::Array => value.elements().map(bytes).sum(),
        Kind::String if is_blob(value.raw()) => BLOB,
        _ => value.raw().len() as u64,
    }
}

fn is_blob(raw: &str) -> bool {
    let begins = raw.as_bytes().get(1..=LONG / 4).unwrap_or_default();
    raw.len() > LONG && begins.iter().all(u8::is_ascii_graphic)
}

/// The most tokens that a request lets its answers have.
fn bound(dialect: DialectId, root: Value<'_>) -> Option<u64> {
    let (names, of): (&[&str], _) = match dialect {
        DialectId::OpenAi => (&["max_completion_tokens", "max_tokens"], Some(root)),
        DialectId::Responses => (&["max_output_tokens"], Some(root)),
        DialectId::Anthropic => (&["max_tokens"], Some(root)),
        DialectId::Gemini => (&["maxOutputTokens"], root.get("generationConfig")),
    };
    let number = |value: Value<'_>| value.raw().parse().ok();
    names.iter().find_map(|name| of?.get(name).and_then(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    fn tenant(tokens: u64) -> Arc<Tenant> {
        Tenant::new("t", Limits { tokens_per_minute: Some(tokens), ..Limits::default() })
    }

    /// What a chat sets aside.
    fn chat(dialect: DialectId, body: &str) -> u64 {
        let aside = SetAside::new(&tenant(10), dialect, Operation::Chat, body.as_bytes(), Instant::now());
        aside.ok().unwrap().tokens.load(Relaxed)
    }

    #[test]
    fn c16_a_call_sets_aside_its_text_and_the_bound_that_it_names_in_its_dialect() {
        let text = "word ".repeat(80);
        let (openai, gemini) = (
            format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}],"max_tokens":50}}"#),
            format!(
                r#"{{"contents":[{{"parts":[{{"text":"{text}"}}]}}],"generationConfig":{{"maxOutputTokens":50}}}}"#
            ),
        );
        assert_eq!(chat(DialectId::OpenAi, &openai), 102 + 50);
        let newer = openai.replace("max_tokens", "max_completion_tokens");
        assert_eq!(chat(DialectId::OpenAi, &newer), 102 + 50);
        assert_eq!(chat(DialectId::Anthropic, &openai), 102 + 50);
        assert_eq!(chat(DialectId::Responses, &openai.replace("max_tokens", "max_output_tokens")), 102 + 50);
        assert_eq!(chat(DialectId::Gemini, &gemini), 101 + 50);
        let unbound = openai.replace("max_tokens", "user");
        assert_eq!(chat(DialectId::OpenAi, &unbound), 102 + 1000, "the first guess");
        let embedding = SetAside::new(
            &tenant(10),
            DialectId::OpenAi,
            Operation::Embed,
            br#"{"input":"12345678901234567890"}"#,
            Instant::now(),
        );
        assert_eq!(embedding.ok().unwrap().tokens.load(Relaxed), 5, "it has no answer of tokens");
    }

    #[test]
    fn c16_an_image_is_not_counted_as_if_it_were_text() {
        let image = format!(
            r#"{{"m":["data:image/png;base64,{}","{}"],"max_tokens":1}}"#,
            "A".repeat(100_000),
            "あ".repeat(1000)
        );
        assert_eq!(chat(DialectId::OpenAi, &image), (4000 + 3002 + 1) / 4 + 1);
        let huge = format!(r#"{{"m":"{}","max_tokens":1}}"#, "a ".repeat(MOST));
        assert_eq!(chat(DialectId::OpenAi, &huge), (MOST as u64) / 4 + 1000);
        assert_eq!(chat(DialectId::OpenAi, "no json"), 1 + 1000);
    }

    #[test]
    fn c16_without_a_bound_the_largest_answer_of_late_is_set_aside() {
        let tenant = tenant(1_000_000);
        let ask = || {
            SetAside::new(&tenant, DialectId::OpenAi, Operation::Chat, b"{}", Instant::now()).ok().unwrap()
        };
        let answered = |tokens| Usage { output_tokens: Some(tokens), ..Usage::default() };
        ask().settle(&answered(4000));
        assert_eq!(ask().tokens.load(Relaxed), 4000);
        for _ in 0..50 {
            ask().settle(&answered(80));
        }
        assert_eq!(ask().tokens.load(Relaxed), 80);
    }
}
