//! `/linux/cgroupsPath`, `/linux/resources`, and the commands on them: update, pause, events, ps.

use crate::bundle::{Bundle, Container};
use crate::harness::{T, wait_for};
use crate::host::{self, Cgroups, Need, keyed};
use crate::read;
use serde_json::{Value, json};
use std::fs;

fn limited<'t>(t: &'t T, pointer: &str, value: impl Into<Value>) -> Bundle<'t> {
    t.bundle().set(&format!("/linux/resources/{pointer}"), value)
}

/// What one cgroup file holds: its name on v1, its name on v2.
fn value(c: &Container, controller: &str, v1: &str, v2: &str) -> String {
    c.cgroups().value(controller, v1, v2)
}

pub fn container_is_in_the_cgroup_of_its_path(t: &T) {
    t.needs(&[Need::Cgroupfs]);
    let c = t.bundle().create();
    let path = t.cgroups_path(&c.id);
    let groups = c.cgroups().all();
    let named = groups.iter().filter(|g| g.to_str().unwrap().ends_with(&path)).count();
    // On a hybrid host the cgroup2 tree may be left out.
    assert!(named + usize::from(!host::is_v2()) >= groups.len(), "{groups:?}");
}

pub fn container_without_a_path_has_a_cgroup_of_its_own(t: &T) {
    let c = t.bundle().remove("/linux/cgroupsPath").create();
    let groups = c.cgroups().all();
    assert!(groups.iter().any(|g| g.to_str().unwrap().contains(&c.id)), "{groups:?}");
}

pub fn process_is_in_its_cgroup_when_create_returns(t: &T) {
    let c = t.bundle().create();
    let procs = read(c.cgroups().dir("pids").join("cgroup.procs"));
    assert_eq!(procs.trim(), c.pid().to_string());
}

pub fn pids_limit_is_set_and_holds(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = limited(t, "pids/limit", 10).start();
    assert_eq!(value(&c, "pids", "pids.max", "pids.max"), "10");
    let forks = c.exec(&[], &["forks 50"]).remove(0);
    assert_eq!(forks["errno"], libc::EAGAIN);
    assert!(forks["children"].as_i64().unwrap() < 10, "{forks}");
}

pub fn pids_limit_of_minus_one_is_unlimited(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    assert_eq!(value(&limited(t, "pids/limit", -1).create(), "pids", "pids.max", "pids.max"), "max");
}

pub fn pids_section_without_a_limit_sets_none(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    assert_eq!(value(&limited(t, "pids", json!({})).start(), "pids", "pids.max", "pids.max"), "max");
}

pub fn memory_limit_is_set(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, "memory/limit", 64 << 20).create();
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes", "memory.max"), (64 << 20).to_string());
}

pub fn memory_limit_holds(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let swap = 32 << 20;
    let b = limited(t, "memory", json!({ "limit": 32 << 20, "swap": swap }));
    let output = b.inside(&["alloc 268435456"]).run();
    assert_eq!(output.code, 128 + 9, "{}", output.out);
    assert_eq!(limited(t, "memory/limit", 64 << 20).tries(&["alloc 1048576"]), [0]);
}

pub fn memory_reservation_is_set(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, "memory/reservation", 16 << 20).create();
    assert_eq!(value(&c, "memory", "memory.soft_limit_in_bytes", "memory.low"), (16 << 20).to_string());
}

pub fn memory_swap_is_the_sum_in_the_config(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, "memory", json!({ "limit": 32 << 20, "swap": 48 << 20 })).create();
    let dir = c.cgroups().dir("memory");
    let file = if host::is_v2() { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    let Ok(swap) = fs::read_to_string(dir.join(file)) else { t.skip("needs swap accounting") };
    let expected = if host::is_v2() { 16 << 20 } else { 48 << 20 };
    assert_eq!(swap.trim(), expected.to_string());
}

pub fn memory_limit_that_is_unlimited_is_minus_one(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, "memory/limit", -1).create();
    let limit = value(&c, "memory", "memory.limit_in_bytes", "memory.max");
    assert!(limit == "max" || limit.parse::<u64>().unwrap() > 1 << 60, "{limit}");
}

pub fn memory_swappiness_is_set(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::CgroupV1]);
    let c = limited(t, "memory/swappiness", 20).create();
    assert_eq!(read(c.cgroups().dir("memory").join("memory.swappiness")).trim(), "20");
}

