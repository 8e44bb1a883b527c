//! `/process/capabilities`: five sets, from create to exec.

use crate::harness::T;
use crate::host::{self, Need};
use serde_json::Value;

/// Capabilities by number.
pub const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

const SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

/// The bits of some capabilities.
fn mask(names: &[&str]) -> u64 {
    names.iter().map(|n| 1 << NAMES.iter().position(|m| m == n).unwrap()).sum()
}

fn set(report: &Value, name: &str) -> u64 {
    report["capabilities"][name].as_u64().unwrap()
}

#[track_caller]
fn assert_sets(report: &Value, expected: [&[&str]; 5]) {
    for (name, expected) in SETS.iter().zip(expected) {
        assert_eq!(set(report, name), mask(expected), "{name} of {}", report["capabilities"]);
    }
}

pub fn without_capabilities_every_set_is_empty(t: &T) {
    assert_sets(&t.bundle().report(), [&[], &[], &[], &[], &[]]);
}

pub fn each_set_is_what_the_config_says(t: &T) {
    let (kill, chown) = ("CAP_KILL", "CAP_CHOWN");
    let report = t
        .bundle()
        .caps(&[kill, chown, "CAP_NET_RAW"], &["bounding"])
        .caps(&[kill, chown], &["permitted", "effective"])
        .report();
    // Root gains on execve what the bounding set leaves it: the kernel's rule, not the runtime's.
    let all: &[&str] = &[kill, chown, "CAP_NET_RAW"];
    assert_sets(&report, [all, all, all, &[], &[]]);
}

pub fn bounding_set_holds_nothing_up_to_the_last_capability(t: &T) {
    let report = t.bundle().caps(&["CAP_KILL"], &["bounding"]).report();
    let bounding = set(&report, "bounding");
    for cap in 0..=host::cap_last_cap() {
        assert_eq!(bounding >> cap & 1 == 1, cap == 5, "capability {cap}");
    }
}

pub fn user_without_ambient_capabilities_has_none(t: &T) {
    let report = t
        .bundle()
        .set("/process/user/uid", 1000)
        .caps(&["CAP_KILL", "CAP_CHOWN"], &["bounding", "permitted", "effective"])
        .report();
    assert_sets(&report, [&["CAP_KILL", "CAP_CHOWN"], &[], &[], &[], &[]]);
}

pub fn ambient_capabilities_reach_a_user_who_is_not_root(t: &T) {
    let report = t.bundle().set("/process/user/uid", 1000).caps(&["CAP_NET_BIND_SERVICE"], &SETS).report();
    let one: &[&str] = &["CAP_NET_BIND_SERVICE"];
    assert_sets(&report, [one, one, one, one, one]);
}

pub fn inheritable_set_is_given_when_asked_for(t: &T) {
    let report = t
        .bundle()
        .set("/process/user/uid", 1000)
        .caps(&["CAP_KILL"], &["bounding", "permitted", "inheritable"])
        .report();
    assert_sets(&report, [&["CAP_KILL"], &[], &[], &["CAP_KILL"], &[]]);
}

pub fn inheritable_set_is_empty_when_not_asked_for(t: &T) {
    let b = t.bundle().caps(&["CAP_KILL", "CAP_CHOWN"], &["bounding", "permitted", "effective"]);
    let report = b.report();
    assert_eq!((set(&report, "inheritable"), set(&report, "ambient")), (0, 0));
}

pub fn unknown_capability_is_a_warning(t: &T) {
    let b = t.bundle().caps(&["CAP_KILL", "CAP_FROBNICATE"], &["bounding", "permitted", "effective"]);
    let output = b.inside(&["report"]).run().ok();
    assert_sets(&output.probes()[0], [&["CAP_KILL"], &["CAP_KILL"], &["CAP_KILL"], &[], &[]]);
    output.says("CAP_FROBNICATE");
}

pub fn capability_that_cannot_be_granted_is_a_warning(t: &T) {
    if host::effective() >> host::SYS_RESOURCE & 1 == 1 {
        t.skip("needs a capability that this process lacks");
    }
    let b = t.bundle().caps(&["CAP_KILL", "CAP_SYS_RESOURCE"], &["bounding", "permitted", "effective"]);
    let output = b.inside(&["report"]).run().ok();
    assert_sets(&output.probes()[0], [&["CAP_KILL"], &["CAP_KILL"], &["CAP_KILL"], &[], &[]]);
    output.says("CAP_SYS_RESOURCE");
}

pub fn all_capabilities_of_the_caller_can_be_granted(t: &T) {
    let report = t.bundle().all_caps().report();
    assert_eq!(set(&report, "bounding"), host::effective());
    assert_eq!(set(&report, "effective"), host::effective());
}

pub fn missing_capability_is_missed(t: &T) {
    let denied = t.bundle().tries(&["chroot /tmp", "sethostname x", "mknod /tmp/null c 1 3"]);
    assert_eq!(denied, [libc::EPERM; 3]);
    let granted = t.bundle().all_caps().tries(&["mknod /tmp/null c 1 3", "sethostname x", "chroot /tmp"]);
    assert_eq!(granted, [0; 3]);
}

pub fn securebits_are_clear(t: &T) {
    assert_eq!(t.bundle().report()["securebits"], 0);
}

pub fn sets_hold_inside_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let report =
        t.bundle().user_namespace().caps(&["CAP_KILL"], &["bounding", "permitted", "effective"]).report();
    assert_sets(&report, [&["CAP_KILL"], &["CAP_KILL"], &["CAP_KILL"], &[], &[]]);
}

pub fn exec_has_the_capabilities_of_the_container(t: &T) {
    let c = t.bundle().caps(&["CAP_KILL"], &["bounding", "permitted", "effective"]).start();
    assert_sets(&c.exec(&[], &["report"])[0], [&["CAP_KILL"], &["CAP_KILL"], &["CAP_KILL"], &[], &[]]);
}

pub fn exec_adds_a_capability_by_option(t: &T) {
    let c = t.bundle().caps(&["CAP_KILL"], &["bounding", "permitted", "effective"]).start();
    let report = c.exec(&["--cap", "CAP_CHOWN"], &["report"]).remove(0);
    assert_eq!(set(&report, "effective"), mask(&["CAP_KILL", "CAP_CHOWN"]));
}

pub fn exec_of_a_process_file_has_the_sets_of_the_file(t: &T) {
    let c = t.bundle().caps(&["CAP_KILL"], &["bounding", "permitted", "effective"]).start();
    let sets = serde_json::json!({ "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"] });
    let report = c.exec_process(|p| p["capabilities"] = sets, &["report"]).ok().probes().remove(0);
    assert_sets(&report, [&["CAP_CHOWN"], &["CAP_CHOWN"], &["CAP_CHOWN"], &[], &[]]);
}
