//! The course of one request through a group: who was tried, and what follows a refusal.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    backoff,
    classify::{Refusal, RefusalKind},
    deployment::Group,
    picker::Tried,
};

/// What has happened to one request so far.
#[derive(Debug, Default)]
pub(crate) struct Course<'a> {
    pub(crate) tried: Tried,
    /// The deployment to be asked next, whatever the picker says.
    pub(crate) again: Option<usize>,
    /// Whether a connection broke, or an answer was none.
    pub(crate) broke: bool,
    /// Where those that are asked are noted down, by this try and by the one beside it.
    pub(crate) asked: Option<&'a AtomicU64>,
    /// Keys that the deployment refused, and further attempts at it for other reasons.
    pub(crate) keys: usize,
    pub(crate) same: u32,
}

/// What follows a refusal.
pub(crate) enum Next {
    /// The same deployment, with another key or after a pause.
    Same { pause: Duration },
    /// Another deployment.
    Another,
}

impl Course<'_> {
    /// This deployment is about to be asked.
    pub(crate) fn asks(&self, index: usize) {
        if let Some(asked) = self.asked.filter(|_| index < 64) {
            asked.fetch_or(1 << index, Relaxed);
        }
    }

    /// Those that are not to be picked: tried, or being asked by the try beside this one.
    pub(crate) fn taken(&self) -> Tried {
        let asked = self.asked.map_or(0, |asked| asked.load(Relaxed));
        Tried::from_bits(self.tried.bits() | asked)
    }

    /// This deployment is done with.
    pub(crate) fn moves_on(&mut self, index: usize) {
        self.tried.insert(index);
        (self.keys, self.same) = (0, 0);
    }
}

impl Group {
    /// What may follow a refusal, the budget aside.
    pub(crate) fn after_refusal(
        &self,
        course: &mut Course<'_>,
        index: usize,
        refusal: &Refusal,
        another_key: bool,
        deadline: Instant,
    ) -> Option<Next> {
        let deployment = self.deployments.get(index)?;
        if !self.failover.refused || refusal.kind == RefusalKind::Rightful {
            return None;
        }
        if refusal.kind == RefusalKind::Unfit {
            // What one deployment of a model cannot take, no other of the same model can.
            for (other, same) in self.deployments.iter().enumerate() {
                if same.model() == deployment.model() {
                    course.tried.insert(other);
                }
            }
        }
        course.keys += 1;
        if another_key && course.keys < deployment.provider().keys.len() {
            return Some(Next::Same { pause: Duration::ZERO });
        }
        let passes = matches!(refusal.kind, RefusalKind::Fault | RefusalKind::Throttled);
        if passes && course.same < self.failover.retries {
            let pause = backoff::pause(&self.failover, course.same, refusal.retry_after, &self.random);
            if let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) {
                course.same += 1;
                return Some(Next::Same { pause });
            }
        }
        self.others(index, course.taken()).then_some(Next::Another)
    }
}
