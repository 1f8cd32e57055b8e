//! Optimisation jobs over the gateway: started, followed, cancelled, kept apart, taken up again.

use std::{
    path::PathBuf,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use chimera_circuit_breaker::{Breaker, Settings as BreakerSettings};
use chimera_gateway::{DialectId, Gateway, Limits, Models, Settings, Tenant, Tenants, key_digest};
use chimera_provider_pool::{Deployment, Failover, Group, InOrder};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::support::{Act, Answer, CHAT, Script, Scripted, call, post, provider, settle, unary};

const JOBS: &str = "/api/v1/optimizations";

/// A model that says its input backwards once it is told to, and finds out by feedback that it should be.
fn backwards(request: &str) -> Vec<u8> {
    let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
    let system = body["messages"][0]["content"].as_str().unwrap();
    let user = body["messages"][1]["content"].as_str().unwrap();
    let text = if system.starts_with("You improve prompts") {
        "It goes the wrong way.\n```\nAnswer BACKWARDS.\n```".to_owned()
    } else if system.contains("BACKWARDS") {
        user.chars().rev().collect()
    } else {
        user.to_owned()
    };
    let answer = json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "gpt-x",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13},
    });
    unary(200, &answer.to_string())
}

fn upstream(latency: Duration) -> Arc<Scripted> {
    Scripted::new([Script::Acts(vec![Act::Read, Act::Sleep(latency), Act::Reply(backwards), Act::Again])])
}

fn gateway(upstream: &Arc<Scripted>, tune: impl FnOnce(&mut Settings)) -> Gateway {
    let mut models = Models::default();
    models.add_provider(provider("one", DialectId::OpenAi, upstream));
    let mut settings = Settings::new(models);
    settings.tenants = Tenants::keyed([
        (key_digest("key-a"), Tenant::new("a", Limits::default())),
        (key_digest("key-b"), Tenant::new("b", Limits::default())),
    ]);
    let price = chimera_optimizer::Price { input: 100.0, output: 1000.0 };
    settings.optimizer.prices.insert("gpt-x".into(), price);
    tune(&mut settings);
    Gateway::new(settings, [7; 32]).unwrap()
}

fn form() -> Value {
    let set = |from: u32| {
        (from..from + 4)
            .map(|n| json!({"input": format!("ab{n}"), "expected": format!("{n}ba")}))
            .collect::<Vec<_>>()
    };
    json!({
        "name": "backwards", "model": "gpt-x", "prompt": "Answer.",
        "data": {"train": set(1), "validation": set(10).iter().map(turned).collect::<Vec<_>>(), "held_out": set(5)},
        "evaluators": [{"kind": "exact"}], "budget": {"evaluations": 60},
    })
}

/// Two digits turn round as well.
fn turned(example: &Value) -> Value {
    let input = example["input"].as_str().unwrap();
    json!({"input": input, "expected": input.chars().rev().collect::<String>()})
}

fn as_(key: &str, mut request: Request<Full<bytes::Bytes>>) -> Request<Full<bytes::Bytes>> {
    request.headers_mut().insert("x-api-key", key.parse().unwrap());
    request
}

fn get(path: &str) -> Request<Full<bytes::Bytes>> {
    Request::get(path).header("host", "localhost").body(Full::default()).unwrap()
}

