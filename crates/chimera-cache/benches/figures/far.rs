//! A hit in Redis through all that stands before it, and a bare GET of the same client library.

use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use chimera_cache::{
    Guarded, GuardedSettings, Item, Lifetime, MemorySettings, RedisSettings, RedisTier, SharedTier,
    TextCodec, TieredCache, TieredSettings,
};
use fred::{
    bytes::Bytes,
    interfaces::{ClientLike, KeysInterface},
    types::{Builder, RespVersion, config::Config},
};
use tokio::task::JoinSet;

use crate::{
    HOUR,
    server::{Server, Value, value},
};

const HITS: usize = 10_000;
const ROUNDS: usize = 5;
const AT_ONCE: usize = 64;

async fn ours(url: &str, key: &String) -> TieredCache<String, Value> {
    let redis = RedisSettings::new(url, [1; 32]).unwrap();
    let tier = RedisTier::start("figures", redis, TextCodec::new()).unwrap();
    let far = SharedTier::new(Guarded::new("figures", tier, GuardedSettings::default()).unwrap());
    let settings = TieredSettings::new(MemorySettings::new("figures", 1 << 20, 1 << 16));
    let weigh = |key: &String, item: &Item<Value>| key.len() + item.value.len();
    let cache = TieredCache::with_far(settings, TextCodec::new(), weigh, far).unwrap();
    let item = Item::new(value(), Lifetime::fresh(HOUR), Duration::ZERO);
    // It connects in the background, and is told once that others may have changed things.
    while cache.far(key, Instant::now()).await.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cache.put(key.clone(), item.clone(), None, Instant::now());
        cache.flush().await;
    }
    cache
}

async fn bare(url: &str) -> fred::clients::Client {
    let mut config = Config::from_url(url).unwrap();
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config).build().unwrap();
    client.init().await.unwrap();
    client.set::<(), _, _>("bare", &*value(), None, None, false).await.unwrap();
    client
}

/// Processor time of this thread, on which all of the client runs, in microseconds.
fn spent() -> f64 {
    let line = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e3
}

/// Microseconds of a hit: the median by the clock, the mean of processor time.
type Cost = (f64, f64);

async fn round(hit: impl AsyncFn()) -> Cost {
    let began = spent();
    let mut times = Vec::with_capacity(HITS);
    for _ in 0..HITS {
        let began = Instant::now();
        hit().await;
        times.push(began.elapsed());
    }
    let spent = (spent() - began) / HITS as f64;
    times.sort_unstable();
    (times.get(HITS / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6), spent)
}

/// Microseconds of processor time that a hit costs, so many under way at once.
async fn at_once<F>(hit: impl Fn() -> F) -> f64
where
    F: Future<Output = ()> + Send + 'static,
{
    let began = spent();
    for _ in 0..HITS / AT_ONCE {
        let hits: JoinSet<()> = (0..AT_ONCE).map(|_| hit()).collect();
        hits.join_all().await;
    }
    (spent() - began) / (HITS / AT_ONCE * AT_ONCE) as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_unstable_by(f64::total_cmp);
    of.get(of.len() / 2).copied().unwrap_or(f64::NAN)
}

pub(crate) fn beside_a_bare_get() {
    let Some(server) = Server::start() else {
        println!("\nSKIPPED: redis-server is not installed");
        return;
    };
    let url = format!("redis://127.0.0.1:{}", server.1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let key = "k".to_owned();
        let (ours, bare) = (ours(&url, &key).await, bare(&url).await);
        let far = async || drop(black_box(ours.far(&key, Instant::now()).await.unwrap()));
        let get = async || drop(black_box(bare.get::<Bytes, _>("bare").await.unwrap()));
        let (mut rounds, mut crowds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            rounds.push((round(&far).await, round(&get).await));
            let (ours, key) = (ours.clone(), key.clone());
            let far = at_once(|| {
                let (ours, key) = (ours.clone(), key.clone());
                async move { drop(black_box(ours.far(&key, Instant::now()).await.unwrap())) }
            });
            let get = || {
                let bare = bare.clone();
                async move { drop(black_box(bare.get::<Bytes, _>("bare").await.unwrap())) }
            };
            crowds.push((far.await, at_once(get).await));
        }
        let of = |part: fn(&(Cost, Cost)) -> f64| median(rounds.iter().map(part).collect());
        println!("\na value of 2 KB in Redis, medians of {ROUNDS} rounds\n| | p50 | processor time |\n|---|---|---|");
        println!("| hit in the second tier, checked | {:.1} µs | {:.1} µs |", of(|round| round.0.0), of(|round| round.0.1));
        println!("| bare GET of fred | {:.1} µs | {:.1} µs |", of(|round| round.1.0), of(|round| round.1.1));
        println!("| of it | {:.2} | {:.2} |", of(|round| round.0.0 / round.1.0), of(|round| round.0.1 / round.1.1));
        let of = |part: fn(&(f64, f64)) -> f64| median(crowds.iter().map(part).collect());
        println!(
            "\n{AT_ONCE} at once: {:.1} µs of processor time, bare GET {:.1} µs, {:.2}",
            of(|crowd| crowd.0),
            of(|crowd| crowd.1),
            of(|crowd| crowd.0 / crowd.1)
        );
    });
}
