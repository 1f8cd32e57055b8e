//! What may not be said: requests and answers that hold it are refused.
//!
//! In a stream a match may straddle chunks, and what was sent cannot be called back. So as much is held
//! back as the longest match, and no more; a match ends the stream with an error, and nothing of it is
//! told. A guard that cannot do its work refuses: it never lets pass what it has not seen.

mod language;

use std::sync::Arc;

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};

use crate::{
    changes::Changes,
    prompt::{Part, Prompt, Role},
    seed::Seed,
    transform::{StepError, Stepped, Transform},
    way_back::{Channel, Form, Undo},
};
use language::Languages;

/// What is done about a match in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMatch {
    /// The request is refused, and so is an answer.
    #[default]
    Deny,
    /// The report says so.
    Flag,
}

/// What a guard looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// Regular expressions, in ASCII.
    pub patterns: Vec<String>,
    /// Words and phrases, whatever the case of their ASCII letters.
    pub words: Vec<String>,
    /// The most characters that a request's texts may have together.
    pub max_chars: Option<usize>,
    /// Languages in which users may ask, by their codes of ISO 639; all where there is none.
    pub languages: Vec<String>,
    /// What is done about a match.
    pub on_match: OnMatch,
    /// Whether requests are looked at.
    pub requests: bool,
    /// Whether answers are.
    pub answers: bool,
    /// The longest match of a pattern, in bytes: so much is held back of a stream. Longer ones may be
    /// missed there. Default 256.
    pub longest: usize,
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            words: Vec::new(),
            max_chars: None,
            languages: Vec::new(),
            on_match: OnMatch::Deny,
            requests: true,
            answers: true,
            longest: 256,
        }
    }
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct GuardError {
    /// The setting at fault.
    pub key: String,
    /// Why.
    pub why: String,
}

/// The step that guards.
pub struct Guard {
    settings: GuardSettings,
    search: Arc<Search>,
    languages: Option<Languages>,
}

struct Search {
    patterns: Vec<Regex>,
    words: Option<AhoCorasick>,
    /// What is held back of a stream.
    hold: usize,
}

impl Guard {
    /// The step, with all patterns compiled.
    pub fn new(settings: GuardSettings) -> Result<Self, GuardError> {
        let error = |key: String, why: String| GuardError { key, why };
        if settings.longest == 0 || settings.longest > 64 << 10 {
            return Err(error("longest".into(), "it is from 1 to 65536".into()));
        }
        let mut patterns = Vec::with_capacity(settings.patterns.len());
        for (index, pattern) in settings.patterns.iter().enumerate() {
            let built = RegexBuilder::new(pattern).unicode(false).size_limit(1 << 20).build();
            let regex = built.map_err(|why| {
                error(format!("patterns[{index}]"), why.to_string().lines().last().unwrap_or_default().into())
            })?;
            if regex.is_match(b"") {
                return Err(error(format!("patterns[{index}]"), "it matches the empty text".into()));
            }
            patterns.push(regex);
        }
        if settings.words.iter().any(|word| word.trim().is_empty()) {
            return Err(error("words".into(), "an entry is empty".into()));
        }
        let words = AhoCorasick::builder().ascii_case_insensitive(true).build(&settings.words);
        let words = words.map_err(|why| error("words".into(), why.to_string()))?;
        let longest_word = settings.words.iter().map(String::len).max().unwrap_or(0);
        // A word may be part of a longer one: what follows it is waited for.
        let hold = longest_word.max(if patterns.is_empty() { 0 } else { settings.longest }) + 1;
        let words = (!settings.words.is_empty()).then_some(words);
        let languages = Languages::new(&settings.languages)
            .map_err(|code| error("languages".into(), format!("`{code}` is no language that can be told")))?;
        let languages = (!settings.languages.is_empty()).then_some(languages);
        Ok(Self { settings, search: Arc::new(Search { patterns, words, hold }), languages })
    }
}

impl Search {
    /// Whether a text holds a match.
    fn finds(&self, text: &str) -> bool {
        self.finds_from(text, 0, false)
    }

