//! The tier in Redis: RESP3 over a few pipelined connections, and changes told by client tracking.
//!
//! One client writes and is told what others write; the others read. Redis does not tell a connection
//! of its own writes (`NOLOOP`), so what a process writes does not push its own entry out of its near
//! tier, and what another writes does.

mod connect;
mod line;
mod masters;
mod names;
mod nodes;
mod purge;
mod settings;
mod tier;
mod tracking;

pub use connect::REDIS_STACK;
pub use settings::{RedisSettings, RedisUrlError};
pub use tier::RedisTier;
