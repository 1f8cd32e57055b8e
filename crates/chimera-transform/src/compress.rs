//! Prompts made shorter: without loss first, then by leaving sentences out.
//!
//! Lossless: white space at line ends, needless empty lines, JSON without its spaces, and paragraphs that
//! stand there again. If that does not reach the target, sentences are left out, the least telling first:
//! a sentence scores the mean, over its words, of how rare each word is in the whole prompt (the logarithm
//! of all words over those that are this one), words that are in the last question counting three times,
//! and the first and last sentence of a text twice. Code between fences, quoted spans and instructions are
//! never touched.

use std::collections::{HashMap, HashSet};

use crate::{
    changes::Changes,
    normalize::{Normalize, NormalizeSettings, UnicodeForm},
    prompt::{Part, Prompt, Role},
    seed::Seed,
    transform::{Stepped, Transform},
};

/// How short a prompt is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct CompressSettings {
    /// The share of bytes that is to be left at most; 1.0 does what is lossless and no more. Default 1.0.
    pub ratio: f64,
    /// Texts below so many bytes are left alone. Default 200.
    pub min_size: usize,
    /// Leaves alone what a provider's prompt cache may hold. Default yes.
    pub protect_prefix: bool,
}

impl Default for CompressSettings {
    fn default() -> Self {
        Self { ratio: 1.0, min_size: 200, protect_prefix: true }
    }
}

/// The step that compresses.
#[derive(Debug)]
pub struct Compress {
    settings: CompressSettings,
    tidy: Normalize,
}

impl Compress {
    /// The step.
    pub fn new(settings: CompressSettings) -> Self {
        let tidy = NormalizeSettings {
            form: UnicodeForm::Keep,
            invisible: false,
            line_ends: false,
            white_space: false,
            json: true,
        };
        Self { settings, tidy: Normalize::new(tidy) }
    }

    fn may_touch(&self, prompt: &Prompt<'_>, part: &Part<'_>) -> bool {
        let protected = self.settings.protect_prefix && prompt.is_prefix(part);
        part.role() != Role::System
            && !protected
            && !part.is_embedded()
            && part.text().len() >= self.settings.min_size
    }

    /// What is left of a text without loss; `seen` are the paragraphs so far.
    fn lossless(&self, text: &str, seen: &mut HashSet<u64>) -> String {
        let minified = self.tidy.text(text);
        if minified.len() < text.len() {
            return minified.into_owned();
        }
        let mut out: Vec<&str> = Vec::new();
        for (block, is_code) in blocks(text) {
            if is_code {
                out.push(block);
                continue;
            }
            for paragraph in block.split("\n\n").map(|paragraph| paragraph.trim_matches('\n')) {
                let long = paragraph.len() >= REPEATED;
                if !paragraph.trim().is_empty() && (!long || seen.insert(hash(paragraph.trim()))) {
                    out.push(paragraph);
                }
            }
        }
        let mut tidied = String::with_capacity(text.len());
        for (index, block) in out.into_iter().enumerate() {
            if index > 0 {
                tidied.push_str("\n\n");
            }
            match block.starts_with(FENCE) {
                true => tidied.push_str(block.trim_end()),
                false => push_lines(block, &mut tidied),
            }
        }
        tidied
    }
}

/// Lines without the white space at their ends.
fn push_lines(block: &str, out: &mut String) {
    for (index, line) in block.lines().enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(line.trim_end());
    }
}

/// Paragraphs below this are not looked for again: a list of short answers is no boilerplate.
const REPEATED: usize = 60;
const FENCE: &str = "```";

