//! One call that goes well, through each breaker: alone, and with a second thread that does the same.
//!
//! `cargo bench` in this folder. Two threads are timed by the wall: each makes all the calls, so that the
//! figures of both groups are times per call of one thread.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    future::Future,
    hint::black_box,
    pin::pin,
    sync::{Arc, Barrier},
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant},
};

use chimera_circuit_breaker::{Breaker, Holders, Outcome, Settings};
use criterion::{Criterion, criterion_group, criterion_main};
use failsafe::CircuitBreaker as _;
use tower::Service;

/// A way to make one call. Each thread has its own; the breaker behind them is one.
type Call = Box<dyn FnMut(u64) + Send>;

/// Makes the way of one more thread.
type Way = Box<dyn Fn() -> Call>;

fn repeat(mut call: impl FnMut() + Send + 'static) -> Call {
    Box::new(move |times| (0..times).for_each(|_| call()))
}

/// The breaker alone takes the time it is told; others ask the clock, so both are shown.
fn chimera(asks_the_clock: bool) -> Way {
    let start = Instant::now();
    let breaker = Breaker::new(Settings::default(), start);
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || {
            let began = if asks_the_clock { Instant::now() } else { start };
            let permit = black_box(&breaker).try_acquire_ref(began).unwrap();
            let ended = if asks_the_clock { Instant::now() } else { start };
            permit.record(Outcome::Success, ended - began, ended);
        })
    })
}

/// With permits that may travel, as the provider pool's do: each thread counts its own.
fn chimera_held() -> Way {
    let start = Instant::now();
    let holders = Arc::new(Holders::new(Breaker::new(Settings::default(), start)));
    Box::new(move || {
        let holders = holders.clone();
        repeat(move || {
            let permit = black_box(&holders).try_acquire(start).unwrap();
            permit.record(Outcome::Success, Duration::ZERO, start);
        })
    })
}

/// With permits that may travel, all behind one count of holders.
fn chimera_shared() -> Way {
    let start = Instant::now();
    let breaker = Breaker::new(Settings::default(), start);
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || {
            let permit = black_box(&breaker).try_acquire(start).unwrap();
            permit.record(Outcome::Success, Duration::ZERO, start);
        })
    })
}

fn chimera_permit() -> Way {
    let start = Instant::now();
    let breaker = Breaker::new(Settings::default(), start);
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || drop(black_box(&breaker).try_acquire_ref(start).unwrap()))
    })
}

/// Its default policy: a success rate over 30 s, or failures in a row.
fn failsafe() -> Way {
    let breaker = failsafe::Config::new().build();
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || black_box(&breaker).call(|| Ok::<_, ()>(black_box(()))).unwrap())
    })
}

fn failsafe_permit() -> Way {
    let breaker = failsafe::Config::new().build();
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || assert!(black_box(&breaker).is_call_permitted()))
    })
}

fn recloser() -> Way {
    let breaker = Arc::new(recloser::Recloser::default());
    Box::new(move || {
        let breaker = breaker.clone();
        repeat(move || black_box(&breaker).call(|| Ok::<_, ()>(black_box(()))).unwrap())
    })
}

/// Its default: the share of failures among the last hundred calls.
fn tower_resilience() -> Way {
    let layer = tower_resilience_circuitbreaker::CircuitBreakerLayer::builder().build().unwrap();
    let service = tower::service_fn(|(): ()| std::future::ready(Ok::<_, std::io::Error>(())));
    let breaker = layer.layer_fn(service);
    Box::new(move || {
        let mut breaker = breaker.clone();
        repeat(move || {
            let mut cx = Context::from_waker(Waker::noop());
            while black_box(&mut breaker).poll_ready(&mut cx).is_pending() {}
            let mut call = pin!(breaker.call(()));
            // Its lock may be held by the other thread; then it is asked again.
            loop {
                if let Poll::Ready(answer) = call.as_mut().poll(&mut cx) {
                    break answer.unwrap();
                }
                thread::yield_now();
            }
        })
    })
}

/// How long two threads take to make all the calls each.
fn two_threads(way: &Way, times: u64) -> Duration {
    let start = Arc::new(Barrier::new(3));
    let threads = [way(), way()].map(|mut call| {
        let start = start.clone();
        thread::spawn(move || {
            start.wait();
            call(times);
        })
    });
    start.wait();
    let began = Instant::now();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    began.elapsed()
}

fn breakers(c: &mut Criterion) {
    let ways: Vec<(&str, Way)> = vec![
        ("chimera", chimera(false)),
        ("chimera and the clock", chimera(true)),
        ("chimera, held permits", chimera_held()),
        ("chimera, shared permits", chimera_shared()),
        ("failsafe 1.3", failsafe()),
        ("recloser 1.4", recloser()),
        ("tower-resilience 0.14", tower_resilience()),
        ("chimera, permit alone", chimera_permit()),
        ("failsafe 1.3, permit alone", failsafe_permit()),
    ];
    let mut alone = c.benchmark_group("one thread");
    for (name, way) in &ways {
        let mut call = way();
        alone.bench_function(*name, |b| {
            b.iter_custom(|times| {
                let began = Instant::now();
                call(times);
                began.elapsed()
            });
        });
    }
    alone.finish();
    let mut together = c.benchmark_group("two threads");
    for (name, way) in &ways {
        together.bench_function(*name, |b| b.iter_custom(|times| two_threads(way, times)));
    }
    together.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(2)).warm_up_time(Duration::from_millis(500));
    targets = breakers
}
criterion_main!(benches);
