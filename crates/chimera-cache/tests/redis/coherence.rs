//! Several processes, one Redis: what one changes, the others do not go on serving.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use chimera_cache::{Change, Coherence, Purge, Tier as _};

use super::{
    proxy::{Fault, Proxy},
    *,
};

fn coherence(cache: &Cache) -> Coherence {
    cache.snapshot(Instant::now()).coherence
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_elsewhere_pushes_the_entry_out_here_and_not_there() {
    let Some(server) = server::Server::or_skip().await else { return };
    let (a, b) = (connected(&server.url()).await, connected(&server.url()).await);
    tracked(&a).await;
    tracked(&b).await;
    put(&a, "k", "old");
    a.flush().await;
    goes_up(&b, "k", "old").await;
    put(&a, "k", "new");
    until("the old value is gone", || get_near(&b, "k").is_none()).await;
    assert_eq!(get_far(&b, "k").await.as_deref(), Some("new"));
    // A key that was told after it: what the writer wrote itself, it keeps.
    put(&b, "other", "v");
    until("told", || b.snapshot(Instant::now()).writes.stored == 1).await;
    assert_eq!(get_near(&a, "k").as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_elsewhere_reaches_what_redis_never_had() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(1 << 20);
    settings.writes = chimera_cache::WritePolicy::Demote;
    let (a, b) = (connected(&server.url()).await, cache_with(settings, guarded(), redis(&server.url())));
    tracked(&b).await;
    put(&b, "acme:1", "v");
    put(&b, "other:1", "v");
    assert_eq!(a.purge(&Purge::Scope("acme".into())).await.unwrap(), (0, 0));
    until("the purge is told", || get_near(&b, "acme:1").is_none()).await;
    assert!(get_near(&b, "other:1").is_some());
}

/// The note by which others are told of a purge expires, should the purge not come to its end. That is told, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_after_a_purge_elsewhere_is_not_purged_when_its_note_expires() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = tiered(1 << 20);
    settings.writes = chimera_cache::WritePolicy::Demote;
    let (a, b) = (connected(&server.url()).await, cache_with(settings, guarded(), redis(&server.url())));
    tracked(&b).await;
    // Changes are told in their order: with the last, all before it were.
    let all_is_told = async || {
        put(&b, "last", "v");
        server.text(&["SET", "t:3:e:last", "v"]).await;
        until("the change is told", || get_near(&b, "last").is_none()).await;
    };
    for purge in [Purge::Scope("acme".into()), Purge::Key(b"acme:1"[..].into())] {
        a.purge(&purge).await.unwrap();
        all_is_told().await;
        put(&b, "acme:1", "new");
        let notes = server.text(&["KEYS", "t:3:p:*"]).await;
        for note in notes.lines().filter(|line| line.starts_with("t:3:p:")) {
            server.text(&["PEXPIRE", note, "1"]).await;
            until("the note is gone", || faults::futures_block(server.text(&["EXISTS", note])) == ":0\r\n")
                .await;
        }
        all_is_told().await;
        assert_eq!(get_near(&b, "acme:1").as_deref(), Some("new"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_elsewhere_voids_what_is_being_computed() {
    let Some(server) = server::Server::or_skip().await else { return };
    let (a, b) = (connected(&server.url()).await, connected(&server.url()).await);
    tracked(&b).await;
    let key = "acme:1".to_owned();
    let ticket = b.ticket(&key);
    a.purge(&Purge::Scope("acme".into())).await.unwrap();
    until("the purge is told", || b.ticket(&key) != ticket).await;
    b.put(key.clone(), item("computed before"), Some(ticket), Instant::now());
    assert_eq!((get_near(&b, &key), get_far(&b, &key).await), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_empties_the_near_tier_until_it_is_back() {
    let Some(server) = server::Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    tracked(&cache).await;
    put(&cache, "k", "v");
    cache.flush().await;
    let before = cache.snapshot(Instant::now()).distrusted;
    proxy.set(Fault::Cut);
    until("the loss is noticed", || coherence(&cache) == Coherence::Lost).await;
    assert_eq!(get_near(&cache, "k"), None);
    // Meanwhile it works for itself; what it keeps may be changed by others, so it is not kept long.
    put(&cache, "mine", "v");
    assert!(get_near(&cache, "mine").is_some());
    let capped = cache.peek(&"mine".to_owned(), Instant::now() + Duration::from_secs(31));
    assert_eq!(capped, None);
    proxy.set(Fault::None);
    until("changes are told again", || coherence(&cache) == Coherence::Tracked).await;
    assert_eq!(get_near(&cache, "mine"), None, "it may have been changed meanwhile");
    assert!(cache.snapshot(Instant::now()).distrusted >= before + 2);
}

/// The connection is open and silent: only the proof shows that nothing is told any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_connection_is_noticed() {
    let Some(server) = server::Server::or_skip().await else { return };
    let proxy = Proxy::start(server.port).await;
    let cache = connected(&proxy.url()).await;
    tracked(&cache).await;
    put(&cache, "k", "v");
    proxy.set(Fault::Freeze);
    until("the silence is noticed", || coherence(&cache) == Coherence::Lost).await;
    assert_eq!(get_near(&cache, "k"), None);
    proxy.set(Fault::None);
    until("changes are told again", || coherence(&cache) == Coherence::Tracked).await;
}

/// Tracking that ends with the connection: Redis forgets it, fred does not ask again.
#[tokio::test(flavor = "multi_thread")]
async fn tracking_is_asked_for_again_after_a_reconnection() {
    let Some(server) = server::Server::or_skip().await else { return };
    let (a, b) = (connected(&server.url()).await, connected(&server.url()).await);
    tracked(&b).await;
    let before = b.snapshot(Instant::now()).distrusted;
    server.text(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    until("distrusted", || b.snapshot(Instant::now()).distrusted >= before + 2).await;
    tracked(&b).await;
    ready(&a).await;
    until("written", || {
        put(&a, "k", "old");
        a.snapshot(Instant::now()).writes.stored > 0
    })
    .await;
    a.flush().await;
    let mut found = None;
    while found.is_none() {
        found = get_far(&b, "k").await;
    }
    put(&a, "k", "new");
    until("told", || get_near(&b, "k").is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r11_a_flush_empties_the_near_tier() {
    let Some(server) = server::Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    tracked(&cache).await;
    put(&cache, "k", "v");
    cache.flush().await;
    server.text(&["FLUSHALL"]).await;
    until("the flush is noticed", || get_near(&cache, "k").is_none()).await;
    until("and it goes on", || coherence(&cache) == Coherence::Tracked).await;
}

/// A reader of changes that falls behind: fred's own handler ends there.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_after_a_lag_and_the_lag_is_told_too() {
    let Some(server) = server::Server::or_skip().await else { return };
    let mut settings = redis(&server.url());
    settings.most_told = 2;
    let tier = Tier::start("l2", settings, TextCodec::new()).unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let is_slow = Arc::new(AtomicBool::new(false));
    let (sink, slow) = (told.clone(), is_slow.clone());
    tier.watch(Arc::new(move |change: Change<String>| {
        let pause = slow.load(SeqCst) && matches!(change, Change::Key(_));
        sink.lock().unwrap().push(change);
        if pause {
            // The reader of changes is busy, and its runtime has another thread for the connection.
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(20)));
        }
    }));
    let has = |wanted: &Change<String>| told.lock().unwrap().contains(wanted);
    until("restored", || has(&Change::Restored)).await;
    is_slow.store(true, SeqCst);
    for n in 0..200 {
        server.text(&["SET", &format!("t:3:e:k{n}"), "v"]).await;
    }
    until("the lag is told", || has(&Change::Missed)).await;
    is_slow.store(false, SeqCst);
    server.text(&["SET", "t:3:e:after", "v"]).await;
    until("changes are told", || has(&Change::Key("after".to_owned()))).await;
}

/// Redis takes what is written and tells nothing: a right was taken away.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_not_told_is_not_undone_by_what_was_being_computed() {
    let Some(server) = server::Server::or_skip().await else { return };
    let rules = ["ACL", "SETUSER", "gate", "on", ">canary-secret", "~t:*", "+@all"];
    assert_eq!(server.text(&rules).await, "+OK\r\n");
    let mut settings = tiered(1 << 20);
    settings.lease = Some(MINUTE);
    let url = format!("redis://gate:canary-secret@127.0.0.1:{}", server.port);
    let (a, b) = (cache_with(settings, guarded(), redis(&url)), connected(&server.url()).await);
    ready(&a).await;
    assert_eq!(server.text(&["ACL", "SETUSER", "gate", "-client|tracking"]).await, "+OK\r\n");
    server.text(&["CLIENT", "KILL", "USER", "gate"]).await;
    until("the loss is noticed", || coherence(&a) == Coherence::Lost).await;
    until("Redis is used", || far(&a).up).await;
    let key = "acme:1".to_owned();
    let ticket = a.ticket(&key);
    b.purge(&Purge::Scope("acme".into())).await.unwrap();
    a.put(key.clone(), item("computed before"), Some(ticket), Instant::now());
    a.flush().await;
    assert_eq!(get_far(&b, &key).await, None);
    assert_eq!(get_near(&a, &key).as_deref(), Some("computed before"), "it is its own, for 30 s at most");
    // Others would wait in vain for what it computes.
    assert!(matches!(a.lease(&"acme:2".to_owned()).await, chimera_cache::Leased::None));
    assert_eq!(server.text(&["EXISTS", "t:3:l:acme:2"]).await, ":0\r\n");
}

/// Lets the old entry of a key expire while it is computed anew: the ticket is of before that was told.
async fn expires_meanwhile(server: &server::Server, cache: &Cache, key: &str) -> chimera_cache::Ticket {
    server.say(&[b"SET", &name(key), b"old"]).await;
    put(cache, "last", "v");
    server.text(&["SET", "t:3:e:last", "v"]).await;
    until("all before is told", || get_near(cache, "last").is_none()).await;
    let key = key.to_owned();
    let ticket = cache.ticket(&key);
    server.say(&[b"PEXPIRE", &name(&key), b"1"]).await;
    until("that it expired is told", || cache.ticket(&key) != ticket).await;
    ticket
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_computed_when_its_old_entry_expires_is_kept() {
    let Some(server) = server::Server::or_skip().await else { return };
    let cache = connected(&server.url()).await;
    let ticket = expires_meanwhile(&server, &cache, "k").await;
    until("it is gone", || faults::futures_block(server.text(&["EXISTS", "t:3:e:k"])) == ":0\r\n").await;
    cache.put("k".to_owned(), item("new"), Some(ticket), Instant::now());
    cache.flush().await;
    assert_eq!(get_far(&cache, "k").await.as_deref(), Some("new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_a_removal_or_a_write_elsewhere_wins_though_the_old_entry_expired_too() {
    let Some(server) = server::Server::or_skip().await else { return };
    let (a, b) = (connected(&server.url()).await, connected(&server.url()).await);
    for what in ["purge", "purge of the key", "removal", "write"] {
        let ticket = expires_meanwhile(&server, &b, "acme:1").await;
        match what {
            "purge" => drop(a.purge(&Purge::Scope("acme".into())).await.unwrap()),
            "purge of the key" => drop(a.purge(&Purge::Key(b"acme:1"[..].into())).await.unwrap()),
            "removal" => a.remove(&"acme:1".to_owned()).await,
            _ => {
                put(&a, "acme:1", "theirs");
                a.flush().await;
            }
        }
        put(&b, "last", "v");
        b.flush().await;
        server.text(&["SET", "t:3:e:last", "w"]).await;
        until("all is told", || get_near(&b, "last").is_none()).await;
        b.put("acme:1".to_owned(), item("old"), Some(ticket), Instant::now());
        b.flush().await;
        let left = (what == "write").then_some("theirs");
        assert_eq!(get_far(&b, "acme:1").await.as_deref(), left, "{what}");
    }
}
