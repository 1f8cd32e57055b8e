//! What has an `@` or colons in it: email addresses, credentials in URLs, IPv6 addresses.

use std::{net::Ipv6Addr, ops::Range};

/// The longest local part, and the longest domain.
const LOCAL: usize = 64;
const DOMAIN: usize = 255;

/// The email address around an `@`.
pub(super) fn email(text: &[u8], at: usize) -> Option<Range<usize>> {
    let before = text.get(at.saturating_sub(LOCAL)..at)?;
    // Latin letters with marks are two bytes, of which the first is one of these.
    let local = before.iter().rev().take_while(|byte| is_local(**byte)).count();
    let lead = before.get(before.len() - local..)?.iter().take_while(|byte| !is_first(**byte)).count();
    let start = at - local + lead;
    if start == at || text.get(at - 1) == Some(&b'.') {
        return None;
    }
    let after = text.get(at + 1..(at + 1 + DOMAIN).min(text.len()))?;
    let mut domain = after.iter().take_while(|byte| is_domain(**byte)).count();
    while domain > 0 && after.get(domain - 1).is_some_and(|byte| matches!(byte, b'.' | b'-')) {
        domain -= 1;
    }
    let domain = after.get(..domain)?;
    let dot = memchr::memrchr(b'.', domain)?;
    let top = domain.get(dot + 1..)?;
    let good = dot > 0
        && top.len() >= 2
        && top.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii())
        && !domain.windows(2).any(|pair| pair == b"..");
    let punycode = top.starts_with(b"xn--");
    (good || punycode).then(|| start..at + 1 + domain.len())
}

fn is_first(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, 0xc3..=0xc5 | b'_')
}

fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"._%+-'".contains(&byte) || matches!(byte, 0x80..=0xbf | 0xc3..=0xc5)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-".contains(&byte) || matches!(byte, 0x80..=0xbf | 0xc3..=0xc5)
}

/// User name and password behind a URL's `//`, with the `@` that ends them.
pub(super) fn credentials(text: &[u8], start: usize) -> Option<Range<usize>> {
    let rest = text.get(start..(start + 256).min(text.len()))?;
    let authority =
        rest.iter().take_while(|byte| byte.is_ascii_graphic() && !b"/?#\"'<>`".contains(byte)).count();
    let authority = rest.get(..authority)?;
    let end = memchr::memrchr(b'@', authority)?;
    let colon = memchr::memchr(b':', authority.get(..end)?)?;
    (colon + 1 < end).then(|| start..start + end + 1)
}

/// The longest IPv6 address.
const IPV6: usize = 45;

/// The IPv6 address around its first colon.
pub(super) fn ipv6(text: &[u8], at: usize) -> Option<Range<usize>> {
    let before = text.get(at.saturating_sub(4)..at)?;
    let head = before.iter().rev().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let start = at - head;
    let outside = start.checked_sub(1).and_then(|before| text.get(before)).copied().unwrap_or(b' ');
    let rest = text.get(start..(start + IPV6).min(text.len()))?;
    let length = rest.iter().take_while(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)).count();
    let next = rest.get(length).copied().unwrap_or(b' ');
    let token = rest.get(..length)?;
    let token = token.strip_suffix(b".").or(token.strip_suffix(b":")).unwrap_or(token);
    let colons = memchr::memchr_iter(b':', token).take(2).count();
    if colons < 2
        || outside.is_ascii_alphanumeric()
        || b":._".contains(&outside)
        || next.is_ascii_alphanumeric()
    {
        return None;
    }
    let address: Ipv6Addr = std::str::from_utf8(token).ok()?.parse().ok()?;
    // `a::b` is code far more often than it is a machine.
    let digits = token.iter().filter(|byte| byte.is_ascii_hexdigit()).count();
    let plausible = digits >= 4 && token.iter().any(u8::is_ascii_digit);
    (plausible && !address.is_loopback()).then(|| start..start + token.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, mark: char) -> usize {
        text.find(mark).unwrap()
    }

    #[test]
    fn emails_end_where_they_end() {
        for (text, found) in [
            ("ada@example.com", Some("ada@example.com")),
            ("<ada.l+x@mail.example.co.uk>.", Some("ada.l+x@mail.example.co.uk")),
            ("'ada@example.com'.", Some("ada@example.com")),
            ("schreib müller@beispiel.de,", Some("müller@beispiel.de")),
            ("a@b", None),
            ("a@b.c", None),
            ("@home.example", None),
            ("x.@example.com", None),
            ("a@example..com", None),
            ("a@1.2", None),
        ] {
            let range = email(text.as_bytes(), at(text, '@'));
            assert_eq!(range.map(|range| &text[range]), found, "{text}");
        }
    }

    #[test]
    fn credentials_are_all_before_the_last_at() {
        for (text, found) in [
            ("postgres://user:pa:ss@db.example/x", Some("user:pa:ss@")),
            ("https://user@example.com/", None),
            ("https://example.com/a:b@c", None),
            ("https://user:@example.com/", None),
        ] {
            let range = credentials(text.as_bytes(), text.find("://").unwrap() + 3);
            assert_eq!(range.map(|range| &text[range]), found, "{text}");
        }
    }

    #[test]
    fn ipv6_is_told_from_code_and_times() {
        for (text, found) in [
            ("2001:db8::8a2e:370:7334 ", Some("2001:db8::8a2e:370:7334")),
            ("[fe80::1ff:fe23:4567:890a]", Some("fe80::1ff:fe23:4567:890a")),
            ("2001:db8::1.", Some("2001:db8::1")),
            ("12:30:45", None),
            ("a::b", None),
            ("std::fs", None),
            ("::1", None),
        ] {
            let range = ipv6(text.as_bytes(), at(text, ':'));
            assert_eq!(range.map(|range| &text[range]), found, "{text}");
        }
    }
}
