//! What is counted or read rather than timed: memory, system calls, limits, and whether a thousand runs leave anything.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::count::{What, count};
use crate::lab::{Kind, Lab, View, cgroup_folders, children};
use crate::spawn::Command;
use crate::work::{Waiting, floor_exec, oci, run_command, waiting_bundle};

/// One fact about one runtime.
#[derive(Debug)]
pub struct Fact {
    pub work: &'static str,
    pub unit: &'static str,
    pub runtime: usize,
    /// The number, or why there is none.
    pub value: Result<f64, String>,
}

/// Facts are gathered one by one; none of them depends on another.
pub struct Facts<'a> {
    lab: &'a Lab,
    pub list: Vec<Fact>,
}

impl<'a> Facts<'a> {
    pub fn new(lab: &'a Lab) -> Facts<'a> {
        Facts { lab, list: Vec::new() }
    }

    fn add(&mut self, work: &'static str, unit: &'static str, runtime: usize, value: Result<f64, String>) {
        self.list.push(Fact { work, unit, runtime, value });
    }

    /// The largest resident size of any process of a `run`, median of five.
    ///
    /// Measured by a small program of ours: a child's peak begins with the size of whoever started it.
    pub fn peak(&mut self) -> Result<(), String> {
        let bundle = self.lab.bundle("plain", |_| {})?;
        let floor = self.lab.dir.join("floor").to_string_lossy().into_owned();
        for runtime in 0..self.lab.runtimes.len() {
            self.lab.enter(View::V2, runtime);
            let one = || -> Result<f64, String> {
                let run = run_command(self.lab, runtime, View::V2, &bundle);
                let text = self.lab.spawner.read(&run.after(&[&floor, "peak"]))?;
                text.trim().lines().last().and_then(|l| l.parse().ok()).ok_or(format!("peak said {text:?}"))
            };
            let all: Result<Vec<f64>, String> = (0..5).map(|_| one()).collect();
            self.add("peak memory of run", "KiB", runtime, all.map(|values| median(&values)));
        }
        Ok(())
    }

    /// Memory that belongs to nobody else, with a second container alive: what one more costs.
    pub fn private(&mut self) -> Result<(), String> {
        let bundle = waiting_bundle(self.lab)?;
        for runtime in oci(self.lab) {
            let value = self.created(runtime, &bundle);
            self.add("private memory while a container is created", "KiB", runtime, value);
            let value = self.foreground(runtime, &bundle);
            self.add("private memory of run in the foreground", "KiB", runtime, value);
        }
        Ok(())
    }

    fn created(&self, runtime: usize, bundle: &Path) -> Result<f64, String> {
        let _first = Waiting::create(self.lab, (runtime, View::V2), bundle, false)?;
        let before: BTreeSet<i32> = children().into_iter().collect();
        let _second = Waiting::create(self.lab, (runtime, View::V2), bundle, false)?;
        Ok(children().into_iter().filter(|pid| !before.contains(pid)).map(private_of_tree).sum())
    }

    fn foreground(&self, runtime: usize, bundle: &Path) -> Result<f64, String> {
        self.lab.enter(View::V2, runtime);
        let mut started = Vec::new();
        let value = (|| {
            for _ in 0..2 {
                let id = self.lab.fresh_id();
                let words = ["run", "--bundle", &bundle.to_string_lossy(), &id];
                started.push((id.clone(), self.lab.spawner.start(&self.lab.oci(runtime, &words))?));
            }
            for (id, pid) in &started {
                wait_until(&format!("{id} to run"), || has_payload(*pid))?;
            }
            Ok(private_of_tree(started[1].1))
        })();
        for (id, pid) in started {
            drop(self.lab.spawner.run(&self.lab.oci(runtime, &["delete", "--force", &id])));
            self.lab.spawner.stop(pid);
        }
        value
    }

    /// The smallest v1 memory limit, in steps of 64 KiB, with which five of five runs succeed.
    pub fn smallest_limit(&mut self) -> Result<(), String> {
        if !self.lab.hierarchies.iter().any(|name| name == "memory") {
            return Ok(());
        }
        for runtime in oci(self.lab) {
            let mut found = Err("none up to 64 MiB works".to_string());
            let limits = (1..=32).map(|n| n * 64).chain([4096, 8192, 16384, 32768, 65536]);
            for kib in limits {
                let bundle = self.lab.bundle("limited", |config| {
                    config["linux"]["resources"]["memory"] = json!({ "limit": kib * 1024 });
                })?;
                self.lab.enter(View::Host, runtime);
                let works = (0..5).all(|_| {
                    self.lab.spawner.run(&run_command(self.lab, runtime, View::Host, &bundle)).is_ok()
                });
                if works {
                    found = Ok(f64::from(kib));
                    break;
                }
            }
            self.add("smallest memory limit, v1", "KiB", runtime, found);
        }
        Ok(())
    }

    /// System calls of `run` and `exec`, of all processes together.
    pub fn calls(&mut self) -> Result<(), String> {
        let plain = self.lab.bundle("plain", |_| {})?;
        let waiting = waiting_bundle(self.lab)?;
        for runtime in 0..self.lab.runtimes.len() {
            self.lab.enter(View::V2, runtime);
            let run = run_command(self.lab, runtime, View::V2, &plain);
            let counts = count(&self.lab.spawner, &run, What::Calls);
            self.add("system calls of run", "", runtime, counts.map(|c| c.calls as f64));
        }
        for runtime in oci(self.lab) {
            let container = match Waiting::create(self.lab, (runtime, View::V2), &waiting, true) {
                Ok(container) => container,
                Err(why) => {
                    self.add("system calls of exec", "", runtime, Err(why));
                    continue;
                }
            };
            let exec = self.lab.oci(runtime, &["exec", &container.id, "/bin/true"]);
            let counts = count(&self.lab.spawner, &exec, What::Calls);
            self.add("system calls of exec", "", runtime, counts.map(|c| c.calls as f64));
            if let (Kind::Myrt, Some(floor)) = (self.lab.runtimes[runtime].kind, floor(self.lab)) {
                let exec = floor_exec(self.lab, floor, &container)?;
                let counts = count(&self.lab.spawner, &exec, What::Calls);
                self.add("system calls of exec", "", floor, counts.map(|c| c.calls as f64));
            }
        }
        Ok(())
    }

    /// How many of ten `exec`s change the caller's mount table: systemd and others wake up for each change.
    pub fn visible_mounts(&mut self) -> Result<(), String> {
        let bundle = waiting_bundle(self.lab)?;
        for runtime in oci(self.lab) {
            let value = (|| {
                let container = Waiting::create(self.lab, (runtime, View::V2), &bundle, true)?;
                let table = File::open("/proc/thread-self/mountinfo").map_err(|e| e.to_string())?;
                let changed = || {
                    let mut fds = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
                    poll(&mut fds, PollTimeout::ZERO).map(|ready| ready > 0).map_err(|e| e.to_string())
                };
                changed()?;
                let mut times = 0.0;
                for _ in 0..10 {
                    self.lab.spawner.run(&self.lab.oci(runtime, &["exec", &container.id, "/bin/true"]))?;
                    times += f64::from(u8::from(changed()?));
                }
                Ok(times)
            })();
            self.add("execs of ten that change the host's mount table", "", runtime, value);
        }
        Ok(())
    }

    /// So many runs one after the other: how many fail or hang, and how many things they leave.
    pub fn consecutive(&mut self, runs: usize) -> Result<(), String> {
        let bundle = self.lab.bundle("plain", |_| {})?;
        for runtime in oci(self.lab) {
            self.lab.enter(View::V2, runtime);
            let before = self.belongings(runtime);
            let mut failed = 0;
            for _ in 0..runs {
                let command = run_command(self.lab, runtime, View::V2, &bundle);
                failed += usize::from(self.lab.spawner.run(&command).is_err());
                // With this many hangs the answer is known, and each takes half a minute.
                if failed > 20 {
                    break;
                }
            }
            let left = self.belongings(runtime).saturating_sub(before);
            self.add("consecutive runs: failed or hung", "", runtime, Ok(failed as f64));
            self.add("consecutive runs: things left behind", "", runtime, Ok(left as f64));
        }
        Ok(())
    }

    /// Counts what a runtime can leave: state, processes, mounts, cgroups.
    fn belongings(&self, runtime: usize) -> usize {
        let entries = |dir: &Path| fs::read_dir(dir).map_or(0, |list| list.count());
        let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default().lines().count();
        let mine = |dir: &Path| {
            let names = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
            names.filter(|name| name.to_string_lossy().contains(&self.lab.prefix())).count()
        };
        let cgroups: usize = cgroup_folders().iter().map(|dir| mine(dir)).sum();
        self.lab.spawner.reap();
        entries(&self.lab.dir.join(format!("state-{runtime}"))) + children().len() + mounts + cgroups
    }
}

fn floor(lab: &Lab) -> Option<usize> {
    lab.runtimes.iter().position(|r| r.kind == Kind::Floor)
}

pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

fn wait_until(what: &str, mut check: impl FnMut() -> bool) -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(20);
    while !check() {
        if Instant::now() > end {
            return Err(format!("waited in vain for {what}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn children_of(pid: i32) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<i32>>()).collect()
}

fn is_payload(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "true")
}

fn has_payload(pid: i32) -> bool {
    is_payload(pid) || children_of(pid).into_iter().any(has_payload)
}

/// Private memory of a process and its descendants, the payload left out.
fn private_of_tree(pid: i32) -> f64 {
    let own = if is_payload(pid) { 0.0 } else { private_kib(pid) };
    own + children_of(pid).into_iter().map(private_of_tree).sum::<f64>()
}

fn private_kib(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let private = text.lines().filter(|line| line.starts_with("Private_"));
    private.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok()).sum()
}

impl Command {
    /// The same command as the arguments of another.
    fn after(&self, head: &[&str]) -> Command {
        Command::new(head.iter().map(|word| word.to_string()).chain(self.words()))
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn median_is_the_middle_or_the_mean_of_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
