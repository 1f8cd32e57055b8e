//! The page about dialects: what becomes of each case that the tests hold.

use std::{collections::BTreeMap, fmt::Write as _, fs};

use serde_json::Value;

use crate::process::{Outcome, root};

/// What stands before the tables.
const OPENING: &str = "# Dialects

Every caller's dialect reaches every provider's: OpenAI chat completions, OpenAI responses, Anthropic messages
and Gemini generateContent as callers', the three without responses as providers'. A request whose provider
speaks the caller's own dialect goes on byte for byte; any other is translated, and so are answers, streams,
embeddings and errors.

- What has no counterpart at the provider is refused: 400 `invalid_request`, `param` names the member by the
  path that the caller wrote.
- What has none and cannot change the answer is left out and listed in `x-chimera-dropped`.
- Numbers, schemas and arguments of tools keep their spelling. Nothing is fetched: a URL goes on as one.
- A system message within a conversation is told to Anthropic and Gemini where it stands, by the user, between
  `<system>` and `</system>`: to move it to the front would change what comes before, which providers cache.
- `max_tokens`, which Anthropic requires, is the most that every model of the family can write where the caller
  sets none.
- Proofs that only their provider can read (Anthropic's signatures and redacted thinking, Gemini's thought
  signatures) ride where the caller's SDK keeps them and come back: `thinking_blocks` and
  `extra_content.google.thought_signature` for OpenAI callers, `encrypted_content` of reasoning items for
  responses, thinking blocks without text whose signature begins with `gemini:` for Anthropic callers,
  `thoughtSignature` for Gemini callers.
- A stored answer serves callers of every dialect. What a caller of another one is told is kept with it, within
  bounds, and compressed as the caller prefers. Two requests share an answer where they are the same one in the
  provider's dialect, spelled as plainly as can be: native callers' requests are compared as they are.
- A translated request begins with what stays the same from turn to turn and ends with the conversation, each
  turn spelled as before: providers' caches of prompts know all but what is new. Anthropic caches only what is
  marked by `cache_control`, for which Gemini's and responses' callers have no word.
- Pages that an answer cites are told in each dialect's words. Places are told where both sides count
  characters; OpenAI's callers get 0 to 0 for an unknown one. Anthropic's callers get citations that quote
  nothing.
- A provider that serves responses itself (`responses = true`) is asked for them byte for byte,
  `previous_response_id` with them; its answers are stored for responses callers alone, since their ids name
  state that only it keeps (`docs/adr/0016-responses-of-a-provider-stand-apart.md`).
- An error that a provider sends in mid-stream ends the stream in the caller's shape and of the kind that the provider
  names, with the provider's words: one line of 1,000 characters at most, without the provider's keys. One that comes
  before any content is told with its status, as if it had not come behind a 200.
- Tokens are counted by the provider where it has a call for it: Anthropic and Gemini count for each other's
  callers, too. For OpenAI's models the gateway counts: text exactly, with the encoding that the model's name
  stands for (cl100k for gpt-4 and gpt-3.5, o200k for all later ones), and messages by OpenAI's published recipe.
  Tools, calls and pictures are estimates, and so is every count for another vendor's model behind OpenAI's
  dialect, which is counted with o200k.
- Deployments of a model group may speak different dialects: each attempt is made in that of the deployment
  that is tried, and each caller is handed its own, whoever answered. A deployment that a request cannot be put
  to is passed over; where none is left, the caller is told why. Embeddings of such a group are refused: those
  of different vendors cannot stand in for each other.

The tables are made from the cases in `crates/chimera-protocol/tests/golden`, each of which is a test, by
`cargo xtask docs`. \"yes\" is translated; \"with\" names what is dropped; \"no\" names what is refused.
";

/// The page.
pub(crate) fn page() -> Outcome<String> {
    let mut page = OPENING.to_owned();
    requests("Requests", "requests.jsonl", &mut page)?;
    requests("Requests for embeddings", "embed_requests.jsonl", &mut page)?;
    let files = [
        ("Whole answers", "answers.jsonl"),
        ("Streams", "streams.jsonl"),
        ("Embeddings", "embed_answers.jsonl"),
    ];
    for (title, file) in files {
        answers(title, file, &mut page)?;
    }
    errors(&mut page)?;
    Ok(page)
}

fn cases(file: &str) -> Outcome<Vec<Value>> {
    let path = root().join("crates/chimera-protocol/tests/golden").join(file);
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let read = |line| serde_json::from_str(line).map_err(|error| format!("{file}: {error}"));
    text.lines().map(read).collect()
}

/// The cases of a file by the dialect that they come from.
fn by_origin(file: &str) -> Outcome<BTreeMap<String, Vec<Value>>> {
    let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for case in cases(file)? {
        groups.entry(text(&case, "from").to_owned()).or_default().push(case);
    }
    Ok(groups)
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// One table: a row for a case, a column for a dialect that it is told in.
fn table(cases: &[Value], cell: impl Fn(&Value) -> String, page: &mut String) {
    let targets: Vec<&String> = cases
        .first()
        .and_then(|case| case.get("to")?.as_object())
        .map(|to| to.keys().collect())
        .unwrap_or_default();
    let heads: Vec<_> = targets.iter().map(|target| format!(" to {target} |")).collect();
    let _ = writeln!(page, "\n| case |{}\n|---|{}", heads.concat(), "---|".repeat(targets.len()));
    for case in cases {
        let outcome = |target: &&String| case.get("to").and_then(|to| to.get(target.as_str()));
        let cells: Vec<_> = targets
            .iter()
            .map(|target| format!(" {} |", outcome(target).map(&cell).unwrap_or_default()))
            .collect();
        let _ = writeln!(page, "| {} |{}", text(case, "name"), cells.concat());
    }
}

fn requests(title: &str, file: &str, page: &mut String) -> Outcome {
    for (from, cases) in by_origin(file)? {
        let _ = writeln!(page, "\n## {title} of {from} callers");
        table(&cases, of_request, page);
    }
    Ok(())
}

fn of_request(outcome: &Value) -> String {
    let dropped: Vec<_> = outcome.get("dropped").and_then(Value::as_array).into_iter().flatten().collect();
    match (text(outcome, "refused"), dropped.as_slice()) {
        ("", []) => "yes".to_owned(),
        ("", dropped) => {
            let names: Vec<_> = dropped.iter().filter_map(|name| name.as_str()).collect();
            format!("with `{}`", names.join("`, `"))
        }
        (refused, _) => format!("no: `{refused}`"),
    }
}

fn answers(title: &str, file: &str, page: &mut String) -> Outcome {
    for (from, cases) in by_origin(file)? {
        let _ = writeln!(page, "\n## {title} of {from} providers");
        table(
            &cases,
            |outcome| match text(outcome, "fault") {
                "" => "yes".to_owned(),
                fault => format!("error: {fault}"),
            },
            page,
        );
    }
    Ok(())
}

fn errors(page: &mut String) -> Outcome {
    for (from, cases) in by_origin("errors.jsonl")? {
        let _ = writeln!(page, "\n## Errors of {from} providers");
        table(
            &cases,
            |outcome| {
                let status = outcome.get("status").map(Value::to_string).unwrap_or_default();
                let error = outcome.pointer("/out/error").unwrap_or(&Value::Null);
                let kind = match text(error, "type") {
                    "" => text(error, "status"),
                    kind => kind,
                };
                format!("{status} `{kind}`")
            },
            page,
        );
    }
    Ok(())
}
