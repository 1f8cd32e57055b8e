//! Golden cases: what goes in and what comes out, as data, byte for byte.
//!
//! A line of a file is one input and what it becomes in the other dialects. With `GOLDEN_WRITE=1` the
//! outcomes are written anew, to be read before they are kept.

use std::{collections::BTreeMap, fs, path::PathBuf};

use bytes::BytesMut;
use chimera_protocol::{
    DialectId, ErrorParts,
    json::Document,
    sse,
    translate::{self, AnswerContext, EmbedTranslated, ErrorFacts, RequestContext, StreamTranslator},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const ALL: [DialectId; 4] =
    [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];
/// The dialects in which a provider may be asked.
const PROVIDERS: [DialectId; 3] = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini];
const EMBEDDERS: [DialectId; 2] = [DialectId::OpenAi, DialectId::Gemini];
const CONTEXT: AnswerContext<'static> =
    AnswerContext { id: "id-1", model: "model-1", created: 1_700_000_000 };

/// One line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Case {
    name: String,
    from: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    models: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stream: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    asked: Option<Asked>,
    r#in: Box<RawValue>,
    #[serde(default)]
    to: BTreeMap<String, Outcome>,
}

/// What a caller asked for embeddings wanted.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Asked {
    batch: bool,
    base64: bool,
}

/// What it becomes.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    out: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dropped: Vec<String>,
    /// The path of the member that is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// Why an answer cannot be translated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Outcome {
    fn out(out: &[u8]) -> Self {
        Self { out: Some(raw(out)), ..Self::nothing() }
    }

    fn nothing() -> Self {
        Self { status: None, out: None, dropped: Vec::new(), refused: None, fault: None }
    }
}

fn raw(json: &[u8]) -> Box<RawValue> {
    Document::parse(json).expect("what is written is valid JSON");
    serde_json::from_slice(json).unwrap()
}

fn dialect(name: &str) -> DialectId {
    *ALL.iter().find(|dialect| dialect.as_str() == name).unwrap()
}

/// Runs every case of a file against every other of these dialects; how many there were.
fn check(file: &str, targets: &[DialectId], run: impl Fn(&Case, DialectId, DialectId) -> Outcome) -> usize {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file);
    let text = fs::read_to_string(&path).unwrap();
    let (mut written, mut wrong, mut count) = (String::new(), Vec::new(), 0);
    for line in text.lines() {
        let mut case: Case = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let from = dialect(&case.from);
        let outcomes: BTreeMap<_, _> = targets
            .iter()
            .copied()
            .filter(|to| *to != from)
            .map(|to| (to.as_str().to_owned(), run(&case, from, to)))
            .collect();
        count += outcomes.len();
        for (to, outcome) in &outcomes {
            let got = serde_json::to_string(outcome).unwrap();
            let wanted = case.to.get(to).map(|wanted| serde_json::to_string(wanted).unwrap());
            if wanted.as_ref() != Some(&got) {
                wrong.push(format!("{} → {to}: {}\n got {got}\n for {wanted:?}", case.from, case.name));
            }
        }
        case.to = outcomes;
        written.push_str(&serde_json::to_string(&case).unwrap());
        written.push('\n');
    }
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        fs::write(&path, written).unwrap();
    } else {
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }
    count
}

#[test]
fn pain_2_every_member_of_a_request_is_mapped_refused_or_named_as_dropped() {
    let count = check("requests.jsonl", &PROVIDERS, |case, from, to| {
        let model = match to {
            DialectId::OpenAi => "gpt-4o",
            DialectId::Anthropic => "claude-opus-4-1",
            DialectId::Gemini | DialectId::Responses => "gemini-2.5-pro",
        };
        let model = case.models.get(to.as_str()).map_or(model, String::as_str);
        let body = case.r#in.get();
        let document = Document::parse(body.as_bytes()).unwrap();
        let context = RequestContext { from, to, model, stream: case.stream };
        let mut out = BytesMut::new();
        match translate::request(&document, &context, &mut out) {
            Ok(translated) => Outcome {
                dropped: translated.dropped.names().map(str::to_owned).collect(),
                ..Outcome::out(&out)
            },
            Err(refused) => {
                assert!(!refused.param.is_empty() && !refused.message.is_empty(), "{}", case.name);
                Outcome { refused: Some(refused.param), ..Outcome::nothing() }
            }
        }
    });
    assert!(count >= 150, "{count}");
}

