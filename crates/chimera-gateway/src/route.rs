//! Which call a request makes, from its method and path alone.

use std::borrow::Cow;

use chimera_protocol::{DialectId, Operation};
use http::Method;

/// A matched route of the data listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// A call that a provider answers.
    Call(Call<'a>),
    /// The merged list of models, or one of them.
    Models { dialect: DialectId, model: Option<Cow<'a, str>> },
    /// The short form of a generation.
    Generate,
    /// The transform pipeline as an API of its own, for one item or many.
    Transform { batch: bool },
    /// Optimisation jobs.
    Optimizations(Wanted<'a>),
    /// Liveness.
    Live,
    /// Readiness.
    Ready,
    /// A path of the admin listener.
    Admin,
    /// A known path with a method it does not have.
    MethodNotAllowed { allow: &'static str, dialect: DialectId },
    /// Nothing.
    NotFound { dialect: DialectId },
    /// The path cannot be decoded.
    BadPath { dialect: DialectId },
}

impl Route<'_> {
    /// Whether a caller must be known as a tenant.
    pub(crate) fn is_for_tenants(&self) -> bool {
        matches!(
            self,
            Self::Call(_)
                | Self::Generate
                | Self::Models { .. }
                | Self::Transform { .. }
                | Self::Optimizations(_)
        )
    }
}

/// What is wanted of optimisation jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    Start,
    List,
    Look(&'a str),
    Follow(&'a str),
    Report(&'a str),
    Cancel(&'a str),
}

/// A call that a provider answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call<'a> {
    pub(crate) dialect: DialectId,
    pub(crate) operation: Operation,
    /// The model, where the path names it (Gemini).
    pub(crate) model: Option<Cow<'a, str>>,
    /// Whether the path asks for a stream (Gemini).
    pub(crate) stream: bool,
    /// The last part of the provider's path, after the model where there is one.
    pub(crate) verb: &'static str,
    pub(crate) label: RouteLabel,
}

impl Call<'_> {
    /// The same call, without the path that it was read from.
    pub(crate) fn to_owned_call(&self) -> Call<'static> {
        let model = self.model.as_ref().map(|model| Cow::Owned(model.clone().into_owned()));
        Call { model, ..*self }
    }

    /// What the answer depends on of the path: a stream and its unary form share their entry.
    pub(crate) fn cache_operation(&self) -> &'static str {
        match self.verb {
            ":streamGenerateContent" => ":generateContent",
            verb => verb,
        }
    }
}

/// A route's name as a metric label and as part of the cache key: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum RouteLabel {
    ChatCompletions,
    Responses,
    Embeddings,
    Messages,
    CountTokens,
    GenerateContent,
    StreamGenerateContent,
    GeminiCountTokens,
    EmbedContent,
    Generate,
    Models,
    Transform,
    Optimizations,
    Other,
}

impl RouteLabel {
    /// Every label, in order of its number.
    pub(crate) const ALL: [Self; 14] = [
        Self::ChatCompletions,
        Self::Responses,
        Self::Embeddings,
        Self::Messages,
        Self::CountTokens,
        Self::GenerateContent,
        Self::StreamGenerateContent,
        Self::GeminiCountTokens,
        Self::EmbedContent,
        Self::Generate,
        Self::Models,
        Self::Transform,
        Self::Optimizations,
        Self::Other,
    ];

    /// Its path, with names in braces for what varies; empty where there is none.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "/v1/chat/completions",
            Self::Responses => "/v1/responses",
            Self::Embeddings => "/v1/embeddings",
            Self::Messages => "/v1/messages",
            Self::CountTokens => "/v1/messages/count_tokens",
            Self::GenerateContent => "/v1beta/models/{model}:generateContent",
            Self::StreamGenerateContent => "/v1beta/models/{model}:streamGenerateContent",
            Self::GeminiCountTokens => "/v1beta/models/{model}:countTokens",
            Self::EmbedContent => "/v1beta/models/{model}:embedContent",
            Self::Generate => "/api/v1/generate",
            Self::Models => "/v1/models",
            Self::Transform => "/api/v1/transform",
            Self::Optimizations => "/api/v1/optimizations",
            Self::Other => "",
        }
    }

    /// Whether answers of this route are ever cached.
    pub(crate) fn is_cached(self) -> bool {
        !matches!(self, Self::Models | Self::Optimizations | Self::Other)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::GenerateContent => "generate_content",
            Self::StreamGenerateContent => "stream_generate_content",
            Self::GeminiCountTokens => "gemini_count_tokens",
            Self::EmbedContent => "embed_content",
            Self::Generate => "generate",
            Self::Models => "models",
            Self::Transform => "transform",
            Self::Optimizations => "optimizations",
            Self::Other => "other",
        }
    }
}

use DialectId::{Anthropic, Gemini, OpenAi, Responses};

