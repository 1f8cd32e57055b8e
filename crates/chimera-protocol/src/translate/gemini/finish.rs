//! Why a Gemini answer ends, and what it cost.

use crate::{
    FoldError,
    translate::{vocabulary::Finish, write::Writer},
    usage::Usage,
};

/// Reads a finish reason.
pub(crate) fn read(reason: &str, has_calls: bool) -> Result<Finish<'static>, FoldError> {
    Ok(match reason {
        "STOP" | "FINISH_REASON_UNSPECIFIED" if has_calls => Finish::Tools,
        "STOP" | "FINISH_REASON_UNSPECIFIED" => Finish::Stop,
        "MAX_TOKENS" => Finish::Length,
        // The model meant to call a tool and could not say it: there is no answer.
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            return Err(FoldError::Shape("a tool call that can be read"));
        }
        _ => Finish::Filter,
    })
}

/// The finish reason in Gemini's words.
pub(crate) fn word(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::Tools | Finish::Pause => "STOP",
        Finish::Length => "MAX_TOKENS",
        Finish::Filter => "SAFETY",
    }
}

/// Writes the bill: thoughts are counted apart from the answer.
pub(crate) fn usage(usage: &Usage, writer: &mut Writer<'_>) {
    let classes = usage.classes();
    writer.object().key("promptTokenCount").number(classes.prompt());
    if usage.cached_input_tokens.is_some() {
        writer.key("cachedContentTokenCount").number(classes.cached);
    }
    writer.key("candidatesTokenCount").number(classes.output);
    if usage.reasoning_tokens.is_some() {
        writer.key("thoughtsTokenCount").number(classes.reasoning);
    }
    writer.key("totalTokenCount").number(classes.prompt().saturating_add(classes.completion()));
    writer.end_object();
}
