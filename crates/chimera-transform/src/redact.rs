//! Personal data and secrets: found, and kept from the provider.
//!
//! What is found is replaced by a placeholder such as `[EMAIL_1_k3v9q2m7xw4t]`, whose end is sixty bits
//! that nobody knows beforehand: no text can contain one by intent, so nothing is brought back that was
//! not taken out of this very request. In the answer the values come back: in texts, in the arguments of
//! tool calls, and in streams that cut a placeholder anywhere.
//!
//! This is a net, not a wall. It finds what has a form: names and addresses of people it does not find,
//! unless a dictionary lists them. What it finds and misses is measured on a set that comes with it.

mod checks;
mod context;
mod custom;
mod dates;
mod digits;
mod keys;
mod kind;
mod lettered;
mod net;
mod placeholders;
mod scan;
mod secrets;

use std::{borrow::Cow, collections::BTreeMap};

use crate::{
    changes::Changes,
    prompt::{Part, Prompt},
    seed::Seed,
    transform::{StepError, Stepped, Transform},
    way_back::Undo,
};
use custom::Search;
pub use kind::{Finding, Kind, Policy};
use placeholders::Placeholders;

/// A pattern or a dictionary of the settings' own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Custom {
    /// Its name, in placeholders and reports: lower-case letters, digits and `_`.
    pub name: String,
    /// What it looks for.
    pub search: CustomSearch,
    /// What is done with what it finds.
    pub policy: Policy,
}

/// What a custom search looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomSearch {
    /// A regular expression, in ASCII: no look-around, linear time.
    Pattern(String),
    /// Words and phrases.
    Words(Vec<String>),
}

/// What is looked for and what is done with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedactSettings {
    /// What is done with a kind that `kinds` does not name. Default redact.
    pub policy: Policy,
    /// Kinds that are treated otherwise.
    pub kinds: BTreeMap<Kind, Policy>,
    /// Patterns and dictionaries.
    pub custom: Vec<Custom>,
    /// Placeholders stay the same throughout a conversation, so that what a provider's prompt cache has
    /// seen of it is sent again to the byte. Default off: then they are each request's own.
    pub protect_prefix: bool,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {why}")]
pub struct RedactError {
    /// The custom search at fault.
    pub name: String,
    /// Why.
    pub why: String,
}

/// The step that redacts.
pub struct Redact {
    settings: RedactSettings,
    searches: Vec<(String, Search, Policy)>,
}

impl Redact {
    /// The step, with all patterns compiled.
    pub fn new(settings: RedactSettings) -> Result<Self, RedactError> {
        let mut searches = Vec::with_capacity(settings.custom.len());
        for custom in &settings.custom {
            let error = |why: String| RedactError { name: custom.name.clone(), why };
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if custom.name.is_empty() || custom.name.len() > 32 || !custom.name.chars().all(plain) {
                return Err(error("a name has up to 32 lower-case letters, digits and _".to_owned()));
            }
            let search = match &custom.search {
                CustomSearch::Pattern(pattern) => Search::pattern(pattern),
                CustomSearch::Words(words) => Search::words(words),
            };
            searches.push((custom.name.clone(), search.map_err(error)?, custom.policy));
        }
        Ok(Self { settings, searches })
    }

    /// Everything that is found in a text and not allowed, in order.
    pub fn find(&self, text: &str) -> Vec<Finding> {
        let mut found = scan::scan(text);
        if !self.searches.is_empty() {
            let mut others = Vec::new();
            for (index, (_, search, _)) in self.searches.iter().enumerate() {
                search.find(Kind::Custom(index as u16), text, &mut others);
            }
            let mut all = kind::Findings::default();
            others.append(&mut found);
            all.merge(others);
            found = all.into_vec();
        }
        found.retain(|finding| self.policy(finding.kind) != Policy::Allow);
        found
    }

