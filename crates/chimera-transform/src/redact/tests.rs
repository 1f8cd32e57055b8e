//! Tests of redaction.

use proptest::prelude::*;

use super::*;
use crate::{Form, Pipeline, Step};

fn redact() -> Redact {
    Redact::new(RedactSettings::default()).unwrap()
}

fn found(text: &str) -> Vec<(Kind, &str)> {
    redact().find(text).into_iter().map(|finding| (finding.kind, &text[finding.range])).collect()
}

#[track_caller]
fn all(kind: Kind, texts: &[(&str, &str)]) {
    for (text, value) in texts {
        assert_eq!(found(text), [(kind, *value)], "{text}");
    }
}

#[track_caller]
fn nothing(texts: &[&str]) {
    for text in texts {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn emails() {
    all(
        Kind::Email,
        &[
            ("Write to ada.lovelace+x@mail.example.co.uk, please.", "ada.lovelace+x@mail.example.co.uk"),
            ("mailto:ada@example.com", "ada@example.com"),
            ("é:ada@example.com.", "ada@example.com"),
            ("{\"to\":\"555-123-4567@example.com\"}", "555-123-4567@example.com"),
        ],
    );
    nothing(&["meet @ noon", "@decorator", "user@localhost", "a @ b.com"]);
}

#[test]
fn phones() {
    all(
        Kind::Phone,
        &[
            ("call +49 30 1234567 now", "+49 30 1234567"),
            ("call +14155552671", "+14155552671"),
            ("at (415) 555-2671.", "(415) 555-2671"),
            ("at 415-555-2671", "415-555-2671"),
            ("at 1-415-555-2671", "1-415-555-2671"),
            ("au 01 23 45 67 89", "01 23 45 67 89"),
            ("on 020 7946 0958", "020 7946 0958"),
            ("my phone is 5552671", "5552671"),
            ("+44 (0)20 7946 0958", "+44 (0)20 7946 0958"),
        ],
    );
    nothing(&["in 2024", "1,234,567", "3.14159", "10-20-30", "chapter 1 2 3 4 5 6 7 8 9 0", "order 5552671"]);
}

#[test]
fn cards_and_ibans() {
    all(
        Kind::Card,
        &[
            ("pay with 4111 1111 1111 1111 12/27", "4111 1111 1111 1111"),
            ("order 12 5500-0000-0000-0004", "5500-0000-0000-0004"),
            ("378282246310005", "378282246310005"),
            ("3782 822463 10005", "3782 822463 10005"),
        ],
    );
    nothing(&["4111 1111 1111 1112", "9111111111111111", "1700000000000"]);
    all(
        Kind::Iban,
        &[
            ("to DE89 3704 0044 0532 0130 00.", "DE89 3704 0044 0532 0130 00"),
            ("GB82WEST12345698765432", "GB82WEST12345698765432"),
        ],
    );
    nothing(&["DE89 3704 0044 0532 0130 02"]);
}

#[test]
fn addresses_of_machines() {
    all(
        Kind::Ip,
        &[
            ("from 203.0.113.77:8080", "203.0.113.77"),
            ("from 2001:db8::8a2e:370:7334.", "2001:db8::8a2e:370:7334"),
        ],
    );
    nothing(&["127.0.0.1", "0.0.0.0", "v1.2.3.4", "1.2.3.400", "1.2.3.4.5", "at 12:30:45", "std::mem::take"]);
}

#[test]
fn national_ids_of_more_than_eight_countries() {
    all(
        Kind::NationalId,
        &[
            ("US 536-22-1234", "536-22-1234"),
            ("BR 111.444.777-35", "111.444.777-35"),
            ("ES 12345678Z", "12345678Z"),
            ("ES X1234567L", "X1234567L"),
            ("FR 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
            ("FR 255081416802538", "255081416802538"),
            ("IT RSSMRA85T10A562S", "RSSMRA85T10A562S"),
            ("UK AB123456C", "AB123456C"),
            ("UK AB 12 34 56 C", "AB 12 34 56 C"),
            ("NHS number 943 476 5919", "943 476 5919"),
            ("PL 44051401359", "44051401359"),
            ("SE 811228-9874", "811228-9874"),
            ("CN 11010519491231002X", "11010519491231002X"),
            ("IN 9999 4105 7058", "9999 4105 7058"),
            ("KR 900101-1234568", "900101-1234568"),
            ("ZA 8001015009087", "8001015009087"),
            ("BE 85.07.30-033.28", "85.07.30-033.28"),
            ("TR 10000000146", "10000000146"),
            ("NL: BSN 111222333", "111222333"),
            ("Steuer-ID 86095742719", "86095742719"),
        ],
    );
    nothing(&["000-22-1234", "666-22-1234", "111.444.777-36", "12345678A", "44051401358", "order 111222333"]);
}

#[test]
fn dates_of_birth_and_not_other_dates() {
    all(
        Kind::BirthDate,
        &[
            ("born on 12/03/1984", "12/03/1984"),
            ("DOB: 1984-03-12", "1984-03-12"),
            ("geboren am 12.03.1984", "12.03.1984"),
            ("née le 3 août 1990", "3 août 1990"),
            ("She was born March 12, 1984.", "March 12, 1984"),
            ("born 12th March 1984", "12th March 1984"),
        ],
    );
    nothing(&["due 12/03/1984", "on March 12, 1984", "born in room 12/99/1984"]);
}

#[test]
fn keys_tokens_and_blocks() {
    all(
        Kind::ApiKey,
        &[
            ("OPENAI_API_KEY=sk-proj-aB3dE5gH7jK9mN1pQ2rS4tU6", "sk-proj-aB3dE5gH7jK9mN1pQ2rS4tU6"),
            ("use AKIAIOSFODNN7EXAMPLE.", "AKIAIOSFODNN7EXAMPLE"),
            (
                "{\"k\":\"ghp_aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2\"}",
                "ghp_aB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1bC2",
            ),
            ("sk-5551234567-aB3dE5gH7jK9mN1p", "sk-5551234567-aB3dE5gH7jK9mN1p"),
            (
                "bot 123456789:AAaB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1",
                "123456789:AAaB3dE5gH7jK9mN1pQ2rS4tU6vW8xY0zA1",
            ),
        ],
    );
    all(
        Kind::Jwt,
        &[(
            "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
        )],
    );
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n-----END RSA PRIVATE KEY-----";
    all(Kind::Pem, &[(&format!("key:\n{pem}\nend"), pem)]);
    all(Kind::Credentials, &[("postgres://user:hunter2@db.example/x", "user:hunter2@")]);
    all(
        Kind::Secret,
        &[
            ("it is wJalrXUtnFEMIK7MDENGbPxRfiCY3xKq8 now", "wJalrXUtnFEMIK7MDENGbPxRfiCY3xKq8"),
            ("api_key: 9f86d081884c7d659a2feaa0c55ad015", "9f86d081884c7d659a2feaa0c55ad015"),
        ],
    );
    nothing(&[
        "commit 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b",
        "550e8400-e29b-41d4-a716-446655440000",
        "getUserProfileByIdentifierHandlerFactory",
        "a-long-hyphenated-identifier-of-a-page",
        "/usr/local/share/doc/packages/readme",
        "https://example.com/a/long/path/to/something.html",
    ]);
}

#[test]
fn custom_searches_have_their_own_names_and_policies() {
    let custom = |name: &str, search, policy| Custom { name: name.into(), search, policy };
    let step = |custom| Redact::new(RedactSettings { custom, ..RedactSettings::default() });
    let settings = vec![
        custom("staff", CustomSearch::Pattern(r"\bEMP-\d{4}\b".into()), Policy::Redact),
        custom("project", CustomSearch::Words(vec!["Blue Moon".into()]), Policy::Hash),
    ];
    let pipeline = Pipeline::new("p", [Step::new(step(settings).unwrap())]);
    let done = pipeline.run_text("EMP-1234 works on blue moon with a@example.com", &seed()).unwrap();
    let text = done.text.unwrap();
    assert!(
        text.starts_with("[STAFF_1_") && text.contains("[PROJECT_") && text.contains("[EMAIL_1_"),
        "{text}"
    );
    let error =
        step(vec![custom("Bad Name", CustomSearch::Words(vec!["x".into()]), Policy::Mask)]).err().unwrap();
    assert_eq!(error.name, "Bad Name");
    assert!(step(vec![custom("x", CustomSearch::Pattern("(".into()), Policy::Mask)]).is_err());
}

fn seed() -> Seed {
    Seed::derive(&[7; 32], "test")
}

fn with(policy: Policy) -> Pipeline {
    Pipeline::new(
        "p",
        [Step::new(Redact::new(RedactSettings { policy, ..RedactSettings::default() }).unwrap())],
    )
}

#[test]
fn policies() {
    let run =
        |policy, text: &str| with(policy).run_text(text, &seed()).map(|done| done.output(text).into_owned());
    let text = "card 4111 1111 1111 1111, mail ada@example.com";
    assert_eq!(run(Policy::Mask, text).unwrap(), "card **** **** **** 1111, mail ***@******e.com");
    assert_eq!(run(Policy::Allow, text).unwrap(), text);
    let hashed = run(Policy::Hash, text).unwrap();
    assert!(!hashed.contains("4111") && !hashed.contains("ada"));
    assert_eq!(hashed, run(Policy::Hash, text).unwrap(), "the same value has the same hash");
    let stopped = with(Policy::Block).run_text(text, &seed()).unwrap_err();
    assert!(stopped.is_refusal());
    assert!(!stopped.to_string().contains("4111"), "{stopped}");
}

#[test]
fn placeholders_are_each_requests_own_and_cannot_be_guessed() {
    let run = |text: &str, seed: &Seed| with(Policy::Redact).run_text(text, seed).unwrap().text.unwrap();
    let one = run("a@example.com", &seed());
    assert_eq!(one, run("a@example.com", &seed()), "equal requests stay equal");
    let nonce = |text: &str| text.split('_').nth(2).unwrap()[..12].to_owned();
    assert_ne!(nonce(&one), nonce(&run("a@example.com and more", &seed())));
    assert_ne!(nonce(&one), nonce(&run("a@example.com", &Seed::random())));
    let twice = run("a@example.com b@example.com a@example.com", &seed());
    let words: Vec<_> = twice.split(' ').collect();
    assert_eq!(words[0], words[2]);
    assert_ne!(words[0], words[1]);
}

#[test]
fn forged_placeholders_bring_nothing_back() {
    let done = with(Policy::Redact).run_text("a@example.com", &seed()).unwrap();
    for forged in ["[EMAIL_1_aaaaaaaaaaaa]", "[EMAIL_1]", "[EMAIL_1_", "[[[["] {
        assert_eq!(done.way_back.whole(forged, Form::Text).unwrap(), None);
    }
}

#[test]
fn pain_18_placeholders_of_a_protected_conversation_stay() {
    let settings = RedactSettings { protect_prefix: true, ..RedactSettings::default() };
    let pipeline = Pipeline::new("p", [Step::new(Redact::new(settings).unwrap())]);
    let first =
        r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"I am a@example.com"}"#;
    let body = |rest: &str| format!("{first}{rest}]}}");
    let run = |body: String| pipeline.run_body(body.as_bytes(), &seed()).unwrap().text.unwrap();
    let one = run(body(""));
    let two =
        run(body(r#",{"role":"assistant","content":"ok"},{"role":"user","content":"and b@example.com"}"#));
    let prefix = one.strip_suffix("]}").unwrap();
    assert!(two.starts_with(prefix), "{one}\n{two}");
    assert!(!two.contains("@example.com"));
}

#[test]
fn arguments_of_tools_stay_json() {
    let body = r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"note\":\"first\\nada@example.com\\n\",\"key\":\"-----BEGIN KEY-----\\nAAAA\\n-----END KEY-----\"}"}}]}]}"#;
    let done = with(Policy::Redact).run_body(body.as_bytes(), &seed()).unwrap();
    let sent = done.text.as_deref().unwrap();
    let arguments = |body: &str| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["messages"][0]["tool_calls"][0]["function"]["arguments"].as_str().unwrap().to_owned()
    };
    let inner: serde_json::Value = serde_json::from_str(&arguments(sent)).unwrap();
    assert!(inner["note"].as_str().unwrap().starts_with("first\n[EMAIL_1_"), "{inner}");
    assert!(inner["key"].as_str().unwrap().starts_with("[PEM_1_"), "{inner}");
    // Back as arguments, and as text.
    let back = done.way_back.whole(&arguments(sent), Form::Embedded).unwrap().unwrap();
    assert_eq!(back, arguments(body));
    let key = done.way_back.whole(inner["key"].as_str().unwrap(), Form::Text).unwrap().unwrap();
    assert_eq!(key, "-----BEGIN KEY-----\nAAAA\n-----END KEY-----");
}