pub fn memory_oom_killer_can_be_disabled(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::CgroupV1]);
    let c = limited(t, "memory", json!({ "limit": 64 << 20, "disableOOMKiller": true })).create();
    let control = read(c.cgroups().dir("memory").join("memory.oom_control"));
    assert_eq!(keyed(&control, "oom_kill_disable").as_deref(), Some("1"));
}

pub fn cpu_shares_are_set(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let c = limited(t, "cpu/shares", 512).create();
    let weight: u64 = value(&c, "cpu", "cpu.shares", "cpu.weight").parse().unwrap();
    // Two conversions from shares to weight are in use: linear (20) and, since 2025, one that keeps 1024 at 100.
    let expected: &[u64] = if host::is_v2() { &[20, 59] } else { &[512] };
    assert!(expected.contains(&weight), "{weight}");
}

pub fn cpu_quota_and_period_are_set(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let c = limited(t, "cpu", json!({ "quota": 40_000, "period": 80_000 })).create();
    let dir = c.cgroups().dir("cpu");
    if host::is_v2() {
        assert_eq!(read(dir.join("cpu.max")).trim(), "40000 80000");
    } else {
        assert_eq!(read(dir.join("cpu.cfs_quota_us")).trim(), "40000");
        assert_eq!(read(dir.join("cpu.cfs_period_us")).trim(), "80000");
    }
}

