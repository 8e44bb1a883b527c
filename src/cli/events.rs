//! `myrt events`

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::{Global, Subcommand, say};
use crate::cgroup::Cgroup;
use crate::container::{self, Status};
use crate::error::{Error, Result};
use crate::sys::procfs::Procfs;

/// Print statistics and out-of-memory events.
#[derive(Debug, Args)]
pub struct Events {
    /// Print the statistics once and end
    #[arg(long)]
    stats: bool,
    /// Time between two statistics, such as 5s, 500ms or 1m
    #[arg(long, value_name = "TIME", default_value = "5s")]
    interval: String,
    /// Name of the container
    id: String,
}

impl Subcommand for Events {
    const NAME: &'static str = "events";
    const ABOUT: &'static str = "Print statistics and out-of-memory events of a container";

    fn run(self, global: &Global) -> Result<u8> {
        let interval = duration(&self.interval)?;
        let (root, proc) = (global.root()?, Procfs::open()?);
        let (state, status) = container::look(&root, &self.id, &proc).map_err(|e| e.at(&self.id))?;
        if status == Status::Stopped {
            return Err(Error::new("container not running").at(&self.id));
        }
        let cgroup = Cgroup::open(&state.cgroup)?
            .ok_or_else(|| Error::new("the container has no cgroup to look into"))?;
        if self.stats {
            return self.print("stats", json!(cgroup.stats()?)).map(|()| 0);
        }
        let mut oom = cgroup.oom_events()?;
        let mut next = Instant::now();
        // The first ones at once, as runc does after its interval; then until the container has ended.
        while container::look(&root, &self.id, &proc).is_ok_and(|(_, status)| status != Status::Stopped) {
            if Instant::now() >= next {
                self.print("stats", json!(cgroup.stats()?))?;
                next += interval;
            }
            let wait = next.saturating_duration_since(Instant::now()).min(Duration::from_millis(500));
            let Some(oom) = &mut oom else {
                std::thread::sleep(wait);
                continue;
            };
            for _ in 0..oom.wait(Some(wait))?.unwrap_or(0) {
                self.print("oom", json!(null))?;
            }
        }
        Ok(0)
    }
}

impl Events {
    fn print(&self, kind: &str, data: serde_json::Value) -> Result<()> {
        let mut event = json!({"type": kind, "id": self.id});
        if !data.is_null() {
            event["data"] = data;
        }
        say(format!("{event}\n"))
    }
}

/// A time as Go writes it: `1m30s`, `500ms`, `2h`. Above zero, and as long as Go's can be.
fn duration(text: &str) -> Result<Duration> {
    let bad = || {
        Error::new(format!("{text:?} is not a time between 0 and 292 years")).hint("write 5s, 500ms or 1m")
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(bad)?;
        let amount: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let units = [("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, seconds) = units.into_iter().find(|(unit, _)| rest.starts_with(unit)).ok_or_else(bad)?;
        rest = &rest[unit.len()..];
        let more = Duration::try_from_secs_f64(amount * seconds).map_err(|_| bad())?;
        total = total.checked_add(more).ok_or_else(bad)?;
    }
    // Go counts nanoseconds in 63 bits: 292 years.
    let longest = Duration::from_nanos(i64::MAX as u64);
    if total.is_zero() || total > longest { Err(bad()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_in_go() {
        assert_eq!(duration("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("1.5s").unwrap(), Duration::from_millis(1500));
        let (long, longer) = ("2562048h", "5000000000000000h5000000000000000h");
        for bad in ["", "0s", "5", "s", "-1s", "5x", "1s2", long, longer] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
