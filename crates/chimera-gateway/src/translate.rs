//! Calls whose provider speaks another dialect than the caller.
//!
//! Everything behind the look is the provider's: the request that is sent, the fingerprint, the stored
//! answer, the stream that followers share. Only what a caller is given is in its own dialect, put into
//! it for each caller as it is handed out. So one stored answer serves callers of every dialect, and the
//! way of a call that needs no translation is as it was.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use chimera_protocol::{
    DialectId, ErrorParts, Operation, json,
    translate::{self, AnswerContext, EmbedTranslated, ErrorFacts, RequestContext, StreamTranslator},
};
use chimera_transform::tokens;
use http::{HeaderName, HeaderValue, Response, StatusCode, request::Parts};

use crate::{
    body::Body,
    books::Books,
    compress::Encoding,
    context,
    entry::{Entry, Form},
    failure::{Code, Failure},
    following::Following,
    load::Answer,
    metrics::RequestOutcome,
    reply,
    request_id::RequestId,
    respond::{self, names},
    translating::{Retelling, Translating},
    upstream::{Framing, Outgoing},
};

/// The version of Anthropic's that every SDK names, as part of a fingerprint.
const USUAL_VERSION: &[u8] = b"\nanthropic-version:2023-06-01";

/// What a caller asks for, its body aside.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) caller: DialectId,
    pub(crate) operation: Operation,
    /// The form in which the caller wants its answer.
    pub(crate) form: Form,
}

impl Asked {
    /// The form of an answer that callers of other dialects may share: they are told its usage, and only
    /// OpenAI's own may have no wish for it.
    pub(crate) fn shared_form(&self) -> Form {
        let Form { framing, include_usage } = self.form;
        let own = framing != Framing::Unary && self.caller == DialectId::OpenAi;
        Form { framing, include_usage: include_usage || !own }
    }
}

/// What a call became in its provider's dialect.
pub(crate) struct Foreign {
    /// The provider's dialect.
    pub(crate) to: DialectId,
    pub(crate) body: Bytes,
    pub(crate) verb: &'static str,
    pub(crate) query: &'static str,
    /// Where the body names the model.
    pub(crate) model_range: Option<std::ops::Range<usize>>,
    /// The members that were left out, as `x-chimera-dropped` says them.
    pub(crate) dropped: Option<HeaderValue>,
    /// The form in which the caller wants its answer.
    pub(crate) form: Form,
    caller: DialectId,
    /// The model as its provider knows it.
    pub(crate) model: String,
    embed: Option<EmbedTranslated>,
    /// Whether tokens are counted and nothing else.
    counts: bool,
}

impl Foreign {
    /// Translates a request for a model of a provider's.
    pub(crate) fn of(
        document: &json::Document<'_>,
        asked: Asked,
        to: DialectId,
        model: &str,
    ) -> Result<Self, Failure> {
        let Asked { caller, operation, form } = asked;
        let mut body = BytesMut::with_capacity(document.text().len() + 256);
        let (dropped, embed) = match operation {
            Operation::Chat => {
                let stream = form.framing != Framing::Unary;
                let context = RequestContext { from: caller, to, model, stream };
                let translated = translate::request(document, &context, &mut body).map_err(refused)?;
                (translated.dropped, None)
            }
            Operation::Embed => {
                let asked =
                    translate::embed_request(document, caller, to, model, &mut body).map_err(refused)?;
                (asked.dropped.clone(), Some(asked))
            }
            Operation::CountTokens if to == DialectId::OpenAi => {
                let why = "this model's provider does not count tokens";
                return Err(Failure::invalid(why).param("model"));
            }
            Operation::CountTokens => {
                let context = RequestContext { from: caller, to, model, stream: false };
                (translate::count_request(document, &context, &mut body).map_err(refused)?, None)
            }
        };
        let (verb, query) = verb(to, operation, form.framing, embed.as_ref());
        Ok(Self {
            to,
            model_range: model_range(to, model),
            body: body.freeze(),
            verb,
            query,
            dropped: listed(&dropped),
            form,
            caller,
            model: model.to_owned(),
            embed,
            counts: operation == Operation::CountTokens,
        })
    }

    /// The form in which the provider is asked and its answer kept.
    pub(crate) fn provider_form(&self) -> Form {
        let framing = if self.form.framing == Framing::Unary { Framing::Unary } else { Framing::Events };
        Form { framing, include_usage: true }
    }

