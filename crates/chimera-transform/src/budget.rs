//! A conversation within a budget of tokens.
//!
//! Oldest exchanges go first, whole: a question with its answer and the tools between them, so that no
//! tool's result is left without its call. The instructions and the last exchange stay; if they alone
//! are too long, the middle of their longest texts is cut, for what matters stands at the ends.

use crate::{
    changes::Changes,
    prompt::{List, Part, Prompt, Role},
    seed::Seed,
    tokens::{self, Counter},
    transform::{StepError, Stepped, Transform},
};

/// The budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSettings {
    /// Tokens that the request may have.
    pub tokens: u64,
    /// The model whose encoding counts, where the request names none.
    pub model: String,
}

/// The step that fits a conversation into its budget.
#[derive(Debug)]
pub struct Budget {
    settings: BudgetSettings,
}

/// What stands where something was cut out.
const CUT: &str = "\n[…]\n";

impl Budget {
    /// The step. The tables of all encodings are unpacked here, not at the first request.
    pub fn new(settings: BudgetSettings) -> Self {
        tokens::warm();
        Self { settings }
    }
}

impl Transform for Budget {
    fn name(&self) -> &str {
        "budget"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let model = if prompt.model().is_empty() { &self.settings.model } else { prompt.model() };
        let counter = Counter::of(model);
        let counts: List<_> =
            prompt.parts().map(|(index, part)| (index, part, counter.of_part(part))).collect();
        let frames = counter.frames(prompt.turns().iter().filter(|turn| !turn.is_dropped()).count());
        let before: u64 = counts.iter().map(|(.., count)| count).sum::<u64>() + frames;
        changes.note("tokens_before", before);
        let mut left = before;
        let droppable = if left > self.settings.tokens { exchanges(prompt) } else { Vec::new() };
        for exchange in droppable {
            if left <= self.settings.tokens {
                break;
            }
            for turn in exchange {
                changes.drop_turn(turn);
                changes.note("dropped_turns", 1);
                left -= turn_tokens(&counts, turn).min(left);
                left -= counter.per_turn().min(left);
            }
        }
        if left > self.settings.tokens {
            left = shorten(&counts, &counter, left, self.settings.tokens, changes)?;
        }
        changes.note("tokens_after", left);
        Ok(None)
    }
}

type Counted<'p, 'd> = (usize, &'p Part<'d>, u64);

fn turn_tokens(counts: &[Counted<'_, '_>], turn: usize) -> u64 {
    counts.iter().filter(|(_, part, _)| part.turn() == Some(turn)).map(|(.., count)| count).sum()
}

/// The exchanges that may go, oldest first: each from a user's turn to the next. Instructions within the
/// conversation are in none of them.
fn exchanges(prompt: &Prompt<'_>) -> Vec<Vec<usize>> {
    let last = prompt.last_exchange();
    let mut exchanges: Vec<Vec<usize>> = Vec::new();
    for (index, turn) in prompt.turns().iter().enumerate().take(last) {
        if turn.is_dropped() || turn.role() == Role::System {
            continue;
        }
        let opens = turn.role() == Role::User && !turn.answers_tools();
        match exchanges.last_mut() {
            Some(exchange) if !opens => exchange.push(index),
            _ => exchanges.push(vec![index]),
        }
    }
    exchanges
}

/// Cuts the middle out of the longest texts of the last exchange until it fits.
fn shorten(
    counts: &[Counted<'_, '_>],
    counter: &Counter,
    before: u64,
    budget: u64,
    changes: &mut Changes,
) -> Result<u64, StepError> {
    let mut left = before;
    let dropped = changes.dropped.clone();
    let mut long: Vec<_> = counts
        .iter()
        .filter(|(_, part, _)| part.role() != Role::System && !part.is_embedded())
        .filter(|(_, part, _)| part.turn().is_none_or(|turn| !dropped.contains(&turn)))
        .collect();
    long.sort_by_key(|(.., count)| std::cmp::Reverse(*count));
    for (index, part, count) in long {
        if left <= budget {
            break;
        }
        let wanted = count.saturating_sub(left - budget);
        let text = cut(part.text(), wanted, *count, counter);
        left = left - count + counter.text(&text);
        changes.replace(*index, text);
        changes.note("shortened_texts", 1);
    }
    if left > budget {
        let why =
            format!("the instructions and the last exchange have {left} tokens, the budget is {budget}");
        return Err(StepError::refused(why));
    }
    Ok(left)
}

