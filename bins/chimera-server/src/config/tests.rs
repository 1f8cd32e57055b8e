//! What is read, what is refused, and that config/chimera.toml says all of it.

use toml::Value;

use super::*;
use crate::units::SecretSource;

fn none() -> [(String, String); 0] {
    []
}

#[test]
fn the_commented_file_is_every_key_at_its_default() {
    let text = include_str!("../../../../config/chimera.toml");
    let file = parse(text, none()).unwrap();
    assert_eq!(file, File::default());
    // The examples in it are good too: uncommented, they parse.
    let examples: String =
        text.lines().map(|line| line.strip_prefix("#! ").unwrap_or(line)).collect::<Vec<_>>().join("\n");
    let file = parse(&examples, none()).unwrap();
    assert!(
        !file.providers.is_empty()
            && !file.groups.is_empty()
            && !file.clients.is_empty()
            && !file.transforms.is_empty()
    );
    // And no key is missing: what a default would fill in is written there.
    let all = Value::try_from(&file).unwrap();
    assert_eq!(missing(&all, &Value::Table(examples.parse().unwrap())), [""; 0]);
}

/// The keys of one value that the other does not have.
fn missing(all: &Value, written: &Value) -> Vec<String> {
    let (Value::Table(all), Value::Table(written)) = (all, written) else { return Vec::new() };
    let of_key = |(key, value): (&String, &Value)| match written.get(key) {
        Some(found) => missing(value, found).iter().map(|inner| format!("{key}.{inner}")).collect(),
        None => vec![key.clone()],
    };
    all.iter().flat_map(of_key).collect()
}

#[test]
fn p04_a_bad_file_is_refused_by_the_name_of_its_key() {
    let key = |text: &str| parse(text, none()).unwrap_err().key;
    assert_eq!(key("[server]\nlisten = 5"), "server.listen");
    assert_eq!(key("[server]\nlistn = \"a\""), "server");
    assert_eq!(key("[cache]\nttl = \"soon\""), "cache.ttl");
    assert_eq!(key("a = = b"), "line 1");
    let error = parse(
        "[providers.x]\ndialect = \"openai\"\nbase_url = \"u\"\nmax_connections = \"sk-canary\"",
        none(),
    );
    assert!(!error.unwrap_err().to_string().contains("canary"));
}

#[test]
fn the_environment_overrides_any_key() {
    let environment = [
        ("CHIMERA__SERVER__WORKERS".to_owned(), "3".to_owned()),
        ("CHIMERA__CACHE__TTL".to_owned(), "5m".to_owned()),
        ("OTHER".to_owned(), "x".to_owned()),
    ];
    let file = parse("[server]\nworkers = 1", environment).unwrap();
    assert_eq!(file.server.workers, 3);
    assert_eq!(file.cache.ttl.0, Duration::from_secs(300));
    let provider = "[providers.x]\ndialect = \"openai\"\nbase_url = \"http://localhost\"\n";
    for (value, read) in [("12345", "12345"), ("\"quoted\"", "\"quoted\""), ("{ env = \"HOME\" }", "env")] {
        let secret = [("CHIMERA__PROVIDERS__X__API_KEY".to_owned(), value.to_owned())];
        match parse(provider, secret).unwrap().providers["x"].api_key.clone().unwrap() {
            SecretSource::Text(text) => assert_eq!(text, read),
            other => assert!(format!("{other:?}").contains(read)),
        }
    }
    let bad = [("CHIMERA__SERVER__LISTEN__X".to_owned(), "1".to_owned())];
    assert_eq!(parse("[server]\nlisten = \"a\"", bad).unwrap_err().key, "CHIMERA__SERVER__LISTEN__X");
}

#[test]
fn the_environment_tunes_a_provider_that_its_key_switches_on() {
    let with = |more: &[(&str, &str)]| {
        let all = [&[("CHIMERA__PROVIDERS__OPENAI__MAX_IN_FLIGHT", "10")], more].concat();
        parse("", all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())))
    };
    let file = with(&[("OPENAI_API_KEY", "k")]).unwrap();
    let provider = &file.providers["openai"];
    assert_eq!((provider.max_in_flight, provider.responses), (10, true));
    assert_eq!(provider.base_url, "https://api.openai.com/v1");
    assert!(matches!(&provider.api_key, Some(SecretSource::Env(env)) if env.env == "OPENAI_API_KEY"));
    let elsewhere = [("OPENAI_API_KEY", "k"), ("CHIMERA_OPENAI_BASE_URL", "http://localhost/v1")];
    let provider = with(&elsewhere).unwrap().providers["openai"].clone();
    assert_eq!((provider.base_url.as_str(), provider.responses), ("http://localhost/v1", false));
    assert!(with(&[]).unwrap_err().to_string().contains("dialect"), "without its key it is none");
}