#[test]
fn pain_6_pain_19_whole_answers_with_their_usage_and_proofs() {
    let count = check("answers.jsonl", &ALL, |case, from, to| {
        let mut out = BytesMut::new();
        match translate::answer(case.r#in.get().as_bytes(), from, to, &CONTEXT, &mut out) {
            Ok(()) => Outcome::out(&out),
            Err(fault) => Outcome { fault: Some(fault.to_string()), ..Outcome::nothing() },
        }
    });
    assert!(count >= 30, "{count}");
}

/// Runs a stream of event data through a translator; its output, and its fault if there was one.
fn run_stream(case: &Case, from: DialectId, to: DialectId) -> (BytesMut, Option<String>) {
    let events: Vec<Box<RawValue>> = serde_json::from_str(case.r#in.get()).unwrap();
    let mut translator = StreamTranslator::new(from, to, case.stream, &CONTEXT);
    let mut out = BytesMut::new();
    let mut result = Ok(());
    for event in &events {
        let data = if event.get() == "\"[DONE]\"" { "[DONE]" } else { event.get() };
        result = result.and_then(|()| translator.event(data.as_bytes(), &mut out));
    }
    result = result.and_then(|()| translator.end(&mut out));
    if result.is_err() {
        let parts = ErrorParts {
            status: 502,
            code: "upstream_unreachable",
            message: "it broke",
            param: None,
            request_id: "r-1",
            retry_after: None,
        };
        translator.fail(&parts, &mut out);
        let length = out.len();
        // Nothing comes after an error.
        translator.fail(&parts, &mut out);
        translator.event(b"{}", &mut out).unwrap();
        assert!(translator.end(&mut out).is_err());
        assert_eq!(out.len(), length);
    }
    (out, result.err().map(|fault| fault.to_string()))
}

/// The data of each event as a JSON array; names are checked against the types that they must repeat.
fn events_as_json(stream: &[u8], to: DialectId) -> Vec<u8> {
    let mut framer = sse::Framer::new(1 << 20);
    framer.push(bytes::Bytes::copy_from_slice(stream));
    let mut all = Vec::new();
    while let Some(raw) = framer.next_event().unwrap() {
        let event = sse::Event::parse(&raw);
        let data = String::from_utf8(event.data().to_vec()).unwrap();
        if matches!(to, DialectId::Anthropic | DialectId::Responses) {
            let value: serde_json::Value = serde_json::from_str(&data).unwrap();
            assert_eq!(value["type"], String::from_utf8_lossy(event.event.unwrap()).as_ref());
        }
        all.push(if data == "[DONE]" { "\"[DONE]\"".to_owned() } else { data });
    }
    assert_eq!(framer.unfinished(), 0, "whole events only");
    format!("[{}]", all.join(",")).into_bytes()
}

#[test]
fn pain_1_pain_3_streams_keep_the_grammar_and_end_once() {
    let count = check("streams.jsonl", &ALL, |case, from, to| {
        let (out, fault) = run_stream(case, from, to);
        Outcome { fault, ..Outcome::out(&events_as_json(&out, to)) }
    });
    assert!(count >= 30, "{count}");
}

#[test]
fn errors_have_the_callers_shape_status_and_code() {
    let count = check("errors.jsonl", &ALL, |case, from, to| {
        let facts = ErrorFacts::read(from, case.status.unwrap(), case.r#in.get().as_bytes());
        Outcome { status: Some(facts.status(to)), ..Outcome::out(&facts.body(to, "r-1")) }
    });
    assert!(count >= 30, "{count}");
}

#[test]
fn embeddings_are_asked_for_one_by_one_and_in_batches() {
    check("embed_requests.jsonl", &EMBEDDERS, |case, from, to| {
        let document = Document::parse(case.r#in.get().as_bytes()).unwrap();
        let mut out = BytesMut::new();
        match translate::embed_request(&document, from, to, "model-1", &mut out) {
            Ok(translated) => Outcome {
                dropped: translated.dropped.names().map(str::to_owned).collect(),
                ..Outcome::out(&out)
            },
            Err(refused) => Outcome { refused: Some(refused.param), ..Outcome::nothing() },
        }
    });
}

#[test]
fn embeddings_keep_their_numbers_and_come_in_base64_where_asked() {
    check("embed_answers.jsonl", &EMBEDDERS, |case, from, to| {
        let asked = case.asked.unwrap();
        let asked = EmbedTranslated {
            is_batch: asked.batch,
            base64: asked.base64,
            dropped: translate::Dropped::default(),
        };
        let mut out = BytesMut::new();
        match translate::embed_answer(case.r#in.get().as_bytes(), from, to, "model-1", &asked, &mut out) {
            Ok(()) => Outcome::out(&out),
            Err(fault) => Outcome { fault: Some(fault.to_string()), ..Outcome::nothing() },
        }
    });
}
