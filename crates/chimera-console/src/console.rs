//! The console as a value: what it answers, and what it does by the clock.

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};

use crate::{
    asset,
    deliver::{self, Coding, Page},
    history::EVERY,
    live::{Feed, Live},
    patch,
    session::{Proof, Sessions},
    settings::Settings,
    totals::Totals,
};

/// What there is to show.
///
/// Both are asked one after the other, in the task that runs [`Console::run`]: at most once a second while somebody
/// watches, once in five seconds otherwise, and never for a request. Neither may block for long.
pub trait Source: Send + Sync + 'static {
    /// Counts since the start, as Prometheus reads them.
    fn metrics(&self) -> String;

    /// What is not a count: an object with a member for each topic. What is of a kind should be an object by name
    /// and not an array, so that one that changes does not tell all of them again. Members called `now`, `hour`, `row`,
    /// `about` or `time` are the console's own, and replaced.
    fn state(&self) -> Value;
}

/// A request, as far as a console needs it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// The digest of the key that is asked for, where one is.
    pub key: Option<[u8; 32]>,
}

/// The body of an answer.
pub enum Answer {
    /// At hand.
    Whole(Bytes),
    /// Without an end.
    Live(Feed),
}

/// A console. Clones share everything.
#[derive(Clone)]
pub struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    source: Box<dyn Source>,
    page: Page,
    sessions: Sessions,
    live: Live,
    /// Stands in the tags of what is live, so that those of another process are not taken for ours.
    process: u64,
}

/// The path under which the console has its own calls.
const API: &str = "/api/v1/console/";

