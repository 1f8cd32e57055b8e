//! Why an Anthropic answer ends, and what it cost.

use crate::{
    translate::{text::Text, vocabulary::Finish, write::Writer},
    usage::Usage,
};

/// Reads a stop reason.
pub(crate) fn read<'a>(reason: &str, sequence: Option<Text<'a>>) -> Finish<'a> {
    match (reason, sequence) {
        ("max_tokens" | "model_context_window_exceeded", _) => Finish::Length,
        ("tool_use", _) => Finish::Tools,
        ("refusal", _) => Finish::Filter,
        ("pause_turn", _) => Finish::Pause,
        ("stop_sequence", Some(sequence)) => Finish::Sequence(sequence),
        _ => Finish::Stop,
    }
}

/// Writes `stop_reason` and `stop_sequence`.
pub(crate) fn write(finish: &Finish<'_>, writer: &mut Writer<'_>) {
    let reason = match finish {
        Finish::Stop => "end_turn",
        Finish::Sequence(_) => "stop_sequence",
        Finish::Length => "max_tokens",
        Finish::Tools => "tool_use",
        Finish::Filter => "refusal",
        Finish::Pause => "pause_turn",
    };
    writer.word("stop_reason", reason).key("stop_sequence");
    match finish {
        Finish::Sequence(sequence) => _ = writer.text(sequence),
        _ => _ = writer.raw("null"),
    }
}

/// Writes the bill: fresh, written and cached input are told apart.
pub(crate) fn usage(usage: Option<&Usage>, writer: &mut Writer<'_>) {
    let usage = usage.copied().unwrap_or_default();
    let classes = usage.classes();
    writer.object().key("input_tokens").number(classes.input);
    if usage.cache_write_tokens.is_some() {
        writer.key("cache_creation_input_tokens").number(classes.written);
    }
    if usage.cached_input_tokens.is_some() {
        writer.key("cache_read_input_tokens").number(classes.cached);
    }
    writer.key("output_tokens").number(classes.completion()).end_object();
}