fn hash(text: &str) -> u64 {
    let bytes = blake3::hash(text.as_bytes());
    bytes.as_bytes().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Prose and fenced code in turn.
fn blocks(text: &str) -> Vec<(&str, bool)> {
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some(open) = rest.find(FENCE) {
        let (prose, code) = rest.split_at(open);
        let inner = code.get(FENCE.len()..).unwrap_or_default();
        let end = inner.find(FENCE).map_or(code.len(), |end| end + FENCE.len() * 2);
        let (code, after) = code.split_at(end);
        blocks.extend([(prose, false), (code, true)]);
        rest = after;
    }
    blocks.push((rest, false));
    blocks.retain(|(block, _)| !block.is_empty());
    blocks
}

impl Transform for Compress {
    fn name(&self) -> &str {
        "compress"
    }

    fn version(&self) -> String {
        format!("1 {:?}", self.settings)
    }

    fn request(&self, prompt: &Prompt<'_>, changes: &mut Changes, _: &Seed) -> Stepped {
        let mut seen = HashSet::new();
        let mut left: Vec<(usize, String)> = Vec::new();
        let (mut before, mut after) = (0, 0);
        for (index, part) in prompt.parts() {
            before += part.text().len();
            if self.may_touch(prompt, part) {
                let text = self.lossless(part.text(), &mut seen);
                after += text.len();
                left.push((index, text));
            } else {
                after += part.text().len();
            }
        }
        let target = (before as f64 * self.settings.ratio) as usize;
        if after > target {
            let weights = Weights::of(prompt);
            let all: usize = left.iter().map(|(_, text)| text.len()).sum();
            let spare = after - target;
            for (_, text) in &mut left {
                let share = spare * text.len() / all.max(1);
                let shorter = extract(text, text.len().saturating_sub(share), &weights);
                after -= text.len() - shorter.len();
                *text = shorter;
            }
        }
        for (index, text) in left {
            let part = prompt.parts().find(|(at, _)| *at == index);
            if part.is_some_and(|(_, part)| text.len() < part.text().len()) {
                changes.replace(index, text);
            }
        }
        changes.note("bytes_before", before as u64);
        changes.note("bytes_after", after as u64);
        changes.note("saved_percent", ((before - after.min(before)) * 100 / before.max(1)) as u64);
        Ok(None)
    }
}

/// How telling each word of a prompt is.
struct Weights {
    counts: HashMap<String, u32>,
    all: u32,
    asked: HashSet<String>,
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

impl Weights {
    fn of(prompt: &Prompt<'_>) -> Self {
        let (mut counts, mut all) = (HashMap::new(), 0);
        let mut asked = HashSet::new();
        for (_, part) in prompt.parts() {
            for word in words(part.text()) {
                *counts.entry(word).or_insert(0) += 1;
                all += 1;
            }
        }
        // The question stands at the end.
        if let Some((_, last)) = prompt.parts().filter(|(_, part)| part.role() == Role::User).last() {
            let question = last.text().rsplit(['\n', '.', '!']).find(|sentence| !sentence.trim().is_empty());
            asked.extend(words(question.unwrap_or_default()).filter(|word| word.len() > 3));
        }
        Self { counts, all, asked }
    }

    fn score(&self, sentence: &str) -> f64 {
        let (mut sum, mut count) = (0.0, 0);
        for word in words(sentence) {
            let known = self.counts.get(&word).copied().unwrap_or(1);
            let rare = (f64::from(self.all) / f64::from(known)).ln();
            sum += if self.asked.contains(&word) { rare * 3.0 } else { rare };
            count += 1;
        }
        if count == 0 { f64::MAX } else { sum / f64::from(count) }
    }
}

/// A text with the least telling sentences left out until it has so many bytes.
fn extract(text: &str, target: usize, weights: &Weights) -> String {
    let mut pieces: Vec<(&str, bool)> = Vec::new();
    for (block, is_code) in blocks(text) {
        match is_code {
            true => pieces.push((block, true)),
            false => pieces.extend(sentences(block).map(|one| (one, one.contains(['"', '“', '`', '«'])))),
        }
    }
    let last = pieces.len().saturating_sub(1);
    let mut ranked: Vec<(f64, usize)> = pieces
        .iter()
        .enumerate()
        .filter(|(_, (_, protected))| !protected)
        .map(|(at, (piece, _))| (weights.score(piece) * if at == 0 || at == last { 2.0 } else { 1.0 }, at))
        .collect();
    ranked.sort_by(|one, two| one.0.total_cmp(&two.0));
    let (mut length, mut dropped) = (text.len(), HashSet::new());
    for (_, at) in ranked {
        if length <= target {
            break;
        }
        length -= pieces.get(at).map_or(0, |(piece, _)| piece.len());
        dropped.insert(at);
    }
    let kept = pieces.iter().enumerate().filter(|(at, _)| !dropped.contains(at));
    kept.map(|(_, (piece, _))| *piece).collect()
}

/// Sentences and lines, each with the space behind it.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let bytes = rest.as_bytes();
        let ends = |at: &usize| match bytes.get(*at) {
            Some(b'\n') => true,
            Some(b' ') => {
                at.checked_sub(1).is_some_and(|at| matches!(bytes.get(at), Some(b'.' | b'!' | b'?')))
            }
            _ => false,
        };
        let end = (0..bytes.len()).find(ends).map_or(bytes.len(), |at| at + 1);
        let (sentence, after) = rest.split_at(end);
        rest = after;
        Some(sentence)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pipeline, Step};

    fn run(settings: CompressSettings, body: &str) -> (String, u64) {
        let pipeline = Pipeline::new("p", [Step::new(Compress::new(settings))]);
        let done = pipeline.run_body(body.as_bytes(), &Seed::derive(&[0; 32], "")).unwrap();
        (done.output(body).into_owned(), done.report[0].notes.get("saved_percent"))
    }

    fn user(text: &str) -> String {
        format!(r#"{{"messages":[{{"role":"user","content":{}}}]}}"#, serde_json::Value::from(text))
    }

    fn content(body: &str, turn: usize) -> String {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["messages"][turn]["content"].as_str().unwrap().to_owned()
    }

    const NOTICE: &str =
        "This message is confidential and meant for its addressee alone; whoever else reads it, forget it.";

    #[test]
    fn repeats_and_white_space_go_without_loss() {
        let text = format!("First.   \n\n\n\n{NOTICE}\n\nSecond.\n\n{NOTICE}\n\nThird.\n\n{NOTICE}\n");
        let (out, saved) = run(CompressSettings::default(), &user(&text));
        assert_eq!(content(&out, 0), format!("First.\n\n{NOTICE}\n\nSecond.\n\nThird."));
        assert!(saved > 50);
    }

    #[test]
    fn json_loses_its_spaces_and_code_nothing() {
        let rows: Vec<String> = (0..20).map(|n| format!("  {{ \"n\" : {n} }}")).collect();
        let (out, _) = run(CompressSettings::default(), &user(&format!("[\n{}\n]", rows.join(",\n"))));
        assert!(content(&out, 0).starts_with(r#"[{"n":0},{"n":1}"#));
        let code = format!("Look:\n\n```py\nif x:   \n\n\n    y()\n```\n\n{NOTICE}\n\n{NOTICE}");
        let (out, _) = run(CompressSettings::default(), &user(&code));
        assert!(content(&out, 0).contains("```py\nif x:   \n\n\n    y()\n```"), "{out}");
    }

    #[test]
    fn sentences_are_left_out_until_the_target_and_what_is_asked_for_stays() {
        let filler = "The weather was as it mostly is and there is no more to it than that. ".repeat(20);
        let text = format!(
            "Start here. {filler}The Lyon contract ends in March. He said \"keep this\". {filler}When does the Lyon contract end?"
        );
        let settings = CompressSettings { ratio: 0.3, ..CompressSettings::default() };
        let (out, saved) = run(settings, &user(&text));
        let out = content(&out, 0);
        assert!(saved >= 70, "{saved} {out}");
        for kept in ["The Lyon contract ends in March.", "\"keep this\"", "When does the Lyon contract end?"]
        {
            assert!(out.contains(kept), "{out}");
        }
    }

    #[test]
    fn pain_18_what_a_prompt_cache_may_hold_and_the_instructions_are_left_alone() {
        let long = serde_json::Value::from(format!("{NOTICE}  \n\n\n\n{NOTICE}  \n\n\n\n{NOTICE}"));
        let body = format!(
            r#"{{"messages":[{{"role":"system","content":{long}}},{{"role":"user","content":{long}}},{{"role":"assistant","content":{long}}},{{"role":"user","content":{long}}}]}}"#
        );
        let (out, _) = run(CompressSettings { ratio: 0.1, ..CompressSettings::default() }, &body);
        for turn in 0..3 {
            assert_eq!(content(&out, turn), content(&body, turn));
        }
        assert!(content(&out, 3).len() < content(&body, 3).len());
    }
}
