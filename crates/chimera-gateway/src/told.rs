//! A cached answer in the words of callers of other dialects, kept with it once they were found.
//!
//! An answer that is asked for in another dialect is likely to be asked for so again: to find the words
//! takes several times as long as to hand out bytes that lie ready. How much of them is kept is bounded
//! by the answer itself, so that an entry with every form still fits where it lies.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::{
    aside::{LARGE_ANSWER, aside},
    compress::Encoding,
    entry::Entry,
    failure::{Code, Failure},
    translate::{Foreign, Telling},
};

/// What is kept beyond the length of the answer that came: small answers may be told to everybody.
const ROOM: usize = 16 * 1024;

/// The forms that are kept. `None` is an encoding in which the answer does not get smaller.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<(Telling, Option<Bytes>)>>);

impl Told {
    fn forms(&self) -> MutexGuard<'_, Vec<(Telling, Option<Bytes>)>> {
        // Nothing panics while it is held but for want of memory.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, telling: Telling) -> Option<Option<Bytes>> {
        self.forms().iter().find(|(known, _)| *known == telling).map(|(_, form)| form.clone())
    }

    /// Keeps a form if there is room; says whether it was.
    fn put(&self, telling: Telling, form: Option<Bytes>, most: usize) -> bool {
        let mut forms = self.forms();
        let length = |form: &Option<Bytes>| form.as_ref().map_or(0, Bytes::len);
        let kept: usize = forms.iter().map(|(_, form)| length(form)).sum();
        let known = forms.iter().any(|(known, _)| *known == telling);
        let keeps = !known && kept.saturating_add(length(&form)) <= most;
        if keeps {
            forms.push((telling, form));
        }
        keeps
    }

    /// Bytes that it holds; `each` is what a form costs beside its own.
    pub(crate) fn bytes(&self, each: usize) -> usize {
        let forms = self.forms();
        let own: usize = forms.iter().flat_map(|(_, form)| form).map(|form| form.len() + each).sum();
        own + forms.capacity() * size_of::<(Telling, Option<Bytes>)>()
    }
}

impl Entry {
    /// The answer in the words of a caller of another dialect. `id` names an answer that has no name.
    pub(crate) async fn tell(self: &Arc<Self>, foreign: &Arc<Foreign>, id: &str) -> Result<Bytes, Failure> {
        if let Some(Some(kept)) = self.told().get(foreign.telling(None)) {
            return Ok(kept);
        }
        if self.origin().len() <= LARGE_ANSWER {
            return self.translated(foreign, id);
        }
        let (entry, foreign, id) = (self.clone(), foreign.clone(), id.to_owned());
        aside(move || entry.translated(&foreign, &id)).await?
    }

    /// The same in an encoding, of the plain form; `None` when it does not get smaller.
    pub(crate) async fn tell_encoded(
        self: &Arc<Self>,
        foreign: &Arc<Foreign>,
        plain: &Bytes,
        encoding: Encoding,
    ) -> Option<Bytes> {
        let telling = foreign.telling(Some(encoding));
        if let Some(kept) = self.told().get(telling) {
            return kept;
        }
        if plain.len() <= LARGE_ANSWER {
            return self.encoded_as(telling, plain, encoding);
        }
        let (entry, plain) = (self.clone(), plain.clone());
        aside(move || entry.encoded_as(telling, &plain, encoding)).await.ok()?
    }

    fn translated(&self, foreign: &Foreign, id: &str) -> Result<Bytes, Failure> {
        let body = self.body(foreign.provider_form());
        let body = body.ok_or_else(|| {
            Failure::new(
                Code::UpstreamInvalidResponse,
                "the provider's answer has not the form that was asked for",
            )
        })?;
        // A copy: what was written has room to spare, which would be held as long as the entry.
        let told = Bytes::copy_from_slice(&foreign.told(body, id)?);
        self.keep_told(foreign.telling(None), Some(told.clone()));
        Ok(told)
    }

    fn encoded_as(&self, telling: Telling, plain: &Bytes, encoding: Encoding) -> Option<Bytes> {
        let encoded = encoding.encode(plain).ok().filter(|encoded| encoded.len() < plain.len());
        let encoded = encoded.map(|encoded| Bytes::from(encoded.into_boxed_slice()));
        self.keep_told(telling, encoded.clone());
        encoded
    }

    fn keep_told(&self, telling: Telling, form: Option<Bytes>) {
        if self.told().put(telling, form, self.origin().len().saturating_add(ROOM)) {
            self.grows();
        }
    }
}

#[cfg(test)]
mod tests {
    use chimera_protocol::{DialectId, Operation, json::Document};
    use http::HeaderValue;

    use super::*;
    use crate::{
        entry::{Form, weigh},
        translate::Asked,
        upstream::Framing,
    };

    const FRAMINGS: [Framing; 3] = [Framing::Unary, Framing::Events, Framing::Array];

    fn foreign(caller: DialectId, framing: Framing) -> Arc<Foreign> {
        let question = match caller {
            DialectId::Anthropic => {
                r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":9}"#
            }
            DialectId::Gemini => r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#,
            _ => r#"{"model":"m","input":"hi"}"#,
        };
        let document = Document::parse(question.as_bytes()).unwrap();
        let form = Form { framing, include_usage: true };
        let asked = Asked { caller, operation: Operation::Chat, form };
        Arc::new(Foreign::of(&document, asked, DialectId::OpenAi, "m").unwrap())
    }

    fn entry(length: usize) -> Arc<Entry> {
        let answer = serde_json::json!({
            "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{ "index": 0, "message": { "role": "assistant", "content": "w".repeat(length) }, "finish_reason": "stop" }],
            "usage": { "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 },
        });
        let name = HeaderValue::from_static("p");
        Entry::unary(DialectId::OpenAi, "".into(), answer.to_string().into(), name.clone(), name)
    }

    #[tokio::test]
    async fn m01_what_is_kept_in_other_dialects_is_weighed_and_bounded() {
        for length in [0, 2_000, 100_000] {
            let entry = entry(length);
            // The forms of its own dialect that the others are made of.
            for framing in FRAMINGS {
                entry.body(Form { framing, include_usage: true });
            }
            let own = weigh(&entry);
            assert!(entry.has_grown());
            let mut all = 0;
            for caller in [DialectId::Anthropic, DialectId::Gemini, DialectId::Responses] {
                for framing in FRAMINGS {
                    let foreign = foreign(caller, framing);
                    let told = entry.tell(&foreign, "id").await.unwrap();
                    assert_eq!(entry.tell(&foreign, "id").await.unwrap().len(), told.len());
                    all += told.len();
                    for encoding in Encoding::ALL {
                        let encoded = entry.tell_encoded(&foreign, &told, encoding).await;
                        assert!(encoded.is_none_or(|encoded| encoded.len() < told.len()));
                    }
                }
            }
            let more = weigh(&entry) - own;
            let most = entry.origin().len() + ROOM + 8192;
            assert!(entry.has_grown() && more < most, "{length}: {more}");
            assert!(length > 0 || more > all, "small answers are kept for everybody: {more} of {all}");
        }
    }

    #[tokio::test]
    async fn what_is_kept_is_handed_out_as_it_was_made() {
        let (entry, foreign) = (entry(100), foreign(DialectId::Anthropic, Framing::Unary));
        let first = entry.tell(&foreign, "one").await.unwrap();
        let second = entry.tell(&foreign, "two").await.unwrap();
        assert_eq!(first.as_ptr(), second.as_ptr());
    }
}
