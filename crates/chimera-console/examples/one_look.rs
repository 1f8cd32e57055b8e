//! A console over a source of one's own: what the page, and a viewer of the feed, would get.

use std::future::poll_fn;

use chimera_console::{Answer, Asked, Console, Settings, Source};
use futures_core::Stream;
use http::{HeaderMap, HeaderValue, Method, header};

/// A shop's gateway, made up.
struct Shop;

impl Source for Shop {
    fn metrics(&self) -> String {
        "chimera_requests_total{route=\"messages\",outcome=\"success\"} 42\n".to_owned()
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!({ "ready": true, "providers": { "till": { "open": 3 } } })
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let console = Console::new(Settings::default(), Shop, [7; 32]);
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("br"));
    let ask = |path| Asked { method: &Method::GET, path, headers: &headers, key: None };
    if let Some(Answer::Whole(page)) = console.answer(&ask("/")).map(http::Response::into_body) {
        println!("the page is {} bytes", page.len());
    }
    if let Some(Answer::Live(mut feed)) =
        console.answer(&ask("/api/v1/console/events")).map(http::Response::into_body)
    {
        // The first event is from before the first look, the second from after it.
        tokio::select! {
            () = console.run() => {}
            () = async {
                for _ in 0..2 {
                    if let Some(event) = poll_fn(|cx| std::pin::Pin::new(&mut feed).poll_next(cx)).await {
                        println!("{}", String::from_utf8_lossy(&event));
                    }
                }
            } => {}
        }
    }
}
