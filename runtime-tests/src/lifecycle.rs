//! The life of a container: create, start, run, kill, delete, and what each leaves behind.

use crate::harness::{T, wait_for};
use crate::host::{self, lives};
use crate::read;
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;

pub fn create_leaves_the_program_waiting_for_start(t: &T) {
    let c = t.bundle().file("/marker", "").inside(&["create /marker2", "pause"]).create();
    assert_eq!(c.status(), "created");
    assert!(lives(c.pid()));
    assert!(!c.bundle.rootfs().join("marker2").exists(), "the program must not run before start");
    c.start();
    wait_for("the program runs", || c.bundle.rootfs().join("marker2").exists().then_some(()));
    assert_eq!(c.status(), "running");
}

pub fn start_keeps_the_pid_that_create_gave(t: &T) {
    let c = t.bundle().inside(&["pause"]).create();
    let pid = c.pid();
    c.start();
    assert_eq!(c.pid(), pid);
}

pub fn program_that_ends_leaves_a_stopped_container(t: &T) {
    let c = t.bundle().inside(&["exit 0"]).start_as_is();
    c.wait_until("stopped");
    assert_eq!(c.pid(), 0);
}

pub fn deleted_container_does_not_exist_any_more(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.delete();
    c.call("state", &[], &[]).refused();
}

pub fn deleted_id_can_be_used_again(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.delete();
    let mut again = t.bundle();
    again.id = c.id.clone();
    assert_eq!(again.create().status(), "created");
}

pub fn delete_of_a_running_container_is_refused(t: &T) {
    let c = t.bundle().start();
    c.call("delete", &[], &[]).refused();
    assert_eq!(c.status(), "running");
}

pub fn delete_by_force_ends_a_running_container(t: &T) {
    let c = t.bundle().start();
    let pid = c.pid();
    c.delete_by_force().ok();
    wait_for("the program ends", || (!lives(pid)).then_some(()));
    c.call("state", &[], &[]).refused();
}

pub fn created_container_can_be_deleted_without_force(t: &T) {
    let c = t.bundle().create();
    let pid = c.pid();
    c.delete();
    wait_for("the waiting process ends", || (!lives(pid)).then_some(()));
}

pub fn delete_by_force_of_a_missing_id_is_silent_and_succeeds(t: &T) {
    let output = t.runtime(&["delete", "--force", "never-created"]).ok();
    assert_eq!((output.out.as_str(), output.err.as_str()), ("", ""));
}

pub fn delete_of_a_missing_id_fails(t: &T) {
    t.runtime(&["delete", "never-created"]).refused().says("does not exist");
}

pub fn start_of_a_missing_id_fails(t: &T) {
    t.runtime(&["start", "never-created"]).refused().says("does not exist");
}

pub fn start_of_a_running_container_fails(t: &T) {
    let c = t.bundle().start();
    c.call("start", &[], &[]).refused();
    assert_eq!(c.status(), "running");
}

pub fn start_of_a_stopped_container_fails(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.call("start", &[], &[]).refused();
}

pub fn kill_of_a_stopped_container_fails(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.call("kill", &[], &["KILL"]).refused();
}

pub fn kill_of_a_created_container_ends_it(t: &T) {
    let c = t.bundle().create();
    c.kill("KILL");
    c.wait_until("stopped");
}

pub fn second_create_of_an_id_is_refused_and_leaves_the_first(t: &T) {
    let c = t.bundle().start();
    let mut second = t.bundle();
    second.id = c.id.clone();
    let output = second.refused();
    assert!(output.err.contains("exist"), "{}", output.err);
    assert_eq!(c.status(), "running");
}

pub fn run_gives_the_exit_status_of_the_program(t: &T) {
    assert_eq!(t.bundle().inside(&["exit 37"]).run().code, 37);
}

pub fn run_ends_under_a_caller_that_ignores_its_children(t: &T) {
    // Then the kernel keeps no exit status of a child.
    let b = t.bundle().user_namespace().inside(&["exit 7"]);
    b.write();
    let mut command = std::process::Command::new("sh");
    command
        .args(["-c", "trap '' CHLD; exec \"$@\"", "sh"])
        .arg(&t.runtime)
        .arg("--root")
        .arg(t.dir.join("state"));
    command.arg("run").arg("--bundle").arg(&b.dir).arg(&b.id);
    assert_eq!(t.finish(command).code, 7);
}

pub fn run_gives_128_and_the_signal_that_ended_the_program(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    let running = b.begin();
    wait_for("it runs", || (t.runtime(&["state", &b.id]).out.contains("\"running\"")).then_some(()));
    t.runtime(&["kill", &b.id, "KILL"]).ok();
    assert_eq!(running.wait().code, 128 + 9);
}

pub fn run_passes_signals_on_to_the_program(t: &T) {
    let b = t.bundle().inside(&["trap 15 41"]);
    let running = b.begin();
    wait_for("the program is ready", || b.rootfs().join("tmp/ready").exists().then_some(()));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait().code, 41);
}

pub fn run_leaves_no_container_behind(t: &T) {
    let b = t.bundle().inside(&["exit 0"]);
    b.run().ok();
    t.runtime(&["state", &b.id]).refused();
}

pub fn run_does_not_hang_when_the_program_ends_at_once(t: &T) {
    for _ in 0..10 {
        assert_eq!(t.bundle().inside(&["exit 3"]).run().code, 3);
    }
}

pub fn run_detached_leaves_the_container_running(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    t.finish(b.command("run", &["--detach"])).ok();
    let state = t.runtime(&["state", &b.id]).ok().json();
    assert_eq!(state["status"], "running");
}

