//! A labelled set of synthetic sentences, and what redaction finds and misses of it.
//!
//! `labelled` prints recall and precision for each kind. `labelled --write FILE` writes the set as lines of
//! JSON, so that another tool can be measured on the same texts. The seed is fixed: the set is always the
//! same.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    missing_docs
)]

use std::{collections::BTreeMap, io::Write, time::Instant};

use chimera_transform::{Finding, Kind, Redact, RedactSettings};
use serde_json::json;

const SEED: u64 = 20_261_125;
const SENTENCES: usize = 4000;

struct Random(u64);

impl Random {
    fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % below
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    /// The first digit is from two to nine.
    fn high(&mut self, count: usize) -> String {
        format!("{}{}", 2 + self.below(8), self.digits(count - 1))
    }

    fn letters(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| char::from(self.of(alphabet))).collect()
    }
}

const FIRST: [&str; 12] =
    ["ada", "grace", "linus", "jose", "mei", "ivan", "olga", "pierre", "hans", "fatima", "kofi", "yuki"];
const LAST: [&str; 10] =
    ["lovelace", "hopper", "garcia", "chen", "petrov", "dupont", "mueller", "khan", "mensah", "sato"];
const HOSTS: [&str; 8] = [
    "example.com",
    "example.org",
    "mail.example.net",
    "acme.co.uk",
    "uni-bonn.de",
    "corp.io",
    "example.fr",
    "startup.dev",
];
const ALNUM: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn luhn(body: &str) -> String {
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn card(random: &mut Random) -> String {
    let length = if random.below(5) == 0 { 14 } else { 15 };
    let prefix = if length == 14 { random.of(&["34", "37"]) } else { random.of(&["4", "51", "55", "6011"]) };
    let body = format!("{prefix}{}", random.digits(length - prefix.len()));
    let number = luhn(&body);
    match (number.len(), random.below(3)) {
        (16, 0) => {
            number.as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>().join(" ")
        }
        (16, 1) => {
            number.as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>().join("-")
        }
        _ => number,
    }
}

fn iban(random: &mut Random) -> String {
    let (country, body) = match random.below(3) {
        0 => ("DE", random.digits(18)),
        1 => ("GB", format!("{}{}", random.of(&["WEST", "BARC", "NWBK"]), random.digits(14))),
        _ => ("NL", format!("{}{}", random.of(&["ABNA", "INGB", "RABO"]), random.digits(10))),
    };
    let rest = format!("{body}{country}00").bytes().fold(0_u64, |rest, byte| match byte {
        b'0'..=b'9' => (rest * 10 + u64::from(byte - b'0')) % 97,
        letter => (rest * 100 + u64::from(letter - b'A') + 10) % 97,
    });
    let whole = format!("{country}{:02}{body}", 98 - rest);
    match random.below(2) {
        0 => whole,
        _ => whole.as_bytes().chunks(4).map(|c| String::from_utf8_lossy(c)).collect::<Vec<_>>().join(" "),
    }
}

fn phone(random: &mut Random) -> String {
    match random.below(6) {
        0 => format!("+1 {} {} {}", random.high(3), random.high(3), random.digits(4)),
        1 => format!("({}) {}-{}", random.high(3), random.high(3), random.digits(4)),
        2 => format!("{}-{}-{}", random.high(3), random.high(3), random.digits(4)),
        3 => format!("+49 30 {}", random.high(7)),
        4 => format!("+44 20 {} {}", random.high(4), random.digits(4)),
        _ => format!(
            "+33 6 {} {} {} {}",
            random.digits(2),
            random.digits(2),
            random.digits(2),
            random.digits(2)
        ),
    }
}

fn national_id(random: &mut Random) -> String {
    match random.below(3) {
        // Social security numbers of areas that were given out.
        0 | 1 => format!(
            "{:03}-{:02}-{:04}",
            100 + random.below(560),
            1 + random.below(98),
            1 + random.below(9998)
        ),
        _ => {
            let number = random.below(100_000_000);
            let letter = b"TRWAGMYFPDXBNJZSQVHLCKE"[(number % 23) as usize];
            format!("{number:08}{}", char::from(letter))
        }
    }
}

fn key(random: &mut Random) -> String {
    match random.below(5) {
        0 => format!("sk-proj-{}", random.letters(ALNUM, 40)),
        1 => format!("ghp_{}", random.letters(ALNUM, 36)),
        2 => format!("AKIA{}", random.letters(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)),
        3 => format!("xoxb-{}-{}", random.digits(12), random.letters(ALNUM, 24)),
        _ => format!("hf_{}", random.letters(ALNUM, 34)),
    }
}

/// A value of a kind, and what may stand before and after it.
fn value(kind: Kind, random: &mut Random) -> (String, &'static str, &'static str) {
    match kind {
        Kind::Email => {
            let (first, last) = (random.of(&FIRST), random.of(&LAST));
            let dot = random.of(&[".", "_", "-", ""]);
            let digits = random.of(&["", "7", "1984"]);
            let before = random.of(&["Please write to ", "cc ", "My address is ", "Forwarded by <"]);
            let after = if before.ends_with('<') { ">" } else { "" };
            (format!("{first}{dot}{last}{digits}@{}", random.of(&HOSTS)), before, after)
        }
        Kind::Phone => (phone(random), random.of(&["Call me at ", "My phone number is ", "Ring "]), ""),
        Kind::Card => (card(random), random.of(&["Charge my card ", "The card number is ", "Pay with "]), ""),
        Kind::Iban => (iban(random), random.of(&["Transfer it to ", "IBAN: ", "My account is "]), ""),
        Kind::Ip => {
            let octets: Vec<_> = (0..4).map(|_| (1 + random.below(222)).to_string()).collect();
            (octets.join("."), random.of(&["The host at ", "Requests came from ", "Ping "]), "")
        }
        Kind::NationalId => {
            (national_id(random), random.of(&["My SSN is ", "ID number ", "Passport or id: "]), "")
        }
        Kind::Credentials => (
            format!("{}:{}@", random.of(&FIRST), random.letters(ALNUM, 12)),
            random.of(&["Connect to postgres://", "Clone https://"]),
            "db.internal/app",
        ),
        _ => (key(random), random.of(&["The key is ", "token=", "Use ", "export API_KEY="]), ""),
    }
}

const LABELLED: [Kind; 8] = [
    Kind::Email,
    Kind::Phone,
    Kind::Card,
    Kind::Iban,
    Kind::Ip,
    Kind::NationalId,
    Kind::ApiKey,
    Kind::Credentials,
];

const AFTER: [&str; 6] =
    [" and let me know.", ", thanks.", " before Friday.", "; it is urgent.", " if you can.", " (see above)."];

/// Sentences with numbers and names that are nothing personal.
fn decoy(random: &mut Random) -> String {
    match random.below(12) {
        0 => format!(
            "Order {} shipped on 2024-0{}-1{}.",
            random.digits(7),
            1 + random.below(9),
            random.below(9)
        ),
        1 => format!(
            "The invoice came to {},{}.{} euros.",
            1 + random.below(99),
            random.digits(3),
            random.digits(2)
        ),
        2 => format!("Version {}.{}.{} fixes the bug.", random.below(20), random.below(30), random.below(9)),
        3 => format!("Commit {} broke the build.", random.letters(b"0123456789abcdef", 40)),
        4 => format!(
            "The trace id was {}-{}-4{}.",
            random.letters(b"0123456789abcdef", 8),
            random.letters(b"0123456789abcdef", 4),
            random.letters(b"0123456789abcdef", 3)
        ),
        5 => format!("It took {} ms at 1{}:{}5:30.", random.digits(4), random.below(9), random.below(5)),
        6 => "The function getUserProfileByIdentifierV2 returns std::vec::Vec.".to_owned(),
        7 => format!(
            "Chapter {} has {} pages and {} figures.",
            random.below(30),
            random.digits(3),
            random.digits(2)
        ),
        8 => format!("Call f({}, {}) @ once, then retry.", random.digits(3), random.digits(5)),
        9 => format!("The tracking number is {}.", random.digits(16).replacen(|_: char| true, "9", 1)),
        10 => format!("The population grew from {} to {}.", random.high(6), random.high(7)),
        _ => "Nobody had expected that the river would rise so quickly this year.".to_owned(),
    }
}

pub(crate) struct Labelled {
    text: String,
    kind: Option<Kind>,
    range: std::ops::Range<usize>,
}

pub(crate) fn set() -> Vec<Labelled> {
    let mut random = Random(SEED);
    (0..SENTENCES)
        .map(|n| {
            if n % 3 == 2 {
                return Labelled { text: decoy(&mut random), kind: None, range: 0..0 };
            }
            let kind = LABELLED[n % LABELLED.len()];
            let (value, before, after) = value(kind, &mut random);
            let range = before.len()..before.len() + value.len();
            let text = format!("{before}{value}{after}{}", random.of(&AFTER));
            Labelled { text, kind: Some(kind), range }
        })
        .collect()
}

fn main() {
    let set = set();
    if let Some(path) = std::env::args().skip_while(|arg| arg != "--write").nth(1) {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path).expect("a file"));
        for one in &set {
            let kind = one.kind.map(Kind::as_str);
            let line =
                json!({ "text": one.text, "kind": kind, "start": one.range.start, "end": one.range.end });
            writeln!(file, "{line}").expect("a line");
        }
        return;
    }
    let redact = Redact::new(RedactSettings::default()).expect("the defaults are good");
    let counts = measure(&redact, &set, std::env::args().any(|arg| arg == "--missed"));
    println!("| kind | recall | precision |\n|---|---|---|");
    let mut all = [0; 3];
    for (kind, count) in &counts {
        (0..3).for_each(|at| all[at] += count[at]);
        println!("| {kind} | {} | {} |", share(count[0], count[1]), share(count[0], count[2]));
    }
    println!("| all | {} | {} |", share(all[0], all[1]), share(all[0], all[2]));
    let bytes: usize = set.iter().map(|one| one.text.len()).sum();
    let began = Instant::now();
    let rounds = 50;
    let mut found = 0;
    for _ in 0..rounds {
        found += set.iter().map(|one| redact.find(&one.text).len()).sum::<usize>();
    }
    let speed = (bytes * rounds) as f64 / began.elapsed().as_secs_f64() / 1e6;
    println!("{SENTENCES} sentences, {bytes} bytes, {} findings a round, {speed:.0} MB/s", found / rounds);
}

