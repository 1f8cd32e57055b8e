//! What can go wrong on purpose.

/// How a response body ends when a fault cuts it off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection was reset.
    #[error("the simulated provider reset the connection")]
    Reset,
    /// The connection was closed before the body was complete.
    #[error("the simulated provider closed the connection before the body was complete")]
    Truncated,
}

/// A fault's name that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// No fault has this name.
    #[error("no fault is called `{0}`")]
    Unknown(String),
    /// The fault needs a number after the colon, and this is none.
    #[error("fault `{name}` needs a number, not `{argument}`")]
    Argument {
        /// The fault.
        name: String,
        /// What followed the colon.
        argument: String,
    },
}
