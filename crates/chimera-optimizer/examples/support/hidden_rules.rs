//! A simulated model whose answers depend on what its prompt says, and on nothing else.
//!
//! An input is a few lines `field: value`; the right output is a JSON object with each value brought into the
//! form that its field has to have. Which form that is are the hidden rules. The model brings a value into a
//! form when its instruction says so in a sentence that names the field and the form, or when it was shown
//! examples of it, most of the time; it leaves the value as it is otherwise. What the instruction says beside
//! that makes it forget rules now and then, and a sentence that a field is to be left alone undoes its rule.
//!
//! Feedback names the first rule that was broken. Asked for a better instruction, the model takes up what
//! feedback it is shown, a few rules at a time, and not always well: it writes the rule, or something vague,
//! or that the field be left alone, and sometimes loses a sentence. Without feedback it guesses.
//!
//! Everything is drawn from hashes of what was asked: the same question has the same answer.
#![allow(dead_code, unreachable_pub, clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeMap, time::Duration};

use chimera_optimizer::{
    Case, Chance, Dataset, Evaluator, Example, Judgement, LanguageModel, ModelAnswer, ModelRequest, Spend,
    Task, evaluators::evaluator_fn, model_fn,
};
use serde_json::{Map, Value};

/// A form that a value can be brought into.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    Upper,
    Lower,
    TwoDecimals,
    Cents,
    IsoDate,
    DigitsOnly,
    Dashes,
    FirstWord,
    LastNameFirst,
    Initials,
    Sorted,
    Padded,
    Begins(&'static str),
    Ends(&'static str),
}

use Form::*;

const FORMS: &[Form] = &[
    Upper,
    Lower,
    TwoDecimals,
    Cents,
    IsoDate,
    DigitsOnly,
    Dashes,
    FirstWord,
    LastNameFirst,
    Initials,
    Sorted,
    Padded,
    Begins("EUR "),
    Begins("v"),
    Begins("+"),
    Begins("#"),
    Ends(" min"),
    Ends(" kg"),
];

/// A field: its name, sample values, the forms of its value in order.
struct Field(&'static str, &'static [&'static str], &'static [Form]);

const NAMES: &[&str] = &["Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov"];
const DATES: &[&str] = &["3 April 2026", "17 May 2025", "9 June 2024", "28 March 2026", "1 July 2025"];
const WORDS: &[&str] =
    &["Net Thirty Days", "Due On Receipt", "Half In Advance", "Paid By Card", "On Account"];

/// The three tasks.
pub const TASKS: [&str; 3] = ["invoices", "tickets", "catalogue"];

fn fields(task: &str) -> &'static [Field] {
    match task {
        "invoices" => &[
            Field("amount", &["12.5", "7", "310.25", "99.9", "1200"], &[TwoDecimals, Begins("EUR ")]),
            Field("customer", NAMES, &[LastNameFirst]),
            Field("issued", DATES, &[IsoDate]),
            Field(
                "reference",
                &["Ref 4711", "Ref 12/9", "R-77 1", "No 5 of 6", "Ref 31"],
                &[DigitsOnly, Padded],
            ),
            Field("city", &["Lyon", "Porto", "Gdansk", "Malmo", "Trieste"], &[Upper]),
            Field("terms", WORDS, &[FirstWord]),
            Field(
                "remark",
                &["Call FIRST", "Leave AT Door", "No RUSH", "Ask FOR Ann", "Back GATE"],
                &[Lower],
            ),
            Field("account", &["12 34 56", "98 76 54", "11 22 33", "55 44 33", "10 20 30"], &[Dashes]),
        ],
        "tickets" => &[
            Field(
                "title",
                &["Login Fails", "Slow Search Page", "Bad Icon", "Crash On Save", "No Sound"],
                &[Lower, Dashes],
            ),
            Field("severity", &["low", "high", "medium", "urgent", "none"], &[Upper]),
            Field("reporter", NAMES, &[Initials]),
            Field("opened", DATES, &[IsoDate]),
            Field("version", &["1.2", "3.0", "0.9", "2.7", "4.1"], &[Begins("v")]),
            Field("labels", &["ui bug auth", "web api", "slow db cache", "mobile app", "print"], &[Sorted]),
            Field("spent", &["30", "45", "5", "120", "15"], &[Ends(" min")]),
            Field(
                "phone",
                &["(44) 20 71", "49/30/12", "33-1-55", "1 202 555", "(7) 495"],
                &[DigitsOnly, Begins("+")],
            ),
        ],
        _ => &[
            Field("sku", &["ab 12 x", "qr 7 z", "lm 90 c", "tt 1 a", "zz 5 b"], &[Upper, Dashes]),
            Field("price", &["3.5", "12", "0.99", "45.1", "7.25"], &[Cents]),
            Field("designer", NAMES, &[LastNameFirst, Upper]),
            Field("released", DATES, &[IsoDate]),
            Field("weight", &["2", "14", "0.4", "7", "31"], &[Ends(" kg")]),
            Field(
                "materials",
                &["wool felt", "oak steel glass", "paper", "silk linen cotton", "tin"],
                &[Sorted],
            ),
            Field("batch", &["lot 17", "lot 204", "b 9", "run 33", "lot 6"], &[DigitsOnly, Begins("#")]),
            Field(
                "shelf",
                &["North Wall", "Low Rack", "Cold Room", "Front Desk", "Back Yard"],
                &[FirstWord, Lower],
            ),
        ],
    }
}

fn all_fields() -> impl Iterator<Item = &'static Field> {
    TASKS.iter().flat_map(|task| fields(task))
}

