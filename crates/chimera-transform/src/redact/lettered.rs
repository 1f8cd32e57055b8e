//! Numbers that begin with letters: IBANs and some national ids.

use std::ops::Range;

use super::{checks, kind::Kind};

/// The length of an IBAN in each country that has them.
const IBANS: [(&[u8; 2], usize); 75] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NL", 18),
    (b"NO", 15),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"SA", 24),
    (b"SC", 31),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"ST", 25),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
];

/// What a token that begins with letters is, from where its first digit is seen.
pub(super) fn find(text: &[u8], start: usize) -> Option<(Kind, Range<usize>)> {
    let token = text.get(start..(start + 48).min(text.len()))?;
    if let Some(length) = iban(token) {
        return Some((Kind::Iban, start..start + length));
    }
    let length = token.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
    is_id(token.get(..length)?).then(|| (Kind::NationalId, start..start + length))
}

/// The length of the IBAN that a text begins with, spaces included.
fn iban(text: &[u8]) -> Option<usize> {
    let [one, two, b'0'..=b'9', b'0'..=b'9', ..] = text else { return None };
    let country = [one.to_ascii_uppercase(), two.to_ascii_uppercase()];
    let (_, wanted) = IBANS.iter().find(|(name, _)| **name == country)?;
    let mut characters = [0_u8; 34];
    let (mut count, mut at) = (0, 0);
    while count < *wanted {
        let byte = *text.get(at)?;
        at += 1;
        match byte {
            // Written in fours.
            b' ' | b'-' if count % 4 == 0 => {}
            _ if byte.is_ascii_alphanumeric() => {
                *characters.get_mut(count)? = byte;
                count += 1;
            }
            _ => return None,
        }
    }
    let ends = !text.get(at).is_some_and(u8::is_ascii_alphanumeric);
    (ends && checks::iban(characters.get(..count)?) == 1).then_some(at)
}

/// Spain's NIE, Italy's tax code, and the national insurance number of the United Kingdom.
fn is_id(token: &[u8]) -> bool {
    let digits = |range: Range<usize>| {
        let part = token.get(range).unwrap_or_default();
        part.iter()
            .all(u8::is_ascii_digit)
            .then(|| part.iter().fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
    };
    match token {
        [first @ b'X'..=b'Z', .., last] if token.len() == 9 => digits(1..8)
            .is_some_and(|number| checks::dni_letter(u64::from(first - b'X') * 10_000_000 + number) == *last),
        [b'A'..=b'Z', b'A'..=b'Z', .., b'A'..=b'D'] if token.len() == 9 => {
            let reserved = [b"BG", b"GB", b"KN", b"NK", b"NT", b"TN", b"ZZ"];
            digits(2..8).is_some() && !reserved.iter().any(|pair| token.starts_with(*pair))
        }
        _ => token.len() == 16 && checks::codice_fiscale(token),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ibans_are_found_spaced_or_not_and_end_where_they_end() {
        for (text, length) in [
            ("DE89370400440532013000", 22),
            ("DE89 3704 0044 0532 0130 00, please", 27),
            ("gb82 west 1234 5698 7654 32", 27),
        ] {
            assert_eq!(iban(text.as_bytes()), Some(length), "{text}");
        }
        for text in [
            "DE89370400440532013001",
            "DE8937040044053201300",
            "DE893704004405320130000",
            "XX89370400440532013000",
        ] {
            assert_eq!(iban(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_that_begin_with_letters() {
        for good in ["X1234567L", "AB123456C", "RSSMRA85T10A562S"] {
            assert!(is_id(good.as_bytes()), "{good}");
        }
        for bad in ["X1234567M", "GB123456C", "AB123456E", "RSSMRA85T10A562X", "ABCDEFGHI"] {
            assert!(!is_id(bad.as_bytes()), "{bad}");
        }
    }
}
