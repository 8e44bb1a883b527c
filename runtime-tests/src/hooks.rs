//! `/hooks`: six kinds, when and where each runs, what it is given, and what its failure does.

use crate::bundle::Bundle;
use crate::harness::{T, wait_for};
use crate::host::{Need, lives, namespace};
use crate::read;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A shell script on the host as a hook.
fn script(t: &T, name: &str, body: &str) -> PathBuf {
    let file = t.dir.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

/// A hook that keeps the state it is given in `DIR/NAME.json` and notes its name in `DIR/order`.
fn recorder(t: &T, name: &str) -> Value {
    let body = format!("cat > {0}/{name}.json; echo {name} >> {0}/order", t.dir.display());
    json!({ "path": script(t, name, &body), "args": [name] })
}

fn recorded(t: &T, name: &str) -> Value {
    serde_json::from_str(&read(t.dir.join(format!("{name}.json")))).unwrap()
}

fn order(t: &T) -> Vec<String> {
    fs::read_to_string(t.dir.join("order")).unwrap_or_default().lines().map(str::to_string).collect()
}

fn failing(t: &T) -> Value {
    json!({ "path": script(t, "failing", "echo it went wrong >&2; exit 3") })
}

/// One recorder of every kind that runs outside the container.
fn all_outside(t: &T) -> Bundle<'_> {
    ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]
        .iter()
        .fold(t.bundle(), |b, kind| b.hook(kind, recorder(t, kind)))
}

pub fn hooks_run_in_the_order_of_life(t: &T) {
    let c = all_outside(t).inside(&["pause"]).create();
    assert_eq!(order(t), ["prestart", "createRuntime", "createContainer"]);
    c.start();
    assert_eq!(order(t)[3..], ["poststart"]);
    c.stop();
    assert_eq!(order(t).len(), 4);
    c.delete();
    assert_eq!(order(t)[4..], ["poststop"]);
}

pub fn hooks_of_one_kind_run_in_the_order_of_the_list(t: &T) {
    let names = ["first", "second", "third"];
    let b = names.iter().fold(t.bundle(), |b, name| b.hook("createRuntime", recorder(t, name)));
    b.create();
    assert_eq!(order(t), names);
}

pub fn hooks_are_given_the_state_on_stdin(t: &T) {
    let b = all_outside(t).set("/annotations", json!({ "org.example": "yes" }));
    let c = b.inside(&["pause"]).create();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let state = recorded(t, kind);
        assert_eq!(state["id"], c.id.as_str(), "{kind}");
        assert_eq!(state["bundle"], c.bundle.dir.to_str().unwrap(), "{kind}");
        assert_eq!(state["annotations"]["org.example"], "yes", "{kind}");
        assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{kind}");
    }
    assert_eq!(recorded(t, "prestart")["pid"], c.pid());
    assert_eq!(recorded(t, "createRuntime")["pid"], c.pid());
}

pub fn status_is_creating_or_created_before_start(t: &T) {
    let _c = all_outside(t).create();
    // The spec's word is creating; runtime-tools wants created; both are in use.
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let status = recorded(t, kind)["status"].clone();
        assert!(["creating", "created"].contains(&status.as_str().unwrap()), "{kind}: {status}");
    }
}

pub fn status_is_running_in_poststart_and_stopped_in_poststop(t: &T) {
    let c = all_outside(t).start();
    assert_eq!(recorded(t, "poststart")["status"], "running");
    c.stop();
    c.delete();
    assert_eq!(recorded(t, "poststop")["status"], "stopped");
}

pub fn hook_has_exactly_its_args_and_environment(t: &T) {
    let out = t.dir.join("facts");
    let path = script(
        t,
        "facts",
        &format!(
            "tr '\\0' '\\n' < /proc/$$/cmdline > {0}; tr '\\0' '\\n' < /proc/$$/environ >> {0}",
            out.display()
        ),
    );
    let hook = json!({ "path": path, "args": ["facts", "two words"], "env": ["ONE=1", "TWO=2 2"] });
    t.bundle().hook("createRuntime", hook).create();
    let facts = read(out);
    assert!(facts.contains("two words\n"), "{facts}");
    assert!(facts.ends_with("ONE=1\nTWO=2 2\n"), "{facts}");
}

