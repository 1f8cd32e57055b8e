//! Checksums. Each takes digits as numbers, or characters, and says whether they agree.

/// Luhn's: payment cards, and the id numbers of several countries.
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) * 2;
            if place % 2 == 0 { u32::from(*digit) } else { doubled / 10 + doubled % 10 }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// The weighted sum of digits.
fn weighted(digits: &[u8], weights: &[i32]) -> i32 {
    digits.iter().zip(weights).map(|(digit, weight)| i32::from(*digit) * weight).sum()
}

fn digit(digits: &[u8], at: usize) -> i32 {
    digits.get(at).copied().map_or(0, i32::from)
}

/// Digits as one number.
pub(super) fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

/// Whether all digits are the same: it satisfies many checksums and is nobody's.
pub(super) fn uniform(digits: &[u8]) -> bool {
    digits.windows(2).all(|pair| pair.first() == pair.last())
}

/// A day and a month that exist.
pub(super) fn day_and_month(day: u64, month: u64) -> bool {
    (1..=12).contains(&month) && (1..=31).contains(&day)
}

/// The remainder of an IBAN, moved and spelled in digits as ISO 13616 says; 1 when it is good.
pub(super) fn iban(characters: &[u8]) -> u32 {
    let (head, tail) = characters.split_at(characters.len().min(4));
    tail.iter().chain(head).fold(0, |rest, character| match character {
        b'0'..=b'9' => (rest * 10 + u32::from(character - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase().wrapping_sub(b'A')) + 10) % 97,
    })
}

/// Brazil's CPF.
pub(super) fn cpf(digits: &[u8]) -> bool {
    let check = |length: usize| {
        let weights: Vec<i32> = (2..=length as i32 + 1).rev().collect();
        let rest = weighted(digits, &weights) * 10 % 11 % 10;
        rest == digit(digits, length)
    };
    digits.len() == 11 && !uniform(digits) && check(9) && check(10)
}

/// France's NIR: thirteen digits, and 97 less their remainder.
pub(super) fn nir(digits: &[u8]) -> bool {
    let Some((body, key)) = digits.split_at_checked(13) else { return false };
    let month = number(body.get(3..5).unwrap_or_default());
    let known = matches!(month, 1..=12 | 20..=42 | 50..=99);
    key.len() == 2 && matches!(body.first(), Some(1 | 2)) && known && 97 - number(body) % 97 == number(key)
}

/// ISO 7064 mod 11,10: Germany's tax id.
pub(super) fn steuer_id(digits: &[u8]) -> bool {
    let Some((check, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, digit| {
        let sum = (u32::from(*digit) + product) % 10;
        let sum = if sum == 0 { 10 } else { sum };
        sum * 2 % 11
    });
    digits.len() == 11 && body.first() != Some(&0) && (11 - product) % 10 == u32::from(*check)
}

/// The NHS number of the United Kingdom.
pub(super) fn nhs(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[10, 9, 8, 7, 6, 5, 4, 3, 2]);
    digits.len() == 10 && !uniform(digits) && (11 - sum % 11) % 11 == digit(digits, 9)
}

/// The BSN of the Netherlands.
pub(super) fn bsn(digits: &[u8]) -> bool {
    digits.len() == 9
        && !uniform(digits)
        && weighted(digits, &[9, 8, 7, 6, 5, 4, 3, 2, -1]).rem_euclid(11) == 0
}

/// Poland's PESEL: a date, which century it is in, and a check digit.
pub(super) fn pesel(digits: &[u8]) -> bool {
    let month = number(digits.get(2..4).unwrap_or_default()) % 20;
    let day = number(digits.get(4..6).unwrap_or_default());
    let sum = weighted(digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3]);
    digits.len() == 11 && day_and_month(day, month) && (10 - sum % 10) % 10 == digit(digits, 10)
}

/// Turkey's identity number.
pub(super) fn tckn(digits: &[u8]) -> bool {
    let odd: i32 = [0, 2, 4, 6, 8].map(|at| digit(digits, at)).iter().sum();
    let even: i32 = [1, 3, 5, 7].map(|at| digit(digits, at)).iter().sum();
    let sum: i32 = digits.iter().take(10).copied().map(i32::from).sum();
    digits.len() == 11
        && digit(digits, 0) != 0
        && (odd * 7 - even).rem_euclid(10) == digit(digits, 9)
        && sum % 10 == digit(digits, 10)
}

/// Sweden's personal number: a date, and Luhn's over the last ten.
pub(super) fn personnummer(digits: &[u8]) -> bool {
    let Some(last) = digits.len().checked_sub(10).and_then(|from| digits.get(from..)) else { return false };
    let month = number(last.get(2..4).unwrap_or_default());
    let day = number(last.get(4..6).unwrap_or_default());
    matches!(digits.len(), 10 | 12) && day_and_month(day % 60, month) && luhn(last)
}

/// India's Aadhaar, by Verhoeff's scheme over the dihedral group of order ten.
pub(super) fn aadhaar(digits: &[u8]) -> bool {
    let multiply = |a: u8, b: u8| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => (a + b - 5) % 5 + 5,
        (false, true) => (a + 5 - b) % 5 + 5,
        (false, false) => (a + 5 - b) % 5,
    };
    const PERMUTED: [u8; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let permute = |times: usize, digit: u8| {
        (0..times % 8).fold(digit, |digit, _| PERMUTED.get(usize::from(digit)).copied().unwrap_or(0))
    };
    let rest =
        digits.iter().rev().enumerate().fold(0, |rest, (at, digit)| multiply(rest, permute(at, *digit)));
    digits.len() == 12 && digit(digits, 0) > 1 && rest == 0
}

