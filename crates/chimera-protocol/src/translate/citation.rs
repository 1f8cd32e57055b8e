//! Pages that an answer refers to, in each dialect's words.
//!
//! OpenAI tells which characters of the answer refer to a page; Gemini counts bytes and Anthropic cites
//! block by block. A place that cannot be told exactly is not told: OpenAI's callers, who always get one,
//! get `0` to `0`. What Anthropic's callers get has no `encrypted_index` and quotes nothing: such a
//! citation is for showing, and is left out, by name, when it is sent back.

use super::{text::Text, write::Writer};
use crate::json::Value;

/// A page that an answer refers to.
#[derive(Debug, Clone)]
pub(crate) struct Citation<'a> {
    url: Text<'a>,
    title: Option<Text<'a>>,
    /// Which of the answer's characters refer to it, as their numbers are spelled.
    span: Option<(Text<'a>, Text<'a>)>,
}

impl<'a> Citation<'a> {
    /// One of OpenAI's annotations. Files that only OpenAI holds are none.
    pub(crate) fn of_openai(value: Value<'a>) -> Option<Self> {
        let cited =
            value.get("url_citation").filter(|_| value.get("type").is_some_and(|t| t.is("url_citation")))?;
        let place = |name| cited.get(name).filter(|place| place.raw().parse::<u64>().is_ok()).map(Value::raw);
        let span = place("start_index").zip(place("end_index"));
        Self::read(cited, "url", span.map(|(start, end)| (start.into(), end.into())))
    }

    /// One of Anthropic's that names a page.
    pub(crate) fn of_anthropic(value: Value<'a>) -> Option<Self> {
        Self::read(value, "url", None)
    }

    /// One of Gemini's sources.
    pub(crate) fn of_gemini(value: Value<'a>) -> Option<Self> {
        Self::read(value, "uri", None)
    }

    fn read(value: Value<'a>, url: &str, span: Option<(Text<'a>, Text<'a>)>) -> Option<Self> {
        let text = |name| value.get(name).and_then(Text::of).filter(|text| !text.is_empty());
        Some(Self { url: text(url)?, title: text("title"), span })
    }

    /// A copy that outlives the document.
    pub(crate) fn to_owned(&self) -> Citation<'static> {
        Citation {
            url: self.url.to_owned(),
            title: self.title.as_ref().map(Text::to_owned),
            span: self.span.as_ref().map(|(start, end)| (start.to_owned(), end.to_owned())),
        }
    }

    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.url.len() + self.title.as_ref().map_or(0, Text::len)
    }

    /// Writes it as an annotation of a chat completion.
    pub(crate) fn openai(&self, writer: &mut Writer<'_>) {
        writer.object().word("type", "url_citation").key("url_citation").object();
        self.members(writer);
        writer.end_object().end_object();
    }

    /// Writes it as an annotation of a response.
    pub(crate) fn responses(&self, writer: &mut Writer<'_>) {
        writer.object().word("type", "url_citation");
        self.members(writer);
        writer.end_object();
    }

    fn members(&self, writer: &mut Writer<'_>) {
        let (start, end) = match &self.span {
            Some((start, end)) => (start.plain(), end.plain()),
            None => ("0".into(), "0".into()),
        };
        writer.key("start_index").raw(&start).key("end_index").raw(&end);
        writer.key("url").text(&self.url).key("title").text(self.title.as_ref().unwrap_or(&self.url));
    }

    /// Writes it as a citation of a block.
    pub(crate) fn anthropic(&self, writer: &mut Writer<'_>) {
        writer.object().word("type", "web_search_result_location").word("cited_text", "");
        writer.key("url").text(&self.url).key("title");
        match &self.title {
            Some(title) => writer.text(title),
            None => writer.raw("null"),
        };
        writer.word("encrypted_index", "").end_object();
    }

    /// Writes it as a source.
    pub(crate) fn gemini(&self, writer: &mut Writer<'_>) {
        writer.object().key("uri").text(&self.url);
        if let Some(title) = &self.title {
            writer.key("title").text(title);
        }
        writer.end_object();
    }
}
