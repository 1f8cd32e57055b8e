//! The simulated provider itself: a request goes in, a scripted answer comes out.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use http_body_util::{BodyExt, Limited};

use crate::{
    answer,
    body::{End, Script, SimBody},
    connection::Control,
    dialect::{Dialect, route},
    draft::{Call, Draft, model_of, refuse},
    fault::Fault,
    inject,
    prompt_cache::PromptCache,
    seen::{Counts, Flight, Record, Seen},
    settings::Settings,
};

/// A simulated provider; clones share everything.
#[derive(Clone, Debug)]
pub struct Sim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Mutex<Arc<Settings>>,
    faults: Mutex<Faults>,
    record: Arc<Record>,
    prompts: PromptCache,
    serial: AtomicU64,
}

#[derive(Debug, Default)]
struct Faults {
    next: VecDeque<Fault>,
    by_model: HashMap<String, Fault>,
    always: Option<Fault>,
}

impl Sim {
    /// A provider that behaves as `settings` say.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings: Mutex::new(Arc::new(settings)),
                faults: Mutex::default(),
                record: Record::new(),
                prompts: PromptCache::default(),
                serial: AtomicU64::new(0),
            }),
        }
    }

    /// Changes the settings for requests that come from now on.
    pub fn set(&self, settings: Settings) {
        *lock(&self.inner.settings) = Arc::new(settings);
    }

    /// Lets the next request fail; several faults are used up in the order they were given.
    pub fn fault_next(&self, fault: Fault) {
        lock(&self.inner.faults).next.push_back(fault);
    }

    /// Lets every request fail, or (with `None`) none any more.
    pub fn fault_always(&self, fault: Option<Fault>) {
        lock(&self.inner.faults).always = fault;
    }

    /// Lets every request for `model` fail, or (with `None`) none any more.
    pub fn fault_for_model(&self, model: &str, fault: Option<Fault>) {
        let mut faults = lock(&self.inner.faults);
        match fault {
            Some(fault) => faults.by_model.insert(model.into(), fault),
            None => faults.by_model.remove(model),
        };
    }

    /// The latest requests, oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.inner.record.seen()
    }

    /// Forgets the requests seen so far; the counters stay.
    pub fn forget_seen(&self) {
        self.inner.record.forget();
    }

    /// How many answers began and how they ended.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inner.record.counts()
    }

    /// Waits until the counters are as `wanted`.
    pub async fn until(&self, wanted: impl FnMut(&Counts) -> bool) -> Counts {
        let mut changes = self.inner.record.subscribe();
        match changes.wait_for(wanted).await.map(|counts| *counts) {
            Ok(counts) => counts,
            // The sender lives in `self`, so it cannot have gone.
            Err(_) => self.counts(),
        }
    }

    /// Answers one request in-process.
    ///
    /// A fault that resets the connection shows as an error of the body, because
    /// there is no connection here. Dropping the future or the body counts as cancelled.
    pub async fn respond<B>(&self, request: Request<B>) -> Response<SimBody>
    where
        B: Body<Data = Bytes>,
    {
        self.answer(request, None).await.unwrap_or_else(|flight| {
            let mut script = Script::unary("");
            script.end = End::Reset;
            script.sized = false;
            Response::new(SimBody::new(script, flight, None))
        })
    }

    pub(crate) fn record(&self) -> &Arc<Record> {
        &self.inner.record
    }

    /// `Err` is a reset before the head.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        control: Option<Arc<Control>>,
    ) -> Result<Response<SimBody>, Flight>
    where
        B: Body<Data = Bytes>,
    {
        let flight = Flight::start(&self.inner.record);
        let settings = Arc::clone(&lock(&self.inner.settings));
        let (parts, body) = request.into_parts();
        let query = parts.uri.query().unwrap_or("");
        let (dialect, route) = route(&parts.method, parts.uri.path(), query, &parts.headers);
        let body = Limited::new(body.map_err(|_| "unreadable"), settings.max_request_bytes).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes);
        self.remember(&parts, body.as_ref().ok(), dialect, &settings);
        let parsed = body.as_ref().ok().and_then(|bytes| serde_json::from_slice(bytes).ok());
        let fault = self.pick_fault(&parts.headers, model_of(&route, parsed.as_ref()));
        match &fault {
            Some(Fault::HangBeforeHead) => pending::<()>().await,
            Some(Fault::Delay(delay)) => tokio::time::sleep(*delay).await,
            Some(Fault::Reset { after_bytes: None }) => {
                if let Some(control) = control {
                    control.reset();
                }
                return Err(flight);
            }
            _ => {}
        }
        let draft = match body {
            Err(_) => refuse(dialect, StatusCode::PAYLOAD_TOO_LARGE, "The request is too large."),
            Ok(bytes) => Call {
                settings: &settings,
                parts: &parts,
                dialect,
                fault: fault.as_ref(),
                fingerprint: answer::hash(&bytes),
                known: self.inner.prompts.meet(dialect, &bytes, settings.prompt_cache),
            }
            .draft(route, parsed),
        };
        Ok(self.play(draft, &settings, dialect, fault.as_ref(), flight, control))
    }

    fn remember(&self, parts: &Parts, body: Option<&Bytes>, dialect: Dialect, settings: &Settings) {
        let seen = Seen {
            method: parts.method.clone(),
            target: parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            headers: parts.headers.clone(),
            body: body.cloned().unwrap_or_default(),
            dialect,
        };
        self.inner.record.push(seen, settings.keep_seen);
    }

    /// The request's own wish first, then what tests queued, then what lasts.
    fn pick_fault(&self, headers: &HeaderMap, model: &str) -> Option<Fault> {
        if let Some(value) = headers.get("x-sim-fault") {
            return value.to_str().ok().and_then(|text| text.parse().ok());
        }
        let mut faults = lock(&self.inner.faults);
        faults
            .next
            .pop_front()
            .or_else(|| faults.by_model.get(model).cloned())
            .or_else(|| faults.always.clone())
    }

    fn play(
        &self,
        draft: Draft,
        settings: &Settings,
        dialect: Dialect,
        fault: Option<&Fault>,
        flight: Flight,
        control: Option<Arc<Control>>,
    ) -> Response<SimBody> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(draft.content_type));
        let serial = self.inner.serial.fetch_add(1, Ordering::Relaxed);
        headers.extend(
            dialect
                .headers(serial)
                .into_iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), value)),
        );
        let (mut status, mut script) = (draft.status, draft.script);
        if let Some(Fault::Status { code, headers: extra, body }) = fault {
            status = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let error = dialect.error(status, "The simulated provider fails as it was asked to.");
            script = Script::unary(body.clone().unwrap_or_else(|| error.to_string().into()));
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            add_headers(&mut headers, extra);
        } else if let Some(fault) = fault {
            inject::inject(&mut script, &mut headers, fault, dialect);
        }
        if !script.sized && !matches!(fault, Some(Fault::SlowBytes { .. })) {
            inject::frame(&mut script, settings.framing);
        }
        let mut response = Response::new(SimBody::new(script, flight, control));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn add_headers(headers: &mut HeaderMap, extra: &[(String, String)]) {
    for (name, value) in extra {
        let name = header::HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
