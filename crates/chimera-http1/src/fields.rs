//! Header fields: lists in them, and values that share one copy.

use bytes::Bytes;
use http::HeaderValue;

/// The words of a list, without the white space around them.
pub fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|word| !word.is_empty())
}

/// The slice of `copy` that stands where `part` stands in `original`.
pub fn within(copy: &Bytes, original: &[u8], part: &[u8]) -> Bytes {
    let start = (part.as_ptr() as usize).wrapping_sub(original.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= copy.len() => copy.slice(start..end),
        _ => Bytes::copy_from_slice(part),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_cut_at_commas() {
        let value = HeaderValue::from_static(" a , ,b,\tc");
        assert_eq!(tokens(&value).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }

    #[test]
    fn a_part_is_found_in_the_copy_and_anything_else_is_copied() {
        let original = b"hello, world".to_vec();
        let copy = Bytes::copy_from_slice(&original);
        let part = within(&copy, &original, &original[7..]);
        assert_eq!((&part[..], part.as_ptr()), (&b"world"[..], copy[7..].as_ptr()));
        assert_eq!(within(&copy, &original, b"elsewhere"), "elsewhere");
        assert_eq!(within(&copy, &original, b""), "");
    }
}
