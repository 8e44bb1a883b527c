//! `/linux/namespaces`: new ones, joined ones, user namespaces with mappings, time offsets, sysctls.

use crate::bundle::errno;
use crate::harness::T;
use crate::host::{Need, namespace, process_in_new_namespaces};
use serde_json::{Value, json};
use std::fs;

/// The namespace of this kind (a file name in /proc/PID/ns) that a report saw.
fn seen(report: &Value, kind: &str) -> String {
    report["namespaces"][kind].as_str().unwrap().to_string()
}

#[track_caller]
fn is_new(t: &T, kind: &str, file: &str) {
    let report = t.bundle().without_namespace(kind).namespace(kind).report();
    assert_ne!(seen(&report, file), namespace("self", file));
}

#[track_caller]
fn is_shared(t: &T, kind: &str, file: &str) {
    let report = t.bundle().without_namespace(kind).report();
    assert_eq!(seen(&report, file), namespace("self", file));
}

/// A container that joins the namespace of a process by path is in it.
#[track_caller]
fn is_joined(t: &T, kind: &str, file: &str, unshare: &[&str]) {
    let pid = process_in_new_namespaces(t, unshare);
    let report = t.bundle().join_namespace(kind, &format!("/proc/{pid}/ns/{file}")).report();
    assert_eq!(seen(&report, file), namespace(pid, file));
}

pub fn network_namespace_is_new(t: &T) {
    is_new(t, "network", "net");
}

pub fn ipc_namespace_is_new(t: &T) {
    is_new(t, "ipc", "ipc");
}

pub fn uts_namespace_is_new(t: &T) {
    is_new(t, "uts", "uts");
}

pub fn mount_namespace_is_new(t: &T) {
    is_new(t, "mount", "mnt");
}

pub fn pid_namespace_is_new(t: &T) {
    is_new(t, "pid", "pid");
}

pub fn cgroup_namespace_is_new(t: &T) {
    is_new(t, "cgroup", "cgroup");
}

pub fn time_namespace_is_new(t: &T) {
    t.needs(&[Need::Path("/proc/self/ns/time")]);
    is_new(t, "time", "time");
}

pub fn network_namespace_is_shared_when_absent(t: &T) {
    is_shared(t, "network", "net");
}

pub fn ipc_namespace_is_shared_when_absent(t: &T) {
    is_shared(t, "ipc", "ipc");
}

pub fn uts_namespace_is_shared_when_absent(t: &T) {
    is_shared(t, "uts", "uts");
}

pub fn pid_namespace_is_shared_when_absent(t: &T) {
    is_shared(t, "pid", "pid");
}

pub fn network_namespace_is_joined_by_path(t: &T) {
    is_joined(t, "network", "net", &["--net"]);
}

pub fn ipc_namespace_is_joined_by_path(t: &T) {
    is_joined(t, "ipc", "ipc", &["--ipc"]);
}

pub fn uts_namespace_is_joined_by_path(t: &T) {
    is_joined(t, "uts", "uts", &["--uts"]);
}

pub fn cgroup_namespace_is_joined_by_path(t: &T) {
    is_joined(t, "cgroup", "cgroup", &["--cgroup"]);
}

pub fn mount_namespace_is_joined_by_path(t: &T) {
    is_joined(t, "mount", "mnt", &["--mount"]);
}

pub fn time_namespace_is_joined_by_path(t: &T) {
    t.needs(&[Need::Path("/proc/self/ns/time")]);
    let pid = process_in_new_namespaces(t, &["--time", "--fork"]);
    let path = format!("/proc/{pid}/ns/time_for_children");
    let report = t.bundle().join_namespace("time", &path).report();
    assert_eq!(seen(&report, "time"), fs::read_link(path).unwrap().to_string_lossy());
}

pub fn pid_namespace_of_another_container_is_joined(t: &T) {
    let first = t.bundle().start();
    let path = format!("/proc/{}/ns/pid", first.pid());
    let second = t.bundle().join_namespace("pid", &path);
    let report = second.report();
    assert_eq!(seen(&report, "pid"), namespace(first.pid(), "pid"));
    assert_ne!(report["pid"], 1);
}

