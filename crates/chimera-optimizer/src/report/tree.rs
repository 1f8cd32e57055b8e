//! The lineage: every candidate under its first parent.

use std::{collections::BTreeMap, fmt::Write};

use super::escape::escape;
use crate::findings::{Findings, Node};

/// Levels that are indented; what lies deeper stays at the last.
const DEEPEST: usize = 200;

pub(super) fn html(found: &Findings) -> String {
    let mut children: BTreeMap<Option<usize>, Vec<&Node>> = BTreeMap::new();
    for node in &found.lineage {
        children.entry(node.parents.first().copied()).or_default().push(node);
    }
    let mut html = String::from("<ul class=\"root\">");
    // Depth first, by hand: a lineage may be deeper than a stack.
    let mut rest: Vec<(usize, &Node)> = Vec::new();
    push(&mut rest, &children, None, 0);
    let mut depth = 0;
    while let Some((level, node)) = rest.pop() {
        while depth < level {
            html.push_str("<ul>");
            depth += 1;
        }
        while depth > level {
            html.push_str("</ul>");
            depth -= 1;
        }
        item(&mut html, found, node);
        push(&mut rest, &children, Some(node.member), (level + 1).min(DEEPEST));
    }
    html.push_str(&"</ul>".repeat(depth + 1));
    html
}

fn push<'a>(
    rest: &mut Vec<(usize, &'a Node)>,
    children: &BTreeMap<Option<usize>, Vec<&'a Node>>,
    parent: Option<usize>,
    level: usize,
) {
    let nodes = children.get(&parent).map(Vec::as_slice).unwrap_or_default();
    rest.extend(nodes.iter().rev().map(|node| (level, *node)));
}

fn item(html: &mut String, found: &Findings, node: &Node) {
    let class = match node.member == found.best_member {
        true => "best",
        false if node.given_up => "gone",
        false => "",
    };
    let _ = write!(html, "<li class=\"{class}\">#{} {}", node.member, escape(node.by));
    if let [_, other, ..] = node.parents.as_slice() {
        let _ = write!(html, " with #{other}");
    }
    if let Some(score) = node.validation {
        let _ = write!(html, ", {score:.3} on {}", node.tried_on);
    }
    for (is, word) in [
        (node.on_frontier, "frontier"),
        (node.given_up, "given up"),
        (node.member == found.best_member, "best"),
    ] {
        if is {
            let _ = write!(html, ", {word}");
        }
    }
    if !node.note.is_empty() {
        let _ = write!(html, "<br><small>{}</small>", escape(&node.note));
    }
    html.push_str("</li>");
}
