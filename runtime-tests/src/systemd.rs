//! The systemd cgroup driver: units, their properties, and what systemd does to them meanwhile.
//!
//! These tests give `--systemd-cgroup` themselves. The rest of the tests run with it too: `RUNTIME_ARGS=--systemd-cgroup`.

use crate::bundle::{Bundle, Container, errnos};
use crate::harness::{T, wait_for};
use crate::host::{Need, lives};
use crate::read;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

fn bundle(t: &T) -> Bundle<'_> {
    t.needs(&[Need::Systemd, Need::Program("systemctl")]);
    t.use_systemd();
    t.bundle()
}

fn systemctl(t: &T, args: &[&str]) -> String {
    let mut command = Command::new("systemctl");
    command.args(args);
    t.finish(command).ok().out.trim().to_string()
}

fn show(t: &T, unit: &str, property: &str) -> String {
    systemctl(t, &["show", "--value", "--property", property, unit])
}

fn scope(c: &Container) -> String {
    format!("myrt-tests-{}.scope", c.id)
}

fn folder(c: &Container) -> String {
    let dir = c.cgroups().dir("");
    dir.strip_prefix("/sys/fs/cgroup").unwrap().to_str().unwrap().to_string()
}

/// The same command without any option that says who makes cgroups.
fn without_option(t: &T, args: &[&str]) -> crate::bundle::Output {
    let mut command = t.bare();
    command.arg("--root").arg(t.dir.join("state")).args(args);
    t.finish(command)
}

pub fn container_is_in_a_scope_of_its_slice(t: &T) {
    let c = bundle(t).create();
    assert_eq!(folder(&c), format!("system.slice/{}", scope(&c)));
    assert_eq!(show(t, &scope(&c), "ActiveState"), "active");
    assert_eq!(show(t, &scope(&c), "Delegate"), "yes");
    assert_eq!(read(c.cgroups().dir("").join("cgroup.procs")).trim(), c.pid().to_string());
}

pub fn dashes_of_a_slice_are_levels(t: &T) {
    let b = bundle(t);
    let path = format!("rt{}-a-b.slice:p:{}", t.run, b.id);
    let c = b.set("/linux/cgroupsPath", path).create();
    let (r, id) = (t.run, c.id.clone());
    assert_eq!(folder(&c), format!("rt{r}.slice/rt{r}-a.slice/rt{r}-a-b.slice/p-{id}.scope"));
    c.delete_by_force().ok();
    systemctl(t, &["stop", &format!("rt{r}.slice")]);
}

pub fn without_a_path_the_scope_has_the_name_of_the_container(t: &T) {
    let c = bundle(t).remove("/linux/cgroupsPath").create();
    let folder = folder(&c);
    assert!(folder.starts_with("system.slice/") && folder.ends_with(&format!("-{}.scope", c.id)), "{folder}");
}

pub fn name_that_ends_in_slice_is_a_slice(t: &T) {
    let b = bundle(t);
    let unit = format!("rt{}-pod.slice", t.run);
    let c = b.set("/linux/cgroupsPath", format!("rt{}.slice:p:{unit}", t.run)).start();
    assert_eq!(folder(&c), format!("rt{}.slice/{unit}", t.run));
    assert_eq!(show(t, &unit, "ActiveState"), "active");
    let pid = c.pid();
    c.delete_by_force().ok();
    assert!(!lives(pid));
    wait_for("the slice is gone", || (show(t, &unit, "ActiveState") == "inactive").then_some(()));
    systemctl(t, &["stop", &format!("rt{}.slice", t.run)]);
}

pub fn paths_of_another_form_are_refused(t: &T) {
    t.needs(&[Need::Systemd]);
    for path in
        ["/system.slice/web", "web", "system.slice:a", "a/b.slice:c:d", "a--b.slice:c:d", "a.slice:b:c:d"]
    {
        bundle(t).set("/linux/cgroupsPath", path).refused();
    }
}

pub fn limits_are_in_the_files_and_in_the_properties(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("pids"), Need::Controller("cpu")]);
    let c = bundle(t)
        .set(
            "/linux/resources",
            json!({
                "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
                "pids": { "limit": 20 },
                "cpu": { "quota": 20_000, "period": 50_000 },
            }),
        )
        .create();
    let dir = c.cgroups().dir("");
    for (file, value, property, shown) in [
        ("memory.max", "67108864", "MemoryMax", "67108864"),
        ("memory.low", "33554432", "MemoryLow", "33554432"),
        ("pids.max", "20", "TasksMax", "20"),
        ("cpu.max", "20000 50000", "CPUQuotaPerSecUSec", "400ms"),
    ] {
        assert_eq!(read(dir.join(file)).trim(), value, "{file}");
        assert_eq!(show(t, &scope(&c), property), shown, "{property}");
    }
}

