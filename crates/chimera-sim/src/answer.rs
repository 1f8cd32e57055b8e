//! What the simulated model says: a pure function of the request and the seed.

use serde_json::{Number, Value};

use crate::{
    prompt_cache::Known,
    schema,
    settings::{MAX_TOKENS, Pace, Settings},
};

/// What a request asks for, in the terms that all dialects share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) model: String,
    /// The text of the last user message.
    pub(crate) prompt: String,
    /// Bytes of text in all messages, for counting tokens.
    pub(crate) input_bytes: usize,
    /// Tools that may be called now; empty when a text answer is due.
    pub(crate) tools: Vec<Tool>,
    /// The JSON schema that the answer must satisfy.
    pub(crate) format: Option<Value>,
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stream: bool,
    /// The stream is to tell its usage (OpenAI asks for it, the others always do).
    pub(crate) include_usage: bool,
    /// How many alternatives are wanted.
    pub(crate) choices: usize,
    /// A hash of the request's body.
    pub(crate) fingerprint: u64,
    /// How much of it was sent before.
    pub(crate) known: Known,
}

/// A function the model may call.
#[derive(Clone, Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// A function the model calls.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) arguments: Value,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    Stop,
    Length,
    Tools,
}

/// Token counts, as numbers that a fault may falsify.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) input: Number,
    /// The part of the input that was known; the rest is the other one.
    pub(crate) cached: usize,
    pub(crate) fresh: Number,
    pub(crate) output: Number,
    pub(crate) total: Number,
}

impl Usage {
    fn new(input: usize, known: Known, output: usize) -> Self {
        let cached = known.share(input);
        Self {
            input: input.into(),
            cached,
            fresh: input.saturating_sub(cached).into(),
            output: output.into(),
            total: input.saturating_add(output).into(),
        }
    }

    pub(crate) fn all(number: Number) -> Self {
        Self {
            input: number.clone(),
            cached: 0,
            fresh: number.clone(),
            output: number.clone(),
            total: number,
        }
    }
}

/// One complete answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) id: u64,
    /// The alternatives; never empty.
    pub(crate) choices: Vec<Choice>,
    /// `None` when a fault leaves it out.
    pub(crate) usage: Option<Usage>,
    pub(crate) output_tokens: usize,
}

/// One alternative: either text or calls.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) tokens: Vec<String>,
    pub(crate) calls: Vec<Call>,
    pub(crate) finish: Finish,
}

impl Choice {
    pub(crate) fn text(&self) -> String {
        self.tokens.concat()
    }

    /// The text as it travels in a stream, so many tokens at a time.
    pub(crate) fn pieces(&self, tokens_per_event: usize) -> impl Iterator<Item = String> + '_ {
        self.tokens.chunks(tokens_per_event.max(1)).map(<[String]>::concat)
    }
}

impl Reply {
    /// Answers `ask`.
    pub(crate) fn new(ask: &Ask, pace: &Pace, settings: &Settings) -> Self {
        let id = mix(ask.fingerprint ^ mix(settings.seed));
        let choices: Vec<_> = (0..ask.choices.clamp(1, 16) as u64)
            .map(|index| choice(ask, pace, settings, mix(id.wrapping_add(index))))
            .collect();
        let output_tokens = choices.iter().map(output_tokens).sum();
        Self {
            id,
            usage: Some(Usage::new(input_tokens(ask.input_bytes), ask.known, output_tokens)),
            choices,
            output_tokens,
        }
    }

    /// The first alternative, for dialects that know only one.
    pub(crate) fn only(&self) -> Choice {
        self.choices.first().cloned().unwrap_or_else(|| Choice {
            tokens: Vec::new(),
            calls: Vec::new(),
            finish: Finish::Stop,
        })
    }
}

/// Four bytes to the token, and a few for the wrapping; never zero.
pub(crate) fn input_tokens(bytes: usize) -> usize {
    bytes / 4 + 4
}

fn output_tokens(choice: &Choice) -> usize {
    let calls = choice.calls.iter().map(|call| {
        let bytes = call.name.len() + call.arguments.to_string().len();
        input_tokens(bytes)
    });
    choice.tokens.len() + calls.sum::<usize>()
}

fn choice(ask: &Ask, pace: &Pace, settings: &Settings, seed: u64) -> Choice {
    let calls = calls(ask, seed);
    if !calls.is_empty() {
        return Choice { tokens: Vec::new(), calls, finish: Finish::Tools };
    }
    let mut tokens = match (&ask.format, &settings.answer) {
        (Some(format), _) => tokenize(&schema::instance(format, topic(&ask.prompt)).to_string()),
        (None, Some(text)) => tokenize(text),
        (None, None) => speak(ask, pace, settings, seed),
    };
    let limit = ask.max_tokens.unwrap_or(usize::MAX);
    let finish = if tokens.len() > limit { Finish::Length } else { Finish::Stop };
    tokens.truncate(limit);
    Choice { tokens, calls: Vec::new(), finish }
}

