//! What the spec has and myrt has not: each is refused with one clear line that names it.

use crate::bundle::Bundle;
use crate::harness::T;
use crate::host::Need;
use serde_json::json;

/// One line of error, with a word of what is refused, before anything is touched.
#[track_caller]
fn in_one_line(b: Bundle, word: &str) {
    let t = b.t;
    t.needs(&[Need::Only("myrt")]);
    let id = b.id.clone();
    let output = b.refused();
    let errors = output.err.lines().filter(|l| !l.starts_with("  ")).count();
    assert_eq!(errors, 1, "{}", output.err);
    assert!(output.err.to_lowercase().contains(&word.to_lowercase()), "{word} is not named: {}", output.err);
    assert!(!t.dir.join("state").join(id).exists(), "state is left");
}

pub fn mappings_of_what_is_no_bind_mount_are_refused(t: &T) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mount = |kind: &str| json!({ "destination": "/m", "type": kind, "source": kind, "uidMappings": map, "gidMappings": map });
    in_one_line(t.bundle().set("/mounts/-", mount("tmpfs")), "bind mount");
    in_one_line(t.bundle().set("/mounts/-", mount("cgroup")), "bind mount");
    in_one_line(t.bundle().mount("/m", "tmpfs", "tmpfs", &["idmap"]), "bind mount");
}

pub fn idmap_without_any_mappings_is_refused(t: &T) {
    in_one_line(t.bundle().mount("/m", "bind", "/tmp", &["bind", "idmap"]), "idmap");
    in_one_line(t.bundle().mount("/m", "bind", "/tmp", &["rbind", "ridmap"]), "idmap");
}

pub fn idmap_with_a_value_is_refused(t: &T) {
    in_one_line(t.bundle().mount("/m", "bind", "/tmp", &["bind", "idmap=uids=0-1000-10"]), "no value");
}

pub fn mapping_with_ranges_that_overlap_is_refused(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }, { "containerID": 5, "hostID": 2000, "size": 10 }]);
    let mount = json!({ "destination": "/m", "type": "bind", "source": "/tmp", "options": ["bind"],
        "uidMappings": map, "gidMappings": map });
    let output = t.bundle().set("/mounts/-", mount).refused();
    let at = "/gidMappings";
    assert!(output.err.contains("/mounts/") && output.err.contains(at), "{}", output.err);
}

pub fn half_a_mapping_of_a_mount_is_refused(t: &T) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mount = json!({ "destination": "/m", "type": "bind", "source": "/tmp", "options": ["bind"],
        "uidMappings": map });
    in_one_line(t.bundle().set("/mounts/-", mount), "gidMappings");
}

pub fn idmap_of_a_filesystem_that_cannot_be_mapped_is_refused(t: &T) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mount = json!({ "destination": "/m", "type": "bind", "source": "/proc", "options": ["bind"],
        "uidMappings": map, "gidMappings": map });
    in_one_line(t.bundle().set("/mounts/-", mount), "cannot be id-mapped");
}

pub fn seccomp_listener_is_refused(t: &T) {
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/listener.sock",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }] });
    in_one_line(t.bundle().set("/linux/seccomp", seccomp), "listener");
}

pub fn intel_rdt_is_refused(t: &T) {
    in_one_line(t.bundle().set("/linux/intelRdt", json!({ "l3CacheSchema": "L3:0=f" })), "intelRdt");
}

pub fn scheduler_that_linux_does_not_have_is_refused(t: &T) {
    in_one_line(t.bundle().set("/process/scheduler", json!({ "policy": "SCHED_ISO" })), "SCHED_ISO");
    let nice = json!({ "policy": "SCHED_OTHER", "nice": 20 });
    in_one_line(t.bundle().set("/process/scheduler", nice), "nice");
}

pub fn io_priority_beyond_seven_is_refused(t: &T) {
    let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 });
    in_one_line(t.bundle().set("/process/ioPriority", priority), "priority");
}

pub fn half_an_io_priority_is_refused(t: &T) {
    in_one_line(t.bundle().set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE" })), "priority");
    in_one_line(t.bundle().set("/process/ioPriority", json!({ "priority": 4 })), "class");
}

pub fn cpus_that_are_no_list_are_refused(t: &T) {
    in_one_line(t.bundle().set("/process/execCPUAffinity", json!({ "final": "3-1" })), "CPUs");
    in_one_line(t.bundle().set("/process/execCPUAffinity", json!({ "initial": "5000" })), "CPUs");
}

pub fn network_devices_are_refused(t: &T) {
    let b = t.bundle().namespace("network").set("/linux/netDevices", json!({ "eth9": { "name": "eth0" } }));
    in_one_line(b, "netDevices");
}

pub fn memory_policy_is_refused(t: &T) {
    let policy = json!({ "mode": "MPOL_INTERLEAVE", "nodes": "0" });
    in_one_line(t.bundle().set("/linux/memoryPolicy", policy), "memoryPolicy");
}

pub fn option_that_a_cgroup_mount_does_not_take_is_refused(t: &T) {
    t.bundle().mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "frobnicate=1"]).refused();
}
