//! Provider keys and client keys leave in no answer, no log, no metric and no page.

use crate::support::{Answer, Client, Provider, Server, Step, chat, json, post};

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

/// Asks with keys in the four places where one may stand.
fn with_keys(server: &Server, path: &str, body: &str, keys: [Option<&str>; 4]) -> Answer {
    let [bearer, anthropic, gemini, query] = keys;
    let path = query.map_or_else(|| path.to_owned(), |key| format!("{path}?key={key}"));
    let mut heads = String::from("host: localhost");
    for (name, key) in
        [("authorization: Bearer ", bearer), ("x-api-key: ", anthropic), ("x-goog-api-key: ", gemini)]
    {
        if let Some(key) = key {
            heads.push_str(&format!("\r\n{name}{key}"));
        }
    }
    let mut client = Client::connect(server.data);
    client.send(post(&path, body).replace("host: localhost", &heads));
    client.answer()
}

/// Whatever the dialect, one extractor: each place alone, the same key in several, and never two that differ.
#[test]
fn c15_two_keys_that_differ_are_400_and_one_key_in_several_places_is_one() {
    const OTHER: &str = "chim-canary-another";
    let provider = Provider::start(|_| vec![crate::support::answer("fine")]);
    let other: String = chimera_gateway::key_digest(OTHER).iter().map(|byte| format!("{byte:02x}")).collect();
    let clients = format!(
        "[clients.one]\nkey_sha256 = [\"{}\"]\n[clients.two]\nkey_sha256 = [\"{other}\"]\n",
        digest()
    );
    let server = Server::start(&(provider.config("") + &clients));
    let turns = r#""messages":[{"role":"user","content":"x"}]"#;
    let chat = format!(r#"{{"model":"gpt-test",{turns}}}"#);
    let messages = format!(r#"{{"model":"gpt-test","max_tokens":9,{turns}}}"#);
    let paths = [
        ("/v1/chat/completions", &*chat),
        ("/v1/messages", &*messages),
        ("/v1/responses", r#"{"model":"gpt-test","input":"x"}"#),
        (
            "/v1beta/models/gpt-test:generateContent",
            r#"{"contents":[{"role":"user","parts":[{"text":"x"}]}]}"#,
        ),
    ];
    let alone = |place: usize, key: &'static str| -> [Option<&str>; 4] {
        std::array::from_fn(|at| (at == place).then_some(key))
    };
    for (path, body) in paths {
        for place in 0..4 {
            let answer = with_keys(&server, path, body, alone(place, CLIENT_KEY));
            assert_eq!(answer.status, 200, "{path} {place}: {}", answer.text());
            let answer = with_keys(&server, path, body, alone(place, "chim-canary-unknown"));
            assert_eq!(answer.status, 401, "{path} {place}: {}", answer.text());
        }
        assert_eq!(with_keys(&server, path, body, [Some(CLIENT_KEY); 4]).status, 200, "{path}");
        let calls = provider.requests().len();
        for (one, two) in
            (0..4).flat_map(|one| (0..4).filter(move |two| *two != one).map(move |two| (one, two)))
        {
            let mut keys = alone(one, CLIENT_KEY);
            keys[two] = Some(CLIENT_KEY);
            assert_eq!(with_keys(&server, path, body, keys).status, 200, "{path} {one} {two}");
            // Both are good, and so is neither: nobody is guessed.
            for differing in [OTHER, "chim-canary-unknown"] {
                keys[two] = Some(differing);
                let answer = with_keys(&server, path, body, keys);
                assert_eq!(answer.status, 400, "{path} {one} {two}: {}", answer.text());
                assert!(
                    answer.text().contains("differ") && !answer.text().contains("canary"),
                    "{}",
                    answer.text()
                );
            }
        }
        assert_eq!(provider.requests().len(), calls, "what is refused goes nowhere");
    }
}
