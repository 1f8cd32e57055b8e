//! Ten turns of an agent, with tools, against a provider that remembers what it was sent: through the
//! gateway as much of each prompt is known as without it.

use std::sync::Arc;

use bytes::Bytes;
use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{DialectId, Gateway, ModelProvider, Models, Settings};
use chimera_provider_pool::{
    Connect, Connected, Connecting, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Transport,
};
use chimera_sim::Sim;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::{
    dialects::{CALLERS, PROVIDERS},
    support::{CHAT, Scripted, call, post, stream, unary},
};

const TURNS: usize = 10;

/// An application that keeps its conversation and adds to it, in one vendor's words.
struct Agent {
    dialect: DialectId,
    is_stream: bool,
    said: Vec<Value>,
}

impl Agent {
    fn new(dialect: DialectId, is_stream: bool) -> Self {
        let mut agent = Self { dialect, is_stream, said: Vec::new() };
        agent.asks(0);
        agent
    }

    fn asks(&mut self, turn: usize) {
        let text = format!("Question {turn}: look at two things in parallel, é \"quoted\".");
        self.said.push(match self.dialect {
            DialectId::Gemini => json!({"role": "user", "parts": [{"text": text}]}),
            _ => json!({"role": "user", "content": text}),
        });
    }

    /// The request for the next turn: what never changes first, what grows last.
    fn request(&self, model: &str) -> Request<Full<Bytes>> {
        let rules = "Be brief. ".repeat(40);
        let hint = json!({"type": "ephemeral"});
        let schema = json!({"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]});
        let (path, mut body) = match self.dialect {
            DialectId::OpenAi => {
                let system = json!({"role": "system", "content": [{"type": "text", "text": rules, "cache_control": hint}]});
                let tools = json!([{"type": "function", "function": {"name": "look", "parameters": schema}}]);
                let said: Vec<_> = std::iter::once(&system).chain(&self.said).collect();
                (
                    CHAT.to_owned(),
                    json!({"model": model, "tools": tools, "max_completion_tokens": 200, "stream": self.is_stream,
                    "stream_options": self.is_stream.then(|| json!({"include_usage": true})), "messages": said}),
                )
            }
            DialectId::Anthropic => {
                let system = json!([{"type": "text", "text": rules, "cache_control": hint}]);
                let tools = json!([{"name": "look", "input_schema": schema}]);
                (
                    "/v1/messages".to_owned(),
                    json!({"model": model, "max_tokens": 200, "stream": self.is_stream,
                    "system": system, "tools": tools, "messages": self.said}),
                )
            }
            DialectId::Gemini => {
                let verb = if self.is_stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
                let tools =
                    json!([{"functionDeclarations": [{"name": "look", "parametersJsonSchema": schema}]}]);
                (
                    format!("/v1beta/models/{model}:{verb}"),
                    json!({"systemInstruction": {"parts": [{"text": rules}]},
                    "tools": tools, "generationConfig": {"maxOutputTokens": 200}, "contents": self.said}),
                )
            }
            DialectId::Responses => {
                let tools =
                    json!([{"type": "function", "name": "look", "parameters": schema, "strict": false}]);
                (
                    "/v1/responses".to_owned(),
                    json!({"model": model, "instructions": rules, "tools": tools,
                    "max_output_tokens": 200, "stream": self.is_stream, "input": self.said}),
                )
            }
        };
        body.as_object_mut().unwrap().retain(|_, member| !member.is_null());
        post(&path, &body.to_string())
    }

    /// Takes an answer into the conversation: calls get results, words get another question.
    fn hears(&mut self, answer: &str, turn: usize) -> Usage {
        let answer: Value = match self.is_stream {
            true => serde_json::from_slice(&self.dialect.dialect().fold(answer.as_bytes()).unwrap()).unwrap(),
            false => serde_json::from_str(answer).unwrap(),
        };
        let result = |n: usize| format!("result {turn}.{n}: {}", "some words ".repeat(20));
        let before = self.said.len();
        match self.dialect {
            DialectId::OpenAi => {
                let message = answer["choices"][0]["message"].clone();
                self.said.push(message.clone());
                for (n, called) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
                    self.said
                        .push(json!({"role": "tool", "tool_call_id": called["id"], "content": result(n)}));
                }
            }
            DialectId::Anthropic => {
                let content = answer["content"].as_array().unwrap();
                self.said.push(json!({"role": "assistant", "content": content}));
                let calls = content.iter().filter(|block| block["type"] == "tool_use").enumerate();
                let results: Vec<_> = calls
                    .map(|(n, called)| json!({"type": "tool_result", "tool_use_id": called["id"], "content": result(n)}))
                    .collect();
                if !results.is_empty() {
                    self.said.push(json!({"role": "user", "content": results}));
                }
            }
            DialectId::Gemini => {
                let content = answer["candidates"][0]["content"].clone();
                let calls =
                    content["parts"].as_array().unwrap().iter().filter_map(|part| part.get("functionCall"));
                let results: Vec<_> = calls
                    .enumerate()
                    .map(|(n, called)| {
                        let mut part = json!({"name": called["name"], "response": {"output": result(n)}});
                        if let Some(id) = called.get("id") {
                            part["id"] = id.clone();
                        }
                        json!({"functionResponse": part})
                    })
                    .collect();
                self.said.push(content.clone());
                if !results.is_empty() {
                    self.said.push(json!({"role": "user", "parts": results}));
                }
            }
            DialectId::Responses => {
                let items = answer["output"].as_array().unwrap();
                self.said.extend(items.iter().cloned());
                let calls = items.iter().filter(|item| item["type"] == "function_call").enumerate();
                self.said.extend(calls.map(|(n, called)| {
                    json!({"type": "function_call_output", "call_id": called["call_id"], "output": result(n)})
                }));
            }
        }
        // One message is words alone.
        if self.said.len() == before + 1 {
            self.asks(turn);
        }
        Usage::of(self.dialect, &answer)
    }
}

/// What the caller was told of its prompt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Usage {
    input: u64,
    cached: u64,
}

