//! What Anthropic's models differ in, by their names.

/// Models that take a budget of tokens for thinking; later ones take an effort and adapt.
const BUDGETED: [&str; 9] = [
    "claude-3",
    "claude-opus-4-0",
    "claude-opus-4-1",
    "claude-opus-4-2",
    "claude-opus-4-5",
    "claude-sonnet-4-0",
    "claude-sonnet-4-2",
    "claude-sonnet-4-5",
    "claude-haiku-4-5",
];

/// Whether the model is told a budget to think with rather than an effort.
pub(crate) fn thinks_by_budget(model: &str) -> bool {
    BUDGETED.iter().any(|prefix| model.starts_with(prefix))
}

/// What a model may write where the caller sets no limit, which Anthropic requires: the most that every
/// model of its family can.
pub(crate) fn max_tokens(model: &str) -> u64 {
    match model {
        model if model.starts_with("claude-3-5") => 8192,
        model if model.starts_with("claude-3-7") => 32_000,
        model if model.starts_with("claude-3") => 4096,
        _ => 32_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_told_apart() {
        assert!(thinks_by_budget("claude-sonnet-4-20250514") && thinks_by_budget("claude-haiku-4-5"));
        assert!(!thinks_by_budget("claude-opus-4-7") && !thinks_by_budget("claude-sonnet-4-6"));
        assert_eq!(max_tokens("claude-3-haiku-20240307"), 4096);
        assert_eq!(max_tokens("claude-opus-4-1"), 32_000);
    }
}
