//! Values of the configuration file that are more than a number: durations, sizes, secrets.

use std::{fmt, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration such as `"250ms"`, `"30s"`, `"2m"`, `"1h"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

/// A size in bytes such as `"64KiB"`, `"256MiB"`, `"1GiB"`, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

/// A secret: `{ env = "NAME" }`, `{ file = "PATH" }`, or the text itself. Never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "a secret is { env = \"NAME\" }, { file = \"PATH\" } or a string")]
pub(crate) enum SecretSource {
    Env(EnvSecret),
    File(FileSecret),
    Text(String),
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvSecret {
    pub(crate) env: String,
}

#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSecret {
    pub(crate) file: String,
}

impl SecretSource {
    /// The secret, or why there is none. The reason names the place, never the content.
    pub(crate) fn read(&self) -> Result<String, String> {
        let secret = match self {
            Self::Env(source) => std::env::var(&source.env)
                .map_err(|_| format!("the environment variable {} is not set", source.env))?,
            Self::File(source) => std::fs::read_to_string(&source.file)
                .map_err(|error| format!("the file {} cannot be read: {}", source.file, error.kind()))?,
            Self::Text(text) => text.clone(),
        };
        let secret = secret.trim();
        if secret.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        Ok(secret.to_owned())
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(source) => write!(f, "{{ env = {:?} }}", source.env),
            Self::File(source) => write!(f, "{{ file = {:?} }}", source.file),
            Self::Text(_) => f.write_str("[redacted]"),
        }
    }
}

impl Serialize for SecretSource {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_span(&text)
            .map(Self)
            .ok_or_else(|| D::Error::custom("a duration is a number and ms, s, m or h, as in 30s"))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = self.0.as_millis();
        match millis {
            0 => serializer.serialize_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => {
                serializer.collect_str(&format_args!("{}h", millis / 3_600_000))
            }
            _ if millis.is_multiple_of(60_000) => {
                serializer.collect_str(&format_args!("{}m", millis / 60_000))
            }
            _ if millis.is_multiple_of(1000) => serializer.collect_str(&format_args!("{}s", millis / 1000)),
            _ => serializer.collect_str(&format_args!("{millis}ms")),
        }
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    (number, unit.trim())
}

fn parse_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text.trim());
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * factor).ok()
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a size is a number of bytes or text such as 64KiB")]
        enum Raw {
            Bytes(u64),
            Text(String),
        }
        match Raw::deserialize(deserializer)? {
            Raw::Bytes(bytes) => Ok(Self(bytes)),
            Raw::Text(text) => parse_size(&text)
                .map(Self)
                .ok_or_else(|| D::Error::custom("a size is a number and B, KiB, MiB or GiB, as in 64KiB")),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0;
        for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if bytes > 0 && bytes.is_multiple_of(1 << shift) {
                return serializer.collect_str(&format_args!("{}{unit}", bytes >> shift));
            }
        }
        serializer.collect_str(&format_args!("{bytes}B"))
    }
}

pub(crate) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text.trim());
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(parse_span("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_span("2m"), Some(Duration::from_secs(120)));
        assert_eq!(parse_span("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse_span("30"), None);
        assert_eq!(parse_span("-1s"), None);
        assert_eq!(parse_size("64KiB"), Some(65_536));
        assert_eq!(parse_size("12"), Some(12));
        assert_eq!(parse_size("64KB"), None);
        assert_eq!(parse_size("99999999999GiB"), None);
    }

    #[test]
    fn a_secret_is_never_printed() {
        let secret = SecretSource::Text("sk-canary".into());
        assert!(!format!("{secret:?}").contains("canary"));
        let env = SecretSource::Env(EnvSecret { env: "CHIMERA_TEST_UNSET".into() });
        assert!(env.read().unwrap_err().contains("CHIMERA_TEST_UNSET"));
        assert!(SecretSource::Text("  ".into()).read().is_err());
    }
}