impl Usage {
    fn of(dialect: DialectId, answer: &Value) -> Self {
        let number = |at: &str| answer.pointer(at).and_then(Value::as_u64).unwrap_or(0);
        match dialect {
            DialectId::OpenAi => Self {
                input: number("/usage/prompt_tokens"),
                cached: number("/usage/prompt_tokens_details/cached_tokens"),
            },
            DialectId::Anthropic => Self {
                input: number("/usage/input_tokens") + number("/usage/cache_read_input_tokens"),
                cached: number("/usage/cache_read_input_tokens"),
            },
            DialectId::Gemini => Self {
                input: number("/usageMetadata/promptTokenCount"),
                cached: number("/usageMetadata/cachedContentTokenCount"),
            },
            DialectId::Responses => Self {
                input: number("/usage/input_tokens"),
                cached: number("/usage/input_tokens_details/cached_tokens"),
            },
        }
    }
}

/// The share of all input that was known.
fn share(turns: &[Usage]) -> f64 {
    let sum = |of: fn(&Usage) -> u64| turns.iter().map(of).sum::<u64>() as f64;
    sum(|turn| turn.cached) / sum(|turn| turn.input)
}

fn remembering() -> Sim {
    Sim::new(chimera_sim::Settings { prompt_cache: 64, ..chimera_sim::Settings::default() })
}

struct Pipe(Sim);

impl Connect for Pipe {
    fn connect<'a>(&'a self, _: &'a Target, _: Option<&'a Arc<rustls::ClientConfig>>) -> Connecting<'a> {
        Box::pin(async move {
            let (near, far) = tokio::io::duplex(1 << 20);
            let sim = self.0.clone();
            tokio::spawn(async move { sim.serve_io(far).await });
            Ok(Connected { transport: Transport::Other(Box::new(near)), http2: false })
        })
    }
}

fn gateway(dialect: DialectId, sim: &Sim) -> Gateway {
    let settings = ProviderSettings::new("sim", Target::parse("http://sim.test").unwrap());
    let provider = Provider::new(settings, Arc::new(Pipe(sim.clone())), 1).unwrap();
    let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
    let deployment = Deployment::new("sim", provider.clone(), None, breaker, 100);
    let group = Group::new("sim", vec![deployment], Arc::new(InOrder), Failover::default());
    let mut models = Models::default();
    let patterns = vec!["sim-*".to_owned()];
    models.add_provider(ModelProvider {
        provider,
        dialects: vec![dialect],
        group,
        patterns,
        ask_usage: true,
        drain_for_usage: std::time::Duration::ZERO,
    });
    Gateway::new(Settings::new(models), [7; 32]).unwrap()
}

/// The agent and its provider alone.
async fn without_us(dialect: DialectId, is_stream: bool) -> (Vec<Usage>, Vec<String>) {
    let sim = remembering();
    let mut agent = Agent::new(dialect, is_stream);
    let mut usage = Vec::new();
    for turn in 0..TURNS {
        let answer =
            sim.respond(agent.request("sim-small")).await.into_body().collect().await.unwrap().to_bytes();
        usage.push(agent.hears(std::str::from_utf8(&answer).unwrap(), turn));
    }
    (usage, sent(&sim))
}

async fn through_us(caller: DialectId, provider: DialectId, is_stream: bool) -> (Vec<Usage>, Vec<String>) {
    let sim = remembering();
    let gateway = gateway(provider, &sim);
    let mut agent = Agent::new(caller, is_stream);
    let mut usage = Vec::new();
    for turn in 0..TURNS {
        let answer = call(&gateway, agent.request("sim-small")).await;
        assert_eq!(answer.status, 200, "{caller:?} {provider:?} {turn}: {}", answer.body);
        usage.push(agent.hears(&answer.body, turn));
    }
    (usage, sent(&sim))
}

fn sent(sim: &Sim) -> Vec<String> {
    sim.seen().iter().map(|seen| String::from_utf8(seen.body.to_vec()).unwrap()).collect()
}

