//! What a request costs its thread, beside a bare client.

use std::{fs, sync::Arc, thread};

use bytes::Bytes;
use chimera_provider_pool::{DeploymentSettings, GroupSettings, InOrder};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::runtime::{Builder, Runtime};

use crate::{
    group, send,
    servers::{Ill, serve},
};

const REQUESTS: u32 = 20_000;
const ROUNDS: usize = 5;

/// Processor time of this thread in nanoseconds.
fn spent() -> u64 {
    let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn event_loop() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Microseconds of this thread for each request of a loop.
fn micros(runtime: &Runtime, each: impl AsyncFn()) -> f64 {
    let began = spent();
    runtime.block_on(async {
        for _ in 0..REQUESTS {
            each().await;
        }
    });
    (spent() - began) as f64 / f64::from(REQUESTS) / 1e3
}

/// The server has a thread of its own; requests follow one another on one warm connection.
pub(crate) fn beside_a_bare_client() {
    let (told, port) = std::sync::mpsc::channel();
    thread::spawn(move || {
        event_loop().block_on(async {
            told.send(serve(Ill::Well(std::time::Duration::ZERO)).await.0).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let port = port.recv().unwrap();
    let runtime = event_loop();
    let bare: Client<_, Full<Bytes>> =
        runtime.block_on(async { Client::builder(TokioExecutor::new()).build_http() });
    let bare = async || {
        let uri = format!("http://127.0.0.1:{port}/");
        let request = http::Request::post(uri).body(Full::new(Bytes::from_static(b"hi"))).unwrap();
        bare.request(request).await.unwrap().into_body().collect().await.unwrap();
    };
    let group = group(&[port], Arc::new(InOrder), GroupSettings::default(), &DeploymentSettings::default());
    let ours = async || drop(send(&group).await.unwrap());
    let mut rounds: Vec<_> = (0..ROUNDS).map(|_| (micros(&runtime, ours), micros(&runtime, bare))).collect();
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let (ours, bare) = rounds[ROUNDS / 2];
    println!(
        "\nprocessor time of a request, both ends of {ROUNDS} rounds: {:.2} to {:.2}",
        rounds[0].0 / rounds[0].1,
        rounds[ROUNDS - 1].0 / rounds[ROUNDS - 1].1
    );
    println!("| client | time | of the bare one |\n|---|---|---|");
    println!("| this crate, with breaker, balance, slots and budget | {ours:.2} µs | {:.2} |", ours / bare);
    println!("| hyper-util's client | {bare:.2} µs | 1 |");
}
