//! Plots as SVG: bars for each work, lines for growth. Nothing but text and rectangles, so that any browser shows them.

use std::fmt::Write;

use crate::lab::{Kind, Runtime, View};
use crate::report::short;
use crate::results::Results;

const WIDTH: f64 = 720.0;
const FONT: &str = "font-family=\"sans-serif\" font-size=\"13\"";

/// A plot by file name.
pub struct Plot {
    pub name: String,
    pub svg: String,
}

struct Bar {
    label: String,
    value: f64,
    /// Where the bar's thin end is: the 95th percentile.
    upper: f64,
    color: &'static str,
}

impl Results {
    /// Bars for every work and fact, lines for everything that was measured at several N.
    pub fn plots(&self) -> Vec<Plot> {
        let mut plots = Vec::new();
        for (work, view) in self.each_work(|x| x.is_none()) {
            let title = format!("{work}, {}: milliseconds", view.word());
            let of = self.series.iter().filter(|s| s.work == work && s.view == view && s.x.is_none());
            let bars = of.filter_map(|s| {
                let summary = s.summary().filter(|_| s.trouble.is_none())?;
                Some(self.bar(s.runtime, summary.median, summary.p95))
            });
            plots.extend(bar_plot(&title, &bars.collect::<Vec<_>>()));
        }
        let mut works: Vec<(&str, &str)> = self.facts.iter().map(|f| (f.work, f.unit)).collect();
        works.sort();
        works.dedup();
        for (work, unit) in works.into_iter().filter(|(work, _)| !work.starts_with("consecutive")) {
            let of = self.facts.iter().filter(|f| f.work == work);
            let bars =
                of.filter_map(|f| f.value.as_ref().ok().map(|value| self.bar(f.runtime, *value, *value)));
            let title = if unit.is_empty() { work.to_string() } else { format!("{work}: {unit}") };
            plots.extend(bar_plot(&title, &bars.collect::<Vec<_>>()));
        }
        for (work, view) in self.each_work(|x| x.is_some()) {
            plots.extend(self.line_plot(work, view));
        }
        plots
    }

    fn each_work(&self, chosen: fn(Option<u32>) -> bool) -> Vec<(&str, View)> {
        let mut works: Vec<(&str, View)> = Vec::new();
        for series in self.series.iter().filter(|s| chosen(s.x)) {
            if !works.contains(&(series.work.as_str(), series.view)) {
                works.push((&series.work, series.view));
            }
        }
        works
    }

    fn bar(&self, runtime: usize, value: f64, upper: f64) -> Bar {
        let runtime = &self.runtimes[runtime];
        Bar { label: runtime.name.clone(), value, upper, color: color(runtime) }
    }

    fn line_plot(&self, work: &str, view: View) -> Option<Plot> {
        let of = |s: &&crate::work::Series| s.work == work && s.view == view && s.x.is_some();
        let mut steps: Vec<u32> = self.series.iter().filter(of).filter_map(|s| s.x).collect();
        steps.sort();
        steps.dedup();
        let mut lines: Vec<(&Runtime, Vec<(usize, f64)>)> = Vec::new();
        for (index, runtime) in self.runtimes.iter().enumerate() {
            let mut points: Vec<(usize, f64)> = Vec::new();
            for series in self.series.iter().filter(of).filter(|s| s.runtime == index && s.trouble.is_none())
            {
                let place = steps.iter().position(|x| Some(*x) == series.x)?;
                points.extend(series.summary().map(|s| (place, s.median)));
            }
            points.sort_by_key(|p| p.0);
            if !points.is_empty() {
                lines.push((runtime, points));
            }
        }
        // The lowest first, so that the names at the right are in the order of the lines.
        lines.sort_by(|a, b| a.1[a.1.len() - 1].1.total_cmp(&b.1[b.1.len() - 1].1));
        let values = || lines.iter().flat_map(|(_, points)| points.iter().map(|p| p.1));
        let (low, high) = (values().fold(f64::MAX, f64::min), values().fold(0.0, f64::max));
        if steps.len() < 2 || lines.is_empty() {
            return None;
        }
        let axis = Axis::new(low, high);
        let title = format!("{work}, {}: milliseconds", view.word());
        let (left, right, height) = (60.0, WIDTH - 170.0, 360.0);
        let x = |place: usize| left + (right - left) * place as f64 / (steps.len() - 1) as f64;
        let mut svg = open_svg(&title, height);
        for tick in axis.ticks() {
            let y = axis.y(tick);
            put(
                &mut svg,
                format!("<line x1=\"{left}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>"),
            );
            put(&mut svg, label(left - 6.0, y + 4.0, "end", &tick.to_string()));
        }
        for (place, step) in steps.iter().enumerate() {
            put(&mut svg, label(x(place), height - 12.0, "middle", &step.to_string()));
        }
        let mut taken: Vec<f64> = Vec::new();
        for (runtime, points) in &lines {
            let path: Vec<String> = points
                .iter()
                .map(|(place, value)| format!("{:.1},{:.1}", x(*place), axis.y(*value)))
                .collect();
            let color = color(runtime);
            let wide = if runtime.kind == Kind::Myrt { 3.0 } else { 1.8 };
            let path = path.join(" ");
            put(
                &mut svg,
                format!(
                    "<polyline points=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{wide}\"/>"
                ),
            );
            for (place, value) in points {
                let (x, y) = (x(*place), axis.y(*value));
                put(&mut svg, format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"));
            }
            // Names stand at the ends of their lines, moved apart where these are close.
            let (_, last) = points[points.len() - 1];
            let mut y = axis.y(last) + 4.0;
            while taken.iter().any(|other| (other - y).abs() < 14.0) {
                y -= 1.0;
            }
            taken.push(y);
            let name = format!("{} {}", runtime.name, short(last));
            put(
                &mut svg,
                label(right + 10.0, y, "start", &name).replace("<text", &format!("<text fill=\"{color}\"")),
            );
        }
        Some(close_svg(svg, &title))
    }
}

/// A logarithmic axis from a little below the lowest to a little above the highest value.
struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    fn new(low: f64, high: f64) -> Axis {
        Axis { low: low.max(0.001) / 1.15, high: high * 1.15 }
    }

