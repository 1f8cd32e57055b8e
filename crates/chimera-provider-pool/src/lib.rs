//! Connection pools, fail-over and deadlines over deployments of HTTP providers.
//!
//! A [`Group`] is a set of [`Deployment`]s that can stand in for each other; [`Group::send`] carries
//! one request to the first that accepts it. The crate knows HTTP and nothing of what the messages
//! mean: the caller builds each request and judges each answer through [`Classify`].
//!
//! ```no_run
//! use std::{sync::Arc, time::Instant};
//! use chimera_circuit_breaker::{Breaker, Settings};
//! use chimera_provider_pool::{
//!     Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Resolver, Target, TcpConnect,
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let target = Target::parse("https://api.example.com/v1")?;
//! let connector = Arc::new(TcpConnect::new(Resolver::default())?);
//! let provider = Provider::new(ProviderSettings::new("example", target), connector, 1)?;
//! let breaker = Breaker::new(Settings::default(), Instant::now());
//! let deployment = Deployment::new("example", provider, None, breaker, 256);
//! let group = Group::new("example", vec![deployment], Arc::new(InOrder), Failover::default());
//! # drop(group);
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//! A request picks a deployment ([`Picker`]), takes a breaker permit, a key and a slot, and a
//! connection. An HTTP/1.1 connection is driven by the request that uses it: its bytes move without a
//! task switch, everything that one read brought is passed on in one piece, and dropping the request
//! closes the socket at once. HTTP/2 connections (by ALPN) are shared. The answer is held back until
//! [`Classify`] accepts it, so that a failure after a 200 can still move on to another deployment.
//!
//! # Guarantees
//! - **Cancellation**: dropping the future of [`Group::send`] or a [`ReplyBody`] at any point ends the
//!   upstream call, frees the slot, and settles the breaker's permit as neutral.
//! - **Books**: exactly one outcome is recorded per attempt, on every path.
//! - **Memory**: connections, waiters and held-back bytes are bounded by settings.
//! - **Errors**: [`SendError`] says whether anything was sent ([`SendError::is_unsent`]).
//! - **Secrets**: keys are never printed; redirects are never followed.
//!
//! # What it does not do
//! It never retries after the first content was passed on.

mod adaptive;
mod affinity;
mod backoff;
mod budget;
mod classify;
mod connect;
mod connection;
mod course;
mod deployment;
mod error;
mod hedge;
mod http1;
mod http2;
mod keys;
mod latency;
mod learnt;
mod metrics;
mod pace;
mod parking;
mod picker;
mod pool;
mod probe;
mod queue;
mod random;
mod reply;
mod resolve;
mod rest;
mod send;
mod settings;
mod target;
mod tiers;

pub use classify::{Classify, Judging, Refusal, RefusalKind, Verdict};
pub use connect::{Connect, Connected, Connecting, Io, SharedConnect, TcpConnect, Transport, client_config};
pub use deployment::{Connections, Deployment, Group, Provider};
pub use error::{BodyError, ConnectError, SendError, SettingsError, Stage};
pub use keys::{Credential, Headroom, KeyIndex, KeyRing, Resting, Secret};
pub use learnt::Told;
pub use metrics::{AttemptOutcome, METRICS};
pub use pace::Left;
pub use parking::{KeyRest, RestingKey};
pub use picker::{InOrder, LeastLatency, Picker, RoundRobin, SharedPicker, Tried, Weighted};
pub use reply::{Reply, ReplyBody};
pub use resolve::Resolver;
pub use send::{AtLimit, Bounds, Build};
pub use settings::{DeploymentSettings, Failover, GroupSettings, ProviderSettings};
pub use target::Target;
