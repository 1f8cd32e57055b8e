//! A password, a user, a cluster.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_few_rights_is_enough() {
    if server::skipped() {
        return;
    }
    let server = server::Server::start().await;
    let rules = ["ACL", "SETUSER", "gate", "on", ">canary-secret", "~t:*"];
    let may =
        ["+getrange", "+set", "+unlink", "+scan", "+eval", "+client|tracking", "+hello", "+ping", "+info"];
    let answer = server.text(&[&rules[..], &may[..]].concat()).await;
    assert_eq!(answer, "+OK\r\n");
    let cache = connected(&format!("redis://gate:canary-secret@127.0.0.1:{}", server.port)).await;
    tracked(&cache).await;
    put(&cache, "acme:1", "v");
    cache.flush().await;
    assert_eq!(get_far(&cache, "acme:1").await.as_deref(), Some("v"));
    let purge = chimera_cache::Purge::Scope("acme".into());
    assert_eq!(cache.purge(&purge).await.unwrap(), (1, 1));
}
