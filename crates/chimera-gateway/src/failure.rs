//! Why a request got no answer: what the caller is told, kept apart from what the log says.

use std::{
    borrow::Cow,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use chimera_protocol::{DialectId, translate::ErrorFacts};
use chimera_provider_pool::{BodyError, ConnectError, SendError, Stage};

use crate::{auth::Denied, limits::Exceeded};

/// The stable code of an error that the gateway makes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidRequest,
    AuthenticationFailed,
    ModelNotFound,
    RateLimited,
    Overloaded,
    UpstreamUnreachable,
    UpstreamInvalidResponse,
    CircuitOpen,
    Timeout,
    NotCached,
    Internal,
}

impl Code {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::AuthenticationFailed => "authentication_failed",
            Self::ModelNotFound => "model_not_found",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamInvalidResponse => "upstream_invalid_response",
            Self::CircuitOpen => "circuit_open",
            Self::Timeout => "timeout",
            Self::NotCached => "not_cached",
            Self::Internal => "internal_error",
        }
    }
}

/// A failure in the gateway's own words. The message quotes nothing of the request or the answer, but for an error of
/// the provider's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// Set where the status is not the one that goes with the code.
    pub(crate) status: Option<u16>,
    pub(crate) message: Cow<'static, str>,
    pub(crate) param: Option<Cow<'static, str>>,
    pub(crate) retry_after: Option<Duration>,
    /// The methods that the path takes, where that is what was wrong.
    pub(crate) allow: Option<&'static str>,
    /// Whether the connection is closed after the answer: its next bytes cannot be trusted or are
    /// not worth reading.
    pub(crate) close: bool,
    /// Attempts at providers that were made in vain.
    pub(crate) attempts: u32,
    /// Whether the caller of a stream was told already, in the provider's own words.
    pub(crate) is_told: bool,
    /// Whether it is the tenant's own limit that is used up, and no provider's.
    pub(crate) is_own_limit: bool,
    /// What callers see in place of the code, where it is an error of the provider's own.
    pub(crate) told_code: Option<&'static str>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            status: None,
            message: message.into(),
            param: None,
            retry_after: None,
            allow: None,
            close: false,
            attempts: 0,
            is_told: false,
            is_own_limit: false,
            told_code: None,
        }
    }

    /// Whether it is that no provider answered, so that an old answer is better than none.
    pub(crate) fn is_upstreams(&self) -> bool {
        matches!(
            self.code,
            Code::UpstreamUnreachable
                | Code::UpstreamInvalidResponse
                | Code::CircuitOpen
                | Code::Timeout
                | Code::Overloaded
        ) || (self.code == Code::RateLimited && !self.is_own_limit)
    }

    pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidRequest, message)
    }

    /// The head of a request cannot be read, and the status says in which way.
    pub(crate) fn unreadable(status: u16) -> Self {
        Self::invalid(match status {
            414 => "the target of the request is longer than what is read",
            431 => "the head of the request is larger, or has more headers, than what is read",
            _ => "the head of the request is not valid HTTP, or could mean two things",
        })
        .status(status)
        .close()
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub(crate) fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub(crate) fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Another method was wanted: 405, which must say which (RFC 9110, section 15.5.6).
    pub(crate) fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self.status(405)
    }

    pub(crate) fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    pub(crate) fn told(mut self) -> Self {
        self.is_told = true;
        self
    }

    pub(crate) fn close(mut self) -> Self {
        self.close = true;
        self
    }

    /// The deadline of a tier passed.
    pub(crate) fn timeout(tier: &'static str, stage: &dyn std::fmt::Display) -> Self {
        Self::new(Code::Timeout, format!("the {tier} timeout passed while {stage}"))
    }

    pub(crate) fn denied(denied: Denied) -> Self {
        match denied {
            Denied::Missing => Self::new(
                Code::AuthenticationFailed,
                "no API key was sent: use authorization: Bearer, x-api-key, x-goog-api-key or ?key=",
            ),
            Denied::Unknown => Self::new(Code::AuthenticationFailed, "the API key is not valid"),
            Denied::Conflict => {
                Self::invalid("two API keys were sent and they differ; send one").param("authorization")
            }
        }
    }

    pub(crate) fn exceeded(exceeded: Exceeded) -> Self {
        let message = format!("the limit of {} is used up", exceeded.limit.as_str());
        let failure = Self::new(Code::RateLimited, message).retry_after(exceeded.retry_after);
        Self { is_own_limit: true, ..failure }
    }

    /// A request that no deployment answered.
    pub(crate) fn unsent(error: &SendError, tier: &'static str) -> Self {
        match error {
            SendError::CircuitOpen { retry_after } => {
                Self::new(Code::CircuitOpen, "every deployment of this model is resting after failures")
                    .retry_after(*retry_after)
            }
            SendError::RateLimited { retry_after } => {
                Self::new(Code::RateLimited, "the provider's rate limit is used up").retry_after(*retry_after)
            }
            SendError::Overloaded => {
                Self::new(Code::Overloaded, "too many requests are waiting for this model")
                    .retry_after(a_while())
            }
            SendError::Connect(ConnectError::Timeout) => Self::timeout("connect", &Stage::Connect),
            SendError::Connect(_) => {
                Self::new(Code::UpstreamUnreachable, "the provider could not be reached")
            }
            SendError::Broken(_) => Self::new(
                Code::UpstreamUnreachable,
                "the connection to the provider broke before its answer was complete",
            ),
            SendError::InvalidAnswer { why } => {
                Self::new(Code::UpstreamInvalidResponse, format!("the provider's answer is not valid: {why}"))
            }
            SendError::Credentials => Self::credentials(),
            SendError::NoContent => Self::timeout("first_event", &Stage::FirstEvent),
            SendError::Deadline { stage } => Self::timeout(tier, stage),
            _ => Self::new(Code::ModelNotFound, "no deployment serves this model"),
        }
    }

    /// An error of the provider's own in the middle of its stream, as callers of a dialect are told it.
    pub(crate) fn provider_says(error: &ErrorFacts<'_>, to: DialectId) -> Self {
        let message = error.message.clone().into_owned();
        let failure = Self::new(Code::UpstreamInvalidResponse, message).status(error.status(to));
        Self { told_code: Some(error.code()), ..failure }
    }

    /// The provider refused the gateway's own key: nothing the caller can mend, so not a 401.
    pub(crate) fn credentials() -> Self {
        Self::new(
            Code::UpstreamUnreachable,
            "the provider refused the gateway's credentials; the gateway's operator must mend them",
        )
    }

    /// A stream that broke after it began.
    pub(crate) fn broken_stream(error: &BodyError) -> Self {
        match error {
            BodyError::Idle(_) | BodyError::Deadline => Self::new(Code::Timeout, error.to_string()),
            _ => Self::new(Code::UpstreamUnreachable, error.to_string()),
        }
    }
}

/// One to four seconds: those that were refused together are not to come back together.
fn a_while() -> Duration {
    let spread = RandomState::new().hash_one(0) % 3000;
    Duration::from_millis(1000 + spread)
}
