//! The model with hidden rules behind an HTTP endpoint that speaks OpenAI's dialect, and this crate's strategies
//! against it: what other optimizers are compared over.
//!
//! `hidden_rules_http serve ADDRESS [LATENCY_MS]` serves `POST /v1/chat/completions`, `GET /data/TASK/SEED` and
//! `POST /judge`. `hidden_rules_http optimize ADDRESS SEEDS BUDGET STRATEGY CONCURRENCY WIDTH [TASK]` prints a line of
//! JSON for each task and seed. SEEDS is how many, from zero, or `FIRST..END`.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[path = "support/hidden_rules.rs"]
mod hidden_rules;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use chimera_optimizer::{
    Budget, CallError, Dataset, Event, Example, ModelAnswer, ModelRequest, Optimization, Settings, Spend,
    Strategy, model_fn,
    strategies::{Bandit, Gradient, Random, Reflective},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |place: usize| args.get(place).map_or("", String::as_str);
    let address = if arg(1).is_empty() { "127.0.0.1:18200" } else { arg(1) };
    match arg(0) {
        "serve" => serve(address, Duration::from_millis(arg(2).parse().unwrap_or(0))).await,
        "optimize" => {
            let number = |place: usize, otherwise: usize| arg(place).parse().unwrap_or(otherwise);
            optimize(address, seeds(arg(2)), number(3, 500), arg(4), number(5, 8), number(6, 2), arg(7))
                .await;
        }
        _ => println!("hidden_rules_http serve | optimize"),
    }
}

/// `20` are the first twenty, `20..40` the next.
fn seeds(text: &str) -> Range<u64> {
    let (first, end) = text.split_once("..").unwrap_or(("0", text));
    first.parse().unwrap_or(0)..end.parse().unwrap_or(20)
}

async fn serve(address: &str, latency: Duration) {
    let listener = TcpListener::bind(address).await.expect("a free address");
    println!("listening on {address}");
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(connection(stream, latency));
    }
}

async fn connection(stream: TcpStream, latency: Duration) {
    let mut stream = BufReader::new(stream);
    while let Some((line, body)) = read(&mut stream).await {
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let answer = match &*path {
            "/v1/chat/completions" => {
                tokio::time::sleep(latency).await;
                completion(&serde_json::from_slice(&body).unwrap_or_default())
            }
            "/judge" => judge(&serde_json::from_slice(&body).unwrap_or_default()),
            _ => data(&path),
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        if stream.get_mut().write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// The first line and the body of a message.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut first, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if first.is_empty() {
            first = line;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some((first, body))
}

fn completion(request: &Value) -> Value {
    let messages = request["messages"].as_array().cloned().unwrap_or_default();
    let text = |message: &Value| message["content"].as_str().unwrap_or_default().to_owned();
    let user = messages.last().map(text).unwrap_or_default();
    let before: Vec<String> = messages.iter().rev().skip(1).rev().map(text).collect();
    let seed = request["seed"].as_u64().unwrap_or(0);
    let said = if user.contains("[[ ## ") || before.iter().any(|text| text.contains("[[ ## ")) {
        by_fields(&before, &user, seed)
    } else {
        hidden_rules::answer(&before.join("\n"), &user, seed)
    };
    let read = before.iter().chain([&user]).map(|text| hidden_rules::tokens(text)).sum::<u64>();
    let written = hidden_rules::tokens(&said);
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "hidden",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    })
}

/// Answers in the form of fields that DSPy asks in. What DSPy writes around an instruction is not part of it.
fn by_fields(before: &[String], user: &str, seed: u64) -> String {
    let system = before.first().cloned().unwrap_or_default();
    let outputs = system.split("Your output fields are:").nth(1).unwrap_or_default();
    let outputs = outputs.split("All interactions").next().unwrap_or_default();
    let names: Vec<&str> = outputs.split('`').skip(1).step_by(2).collect();
    let objective = system.split("your objective is:").nth(1).unwrap_or_default();
    let mut out = String::new();
    for name in names {
        let value = match name {
            "output" => {
                let shown = before.iter().skip(1).cloned().collect::<Vec<_>>().join("\n");
                hidden_rules::answer(&format!("{}\n{shown}", objective.trim()), user, 0)
            }
            "proposed_instruction" => {
                let all = format!("{}\n{user}", before.join("\n"));
                let written = hidden_rules::answer(&all, "Write the proposed_instruction.", seed);
                written.split("```").nth(1).unwrap_or_default().trim().to_owned()
            }
            _ => "Records are brought into a fixed form.".to_owned(),
        };
        out.push_str(&format!("[[ ## {name} ## ]]\n{value}\n\n"));
    }
    out.push_str("[[ ## completed ## ]]");
    out
}

