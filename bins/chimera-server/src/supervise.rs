//! Loops that the process needs for as long as it lives: a fault of ours in one must not end it.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::Poll,
    time::Duration,
};

/// How long a loop that fell rests: one that falls each time must not take a thread for itself.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs a loop, and begins it anew whenever it panics. What it must remember across that lives outside of it.
pub(crate) async fn supervised<T>(name: &'static str, mut work: impl AsyncFnMut() -> T) -> T {
    loop {
        if let Some(ended) = caught(&mut work).await {
            return ended;
        }
        crate::metrics::panicked();
        tracing::error!(name, "a loop of the server panicked; it begins anew");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the work comes to, or nothing if it panics.
async fn caught<T>(work: &mut impl AsyncFnMut() -> T) -> Option<T> {
    let mut running = pin!(async { work().await });
    // After a panic the future is dropped and never polled again, so nothing sees it half-done.
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn p07_a_loop_that_panics_begins_anew_and_each_panic_is_counted() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let _counting = metrics::set_default_local_recorder(&recorder);
        let (begun, rounds, began) = (Cell::new(0), Cell::new(0), Instant::now());
        let kept = Arc::new(());
        let ended = supervised("test", async || {
            begun.set(begun.get() + 1);
            let _held = kept.clone();
            // At once, after a while, and not at all.
            assert!(begun.get() > 1, "planted");
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                rounds.set(rounds.get() + 1);
                assert!(begun.get() > 2 || rounds.get() < 2, "planted");
            }
            begun.get()
        })
        .await;
        assert_eq!((ended, rounds.get()), (3, 2 + 3));
        assert_eq!(began.elapsed(), 2 * PAUSE + Duration::from_secs(2 + 3));
        assert_eq!(Arc::strong_count(&kept), 1, "what a fallen loop held is let go of");
        assert!(handle.render().contains("chimera_panics_total 2\n"), "{}", handle.render());
    }
}
