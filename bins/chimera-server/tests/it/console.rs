//! The console on the admin listener: how it is delivered, and what nobody may do by way of it.

use std::{io::Read as _, time::Instant};

use crate::support::{Answer, Client, PATIENCE, Provider, Server, answer, chat, json};

/// The admin key.
const KEY: &str = "admin-canary";

/// Sends a request with headers, and a body if there is one.
fn send(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
    let mut client = Client::connect(server.admin);
    let host = match headers.iter().any(|header| header.starts_with("host:")) {
        true => String::new(),
        false => format!("host: {}\r\n", server.admin),
    };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\n{host}{headers}content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ));
    client.answer()
}

fn get(server: &Server, path: &str, headers: &[&str]) -> Answer {
    send(server, "GET", path, headers, "")
}

fn sha256(text: &str) -> String {
    chimera_gateway::key_digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every path that the admin listener has, and how it is asked.
const ROUTES: [(&str, &str); 24] = [
    ("GET", "/"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/health/live"),
    ("GET", "/health/ready"),
    ("GET", "/api/v1/cache/metrics"),
    ("POST", "/api/v1/cache/purge"),
    ("GET", "/api/v1/providers"),
    ("GET", "/api/v1/circuit-breakers"),
    ("POST", "/api/v1/circuit-breakers/openai"),
    ("GET", "/api/v1/worker-pool"),
    ("GET", "/api/v1/config"),
    ("POST", "/api/v1/config/check"),
    ("POST", "/api/v1/reload"),
    ("GET", "/api/v1/console/overview"),
    ("GET", "/api/v1/console/events"),
    ("GET", "/api/v1/console/session"),
    ("POST", "/api/v1/console/session"),
    ("DELETE", "/api/v1/console/session"),
    ("GET", "/api/v1/load-reports"),
    ("GET", "/api/v1/load-reports/a.json"),
    ("GET", "/assets/none.js"),
    ("POST", "/api/v1/data/v1/chat/completions"),
    ("GET", "/api/v1/data/v1/models"),
];

/// Those that change something, or spend something.
fn levers() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.into_iter().filter(|(method, path)| *method != "GET" && !path.ends_with("/session"))
}

#[test]
fn admin_plane_a_data_key_opens_no_route() {
    let clients = format!("[clients.app]\nkey_sha256 = [\"{}\"]\n", sha256("data-key"));
    for admin in ["", &format!("[admin]\nkey_sha256 = \"{}\"\n", sha256(KEY))] {
        let server = Server::start(&format!("{admin}{clients}"));
        for (method, path) in ROUTES {
            for key in ["authorization: Bearer data-key", "x-api-key: data-key", "x-goog-api-key: data-key"] {
                let refused = send(&server, method, path, &[key], "");
                assert_eq!(refused.status, 403, "{method} {path} {key} {}", refused.text());
            }
            let joint = if path.contains('?') { '&' } else { '?' };
            let in_query = send(&server, method, &format!("{path}{joint}key=data-key"), &[], "");
            assert_eq!(in_query.status, 403, "{method} {path}");
        }
    }
}

#[test]
fn admin_plane_without_the_key_there_is_a_page_and_nothing_in_it() {
    let server = Server::start(&format!("[admin]\nkey_sha256 = \"{}\"\n", sha256(KEY)));
    for (method, path) in ROUTES {
        let public = path == "/" || path.starts_with("/health") || path.starts_with("/assets/");
        for header in ["accept: */*", "authorization: Bearer wrong", "cookie: chimera_console=00"] {
            let answer = send(&server, method, path, &[header], "");
            assert_eq!(answer.status == 401, !public, "{method} {path} {header}: {}", answer.status);
        }
    }
    let page = get(&server, "/", &["accept: text/html"]);
    assert_eq!(page.status, 200);
    for (path, scheme) in
        [("/metrics", "Bearer"), ("/api/v1/config", "bearer"), ("/api/v1/console/overview", "BEARER")]
    {
        let key = format!("authorization: {scheme} {KEY}");
        assert_eq!(get(&server, path, &[&key]).status, 200, "{path} {key}");
    }
}

#[test]
fn admin_plane_a_session_is_a_cookie_and_changes_need_its_token() {
    let server = Server::start(&format!("[admin]\nkey_sha256 = \"{}\"\n", sha256(KEY)));
    let host = format!("origin: http://{}", server.admin);
    let bearer = format!("authorization: Bearer {KEY}");
    let opened = send(&server, "POST", "/api/v1/console/session", &[&bearer, &host], "");
    assert_eq!(opened.status, 200, "{}", opened.text());
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let token = opened.json()["token"].as_str().unwrap().to_owned();
    assert!(!opened.text().contains(KEY));
    let cookie = format!("cookie: {}", cookie.split(';').next().unwrap());
    let token = format!("x-chimera-token: {token}");
    assert_eq!(get(&server, "/api/v1/providers", &[&cookie]).status, 200);
    let purge = |headers: &[&str]| send(&server, "POST", "/api/v1/cache/purge", headers, "").status;
    assert_eq!(purge(&[&cookie]), 403, "a form of another site has the cookie and not the token");
    assert_eq!(purge(&[&cookie, "x-chimera-token: guess"]), 403);
    assert_eq!(purge(&[&token]), 401, "the token alone is nothing");
    assert_eq!(purge(&[&cookie, &token, "origin: http://evil.test"]), 403);
    assert_eq!(purge(&[&cookie, &token, &host]), 200);
    let ended = send(&server, "DELETE", "/api/v1/console/session", &[&cookie, &token, &host], "");
    assert!(ended.status == 200 && ended.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(get(&server, "/api/v1/providers", &[&cookie]).status, 401, "it is over");
}

#[test]
fn admin_plane_no_page_of_another_site_changes_anything() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    let session = get(&server, "/api/v1/console/session", &["sec-fetch-site: same-origin"]).json();
    let token = format!("x-chimera-token: {}", session["token"].as_str().unwrap());
    let own = format!("origin: http://{}", server.admin);
    let body = r#"{"model":"gpt-test","messages":[{"role":"user","content":"hi"}]}"#;
    for (method, path) in levers() {
        for headers in [
            vec!["sec-fetch-site: cross-site", &token],
            vec!["sec-fetch-site: same-site", &token],
            vec!["origin: http://evil.test", &token],
            vec!["origin: null", &token],
            vec!["sec-fetch-site: same-origin"],
            vec!["sec-fetch-site: same-origin", "x-chimera-token: guess"],
            vec![&*own],
            vec!["cookie: a=b"],
        ] {
            let refused = send(&server, method, path, &headers, body);
            assert_eq!(refused.status, 403, "{method} {path} {headers:?} {}", refused.text());
        }
    }
    assert_eq!(provider.requests().len(), 0, "nothing was spent");
    let purge = |headers: &[&str]| send(&server, "POST", "/api/v1/cache/purge", headers, "").status;
    assert_eq!(purge(&["sec-fetch-site: same-origin", &token]), 200, "a page of ours");
    assert_eq!(purge(&[]), 200, "a tool");
}

/// No answer may be read by a page of another origin, and none may be framed.
#[test]
fn admin_plane_there_is_no_cors_and_no_frame() {
    let server = Server::start("");
    for (method, path) in ROUTES.into_iter().filter(|(_, path)| !path.ends_with("/events")) {
        let answer = send(&server, method, path, &["origin: http://evil.test", "accept: text/html"], "");
        assert_eq!(answer.header("access-control-allow-origin"), None, "{method} {path}");
        if path != "/metrics" && !path.starts_with("/assets/") {
            let policy = answer.header("content-security-policy").expect(path);
            assert!(
                policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
                "{policy}"
            );
            assert!(!policy.contains("unsafe"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{method} {path}");
        }
        let preflight = send(
            &server,
            "OPTIONS",
            path,
            &["origin: http://evil.test", "access-control-request-method: POST"],
            "",
        );
        assert_eq!(preflight.header("access-control-allow-origin"), None, "{path}");
        assert_ne!(preflight.status, 200, "{path}");
    }
}

#[test]
fn admin_plane_a_rebound_name_reaches_nothing() {
    let server = Server::start("");
    for (method, path) in ROUTES {
        for host in ["host: evil.test:8081", "host: 127.0.0.1.evil.test", "host: 10.0.0.1"] {
            assert_eq!(
                send(&server, method, path, &[host, "accept: text/html"], "").status,
                421,
                "{path} {host}"
            );
        }
    }
}

#[test]
fn the_page_and_its_assets_are_kept_by_browsers_as_long_as_they_are_good() {
    let server = Server::start("");
    let page = get(&server, "/", &["accept: text/html,application/xhtml+xml"]);
    assert_eq!((page.status, page.header("cache-control")), (200, Some("no-cache")));
    let tag = format!("if-none-match: {}", page.header("etag").unwrap());
    let again = get(&server, "/", &["accept: text/html", &tag]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let text = page.text();
    let assets: Vec<_> = text.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert!(assets.len() > 8, "{text}");
    for asset in assets {
        let plain = get(&server, asset, &[]);
        assert_eq!(plain.header("cache-control"), Some("public, max-age=31536000, immutable"), "{asset}");
        for (accept, encoding) in
            [("accept-encoding: gzip, deflate, br", "br"), ("accept-encoding: gzip", "gzip")]
        {
            let encoded = get(&server, asset, &[accept]);
            assert_eq!(
                (encoded.status, encoded.header("content-encoding")),
                (200, Some(encoding)),
                "{asset}"
            );
            assert!(encoded.body.len() < plain.body.len(), "{asset}");
            assert_eq!(encoded.header("vary"), Some("accept-encoding"));
        }
        let tag = format!("if-none-match: {}", plain.header("etag").unwrap());
        assert_eq!(get(&server, asset, &[&tag]).status, 304, "{asset}");
        assert_eq!(send(&server, "POST", asset, &[], "").status, 405, "{asset}");
    }
    assert_eq!(get(&server, "/assets/../../etc/passwd", &[]).status, 404);
    // Tools get the text that they always got.
    let told = get(&server, "/", &["accept: */*"]);
    assert!(told.text().starts_with("chimera admin"), "{}", told.text());
    let overview = get(&server, "/api/v1/console/overview", &[]);
    assert!(overview.header("cache-control").unwrap().contains("stale-while-revalidate"));
    let tag = overview.header("etag").unwrap();
    assert!(tag.starts_with("W/\""), "{tag}");
}

#[test]
fn without_a_console_the_listener_is_as_it_was() {
    let server = Server::start("[console]\nenabled = false\n");
    assert!(get(&server, "/", &["accept: text/html"]).text().starts_with("chimera admin"));
    for path in ["/api/v1/console/overview", "/api/v1/console/events", "/assets/app.js"] {
        assert_eq!(get(&server, path, &[]).status, 404, "{path}");
    }
    assert_eq!(get(&server, "/metrics", &[]).status, 200);
}

#[test]
fn the_feed_tells_the_state_and_then_what_changed() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    let mut feed = Client::connect(server.admin);
    feed.send(format!("GET /api/v1/console/events HTTP/1.1\r\nhost: {}\r\n\r\n", server.admin));
    let deadline = Instant::now() + PATIENCE;
    let mut text = String::new();
    let mut until = |wanted: &dyn Fn(&str) -> bool| {
        let mut chunk = [0; 4096];
        while !wanted(&text) {
            assert!(Instant::now() < deadline, "{text}");
            if let Ok(read) = feed.stream.read(&mut chunk) {
                text.push_str(&String::from_utf8_lossy(&chunk[..read]));
            }
        }
        text.clone()
    };
    let head = until(&|text| text.contains("event: state"));
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
    // One that comes before the first look is told nothing first, and all with that look.
    until(&|text| text.contains("base_url"));
    let mut client = Client::connect(server.data);
    client.send(chat("gpt-test", "hello", false));
    assert_eq!(client.answer().status, 200);
    let told = until(&|text| text.contains("event: delta") && text.contains("\"hour\":{\"requests\":1.0"));
    let delta = told.lines().rfind(|line| line.contains("\"requests\":1.0")).unwrap();
    assert!(!delta.contains("base_url"), "what did not change is not told again: {delta}");
}

#[test]
fn an_operator_holds_a_breaker_and_lets_it_go() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let server = Server::start(&provider.config(""));
    let force = |body: &str| send(&server, "POST", "/api/v1/circuit-breakers/openai", &[], body);
    let ask = |text: &str| {
        let mut client = Client::connect(server.data);
        client.send(chat("gpt-test", text, false));
        client.answer().status
    };
    assert_eq!(ask("a"), 200);
    let held = force(r#"{"force":"open"}"#);
    assert_eq!((held.status, held.json()["forced"].as_str()), (200, Some("open")), "{}", held.text());
    assert_eq!(ask("b"), 503);
    let shown = server.admin("GET", "/api/v1/circuit-breakers").json();
    assert_eq!(shown["circuit_breakers"][0]["forced"], "open");
    assert_eq!(force(r#"{"force":"none"}"#).json()["state"], "closed");
    assert_eq!(ask("c"), 200);
    assert_eq!(force(r#"{"force":"closed"}"#).json()["forced"], "closed");
    for bad in ["", "{}", r#"{"force":"ajar"}"#, r#"{"force":"open","role":"admin"}"#, &"x".repeat(10_000)] {
        assert_eq!(force(bad).status, 400, "{bad}");
    }
    assert_eq!(
        send(&server, "POST", "/api/v1/circuit-breakers/none", &[], r#"{"force":"open"}"#).status,
        404
    );
    assert_eq!(get(&server, "/api/v1/circuit-breakers/openai", &[]).status, 405);
}

/// A call of the data path through the admin listener is made for a client that is named, and never goes around
/// the keys of clients.
#[test]
fn admin_plane_calls_of_the_data_path_are_somebodys() {
    let provider = Provider::start(|_| vec![answer("hi")]);
    let body = r#"{"model":"gpt-test","messages":[{"role":"user","content":"hi"}]}"#;
    let path = "/api/v1/data/v1/chat/completions";
    let open = Server::start(&provider.config(""));
    let answered = send(
        &open,
        "POST",
        path,
        &["content-type: application/json", "cookie: a=b", "authorization: Bearer x"],
        body,
    );
    assert_eq!(answered.status, 403, "a cookie is a browser's: {}", answered.text());
    let answered = send(&open, "POST", path, &["content-type: application/json"], body);
    assert_eq!(answered.status, 200, "{}", answered.text());
    assert!(answered.header("x-chimera-cache").is_some() && answered.header("server-timing").is_some());
    assert_eq!(get(&open, "/api/v1/data/v1/models", &[]).status, 200);
    assert_eq!(get(&open, "/api/v1/data/metrics", &[]).status, 404, "the data path has no admin calls");
    assert_eq!(get(&open, "/api/v1/data/api/v1/data/v1/models", &[]).status, 404);

    let clients = format!("[clients.app]\nkey_sha256 = [\"{}\"]\n", sha256("data-key"));
    let keyed = Server::start(&provider.config(&clients));
    let refused = send(&keyed, "POST", path, &["x-chimera-tenant: app"], body);
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("admin.key_sha256"));
    let both = format!("{clients}[admin]\nkey_sha256 = \"{}\"\n", sha256(KEY));
    let both = Server::start(&provider.config(&both));
    let bearer = format!("authorization: Bearer {KEY}");
    let before = provider.requests().len();
    assert_eq!(send(&both, "POST", path, &["x-chimera-tenant: app"], body).status, 401);
    assert_eq!(send(&both, "POST", path, &[&bearer], body).status, 400, "nobody is named");
    assert_eq!(send(&both, "POST", path, &[&bearer, "x-chimera-tenant: nobody"], body).status, 404);
    assert_eq!(provider.requests().len(), before);
    assert_eq!(send(&both, "POST", path, &[&bearer, "x-chimera-tenant: app"], body).status, 200);
    let sent = provider.requests().pop().unwrap();
    assert!(!sent.contains(KEY) && !sent.contains("x-chimera-tenant") && !sent.contains("cookie"), "{sent}");
}

/// The secrets of a configuration are in nothing that the console is told.
#[test]
fn canary_the_console_is_told_no_secret() {
    let provider = Provider::start(|_| vec![json(401, r#"{"error":{"message":"bad key sk-canary-1"}}"#)]);
    let config = provider.config("").replace("sk-test", "sk-canary-1");
    let client = sha256("data-canary");
    let config = format!(
        "{config}[clients.app]\nkey_sha256 = [\"{client}\"]\n[admin]\nkey_sha256 = \"{}\"\n[cache.redis]\nurl = \"redis://:canary-2@127.0.0.1:1\"\nsecret = \"canary-3\"\n",
        sha256(KEY)
    );
    let server = Server::start(&config);
    let bearer = format!("authorization: Bearer {KEY}");
    let body = r#"{"model":"gpt-test","messages":[{"role":"user","content":"hi"}]}"#;
    let called =
        send(&server, "POST", "/api/v1/data/v1/chat/completions", &[&bearer, "x-chimera-tenant: app"], body);
    assert_ne!(called.status, 200);
    let mut told = called.text();
    for path in [
        "/api/v1/console/overview",
        "/api/v1/console/session",
        "/api/v1/config",
        "/api/v1/providers",
        "/api/v1/cache/metrics",
    ] {
        let answer = get(&server, path, &[&bearer]);
        assert_eq!(answer.status, 200, "{path}");
        told.push_str(&answer.text());
    }
    for secret in ["sk-canary-1", "canary-2", "canary-3", "data-canary", "Bearer"] {
        assert!(!told.contains(secret), "{secret}");
    }
}
