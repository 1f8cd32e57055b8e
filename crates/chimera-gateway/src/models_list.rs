//! The merged list of models, in the shape of whoever asks.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use chimera_protocol::DialectId;
use chimera_provider_pool::{AtLimit, Bounds, Classify, Deployment, Refusal, RefusalKind, Verdict};
use http::{HeaderValue, Request, Response, header, response};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    body::Body,
    books::Books,
    context::Context,
    failure::{Code, Failure},
    metrics::RequestOutcome,
    models::ModelProvider,
    respond,
    upstream::base_path,
};

/// How long a provider's list is used before it is asked for again.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// The largest list read.
const MAX_LIST: usize = 4 << 20;

/// One model of the list.
#[derive(Clone)]
struct Model {
    id: String,
    owner: String,
    /// What the provider says of it, in its own dialect.
    dialect: DialectId,
    detail: Value,
}

/// Lists that were fetched, by provider.
#[derive(Default)]
pub(crate) struct ModelLists(Mutex<Vec<Fetched>>);

/// A provider's name, when it was asked, and what it said.
type Fetched = (String, Instant, Arc<Vec<Model>>);

impl ModelLists {
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn get(&self, provider: &str) -> Option<Arc<Vec<Model>>> {
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, at, list) = lists.iter().find(|(name, ..)| name == provider)?;
        (at.elapsed() < KEPT_FOR).then(|| list.clone())
    }

    /// Keeps a list that was asked for under a configuration, unless another is in force: a reload clears the lists once
    /// its own is.
    fn put(&self, provider: &str, list: Arc<Vec<Model>>, context: &Context<'_>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if context.gateway.shared.state.load().number != context.state.number {
            return;
        }
        lists.retain(|(name, ..)| name != provider);
        lists.push((provider.to_owned(), Instant::now(), list));
    }
}

/// A list is good if it is JSON and says 200.
struct ListJudge;

