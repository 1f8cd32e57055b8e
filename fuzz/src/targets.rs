//! One function a decoder: any bytes in, a panic where something that must always hold does not.
//!
//! The corpora are replayed by the ordinary tests of `chimera-protocol`, which include this file.

use bytes::{Bytes, BytesMut};
use chimera_protocol::{
    ArrayFramer, DialectId, FoldError, LookOver, Operation, StreamWatch, canonical as canonical_form,
    json::{Document, Value},
    sse as events,
    translate::{self, AnswerContext, ErrorFacts, RequestContext, StreamTranslator},
};

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const ALL: [(&str, Target); 8] = [
    ("sse", sse),
    ("array", array),
    ("json", json),
    ("skim", skim),
    ("canonical", canonical),
    ("request", request),
    ("answer", answer),
    ("stream", stream),
];

const CALLERS: [DialectId; 4] =
    [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini, DialectId::Responses];
const PROVIDERS: [DialectId; 3] = [DialectId::OpenAi, DialectId::Anthropic, DialectId::Gemini];
const LIMIT: usize = 512;

/// The first byte chooses; the rest is the input.
fn chosen(data: &[u8]) -> (usize, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (usize::from(*first), rest))
}

/// The whole events of bytes that came in pieces of `size`, the rest, and whether the limit was met.
fn framed(data: &[u8], size: usize) -> (Vec<Bytes>, Option<Bytes>, bool) {
    let mut framer = events::Framer::new(LIMIT);
    let mut whole = Vec::new();
    for piece in data.chunks(size.max(1)) {
        framer.push(Bytes::copy_from_slice(piece));
        loop {
            match framer.next_event() {
                Ok(Some(event)) => whole.push(event),
                Ok(None) => break,
                Err(_) => return (whole, None, true),
            }
        }
    }
    (whole, framer.finish(), false)
}

/// Server-sent events: however the bytes are cut, the events are the same.
pub fn sse(data: &[u8]) {
    let (size, data) = chosen(data);
    let (whole, rest, over) = framed(data, size % 24 + 1);
    let length: usize = whole.iter().chain(&rest).map(Bytes::len).sum();
    assert!(length <= data.len());
    let mut watch = StreamWatch::new(CALLERS[size % 4]);
    for event in whole.iter().chain(&rest) {
        let event = events::Event::parse(event);
        assert!(!event.event.unwrap_or_default().contains(&b'\n'));
        watch.event(event.event, event.data());
    }
    if !over && data.len() <= LIMIT {
        let at_once = framed(data, data.len());
        assert_eq!((whole, rest), (at_once.0, at_once.1));
    }
}

/// Elements of an array: however the bytes are cut, the elements are the same.
pub fn array(data: &[u8]) {
    let (size, data) = chosen(data);
    let framed = |size: usize| {
        let mut framer = ArrayFramer::new(LIMIT);
        let mut whole = Vec::new();
        for piece in data.chunks(size.max(1)) {
            framer.push(Bytes::copy_from_slice(piece));
            while let Ok(Some(element)) = framer.next_element() {
                whole.push(element);
            }
        }
        whole
    };
    let whole = framed(size % 24 + 1);
    assert!(data.starts_with(&whole.concat()));
    for element in &whole {
        assert!(element.ends_with(ArrayFramer::element(element)));
    }
    assert_eq!(whole, framed(data.len()));
}

fn walk(value: Value<'_>, text: &str) {
    let range = value.range();
    assert_eq!(text.get(range), Some(value.raw()));
    let _ = (value.as_str(), value.spelled(), value.as_bool(), value.as_f64(), value.is_null());
    value.elements().for_each(|element| walk(element, text));
    for (key, member) in value.members() {
        let name = key.as_str().expect("a key is a string");
        assert!(value.get(&name).is_some() && key.is(&name));
        walk(member, text);
    }
}

/// A document that is accepted is JSON for serde_json, too, and everything in it lies where it says.
pub fn json(data: &[u8]) {
    let Ok(document) = Document::parse(data) else { return };
    walk(document.root(), document.text());
    let read: Result<serde_json::Value, _> = serde_json::from_slice(data);
    // Numbers beyond a double are JSON, and serde_json has no place for them.
    assert!(
        read.as_ref().is_ok_and(|_| true)
            || read.is_err_and(|error| error.to_string().contains("number out of range"))
    );
}

/// What is read of an answer by skimming: nothing is found in what is not an object.
pub fn skim(data: &[u8]) {
    let (choice, data) = chosen(data);
    let dialect = CALLERS[choice % 4].dialect();
    for operation in [Operation::Chat, Operation::Embed, Operation::CountTokens] {
        if dialect.read_answer(operation, data).is_ok() {
            assert_eq!(data.trim_ascii_start().first(), Some(&b'{'));
        }
    }
    let mut usage = None;
    dialect.merge_usage(data, &mut usage);
    if let Ok(document) = Document::parse(data) {
        let _ = LookOver::of(CALLERS[choice % 4], Operation::Chat, &document);
    }
}