/// One call, or two at once when the prompt speaks of doing things in parallel.
fn calls(ask: &Ask, seed: u64) -> Vec<Call> {
    let wanted = if ask.prompt.contains("parallel") { 2 } else { 1 };
    ask.tools
        .iter()
        .cycle()
        .take(if ask.tools.is_empty() { 0 } else { wanted })
        .zip(0u64..)
        .map(|(tool, index)| Call {
            id: mix(seed.wrapping_add(index)),
            name: tool.name.clone(),
            arguments: schema::instance(&tool.schema, topic(&ask.prompt)),
        })
        .collect()
}

/// A word of the prompt, so that generated values differ as prompts do.
fn topic(prompt: &str) -> &str {
    let words = prompt.split(|c: char| !c.is_alphanumeric());
    words.max_by_key(|word| word.len()).filter(|word| !word.is_empty()).unwrap_or("text")
}

/// An echo of the prompt, its hash, and then filler of the wanted length.
fn speak(ask: &Ask, pace: &Pace, settings: &Settings, seed: u64) -> Vec<String> {
    let mut tokens = vec!["You".to_owned(), " said:".to_owned()];
    let words = ask.prompt.split_whitespace().take(8);
    tokens.extend(words.map(|word| format!(" {}", shorten(word))));
    tokens.push(format!(" ({:08x}).", seed as u32));
    match settings.answer_bytes {
        Some(bytes) => fill_bytes(tokens, bytes.min(MAX_TOKENS * 8), seed),
        None => {
            let mut tokens = tokens;
            let missing = pace.tokens.saturating_sub(tokens.len());
            tokens.extend(filler(seed).take(missing));
            tokens.truncate(pace.tokens.max(1));
            tokens
        }
    }
}

fn fill_bytes(mut tokens: Vec<String>, bytes: usize, seed: u64) -> Vec<String> {
    let mut length: usize = tokens.iter().map(String::len).sum();
    let mut filler = filler(seed);
    while length < bytes {
        let Some(word) = filler.next() else { break };
        length += word.len();
        tokens.push(word);
    }
    // Cut back to the exact length; filler and echo are cut on a character.
    while length > bytes {
        let Some(mut last) = tokens.pop() else { break };
        length -= last.len();
        let mut keep = bytes.saturating_sub(length).min(last.len());
        while !last.is_char_boundary(keep) {
            keep -= 1;
        }
        last.truncate(keep);
        if keep > 0 {
            length += keep;
            tokens.push(last);
            // A cut inside a character leaves fewer bytes than wanted; dots make up for them.
            if length < bytes {
                tokens.push(".".repeat(bytes - length));
            }
            break;
        }
    }
    tokens
}

fn shorten(word: &str) -> String {
    word.chars().take(24).collect()
}

fn filler(seed: u64) -> impl Iterator<Item = String> {
    const WORDS: [&str; 16] = [
        " the", " river", " keeps", " its", " own", " time", " and", " carries", " every", " small",
        " stone", " toward", " a", " slower", " quieter", " sea.",
    ];
    (0u64..).map(move |index| {
        let pick = mix(seed.wrapping_add(index)) % 16;
        WORDS.get(pick as usize).copied().unwrap_or(" and").to_owned()
    })
}

/// Words with the space before them, as tokenizers tend to cut.
fn tokenize(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        let starts = c.is_whitespace() && in_word;
        in_word = !c.is_whitespace();
        match tokens.last_mut() {
            Some(token) if !starts => token.push(c),
            _ => tokens.push(c.into()),
        }
    }
    tokens
}

/// FNV-1a, the shortest hash that serves.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The splitmix64 finisher: every input bit reaches every output bit.
pub(crate) fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(prompt: &str, settings: &Settings) -> Reply {
        let ask = Ask { prompt: prompt.into(), fingerprint: hash(prompt.as_bytes()), ..Ask::default() };
        let pace = Pace::resolve(settings, &http::HeaderMap::new(), "m");
        Reply::new(&ask, &pace, settings)
    }

    #[test]
    fn equal_prompts_get_equal_answers_and_others_do_not() {
        let settings = Settings::default();
        let text = |prompt| reply(prompt, &settings).only().text();
        assert_eq!(text("hello there"), text("hello there"));
        assert_ne!(text("hello there"), text("hello you"));
        assert!(text("hello there").contains("hello there"));
    }

    #[test]
    fn an_answer_has_the_length_that_was_set() {
        let tokens = Settings { tokens: 50, ..Settings::default() };
        assert_eq!(reply("a", &tokens).only().tokens.len(), 50);
        for bytes in [1, 7, 100, 8192] {
            let settings = Settings { answer_bytes: Some(bytes), ..Settings::default() };
            assert_eq!(reply("größe – ünï", &settings).only().text().len(), bytes);
        }
    }

    #[test]
    fn tokens_join_to_the_text() {
        for text in ["", " a  b\n\nc ", "one two", "ünï cödé"] {
            assert_eq!(tokenize(text).concat(), text);
        }
    }
}
