//! Answers in a dialect on their way back: whole bodies, and events of a stream.
//!
//! A text of a stream comes in many events. What its channel holds back of one is let go in the next of
//! the same text, or, where the text ends first, in a copy of the last event that carried it: so a
//! placeholder that was cut comes back whole, and the event that ends the stream stays the last.

mod carrier;
mod deltas;
mod numbers;

use std::{borrow::Cow, collections::BTreeMap, ops::Range, sync::Arc};

use chimera_protocol::{
    DialectId,
    json::{Document, Kind, Value},
    sse,
};

use crate::{
    prompt::{quoted, splice},
    transform::StepError,
    way_back::{Channels, Form, WayBack},
};
use carrier::Carrier;
use deltas::{Closing, Delta, Key};
use numbers::Numbers;

type Edits = Vec<(Range<usize>, String)>;

impl WayBack {
    /// A whole answer in any dialect; `None` when it stays as it is, and when it is not JSON.
    pub fn body(&self, body: &[u8]) -> Result<Option<Vec<u8>>, StepError> {
        if self.is_empty() {
            return Ok(None);
        }
        let Ok(document) = Document::parse(body) else { return Ok(None) };
        let mut edits = Edits::new();
        self.strings(document.root(), Form::Text, &[], &mut edits)?;
        Ok((!edits.is_empty()).then(|| splice(document.text(), edits).into_bytes()))
    }

    /// What is to change in the strings of a value, some places left out.
    fn strings(
        &self,
        value: Value<'_>,
        form: Form,
        except: &[Range<usize>],
        edits: &mut Edits,
    ) -> Result<(), StepError> {
        match value.kind() {
            Kind::String if !except.contains(&value.range()) => {
                let text = value.as_str().unwrap_or_default();
                if self.concerns(&text)
                    && let Some(changed) = self.whole(&text, form)?
                {
                    edits.push((value.range(), quoted(&changed)));
                }
                Ok(())
            }
            Kind::Array => {
                value.elements().try_for_each(|element| self.strings(element, form, except, edits))
            }
            Kind::Object => value.members().try_for_each(|(key, member)| {
                // A vendor signs these: they come back with the next request, and must be what they were.
                if key.is("thinking") || key.is("signature") {
                    return Ok(());
                }
                self.strings(member, form_of(value, key), except, edits)
            }),
            _ => Ok(()),
        }
    }
}