pub fn hook_without_an_environment_has_none_of_the_callers(t: &T) {
    let out = t.dir.join("facts");
    let path = script(t, "facts", &format!("tr '\\0' '\\n' < /proc/$$/environ > {}", out.display()));
    let b = t.bundle().hook("createRuntime", json!({ "path": path })).inside(&["exit 0"]);
    let mut command = b.command("run", &[]);
    command.env("SECRET_OF_THE_CALLER", "1");
    t.finish(command).ok();
    assert!(!read(out).contains("SECRET_OF_THE_CALLER"));
}

pub fn hook_that_takes_too_long_is_killed(t: &T) {
    let pid = t.dir.join("pid");
    let path = script(t, "slow", &format!("echo $$ > {}; exec sleep 1000", pid.display()));
    t.bundle().hook("createRuntime", json!({ "path": path, "timeout": 1 })).refused();
    let pid: i64 = read(pid).trim().parse().unwrap();
    wait_for("the hook is killed", || (!lives(pid)).then_some(()));
}

pub fn hook_with_a_timeout_of_zero_or_less_is_refused(t: &T) {
    let hook = |timeout: i64| json!({ "path": script(t, "quick", "exit 0"), "timeout": timeout });
    t.bundle().hook("createRuntime", hook(0)).refused();
    t.bundle().hook("createRuntime", hook(-1)).refused();
}

pub fn hook_with_a_timeout_beyond_all_clocks_runs_or_is_refused(t: &T) {
    let mut hook = recorder(t, "first");
    hook["timeout"] = json!(i64::MAX);
    let b = t.bundle().hook("createRuntime", hook);
    let id = b.id.clone();
    match b.create_with(&[]) {
        Ok(_) => assert_eq!(order(t), ["first"]),
        Err(output) => {
            output.refused();
            t.runtime(&["state", &id]).refused();
        }
    }
}

pub fn hook_with_a_relative_path_is_refused(t: &T) {
    t.bundle().hook("createRuntime", json!({ "path": "bin/true" })).refused();
}

pub fn hook_that_is_missing_is_an_error(t: &T) {
    t.bundle().hook("createRuntime", json!({ "path": "/frobnicate" })).refused();
}

/// A failing hook of this kind makes create fail and leaves nothing.
#[track_caller]
fn fails_create(t: &T, kind: &str) {
    let b = t.bundle().hook(kind, failing(t)).hook("poststop", recorder(t, "poststop"));
    let id = b.id.clone();
    b.refused();
    t.runtime(&["state", &id]).refused();
}

pub fn failing_prestart_hook_fails_create(t: &T) {
    fails_create(t, "prestart");
}

pub fn failing_create_runtime_hook_fails_create(t: &T) {
    fails_create(t, "createRuntime");
}

pub fn failing_create_container_hook_fails_create(t: &T) {
    fails_create(t, "createContainer");
}

pub fn failing_start_container_hook_keeps_the_program_from_starting(t: &T) {
    let hook = json!({ "path": "/inside", "args": ["inside", "exit", "3"] });
    let b = t.bundle().hook("startContainer", hook).inside(&["create /started", "pause"]);
    let c = b.create();
    c.call("start", &[], &[]);
    wait_for("the container is gone or stopped", || {
        let output = t.runtime(&["state", &c.id]);
        (output.code != 0 || output.out.contains("\"stopped\"")).then_some(())
    });
    assert!(!c.bundle.rootfs().join("started").exists());
}

pub fn failing_poststart_hook_stops_the_container(t: &T) {
    let c = t.bundle().hook("poststart", failing(t)).inside(&["pause"]).create();
    let pid = c.pid();
    c.call("start", &[], &[]).refused();
    wait_for("the program ends", || (!lives(pid)).then_some(()));
}

pub fn failing_poststop_hook_is_a_warning_and_the_next_runs(t: &T) {
    let b = t.bundle().hook("poststop", failing(t)).hook("poststop", recorder(t, "poststop"));
    let c = b.start();
    c.stop();
    c.delete();
    assert_eq!(order(t), ["poststop"]);
    t.runtime(&["state", &c.id]).refused();
}

pub fn hooks_before_pivot_run_on_the_host(t: &T) {
    let out = t.dir.join("namespace");
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        let path = script(t, kind, &format!("readlink /proc/self/ns/mnt > {}", out.display()));
        let c = t.bundle().hook(kind, json!({ "path": path })).start();
        c.stop();
        c.delete();
        assert_eq!(read(&out).trim(), namespace("self", "mnt"), "{kind}");
    }
}

