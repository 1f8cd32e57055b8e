//! The best score by roll-outs spent, as a drawing.

use std::fmt::Write;

use crate::findings::Findings;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 44.0;

pub(super) fn svg(found: &Findings) -> String {
    let last = found.evaluations.max(1) as f64;
    let low = found.curve.iter().map(|point| point.score).fold(1.0, f64::min);
    let low = (low * 10.0).floor() / 10.0;
    let span = (1.0 - low).max(0.1);
    let x = |evaluations: f64| MARGIN + evaluations / last * (WIDTH - 2.0 * MARGIN);
    let y = |score: f64| HEIGHT - MARGIN - (score - low) / span * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"Best validation score by roll-outs\" \
         font-size=\"11\" fill=\"#57606a\">"
    );
    for step in 0..=4 {
        let score = low + span * f64::from(step) / 4.0;
        let (left, right, at) = (MARGIN, WIDTH - MARGIN, y(score));
        let _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#d8dee4\"/>\
             <text x=\"6\" y=\"{:.1}\">{score:.2}</text>",
            at + 4.0
        );
        let spent = last * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{spent:.0}</text>",
            x(spent),
            HEIGHT - MARGIN + 18.0
        );
    }
    let mut path = String::new();
    for point in &found.curve {
        let (at, score) = (x(point.evaluations as f64), y(point.score));
        // The best stays what it is until there is a better one.
        let _ = if path.is_empty() {
            write!(path, "M{at:.1} {score:.1}")
        } else {
            write!(path, "H{at:.1}V{score:.1}")
        };
    }
    if !path.is_empty() {
        let _ = write!(path, "H{:.1}", x(last));
    }
    let _ = write!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#0969da\" stroke-width=\"2\"/></svg>");
    svg
}
