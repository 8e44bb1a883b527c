//! On real hierarchies: whatever the host is, and on a unified one with the help of `unshare -m`.
//!
//! Needs root and a writable cgroupfs. For the unified view of a hybrid host, in a private mount namespace:
//! `unshare -m sh -c 'mount -t cgroup2 none /sys/fs/cgroup && TESTBINARY --ignored cgroup'`.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::*;

/// A shell that waits for a line, inside the cgroup; killed at the end.
struct Inside(Child);

impl Inside {
    fn new(cgroup: &Cgroup, script: &str) -> Inside {
        let child = Command::new("sh")
            .args(["-c", &format!("read line; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let inside = Inside(child);
        cgroup.join_all(inside.pid()).unwrap();
        inside
    }

    fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    /// Lets the script run.
    fn go(&mut self) {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    }

    fn output(&mut self) -> String {
        self.go();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text.trim().to_string()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().unwrap();
    }
}

fn plan_of(name: &str, resources: &str) -> crate::error::Result<CgroupPlan> {
    let path = format!("/myrt-cgtest-{}/{name}", std::process::id());
    let json = format!(
        r#"{{"ociVersion": "1.2.0", "linux": {{"cgroupsPath": "{path}", "resources": {resources}}}}}"#
    );
    CgroupPlan::new(&serde_json::from_str(&json).unwrap(), "id", &Ask::default())
}

fn plan(name: &str, resources: &str) -> CgroupPlan {
    plan_of(name, resources).unwrap()
}

fn unified() -> bool {
    Host::detect().unwrap().kind() == HostKind::Unified
}

fn read(cgroup: &Cgroup, controller: &str, file: &str) -> String {
    let point = cgroup.mount_points().into_iter().find(|p| p.controllers.iter().any(|c| c == controller));
    let point = point.unwrap_or_else(|| cgroup.mount_points().pop().unwrap());
    std::fs::read_to_string(point.dir.join(file)).unwrap().trim().to_string()
}

fn gone(record: &Record) -> bool {
    record.v2.iter().chain(&record.v1).all(|place| !place.dir().exists())
}

/// Kills, removes, and looks that nothing stays.
fn finish(cgroup: &Cgroup, record: &Record) {
    cgroup.kill().unwrap();
    cgroup.remove().unwrap();
    assert!(gone(record));
    assert!(Cgroup::open(record).unwrap().is_none());
    sweep(record);
}

/// The tests' common parent stays when the test that made it is not the last one to leave.
fn sweep(record: &Record) {
    for place in record.v2.iter().chain(&record.v1) {
        std::fs::remove_dir(place.dir().parent().unwrap()).ok();
    }
}

const DENY: &str = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn a_life_from_the_record_alone() {
    let plan = plan("life", DENY);
    let record = plan.record();
    assert!(Cgroup::open(&record).unwrap().is_none());
    plan.create().unwrap();
    let text = serde_json::to_string(&record).unwrap();
    let back: Record = serde_json::from_str(&text).unwrap();
    assert_eq!(back, record);
    let cgroup = Cgroup::open(&back).unwrap().unwrap();
    assert!(cgroup.clone_into().is_some());
    assert!(cgroup.is_empty().unwrap());
    let inside = Inside::new(&cgroup, "sleep 100");
    assert_eq!(cgroup.pids().unwrap(), [inside.pid()]);
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", inside.pid())).unwrap();
    for line in text.lines().filter(|line| !unified() || line.starts_with("0:")) {
        assert!(line.contains("/myrt-cgtest-"), "not moved: {line}");
    }
    assert!(!cgroup.is_empty().unwrap());
    cgroup.signal_all(libc::SIGCONT).unwrap();
    finish(&cgroup, &back);
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn frozen_is_frozen_and_can_be_killed() {
    let plan = plan("frozen", "{}");
    let cgroup = plan.create().unwrap();
    let mut inside = Inside::new(&cgroup, "echo late");
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    let error = super::tests::plan("frozen/below", "{}").create().unwrap_err().to_string();
    assert!(error.contains("is frozen"), "{error}");
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    assert_eq!(inside.output(), "late");
    drop(inside);
    let _second = Inside::new(&cgroup, "sleep 100");
    cgroup.freeze().unwrap();
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and a v1 freezer"]
fn a_legacy_host_freezes_and_kills_with_its_own_freezer() {
    if unified() {
        return eprintln!("skipped: no v1 hierarchies here");
    }
    let plan = plan("legacy", "{}");
    let mut cgroup = plan.create().unwrap();
    let _inside = Inside::new(&cgroup, "sleep 100");
    let v2 = cgroup.v2.take();
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    cgroup.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap() && !cgroup.is_empty().unwrap());
    cgroup.freeze().unwrap();
    let error = super::tests::plan("legacy", "{}").create().unwrap_err().to_string();
    assert!(error.contains("is frozen (FROZEN)"), "{error}");
    cgroup.v2 = v2;
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn a_cgroup_with_processes_is_refused_on_v2() {
    let plan = plan("taken", "{}");
    let cgroup = plan.create().unwrap();
    let _inside = Inside::new(&cgroup, "sleep 100");
    match plan.create() {
        Err(error) => assert!(unified() && error.to_string().contains("has processes in it"), "{error}"),
        Ok(_) => assert!(!unified()),
    }
    let error = cgroup.remove().unwrap_err().to_string();
    assert!(error.contains("EBUSY"), "{error}");
    assert!(!gone(&plan.record()));
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn a_failed_create_leaves_nothing() {
    let plan = plan("failed", r#"{"hugepageLimits": [{"pageSize": "3MB", "limit": 0}]}"#);
    let error = plan.create().unwrap_err().to_string();
    assert!(error.contains("hugetlb.3MB.max") && error.contains("/hugepageLimits/0"), "{error}");
    assert!(gone(&plan.record()));
    sweep(&plan.record());
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn what_a_killed_create_left_is_removed() {
    let plan = plan("half", "{}");
    let record = plan.record();
    plan.create().unwrap();
    std::fs::remove_dir(record.v2.as_ref().unwrap().dir()).unwrap();
    match Cgroup::open(&record).unwrap() {
        Some(cgroup) => finish(&cgroup, &record),
        None => assert!(record.v1.is_empty()),
    }
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn device_rules_hold_and_change_under_a_running_process() {
    let plan = plan("devices", DENY);
    let mut record = plan.record();
    let cgroup = plan.create().unwrap();
    let look = "for d in kmsg zero; do if (: < /dev/$d); then echo $d yes; else echo $d no; fi; done";
    assert_eq!(Inside::new(&cgroup, look).output(), "kmsg no\nzero yes");
    let mut running = Inside::new(&cgroup, look);
    let allow = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#;
    cgroup.update(&serde_json::from_str(allow).unwrap(), &mut record).unwrap();
    assert_eq!(record.devices.len(), 1);
    assert_eq!(running.output(), "kmsg yes\nzero yes");
    cgroup.update(&serde_json::from_str("{}").unwrap(), &mut record).unwrap();
    assert_eq!(record.devices.len(), 1);
    cgroup.update(&serde_json::from_str(DENY).unwrap(), &mut record).unwrap();
    assert_eq!(Inside::new(&cgroup, look).output(), "kmsg no\nzero yes");
    finish(&cgroup, &record);
    let all = super::tests::plan("devices", r#"{"devices": [{"allow": true, "access": "rwm"}]}"#);
    let cgroup = all.create().unwrap();
    let mut record = all.record();
    assert_eq!(Inside::new(&cgroup, look).output(), "kmsg yes\nzero yes");
    cgroup.update(&serde_json::from_str(DENY).unwrap(), &mut record).unwrap();
    assert_eq!(Inside::new(&cgroup, look).output(), "kmsg no\nzero yes");
    cgroup
        .update(
            &serde_json::from_str(r#"{"devices": [{"allow": true, "access": "rwm"}]}"#).unwrap(),
            &mut record,
        )
        .unwrap();
    assert_eq!(Inside::new(&cgroup, look).output(), "kmsg yes\nzero yes");
    finish(&cgroup, &record);
}

#[test]
#[ignore = "needs root and a writable cgroupfs with a hugetlb controller"]
fn hugepage_and_unified_limits_are_written() {
    let resources = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}],
        "unified": {"cgroup.max.descendants": "7", "hugetlb.2MB.rsvd.max": "2097152"}}"#;
    let plan = plan("huge", resources);
    let cgroup = plan.create().unwrap();
    let tree = plan.record().v2.unwrap().dir();
    let read = |file: &str| std::fs::read_to_string(tree.join(file)).unwrap().trim().to_string();
    assert_eq!(read("hugetlb.2MB.max"), "4194304");
    assert_eq!(read("hugetlb.2MB.rsvd.max"), "2097152");
    assert_eq!(read("cgroup.max.descendants"), "7");
    assert!(cgroup.stats().unwrap().hugetlb.contains_key("2MB"));
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and writable v1 hierarchies"]
fn v1_limits_are_written_and_updated() {
    if unified() {
        return eprintln!("skipped: no v1 hierarchies here");
    }
    let resources = r#"{"memory": {"limit": 67108864, "swap": 134217728}, "pids": {"limit": 20},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000}}"#;
    let plan = plan("limits", resources);
    let cgroup = plan.create().unwrap();
    let is = |controller, file, value: &str| assert_eq!(read(&cgroup, controller, file), value, "{file}");
    is("memory", "memory.limit_in_bytes", "67108864");
    is("memory", "memory.memsw.limit_in_bytes", "134217728");
    is("pids", "pids.max", "20");
    is("cpu", "cpu.shares", "512");
    is("cpu", "cpu.cfs_quota_us", "20000");
    is("cpu", "cpu.cfs_burst_us", "1000");
    let mut record = plan.record();
    let mut update = |json: &str| cgroup.update(&serde_json::from_str(json).unwrap(), &mut record);
    // Above the old memory+swap limit, then below everything: neither order of writes suits both.
    update(r#"{"memory": {"limit": 268435456, "swap": 268435456}}"#).unwrap();
    is("memory", "memory.limit_in_bytes", "268435456");
    update(r#"{"memory": {"limit": 33554432, "swap": 33554432}}"#).unwrap();
    is("memory", "memory.memsw.limit_in_bytes", "33554432");
    update(r#"{"cpu": {"quota": 500000, "period": 1000000, "burst": 400000}}"#).unwrap();
    is("cpu", "cpu.cfs_burst_us", "400000");
    update(r#"{"cpu": {"quota": 1000, "burst": 0}, "pids": {"limit": -1}}"#).unwrap();
    is("cpu", "cpu.cfs_quota_us", "1000");
    is("cpu", "cpu.shares", "512");
    is("pids", "pids.max", "max");
    let error = update(r#"{"memory": {"limit": 1073741824}}"#).unwrap_err().to_string();
    assert!(error.contains("EINVAL") && error.contains("memory/swap too"), "{error}");
    let stats = cgroup.stats().unwrap();
    assert_eq!((stats.memory.usage.limit, stats.pids.limit), (33_554_432, 0));
    assert!(!stats.cpuset.cpus.is_empty() && stats.memory.raw.contains_key("total_rss"));
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and a writable memory controller"]
fn the_oom_killer_is_noticed() {
    let plan = match plan_of("oom", r#"{"memory": {"limit": 8388608, "swap": 8388608}}"#) {
        Ok(plan) => plan,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let cgroup = plan.create().unwrap();
    let mut events = cgroup.oom_events().unwrap().unwrap();
    assert_eq!(events.wait(Some(Duration::from_millis(20))).unwrap(), None);
    let mut hog = Inside::new(&cgroup, "head -c 60000000 /dev/zero | tail");
    hog.go();
    assert_eq!(events.wait(Some(Duration::from_secs(10))).unwrap(), Some(1));
    assert_eq!(cgroup.oom_killed().unwrap(), 1);
    finish(&cgroup, &plan.record());
    assert_eq!(events.wait(Some(Duration::from_secs(10))).unwrap(), Some(0), "the cgroup is gone");
}

#[test]
#[ignore = "needs root and a writable pids controller"]
fn a_fork_bomb_is_killed_with_cgroup_kill_and_without() {
    let plan = match plan_of("bomb", r#"{"pids": {"limit": 40}}"#) {
        Ok(plan) => plan,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    for without in [false, true] {
        let mut cgroup = plan.create().unwrap();
        let mut bomb = Inside::new(&cgroup, "f() { while :; do (sleep 0.01; f) & done; }; f");
        bomb.go();
        std::thread::sleep(Duration::from_millis(200));
        if without {
            let v2 = cgroup.v2.take();
            cgroup.kill().unwrap();
            cgroup.v2 = v2;
        }
        finish(&cgroup, &plan.record());
    }
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn cgroups_that_the_container_made_are_removed_too() {
    let plan = plan("deep", "{}");
    let cgroup = plan.create().unwrap();
    let tree = plan.record().v2.unwrap().dir();
    std::fs::create_dir_all(tree.join("a/b")).unwrap();
    std::fs::create_dir_all(tree.join("c")).unwrap();
    finish(&cgroup, &plan.record());
}

#[test]
#[ignore = "needs root and a writable cgroupfs"]
fn a_parent_goes_with_its_last_container_only() {
    let pod = format!("pod{}", std::process::id());
    let first = plan(&format!("{pod}/one"), "{}");
    let second = plan(&format!("{pod}/two"), "{}");
    let (one, two) = (first.create().unwrap(), second.create().unwrap());
    finish(&one, &first.record());
    assert!(second.record().v2.unwrap().dir().exists());
    finish(&two, &second.record());
    assert!(!second.record().v2.unwrap().dir().parent().unwrap().exists());
}

#[test]
fn bad_paths_are_refused_while_planning() {
    let json = r#"{"ociVersion": "1.2.0", "linux": {"cgroupsPath": "/web"}}"#;
    let spec: oci_spec::runtime::Spec = serde_json::from_str(json).unwrap();
    let ask = Ask { systemd: true, ..Ask::default() };
    assert!(CgroupPlan::new(&spec, "id", &ask).unwrap_err().to_string().contains("slice:prefix:name"));
    assert!(plan_of("../../x", "{}").unwrap_err().to_string().contains("/linux/cgroupsPath"));
    assert!(!Path::new("/sys/fs/cgroup/x").exists());
}
