//! How far a string goes on plainly.

/// The first byte from `at` on that a string cannot simply hold: a quote, a backslash, a control
/// character. Short strings, which most are, are looked at eight bytes at a time in a register; long ones
/// with vector instructions.
#[inline]
pub(crate) fn plain_until(body: &[u8], at: usize) -> usize {
    let mut offset = at;
    for word in body.get(at..).unwrap_or_default().as_chunks::<8>().0.iter().take(SHORT / 8) {
        match first_special(u64::from_le_bytes(*word)) {
            8 => offset += 8,
            found => return offset + found,
        }
    }
    long_until(body, offset)
}

/// Bytes up to which a string is short.
const SHORT: usize = 24;

/// The same for what is long, or at the end. Apart, so that short strings pay nothing for it.
#[inline(never)]
fn long_until(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    if rest.len() < 8 {
        return at + rest.iter().position(|byte| is_special(*byte)).unwrap_or(rest.len());
    }
    let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
    let plain = rest.get(..end).unwrap_or(rest);
    // The smallest byte is found by vector instructions; where there is a control character is asked
    // only if there is one.
    if plain.iter().fold(u8::MAX, |least, byte| least.min(*byte)) >= 0x20 {
        return at + end;
    }
    at + plain.iter().position(|byte| is_special(*byte)).unwrap_or(end)
}

fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The place of the first special byte of eight; 8 if there is none. See Anderson, "Bit Twiddling Hacks":
/// a byte's high bit is set where it is zero, or less than a bound, and the lowest one set is right.
fn first_special(word: u64) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let zero = |word: u64| word.wrapping_sub(ONES) & !word;
    let quote = zero(word ^ (ONES * u64::from(b'"')));
    let backslash = zero(word ^ (ONES * u64::from(b'\\')));
    let control = word.wrapping_sub(ONES * 0x20) & !word;
    (((quote | backslash | control) & (ONES << 7)).trailing_zeros() / 8) as usize
}
