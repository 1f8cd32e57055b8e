//! Text between fences: how a model is asked to mark the one part of its answer that counts.

/// What stands between the first line that opens a fence and the last that closes one, without the line
/// feeds around it. Fences inside belong to the text.
pub(crate) fn inside(answer: &str) -> Option<&str> {
    let open = fence_lines(answer).next()?;
    let start = open + answer.get(open..)?.find('\n')? + 1;
    let close = fence_lines(answer).filter(|at| *at >= start).last()?;
    let text = answer.get(start..close)?;
    Some(text.strip_suffix('\n').unwrap_or(text))
}

/// What stands before the first fence.
pub(crate) fn before(answer: &str) -> &str {
    fence_lines(answer).next().and_then(|at| answer.get(..at)).unwrap_or(answer).trim()
}

/// Where lines begin that begin with a fence.
fn fence_lines(text: &str) -> impl Iterator<Item = usize> {
    let mut at = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let start = at;
        at += line.len();
        line.trim_start().starts_with("```").then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_fence_counts() {
        let answer = "Why.\n\n```text\nDo this:\n```json\n{}\n```\nand that.\n```\nBye.";
        assert_eq!(inside(answer), Some("Do this:\n```json\n{}\n```\nand that."));
        assert_eq!(before(answer), "Why.");
        assert_eq!(inside("```\n```"), Some(""));
        assert_eq!(inside("```\nopen"), None);
        assert_eq!(inside("none"), None);
        assert_eq!(inside("```"), None);
    }
}
