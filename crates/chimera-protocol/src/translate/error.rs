//! Errors of one vendor's in another's words, so that SDKs raise the class that they would have raised.
//!
//! | kind | OpenAI | Anthropic | Gemini |
//! |---|---|---|---|
//! | invalid | 400 `invalid_request_error` | 400 `invalid_request_error` | 400 `INVALID_ARGUMENT` |
//! | context too long | the same, code `context_length_exceeded` | the same | the same |
//! | held back by a filter | the same, code `content_policy_violation` | the same | the same |
//! | not authenticated | 401 `authentication_error` | 401 `authentication_error` | 401 `UNAUTHENTICATED` |
//! | not paid for | 429 `rate_limit_error`, code `insufficient_quota` | 402 `billing_error` | 429 `RESOURCE_EXHAUSTED` |
//! | not permitted | 403 `permission_error` | 403 `permission_error` | 403 `PERMISSION_DENIED` |
//! | not found | 404 `invalid_request_error`, code `model_not_found` | 404 `not_found_error` | 404 `NOT_FOUND` |
//! | too large | 413 `invalid_request_error` | 413 `request_too_large` | 413 `INVALID_ARGUMENT` |
//! | too often | 429 `rate_limit_error` | 429 `rate_limit_error` | 429 `RESOURCE_EXHAUSTED` |
//! | overloaded | 503 `server_error` | 529 `overloaded_error` | 503 `UNAVAILABLE` |
//! | too late | 504 `server_error` | 504 `timeout_error` | 504 `DEADLINE_EXCEEDED` |
//! | failed | 500 `server_error` | 500 `api_error` | 500 `INTERNAL` |

use std::borrow::Cow;

use crate::{
    DialectId, ErrorParts,
    json::{Document, Value},
};

/// What kind of error it is, whoever says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request is wrong.
    Invalid,
    /// The request is longer than the model can read.
    ContextLength,
    /// The request was held back by a filter.
    Filtered,
    /// There is no valid key.
    Unauthenticated,
    /// There is no money left.
    Unpaid,
    /// The key may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The request has too many bytes.
    TooLarge,
    /// Too many requests.
    RateLimited,
    /// The provider has too much to do.
    Overloaded,
    /// It took too long.
    TimedOut,
    /// The provider failed.
    Failed,
}

/// What an error of a provider's says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFacts<'a> {
    /// What kind it is.
    pub kind: ErrorKind,
    /// Its words.
    pub message: Cow<'a, str>,
}

/// The longest message of an error in a stream that is told, in characters.
const LONGEST: usize = 1000;

impl ErrorFacts<'static> {
    /// Reads an error that came as an event of a stream: no status says what it is, so its own words do. Its message
    /// is one line of bounded length.
    pub fn of_event(from: DialectId, data: &[u8]) -> Self {
        let status = Document::parse(data).ok().and_then(|event| status_told(error_of(from, event.root())?));
        let facts = Self::read(from, status.unwrap_or(500), data);
        let plain = facts.message.chars().map(|c| if c.is_control() { ' ' } else { c });
        Self { kind: facts.kind, message: Cow::Owned(plain.take(LONGEST).collect()) }
    }

    /// Reads an error's body. One that cannot be read is told by its status alone.
    pub fn read(from: DialectId, status: u16, body: &[u8]) -> Self {
        let fallback = || Self {
            kind: of_status(status),
            message: Cow::Borrowed("the provider answered with an error"),
        };
        let Ok(document) = Document::parse(body) else { return fallback() };
        let Some(error) = error_of(from, document.root()) else { return fallback() };
        let word = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        // Some servers say nothing but a text.
        let message = error.as_str().unwrap_or_else(|| word("message"));
        let kind = match from {
            DialectId::OpenAi | DialectId::Responses => of_openai(status, &word("type"), &word("code")),
            DialectId::Anthropic => of_anthropic(status, &word("type"), &message),
            DialectId::Gemini => of_gemini(status, &word("status"), &message),
        };
        let message = if message.is_empty() { fallback().message } else { Cow::Owned(message.into_owned()) };
        Self { kind, message }
    }
}

impl ErrorFacts<'_> {
    /// The status with which a dialect tells this kind.
    pub fn status(&self, to: DialectId) -> u16 {
        match (self.kind, to) {
            (ErrorKind::Invalid | ErrorKind::ContextLength | ErrorKind::Filtered, _) => 400,
            (ErrorKind::Unauthenticated, _) => 401,
            (ErrorKind::Unpaid, DialectId::Anthropic) => 402,
            (ErrorKind::Unpaid | ErrorKind::RateLimited, _) => 429,
            (ErrorKind::Forbidden, _) => 403,
            (ErrorKind::NotFound, _) => 404,
            (ErrorKind::TooLarge, _) => 413,
            (ErrorKind::Overloaded, DialectId::Anthropic) => 529,
            (ErrorKind::Overloaded, _) => 503,
            (ErrorKind::TimedOut, _) => 504,
            (ErrorKind::Failed, _) => 500,
        }
    }

    /// The code that OpenAI's SDKs look at; in the other dialects it is a detail.
    pub fn code(&self) -> &'static str {
        match self.kind {
            ErrorKind::Invalid => "invalid_request",
            ErrorKind::ContextLength => "context_length_exceeded",
            ErrorKind::Filtered => "content_policy_violation",
            ErrorKind::Unauthenticated => "authentication_failed",
            ErrorKind::Unpaid => "insufficient_quota",
            ErrorKind::Forbidden => "permission_denied",
            ErrorKind::NotFound => "model_not_found",
            ErrorKind::TooLarge => "request_too_large",
            ErrorKind::RateLimited => "rate_limited",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::TimedOut => "timeout",
            ErrorKind::Failed => "upstream_failed",
        }
    }

    /// The error in a dialect's words, as a whole body.
    pub fn body(&self, to: DialectId, request_id: &str) -> Vec<u8> {
        to.dialect().error_body(&self.parts(to, request_id))
    }

    /// The error before it is put into a dialect's words.
    pub fn parts<'p>(&'p self, to: DialectId, request_id: &'p str) -> ErrorParts<'p> {
        ErrorParts {
            status: self.status(to),
            code: self.code(),
            message: &self.message,
            // The provider names members in its own words, which would mislead.
            param: None,
            request_id,
            retry_after: None,
        }
    }
}

