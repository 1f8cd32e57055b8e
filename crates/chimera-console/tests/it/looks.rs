//! How often a console looks at its source: by the clock, and not by how many watch.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use chimera_console::{Answer, Asked, Console, Feed, Settings, Source};
use futures_core::Stream;
use http::{HeaderMap, Method, Response, header};

/// Counts how often it is asked, and tells that.
struct Counted(Arc<AtomicU32>);

impl Source for Counted {
    fn metrics(&self) -> String {
        let asked = self.0.fetch_add(1, Relaxed) + 1;
        format!("chimera_requests_total{{route=\"messages\",outcome=\"success\"}} {asked}\n")
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "ready": true, "nothing": null })
    }
}

struct Running {
    console: Console,
    asked: Arc<AtomicU32>,
    clock: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.clock.abort();
    }
}

fn running() -> Running {
    let asked = Arc::new(AtomicU32::new(0));
    let console = Console::new(Settings::default(), Counted(asked.clone()), [7; 32]);
    let ticking = console.clone();
    let clock = tokio::spawn(async move { ticking.run().await });
    Running { console, asked, clock }
}

impl Running {
    fn get(&self, path: &str, headers: &HeaderMap) -> Response<Answer> {
        self.console.answer(&Asked { method: &Method::GET, path, headers, key: None }).unwrap()
    }

    fn feed(&self) -> Feed {
        match self.get("/api/v1/console/events", &HeaderMap::new()).into_body() {
            Answer::Live(feed) => feed,
            Answer::Whole(_) => panic!("no feed"),
        }
    }

    fn overview(&self, headers: &HeaderMap) -> (Response<()>, serde_json::Value) {
        let (parts, body) = self.get("/api/v1/console/overview", headers).into_parts();
        let Answer::Whole(body) = body else { panic!("a feed") };
        (Response::from_parts(parts, ()), serde_json::from_slice(&body).unwrap_or_default())
    }
}

async fn next(feed: &mut Feed) -> String {
    let bytes = poll_fn(|cx| Pin::new(&mut *feed).poll_next(cx)).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn unwatched_it_looks_every_five_seconds() {
    let running = running();
    tokio::time::sleep(Duration::from_millis(60_500)).await;
    assert_eq!(running.asked.load(Relaxed), 13, "at the start, and twelve times in a minute");
}

#[tokio::test(start_paused = true)]
async fn watched_it_looks_every_second_whatever_the_number_of_viewers() {
    let running = running();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut feeds: Vec<_> = (0..20).map(|_| running.feed()).collect();
    for feed in &mut feeds {
        assert!(next(feed).await.contains("event: state"));
    }
    let before = running.asked.load(Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(running.asked.load(Relaxed) - before, 10);
    for feed in &mut feeds {
        assert!(next(feed).await.contains("event: state"), "one that did not read is told all, once");
    }
    drop(feeds);
    let before = running.asked.load(Relaxed);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(running.asked.load(Relaxed) - before, 4);
}

#[tokio::test(start_paused = true)]
async fn no_request_makes_it_look() {
    let running = running();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let before = running.asked.load(Relaxed);
    for _ in 0..100 {
        let (response, body) = running.overview(&HeaderMap::new());
        assert_eq!((response.status().as_u16(), body["state"]["ready"].as_bool()), (200, Some(true)));
        assert!(body["state"].get("nothing").is_none(), "what is not known is not there");
    }
    assert_eq!(running.asked.load(Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn the_overview_is_not_sent_to_one_who_has_it() {
    let running = running();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut headers = HeaderMap::new();
    let (first, _) = running.overview(&headers);
    headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
    assert_eq!(running.overview(&headers).0.status(), 304);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (later, body) = running.overview(&headers);
    assert_eq!(later.status(), 200, "there is something new");
    assert_eq!(body["history"]["columns"]["rate"].as_array().unwrap().len(), 1);
    assert_eq!(body["history"]["columns"]["rate"][0].as_f64(), Some(0.4), "two in the first five seconds");
}