impl Form {
    /// The words by which a sentence asks for the form.
    fn words(self) -> String {
        match self {
            Upper => "in capital letters".into(),
            Lower => "in small letters".into(),
            TwoDecimals => "with two decimals".into(),
            Cents => "as a whole number of cents".into(),
            IsoDate => "as year-month-day".into(),
            DigitsOnly => "with its digits only".into(),
            Dashes => "with dashes for spaces".into(),
            FirstWord => "by its first word only".into(),
            LastNameFirst => "with the last name first".into(),
            Initials => "as initials".into(),
            Sorted => "in alphabetical order".into(),
            Padded => "padded to eight places".into(),
            Begins(what) => format!("beginning with '{what}'"),
            Ends(what) => format!("ending with '{what}'"),
        }
    }

    fn apply(self, value: &str) -> String {
        let number = || value.trim().parse::<f64>().unwrap_or(0.0);
        let words: Vec<&str> = value.split_whitespace().collect();
        match self {
            Upper => value.to_uppercase(),
            Lower => value.to_lowercase(),
            TwoDecimals => format!("{:.2}", number()),
            Cents => format!("{:.0}", number() * 100.0),
            IsoDate => iso(&words).unwrap_or_else(|| value.to_owned()),
            DigitsOnly => value.chars().filter(char::is_ascii_digit).collect(),
            Dashes => value.replace(' ', "-"),
            FirstWord => words.first().copied().unwrap_or_default().to_owned(),
            LastNameFirst => match words.as_slice() {
                [first, last] => format!("{last}, {first}"),
                _ => value.to_owned(),
            },
            Initials => words.iter().filter_map(|word| word.chars().next()).collect(),
            Sorted => {
                let mut words = words;
                words.sort_unstable();
                words.join(" ")
            }
            Padded => format!("{value:0>8}"),
            Begins(what) => format!("{what}{value}"),
            Ends(what) => format!("{value}{what}"),
        }
    }
}

fn iso(words: &[&str]) -> Option<String> {
    let [day, month, year] = words else { return None };
    let month = ["March", "April", "May", "June", "July"].iter().position(|name| name == month)? + 3;
    Some(format!("{year}-{month:02}-{:0>2}", day))
}

fn right(field: &Field, raw: &str) -> String {
    field.2.iter().fold(raw.to_owned(), |value, form| form.apply(&value))
}

/// Draws from a hash of what was asked.
fn drawn(parts: &[&str], seed: u64) -> Chance {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in parts.iter().flat_map(|part| part.bytes().chain([0])) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    Chance::new(hash, seed)
}

/// The sentences of a text, in lower case.
fn sentences(text: &str) -> Vec<String> {
    text.split_inclusive(['.', '\n', '!', '?'])
        .map(|sentence| sentence.trim().to_lowercase())
        .filter(|sentence| sentence.len() > 1)
        .collect()
}

fn names(sentence: &str, field: &str) -> bool {
    sentence.split(|c: char| !c.is_alphanumeric()).any(|word| word == field)
}

/// What an instruction says of a field: the forms that it asks for.
fn asked(instruction: &[String], field: &Field) -> Vec<Form> {
    let mut forms = Vec::new();
    for sentence in instruction.iter().filter(|sentence| names(sentence, field.0)) {
        if sentence.contains("leave") {
            forms.clear();
        }
        forms.extend(FORMS.iter().filter(|form| sentence.contains(&form.words().to_lowercase())));
    }
    forms
}