pub fn limits_and_updates_outlive_a_daemon_reload(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("pids"), Need::Controller("cpu")]);
    let resources = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 20 } });
    let c = bundle(t).set("/linux/resources", resources).start();
    let dir = c.cgroups().dir("");
    systemctl(t, &["daemon-reload"]);
    assert_eq!(read(dir.join("pids.max")).trim(), "20");
    without_option(
        t,
        &["update", "--pids-limit", "30", "--memory", "33554432", "--cpu-quota", "50000", &c.id],
    )
    .ok();
    systemctl(t, &["daemon-reload"]);
    // Any property makes systemd write what it knows of the others.
    systemctl(t, &["set-property", "--runtime", &scope(&c), "CPUWeight=77"]);
    assert_eq!(read(dir.join("pids.max")).trim(), "30");
    assert_eq!(read(dir.join("memory.max")).trim(), "33554432");
    assert_eq!(read(dir.join("cpu.max")).trim(), "50000 100000");
    assert_eq!(show(t, &scope(&c), "TasksMax"), "30");
}

pub fn limit_without_a_property_is_in_its_file(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = bundle(t).set("/linux/resources/unified", json!({ "memory.oom.group": "1" })).create();
    assert_eq!(read(c.cgroups().dir("").join("memory.oom.group")).trim(), "1");
}

/// Allows reading /dev/kmsg and nothing else beyond the defaults.
fn with_device_rules(t: &T) -> Container<'_> {
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ]);
    bundle(t).all_caps().set("/linux/resources/devices", rules).start()
}

/// What opening devices gives now: kmsg to read and to write, the first disk, null.
#[track_caller]
fn devices_are(c: &Container, expected: [i32; 4]) {
    let probes = ["open r /tmp/kmsg", "open w /tmp/kmsg", "open r /tmp/disk", "open rw /dev/null"];
    assert_eq!(errnos(&c.exec(&[], &probes)), expected);
}

pub fn device_rules_outlive_daemon_reloads_and_updates(t: &T) {
    let c = with_device_rules(t);
    c.exec(&[], &["mknod /tmp/kmsg c 1 11", "mknod /tmp/disk b 8 0"]);
    let first = [0, libc::EPERM, libc::EPERM, 0];
    devices_are(&c, first);
    systemctl(t, &["daemon-reload"]);
    devices_are(&c, first);
    systemctl(t, &["set-property", "--runtime", &scope(&c), "CPUWeight=77"]);
    devices_are(&c, first);
    if t.kind() != "myrt" {
        t.skip("runc and crun leave device rules out of updates");
    }
    let file = t.dir.join("resources.json");
    let rules = json!({ "devices": [
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "w" },
    ] });
    fs::write(&file, rules.to_string()).unwrap();
    without_option(t, &["update", "--resources", file.to_str().unwrap(), &c.id]).ok();
    let second = [libc::EPERM, 0, libc::EPERM, 0];
    devices_are(&c, second);
    systemctl(t, &["daemon-reload"]);
    devices_are(&c, second);
    systemctl(t, &["set-property", "--runtime", &scope(&c), "CPUWeight=78"]);
    devices_are(&c, second);
}

pub fn annotations_are_properties_of_the_unit(t: &T) {
    let c = bundle(t)
        .set(
            "/annotations",
            json!({
                "org.systemd.property.TimeoutStopUSec": "uint64 12000000",
                "org.systemd.property.CollectMode": "'inactive'",
            }),
        )
        .create();
    assert_eq!(show(t, &scope(&c), "TimeoutStopUSec"), "12s");
    assert_eq!(show(t, &scope(&c), "CollectMode"), "inactive");
}

pub fn seconds_of_an_annotation_become_microseconds(t: &T) {
    let c = bundle(t).set("/annotations", json!({ "org.systemd.property.TimeoutStopSec": "7" })).create();
    assert_eq!(show(t, &scope(&c), "TimeoutStopUSec"), "7s");
}

pub fn annotation_that_is_no_value_is_refused(t: &T) {
    for value in ["word", "uint64 -1", "[1, 'a']", ""] {
        bundle(t).set("/annotations", json!({ "org.systemd.property.TimeoutStopUSec": value })).refused();
    }
}

