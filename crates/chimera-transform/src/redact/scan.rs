//! One pass over a text that finds everything built in.
//!
//! Most of a text is letters and spaces, which no finding begins with: they are stepped over one by one,
//! a nanosecond each. At a digit, an `@`, a `:` or the end of a long token a window around it is looked
//! at, no longer than the longest finding of its kind. So time is linear, whatever comes, and all
//! classes are ASCII: a pattern engine with Unicode word boundaries is forty times slower on the first
//! accent. Full-width digits and their like are for `normalize` to bring home first.

use std::ops::Range;

use super::{
    dates,
    digits::Run,
    keys,
    kind::{Finding, Findings, Kind},
    lettered, net, secrets,
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Goes on with a token and begins nothing.
    Letter,
    Digit,
    /// Goes on with a token and may mean something.
    Join,
    /// Ends a token.
    Space,
    /// Ends a token and may mean something.
    Mark,
}

fn class(byte: u8) -> Class {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'.' | b'/' => Class::Letter,
        b'0'..=b'9' => Class::Digit,
        b'-' | b'+' => Class::Join,
        b'@' | b':' => Class::Mark,
        _ => Class::Space,
    }
}

/// Finds everything built in, in order.
pub(crate) fn scan(text: &str) -> Vec<Finding> {
    let mut scan = Scan { text: text.as_bytes(), at: 0, token: 0, found: Findings::default() };
    scan.run();
    scan.found.into_vec()
}

struct Scan<'t> {
    text: &'t [u8],
    at: usize,
    /// Where the token began that goes on.
    token: usize,
    found: Findings,
}

impl Scan<'_> {
    fn run(&mut self) {
        while let Some(&byte) = self.text.get(self.at) {
            match class(byte) {
                Class::Letter => self.at += 1,
                Class::Space => {
                    self.end_token();
                    self.at += 1;
                    self.token = self.at;
                }
                Class::Digit => self.digit(),
                Class::Join => self.join(byte),
                Class::Mark => self.mark(byte),
            }
        }
        self.end_token();
    }

    fn end_token(&mut self) {
        if self.at - self.token >= keys::SHORTEST
            && let Some((kind, range)) = secrets::find(self.text, self.token..self.at)
        {
            self.found.push(kind, range);
        }
    }

    fn before(&self, back: usize) -> u8 {
        self.at.checked_sub(back).and_then(|at| self.text.get(at)).copied().unwrap_or(b' ')
    }

    /// Goes on behind a finding; the token goes on too, for a key may hold what looks like a number.
    fn found(&mut self, kind: Kind, range: Range<usize>) {
        let end = range.end.max(self.at + 1);
        if self.text.get(self.at..end).is_some_and(|inside| inside.contains(&b' ')) {
            self.token = end;
        }
        self.at = end;
        self.found.push(kind, range);
    }

    fn digit(&mut self) {
        if self.before(1).is_ascii_alphanumeric() {
            // The first digit behind the letters that a token begins with.
            let letters = self.at - self.token;
            if letters <= 6
                && let Some((kind, range)) = lettered::find(self.text, self.token)
            {
                return self.found(kind, range);
            }
            while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
                self.at += 1;
            }
            return;
        }
        let run = Run::read(self.text, self.at);
        if let Some((kind, range)) = run.classify() {
            return self.found(kind, range);
        }
        if let Some(range) = dates::spelled(self.text, self.at) {
            return self.found(Kind::BirthDate, range);
        }
        if let Some(range) = secrets::bot_token(self.text, self.at..run.first_end()) {
            return self.found(Kind::ApiKey, range);
        }
        self.at = run.next_start().max(self.at + 1);
    }

    fn join(&mut self, byte: u8) {
        const BEGIN: &[u8] = b"-----BEGIN ";
        let rest = self.text.get(self.at..).unwrap_or_default();
        if byte == b'-' && rest.starts_with(BEGIN) {
            let length = secrets::pem(rest);
            self.found(Kind::Pem, self.at..self.at + length);
            self.token = self.at;
            return;
        }
        self.at += 1;
    }

    fn mark(&mut self, byte: u8) {
        let found = match byte {
            b'@' => net::email(self.text, self.at).map(|range| (Kind::Email, range)),
            _ if self.text.get(self.at..).is_some_and(|rest| rest.starts_with(b"://")) => {
                net::credentials(self.text, self.at + 3).map(|range| (Kind::Credentials, range))
            }
            _ => net::ipv6(self.text, self.at).map(|range| (Kind::Ip, range)),
        };
        self.end_token();
        match found {
            Some((kind, range)) => {
                self.at = range.end.max(self.at + 1);
                self.found.push(kind, range);
            }
            None => self.at += 1,
        }
        self.token = self.at;
    }
}
