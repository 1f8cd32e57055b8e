//! Simulated LLM providers that speak the OpenAI, Anthropic and Gemini dialects.
//!
//! A gateway's tests need a provider that answers at once, always the same, and
//! fails on demand; its users need something to try before they have a key.
//! [`Sim`] is both: call it in-process, give it a pipe, or let it listen.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use chimera_sim::{Fault, Settings, Sim};
//! use http_body_util::{BodyExt, Full};
//!
//! let sim = Sim::new(Settings { tokens: 8, ..Settings::default() });
//! let ask = || {
//!     let body = r#"{"model":"sim-small","messages":[{"role":"user","content":"Hello"}]}"#;
//!     http::Request::post("/v1/chat/completions").body(Full::new(bytes::Bytes::from(body))).unwrap()
//! };
//! let answer = sim.respond(ask()).await;
//! assert_eq!(answer.status(), 200);
//! let body = answer.into_body().collect().await.unwrap().to_bytes();
//! assert!(std::str::from_utf8(&body).unwrap().contains("You said: Hello"));
//!
//! sim.fault_next(Fault::throttled("7"));
//! assert_eq!(sim.respond(ask()).await.status(), 429);
//! assert_eq!(sim.counts().started, 2);
//! # });
//! ```
//!
//! # How it works
//! The path tells the dialect. The request is read into the few things that all
//! dialects share, an answer is made from a hash of its bytes and the seed, and
//! the dialect renders it as one body or as a script of timed events. A [`Fault`]
//! is an edit of that script. The same request therefore gets the same bytes,
//! and its stream says what its unary answer says, in as many tokens.
//!
//! Tools that are offered are called (two at once when the prompt says
//! "parallel"), a JSON schema gets its smallest instance, and embeddings are unit
//! vectors in which shared words bring texts closer. With
//! [`Settings::prompt_cache`] usage tells how much of a prompt, from its first byte on,
//! was sent before. A wrong key is 401 in all
//! dialects, Gemini's included, where the real one says 400.
//!
//! # Guarantees
//! - *Cancellation*: dropping a response future or body is counted as cancelled,
//!   and [`Sim::until`] waits for it. Dropping [`Sim::serve`] ends its connections.
//! - *Time* passes only in `tokio::time`, so that a paused clock moves everything.
//! - *Memory*: request bodies are capped, seen requests are a bounded ring, and
//!   what a header may ask for is limited.
//! - *Errors*: no input panics; what a provider would refuse is refused in its dialect.
//!
//! # What it does not do
//! It checks only what the official SDKs need, it speaks HTTP/1.1 without TLS,
//! and it is no model.

mod answer;
mod anthropic;
mod body;
mod connection;
mod dialect;
mod draft;
mod embedding;
mod error;
mod fault;
mod gemini;
mod inject;
mod openai;
mod prompt_cache;
mod request;
mod schema;
mod seen;
mod serve;
mod settings;
mod sim;

pub use crate::{
    body::SimBody,
    dialect::Dialect,
    error::{BodyError, FaultError},
    fault::Fault,
    seen::{Counts, Seen},
    settings::{Framing, Settings},
    sim::Sim,
};
