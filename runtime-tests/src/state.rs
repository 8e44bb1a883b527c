//! `state`: what it prints in each stage of a container's life.

use crate::harness::T;
use serde_json::json;

pub fn state_has_all_that_the_spec_asks_for(t: &T) {
    let c = t.bundle().create();
    let state = c.state();
    assert_eq!(state["id"], c.id.as_str());
    assert_eq!(state["status"], "created");
    assert_eq!(state["bundle"], c.bundle.dir.to_str().unwrap());
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."));
    assert!(state["pid"].as_i64().unwrap() > 1);
}

pub fn state_has_rootfs_created_and_owner_as_runc_prints_them(t: &T) {
    let c = t.bundle().create();
    let state = c.state();
    assert_eq!(state["rootfs"], c.bundle.rootfs().to_str().unwrap());
    let created = state["created"].as_str().unwrap();
    assert!(created.starts_with("20") && created.contains('T') && created.ends_with('Z'), "{created}");
    assert!(state["owner"].is_string());
}

pub fn state_carries_the_annotations(t: &T) {
    let c = t.bundle().set("/annotations", json!({ "org.example.key": "value" })).create();
    assert_eq!(c.state()["annotations"]["org.example.key"], "value");
}

pub fn state_passes_through_created_running_stopped(t: &T) {
    let c = t.bundle().inside(&["pause"]).create();
    assert_eq!(c.status(), "created");
    c.start();
    assert_eq!(c.status(), "running");
    c.stop();
    assert_eq!(c.status(), "stopped");
}

pub fn state_of_a_paused_container_is_paused(t: &T) {
    let c = t.bundle().start();
    c.call("pause", &[], &[]).ok();
    assert_eq!(c.status(), "paused");
    c.call("resume", &[], &[]).ok();
    assert_eq!(c.status(), "running");
}

pub fn state_of_a_stopped_container_has_pid_0(t: &T) {
    let c = t.bundle().start();
    c.stop();
    assert_eq!(c.state().get("pid").and_then(|p| p.as_i64()), Some(0));
}

pub fn state_of_a_missing_id_says_that_it_does_not_exist(t: &T) {
    t.runtime(&["state", "never-created"]).refused().says("does not exist");
}

pub fn state_prints_nothing_on_stderr(t: &T) {
    let c = t.bundle().create();
    assert_eq!(c.call("state", &[], &[]).ok().err, "");
}

pub fn state_knows_a_program_that_was_killed_by_a_stranger(t: &T) {
    let c = t.bundle().start();
    let pid = nix::unistd::Pid::from_raw(c.pid() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    // A zombie that nobody has reaped yet is stopped as well.
    c.wait_until("stopped");
}
