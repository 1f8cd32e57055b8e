//! Caching any async computation: many callers, one computation, then hits.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use chimera_cache::{FlightSettings, Flights, MemorySettings, MemoryTier, Source};
use futures_core::Stream;

/// A stream of the one value that a future brings.
struct Once<F>(Option<Pin<Box<F>>>);

impl<F: Future> Stream for Once<F> {
    type Item = F::Output;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<F::Output>> {
        let Some(future) = self.0.as_mut() else { return Poll::Ready(None) };
        let polled = future.as_mut().poll(cx);
        if polled.is_ready() {
            self.0 = None;
        }
        polled.map(Some)
    }
}

struct Squares {
    cache: MemoryTier<u64, Arc<u64>>,
    flights: Flights<u64, Arc<u64>>,
}

impl Squares {
    async fn get(self: &Arc<Self>, n: u64) -> Arc<u64> {
        if let Some(hit) = self.cache.get(&n, Instant::now()) {
            return hit.value;
        }
        let this = self.clone();
        let mut follow = self.flights.join(n, || {
            let load = async move {
                println!("computing the square of {n}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                let value = Arc::new(n * n);
                this.cache.put(n, value.clone(), Duration::from_secs(60), Instant::now());
                value
            };
            Box::pin(Once(Some(Box::pin(load)))) as Source<Arc<u64>>
        });
        poll_fn(|cx| Pin::new(&mut follow).poll_next(cx)).await.unwrap()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let squares = Arc::new(Squares {
        cache: MemoryTier::new(MemorySettings::new("squares", 1 << 20, 1 << 16), |_, _| 8).unwrap(),
        flights: Flights::new(FlightSettings::default(), |_| 8),
    });
    let callers: Vec<_> = (0..5)
        .map(|_| {
            let squares = squares.clone();
            tokio::spawn(async move { squares.get(12).await })
        })
        .collect();
    for caller in callers {
        println!("a caller got {}", caller.await.unwrap());
    }
    println!("again, from the cache: {}", squares.get(12).await);
}
