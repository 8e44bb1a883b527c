//! `myrt plan`: prints the steps and where config.json asked for each; touches nothing.

use crate::bundle::{Bundle, Output};
use crate::harness::{T, before_exec};
use crate::host::{self, Need};
use serde_json::{Value, json};
use std::fs;

fn plan(b: &Bundle, options: &[&str]) -> Output {
    b.t.needs(&[Need::Only("myrt")]);
    b.write();
    let mut command = b.t.bare();
    command.arg("plan").arg("--bundle").arg(&b.dir).args(options);
    b.t.finish(command)
}

pub fn plan_names_each_step_and_where_it_comes_from(t: &T) {
    let b = t.bundle().set("/hostname", "planned").set("/process/noNewPrivileges", true);
    let out = plan(&b, &[]).ok().out;
    for words in ["planned", "/hostname", "/mounts/0", "/process/args", "/linux/namespaces"] {
        assert!(out.contains(words), "{words} is missing: {out}");
    }
}

pub fn plan_as_json_has_a_pointer_for_each_step(t: &T) {
    let b = t.bundle().set("/hostname", "planned");
    let out = plan(&b, &["--format", "json"]).ok().json();
    let text = out.to_string();
    for pointer in ["/hostname", "/mounts/0", "/process/args"] {
        assert!(text.contains(&format!("\"{pointer}\"")), "{pointer} is missing: {text}");
    }
}

pub fn plan_makes_nothing(t: &T) {
    let b = t.bundle();
    plan(&b, &[]).ok();
    assert!(!t.dir.join("state").exists());
    for mount in host::cgroup_mounts() {
        assert!(!mount.join(t.cgroup_folder(&b.id)).exists());
    }
}

pub fn plan_changes_no_mounts_without_a_mount_namespace(t: &T) {
    // A read-only tmpfs is made so at the end, when it is filled; where mounts are left out, that would be the host's.
    let tmpfs = json!([{ "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro"] }]);
    let b = t.bundle().set("/mounts", tmpfs);
    assert!(plan(&b, &[]).ok().out.contains("make /dev read-only"));
    let b = b
        .without_namespace("mount")
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]));
    let out = plan(&b.set("/root/readonly", false), &[]).ok().out;
    assert!(!out.contains("read-only"), "{out}");
}

pub fn plan_needs_no_root(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let b = t.bundle();
    b.write();
    // A copy that uid 1000 can execute, wherever the runtime lies.
    let copy = t.dir.join("runtime");
    fs::copy(&t.runtime, &copy).unwrap();
    let mut command = std::process::Command::new(&copy);
    command.arg("plan").arg("--bundle").arg(&b.dir).current_dir("/");
    before_exec(&mut command, || {
        nix::unistd::setresgid(1000.into(), 1000.into(), 1000.into())?;
        nix::unistd::setresuid(1000.into(), 1000.into(), 1000.into())?;
        Ok(())
    });
    let out = t.finish(command).ok().out;
    assert!(out.contains("/process/args"), "{out}");
}

pub fn plan_is_the_same_each_time(t: &T) {
    let b = t.bundle();
    assert_eq!(plan(&b, &[]).ok().out, plan(&b, &[]).ok().out);
}

pub fn plan_refuses_what_create_refuses(t: &T) {
    plan(&t.bundle().set("/ociVersion", "frob"), &[]).refused();
    plan(&t.bundle().set("/process/cwd", "relative"), &[]).refused();
    plan(&t.bundle().set("/linux/intelRdt", json!({ "l3CacheSchema": "L3:0=f" })), &[]).refused();
}

pub fn plan_drops_groups_before_the_user_and_filters_last(t: &T) {
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }] });
    let b = t.bundle().set("/linux/seccomp", seccomp).set("/process/noNewPrivileges", true);
    let b = b.set("/linux/maskedPaths", json!(["/proc/filesystems"]));
    let out = plan(&b, &["--format", "json"]).ok().json();
    let steps: Vec<&Value> = match &out {
        Value::Array(list) => list.iter().collect(),
        other => other.as_object().unwrap().values().find_map(Value::as_array).unwrap().iter().collect(),
    };
    let place = |pointer: &str| {
        let quoted = format!("\"{pointer}");
        steps
            .iter()
            .position(|s| s.to_string().contains(&quoted))
            .unwrap_or_else(|| panic!("no step for {pointer}"))
    };
    assert!(place("/mounts") < place("/linux/maskedPaths"), "masks after mounts");
    assert!(place("/linux/maskedPaths") < place("/linux/seccomp"));
    assert!(place("/process/noNewPrivileges") < place("/linux/seccomp"));
}
