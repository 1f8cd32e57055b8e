//! A whole OpenAI answer, written.

use bytes::BytesMut;

use super::finish;
use crate::translate::{
    AnswerContext, carrier,
    text::Text,
    vocabulary::{Call, Choice, Completion, PartKind, TokenLogprob, Vendor},
    write::Writer,
};

/// Writes an answer.
pub(crate) fn write(completion: &Completion<'_>, context: &AnswerContext<'_>, out: &mut BytesMut) {
    let mut writer = Writer::new(out);
    writer.object();
    writer.key("id").text(completion.id.as_ref().unwrap_or(&context.id.into()));
    writer.word("object", "chat.completion").key("created").number(context.created);
    writer.key("model").text(completion.model.as_ref().unwrap_or(&context.model.into()));
    writer.key("choices").array();
    for choice in &completion.choices {
        self::choice(choice, writer.item());
    }
    writer.end_array();
    if let Some(usage) = &completion.usage {
        writer.key("usage");
        finish::usage(usage, &mut writer);
    }
    writer.end_object();
}

fn choice(choice: &Choice<'_>, writer: &mut Writer<'_>) {
    writer.object().key("index").number(choice.index).key("message").object().word("role", "assistant");
    let join = |pick: fn(&PartKind<'_>) -> Option<String>| {
        let texts: Vec<_> = choice.parts.iter().filter_map(|part| pick(&part.kind)).collect();
        (!texts.is_empty()).then(|| texts.concat())
    };
    let texts = join(|kind| match kind {
        PartKind::Text(text, _) if !text.is_empty() => Some(text.plain().into_owned()),
        _ => None,
    });
    match texts {
        Some(text) => _ = writer.word("content", &text),
        None => _ = writer.key("content").raw("null"),
    }
    if !choice.citations.is_empty() {
        writer.key("annotations").array();
        choice.citations.iter().for_each(|citation| citation.openai(writer.item()));
        writer.end_array();
    }
    if let Some(thoughts) = join(|kind| match kind {
        PartKind::Thinking(text, _) if !text.is_empty() => Some(text.plain().into_owned()),
        _ => None,
    }) {
        writer.word("reasoning_content", &thoughts);
    }
    thinking_blocks(choice, writer);
    if let Some(refusal) = join(|kind| match kind {
        PartKind::Refusal(text) => Some(text.plain().into_owned()),
        _ => None,
    }) {
        writer.word("refusal", &refusal);
    }
    proof_of_text(choice, writer);
    tool_calls(choice, writer);
    writer.end_object();
    if !choice.logprobs.is_empty() {
        writer.key("logprobs");
        logprobs(&choice.logprobs, writer);
    }
    writer.word("finish_reason", finish::word(&choice.finish)).end_object();
}

fn thinking_blocks(choice: &Choice<'_>, writer: &mut Writer<'_>) {
    let mut index = 0;
    let mut block = |writer: &mut Writer<'_>| {
        if index == 0 {
            writer.key("thinking_blocks").array();
        }
        index += 1;
        writer.item();
        index - 1
    };
    for part in &choice.parts {
        match &part.kind {
            PartKind::Thinking(text, Some(signature)) if signature.vendor == Vendor::Anthropic => {
                let index = block(writer);
                carrier::write_anthropic_block(writer, Some(index), text, &signature.text);
            }
            PartKind::Redacted(data) => {
                let index = block(writer);
                redacted(index, data, writer);
            }
            _ => {}
        }
    }
    if index > 0 {
        writer.end_array();
    }
}

/// Thoughts that only their provider can read, in their carrier.
pub(crate) fn redacted(index: u64, data: &Text<'_>, writer: &mut Writer<'_>) {
    writer.object().key("index").number(index).word("type", "redacted_thinking").key("data").text(data);
    writer.end_object();
}

/// Gemini's proof of text or of thoughts, of which there is one place in a message: the last counts.
fn proof_of_text(choice: &Choice<'_>, writer: &mut Writer<'_>) {
    let proof = choice.parts.iter().rev().find_map(|part| match &part.kind {
        PartKind::Text(_, Some(signature)) | PartKind::Thinking(_, Some(signature)) => Some(signature),
        _ => None,
    });
    if let Some(signature) = proof.filter(|signature| signature.vendor == Vendor::Gemini) {
        carrier::write_extra_content(writer, &signature.text);
    }
}

fn tool_calls(choice: &Choice<'_>, writer: &mut Writer<'_>) {
    let calls: Vec<_> = choice
        .parts
        .iter()
        .filter_map(|part| match &part.kind {
            PartKind::Call(call) => Some(call),
            _ => None,
        })
        .collect();
    if calls.is_empty() {
        return;
    }
    writer.key("tool_calls").array();
    for call in calls {
        self::call(call, writer.item());
    }
    writer.end_array();
}

fn call(call: &Call<'_>, writer: &mut Writer<'_>) {
    writer.object().key("id").text(&call.id).word("type", "function");
    writer.key("function").object().key("name").text(&call.name);
    writer.word("arguments", &call.arguments).end_object();
    if let Some(signature) = &call.signature {
        carrier::write_extra_content(writer, &signature.text);
    }
    writer.end_object();
}

/// Writes log probabilities.
pub(crate) fn logprobs(tokens: &[TokenLogprob<'_>], writer: &mut Writer<'_>) {
    let pair = |token: &Text<'_>, logprob: &str, writer: &mut Writer<'_>| {
        writer.object().key("token").text(token).key("logprob").raw(logprob).key("bytes").raw("null");
    };
    writer.object().key("content").array();
    for token in tokens {
        pair(&token.token, token.logprob, writer.item());
        writer.key("top_logprobs").array();
        for (token, logprob) in &token.top {
            pair(token, logprob, writer.item());
            writer.end_object();
        }
        writer.end_array().end_object();
    }
    writer.end_array().end_object();
}
