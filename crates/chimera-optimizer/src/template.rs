//! Text with places for values: `{{name}}`. Rendered in one pass, so that a value which looks like a place
//! stays the text that it is.

use std::fmt::Write;

/// A template that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(String),
}

impl Template {
    /// Reads a template; says what is wrong with it otherwise.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) =
                after.split_once("}}").ok_or_else(|| format!("`{{{{{}` has no `}}}}`", short(after)))?;
            let name = name.trim();
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)) {
                return Err(format!("`{{{{{}}}}}` is not a name", short(name)));
            }
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Place(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { pieces })
    }

    /// The names it has places for.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Place(name) => Some(&**name),
            Piece::Text(_) => None,
        })
    }

    /// The text with every place filled; a name that nothing is known of fills with nothing.
    pub(crate) fn render<'a>(&self, value: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) -> String {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Place(name) => {
                    if let Some(value) = value(name) {
                        let _ = out.write_str(&value);
                    }
                }
            }
        }
        out
    }
}

fn short(text: &str) -> String {
    text.chars().take(24).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_looks_like_a_place_stays_text() {
        let template = Template::parse("{{ a }}-{{b}}").unwrap();
        let text = template.render(|name| Some(if name == "a" { "{{b}}" } else { "x" }.into()));
        assert_eq!(text, "{{b}}-x");
        assert_eq!(template.names().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn what_is_not_a_template_is_said() {
        assert_eq!(Template::parse("a {{b").unwrap_err(), "`{{b` has no `}}`");
        assert_eq!(Template::parse("{{a b}}").unwrap_err(), "`{{a b}}` is not a name");
        assert!(Template::parse("{ \"json\": {} }").is_ok());
    }
}
