//! The calls about jobs.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use bytes::Bytes;
use chimera_optimizer::{
    SharedModel, TaskError,
    spec::{JobSpec, Surroundings},
};
use chimera_transform::Priority;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{
    OptimizerSettings, files,
    follow::follow,
    id,
    jobs::{Entry, Standing},
    model::model,
    runner::aside,
};
use crate::{
    body::Body,
    books::Books,
    context::Context,
    failure::{Code, Failure},
    gateway::{Gateway, Shared},
    metrics::RequestOutcome,
    respond,
    route::Wanted,
    transforms::on_pool,
};

/// The gateway as a form from afar sees it: models, and neither files nor commands.
struct Afar<'g> {
    gateway: &'g Gateway,
    tenant: &'g str,
}

impl Surroundings for Afar<'_> {
    fn model(&self, name: &str) -> Result<SharedModel, String> {
        model(self.gateway, self.tenant, name)
    }

    fn has_price(&self, name: &str) -> bool {
        self.gateway.with_settings(|settings| settings.optimizer.prices.contains_key(name))
    }
}

/// Makes a job of a form. The error names the field.
pub(super) fn entry(gateway: &Gateway, tenant: &str, id: String, form: &Bytes) -> Result<Entry, TaskError> {
    let mut spec: JobSpec = serde_json::from_slice(form).map_err(|error| {
        // What serde says quotes names of fields, and kinds of values.
        TaskError { field: "the body".into(), why: error.to_string() }
    })?;
    let (wall, concurrency) =
        gateway.with_settings(|settings| (settings.timeouts.optimization, settings.optimizer.concurrency));
    spec.limit(wall, concurrency);
    let name = spec.name.clone();
    let job = spec.build(&Afar { gateway, tenant })?.build()?;
    Ok(Entry::new(id, tenant.into(), name, form.clone(), job))
}

/// Answers `POST /api/v1/optimizations`.
pub(crate) async fn start(
    context: &Context<'_>,
    body: Bytes,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let shared = &context.gateway.shared;
    let deadline = (context.arrival.at + context.state.settings.timeouts.standard).into_std();
    // Its calls are made on the loop that works on jobs, over the connections of that one.
    let gateway = Gateway::of(shared.clone(), shared.jobs.worker.load(Relaxed));
    let tenant = context.tenant.name.clone();
    // Megabytes of examples are read: nothing for the event loop.
    let work = move || {
        let id = id::new(&gateway.shared.fingerprint_key);
        entry(&gateway, &tenant, id, &body)
    };
    let made = on_pool(shared, Priority::Batch, deadline, work).await?;
    let made = made.map_err(|error| Failure::invalid(error.why).param(error.field))?;
    let entry = take_in(shared.clone(), made, context.state.settings.optimizer.clone()).await?;
    let mut response = json_response(&entry.brief(), books);
    *response.status_mut() = StatusCode::ACCEPTED;
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v1/optimizations/{}", entry.id)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Takes a job in; one that is to outlive the process is on disk before anybody is told that it was. A client that
/// leaves meanwhile changes nothing: what is on disk is in the table, or nowhere.
async fn take_in(
    shared: Arc<Shared>,
    made: Entry,
    settings: OptimizerSettings,
) -> Result<Arc<Entry>, Failure> {
    shared.jobs.has_room(&made.tenant, &settings)?;
    let Some(directory) = settings.directory.clone() else { return shared.jobs.add(made, &settings) };
    let kept = aside(move || {
        if let Err(error) = files::keep(&directory, &made) {
            tracing::warn!(%error, id = %made.id, "an optimisation job could not be kept on disk");
            return Err(Failure::new(Code::Internal, "the job could not be kept on disk"));
        }
        let id = made.id.clone();
        shared.jobs.add(made, &settings).inspect_err(|_| files::forget(&directory, &id))
    });
    kept.await.unwrap_or_else(|| Err(Failure::new(Code::Overloaded, "this gateway is ending")))
}

/// Answers the calls that need no body.
pub(crate) fn look(
    context: &Context<'_>,
    wanted: Wanted<'_>,
    books: &mut Books,
) -> Result<Response<Body>, Failure> {
    let (jobs, tenant) = (&context.gateway.shared.jobs, &*context.tenant.name);
    let find = |id: &str| {
        jobs.get(tenant, id).ok_or_else(|| Failure::invalid("there is no such optimisation job").status(404))
    };
    match wanted {
        Wanted::Start | Wanted::List => {
            let all: Vec<Value> = jobs.of(tenant).iter().map(|entry| entry.brief()).collect();
            Ok(json_response(&json!({ "object": "list", "data": all }), books))
        }
        Wanted::Look(id) => Ok(json_response(&find(id)?.whole(), books)),
        Wanted::Follow(id) => {
            let body = Body::lines(Box::pin(follow(context.gateway.shared.clone(), find(id)?)));
            let mut response = Response::new(body);
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
            Ok(response)
        }
        Wanted::Report(id) => {
            let html = match find(id)?.standing() {
                Standing::Over(found) => Some(found.html()),
                Standing::Told(told) => told.report.clone(),
                _ => None,
            };
            let html = html.ok_or_else(|| Failure::invalid("this job has no report").status(409))?;
            let mut response = Response::new(Body::whole(html));
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
            headers.insert(
                header::CONTENT_SECURITY_POLICY,
                HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; sandbox"),
            );
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
            books.ended(RequestOutcome::Success);
            Ok(response)
        }
        Wanted::Cancel(id) => {
            let entry = find(id)?;
            let settings = &context.state.settings.optimizer;
            if let (Some(stood), Some(directory)) = (entry.cancel(), settings.directory.clone()) {
                // Nothing works on it: the next process is not to either.
                let (most, entry) = (settings.kept, entry.clone());
                tokio::task::spawn_blocking(move || match stood {
                    Standing::Waiting => files::forget(&directory, &entry.id),
                    _ => files::finish(&directory, &entry, most),
                });
            }
            let mut response = json_response(&entry.brief(), books);
            *response.status_mut() = if entry.is_over() { StatusCode::OK } else { StatusCode::ACCEPTED };
            Ok(response)
        }
    }
}

fn json_response(value: &Value, books: &mut Books) -> Response<Body> {
    let mut response = Response::new(Body::whole(value.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, respond::JSON);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    books.ended(RequestOutcome::Success);
    response
}
