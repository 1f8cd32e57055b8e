//! Keys of a provider: which one is used, which rests, and why.

use std::{sync::Arc, time::Duration};

use chimera_gateway::{DialectId, Gateway, Models, Settings};
use chimera_provider_pool::{Deployment, Failover, Group, InOrder, KeyRest, ProviderSettings};

use crate::support::{
    ANSWER, Act, Script, Scripted, bearers, call, chat, deployment, post, provider_tuned, unary, unary_with,
};

const NO: &str = r#"{"error":{"message":"no"}}"#;
const SPENT: &str = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;

/// A gateway over one provider, and its deployment.
fn tuned(upstream: &Arc<Scripted>, tune: impl FnOnce(&mut ProviderSettings)) -> (Gateway, Arc<Deployment>) {
    tuned_in(DialectId::OpenAi, upstream, tune)
}

/// The same of a provider that speaks a dialect.
fn tuned_in(
    dialect: DialectId,
    upstream: &Arc<Scripted>,
    tune: impl FnOnce(&mut ProviderSettings),
) -> (Gateway, Arc<Deployment>) {
    let mut models = Models::default();
    let provider = provider_tuned("one", dialect, upstream, tune);
    let deployment = provider.group.deployments()[0].clone();
    models.add_provider(provider);
    (Gateway::new(Settings::new(models), [7; 32]).unwrap(), deployment)
}

/// A provider that answers one after another, and the last for ever.
fn in_turn(answers: Vec<Vec<u8>>) -> Arc<Scripted> {
    let last = answers.last().unwrap().clone();
    let mut acts: Vec<_> = answers.into_iter().flat_map(|answer| [Act::Read, Act::Write(answer)]).collect();
    for _ in 0..20 {
        acts.extend([Act::Read, Act::Write(last.clone())]);
    }
    Scripted::new([Script::Acts(acts)])
}

fn resting(deployment: &Deployment) -> Vec<(usize, KeyRest, u64)> {
    let now = tokio::time::Instant::now().into_std();
    let rests = deployment.provider().keys().resting(now).into_iter().chain(deployment.resting_keys(now));
    rests.map(|key| (key.index, key.why, key.remaining.as_secs_f64().round() as u64)).collect()
}

