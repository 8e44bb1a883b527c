//! What a user can observe of an OCI container runtime, as some five hundred true sentences.
//!
//! `RUNTIME=path runtime-tests [--list] [--jobs N] [--view host|v1|v2] [--subject NAME] [FILTER...]`
//!
//! Runs every test against `$RUNTIME` (with `$RUNTIME_ARGS` before the command), prints a line for each and the
//! totals last; the exit status is 1 if something failed. `$TIMEOUT_FACTOR` stretches all deadlines.
//!
//! Build: `RUSTFLAGS=-Ctarget-feature=+crt-static cargo build --release --target x86_64-unknown-linux-gnu
//! --manifest-path runtime-tests/Cargo.toml` (the payload `inside` must be static).
//!
//! One file per subject; `harness` keeps tests apart, `bundle` makes what they need, `host` says what is here.

mod attacks;
mod bundle;
mod capabilities;
mod cgroups;
mod commands;
mod configs;
mod engines;
mod exec;
mod faults;
mod harness;
mod hooks;
mod host;
mod known;
mod lifecycle;
mod limits;
mod mounts;
mod namespaces;
mod plan;
mod process;
mod refused;
mod rootfs;
mod seccomp;
mod selinux;
mod state;
mod systemd;
mod terminal;

use harness::{Options, Test, Verdict};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::{env, fs, thread};

/// Every test, in the order of subjects; written by build.rs.
const TESTS: &[Test] = include!(concat!(env!("OUT_DIR"), "/tests.rs"));

const USAGE: &str =
    "usage: RUNTIME=path runtime-tests [--list] [--jobs N] [--view host|v1|v2] [--subject NAME] [FILTER...]";

struct Ask {
    list: bool,
    jobs: usize,
    subject: Option<String>,
    filters: Vec<String>,
    options: Options,
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if args.first().is_some_and(|a| a == harness::KEEP) {
        return harness::keep(TESTS, &args[1..]);
    }
    let ask = match parse(args.into_iter()) {
        Ok(ask) => ask,
        Err(problem) => {
            eprintln!("runtime-tests: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let chosen: Vec<&Test> = TESTS.iter().filter(|test| ask.wants(test)).collect();
    if ask.list {
        chosen.iter().for_each(|test| println!("{}", test.title()));
        return ExitCode::SUCCESS;
    }
    if let Err(problem) = ask.options.check() {
        eprintln!("runtime-tests: {problem}");
        return ExitCode::from(2);
    }
    run(&chosen, &ask)
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Ask, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let (mut list, mut jobs, mut subject, mut filters, mut view) = (false, cores, None, Vec::new(), None);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--list" => list = true,
            "--jobs" => jobs = value()?.parse().map_err(|_| "--jobs needs a number")?,
            "--subject" => subject = Some(value()?),
            "--view" => view = Some(value()?),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => filters.push(arg),
        }
    }
    let runtime = env::var_os("RUNTIME").map(PathBuf::from);
    Ok(Ask { list, jobs: jobs.max(1), subject, filters, options: Options { runtime, view } })
}

impl Ask {
    fn wants(&self, test: &Test) -> bool {
        let title = test.title();
        self.subject.as_ref().is_none_or(|s| s == test.subject)
            && (self.filters.is_empty() || self.filters.iter().any(|f| title.contains(f.as_str())))
    }
}

/// Runs the tests on `jobs` threads and prints as they end; the details of failures come last.
fn run(tests: &[&Test], ask: &Ask) -> ExitCode {
    let kind = ask.options.kind();
    let queue = Mutex::new(tests.iter().copied().collect::<VecDeque<_>>());
    let tally = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for _ in 0..ask.jobs.min(tests.len()) {
            scope.spawn(|| {
                loop {
                    let Some(test) = queue.lock().unwrap().pop_front() else { break };
                    let verdict = harness::start(test, &ask.options, &kind);
                    tally.lock().unwrap().add(test, &kind, verdict);
                }
            });
        }
    });
    harness::clean_up();
    let tally = tally.into_inner().unwrap();
    for (title, detail) in &tally.failures {
        println!("\n---- {title}\n{}", detail.trim_end());
    }
    if tally.known > 0 {
        println!("\n{} known differences of {kind}, see src/known.rs", tally.known);
    }
    println!("{} passed, {} failed, {} skipped", tally.passed, tally.failures.len(), tally.skipped);
    ExitCode::from(u8::from(!tally.failures.is_empty()))
}

#[derive(Default)]
struct Tally {
    passed: usize,
    skipped: usize,
    known: usize,
    failures: Vec<(String, String)>,
}

impl Tally {
    fn add(&mut self, test: &Test, runtime: &str, verdict: Verdict) {
        let title = test.title();
        let known = known::reason(runtime, test.subject, test.name);
        match (verdict, known) {
            (Verdict::Ok, None) => {
                self.passed += 1;
                println!("ok     {title}");
            }
            (Verdict::Ok, Some(reason)) => {
                self.passed += 1;
                println!("ok     {title}  (passes here, though known: {reason})");
            }
            (Verdict::Skip(reason), _) => {
                self.skipped += 1;
                println!("skip   {title}  {reason}");
            }
            (Verdict::Fail(detail), Some(reason)) => {
                self.known += 1;
                println!("known  {title}  {reason}");
                if env::var_os("SHOW_KNOWN").is_some() {
                    println!("       {}", detail.trim_end().replace('\n', "\n       "));
                }
            }
            (Verdict::Fail(detail), None) => {
                println!("FAIL   {title}");
                self.failures.push((title, detail));
            }
        }
    }
}

/// The folder that all tests of this run share; each makes a folder of its own in it.
fn work_dir(run: u32) -> PathBuf {
    env::temp_dir().join(format!("runtime-tests-{run}"))
}

/// Reads a whole file, or says which one could not be read.
fn read(path: impl AsRef<std::path::Path>) -> String {
    let path = path.as_ref();
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
