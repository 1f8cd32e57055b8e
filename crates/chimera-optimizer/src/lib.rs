//! Better prompts, with evidence: a task and a budget go in, a better prompt comes out, and why it is better.
//!
//! A [`Task`] is the texts to improve, how they are put to work, and examples. An [`Evaluator`] says of each
//! output how good it is, and in words what was wrong. An [`Optimization`] tries candidates against them, many
//! calls at once, and [`Findings`] are the best texts with their scores, the way that led there, and the cost.
//!
//! ```
//! use chimera_optimizer::{
//!     Budget, Dataset, Example, ModelAnswer, ModelRequest, Optimization, Settings, Task,
//!     evaluators::Exact, model_fn,
//! };
//!
//! // A model that answers in capitals if it is told to, and learns from feedback that it should be.
//! let model = model_fn(|request: ModelRequest| async move {
//!     let text = if request.system.contains("improve prompts") {
//!         "It has to shout.\n```\nRepeat. USE CAPITALS.\n```".to_owned()
//!     } else if request.system.contains("CAPITALS") {
//!         request.user.to_uppercase()
//!     } else {
//!         request.user
//!     };
//!     Ok(ModelAnswer { text, ..ModelAnswer::default() })
//! });
//! let word = |word: &str| Example::new(word, word, word.to_uppercase());
//! let data = Dataset {
//!     train: vec![word("one"), word("two")],
//!     validation: vec![word("three"), word("four")],
//!     held_out: vec![word("five")],
//! };
//! let job = Optimization::new(Task::prompt("shout", "Repeat.", data)?, model, Exact)
//!     .settings(Settings {
//!         budget: Budget { evaluations: Some(50), ..Budget::default() },
//!         ..Settings::default()
//!     })
//!     .build()?;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
//! let found = job.run().await?;
//! assert_eq!(found.best.text("instruction"), Some("Repeat. USE CAPITALS."));
//! assert_eq!(found.scores.held_out.map(|scores| scores.mean), Some(1.0));
//! assert_eq!(found.seed_scores.held_out.map(|scores| scores.mean), Some(0.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! A [`Strategy`] is a plain value that plans steps: make a candidate this way, try it on these examples,
//! accept it if it is better, validate it so far. Steps are begun in order, worked on in any order, and settled
//! in order, so what is decided does not depend on which call comes back first. [`strategies`] has four:
//! `reflective` (a model reads traces and feedback and rewrites; parents come from the instance-wise Pareto
//! frontier), `gradient` (textual gradients with step size and momentum, a beam, successive halving), `bandit`
//! (which examples to show), and `random`, the control that learns nothing.
//!
//! A journal keeps the results of calls, nothing else. A job that is run again with its journal computes the
//! same search from the same results, pays for nothing twice, and goes on where it was.
//!
//! # Guarantees
//! - **Results**: the same for a seed, a task and a model that answers the same, whatever the concurrency and
//!   the order of answers; only limits on time, and calls that fail, can change them.
//! - **Budget**: a limit on evaluations is never passed. Limits on tokens and money hold back what calls are
//!   estimated to cost, and are passed by the calls under way at most. What failed and was paid for counts.
//! - **Payment**: the same texts on the same example are paid for once, within a job and across its restarts.
//! - **Held-out examples**: looked at once, when the search is over, for the seed and the best.
//! - **Cancellation**: dropping [`Job::run`], or [`Handle::cancel`], drops every call under way at once.
//! - **Failure**: a call that fails is tried again, then counted and scored as nothing; when nothing answers,
//!   the job pauses with the reason, asks again with one call, and goes on.
//! - **Memory**: in proportion to the roll-outs that were paid for, each output being limited.
//! - **Safety**: outputs and data are data. They are never run, used as a path, or read as a template.
//!
//! # What it does not do
//! It calls no provider by itself: a [`LanguageModel`] does. It changes texts, not weights.

mod board;
mod budget;
mod candidate;
mod chance;
mod dataset;
mod diff;
mod engine;
mod error;
mod evaluator;
pub mod evaluators;
mod event;
mod fence;
mod findings;
mod frontier;
mod health;
mod job;
mod journal;
mod lane;
mod metrics;
mod model;
mod program;
mod proposer;
mod race;
mod report;
mod rollout;
mod search;
mod settings;
pub mod spec;
mod spend;
mod stats;
pub mod strategies;
mod strategy;
mod task;
mod template;

pub use board::{Board, Member};
pub use budget::{Budget, Limit};
pub use candidate::{Candidate, Digest};
pub use chance::Chance;
pub use dataset::{DataError, DataLimits, Dataset, Example, read_examples};
pub use diff::Change;
pub use error::{OptimizeError, TaskError};
pub use evaluator::{Case, Evaluator, Judgement, SharedEvaluator};
pub use event::{Event, Progress};
pub use findings::{Findings, Node, Scores};
pub use frontier::Frontier;
pub use job::{Handle, Job, Optimization};
pub use journal::JournalError;
pub use lane::Verdict;
pub use metrics::METRICS;
pub use model::{CallError, CallErrorKind, LanguageModel, ModelAnswer, ModelRequest, SharedModel, model_fn};
pub use program::{EXAMPLES, Program, Stage};
pub use proposer::{Guidance, ModelProposer, Proposal, Proposer, Record, Reflection, SharedProposer};
pub use search::{Ended, Point};
pub use settings::{Second, Settings};
pub use spend::{Price, Spend};
pub use stats::Estimate;
pub use strategy::{Accept, Make, Outcome, Plan, Step, Strategy, Validate};
pub use task::{Set, Task};
