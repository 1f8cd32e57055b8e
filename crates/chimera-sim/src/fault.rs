//! The ways in which a provider fails, as data.

use std::{str::FromStr, time::Duration};

use bytes::Bytes;

use crate::error::FaultError;

/// One way to fail, applied to one request.
///
/// Faults that count events count every event of a stream, the opening ones
/// included. On an answer that is not a stream, the whole answer is one event.
/// In text form (the `x-sim-fault` header) a fault is its name in kebab case,
/// followed by its number after a colon: `status:429`, `hang-after-events:2`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers with this status; without a body of its own, in the dialect's error shape.
    Status {
        /// The status code; one that is none becomes 500.
        code: u16,
        /// Header fields to add, replacing those of the same name.
        headers: Vec<(String, String)>,
        /// The body, when it is not to be the dialect's.
        body: Option<Bytes>,
    },
    /// Resets the connection before the head, or after so many body bytes.
    Reset {
        /// Body bytes that still arrive; `None` resets before the head.
        after_bytes: Option<usize>,
    },
    /// Accepts the request and never answers.
    HangBeforeHead,
    /// Sends so many events, then nothing more, with the connection open.
    HangAfterEvents(usize),
    /// 200, then an error as the first event.
    ErrorEventFirst,
    /// 200 and so many events, then an error event, then the end.
    ErrorEventAfter(usize),
    /// Closes the connection after so many events, the body's framing incomplete.
    TruncateAfterEvents(usize),
    /// Ends the body properly after so many events, the dialect's terminal event missing.
    EndAfterEvents(usize),
    /// 200 with a body (or a second event) that is cut-off JSON.
    InvalidJson,
    /// 200 with an HTML page, as a captive portal would.
    Html200,
    /// Leaves out the stream's last event (`[DONE]`, `message_stop`).
    NoDone,
    /// Sends the stream's last event twice.
    DoubleDone,
    /// Sends a content event after the stream's last event.
    DataAfterDone,
    /// Puts an event of this many bytes before the first content.
    HugeEvent(usize),
    /// Sends the body one byte at a time.
    SlowBytes {
        /// Time between two bytes.
        every: Duration,
    },
    /// Sends the head this much later.
    Delay(Duration),
    /// Announces so many bytes fewer than are sent; the rest follows the body on the wire.
    ContentLengthShort(usize),
    /// Announces so many bytes more than are sent, then closes.
    ContentLengthLong(usize),
    /// Compresses the body although nobody asked.
    GzipDespiteIdentity,
    /// Leaves the token usage out.
    UsageMissing,
    /// Reports negative token counts.
    UsageNegative,
    /// Reports token counts of 2^63.
    UsageHuge,
}

impl Fault {
    /// An error status in the dialect's shape, without further headers.
    #[must_use]
    pub fn status(code: u16) -> Self {
        Self::Status { code, headers: Vec::new(), body: None }
    }

    /// A 429 that names the seconds to wait.
    #[must_use]
    pub fn throttled(retry_after: &str) -> Self {
        Self::Status { code: 429, headers: vec![("retry-after".into(), retry_after.into())], body: None }
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (name, argument) = text.split_once(':').unwrap_or((text, ""));
        let number = || {
            argument
                .trim()
                .parse::<usize>()
                .map_err(|_| FaultError::Argument { name: name.into(), argument: argument.into() })
        };
        let millis = || number().map(|n| Duration::from_millis(n as u64));
        Ok(match name.trim() {
            "status" => Self::status(u16::try_from(number()?).unwrap_or(500)),
            "reset" if argument.is_empty() => Self::Reset { after_bytes: None },
            "reset" => Self::Reset { after_bytes: Some(number()?) },
            "hang-before-head" => Self::HangBeforeHead,
            "hang-after-events" => Self::HangAfterEvents(number()?),
            "error-event-first" => Self::ErrorEventFirst,
            "error-event-after" => Self::ErrorEventAfter(number()?),
            "truncate-after-events" => Self::TruncateAfterEvents(number()?),
            "end-after-events" => Self::EndAfterEvents(number()?),
            "invalid-json" => Self::InvalidJson,
            "html-200" => Self::Html200,
            "no-done" => Self::NoDone,
            "double-done" => Self::DoubleDone,
            "data-after-done" => Self::DataAfterDone,
            "huge-event" => Self::HugeEvent(number()?.min(MAX_HUGE_EVENT)),
            "slow-bytes" => Self::SlowBytes { every: millis()? },
            "delay" => Self::Delay(millis()?),
            "content-length-short" => Self::ContentLengthShort(number()?),
            "content-length-long" => Self::ContentLengthLong(number()?),
            "gzip-despite-identity" => Self::GzipDespiteIdentity,
            "usage-missing" => Self::UsageMissing,
            "usage-negative" => Self::UsageNegative,
            "usage-huge" => Self::UsageHuge,
            _ => return Err(FaultError::Unknown(name.into())),
        })
    }
}

/// A header may ask for a huge event, but not for all of the memory.
const MAX_HUGE_EVENT: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!("status:429".parse(), Ok(Fault::status(429)));
        assert_eq!("reset".parse(), Ok(Fault::Reset { after_bytes: None }));
        assert_eq!("reset:10".parse(), Ok(Fault::Reset { after_bytes: Some(10) }));
        assert_eq!("delay:20".parse(), Ok(Fault::Delay(Duration::from_millis(20))));
        assert_eq!("no-done".parse(), Ok(Fault::NoDone));
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!("boom".parse::<Fault>(), Err(FaultError::Unknown("boom".into())));
        assert!(matches!("hang-after-events:x".parse::<Fault>(), Err(FaultError::Argument { .. })));
    }
}
