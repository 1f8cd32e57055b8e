//! Traces as OTLP/JSON (OpenTelemetry Protocol 1.x, `ExportTraceServiceRequest`), named by the semantic
//! conventions below.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chimera_gateway::{CallTrace, DialectId, Trace};
use chimera_protocol::Operation;
use serde_json::{Value, json};

/// The version of the semantic conventions that names are taken from; of generative AI, those of that version's
/// `gen_ai` namespace, which is still in development.
pub(super) const SCHEMA: &str = "https://opentelemetry.io/schemas/1.38.0";

const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// The body of an export.
pub(super) fn encoded(service_name: &str, traces: &[Trace]) -> String {
    let spans: Vec<_> = traces
        .iter()
        .flat_map(|trace| {
            let last = trace.calls.len().saturating_sub(1);
            let calls = trace.calls.iter().enumerate();
            let calls = calls.map(move |(index, call)| call_span(trace, call, index == last));
            std::iter::once(request_span(trace)).chain(calls)
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "resourceSpans": [{
            "resource": { "attributes": attributes([
                ("service.name", Some(service_name.into())),
                ("service.version", Some(version.into())),
            ]) },
            "scopeSpans": [{
                "scope": { "name": "chimera", "version": version },
                "spans": spans,
                "schemaUrl": SCHEMA,
            }],
            "schemaUrl": SCHEMA,
        }]
    })
    .to_string()
}

fn request_span(trace: &Trace) -> Value {
    let status = trace.status.map(i64::from);
    let is_error = status.is_none_or(|status| status >= 500) || trace.error == Some("cancelled");
    json!({
        "traceId": hex(&trace.trace_id),
        "spanId": hex(&trace.span_id),
        "parentSpanId": trace.parent.map(|id| hex(&id)).unwrap_or_default(),
        "name": format!("{} {}", trace.method, trace.route).trim_end(),
        "kind": SERVER,
        "startTimeUnixNano": nanos(trace.started),
        "endTimeUnixNano": nanos(trace.started + trace.took),
        "attributes": attributes([
            ("http.request.method", Some(trace.method.as_str().into())),
            ("http.route", Some(trace.route.into())),
            ("http.response.status_code", status.map(Into::into)),
            ("error.type", trace.error.map(Into::into)),
            ("chimera.request_id", Some(trace.request_id.as_str().into())),
            ("chimera.tenant", trace.tenant.as_deref().map(Into::into)),
            ("chimera.cache", trace.cache.as_deref().map(Into::into)),
        ]),
        "status": if is_error { json!({ "code": ERROR }) } else { json!({}) },
    })
}

/// `last`: whether what became of the request became of this call.
fn call_span(trace: &Trace, call: &CallTrace, last: bool) -> Value {
    let at = |after: Duration| nanos(trace.started + after.min(trace.took));
    let operation = match (call.operation, call.dialect) {
        (Operation::Embed, _) => "embeddings",
        (_, DialectId::Gemini) => "generate_content",
        _ => "chat",
    };
    let provider = match call.dialect {
        DialectId::Anthropic => "anthropic",
        DialectId::Gemini => "gcp.gemini",
        _ => "openai",
    };
    let events: Vec<_> = call
        .attempts
        .iter()
        .map(|(when, deployment)| {
            json!({
                "timeUnixNano": at(*when),
                "name": "chimera.attempt",
                "attributes": attributes([("chimera.deployment", Some(deployment.as_str().into()))]),
            })
        })
        .collect();
    let tokens = |count: fn(&chimera_protocol::Usage) -> Option<u64>| {
        call.usage.as_ref().and_then(count).map(|count| (count as i64).into())
    };
    let answered = call.answered_by.as_ref();
    let first = call.heard.map(|heard| heard.saturating_sub(call.began).as_secs_f64());
    let failed = trace.error.filter(|_| last && (answered.is_none() || call.stream));
    // A whole answer was there when it was heard of; of a stream nobody knows but that it ended with the request.
    let ended = call.heard.filter(|_| !call.stream).unwrap_or(trace.took);
    json!({
        "traceId": hex(&trace.trace_id),
        "spanId": hex(&call.span_id),
        "parentSpanId": hex(&trace.span_id),
        "name": format!("{operation} {}", call.model),
        "kind": CLIENT,
        "startTimeUnixNano": at(call.began),
        "endTimeUnixNano": at(ended),
        "attributes": attributes([
            ("gen_ai.operation.name", Some(operation.into())),
            ("gen_ai.provider.name", Some(provider.into())),
            ("gen_ai.request.model", Some(call.model.as_str().into())),
            ("gen_ai.response.model", answered.map(|(_, model)| model.as_str().into())),
            ("gen_ai.usage.input_tokens", tokens(|usage| usage.input_tokens)),
            ("gen_ai.usage.output_tokens", tokens(|usage| usage.output_tokens)),
            ("gen_ai.usage.cache_read.input_tokens", tokens(|usage| usage.cached_input_tokens)),
            ("gen_ai.usage.cache_creation.input_tokens", tokens(|usage| usage.cache_write_tokens)),
            ("error.type", failed.map(Into::into)),
            ("chimera.provider", answered.map(|(provider, _)| provider.as_str().into())),
            ("chimera.stream", Some(call.stream.into())),
            ("chimera.first_event_seconds", first.map(Into::into)),
            ("chimera.prompt", call.prompt.as_deref().map(Into::into)),
        ]),
        "events": events,
        "status": if failed.is_some() { json!({ "code": ERROR }) } else { json!({}) },
    })
}

/// Those attributes that have a value. 64-bit integers are strings in the JSON of protocol buffers.
fn attributes<const N: usize>(pairs: [(&str, Option<Value>); N]) -> Vec<Value> {
    pairs
        .into_iter()
        .filter_map(|(key, value)| {
            let value = match value? {
                Value::Bool(flag) => json!({ "boolValue": flag }),
                Value::Number(number) if number.is_f64() => json!({ "doubleValue": number }),
                Value::Number(number) => json!({ "intValue": number.to_string() }),
                other => json!({ "stringValue": other }),
            };
            Some(json!({ "key": key, "value": value }))
        })
        .collect()
}

fn nanos(time: SystemTime) -> String {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos()).to_string()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
