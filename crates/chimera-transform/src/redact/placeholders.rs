//! Placeholders of one request, and the way back from them.

use std::collections::{BTreeMap, HashMap};

use memchr::{memchr, memmem, memrchr};

use super::kind::Kind;
use crate::{
    prompt::quoted,
    transform::StepError,
    way_back::{Channel, Form, Undo},
};

/// Placeholders under the making: each value of a kind has one.
pub(super) struct Placeholders {
    nonce: String,
    numbers: HashMap<(Kind, String), String>,
    counts: HashMap<Kind, usize>,
    values: BTreeMap<String, String>,
}

/// Sixty bits that nobody can guess, in letters that are written one way.
pub(super) fn nonce(hash: &blake3::Hash) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 32)).copied().map_or('x', char::from);
    hash.as_bytes().iter().take(12).map(letter).collect()
}

impl Placeholders {
    pub(super) fn new(nonce: String) -> Self {
        Self { nonce, numbers: HashMap::new(), counts: HashMap::new(), values: BTreeMap::new() }
    }

    /// The placeholder of a value: the same one each time.
    pub(super) fn of(&mut self, kind: Kind, label: &str, value: &str) -> &str {
        let Self { nonce, numbers, counts, values } = self;
        numbers.entry((kind, value.to_owned())).or_insert_with(|| {
            let count = counts.entry(kind).or_insert(0);
            *count += 1;
            let placeholder = format!("[{label}_{count}_{nonce}]");
            values.insert(placeholder.clone(), value.to_owned());
            placeholder
        })
    }

    /// The way back; `None` when there is nothing to bring back.
    pub(super) fn undo(self) -> Option<Restore> {
        (!self.values.is_empty()).then(|| Restore {
            nonce: self.nonce,
            table: std::sync::Arc::new(Table { sorted: self.values.into_iter().collect() }),
        })
    }
}

/// Placeholders in alphabetical order, each with its value.
struct Table {
    sorted: Vec<(String, String)>,
}

impl Table {
    fn value(&self, placeholder: &str) -> Option<&str> {
        let at = self.sorted.binary_search_by(|(known, _)| known.as_str().cmp(placeholder)).ok()?;
        self.sorted.get(at).map(|(_, value)| value.as_str())
    }

    /// Whether a text may become a placeholder when more of it comes.
    fn begins(&self, text: &str) -> bool {
        let at = self.sorted.partition_point(|(known, _)| known.as_str() < text);
        self.sorted.get(at).is_some_and(|(known, _)| known.starts_with(text))
    }

    /// Writes a text with its placeholders replaced; says whether there were any.
    fn write(&self, text: &str, form: Form, out: &mut String) -> bool {
        let (mut rest, mut any) = (text, false);
        while let Some(open) = memchr(b'[', rest.as_bytes()) {
            let (before, from) = rest.split_at(open);
            out.push_str(before);
            let close = memchr(b']', from.as_bytes()).map_or(from.len(), |close| close + 1);
            let whole = from.get(..close).unwrap_or_default();
            match self.value(whole) {
                Some(value) => {
                    write(value, form, out);
                    any = true;
                    rest = from.get(close..).unwrap_or_default();
                }
                None => {
                    out.push('[');
                    rest = from.get(1..).unwrap_or_default();
                }
            }
        }
        out.push_str(rest);
        any
    }
}

fn write(value: &str, form: Form, out: &mut String) {
    match form {
        Form::Text | Form::Answer => out.push_str(value),
        Form::Embedded => {
            let quoted = quoted(value);
            out.push_str(quoted.get(1..quoted.len() - 1).unwrap_or_default());
        }
    }
}

/// Brings the values of one request back into its answer.
pub(super) struct Restore {
    nonce: String,
    table: std::sync::Arc<Table>,
}

impl Undo for Restore {
    fn concerns(&self, text: &str) -> bool {
        memmem::find(text.as_bytes(), self.nonce.as_bytes()).is_some()
    }

    fn whole(&self, text: &str, form: Form) -> Result<Option<String>, StepError> {
        if !self.concerns(text) {
            return Ok(None);
        }
        let mut out = String::with_capacity(text.len());
        Ok(self.table.write(text, form, &mut out).then_some(out))
    }

    fn channel(&self, form: Form) -> Box<dyn Channel> {
        Box::new(Restoring { table: self.table.clone(), form, held: String::new() })
    }
}

/// One text of a stream: what may be the beginning of a placeholder is held back, and nothing else.
struct Restoring {
    table: std::sync::Arc<Table>,
    form: Form,
    held: String,
}

impl Channel for Restoring {
    fn push(&mut self, chunk: &str, out: &mut String) -> Result<(), StepError> {
        if self.held.is_empty() && memchr(b'[', chunk.as_bytes()).is_none() {
            out.push_str(chunk);
            return Ok(());
        }
        self.held.push_str(chunk);
        // A placeholder has one bracket of each kind: only the last `[` can be open.
        let keep = memrchr(b'[', self.held.as_bytes()).filter(|open| {
            let tail = self.held.get(*open..).unwrap_or_default();
            !tail.contains(']') && self.table.begins(tail)
        });
        let keep = keep.unwrap_or(self.held.len());
        let tail = self.held.split_off(keep);
        self.table.write(&self.held, self.form, out);
        self.held = tail;
        Ok(())
    }

    fn end(&mut self, out: &mut String) -> Result<(), StepError> {
        out.push_str(&std::mem::take(&mut self.held));
        Ok(())
    }
}