/// Whether the model was shown, in its prompt, how a field's value is brought into form.
fn is_shown(prompt: &str, field: &Field) -> bool {
    let mut raw: Option<&str> = None;
    for line in prompt.lines() {
        if let Some(value) = raw_of(line, field.0) {
            raw = Some(value);
        }
        let want = raw.map(|raw| format!("\"{}\":{}", field.0, Value::from(right(field, raw))));
        if want.is_some_and(|want| line.replace("\": ", "\":").contains(&want)) {
            return true;
        }
    }
    false
}

fn raw_of<'a>(line: &'a str, field: &str) -> Option<&'a str> {
    let line = line.trim_start_matches("Input: ");
    line.strip_prefix(field)?.strip_prefix(": ")
}

/// The answer to an input under an instruction.
fn work(system: &str, user: &str, seed: u64) -> String {
    let instruction = sentences(system);
    let useless = instruction.iter().filter(|sentence| !is_rule(sentence)).count();
    let forgets = (0.015 * useless.saturating_sub(2) as f64).min(0.4);
    let mut output = Map::new();
    for field in all_fields() {
        let Some(raw) = user.lines().rev().find_map(|line| raw_of(line, field.0)) else { continue };
        let mut chance = drawn(&[system, user, field.0], seed);
        let forms = asked(&instruction, field);
        let mut value = raw.to_owned();
        if chance.unit() >= forgets {
            if is_shown(system, field) && chance.unit() < 0.7 {
                value = right(field, raw);
            } else {
                // In the order of the rules where it has them all, in its own order otherwise.
                let order = field.2.iter().chain(forms.iter().filter(|form| !field.2.contains(form)));
                for form in order.filter(|form| forms.contains(form)) {
                    value = form.apply(&value);
                }
            }
        }
        output.insert(field.0.to_owned(), Value::from(value));
    }
    Value::Object(output).to_string()
}

fn is_rule(sentence: &str) -> bool {
    all_fields().any(|field| names(sentence, field.0))
        && FORMS.iter().any(|form| sentence.contains(&form.words().to_lowercase()))
}

/// What feedback says of a broken rule; and how a reader of feedback knows it.
fn hint(field: &Field, form: Form) -> String {
    format!("the {} has to be written {}", field.0, form.words())
}

fn rule(field: &Field, form: Form) -> String {
    format!("Write the {} {}.", field.0, form.words())
}

/// A better instruction, as well as the model can.
fn improve(text: &str, seed: u64) -> String {
    let current =
        text.split("```").nth(1).map(|inside| inside.trim_start_matches("text").trim()).unwrap_or("");
    let mut chance = drawn(&[text], seed);
    let mut lines: Vec<String> = current
        .split_inclusive(['.', '\n'])
        .map(|sentence| sentence.trim().to_owned())
        .filter(|sentence| !sentence.is_empty())
        .collect();
    let lower = text.to_lowercase();
    let mut hints: Vec<(&Field, Form)> = Vec::new();
    for field in all_fields() {
        hints.extend(
            field
                .2
                .iter()
                .filter(|form| lower.contains(&hint(field, **form).to_lowercase()))
                .map(|form| (field, *form)),
        );
    }
    if hints.is_empty() {
        // No feedback: what it was shown of right answers says as much.
        let shown = all_fields().filter(|field| is_shown(text, field));
        hints.extend(shown.flat_map(|field| field.2.iter().map(move |form| (field, *form))));
    }
    chance.shuffle(&mut hints);
    let most = step(&lower).unwrap_or(3);
    let mut said = Vec::new();
    for (field, form) in hints.into_iter().take(most.min(4)) {
        let luck = chance.unit();
        if luck < 0.70 {
            lines.retain(|line| !(names(&line.to_lowercase(), field.0) && line.contains("Leave")));
            lines.push(rule(field, form));
        } else if luck < 0.85 {
            lines.push(format!("Take care of the {}.", field.0));
        } else {
            lines.push(format!("Leave the {} as it is.", field.0));
        }
        said.push(field.0);
    }
    if said.is_empty() && current.is_empty() {
        lines.push(SEED_PROMPT.to_owned());
    }
    if said.is_empty() {
        guess(&mut lines, &lower, most.min(3), &mut chance);
    }
    // What it has to copy, it does not always copy.
    if lines.len() > 2 && chance.unit() < 0.15 {
        lines.remove(1 + chance.below(lines.len() - 1));
    }
    let why = if said.is_empty() {
        "Another try.".to_owned()
    } else {
        format!("It lacks rules for {}.", said.join(", "))
    };
    format!("{why}\n```\n{}\n```", lines.join("\n"))
}