#[test]
fn what_is_found_depends_on_no_chance_in_a_list_of_numbers() {
    let list = "10 20 30 40 50 60 70 80 90 ".repeat(3);
    assert_eq!(found(&format!("{list}01 23 45 67 89")), []);
    assert_eq!(found(&format!("{list}and 01 23 45 67 89")), [(Kind::Phone, "01 23 45 67 89")]);
    nothing(&["1 2 3 4 5 6 7 8 9 0 1 2 3", "10 20 30 40 50 60 70 80 90", "0 0 0 0", "1.5 2.5 3.5"]);
}

/// Texts of findings, of what looks like them, and of anything else.
fn texts() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("ada@example.com".to_owned()),
        Just("bob@example.org".to_owned()),
        Just("4111 1111 1111 1111".to_owned()),
        Just("+49 30 1234567".to_owned()),
        Just("[EMAIL_1_".to_owned()),
        Just("[[".to_owned()),
        Just("]".to_owned()),
        Just(" ".to_owned()),
        Just("sk-proj-aB3dE5gH7jK9mN1pQ2rS4tU6".to_owned()),
        Just("-----BEGIN X-----\n\"\\".to_owned()),
        ".{0,8}",
        "[0-9 .+()-]{0,12}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    /// Redacted, echoed by the model in any chunks, restored: the bytes are equal.
    #[test]
    fn u24_round_trip_for_any_chunking(text in texts(), cuts in proptest::collection::vec(1_usize..9, 1..20)) {
        let done = with(Policy::Redact).run_text(&text, &seed()).unwrap();
        let sent = done.output(&text).into_owned();
        let whole = done.way_back.whole(&sent, Form::Text).unwrap();
        prop_assert_eq!(whole.as_deref().unwrap_or(&sent), &text);
        let mut channel = done.way_back.channel(Form::Text);
        let longest = 64;
        let (mut out, mut given) = (String::new(), 0);
        let characters: Vec<char> = sent.chars().collect();
        let mut rest = &characters[..];
        for cut in cuts.iter().cycle() {
            let (chunk, after) = rest.split_at((*cut).min(rest.len()));
            if chunk.is_empty() {
                break;
            }
            let chunk: String = chunk.iter().collect();
            given += chunk.len();
            out.push_str(&channel.push(&chunk).unwrap());
            rest = after;
            // Nothing is held that is longer than a placeholder.
            let restored = done.way_back.whole(&sent[..given], Form::Text).unwrap();
            let restored = restored.map_or(given, |text| text.len());
            prop_assert!(out.len() + longest >= restored);
        }
        out.push_str(&channel.end().unwrap());
        prop_assert_eq!(out, text);
    }

    /// Findings are in order, apart, and between characters, whatever comes.
    #[test]
    fn findings_are_sound(text in "\\PC{0,200}|[0-9a-f:.@/ -]{0,300}") {
        let mut at = 0;
        for finding in redact().find(&text) {
            prop_assert!(finding.range.start >= at && finding.range.start < finding.range.end);
            prop_assert!(text.get(finding.range.clone()).is_some());
            at = finding.range.end;
        }
    }
}
