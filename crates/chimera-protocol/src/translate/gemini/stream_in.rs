//! A Gemini answer, read: whole or chunk by chunk, which look the same.

use super::{finish, request_in::get};
use crate::{
    DialectId, FoldError,
    json::Value,
    translate::{
        AnswerContext,
        citation::Citation,
        text::Text,
        usage_in,
        vocabulary::{Finish, Piece, Signature, TokenLogprob, Vendor},
    },
};

/// Reads chunks. Some models say in every chunk why they end, so the last word counts.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    started: bool,
    candidates: Vec<Candidate>,
    /// How calls without an id are numbered.
    stem: String,
}

#[derive(Debug, Default)]
struct Candidate {
    index: u64,
    calls: u64,
    finish: Option<Finish<'static>>,
}

type Sink<'s, 'a> = &'s mut dyn FnMut(Piece<'a>) -> Result<(), FoldError>;

impl Reader {
    /// Reads one chunk.
    pub(crate) fn chunk<'a>(
        &mut self,
        root: Value<'a>,
        context: &AnswerContext<'_>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), FoldError> {
        if root.get("error").is_some_and(|error| !error.is_null()) {
            return Err(FoldError::Error);
        }
        let usage = root.get("usageMetadata").and_then(|usage| usage_in(usage, DialectId::Gemini));
        if !self.started {
            self.started = true;
            let text = |name| root.get(name).and_then(Text::of).filter(|text| !text.is_empty());
            let id = text("responseId");
            self.stem = id.as_ref().map_or(context.id.into(), |id| id.plain().into_owned());
            sink(Piece::Start { id, model: text("modelVersion"), usage })?;
        } else if let Some(usage) = usage {
            sink(Piece::Usage(usage))?;
        }
        for candidate in root.get("candidates").into_iter().flat_map(Value::elements) {
            self.candidate(candidate, sink)?;
        }
        let feedback = root.get("promptFeedback").and_then(|feedback| feedback.get("blockReason"));
        if feedback.is_some_and(|reason| !reason.is_null()) {
            self.at(0).finish = Some(Finish::Filter);
        }
        Ok(())
    }

    /// Whether every candidate has said why it ended.
    pub(crate) fn is_whole(&self) -> bool {
        !self.candidates.is_empty() && self.candidates.iter().all(|candidate| candidate.finish.is_some())
    }

    /// Tells the last words.
    pub(crate) fn end(&mut self, sink: Sink<'_, '_>) -> Result<(), FoldError> {
        for candidate in &mut self.candidates {
            let finish = candidate.finish.take().ok_or(FoldError::Truncated)?;
            sink(Piece::Finish { choice: candidate.index, finish })?;
        }
        Ok(())
    }

    fn at(&mut self, index: u64) -> &mut Candidate {
        let at = self.candidates.iter().position(|candidate| candidate.index == index);
        let at = at.unwrap_or_else(|| {
            self.candidates.push(Candidate { index, ..Candidate::default() });
            self.candidates.len() - 1
        });
        // It was found or has just been made.
        #[allow(clippy::indexing_slicing)]
        &mut self.candidates[at]
    }

    fn candidate<'a>(&mut self, value: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let choice = value.get("index").and_then(|index| index.raw().parse().ok()).unwrap_or(0);
        self.at(choice);
        let parts = value.get("content").and_then(|content| content.get("parts"));
        for part in parts.into_iter().flat_map(Value::elements) {
            self.part(choice, part, sink)?;
        }
        let sources = value.get("citationMetadata").and_then(|cited| cited.get("citationSources"));
        for citation in sources.into_iter().flat_map(Value::elements).filter_map(Citation::of_gemini) {
            sink(Piece::Citation { choice, citation })?;
        }
        if let Some(result) = value.get("logprobsResult") {
            let tokens = logprobs(result);
            if !tokens.is_empty() {
                sink(Piece::Logprobs { choice, tokens })?;
            }
        }
        if let Some(reason) = value.get("finishReason").and_then(Value::as_str) {
            let candidate = self.at(choice);
            candidate.finish = Some(finish::read(&reason, candidate.calls > 0)?);
        }
        Ok(())
    }

    fn part<'a>(&mut self, choice: u64, part: Value<'a>, sink: Sink<'_, 'a>) -> Result<(), FoldError> {
        let (mut text, mut call, mut thought, mut proof) = (None, None, false, None);
        for (key, value) in part.members() {
            match key.spelled().unwrap_or_default() {
                "text" => text = Text::of(value),
                "functionCall" => call = Some(value),
                "thought" => thought = value.as_bool() == Some(true),
                "thoughtSignature" | "thought_signature" => proof = Text::of(value),
                "inlineData" | "executableCode" | "codeExecutionResult" | "fileData" => {
                    return Err(FoldError::Shape("only parts that were asked for"));
                }
                _ => {}
            }
        }
        let signature = proof.map(|text| Signature { vendor: Vendor::Gemini, text });
        if let Some(call) = call {
            return self.call(choice, call, signature, sink);
        }
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            sink(if thought { Piece::Thinking { choice, text } } else { Piece::Text { choice, text } })?;
        }
        match signature {
            Some(signature) => sink(Piece::Signed { choice, signature, thoughts: thought }),
            None => Ok(()),
        }
    }

    /// A call, which always comes whole.
    fn call<'a>(
        &mut self,
        choice: u64,
        value: Value<'a>,
        signature: Option<Signature<'a>>,
        sink: Sink<'_, 'a>,
    ) -> Result<(), FoldError> {
        let name = get(value, "name").and_then(Text::of).ok_or(FoldError::Shape("the name of a tool"))?;
        let candidate = self.at(choice);
        let call = candidate.calls;
        candidate.calls += 1;
        let own = get(value, "id").and_then(Text::of).filter(|id| !id.is_empty());
        let id = own.unwrap_or_else(|| {
            let of_choice = if choice == 0 { String::new() } else { format!("{choice}_") };
            format!("call_{}_{of_choice}{call}", self.stem).into()
        });
        sink(Piece::Call { choice, call, id, name, signature })?;
        let arguments = get(value, "args").map_or("{}", Value::raw);
        sink(Piece::Arguments { choice, call, text: arguments.into() })?;
        sink(Piece::CallEnd { choice, call })
    }
}

/// Log probabilities: the chosen tokens, and beside each the likeliest in its place.
fn logprobs(result: Value<'_>) -> Vec<TokenLogprob<'_>> {
    let chosen = result.get("chosenCandidates").into_iter().flat_map(Value::elements);
    let mut tops = result.get("topCandidates").into_iter().flat_map(Value::elements);
    chosen
        .filter_map(|candidate| {
            let (token, logprob) = pair(candidate)?;
            let top = tops.next().and_then(|top| top.get("candidates"));
            let top = top.into_iter().flat_map(Value::elements).filter_map(pair).collect();
            Some(TokenLogprob { token, logprob, top })
        })
        .collect()
}

fn pair(value: Value<'_>) -> Option<(Text<'_>, &str)> {
    Some((Text::of(value.get("token")?)?, value.get("logProbability")?.raw()))
}