impl Console {
    /// A console over a source. `seed` makes its sessions and tokens: random, and kept secret.
    pub fn new(settings: Settings, source: impl Source, seed: [u8; 32]) -> Self {
        let shared = Shared {
            page: Page::new(settings.asset_prefix.as_deref()),
            sessions: Sessions::new(seed),
            live: Live::new(),
            process: since_1970().as_nanos() as u64,
            source: Box::new(source),
            settings,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Looks at the source by the clock, until it is dropped.
    pub async fn run(&self) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last: Option<Instant> = None;
        loop {
            let now = second.tick().await;
            // A tick may come a little early.
            let is_due = last.is_none_or(|last| now - last + Duration::from_millis(200) >= EVERY);
            if is_due || self.shared.live.is_watched() {
                self.look(now);
            }
            if is_due {
                last = Some(now);
            }
        }
    }

    /// Looks at the source once.
    fn look(&self, now: Instant) {
        let Shared { settings, source, live, .. } = &*self.shared;
        let time = since_1970().as_secs();
        let totals = Totals::read(&source.metrics(), &settings.prices);
        let shown = live.history().add(totals, now, time);
        let mut state = source.state();
        if let Some(topics) = state.as_object_mut() {
            topics.insert("now".to_owned(), shown.now.told());
            topics.insert("hour".to_owned(), shown.hour.sums());
            topics.insert("about".to_owned(), self.about());
            let row = shown.row.or_else(|| live.frame().state().get("row").cloned());
            topics.insert("row".to_owned(), row.unwrap_or(Value::Null));
            topics.insert("time".to_owned(), time.into());
        }
        live.show(patch::without_nulls(state));
    }

    fn about(&self) -> Value {
        let Settings { targets, prices, version, .. } = &self.shared.settings;
        json!({
            "version": version, "priced": !prices.is_empty(),
            "targets": {
                "availability": targets.availability, "latency_p95": targets.latency_p95,
                "overhead_p99": targets.overhead_p99, "hit_rate": targets.hit_rate,
            },
        })
    }

    /// Answers a request for something of the console's; `None` is somebody else's. Who may ask is not looked at
    /// here: the page, its assets and [`Console::is_public`] are for everybody, the rest for those who may see it.
    pub fn answer(&self, asked: &Asked<'_>) -> Option<Response<Answer>> {
        let get = matches!(*asked.method, Method::GET | Method::HEAD);
        if asked.path == "/" && get && wants_page(asked.headers) {
            return Some(self.shared.page.deliver(asked.headers));
        }
        if let Some(name) = asked.path.strip_prefix("/assets/") {
            return Some(match asset::find(name) {
                Some(found) if get => self.asset(found, asked.headers),
                Some(_) => refused(StatusCode::METHOD_NOT_ALLOWED, "this path takes GET, HEAD"),
                None => refused(StatusCode::NOT_FOUND, "there is no such asset"),
            });
        }
        match (asked.path.strip_prefix(API)?, asked.method) {
            ("overview", &Method::GET) => Some(self.overview(asked.headers)),
            ("events", &Method::GET) => Some(self.events()),
            ("session", &Method::GET) => Some(self.session(asked)),
            ("session", &Method::POST) => Some(self.sign_in(asked)),
            ("session", &Method::DELETE) => {
                let mut response = told(&json!({ "signed_in": false }));
                response.headers_mut().insert(header::SET_COOKIE, self.shared.sessions.close(asked.headers));
                Some(response)
            }
            ("overview" | "events" | "session", _) => {
                Some(refused(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method"))
            }
            _ => None,
        }
    }

    /// Whether everybody may have what is at a path: the page and its assets say nothing of this gateway.
    pub fn is_public(path: &str) -> bool {
        path == "/" || path.starts_with("/assets/")
    }

    /// What the headers of a request prove, where a key with this digest is asked for.
    pub fn proof(&self, headers: &HeaderMap, key: Option<[u8; 32]>) -> Proof {
        self.shared.sessions.proof(headers, key)
    }

    fn asset(&self, found: &'static asset::Asset, headers: &HeaderMap) -> Response<Answer> {
        let mut response = deliver::asset(found, headers);
        if self.shared.settings.asset_prefix.is_some() {
            // A CDN passes this on: modules of another origin are loaded no other way.
            let all = HeaderValue::from_static("*");
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, all);
        }
        response
    }

    /// All that the first page shows.
    fn overview(&self, headers: &HeaderMap) -> Response<Answer> {
        let frame = self.shared.live.frame();
        let tag = format!("W/\"{:x}-{}\"", self.shared.process, frame.number);
        let mut response = if deliver::has(headers, &tag) {
            let mut response = Response::new(Answer::Whole(Bytes::new()));
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        } else {
            let history = self.shared.live.history().told();
            let body = json!({ "state": frame.state(), "history": history }).to_string();
            encoded(body, deliver::coding(headers))
        };
        let headers = response.headers_mut();
        // What is a moment old is shown at once: the feed brings the rest.
        let keep = HeaderValue::from_static("private, max-age=1, stale-while-revalidate=30");
        headers.insert(header::CACHE_CONTROL, keep);
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding, cookie, authorization"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }

    fn events(&self) -> Response<Answer> {
        let Some(feed) = self.shared.live.feed() else {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "too many watch already");
        };
        let mut response = Response::new(Answer::Live(feed));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        guard(headers);
        response
    }

    fn session(&self, asked: &Asked<'_>) -> Response<Answer> {
        let token = self.shared.sessions.token(asked.headers, asked.key);
        told(&json!({ "keyed": asked.key.is_some(), "token": token }))
    }

    /// Opens a session for one whose key was found to be right.
    fn sign_in(&self, asked: &Asked<'_>) -> Response<Answer> {
        let Some(key) = asked.key else {
            return refused(StatusCode::BAD_REQUEST, "no key is asked for here");
        };
        if !asked.headers.contains_key(header::AUTHORIZATION) {
            return refused(StatusCode::UNAUTHORIZED, "send the admin key as authorization: Bearer");
        }
        let over_tls = asked.headers.get("x-forwarded-proto").is_some_and(|scheme| scheme == "https");
        let (cookie, token) = self.shared.sessions.open(key, over_tls);
        let mut response = told(&json!({ "keyed": true, "token": token }));
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        response
    }
}

/// Tools that take anything get the text that they always got.
fn wants_page(headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|value| value.contains("text/html"));
    headers.get(header::ACCEPT).is_some_and(accepts)
}

fn encoded(body: String, coding: Coding) -> Response<Answer> {
    let gzip = |body: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(body.as_bytes()).and_then(|()| encoder.finish()).ok()
    };
    let zipped = (coding != Coding::Plain).then(|| gzip(&body)).flatten();
    let is_zipped = zipped.is_some();
    let bytes = zipped.map_or_else(|| Bytes::from(body), Bytes::from);
    let mut response = Response::new(Answer::Whole(bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if is_zipped {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    guard(headers);
    response
}

fn told(value: &Value) -> Response<Answer> {
    let mut response = encoded(value.to_string(), Coding::Plain);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refused(status: StatusCode, why: &str) -> Response<Answer> {
    let mut response = told(&json!({ "error": why }));
    *response.status_mut() = status;
    response
}

/// Data is shown by nothing but our page.
fn guard(headers: &mut HeaderMap) {
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    deliver::protect(headers, &nothing);
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