/// The two ends of a text, of so many tokens together.
fn cut(text: &str, wanted: u64, count: u64, counter: &Counter) -> String {
    let share = wanted.saturating_sub(counter.text(CUT)) as f64 / count.max(1) as f64;
    let mut keep = (text.len() as f64 * share) as usize;
    loop {
        let head = (0..=keep / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let tail = text.len() - keep / 2;
        let tail = (tail..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let (head, tail) = (text.get(..head).unwrap_or_default(), text.get(tail..).unwrap_or_default());
        let cut = [head, CUT, tail].concat();
        if counter.text(&cut) <= wanted || keep == 0 {
            return if keep == 0 && counter.text(&cut) > wanted { String::new() } else { cut };
        }
        keep -= keep / 8 + 1;
    }
}

#[cfg(test)]
mod tests {
    use chimera_protocol::json::Document;

    use super::*;
    use crate::{Pipeline, Step};

    fn run(body: &str, tokens: u64) -> Result<(String, crate::Notes), String> {
        let step = Step::new(Budget::new(BudgetSettings { tokens, model: "gpt-4o".into() }));
        let done = Pipeline::new("p", [step])
            .run_body(body.as_bytes(), &Seed::derive(&[0; 32], ""))
            .map_err(|stopped| stopped.to_string())?;
        Ok((done.output(body).into_owned(), done.report[0].notes.clone()))
    }

    const TALK: &str = r#"{"model":"gpt-4o","messages":[
        {"role":"system","content":"Answer in few words."},
        {"role":"user","content":"What is the weather in Lyon today, and will it rain tomorrow?"},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"city\":\"Lyon\"}"}}]},
        {"role":"tool","tool_call_id":"c","content":"sunny, 21 degrees, no rain tomorrow"},
        {"role":"assistant","content":"Sunny. No rain."},
        {"role":"user","content":"And in Oslo?"}]}"#;

    fn roles(body: &str) -> Vec<String> {
        let document = Document::parse(body.as_bytes()).unwrap();
        let messages = document.root().get("messages").unwrap();
        messages.elements().map(|turn| turn.get("role").unwrap().as_str().unwrap().into_owned()).collect()
    }

    #[test]
    fn what_fits_is_left_alone() {
        let (out, notes) = run(TALK, 1000).unwrap();
        assert_eq!(out, TALK);
        assert_eq!(notes.get("tokens_before"), notes.get("tokens_after"));
    }

    #[test]
    fn exchanges_go_whole_and_the_instructions_stay() {
        let (out, notes) = run(TALK, 40).unwrap();
        assert_eq!(roles(&out), ["system", "user"]);
        assert_eq!(notes.get("dropped_turns"), 4);
        assert!(notes.get("tokens_after") <= 40);
    }

    #[test]
    fn the_middle_of_the_last_text_is_cut_when_nothing_else_helps() {
        let long = "begin ".to_owned() + &"word ".repeat(2000) + "end";
        let body = format!(r#"{{"messages":[{{"role":"user","content":"{long}"}}]}}"#);
        let (out, notes) = run(&body, 200).unwrap();
        assert!(notes.get("tokens_after") <= 200 && notes.get("tokens_after") > 100, "{notes:?}");
        assert!(out.contains("begin word") && out.contains("word end") && out.contains("[…]"));
    }

    #[test]
    fn instructions_that_are_too_long_are_refused_and_not_cut() {
        let long = "word ".repeat(500);
        let body = format!(
            r#"{{"messages":[{{"role":"system","content":"{long}"}},{{"role":"user","content":"hi"}}]}}"#
        );
        assert!(run(&body, 100).unwrap_err().contains("budget"));
    }

    #[test]
    fn tools_of_anthropic_are_not_torn() {
        let body = r#"{"system":"s","messages":[
            {"role":"user","content":"first question that is rather long, to be dropped"},
            {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"q":"a long argument to drop"}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":"a long result to drop"}]},
            {"role":"assistant","content":"done"},
            {"role":"user","content":"second"},
            {"role":"assistant","content":[{"type":"tool_use","id":"u","name":"f","input":{"q":"b"}}]},
            {"role":"user","content":[{"type":"tool_result","tool_use_id":"u","content":"r"}]}]}"#;
        let (out, _) = run(body, 35).unwrap();
        assert_eq!(roles(&out), ["user", "assistant", "user"]);
        assert!(out.contains("second") && out.contains(r#""tool_use_id":"u""#));
    }
}
