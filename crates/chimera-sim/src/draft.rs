//! What a request gets, before faults: the checks that a provider makes, then its dialect's answer.

use std::time::Duration;

use http::{StatusCode, request::Parts};
use serde_json::Value;

use crate::{
    answer::{Ask, Reply},
    anthropic,
    body::Script,
    dialect::{Dialect, Route, Verb},
    fault::Fault,
    gemini, inject, openai,
    prompt_cache::Known,
    request::BadRequest,
    settings::{Pace, Settings},
};

/// The answer before its pace and faults: what to send, and when it is complete.
pub(crate) struct Draft {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) script: Script,
}

pub(crate) fn model_of<'a>(route: &'a Route, body: Option<&'a Value>) -> &'a str {
    match route {
        Route::Gemini { model, .. } | Route::Model(model) => model,
        _ => body.and_then(|body| body.get("model")?.as_str()).unwrap_or(""),
    }
}

pub(crate) fn refuse(dialect: Dialect, status: StatusCode, message: &str) -> Draft {
    json(status, &dialect.error(status, message))
}

fn json(status: StatusCode, value: &Value) -> Draft {
    Draft { status, content_type: "application/json", script: Script::unary(value.to_string()) }
}

/// One request on its way through the dialects.
pub(crate) struct Call<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) parts: &'a Parts,
    pub(crate) dialect: Dialect,
    pub(crate) fault: Option<&'a Fault>,
    pub(crate) fingerprint: u64,
    pub(crate) known: Known,
}

impl Call<'_> {
    pub(crate) fn draft(&self, route: Route, body: Option<Value>) -> Draft {
        let sent = self.dialect.key(&self.parts.headers, self.parts.uri.query().unwrap_or(""));
        if self.settings.required_key.is_some() && self.settings.required_key.as_deref() != sent {
            return refuse(self.dialect, StatusCode::UNAUTHORIZED, "Incorrect API key provided.");
        }
        match route {
            Route::Unknown => refuse(self.dialect, StatusCode::NOT_FOUND, "Unknown path."),
            Route::Models => json(StatusCode::OK, &self.models()),
            Route::Model(id) => self.model(&id),
            route => match body {
                None => refuse(
                    self.dialect,
                    StatusCode::BAD_REQUEST,
                    "We could not parse the JSON body of your request.",
                ),
                Some(body) => self.post(&route, &body).unwrap_or_else(|BadRequest(reason)| {
                    refuse(self.dialect, StatusCode::BAD_REQUEST, &reason)
                }),
            },
        }
    }

    fn models(&self) -> Value {
        let ids = &self.settings.models;
        match self.dialect {
            Dialect::OpenAi => openai::models(ids),
            Dialect::Anthropic => anthropic::models(ids),
            Dialect::Gemini => gemini::models(ids),
        }
    }

    fn model(&self, id: &str) -> Draft {
        if !self.knows(id) {
            return self.unknown_model(id);
        }
        let value = match self.dialect {
            Dialect::OpenAi => openai::model(id),
            Dialect::Anthropic => anthropic::model(id),
            Dialect::Gemini => gemini::model(id),
        };
        json(StatusCode::OK, &value)
    }

    fn knows(&self, id: &str) -> bool {
        self.settings.any_model || self.settings.models.iter().any(|known| known == id)
    }

    fn unknown_model(&self, id: &str) -> Draft {
        let message = format!("The model `{id}` does not exist or you do not have access to it.");
        refuse(self.dialect, StatusCode::NOT_FOUND, &message)
    }

    fn post(&self, route: &Route, body: &Value) -> Result<Draft, BadRequest> {
        let name = model_of(route, Some(body));
        if !name.is_empty() && !self.knows(name) {
            return Ok(self.unknown_model(name));
        }
        let ok = |value: Value| json(StatusCode::OK, &value);
        Ok(match route {
            Route::Chat => self.generate(openai::read(body)?, false),
            Route::Messages => self.generate(anthropic::read(body)?, false),
            Route::Embeddings => ok(openai::embeddings(body, self.settings)?),
            Route::CountTokens => ok(anthropic::count_tokens(body)?),
            Route::Gemini { model, verb, sse } => match verb {
                Verb::Generate => self.generate(gemini::read(body, model, false)?, false),
                Verb::Stream => self.generate(gemini::read(body, model, true)?, *sse),
                Verb::CountTokens => ok(gemini::count_tokens(body)?),
                Verb::Embed => ok(gemini::embed(body, self.settings)?),
                Verb::BatchEmbed => ok(gemini::batch_embed(body, self.settings)?),
            },
            Route::Models | Route::Model(_) | Route::Unknown => {
                refuse(self.dialect, StatusCode::NOT_FOUND, "Unknown path.")
            }
        })
    }

    fn generate(&self, mut ask: Ask, sse: bool) -> Draft {
        ask.fingerprint = self.fingerprint;
        ask.known = self.known;
        let pace = Pace::resolve(self.settings, &self.parts.headers, &ask.model);
        let mut reply = Reply::new(&ask, &pace, self.settings);
        inject::falsify(&mut reply, self.fault);
        if ask.stream {
            return self.stream(&ask, &reply, &pace, sse);
        }
        let mut draft = json(
            StatusCode::OK,
            &match self.dialect {
                Dialect::OpenAi => openai::unary(&ask, &reply),
                Dialect::Anthropic => anthropic::unary(&ask, &reply),
                Dialect::Gemini => gemini::unary(&ask, &reply),
            },
        );
        draft.wait(pace.unary(reply.output_tokens));
        draft
    }

    fn stream(&self, ask: &Ask, reply: &Reply, pace: &Pace, sse: bool) -> Draft {
        let steps = match self.dialect {
            Dialect::OpenAi => openai::stream(ask, reply, pace, self.settings),
            Dialect::Anthropic => anthropic::stream(ask, reply, pace, self.settings),
            Dialect::Gemini => gemini::stream(ask, reply, pace, self.settings, sse),
        };
        let array = self.dialect == Dialect::Gemini && !sse;
        Draft {
            status: StatusCode::OK,
            content_type: if array { "application/json" } else { "text/event-stream" },
            script: Script::stream(steps),
        }
    }
}

impl Draft {
    /// A unary answer comes as a whole once its last token is made.
    fn wait(&mut self, time: Duration) {
        if let Some(step) = self.script.steps.front_mut() {
            step.after = time;
        }
    }
}
