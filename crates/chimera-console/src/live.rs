//! The live state: looked at once for all who watch, and told as what changed.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use serde_json::Value;
use tokio::sync::watch;

use crate::{history::History, patch};

/// At most so many watch at once: each holds a connection of the listener.
pub(crate) const MOST_VIEWERS: usize = 32;

/// The state after one look.
pub(crate) struct Frame {
    pub(crate) number: u64,
    state: Value,
    /// The event that makes this state of the one before.
    delta: Bytes,
    /// The event that tells all of it, made when somebody needs it.
    whole: OnceLock<Bytes>,
}

impl Frame {
    pub(crate) fn state(&self) -> &Value {
        &self.state
    }

    fn whole(&self) -> Bytes {
        self.whole.get_or_init(|| event("state", self.number, &self.state)).clone()
    }
}

fn event(name: &str, number: u64, data: &Value) -> Bytes {
    format!("event: {name}\nid: {number}\ndata: {data}\n\n").into()
}

/// Where looks come in and those who watch are told.
pub(crate) struct Live {
    frames: watch::Sender<Arc<Frame>>,
    viewers: Arc<AtomicUsize>,
    history: Mutex<History>,
}

impl Live {
    pub(crate) fn new() -> Self {
        let state = Value::Object(serde_json::Map::new());
        let frame = Frame { number: 0, state, delta: Bytes::new(), whole: OnceLock::new() };
        Self {
            frames: watch::Sender::new(Arc::new(frame)),
            viewers: Arc::default(),
            history: Mutex::default(),
        }
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.viewers.load(Relaxed) > 0
    }

    pub(crate) fn frame(&self) -> Arc<Frame> {
        self.frames.borrow().clone()
    }

    /// Takes in a new state.
    pub(crate) fn show(&self, state: Value) {
        let before = self.frame();
        let number = before.number + 1;
        let patch = patch::between(&before.state, &state).unwrap_or_else(|| serde_json::json!({}));
        let delta = event("delta", number, &patch);
        self.frames.send_replace(Arc::new(Frame { number, state, delta, whole: OnceLock::new() }));
    }

    /// A feed of all that is shown from now on; `None` when too many watch already.
    pub(crate) fn feed(&self) -> Option<Feed> {
        let viewer = Viewer(self.viewers.clone());
        if self.viewers.fetch_add(1, Relaxed) >= MOST_VIEWERS {
            return None;
        }
        Some(Feed { frames: Frames::Here(self.frames.subscribe()), told: None, _viewer: viewer })
    }
}

/// Counts one who watches until it is dropped.
struct Viewer(Arc<AtomicUsize>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Waits for the next frame, and gives the receiver back.
type Waiting = Pin<Box<dyn Future<Output = Option<watch::Receiver<Arc<Frame>>>> + Send>>;

enum Frames {
    Here(watch::Receiver<Arc<Frame>>),
    Waiting(Waiting),
    Over,
}

/// The events for one who watches: the whole state first, then what changes. One who is slow misses no state,
/// only the steps to it.
pub struct Feed {
    frames: Frames,
    /// The number of the frame that was told last.
    told: Option<u64>,
    _viewer: Viewer,
}

impl Feed {
    fn next_of(&self, frame: &Frame) -> Bytes {
        match self.told {
            None => [b"retry: 2000\n\n", &*frame.whole()].concat().into(),
            Some(told) if told + 1 == frame.number => frame.delta.clone(),
            Some(_) => frame.whole(),
        }
    }
}

impl Stream for Feed {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match std::mem::replace(&mut self.frames, Frames::Over) {
                Frames::Here(mut frames) => {
                    let frame = frames.borrow_and_update().clone();
                    if self.told != Some(frame.number) {
                        let event = self.next_of(&frame);
                        self.told = Some(frame.number);
                        self.frames = Frames::Here(frames);
                        return Poll::Ready(Some(event));
                    }
                    self.frames = Frames::Waiting(Box::pin(async move {
                        frames.changed().await.ok()?;
                        Some(frames)
                    }));
                }
                Frames::Waiting(mut waiting) => match waiting.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.frames = Frames::Waiting(waiting);
                        return Poll::Pending;
                    }
                    ready => match ready!(ready) {
                        Some(frames) => self.frames = Frames::Here(frames),
                        None => return Poll::Ready(None),
                    },
                },
                Frames::Over => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use serde_json::json;

    use super::*;

    async fn next(feed: &mut Feed) -> String {
        let bytes = poll_fn(|cx| Pin::new(&mut *feed).poll_next(cx)).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn is_pending(feed: &mut Feed) -> bool {
        Pin::new(feed).poll_next(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn a_viewer_gets_the_state_and_then_what_changes() {
        let live = Live::new();
        live.show(json!({ "a": 1, "b": 2 }));
        let mut feed = live.feed().unwrap();
        let first = next(&mut feed).await;
        assert!(first.starts_with("retry: ") && first.contains("event: state\nid: 1\n"), "{first}");
        assert!(first.ends_with("data: {\"a\":1,\"b\":2}\n\n"), "{first}");
        assert!(is_pending(&mut feed));
        live.show(json!({ "a": 1, "b": 3 }));
        assert_eq!(next(&mut feed).await, "event: delta\nid: 2\ndata: {\"b\":3}\n\n");
    }

    #[tokio::test]
    async fn one_who_missed_a_step_gets_the_whole_state() {
        let live = Live::new();
        let mut feed = live.feed().unwrap();
        next(&mut feed).await;
        for n in 0..5 {
            live.show(json!({ "n": n }));
        }
        assert_eq!(next(&mut feed).await, "event: state\nid: 5\ndata: {\"n\":4}\n\n");
        assert!(is_pending(&mut feed));
    }

    #[tokio::test]
    async fn m01_viewers_are_bounded_and_counted_until_they_leave() {
        let live = Live::new();
        let feeds: Vec<_> = (0..MOST_VIEWERS).map(|_| live.feed().unwrap()).collect();
        assert!(live.feed().is_none());
        drop(feeds);
        assert!(!live.is_watched());
        assert!(live.feed().is_some());
    }
}