    /// Whether a match begins at a place or behind it, that is decided: one that touches an open end may
    /// yet be none.
    fn finds_from(&self, text: &str, from: usize, open: bool) -> bool {
        let bytes = text.as_bytes();
        let decided = |end: usize| !open || end < bytes.len();
        let in_word = |at: Option<&u8>| at.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let word = self.words.as_ref().is_some_and(|words| {
            words.find_overlapping_iter(bytes).any(|found| {
                let before = found.start().checked_sub(1).and_then(|at| bytes.get(at));
                found.start() >= from
                    && decided(found.end())
                    && !in_word(before)
                    && !in_word(bytes.get(found.end()))
            })
        });
        let matches = |regex: &Regex| {
            let mut at = from;
            while let Some(found) = regex.find_at(bytes, at.min(bytes.len())) {
                if decided(found.end()) {
                    return true;
                }
                at = found.end().max(at + 1);
                if at > bytes.len() {
                    break;
                }
            }
            false
        };
        word || self.patterns.iter().any(matches)
    }
}

impl Transform for Guard {
    fn name(&self) -> &str {
        "guard"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let settings = &self.settings;
        if let Some(most) = settings.max_chars {
            let chars: usize = prompt.parts().map(|(_, part)| part.text().chars().count()).sum();
            if chars > most {
                self.refuse(changes, format!("the request has {chars} characters, {most} are allowed"))?;
            }
        }
        let asks = |part: &Part<'_>| part.role() == Role::User && !part.is_embedded();
        if let Some(languages) = &self.languages
            && prompt.parts().any(|(_, part)| asks(part) && !languages.allow(part.text()))
        {
            self.refuse(changes, "the request is in a language that is not allowed".to_owned())?;
        }
        // The instructions are the operator's own: they may name what is forbidden.
        let mut asked = prompt.parts().filter(|(_, part)| part.role() != Role::System);
        if settings.requests && asked.any(|(_, part)| self.search.finds(part.text())) {
            self.refuse(changes, "the request holds what is not allowed".to_owned())?;
        }
        let looks = settings.answers && settings.on_match == OnMatch::Deny;
        Ok(looks.then(|| Box::new(Watch(self.search.clone())) as Box<dyn Undo>))
    }
}

impl Guard {
    fn refuse(&self, changes: &mut Changes, why: String) -> Result<(), StepError> {
        match self.settings.on_match {
            OnMatch::Deny => Err(StepError::refused(why)),
            OnMatch::Flag => {
                changes.note("flagged", 1);
                Ok(())
            }
        }
    }
}

fn forbidden() -> StepError {
    StepError::refused("the answer holds what is not allowed")
}

/// Looks at the answer to one request.
struct Watch(Arc<Search>);

impl Undo for Watch {
    fn concerns(&self, text: &str) -> bool {
        self.0.finds(text)
    }

    fn whole(&self, text: &str, _: Form) -> Result<Option<String>, StepError> {
        if self.0.finds(text) { Err(forbidden()) } else { Ok(None) }
    }

    fn channel(&self, _: Form) -> Box<dyn Channel> {
        Box::new(Watching { search: self.0.clone(), text: String::new(), told: 0 })
    }
}

/// One text of a stream: what is held, and the end of what was told, for what a match looks back at.
struct Watching {
    search: Arc<Search>,
    text: String,
    told: usize,
}

/// How far back a match may look for the end of a word.
const LOOK_BACK: usize = 8;

impl Channel for Watching {
    fn push(&mut self, chunk: &str, out: &mut String) -> Result<(), StepError> {
        self.text.push_str(chunk);
        if self.search.finds_from(&self.text, self.told, true) {
            return Err(forbidden());
        }
        let boundary = |at: usize| (0..=at).rev().find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        let free = boundary(self.text.len().saturating_sub(self.search.hold)).max(self.told);
        let keep = boundary(free.saturating_sub(LOOK_BACK));
        out.push_str(self.text.get(self.told..free).unwrap_or_default());
        self.text.drain(..keep);
        self.told = free - keep;
        Ok(())
    }

    fn end(&mut self, out: &mut String) -> Result<(), StepError> {
        if self.search.finds_from(&self.text, self.told, false) {
            return Err(forbidden());
        }
        out.push_str(self.text.get(self.told..).unwrap_or_default());
        self.text.clear();
        self.told = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Pipeline, Step, WayBack};