pub fn cpu_quota_alone_keeps_the_period(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let c = limited(t, "cpu/quota", 50_000).create();
    assert!(value(&c, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("50000"));
}

pub fn cpu_burst_is_set(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let c = limited(t, "cpu", json!({ "quota": 40_000, "period": 80_000, "burst": 10_000 })).create();
    assert_eq!(value(&c, "cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "10000");
}

pub fn cpu_idle_is_set(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let c = limited(t, "cpu/idle", 1).create();
    assert_eq!(value(&c, "cpu", "cpu.idle", "cpu.idle"), "1");
}

pub fn cpuset_is_set(t: &T) {
    t.needs(&[Need::Controller("cpuset")]);
    let c = limited(t, "cpu", json!({ "cpus": "0", "mems": "0" })).start();
    assert_eq!(value(&c, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(value(&c, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    assert_eq!(host::status_of(c.pid(), "Cpus_allowed_list").unwrap(), "0");
}

pub fn cpuset_that_does_not_exist_is_refused(t: &T) {
    t.needs(&[Need::Controller("cpuset")]);
    limited(t, "cpu/cpus", "frob").refused();
}

pub fn block_io_weight_is_set(t: &T) {
    t.needs(&[Need::Controller("io")]);
    let c = limited(t, "blockIO/weight", 300).create();
    let dir = c.cgroups().dir("io");
    let files = ["blkio.weight", "blkio.bfq.weight", "io.bfq.weight", "io.weight"];
    let values: Vec<String> = files.iter().filter_map(|f| fs::read_to_string(dir.join(f)).ok()).collect();
    if values.is_empty() {
        t.skip("needs an I/O scheduler with weights");
    }
    assert!(values.iter().any(|v| v.contains("300") || v.contains("2930")), "{values:?}");
}

pub fn block_io_throttles_are_set(t: &T) {
    t.needs(&[Need::Controller("io")]);
    let Some(disk) = fs::read_dir("/sys/block").unwrap().flatten().find(|d| {
        let size = fs::read_to_string(d.path().join("size")).unwrap_or_default();
        size.trim().parse::<u64>().is_ok_and(|s| s > 0)
    }) else {
        t.skip("needs a disk")
    };
    let number = read(disk.path().join("dev"));
    let (major, minor) = number.trim().split_once(':').unwrap();
    let throttle = |rate: u64| json!([{ "major": major.parse::<u32>().unwrap(), "minor": minor.parse::<u32>().unwrap(), "rate": rate }]);
    let limits = json!({
        "throttleReadBpsDevice": throttle(1_048_576), "throttleWriteBpsDevice": throttle(2_097_152),
        "throttleReadIOPSDevice": throttle(1000), "throttleWriteIOPSDevice": throttle(2000),
    });
    let dir = limited(t, "blockIO", limits).create().cgroups().dir("io");
    if host::is_v2() {
        let line = read(dir.join("io.max"));
        for part in ["rbps=1048576", "wbps=2097152", "riops=1000", "wiops=2000"] {
            assert!(line.contains(part), "{line}");
        }
    } else {
        let expected = format!("{} 1048576", number.trim());
        assert!(read(dir.join("blkio.throttle.read_bps_device")).contains(&expected));
        let expected = format!("{} 2000", number.trim());
        assert!(read(dir.join("blkio.throttle.write_iops_device")).contains(&expected));
    }
}

pub fn huge_page_limit_is_set(t: &T) {
    t.needs(&[Need::Controller("hugetlb"), Need::Path("/sys/kernel/mm/hugepages/hugepages-2048kB")]);
    let c = limited(t, "hugepageLimits", json!([{ "pageSize": "2MB", "limit": 4_194_304 }])).create();
    assert_eq!(value(&c, "hugetlb", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"), "4194304");
}

pub fn huge_page_limit_of_an_unknown_size_is_refused(t: &T) {
    t.needs(&[Need::Controller("hugetlb")]);
    limited(t, "hugepageLimits", json!([{ "pageSize": "3MB", "limit": 4_194_304 }])).refused();
}

pub fn rdma_limit_is_set_or_refused(t: &T) {
    let c = limited(t, "rdma", json!({ "frob0": { "hcaHandles": 2, "hcaObjects": 100 } }));
    // No machine has a device of this name, so silence would mean that the limit was dropped.
    c.refused();
}

pub fn unified_values_are_written(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Controller("pids")]);
    let c = limited(t, "unified", json!({ "pids.max": "33", "cgroup.max.depth": "5" })).create();
    let dir = c.cgroups().dir("");
    assert_eq!(read(dir.join("pids.max")).trim(), "33");
    assert_eq!(read(dir.join("cgroup.max.depth")).trim(), "5");
}

pub fn unified_value_without_a_controller_is_written(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Cgroupfs]);
    let c = limited(t, "unified", json!({ "cgroup.max.descendants": "7" })).create();
    assert_eq!(read(c.cgroups().dir("").join("cgroup.max.descendants")).trim(), "7");
}

pub fn unified_file_that_does_not_exist_is_refused(t: &T) {
    t.needs(&[Need::CgroupV2]);
    limited(t, "unified", json!({ "frob.nicate": "1" })).refused();
}

pub fn unified_file_with_a_slash_is_refused(t: &T) {
    t.needs(&[Need::CgroupV2]);
    limited(t, "unified", json!({ "../cgroup.max.depth": "1" })).refused();
}

pub fn unified_on_a_v1_host_is_refused(t: &T) {
    t.needs(&[Need::CgroupV1]);
    limited(t, "unified", json!({ "pids.max": "33" })).refused();
}

pub fn limit_that_cannot_be_set_is_refused(t: &T) {
    t.needs(&[Need::CgroupV2]);
    if host::is_v2() && read("/sys/fs/cgroup/cgroup.controllers").contains("memory") {
        t.skip("needs a v2 host without the memory controller");
    }
    limited(t, "memory/limit", 64 << 20).refused();
}

pub fn joining_an_existing_cgroup_with_limits_works(t: &T) {
    t.needs(&[Need::Cgroupfs]);
    let b = t.bundle();
    let path = t.cgroups_path(&b.id);
    for mount in host::cgroup_mounts() {
        let dir = mount.join(path.trim_start_matches('/'));
        if !mount.join("cpuset.cpus").exists() {
            fs::create_dir_all(dir).unwrap();
        }
    }
    assert_eq!(b.create().status(), "created");
}

// ---- devices -----------------------------------------------------------------------------------

fn devices(t: &T, rules: Value) -> Bundle<'_> {
    t.bundle().all_caps().set("/linux/resources/devices", rules)
}

const KMSG: [&str; 3] = ["mknod /tmp/kmsg c 1 11", "open r /tmp/kmsg", "open w /tmp/kmsg"];

pub fn without_rules_the_default_devices_work(t: &T) {
    assert_eq!(t.bundle().tries(&["open rw /dev/null", "open r /dev/zero", "open r /dev/urandom"]), [0; 3]);
}

pub fn denied_devices_cannot_be_opened(t: &T) {
    let allowed = devices(t, json!([{ "allow": true, "access": "rwm" }])).tries(&KMSG);
    assert_eq!(allowed, [0, 0, 0], "the device can be opened when it is allowed");
    let denied = devices(t, json!([{ "allow": false, "access": "rwm" }])).tries(&KMSG);
    assert_eq!(denied[1..], [libc::EPERM, libc::EPERM]);
}

pub fn node_may_be_made_though_its_device_is_denied(t: &T) {
    // What unpacks an image in a container makes nodes that nobody may open.
    let tries =
        devices(t, json!([{ "allow": false, "access": "rwm" }])).tries(&[KMSG[0], "mknod /tmp/vda b 8 0"]);
    assert_eq!(tries, [0, 0]);
}

pub fn default_devices_work_though_all_is_denied(t: &T) {
    let b = devices(t, json!([{ "allow": false, "access": "rwm" }]));
    let probes = [
        "open rw /dev/null",
        "open rw /dev/zero",
        "open rw /dev/full",
        "open r /dev/random",
        "open r /dev/urandom",
    ];
    assert_eq!(b.tries(&probes), [0; 5]);
}

pub fn allowed_device_is_allowed_by_number(t: &T) {
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ]);
    assert_eq!(devices(t, rules).tries(&KMSG), [0, 0, libc::EPERM]);
}

pub fn device_rule_without_a_minor_covers_all_of_a_major(t: &T) {
    let rules = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "b", "major": 7, "access": "r" },
    ]);
    let made = ["mknod /tmp/one b 7 0", "mknod /tmp/two b 7 99", "mknod /tmp/disk b 8 0"];
    let tries = devices(t, rules).tries(&[
        made[0],
        made[1],
        made[2],
        "open r /tmp/one",
        "open r /tmp/two",
        "open r /tmp/disk",
    ]);
    // There may be no such device, but that is another error.
    assert!(tries[3] != libc::EPERM && tries[4] != libc::EPERM && tries[5] == libc::EPERM, "{tries:?}");
}

