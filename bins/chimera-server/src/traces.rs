//! Traces on their way to a collector, by OTLP over HTTP.
//!
//! Requests hand their traces over without waiting: into a queue with a bound, whose overflow is counted. One
//! task sends what has gathered, a few seconds' worth at a time. A collector that is away, slow or wrong costs
//! traces, never a request.

mod otlp;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use chimera_circuit_breaker as breaker;
use chimera_gateway::{Trace, Tracer};
use chimera_provider_pool::{
    AtLimit, Bounds, Classify, Deployment, Failover, Group, InOrder, Provider, ProviderSettings, Target,
    Verdict,
};
use http::{HeaderName, HeaderValue, Method, Request, header, response};
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    config::{ConfigError, File},
    metrics::SpanMetrics,
    surroundings::Surroundings,
    units::SecretSource,
};

/// Traces that may wait. A trace has a span or two, seldom more.
const QUEUE: usize = 2048;
/// Traces sent at once, and the longest that one waits for others.
const BATCH: usize = 256;
const PAUSE: Duration = Duration::from_secs(2);
/// How long a collector may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// And at the end, when somebody waits.
const LAST_DEADLINE: Duration = Duration::from_secs(2);

/// The section `[traces]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Traces {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    pub(crate) service_name: String,
    pub(crate) share: f64,
    pub(crate) prompts: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, SecretSource>,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            endpoint: None,
            service_name: "chimera".to_owned(),
            share: 1.0,
            prompts: false,
            headers: BTreeMap::new(),
        }
    }
}

/// What the environment says by OpenTelemetry's own names, where the file says nothing.
pub(crate) fn add_environment(file: &mut File, variable: &dyn Fn(&str) -> Option<String>) {
    let said = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    let traces = &mut file.traces;
    if traces.endpoint.is_none() {
        traces.endpoint = said("OTEL_EXPORTER_OTLP_ENDPOINT");
    }
    if traces.service_name == Traces::default().service_name
        && let Some(name) = said("OTEL_SERVICE_NAME")
    {
        traces.service_name = name;
    }
}

/// Sends traces until it is told to finish.
pub(crate) struct Exporter {
    group: Arc<Group>,
    path: String,
    headers: Vec<(HeaderName, HeaderValue)>,
    service_name: String,
    queue: mpsc::Receiver<Trace>,
    metrics: SpanMetrics,
}

/// The tracer that the configuration asks for, and what sends its traces. Errors name the key, never its value.
pub(crate) fn start(
    file: &File,
    around: &Surroundings,
) -> Result<Option<(Arc<Tracer>, Exporter)>, ConfigError> {
    let Traces { endpoint, service_name, share, prompts, headers } = &file.traces;
    let at = |key: &str, why: &str| ConfigError::new(format!("traces.{key}"), why);
    if !(0.0..=1.0).contains(share) {
        return Err(at("share", "it must be between 0.0 and 1.0"));
    }
    let headers = headers
        .iter()
        .map(|(name, value)| {
            let key = format!("headers.{name}");
            let text = value.read().map_err(|why| at(&key, &why))?;
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| at(&key, "it is not a header's name"))?;
            let mut value =
                HeaderValue::from_str(&text).map_err(|_| at(&key, "it cannot be a header's value"))?;
            value.set_sensitive(true);
            Ok((name, value))
        })
        .collect::<Result<_, ConfigError>>()?;
    let Some(endpoint) = endpoint else { return Ok(None) };
    let target = Target::parse(endpoint).map_err(|error| at("endpoint", &error.to_string()))?;
    let path = format!("{}/v1/traces", target.path().trim_end_matches('/'));
    let provider = Provider::new(ProviderSettings::new("otlp", target), around.tcp.clone(), 1)
        .map_err(|error| at("endpoint", &error.to_string()))?;
    let breaker = breaker::Breaker::new(breaker::Settings::default(), std::time::Instant::now());
    let deployment = Deployment::new("otlp", provider, None, breaker, 4);
    let group = Group::new("otlp", vec![deployment], Arc::new(InOrder), Failover::default());
    let (sender, queue) = mpsc::channel(QUEUE);
    let metrics = SpanMetrics::new();
    let dropped = metrics.dropped.clone();
    let tracer = Tracer::new(*share, *prompts, move |trace| {
        if let Err(full) = sender.try_send(trace) {
            dropped.increment(spans(&[full.into_inner()]));
        }
    });
    let exporter = Exporter { group, path, headers, service_name: service_name.clone(), queue, metrics };
    Ok(Some((Arc::new(tracer), exporter)))
}

