//! Where the time of a command goes: the kernel's own trace (tracefs) of the system calls of all its processes.
//!
//! A pair of events costs a fraction of a microsecond, so what is seen is what happens without the trace too. Time in a
//! call is the kernel's, unless the process sleeps there until somebody else acts: that is counted as waiting. The rest of
//! a process's life is its own: instructions and page faults, which are counted.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::facts::median;
use crate::lab::{Kind, Lab, Runtime, View};
use crate::report::short;
use crate::spawn::Command;
use crate::syscalls::SYSCALLS;
use crate::work::{Waiting, docker_profile, floor_exec, keep_filter, oci, run_command, waiting_bundle};

const EVENTS: [&str; 5] = [
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
    "exceptions/page_fault_user",
    "sched/sched_switch",
    "signal/signal_generate",
];

/// How often each command is traced; what is shown are medians.
const TIMES: usize = 30;

/// Calls that do nothing but wait: all their time is waiting, asleep or on the way there and back.
const WAITS: [&str; 8] =
    ["wait4", "waitid", "poll", "epoll_wait", "epoll_pwait", "futex", "nanosleep", "clock_nanosleep"];

const EXECVE: usize = 59;
const EXIT_GROUP: usize = 231;

/// A buffer of the kernel's for events of ours, apart from everybody else's.
struct Tracer {
    /// Reaches the instance whatever mount namespace we are in.
    instance: File,
    dir: PathBuf,
    tracefs: PathBuf,
}