/// What a model says to its caller in an answer of any dialect: its texts, not its thoughts, nor what it
/// asks of tools.
pub fn answer_texts(body: &[u8]) -> Vec<String> {
    fn find(value: Value<'_>, form: Form, found: &mut Vec<String>) {
        match value.kind() {
            Kind::String if form == Form::Answer => found.extend(value.as_str().map(Cow::into_owned)),
            Kind::Array => value.elements().for_each(|element| find(element, form, found)),
            Kind::Object => {
                value.members().for_each(|(key, member)| find(member, form_of(value, key), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(document) = Document::parse(body) {
        find(document.root(), Form::Text, &mut found);
    }
    found
}

/// The same for the data of one event of a stream.
pub fn event_texts(dialect: DialectId, data: &[u8]) -> Vec<String> {
    let Ok(document) = Document::parse(data) else { return Vec::new() };
    let said = deltas::of(dialect, document.root()).into_iter().filter(|delta| delta.form == Form::Answer);
    said.filter_map(|delta| delta.value.as_str().map(Cow::into_owned)).collect()
}

/// How a member of an answer stands in it, in any dialect.
fn form_of(object: Value<'_>, key: Value<'_>) -> Form {
    let is = |name: &str, text: &str| object.get(name).is_some_and(|member| member.is(text));
    if key.is("arguments") || key.is("partial_json") {
        return Form::Embedded;
    }
    let is_answer = if key.is("text") {
        let said = ["text", "output_text", "response.output_text.done"];
        let of_type = object.get("type").is_none_or(|kind| said.iter().any(|name| kind.is(name)));
        of_type && object.get("thought").and_then(Value::as_bool) != Some(true)
    } else {
        let calls = object.get("tool_calls").is_some_and(|calls| calls.elements().next().is_some());
        key.is("content") && is("role", "assistant") && !calls
    };
    if is_answer { Form::Answer } else { Form::Text }
}

/// A text of a stream that goes on.
struct Open {
    channels: Channels,
    /// What its rest can be sent in, if it ends while something is held.
    carrier: Option<Carrier>,
}

/// The events of one stream on their way back.
pub struct Events {
    way_back: Arc<WayBack>,
    dialect: DialectId,
    open: BTreeMap<Key, Open>,
    numbers: Numbers,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").field("dialect", &self.dialect).field("open", &self.open.len()).finish()
    }
}

impl Events {
    /// The way back of a stream in a dialect.
    pub fn new(way_back: impl Into<Arc<WayBack>>, dialect: DialectId) -> Self {
        Self { way_back: way_back.into(), dialect, open: BTreeMap::new(), numbers: Numbers::default() }
    }

    /// Takes one whole server-sent event, and writes what can be let go: it, changed or not, and before
    /// it the rest of texts that it ends.
    pub fn event(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Result<(), StepError> {
        let event = sse::Event::parse(raw);
        let changed = match event.data {
            // A comment: nothing ends with it.
            None => None,
            Some(ref data) => self.data(event.event, data, &mut |name, before| write(name, before, out))?,
        };
        match changed {
            Some(data) => write(event.event, &data, out),
            None => out.extend_from_slice(raw),
        }
        Ok(())
    }

    /// The same for the data of an event alone. What is to be sent before it is given to `before`;
    /// `None` is returned when the data stays as it is.
    pub fn data(
        &mut self,
        name: Option<&[u8]>,
        data: &[u8],
        before: &mut dyn FnMut(Option<&[u8]>, &str),
    ) -> Result<Option<String>, StepError> {
        let Ok(document) = Document::parse(data) else {
            self.close(&Closing::All, &[], before)?;
            return Ok(None);
        };
        let root = document.root();
        let deltas = deltas::of(self.dialect, root);
        let closing = deltas::closing(self.dialect, root);
        self.numbers.comes(root);
        self.close(&closing, &deltas, before)?;
        let mut edits: Edits = self.numbers.told(root).into_iter().collect();
        for delta in &deltas {
            let text = delta.value.as_str().unwrap_or_default();
            let changed = self.push(name, delta, &text, &closing, document.text())?;
            if changed != text {
                edits.push((delta.value.range(), quoted(&changed)));
            }
        }
        let seen: Vec<_> = deltas.iter().map(|delta| delta.value.range()).collect();
        self.way_back.strings(root, Form::Text, &seen, &mut edits)?;
        Ok((!edits.is_empty()).then(|| splice(document.text(), edits)))
    }

    /// Takes more of one text.
    fn push<'t>(
        &mut self,
        name: Option<&[u8]>,
        delta: &Delta<'_>,
        text: &'t str,
        closing: &Closing,
        data: &str,
    ) -> Result<Cow<'t, str>, StepError> {
        let way_back = &self.way_back;
        let open = self
            .open
            .entry(delta.key)
            .or_insert_with(|| Open { channels: way_back.channel(delta.form), carrier: None });
        let mut changed = open.channels.push(text)?;
        if closing.ends(&delta.key) {
            changed.push_str(&open.channels.end()?);
            self.open.remove(&delta.key);
        } else if changed != text {
            open.carrier = Some(Carrier::new(self.dialect, name, delta, data));
        }
        Ok(if changed == text { Cow::Borrowed(text) } else { Cow::Owned(changed) })
    }

    /// Ends the texts that an event ends and does not go on with.
    fn close(
        &mut self,
        closing: &Closing,
        deltas: &[Delta<'_>],
        before: &mut dyn FnMut(Option<&[u8]>, &str),
    ) -> Result<(), StepError> {
        let goes_on = |key: &Key| deltas.iter().any(|delta| delta.key == *key);
        let ended: Vec<Key> =
            self.open.keys().filter(|key| closing.ends(key) && !goes_on(key)).copied().collect();
        for key in ended {
            let Some(mut open) = self.open.remove(&key) else { continue };
            let rest = open.channels.end()?;
            if let Some(carrier) = open.carrier.filter(|_| !rest.is_empty()) {
                before(carrier.name(), &self.numbers.put_in(carrier.carry(&key, &rest)));
            }
        }
        Ok(())
    }

    /// Ends every text of a stream that ends without an event that says so.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<(), StepError> {
        self.close(&Closing::All, &[], &mut |name, data| write(name, data, out))
    }
}

/// An event as it is sent.
fn write(name: Option<&[u8]>, data: &str, out: &mut Vec<u8>) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name);
        out.push(b'\n');
    }
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(data.as_bytes());
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests;
