//! The id of a request: the caller's own, or one made here.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use http::HeaderValue;

/// The longest id of a caller's that is echoed.
const MAX_SENT: usize = 128;
/// `req_`, 16 digits of the process and 10 of the request.
const MADE: usize = 30;

/// One request's id. It is written out when somebody asks for it.
#[derive(Debug, Clone)]
pub(crate) enum RequestId {
    /// The caller's.
    Sent(HeaderValue),
    /// A random number of the process and a count.
    Made { process: u64, count: u64 },
}

impl RequestId {
    /// The id as a header's value.
    pub(crate) fn value(&self) -> HeaderValue {
        match self {
            Self::Sent(value) => value.clone(),
            Self::Made { process, count } => {
                HeaderValue::from_bytes(&made(*process, *count)).unwrap_or(HeaderValue::from_static("?"))
            }
        }
    }
}

fn made(process: u64, count: u64) -> [u8; MADE] {
    let mut text = *b"req_00000000000000000000000000";
    let digits = (u128::from(process) << 40) | u128::from(count & 0xff_ffff_ffff);
    for (place, byte) in text.iter_mut().skip(4).rev().enumerate() {
        let digit = (digits >> (4 * place)) & 0xf;
        // A digit is below 16.
        *byte = b"0123456789abcdef".get(digit as usize).copied().unwrap_or(b'0');
    }
    text
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(value) => f.write_str(value.to_str().unwrap_or("?")),
            Self::Made { process, count } => {
                f.write_str(std::str::from_utf8(&made(*process, *count)).unwrap_or("?"))
            }
        }
    }
}

/// Ids for requests that bring none.
pub(crate) struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new() -> Self {
        Self { process: RandomState::new().build_hasher().finish(), next: AtomicU64::new(1) }
    }

    /// The id that was sent, if it is one that can be echoed; else a new one.
    pub(crate) fn of(&self, sent: Option<&HeaderValue>) -> RequestId {
        match sent {
            Some(id) if !id.is_empty() && id.len() <= MAX_SENT && id.to_str().is_ok() => {
                RequestId::Sent(id.clone())
            }
            _ => RequestId::Made { process: self.process, count: self.next.fetch_add(1, Relaxed) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_those_sent_are_kept() {
        let ids = RequestIds::new();
        let (one, two) = (ids.of(None), ids.of(None));
        assert_ne!(one.value(), two.value());
        assert_eq!(one.value().to_str().unwrap(), one.to_string());
        let fixed = RequestId::Made { process: 0xabc, count: 0x1f };
        assert_eq!(fixed.to_string(), "req_0000000000000abc000000001f");
        let sent = HeaderValue::from_static("mine");
        assert_eq!(ids.of(Some(&sent)).to_string(), "mine");
        for odd in [HeaderValue::from_static(""), HeaderValue::try_from("x".repeat(129)).unwrap()] {
            assert!(ids.of(Some(&odd)).to_string().starts_with("req_"));
        }
    }
}
