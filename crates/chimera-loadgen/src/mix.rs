//! Kinds of requests, how often each is sent, and what it asks.

use bytes::{BufMut, Bytes, BytesMut};
use chimera_protocol::{DialectId, Operation};
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use serde::Deserialize;

use crate::{
    ScenarioError,
    prompt::{self, Prompt},
    random::{Random, Weighted},
    target::Target,
};

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// OpenAI's `/v1/chat/completions`.
    Chat,
    /// OpenAI's `/v1/embeddings`.
    Embeddings,
    /// Anthropic's `/v1/messages`.
    Messages,
    /// Gemini's `generateContent` and `streamGenerateContent`.
    Gemini,
    /// Chimera's `/api/v1/generate`.
    Generate,
    /// Chimera's `/api/v1/transform`; the model is the name of the pipeline.
    Transform,
}

impl Request {
    pub(crate) fn dialect(self) -> DialectId {
        match self {
            Self::Chat | Self::Embeddings | Self::Generate | Self::Transform => DialectId::OpenAi,
            Self::Messages => DialectId::Anthropic,
            Self::Gemini => DialectId::Gemini,
        }
    }

    pub(crate) fn operation(self) -> Operation {
        match self {
            Self::Embeddings => Operation::Embed,
            _ => Operation::Chat,
        }
    }

    /// Whether its answers are written by a model: as a stream, if that is wanted, of so many tokens.
    pub(crate) fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Transform)
    }

    fn path(self, model: &str, stream: bool) -> String {
        match self {
            Self::Chat => "/v1/chat/completions".into(),
            Self::Embeddings => "/v1/embeddings".into(),
            Self::Messages => "/v1/messages".into(),
            Self::Generate => "/api/v1/generate".into(),
            Self::Transform => "/api/v1/transform".into(),
            Self::Gemini if stream => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            Self::Gemini => format!("/v1beta/models/{model}:generateContent"),
        }
    }
}

/// Which prompts come again.
#[derive(Debug, Clone)]
pub(crate) enum Repeats {
    /// None does.
    Unique,
    /// So many prompts, the first ones more often than the last, or all alike (exponent 0).
    Zipf(Weighted),
}

/// One kind of request.
#[derive(Debug, Clone)]
pub struct Mix {
    /// Its name in reports and thresholds.
    pub name: String,
    /// How often it is sent, beside the others.
    pub weight: f64,
    pub(crate) request: Request,
    pub(crate) model: String,
    /// What stands behind the base URL where a target keeps its endpoints elsewhere than their vendor does.
    pub(crate) path: Option<String>,
    /// Whether its answers come as a stream of events.
    pub(crate) stream: bool,
    /// The shortest and the longest prompt.
    pub(crate) prompt_tokens: (u32, u32),
    pub(crate) output_tokens: u32,
    pub(crate) repeats: Repeats,
}

/// A mix ready to be sent: what does not change between its requests is made once.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) mix: Mix,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    /// What the body is before the prompt, and after it up to the number of tokens asked for.
    before: Bytes,
    after: String,
    end: String,
}

impl Template {
    pub(crate) fn new(mix: &Mix, target: &Target) -> Result<Self, ScenarioError> {
        let wrong = |key: &str, why: &str| ScenarioError::new(format!("mix.{}.{key}", mix.name), why);
        let uri = match &mix.path {
            Some(path) => target.below(path).parse().map_err(|_| wrong("path", "it is none"))?,
            None => {
                let uri = target.path(&mix.request.path(&mix.model, mix.stream));
                uri.parse().map_err(|_| wrong("model", "it cannot stand in a path"))?
            }
        };
        let headers = headers(mix.request, target)
            .ok_or_else(|| ScenarioError::new("target.api_key_env", "the key holds what no header may"))?;
        let (before, after, end) = body(mix);
        Ok(Self { mix: mix.clone(), uri, headers, before: before.into(), after, end })
    }

    /// A prompt by the rules of the mix. `fresh` is a number that comes once.
    pub(crate) fn prompt(&self, random: &mut Random, fresh: u64, salt: u64) -> Prompt {
        let number = match &self.mix.repeats {
            Repeats::Unique => fresh,
            Repeats::Zipf(weights) => crate::random::mix(salt ^ weights.pick(random) as u64),
        };
        let (least, most) = self.mix.prompt_tokens;
        let more = u64::from(most - least) + 1;
        // The length belongs to the prompt: one that comes again is as long as before.
        let tokens = least + u32::try_from(number % more).unwrap_or(0);
        Prompt { number, tokens, output: self.mix.output_tokens, blocks: prompt::Blocks::None }
    }

    /// The body that asks it.
    pub(crate) fn body(&self, prompt: &Prompt, trace: &[u32]) -> Bytes {
        let room = self.before.len() + prompt.room() + self.after.len() + 10 + self.end.len();
        let mut body = BytesMut::with_capacity(room);
        body.put_slice(&self.before);
        prompt.write(trace, &mut body);
        body.put_slice(self.after.as_bytes());
        if self.mix.request.generates() {
            prompt::decimal(prompt.output, &mut body);
        }
        body.put_slice(self.end.as_bytes());
        body.freeze()
    }
}

