//! Words before a number that say what it is.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

/// How far before a number its word may stand.
const REACH: usize = 40;

fn words(words: &[&str]) -> Option<AhoCorasick> {
    AhoCorasick::builder().ascii_case_insensitive(true).build(words).ok()
}

macro_rules! contexts {
    ($($(#[$doc:meta])* $name:ident: $words:expr;)*) => {
        $(
            $(#[$doc])*
            pub(super) fn $name(text: &[u8], at: usize) -> bool {
                static WORDS: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| words(&$words));
                let from = at.saturating_sub(REACH);
                let before = text.get(from..at).unwrap_or_default();
                WORDS.as_ref().is_some_and(|words| words.is_match(before))
            }
        )*
    };
}

contexts! {
    /// Whether a birth is spoken of.
    birth: ["born", "née", "né ", "nee ", "birth", "dob", "d.o.b", "geboren", "geb.", "geburt", "naissance", "nacid", "nacim",
        "nasciment", "nascit", "nato il", "nata il", "geboorte", "urodz", "syntym", "bday"];
    /// Whether a phone is.
    phone: ["phone", "tel.", "tel:", "tel ", "mobile", " cell", "fax", "call ", "dial", "whatsapp", "sms", "text me",
        "reach me", "reached at", "contact", "handy", "numero", "rufnummer", "hotline"];
    /// Whether an id number is.
    id: ["ssn", "social security", "tax id", "taxpayer", " tin ", " tin:", "steuer", "idnr", "bsn", "burgerservice",
        "sofi", "nhs", " sin ", " sin:", "social insurance", "tfn", "tax file", "pesel", "kimlik", "cpf", "national id",
        "identity number", "id number", "citizen", "personal number", "personnummer", "aadhaar", "insurance number"];
    /// Whether the United Kingdom's health service is.
    nhs: ["nhs"];
    /// Whether a secret is.
    secret: ["key", "secret", "token", "passw", "pwd", "credential", "bearer", "auth"];
}