/// A prompt up to the end of its conversation.
fn told(body: &str) -> &str {
    let document = chimera_protocol::json::Document::parse(body.as_bytes()).unwrap();
    let root = document.root();
    let turns = root.get("messages").or(root.get("contents")).unwrap().raw();
    let at = turns.as_ptr() as usize - body.as_ptr() as usize;
    &body[..at + turns.len() - 1]
}

fn each_begins_with_the_last(bodies: &[String]) -> bool {
    bodies.len() == TURNS && bodies.windows(2).all(|two| two[1].starts_with(told(&two[0])))
}

#[tokio::test]
async fn pain_18_an_agents_ten_turns_are_cached_by_the_provider_as_without_us() {
    for is_stream in [false, true] {
        for dialect in PROVIDERS {
            let (alone, bodies) = without_us(dialect, is_stream).await;
            assert!(
                each_begins_with_the_last(&bodies) && share(&alone) > 0.6,
                "{dialect:?}: {}",
                share(&alone)
            );
            let (ours, passed) = through_us(dialect, dialect, is_stream).await;
            assert_eq!((ours, &passed), (alone, &bodies), "{dialect:?}: every byte is the caller's");
        }
    }
}

/// In another dialect the bytes are others, but what was said is said again as it was. What Gemini's and
/// responses' callers cannot ask for is Anthropic's hint, without which it caches nothing.
#[tokio::test]
async fn pain_18_an_agents_ten_turns_are_cached_as_well_in_every_other_dialect() {
    for is_stream in [false, true] {
        for caller in CALLERS {
            let own = if caller == DialectId::Responses { DialectId::OpenAi } else { caller };
            let alone = share(&without_us(own, is_stream).await.0);
            for provider in PROVIDERS.into_iter().filter(|provider| *provider != caller) {
                let pair = format!("{caller:?} at {provider:?}, stream: {is_stream}");
                let (usage, bodies) = through_us(caller, provider, is_stream).await;
                assert!(each_begins_with_the_last(&bodies), "{pair}: {bodies:#?}");
                let hinted = provider != DialectId::Anthropic
                    || matches!(caller, DialectId::OpenAi | DialectId::Anthropic);
                let ours = share(&usage);
                let as_well = (ours - alone).abs() < 0.01;
                assert!(if hinted { as_well } else { ours == 0.0 }, "{pair}: {ours:.3}, alone {alone:.3}");
            }
        }
    }
}

/// An answer with a call and its proof, and where the next request must hold the proof again.
fn proven(provider: DialectId) -> (&'static str, &'static [&'static str]) {
    match provider {
        DialectId::Gemini => (
            r#"{"candidates":[{"content":{"parts":[{"text":"hm","thought":true},{"functionCall":{"name":"look","args":{"q":"x"}},"thoughtSignature":"cHJvb2Y="},{"functionCall":{"name":"look","args":{"q":"y"}}}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2},"responseId":"r"}"#,
            &[r#""args":{"q":"x"}},"thoughtSignature":"cHJvb2Y="}"#],
        ),
        _ => (
            r#"{"id":"msg_1","type":"message","role":"assistant","model":"c","content":[{"type":"thinking","thinking":"hm","signature":"cHJvb2Y="},{"type":"redacted_thinking","data":"c2VhbGVk"},{"type":"tool_use","id":"toolu_1","name":"look","input":{"q":"x"}}],"stop_reason":"tool_use","stop_sequence":null,"usage":{"input_tokens":1,"output_tokens":2}}"#,
            &[
                r#"{"type":"thinking","thinking":"hm","signature":"cHJvb2Y="}"#,
                r#"{"type":"redacted_thinking","data":"c2VhbGVk"}"#,
            ],
        ),
    }
}

/// Gemini refuses a turn whose call lost its proof; Anthropic one whose thoughts did. Whatever the
/// application speaks, it hands back what it was given, and its provider gets the proof again.
#[tokio::test]
async fn pain_19_proofs_come_back_to_their_provider_whoever_carried_them() {
    for provider in [DialectId::Gemini, DialectId::Anthropic] {
        let (reply, proofs) = proven(provider);
        for (caller, is_stream) in CALLERS.into_iter().flat_map(|caller| [(caller, false), (caller, true)]) {
            let answer = if is_stream {
                let options = chimera_protocol::UnfoldOptions { include_usage: true };
                let events = provider.dialect().unfold(reply.as_bytes(), options).unwrap();
                stream(&[std::str::from_utf8(&events).unwrap()])
            } else {
                unary(200, reply)
            };
            let upstream = Scripted::answering(answer);
            let gateway = crate::support::gateway(provider, &upstream);
            let model = if provider == DialectId::Gemini { "gemini-x" } else { "claude-x" };
            let mut agent = Agent::new(caller, is_stream);
            for turn in 0..2 {
                let answer = call(&gateway, agent.request(model)).await;
                assert_eq!(answer.status, 200, "{caller:?}: {}", answer.body);
                agent.hears(&answer.body, turn);
            }
            let sent = upstream.body(1);
            for proof in proofs {
                assert!(sent.contains(proof), "{caller:?} at {provider:?}, stream: {is_stream}: {sent}");
            }
        }
    }
}
