//! Values of a scenario that are more than a number: durations and sizes.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// A duration such as `"250ms"`, `"30s"`, `"2m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = duration(&text).map(Self);
        span.ok_or_else(|| D::Error::custom("a duration is a number and us, ms, s, m or h, as in 30s"))
    }
}

/// Reads a duration.
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text);
    let factor = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

/// Reads a number of bytes.
pub(crate) fn bytes(text: &str) -> Option<f64> {
    let (number, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1.0,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// A number and what follows it.
pub(crate) fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

/// A time for people: three digits and a unit.
pub(crate) fn show_seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s if s >= 1e-3 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.0} us", s * 1e6),
    }
}

/// A size for people.
pub(crate) fn show_bytes(bytes: f64) -> String {
    let size = bytes.abs();
    match size {
        s if s >= 1024.0 * 1024.0 * 1024.0 => format!("{:.2} GiB", bytes / (1024.0 * 1024.0 * 1024.0)),
        s if s >= 1024.0 * 1024.0 => format!("{:.1} MiB", bytes / (1024.0 * 1024.0)),
        s if s >= 1024.0 => format!("{:.1} KiB", bytes / 1024.0),
        _ => format!("{bytes:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration(" 1.5s "), Some(Duration::from_millis(1500)));
        assert_eq!(duration("200us"), Some(Duration::from_micros(200)));
        assert_eq!(duration("30"), None);
        assert_eq!(duration("-1s"), None);
        assert_eq!(bytes("2KiB"), Some(2048.0));
        assert_eq!(bytes("2KB"), None);
    }

    #[test]
    fn people_read_three_digits() {
        assert_eq!(show_seconds(0.000_053), "53 us");
        assert_eq!(show_seconds(0.0123), "12.30 ms");
        assert_eq!(show_seconds(2.5), "2.50 s");
        assert_eq!(show_bytes(3.0 * 1024.0 * 1024.0), "3.0 MiB");
    }
}
