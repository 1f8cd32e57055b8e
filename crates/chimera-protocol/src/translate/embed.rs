//! Embeddings between OpenAI and Gemini: one text or many, dimensions, numbers or base64.

use bytes::BytesMut;

use super::{
    base64,
    pick::{self, Picked},
    refuse::{Dropped, Refused},
    text::Text,
    write::Writer,
};
use crate::{
    DialectId, FoldError,
    json::{Document, Kind, Value},
    usage::Usage,
};

/// What became of a request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedTranslated {
    /// Members that were left out because they cannot change the answer.
    pub dropped: Dropped,
    /// Whether the caller sent a list: Gemini has another verb, and another answer, for one.
    pub is_batch: bool,
    /// Whether the caller wants its numbers in base64.
    pub base64: bool,
}

#[derive(Default)]
struct Request<'a> {
    texts: Vec<Text<'a>>,
    is_batch: bool,
    dimensions: Option<&'a str>,
    base64: bool,
}

/// Translates a request for embeddings.
pub fn embed_request(
    document: &Document<'_>,
    from: DialectId,
    to: DialectId,
    model: &str,
    out: &mut BytesMut,
) -> Result<EmbedTranslated, Refused> {
    let mut dropped = Dropped::default();
    let request = match from {
        DialectId::OpenAi => read_openai(document.root(), &mut dropped)?,
        DialectId::Gemini => read_gemini(document.root())?,
        _ => return Err(Refused::here("this dialect has no embeddings").inside("model")),
    };
    match to {
        DialectId::OpenAi => write_openai(&request, model, out),
        DialectId::Gemini => write_gemini(&request, model, out),
        _ => return Err(Refused::here("this model's provider has no embeddings").inside("model")),
    }
    Ok(EmbedTranslated { dropped, is_batch: request.is_batch, base64: request.base64 })
}

