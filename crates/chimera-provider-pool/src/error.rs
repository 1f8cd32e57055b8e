//! What can go wrong, one type per operation.

use std::{error::Error as StdError, io, time::Duration};

use crate::keys::Resting;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The base URL of a provider cannot be used.
    #[error("base_url cannot be used: {why}")]
    BaseUrl {
        /// What is wrong with it.
        why: &'static str,
    },
    /// A number is outside its range.
    #[error("{field} must be {want}")]
    OutOfRange {
        /// The setting at fault.
        field: &'static str,
        /// What it must be.
        want: &'static str,
    },
    /// The certificate bundle of a provider cannot be used.
    #[error("ca_file cannot be used: {why}")]
    Certificates {
        /// What is wrong with it.
        why: String,
    },
}

/// A connection attempt that failed. Nothing of a request was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name could not be resolved.
    #[error("the provider's host name could not be resolved")]
    Resolve(#[source] io::Error),
    /// No address accepted the connection.
    #[error("the provider refused the connection")]
    Tcp(#[source] io::Error),
    /// The TLS handshake failed.
    #[error("the TLS handshake with the provider failed")]
    Tls(#[source] io::Error),
    /// HTTP could not be spoken on it.
    #[error("the provider accepted a connection and did not take a request on it")]
    Http(#[source] Box<dyn StdError + Send + Sync>),
    /// The attempt outlived the connect timeout.
    #[error("the provider did not accept a connection in time")]
    Timeout,
}

/// Why a request could not be carried to an answer. Each variant says whether anything was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Every deployment's breaker is open.
    #[error("every deployment is resting after failures")]
    CircuitOpen {
        /// The soonest next probe.
        retry_after: Duration,
    },
    /// Every credential or deployment is parked by a rate limit.
    #[error("every deployment is rate limited")]
    RateLimited {
        /// The smallest wait.
        retry_after: Duration,
    },
    /// The wait for a slot or a connection is full.
    #[error("too many requests are waiting for this provider")]
    Overloaded,
    /// No connection could be made; nothing was sent.
    #[error("the provider could not be reached")]
    Connect(#[source] ConnectError),
    /// The connection broke after the request was sent and before an answer was complete.
    #[error("the connection to the provider broke before its answer was complete")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
    /// The provider answered with something that is not a valid answer.
    #[error("the provider's answer was not valid: {why}")]
    InvalidAnswer {
        /// What was wrong, in words that quote nothing of the answer.
        why: &'static str,
    },
    /// The provider refused the gateway's own credentials.
    #[error("the provider refused the gateway's credentials for it")]
    Credentials,
    /// No content came within the group's time for one deployment.
    #[error("the provider sent no content in its time")]
    NoContent,
    /// The absolute deadline passed.
    #[error("the deadline passed while {stage}")]
    Deadline {
        /// What the request was waiting for.
        stage: Stage,
    },
    /// The group holds no deployment.
    #[error("no deployment serves this model")]
    NoDeployment,
}

impl SendError {
    /// Whether the request certainly did not reach a provider.
    pub fn is_unsent(&self) -> bool {
        matches!(
            self,
            Self::CircuitOpen { .. }
                | Self::RateLimited { .. }
                | Self::Overloaded
                | Self::Connect(_)
                | Self::NoDeployment
                | Self::Credentials
                | Self::Deadline { stage: Stage::Slot | Stage::Connect }
        )
    }

    /// Of two failures the one that tells the caller more; of two waits the shorter.
    pub(crate) fn or_more_telling(self, other: Self) -> Self {
        let rank = |error: &Self| match error {
            Self::Broken(_) | Self::InvalidAnswer { .. } | Self::NoContent => 6,
            Self::Connect(_) => 5,
            Self::Credentials => 4,
            Self::Overloaded => 3,
            Self::RateLimited { .. } => 2,
            Self::CircuitOpen { .. } => 1,
            Self::Deadline { .. } | Self::NoDeployment => 0,
        };
        let stays = match (&self, &other) {
            (Self::CircuitOpen { retry_after: a }, Self::CircuitOpen { retry_after: b })
            | (Self::RateLimited { retry_after: a }, Self::RateLimited { retry_after: b }) => a <= b,
            _ => rank(&self) >= rank(&other),
        };
        if stays { self } else { other }
    }
}

impl From<Resting> for SendError {
    fn from(resting: Resting) -> Self {
        if resting.dead { Self::Credentials } else { Self::RateLimited { retry_after: resting.wait } }
    }
}

/// What a request was waiting for when its deadline passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// A free slot at the deployment or in the connection pool.
    Slot,
    /// A connection.
    Connect,
    /// The head or the first content of the answer.
    FirstEvent,
    /// The rest of the answer.
    Body,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Slot => "waiting for a free slot",
            Self::Connect => "connecting to the provider",
            Self::FirstEvent => "waiting for the provider's first content",
            Self::Body => "reading the provider's answer",
        })
    }
}

/// Why an answer's body ended before its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection broke.
    #[error("the connection to the provider broke in the middle of its answer")]
    Broken(#[source] Box<dyn StdError + Send + Sync>),
    /// Nothing came for the idle timeout.
    #[error("the provider sent nothing for {} s in the middle of its answer", .0.as_secs())]
    Idle(Duration),
    /// The absolute deadline passed.
    #[error("the deadline passed in the middle of the provider's answer")]
    Deadline,
}
