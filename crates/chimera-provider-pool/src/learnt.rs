//! What a provider tells of its limits with every answer.
//!
//! OpenAI's style: `x-ratelimit-remaining-requests`, with `-limit-` and `-reset-` (a duration, `6m0s`) beside
//! it; Anthropic's: `anthropic-ratelimit-requests-remaining`, with `-limit` and `-reset` (RFC 3339). A key
//! that has next to nothing left rests until the provider has filled it up again, before a request is
//! refused on it.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

/// The part of a limit that counts as next to nothing: a fiftieth.
const NEARLY: u64 = 50;
/// The wait where the provider tells no end.
const UNTOLD: Duration = Duration::from_secs(10);

/// The headers of one limit: what is left, of how much, and when it is full again.
struct Limit {
    remaining: HeaderName,
    limit: HeaderName,
    reset: HeaderName,
}

macro_rules! limits {
    ($(($remaining:literal, $limit:literal, $reset:literal)),* $(,)?) => {
        [$(Limit {
            remaining: HeaderName::from_static($remaining),
            limit: HeaderName::from_static($limit),
            reset: HeaderName::from_static($reset),
        }),*]
    };
}

static LIMITS: [Limit; 6] = limits![
    ("x-ratelimit-remaining-requests", "x-ratelimit-limit-requests", "x-ratelimit-reset-requests"),
    ("x-ratelimit-remaining-tokens", "x-ratelimit-limit-tokens", "x-ratelimit-reset-tokens"),
    (
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-reset"
    ),
    (
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-reset"
    ),
    (
        "anthropic-ratelimit-input-tokens-remaining",
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-reset"
    ),
    (
        "anthropic-ratelimit-output-tokens-remaining",
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-reset"
    ),
];

/// What is left of a key that has little.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Low {
    /// Whether nothing is.
    pub(crate) empty: bool,
    /// When it is full again.
    pub(crate) reset: Duration,
}

/// What a provider says is left, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Told {
    /// What is left.
    pub left: u64,
    /// Of how much.
    pub most: u64,
}

/// What is told of requests, and of the tokens of which the smallest share is left.
pub(crate) fn told(headers: &HeaderMap) -> [Option<Told>; 2] {
    let number = |name: &HeaderName| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let mut told: [Option<Told>; 2] = [None; 2];
    for limit in &LIMITS {
        let (Some(left), Some(most)) = (number(&limit.remaining), number(&limit.limit)) else { continue };
        let [requests, tokens] = &mut told;
        let place = if limit.limit.as_str().contains("requests") { requests } else { tokens };
        // left / most, without a division.
        let less = |known: &Told| {
            u128::from(left) * u128::from(known.most) < u128::from(known.left) * u128::from(most)
        };
        if most > 0 && place.as_ref().is_none_or(less) {
            *place = Some(Told { left: left.min(most), most });
        }
    }
    told
}

/// The limit that is nearest to its end, if any is near.
pub(crate) fn low(headers: &HeaderMap, now: SystemTime) -> Option<Low> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    LIMITS
        .iter()
        .filter_map(|limit| {
            let remaining: u64 = text(&limit.remaining)?.parse().ok()?;
            let most: Option<u64> = text(&limit.limit).and_then(|most| most.parse().ok());
            let near = remaining == 0 || most.is_some_and(|most| remaining <= most / NEARLY);
            let reset = || text(&limit.reset).and_then(|text| span(text).or_else(|| until(text, now)));
            near.then(|| Low { empty: remaining == 0, reset: reset().unwrap_or(UNTOLD) })
        })
        .max_by_key(|low| (low.empty, low.reset))
}

/// `1s`, `6m0s`, `250ms`, `1h2m3.5s`, or seconds alone.
fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, unit) = rest.split_at(end);
        let length = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        let (unit, after) = unit.split_at(length);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * scale;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

/// The time until an RFC 3339 time in UTC.
fn until(text: &str, now: SystemTime) -> Option<Duration> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (time.next()?.parse::<i64>().ok()?, time.next()?.parse::<i64>().ok()?);
    let second = time.next()?.parse::<f64>().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days of the civil calendar, counted in years that begin in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let at = (days * 86_400 + hour * 3600 + minute * 60) as f64 + second;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::try_from_secs_f64(at).ok()?)?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_of_requests_and_of_the_scarcest_tokens() {
        let headers: HeaderMap = [
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "49"),
            ("anthropic-ratelimit-input-tokens-limit", "1000"),
            ("anthropic-ratelimit-input-tokens-remaining", "900"),
            ("anthropic-ratelimit-output-tokens-limit", "100"),
            ("anthropic-ratelimit-output-tokens-remaining", "20"),
        ]
        .into_iter()
        .map(|(name, value)| (HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect();
        let of = |left, most| Some(Told { left, most });
        assert_eq!(told(&headers), [of(49, 50), of(20, 100)]);
        assert_eq!(told(&HeaderMap::new()), [None, None]);
        let mut odd = HeaderMap::new();
        odd.insert("x-ratelimit-limit-requests", http::HeaderValue::from_static("0"));
        odd.insert("x-ratelimit-remaining-requests", http::HeaderValue::from_static("many"));
        assert_eq!(told(&odd), [None, None]);
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn openais_style_is_read() {
        let now = SystemTime::UNIX_EPOCH;
        let of = |remaining: &str, reset: &str| {
            low(
                &headers(&[
                    ("x-ratelimit-remaining-requests", remaining),
                    ("x-ratelimit-limit-requests", "500"),
                    ("x-ratelimit-reset-requests", reset),
                ]),
                now,
            )
        };
        assert_eq!(of("11", "1s"), None);
        assert_eq!(of("10", "6m0s"), Some(Low { empty: false, reset: Duration::from_secs(360) }));
        assert_eq!(of("0", "250ms"), Some(Low { empty: true, reset: Duration::from_millis(250) }));
        assert_eq!(of("0", "1h2m3.5s"), Some(Low { empty: true, reset: Duration::from_secs_f64(3723.5) }));
        assert_eq!(of("0", "soon"), Some(Low { empty: true, reset: UNTOLD }));
        assert_eq!(of("-1", "1s"), None);
        assert_eq!(low(&HeaderMap::new(), now), None);
    }

    #[test]
    fn anthropics_style_is_read() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let of = |reset: &str| {
            low(
                &headers(&[
                    ("anthropic-ratelimit-requests-remaining", "40"),
                    ("anthropic-ratelimit-requests-limit", "50"),
                    ("anthropic-ratelimit-input-tokens-remaining", "0"),
                    ("anthropic-ratelimit-input-tokens-limit", "50000"),
                    ("anthropic-ratelimit-input-tokens-reset", reset),
                ]),
                now,
            )
            .unwrap()
            .reset
        };
        assert_eq!(of("2001-09-09T01:46:45Z"), Duration::from_secs(5));
        assert_eq!(of("2001-09-09T01:46:45.500Z"), Duration::from_millis(5500));
        assert_eq!(of("2001-09-09T01:00:00Z"), Duration::ZERO);
        assert_eq!(of("2001-13-09T01:00:00Z"), UNTOLD);
        assert_eq!(of("2000-03-01T00:00:00Z"), Duration::ZERO);
    }
}