/// South Korea's registration number: a date and a check digit.
pub(super) fn rrn(digits: &[u8]) -> bool {
    let sum = weighted(digits, &[2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5]);
    let month = number(digits.get(2..4).unwrap_or_default());
    let day = number(digits.get(4..6).unwrap_or_default());
    digits.len() == 13 && day_and_month(day, month) && (11 - sum % 11) % 10 == digit(digits, 12)
}

/// China's resident id: 17 digits with a date in them, and a check character of which `10` is an X.
pub(super) fn resident_id(digits: &[u8], check: u8) -> bool {
    let sum = weighted(digits, &[7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]);
    let year = number(digits.get(6..10).unwrap_or_default());
    let month = number(digits.get(10..12).unwrap_or_default());
    let day = number(digits.get(12..14).unwrap_or_default());
    digits.len() == 17
        && (1900..=2099).contains(&year)
        && day_and_month(day, month)
        && (12 - sum % 11) % 11 == i32::from(check)
}

/// Belgium's national number: nine digits, and 97 less their remainder.
pub(super) fn national_number(digits: &[u8]) -> bool {
    let (body, key) = digits.split_at(digits.len().min(9));
    let (body, key) = (number(body), number(key));
    digits.len() == 11 && (97 - body % 97 == key || 97 - (2_000_000_000 + body) % 97 == key)
}

/// South Africa's id: a date, and Luhn's.
pub(super) fn south_africa(digits: &[u8]) -> bool {
    let month = number(digits.get(2..4).unwrap_or_default());
    let day = number(digits.get(4..6).unwrap_or_default());
    digits.len() == 13 && day_and_month(day, month) && digit(digits, 10) < 2 && luhn(digits)
}

/// The tax file number of Australia.
pub(super) fn tfn(digits: &[u8]) -> bool {
    digits.len() == 9
        && !uniform(digits)
        && weighted(digits, &[1, 4, 3, 7, 5, 8, 6, 9, 10]).rem_euclid(11) == 0
}

/// The letter of a Spanish DNI or NIE.
pub(super) fn dni_letter(number: u64) -> u8 {
    const LETTERS: &[u8; 23] = b"TRWAGMYFPDXBNJZSQVHLCKE";
    LETTERS.get((number % 23) as usize).copied().unwrap_or(b'?')
}

/// Italy's tax code: 15 characters and a check letter.
pub(super) fn codice_fiscale(code: &[u8]) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    // A digit counts as the letter of its number.
    let value = |character: u8| match character {
        b'0'..=b'9' => usize::from(character - b'0'),
        letter => usize::from(letter.to_ascii_uppercase().wrapping_sub(b'A')),
    };
    let sum: u32 = code
        .iter()
        .take(15)
        .enumerate()
        .map(|(place, character)| match place % 2 {
            0 => ODD.get(value(*character)).copied().unwrap_or(0),
            _ => value(*character) as u32,
        })
        .sum();
    let is_code = code.iter().enumerate().all(|(place, character)| match place {
        0..6 | 8 | 11 | 15 => character.is_ascii_alphabetic(),
        // Letters stand for digits where two people would share a code.
        _ => character.is_ascii_alphanumeric(),
    });
    code.len() == 16 && is_code && code.last().is_some_and(|last| value(*last) as u32 == sum % 26)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_digit).map(|digit| digit - b'0').collect()
    }

    /// Every number passes, and none of its neighbours that differ in one digit does.
    #[track_caller]
    fn single_errors(text: &str, check: fn(&[u8]) -> bool) {
        let good = digits(text);
        assert!(check(&good), "{text}");
        for place in 0..good.len() {
            for other in 0..10 {
                let mut bad = good.clone();
                bad[place] = other;
                assert_eq!(check(&bad), bad == good, "{bad:?}");
            }
        }
    }

    #[test]
    fn published_examples_pass_and_single_errors_do_not() {
        single_errors("4111 1111 1111 1111", luhn);
        single_errors("9999 4105 7058", aadhaar);
        single_errors("943 476 5919", nhs);
    }

    #[test]
    fn published_examples_pass() {
        type Check = fn(&[u8]) -> bool;
        let examples: [(&str, Check); 12] = [
            ("111.444.777-35", cpf),
            ("2 55 08 14 168 025 38", nir),
            ("86095742719", steuer_id),
            ("111222333", bsn),
            ("44051401359", pesel),
            ("10000000146", tckn),
            ("811228-9874", personnummer),
            ("85.07.30-033.28", national_number),
            ("8001015009087", south_africa),
            ("123 456 782", tfn),
            ("378282246310005", luhn),
            ("900101-1234568", rrn),
        ];
        for (text, check) in examples {
            let good = digits(text);
            assert!(check(&good), "{text}");
            let mut bad = good.clone();
            let last = bad.last_mut().unwrap();
            *last = (*last + 1) % 10;
            assert!(!check(&bad), "{text}");
        }
        assert!(resident_id(&digits("11010519491231002"), 10));
        assert!(!resident_id(&digits("11010519491231002"), 9));
        assert_eq!(dni_letter(12_345_678), b'Z');
        assert!(codice_fiscale(b"RSSMRA85T10A562S"));
        assert!(!codice_fiscale(b"RSSMRA85T10A562T"));
    }

    #[test]
    fn ibans_leave_one() {
        for good in ["GB82WEST12345698765432", "DE89370400440532013000", "FR1420041010050500013M02606"] {
            assert_eq!(iban(good.as_bytes()), 1, "{good}");
            assert_ne!(iban(good.replace('5', "6").replace('7', "8").as_bytes()), 1);
        }
    }
}
