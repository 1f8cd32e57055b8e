//! What a tracing system is told of a request, and what the providers are.

use std::sync::{Arc, Mutex};

use chimera_gateway::{DialectId, Gateway, Models, Settings, Trace, Tracer};
use chimera_provider_pool::{Failover, Group, InOrder};
use serde_json::json;

use crate::{
    dialects::unary_answer,
    support::{ANSWER, CHAT, Scripted, call, chat, deployment, post, provider, unary, unary_with},
    transforms::{asking, transforms},
};

const CONTEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has every request traced; gives what was told.
fn traced(settings: &mut Settings) -> Arc<Mutex<Vec<Trace>>> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = told.clone();
    settings.tracer = Some(Arc::new(Tracer::new(1.0, false, move |trace| sink.lock().unwrap().push(trace))));
    told
}

#[tokio::test]
async fn whichever_provider_of_a_mixed_group_is_asked_is_told_of_the_call() {
    let one =
        Scripted::answering(unary_with(429, "retry-after: 7\r\n", r#"{"error":{"message":"slow down"}}"#));
    let two = Scripted::answering(unary_answer(DialectId::Anthropic));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &one));
    models.add_provider(provider("two", DialectId::Anthropic, &two));
    let of = |name: &str| deployment(name, &models.provider(name).unwrap().provider, Some("m"));
    let deployments = vec![of("one"), of("two")];
    models.add_group(Group::new("duo", deployments, Arc::new(InOrder), Failover::default()));
    let mut settings = Settings::new(models);
    let told = traced(&mut settings);
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    let mut request = chat("duo", "x", false);
    request.headers_mut().insert("traceparent", CONTEXT.parse().unwrap());
    assert_eq!(call(&gateway, request).await.status, 200);
    let told = told.lock().unwrap();
    let [trace] = &told[..] else { panic!("one request, one trace") };
    assert_eq!((trace.route, trace.method.as_str(), trace.status), (CHAT, "POST", Some(200)));
    let [made] = &trace.calls[..] else { panic!("one call") };
    let context = format!("traceparent: 00-{}-{}-01\r\n", hex(&trace.trace_id), hex(&made.span_id));
    for upstream in [&one, &two] {
        assert!(upstream.request(0).contains(&context), "{}", upstream.request(0));
    }
    let asked: Vec<_> = made.attempts.iter().map(|(_, deployment)| deployment.as_str()).collect();
    assert_eq!(asked, ["one", "two"]);
    assert_eq!(made.answered_by.as_ref().map(|(provider, _)| provider.as_str()), Some("two"));
}

#[tokio::test]
async fn a_call_that_a_pipeline_makes_on_the_way_is_a_call_of_its_own() {
    let one = Scripted::answering(unary(200, ANSWER));
    let two = Scripted::answering(unary(200, &ANSWER.replace("hello there", "safe")));
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, &one));
    models.add_provider(provider("two", DialectId::OpenAi, &two));
    let mut settings = Settings::new(models);
    settings.transforms = transforms(json!({
        "steps": ["guard"], "routes": ["chat_completions"], "guard": { "moderation": { "model": "two/guard" } },
    }));
    let told = traced(&mut settings);
    let gateway = Gateway::new(settings, [7; 32]).unwrap();
    for _ in 0..2 {
        assert_eq!(call(&gateway, post(CHAT, &asking(false))).await.status, 200);
    }
    let told = told.lock().unwrap();
    let calls: Vec<Vec<_>> =
        told.iter().map(|trace| trace.calls.iter().map(|made| made.model.as_str()).collect()).collect();
    assert_eq!(calls[0].len(), 2, "{calls:?}");
    assert_eq!(calls[0][0], "two/guard");
    assert!(calls[1].is_empty(), "both answers were cached");
    assert_ne!(told[0].calls[0].span_id, told[0].calls[1].span_id);
}
