//! A quick look at a document that somebody else wrote: is it sound, and where are its outermost members.
//!
//! A provider's answer is passed on as it came, so it is not held to the strictness that a request meets
//! in [`Document`](super::Document): duplicate keys, lone surrogates and bytes that are not UTF-8 are
//! the caller's to judge. It must be JSON in its structure, or it is no answer.

use super::{JsonError, JsonErrorKind as E, MAX_DEPTH, plain_until};

/// Checks that a body is one object, and shows its outermost members: names as they are spelled, without
/// quotes, and values as they stand.
pub(crate) fn members<'a>(body: &'a [u8], mut each: impl FnMut(&'a [u8], &'a [u8])) -> Result<(), JsonError> {
    let mut skim = Skim { body, at: 0 };
    skim.space();
    skim.expect(b'{')?;
    skim.space();
    if skim.peek() == Some(b'}') {
        skim.at += 1;
    } else {
        loop {
            let name = skim.name()?;
            let start = skim.at;
            skim.value()?;
            each(name, body.get(start..skim.at).unwrap_or_default());
            skim.space();
            match skim.next()? {
                b',' => skim.space(),
                b'}' => break,
                _ => return skim.fail(E::UnexpectedByte),
            }
        }
    }
    skim.space();
    if skim.at < body.len() { skim.fail(E::TrailingBytes) } else { Ok(()) }
}

struct Skim<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Skim<'a> {
    fn fail<T>(&self, kind: E) -> Result<T, JsonError> {
        let kind = if self.at > self.body.len() { E::Truncated } else { kind };
        Err(JsonError { offset: self.at.min(self.body.len()), kind })
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, JsonError> {
        let byte = self.peek();
        self.at += 1;
        match byte {
            Some(byte) => Ok(byte),
            None => self.fail(E::Truncated),
        }
    }

    fn expect(&mut self, wanted: u8) -> Result<(), JsonError> {
        if self.next()? == wanted { Ok(()) } else { self.fail(E::UnexpectedByte) }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    /// A member's name and what stands before its value.
    fn name(&mut self) -> Result<&'a [u8], JsonError> {
        self.expect(b'"')?;
        let start = self.at;
        self.string()?;
        let name = self.body.get(start..self.at - 1).unwrap_or_default();
        self.space();
        self.expect(b':')?;
        self.space();
        Ok(name)
    }

    /// The rest of a string, behind its first quote.
    fn string(&mut self) -> Result<(), JsonError> {
        loop {
            self.at = plain_until(self.body, self.at);
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            if !self.next()?.is_ascii_hexdigit() {
                                return self.fail(E::BadEscape);
                            }
                        }
                    }
                    _ => return self.fail(E::BadEscape),
                },
                _ => return self.fail(E::ControlCharacter),
            }
        }
    }

    /// A value, whatever it holds: nesting is a bit each, so that no depth costs stack.
    fn value(&mut self) -> Result<(), JsonError> {
        let (mut depth, mut objects) = (0, 0_u128);
        loop {
            match self.next()? {
                b'"' => self.string()?,
                open @ (b'{' | b'[') => {
                    self.space();
                    if self.peek() == Some(open + 2) {
                        // The bracket that closes is two further in ASCII, in both pairs.
                        self.at += 1;
                    } else if depth + 1 >= MAX_DEPTH {
                        return self.fail(E::TooDeep);
                    } else {
                        depth += 1;
                        objects = objects << 1 | u128::from(open == b'{');
                        if open == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                b't' => self.word(b"rue")?,
                b'f' => self.word(b"alse")?,
                b'n' => self.word(b"ull")?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => return self.fail(E::UnexpectedByte),
            }
            loop {
                if depth == 0 {
                    return Ok(());
                }
                self.space();
                let in_object = objects & 1 == 1;
                match self.next()? {
                    b',' => {
                        self.space();
                        if in_object {
                            self.name()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return self.fail(E::UnexpectedByte),
                }
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), JsonError> {
        match self.body.get(self.at..).is_some_and(|body| body.starts_with(rest)) {
            true => self.at += rest.len(),
            false => return self.fail(E::UnexpectedByte),
        }
        Ok(())
    }

    /// The rest of a number, behind its first byte.
    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at - 1;
        while let Some(b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-') = self.peek() {
            self.at += 1;
        }
        let text = self.body.get(start..self.at).unwrap_or_default();
        if is_number(text) { Ok(()) } else { self.fail(E::BadNumber) }
    }
}

/// The grammar of numbers (RFC 8259, section 6).
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    if whole == 0 || (whole > 1 && text.first() == Some(&b'0')) {
        return false;
    }
    let mut rest = text.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        if length == 0 {
            return false;
        }
        rest = fraction.get(length..).unwrap_or_default();
    }
    if let Some(exponent) = rest.strip_prefix(b"e").or_else(|| rest.strip_prefix(b"E")) {
        let exponent =
            exponent.strip_prefix(b"+").or_else(|| exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let length = digits(exponent);
        return length > 0 && length == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(body: &[u8]) -> Result<Vec<(String, String)>, JsonError> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found = Vec::new();
        members(body, |name, value| found.push((text(name), text(value))))?;
        Ok(found)
    }

    #[test]
    fn the_outermost_members_are_shown_as_they_stand() {
        let body = br#" { "a" : [1, {"b":"}"}] , "c\"":"x\\" ,"d":{} ,"e":-1.5e+3,"f":null } "#;
        let members = found(body).unwrap();
        let members: Vec<_> = members.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            members,
            [
                ("a", r#"[1, {"b":"}"}]"#),
                (r#"c\""#, r#""x\\""#),
                ("d", "{}"),
                ("e", "-1.5e+3"),
                ("f", "null")
            ]
        );
        assert!(found(b"{}").unwrap().is_empty());
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
        assert!(found(deep.as_bytes()).is_ok());
        let deeper = format!("{{\"a\":{}", "[".repeat(10_000));
        assert_eq!(found(deeper.as_bytes()).unwrap_err().kind, E::TooDeep);
    }

    #[test]
    fn what_a_caller_may_judge_itself_passes() {
        for body in [&br#"{"a":1,"a":2}"#[..], br#"{"a":"\ud83d"}"#, b"{\"a\":\"\xff\"}", br#"{"a":1e999}"#] {
            assert!(found(body).is_ok(), "{}", body.escape_ascii());
        }
    }

    /// A document, and what a few changed bytes make of it: both parsers agree on which are JSON.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let base = br#"{"a":[1,2.5,-0,{"b":null}],"c":"x\n\u00e9","d":{"e":true,"f":[]},"g":1e-7,"h":false}"#;
        prop::collection::vec(
            (0..base.len(), prop::sample::select(&b"{}[]\",:\\01-+.eEtfnu \n\x01x"[..])),
            0..4,
        )
        .prop_map(move |changes| {
            let mut body = base.to_vec();
            changes.iter().for_each(|(at, byte)| body[*at] = *byte);
            body
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn u08_it_is_as_strict_as_serde_about_what_is_json(body in damaged()) {
            let serde = serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(&body);
            // A name with half a surrogate pair is one that serde must decode and this need not.
            let escapes = body.windows(2).any(|pair| pair == b"\\u");
            prop_assert!(serde.is_ok() == found(&body).is_ok() || (escapes && found(&body).is_ok()));
        }

        #[test]
        fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = found(&body);
        }
    }
}
