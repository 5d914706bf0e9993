//! Charts, as SVG that takes its colours from the page.

use std::fmt::Write;

/// A row of points, in the colour of its number.
pub struct Series {
    pub name: String,
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    /// Joined by lines, or each by itself.
    pub joined: bool,
}

/// Axes by powers.
pub struct Chart {
    pub x: String,
    pub y: String,
    /// Steps of the axis of x: 2 or 10.
    pub base: f64,
    pub series: Vec<Series>,
    /// What is told of each point, in the order of `series`.
    pub titles: Vec<Vec<String>>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
// With room for the larger letters of narrow screens.
const LEFT: f64 = 72.0;
const BOTTOM: f64 = 52.0;
const TOP: f64 = 16.0;
const RIGHT: f64 = 16.0;

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Powers of `base` around all values.
fn range(values: impl Iterator<Item = f64>, base: f64) -> Option<(i32, i32)> {
    let logs: Vec<f64> = values.filter(|v| *v > 0.0 && v.is_finite()).map(|v| v.log(base)).collect();
    let low = logs.iter().copied().reduce(f64::min)?.floor() as i32;
    let high = logs.iter().copied().reduce(f64::max)?.ceil() as i32;
    Some((low, high.max(low + 1)))
}

fn tick(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", v / 1e6),
        v if v >= 1e3 && (v / 1e3).fract() == 0.0 => format!("{}k", v / 1e3),
        v if v >= 1.0 => format!("{v}"),
        v => format!("{v:.3}").trim_end_matches('0').trim_end_matches('.').to_string(),
    }
}

impl Chart {
    /// The chart, or nothing where there is no point.
    pub fn render(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (Some(xs), Some(ys)) = (range(points().map(|p| p.0), self.base), range(points().map(|p| p.1), 10.0)) else {
            return String::new();
        };
        let place = |value: f64, base: f64, (low, high): (i32, i32), from: f64, to: f64| {
            from + (value.log(base) - low as f64) / (high - low) as f64 * (to - from)
        };
        let x = |value: f64| place(value, self.base, xs, LEFT, WIDTH - RIGHT);
        let y = |value: f64| place(value, 10.0, ys, HEIGHT - BOTTOM, TOP);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n<title>{} by {}</title>\n",
            escaped(&self.y),
            escaped(&self.x)
        );
        let every = ((xs.1 - xs.0) / 10 + 1) as usize;
        for power in (xs.0..=xs.1).step_by(every) {
            let at = x(self.base.powi(power));
            let (low, text) = (HEIGHT - BOTTOM, HEIGHT - BOTTOM + 20.0);
            // A number in the corner stays within the chart.
            let (anchor, from) = if power == xs.1 { ("end", WIDTH - 4.0) } else { ("middle", at) };
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{low}\"/>\
                 <text x=\"{from:.1}\" y=\"{text}\" text-anchor=\"{anchor}\">{}</text>",
                tick(self.base.powi(power))
            );
        }
        for power in ys.0..=ys.1 {
            let at = y(10f64.powi(power));
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                tick(10f64.powi(power))
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(20 {}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            (LEFT + WIDTH) / 2.0,
            HEIGHT - 8.0,
            escaped(&self.x),
            HEIGHT / 2.0,
            escaped(&self.y)
        );
        for (series, titles) in self.series.iter().zip(&self.titles) {
            let colour = series.colour % 6;
            if series.joined && series.points.len() > 1 {
                let line: Vec<_> = series.points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
                let _ = writeln!(svg, "<polyline class=\"line c{colour}\" points=\"{}\"/>", line.join(" "));
            }
            for (point, title) in series.points.iter().zip(titles) {
                let _ = writeln!(
                    svg,
                    "<circle class=\"dot c{colour}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"><title>{}</title></circle>",
                    x(point.0),
                    y(point.1),
                    escaped(title)
                );
            }
        }
        svg + "</svg>\n"
    }
}