#[tokio::test(start_paused = true)]
async fn each_refusal_rests_its_key_with_its_reason_and_the_next_one_answers() {
    let cases = [
        (401, "", NO, KeyRest::Refused, 60),
        (402, "", NO, KeyRest::Payment, 60),
        (403, "", NO, KeyRest::Refused, 60),
        (429, "", NO, KeyRest::Throttled, 1),
        (429, "retry-after: 7\r\n", NO, KeyRest::Throttled, 7),
        (429, "retry-after-ms: 2500\r\n", NO, KeyRest::Throttled, 3),
        (429, "", r#"{"error":{"details":[{"retryDelay": "12s"}]}}"#, KeyRest::Throttled, 12),
        (429, "retry-after: 1000000000000\r\n", NO, KeyRest::Throttled, 300),
        (429, "retry-after: 2\r\n", SPENT, KeyRest::Quota, 300),
    ];
    for (status, headers, body, why, seconds) in cases {
        let upstream = in_turn(vec![unary_with(status, headers, body), unary(200, ANSWER)]);
        let (gateway, deployment) = tuned(&upstream, |s| s.credentials = bearers(["first", "second"]));
        let answer = call(&gateway, chat("gpt-x", "a", false)).await;
        assert_eq!((answer.status, upstream.count()), (200, 2), "{status} {headers}");
        assert!(upstream.request(1).contains("Bearer second"));
        assert_eq!(resting(&deployment), [(0, why, seconds)], "{status} {headers} {body}");
        // Until then the other one is used alone.
        for n in 2..5 {
            assert_eq!(call(&gateway, chat("gpt-x", &n.to_string(), false)).await.status, 200);
            assert!(upstream.request(n).contains("Bearer second"));
        }
        tokio::time::advance(Duration::from_secs(seconds) + Duration::from_millis(100)).await;
        assert_eq!(resting(&deployment), []);
    }
}

/// Whose keys are all dead is not asked again, and its callers are told that it is not theirs to mend.
#[tokio::test(start_paused = true)]
async fn dead_keys_are_502_for_as_long_as_they_rest() {
    for status in [401, 402, 403] {
        let upstream = Scripted::answering(unary(status, NO));
        let (gateway, _) = tuned(&upstream, |s| s.credentials = bearers(["first", "second"]));
        for n in 0..3 {
            let answer = call(&gateway, chat("gpt-x", &n.to_string(), false)).await;
            assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_unreachable"), "{status}");
            assert!(answer.body.contains("operator"), "{}", answer.body);
        }
        assert_eq!(upstream.count(), 2, "each key once");
        tokio::time::advance(Duration::from_secs(61)).await;
        call(&gateway, chat("gpt-x", "later", false)).await;
        assert!(upstream.count() > 2, "they are tried again by and by");
    }
}

/// Vendors limit each model apart: a key that has asked one too often is good for the others. A spent account is not.
#[tokio::test(start_paused = true)]
async fn u10_a_rate_rests_the_key_for_its_model_alone_and_a_spent_quota_for_all() {
    for (body, header, other) in [(NO, "retry-after: 7\r\n", 200), (SPENT, "", 429)] {
        for keys in [bearers(["only"]), Vec::new()] {
            let upstream = in_turn(vec![unary_with(429, header, body), unary(200, ANSWER)]);
            let mut models = Models::default();
            let provider = provider_tuned("one", DialectId::OpenAi, &upstream, |s| s.credentials = keys);
            let pool = provider.provider.clone();
            models.add_provider(provider);
            for (group, model) in [("first", "m-1"), ("again", "m-1"), ("second", "m-2")] {
                let serves = deployment(&format!("one/{model}"), &pool, Some(model));
                models.add_group(Group::new(group, vec![serves], Arc::new(InOrder), Failover::default()));
            }
            let gateway = Gateway::new(Settings::new(models), [7; 32]).unwrap();
            let mut statuses = Vec::new();
            for model in ["first", "first", "again", "second"] {
                let answer = call(&gateway, chat(model, &statuses.len().to_string(), false)).await;
                statuses.push(answer.status);
            }
            assert_eq!(statuses, [429, 429, 429, other], "{body}");
        }
    }
}

/// Where no deployment names a model, it is the one that the caller names.
#[tokio::test(start_paused = true)]
async fn u10_a_rate_rests_the_key_for_the_model_that_was_asked_for() {
    let throttled = unary_with(429, "retry-after: 7\r\n", NO);
    let upstream = in_turn(vec![throttled, unary(200, ANSWER)]);
    let (gateway, deployment) = tuned(&upstream, |s| s.credentials = bearers(["only"]));
    let mut statuses = Vec::new();
    for model in ["gpt-big", "gpt-big", "gpt-small"] {
        let answer = call(&gateway, chat(model, &statuses.len().to_string(), false)).await;
        statuses.push(answer.status);
    }
    assert_eq!((statuses, upstream.count()), (vec![429, 429, 200], 2));
    assert_eq!(resting(&deployment), [(0, KeyRest::Throttled, 7)]);
}

/// A spent quota is not asked about again for minutes, although the provider names no time.
#[tokio::test(start_paused = true)]
async fn u11_a_spent_quota_parks_the_key_for_minutes() {
    let upstream = Scripted::answering(unary(429, SPENT));
    let (gateway, deployment) = tuned(&upstream, |s| s.credentials = bearers(["only"]));
    let first = call(&gateway, chat("gpt-x", "a", false)).await;
    assert_eq!((first.status, first.body.as_str()), (429, SPENT));
    assert_eq!(resting(&deployment), [(0, KeyRest::Quota, 300)]);
    tokio::time::advance(Duration::from_secs(240)).await;
    let second = call(&gateway, chat("gpt-x", "b", false)).await;
    assert_eq!((second.status, second.header("retry-after"), upstream.count()), (429, "60", 1));
}

/// Keys are left before they are used up, as the provider's headers tell.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_nearly_used_up_is_passed_over_before_it_is_refused() {
    let low = "x-ratelimit-limit-requests: 500\r\nx-ratelimit-remaining-requests: 3\r\nx-ratelimit-reset-requests: 30s\r\n";
    let upstream = in_turn(vec![unary_with(200, low, ANSWER), unary(200, ANSWER)]);
    let (gateway, deployment) = tuned(&upstream, |s| s.credentials = bearers(["first", "second"]));
    for n in 0..4 {
        assert_eq!(call(&gateway, chat("gpt-x", &n.to_string(), false)).await.status, 200);
    }
    assert_eq!(resting(&deployment), [(0, KeyRest::NearlyUsed, 30)]);
    let used: Vec<_> = (0..4).map(|n| upstream.request(n).contains("Bearer first")).collect();
    assert_eq!(used, [true, false, false, false]);
    // The last one left is used to its end, and no further.
    for (remaining, rests) in [("3", false), ("0", true)] {
        let headers = low.replace(": 3\r", &format!(": {remaining}\r"));
        let upstream = Scripted::answering(unary_with(200, &headers, ANSWER));
        let (gateway, deployment) = tuned(&upstream, |s| {
            s.credentials = bearers(["only"]);
            s.learn_limits = true;
        });
        call(&gateway, chat("gpt-x", "a", false)).await;
        assert_eq!(resting(&deployment).len(), usize::from(rests));
    }
}