impl Tracer {
    fn open(lab: &Lab) -> Result<Tracer, String> {
        let tracefs = lab.dir.join("tracing");
        fs::create_dir(&tracefs).map_err(|e| e.to_string())?;
        let none = None::<&str>;
        mount(Some("tracefs"), &tracefs, Some("tracefs"), MsFlags::empty(), none)
            .map_err(|e| format!("mount tracefs: {e}"))?;
        let dir = tracefs.join(format!("instances/myrt-bench-{}", std::process::id()));
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let instance = File::open(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let tracer = Tracer { instance, dir, tracefs };
        tracer.write("trace_clock", "mono")?;
        tracer.write("buffer_size_kb", "8192")?;
        tracer.write("options/event-fork", "1")?;
        tracer.write("set_event_pid", &std::process::id().to_string())?;
        EVENTS.iter().try_for_each(|event| tracer.write(&format!("events/{event}/enable"), "1"))?;
        Ok(tracer)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/self/fd/{}/{name}", self.instance.as_raw_fd())
    }

    fn write(&self, name: &str, value: &str) -> Result<(), String> {
        fs::write(self.path(name), value).map_err(|e| format!("{name} of the trace: {e}"))
    }

    /// What the processes of a command do, ours left out.
    fn trace(&self, lab: &Lab, command: &Command) -> Result<Account, String> {
        self.write("trace", "")?;
        self.write("tracing_on", "1")?;
        let ran = lab.spawner.run(command);
        self.write("tracing_on", "0")?;
        let wall = ran?.wall.as_secs_f64() * 1000.0;
        let text = fs::read_to_string(self.path("trace")).map_err(|e| format!("trace: {e}"))?;
        let mut account = Account::of(&text, std::process::id());
        account.wall = wall;
        Ok(account)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        for event in EVENTS {
            drop(self.write(&format!("events/{event}/enable"), "0"));
        }
        // A directory of tracefs is removed whole; it is busy while a file of it is open.
        if let Ok(nowhere) = File::open("/dev/null") {
            self.instance = nowhere;
        }
        drop(fs::remove_dir(&self.dir));
        let _ = umount2(&self.tracefs, MntFlags::MNT_DETACH);
    }
}

/// What the processes of one command did, in milliseconds.
#[derive(Debug, Default, Clone)]
pub struct Account {
    wall: f64,
    /// By call: how often, and how long in the kernel without the sleep that somebody else ended.
    calls: HashMap<&'static str, (u32, f64)>,
    waiting: f64,
    /// Between calls: instructions, page faults, and waiting for a processor.
    own: f64,
    faults: u32,
}

/// What is known of a process while the trace is read.
#[derive(Default)]
struct Process {
    /// When it was last between calls, if it is.
    since: Option<f64>,
    /// The call that it is in, since when, and how long it has slept there.
    inside: Option<(usize, f64, f64)>,
    /// When it fell asleep.
    asleep: Option<f64>,
}

impl Account {
    fn of(text: &str, tracer: u32) -> Account {
        let mut account = Account::default();
        let mut processes: HashMap<u32, Process> = HashMap::new();
        // Until the first process has executed the command it is still at what posix_spawn(3) does.
        let mut begun = false;
        for event in text.lines().filter_map(Event::parse) {
            let ms = event.seconds * 1000.0;
            let word = |number: usize| event.rest.split_whitespace().nth(number).unwrap_or_default();
            if event.name == "sched_switch" {
                let field = |name: &str| {
                    event.rest.split(&format!("{name}=")).nth(1).and_then(|v| v.split(' ').next())
                };
                // S, and not D, in which the kernel waits for itself, nor R, in which the processor is another's.
                if field("prev_state").is_some_and(|state| state.starts_with('S'))
                    && let Some(process) = processes.get_mut(&event.pid)
                {
                    process.asleep = Some(ms);
                }
                let next = field("next_pid").and_then(|pid| pid.parse().ok());
                if let Some(process) = next.and_then(|pid: u32| processes.get_mut(&pid))
                    && let Some(begin) = process.asleep.take()
                {
                    account.waiting += ms - begin;
                    if let Some((_, _, slept)) = &mut process.inside {
                        *slept += ms - begin;
                    }
                }
                continue;
            }
            if event.pid == tracer {
                continue;
            }
            begun |= event.name == "sys_exit" && word(1) == EXECVE.to_string() && word(3) == "0";
            if !begun {
                continue;
            }
            let process = processes.entry(event.pid).or_default();
            let number = || word(1).parse::<usize>().unwrap_or_default();
            match event.name {
                "sys_enter" => {
                    account.own += process.since.take().map_or(0.0, |since| ms - since);
                    process.inside = Some((number(), ms, 0.0));
                }
                "sys_exit" => {
                    process.since = Some(ms);
                    // A new process comes out of a call that it did not enter.
                    if let Some((number, begin, slept)) = process.inside.take() {
                        account.add(number, ms - begin - slept);
                    }
                }
                "page_fault_user" => account.faults += 1,
                // The end of a process: SIGCHLD to its parent, after it has let go of its namespaces.
                "signal_generate" if word(0) == "sig=17" => {
                    if let Some((EXIT_GROUP, begin, slept)) = process.inside {
                        process.inside = None;
                        account.add(EXIT_GROUP, ms - begin - slept);
                    }
                }
                _ => {}
            }
        }
        account
    }

    fn add(&mut self, number: usize, ms: f64) {
        let name =
            SYSCALLS.iter().find(|(_, numbers)| numbers[0] == number as i32).map_or("?", |(name, _)| name);
        let sum = self.calls.entry(name).or_default();
        sum.0 += 1;
        match WAITS.contains(&name) {
            true => self.waiting += ms,
            false => sum.1 += ms,
        }
    }

    fn kernel(&self) -> f64 {
        self.calls.values().map(|(_, ms)| ms).sum()
    }

    fn call(&self, name: &str) -> (u32, f64) {
        self.calls.get(name).copied().unwrap_or_default()
    }
}

/// A line of the trace: `comm-PID [CPU] flags SECONDS: NAME: REST`.
struct Event<'a> {
    pid: u32,
    seconds: f64,
    name: &'a str,
    rest: &'a str,
}