pub fn create_container_hook_runs_in_the_containers_mount_namespace(t: &T) {
    let out = t.dir.join("namespace");
    let path = script(t, "hook", &format!("readlink /proc/self/ns/mnt > {}", out.display()));
    let c = t.bundle().hook("createContainer", json!({ "path": path })).create();
    assert_eq!(read(out).trim(), namespace(c.pid(), "mnt"));
}

pub fn start_container_hook_runs_inside_before_the_program(t: &T) {
    let hook = json!({ "path": "/inside", "args": ["inside", "create", "/by-hook"] });
    let b = t.bundle().hook("startContainer", hook).inside(&["stat /by-hook", "pause"]);
    let c = b.create();
    assert!(!c.bundle.rootfs().join("by-hook").exists());
    c.start();
    wait_for("the hook's file", || c.bundle.rootfs().join("by-hook").exists().then_some(()));
}

pub fn hook_sees_the_namespaces_that_it_is_to_set_up(t: &T) {
    // A network hook enters the namespace by the pid of the state.
    let out = t.dir.join("namespace");
    let body = format!(
        "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | head -1); readlink /proc/$pid/ns/net > {}",
        out.display()
    );
    let path = script(t, "hook", &body);
    let c = t.bundle().namespace("network").hook("createRuntime", json!({ "path": path })).create();
    assert_eq!(read(out).trim(), namespace(c.pid(), "net"));
}

pub fn hooks_run_for_run_too(t: &T) {
    all_outside(t).inside(&["exit 0"]).run().ok();
    assert_eq!(order(t), ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]);
}

pub fn error_of_a_hook_names_it(t: &T) {
    let output = t.bundle().hook("createRuntime", failing(t)).refused();
    assert!(output.err.contains("it went wrong") || output.err.contains("failing"), "{}", output.err);
}

pub fn hook_of_an_unknown_kind_does_not_run(t: &T) {
    t.bundle().hook("preFrob", recorder(t, "frob")).create_with(&[]).ok();
    assert!(order(t).is_empty());
}

pub fn every_kind_of_hook_is_known(t: &T) {
    for kind in KINDS {
        let path = if kind == "startContainer" { "/frobnicate-inside" } else { "/frobnicate" };
        let b = t.bundle().hook(kind, json!({ "path": path })).inside(&["exit 0"]);
        let output = b.run();
        let heard = output.code != 0 || output.err.contains("frobnicate");
        assert!(heard, "a missing {kind} hook goes unnoticed");
    }
}

pub fn poststart_hook_may_call_the_runtime(t: &T) {
    // As a hook does that stops a container which it finds wanting.
    let b = t.bundle();
    let call = format!("{} --root {}/state", t.runtime.display(), t.dir.display());
    let body = format!("{call} state {0} > {1}/said && {call} kill {0} KILL", b.id, t.dir.display());
    let c = b.hook("poststart", json!({ "path": script(t, "caller", &body) })).start();
    assert!(read(t.dir.join("said")).contains("running"));
    c.wait_until("stopped");
}

pub fn hook_that_does_not_read_a_large_state_is_killed_at_its_timeout(t: &T) {
    let hook = json!({ "path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1 });
    let b = t.bundle().set("/annotations/big", "x".repeat(200_000)).hook("createRuntime", hook);
    b.refused();
}

pub fn hook_may_leave_a_large_state_unread(t: &T) {
    let hook = json!({ "path": "/bin/true", "timeout": 5 });
    t.bundle().set("/annotations/big", "x".repeat(200_000)).hook("createRuntime", hook).create();
}

pub fn hooks_run_where_files_in_memory_may_not_be_executable(t: &T) {
    // vm.memfd_noexec = 2 of a PID namespace, as a hardened host has it.
    t.needs(&[Need::Path("/proc/sys/vm/memfd_noexec"), Need::Program("unshare")]);
    let b = t.bundle().inside(&["exit 7"]).hook("createRuntime", recorder(t, "first"));
    b.write();
    let line = format!(
        "echo 2 > /proc/sys/vm/memfd_noexec && exec {} --root {}/state run --bundle {} {}",
        t.runtime.display(),
        t.dir.display(),
        b.dir.display(),
        b.id
    );
    let mut command = std::process::Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", &line]);
    let output = t.finish(command);
    assert_eq!(output.code, 7, "{}", output.err);
    assert_eq!(order(t), ["first"]);
}
