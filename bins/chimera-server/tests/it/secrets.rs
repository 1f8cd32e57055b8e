//! Provider keys and client keys leave in no answer, no log, no metric and no page.

use crate::support::{Client, Provider, Server, Step, chat, json};

const PROVIDER_KEY: &str = "sk-canary-0123456789abcdef";
const CLIENT_KEY: &str = "chim-canary-fedcba9876543210";
/// `printf %s chim-canary-fedcba9876543210 | sha256sum`
fn digest() -> String {
    chimera_gateway::key_digest(CLIENT_KEY).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pain_15_no_key_leaves_the_gateway_but_to_its_own_provider() {
    let provider = Provider::start(|request| {
        let echo = format!("{{\"error\":{{\"message\":\"bad key {PROVIDER_KEY}\"}}}}");
        match request {
            r if r.contains("\"echo\"") => vec![json(400, &echo)],
            r if r.contains("\"denied\"") => vec![json(401, &echo)],
            r if r.contains("\"broken\"") => vec![Step::Write(b"HTTP/1.1 200 OK\r\n".to_vec()), Step::Close],
            r if r.contains("\"html\"") => vec![json(500, &format!("<html>{PROVIDER_KEY}"))],
            _ => vec![crate::support::answer("fine")],
        }
    });
    let config = format!(
        "[log]\nlevel = \"trace\"\n{}\n[clients.one]\nkey_sha256 = [\"{}\"]\n",
        provider.config("").replace("sk-test", PROVIDER_KEY),
        digest()
    );
    let server = Server::start(&config);
    let mut said = String::new();
    for text in ["fine", "echo", "denied", "broken", "html", "fine"] {
        let mut client = Client::connect(server.data);
        let key = format!(
            "host: localhost\r\nauthorization: Bearer {CLIENT_KEY}\r\ncookie: session={CLIENT_KEY}\r\nx-forwarded-for: {CLIENT_KEY}"
        );
        client.send(chat("gpt-test", text, false).replace("host: localhost", &key));
        let answer = client.answer();
        said.push_str(&answer.head);
        said.push_str(&answer.text());
    }
    let mut stranger = Client::connect(server.data);
    stranger.send(
        chat("gpt-test", "x", false)
            .replace("host: localhost", "host: localhost\r\nx-api-key: chim-canary-unknown"),
    );
    let refused = stranger.answer();
    assert_eq!(refused.status, 401);
    said.push_str(&refused.text());
    for path in [
        "/metrics",
        "/api/v1/config",
        "/api/v1/providers",
        "/api/v1/circuit-breakers",
        "/api/v1/cache/metrics",
    ] {
        let page = server.admin("GET", path);
        assert_eq!(page.status, 200, "{path}");
        said.push_str(&page.text());
    }
    said.push_str(&server.log());
    assert!(server.log().contains("request_id"), "requests are logged at this level");
    assert!(
        !said.contains("canary"),
        "{}",
        said.split("canary")
            .next()
            .unwrap()
            .chars()
            .rev()
            .take(200)
            .collect::<String>()
            .chars()
            .rev()
            .collect::<String>()
    );
    for request in provider.requests() {
        assert!(!request.contains(CLIENT_KEY), "a caller's key went on: {request}");
        assert!(request.contains(PROVIDER_KEY));
    }
}
