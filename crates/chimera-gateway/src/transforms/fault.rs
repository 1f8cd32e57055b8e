//! Which item of a batch makes its body no JSON.

/// The item that the byte at `offset` stands in, by its number. The body up to there was read and found sound.
pub(super) fn item_at(body: &[u8], offset: usize) -> Option<usize> {
    let mut depth = 0_usize;
    // The string that was last read where the outermost members stand, and the item now read.
    let (mut name, mut item) = (0..0, None);
    let mut at = 0;
    while let Some(byte) = body.get(at).filter(|_| at < offset) {
        match byte {
            b'"' => {
                let end = string_end(body, at + 1);
                if depth == 1 {
                    name = at + 1..end;
                }
                at = end;
            }
            b'{' | b'[' => {
                depth += 1;
                if *byte == b'[' && depth == 2 && body.get(name.clone()) == Some(b"items") {
                    item = Some(0);
                }
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                item = item.filter(|_| depth > 1);
            }
            b',' if depth == 2 => item = item.map(|item| item + 1),
            _ => {}
        }
        at += 1;
    }
    item
}

/// The place of the quote that ends a string.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = body.get(at).filter(|byte| **byte != b'"') {
        at += if *byte == b'\\' { 2 } else { 1 };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_stands_in_an_item_or_in_none() {
        let body = r#"{"steps":["redact", "a"],"items" : [{"text":"a, [\"b"}, {"text":["x",{"y":[1]}]} ,3],"items2":[1],"x":"items"}"#;
        for (found, item) in [
            ("steps", None),
            ("a\"]", None),
            ("a, [", Some(0)),
            ("x\"", Some(1)),
            ("1]}]", Some(1)),
            ("3]", Some(2)),
            ("1],\"x", None),
            ("items\"}", None),
        ] {
            assert_eq!(item_at(body.as_bytes(), body.find(found).unwrap()), item, "{found}");
        }
        assert_eq!(item_at(body.as_bytes(), usize::MAX), None);
        assert_eq!(item_at(br#"{"items":[1,"tor"#, 16), Some(1));
        assert_eq!(item_at(b"]}[", 3), None);
    }
}