impl Event<'_> {
    fn parse(line: &str) -> Option<Event<'_>> {
        let (task, rest) = line.split_once(" [0")?;
        let pid = task.trim_end().rsplit('-').next()?.parse().ok()?;
        let (head, rest) = rest.split_once(": ")?;
        let seconds = head.split_whitespace().last()?.parse().ok()?;
        let (name, rest) = rest.split_once(": ").or_else(|| Some((rest.strip_suffix(':')?, "")))?;
        Some(Event { pid, seconds, name, rest })
    }
}

/// A work, with what each runtime did in it.
pub struct Traced {
    work: &'static str,
    /// By runtime.
    accounts: Vec<(usize, Vec<Account>)>,
}

/// Traces `run`, `run` under Docker's seccomp profile, and `exec`.
pub fn traces(lab: &Lab) -> Result<Vec<Traced>, String> {
    // It stays the view from here on: what is mounted here is unmounted here.
    lab.enter(View::V2, 0);
    let tracer = Tracer::open(lab)?;
    let plain = lab.bundle("plain", |_| {})?;
    let profile = docker_profile();
    let filtered = lab.bundle("seccomp", |config| config["linux"]["seccomp"] = profile)?;
    keep_filter(lab, &filtered)?;
    let waiting = waiting_bundle(lab)?;
    let runtimes: Vec<usize> = (0..lab.runtimes.len())
        .filter(|r| lab.runtimes[*r].is_oci() || lab.runtimes[*r].kind == Kind::Floor)
        .collect();
    let mut all = Vec::new();
    for (work, bundle) in [("run", &plain), ("run, Docker's seccomp profile", &filtered)] {
        let command = |runtime| Ok(run_command(lab, runtime, View::V2, bundle));
        all.push(rounds(lab, &tracer, work, &runtimes, command)?);
    }
    let myrt = oci(lab).next().ok_or("myrt is always there")?;
    let containers = oci(lab)
        .map(|runtime| Ok((runtime, Waiting::create(lab, (runtime, View::V2), &waiting, true)?)))
        .collect::<Result<HashMap<usize, Waiting>, String>>()?;
    let command = |runtime| match containers.get(&runtime) {
        Some(container) => Ok(lab.oci(runtime, &["exec", &container.id, "/bin/true"])),
        None => floor_exec(lab, runtime, &containers[&myrt]),
    };
    all.push(rounds(lab, &tracer, "exec", &runtimes, command)?);
    Ok(all)
}

/// The runtimes take turns.
fn rounds(
    lab: &Lab,
    tracer: &Tracer,
    work: &'static str,
    runtimes: &[usize],
    command: impl Fn(usize) -> Result<Command, String>,
) -> Result<Traced, String> {
    let mut accounts: Vec<(usize, Vec<Account>)> =
        runtimes.iter().map(|runtime| (*runtime, Vec::new())).collect();
    for _ in 0..TIMES {
        for (runtime, list) in &mut accounts {
            lab.enter(View::V2, *runtime);
            list.push(tracer.trace(lab, &command(*runtime)?)?);
        }
    }
    Ok(Traced { work, accounts })
}

