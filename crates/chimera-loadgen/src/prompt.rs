//! Text of a stated length.
//!
//! A word is about one token to the vendors' tokenizers, so a prompt of so many tokens is so many words.
//! Nothing in it needs escaping. A prompt of a trace is made of blocks: equal block ids are equal text, so
//! that prefixes are shared where they were recorded as shared.

use std::sync::LazyLock;

use bytes::{BufMut, BytesMut};

use crate::random::{Random, mix};

/// Tokens of one block of a Mooncake trace.
pub(crate) const BLOCK: u32 = 512;

/// Words of three letters and a space, sixteen of them.
const WORDS: [&[u8; 4]; 16] = [
    b"the ", b"sun ", b"and ", b"sea ", b"are ", b"not ", b"far ", b"now ", b"one ", b"day ", b"you ",
    b"may ", b"see ", b"how ", b"red ", b"sky ",
];

/// A long text to cut pieces from.
static FILLER: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut random = Random::new(17);
    let mut text = Vec::with_capacity(4 * 8192);
    for _ in 0..8192 {
        text.extend_from_slice(word(random.next()));
    }
    text
});

fn word(number: u64) -> &'static [u8; 4] {
    WORDS.get((number & 15) as usize).copied().unwrap_or(b"the ")
}

/// What is asked: equal values are equal text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Prompt {
    pub(crate) number: u64,
    /// How long it is.
    pub(crate) tokens: u32,
    /// How long the answer may be.
    pub(crate) output: u32,
    pub(crate) blocks: Blocks,
}

/// Where the text comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocks {
    /// The number and filler.
    None,
    /// These of the trace's block ids.
    Of { from: u32, to: u32 },
}

impl Prompt {
    /// Bytes that it takes at most.
    pub(crate) fn room(&self) -> usize {
        4 * self.tokens as usize + 24
    }

    /// Writes the text. `trace` are the block ids of the trace.
    pub(crate) fn write(&self, trace: &[u32], out: &mut BytesMut) {
        if let Blocks::Of { from, to } = self.blocks {
            let ids = trace.get(from as usize..to as usize).unwrap_or_default();
            let mut left = self.tokens;
            for (at, id) in ids.iter().enumerate() {
                // The last block takes what the others leave.
                let words = if at + 1 == ids.len() { left } else { left.min(BLOCK) };
                block(u64::from(*id), self.number, words, out);
                left -= words;
            }
            return;
        }
        hexadecimal(self.number, out);
        out.put_u8(b' ');
        // The number itself is about eight tokens.
        let mut left = 4 * self.tokens.saturating_sub(8) as usize;
        while left > 0 {
            let piece = FILLER.get(..left.min(FILLER.len())).unwrap_or_default();
            out.put_slice(piece);
            left -= piece.len();
        }
    }
}

/// So many words that belong to a block id; `salt` keeps one run's apart from another's.
fn block(id: u64, salt: u64, words: u32, out: &mut BytesMut) {
    let mut bits = mix(salt ^ mix(id + 1));
    let mut random = Random::new(bits);
    for at in 0..words {
        if at % 16 == 0 {
            bits = random.next();
        }
        out.put_slice(word(bits));
        bits >>= 4;
    }
}

fn hexadecimal(number: u64, out: &mut BytesMut) {
    for shift in (0..16).rev() {
        let digit = ((number >> (4 * shift)) & 15) as u8;
        out.put_u8(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }
}

/// A number in decimal.
pub(crate) fn decimal(number: u32, out: &mut BytesMut) {
    if number >= 10 {
        decimal(number / 10, out);
    }
    out.put_u8(b'0' + (number % 10) as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(prompt: Prompt, trace: &[u32]) -> String {
        let mut out = BytesMut::new();
        prompt.write(trace, &mut out);
        assert!(out.len() <= prompt.room());
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_prompt_is_as_long_as_asked() {
        for tokens in [8, 100, 20_000] {
            let text = text(Prompt { number: 5, tokens, output: 1, blocks: Blocks::None }, &[]);
            assert_eq!(text.split_whitespace().count(), tokens as usize - 7);
        }
    }

    #[test]
    fn blocks_that_agree_are_equal_text_and_others_are_not() {
        let trace = [1, 2, 1, 3];
        let of = |from, tokens| {
            let blocks = Blocks::Of { from, to: from + 2 };
            text(Prompt { number: 0, tokens, output: 1, blocks }, &trace)
        };
        let (one, other) = (of(0, 700), of(2, 800));
        assert_eq!((one.split_whitespace().count(), other.split_whitespace().count()), (700, 800));
        let shared = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        assert!((4 * 512..4 * 520).contains(&shared), "{shared}");
        assert_eq!(of(0, 700), one);
    }

    #[test]
    fn numbers_are_decimal() {
        let mut out = BytesMut::new();
        [0, 7, 10, 4096].iter().for_each(|number| decimal(*number, &mut out));
        assert_eq!(&out[..], b"07104096");
    }
}