pub fn run_keep_leaves_the_stopped_container(t: &T) {
    let b = t.bundle().inside(&["exit 0"]);
    t.finish(b.command("run", &["--keep"])).ok();
    assert_eq!(t.runtime(&["state", &b.id]).ok().json()["status"], "stopped");
}

pub fn failed_run_leaves_no_container_behind(t: &T) {
    let b = t.bundle().args(&["/missing"]);
    b.run().refused();
    t.runtime(&["state", &b.id]).refused();
}

pub fn failed_create_leaves_no_state_no_cgroup_and_no_mount(t: &T) {
    let before = host::mount_points();
    let b = t.bundle().set("/process/cwd", "/inside");
    let (id, folder) = (b.id.clone(), t.cgroup_folder(&b.id));
    b.refused();
    t.runtime(&["state", &id]).refused();
    assert_eq!(host::mount_points(), before);
    for dir in host::cgroup_mounts() {
        let group = dir.join(&folder);
        assert!(!group.exists(), "{} is left", group.display());
    }
}

pub fn delete_removes_the_cgroup(t: &T) {
    let c = t.bundle().start();
    let folder = t.cgroup_folder(&c.id);
    let groups: Vec<_> = c.cgroups().all().into_iter().filter(|d| d.ends_with(&folder)).collect();
    assert!(!groups.is_empty(), "the container has a cgroup of its own");
    c.stop();
    c.delete();
    assert!(groups.iter().all(|g| !g.exists()));
}

pub fn life_of_a_container_leaves_the_hosts_mounts_as_they_were(t: &T) {
    let before = host::mount_points();
    let c = t.bundle().start();
    assert_eq!(host::mount_points(), before, "while it runs");
    c.stop();
    c.delete();
    assert_eq!(host::mount_points(), before, "after it");
}

pub fn life_of_a_container_leaves_its_state_directory_empty(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.delete();
    let left: Vec<_> = fs::read_dir(t.dir.join("state")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|n| !n.to_string_lossy().contains(&c.id)), "{left:?}");
}

pub fn config_is_read_once_at_create(t: &T) {
    let c = t.bundle().inside(&["create /tmp/first", "pause"]).create();
    fs::write(c.bundle.dir.join("config.json"), "{ no longer JSON").unwrap();
    c.start();
    wait_for("the program runs", || c.bundle.rootfs().join("tmp/first").exists().then_some(()));
}

pub fn container_is_reparented_to_the_subreaper_of_the_caller(t: &T) {
    let c = t.bundle().start();
    let parent = host::status_of(c.pid(), "PPid").unwrap();
    // The keeper of this test, its parent, is the subreaper.
    assert_eq!(parent, nix::unistd::getppid().to_string());
}

pub fn program_is_the_first_process_of_its_pid_namespace(t: &T) {
    let report = t.bundle().report();
    assert_eq!((&report["pid"], &report["ppid"], &report["sid"]), (&json!(1), &json!(0), &json!(1)));
}

pub fn all_processes_of_a_pid_namespace_end_with_its_first(t: &T) {
    let c = t.bundle().start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let group = c.cgroups().dir("pids").join("cgroup.procs");
    let pids: Vec<i64> = read(group).lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    c.stop();
    wait_for("both end", || pids.iter().all(|p| !lives(*p)).then_some(()));
}

pub fn two_containers_live_side_by_side(t: &T) {
    let (a, b) = (t.bundle().start(), t.bundle().start());
    a.stop();
    assert_eq!(b.status(), "running");
}

pub fn bundle_defaults_to_the_working_directory(t: &T) {
    let b = t.bundle().inside(&["exit 5"]);
    b.write();
    let mut command = t.command();
    command.current_dir(&b.dir).args(["run", &b.id]);
    assert_eq!(t.finish(command).code, 5);
}

pub fn relative_bundle_is_resolved_from_the_working_directory(t: &T) {
    let b = t.bundle().inside(&["exit 5"]);
    b.write();
    let mut command = t.command();
    command.args(["run", "--bundle", b.dir.file_name().unwrap().to_str().unwrap(), &b.id]);
    assert_eq!(t.finish(command).code, 5);
}

pub fn state_survives_a_change_of_the_callers_directory(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    b.write();
    let mut command = t.command();
    command.args(["create", "--bundle", b.dir.file_name().unwrap().to_str().unwrap(), &b.id]);
    t.finish(command).ok();
    let mut command = t.command();
    command.current_dir("/").args(["start", &b.id]);
    t.finish(command).ok();
    let state = t.runtime(&["state", &b.id]).ok().json();
    assert_eq!(state["bundle"], b.dir.to_str().unwrap());
}

pub fn run_gives_128_and_the_number_of_a_real_time_signal(t: &T) {
    // Outside of a PID namespace of its own: the first process of one would not die of it.
    let b = t.bundle().without_namespace("pid").inside(&["raise 37", "sleep 10000"]);
    assert_eq!(b.run().code, 128 + 37);
}

pub fn container_whose_create_was_killed_is_stopped_and_can_be_deleted(t: &T) {
    let reached = t.dir.join("reached");
    let script = format!("> {}; exec sleep 1000", reached.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let b = t.bundle().hook("createRuntime", hook);
    let running = t.begin(b.command("create", &[]));
    wait_for("the hook", || reached.exists().then_some(()));
    running.signal(Signal::SIGKILL);
    running.wait();
    wait_for("it is stopped", || t.runtime(&["state", &b.id]).out.contains("\"stopped\"").then_some(()));
    t.runtime(&["delete", &b.id]).ok();
    t.runtime(&["state", &b.id]).refused();
}
