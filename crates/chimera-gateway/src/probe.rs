//! Active probes: what rests is asked whether it is well.
//!
//! Breakers learn from requests. One that has opened lets a few of them through to find out, and if the
//! provider is still down, those callers pay for it with time. A probe asks for the provider's list of
//! models instead: that costs nothing, and says as much of whether it is there. It does not say whether
//! it generates, so a deployment that lists well and fails to generate opens again at once.

use chimera_circuit_breaker::State;
use tokio::{task::JoinSet, time::Instant};

use crate::{gateway::Gateway, models_list};

impl Gateway {
    /// Asks every deployment that rests and is due, all at once, each for the time of a health check at
    /// most. Call it now and then, where probes are wanted.
    pub async fn probe(&self) {
        let mut asking = JoinSet::new();
        let deadline = Instant::now() + self.with_settings(|settings| settings.timeouts.health);
        self.with_models(|models| {
            for deployment in models.deployments() {
                let dialect = models.of(&deployment).and_then(|provider| provider.dialects.first().copied());
                let rests = deployment.breaker().state(std::time::Instant::now()) != State::Closed;
                if let Some(dialect) = dialect.filter(|_| rests) {
                    asking.spawn(async move {
                        let build = |deployment: &_| models_list::request(dialect, deployment);
                        let well = deployment.probe(deadline, &build).await;
                        if let Some(well) = well {
                            tracing::debug!(deployment = deployment.name(), well, "probed");
                        }
                    });
                }
            }
        });
        while asking.join_next().await.is_some() {}
    }
}