    fn y(&self, value: f64) -> f64 {
        let part = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        325.0 - part * 275.0
    }

    fn ticks(&self) -> Vec<f64> {
        let decades = (-3..7).flat_map(|n| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(n)));
        decades.filter(|v| *v >= self.low && *v <= self.high).collect()
    }
}

fn bar_plot(title: &str, bars: &[Bar]) -> Option<Plot> {
    let highest = bars.iter().map(|bar| bar.upper).fold(0.0, f64::max);
    if highest <= 0.0 {
        return None;
    }
    let (left, room) = (160.0, WIDTH - 160.0 - 70.0);
    let mut svg = open_svg(title, 50.0 + 26.0 * bars.len() as f64);
    for (row, bar) in bars.iter().enumerate() {
        let y = 42.0 + 26.0 * row as f64;
        let (length, upper) = (room * bar.value / highest, room * bar.upper / highest);
        let color = bar.color;
        put(&mut svg, label(left - 8.0, y + 14.0, "end", &bar.label));
        put(
            &mut svg,
            format!("<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"18\" fill=\"{color}\"/>"),
        );
        let (middle, from, to) = (y + 9.0, left + length, left + upper);
        put(
            &mut svg,
            format!(
                "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle}\" y2=\"{middle}\" stroke=\"{color}\"/>"
            ),
        );
        put(&mut svg, label(to + 6.0, y + 14.0, "start", &short(bar.value)));
    }
    Some(close_svg(svg, title))
}

fn color(runtime: &Runtime) -> &'static str {
    match runtime.kind {
        Kind::Myrt => "#c2410c",
        Kind::Runc => "#64748b",
        Kind::Crun => "#2563eb",
        Kind::CrunStatic => "#0891b2",
        Kind::Youki => "#7c3aed",
        Kind::Bwrap => "#15803d",
        Kind::Floor => "#111827",
        Kind::FloorNoCgroup => "#9ca3af",
    }
}

fn open_svg(title: &str, height: f64) -> String {
    let mut svg = String::new();
    put(
        &mut svg,
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" {FONT}>"),
    );
    put(&mut svg, "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>".to_string());
    put(&mut svg, label(16.0, 24.0, "start", title).replace("<text", "<text font-weight=\"bold\""));
    svg
}

fn close_svg(mut svg: String, title: &str) -> Plot {
    put(&mut svg, "</svg>".to_string());
    let name = title.split(':').next().unwrap_or(title).to_lowercase();
    let words: Vec<&str> =
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    Plot { name: format!("{}.svg", words.join("-")), svg }
}

fn label(x: f64, y: f64, anchor: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}

fn put(svg: &mut String, element: String) {
    writeln!(svg, "{element}").expect("a string takes what is written to it");
}