/// For each kind how often it was found, missed, and found where it is not.
pub(crate) fn measure(redact: &Redact, set: &[Labelled], tell: bool) -> BTreeMap<&'static str, [u32; 3]> {
    let mut counts: BTreeMap<&str, [u32; 3]> = BTreeMap::new();
    for one in set {
        let found = redact.find(&one.text);
        let covers = |f: &Finding| f.range.start <= one.range.start && f.range.end >= one.range.end;
        if let Some(kind) = one.kind {
            let hit = found.iter().any(|finding| finding.kind == kind && covers(finding));
            counts.entry(kind.as_str()).or_default()[usize::from(!hit)] += 1;
            if !hit && tell {
                println!("missed {}: {}", kind.as_str(), one.text);
            }
        }
        for finding in &found {
            let overlaps = finding.range.start < one.range.end && one.range.start < finding.range.end;
            if Some(finding.kind) != one.kind || !overlaps {
                counts.entry(finding.kind.as_str()).or_default()[2] += 1;
                if tell {
                    println!("false {}: {}", finding.kind.as_str(), one.text);
                }
            }
        }
    }
    counts
}

fn share(good: u32, bad: u32) -> String {
    match good + bad {
        0 => "-".to_owned(),
        all => format!("{:.2} %", f64::from(good) * 100.0 / f64::from(all)),
    }
}
