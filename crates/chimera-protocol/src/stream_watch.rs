//! What is known of a stream while it passes: has it begun, has it ended, what did it cost.

use crate::{
    dialect::{Choices, DialectId, Observed},
    usage::Usage,
};

/// Watches the events of one stream.
#[derive(Debug)]
pub struct StreamWatch {
    dialect: DialectId,
    over: bool,
    choices: Choices,
    error: bool,
    content: bool,
    usage: Option<Usage>,
}

impl StreamWatch {
    /// A watch over a stream that has not begun.
    pub fn new(dialect: DialectId) -> Self {
        Self { dialect, over: false, choices: Choices::default(), error: false, content: false, usage: None }
    }

    /// Takes one event in.
    pub fn event(&mut self, name: Option<&[u8]>, data: &[u8]) -> Observed {
        let dialect = self.dialect.dialect();
        let observed = dialect.observe(name, data);
        match observed {
            Observed::End => self.over = true,
            Observed::Error => self.error = true,
            Observed::Content => self.content = true,
            Observed::Lifecycle | Observed::Usage => {}
        }
        dialect.merge_usage(data, &mut self.usage);
        if !matches!(observed, Observed::End | Observed::Error) {
            dialect.note_choices(data, &mut self.choices);
        }
        observed
    }

    /// Notes an end that no event tells, such as the closing bracket of an array.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// Whether the terminal event was seen: what follows is not part of the answer.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether the stream may properly end here.
    pub fn may_end_here(&self) -> bool {
        self.over || (self.choices.have_ended() && !self.error)
    }

    /// Whether it held an error.
    pub fn error_seen(&self) -> bool {
        self.error
    }

    /// Whether any of the answer was seen.
    pub fn content_seen(&self) -> bool {
        self.content
    }

    /// What it cost, as far as it was told.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The terminal event that a provider left out, where one can be added.
    pub fn missing_terminal(&self) -> Option<&'static [u8]> {
        if self.over || !self.may_end_here() { None } else { self.dialect.dialect().terminal() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u26_the_end_is_what_the_protocol_says() {
        let mut watch = StreamWatch::new(DialectId::OpenAi);
        watch.event(None, br#"{"choices":[{"delta":{"content":"a"},"finish_reason":null}]}"#);
        assert!(!watch.may_end_here() && watch.content_seen());
        watch.event(None, br#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#);
        assert!(watch.may_end_here() && !watch.is_over());
        assert!(watch.missing_terminal().is_some());
        watch.event(None, b"[DONE]");
        assert!(watch.is_over() && watch.missing_terminal().is_none());

        let mut watch = StreamWatch::new(DialectId::OpenAi);
        let mut seen = |data: &str| {
            watch.event(None, data.as_bytes());
            watch.may_end_here()
        };
        let (role, call) = (r#"{"role":"assistant"}"#, r#"{"tool_calls":[{"index":1,"id":"c"}]}"#);
        let chunk = |delta: &str, index: u8, finish: &str| {
            format!(r#"{{"choices":[{{"delta":{delta},"index":{index},"finish_reason":{finish}}}]}}"#)
        };
        assert!(!seen(&chunk(role, 0, "null")) && !seen(&chunk(role, 1, "null")));
        assert!(!seen(&chunk(call, 0, "null")) && !seen(&chunk("{}", 0, r#""stop""#)));
        assert!(seen(&chunk("{}", 1, r#""stop""#)), "a tool call's index is no choice's");
        let both = r#"{"choices":[{"index":2,"finish_reason":null},{"index":3,"finish_reason":"stop"}]}"#;
        assert!(!seen(both) && seen(r#"{"choices":[],"usage":{"prompt_tokens":1}}"#));

        let mut watch = StreamWatch::new(DialectId::Anthropic);
        watch
            .event(Some(b"message_delta"), br#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#);
        assert!(!watch.may_end_here());
        watch.event(Some(b"message_stop"), b"{}");
        assert!(watch.is_over());
    }
}