async fn start(gateway: &Gateway, form: &Value) -> Answer {
    // The loop that works on jobs may not have begun yet.
    for _ in 0..100 {
        let answer = call(gateway, as_("key-a", post(JOBS, &form.to_string()))).await;
        if answer.status != 503 {
            return answer;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("nobody works on jobs")
}

fn place(started: &Answer) -> String {
    assert_eq!(started.status, 202, "{}", started.body);
    started.header("location").to_owned()
}

async fn look(gateway: &Gateway, place: &str) -> Value {
    call(gateway, as_("key-a", get(place))).await.json()
}

async fn until_over(gateway: &Gateway, place: &str) -> Value {
    loop {
        let told = look(gateway, place).await;
        if !["waiting", "running"].contains(&told["status"].as_str().unwrap()) {
            return told;
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Runs a test beside the loop that works on jobs.
async fn beside<T>(gateway: &Gateway, test: impl Future<Output = T>) -> T {
    tokio::select! {
        () = gateway.run_jobs() => unreachable!(),
        done = test => done,
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_finds_a_better_prompt_by_way_of_the_gateway() {
    let upstream = upstream(Duration::from_millis(10));
    let gateway = gateway(&upstream, |_| {});
    beside(&gateway, async {
        let place = place(&start(&gateway, &form()).await);
        let told = until_over(&gateway, &place).await;
        assert_eq!(told["status"], "finished", "{told}");
        assert_eq!(told["result"]["best"]["instruction"], "Answer BACKWARDS.");
        assert_eq!(told["result"]["scores"]["held_out"]["mean"], 1.0);
        assert_eq!(told["result"]["seed_scores"]["held_out"]["mean"], 0.0);
        // 10 tokens in at 100 dollars a million, 3 out at 1,000.
        let calls = upstream.count() as u64;
        assert_eq!(told["result"]["spend"]["nanodollars"], calls * 4_000_000, "{calls} calls");
        let list = look(&gateway, JOBS).await;
        assert_eq!(list["data"][0]["id"], told["id"]);
        let report = call(&gateway, as_("key-a", get(&format!("{place}/report")))).await;
        assert!(
            report.body.starts_with("<!doctype html>")
                && report.header("content-security-policy").contains("sandbox")
        );

        // The same job again is answered from the cache, and costs nothing.
        let again = self::place(&start(&gateway, &form()).await);
        let again = until_over(&gateway, &again).await;
        assert_eq!(again["result"]["best"], told["result"]["best"]);
        assert_eq!(again["result"]["spend"]["nanodollars"], 0);
        assert_eq!(upstream.count() as u64, calls);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn events_come_as_they_happen_and_the_last_ends_the_stream() {
    let gateway = gateway(&upstream(Duration::from_millis(10)), |_| {});
    beside(&gateway, async {
        let place = place(&start(&gateway, &form()).await);
        let events = call(&gateway, as_("key-a", get(&format!("{place}/events")))).await;
        assert_eq!(events.header("content-type"), "text/event-stream");
        let kinds: Vec<&str> = events.body.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
        assert_eq!((kinds.first(), kinds.last()), (Some(&"standing"), Some(&"finished")));
        for kind in ["tried", "accepted", "frontier", "best", "budget"] {
            assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
        }
        until_over(&gateway, &place).await;
        let late = call(&gateway, as_("key-a", get(&format!("{place}/events")))).await;
        assert!(late.body.contains("event: finished"), "{}", late.body);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_tenant_finds_nothing() {
    let gateway = gateway(&upstream(Duration::from_millis(10)), |_| {});
    beside(&gateway, async {
        let place = place(&start(&gateway, &form()).await);
        for path in [place.clone(), format!("{place}/events"), format!("{place}/report")] {
            assert_eq!(call(&gateway, as_("key-b", get(&path))).await.status, 404, "{path}");
        }
        let cancel = format!("{place}/cancel");
        assert_eq!(call(&gateway, as_("key-b", post(&cancel, ""))).await.status, 404);
        assert_eq!(call(&gateway, as_("key-b", get(JOBS))).await.json()["data"], json!([]));
        assert_eq!(call(&gateway, get(&place)).await.status, 401);
        assert_eq!(until_over(&gateway, &place).await["status"], "finished");
        assert_eq!(call(&gateway, as_("key-a", get(&cancel))).await.status, 405);
        assert_eq!(call(&gateway, as_("key-a", get(&format!("{place}/nothing")))).await.status, 404);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn cancelling_ends_upstream_calls_at_once() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let gateway = gateway(&upstream, |_| {});
    beside(&gateway, async {
        let place = place(&start(&gateway, &form()).await);
        while upstream.count() < 4 {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(upstream.closed.load(SeqCst), 0);
        let began = Instant::now();
        let answer = call(&gateway, as_("key-a", post(&format!("{place}/cancel"), ""))).await;
        assert_eq!(answer.status, 202);
        settle().await;
        assert_eq!(upstream.closed.load(SeqCst), 4, "the calls under way are ended");
        assert!(began.elapsed() < Duration::from_millis(100));
        assert_eq!(until_over(&gateway, &place).await["status"], "cancelled");
    })
    .await;
}

/// In real time: what is started is looked over on a thread, for which simulated time does not wait.
#[tokio::test]
async fn there_is_room_for_so_many_and_no_more() {
    let upstream = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let gateway = gateway(&upstream, |settings| {
        settings.optimizer.running = 1;
        settings.optimizer.per_client = 2;
    });
    let unworked = call(&gateway, as_("key-a", post(JOBS, &form().to_string()))).await;
    assert_eq!((unworked.status, unworked.code().as_str()), (503, "overloaded"));
    beside(&gateway, async {
        let first = place(&start(&gateway, &form()).await);
        let second = place(&start(&gateway, &form()).await);
        let third = start(&gateway, &form()).await;
        assert_eq!((third.status, third.code().as_str()), (429, "rate_limited"));
        // One that has not begun is over as soon as it is cancelled.
        let cancelled = call(&gateway, as_("key-a", post(&format!("{second}/cancel"), ""))).await;
        assert_eq!((cancelled.status, cancelled.json()["status"].as_str()), (200, Some("cancelled")));
        assert_eq!(start(&gateway, &form()).await.status, 202);
        // The loop that works on jobs begins one when it comes to it.
        while look(&gateway, &first).await["status"] == "waiting" {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(look(&gateway, &first).await["status"], "running");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_with_its_tier() {
    let upstream = upstream(Duration::from_secs(4));
    let gateway = gateway(&upstream, |settings| settings.timeouts.optimization = Duration::from_secs(10));
    beside(&gateway, async {
        let mut form = form();
        form["budget"] = json!({"evaluations": 1000, "wall": "2h"});
        form["concurrency"] = json!(1);
        let began = Instant::now();
        let place = place(&start(&gateway, &form).await);
        until_over(&gateway, &place).await;
        assert!(began.elapsed() < Duration::from_secs(11), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_form_that_is_wrong_is_refused_by_the_name_of_its_field() {
    let gateway = gateway(&upstream(Duration::ZERO), |_| {});
    beside(&gateway, async {
        for (path, value, param, says) in [
            ("/model", json!("nobody-1"), "model", "no provider serves this model"),
            ("/data/train", json!("/etc/passwd"), "data.train", "files are not read here"),
            ("/data/train/2/input", json!(7), "data.train.2.input", "must be text or an object"),
            (
                "/evaluators/0",
                json!({"kind": "command", "argv": ["id"]}),
                "evaluators.0.kind",
                "commands are not run",
            ),
            ("/budget", json!({"dollars": -1}), "budget.dollars", "must be above zero"),
            ("/name", json!(3), "the body", "invalid type"),
        ] {
            let mut form = form();
            *form.pointer_mut(path).unwrap() = value;
            let answer = start(&gateway, &form).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.body);
            assert_eq!(answer.json()["error"]["param"], param);
            assert!(answer.body.contains(says), "{}", answer.body);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn dollars_are_refused_where_a_price_is_not_known() {
    let gateway = gateway(&upstream(Duration::ZERO), |_| {});
    beside(&gateway, async {
        let mut form = form();
        form["budget"]["dollars"] = json!(1);
        assert_eq!(start(&gateway, &form).await.status, 202, "the price of gpt-x is known");
        let mut other = form.clone();
        other["reflection_model"] = json!("gpt-y");
        let mut judged = form.clone();
        judged["evaluators"] = json!([{"kind": "judge", "rubric": "r", "model": "gpt-y"}]);
        for form in [other, judged] {
            let answer = start(&gateway, &form).await;
            assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{}", answer.body);
            assert_eq!(answer.json()["error"]["param"], "budget.dollars");
            assert!(answer.body.contains("no price is known of `gpt-y`"), "{}", answer.body);
        }
    })
    .await;
}

/// A folder that is removed when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("chimera-gateway-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_finished_goes_on_in_the_next_process() {
    let folder = Folder::new("jobs");
    let keep = |settings: &mut Settings| {
        settings.optimizer.directory = Some(folder.0.clone());
        settings.cache.policy = chimera_gateway::CachePolicy::Off;
    };
    let (first, second) = (upstream(Duration::from_millis(50)), upstream(Duration::from_millis(50)));
    let (one, other) = (gateway(&first, keep), gateway(&second, keep));
    let mut slow = form();
    slow["concurrency"] = json!(1);
    let place = beside(&one, async {
        let place = place(&start(&one, &slow).await);
        while first.count() < 9 {
            sleep(Duration::from_millis(1)).await;
        }
        place
    })
    .await;
    let told = beside(&other, async {
        while look(&other, &place).await["status"].is_null() {
            sleep(Duration::from_millis(5)).await;
        }
        until_over(&other, &place).await
    })
    .await;
    assert_eq!(told["result"]["best"]["instruction"], "Answer BACKWARDS.");
    let all = (
        told["result"]["evaluations"].as_u64().unwrap(),
        told["result"]["check_evaluations"].as_u64().unwrap(),
    );
    // The five proposals of a round, and roll-outs; the one call under way was lost.
    let calls = first.count() + second.count();
    assert!(second.count() < calls && calls as u64 <= all.0 + all.1 + 5 + 1, "{calls} calls, {all:?}");
    let left: Vec<_> = std::fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().unwrap() == "over"), "no journal stays: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn what_was_over_can_be_looked_at_after_a_restart() {
    let folder = Folder::new("over-jobs");
    let keep = |settings: &mut Settings| {
        settings.optimizer.directory = Some(folder.0.clone());
        settings.optimizer.kept = 2;
    };
    let upstream = upstream(Duration::from_millis(1));
    let (one, other) = (gateway(&upstream, keep), gateway(&upstream, keep));
    let mut before = Vec::new();
    beside(&one, async {
        for _ in 0..3 {
            let place = place(&start(&one, &form()).await);
            let told = until_over(&one, &place).await;
            let report = call(&one, as_("key-a", get(&format!("{place}/report")))).await;
            before.push((place, told, report.body));
        }
        // What is written of the last is written after it is over.
        while std::fs::read_dir(&folder.0).unwrap().count() != 2 {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let calls = upstream.count();
    beside(&other, async {
        let list = loop {
            let list = look(&other, JOBS).await;
            if list["data"].as_array().is_some_and(|jobs| !jobs.is_empty()) {
                break list;
            }
            sleep(Duration::from_millis(1)).await;
        };
        assert_eq!(list["data"].as_array().unwrap().len(), 2, "as many as are kept");
        for (place, told, report) in before.iter().skip(1) {
            assert_eq!(look(&other, place).await, *told);
            assert_eq!(call(&other, as_("key-a", get(&format!("{place}/report")))).await.body, *report);
            let events = call(&other, as_("key-a", get(&format!("{place}/events")))).await;
            assert!(events.body.contains("event: finished"), "{}", events.body);
            assert_eq!(call(&other, as_("key-b", get(place))).await.status, 404);
            let cancel = call(&other, as_("key-a", post(&format!("{place}/cancel"), ""))).await;
            assert_eq!((cancel.status, cancel.json()["status"].as_str()), (200, told["status"].as_str()));
        }
        assert_eq!(
            call(&other, as_("key-a", get(&before[0].0))).await.status,
            404,
            "the oldest is forgotten"
        );
    })
    .await;
    assert_eq!(upstream.count(), calls, "nothing is paid for again");
}

/// In real time, for jobs are written to the disk by a thread.
#[tokio::test]
async fn what_was_waiting_begins_in_the_next_process() {
    let folder = Folder::new("waiting-jobs");
    let keep = |settings: &mut Settings| {
        settings.optimizer.directory = Some(folder.0.clone());
        settings.optimizer.running = 1;
        settings.optimizer.per_client = 2;
    };
    let forms = || {
        let files = std::fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().unwrap() == "json").count()
    };
    let stuck = Scripted::new([Script::Acts(vec![Act::Read, Act::AwaitClose])]);
    let (one, other) = (gateway(&stuck, keep), gateway(&upstream(Duration::ZERO), keep));
    let (running, cancelled, told) = beside(&one, async {
        let running = place(&start(&one, &form()).await);
        while look(&one, &running).await["status"] == "waiting" {
            sleep(Duration::from_millis(1)).await;
        }
        let cancelled = place(&start(&one, &form()).await);
        assert_eq!(start(&one, &form()).await.status, 429);
        assert_eq!(forms(), 2, "one that is refused leaves nothing");
        call(&one, as_("key-a", post(&format!("{cancelled}/cancel"), ""))).await;
        while forms() > 1 {
            sleep(Duration::from_millis(1)).await;
        }
        let waiting = place(&start(&one, &form()).await);
        (running, cancelled, look(&one, &waiting).await)
    })
    .await;
    assert_eq!(told["status"], "waiting");
    let waiting = format!("{JOBS}/{}", told["id"].as_str().unwrap());
    beside(&other, async {
        while look(&other, &waiting).await["status"].is_null() {
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(look(&other, &waiting).await["created"], told["created"]);
        for place in [running, waiting] {
            assert_eq!(until_over(&other, &place).await["status"], "finished");
        }
        let gone = call(&other, as_("key-a", get(&cancelled))).await;
        assert_eq!(gone.status, 404, "what was cancelled before it began does not come back");
    })
    .await;
}

/// Starts a job that is under way when its process ends.
async fn left_behind(keep: impl Fn(&mut Settings)) -> String {
    let upstream = upstream(Duration::from_millis(50));
    let one = gateway(&upstream, keep);
    let mut slow = form();
    slow["concurrency"] = json!(1);
    beside(&one, async {
        let place = place(&start(&one, &slow).await);
        while upstream.count() < 9 {
            sleep(Duration::from_millis(1)).await;
        }
        place
    })
    .await
}

async fn known(gateway: &Gateway, place: &str) -> Value {
    loop {
        let told = look(gateway, place).await;
        if !told["status"].is_null() {
            return told;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn files(folder: &Folder, ending: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().unwrap() == ending).collect()
}

/// In real time, for the wait for a journal is.
#[tokio::test]
async fn a_job_whose_journal_cannot_be_used_fails_and_is_not_lost() {
    let folder = Folder::new("busy-jobs");
    let keep = |settings: &mut Settings| {
        settings.optimizer.directory = Some(folder.0.clone());
        settings.cache.policy = chimera_gateway::CachePolicy::Off;
    };
    let place = left_behind(keep).await;
    let journal = files(&folder, "journal").remove(0);
    let lines = || std::fs::read_to_string(&journal).unwrap().lines().count();
    let before = lines();
    {
        let held = std::fs::OpenOptions::new().read(true).write(true).open(&journal).unwrap();
        while held.try_lock().is_err() {
            sleep(Duration::from_millis(1)).await;
        }
        let idle = upstream(Duration::ZERO);
        let other = gateway(&idle, keep);
        let failed = beside(&other, async {
            known(&other, &place).await;
            until_over(&other, &place).await
        });
        let failed = failed.await;
        assert_eq!(failed["status"], "failed", "{failed}");
        assert!(failed["error"].as_str().unwrap().ends_with("another process runs this job"), "{failed}");
        assert_eq!(idle.count(), 0);
    }
    sleep(Duration::from_millis(20)).await;
    assert_eq!((files(&folder, "json").len(), files(&folder, "over").len()), (1, 0));
    assert!(lines() >= before, "what was paid for stays");
    let third = gateway(&upstream(Duration::ZERO), keep);
    let told = beside(&third, async {
        known(&third, &place).await;
        until_over(&third, &place).await
    });
    assert_eq!(told.await["status"], "finished");
}

fn refused(_: &str) -> Vec<u8> {
    unary(401, r#"{"error": {"message": "wrong key", "type": "authentication_error"}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_paused_job_that_is_cancelled_does_not_go_on() {
    let folder = Folder::new("paused-jobs");
    let keep = |settings: &mut Settings| {
        settings.optimizer.directory = Some(folder.0.clone());
        settings.timeouts.optimization = Duration::from_secs(3600);
    };
    let dead = Scripted::new([Script::Acts(vec![Act::Read, Act::Reply(refused), Act::Again])]);
    let one = gateway(&dead, keep);
    let place = beside(&one, async {
        let place = place(&start(&one, &form()).await);
        assert_eq!(until_over(&one, &place).await["status"], "paused");
        assert_eq!(files(&folder, "json").len(), 1, "it would go on");
        let cancelled = call(&one, as_("key-a", post(&format!("{place}/cancel"), ""))).await;
        assert_eq!((cancelled.status, cancelled.json()["status"].as_str()), (200, Some("cancelled")));
        while !files(&folder, "json").is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        place
    })
    .await;
    let alive = upstream(Duration::ZERO);
    let other = gateway(&alive, keep);
    beside(&other, async {
        assert_eq!(known(&other, &place).await["status"], "cancelled");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(look(&other, &place).await["status"], "cancelled");
    })
    .await;
    assert_eq!(alive.count(), 0, "nothing is paid for");
}

/// Two slots are taken, one of which is free after a second. Beside that slot wait a call of the job, which came
/// first, and one that somebody waits for.
#[tokio::test(start_paused = true)]
async fn calls_of_jobs_wait_behind_those_that_somebody_waits_for() {
    let acts = |seconds| {
        Script::Acts(vec![
            Act::Read,
            Act::Sleep(Duration::from_secs(seconds)),
            Act::Reply(backwards),
            Act::Again,
        ])
    };
    let upstream = Scripted::new([acts(1), acts(100)]);
    let mut narrow = None;
    let gateway = gateway(&upstream, |settings| {
        let provider = settings.models.provider("one").unwrap().provider.clone();
        let breaker = Breaker::new(BreakerSettings::default(), std::time::Instant::now());
        let deployment = Deployment::new("narrow", provider, Some("gpt-x".to_owned()), breaker, 2);
        narrow = Some(deployment.clone());
        let group = Group::new("narrow", vec![deployment], Arc::new(InOrder), Failover::default());
        settings.models.add_group(group);
    });
    let narrow = narrow.unwrap();
    let mut form = form();
    form["model"] = json!("narrow");
    form["concurrency"] = json!(3);
    beside(&gateway, async {
        place(&start(&gateway, &form).await);
        while narrow.waiting() < 1 {
            sleep(Duration::from_millis(1)).await;
        }
        let messages =
            json!([{"role": "system", "content": "Say it."}, {"role": "user", "content": "somebody waits"}]);
        let request = post(CHAT, &json!({"model": "narrow", "messages": messages}).to_string());
        let answer = call(&gateway, as_("key-a", request));
        let look_on = async {
            while narrow.waiting() < 2 {
                sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(upstream.count(), 2, "both wait, and both slots are taken");
            while upstream.count() < 3 {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(upstream.body(2).contains("somebody waits"), "{}", upstream.body(2));
            while upstream.count() < 4 {
                sleep(Duration::from_millis(1)).await;
            }
            assert!(!upstream.body(3).contains("somebody waits"), "then the job's");
        };
        let (answer, ()) = tokio::join!(answer, look_on);
        assert_eq!(answer.status, 200, "{}", answer.body);
    })
    .await;
}

/// The loop may fall and begin anew: the job that it was at has failed, and those that wait go on, once each.
#[tokio::test(start_paused = true)]
async fn p07_jobs_go_on_when_their_loop_begins_anew() {
    let upstream = upstream(Duration::from_secs(1));
    let gateway = gateway(&upstream, |settings| settings.optimizer.running = 1);
    let (first, second) = beside(&gateway, async {
        let places = [place(&start(&gateway, &form()).await), place(&start(&gateway, &form()).await)];
        sleep(Duration::from_millis(500)).await;
        (places[0].clone(), places[1].clone())
    })
    .await;
    assert_eq!(look(&gateway, &first).await["status"], "running");
    assert_eq!(look(&gateway, &second).await["status"], "waiting");
    beside(&gateway, async {
        let told = until_over(&gateway, &second).await;
        assert_eq!(told["status"], "finished", "{told}");
        let told = look(&gateway, &first).await;
        assert_eq!(
            (&told["status"], &told["error"]),
            (&json!("failed"), &json!("the job was ended by a panic"))
        );
        let third = place(&start(&gateway, &form()).await);
        assert_eq!(until_over(&gateway, &third).await["status"], "finished");
    })
    .await;
    assert_eq!(look(&gateway, JOBS).await["data"].as_array().unwrap().len(), 3);
}
