//! Tokens, counted as OpenAI counts them.
//!
//! Text is counted with OpenAI's own encodings. What a request costs beyond its text follows OpenAI's
//! published recipe: three tokens around each message, one for a name, three before the answer. Tools
//! and calls are counted as they are spelled, and pictures by their usual price: of requests with these,
//! and of models that are not OpenAI's, the count is an estimate.

use std::sync::OnceLock;

use chimera_protocol::json::{Document, Kind, Value};
use tiktoken::{CoreBpe, encoding};

use crate::prompt::Part;

const PER_MESSAGE: u64 = 3;
const PER_NAME: u64 = 1;
const BEFORE_ANSWER: u64 = 3;
/// A picture of a megapixel in tiles, or at a low resolution.
const PICTURE: u64 = 765;
const SMALL_PICTURE: u64 = 85;

/// The encoding of a model. The tables are unpacked when they are first asked for.
fn encoding(model: &str) -> &'static CoreBpe {
    static O200K: OnceLock<CoreBpe> = OnceLock::new();
    static CL100K: OnceLock<CoreBpe> = OnceLock::new();
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let is_old = name == "gpt-4" || ["gpt-4-", "gpt-3.5", "gpt-35"].iter().any(|old| name.starts_with(old));
    match is_old {
        true => CL100K.get_or_init(encoding::cl100k_base),
        false => O200K.get_or_init(encoding::o200k_base),
    }
}

/// Unpacks the tables of every encoding, so that no request waits for them.
pub fn warm() {
    for model in ["gpt-4o", "gpt-4"] {
        encoding(model);
    }
}

/// Whether counts for a model are exact: its encoding is one of those here.
pub fn is_exact(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("ft:").unwrap_or(name);
    let reasons = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    reasons || ["gpt-", "chatgpt-"].iter().any(|family| name.starts_with(family))
}

/// How many tokens a text has.
pub fn count_text(text: &str, model: &str) -> u64 {
    Counter::of(model).text(text)
}

/// How many tokens a chat request of OpenAI's has.
pub fn count(request: &Document<'_>, model: &str) -> u64 {
    let counter = Counter::of(model);
    let messages = request.root().get("messages").into_iter().flat_map(Value::elements);
    let messages: u64 = messages.map(|message| counter.message(message)).sum();
    let tools = request.root().get("tools").into_iter().flat_map(Value::elements);
    let tools: u64 = tools.filter_map(|tool| tool.get("function")).map(|tool| counter.raw(tool)).sum();
    messages
        + tools
        + request.root().get("response_format").map_or(0, |format| counter.raw(format))
        + BEFORE_ANSWER
}

