//! Which provider's wire format a request is in, and what it asks for.

use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

/// The wire formats that are simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
    /// Google's Gemini API.
    Gemini,
}

/// What a method and path ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Chat,
    Embeddings,
    Models,
    Model(String),
    Messages,
    CountTokens,
    /// A Gemini call: the model and the verb after the colon.
    Gemini {
        model: String,
        verb: Verb,
        sse: bool,
    },
    Unknown,
}

/// The part of a Gemini path after the colon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Generate,
    Stream,
    CountTokens,
    Embed,
    BatchEmbed,
}

/// Tells dialect and route from the request line; headers decide where a path is shared.
pub(crate) fn route(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> (Dialect, Route) {
    let post = method == Method::POST;
    let get = method == Method::GET;
    for version in ["/v1beta/", "/v1alpha/"] {
        if let Some(rest) = path.strip_prefix(version) {
            return (Dialect::Gemini, gemini_route(get, post, rest, query));
        }
    }
    let anthropic = headers.contains_key("anthropic-version") || path.starts_with("/v1/messages");
    let dialect = if anthropic { Dialect::Anthropic } else { Dialect::OpenAi };
    let route = match path {
        "/v1/chat/completions" if post => Route::Chat,
        "/v1/embeddings" if post => Route::Embeddings,
        "/v1/messages" if post => Route::Messages,
        "/v1/messages/count_tokens" if post => Route::CountTokens,
        "/v1/models" if get => Route::Models,
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) if get && !id.is_empty() => Route::Model(id.into()),
            _ => Route::Unknown,
        },
    };
    (dialect, route)
}

fn gemini_route(get: bool, post: bool, rest: &str, query: &str) -> Route {
    if rest == "models" && get {
        return Route::Models;
    }
    let Some(rest) = rest.strip_prefix("models/") else {
        return Route::Unknown;
    };
    let Some((model, verb)) = rest.split_once(':') else {
        return if get { Route::Model(rest.into()) } else { Route::Unknown };
    };
    let verb = match verb {
        "generateContent" => Verb::Generate,
        "streamGenerateContent" => Verb::Stream,
        "countTokens" => Verb::CountTokens,
        "embedContent" => Verb::Embed,
        "batchEmbedContents" => Verb::BatchEmbed,
        _ => return Route::Unknown,
    };
    if !post || model.is_empty() {
        return Route::Unknown;
    }
    Route::Gemini { model: model.into(), verb, sse: query.split('&').any(|pair| pair == "alt=sse") }
}

impl Dialect {
    /// The key a client sent, wherever the dialect's SDK puts it.
    pub(crate) fn key<'a>(self, headers: &'a HeaderMap, query: &'a str) -> Option<&'a str> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = || text("authorization")?.strip_prefix("Bearer ");
        match self {
            Self::OpenAi => bearer(),
            Self::Anthropic => text("x-api-key").or_else(bearer),
            Self::Gemini => text("x-goog-api-key")
                .or_else(|| query.split('&').find_map(|pair| pair.strip_prefix("key=")))
                .or_else(bearer),
        }
    }

    /// An error in the shape that the dialect's SDK turns into its exception.
    pub(crate) fn error(self, status: StatusCode, message: &str) -> Value {
        match self {
            Self::OpenAi => json!({"error": {
                "message": message, "type": openai_type(status), "param": null, "code": openai_code(status),
            }}),
            Self::Anthropic => json!({"type": "error", "error": {
                "type": anthropic_type(status), "message": message,
            }, "request_id": "req_sim"}),
            Self::Gemini => json!({"error": {
                "code": status.as_u16(), "message": message, "status": gemini_status(status),
            }}),
        }
    }

    /// An error that comes in the middle of a stream, as one event.
    pub(crate) fn error_event(self) -> String {
        let status = match self {
            Self::Anthropic => StatusCode::from_u16(529).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            Self::OpenAi | Self::Gemini => StatusCode::SERVICE_UNAVAILABLE,
        };
        let error = self.error(status, "The simulated provider is overloaded.");
        match self {
            Self::Anthropic => format!("event: error\ndata: {error}\n\n"),
            Self::OpenAi => format!("data: {error}\n\n"),
            Self::Gemini => format!("data: {error}\r\n\r\n"),
        }
    }

    /// Header fields that every answer of the provider carries.
    pub(crate) fn headers(self, serial: u64) -> Vec<(&'static str, HeaderValue)> {
        let fixed = HeaderValue::from_static;
        let id = |prefix: &str| {
            HeaderValue::from_str(&format!("{prefix}{serial:016x}")).unwrap_or_else(|_| fixed("req"))
        };
        match self {
            Self::OpenAi => vec![
                ("x-request-id", id("req_")),
                ("openai-version", fixed("2020-10-01")),
                ("openai-organization", fixed("sim")),
                ("openai-processing-ms", fixed("1")),
                ("x-ratelimit-limit-requests", fixed("10000")),
                ("x-ratelimit-remaining-requests", fixed("9999")),
                ("x-ratelimit-reset-requests", fixed("6ms")),
                ("x-ratelimit-limit-tokens", fixed("2000000")),
                ("x-ratelimit-remaining-tokens", fixed("1999900")),
                ("x-ratelimit-reset-tokens", fixed("3ms")),
            ],
            Self::Anthropic => vec![
                ("request-id", id("req_")),
                ("anthropic-organization-id", fixed("sim")),
                ("anthropic-ratelimit-requests-limit", fixed("4000")),
                ("anthropic-ratelimit-requests-remaining", fixed("3999")),
                ("anthropic-ratelimit-requests-reset", fixed("2030-01-01T00:00:00Z")),
                ("anthropic-ratelimit-tokens-limit", fixed("400000")),
                ("anthropic-ratelimit-tokens-remaining", fixed("399000")),
                ("anthropic-ratelimit-tokens-reset", fixed("2030-01-01T00:00:00Z")),
            ],
            Self::Gemini => vec![("server-timing", fixed("gfet4t7; dur=1"))],
        }
    }
}

fn openai_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        429 => "requests",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

fn openai_code(status: StatusCode) -> Value {
    match status.as_u16() {
        401 => "invalid_api_key".into(),
        404 => "model_not_found".into(),
        429 => "rate_limit_exceeded".into(),
        _ => Value::Null,
    }
}

fn anthropic_type(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

fn gemini_status(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}
