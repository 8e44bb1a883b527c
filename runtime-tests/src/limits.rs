//! Limits by their effect: what a container can really take, whatever the files of its cgroup say.

use crate::bundle::Bundle;
use crate::harness::{T, wait_for};
use crate::host::{self, Cgroups, Need, keyed};
use crate::read;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

fn limited(t: &T, resources: Value) -> Bundle<'_> {
    t.bundle().set("/linux/resources", resources)
}

/// A memory limit that swap does not soften.
fn memory(bytes: u64) -> Value {
    json!({ "limit": bytes, "swap": bytes })
}

/// A fifth of one CPU, in periods that are long beside the ticks in which the kernel counts.
const FIFTH: [&str; 4] = ["--cpu-quota", "40000", "--cpu-period", "200000"];

/// How often the OOM killer struck in this folder.
fn oom_kills(dir: &Path) -> u64 {
    let file = if host::is_v2() { "memory.events" } else { "memory.oom_control" };
    keyed(&read(dir.join(file)), "oom_kill").unwrap().parse().unwrap()
}

// ---- memory ------------------------------------------------------------------------------------

pub fn hog_of_memory_is_killed(t: &T) {
    // systemd removes the cgroup with its last process, and the count with it.
    t.needs(&[Need::Controller("memory"), Need::Cgroupfs]);
    let b = limited(t, json!({ "memory": memory(32 * MIB) })).inside(&["alloc 268435456"]);
    let c = b.create();
    let dir = c.cgroups().dir("memory");
    c.start();
    c.wait_until("stopped");
    assert_eq!(oom_kills(&dir), 1);
    assert_eq!(c.output(), "", "it must not have come to its end");
}

pub fn run_reports_a_kill_for_memory_as_137(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let output = limited(t, json!({ "memory": memory(32 * MIB) })).inside(&["alloc 268435456"]).run();
    assert_eq!(output.code, 128 + 9);
}

pub fn kill_for_memory_is_an_event(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, json!({ "memory": memory(32 * MIB) })).start();
    let mut command = t.command();
    command.args(["events", "--interval", "1s", &c.id]);
    let events = t.begin(command);
    let seen = |kind: &str| {
        let all = read(&events.out);
        all.lines().any(|l| serde_json::from_str::<Value>(l).is_ok_and(|e| e["type"] == kind)).then_some(())
    };
    wait_for("events runs", || seen("stats"));
    let hog = c.call("exec", &[], &["/inside", "alloc", "268435456"]);
    assert_eq!(hog.code, 128 + 9);
    wait_for("an event of type oom", || seen("oom"));
    assert_eq!(c.status(), "running", "only the hog is killed");
    events.signal(Signal::SIGKILL);
}

pub fn raised_memory_limit_holds_at_once(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, json!({ "memory": memory(32 * MIB) })).start();
    let hog = || c.call("exec", &[], &["/inside", "alloc", "67108864"]).code;
    assert_eq!(hog(), 128 + 9);
    c.call("update", &["--memory", "134217728", "--memory-swap", "134217728"], &[]).ok();
    assert_eq!(hog(), 0);
}

// ---- cpu ---------------------------------------------------------------------------------------

/// The CPU time that a container has used, and how many of its periods ended with it throttled.
fn cpu(groups: &Cgroups) -> (Duration, u64) {
    let stat = read(groups.dir("cpu").join("cpu.stat"));
    let number = |key| keyed(&stat, key).unwrap().parse().unwrap();
    let used = if host::is_v2() {
        Duration::from_micros(number("usage_usec"))
    } else {
        Duration::from_nanos(groups.value("cpuacct", "cpuacct.usage", "").parse().unwrap())
    };
    (used, number("nr_throttled"))
}

/// The part of one CPU that a container takes in a while, and how often it was throttled meanwhile.
fn taken(groups: &Cgroups, a_while: Duration) -> (f64, u64) {
    let (start, (used, throttled)) = (Instant::now(), cpu(groups));
    thread::sleep(a_while);
    let now = cpu(groups);
    ((now.0 - used).as_secs_f64() / start.elapsed().as_secs_f64(), now.1 - throttled)
}

/// Looks at a container that wants all CPUs and may have a part of one. The machine may be busy with something else, so
/// it is given time to use its part up; each time it was throttled, it had had it.
fn assert_held(groups: &Cgroups, limit: f64) {
    let before = cpu(groups).1;
    wait_for("the container to be throttled", || (cpu(groups).1 > before + 3).then_some(()));
    let (part, _) = taken(groups, Duration::from_secs(4));
    assert!(part < limit * 1.25, "{part} of a CPU");
    assert!(part > limit / 10.0, "{part} of a CPU");
}

pub fn quota_holds_a_busy_container_down(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    t.alone();
    let quota = json!({ "cpu": { "quota": 40_000, "period": 200_000 } });
    let c = limited(t, quota).inside(&["hog 0"]).start_as_is();
    assert_held(&c.cgroups(), 0.2);
}