/// Counts in one encoding.
pub(crate) struct Counter(&'static CoreBpe);

impl Counter {
    pub(crate) fn of(model: &str) -> Self {
        Self(encoding(model))
    }

    pub(crate) fn text(&self, text: &str) -> u64 {
        self.0.count(text) as u64
    }

    /// A text of a prompt.
    pub(crate) fn of_part(&self, part: &Part<'_>) -> u64 {
        self.text(part.text()) + if part.is_embedded() { PER_MESSAGE } else { 0 }
    }

    /// What a turn costs besides its texts: its frame, and the name of its role.
    pub(crate) fn per_turn(&self) -> u64 {
        PER_MESSAGE + 1
    }

    /// What so many turns cost besides their texts.
    pub(crate) fn frames(&self, turns: usize) -> u64 {
        turns as u64 * self.per_turn() + if turns > 0 { BEFORE_ANSWER } else { 0 }
    }

    fn raw(&self, value: Value<'_>) -> u64 {
        self.text(value.raw())
    }

    fn string(&self, value: Value<'_>) -> u64 {
        value.as_str().map_or(0, |text| self.text(&text))
    }

    fn message(&self, message: Value<'_>) -> u64 {
        let members = message.members().map(|(key, value)| match &*key.as_str().unwrap_or_default() {
            "role" => self.string(value),
            "name" => self.string(value) + PER_NAME,
            "content" => self.content(value),
            "refusal" | "reasoning_content" => self.string(value),
            "tool_calls" => value.elements().map(|call| self.call(call)).sum(),
            _ => 0,
        });
        PER_MESSAGE + members.sum::<u64>()
    }

    fn content(&self, content: Value<'_>) -> u64 {
        if content.kind() == Kind::String {
            return self.string(content);
        }
        content.elements().map(|part| self.part(part)).sum()
    }

    fn part(&self, part: Value<'_>) -> u64 {
        if let Some(image) = part.get("image_url") {
            let is_small = image.get("detail").is_some_and(|detail| detail.is("low"));
            return if is_small { SMALL_PICTURE } else { PICTURE };
        }
        ["text", "refusal"].iter().filter_map(|name| part.get(name)).map(|text| self.string(text)).sum()
    }

    fn call(&self, call: Value<'_>) -> u64 {
        let Some(function) = call.get("function") else { return 0 };
        let parts = ["name", "arguments"].iter().filter_map(|name| function.get(name));
        PER_MESSAGE + parts.map(|part| self.string(part)).sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIXED: &str = include_str!("tokens.rs");

    /// Texts of every kind: code, prose, other scripts, numbers, whitespace, and noise without seams.
    fn texts() -> Vec<String> {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        let mut texts: Vec<String> = [
            "",
            " ",
            "hi",
            "The quick brown fox, it's said, jumps.",
            "日本語のテキストと 中文 и русский",
            "עברית and العربية",
            "👩‍👩‍👧‍👦 🇩🇪 e\u{301}",
            "x=1_000_000;\r\n\r\n\tif(y){}",
            "<|endoftext|> <|im_start|>",
            "I'LL we'Re DON'T",
            "1234567890 3.14159 0xdeadbeef",
            "\u{0}\u{7f}\u{a0}\u{2028}",
            "ＦＵＬＬ ｗｉｄｔｈ ǅ ß",
        ]
        .map(str::to_owned)
        .to_vec();
        texts.push(MIXED.to_owned());
        for letters in [&b"ab "[..], b"aA1 .\n'", b"etaoin shrdlu", b"\t \r\n"] {
            for length in [7, 60, 900] {
                let bytes = (0..length).map(|_| letters[random(letters.len() as u64) as usize]);
                texts.push(String::from_utf8(bytes.collect()).unwrap());
            }
        }
        for _ in 0..60 {
            let length = random(120);
            texts.push((0..length).filter_map(|_| char::from_u32(random(0x2_0000) as u32)).collect());
        }
        texts
    }

    #[test]
    fn pain_19_text_is_counted_as_an_independent_tokenizer_counts_it() {
        let pairs = [("gpt-4o", bpe_openai::o200k_base()), ("gpt-4", bpe_openai::cl100k_base())];
        for (model, oracle) in pairs {
            for text in texts() {
                assert_eq!(encoding(model).count(&text), oracle.count(&text), "{model}: {text:?}");
            }
        }
    }

    #[test]
    fn the_encoding_follows_from_the_models_name() {
        let of = |model: &str| encoding(model) as *const CoreBpe;
        for model in [
            "gpt-4o-mini",
            "gpt-4.1",
            "gpt-4.5-preview",
            "gpt-5",
            "o1",
            "o4-mini",
            "chatgpt-4o-latest",
            "llama",
            "openai/gpt-4o",
        ] {
            assert_eq!(of(model), of("gpt-4o"), "{model}");
        }
        for model in [
            "gpt-4",
            "gpt-4-turbo",
            "gpt-4-0613",
            "gpt-3.5-turbo",
            "gpt-35-turbo",
            "ft:gpt-3.5-turbo:me",
            "openai/gpt-4",
        ] {
            assert_eq!(of(model), of("gpt-3.5"), "{model}");
        }
        assert_ne!(of("gpt-4"), of("gpt-4o"));
    }

    fn of(body: &str) -> u64 {
        count(&Document::parse(body.as_bytes()).unwrap(), "gpt-4")
    }

    /// Everything that the recipe knows of, its text counted by the other tokenizer.
    #[test]
    fn a_conversation_is_counted_by_the_published_recipe() {
        let body = r#"{"messages":[
            {"role":"system","content":"Answer in the fewest words that are true."},
            {"role":"user","name":"ada","content":"Which river runs through Regensburg?"},
            {"role":"assistant","content":"The Danube."},
            {"role":"user","name":"ada","content":"Et à Lyon ?"}
        ]}"#;
        let texts = [
            "system",
            "Answer in the fewest words that are true.",
            "user",
            "ada",
            "Which river runs through Regensburg?",
            "assistant",
            "The Danube.",
            "user",
            "ada",
            "Et à Lyon ?",
        ];
        let text: usize = texts.iter().map(|text| bpe_openai::cl100k_base().count(text)).sum();
        assert_eq!(of(body), text as u64 + 4 * PER_MESSAGE + 2 * PER_NAME + BEFORE_ANSWER);
    }

    #[test]
    fn what_is_not_text_is_estimated() {
        let plain = of(r#"{"messages":[{"role":"user","content":"hi"}]}"#);
        assert_eq!(plain, 3 + 1 + 1 + 3);
        assert_eq!(
            of(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"h\u0069"}]}]}"#),
            plain
        );
        let picture = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"x","detail":"low"}}]}]}"#;
        assert_eq!(of(picture), plain + SMALL_PICTURE);
        assert_eq!(of(&picture.replace("low", "high")), plain + PICTURE);
        let call = r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]}]}"#;
        assert_eq!(of(call), plain + 3 + 1 + 3 + 1 + 1);
        let tools = r#"{"messages":[{"role":"user","content":"hi"}],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
        assert!(of(tools) > plain);
    }
}
