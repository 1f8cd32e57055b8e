//! Plots as SVG text: lines over a plane, with axes that people can read.

use std::fmt::Write;

/// A line and what it is called.
pub(crate) struct Line {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

/// How the numbers of an axis are written.
pub(crate) type Show = fn(f64) -> String;

/// A plane with lines.
pub(crate) struct Plot {
    pub(crate) title: &'static str,
    pub(crate) x: (&'static str, Show),
    pub(crate) y: (&'static str, Show),
    pub(crate) lines: Vec<Line>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 280.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
const COLOURS: [&str; 4] = ["#1f6feb", "#d97706", "#c2255c", "#2b8a3e"];

impl Plot {
    /// The plot; nothing if there is nothing to show.
    pub(crate) fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        if points().count() == 0 {
            return String::new();
        }
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(f64::MIN, f64::max);
        let least_x =
            points().map(|point| point.0).fold(f64::MAX, f64::min).min(most(|point| point.0) - 1e-9);
        let x = Axis { from: least_x, to: most(|point| point.0), low: LEFT, high: WIDTH - RIGHT };
        let to = most(|point| point.1).max(1e-9);
        // Room above, and ticks at round numbers.
        let y = Axis { from: 0.0, to: to * 1.05, low: HEIGHT - BOTTOM, high: TOP };
        let mut out = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{0}\"><title>{0}</title>\
             <text x=\"{LEFT}\" y=\"16\" class=\"t\">{0}</text>",
            self.title
        );
        // Writing into a string cannot fail.
        let _ = self.axes(&mut out, &x, &y);
        for (line, colour) in self.lines.iter().zip(COLOURS) {
            let _ = draw(&mut out, line, colour, &x, &y);
        }
        let _ = self.legend(&mut out);
        out.push_str("</svg>\n");
        out
    }

    fn axes(&self, out: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        for value in y.ticks() {
            let (at, text) = (y.place(value), self.y.1(value));
            write!(out, "<path class=\"g\" d=\"M{LEFT} {at:.1}H{:.1}\"/>", WIDTH - RIGHT)?;
            write!(out, "<text x=\"{:.1}\" y=\"{:.1}\" class=\"y\">{text}</text>", LEFT - 6.0, at + 4.0)?;
        }
        for value in x.ticks() {
            let (at, text) = (x.place(value), self.x.1(value));
            write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" class=\"x\">{text}</text>", HEIGHT - BOTTOM + 16.0)?;
        }
        write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" class=\"x\">{}</text>",
            (LEFT + WIDTH - RIGHT) / 2.0,
            HEIGHT - 8.0,
            self.x.0
        )?;
        write!(out, "<text x=\"4\" y=\"{:.1}\">{}</text>", TOP - 4.0, self.y.0)
    }

    fn legend(&self, out: &mut String) -> std::fmt::Result {
        let mut at = WIDTH - RIGHT;
        for (line, colour) in self.lines.iter().zip(COLOURS).rev() {
            write!(out, "<text x=\"{at:.1}\" y=\"16\" class=\"y\" fill=\"{colour}\">{}</text>", line.name)?;
            at -= 10.0 + 7.0 * line.name.len() as f64;
        }
        Ok(())
    }
}

fn draw(out: &mut String, line: &Line, colour: &str, x: &Axis, y: &Axis) -> std::fmt::Result {
    write!(out, "<path class=\"l\" stroke=\"{colour}\" d=\"")?;
    for (index, (at, value)) in line.points.iter().enumerate() {
        let pen = if index == 0 { 'M' } else { 'L' };
        write!(out, "{pen}{:.1} {:.1}", x.place(*at), y.place(*value))?;
    }
    out.push_str("\"/>");
    if let [(at, value)] = line.points.as_slice() {
        let (x, y) = (x.place(*at), y.place(*value));
        write!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
    }
    Ok(())
}

/// From numbers to places.
struct Axis {
    from: f64,
    to: f64,
    low: f64,
    high: f64,
}

impl Axis {
    fn place(&self, value: f64) -> f64 {
        self.low + (value - self.from) / (self.to - self.from) * (self.high - self.low)
    }

    /// About five round numbers.
    fn ticks(&self) -> Vec<f64> {
        let raw = (self.to - self.from) / 5.0;
        let power = 10_f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= raw);
        let step = step.unwrap_or(raw);
        let first = (self.from / step).ceil();
        let all = (0..20).map(|index| (first + f64::from(index)) * step);
        all.take_while(|value| *value <= self.to + step * 1e-9).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within() {
        let axis = Axis { from: 0.0, to: 0.93, low: 0.0, high: 1.0 };
        let ticks = axis.ticks();
        assert_eq!(ticks.len(), 5);
        assert!((ticks[1] - 0.2).abs() < 1e-12 && (ticks[4] - 0.8).abs() < 1e-12, "{ticks:?}");
    }

    #[test]
    fn a_plot_has_a_line_for_each_and_nothing_has_no_plot() {
        let line = |points: &[(f64, f64)]| Line { name: "p50", points: points.to_vec() };
        let plot = |lines| Plot {
            title: "t",
            x: ("s", |value| format!("{value:.0}")),
            y: ("ms", |value| format!("{value:.0}")),
            lines,
        };
        let svg = plot(vec![line(&[(0.0, 1.0), (1.0, 3.0)]), line(&[(0.0, 2.0)])]).svg();
        assert_eq!(svg.matches("class=\"l\"").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert_eq!(plot(vec![line(&[])]).svg(), "");
        assert!(!plot(vec![line(&[(5.0, 0.0)])]).svg().contains("NaN"));
    }
}
