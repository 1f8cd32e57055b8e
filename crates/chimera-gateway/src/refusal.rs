//! How a provider says no, and for how long.

use std::time::{Duration, SystemTime};

use chimera_protocol::{
    DialectId,
    json::{Document, Value},
    translate::ErrorFacts,
};
use chimera_provider_pool::{Refusal, RefusalKind};
use http::HeaderMap;

/// What an answer that is no success means; `None` where it is the caller's own fault.
pub(crate) fn kind(status: u16, body: &[u8]) -> Option<RefusalKind> {
    Some(match status {
        429 if is_spent(body) => RefusalKind::Quota,
        429 => RefusalKind::Throttled,
        402 => RefusalKind::Payment,
        403 if is_of_what_was_asked(body) => return None,
        401 | 403 => RefusalKind::Credentials,
        400 if is_of_a_key(body) => RefusalKind::Credentials,
        408 | 500.. => RefusalKind::Fault,
        400 | 413 if is_too_long(body) => RefusalKind::Unfit,
        _ => return None,
    })
}

/// What an error that came as an event after a 200 means: the same as one that comes with the status it tells.
pub(crate) fn of_event(dialect: DialectId, data: &[u8]) -> Refusal {
    let status = ErrorFacts::of_event(dialect, data).status(dialect);
    let kind = kind(status, data).unwrap_or(RefusalKind::Rightful);
    Refusal { kind, retry_after: retry_delay(data) }
}

/// A model that the account has not, or a file of another's: the key is good for everything else, and callers could rest
/// it for everybody.
fn is_of_what_was_asked(body: &[u8]) -> bool {
    is_error(body, |error| {
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        error.get("code").is_some_and(|code| code.is("model_not_found"))
            || message.starts_with("You do not have permission to access")
            || message.starts_with("CachedContent not found")
    })
}

/// Google tells of a wrong key as of a wrong request. Only what it says apart from its words is believed: those may quote
/// the request.
fn is_of_a_key(body: &[u8]) -> bool {
    is_error(body, |error| {
        let is_it = |detail: Value<'_>| detail.get("reason").is_some_and(|why| why.is("API_KEY_INVALID"));
        error.get("details").is_some_and(|details| details.elements().any(is_it))
    })
}

fn is_error(body: &[u8], look: impl FnOnce(Value<'_>) -> bool) -> bool {
    let Ok(document) = Document::parse(body) else { return false };
    let root = document.root();
    // Gemini's streams without `alt=sse` put it into an array.
    root.elements().next().unwrap_or(root).get("error").is_some_and(look)
}

/// What may be spent is spent: waiting a little does not help.
fn is_spent(body: &[u8]) -> bool {
    says(body, &["insufficient_quota", "enforced_spend_limit_reached", "billing_hard_limit_reached"])
}

/// The request is longer than the model takes.
fn is_too_long(body: &[u8]) -> bool {
    says(
        body,
        &["context_length_exceeded", "prompt is too long", "exceeds the maximum number of tokens allowed"],
    )
}

fn says(body: &[u8], words: &[&str]) -> bool {
    words.iter().any(|word| memchr::memmem::find(body, word.as_bytes()).is_some())
}

/// How long a provider asks to be left alone: `retry-after-ms`, `retry-after` in seconds or as a date.
pub(crate) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(millis) = text("retry-after-ms").and_then(|text| text.parse::<f64>().ok()) {
        return positive(millis / 1000.0);
    }
    let text = text("retry-after")?;
    if let Ok(seconds) = text.parse::<f64>() {
        return positive(seconds);
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

/// Gemini says it in the body: `"retryDelay": "12s"`.
pub(crate) fn retry_delay(body: &[u8]) -> Option<Duration> {
    let at = memchr::memmem::find(body, b"\"retryDelay\"")?;
    let rest = std::str::from_utf8(body.get(at..)?.get(..64.min(body.len() - at))?).ok()?;
    let value = rest.split('"').nth(3)?;
    positive(value.strip_suffix('s')?.parse().ok()?)
}

/// A wait that makes sense: above zero, and no longer than a day, which is longer than any use of it.
fn positive(seconds: f64) -> Option<Duration> {
    (seconds.is_finite() && seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pain_20_retry_after_is_read_in_every_form() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let of = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(of("retry-after", "3"), Some(Duration::from_secs(3)));
        assert_eq!(of("retry-after-ms", "1500"), Some(Duration::from_millis(1500)));
        assert_eq!(of("retry-after", "Sun, 09 Sep 2001 01:46:50 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(of("retry-after", "Sun, 09 Sep 2001 01:46:30 GMT"), Some(Duration::ZERO));
        assert_eq!(of("retry-after", "1000000000000"), Some(Duration::from_secs(86_400)));
        assert_eq!(of("retry-after", "-5"), None);
        assert_eq!(of("retry-after", "soon"), None);
        let body = br#"{"error":{"details":[{"@type":"x.RetryInfo","retryDelay": "12s"}]}}"#;
        assert_eq!(retry_delay(body), Some(Duration::from_secs(12)));
        assert_eq!(retry_delay(b"{}"), None);
        assert_eq!(retry_delay(br#"{"retryDelay"#), None);
    }

    #[test]
    fn u11_a_spent_quota_is_told_from_a_rate() {
        let body = br#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#;
        assert_eq!(kind(429, body), Some(RefusalKind::Quota));
        assert_eq!(kind(429, br#"{"error":{"code":"rate_limit_exceeded"}}"#), Some(RefusalKind::Throttled));
        assert_eq!(kind(402, b""), Some(RefusalKind::Payment));
        assert_eq!(kind(403, b""), Some(RefusalKind::Credentials));
        assert_eq!(kind(529, b""), Some(RefusalKind::Fault));
        assert_eq!(kind(400, br#"{"error":{"code":"context_length_exceeded"}}"#), Some(RefusalKind::Unfit));
        assert_eq!(kind(400, br#"{"error":{"code":"content_policy_violation"}}"#), None);
    }
}