fn spans(traces: &[Trace]) -> u64 {
    traces.iter().map(|trace| 1 + trace.calls.len() as u64).sum()
}

impl Exporter {
    /// Sends traces as they gather, until the future is dropped. What was taken out of the queue by then is lost;
    /// what is in it can still be sent by [`finish`](Self::finish).
    pub(crate) async fn run(&mut self) {
        loop {
            // One is there, or nothing is to be done; more of them gather meanwhile.
            while self.queue.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
            self.send_some(DEADLINE).await;
        }
    }

    /// Sends what is left.
    pub(crate) async fn finish(mut self) {
        let until = Instant::now() + LAST_DEADLINE;
        while !self.queue.is_empty() && Instant::now() < until {
            self.send_some(until - Instant::now()).await;
        }
    }

    async fn send_some(&mut self, deadline: Duration) {
        let mut batch = Vec::with_capacity(BATCH);
        while batch.len() < BATCH
            && let Ok(trace) = self.queue.try_recv()
        {
            batch.push(trace);
        }
        let count = spans(&batch);
        let body = Bytes::from(otlp::encoded(&self.service_name, &batch));
        match self.post(body, deadline).await {
            Ok(()) => self.metrics.sent.increment(count),
            Err(why) => {
                self.metrics.failed.increment(count);
                tracing::warn!(spans = count, why, "traces were not taken by their collector");
            }
        }
    }

    async fn post(&self, body: Bytes, deadline: Duration) -> Result<(), String> {
        let bounds = Bounds {
            deadline: Instant::now() + deadline,
            shortened: false,
            body_deadline: None,
            idle: None,
            hold_limit: 64 * 1024,
            at_limit: AtLimit::Refuse,
            worker: 0,
        };
        let build = |_: &Deployment| {
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(&*self.path)
                .header(header::CONTENT_TYPE, "application/json");
            for (name, value) in &self.headers {
                request = request.header(name, value);
            }
            request.body(body.clone())
        };
        match self.group.send(&bounds, &mut Whole, &build).await {
            Ok(reply) if reply.parts.status.is_success() => Ok(()),
            Ok(reply) => Err(format!("it answered {}", reply.parts.status.as_u16())),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Takes any answer, once it is whole.
struct Whole;

impl Classify for Whole {
    fn head(&mut self, _: &response::Parts) -> Verdict {
        Verdict::NeedMore
    }

    fn body(&mut self, _: &[u8], ended: bool) -> Verdict {
        if ended { Verdict::Accept } else { Verdict::NeedMore }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn file(text: &str) -> File {
        config::parse(&format!("[traces]\n{text}"), []).unwrap()
    }

    #[test]
    fn nothing_is_traced_unless_a_collector_is_named() {
        let mut off = file("");
        add_environment(&mut off, &|_| Some(" ".to_owned()));
        assert_eq!(off.traces, Traces::default());
        add_environment(&mut off, &|name| Some(name.to_lowercase()));
        assert_eq!(off.traces.endpoint.as_deref(), Some("otel_exporter_otlp_endpoint"));
        assert_eq!(off.traces.service_name, "otel_service_name");
        let mut on = file("endpoint = \"http://a\"\nservice_name = \"b\"");
        add_environment(&mut on, &|_| Some("other".to_owned()));
        assert_eq!((on.traces.endpoint.as_deref(), &*on.traces.service_name), (Some("http://a"), "b"));
    }

    #[tokio::test]
    async fn p04_what_cannot_be_used_is_refused_by_its_key_and_not_shown() {
        let around = crate::run::surroundings(1).unwrap();
        let key = |text: &str| {
            let error = start(&file(text), &around).map(|_| ()).unwrap_err();
            assert!(!error.to_string().contains("canary"), "{error}");
            error.key
        };
        assert_eq!(key("share = 1.5"), "traces.share");
        assert_eq!(key("endpoint = \"canary\""), "traces.endpoint");
        assert_eq!(key("headers = { \"a b\" = \"canary\" }"), "traces.headers.a b");
        assert_eq!(key("headers = { a = \"canary\\u0001\" }"), "traces.headers.a");
        assert_eq!(key("headers = { a = { env = \"CHIMERA_NOT_SET\" } }"), "traces.headers.a");
        assert!(start(&file(""), &around).unwrap().is_none());
    }
}