pub fn later_device_rule_wins(t: &T) {
    let rule = |allow: bool| json!({ "allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm" });
    let all = json!({ "allow": false, "access": "rwm" });
    assert_eq!(devices(t, json!([all, rule(true), rule(false)])).tries(&KMSG)[1], libc::EPERM);
    assert_eq!(devices(t, json!([all, rule(false), rule(true)])).tries(&KMSG)[1], 0);
}

pub fn device_rules_hold_in_exec(t: &T) {
    let c = devices(t, json!([{ "allow": false, "access": "rwm" }])).start();
    let tries = c.exec(&[], &[KMSG[0], KMSG[1], "open rw /dev/null"]);
    assert_eq!(crate::bundle::errnos(&tries)[1..], [libc::EPERM, 0]);
}

// ---- update ------------------------------------------------------------------------------------

pub fn update_changes_a_limit_by_option(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = limited(t, "pids/limit", 10).start();
    c.call("update", &["--pids-limit", "25"], &[]).ok();
    assert_eq!(value(&c, "pids", "pids.max", "pids.max"), "25");
}

pub fn update_takes_json_from_a_file(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = limited(t, "pids/limit", 10).start();
    let file = t.dir.join("resources.json");
    fs::write(&file, r#"{ "pids": { "limit": 26 } }"#).unwrap();
    c.call("update", &["--resources", file.to_str().unwrap()], &[]).ok();
    assert_eq!(value(&c, "pids", "pids.max", "pids.max"), "26");
}

pub fn update_takes_json_from_stdin(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = limited(t, "pids/limit", 10).start();
    let file = t.dir.join("resources.json");
    fs::write(&file, r#"{ "pids": { "limit": 27 } }"#).unwrap();
    for option in [&["--resources=-"][..], &["-r", "-"]] {
        let mut command = t.command();
        command.arg("update").args(option).arg(&c.id).stdin(fs::File::open(&file).unwrap());
        t.finish(command).ok();
        assert_eq!(value(&c, "pids", "pids.max", "pids.max"), "27");
    }
}

pub fn update_keeps_what_is_not_named(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::Controller("memory")]);
    let c = limited(t, "pids/limit", 10).set("/linux/resources/memory/limit", 64 << 20).start();
    c.call("update", &["--memory", "50331648"], &[]).ok();
    assert_eq!(value(&c, "pids", "pids.max", "pids.max"), "10");
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes", "memory.max"), "50331648");
}

pub fn update_changes_memory_and_cpu(t: &T) {
    t.needs(&[Need::Controller("cpu"), Need::Controller("memory")]);
    let c = limited(t, "memory/limit", 64 << 20).start();
    let options =
        ["--memory", "33554432", "--cpu-period", "50000", "--cpu-quota", "25000", "--cpu-share", "256"];
    c.call("update", &options, &[]).ok();
    assert_eq!(value(&c, "memory", "memory.limit_in_bytes", "memory.max"), "33554432");
    assert!(value(&c, "cpu", "cpu.cfs_quota_us", "cpu.max").starts_with("25000"));
}