impl Classify for ListJudge {
    fn head(&mut self, parts: &response::Parts) -> Verdict {
        if parts.status.is_success() {
            Verdict::NeedMore
        } else {
            Verdict::Refuse(Refusal { kind: RefusalKind::Fault, retry_after: None })
        }
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

/// Answers `GET /v1/models`, `/v1beta/models`, and one model of either.
pub(crate) async fn respond(
    context: &Context<'_>,
    dialect: DialectId,
    wanted: Option<&str>,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    books.waits(Instant::now());
    let models = all(context).await;
    books.heard(Instant::now());
    let body = match wanted {
        None => list(dialect, &models),
        Some(id) => {
            let model = models.iter().find(|model| model.id == id || model.id == format!("models/{id}"));
            let model =
                model.ok_or_else(|| Failure::new(Code::ModelNotFound, "no provider serves this model"))?;
            shown(dialect, model)
        }
    };
    books.ended(RequestOutcome::Success);
    let mut response = Response::new(Body::whole(body.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, respond::JSON);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=60"));
    Ok(response)
}

/// Groups first, then what each provider lists; a provider that does not answer is left out. Each is named so that it can
/// be called: by the provider, too, where its own name leads nowhere.
async fn all(context: &Context<'_>) -> Vec<Model> {
    let settings = &context.state.settings;
    let mut models: Vec<Model> = settings
        .models
        .group_names()
        .into_iter()
        .map(|name| Model {
            id: name.to_owned(),
            owner: "chimera".to_owned(),
            dialect: DialectId::OpenAi,
            detail: Value::Null,
        })
        .collect();
    for provider in settings.models.providers() {
        if let Some(list) = of_provider(context, provider).await {
            models.extend(list.iter().cloned().map(|mut model| {
                if settings.models.resolve(&model.id).is_none() {
                    model.id = format!("{}/{}", provider.provider.name(), model.id);
                }
                model
            }));
        }
    }
    let mut seen = BTreeSet::new();
    models.retain(|model| seen.insert(model.id.clone()));
    models
}

async fn of_provider(context: &Context<'_>, provider: &ModelProvider) -> Option<Arc<Vec<Model>>> {
    let name = provider.provider.name();
    let lists = &context.gateway.shared.lists;
    if let Some(list) = lists.get(name) {
        return Some(list);
    }
    let dialect = *provider.dialects.first()?;
    let bounds = Bounds {
        deadline: context.arrival.at + context.state.settings.timeouts.health,
        shortened: false,
        body_deadline: None,
        idle: None,
        hold_limit: MAX_LIST,
        at_limit: AtLimit::Refuse,
        worker: context.gateway.worker_index(),
    };
    let build = |deployment: &Deployment| request(dialect, deployment);
    let reply = provider.group.send(&bounds, &mut ListJudge, &build).await.ok()?;
    if reply.refusal.is_some() {
        return None;
    }
    let list: Value = serde_json::from_slice(&reply.held).ok()?;
    let list = Arc::new(parse(dialect, name, &list));
    lists.put(name, list.clone(), context);
    Some(list)
}

/// The request for a provider's list of models. It costs nothing.
pub(crate) fn request(dialect: DialectId, deployment: &Deployment) -> Result<Request<Bytes>, http::Error> {
    let base = base_path(dialect, deployment);
    let path = match dialect {
        DialectId::OpenAi | DialectId::Responses => format!("{base}/models"),
        DialectId::Anthropic => format!("{base}/v1/models?limit=1000"),
        DialectId::Gemini => format!("{base}/v1beta/models?pageSize=1000"),
    };
    let mut request = Request::builder().uri(path).header(header::ACCEPT_ENCODING, "identity");
    if dialect == DialectId::Anthropic {
        request = request.header("anthropic-version", "2023-06-01");
    }
    request.body(Bytes::new())
}

fn parse(dialect: DialectId, owner: &str, list: &Value) -> Vec<Model> {
    let (items, id) = match dialect {
        DialectId::Gemini => ("models", "name"),
        _ => ("data", "id"),
    };
    let items = list.get(items).and_then(Value::as_array).cloned().unwrap_or_default();
    items
        .into_iter()
        .filter_map(|detail| {
            let id = detail.get(id)?.as_str()?;
            let id = id.strip_prefix("models/").unwrap_or(id).to_owned();
            Some(Model { id, owner: owner.to_owned(), dialect, detail })
        })
        .collect()
}

fn list(dialect: DialectId, models: &[Model]) -> Value {
    let shown: Vec<_> = models.iter().map(|model| shown(dialect, model)).collect();
    match dialect {
        DialectId::OpenAi | DialectId::Responses => json!({ "object": "list", "data": shown }),
        DialectId::Anthropic => json!({
            "data": shown, "has_more": false,
            "first_id": models.first().map(|model| &model.id),
            "last_id": models.last().map(|model| &model.id),
        }),
        DialectId::Gemini => json!({ "models": shown }),
    }
}

/// One model: the provider's own words where the dialect is its own, but for a name that would lead nowhere.
fn shown(dialect: DialectId, model: &Model) -> Value {
    if model.dialect == dialect && !model.detail.is_null() {
        let mut detail = model.detail.clone();
        let (key, before) = if dialect == DialectId::Gemini { ("name", "models/") } else { ("id", "") };
        if let Some(name) = detail.get_mut(key).filter(|_| model.id.contains('/')) {
            *name = format!("{before}{}", model.id).into();
        }
        return detail;
    }
    match dialect {
        DialectId::OpenAi | DialectId::Responses => {
            json!({ "id": model.id, "object": "model", "created": 0, "owned_by": model.owner })
        }
        DialectId::Anthropic => json!({
            "id": model.id, "type": "model", "display_name": model.id, "created_at": "1970-01-01T00:00:00Z",
        }),
        DialectId::Gemini => json!({
            "name": format!("models/{}", model.id), "displayName": model.id,
            "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
        }),
    }
}
