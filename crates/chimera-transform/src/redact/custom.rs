//! Patterns and dictionaries of the settings' own.

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{Regex, RegexBuilder};

use super::kind::{Finding, Kind};

/// The largest program that a pattern may become: what is larger is slow on every text.
const LARGEST: usize = 1 << 20;

/// What is looked for besides the built-in kinds.
pub(super) enum Search {
    Pattern(Regex),
    Words(AhoCorasick),
}

impl Search {
    /// A pattern whose classes are ASCII: `\d`, `\w` and `\b` mean what they mean there.
    pub(super) fn pattern(pattern: &str) -> Result<Self, String> {
        let built = RegexBuilder::new(pattern).unicode(false).size_limit(LARGEST).build();
        let regex = built.map_err(|error| error.to_string().lines().last().unwrap_or_default().to_owned())?;
        if regex.is_match(b"") {
            return Err("it matches the empty text".to_owned());
        }
        Ok(Self::Pattern(regex))
    }

    /// Whole words and phrases, whatever the case of their ASCII letters.
    pub(super) fn words(words: &[String]) -> Result<Self, String> {
        if words.is_empty() || words.iter().any(|word| word.trim().is_empty()) {
            return Err("an entry is empty".to_owned());
        }
        let builder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(words);
        builder.map(Self::Words).map_err(|error| error.to_string())
    }

    pub(super) fn find(&self, kind: Kind, text: &str, out: &mut Vec<Finding>) {
        let bytes = text.as_bytes();
        match self {
            Self::Pattern(regex) => {
                let ranges = regex.find_iter(bytes).map(|found| found.range());
                out.extend(ranges.map(|range| Finding { kind, range: whole_characters(text, range) }));
            }
            Self::Words(words) => {
                let ranges = words.find_iter(bytes).map(|found| found.range());
                let whole = ranges.filter(|range| {
                    let before = range.start.checked_sub(1).and_then(|at| bytes.get(at));
                    !before.is_some_and(in_word) && !bytes.get(range.end).is_some_and(in_word)
                });
                out.extend(whole.map(|range| Finding { kind, range }));
            }
        }
    }
}

fn in_word(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || *byte == b'_'
}

/// A pattern over bytes may end inside a character: all of it is taken.
fn whole_characters(text: &str, range: std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = (range.end..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(search: &Search, text: &str) -> Vec<String> {
        let mut out = Vec::new();
        search.find(Kind::Custom(0), text, &mut out);
        out.into_iter().map(|finding| text[finding.range].to_owned()).collect()
    }

    #[test]
    fn patterns_are_ascii_and_end_between_characters() {
        let search = Search::pattern(r"\bEMP-\d{4}").unwrap();
        assert_eq!(found(&search, "emp-1 EMP-1234, éEMP-5678 EMP-٣٣٣٣"), ["EMP-1234", "EMP-5678"]);
        assert_eq!(found(&Search::pattern("x[^a]").unwrap(), "xé"), ["xé"]);
        assert!(Search::pattern("(").is_err());
        assert!(Search::pattern("a*").is_err());
        assert!(Search::pattern("(((a{50}){50}){50}){50}").is_err());
    }

    #[test]
    fn words_are_whole_words() {
        let search = Search::words(&["Project Blue".into(), "Zeta".into()]).unwrap();
        assert_eq!(found(&search, "project blue, ZETA and Zetas"), ["project blue", "ZETA"]);
        assert!(Search::words(&[]).is_err());
        assert!(Search::words(&[" ".into()]).is_err());
    }
}
