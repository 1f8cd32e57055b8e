//! Why an OpenAI answer ends, and what it cost.

use crate::{
    translate::{vocabulary::Finish, write::Writer},
    usage::Usage,
};

/// Reads a finish reason.
pub(crate) fn read(reason: &str, has_calls: bool, has_refused: bool) -> Finish<'static> {
    match reason {
        "length" => Finish::Length,
        "content_filter" => Finish::Filter,
        // A forced call ends with `stop`.
        "tool_calls" | "function_call" => Finish::Tools,
        _ if has_calls => Finish::Tools,
        _ if has_refused => Finish::Filter,
        _ => Finish::Stop,
    }
}

/// The finish reason in OpenAI's words.
pub(crate) fn word(finish: &Finish<'_>) -> &'static str {
    match finish {
        Finish::Stop | Finish::Sequence(_) | Finish::Pause => "stop",
        Finish::Length => "length",
        Finish::Tools => "tool_calls",
        Finish::Filter => "content_filter",
    }
}

/// Writes the bill.
pub(crate) fn usage(usage: &Usage, writer: &mut Writer<'_>) {
    let classes = usage.classes();
    let (prompt, completion) = (classes.prompt(), classes.completion());
    writer.object().key("prompt_tokens").number(prompt).key("completion_tokens").number(completion);
    writer.key("total_tokens").number(prompt.saturating_add(completion));
    if usage.cached_input_tokens.is_some() || usage.cache_write_tokens.is_some() {
        writer.key("prompt_tokens_details").object().key("cached_tokens").number(classes.cached);
        writer.end_object();
    }
    if usage.reasoning_tokens.is_some() {
        writer.key("completion_tokens_details").object();
        writer.key("reasoning_tokens").number(classes.reasoning).end_object();
    }
    writer.end_object();
}