/// The canonical form does not depend on how a document is spelled.
pub fn canonical(data: &[u8]) {
    let Ok(document) = Document::parse(data) else { return };
    let (mut one, mut other) = (Vec::new(), Vec::new());
    canonical_form(&document, &[], &mut one);
    let mut spaced = Vec::new();
    respelled(document.root(), &mut spaced);
    let again = Document::parse(&spaced).expect("it is the same document");
    canonical_form(&again, &[], &mut other);
    assert_eq!(one, other);
}

/// The same value with white space, and its strings' letters as escapes.
fn respelled(value: Value<'_>, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        out.push(b'"');
        let mut units = [0; 2];
        for unit in text.chars().flat_map(|letter| letter.encode_utf16(&mut units).to_vec()) {
            out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        }
        out.push(b'"');
    };
    out.push(b' ');
    match value.raw().as_bytes().first() {
        Some(b'"') => text(&value.as_str().unwrap_or_default(), out),
        Some(b'[') => {
            out.push(b'[');
            for (index, element) in value.elements().enumerate() {
                out.extend_from_slice(if index > 0 { b"\n," } else { b"" });
                respelled(element, out);
            }
            out.push(b']');
        }
        Some(b'{') => {
            out.push(b'{');
            for (index, (key, member)) in value.members().enumerate() {
                out.extend_from_slice(if index > 0 { b"\t," } else { b"" });
                text(&key.as_str().unwrap_or_default(), out);
                out.push(b':');
                respelled(member, out);
            }
            out.push(b'}');
        }
        _ => out.extend_from_slice(value.raw().as_bytes()),
    }
    out.push(b'\r');
}

/// A translated request is JSON.
pub fn request(data: &[u8]) {
    let (choice, data) = chosen(data);
    let Ok(document) = Document::parse(data) else { return };
    let (from, to) = (CALLERS[choice % 4], PROVIDERS[choice / 4 % 3]);
    let context = RequestContext { from, to, model: "model", stream: choice & 128 != 0 };
    let mut out = BytesMut::new();
    if translate::request(&document, &context, &mut out).is_ok() {
        Document::parse(&out).expect("a translated request is JSON");
    }
    out.clear();
    if translate::count_request(&document, &context, &mut out).is_ok() {
        Document::parse(&out).expect("a translated request for a count is JSON");
    }
    out.clear();
    if translate::embed_request(&document, from, to, "model", &mut out).is_ok() {
        Document::parse(&out).expect("a translated request for embeddings is JSON");
    }
}

const CONTEXT: AnswerContext<'static> = AnswerContext { id: "id", model: "model", created: 1 };

/// A translated answer is JSON, and so is an error.
pub fn answer(data: &[u8]) {
    let (choice, data) = chosen(data);
    let (from, to) = (PROVIDERS[choice % 3], CALLERS[choice / 3 % 4]);
    let mut out = BytesMut::new();
    if translate::answer(data, from, to, &CONTEXT, &mut out).is_ok() {
        Document::parse(&out).expect("a translated answer is JSON");
    }
    let facts = ErrorFacts::read(from, 400 + (choice % 200) as u16, data);
    assert!((400..600).contains(&facts.status(to)));
    Document::parse(&facts.body(to, "id")).expect("a translated error is JSON");
    if let Ok(events) = from.dialect().unfold(data, chimera_protocol::UnfoldOptions { include_usage: true }) {
        let _ = from.dialect().fold(&events);
    }
}

/// A stream that ended well in one dialect is whole in the other: it can be folded.
pub fn stream(data: &[u8]) {
    let (choice, data) = chosen(data);
    let (from, to) = (PROVIDERS[choice % 3], CALLERS[choice / 3 % 4]);
    let _ = from.dialect().fold(data);
    let mut translator = StreamTranslator::new(from, to, choice & 128 != 0, &CONTEXT);
    let mut framer = events::Framer::new(1 << 20);
    framer.push(Bytes::copy_from_slice(data));
    let mut out = BytesMut::new();
    while let Ok(Some(raw)) = framer.next_event() {
        if translator.event(events::Event::parse(&raw).data(), &mut out).is_err() {
            assert!(translator.end(&mut out).is_err());
            return;
        }
    }
    if translator.end(&mut out).is_ok() && from != to {
        let folded = to.dialect().fold(&out).err();
        // Arguments of a tool pass as they come, and need not be JSON.
        let is_spared = to == DialectId::Anthropic && folded == Some(FoldError::NotJson);
        assert!(folded.is_none() || is_spared, "{folded:?}");
    }
}
