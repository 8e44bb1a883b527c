//! Measures container runtimes against one another and against the floor: see docs/performance.md.
//!
//! lab.rs has the views of the host and the runtimes, work.rs what is timed, facts.rs what is counted, results.rs the
//! goals; trace.rs shows where the time goes; count.rs and guard.rs are for the guard, which compares exact counts of myrt with a committed budget; hot.rs finds
//! the order in which the linker puts the functions.

mod count;
mod facts;
mod guard;
mod hot;
mod lab;
mod plot;
mod random;
mod report;
mod results;
mod spawn;
#[path = "../../../src/isolation/seccomp/syscalls.rs"]
mod syscalls;
mod trace;
mod work;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use serde_json::json;

use crate::facts::Facts;
use crate::lab::Lab;
use crate::random::Random;
use crate::results::Results;
use crate::work::{Effort, GROUPS, containers};

const USAGE: &str = "usage: bench [--quick] [--only GROUP,...] [--out DIR] --myrt PATH [RUNTIME]...
       bench --guard BUDGET [--quick | --update] --myrt PATH
       bench --hot MAP --myrt PATH    writes the order of functions, for a binary and the map that the linker made of it

RUNTIME is a path or a name on the PATH; without any, all of runc, crun, youki and bwrap on the PATH are measured.
Groups: run exec steps at-once mounts seccomp arguments cgroups containers memory calls limit consecutive trace";

#[derive(Default)]
struct Options {
    quick: bool,
    only: Vec<String>,
    out: Option<PathBuf>,
    myrt: PathBuf,
    peers: Vec<String>,
    guard: Option<PathBuf>,
    update: bool,
    hot: Option<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = env::args().skip(1);
    // What follows an option; paths are made absolute, because entering a mount namespace changes the directory.
    let absolute = |text: Option<String>| -> Result<PathBuf, String> {
        std::path::absolute(text.ok_or(USAGE)?).map_err(|e| e.to_string())
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--quick" => options.quick = true,
            "--update" => options.update = true,
            "--only" => options.only = args.next().ok_or(USAGE)?.split(',').map(String::from).collect(),
            "--out" => options.out = Some(absolute(args.next())?),
            "--myrt" => options.myrt = absolute(args.next())?,
            "--guard" => options.guard = Some(absolute(args.next())?),
            "--hot" => options.hot = Some(absolute(args.next())?),
            _ if arg.starts_with('-') => return Err(USAGE.to_string()),
            _ if arg.contains('/') => options.peers.push(absolute(Some(arg))?.to_string_lossy().into_owned()),
            _ => options.peers.push(arg),
        }
    }
    match options.myrt.as_os_str().is_empty() {
        true => Err(USAGE.to_string()),
        false => Ok(options),
    }
}

fn main() -> ExitCode {
    let done = options().and_then(|options| match (&options.guard, &options.hot) {
        (Some(budget), _) => guard::guard(&options.myrt, budget, options.quick, options.update),
        (_, Some(map)) => hot::hot(&options.myrt, map),
        _ => bench(&options),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::from(2)
        }
    }
}

fn bench(options: &Options) -> Result<bool, String> {
    let begun = SystemTime::now();
    let seed = begun.duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?.as_nanos() as u64;
    let peers = match options.peers.is_empty() {
        true => lab::peers_on_the_path(),
        false => options.peers.clone(),
    };
    let lab = Lab::open(&options.myrt, &peers)?;
    let results = measure(&lab, options, &mut Random::new(seed))?;
    let left = lab.clean();
    print!("{}", results.text(options.only.is_empty()));
    if !left.is_empty() {
        let some: Vec<&str> = left.iter().take(3).map(String::as_str).collect();
        eprintln!("bench: {} things were left behind and removed: {} ...", left.len(), some.join(", "));
    }
    if let Some(dir) = &options.out {
        let about = json!({
            "unix_time": begun.duration_since(UNIX_EPOCH).map_err(|e| e.to_string())?.as_secs(),
            "seed": seed,
            "quick": options.quick,
            "kernel": read("/proc/sys/kernel/osrelease"),
            "processors": std::thread::available_parallelism().map_or(0, |n| n.get()),
            "load_at_the_end": read("/proc/loadavg"),
            "runtimes": results.runtimes.iter().map(|r| &r.name).collect::<Vec<_>>(),
        });
        write(dir, "results.json", &format!("{:#}\n", results.json(about)))?;
        write(dir, "results.md", &results.markdown())?;
        for plot in results.plots() {
            write(dir, &plot.name, &plot.svg)?;
        }
        println!("\n{}", dir.join("results.json").display());
    }
    Ok(true)
}

fn measure(lab: &Lab, options: &Options, random: &mut Random) -> Result<Results, String> {
    let wanted = |name: &str| options.only.is_empty() || options.only.iter().any(|only| only == name);
    // In quick mode what only gives a curve is left out, unless asked for.
    let quick = options.quick && options.only.is_empty();
    let effort = |seconds: u64| match options.quick {
        true => Effort { budget: Duration::from_secs(seconds.div_ceil(5)), least: 2, most: 20 },
        false => Effort { budget: Duration::from_secs(seconds), least: 5, most: 200 },
    };
    let say = |name: &str| eprintln!("bench: {name}");
    let mut series = Vec::new();
    for group in GROUPS.iter().filter(|g| wanted(g.name)) {
        if quick && ["seccomp", "arguments", "cgroups"].contains(&group.name) {
            continue;
        }
        say(group.name);
        series.extend((group.measure)(lab, random, effort(group.seconds))?);
    }
    if wanted("containers") && !quick {
        say("containers");
        let counts: &[u32] = if options.quick { &[1, 10, 100] } else { &[1, 10, 100, 1000] };
        series.extend(containers(lab, random, effort(10), counts)?);
    }
    let mut facts = Facts::new(lab);
    if wanted("memory") {
        say("memory");
        facts.peak()?;
        facts.private()?;
    }
    if wanted("calls") {
        say("calls");
        facts.calls()?;
        facts.visible_mounts()?;
    }
    if wanted("limit") && !quick {
        say("limit");
        facts.smallest_limit()?;
    }
    if wanted("consecutive") {
        say("consecutive");
        facts.consecutive(if options.quick { 20 } else { 1000 })?;
    }
    let mut traces = Vec::new();
    if wanted("trace") && !quick {
        say("trace");
        traces = trace::traces(lab)?;
    }
    Ok(Results { runtimes: lab.runtimes.clone(), series, facts: facts.list, traces })
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_string()
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), String> {
    let file = dir.join(name);
    let done = fs::create_dir_all(dir).and_then(|()| fs::write(&file, text));
    done.map_err(|e| format!("{}: {e}", file.display()))
}
