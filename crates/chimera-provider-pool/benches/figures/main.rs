//! What the crate's promises come to over real sockets: one provider of several that is ill, more than can be
//! served, and what a request costs. Prints the tables of `docs/pools.md`.
//!
//! `cargo bench -p chimera-provider-pool --bench figures`, about a minute.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout, missing_docs)]

mod cost;
mod faults;
mod overload;
mod servers;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings};
use chimera_provider_pool::{
    AtLimit, Bounds, Classify, Deployment, DeploymentSettings, Group, GroupSettings, Provider,
    ProviderSettings, Refusal, RefusalKind, Reply, Resolver, SendError, SharedPicker, Target, TcpConnect,
    Verdict,
};
use tokio::time::Instant;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// Takes answers for what their statuses say.
#[derive(Default)]
struct ByStatus(u16);

impl Classify for ByStatus {
    fn head(&mut self, parts: &http::response::Parts) -> Verdict {
        self.0 = parts.status.as_u16();
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        let refuse = |kind| Verdict::Refuse(Refusal { kind, retry_after: None });
        match (self.0, ended) {
            (_, false) => Verdict::NeedMore,
            (429, true) => refuse(RefusalKind::Throttled),
            (500.., true) => refuse(RefusalKind::Fault),
            (_, true) => Verdict::Accept,
        }
    }
}

/// A group of servers at these ports.
pub(crate) fn group(
    ports: &[u16],
    picker: SharedPicker,
    settings: GroupSettings,
    each: &DeploymentSettings,
) -> Arc<Group> {
    let connector = Arc::new(TcpConnect::new(Resolver::default()).unwrap());
    let members = ports.iter().enumerate().map(|(index, port)| {
        let target = Target::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let provider =
            Provider::new(ProviderSettings::new(format!("p{index}"), target), connector.clone(), 1);
        let breaker = Breaker::new(Settings::default(), std::time::Instant::now());
        Deployment::with_settings(format!("d{index}"), provider.unwrap(), None, breaker, each)
    });
    Group::with_settings("g", members.collect(), picker, settings)
}

pub(crate) async fn send(group: &Group) -> Result<Reply, SendError> {
    let bounds = Bounds {
        deadline: Instant::now() + 10_000 * MS,
        shortened: false,
        body_deadline: None,
        idle: Some(10_000 * MS),
        hold_limit: 1 << 16,
        at_limit: AtLimit::Refuse,
        worker: 0,
    };
    let build = |_: &Deployment| http::Request::post("/").body(Bytes::from_static(b"hi"));
    group.send(&bounds, &mut ByStatus::default(), &build).await
}

/// The time that so many of a hundred stay below.
pub(crate) fn percentile(times: impl IntoIterator<Item = Duration>, percent: usize) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort_unstable();
    times.get(times.len() * percent / 100).copied().unwrap_or_default()
}

pub(crate) fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        faults::one_of_three_is_ill().await;
        faults::all_fail().await;
        faults::one_of_four_is_slow().await;
        overload::ten_times().await;
    });
    cost::beside_a_bare_client();
}
