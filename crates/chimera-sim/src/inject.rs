//! Faults, applied to a script: each is an edit of the steps, the end or the head.

use std::{collections::VecDeque, io::Write, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, header};

use crate::{
    answer::{Reply, Usage},
    body::{End, Role, Script, Step},
    dialect::Dialect,
    fault::Fault,
    settings::Framing,
};

/// Falsifies the usage, which must happen before the answer is rendered.
pub(crate) fn falsify(reply: &mut Reply, fault: Option<&Fault>) {
    match fault {
        Some(Fault::UsageMissing) => reply.usage = None,
        Some(Fault::UsageNegative) => reply.usage = Some(Usage::all((-7i64).into())),
        Some(Fault::UsageHuge) => reply.usage = Some(Usage::all((1u64 << 63).into())),
        _ => {}
    }
}

/// Applies what a fault does to a body, and to the header fields that describe it.
pub(crate) fn inject(script: &mut Script, headers: &mut HeaderMap, fault: &Fault, dialect: Dialect) {
    match fault {
        Fault::Reset { after_bytes: Some(n) } => {
            cut_bytes(script, *n);
            script.end = End::Reset;
            unsize(script, headers);
        }
        Fault::HangAfterEvents(n) => cut(script, headers, *n, End::Hang),
        Fault::TruncateAfterEvents(n) => cut(script, headers, *n, End::Truncated),
        Fault::EndAfterEvents(n) => cut(script, headers, *n, End::Clean),
        Fault::ErrorEventFirst => error_event(script, headers, 0, dialect),
        Fault::ErrorEventAfter(n) => error_event(script, headers, *n, dialect),
        Fault::InvalidJson => invalid_json(script),
        Fault::Html200 => html(script, headers),
        Fault::NoDone => script.steps.retain(|step| step.role != Role::Terminal),
        Fault::DoubleDone => repeat(script, Role::Terminal),
        Fault::DataAfterDone => repeat(script, Role::Content),
        Fault::HugeEvent(bytes) => huge_event(script, *bytes),
        Fault::SlowBytes { every } => slow(script, *every),
        Fault::ContentLengthShort(n) => short_length(script, headers, *n),
        Fault::ContentLengthLong(n) => long_length(script, headers, *n),
        Fault::GzipDespiteIdentity => gzip(script, headers),
        // These act before there is a body.
        Fault::Status { .. }
        | Fault::Reset { after_bytes: None }
        | Fault::HangBeforeHead
        | Fault::Delay(_)
        | Fault::UsageMissing
        | Fault::UsageNegative
        | Fault::UsageHuge => {}
    }
}

/// A unary body that is cut keeps the length it announced, which is how a cut is noticed.
fn unsize(script: &mut Script, headers: &mut HeaderMap) {
    if std::mem::replace(&mut script.sized, false) && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(1_048_576u32));
    }
}

fn cut(script: &mut Script, headers: &mut HeaderMap, events: usize, end: End) {
    if script.sized && end != End::Clean {
        let length = script.concat().len() as u64;
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        script.sized = false;
        if events > 0 {
            // The one event of a unary answer is its first half, so that the cut is inside.
            cut_bytes(script, usize::try_from(length / 2).unwrap_or(0));
            script.end = end;
            return;
        }
    }
    script.steps.truncate(events);
    script.end = end;
}

fn cut_bytes(script: &mut Script, mut left: usize) {
    for step in &mut script.steps {
        step.bytes.truncate(left);
        left -= step.bytes.len();
    }
    script.steps.retain(|step| !step.bytes.is_empty());
}

fn error_event(script: &mut Script, headers: &mut HeaderMap, events: usize, dialect: Dialect) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    script.sized = false;
    script.steps.truncate(events);
    let event = Step::now(Role::Terminal, dialect.error_event());
    script.steps.push_back(event);
}

fn invalid_json(script: &mut Script) {
    if script.sized {
        let length = script.concat().len();
        cut_bytes(script, length / 2);
        return;
    }
    if let Some(step) = script.steps.iter_mut().find(|step| step.role == Role::Content) {
        step.bytes = Bytes::from_static(b"data: {\"choices\":[{\"delta\":\n\n");
    }
}

fn html(script: &mut Script, headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    *script = Script::unary("<!doctype html><title>Welcome</title><p>Please sign in to continue.");
}

/// Plays the last step of `role` once more at the very end.
fn repeat(script: &mut Script, role: Role) {
    let last = script.steps.iter().rev().find(|step| step.role == role);
    if let Some(step) = last.cloned() {
        script.steps.push_back(Step::now(role, step.bytes));
    }
}

fn huge_event(script: &mut Script, bytes: usize) {
    let mut event = b"data: {\"filler\":\"".to_vec();
    event.resize(event.len() + bytes, b'x');
    event.extend_from_slice(b"\"}\n\n");
    let place = script.steps.iter().position(|step| step.role == Role::Content);
    script.steps.insert(place.unwrap_or(0), Step::now(Role::Content, event));
}

fn slow(script: &mut Script, every: Duration) {
    let mut steps = VecDeque::new();
    for mut step in script.steps.drain(..) {
        while !step.bytes.is_empty() {
            let after = step.after.max(every);
            step.after = Duration::ZERO;
            let (role, bytes) = (step.role, step.bytes.split_to(1));
            steps.push_back(Step { after, bytes, role });
        }
    }
    script.steps = steps;
}

fn short_length(script: &mut Script, headers: &mut HeaderMap, fewer: usize) {
    let mut all = script.concat();
    let announced = all.len().saturating_sub(fewer);
    let trailing = all.split_off(announced);
    replace(script, all);
    script.trailing = trailing;
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(announced));
}

fn long_length(script: &mut Script, headers: &mut HeaderMap, more: usize) {
    let all = script.concat();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(all.len().saturating_add(more)));
    replace(script, all);
    script.end = End::Truncated;
}

fn gzip(script: &mut Script, headers: &mut HeaderMap) {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory cannot fail; if it did, the body would stay as it was.
    let packed = encoder.write_all(&script.concat()).and_then(|()| encoder.finish());
    if let Ok(packed) = packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        replace(script, packed.into());
    }
}

/// Puts one piece in the place of all steps, keeping the first delay.
fn replace(script: &mut Script, bytes: Bytes) {
    let after = script.steps.front().map_or(Duration::ZERO, |step| step.after);
    let role = Role::Content;
    script.steps = VecDeque::from([Step { after, bytes, role }]);
    // The length in the header is now the fault's own.
    script.sized = false;
}

/// Cuts the stream into frames the way the settings ask.
pub(crate) fn frame(script: &mut Script, framing: Framing) {
    match framing {
        Framing::Event => {}
        Framing::Burst => {
            let wait = script.steps.iter().find(|step| step.role == Role::Content);
            let after = wait.map_or(Duration::ZERO, |step| step.after);
            let bytes = script.concat();
            script.steps = VecDeque::from([Step { after, bytes, role: Role::Content }]);
        }
        Framing::Bytes(size) => {
            let mut steps = VecDeque::new();
            for mut step in script.steps.drain(..) {
                while !step.bytes.is_empty() {
                    let bytes = step.bytes.split_to(size.max(1).min(step.bytes.len()));
                    let after = std::mem::take(&mut step.after);
                    steps.push_back(Step { after, bytes, role: step.role });
                }
            }
            script.steps = steps;
        }
    }
}