pub fn annotation_cannot_reach_other_units(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let all: [(&str, Value); 4] = [
        ("Conflicts", json!("['dbus.service']")),
        ("OnFailure", json!("['rescue.target']")),
        ("FailureAction", json!("'reboot'")),
        ("DeviceAllow", json!("[('/dev/sda', 'rwm')]")),
    ];
    for (name, value) in all {
        let key = format!("/annotations/org.systemd.property.{name}");
        bundle(t).set(&key, value).refused().says(name);
    }
}

pub fn commands_after_create_need_no_option(t: &T) {
    let c = bundle(t).inside(&["pause"]).create();
    let id = c.id.as_str();
    without_option(t, &["start", id]).ok();
    let file = t.dir.join("pid");
    without_option(t, &["exec", "--detach", "--pid-file", file.to_str().unwrap(), id, "/inside", "pause"])
        .ok();
    let second = read(file).parse().unwrap();
    assert_eq!(crate::host::Cgroups::of(second).dir(""), c.cgroups().dir(""));
    without_option(t, &["pause", id]).ok();
    assert_eq!(read(c.cgroups().dir("").join("cgroup.freeze")).trim(), "1");
    without_option(t, &["resume", id]).ok();
    without_option(t, &["kill", id, "KILL"]).ok();
    c.wait_until("stopped");
    without_option(t, &["delete", id]).ok();
    assert_eq!(show(t, &scope(&c), "LoadState"), "not-found");
}

pub fn delete_leaves_no_unit(t: &T) {
    let c = bundle(t).start();
    let dir = c.cgroups().dir("");
    c.delete_by_force().ok();
    assert!(!dir.exists());
    assert_eq!(show(t, &scope(&c), "LoadState"), "not-found");
}

pub fn delete_leaves_no_failed_unit(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = bundle(t)
        .set("/annotations", json!({ "org.systemd.property.CollectMode": "'inactive'" }))
        .set("/linux/resources/memory", json!({ "limit": 16 << 20, "swap": 16 << 20 }))
        .inside(&["alloc 67108864"])
        .start_as_is();
    c.wait_until("stopped");
    wait_for("systemd sees the end", || (show(t, &scope(&c), "ActiveState") != "active").then_some(()));
    c.delete();
    assert_eq!(show(t, &scope(&c), "LoadState"), "not-found");
}

pub fn container_whose_unit_was_stopped_is_stopped_and_can_be_deleted(t: &T) {
    let c = bundle(t).start();
    systemctl(t, &["stop", &scope(&c)]);
    c.wait_until("stopped");
    c.delete();
    assert_eq!(show(t, &scope(&c), "LoadState"), "not-found");
}

pub fn unit_of_somebody_else_is_left_alone(t: &T) {
    let first = bundle(t).start();
    let second = bundle(t).set("/linux/cgroupsPath", format!("system.slice:myrt-tests:{}", first.id));
    let id = second.id.clone();
    second.refused();
    t.runtime(&["delete", "--force", &id]).ok();
    assert_eq!(first.status(), "running");
    assert_eq!(show(t, &scope(&first), "ActiveState"), "active");
}

pub fn failed_unit_of_the_same_name_is_replaced(t: &T) {
    let b = bundle(t).inside(&["pause"]);
    let unit = format!("myrt-tests-{}.scope", b.id);
    let mut command = Command::new("systemd-run");
    // It ignores the polite signal, and a scope that must be killed has failed.
    command.args(["--scope", "--unit", &unit, "--property", "TimeoutStopSec=1", "sh", "-c"]);
    let left = t.begin({
        command.arg("trap '' TERM; while :; do sleep 1; done");
        command
    });
    wait_for("the unit", || (show(t, &unit, "ActiveState") == "active").then_some(()));
    systemctl(t, &["stop", &unit]);
    left.wait();
    assert_eq!(show(t, &unit, "ActiveState"), "failed");
    assert_eq!(b.create().status(), "created");
}

pub fn fifty_at_once_leave_systemd_answering(t: &T) {
    t.alone();
    let bundles: Vec<Bundle> = (0..50).map(|_| bundle(t).inside(&["exit 5"])).collect();
    let started: Vec<_> = bundles.iter().map(Bundle::begin).collect();
    let mut slowest = Duration::ZERO;
    for _ in 0..10 {
        let before = Instant::now();
        systemctl(t, &["show", "--property", "Version"]);
        slowest = slowest.max(before.elapsed());
    }
    for running in started {
        assert_eq!(running.wait().code, 5);
    }
    t.note(format!("the slowest of ten questions took {slowest:?}"));
    assert!(slowest < crate::harness::patience(), "{slowest:?}");
    let left = systemctl(t, &["list-units", "--all", "--plain", "--no-legend", "myrt-tests-*.scope"]);
    assert!(bundles.iter().all(|b| !left.contains(&b.id)), "{left}");
}
