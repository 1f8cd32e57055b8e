//! An OpenAI answer, read: whole or chunk by chunk.

use super::finish;
use crate::{
    FoldError,
    json::Value,
    translate::{
        carrier,
        citation::Citation,
        scan::Scan,
        text::Text,
        usage_in,
        vocabulary::{Piece, TokenLogprob},
    },
};

/// Reads chunks. A whole answer is read as one chunk whose messages are its deltas.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    over: bool,
    choices: Vec<ChoiceState>,
}

#[derive(Debug, Default)]
struct ChoiceState {
    index: u64,
    calls: Vec<CallState>,
    refused: bool,
    finished: bool,
}

#[derive(Debug)]
struct CallState {
    /// Its index on the wire.
    index: u64,
    scan: Scan,
    ended: bool,
}

type Sink<'s, 'a> = &'s mut dyn FnMut(Piece<'a>) -> Result<(), FoldError>;

impl Reader {
    /// Reads one chunk.
    pub(crate) fn chunk<'a>(&mut self, root: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        if root.get("error").is_some_and(|error| !error.is_null()) {
            return Err(FoldError::Error);
        }
        if !self.started {
            self.started = true;
            let text = |name| root.get(name).and_then(Text::of).filter(|text| !text.is_empty());
            sink(Piece::Start { id: text("id"), model: text("model"), usage: None })?;
        }
        if let Some(choices) = root.get("choices") {
            for choice in choices.elements() {
                self.choice(choice, sink)?;
            }
        }
        match root.get("usage").and_then(|usage| usage_in(usage, crate::DialectId::OpenAi)) {
            Some(usage) => sink(Piece::Usage(usage)),
            None => Ok(()),
        }
    }

    /// Notes the mark at the end.
    pub(crate) fn done(&mut self) {
        self.over = true;
    }

    /// Whether the answer is whole: the mark came, or every choice has said why it ended.
    pub(crate) fn is_whole(&self) -> bool {
        !self.choices.is_empty() && self.choices.iter().all(|choice| choice.finished)
    }

    /// Whether nothing that follows belongs to the answer.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    fn choice<'a>(&mut self, value: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let index = value.get("index").and_then(number).unwrap_or(0);
        let known = self.choices.iter().position(|choice| choice.index == index);
        let at = known.unwrap_or_else(|| {
            self.choices.push(ChoiceState { index, ..ChoiceState::default() });
            self.choices.len() - 1
        });
        let Some(state) = self.choices.get_mut(at) else { return Ok(()) };
        if let Some(delta) = value.get("delta").or_else(|| value.get("message")) {
            state.delta(delta, sink)?;
        }
        if let Some(tokens) = value.get("logprobs").and_then(|logprobs| logprobs.get("content")) {
            let tokens: Vec<_> = tokens.elements().filter_map(token).collect();
            if !tokens.is_empty() {
                sink(Piece::Logprobs { choice: index, tokens })?;
            }
        }
        match value.get("finish_reason").and_then(Value::as_str) {
            Some(reason) if !state.finished => state.finish(&reason, sink),
            _ => Ok(()),
        }
    }
}

impl ChoiceState {
    fn delta<'a>(&mut self, delta: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let choice = self.index;
        let (mut content, mut thoughts, mut refusal, mut calls) = (None, None, None, None);
        let mut cited = None;
        for (key, value) in delta.members() {
            match key.spelled().unwrap_or_default() {
                "content" => content = Text::of(value),
                "reasoning_content" => thoughts = Text::of(value),
                "reasoning" => thoughts = thoughts.or_else(|| Text::of(value)),
                "refusal" => refusal = Text::of(value),
                "tool_calls" => calls = Some(value),
                "annotations" => cited = Some(value),
                "function_call" if !value.is_null() => return Err(FoldError::Shape("tool calls")),
                _ => {}
            }
        }
        let said = |text: Option<Text<'a>>| text.filter(|text| !text.is_empty());
        let late = self.finished && (said(content.clone()).is_some() || calls.is_some_and(|c| !c.is_null()));
        if late {
            return Err(FoldError::Shape("silence after its end"));
        }
        if let Some(text) = said(thoughts) {
            sink(Piece::Thinking { choice, text })?;
        }
        if let Some(text) = said(content) {
            sink(Piece::Text { choice, text })?;
        }
        for citation in cited.into_iter().flat_map(Value::elements).filter_map(Citation::of_openai) {
            sink(Piece::Citation { choice, citation })?;
        }
        if let Some(text) = said(refusal) {
            self.refused = true;
            sink(Piece::Refusal { choice, text })?;
        }
        for (at, call) in calls.into_iter().flat_map(Value::elements).enumerate() {
            self.call(at as u64, call, sink)?;
        }
        Ok(())
    }

    /// A call, or a fragment of one.
    fn call<'a>(&mut self, at: u64, value: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let choice = self.index;
        let index = value.get("index").and_then(number).unwrap_or(at);
        let function = value.get("function");
        let part = |name: &str| function.and_then(|function| function.get(name)).and_then(Text::of);
        let known = self.calls.iter().position(|call| call.index == index);
        let call = known.unwrap_or(self.calls.len());
        if known.is_none() {
            let name = part("name").filter(|name| !name.is_empty());
            let name = name.ok_or(FoldError::Shape("the name of a tool"))?;
            let id = value.get("id").and_then(Text::of).filter(|id| !id.is_empty());
            let id = id.ok_or(FoldError::Shape("the id of a tool call"))?;
            let signature = carrier::from_extra_content(value);
            self.calls.push(CallState { index, scan: Scan::default(), ended: false });
            sink(Piece::Call { choice, call: call as u64, id, name, signature })?;
        }
        let Some(state) = self.calls.get_mut(call) else { return Ok(()) };
        let Some(text) = part("arguments").filter(|text| !text.is_empty()) else { return Ok(()) };
        if state.ended {
            let blank = text.plain().trim().is_empty();
            return if blank { Ok(()) } else { Err(FoldError::Shape("silence after a whole tool call")) };
        }
        state.scan.add(&text);
        state.ended = state.scan.is_whole();
        let ended = state.ended;
        let call = call as u64;
        sink(Piece::Arguments { choice, call, text })?;
        if ended { sink(Piece::CallEnd { choice, call }) } else { Ok(()) }
    }

    fn finish(&mut self, reason: &str, sink: Sink<'_, '_>) -> Result<(), FoldError> {
        self.finished = true;
        let choice = self.index;
        for (call, state) in self.calls.iter_mut().enumerate().filter(|(_, state)| !state.ended) {
            state.ended = true;
            sink(Piece::CallEnd { choice, call: call as u64 })?;
        }
        let finish = finish::read(reason, !self.calls.is_empty(), self.refused);
        sink(Piece::Finish { choice, finish })
    }
}

fn number(value: Value<'_>) -> Option<u64> {
    value.raw().parse().ok()
}

fn token(value: Value<'_>) -> Option<TokenLogprob<'_>> {
    let (token, logprob) = pair_of(value)?;
    let top = value.get("top_logprobs").into_iter().flat_map(Value::elements).filter_map(pair_of).collect();
    Some(TokenLogprob { token, logprob, top })
}

fn pair_of(value: Value<'_>) -> Option<(Text<'_>, &str)> {
    Some((Text::of(value.get("token")?)?, value.get("logprob")?.raw()))
}