/// Where a body or an event has its error.
fn error_of(from: DialectId, root: Value<'_>) -> Option<Value<'_>> {
    // Gemini's streams without `alt=sse` put it into an array.
    let root = root.elements().next().unwrap_or(root);
    let is_event = || root.get("type").is_some_and(|kind| kind.is("error"));
    match (root.get("error"), from) {
        (None, DialectId::Responses) => match root.get("response") {
            Some(response) => response.get("error"),
            None => is_event().then_some(root),
        },
        (error, _) => error,
    }
}

/// The status that an error would have come with, by its code or its type.
fn status_told(error: Value<'_>) -> Option<u16> {
    let number = error.get("code").and_then(|code| code.raw().parse().ok());
    number.filter(|status| (400..600).contains(status)).or_else(|| {
        ["code", "type"].into_iter().find_map(|name| {
            Some(match &*error.get(name).and_then(Value::as_str)? {
                "invalid_request_error" | "invalid_prompt" => 400,
                "authentication_error" | "invalid_api_key" => 401,
                "permission_error" => 403,
                "not_found_error" => 404,
                "rate_limit_error" | "rate_limit_exceeded" => 429,
                "overloaded" | "overloaded_error" | "service_unavailable" => 503,
                "timeout" | "timeout_error" => 504,
                _ => return None,
            })
        })
    })
}

fn of_status(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Unauthenticated,
        402 => ErrorKind::Unpaid,
        403 => ErrorKind::Forbidden,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::TimedOut,
        413 => ErrorKind::TooLarge,
        429 => ErrorKind::RateLimited,
        400..=499 => ErrorKind::Invalid,
        502 | 503 | 529 => ErrorKind::Overloaded,
        _ => ErrorKind::Failed,
    }
}

fn of_openai(status: u16, kind: &str, code: &str) -> ErrorKind {
    match (kind, code) {
        (_, "context_length_exceeded" | "string_above_max_length") => ErrorKind::ContextLength,
        (_, "content_policy_violation" | "content_filter") => ErrorKind::Filtered,
        ("insufficient_quota", _) | (_, "insufficient_quota" | "billing_hard_limit_reached") => {
            ErrorKind::Unpaid
        }
        (_, "model_not_found") => ErrorKind::NotFound,
        _ => of_status(status),
    }
}

fn of_anthropic(status: u16, kind: &str, message: &str) -> ErrorKind {
    match kind {
        "invalid_request_error" if message.contains("prompt is too long") => ErrorKind::ContextLength,
        // A low balance is told as an invalid request.
        "invalid_request_error" if message.contains("credit balance") => ErrorKind::Unpaid,
        "authentication_error" => ErrorKind::Unauthenticated,
        "billing_error" => ErrorKind::Unpaid,
        "permission_error" => ErrorKind::Forbidden,
        "not_found_error" => ErrorKind::NotFound,
        "request_too_large" => ErrorKind::TooLarge,
        "rate_limit_error" => ErrorKind::RateLimited,
        "overloaded_error" => ErrorKind::Overloaded,
        "timeout_error" => ErrorKind::TimedOut,
        "api_error" => ErrorKind::Failed,
        "invalid_request_error" if status < 400 => ErrorKind::Invalid,
        _ => of_status(status),
    }
}

fn of_gemini(status: u16, word: &str, message: &str) -> ErrorKind {
    match word {
        // Google tells a wrong key as an invalid argument.
        "INVALID_ARGUMENT" if message.contains("API key not valid") => ErrorKind::Unauthenticated,
        "INVALID_ARGUMENT" if message.contains("exceeds the maximum number of tokens") => {
            ErrorKind::ContextLength
        }
        "INVALID_ARGUMENT" if status == 413 => ErrorKind::TooLarge,
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => ErrorKind::Invalid,
        "UNAUTHENTICATED" => ErrorKind::Unauthenticated,
        "PERMISSION_DENIED" => ErrorKind::Forbidden,
        "NOT_FOUND" => ErrorKind::NotFound,
        "RESOURCE_EXHAUSTED" => ErrorKind::RateLimited,
        "UNAVAILABLE" => ErrorKind::Overloaded,
        "DEADLINE_EXCEEDED" => ErrorKind::TimedOut,
        "INTERNAL" | "UNKNOWN" => ErrorKind::Failed,
        _ => of_status(status),
    }
}
