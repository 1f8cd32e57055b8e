//! Reads the text that a Prometheus would: what the console shows is what `/metrics` says.

/// One sample.
#[derive(Debug, PartialEq)]
pub(crate) struct Sample<'a> {
    pub(crate) name: &'a str,
    labels: &'a str,
    pub(crate) value: f64,
}

impl Sample<'_> {
    /// Whether a label has this value.
    pub(crate) fn is(&self, label: &str, value: &str) -> bool {
        self.label(label).is_some_and(|found| found == value)
    }

    /// The value of a label, as it is spelled: names with quotes in them stay escaped.
    pub(crate) fn label(&self, wanted: &str) -> Option<&str> {
        let mut rest = self.labels;
        loop {
            let (name, after) = rest.split_once("=\"")?;
            let end = end_of_value(after)?;
            let (value, behind) = (after.get(..end)?, after.get(end + 1..)?);
            if name == wanted {
                return Some(value);
            }
            rest = behind.strip_prefix(',').unwrap_or(behind);
        }
    }
}

/// Where the quote stands that ends a value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    })
}

/// The samples of a page, one after the other. Lines that are none are passed over.
pub(crate) fn samples(page: &str) -> impl Iterator<Item = Sample<'_>> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}')?),
            None => (series, ""),
        };
        Some(Sample { name, labels, value: value.parse().ok()? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_and_what_is_none_is_passed_over() {
        let page = "# HELP a b\n# TYPE a counter\na{b=\"c\",d=\"e\"} 3\nx 0.5\n\nnonsense\ny{z 1\nw{le=\"+Inf\"} 7\n";
        let found: Vec<_> = samples(page).map(|sample| (sample.name, sample.value)).collect();
        assert_eq!(found, [("a", 3.0), ("x", 0.5), ("w", 7.0)]);
        let first = samples(page).next().unwrap();
        assert!(first.is("b", "c") && first.is("d", "e") && !first.is("b", "e"));
        assert_eq!(first.label("le"), None);
    }

    /// Names come from the configuration, and may hold anything.
    #[test]
    fn a_label_that_looks_like_others_is_one_label() {
        let page = "a{deployment=\"x\\\",outcome=\\\"success\",outcome=\"failure\"} 1\n";
        let sample = samples(page).next().unwrap();
        assert_eq!(sample.label("outcome"), Some("failure"));
        assert_eq!(sample.label("deployment"), Some("x\\\",outcome=\\\"success"));
    }
}