impl Traced {
    /// A table: a column for each runtime, a row for each call that takes any of myrt's or the floor's time.
    pub fn markdown(&self, lab: &[Runtime]) -> String {
        let mut text = String::new();
        let names: Vec<&str> = self.accounts.iter().map(|(runtime, _)| lab[*runtime].name.as_str()).collect();
        let mut row = |title: &str, cell: &dyn Fn(&[Account]) -> String| {
            let cells: Vec<String> = self.accounts.iter().map(|(_, list)| cell(list)).collect();
            writeln!(text, "| {title} | {} |", cells.join(" | "))
                .expect("a string takes what is written to it");
        };
        let of = |list: &[Account], value: &dyn Fn(&Account) -> f64| {
            median(&list.iter().map(value).collect::<Vec<_>>())
        };
        row(&format!("{}, ms", self.work), &|_| String::new());
        row("from start to end", &|list| short(of(list, &|a| a.wall)));
        row("in the kernel's calls", &|list| short(of(list, &|a| a.kernel())));
        row("between them", &|list| short(of(list, &|a| a.own)));
        row("waiting for one another", &|list| short(of(list, &|a| a.waiting)));
        row("page faults", &|list| format!("{:.0}", of(list, &|a| f64::from(a.faults))));
        row("calls", &|list| {
            format!("{:.0}", of(list, &|a| a.calls.values().map(|(n, _)| f64::from(*n)).sum()))
        });
        for name in self.longest(lab) {
            row(name, &|list| {
                let count = of(list, &|a| f64::from(a.call(name).0));
                if count == 0.0 {
                    "-".to_string()
                } else {
                    format!("{} ({count:.0})", short(of(list, &|a| a.call(name).1)))
                }
            });
        }
        let head = format!("| | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
        head + &text
    }

    /// The calls that take myrt and the floor longest, the longest first.
    fn longest(&self, lab: &[Runtime]) -> Vec<&'static str> {
        let mut sums: HashMap<&'static str, f64> = HashMap::new();
        let ours = |runtime: usize| matches!(lab[runtime].kind, Kind::Myrt | Kind::Floor);
        for (_, list) in self.accounts.iter().filter(|(runtime, _)| ours(*runtime)) {
            for (name, (_, ms)) in list.iter().flat_map(|account| &account.calls) {
                *sums.entry(name).or_default() += ms / list.len() as f64;
            }
        }
        let mut names: Vec<_> = sums.into_iter().filter(|(_, ms)| *ms > 0.03).collect();
        names.sort_by(|a, b| b.1.total_cmp(&a.1));
        names.into_iter().map(|(name, _)| name).take(25).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# tracer: nop
           bench-7       [000] ..... 10.000000: sys_enter: NR 61 (0, 0)
           bench-8       [001] ..... 10.000000: sys_enter: NR 13 (0, 0)
           bench-8       [001] ..... 10.000050: sys_exit: NR 13 = 0
      a-b: c [x]-8       [001] ..... 10.000100: sys_exit: NR 59 = 0
           child-8       [001] ..... 10.000200: page_fault_user: address=0x1 ip=0x2 error_code=0x4
           child-8       [001] ..... 10.000300: sys_enter: NR 83 (0, 0)
           child-8       [001] ..... 10.000500: sys_exit: NR 83 = 0
           child-8       [001] ..... 10.000600: sys_enter: NR 47 (0, 0)
           child-8       [001] d.... 10.000700: sched_switch: prev_comm=child prev_pid=8 prev_prio=120 prev_state=S ==> next_comm=x next_pid=0 next_prio=120
          <idle>-0       [001] d.... 10.001700: sched_switch: prev_comm=x prev_pid=0 prev_prio=120 prev_state=R ==> next_comm=child next_pid=8 next_prio=120
           child-8       [001] ..... 10.001800: sys_exit: NR 47 = 1
           child-8       [001] ..... 10.001800: sys_enter: NR 61 (0, 0)
           child-8       [001] ..... 10.001900: sys_exit: NR 61 = 1
           child-8       [001] ..... 10.001900: sys_enter: NR 231 (0, 0)
           child-8       [001] d.... 10.002000: signal_generate: sig=17 errno=0 code=1 comm=bench pid=7 grp=1 res=0
";

    #[test]
    fn sleep_is_told_from_work() {
        let account = Account::of(TEXT, 7);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        near(account.call("mkdir").1, 0.2);
        near(account.call("recvmsg").1, 0.2);
        near(account.waiting, 1.1);
        near(account.own, 0.3);
        near(account.call("exit_group").1, 0.1);
        assert_eq!((account.call("wait4"), account.call("rt_sigaction").0), ((1, 0.0), 0));
        assert_eq!(account.faults, 1);
    }
}
