//! Event streams: however their bytes are cut, the same events come out, and none is lost.

use bytes::Bytes;
use chimera_protocol::{ArrayFramer, sse};
use proptest::prelude::*;

fn line_end() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![Just(&b"\n"[..]), Just(&b"\r\n"[..]), Just(&b"\r"[..])]
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-z€😀 :\"{}]{0,12}".prop_map(String::into_bytes);
    let bytes =
        prop::collection::vec(any::<u8>().prop_filter("no line end", |b| *b != b'\n' && *b != b'\r'), 0..12);
    let name = prop_oneof![
        Just(&b"data: "[..]),
        Just(&b"data:"[..]),
        Just(&b"event: "[..]),
        Just(&b"id: "[..]),
        Just(&b": "[..]),
        Just(&b""[..])
    ];
    (name, prop_oneof![text, bytes]).prop_map(|(name, value)| [name, &value].concat())
}

/// Lines with mixed ends, blank ones among them; perhaps a byte order mark, perhaps no proper end.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![3 => field(), 1 => Just(Vec::new())];
    (any::<bool>(), prop::collection::vec((line, line_end()), 0..24)).prop_map(|(bom, lines)| {
        let mut bytes = if bom { b"\xef\xbb\xbf".to_vec() } else { Vec::new() };
        for (line, end) in lines {
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(end);
        }
        bytes
    })
}

fn cut<'a>(bytes: &'a [u8], at: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<_> = at.iter().map(|index| index.index(bytes.len() + 1)).collect();
    at.sort_unstable();
    at.push(bytes.len());
    let mut from = 0;
    at.into_iter()
        .map(|to| {
            let piece = &bytes[from..to];
            from = to;
            piece
        })
        .collect()
}

fn framed(pieces: &[&[u8]], limit: usize) -> Result<Vec<Vec<u8>>, sse::SseError> {
    let mut framer = sse::Framer::new(limit);
    let mut events = Vec::new();
    for piece in pieces {
        framer.push(Bytes::copy_from_slice(piece));
        while let Some(event) = framer.next_event()? {
            events.push(event.to_vec());
        }
    }
    events.extend(framer.finish().map(|event| event.to_vec()));
    Ok(events)
}

/// The standard's algorithm, line by line, over the whole stream: what is dispatched.
fn by_the_standard(stream: &[u8]) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = Vec::new();
    let (mut line, mut at) = (Vec::new(), 0);
    while at < stream.len() {
        match stream[at] {
            b'\r' if stream.get(at + 1) == Some(&b'\n') => {
                at += 1;
                lines.push(std::mem::take(&mut line))
            }
            b'\r' | b'\n' => lines.push(std::mem::take(&mut line)),
            byte => line.push(byte),
        }
        at += 1;
    }
    let (mut data, mut events): (Option<Vec<u8>>, _) = (None, Vec::new());
    for line in lines {
        if line.is_empty() {
            events.extend(data.take());
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(0) => continue,
            Some(at) => {
                (line[..at].to_vec(), line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..]).to_vec())
            }
            None => (line, Vec::new()),
        };
        if name == b"data" {
            match &mut data {
                None => data = Some(value),
                Some(data) => {
                    data.push(b'\n');
                    data.extend(value)
                }
            }
        }
    }
    events
}

proptest! {
    #[test]
    fn u21_any_split_gives_the_same_events(stream in stream(), at in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let whole = framed(&[&stream], 1 << 20).unwrap();
        prop_assert_eq!(&framed(&cut(&stream, &at), 1 << 20).unwrap(), &whole);
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        prop_assert_eq!(&framed(&single, 1 << 20).unwrap(), &whole);
        // Untouched and in order: the events are the stream up to its unfinished rest.
        prop_assert!(stream.starts_with(&whole.concat()));
    }

    #[test]
    fn u21_u22_events_say_what_the_standard_says(stream in stream()) {
        let said: Vec<Vec<u8>> = framed(&[&stream], 1 << 20)
            .unwrap()
            .iter()
            .filter_map(|event| sse::Event::parse(event).data.map(|data| data.into_owned()))
            .collect();
        prop_assert_eq!(said, by_the_standard(&stream));
    }

    #[test]
    fn u23_no_more_than_the_limit_and_one_piece_is_held(stream in stream(), at in prop::collection::vec(any::<prop::sample::Index>(), 0..8), limit in 1_usize..64) {
        let mut framer = sse::Framer::new(limit);
        for piece in cut(&stream, &at) {
            framer.push(Bytes::copy_from_slice(piece));
            loop {
                match framer.next_event() {
                    Ok(Some(_)) => {}
                    Ok(None) => { prop_assert!(framer.unfinished() <= limit); break }
                    Err(sse::SseError::EventTooLarge { .. }) => return Ok(()),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    #[test]
    fn u21_an_array_cut_anywhere_has_the_same_elements(texts in prop::collection::vec("[a-z\\[\\]{},\"€]{0,10}", 0..6), at in prop::collection::vec(any::<prop::sample::Index>(), 0..8)) {
        let elements: Vec<_> = texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
        let array = format!("[{}]", elements.join(",\r\n")).into_bytes();
        let read = |pieces: &[&[u8]]| {
            let mut framer = ArrayFramer::new(1 << 20);
            let mut found = Vec::new();
            for piece in pieces {
                framer.push(Bytes::copy_from_slice(piece));
                while let Some(raw) = framer.next_element().unwrap() {
                    let element = String::from_utf8(ArrayFramer::element(&raw).to_vec()).unwrap();
                    found.extend((!element.is_empty()).then_some(element));
                }
            }
            found
        };
        prop_assert_eq!(&read(&[&array]), &elements);
        prop_assert_eq!(&read(&cut(&array, &at)), &elements);
    }
}