pub fn containers_can_share_ipc_uts_and_network(t: &T) {
    let first = t.bundle().namespace("network").set("/hostname", "shared-name").start();
    let path = |file: &str| format!("/proc/{}/ns/{file}", first.pid());
    let b = t.bundle().join_namespace("ipc", &path("ipc")).join_namespace("uts", &path("uts"));
    let report = b.join_namespace("network", &path("net")).report();
    assert_eq!(report["hostname"], "shared-name");
    for file in ["ipc", "uts", "net"] {
        assert_eq!(seen(&report, file), namespace(first.pid(), file));
    }
}

pub fn user_namespace_is_joined_by_path(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let first = t.bundle().user_namespace().start();
    let path = format!("/proc/{}/ns/user", first.pid());
    let second = t.bundle();
    for path in [".", "inside", "proc", "dev", "sys", "tmp", "etc", "bin"] {
        std::os::unix::fs::chown(second.rootfs().join(path), Some(100_000), Some(100_000)).unwrap();
    }
    let report = second.join_namespace("user", &path).report();
    assert_eq!(seen(&report, "user"), namespace(first.pid(), "user"));
    assert_eq!(report["uids"][0], 0);
}

pub fn namespace_path_of_another_kind_is_refused(t: &T) {
    t.bundle().join_namespace("network", "/proc/self/ns/uts").refused();
}

pub fn namespace_path_that_is_missing_is_refused(t: &T) {
    t.bundle().join_namespace("network", "/run/frobnicate").refused();
}

pub fn unknown_namespace_is_refused(t: &T) {
    t.bundle().namespace("frob").refused();
}

pub fn namespace_given_twice_is_refused(t: &T) {
    t.bundle().namespace("pid").refused();
}

pub fn loopback_is_up_in_a_new_network_namespace(t: &T) {
    let probes = t.bundle().namespace("network").probe(&["ifflags lo", "loopback"]);
    assert_eq!((&probes[0]["up"], errno(&probes[1])), (&json!(true), 0));
}

pub fn exec_joins_all_namespaces_of_the_container(t: &T) {
    let c = t.bundle().namespace("network").namespace("cgroup").start();
    let report = c.exec(&[], &["report"]).remove(0);
    for file in ["pid", "net", "ipc", "uts", "mnt", "cgroup"] {
        assert_eq!(seen(&report, file), namespace(c.pid(), file), "{file}");
    }
}

// ---- user --------------------------------------------------------------------------------------

pub fn mappings_are_what_the_config_says(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let map = json!([
        { "containerID": 0, "hostID": 100_000, "size": 1000 },
        { "containerID": 5000, "hostID": 200_000, "size": 10 },
    ]);
    let b = t.bundle().user_namespace().set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    let report = b.report();
    for map in ["uid_map", "gid_map"] {
        let numbers: Vec<&str> = report[map].as_str().unwrap().split_whitespace().collect();
        assert_eq!(numbers, ["0", "100000", "1000", "5000", "200000", "10"], "{map}");
    }
}

pub fn root_of_a_user_namespace_is_nobody_special_outside(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let c = t.bundle().user_namespace().start();
    let uids = crate::host::status_of(c.pid(), "Uid").unwrap();
    assert!(uids.split_whitespace().all(|u| u == "100000"), "{uids}");
}

pub fn groups_can_be_set_in_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let user = json!({ "uid": 7, "gid": 8, "additionalGids": [9, 10] });
    let report = t.bundle().user_namespace().set("/process/user", user).report();
    assert_eq!(
        (&report["uids"][0], &report["gids"][0], &report["groups"]),
        (&json!(7), &json!(8), &json!([9, 10]))
    );
    assert_eq!(report["setgroups"].as_str().unwrap().trim(), "allow");
}

pub fn user_namespace_without_mappings_is_refused(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    t.bundle().namespace("user").refused();
}

pub fn user_that_is_not_mapped_is_refused(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    t.bundle().user_namespace().set("/process/user/uid", 70_000).refused();
}

