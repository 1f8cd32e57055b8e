//! The request path of the gateway: route, authenticate, cache, pool, respond.
//!
//! A [`Gateway`] turns one HTTP request into one response, over any body. It opens no socket, reads no
//! file and spawns no task: a server around it does.
//!
//! ```
//! use chimera_gateway::{Gateway, Models, Settings};
//!
//! let gateway = Gateway::new(Settings::new(Models::default()), [7; 32])?;
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let request = http::Request::get("/health/live").header("host", "localhost");
//! let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("a request");
//! assert_eq!(gateway.handle(request).await.status(), 200);
//! # });
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! `call.rs` is the way of a request, top to bottom. The body is read under a cap and looked at once
//! (`look.rs`); a request seen before, byte for byte, is not even looked at (`alias.rs`). A fingerprint
//! finds a cached [entry](CacheSettings), which serves unary and streaming callers in bytes that were
//! made once (`entry.rs`). A miss joins or begins a call (`load.rs`) whose request is the caller's own
//! bytes (`upstream.rs`), and whose answer passes through event by event (`body.rs`). Where the provider
//! speaks another dialect than the caller, `translate.rs` stands between them, and `mixed.rs` where a
//! group's deployments speak more than one.
//!
//! # Guarantees
//! - **Cancellation**: dropping a response, or its future, ends the upstream call at once, unless
//!   another caller follows it.
//! - **Memory**: every body, event, log and cache is bounded by a setting.
//! - **Errors**: every fault is an answer in the caller's dialect with a stable code; a panic ends one
//!   request.
//! - **Second tier**: a Redis that is away, slow or wrong costs misses, never an answer.
//! - **Secrets**: bodies and keys are not logged; a provider's key never leaves in an answer.
//!
//! # What it does not do
//! It transforms prompts only where a pipeline is configured or asked for: `transforms.rs` stands around
//! the way of such a call, and of no other.

mod admin;
mod alias;
mod aside;
mod asked;
mod auth;
mod body;
mod books;
mod cache_page;
mod call;
mod compress;
mod context;
mod directives;
mod entry;
mod failure;
mod following;
mod gateway;
mod generate;
mod head;
mod intake;
mod judge;
mod keep;
mod limits;
mod load;
mod log;
mod look;
mod metrics;
mod mixed;
mod models;
mod models_list;
mod optimize;
mod passing;
mod plan;
mod probe;
mod reading;
mod refusal;
mod renew;
mod reply;
mod request_id;
mod respond;
mod route;
mod second_tier;
mod set_aside;
mod settings;
mod told;
mod traces;
mod transforms;
mod translate;
mod translating;
mod upstream;
mod web_page;

pub use admin::{Admin, AdminHooks, Answering, Proof};
pub use auth::{KeyDigest, Tenant, Tenants, key_digest};
pub use body::{Aborted, Body, LineStream};
pub use chimera_protocol::DialectId;
pub use chimera_transform::{PoolSettings, PoolSnapshot};
pub use gateway::{Gateway, GatewayError};
pub use limits::Limits;
pub use metrics::METRICS;
pub use models::{ModelProvider, Models};
pub use optimize::OptimizerSettings;
pub use second_tier::{DiskCache, SecondTier};
pub use settings::{
    CachePolicy, CacheSettings, CompressionSettings, RouteCache, RouteCaches, Settings, SizeLimits, Timeouts,
};
pub use traces::{CallTrace, Trace, Tracer};
pub use transforms::{PipelineSpec, SpecError, Transforms, transform_line};
