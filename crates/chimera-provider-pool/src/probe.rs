//! Asking a deployment that rests whether it is well, before a caller has to find out.

use chimera_circuit_breaker::Outcome;
use tokio::time::Instant;

use crate::{
    deployment::Deployment,
    send::{Build, Progress, exchange},
};

impl Deployment {
    /// Sends one cheap request as a probe, if its breaker has one to give: whether it went well, or `None`
    /// where none was due. Whatever the provider answers to it is well, but for refusals of the key, of the
    /// rate, and faults of its own. Its answer is not read.
    pub async fn probe(&self, deadline: Instant, build: &Build<'_>) -> Option<bool> {
        let started = Instant::now();
        let permit = self.holders.try_acquire(started.into_std()).ok()?;
        if !permit.is_probe() {
            return None;
        }
        let key = self.pick_key(0, started).ok()?;
        let mut progress = Progress::new(started);
        let asked = tokio::time::timeout_at(deadline, exchange(self, 0, key, build, &mut progress)).await;
        let outcome = match asked.map(|asked| asked.map(|(_, parts)| parts.status.as_u16())) {
            Ok(Ok(429)) => Outcome::Throttled,
            Ok(Ok(401..=403 | 500..)) | Ok(Err(_)) | Err(_) => Outcome::Failure,
            Ok(Ok(_)) => Outcome::Success,
        };
        let now = Instant::now();
        permit.record(outcome, now - started, now.into_std());
        Some(outcome == Outcome::Success)
    }
}
