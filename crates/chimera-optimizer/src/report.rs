//! Findings as one page of HTML: no script, nothing fetched, and everything that was not written here escaped.

mod curve;
mod escape;
mod tree;

use std::fmt::Write;

use escape::escape;

use crate::{
    diff::Change,
    findings::{Findings, Scores},
    stats::Estimate,
};

/// Nothing but the page's own style is allowed, whatever should have got into it.
const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}\
h1,h2{line-height:1.2}table{border-collapse:collapse}td,th{padding:.25rem .75rem;text-align:left;border-bottom:1px solid #d8dee4}\
pre{background:#f6f8fa;padding:.75rem;white-space:pre-wrap;overflow-wrap:anywhere}ins,.added{background:#dafbe1;text-decoration:none}\
del,.removed{background:#ffebe9;text-decoration:none}svg{max-width:100%;height:auto}.tree ul{list-style:none;border-left:1px solid #d8dee4;padding-left:1rem}\
.tree ul.root{border:0;padding:0}.best{font-weight:600}.gone{color:#6e7781}small{color:#57606a}</style>";

/// The page.
pub(crate) fn page(found: &Findings) -> String {
    let mut page = String::from(HEAD);
    let name = escape(&found.task);
    let _ = write!(page, "<title>{name}</title></head><body><h1>{name}</h1>");
    summary(&mut page, found);
    scores(&mut page, found);
    page.push_str("<h2>Best score by roll-outs</h2>");
    page.push_str(&curve::svg(found));
    texts(&mut page, found);
    page.push_str("<h2>Lineage</h2><div class=\"tree\">");
    page.push_str(&tree::html(found));
    page.push_str("</div></body></html>\n");
    page
}

fn summary(page: &mut String, found: &Findings) {
    let how = match &found.ended {
        crate::Ended::Finished => "there was nothing left to try".to_owned(),
        crate::Ended::Budget(limit) => {
            format!("the budget of {} was used", format!("{limit:?}").to_lowercase())
        }
        crate::Ended::Cancelled => "it was cancelled".to_owned(),
        crate::Ended::Paused(reason) => format!("nothing answered: {}", escape(reason)),
    };
    let _ = write!(
        page,
        "<p>Strategy <b>{}</b>; ended because {how}. {} candidates tried, {} kept. {} roll-outs and {} for the \
         final check; {} tokens; ${:.4}; {:.0} s; {} calls failed.</p>",
        escape(found.strategy),
        found.tried,
        found.lineage.len(),
        found.evaluations,
        found.check_evaluations,
        found.spend.all_tokens(),
        found.spend.dollars(),
        found.seconds,
        found.errors,
    );
}

fn scores(page: &mut String, found: &Findings) {
    page.push_str(
        "<h2>Scores</h2><table><tr><th></th><th>train</th><th>validation</th><th>held-out</th></tr>",
    );
    let mut row = |name: &str, scores: &Scores| {
        let _ = write!(page, "<tr><th>{name}</th>");
        for estimate in [scores.train, scores.validation, scores.held_out] {
            let _ = write!(page, "<td>{}</td>", shown(estimate));
        }
        page.push_str("</tr>");
    };
    row("seed", &found.seed_scores);
    row("best", &found.scores);
    page.push_str(
        "</table><p><small>Mean, 95 % interval, number of examples. The best was chosen by its validation \
         scores, which flatter it; the held-out examples were looked at once, after the search.</small></p>",
    );
}

fn shown(estimate: Option<Estimate>) -> String {
    match estimate {
        Some(one) => {
            format!("{:.3} <small>[{:.3}, {:.3}] n={}</small>", one.mean, one.low, one.high, one.count)
        }
        None => "–".to_owned(),
    }
}

fn texts(page: &mut String, found: &Findings) {
    for (name, text) in found.best.iter() {
        let _ = write!(page, "<h2>{}</h2><pre>{}</pre>", escape(name), escape(text));
        let Some(changes) = found.changes.get(name) else { continue };
        page.push_str("<details open><summary>changes to the seed</summary><pre>");
        for change in changes {
            let _ = match change {
                Change::Same(line) => writeln!(page, "  {}", escape(line)),
                Change::Removed(line) => writeln!(page, "<del>- {}</del>", escape(line)),
                Change::Added(line) => writeln!(page, "<ins>+ {}</ins>", escape(line)),
            };
        }
        page.push_str("</pre></details>");
    }
}