    /// What the provider's answer depends on besides its body, spelled as a native caller's would be.
    /// `asked` are the caller's own, where a deployment may come to see them; the version that
    /// everybody names is none.
    pub(crate) fn versions(&self, asked: &[u8]) -> Cow<'static, [u8]> {
        let usual: &[u8] = match self.to {
            DialectId::Anthropic => USUAL_VERSION,
            _ => b"",
        };
        let rest = asked.strip_prefix(USUAL_VERSION).unwrap_or(asked);
        if rest.is_empty() { usual.into() } else { [usual, rest].concat().into() }
    }

    /// Bytes that it holds.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.body.len() + self.model.len()
    }

    fn context<'a>(&'a self, id: &'a str) -> AnswerContext<'a> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        AnswerContext { id, model: &self.model, created: now.map_or(0, |now| now.as_secs()) }
    }

    /// A provider's refusal in the caller's dialect: its status and its body.
    fn refusal(&self, answer: &Answer, id: &str) -> (u16, Bytes) {
        let facts = ErrorFacts::read(self.to, answer.status, &answer.body);
        let parts = ErrorParts { retry_after: answer.retry_after, ..facts.parts(self.caller, id) };
        (parts.status, self.caller.dialect().error_body(&parts).into())
    }

    /// Which of an answer's forms in other dialects this caller is given.
    pub(crate) fn telling(&self, encoding: Option<Encoding>) -> Telling {
        let base64 = self.embed.as_ref().is_some_and(|asked| asked.base64);
        Telling { caller: self.caller, form: self.form, base64, encoding }
    }

    /// An answer in the provider's form, in the form that the caller asked for.
    pub(crate) fn told(&self, body: &Bytes, id: &str) -> Result<Bytes, Failure> {
        if self.form.framing == Framing::Unary { self.whole(body, id) } else { self.replayed(body, id) }
    }

    fn whole(&self, body: &[u8], id: &str) -> Result<Bytes, Failure> {
        let mut out = BytesMut::with_capacity(body.len() + 256);
        let translated = match &self.embed {
            None if self.counts => translate::count_answer(body, self.caller, &mut out),
            Some(asked) => translate::embed_answer(body, self.to, self.caller, &self.model, asked, &mut out),
            None => translate::answer(body, self.to, self.caller, &self.context(id), &mut out),
        };
        translated.map_err(|fault| {
            Failure::new(
                Code::UpstreamInvalidResponse,
                format!("the provider's answer cannot be told in the caller's dialect: {fault}"),
            )
        })?;
        Ok(out.freeze())
    }

    /// A whole stream of the provider's as the caller's.
    fn replayed(&self, events: &Bytes, id: &str) -> Result<Bytes, Failure> {
        let mut translating = self.retelling(id, events.len().max(1));
        let (mut out, failed) = translating.events(events.clone());
        if let Some(failure) = failed {
            return Err(failure);
        }
        if !translating.is_over() {
            out.unsplit(translating.end(BytesMut::new())?);
        }
        Ok(out.freeze())
    }

    /// `most` is the largest event that is read.
    fn retelling(&self, id: &str, most: usize) -> Retelling {
        let (from, to) = (self.to, self.caller);
        let translator = StreamTranslator::new(from, to, self.form.include_usage, &self.context(id));
        Retelling::new([from, to], translator, self.form.framing, most)
    }

    /// Everything that the provider's request is made of. Of the caller's headers only those go on that
    /// belong to no vendor.
    pub(crate) fn outgoing(&self, headers: Vec<(HeaderName, HeaderValue)>, model: String) -> Outgoing {
        Outgoing {
            dialect: self.to,
            verb: self.verb,
            query: self.query,
            headers: headers.into_iter().filter(|(name, _)| name.as_str().starts_with("trace")).collect(),
            body: self.body.clone(),
            model,
            model_range: self.model_range.clone(),
            // The body names the model of one deployment; each gets its own.
            same_name: false,
            edits: Vec::new(),
        }
    }

    /// A provider's whole answer as a response to the caller.
    pub(crate) async fn respond(
        self: &Arc<Self>,
        context: &context::Context<'_>,
        answer: &Answer,
        said: HeaderValue,
        parts: &Parts,
        books: &mut Books,
    ) -> Result<Response<Body>, Failure> {
        let (status, mut response) = match &answer.entry {
            Some(entry) => (answer.status, self.hit(context, entry, parts).await?),
            None => {
                let (status, body) = self.refusal(answer, &context.arrival.request_id.to_string());
                (status, reply::whole_of(&body, None, false))
            }
        };
        let total = books.ended(RequestOutcome::of_status(status));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        if let Some(dropped) = &self.dropped {
            headers.insert(&names::DROPPED, dropped.clone());
        }
        headers.insert(&names::CACHE, said);
        respond::origin(headers, &answer.provenance, total);
        if let Some(wait) = answer.retry_after.or((status == 429).then_some(Duration::from_secs(1))) {
            respond::retry_after(headers, wait);
        }
        Ok(response)
    }

    /// An answer that came whole, or that is stored, as a response to the caller.
    pub(crate) async fn hit(
        self: &Arc<Self>,
        context: &context::Context<'_>,
        entry: &Arc<Entry>,
        parts: &Parts,
    ) -> Result<Response<Body>, Failure> {
        let plain = entry.tell(self, &context.arrival.request_id.to_string()).await?;
        let mut response = if self.form.framing == Framing::Unary {
            let (encoding, compressible) = reply::encoding_for(context, &plain, parts);
            let encoded = match encoding {
                Some(encoding) => {
                    entry.tell_encoded(self, &plain, encoding).await.map(|encoded| (encoding, encoded))
                }
                None => None,
            };
            if let Some((encoding, encoded)) = &encoded {
                context.gateway.shared.metrics.compressed(*encoding, plain.len(), encoded.len());
            }
            reply::whole_of(&plain, encoded.as_ref().map(|(encoding, body)| (*encoding, body)), compressible)
        } else {
            let mut response = Response::new(Body::whole(plain));
            reply::stream_headers(response.headers_mut(), self.form.framing);
            response
        };
        if let Some(dropped) = &self.dropped {
            response.headers_mut().insert(&names::DROPPED, dropped.clone());
        }
        Ok(response)
    }

    /// The stream that a caller gets of a call that it follows.
    pub(crate) fn follow(
        &self,
        inner: Following,
        context: &context::Context<'_>,
        id: &RequestId,
    ) -> Following {
        let retelling = self.retelling(&id.to_string(), context.state.settings.sizes.event);
        Following::Translated(Box::new(Translating::new(inner, retelling)))
    }
}

