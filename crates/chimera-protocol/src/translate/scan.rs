//! Whether the JSON that comes in fragments is whole, without keeping it.

use super::text::Text;

/// Follows the nesting of one JSON object through its fragments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Scan {
    depth: u32,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Scan {
    /// Whether the object has begun and ended.
    pub(crate) fn is_whole(self) -> bool {
        self.begun && self.depth == 0
    }

    /// Takes a fragment in.
    pub(crate) fn add(&mut self, fragment: &Text<'_>) {
        for byte in fragment.plain().bytes() {
            self.byte(byte);
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => {
                self.begun = true;
                self.depth = self.depth.saturating_add(1);
            }
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_whole_at_its_last_bracket_and_not_before() {
        let json = r#"{"a":"}\"{","b":[{}]}"#;
        for cut in 0..=json.len() {
            let mut scan = Scan::default();
            scan.add(&json[..cut].into());
            assert_eq!(scan.is_whole(), cut == json.len(), "{cut}");
            scan.add(&json[cut..].into());
            assert!(scan.is_whole());
        }
    }
}
