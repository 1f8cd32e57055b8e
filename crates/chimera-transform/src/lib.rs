//! Prompts prepared on the way in, and answers restored on the way out.
//!
//! A [`Pipeline`] is a list of steps under one name. It takes the texts out of a request in any dialect,
//! lets each step change them, and splices what was changed into the original bytes. What the answer
//! needs on its way back comes out beside it: a [`WayBack`] for whole answers, for the arguments of tool
//! calls, and for streams that are cut anywhere.
//!
//! ```
//! use chimera_transform::{Form, Pipeline, Redact, RedactSettings, Seed, Step};
//!
//! let pipeline = Pipeline::new("private", [Step::new(Redact::new(RedactSettings::default())?)]);
//! let done = pipeline.run_text("Write to ada@example.com", &Seed::random())?;
//! let sent = done.output("Write to ada@example.com");
//! assert!(sent.starts_with("Write to [EMAIL_1_"));
//!
//! let answer = format!("I wrote to {}.", sent.trim_start_matches("Write to "));
//! let restored = done.way_back.whole(&answer, Form::Text)?;
//! assert_eq!(restored.as_deref(), Some("I wrote to ada@example.com."));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! [`Prompt`] finds the texts of a request by one walk that knows the four dialects. A [`Transform`] is
//! given them and says what it wants changed; a step that fails or panics changes nothing, and the
//! request is refused or the step passed over, as its settings say. [`WorkerPool`] runs what would block
//! an event loop: threads by cores, a queue bounded by count and age. Steps that come with the crate:
//! [`Templates`], [`Normalize`], [`Guard`], [`Schema`], [`Compress`], [`Redact`], [`Budget`].
//!
//! # Guarantees
//! - **Bytes**: what no step changes keeps its spelling; a request that none changes is not written anew.
//! - **Time**: linear in the text, whatever it is; templates and schemas are bounded in what they may take.
//! - **Streams**: no more is held back than the beginning of a placeholder, or the longest match of a guard;
//!   a schema holds a text back until all of it is there. All of it comes out at the end. Where
//!   [`WayBack::may_ask_again`] says so, whoever serves a stream holds back all of it.
//! - **Memory**: in proportion to one request; nothing outlives it. A request of up to sixteen texts that
//!   [`Normalize`], [`Redact`] and [`Budget`] leave alone takes none behind its parse.
//! - **Cancellation**: dropping a [`Job`] ends it before it begins, or tells it while it runs.
//! - **Errors**: name the step and quote nothing of the content.
//!
//! # What it does not do
//! It sends nothing anywhere, and redaction finds what has a form: see [`Redact`].

mod answer;
mod budget;
mod changes;
mod compress;
mod guard;
mod metrics;
mod normalize;
mod notes;
mod pipeline;
mod pool;
mod prompt;
mod redact;
mod report;
mod schema;
mod seed;
mod template;
mod texts;
pub mod tokens;
mod transform;
mod turns;
mod way_back;

pub use answer::{Events, answer_texts, event_texts};
pub use budget::{Budget, BudgetSettings};
pub use changes::Changes;
pub use compress::{Compress, CompressSettings};
pub use guard::{Guard, GuardError, GuardSettings, OnMatch};
pub use metrics::METRICS;
pub use normalize::{Normalize, NormalizeSettings, UnicodeForm};
pub use notes::Notes;
pub use pipeline::{Pipeline, Step};
pub use pool::{Cancelled, Job, PoolError, PoolSettings, PoolSnapshot, Priority, WorkerPool};
pub use prompt::{Part, Prompt, Role, Turn};
pub use redact::{Custom, CustomSearch, Finding, Kind, Policy, Redact, RedactError, RedactSettings};
pub use report::{Done, Report, StepReport, Stopped};
pub use schema::{Schema, SchemaError, SchemaSettings};
pub use seed::Seed;
pub use template::{Template, TemplateError, TemplateSettings, Templates, Variable, VariableKind};
pub use transform::{OnFailure, Place, StepError, StepErrorKind, Stepped, Transform};
pub use turns::with_turns;
pub use way_back::{Channel, Channels, Form, Undo, WayBack};
