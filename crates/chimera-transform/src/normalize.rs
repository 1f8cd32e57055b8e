//! Texts in one spelling: Unicode's composed form, no invisible characters, plain line ends.
//!
//! Two prompts that look the same should be the same: to a cache, to a budget, and to whoever looks for
//! something in them. Characters that nobody sees are how instructions are hidden from people.
//! Compatibility forms (NFKC) are not the default: they change code, formulas and quoted text.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick, is_nfkc_quick};

use crate::{
    changes::Changes,
    prompt::Prompt,
    seed::Seed,
    transform::{Stepped, Transform},
};

/// A form of Unicode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnicodeForm {
    /// Composed.
    #[default]
    Nfc,
    /// Composed, and compatibility characters replaced: full-width letters, ligatures, and their like.
    Nfkc,
    /// As it is.
    Keep,
}

/// What is brought into one spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormalizeSettings {
    /// The form of Unicode. Default NFC.
    pub form: UnicodeForm,
    /// Takes out zero-width characters, marks of direction, tag characters and control characters.
    /// Joiners stay where scripts and emoji need them. Default yes.
    pub invisible: bool,
    /// Makes every line end a line feed. Default yes.
    pub line_ends: bool,
    /// Takes out white space at the end of lines, and all but one of several empty lines. Default no.
    pub white_space: bool,
    /// Takes the white space out of texts that are JSON. Default no.
    pub json: bool,
}

impl Default for NormalizeSettings {
    fn default() -> Self {
        Self { form: UnicodeForm::Nfc, invisible: true, line_ends: true, white_space: false, json: false }
    }
}

/// The step that normalizes.
#[derive(Debug, Default)]
pub struct Normalize {
    settings: NormalizeSettings,
}

impl Normalize {
    /// The step.
    pub fn new(settings: NormalizeSettings) -> Self {
        Self { settings }
    }

    /// A text in its one spelling: borrowed when it is that already.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let settings = &self.settings;
        let mut text = Cow::Borrowed(text);
        // Printable ASCII with tabs and line feeds is in every form, and sees nothing of what follows.
        if !is_plain(&text) {
            if settings.line_ends && memchr::memchr(b'\r', text.as_bytes()).is_some() {
                text = Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"));
            }
            if settings.invisible && has_invisible(&text) {
                let visible = visible(&text);
                if visible.len() < text.len() {
                    text = Cow::Owned(visible);
                }
            }
            text = composed(text, settings.form);
        }
        if settings.json
            && let Some(minified) = minified(&text)
        {
            return Cow::Owned(minified);
        }
        if settings.white_space
            && let Some(trimmed) = trimmed(&text)
        {
            return Cow::Owned(trimmed);
        }
        text
    }
}

impl Transform for Normalize {
    fn name(&self) -> &str {
        "normalize"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        for (index, part) in prompt.parts() {
            if let Cow::Owned(text) = self.text(part.text()) {
                changes.replace(index, text);
                changes.note("texts", 1);
            }
        }
        Ok(None)
    }
}

/// Whether a text is printable ASCII with tabs and line feeds.
fn is_plain(text: &str) -> bool {
    let odd = |byte: u8| byte >= 0x7f || (byte < 0x20 && byte != b'\n' && byte != b'\t');
    // In blocks, so that the machine looks at many bytes at once.
    text.as_bytes().chunks(64).all(|chunk| !chunk.iter().fold(false, |any, byte| any | odd(*byte)))
}

fn is_invisible(c: char) -> bool {
    matches!(c,
        '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{84}' | '\u{86}'..='\u{9f}'
        | '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2064}' | '\u{2066}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// The joiners of scripts and emoji, which are nothing between Latin letters.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

fn has_invisible(text: &str) -> bool {
    text.chars().any(|c| is_invisible(c) || is_joiner(c))
}

fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let beside_ascii = |c: Option<char>| c.is_none_or(|c| c.is_ascii());
        let idle =
            is_joiner(c) && beside_ascii(out.chars().next_back()) && beside_ascii(chars.peek().copied());
        if !is_invisible(c) && !idle {
            out.push(c);
        }
    }
    out
}