    fn pipeline(settings: GuardSettings) -> Pipeline {
        Pipeline::new("p", [Step::new(Guard::new(settings).unwrap())])
    }

    fn settings() -> GuardSettings {
        let (patterns, words) = (vec![r"\bX-\d{3}\b".to_owned()], vec!["blue moon".to_owned()]);
        GuardSettings { patterns, words, longest: 8, ..GuardSettings::default() }
    }

    fn seed() -> Seed {
        Seed::derive(&[0; 32], "")
    }

    fn way_back() -> WayBack {
        pipeline(settings()).run_text("fine", &seed()).unwrap().way_back
    }

    #[test]
    fn requests_are_refused_or_flagged() {
        let run = |settings, text: &str| pipeline(settings).run_text(text, &seed());
        for text in ["say X-123 now", "the Blue Moon"] {
            assert!(run(settings(), text).unwrap_err().is_refusal());
            let flag = GuardSettings { on_match: OnMatch::Flag, ..settings() };
            assert_eq!(run(flag, text).unwrap().report[0].notes.get("flagged"), 1);
        }
        for text in ["X-1234", "blue moons", "a X-12"] {
            assert!(run(settings(), text).is_ok(), "{text}");
        }
        let short = GuardSettings { max_chars: Some(3), ..GuardSettings::default() };
        assert!(run(short.clone(), "four").is_err());
        assert!(run(short, "äöü").is_ok());
        let english = GuardSettings { languages: vec!["en".into()], ..GuardSettings::default() };
        assert!(run(english.clone(), "Привет").unwrap_err().is_refusal());
        assert!(run(english, "Hello").is_ok());
    }

    #[test]
    fn instructions_may_name_what_is_forbidden() {
        let body = r#"{"messages":[{"role":"system","content":"never say blue moon"},{"role":"user","content":"hi"}]}"#;
        assert!(pipeline(settings()).run_body(body.as_bytes(), &seed()).is_ok());
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let error = |settings| Guard::new(settings).err().unwrap().key;
        assert_eq!(error(GuardSettings { patterns: vec!["(".into()], ..settings() }), "patterns[0]");
        assert_eq!(error(GuardSettings { words: vec![" ".into()], ..settings() }), "words");
        assert_eq!(error(GuardSettings { longest: 0, ..settings() }), "longest");
        assert_eq!(error(GuardSettings { languages: vec!["xx".into()], ..settings() }), "languages");
    }

    proptest! {
        /// However a stream is cut: nothing of a match is told, and a text without one comes through whole,
        /// no more of it held back than the longest match.
        #[test]
        fn pain_14_a_guard_fails_closed_for_any_chunking(
            pieces in proptest::collection::vec(prop_oneof![
                Just("X-123"), Just("X-1234"), Just("blue "), Just("moon"), Just("s"), Just(" "), Just("é-")
            ], 0..12),
            size in 1_usize..7,
        ) {
            let text = pieces.concat();
            let way_back = way_back();
            let bad = way_back.whole(&text, Form::Text).is_err();
            let mut channel = way_back.channel(Form::Text);
            let characters: Vec<char> = text.chars().collect();
            let (mut out, mut given, mut failed) = (String::new(), 0, false);
            for chunk in characters.chunks(size) {
                let chunk: String = chunk.iter().collect();
                given += chunk.len();
                match channel.push(&chunk) {
                    Ok(more) => out.push_str(&more),
                    Err(_) => {
                        failed = true;
                        break;
                    }
                }
                prop_assert!(given - out.len() <= 13);
            }
            if !failed {
                match channel.end() {
                    Ok(more) => out.push_str(&more),
                    Err(_) => failed = true,
                }
            }
            prop_assert_eq!(failed, bad);
            if bad {
                prop_assert!(text.starts_with(&out));
                let first = Regex::new(r"(?-u)\b(X-\d{3}|blue moon)\b").unwrap();
                let first = first.find(text.as_bytes()).unwrap();
                prop_assert!(out.len() <= first.start());
            } else {
                prop_assert_eq!(out, text);
            }
        }
    }
}