pub fn user_namespace_owns_the_others(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let b = t
        .bundle()
        .user_namespace()
        .namespace("network")
        .caps(&["CAP_SYS_ADMIN"], &["bounding", "permitted", "effective"]);
    assert_eq!(b.tries(&["sethostname inside", "mount tmpfs /tmp tmpfs"]), [0, 0]);
}

// ---- time --------------------------------------------------------------------------------------

pub fn time_offsets_move_the_clocks(t: &T) {
    t.needs(&[Need::Path("/proc/self/ns/time")]);
    let offsets =
        json!({ "monotonic": { "secs": 1_000_000 }, "boottime": { "secs": 2_000_000, "nanosecs": 5 } });
    let b = t.bundle().namespace("time").set("/linux/timeOffsets", offsets);
    let clocks = b.probe(&["clocks"]).remove(0);
    let uptime: f64 = crate::read("/proc/uptime").split(' ').next().unwrap().parse().unwrap();
    let ahead = |clock: &str| clocks[clock].as_i64().unwrap() - uptime as i64;
    assert!((999_000..1_001_000).contains(&ahead("monotonic")), "{clocks}");
    assert!((1_999_000..2_001_000).contains(&ahead("boottime")), "{clocks}");
}

pub fn time_offsets_hold_in_exec(t: &T) {
    t.needs(&[Need::Path("/proc/self/ns/time")]);
    let offsets = json!({ "monotonic": { "secs": 50_000_000 } });
    let c = t.bundle().namespace("time").set("/linux/timeOffsets", offsets).start();
    assert!(c.exec(&[], &["clocks"])[0]["monotonic"].as_i64().unwrap() > 49_000_000);
}

pub fn time_offsets_without_a_time_namespace_are_refused(t: &T) {
    t.bundle().set("/linux/timeOffsets", json!({ "monotonic": { "secs": 5 } })).refused();
}

// ---- sysctl ------------------------------------------------------------------------------------

pub fn sysctls_are_set_in_the_containers_namespaces(t: &T) {
    let sysctl = json!({
        "kernel.msgmax": "4096", "kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "11",
        "net.ipv4.ip_forward": "1", "net.ipv4.ip_unprivileged_port_start": "0",
    });
    let before = crate::read("/proc/sys/kernel/msgmax");
    let files = [
        ("/proc/sys/kernel/msgmax", "4096"),
        ("/proc/sys/kernel/shm_rmid_forced", "1"),
        ("/proc/sys/fs/mqueue/msg_max", "11"),
        ("/proc/sys/net/ipv4/ip_forward", "1"),
        ("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"),
    ];
    let probes: Vec<String> = files.iter().map(|(file, _)| format!("read {file}")).collect();
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let b = t.bundle().namespace("network").set("/linux/sysctl", sysctl);
    for (probe, (file, value)) in b.probe(&probes).iter().zip(files) {
        assert_eq!(probe["text"].as_str().unwrap_or_default().trim(), value, "{file}");
    }
    assert_eq!(crate::read("/proc/sys/kernel/msgmax"), before);
}

pub fn sysctl_works_with_a_read_only_proc(t: &T) {
    let b = t.bundle().set("/linux/sysctl", json!({ "kernel.msgmax": "4096" }));
    let b = b.set("/linux/readonlyPaths", json!(["/proc/sys"]));
    assert_eq!(b.probe(&["read /proc/sys/kernel/msgmax"])[0]["text"], "4096\n");
}

pub fn sysctl_of_the_host_is_refused(t: &T) {
    t.bundle().set("/linux/sysctl", json!({ "vm.swappiness": "1" })).refused();
    t.bundle().set("/linux/sysctl", json!({ "kernel.panic": "1" })).refused();
}

pub fn sysctl_of_a_namespace_that_is_shared_is_refused(t: &T) {
    t.bundle().set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })).refused();
    t.bundle().without_namespace("ipc").set("/linux/sysctl", json!({ "kernel.msgmax": "4096" })).refused();
}

pub fn sysctl_that_does_not_exist_is_refused(t: &T) {
    t.bundle().namespace("network").set("/linux/sysctl", json!({ "net.frobnicate": "1" })).refused();
}