/// What a key may use in a minute is kept to: requests as they are sent, tokens as they are told.
#[tokio::test(start_paused = true)]
async fn a_configured_pace_is_kept() {
    let upstream = Scripted::answering(unary(200, ANSWER));
    let (gateway, _) = tuned(&upstream, |s| {
        s.credentials = bearers(["first", "second"]);
        s.requests_per_minute = Some(12);
    });
    let mut statuses = Vec::new();
    for n in 0..6 {
        statuses.push(call(&gateway, chat("gpt-x", &n.to_string(), false)).await.status);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 429, 429], "two at once of each key");
    let answer = call(&gateway, chat("gpt-x", "x", false)).await;
    assert_eq!(answer.header("retry-after"), "5");
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(call(&gateway, chat("gpt-x", "y", false)).await.status, 200);

    // Seven tokens each, at forty-two a minute: every ten seconds, after the first two.
    let (gateway, _) = tuned(&Scripted::answering(unary(200, ANSWER)), |s| {
        s.credentials = bearers(["only"]);
        s.tokens_per_minute = Some(42);
    });
    let mut statuses = Vec::new();
    for n in 0..3 {
        statuses.push(call(&gateway, chat("gpt-x", &n.to_string(), false)).await.status);
    }
    assert_eq!(statuses, [200, 429, 429]);
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(call(&gateway, chat("gpt-x", "z", false)).await.status, 200);
}

/// Google tells of a wrong key with 400, as if the request were wrong.
#[tokio::test(start_paused = true)]
async fn a_key_that_google_does_not_know_rests_and_is_not_the_callers() {
    let wrong = r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}"#;
    let good = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"STOP"}]}"#;
    let ask = |text: &str| {
        let body = format!(r#"{{"contents":[{{"role":"user","parts":[{{"text":"{text}"}}]}}]}}"#);
        post("/v1beta/models/gemini-x:generateContent", &body)
    };
    let upstream = in_turn(vec![unary(400, wrong), unary(200, good), unary(400, wrong)]);
    let (gateway, deployment) =
        tuned_in(DialectId::Gemini, &upstream, |s| s.credentials = bearers(["first", "second"]));
    assert_eq!(call(&gateway, ask("a")).await.status, 200);
    assert_eq!(resting(&deployment), [(0, KeyRest::Refused, 60)]);
    let answer = call(&gateway, ask("b")).await;
    assert_eq!(answer.status, 502, "{}", answer.body);
    assert!(answer.body.contains("operator"), "{}", answer.body);
    // A request that only speaks of such a key is wrong itself.
    let echo =
        r#"{"error":{"code":400,"message":"no such field: API_KEY_INVALID","status":"INVALID_ARGUMENT"}}"#;
    let upstream = Scripted::answering(unary(400, echo));
    let (gateway, deployment) = tuned_in(DialectId::Gemini, &upstream, |s| s.credentials = bearers(["only"]));
    assert_eq!(call(&gateway, ask("API_KEY_INVALID")).await.status, 400);
    assert_eq!(resting(&deployment), []);
}

/// A model that the account has not, and a file that is somebody else's, are the request's: nobody else's call suffers.
#[tokio::test(start_paused = true)]
async fn what_one_caller_may_not_have_rests_no_key() {
    let model = r#"{"error":{"message":"Project `p` does not have access to model `gpt-9`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#;
    let file = r#"{"error":{"code":403,"message":"You do not have permission to access the File x or it may not exist.","status":"PERMISSION_DENIED"}}"#;
    for refusal in [model, file] {
        let mut answers = vec![unary(403, refusal); 6];
        answers.push(unary(200, ANSWER));
        let (gateway, deployment) = tuned(&in_turn(answers), |s| s.credentials = bearers(["only"]));
        for n in 0..6 {
            let refused = call(&gateway, chat("gpt-9", &n.to_string(), false)).await;
            assert_eq!((refused.status, refused.body.as_str()), (403, refusal));
        }
        assert_eq!(resting(&deployment), []);
        assert_eq!(call(&gateway, chat("gpt-x", "a", false)).await.status, 200);
    }
}