fn judge(asked: &Value) -> Value {
    let expected = asked["expected"].as_object().cloned().unwrap_or_default();
    let judgement = hidden_rules::judge(&expected, asked["output"].as_str().unwrap_or_default());
    json!({"score": judgement.score, "feedback": judgement.feedback})
}

fn data(path: &str) -> Value {
    let mut parts = path.trim_start_matches("/data/").split('/');
    let task = parts.next().unwrap_or_default();
    let seed = parts.next().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let Dataset { train, validation, held_out } = hidden_rules::data(task, seed, [20, 30, 60]);
    let set = |examples: Vec<Example>| -> Vec<Value> {
        examples.iter().map(|one| json!({"input": one.input_text(), "expected": one.expected()})).collect()
    };
    json!({
        "prompt": hidden_rules::SEED_PROMPT, "train": set(train), "validation": set(validation),
        "held_out": set(held_out),
    })
}

/// Connections that are free.
type Idle = Arc<Mutex<Vec<BufReader<TcpStream>>>>;

/// One call, over a connection that is free or a new one.
async fn ask(address: String, idle: Idle, request: ModelRequest) -> Result<ModelAnswer, CallError> {
    let failed = |error: std::io::Error| CallError::transient(error.to_string());
    let body = json!({
        "model": "hidden", "seed": request.seed.map(|seed| seed >> 1),
        "messages": [
            {"role": "system", "content": request.system}, {"role": "user", "content": request.user},
        ],
    })
    .to_string();
    let free = idle.lock().unwrap().pop();
    let mut stream = match free {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(&address).await.map_err(failed)?),
    };
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await.map_err(failed)?;
    let (_, answer) = read(&mut stream).await.ok_or_else(|| CallError::transient("no answer"))?;
    idle.lock().unwrap().push(stream);
    let answer: Value =
        serde_json::from_slice(&answer).map_err(|error| CallError::transient(error.to_string()))?;
    let tokens = |name: &str| answer["usage"][name].as_u64().unwrap_or(0);
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    Ok(ModelAnswer { text, spend: Spend::tokens(tokens("prompt_tokens"), tokens("completion_tokens")) })
}

fn strategy(name: &str) -> Box<dyn Strategy> {
    match name {
        "gradient" => Box::new(Gradient::default()),
        "bandit" => Box::new(Bandit::default()),
        "random" => Box::new(Random::default()),
        _ => Box::new(Reflective::default()),
    }
}

#[allow(clippy::too_many_arguments)]
async fn optimize(
    address: &str,
    seeds: Range<u64>,
    budget: usize,
    name: &str,
    concurrency: usize,
    width: usize,
    only: &str,
) {
    for task in hidden_rules::TASKS.iter().filter(|task| only.is_empty() || **task == only) {
        for seed in seeds.clone() {
            let (address, idle) = (address.to_owned(), Idle::default());
            let model = model_fn(move |request| ask(address.clone(), idle.clone(), request));
            let limits = Budget { evaluations: Some(budget), ..Budget::default() };
            let settings = Settings { seed, concurrency, width, budget: limits, ..Settings::default() };
            let job = Optimization::new(hidden_rules::task(task, seed), model, hidden_rules::evaluator())
                .strategy(strategy(name))
                .settings(settings)
                .build()
                .unwrap();
            let (began, mut events) = (Instant::now(), job.handle().events());
            // The final check is no part of the search, here as in compare.py.
            let clock = tokio::spawn(async move {
                let mut searched = Duration::ZERO;
                while let Ok(event) = events.recv().await {
                    if matches!(event, Event::Budget(_)) {
                        searched = began.elapsed();
                    }
                }
                searched
            });
            let found = job.run().await.unwrap();
            let searched = clock.await.unwrap();
            let curve: Vec<(usize, f64)> =
                found.curve.iter().map(|point| (point.evaluations, point.score)).collect();
            let line = json!({
                "optimizer": format!("chimera {}", found.strategy), "task": task, "seed": seed,
                "held_out": found.scores.held_out.map(|scores| scores.mean),
                "evaluations": found.evaluations, "curve": curve, "ended": found.ended, "tried": found.tried, "length": found.best.length(),
                "seconds": searched.as_secs_f64(),
            });
            println!("{line}");
        }
    }
}
