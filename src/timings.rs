//! `run --timings`: how long each step took, on the host and in the child, printed once the program runs.
//!
//! The host's steps follow one another, from the start of the command; the child's overlap with them. What
//! a step tells the parent is told between the steps and not counted.

use std::fmt;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// When the command began.
static BEGIN: OnceLock<Instant> = OnceLock::new();

/// What was measured; `None` if nobody wants to know.
static TIMINGS: Mutex<Option<Timings>> = Mutex::new(None);

#[derive(Debug)]
struct Timings {
    host: Vec<(Duration, String)>,
    child: Vec<(Duration, String)>,
    last: Instant,
}

/// The command begins.
pub fn begin() {
    BEGIN.get_or_init(Instant::now);
}

/// Somebody wants to know: what was done so far is reading the command line.
pub fn want() {
    let begin = *BEGIN.get_or_init(Instant::now);
    with(|timings| *timings = Some(Timings { host: Vec::new(), child: Vec::new(), last: begin }));
    host("read the command line");
}

/// True if somebody wants to know. The child knows it from the parent's memory.
pub fn wanted() -> bool {
    with(|timings| timings.is_some())
}

/// The parent has done something since it did the last thing.
pub fn host(what: &str) {
    with(|timings| {
        if let Some(timings) = timings {
            let now = Instant::now();
            timings.host.push((now - timings.last, what.to_string()));
            timings.last = now;
        }
    });
}

/// The child says how long a step took.
pub fn child(took: Duration, step: String) {
    with(|timings| {
        if let Some(timings) = timings {
            timings.child.push((took, step));
        }
    });
}

/// The program runs: prints the table on stderr, if somebody wants it.
pub fn print() {
    with(|timings| {
        if let Some(timings) = timings.take() {
            // Nobody is left to tell if stderr is closed.
            drop(std::io::Write::write_all(&mut std::io::stderr(), timings.to_string().as_bytes()));
        }
    });
}

fn with<T>(act: impl FnOnce(&mut Option<Timings>) -> T) -> T {
    act(&mut TIMINGS.lock().unwrap_or_else(PoisonError::into_inner))
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, steps) in [("host", &self.host), ("child", &self.child)] {
            for (took, step) in steps {
                writeln!(f, "{place:<5} {:>8.3} ms  {step}", milliseconds(*took))?;
            }
            let all = steps.iter().map(|(took, _)| *took).sum();
            writeln!(f, "{place:<5} {:>8.3} ms  in all", milliseconds(all))?;
        }
        Ok(())
    }
}

/// A duration in milliseconds.
pub fn milliseconds(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_line_for_each_step_and_a_sum_for_each_place() {
        let took = Duration::from_micros;
        let timings = Timings {
            host: vec![(took(1500), "read config.json".into()), (took(250), "plan".into())],
            child: vec![(took(12), "mount proc on /proc".into())],
            last: Instant::now(),
        };
        assert_eq!(
            timings.to_string(),
            "host     1.500 ms  read config.json\n\
             host     0.250 ms  plan\n\
             host     1.750 ms  in all\n\
             child    0.012 ms  mount proc on /proc\n\
             child    0.012 ms  in all\n"
        );
    }
}
