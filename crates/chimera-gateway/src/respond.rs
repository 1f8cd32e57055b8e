//! Answers as HTTP: the one place that knows which status goes with what.

use std::time::Duration;

use bytes::Bytes;
use chimera_protocol::{DialectId, ErrorParts};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use crate::{
    auth::Tenant,
    body::Body,
    failure::{Code, Failure},
    limits::Left,
    load::Provenance,
    request_id::RequestId,
    upstream::Framing,
};

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-store");

/// The gateway's own headers, parsed once.
pub(crate) mod names {
    use http::HeaderName;

    macro_rules! names {
        ($($name:ident = $text:literal),* $(,)?) => {
            $(pub(crate) static $name: HeaderName = HeaderName::from_static($text);)*
        };
    }

    names! {
        ACCEL_BUFFERING = "x-accel-buffering",
        ATTEMPTS = "x-chimera-attempts",
        CACHE = "x-chimera-cache",
        CACHE_KEY = "x-chimera-cache-key",
        DROPPED = "x-chimera-dropped",
        MODEL = "x-chimera-model",
        PROVIDER = "x-chimera-provider",
        REQUEST_ID = "x-request-id",
        ANTHROPIC_REQUEST_ID = "request-id",
        RETRY_AFTER_MS = "retry-after-ms",
        SERVER_TIMING = "server-timing",
        TRANSFORMS = "x-chimera-transforms",
    }
}

/// The status that goes with a code.
fn status_of(failure: &Failure) -> u16 {
    failure.status.unwrap_or(match failure.code {
        Code::InvalidRequest => 400,
        Code::AuthenticationFailed => 401,
        Code::ModelNotFound => 404,
        Code::RateLimited => 429,
        Code::Overloaded | Code::CircuitOpen => 503,
        Code::UpstreamUnreachable | Code::UpstreamInvalidResponse => 502,
        Code::Timeout | Code::NotCached => 504,
        Code::Internal => 500,
    })
}

fn parts<'a>(failure: &'a Failure, request_id: &'a str) -> ErrorParts<'a> {
    ErrorParts {
        status: status_of(failure),
        code: failure.told_code.unwrap_or(failure.code.as_str()),
        message: &failure.message,
        param: failure.param.as_deref(),
        request_id,
        retry_after: wait_of(failure),
    }
}

/// How long the caller is to wait: what the failure says, or a moment where the status asks for one.
fn wait_of(failure: &Failure) -> Option<Duration> {
    let asks = matches!(status_of(failure), 429 | 503);
    failure.retry_after.or(asks.then_some(Duration::from_secs(1)))
}

