//! Counts of tokens between Anthropic and Gemini, which both count on request. OpenAI does not: what is
//! asked of it is written as a request for a generation, for somebody else to count.

use bytes::BytesMut;

use super::{
    RequestContext,
    refuse::{Dropped, Refused},
    write::Writer,
};
use crate::{
    DialectId, FoldError,
    json::{Document, Value},
};

/// What Anthropic's count takes of a request.
const COUNTED: [&str; 7] =
    ["model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"];

/// Translates a request for a count: the request is that of a generation, in another frame, and for
/// OpenAI in none.
pub fn count_request(
    document: &Document<'_>,
    context: &RequestContext<'_>,
    out: &mut BytesMut,
) -> Result<Dropped, Refused> {
    let inner = document.root().get("generateContentRequest").map_or(document.text(), Value::raw);
    let invalid = |_| Refused::here("it is not valid JSON").inside("generateContentRequest");
    let inner = Document::parse(inner.as_bytes()).map_err(invalid)?;
    let mut body = BytesMut::new();
    let translated = super::request(&inner, context, &mut body)?;
    if !matches!(context.to, DialectId::Anthropic | DialectId::Gemini) {
        out.extend_from_slice(&body);
        return Ok(translated.dropped);
    }
    let invalid = |_| Refused::here("it cannot be counted").inside("model");
    let body = Document::parse(&body).map_err(invalid)?;
    let mut writer = Writer::new(out);
    writer.object();
    if context.to == DialectId::Gemini {
        writer.key("generateContentRequest").object();
        writer.word("model", &format!("models/{}", context.model));
    }
    for (key, value) in body.root().members() {
        let name = key.spelled().unwrap_or_default();
        if context.to == DialectId::Gemini || COUNTED.contains(&name) {
            writer.key(name).raw(value.raw());
        }
    }
    if context.to == DialectId::Gemini {
        writer.end_object();
    }
    writer.end_object();
    Ok(translated.dropped)
}

/// Translates a count.
pub fn count_answer(body: &[u8], to: DialectId, out: &mut BytesMut) -> Result<(), FoldError> {
    let document = Document::parse(body).map_err(|_| FoldError::NotJson)?;
    let root = document.root();
    let count = root.get("input_tokens").or_else(|| root.get("totalTokens"));
    let count = count.and_then(|count| count.raw().parse().ok()).ok_or(FoldError::Shape("a count"))?;
    let name = if to == DialectId::Gemini { "totalTokens" } else { "input_tokens" };
    Writer::new(out).object().key(name).number(count).end_object();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(body: &str, from: DialectId, to: DialectId, model: &str) -> Result<String, String> {
        let document = Document::parse(body.as_bytes()).unwrap();
        let mut out = BytesMut::new();
        let context = RequestContext { from, to, model, stream: false };
        count_request(&document, &context, &mut out).map_err(|refused| refused.param)?;
        Ok(String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_count_is_asked_for_in_the_other_frame() {
        use DialectId::{Anthropic, Gemini, OpenAi};
        let anthropic = r#"{"model":"m","system":"s","messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(
            counted(anthropic, Anthropic, Gemini, "gemini-x").unwrap(),
            r#"{"generateContentRequest":{"model":"models/gemini-x","systemInstruction":{"parts":[{"text":"s"}]},"contents":[{"role":"user","parts":[{"text":"hi"}]}]}}"#
        );
        let wanted = r#"{"model":"claude-x","messages":[{"role":"user","content":"hi"}]}"#;
        let plain = r#"{"contents":[{"parts":[{"text":"hi"}]}]}"#;
        assert_eq!(counted(plain, Gemini, Anthropic, "claude-x").unwrap(), wanted);
        let framed = r#"{"generateContentRequest":{"model":"models/m","contents":[{"parts":[{"text":"hi"}]}],"generationConfig":{"temperature":0.5}}}"#;
        assert_eq!(counted(framed, Gemini, Anthropic, "claude-x").unwrap(), wanted);
        assert_eq!(counted(plain, Gemini, OpenAi, "gpt-x").unwrap(), wanted.replace("claude", "gpt"));
        for (body, to, wanted) in [
            (r#"{"input_tokens":7}"#, Gemini, r#"{"totalTokens":7}"#),
            (r#"{"totalTokens":9,"promptTokensDetails":[]}"#, Anthropic, r#"{"input_tokens":9}"#),
        ] {
            let mut out = BytesMut::new();
            count_answer(body.as_bytes(), to, &mut out).unwrap();
            assert_eq!(&out[..], wanted.as_bytes());
        }
        assert!(count_answer(b"{}", Gemini, &mut BytesMut::new()).is_err());
    }
}
