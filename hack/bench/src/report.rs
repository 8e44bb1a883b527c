//! The table on the terminal and the same as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::lab::Kind;
use crate::results::Results;
use crate::work::Series;

/// Three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Series {
    fn title(&self) -> String {
        match self.x {
            Some(x) => format!("{}: {x}, {}", self.work, self.view.word()),
            None => format!("{}, {}", self.work, self.view.word()),
        }
    }
}

impl Results {
    /// For people. `whole` if everything was to be measured.
    pub fn text(&self, whole: bool) -> String {
        let mut text = String::new();
        for (title, rows) in self.works() {
            let head = format!("{title:<58}");
            line(&mut text, &format!("\n{head} best  median     p95     cpu     n  myrt is"));
            for row in rows {
                line(&mut text, &row);
            }
        }
        for (work, _) in self.each_fact() {
            line(&mut text, &format!("\n{work}"));
            for fact in self.facts.iter().filter(|f| f.work == work) {
                let value = match &fact.value {
                    Ok(value) => format!("{value:>9.0} {}", fact.unit),
                    Err(why) => format!("  {}", failure(why)),
                };
                line(&mut text, &format!("  {:<55} {value}", self.runtimes[fact.runtime].name));
            }
        }
        line(&mut text, &format!("\n{:<36} {:<38} {:>8} {:>8} {:>8}", "goal", "", "at most", "is", "in CPU"));
        // A part of the bench judges what it has measured; the whole says what it could not.
        for goal in self.goals().iter().filter(|goal| whole || goal.value.is_some()) {
            let [value, cpu] = [goal.value, goal.cpu].map(|v| v.map_or("-".to_string(), short));
            let (row, what, limit) = (goal.row, goal.what, goal.limit);
            line(
                &mut text,
                &format!("{row:<36} {what:<38} {limit:>8} {value:>8} {cpu:>8}  {}", goal.verdict()),
            );
        }
        for trace in &self.traces {
            line(&mut text, &format!("\n{}", trace.markdown(&self.runtimes)));
        }
        text
    }

    /// Each work with a row for each runtime, in the order of measurement.
    fn works(&self) -> Vec<(String, Vec<String>)> {
        let mut works: Vec<(String, Vec<String>)> = Vec::new();
        for series in &self.series {
            let name = series.title();
            let position = works.iter().position(|(other, _)| *other == name).unwrap_or_else(|| {
                works.push((name.clone(), Vec::new()));
                works.len() - 1
            });
            let runtime = &self.runtimes[series.runtime].name;
            let myrt =
                self.series.iter().find(|s| s.title() == name && self.runtimes[s.runtime].kind == Kind::Myrt);
            let ours = myrt.and_then(|s| s.summary()).map(|s| s.median);
            let row = match (series.summary(), &series.trouble) {
                (_, Some(why)) => format!("  {runtime:<53} {}", failure(why)),
                (None, None) => format!("  {runtime:<53} nothing measured"),
                (Some(s), None) => {
                    let ratio = ours.map_or("-".to_string(), |ours| format!("{:.2} x", ours / s.median));
                    let (best, median, p95, cpu) =
                        (short(s.best), short(s.median), short(s.p95), short(s.cpu));
                    format!("  {runtime:<53} {best:>7} {median:>7} {p95:>7} {cpu:>7} {:>5}  {ratio}", s.count)
                }
            };
            works[position].1.push(row);
        }
        works
    }

    /// For docs/performance.md: the goals, and a table of medians with CPU times beside them.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        line(&mut text, "| work | | at most | is | in CPU time | |\n|---|---|---|---|---|---|");
        for goal in self.goals() {
            let [value, cpu] = [goal.value, goal.cpu].map(|v| v.map_or("-".to_string(), short));
            let (row, what, limit, verdict) = (goal.row, goal.what, goal.limit, goal.verdict());
            line(&mut text, &format!("| {row} | {what} | {limit} | {value} | {cpu} | {verdict} |"));
        }
        let names: Vec<&str> = self.runtimes.iter().map(|r| r.name.as_str()).collect();
        let rule = "---|".repeat(names.len());
        line(&mut text, &format!("\n| median ms (CPU ms) | {} |\n|---|{rule}", names.join(" | ")));
        for (title, _) in self.works() {
            let cell = |runtime: usize| {
                let series = self.series.iter().find(|s| s.title() == title && s.runtime == runtime);
                let summary = series.filter(|s| s.trouble.is_none()).and_then(|s| s.summary());
                summary.map_or("-".to_string(), |s| format!("{} ({})", short(s.median), short(s.cpu)))
            };
            let cells: Vec<String> = (0..names.len()).map(cell).collect();
            line(&mut text, &format!("| {title} | {} |", cells.join(" | ")));
        }
        line(&mut text, &format!("\n| | {} |\n|---|{rule}", names.join(" | ")));
        for (work, unit) in self.each_fact() {
            let cell = |runtime: usize| {
                let fact = self.facts.iter().find(|f| f.work == work && f.runtime == runtime);
                fact.and_then(|f| f.value.as_ref().ok()).map_or("-".to_string(), |v| format!("{v:.0}"))
            };
            let cells: Vec<String> = (0..names.len()).map(cell).collect();
            let unit = if unit.is_empty() { String::new() } else { format!(", {unit}") };
            line(&mut text, &format!("| {work}{unit} | {} |", cells.join(" | ")));
        }
        for trace in &self.traces {
            line(&mut text, &format!("\n{}", trace.markdown(&self.runtimes)));
        }
        text
    }

    /// What was counted, each once, in the order of measurement.
    fn each_fact(&self) -> Vec<(&'static str, &'static str)> {
        let mut all: Vec<(&str, &str)> = Vec::new();
        for fact in &self.facts {
            if !all.contains(&(fact.work, fact.unit)) {
                all.push((fact.work, fact.unit));
            }
        }
        all
    }

    /// For programs: times in milliseconds.
    pub fn json(&self, about: Value) -> Value {
        let series = self.series.iter().map(|s| {
            let summary = s.summary();
            let get = |f: fn(&crate::results::Summary) -> f64| summary.as_ref().map(f);
            json!({
                "work": s.work, "view": s.view.word(), "x": s.x, "runtime": self.runtimes[s.runtime].name,
                "best_ms": get(|s| s.best), "median_ms": get(|s| s.median), "p95_ms": get(|s| s.p95), "cpu_ms": get(|s| s.cpu),
                "samples": s.samples.len(), "trouble": s.trouble,
                "wall_ms": s.samples.iter().map(|s| s.wall.as_micros() as f64 / 1000.0).collect::<Vec<_>>(),
            })
        });
        let facts = self.facts.iter().map(|f| {
            json!({
                "work": f.work, "unit": f.unit, "runtime": self.runtimes[f.runtime].name,
                "value": f.value.as_ref().ok(), "trouble": f.value.as_ref().err(),
            })
        });
        let goals = self.goals().into_iter().map(|g| {
            json!({ "row": g.row, "what": g.what, "at_most": g.limit, "is": g.value, "cpu": g.cpu, "reached": g.reached() })
        });
        json!({
            "about": about,
            "series": series.collect::<Vec<_>>(),
            "facts": facts.collect::<Vec<_>>(),
            "goals": goals.collect::<Vec<_>>(),
        })
    }
}

/// A failure without the command line, which is in the JSON.
fn failure(why: &str) -> String {
    format!("failed: {}", why.split_once(": ").map_or(why, |(_, rest)| rest))
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a string takes what is written to it");
}
