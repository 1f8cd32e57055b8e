//! Gathers the pieces of a whole answer.

use std::borrow::Cow;

use super::vocabulary::{Call, Choice, Completion, Finish, Part, PartKind, Piece, Signature};
use crate::FoldError;

/// Makes a completion of the pieces that one whole answer was read into.
pub(crate) fn collect<'a>(pieces: Vec<Piece<'a>>) -> Result<Completion<'a>, FoldError> {
    let mut completion = Completion::default();
    for piece in pieces {
        add(&mut completion, piece)?;
    }
    completion.choices.sort_by_key(|choice| choice.index);
    Ok(completion)
}

fn add<'a>(completion: &mut Completion<'a>, piece: Piece<'a>) -> Result<(), FoldError> {
    let (choice, kind) = match piece {
        Piece::Start { id, model, usage } => {
            (completion.id, completion.model) = (id, model);
            completion.usage = usage.or(completion.usage);
            return Ok(());
        }
        Piece::Usage(usage) => {
            completion.usage.get_or_insert_default().update(usage);
            return Ok(());
        }
        Piece::Finish { choice, finish } => {
            choice_of(completion, choice).finish = finish;
            return Ok(());
        }
        Piece::Logprobs { choice, tokens } => {
            choice_of(completion, choice).logprobs.extend(tokens);
            return Ok(());
        }
        Piece::Citation { choice, citation } => {
            choice_of(completion, choice).citations.push(citation);
            return Ok(());
        }
        Piece::Signed { choice, signature, thoughts } => {
            sign(&mut choice_of(completion, choice).parts, signature, thoughts);
            return Ok(());
        }
        Piece::Arguments { choice, text, .. } => {
            return match choice_of(completion, choice).parts.last_mut().map(|part| &mut part.kind) {
                Some(PartKind::Call(call)) => {
                    if call.arguments.is_empty() {
                        call.arguments = text.into_plain();
                    } else {
                        call.arguments = Cow::Owned(format!("{}{}", call.arguments, text.plain()));
                    }
                    Ok(())
                }
                _ => Err(FoldError::Shape("a tool call")),
            };
        }
        Piece::CallEnd { .. } => return Ok(()),
        Piece::Text { choice, text } => (choice, PartKind::Text(text, None)),
        Piece::Thinking { choice, text } => (choice, PartKind::Thinking(text, None)),
        Piece::Redacted { choice, data } => (choice, PartKind::Redacted(data)),
        Piece::Refusal { choice, text } => (choice, PartKind::Refusal(text)),
        Piece::Call { choice, id, name, signature, .. } => {
            (choice, PartKind::Call(Call { id, name, arguments: Cow::Borrowed(""), signature }))
        }
    };
    choice_of(completion, choice).parts.push(Part::from(kind));
    Ok(())
}

fn choice_of<'c, 'a>(completion: &'c mut Completion<'a>, index: u64) -> &'c mut Choice<'a> {
    let choices = &mut completion.choices;
    let at = choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
        choices.push(Choice {
            index,
            parts: Vec::new(),
            finish: Finish::Stop,
            logprobs: Vec::new(),
            citations: Vec::new(),
        });
        choices.len() - 1
    });
    // It was found or has just been made.
    #[allow(clippy::indexing_slicing)]
    &mut choices[at]
}

/// Gives a proof to the part that it proves, which came just before.
fn sign<'a>(parts: &mut Vec<Part<'a>>, signature: Signature<'a>, thoughts: bool) {
    match parts.last_mut().map(|part| &mut part.kind) {
        Some(PartKind::Thinking(_, place)) if thoughts && place.is_none() => *place = Some(signature),
        Some(PartKind::Text(_, place)) if !thoughts && place.is_none() => *place = Some(signature),
        _ if thoughts => parts.push(PartKind::Thinking("".into(), Some(signature)).into()),
        _ => parts.push(PartKind::Text("".into(), Some(signature)).into()),
    }
}