fn read_openai<'a>(root: Value<'a>, dropped: &mut Dropped) -> Picked<Request<'a>> {
    let mut request = Request::default();
    pick::members(root, |name, value| {
        match name {
            "model" | "cache" => {}
            "input" => match Text::of(value) {
                Some(text) => request.texts.push(text),
                None => {
                    request.is_batch = true;
                    pick::elements(value, |_, text| {
                        let tokens = || Refused::here("only texts can be sent to this model's provider");
                        request.texts.push(Text::of(text).ok_or_else(tokens)?);
                        Ok(())
                    })?;
                }
            },
            "dimensions" => request.dimensions = Some(pick::number(value)?),
            "encoding_format" => match &*pick::word(value)? {
                "float" => {}
                "base64" => request.base64 = true,
                _ => return Err(Refused::here("it must be float or base64")),
            },
            "user" => dropped.add("user"),
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    Ok(request)
}

fn read_gemini(root: Value<'_>) -> Picked<Request<'_>> {
    let mut request = Request::default();
    let Some(requests) = root.get("requests") else {
        one_of_gemini(root, &mut request)?;
        return Ok(request);
    };
    pick::only(root, &["requests", "model", "cache"])?;
    request.is_batch = true;
    pick::elements(requests, |_, one| one_of_gemini(one, &mut request))
        .map_err(|refused| refused.inside("requests"))?;
    Ok(request)
}

fn one_of_gemini<'a>(root: Value<'a>, request: &mut Request<'a>) -> Picked<()> {
    let mut dimensions = None;
    pick::members(root, |name, value| {
        match &*super::gemini::request_in::camel(name) {
            "model" | "cache" => {}
            "content" => request.texts.push(text_of(value)?),
            "outputDimensionality" => dimensions = Some(pick::number(value)?),
            "taskType" if value.is("TASK_TYPE_UNSPECIFIED") => {}
            _ => return Err(Refused::unknown()),
        }
        Ok(())
    })?;
    if request.texts.len() > 1 && request.dimensions != dimensions {
        return Err(Refused::here("it must be the same in every request").inside("outputDimensionality"));
    }
    request.dimensions = dimensions;
    Ok(())
}

/// The text of a content; its parts are one text.
fn text_of(content: Value<'_>) -> Picked<Text<'_>> {
    let parts = pick::required(content, "parts")?;
    let mut texts = Vec::new();
    pick::elements(parts, |_, part| {
        pick::only(part, &["text"])?;
        texts.push(pick::text_in(part, "text")?);
        Ok(())
    })
    .map_err(|refused| refused.inside("parts"))?;
    match texts.as_slice() {
        [one] => Ok(one.clone()),
        many => Ok(many.iter().map(|text| text.plain().into_owned()).collect::<String>().into()),
    }
}

fn write_openai(request: &Request<'_>, model: &str, out: &mut BytesMut) {
    let mut writer = Writer::new(out);
    writer.object().word("model", model).key("input");
    match (request.texts.as_slice(), request.is_batch) {
        ([text], false) => _ = writer.text(text),
        (texts, _) => {
            writer.array();
            for text in texts {
                writer.item().text(text);
            }
            writer.end_array();
        }
    }
    writer.maybe_raw("dimensions", request.dimensions).word("encoding_format", "float").end_object();
}

fn write_gemini(request: &Request<'_>, model: &str, out: &mut BytesMut) {
    let model = format!("models/{model}");
    let one = |text: &Text<'_>, writer: &mut Writer<'_>| {
        writer.object().word("model", &model).key("content").object().key("parts").array();
        writer.item().object().key("text").text(text).end_object().end_array().end_object();
        writer.maybe_raw("outputDimensionality", request.dimensions).end_object();
    };
    let mut writer = Writer::new(out);
    match (request.texts.as_slice(), request.is_batch) {
        ([text], false) => one(text, &mut writer),
        (texts, _) => {
            writer.object().key("requests").array();
            for text in texts {
                one(text, writer.item());
            }
            writer.end_array().end_object();
        }
    }
}

/// Translates an answer with embeddings.
pub fn embed_answer(
    body: &[u8],
    from: DialectId,
    to: DialectId,
    model: &str,
    asked: &EmbedTranslated,
    out: &mut BytesMut,
) -> Result<(), FoldError> {
    let document = Document::parse(body).map_err(|_| FoldError::NotJson)?;
    let root = document.root();
    if root.get("error").is_some_and(|error| !error.is_null()) {
        return Err(FoldError::Error);
    }
    let (vectors, usage) = match from {
        DialectId::OpenAi => (vectors_of_openai(root)?, root.get("usage")),
        _ => (vectors_of_gemini(root)?, root.get("usageMetadata")),
    };
    let usage = usage.and_then(|usage| super::usage_in(usage, from));
    let mut writer = Writer::new(out);
    match to {
        DialectId::Anthropic => return Err(FoldError::Shape("a dialect that has embeddings")),
        DialectId::OpenAi => answer_openai(&vectors, usage, model, asked.base64, &mut writer),
        _ => answer_gemini(&vectors, asked.is_batch, &mut writer)?,
    }
    Ok(())
}

fn vectors_of_openai(root: Value<'_>) -> Result<Vec<Value<'_>>, FoldError> {
    let mut vectors = Vec::new();
    for (at, one) in root.get("data").ok_or(FoldError::Shape("data"))?.elements().enumerate() {
        let vector = one.get("embedding").filter(|vector| vector.kind() == Kind::Array);
        let index = one.get("index").and_then(|index| index.raw().parse().ok()).unwrap_or(at as u64);
        vectors.push((index, vector.ok_or(FoldError::Shape("embeddings in numbers"))?));
    }
    vectors.sort_by_key(|(index, _)| *index);
    Ok(vectors.into_iter().map(|(_, vector)| vector).collect())
}

fn vectors_of_gemini(root: Value<'_>) -> Result<Vec<Value<'_>>, FoldError> {
    let one = root.get("embedding").into_iter();
    let all = one.chain(root.get("embeddings").into_iter().flat_map(Value::elements));
    let values = all.map(|one| one.get("values").filter(|values| values.kind() == Kind::Array));
    let vectors: Option<Vec<_>> = values.collect();
    vectors.filter(|vectors| !vectors.is_empty()).ok_or(FoldError::Shape("embeddings"))
}

fn answer_openai(
    vectors: &[Value<'_>],
    usage: Option<Usage>,
    model: &str,
    as_base64: bool,
    writer: &mut Writer<'_>,
) {
    writer.object().word("object", "list").key("data").array();
    for (index, vector) in vectors.iter().enumerate() {
        writer.item().object().word("object", "embedding").key("index").number(index as u64);
        writer.key("embedding");
        if as_base64 {
            writer.string(&base64::encode(&floats(*vector)));
        } else {
            writer.raw(vector.raw());
        }
        writer.end_object();
    }
    // OpenAI's SDKs want the member; Gemini does not always tell.
    let tokens = usage.and_then(|usage| usage.input_tokens).unwrap_or(0);
    writer.end_array().word("model", model).key("usage").object();
    writer.key("prompt_tokens").number(tokens).key("total_tokens").number(tokens).end_object().end_object();
}

/// The numbers as OpenAI packs them: 32 bits each, the low byte first.
fn floats(vector: Value<'_>) -> Vec<u8> {
    vector.elements().flat_map(|number| number.raw().parse::<f32>().unwrap_or(0.0).to_le_bytes()).collect()
}

fn answer_gemini(vectors: &[Value<'_>], is_batch: bool, writer: &mut Writer<'_>) -> Result<(), FoldError> {
    let one = |vector: &Value<'_>, writer: &mut Writer<'_>| {
        writer.object().key("values").raw(vector.raw()).end_object();
    };
    writer.object();
    match (vectors, is_batch) {
        ([vector], false) => one(vector, writer.key("embedding")),
        (_, false) => return Err(FoldError::Shape("one embedding")),
        (vectors, true) => {
            writer.key("embeddings").array();
            for vector in vectors {
                one(vector, writer.item());
            }
            writer.end_array();
        }
    }
    writer.end_object();
    Ok(())
}
