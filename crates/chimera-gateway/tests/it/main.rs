//! The request path as a whole, over in-memory pipes: what callers see, what providers see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

mod cache;
mod cancel;
mod dialects;
mod errors;
mod failing_steps;
mod failoverbench;
mod freshness;
mod judged;
mod keys;
mod mixed;
mod native;
mod offload;
mod optimize;
mod overload;
mod partitions;
mod probes;
#[path = "../../../chimera-cache/tests/redis/server.rs"]
#[allow(dead_code)]
mod redis_server;
mod replay;
mod second_tier;
mod spies;
mod support;
mod tenants;
mod timeouts;
mod traces;
mod transforms;
mod two_faults;
mod upstream;
mod web_pages;
