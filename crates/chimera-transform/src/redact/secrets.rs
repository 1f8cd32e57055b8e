//! Tokens that look like secrets: keys of vendors, web tokens, and strings that no language makes.

use super::{context, keys, kind::Kind};

/// Longer tokens are data, not secrets: encoded pictures and the like.
const LONGEST: usize = 512;

/// What a token holds, and where in it.
pub(super) fn find(text: &[u8], token: std::ops::Range<usize>) -> Option<(Kind, std::ops::Range<usize>)> {
    let bytes = text.get(token.clone())?;
    let absolute = |range: std::ops::Range<usize>| range.start + token.start..range.end + token.start;
    if let Some(range) = keys::find(bytes) {
        return Some((Kind::ApiKey, absolute(range)));
    }
    if let Some(range) = jwt(bytes) {
        return Some((Kind::Jwt, absolute(range)));
    }
    if bytes.len() > LONGEST {
        return None;
    }
    let said = context::secret(text, token.start) && follows_a_name(text, token.start);
    let pieces = if said { Some(bytes).into_iter().chain(None) } else { longest_piece(bytes) };
    pieces.map(|piece| piece.trim_ascii_end()).find(|piece| is_random(piece, said)).map(|piece| {
        let at = memchr::memmem::find(bytes, piece).unwrap_or(0);
        let end = at + piece.len();
        // Padding belongs to it.
        let padding = text.get(token.start + end..).unwrap_or_default();
        let padding = padding.iter().take(2).take_while(|byte| **byte == b'=').count();
        (Kind::Secret, absolute(at..end + padding))
    })
}

/// The length of the PEM block that a text begins with: to its last line, or to the end of the text
/// where it has none.
pub(super) fn pem(text: &[u8]) -> usize {
    const END: &[u8] = b"-----END ";
    let Some(end) = memchr::memmem::find(text, END) else { return text.len() };
    let rest = text.get(end + END.len()..).unwrap_or_default();
    let last = memchr::memmem::find(rest.get(..64).unwrap_or(rest), b"-----");
    end + END.len() + last.map_or(0, |at| at + 5)
}

/// A Telegram bot's token: the bot's number, a colon, 35 characters.
pub(super) fn bot_token(text: &[u8], number: std::ops::Range<usize>) -> Option<std::ops::Range<usize>> {
    let rest = text.get(number.end..)?.strip_prefix(b":")?;
    let length = rest.iter().take(36).take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte));
    let good = (8..=10).contains(&number.len()) && length.count() == 35;
    good.then(|| number.start..number.end + 36)
}

type Pieces<'a> = std::iter::Chain<std::option::IntoIter<&'a [u8]>, std::option::IntoIter<&'a [u8]>>;

/// The longest part of a token between dots and slashes; and the whole, where it is base64 that has a
/// slash in it.
fn longest_piece(bytes: &[u8]) -> Pieces<'_> {
    let longest = bytes.split(|byte| matches!(byte, b'/' | b'.')).max_by_key(|piece| piece.len());
    let slashes = bytes.iter().filter(|byte| **byte == b'/').count();
    let whole = (slashes > 0 && slashes <= 4 && !bytes.contains(&b'.') && bytes.len() >= 32).then_some(bytes);
    whole.into_iter().chain(longest)
}

/// Three parts of base64url, of which the first two are JSON objects.
fn jwt(token: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = memchr::memmem::find(token, b"eyJ")?;
    let body = token.get(start..)?;
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut parts = body.split(|byte| *byte == b'.');
    let (head, claims) = (parts.next()?, parts.next()?);
    let signature = parts.next().unwrap_or_default();
    let signed = signature.iter().take_while(|byte| is_part(byte)).count();
    let good = head.len() >= 10 && claims.len() >= 10 && claims.starts_with(b"eyJ");
    let plain = head.iter().chain(claims).all(is_part);
    (good && plain).then(|| start..start + head.len() + 1 + claims.len() + usize::from(signed > 0) + signed)
}

/// Whether the token is what a name before it stands for: `key=`, `key: `, `"key": "`.
fn follows_a_name(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let sign = before.iter().rev().take(4).find(|byte| !b" \"'`".contains(byte));
    let tail = before.get(before.len().saturating_sub(7)..).unwrap_or_default();
    matches!(sign, Some(b'=' | b':')) || tail.eq_ignore_ascii_case(b"bearer ")
}

/// Whether a string is too irregular for a name or a word.
fn is_random(piece: &[u8], said: bool) -> bool {
    let count = |is: fn(&u8) -> bool| piece.iter().filter(|byte| is(byte)).count();
    let (upper, lower, digits) =
        (count(u8::is_ascii_uppercase), count(u8::is_ascii_lowercase), count(u8::is_ascii_digit));
    if said {
        return piece.len() >= 16 && digits > 0 && upper + lower > 0 && entropy(piece) >= 3.0;
    }
    if piece.len() < 24 || upper == 0 || lower == 0 || digits < 2 {
        return false;
    }
    let class = |byte: &u8| (byte.is_ascii_uppercase(), byte.is_ascii_lowercase(), byte.is_ascii_digit());
    let changes = piece.windows(2).filter(|pair| pair.first().map(class) != pair.last().map(class)).count();
    // Names change between words; random strings change two times out of three.
    changes * 20 >= piece.len() * 9 && entropy(piece) >= 3.5
}

/// Bits for each character.
fn entropy(piece: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in piece {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let all = piece.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / all;
            -share * share.log2()
        })
        .sum()
}