fn headers(request: Request, target: &Target) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, target.authority.clone());
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("chimera-load/", env!("CARGO_PKG_VERSION"))),
    );
    if request == Request::Messages {
        let version = HeaderName::from_static("anthropic-version");
        headers.insert(version, HeaderValue::from_static("2023-06-01"));
    }
    if let Some(key) = target.key() {
        let (name, text) = match request {
            Request::Messages => (HeaderName::from_static("x-api-key"), key.to_owned()),
            Request::Gemini => (HeaderName::from_static("x-goog-api-key"), key.to_owned()),
            _ => (header::AUTHORIZATION, format!("Bearer {key}")),
        };
        let mut value = HeaderValue::try_from(text).ok()?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Some(headers)
}

/// The body around a prompt: before it, up to the tokens asked for, and the end.
fn body(mix: &Mix) -> (String, String, String) {
    let model = serde_json::Value::from(mix.model.as_str());
    let stream = if mix.stream { r#","stream":true"# } else { "" };
    match mix.request {
        Request::Chat => {
            let usage = if mix.stream { r#","stream_options":{"include_usage":true}"# } else { "" };
            (
                format!(r#"{{"model":{model},"messages":[{{"role":"user","content":""#),
                r#""}],"max_tokens":"#.into(),
                format!("{stream}{usage}}}"),
            )
        }
        Request::Messages => (
            format!(r#"{{"model":{model},"messages":[{{"role":"user","content":""#),
            r#""}],"max_tokens":"#.into(),
            format!("{stream}}}"),
        ),
        Request::Generate => {
            (format!(r#"{{"model":{model},"prompt":""#), r#"","max_tokens":"#.into(), format!("{stream}}}"))
        }
        Request::Gemini => (
            r#"{"contents":[{"role":"user","parts":[{"text":""#.into(),
            r#""}]}],"generationConfig":{"maxOutputTokens":"#.into(),
            "}}".into(),
        ),
        Request::Transform => (format!(r#"{{"pipeline":{model},"text":""#), r#"""#.into(), "}".into()),
        Request::Embeddings => (format!(r#"{{"model":{model},"input":""#), r#"""#.into(), "}".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn mix(request: Request, stream: bool) -> Mix {
        Mix {
            name: "m".into(),
            weight: 1.0,
            request,
            model: "a\"b".replace('"', ""),
            path: None,
            stream,
            prompt_tokens: (5, 5),
            output_tokens: 7,
            repeats: Repeats::Unique,
        }
    }

    fn template(mix: &Mix) -> Template {
        Template::new(mix, &Target::new("http://localhost/v1", false).unwrap().with_key("k")).unwrap()
    }

    fn asked(request: Request, stream: bool) -> (String, HeaderMap, Value) {
        let template = template(&mix(request, stream));
        let prompt = template.prompt(&mut Random::new(1), 9, 0);
        let body = template.body(&prompt, &[]);
        (template.uri.to_string(), template.headers.clone(), serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn each_dialect_is_asked_in_its_own_words() {
        let (path, headers, body) = asked(Request::Chat, true);
        assert_eq!(
            (path.as_str(), &headers["authorization"]),
            ("/v1/chat/completions", &"Bearer k".parse().unwrap())
        );
        assert_eq!(body["max_tokens"], 7);
        assert_eq!(body["stream_options"], json!({"include_usage": true}));
        let (path, headers, body) = asked(Request::Messages, false);
        assert_eq!((path.as_str(), &headers["x-api-key"]), ("/v1/messages", &"k".parse().unwrap()));
        assert_eq!(body.get("stream"), None);
        let (path, headers, body) = asked(Request::Gemini, true);
        assert_eq!(headers["x-goog-api-key"], "k");
        assert!(path.ends_with("/v1beta/models/ab:streamGenerateContent?alt=sse"), "{path}");
        assert_eq!(body["generationConfig"]["maxOutputTokens"], 7);
        assert!(asked(Request::Generate, false).2["prompt"].is_string());
        assert!(asked(Request::Embeddings, false).2["input"].is_string());
        let (path, _, body) = asked(Request::Transform, false);
        assert_eq!((path.as_str(), &body["pipeline"]), ("/api/v1/transform", &json!("ab")));
        assert!(body["text"].is_string() && body.get("max_tokens").is_none());
    }

    #[test]
    fn unique_prompts_differ_and_repeated_ones_do_not() {
        let one = template(&mix(Request::Chat, false));
        let body = |fresh| one.body(&one.prompt(&mut Random::new(1), fresh, 0), &[]);
        assert_ne!(body(1), body(2));
        let mut few = mix(Request::Chat, false);
        few.repeats = Repeats::Zipf(Weighted::zipf(4, 0.0));
        few.prompt_tokens = (1, 50);
        let few = template(&few);
        let mut random = Random::new(5);
        let all: std::collections::HashSet<_> =
            (0..200).map(|fresh| few.body(&few.prompt(&mut random, fresh, 11), &[])).collect();
        assert_eq!(all.len(), 4);
    }

    #[test]
    fn a_key_that_no_header_holds_is_refused() {
        let target = Target::new("http://localhost", false).unwrap().with_key("a\nb");
        let error = Template::new(&mix(Request::Chat, false), &target).unwrap_err();
        assert_eq!(error.key(), "target.api_key_env");
    }
}