pub fn update_does_not_touch_device_rules(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let c = devices(t, json!([{ "allow": false, "access": "rwm" }])).start();
    c.call("update", &["--pids-limit", "100"], &[]).ok();
    assert_eq!(c.exec(&[], &KMSG)[1]["errno"], libc::EPERM);
}

pub fn update_refuses_malformed_json(t: &T) {
    let c = t.bundle().start();
    let file = t.dir.join("resources.json");
    fs::write(&file, "{ not json").unwrap();
    c.call("update", &["--resources", file.to_str().unwrap()], &[]).refused();
}

// ---- pause, events -----------------------------------------------------------------------------

pub fn paused_container_does_not_run(t: &T) {
    let c = t.bundle().start();
    c.call("pause", &[], &[]).ok();
    // On a hybrid host either tree can do it.
    let frozen = c.cgroups().all().iter().any(|dir| {
        let v1 = fs::read_to_string(dir.join("freezer.state")).unwrap_or_default();
        let v2 = fs::read_to_string(dir.join("cgroup.events")).unwrap_or_default();
        v1.trim() == "FROZEN" || keyed(&v2, "frozen").is_some_and(|f| f == "1")
    });
    assert!(frozen);
    c.call("resume", &[], &[]).ok();
    assert_eq!(c.status(), "running");
}

pub fn pause_of_a_stopped_container_fails(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.call("pause", &[], &[]).refused();
}

pub fn exec_in_a_paused_container_fails_at_once(t: &T) {
    let c = t.bundle().start();
    c.call("pause", &[], &[]).ok();
    c.call("exec", &[], &["/inside", "exit", "0"]).refused();
}

pub fn delete_by_force_ends_a_paused_container(t: &T) {
    let c = t.bundle().start();
    let pid = c.pid();
    c.call("pause", &[], &[]).ok();
    c.delete_by_force().ok();
    wait_for("the end", || (!host::lives(pid)).then_some(()));
}

pub fn kill_ends_a_paused_container(t: &T) {
    let c = t.bundle().start();
    c.call("pause", &[], &[]).ok();
    c.kill("KILL");
    c.wait_until("stopped");
}

pub fn kill_all_reaches_every_process(t: &T) {
    // Without a PID namespace of its own, the others outlive the first process.
    let c = t.bundle().without_namespace("pid").start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let pids: Vec<i64> =
        read(c.cgroups().dir("pids").join("cgroup.procs")).lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    c.call("kill", &["--all"], &["KILL"]).ok();
    wait_for("all end", || pids.iter().all(|p| !host::lives(*p)).then_some(()));
}

pub fn kill_all_works_after_the_first_process_is_gone(t: &T) {
    let c = t.bundle().without_namespace("pid").start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let first = c.pid();
    let others = Cgroups::of(first).dir("pids").join("cgroup.procs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first as i32), nix::sys::signal::Signal::SIGKILL)
        .unwrap();
    wait_for("the first ends", || (read(&others).lines().count() == 1).then_some(()));
    let other: i64 = read(&others).trim().parse().unwrap();
    c.call("kill", &["--all"], &["9"]).ok();
    wait_for("the other ends", || (!host::lives(other)).then_some(()));
}

pub fn events_stats_are_one_json_object(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("pids")]);
    let c = limited(t, "memory/limit", 64 << 20).start();
    let stats = c.call("events", &["--stats"], &[]).ok().json();
    assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(c.id)));
    assert_eq!(stats["data"]["pids"]["current"], 1);
    assert_eq!(stats["data"]["memory"]["usage"]["limit"], 64 << 20);
    assert!(stats["data"]["cpu"]["usage"]["total"].as_u64().unwrap() > 0);
}

pub fn events_of_a_missing_id_fail(t: &T) {
    t.runtime(&["events", "--stats", "never-created"]).refused();
}