/// Without feedback: any form for any field that it knows of.
fn guess(lines: &mut Vec<String>, text: &str, count: usize, chance: &mut Chance) {
    let task = TASKS.iter().find(|task| text.contains(**task)).unwrap_or(&TASKS[0]);
    for _ in 0..count {
        let field = &fields(task)[chance.below(fields(task).len())];
        let form = FORMS[chance.below(FORMS.len())];
        lines.push(rule(field, form));
    }
}

fn step(text: &str) -> Option<usize> {
    let rest = text.split("change at most ").nth(1)?;
    rest.split(' ').next()?.parse().ok()
}

/// Whether a question asks for an instruction.
fn is_for_instruction(text: &str) -> bool {
    ["new instruction", "better prompt", "another version of the prompt", "proposed_instruction"]
        .iter()
        .any(|words| text.contains(words))
}

/// What the model answers.
pub fn answer(system: &str, user: &str, seed: u64) -> String {
    let all = format!("{system}\n{user}");
    if is_for_instruction(&all.to_lowercase()) { improve(&all, seed) } else { work(system, user, 0) }
}

/// Tokens, about.
pub fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4) as u64
}

/// The model; each answer takes so long.
pub fn model(latency: Duration) -> impl LanguageModel {
    model_fn(move |request: ModelRequest| async move {
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        // As over HTTP, where seeds are signed numbers.
        let text = answer(&request.system, &request.user, request.seed.unwrap_or(0) >> 1);
        let read = tokens(&request.system) + tokens(&request.user);
        Ok(ModelAnswer { spend: Spend::tokens(read, tokens(&text)), text })
    })
}

/// The share of fields that have the right form, and which rule was broken first where one was.
pub fn evaluator() -> impl Evaluator {
    evaluator_fn("hidden rules", |case: Case<'_>| {
        let expected = case.example.expected().as_object().cloned().unwrap_or_default();
        judge(&expected, case.output)
    })
}

pub fn judge(expected: &Map<String, Value>, output: &str) -> Judgement {
    let Ok(Value::Object(output)) = serde_json::from_str(output) else {
        return Judgement::new(0.0, "The output is no JSON object.");
    };
    let mut broken = Vec::new();
    for (name, want) in expected {
        let have = output.get(name).and_then(Value::as_str).unwrap_or_default();
        if Some(have) == want.as_str() {
            continue;
        }
        let field = all_fields().find(|field| field.0 == name).expect("a field of the task");
        // The first form whose absence explains the output, or else the first.
        let missing = field.2.iter().find(|form| lacks(field, **form, have, want)).unwrap_or(&field.2[0]);
        broken.push(hint(field, *missing));
    }
    let score = 1.0 - broken.len() as f64 / expected.len().max(1) as f64;
    let feedback = if broken.is_empty() { String::new() } else { format!("Wrong: {}.", broken.join("; ")) };
    Judgement::new(score, feedback)
}

fn lacks(field: &Field, form: Form, have: &str, want: &Value) -> bool {
    let without = |raw: &str| {
        field.2.iter().filter(|other| **other != form).fold(raw.to_owned(), |value, form| form.apply(&value))
    };
    field
        .1
        .iter()
        .any(|raw| want.as_str() == Some(&right(field, raw)) && (without(raw) == have || *raw == have))
}

/// Examples of a task: train, validation, held-out.
pub fn data(task: &str, seed: u64, sizes: [usize; 3]) -> Dataset {
    let mut chance = drawn(&["data", task], seed);
    let mut seen = std::collections::BTreeSet::new();
    let mut set = |size: usize| {
        let mut examples = Vec::new();
        while examples.len() < size {
            let mut input = String::new();
            let mut expected = Map::new();
            let chosen: BTreeMap<usize, ()> =
                chance.sample(8, 3).into_iter().map(|place| (place, ())).collect();
            for place in chosen.keys() {
                let field = &fields(task)[*place];
                let raw = field.1[chance.below(field.1.len())];
                input.push_str(&format!("{}: {raw}\n", field.0));
                expected.insert(field.0.to_owned(), Value::from(right(field, raw)));
            }
            if seen.insert(input.clone()) {
                examples.push(Example::new(format!("{task}-{}", seen.len()), input, Value::Object(expected)));
            }
        }
        examples
    };
    Dataset { train: set(sizes[0]), validation: set(sizes[1]), held_out: set(sizes[2]) }
}

/// The instruction that every search begins with.
pub const SEED_PROMPT: &str = "Answer with one JSON object that has every field of the input.";

/// A task over 20 train, 30 validation and 60 held-out examples.
pub fn task(name: &str, seed: u64) -> Task {
    Task::prompt(name, SEED_PROMPT, data(name, seed, [20, 30, 60]))
        .expect("a task that is all right")
        .about(format!("Records of {name} are brought into a fixed form."))
}
