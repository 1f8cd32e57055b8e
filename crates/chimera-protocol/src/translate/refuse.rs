//! What becomes of a member that the other side does not know: a refusal by name, or a note that it was
//! dropped. Nothing vanishes silently.

use std::borrow::Cow;

/// A request that cannot be said in the provider's dialect, by the member at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The path of the member in the caller's own words, such as `messages[2].content[0].image_url`.
    pub param: String,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
}

/// The longest name of a caller's that is repeated to it.
const LONGEST_NAME: usize = 64;

impl Refused {
    /// A refusal of the value that is being read; its path is put before it on the way up.
    pub(crate) fn here(message: impl Into<Cow<'static, str>>) -> Self {
        Self { param: String::new(), message: message.into() }
    }

    /// A refusal of a member that has no counterpart.
    pub(crate) fn unknown() -> Self {
        Self::here("this model's provider has no counterpart to this member")
    }

    /// Puts the name of the member that was being read before the path.
    pub(crate) fn inside(mut self, name: &str) -> Self {
        let end = (0..=LONGEST_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at));
        let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
        let dot = if self.param.is_empty() || self.param.starts_with('[') { "" } else { "." };
        self.param = format!("{name}{dot}{}", self.param);
        self
    }

    /// Puts the index of the element that was being read before the path.
    pub(crate) fn item(mut self, index: usize) -> Self {
        let dot = if self.param.is_empty() || self.param.starts_with('[') { "" } else { "." };
        self.param = format!("[{index}]{dot}{}", self.param);
        self
    }
}

/// The members that were left out because they cannot change the answer, each named once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dropped {
    names: Vec<Cow<'static, str>>,
}

impl Dropped {
    /// Notes a member.
    pub(crate) fn add(&mut self, name: impl Into<Cow<'static, str>>) {
        let name = name.into();
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// The names in the order in which they were met.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Whether nothing was dropped.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_grows_from_the_inside() {
        let refused = Refused::here("no").inside("url").inside("image_url").item(1).inside("content");
        assert_eq!(refused.item(2).inside("messages").param, "messages[2].content[1].image_url.url");
        let long = Refused::unknown().inside(&"é".repeat(100));
        assert_eq!(long.param, "é".repeat(32));
    }
}