/// The chat call that the short form stands for.
pub(crate) fn generate_call() -> Call<'static> {
    call(OpenAi, Operation::Chat, "/chat/completions", RouteLabel::Generate)
}

fn call(dialect: DialectId, operation: Operation, verb: &'static str, label: RouteLabel) -> Call<'static> {
    Call { dialect, operation, model: None, stream: false, verb, label }
}

/// Matches a parsed path. `caller` is the dialect that the headers speak: it decides the shape of the
/// list of models, whose path several vendors share.
pub(crate) fn route<'a>(method: &Method, path: &'a str, caller: DialectId) -> Route<'a> {
    let post = |call| match *method {
        Method::POST => Route::Call(call),
        _ => Route::MethodNotAllowed { allow: "POST", dialect: call.dialect },
    };
    let models = caller;
    match path {
        "/v1/chat/completions" => {
            post(call(OpenAi, Operation::Chat, "/chat/completions", RouteLabel::ChatCompletions))
        }
        "/v1/responses" => post(call(Responses, Operation::Chat, "/responses", RouteLabel::Responses)),
        "/v1/embeddings" => post(call(OpenAi, Operation::Embed, "/embeddings", RouteLabel::Embeddings)),
        "/v1/messages" => post(call(Anthropic, Operation::Chat, "/v1/messages", RouteLabel::Messages)),
        "/v1/messages/count_tokens" => post(call(
            Anthropic,
            Operation::CountTokens,
            "/v1/messages/count_tokens",
            RouteLabel::CountTokens,
        )),
        "/v1/models" => get(method, models, Route::Models { dialect: models, model: None }),
        "/v1beta/models" => get(method, Gemini, Route::Models { dialect: Gemini, model: None }),
        "/api/v1/generate" if *method == Method::POST => Route::Generate,
        "/api/v1/transform" | "/api/v1/transform/batch" if *method == Method::POST => {
            Route::Transform { batch: path.ends_with("/batch") }
        }
        "/api/v1/transform" | "/api/v1/transform/batch" => {
            Route::MethodNotAllowed { allow: "POST", dialect: OpenAi }
        }
        "/api/v1/generate" => Route::MethodNotAllowed { allow: "POST", dialect: OpenAi },
        "/health/live" | "/health" => get(method, OpenAi, Route::Live),
        "/health/ready" => get(method, OpenAi, Route::Ready),
        _ => match (path.strip_prefix("/v1/models/"), path.strip_prefix("/v1beta/models/")) {
            // Google's stable version shares its prefix with OpenAI; its verbs tell them apart.
            (Some(rest), _) if is_gemini(path) => gemini(method, rest),
            (Some(model), _) => one_model(method, models, model),
            (_, Some(rest)) => gemini(method, rest),
            _ if path.starts_with(OPTIMIZATIONS) => optimizations(method, path),
            _ if is_admin(path) => Route::Admin,
            _ if path.starts_with("/v1beta/") => Route::NotFound { dialect: Gemini },
            _ if path.starts_with("/v1/messages") => Route::NotFound { dialect: Anthropic },
            _ => Route::NotFound { dialect: models },
        },
    }
}

/// Whether a path is one of Google's: by its version, or by the verb after a model.
pub(crate) fn is_gemini(path: &str) -> bool {
    const VERBS: [&str; 5] = [
        ":generateContent",
        ":streamGenerateContent",
        ":countTokens",
        ":embedContent",
        ":batchEmbedContents",
    ];
    path.starts_with("/v1beta/")
        || (path.starts_with("/v1/models/") && VERBS.iter().any(|verb| path.ends_with(verb)))
}

const OPTIMIZATIONS: &str = "/api/v1/optimizations";

/// A job, what is wanted of it after its id.
fn optimizations<'a>(method: &Method, path: &'a str) -> Route<'a> {
    let rest = path.strip_prefix(OPTIMIZATIONS).unwrap_or_default();
    let not_allowed = |allow| Route::MethodNotAllowed { allow, dialect: OpenAi };
    let (id, verb) = match rest.strip_prefix('/').map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        None if rest.is_empty() => {
            return match *method {
                Method::POST => Route::Optimizations(Wanted::Start),
                Method::GET | Method::HEAD => Route::Optimizations(Wanted::List),
                _ => not_allowed("GET, HEAD, POST"),
            };
        }
        None => return Route::NotFound { dialect: OpenAi },
        Some(parts) => parts,
    };
    let wanted = match verb {
        "" => Wanted::Look(id),
        "events" => Wanted::Follow(id),
        "report" => Wanted::Report(id),
        "cancel" if *method == Method::POST => return Route::Optimizations(Wanted::Cancel(id)),
        "cancel" => return not_allowed("POST"),
        _ => return Route::NotFound { dialect: OpenAi },
    };
    get(method, OpenAi, Route::Optimizations(wanted))
}