pub fn events_come_at_each_interval(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = t.bundle().start();
    let mut command = t.command();
    command.args(["events", "--interval", "1s", &c.id]);
    let running = t.begin(command);
    wait_for("two lines of statistics", || (read(&running.out).lines().count() >= 2).then_some(()));
    let line: Value = serde_json::from_str(read(&running.out).lines().next().unwrap()).unwrap();
    assert_eq!(line["type"], "stats");
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

pub fn events_come_without_a_memory_controller_too(t: &T) {
    t.needs(&[Need::CgroupV2]);
    let c = t.bundle().start();
    let mut command = t.command();
    command.args(["events", "--interval", "100ms", &c.id]);
    let running = t.begin(command);
    wait_for("three lines of statistics", || (read(&running.out).lines().count() >= 3).then_some(()));
    assert!(host::lives(i64::from(running.child.id())));
    c.stop();
    // It ends with the container.
    assert_eq!(running.wait().code, 0);
}

pub fn events_tell_of_a_kill_for_want_of_memory(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let c = limited(t, "memory", json!({ "limit": 24 << 20, "swap": 24 << 20 })).start();
    let mut command = t.command();
    command.args(["events", "--interval", "1h", &c.id]);
    let running = t.begin(command);
    let oom = || {
        // Again until it listens.
        assert_eq!(c.call("exec", &[], &["/inside", "alloc", &(64 << 20).to_string()]).code, 137);
        read(&running.out).lines().find(|l| l.contains("\"oom\"")).map(str::to_string)
    };
    let line: Value = serde_json::from_str(&wait_for("the event", oom)).unwrap();
    assert_eq!((&line["type"], &line["id"]), (&json!("oom"), &json!(c.id)));
    running.signal(nix::sys::signal::Signal::SIGKILL);
}

pub fn events_stats_have_the_pressure_of_each_resource(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Path("/proc/pressure/cpu")]);
    let c = t.bundle().inside(&["spin 200", "pause"]).start_as_is();
    let stats = c.call("events", &["--stats"], &[]).ok().json();
    for resource in ["cpu", "memory", "blkio"] {
        assert!(stats["data"][resource]["psi"].is_object(), "{resource}: {stats}");
    }
    wait_for("it had to wait for a processor", || {
        let stats = c.call("events", &["--stats"], &[]).ok().json();
        stats["data"]["cpu"]["psi"]["some"]["total"].as_u64().filter(|total| *total > 0)
    });
}

// ---- device rules of a running container -------------------------------------------------------

pub fn update_changes_device_rules_of_a_running_container(t: &T) {
    let c = devices(t, json!([{ "allow": false, "access": "rwm" }])).start();
    let file = t.dir.join("resources.json");
    let update = |rules: Value| {
        fs::write(&file, json!({ "devices": rules }).to_string()).unwrap();
        c.call("update", &["--resources", file.to_str().unwrap()], &[]).ok();
        (
            c.exec(&[], &["open r /tmp/kmsg"])[0]["errno"].clone(),
            c.exec(&[], &["open rw /dev/null"])[0]["errno"].clone(),
        )
    };
    let open = c.exec(&[], &KMSG);
    assert_eq!(crate::bundle::errnos(&open), [0, libc::EPERM, libc::EPERM]);
    let deny = json!({ "allow": false, "access": "rwm" });
    let allow = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    assert_eq!(update(json!([deny, allow])), (json!(0), json!(0)));
    assert_eq!(c.exec(&[], &["open w /tmp/kmsg"])[0]["errno"], libc::EPERM);
    assert_eq!(update(json!([deny])), (json!(libc::EPERM), json!(0)));
    assert_eq!(update(json!([{ "allow": true, "access": "rwm" }])), (json!(0), json!(0)));
    assert_eq!(update(json!([deny])), (json!(libc::EPERM), json!(0)));
    // What the update does not name stays.
    c.call("update", &["--pids-limit", "100"], &[]);
    assert_eq!(c.exec(&[], &["open r /tmp/kmsg"])[0]["errno"], libc::EPERM);
}

pub fn rules_that_only_allow_leave_the_rest_denied(t: &T) {
    // GHSA-g54h-m393-cpwq: a list without "deny all" was read as "allow all but".
    let rules = json!([{ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" }]);
    let open = devices(t, json!([{ "allow": true, "access": "rwm" }])).tries(&KMSG);
    assert_eq!(open, [0, 0, 0], "the device can be opened when it is allowed");
    assert_eq!(devices(t, rules).tries(&KMSG)[1..], [libc::EPERM, libc::EPERM]);
}

pub fn without_rules_other_devices_are_denied(t: &T) {
    assert_eq!(t.bundle().all_caps().tries(&KMSG)[1..], [libc::EPERM, libc::EPERM]);
}
