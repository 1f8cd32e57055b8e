//! The rows of the fault catalogue about the second tier, each under its id.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use chimera_cache::{Tier as _, TierError};

use super::{
    proxy::{Fault, Proxy},
    server::{Server, free_port},
    *,
};

/// Looks until the guard before look-ups leaves the tier alone.
async fn off(cache: &Cache) -> &'static str {
    let began = Instant::now();
    while far(cache).up {
        assert!(began.elapsed() < Duration::from_secs(20), "the guard does not turn it off");
        assert_eq!(get_far(cache, "absent").await, None);
    }
    far(cache).why_down.unwrap()
}

/// Looks until the tier is used again.
async fn on(cache: &Cache) {
    until("it is connected", || far(cache).why_down != Some("not connected")).await;
    let began = Instant::now();
    while !far(cache).up {
        assert!(began.elapsed() < Duration::from_secs(20), "the guard does not turn it on");
        get_far(cache, "absent").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A value is in Redis, whatever it takes.
async fn stored(cache: &Cache, server: &Server, key: &str, text: &str) {
    let began = Instant::now();
    while server.value(&name(key)).await.is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "{key} is not written");
        put(cache, key, text);
        cache.flush().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r01_a_redis_that_is_absent_at_the_start_is_used_when_it_comes() {
    if server::skipped() {
        return;
    }
    let port = free_port();
    let cache = cache(&format!("redis://127.0.0.1:{port}"));
    put(&cache, "early", "v");
    assert_eq!(get_far(&cache, "early").await, None);
    assert_eq!(get_near(&cache, "early").as_deref(), Some("v"), "memory works alone");
    assert!(!far(&cache).up);
    assert_eq!(far(&cache).why_down, Some("not connected"));
    let server = Server::start_on(port, &[]).await;
    until("it is connected", || far(&cache).why_down != Some("not connected")).await;
    on(&cache).await;
    stored(&cache, &server, "k", "v").await;
    assert_eq!(get_far(&cache, "k").await.as_deref(), Some("v"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r02_a_redis_that_is_killed_costs_misses_only() {
    let Some(mut server) = Server::or_skip().await else { return };
    let port = server.port;
    let cache = connected(&server.url()).await;
    for n in 0..100 {
        put(&cache, &format!("k{n}"), "v");
    }
    cache.flush().await;
    let mut callers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let cache = cache.clone();
        callers.spawn(async move {
            for round in 0..500 {
                // Each answer is the right one or none.
                let key = format!("k{}", (n * 7 + round) % 100);
                let found = cache.far(&key, Instant::now()).await;
                assert!(found.is_none_or(|found| &*found.value == b"v"));
                put(&cache, &key, "v");
                tokio::task::yield_now().await;
            }
        });
    }
    server.kill();
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    until("the loss is noticed", || !far(&cache).up).await;
    let server = Server::start_on(port, &[]).await;
    until("it is connected", || far(&cache).why_down != Some("not connected")).await;
    on(&cache).await;
    stored(&cache, &server, "again", "v").await;
}

/// Without a guard, so that nothing but the loss of the connection ends a look-up.
#[tokio::test]
async fn r02_look_ups_do_not_wait_for_a_connection_that_is_lost() {
    let Some(mut server) = Server::or_skip().await else { return };
    let tier = Tier::start("l2", redis(&server.url()), TextCodec::new()).unwrap();
    until("Redis is used", || tier.snapshot(Instant::now()).up).await;
    let key = "k".to_owned();
    assert!(matches!(tier.get(&key, Instant::now()).await, Ok(None)));
    server.kill();
    until("the loss is noticed", || !tier.snapshot(Instant::now()).up).await;
    // For longer than until the first attempt to connect again.
    for _ in 0..300 {
        let answer = tokio::time::timeout(MINUTE, tier.get(&key, Instant::now())).await.unwrap();
        assert!(matches!(answer, Err(TierError::Unavailable(_))), "{answer:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_redis_that_is_frozen_is_left_alone_and_used_again() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "v").await;
    server.freeze();
    // The first few wait for their deadline, the rest for nothing.
    let why = off(&cache).await;
    assert!(["timeout", "unavailable", "not connected"].contains(&why), "{why}");
    for n in 0..100 {
        put(&cache, &format!("w{n}"), "v");
        assert_eq!(get_far(&cache, "k").await, None);
    }
    server.thaw();
    on(&cache).await;
    until("values are found again", || {
        let found = futures_block(get_far(&cache, "k"));
        found.as_deref() == Some("v")
    })
    .await;
}

pub(crate) fn futures_block<T>(future: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(future))
}

#[tokio::test(flavor = "multi_thread")]
async fn r03_a_network_that_is_frozen_is_left_alone() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    proxy.set(Fault::Freeze);
    off(&cache).await;
    proxy.set(Fault::None);
    on(&cache).await;
}

/// A router that forgot its connections swallows what comes over them, and says nothing. Something is asked
/// all the time: by who looks up here, by the proof of what is told, and by both guards.
#[tokio::test(flavor = "multi_thread")]
async fn r03_connections_that_swallow_everything_are_left_for_new_ones() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    stored(&cache, &server, "k", "v").await;
    proxy.set(Fault::Strand);
    off(&cache).await;
    until("each of the connections that take turns is a new one", || {
        (0..4).all(|_| futures_block(get_far(&cache, "k")).as_deref() == Some("v"))
    })
    .await;
    tracked(&cache).await;
}

/// Without a guard, so that nothing but the end of the connection ends a look-up.
#[tokio::test]
async fn r03_a_look_up_that_was_swallowed_ends_with_its_connection() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let tier = Tier::start("l2", redis(&proxy.url()), TextCodec::new()).unwrap();
    until("Redis is used", || tier.snapshot(Instant::now()).up).await;
    proxy.set(Fault::Strand);
    let key = "k".to_owned();
    let answer = tokio::time::timeout(MINUTE, tier.get(&key, Instant::now())).await.unwrap();
    assert!(matches!(answer, Err(TierError::Unavailable(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn r04_a_slow_redis_is_switched_off_and_probed() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let settings = GuardedSettings {
        get: Duration::from_secs(5),
        slow: Duration::from_millis(100),
        ..GuardedSettings::default()
    };
    let cache = cache_with(tiered(1 << 20), settings, redis(&proxy.url()));
    ready(&cache).await;
    proxy.set(Fault::DelayHalf(Duration::from_millis(200)));
    assert_eq!(off(&cache).await, "slow");
    proxy.set(Fault::None);
    on(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_full_redis_is_read_and_not_written() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "v").await;
    server.text(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.text(&["CONFIG", "SET", "maxmemory", "1"]).await;
    until("writes are spared", || {
        put(&cache, "more", "v");
        far(&cache).why_down == Some("full")
    })
    .await;
    assert!(far(&cache).up, "look-ups go on");
    assert_eq!(get_far(&cache, "k").await.as_deref(), Some("v"));
    server.text(&["CONFIG", "SET", "maxmemory", "0"]).await;
    stored(&cache, &server, "later", "v").await;
}

/// Purging is how it gets room again.
#[tokio::test(flavor = "multi_thread")]
async fn r05_a_full_redis_is_purged() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for n in 0..40 {
        let value: Value = (0..100_000).map(|_| noise()).collect();
        cache.put(
            format!("acme:{n}"),
            Item::new(value, Lifetime::fresh(MINUTE), Duration::ZERO),
            None,
            Instant::now(),
        );
    }
    cache.flush().await;
    server.text(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.text(&["CONFIG", "SET", "maxmemory", "4mb"]).await;
    assert!(server.text(&["SET", "more", "v"]).await.starts_with("-OOM"));
    let purge = chimera_cache::Purge::Scope("acme".into());
    assert_eq!(cache.purge(&purge).await.unwrap().1, 40);
}

/// Waits until many a write was refused, and nothing in memory distrusted for it.
async fn is_trusted(cache: &Cache, server: &Server, key: &str) {
    let refused = || {
        let stats = futures_block(server.text(&["INFO", "commandstats"]));
        let of_set =
            stats.lines().find(|line| line.starts_with("cmdstat_set:")).unwrap_or_default().to_owned();
        let rejected = of_set.split("rejected_calls=").nth(1).and_then(|rest| rest.split(',').next());
        rejected.map_or(0, |count| count.parse::<u32>().unwrap())
    };
    until("many a proof was refused", || refused() > 10).await;
    assert_eq!(cache.snapshot(Instant::now()).coherence, chimera_cache::Coherence::Tracked);
    assert!(get_near(cache, key).is_some());
}

/// Nobody can change anything there but by taking something out, of which it tells.
#[tokio::test(flavor = "multi_thread")]
async fn r05_a_full_redis_is_no_reason_to_distrust_memory() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "v").await;
    server.text(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    server.text(&["CONFIG", "SET", "maxmemory", "1"]).await;
    is_trusted(&cache, &server, "k").await;
    server.text(&["DEL", "t:3:e:k"]).await;
    until("the change is told", || get_near(&cache, "k").is_none()).await;
}

/// It refuses all writes, and PING.
#[tokio::test(flavor = "multi_thread")]
async fn r05_a_redis_that_cannot_save_is_no_reason_to_distrust_memory() {
    if server::skipped() {
        return;
    }
    let server = Server::start_on(free_port(), &["--save", "3600 1", "--dir", "/proc"]).await;
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "v").await;
    server.text(&["BGSAVE"]).await;
    until("it cannot save", || futures_block(server.text(&["SET", "more", "v"])).starts_with("-MISCONF"))
        .await;
    is_trusted(&cache, &server, "k").await;
}

/// What it evicts is gone one by one; nothing says that all is.
#[tokio::test(flavor = "multi_thread")]
async fn r05_a_redis_that_evicts_what_ends_first_is_no_reason_to_distrust_memory() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    server.text(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await;
    server.text(&["CONFIG", "SET", "maxmemory", "4mb"]).await;
    let before = cache.snapshot(Instant::now()).distrusted;
    let evicted = || {
        let stats = futures_block(server.text(&["INFO", "stats"]));
        let rest = stats.split("evicted_keys:").nth(1).unwrap();
        rest.lines().next().unwrap().parse::<u32>().unwrap()
    };
    let text = "v".repeat(3000);
    let mut number = 0;
    while evicted() < 3000 {
        for _ in 0..50 {
            number += 1;
            put(&cache, &format!("k{number}"), &text);
        }
        cache.flush().await;
    }
    assert_eq!(cache.snapshot(Instant::now()).distrusted, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn r05_a_value_that_redis_evicted_is_a_miss() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "v").await;
    server.text(&["DEL", "t:3:e:k"]).await;
    assert_eq!(get_far(&cache, "k").await, None);
    assert!(far(&cache).up);
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_a_key_of_another_type_is_a_miss_and_goes() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    server.text(&["RPUSH", "t:3:e:k", "v"]).await;
    assert_eq!(get_far(&cache, "k").await, None);
    assert!(far(&cache).up);
    assert_eq!(far(&cache).flawed, 1);
    until("it is deleted", || futures_block(server.text(&["EXISTS", "t:3:e:k"])) == ":0\r\n").await;
}

/// What a Redis says that is loading, was demoted, or lost its master: a miss, and no loop.
#[tokio::test(flavor = "multi_thread")]
async fn r06_errors_are_misses() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    stored(&cache, &server, "k", "v").await;
    for error in [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "NOAUTH Authentication required.",
        "MOVED 3999 127.0.0.1:1",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "ERR something new",
    ] {
        on(&cache).await;
        proxy.set(Fault::Answer(format!("-{error}\r\n").into_bytes()));
        assert_eq!(get_far(&cache, "k").await, None, "{error}");
        proxy.set(Fault::None);
    }
    on(&cache).await;
    stored(&cache, &server, "later", "v").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r06_a_wrong_password_is_no_loop() {
    if server::skipped() {
        return;
    }
    let server = Server::start_on(free_port(), &["--requirepass", "right"]).await;
    let cache = cache(&format!("redis://:wrong@127.0.0.1:{}", server.port));
    tokio::time::sleep(Duration::from_millis(500)).await;
    put(&cache, "k", "v");
    assert_eq!(get_far(&cache, "k").await, None);
    assert!(!far(&cache).up);
    let info = say_with(&server, "right", &["INFO", "stats"]).await;
    let connections = info.split("total_connections_received:").nth(1).unwrap();
    let connections: u32 = connections.lines().next().unwrap().parse().unwrap();
    assert!(connections < 60, "{connections} connections in half a second");
}

async fn say_with(server: &Server, password: &str, words: &[&str]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    let line = format!("AUTH {password}\r\n{}\r\nQUIT\r\n", words.join(" "));
    stream.write_all(line.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Puts bytes in the place of a value, and looks.
async fn tampered(change: impl FnOnce(&mut Vec<u8>)) -> (Option<String>, Cache, Server) {
    let server = Server::start().await;
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "k", "value").await;
    let mut bytes = server.value(&name("k")).await.unwrap();
    change(&mut bytes);
    server.say(&[b"SET", &name("k"), &bytes]).await;
    let found = get_far(&cache, "k").await;
    (found, cache, server)
}

async fn is_deleted(server: &Server) {
    until("it is deleted", || futures_block(server.value(&name("k"))).is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_damaged_values_are_misses_and_go() {
    if server::skipped() {
        return;
    }
    let changes: [fn(&mut Vec<u8>); 4] = [
        |bytes| *bytes.last_mut().unwrap() ^= 1,
        |bytes| bytes[20] ^= 0x80,
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.extend_from_slice(b"more"),
    ];
    for change in changes {
        let (found, cache, server) = tampered(change).await;
        assert_eq!((found, far(&cache).flawed), (None, 1));
        is_deleted(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_value_moved_to_another_key_or_tenant_is_a_miss() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    stored(&cache, &server, "acme:k", "secret of acme").await;
    let bytes = server.value(&name("acme:k")).await.unwrap();
    server.say(&[b"SET", &name("other:k"), &bytes]).await;
    assert_eq!(get_far(&cache, "other:k").await, None);
    assert_eq!(far(&cache).flawed, 1);
    assert_eq!(get_far(&cache, "acme:k").await.as_deref(), Some("secret of acme"));
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_a_value_of_somebody_without_the_secret_is_a_miss() {
    let Some(server) = Server::or_skip().await else { return };
    let mut theirs = RedisSettings::new(&server.url(), [1; 32]).unwrap();
    theirs.prefix = "t:".to_owned();
    let attacker = cache_with(tiered(1 << 20), guarded(), theirs);
    ready(&attacker).await;
    stored(&attacker, &server, "k", "forged").await;
    let cache = connected(&server.url()).await;
    assert_eq!(get_far(&cache, "k").await, None);
    assert_eq!(far(&cache).flawed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn r07_bits_that_flip_on_the_way_are_misses() {
    let Some(server) = Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    let text: String = (0..500).map(|n| char::from(b'a' + n as u8 % 26)).collect();
    stored(&cache, &server, "k", &text).await;
    proxy.set(Fault::Flip);
    assert_eq!(get_far(&cache, "k").await, None);
    assert_eq!(far(&cache).flawed, 1);
    proxy.set(Fault::Truncate(100));
    assert_eq!(get_far(&cache, "k").await, None);
    proxy.set(Fault::None);
    on(&cache).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r08_a_value_of_another_schema_is_a_miss_and_stays() {
    if server::skipped() {
        return;
    }
    for version in [0, 2, 4, 255] {
        let (found, cache, server) = tampered(|bytes| bytes[0] = version).await;
        assert_eq!((found, far(&cache).flawed), (None, 1));
        assert!(server.value(&name("k")).await.is_some(), "its owner may still want it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn r09_a_huge_value_is_not_fetched() {
    let Some(server) = Server::or_skip().await else { return };
    let mut settings = redis(&server.url());
    settings.max_value = 16 << 10;
    let cache = cache_with(tiered(1 << 20), guarded(), settings);
    ready(&cache).await;
    // 400 MiB, made in the server.
    let answer = server.text(&["SETRANGE", "t:3:e:k", "419430400", "x"]).await;
    assert_eq!(answer, ":419430401\r\n");
    let sent = |info: String| -> u64 {
        let rest = info.split("total_net_output_bytes:").nth(1).unwrap();
        rest.lines().next().unwrap().parse().unwrap()
    };
    let before = sent(server.text(&["INFO", "stats"]).await);
    assert_eq!(get_far(&cache, "k").await, None);
    let after = sent(server.text(&["INFO", "stats"]).await);
    assert!(after - before < 1 << 20, "{} bytes were sent", after - before);
    assert_eq!(far(&cache).flawed, 1);
    is_deleted(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r10_callers_that_leave_never_cross_answers() {
    if server::skipped() {
        return;
    }
    const KEYS: usize = 200;
    static ANSWERED: AtomicU64 = AtomicU64::new(0);
    let server = Server::start().await;
    let cache = connected(&server.url()).await;
    for n in 0..KEYS {
        put(&cache, &format!("k{n}"), &format!("value of k{n}"));
    }
    cache.flush().await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..16_usize {
        let cache = cache.clone();
        callers.spawn(async move {
            for round in 0..6250_usize {
                let n = (caller * 31 + round * 17) % KEYS;
                let key = format!("k{n}");
                let now = Instant::now();
                let get = cache.far(&key, now);
                tokio::pin!(get);
                // Polled a few times and then, mostly, dropped while the answer is on its way.
                for _ in 0..=round % 4 {
                    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(get.as_mut().poll(cx)));
                    if let std::task::Poll::Ready(found) = polled.await {
                        let Some(found) = found else { break };
                        assert_eq!(&*found.value, format!("value of k{n}").as_bytes());
                        ANSWERED.fetch_add(1, SeqCst);
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    for n in 0..KEYS {
        let found = get_far(&cache, &format!("k{n}")).await;
        if let Some(found) = found {
            assert_eq!(found, format!("value of k{n}"));
        }
    }
    assert_eq!(far(&cache).flawed, 0);
    assert!(ANSWERED.load(SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn r12_the_expiry_inside_holds_when_redis_forgets_its_own() {
    let Some(server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    let short = Item::new(Value::from(*b"v"), Lifetime::fresh(Duration::from_secs(2)), Duration::ZERO);
    cache.put("k".to_owned(), short, None, Instant::now());
    cache.flush().await;
    assert_eq!(server.text(&["PERSIST", "t:3:e:k"]).await, ":1\r\n");
    assert_eq!(get_far(&cache, "k").await.as_deref(), Some("v"));
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert!(server.value(&name("k")).await.is_some(), "Redis still has it");
    assert_eq!(get_far(&cache, "k").await, None);
    assert_eq!(far(&cache).flawed, 1);
}

/// Two faults at once: no Redis, and a computation that fails.
#[tokio::test(flavor = "multi_thread")]
async fn pain_09_redis_and_upstream_down_together_fail_quickly_and_once() {
    let Some(mut server) = Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    server.kill();
    static LOADS: AtomicU64 = AtomicU64::new(0);
    for _ in 0..50 {
        let load = || async {
            LOADS.fetch_add(1, SeqCst);
            Err::<chimera_cache::Loaded<Value>, _>(std::io::Error::other("upstream is down"))
        };
        let error = cache.get_or_load(&"k".to_owned(), Lifetime::fresh(MINUTE), load).await.unwrap_err();
        assert_eq!(error.to_string(), "upstream is down");
    }
    assert_eq!(LOADS.load(SeqCst), 50, "nothing retries behind the caller's back");
    assert_eq!(cache.snapshot(Instant::now()).writes.queued, 0);
}

/// What reads an answer calls itself for every level of it, so the threads of this tier have room for many.
/// Nobody waits beyond the deadline, and the tier is used again on another connection.
#[test]
fn r09_an_answer_nested_a_hundred_thousand_deep_costs_a_miss() {
    if server::skipped() {
        return;
    }
    let roomy = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(chimera_cache::REDIS_STACK)
        .enable_all()
        .build()
        .unwrap();
    let nested = async {
        let server = Server::start().await;
        let proxy = Proxy::start(server.port).await;
        let cache = connected(&proxy.url()).await;
        stored(&cache, &server, "k", "v").await;
        proxy.set(Fault::Answer(b"*1\r\n".repeat(100_000)));
        assert_eq!(get_far(&cache, "k").await, None);
        proxy.set(Fault::None);
        // What comes behind such an answer is taken for a part of it, until the connection is given up.
        let began = Instant::now();
        while get_far(&cache, "k").await.as_deref() != Some("v") {
            assert!(began.elapsed() < Duration::from_secs(30), "it is not used again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    roomy.block_on(roomy.spawn(nested)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_scripts_that_redis_forgot_are_no_matter() {
    if server::skipped() {
        return;
    }
    use chimera_cache::{Lease, Tier as _};
    let server = Server::start().await;
    let tier = Tier::start("l2", redis(&server.url()), TextCodec::new()).unwrap();
    let key = "k".to_owned();
    for _ in 0..2 {
        let began = Instant::now();
        let token = loop {
            match tier.lease(&key, MINUTE).await {
                Ok(Lease::Granted(token)) => break token,
                other => assert!(began.elapsed() < Duration::from_secs(20), "{other:?}"),
            }
        };
        assert_eq!(server.text(&["SCRIPT", "FLUSH"]).await, "+OK\r\n");
        tier.release(&key, token).await.unwrap();
    }
}