/// A failure as a whole response in the caller's dialect.
pub(crate) fn failure(dialect: DialectId, failure: &Failure, request_id: &RequestId) -> Response<Body> {
    let body = dialect.dialect().error_body(&parts(failure, &request_id.to_string()));
    let mut response = Response::new(Body::whole(body));
    *response.status_mut() =
        StatusCode::from_u16(status_of(failure)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    headers.insert(header::CACHE_CONTROL, PRIVATE);
    if let Some(wait) = wait_of(failure) {
        retry_after(headers, wait);
    }
    if failure.attempts > 0 {
        headers.insert(&names::ATTEMPTS, HeaderValue::from(failure.attempts));
    }
    if let Some(allow) = failure.allow {
        headers.insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    if failure.close {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A failure in the middle of a stream, or at its beginning, as the caller's dialect says it. An array is closed behind
/// it, so that whoever reads it as a whole can.
pub(crate) fn error_event(
    dialect: DialectId,
    framing: Framing,
    begun: bool,
    failure: &Failure,
    request_id: &RequestId,
) -> Bytes {
    let request_id = request_id.to_string();
    let parts = parts(failure, &request_id);
    match framing {
        Framing::Array => {
            let before: &[u8] = if begun { b",\r\n" } else { b"[" };
            [before, &dialect.dialect().error_body(&parts), b"]"].concat().into()
        }
        _ => dialect.dialect().error_event(&parts).into(),
    }
}

/// Whole seconds, rounded up, for everybody; milliseconds for the SDKs that read them.
pub(crate) fn retry_after(headers: &mut HeaderMap, wait: Duration) {
    let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    headers.insert(header::RETRY_AFTER, HeaderValue::from(millis.div_ceil(1000).max(1)));
    headers.insert(&names::RETRY_AFTER_MS, HeaderValue::from(millis.max(1)));
}

/// What is left of the tenant's own limits, in the words of the caller's dialect.
pub(crate) fn rate_limit_headers(dialect: DialectId, tenant: &Tenant, headers: &mut HeaderMap) {
    let (requests, tokens) = tenant.limits.left(std::time::Instant::now());
    for (kind, left) in [("requests", requests), ("tokens", tokens)] {
        let Some(left) = left else { continue };
        match dialect {
            DialectId::Anthropic => anthropic_limit(kind, left, headers),
            _ => openai_limit(kind, left, headers),
        }
    }
}

fn openai_limit(kind: &str, left: Left, headers: &mut HeaderMap) {
    let reset = format!("{:.3}s", left.reset.as_secs_f64());
    for (what, value) in
        [("limit", left.limit.to_string()), ("remaining", left.remaining.to_string()), ("reset", reset)]
    {
        insert(headers, &format!("x-ratelimit-{what}-{kind}"), &value);
    }
}

fn anthropic_limit(kind: &str, left: Left, headers: &mut HeaderMap) {
    let reset = std::time::SystemTime::now() + left.reset;
    for (what, value) in [
        ("limit", left.limit.to_string()),
        ("remaining", left.remaining.to_string()),
        ("reset", rfc3339(reset)),
    ] {
        insert(headers, &format!("anthropic-ratelimit-{kind}-{what}"), &value);
    }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) =
        (http::HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
    {
        headers.insert(name, value);
    }
}

/// A time as RFC 3339 in UTC. Days to dates after Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms" (civil_from_days).
pub(crate) fn rfc3339(time: std::time::SystemTime) -> String {
    let seconds = time.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Who answered, and where the time went.
pub(crate) fn origin(headers: &mut HeaderMap, provenance: &Provenance, total: Duration) {
    headers.insert(&names::PROVIDER, provenance.provider.clone());
    headers.insert(&names::MODEL, provenance.model.clone());
    headers.insert(
        &names::ATTEMPTS,
        match provenance.attempts {
            1 => HeaderValue::from_static("1"),
            attempts => HeaderValue::from(attempts),
        },
    );
    for (name, value) in &provenance.headers {
        headers.insert(name, value.clone());
    }
    let ours = total.saturating_sub(provenance.upstream);
    timing(headers, &[("queue", ours), ("upstream", provenance.upstream), ("total", total)]);
}

/// `server-timing` in milliseconds to the microsecond.
pub(crate) fn timing(headers: &mut HeaderMap, spans: &[(&str, Duration)]) {
    // It always fits: three names and three numbers of at most twenty digits.
    let (mut text, mut length) = ([0; 128], 0);
    let mut add = |part: &[u8]| {
        if let Some(room) = text.get_mut(length..length + part.len()) {
            room.copy_from_slice(part);
            length += part.len();
        }
    };
    for (index, (name, span)) in spans.iter().enumerate() {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let (millis, rest) = (micros / 1000, micros % 1000);
        if index > 0 {
            add(b", ");
        }
        add(name.as_bytes());
        add(b";dur=");
        add(itoa::Buffer::new().format(millis).as_bytes());
        add(&[b'.', digit(rest / 100), digit(rest / 10 % 10), digit(rest % 10)]);
    }
    if let Some(Ok(value)) = text.get(..length).map(HeaderValue::from_bytes) {
        headers.insert(&names::SERVER_TIMING, value);
    }
}

fn digit(number: u64) -> u8 {
    b'0' + number as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> RequestId {
        RequestId::Made { process: 1, count: 1 }
    }

    #[test]
    fn dates_are_written_as_rfc_3339() {
        let at = |seconds| rfc3339(std::time::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_000_000_000), "2001-09-09T01:46:40Z");
        assert_eq!(at(4_102_444_799), "2099-12-31T23:59:59Z");
    }

    #[test]
    fn spans_are_told_in_milliseconds_to_the_microsecond() {
        let told = |spans: &[(&str, Duration)]| {
            let mut headers = HeaderMap::new();
            timing(&mut headers, spans);
            headers["server-timing"].to_str().unwrap().to_owned()
        };
        let span = Duration::from_nanos;
        assert_eq!(told(&[("total", span(999))]), "total;dur=0.000");
        assert_eq!(
            told(&[("queue", span(1_234_567)), ("total", span(20_050_999))]),
            "queue;dur=1.234, total;dur=20.050"
        );
        let longest =
            told(&[("queue", Duration::MAX), ("upstream", Duration::MAX), ("total", Duration::MAX)]);
        assert!(longest.ends_with(", total;dur=18446744073709551.615"), "{longest}");
    }

    #[test]
    fn pain_20_every_429_and_503_says_when_to_come_back() {
        for code in [Code::RateLimited, Code::Overloaded, Code::CircuitOpen] {
            let response = failure(DialectId::OpenAi, &Failure::new(code, "x"), &id());
            assert_eq!(response.headers()["retry-after"], "1", "{code:?}");
        }
        let wait = Failure::new(Code::RateLimited, "x").retry_after(Duration::from_millis(2300));
        let response = failure(DialectId::OpenAi, &wait, &id());
        assert_eq!(response.headers()["retry-after"], "3");
        assert_eq!(response.headers()["retry-after-ms"], "2300");
    }
}