fn get<'a>(method: &Method, dialect: DialectId, route: Route<'a>) -> Route<'a> {
    match *method {
        Method::GET | Method::HEAD => route,
        _ => Route::MethodNotAllowed { allow: "GET, HEAD", dialect },
    }
}

fn one_model<'a>(method: &Method, dialect: DialectId, model: &'a str) -> Route<'a> {
    match decode(model) {
        Some(model) => get(method, dialect, Route::Models { dialect, model: Some(model) }),
        None => Route::BadPath { dialect },
    }
}

/// `{model}:{verb}`; the model may hold an escaped slash.
fn gemini<'a>(method: &Method, rest: &'a str) -> Route<'a> {
    let Some((model, verb)) = rest.rsplit_once(':') else { return one_model(method, Gemini, rest) };
    let (operation, stream, verb, label) = match verb {
        "generateContent" => (Operation::Chat, false, ":generateContent", RouteLabel::GenerateContent),
        "streamGenerateContent" => {
            (Operation::Chat, true, ":streamGenerateContent", RouteLabel::StreamGenerateContent)
        }
        "countTokens" => (Operation::CountTokens, false, ":countTokens", RouteLabel::GeminiCountTokens),
        "embedContent" => (Operation::Embed, false, ":embedContent", RouteLabel::EmbedContent),
        "batchEmbedContents" => (Operation::Embed, false, ":batchEmbedContents", RouteLabel::EmbedContent),
        _ => return Route::NotFound { dialect: Gemini },
    };
    if *method != Method::POST {
        return Route::MethodNotAllowed { allow: "POST", dialect: Gemini };
    }
    match decode(model) {
        Some(model) => {
            Route::Call(Call { dialect: Gemini, operation, model: Some(model), stream, verb, label })
        }
        None => Route::BadPath { dialect: Gemini },
    }
}

/// Paths that the admin listener serves and this one does not.
fn is_admin(path: &str) -> bool {
    matches!(
        path,
        "/" | "/metrics"
            | "/api/v1/cache/metrics"
            | "/api/v1/cache/purge"
            | "/api/v1/providers"
            | "/api/v1/circuit-breakers"
            | "/api/v1/worker-pool"
            | "/api/v1/config"
            | "/api/v1/reload"
    )
}

/// Decodes percent escapes once. `None` for a broken escape, for bytes that are not UTF-8, and for
/// what no model name holds: control characters, a backslash, a `.` or `..` segment, an empty one.
fn decode(segment: &str) -> Option<Cow<'_, str>> {
    let decoded =
        if segment.contains('%') { Cow::Owned(percent_decode(segment)?) } else { Cow::Borrowed(segment) };
    let plain = !decoded.chars().any(|c| c.is_control() || matches!(c, '\\' | '?' | '#' | ';' | '%' | ' '));
    let safe = decoded.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (plain && safe && decoded.len() <= MAX_MODEL).then_some(decoded)
}

/// The longest model name.
pub(crate) const MAX_MODEL: usize = 256;

/// Decodes percent escapes. `None` for a broken escape and for bytes that are not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(*rest.next()?)? << 4 | hex(*rest.next()?)?,
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The values of a query parameter, undecoded.
pub(crate) fn query_values<'a>(query: Option<&'a str>, name: &str) -> impl Iterator<Item = &'a str> {
    query.into_iter().flat_map(|query| query.split('&')).filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

/// The first value of a query parameter, undecoded.
pub(crate) fn query_value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query_values(query, name).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gemini_paths_name_model_and_verb() {
        let Route::Call(call) = route(&Method::POST, "/v1beta/models/g%2Fx:streamGenerateContent", OpenAi)
        else {
            panic!("not a call")
        };
        assert_eq!(call.model.as_deref(), Some("g/x"));
        assert!(call.stream);
        let stable = route(&Method::POST, "/v1/models/m:countTokens", OpenAi);
        assert!(matches!(stable, Route::Call(Call { dialect: Gemini, .. })));
    }

    #[test]
    fn c13_broken_and_double_encodings_are_refused() {
        for path in [
            "%zz",
            "%00",
            "%2f..",
            "a%2f..%2fb",
            "%c0%af",
            "%25%32%66",
            "a//b",
            "a;x",
            "..",
            "%5c",
            "%",
            "%2",
            "a%20b",
        ] {
            let path = format!("/v1beta/models/{path}:generateContent");
            assert_eq!(route(&Method::POST, &path, OpenAi), Route::BadPath { dialect: Gemini }, "{path}");
        }
    }

    #[test]
    fn admin_paths_are_known_but_not_served() {
        assert_eq!(route(&Method::GET, "/metrics", OpenAi), Route::Admin);
        assert_eq!(route(&Method::GET, "/nothing", OpenAi), Route::NotFound { dialect: OpenAi });
    }

    #[test]
    fn labels_are_numbered_by_their_place() {
        for (index, label) in RouteLabel::ALL.into_iter().enumerate() {
            assert_eq!(label as usize, index);
        }
    }
}