/// One of the forms of an answer that callers of other dialects may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Telling {
    caller: DialectId,
    form: Form,
    /// Whether the numbers of embeddings are in base64.
    base64: bool,
    encoding: Option<Encoding>,
}

fn refused(refused: translate::Refused) -> Failure {
    Failure::invalid(refused.message).param(refused.param)
}

fn listed(dropped: &translate::Dropped) -> Option<HeaderValue> {
    let names: Vec<_> = dropped.names().collect();
    if names.is_empty() { None } else { HeaderValue::from_str(&names.join(", ")).ok() }
}

/// What a request for a count is answered where the provider, an OpenAI one, counts none.
pub(crate) fn counted(
    document: &json::Document<'_>,
    caller: DialectId,
    model: &str,
) -> Result<(Bytes, Option<HeaderValue>), Failure> {
    let (mut chat, mut out) = (BytesMut::new(), BytesMut::new());
    let context = RequestContext { from: caller, to: DialectId::OpenAi, model, stream: false };
    let dropped = translate::count_request(document, &context, &mut chat).map_err(refused)?;
    let internal = || Failure::new(Code::Internal, "a translated request is not valid");
    let chat = json::Document::parse(&chat).map_err(|_| internal())?;
    let count = format!(r#"{{"input_tokens":{}}}"#, tokens::count(&chat, model));
    translate::count_answer(count.as_bytes(), caller, &mut out).map_err(|_| internal())?;
    Ok((out.freeze(), listed(&dropped)))
}

/// Where a call is sent.
fn verb(
    to: DialectId,
    operation: Operation,
    framing: Framing,
    embed: Option<&EmbedTranslated>,
) -> (&'static str, &'static str) {
    match (to, operation) {
        (DialectId::OpenAi, Operation::Embed) => ("/embeddings", ""),
        (DialectId::Gemini, Operation::Embed) if embed.is_some_and(|asked| asked.is_batch) => {
            (":batchEmbedContents", "")
        }
        (DialectId::Gemini, Operation::Embed) => (":embedContent", ""),
        (DialectId::Gemini, Operation::CountTokens) => (":countTokens", ""),
        (DialectId::Anthropic, Operation::CountTokens) => ("/v1/messages/count_tokens", ""),
        (DialectId::Gemini, _) if framing == Framing::Unary => (":generateContent", ""),
        (DialectId::Gemini, _) => (":streamGenerateContent", "?alt=sse"),
        (DialectId::Anthropic, _) => ("/v1/messages", ""),
        (DialectId::OpenAi | DialectId::Responses, _) => ("/chat/completions", ""),
    }
}

/// A translated body begins with its model, where it names one.
fn model_range(to: DialectId, model: &str) -> Option<std::ops::Range<usize>> {
    const BEFORE: usize = r#"{"model":"#.len();
    (to != DialectId::Gemini).then(|| BEFORE..BEFORE + serde_json::Value::from(model).to_string().len())
}
