//! The events of a job as they happen, for one follower.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_optimizer::{Event, Handle};
use futures_core::Stream;
use futures_util::stream::unfold;
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{self, error::RecvError},
    time::{Interval, MissedTickBehavior, interval},
};

use super::jobs::Entry;
use crate::gateway::Shared;

/// Ticks without an event after which a comment shows that the stream lives.
const QUIET: u32 = 15;

struct Follower {
    shared: Arc<Shared>,
    entry: Arc<Entry>,
    events: Option<broadcast::Receiver<Event>>,
    tick: Interval,
    quiet: u32,
    greeted: bool,
    over: bool,
}

/// What a follower is sent: how the job stands, then each event, and `finished` last.
pub(super) fn follow(shared: Arc<Shared>, entry: Arc<Entry>) -> impl Stream<Item = Bytes> + Send {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let events = entry.handle.as_ref().map(Handle::events);
    let follower = Follower { shared, entry, events, tick, quiet: 0, greeted: false, over: false };
    unfold(follower, |mut follower| async move {
        let next = follower.next().await?;
        Some((next, follower))
    })
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if !self.greeted {
            self.greeted = true;
            return Some(event("standing", &self.entry.brief()));
        }
        loop {
            // Asked before the events are: what ends between the two is in them.
            let is_over = self.entry.is_over();
            tokio::select! {
                biased;
                told = recv(&mut self.events) => return Some(self.told(told)),
                _ = self.tick.tick() => {}
            }
            if is_over || self.shared.is_ending() {
                self.over = true;
                return Some(event(if is_over { "finished" } else { "standing" }, &self.entry.brief()));
            }
            self.quiet += 1;
            if self.quiet >= QUIET {
                self.quiet = 0;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        }
    }

    fn told(&mut self, told: Result<Event, RecvError>) -> Bytes {
        self.quiet = 0;
        match told {
            Ok(told) => {
                self.over = matches!(told, Event::Finished { .. });
                let value = serde_json::to_value(&told).unwrap_or_default();
                let kind = value.get("type").and_then(Value::as_str).unwrap_or("event").to_owned();
                event(&kind, &value)
            }
            Err(RecvError::Lagged(lost)) => event("lost", &json!({ "events": lost })),
            Err(RecvError::Closed) => {
                self.over = true;
                event("finished", &self.entry.brief())
            }
        }
    }
}

/// The next event; of a job of an earlier process there are none.
async fn recv(events: &mut Option<broadcast::Receiver<Event>>) -> Result<Event, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => Err(RecvError::Closed),
    }
}

fn event(kind: &str, value: &Value) -> Bytes {
    format!("event: {kind}\ndata: {value}\n\n").into()
}
