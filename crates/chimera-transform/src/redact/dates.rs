//! Dates of birth with the month spelled out.

use std::ops::Range;

use super::context;

/// The first letters of the months in English, French, German, Italian, Portuguese and Spanish.
const MONTHS: [&str; 30] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", "fév", "fev", "avr",
    "mai", "juin", "juil", "août", "aoû", "déc", "mär", "okt", "dez", "gen", "mag", "giu", "lug", "ago",
    "dic",
];

/// The date of birth around the digit at a place: `12 March 1984`, `March 12th, 1984`.
pub(super) fn spelled(text: &[u8], at: usize) -> Option<Range<usize>> {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        rest.iter().take(5).take_while(|byte| byte.is_ascii_digit()).count()
    };
    let day = digits(at);
    if !(1..=2).contains(&day) {
        return None;
    }
    let mut end = at + day;
    if matches!(text.get(end..end + 2), Some(b"st" | b"nd" | b"rd" | b"th")) {
        end += 2;
    }
    let (start, year) = match month_before(text, at) {
        Some(start) => (start, skip(text, end, b", ")),
        None => {
            let month = skip(text, end, b". ");
            let month = skip_word(text, month, "de ").unwrap_or(month);
            let after = month_at(text, month)?;
            let year = skip(text, after, b"., ");
            (at, skip_word(text, year, "de ").unwrap_or(year))
        }
    };
    let good = digits(year) == 4 && context::birth(text, start);
    good.then(|| start..year + 4)
}

fn skip(text: &[u8], from: usize, these: &[u8]) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().take(3).take_while(|byte| these.contains(byte)).count()
}

fn skip_word(text: &[u8], from: usize, word: &str) -> Option<usize> {
    text.get(from..)?.starts_with(word.as_bytes()).then(|| from + word.len())
}

fn is_letter(byte: &u8) -> bool {
    byte.is_ascii_alphabetic() || !byte.is_ascii()
}

fn is_month(word: &[u8]) -> bool {
    MONTHS.iter().any(|month| {
        word.get(..month.len()).is_some_and(|start| start.eq_ignore_ascii_case(month.as_bytes()))
    })
}

/// The end of the month's name that begins here.
fn month_at(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let word = rest.get(..rest.iter().take(12).take_while(|byte| is_letter(byte)).count())?;
    is_month(word).then(|| from + word.len())
}

/// The start of the month's name that ends before this place.
fn month_before(text: &[u8], at: usize) -> Option<usize> {
    let before = text.get(..at)?.strip_suffix(b" ")?;
    let before = before.strip_suffix(b".").unwrap_or(before);
    let length = before.iter().rev().take(12).take_while(|byte| is_letter(byte)).count();
    let start = before.len() - length;
    is_month(before.get(start..)?).then_some(start)
}