fn composed(text: Cow<'_, str>, form: UnicodeForm) -> Cow<'_, str> {
    let quick = match form {
        UnicodeForm::Nfc => is_nfc_quick(text.chars()),
        UnicodeForm::Nfkc => is_nfkc_quick(text.chars()),
        UnicodeForm::Keep => IsNormalized::Yes,
    };
    if quick == IsNormalized::Yes {
        return text;
    }
    let composed: String = match form {
        UnicodeForm::Nfkc => text.nfkc().collect(),
        _ => text.nfc().collect(),
    };
    if composed == text { text } else { Cow::Owned(composed) }
}

/// A JSON document without its white space; `None` for a text that is none, or has none.
fn minified(text: &str) -> Option<String> {
    let trimmed = text.trim_ascii();
    if !matches!(trimmed.as_bytes().first(), Some(b'{' | b'[')) {
        return None;
    }
    chimera_protocol::json::Document::parse(trimmed.as_bytes()).ok()?;
    let (mut out, mut in_string, mut escaped) = (String::with_capacity(trimmed.len()), false, false);
    for c in trimmed.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\n' | '\r' | '\t' if !in_string => continue,
            _ => {}
        }
        out.push(c);
    }
    (out.len() < text.len()).then_some(out)
}

/// Lines without the white space at their ends, and no two empty ones in a row.
fn trimmed(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.trim_ascii_end().lines() {
        let line = line.trim_ascii_end();
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(line);
        }
    }
    (out.len() < text.len()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(settings: NormalizeSettings, text: &str, expected: &str) {
        let step = Normalize::new(settings);
        let out = step.text(text);
        assert_eq!(out, expected);
        assert_eq!(matches!(out, Cow::Borrowed(_)), text == expected, "borrowed when unchanged");
        assert_eq!(step.text(expected), expected, "it is idempotent");
    }

    #[test]
    fn what_is_in_form_is_borrowed() {
        for text in ["", "plain\n\ttext", "naïve café", "日本語", "👩‍👩‍👧‍👦 family", "می‌خواهم"]
        {
            check(NormalizeSettings::default(), text, text);
        }
    }

    #[test]
    fn unicode_is_composed() {
        check(NormalizeSettings::default(), "cafe\u{301}", "café");
        check(NormalizeSettings::default(), "ｆｕｌｌ ﬁ x²", "ｆｕｌｌ ﬁ x²");
        let nfkc = NormalizeSettings { form: UnicodeForm::Nfkc, ..NormalizeSettings::default() };
        check(nfkc, "ｆｕｌｌ ﬁ x²", "full fi x2");
    }

    #[test]
    fn what_nobody_sees_is_taken_out() {
        check(NormalizeSettings::default(), "pass\u{200b}word\u{202e} \u{7}x\u{e0041}", "password x");
        check(NormalizeSettings::default(), "pass\u{200d}word", "password");
        let keep = NormalizeSettings { invisible: false, ..NormalizeSettings::default() };
        check(keep, "a\u{200b}b", "a\u{200b}b");
    }

    #[test]
    fn line_ends_and_white_space() {
        check(NormalizeSettings::default(), "a\r\nb\rc\n", "a\nb\nc\n");
        check(NormalizeSettings::default(), "a  \n\n\n\nb", "a  \n\n\n\nb");
        let tidy = NormalizeSettings { white_space: true, ..NormalizeSettings::default() };
        check(tidy, "a  \n\n\n\n  b \n", "a\n\n  b");
    }

    #[test]
    fn json_is_minified_and_nothing_else() {
        let json = NormalizeSettings { json: true, ..NormalizeSettings::default() };
        check(json, "{ \"a b\" : [ 1,\n 2 ], \"c\\\" d\": \" \" }", "{\"a b\":[1,2],\"c\\\" d\":\" \"}");
        check(json, "{ not json }", "{ not json }");
        check(json, "[1]", "[1]");
    }
}
