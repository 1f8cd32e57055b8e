//! JSON that is nearly JSON, put right: the slips that models make.
//!
//! A fence around it, a comma too many, single quotes, Python's words, line feeds within a string, and
//! closing brackets that are missing at the very end. Nothing is guessed: a text that was cut within a
//! string, or behind a comma or a colon, stays what it is.

/// What a text becomes when its slips are put right; whether that is JSON is for a parser to say.
pub(super) fn repaired(text: &str) -> Option<String> {
    let inner = unfenced(text.trim().trim_start_matches('\u{feff}'));
    let mut repair = Repair { rest: inner, out: String::with_capacity(inner.len() + 8), open: Vec::new() };
    repair.run()?;
    Some(repair.out)
}

/// What stands between fences, if there is one pair of them and nothing but prose around.
fn unfenced(text: &str) -> &str {
    const FENCE: &str = "```";
    let Some((_, behind)) = text.split_once(FENCE) else { return text };
    let Some((inner, after)) = behind.rsplit_once(FENCE) else { return text };
    if after.contains(FENCE) || inner.contains(FENCE) {
        return text;
    }
    // The first line says which language it is.
    let is_word = |line: &str| line.trim().chars().all(|c| c.is_ascii_alphanumeric());
    match inner.split_once('\n') {
        Some((language, inner)) if is_word(language) => inner.trim(),
        _ => inner.trim(),
    }
}

struct Repair<'t> {
    rest: &'t str,
    out: String,
    /// The brackets that are to come.
    open: Vec<char>,
}

impl Repair<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(c) = self.rest.chars().next() {
            match c {
                '"' | '\'' => self.string(c)?,
                '{' | '[' => {
                    self.open.push(if c == '{' { '}' } else { ']' });
                    self.take(c);
                }
                '}' | ']' => {
                    self.open.pop().filter(|wanted| *wanted == c)?;
                    self.drop_comma();
                    self.take(c);
                }
                c if c.is_alphabetic() => self.word(),
                c => self.take(c),
            }
        }
        if !self.open.is_empty() {
            // Behind a comma or a colon something more was to come: what, nobody knows.
            let ends_open = matches!(self.out.trim_end().chars().next_back(), Some(',' | ':') | None);
            if ends_open {
                return None;
            }
            while let Some(bracket) = self.open.pop() {
                self.out.push(bracket);
            }
        }
        Some(())
    }

    fn take(&mut self, c: char) {
        self.out.push(c);
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
    }

    /// Takes back a comma behind which nothing came.
    fn drop_comma(&mut self) {
        let length = self.out.trim_end().len();
        if self.out.get(..length).is_some_and(|text| text.ends_with(',')) {
            self.out.truncate(length - 1);
        }
    }

    /// Words of JSON stay, those of Python become theirs.
    fn word(&mut self) {
        let end = self.rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.out.push_str(match word {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        });
        self.rest = rest;
    }

    /// A string, put into double quotes. One that does not end was cut.
    fn string(&mut self, quote: char) -> Option<()> {
        self.rest = self.rest.get(1..)?;
        self.out.push('"');
        loop {
            let c = self.rest.chars().next()?;
            self.rest = self.rest.get(c.len_utf8()..)?;
            match c {
                '\\' => {
                    let escaped = self.rest.chars().next()?;
                    self.rest = self.rest.get(escaped.len_utf8()..)?;
                    // JSON has no such escape.
                    if escaped != '\'' {
                        self.out.push('\\');
                    }
                    self.out.push(escaped);
                }
                c if c == quote => break,
                '"' => self.out.push_str("\\\""),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Some(())
    }
}