pub fn lowered_quota_holds_at_once(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    t.alone();
    let c = t.bundle().inside(&["hog 0"]).start_as_is();
    let groups = c.cgroups();
    assert_eq!(taken(&groups, Duration::from_secs(1)).1, 0, "without a quota");
    c.call("update", &FIFTH, &[]).ok();
    assert_held(&groups, 0.2);
}

// ---- processes ---------------------------------------------------------------------------------

pub fn pids_limit_is_for_all_processes_of_a_container(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = limited(t, json!({ "pids": { "limit": 20 } })).start();
    let count = |forks: &Value| forks["children"].as_i64().unwrap();
    let alone = c.exec(&[], &["forks 50"]).remove(0);
    assert_eq!(alone["errno"], libc::EAGAIN);
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let crowded = c.exec(&[], &["forks 50"]).remove(0);
    assert_eq!(crowded["errno"], libc::EAGAIN);
    assert_eq!(count(&alone) - count(&crowded), 2, "{alone} {crowded}");
    let events = read(c.cgroups().dir("pids").join("pids.events"));
    assert!(keyed(&events, "max").is_some_and(|n| n.parse::<u64>().unwrap() >= 2), "{events}");
}

// ---- disks -------------------------------------------------------------------------------------

/// A folder on a disk, with the number of the whole disk.
fn folder_on_a_disk(t: &T) -> (PathBuf, u64, u64) {
    for folder in ["/var/tmp", "/var/lib", "/root"] {
        let Ok(facts) = fs::metadata(folder) else { continue };
        let (major, minor) = (libc::major(facts.dev()), libc::minor(facts.dev()));
        let Ok(mut device) = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")) else { continue };
        if device.join("partition").exists() {
            device.pop();
        }
        let number = read(device.join("dev"));
        let (major, minor) = number.trim().split_once(':').unwrap();
        return (folder.into(), major.parse().unwrap(), minor.parse().unwrap());
    }
    t.skip("needs a folder on a disk")
}

/// How long a container with such a limit of `blockIO` takes to write so many blocks past all caches.
fn time_to_write(t: &T, throttle: Option<(&str, u64)>, blocks: u64, size: u64) -> Duration {
    let (folder, major, minor) = folder_on_a_disk(t);
    let mut b = t.bundle().folder("/disk").mount("/disk", "bind", folder, &["bind"]);
    if let Some((name, rate)) = throttle {
        let entry = json!([{ "major": major, "minor": minor, "rate": rate }]);
        b = b.set(&format!("/linux/resources/blockIO/{name}"), entry);
    }
    let wrote = b.probe(&[&format!("direct /disk {blocks} {size}")]).remove(0);
    if wrote["errno"] == libc::EINVAL || wrote["errno"] == libc::EOPNOTSUPP {
        t.skip("needs a filesystem with O_TMPFILE and O_DIRECT");
    }
    assert_eq!(wrote["errno"], 0);
    Duration::from_millis(wrote["millis"].as_u64().unwrap())
}

pub fn writing_is_as_slow_as_its_bytes_are_limited(t: &T) {
    t.needs(&[Need::Controller("io")]);
    let free = time_to_write(t, None, 8, MIB / 4);
    let held = time_to_write(t, Some(("throttleWriteBpsDevice", MIB)), 8, MIB / 4);
    // 2 MiB at 1 MiB a second; the first slice comes for nothing.
    assert!(held >= Duration::from_millis(1500) && free < held / 2, "{free:?} free, {held:?} held");
}

pub fn writing_is_as_slow_as_its_operations_are_limited(t: &T) {
    t.needs(&[Need::Controller("io")]);
    let free = time_to_write(t, None, 40, 4096);
    let held = time_to_write(t, Some(("throttleWriteIOPSDevice", 20)), 40, 4096);
    assert!(held >= Duration::from_millis(1500) && free < held / 2, "{free:?} free, {held:?} held");
}

// ---- all of it ---------------------------------------------------------------------------------

pub fn forty_percent_of_memory_and_a_fifth_of_a_cpu_hold_against_a_hog(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("cpu")]);
    t.alone();
    let total = total_memory();
    // On a big machine 40 % of this much: others may need the rest.
    let limit = total.min(2048 * MIB) * 2 / 5;
    let c = limited(t, json!({ "memory": memory(limit) }))
        .inside(&[&format!("hog {}", total.min(2 * limit))])
        .start_as_is();
    let groups = c.cgroups();
    let dir = groups.dir("memory");
    // It takes all that it may, dies of taking more, tries again, and takes all CPUs too. The quota comes only now: with a
    // fifth of an emulated CPU it would take minutes to touch so much memory.
    wait_for("the OOM killer", || (oom_kills(&dir) > 0).then_some(()));
    c.call("update", &FIFTH, &[]).ok();
    assert_held(&groups, 0.2);
    let peak = if host::is_v2() { "memory.peak" } else { "memory.max_usage_in_bytes" };
    let peak: u64 = read(dir.join(peak)).trim().parse().unwrap();
    assert!(peak <= limit && peak > limit * 9 / 10, "peak {peak}, limit {limit}");
    assert_eq!(c.status(), "running");
}

fn total_memory() -> u64 {
    let all = read("/proc/meminfo");
    let line = all.lines().find_map(|l| l.strip_prefix("MemTotal:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}
