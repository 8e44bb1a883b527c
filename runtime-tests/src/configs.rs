//! config.json files as Docker and Podman write them, from `bundles/`, run as they are.
//!
//! Only what belongs to the machine that wrote them is changed: the root, the sources of binds, the cgroup
//! path, hooks that are programs of the engine, and the program.

use crate::bundle::Bundle;
use crate::harness::T;
use crate::host::{self, Need, mount_at};
use serde_json::{Value, json};
use std::fs;

fn adopt<'t>(t: &'t T, text: &str) -> Bundle<'t> {
    let mut b = t.bundle();
    let ours = b.config.clone();
    b.config = serde_json::from_str(text).unwrap();
    b.config["root"]["path"] = ours["root"]["path"].clone();
    b.config["linux"]["cgroupsPath"] = ours["linux"]["cgroupsPath"].clone();
    b.config.as_object_mut().unwrap().remove("hooks");
    for (i, mount) in b.config["mounts"].as_array_mut().unwrap().iter_mut().enumerate() {
        if mount["type"] == "bind" {
            let source = b.dir.join(format!("source-{i}"));
            // A destination with a dot or below /etc is a file, the others are folders.
            let destination = mount["destination"].as_str().unwrap();
            if destination.starts_with("/etc") || destination.contains('.') || destination.contains("sbin") {
                fs::write(&source, "of the host\n").unwrap();
            } else {
                fs::create_dir_all(&source).unwrap();
            }
            mount["source"] = json!(source);
        }
    }
    // What this process may not raise stays as it is.
    if host::effective() >> host::SYS_RESOURCE & 1 == 0
        && let Some(limits) = b.config["process"]["rlimits"].as_array_mut()
    {
        limits.retain(|l| l["hard"].as_u64().unwrap() <= 4096);
    }
    // Limits of controllers that are not here are the subject of other tests.
    if host::is_v2() && !crate::read("/sys/fs/cgroup/cgroup.controllers").contains("memory") {
        let resources = b.config["linux"]["resources"].as_object_mut().unwrap();
        resources.retain(|name, _| name == "devices");
    }
    b
}

fn docker_plain(t: &T) -> Bundle<'_> {
    adopt(t, include_str!("../bundles/docker-plain.json"))
}

fn docker_limits(t: &T) -> Bundle<'_> {
    adopt(t, include_str!("../bundles/docker-limits.json"))
}

fn podman_plain(t: &T) -> Bundle<'_> {
    adopt(t, include_str!("../bundles/podman-plain.json"))
}

const ALL: [fn(&T) -> Bundle<'_>; 3] = [docker_plain, docker_limits, podman_plain];

fn bits(list: &Value) -> u64 {
    let names = list.as_array().map(Vec::as_slice).unwrap_or_default();
    names.iter().map(|n| 1u64 << crate::capabilities::NAMES.iter().position(|m| n == m).unwrap()).sum()
}

pub fn config_of_docker_runs(t: &T) {
    let report = docker_plain(t).report();
    assert_eq!(report["hostname"], "web");
    assert_eq!(report["seccomp"], "2");
}

pub fn config_of_docker_with_limits_runs(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("pids")]);
    let c = docker_limits(t).start();
    let groups = c.cgroups();
    assert_eq!(groups.value("pids", "pids.max", "pids.max"), "50");
    assert_eq!(groups.value("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    let report = c.exec(&[], &["report"]).remove(0);
    assert_eq!((&report["uids"][0], &report["no_new_privs"]), (&json!(1000), &json!(1)));
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!([1024, 2048]));
}

pub fn config_of_podman_runs(t: &T) {
    let report = podman_plain(t).report();
    assert_eq!(report["umask"], 0o022);
    assert_eq!(report["hostname"], "web");
}

pub fn every_config_has_its_capabilities(t: &T) {
    for config in ALL {
        let b = config(t);
        let bounding = bits(&b.config["process"]["capabilities"]["bounding"]);
        assert_eq!(b.report()["capabilities"]["bounding"], bounding);
    }
}

pub fn every_config_has_its_masks_and_read_only_paths(t: &T) {
    for config in ALL {
        let b = config(t);
        let paths = |member: &str| -> Vec<String> {
            let list = b.config["linux"][member].as_array().unwrap().iter();
            list.map(|p| p.as_str().unwrap().to_string()).collect()
        };
        let (masked, readonly) = (paths("maskedPaths"), paths("readonlyPaths"));
        let report = b.report();
        for path in masked.iter().chain(&readonly).filter(|p| fs::exists(p).is_ok_and(|e| e)) {
            assert!(mount_at(&report, path).is_some(), "nothing covers {path}");
        }
    }
}

pub fn every_config_has_its_mounts(t: &T) {
    t.needs(&[Need::Filesystem("mqueue")]);
    for config in ALL {
        let b = config(t);
        let wanted: Vec<String> = b.config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["destination"].as_str().unwrap().to_string())
            .collect();
        let report = b.report();
        for destination in wanted.iter().filter(|d| *d != "/sys/fs/cgroup") {
            assert!(mount_at(&report, destination).is_some(), "{destination}");
        }
    }
}

pub fn every_config_opens_its_devices_and_no_other(t: &T) {
    for config in ALL {
        let mut b = config(t);
        for set in ["bounding", "permitted", "effective"] {
            b = b.set(&format!("/process/capabilities/{set}"), json!(["CAP_MKNOD", "CAP_DAC_OVERRIDE"]));
        }
        let b =
            b.set("/process/user", json!({ "uid": 0, "gid": 0 })).mount("/tmp", "tmpfs", "tmpfs", &["dev"]);
        let tries = b.tries(&[
            "open rw /dev/null",
            "open r /dev/urandom",
            "mknod /tmp/kmsg c 1 11",
            "open r /tmp/kmsg",
        ]);
        assert_eq!(tries, [0, 0, 0, libc::EPERM]);
    }
}

pub fn exec_works_in_every_config(t: &T) {
    for config in ALL {
        let c = config(t).start();
        let report = c.exec(&[], &["report"]).remove(0);
        assert_eq!(report["seccomp"], "2");
        c.delete_by_force().ok();
    }
}
