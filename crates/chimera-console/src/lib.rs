//! An operator's console: one page, the history of the last hour behind it, and one live feed.
//!
//! [`Console`] answers requests for the page, for its assets, for what it shows, and for the feed of changes. What
//! there is to show comes from a [`Source`]; who may ask, and what else there is on the same listener, is for the
//! server around it to say.
//!
//! ```
//! use chimera_console::{Answer, Asked, Console, Settings, Source};
//!
//! struct Quiet;
//! impl Source for Quiet {
//!     fn metrics(&self) -> String {
//!         String::new()
//!     }
//!     fn state(&self) -> serde_json::Value {
//!         serde_json::json!({ "ready": true })
//!     }
//! }
//!
//! let console = Console::new(Settings::default(), Quiet, [7; 32]);
//! let mut headers = http::HeaderMap::new();
//! headers.insert("accept", "text/html".parse().expect("a value"));
//! let asked = Asked { method: &http::Method::GET, path: "/", headers: &headers, key: None };
//! let page = console.answer(&asked).expect("the console has a page");
//! assert_eq!(page.status(), 200);
//! assert!(matches!(page.body(), Answer::Whole(_)));
//! ```
//!
//! # How it works
//! The assets are hashed and compressed when the crate is built (`build.rs`), and delivered by `deliver.rs`.
//! [`Console::run`] looks at the source every five seconds for the history (`history.rs`), and every second while
//! somebody watches (`live.rs`): once for all who do. What changed goes to them as a merge patch (`patch.rs`).
//!
//! # Guarantees
//! - **Memory**: 720 points of history, one state, a bounded number of viewers and of sessions.
//! - **Cost**: nothing is done for a request of anybody else's; one look a second while watched, one in five seconds
//!   otherwise, whatever the number of viewers.
//! - **Safety**: the page may load nothing but what this crate delivers, and nothing in it is inline; data is put
//!   into it as text alone.

mod asset;
mod console;
mod deliver;
mod history;
mod live;
mod patch;
mod prometheus;
mod session;
mod settings;
mod totals;

pub use console::{Answer, Asked, Console, Source};
pub use live::Feed;
pub use session::{MOST_SESSIONS, Proof};
pub use settings::{Price, Settings, Targets};
