//! Work that would hold up an event loop, done on a thread beside it.

use crate::failure::{Code, Failure};

/// Bodies of requests above this are looked at and translated aside. It is where a pass over one takes
/// about a millisecond.
pub(crate) const LARGE_REQUEST: usize = 256 * 1024;

/// Answers above this are folded, unfolded, encoded and translated aside: each is more than one pass.
pub(crate) const LARGE_ANSWER: usize = 64 * 1024;

/// Runs work on a thread of its own while the event loop serves others. A panic goes on in the caller.
pub(crate) async fn aside<T, F>(work: F) -> Result<T, Failure>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Failure::new(Code::Overloaded, "the gateway is stopping"),
    })
}