    /// The vendors whose API keys are known by their form; some have several.
    pub fn vendors() -> impl Iterator<Item = &'static str> {
        keys::vendors()
    }

    fn policy(&self, kind: Kind) -> Policy {
        match kind {
            Kind::Custom(index) => self.searches.get(usize::from(index)).map_or(Policy::Redact, |it| it.2),
            kind => self.settings.kinds.get(&kind).copied().unwrap_or(self.settings.policy),
        }
    }

    fn name(&self, kind: Kind) -> Cow<'static, str> {
        match kind {
            Kind::Custom(index) => {
                let search = self.searches.get(usize::from(index));
                search.map_or("custom".into(), |(name, ..)| name.clone().into())
            }
            kind => kind.as_str().into(),
        }
    }

    /// What placeholders are made from: all texts, or those with which the conversation began.
    fn nonce(&self, prompt: &Prompt<'_>, seed: &Seed) -> String {
        let mut hasher = seed.hasher();
        let first = prompt.turns().iter().position(|turn| turn.role() == crate::Role::User).unwrap_or(0);
        for (_, part) in prompt.parts() {
            if !self.settings.protect_prefix || part.turn().is_none_or(|turn| turn <= first) {
                hasher.update(&(part.text().len() as u64).to_le_bytes()).update(part.text().as_bytes());
            }
        }
        placeholders::nonce(&hasher.finalize())
    }

    /// A text with its findings replaced.
    fn replaced(
        &self,
        part: &Part<'_>,
        found: &[Finding],
        placeholders: &mut Placeholders,
        seed: &Seed,
    ) -> Result<String, StepError> {
        let text = part.text();
        let mut out = String::with_capacity(text.len() + found.len() * 16);
        let mut at = 0;
        for finding in found {
            out.push_str(text.get(at..finding.range.start).unwrap_or_default());
            let value = text.get(finding.range.clone()).unwrap_or_default();
            let label = self.name(finding.kind).to_ascii_uppercase();
            match self.policy(finding.kind) {
                Policy::Redact => {
                    let value = if part.is_embedded() { unescaped(value) } else { Cow::Borrowed(value) };
                    out.push_str(placeholders.of(finding.kind, &label, &value));
                }
                Policy::Mask => out.push_str(&masked(value)),
                Policy::Hash => {
                    let hash = seed.hasher().update(b"value\0").update(value.as_bytes()).finalize();
                    out.push_str(&format!("[{label}_{}]", hash.to_hex().get(..16).unwrap_or_default()));
                }
                Policy::Block => {
                    let why = format!("the request holds what may not be sent: {}", self.name(finding.kind));
                    return Err(StepError::refused(why));
                }
                Policy::Allow => out.push_str(value),
            }
            at = finding.range.end;
        }
        out.push_str(text.get(at..).unwrap_or_default());
        Ok(out)
    }
}

impl Transform for Redact {
    fn name(&self) -> &str {
        "redact"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, seed: &Seed) -> Stepped {
        let mut placeholders = None;
        for (index, part) in prompt.parts() {
            let masked = if part.is_embedded() { without_escapes(part.text()) } else { part.text().into() };
            let found = self.find(&masked);
            if found.is_empty() {
                continue;
            }
            let placeholders =
                placeholders.get_or_insert_with(|| Placeholders::new(self.nonce(prompt, seed)));
            changes.replace(index, self.replaced(part, &found, placeholders, seed)?);
            for finding in &found {
                changes.note(self.name(finding.kind), 1);
            }
        }
        Ok(placeholders.and_then(Placeholders::undo).map(|undo| Box::new(undo) as Box<dyn Undo>))
    }
}

/// The letters and digits replaced; of long values the last four are left.
fn masked(value: &str) -> String {
    let all = value.chars().filter(|c| c.is_alphanumeric()).count();
    let left = if all >= 12 { all - 4 } else { all };
    let mut seen = 0;
    let star = |c: char| {
        seen += usize::from(c.is_alphanumeric());
        if c.is_alphanumeric() && seen <= left { '*' } else { c }
    };
    value.chars().map(star).collect()
}

/// JSON inside a string with its escapes blanked, so that `\n` before a word is not taken for a letter of
/// it. Every place stays where it was.
fn without_escapes(text: &str) -> Cow<'_, str> {
    if memchr::memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(' ');
        let Some(escape) = rest.next() else { break };
        (0..escape.len_utf8()).for_each(|_| out.push(' '));
    }
    Cow::Owned(out)
}

/// A value that stood in JSON inside a string, as it is.
fn unescaped(value: &str) -> Cow<'_, str> {
    if !value.contains('\\') {
        return Cow::Borrowed(value);
    }
    serde_json::from_str(&format!("\"{value}\"")).map_or(Cow::Borrowed(value), Cow::Owned)
}

#[cfg(test)]
mod tests;
