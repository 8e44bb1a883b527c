//! The guard: exact counts of myrt against a committed budget. Nothing in it is timed, so a busy machine changes nothing.
//!
//! All of it happens in a cgroup2 view of our own. A number may exceed its budget by its margin, which covers what differs
//! between machines (the kernel's last capability, paths that are masked only where they are).

use std::fs;
use std::path::Path;

use crate::count::{Counts, What, count};
use crate::lab::{Lab, View};
use crate::spawn::Command;
use crate::work::{Waiting, run_command, waiting_bundle};

/// A number with the part of the budget by which it may exceed it.
struct Measured {
    name: &'static str,
    value: u64,
    margin: f64,
}

/// Compares, or rewrites the budget. False if something costs more than it may.
///
/// `fast` leaves out the instructions of `run` and `exec`: stepping over two million of them takes a minute.
pub fn guard(myrt: &Path, budget: &Path, fast: bool, update: bool) -> Result<bool, String> {
    let mut lab = Lab::open(myrt, &[])?;
    // How much of a file a page fault maps depends on how it came into the page cache; on a tmpfs all of it is there alike.
    let copy = lab.dir.join("myrt");
    fs::copy(myrt, &copy).map_err(|e| format!("{}: {e}", copy.display()))?;
    lab.runtimes[0].path = copy.to_string_lossy().into_owned();
    let measured = measure(&lab, myrt, fast)?;
    let text = fs::read_to_string(budget).map_err(|e| format!("{}: {e}", budget.display()))?;
    let (head, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    let allowed = |name: &str| -> Option<u64> {
        lines.iter().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    let mut good = true;
    println!("{:<34} {:>10} {:>10} {:>10}", "", "is", "budget", "at most");
    for m in &measured {
        let Some(budget) = allowed(m.name) else {
            println!("{:<34} {:>10} {:>10} {:>10}  NO BUDGET", m.name, m.value, "-", "-");
            good = false;
            continue;
        };
        let most = (budget as f64 * (1.0 + m.margin)) as u64;
        let lower = (budget as f64 * (1.0 - m.margin)) as u64;
        let verdict = match m.value {
            value if value > most => "TOO MUCH",
            value if value < lower => "less: lower the budget with `make guard UPDATE=1`",
            _ => "",
        };
        good &= m.value <= most;
        println!("{:<34} {:>10} {:>10} {:>10}  {verdict}", m.name, m.value, budget, most);
    }
    if update && !fast {
        let lines = measured.iter().map(|m| format!("{:<34} {}", m.name, m.value));
        let text: Vec<String> = head.into_iter().map(String::from).chain(lines).collect();
        fs::write(budget, text.join("\n") + "\n").map_err(|e| format!("{}: {e}", budget.display()))?;
        println!("written to {}", budget.display());
        return Ok(true);
    }
    Ok(good)
}

fn measure(lab: &Lab, myrt: &Path, fast: bool) -> Result<Vec<Measured>, String> {
    const RUNTIME: usize = 0;
    let (plain, waiting) = (lab.bundle("plain", |_| {})?, waiting_bundle(lab)?);
    let container = Waiting::create(lab, (RUNTIME, View::V2), &waiting, true)?;
    let run = || run_command(lab, RUNTIME, View::V2, &plain);
    let exec = || lab.oci(RUNTIME, &["exec", &container.id, "/bin/true"]);
    let state = || lab.oci(RUNTIME, &["state", &container.id]);
    // The first one brings every page into memory.
    for command in [run(), exec(), state()] {
        lab.spawner.run(&command)?;
    }
    let calls = |command: Command| count(&lab.spawner, &command, What::Calls);
    let steps = |command: Command| count(&lab.spawner, &command, What::Instructions);
    let (run_counts, exec_counts): (Counts, Counts) = (calls(run())?, calls(exec())?);
    let size = fs::metadata(myrt).map_err(|e| format!("{}: {e}", myrt.display()))?.len();
    let number = |name, value, margin| Measured { name, value, margin };
    let mut all = vec![
        number("system calls of run", run_counts.calls, 0.03),
        number("system calls of exec", exec_counts.calls, 0.03),
        number("system calls of state", calls(state())?.calls, 0.03),
        number("resident KiB of run", run_counts.resident_kib, 0.08),
        number("resident KiB of exec", exec_counts.resident_kib, 0.08),
        number("bytes of the binary", size, 0.04),
        number("instructions of state", steps(state())?.instructions, 0.06),
    ];
    if !fast {
        all.push(number("instructions of run", steps(run())?.instructions, 0.06));
        all.push(number("instructions of exec", steps(exec())?.instructions, 0.06));
    }
    Ok(all)
}
