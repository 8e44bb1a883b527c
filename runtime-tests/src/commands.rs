//! The command line: options and where they stand, exit codes, phrases that others match, `spec`, `list`, `ps`.

use crate::harness::{T, wait_for_json};
use crate::host::Need;
use crate::read;
use serde_json::{Value, json};
use std::fs;

pub fn version_names_runtime_commit_and_spec(t: &T) {
    let mut command = t.bare();
    command.arg("--version");
    let out = t.finish(command).ok().out;
    let first = out.lines().next().unwrap_or_default();
    assert!(first.starts_with(&format!("{} version ", t.kind())), "{out}");
    for key in ["commit: ", "spec: "] {
        assert!(out.lines().any(|l| l.starts_with(key)), "{key} is missing: {out}");
    }
}

pub fn short_v_is_version(t: &T) {
    let mut command = t.bare();
    command.arg("-v");
    assert!(t.finish(command).ok().out.contains(" version "));
}

pub fn help_lists_the_commands_and_succeeds(t: &T) {
    let mut command = t.bare();
    command.arg("--help");
    let out = t.finish(command).ok().out;
    for verb in ["create", "start", "run", "state", "kill", "delete", "exec", "list", "update", "spec"] {
        assert!(out.contains(verb), "{verb} is missing: {out}");
    }
}

pub fn unknown_command_fails(t: &T) {
    let output = t.runtime(&["frobnicate"]);
    assert_ne!(output.code, 0);
}

pub fn unknown_option_fails(t: &T) {
    let output = t.runtime(&["state", "--frobnicate", "x"]);
    assert_ne!(output.code, 0);
}

pub fn missing_id_fails(t: &T) {
    for verb in ["state", "start", "kill", "delete", "create"] {
        assert_ne!(t.runtime(&[verb]).code, 0, "{verb}");
    }
}

pub fn error_of_a_command_is_exit_status_1(t: &T) {
    for verb in ["state", "start", "delete"] {
        assert_eq!(t.runtime(&[verb, "never-created"]).code, 1, "{verb}");
    }
}

pub fn options_may_come_after_the_id(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    b.write();
    t.runtime(&["create", &b.id, "--bundle", b.dir.to_str().unwrap()]).ok();
    t.runtime(&["delete", &b.id, "--force"]).ok();
}

pub fn short_bundle_option_works(t: &T) {
    let b = t.bundle().inside(&["exit 9"]);
    b.write();
    assert_eq!(t.runtime(&["run", "-b", b.dir.to_str().unwrap(), &b.id]).code, 9);
}

pub fn value_of_an_option_may_follow_an_equals_sign(t: &T) {
    let b = t.bundle().inside(&["exit 9"]);
    b.write();
    assert_eq!(t.runtime(&["run", &format!("--bundle={}", b.dir.display()), &b.id]).code, 9);
}

pub fn kill_without_a_signal_sends_term(t: &T) {
    let c = t.bundle().inside(&["trap 15 0"]).start_as_is();
    crate::harness::wait_for("ready", || c.output().contains("ready").then_some(()));
    c.call("kill", &[], &[]).ok();
    c.wait_until("stopped");
}

pub fn kill_takes_names_with_and_without_sig_and_numbers(t: &T) {
    for signal in ["USR1", "SIGUSR1", "10"] {
        let c = t.bundle().inside(&["trap 10 0"]).start_as_is();
        crate::harness::wait_for("ready", || c.output().contains("ready").then_some(()));
        c.kill(signal);
        c.wait_until("stopped");
    }
}

pub fn kill_takes_real_time_signals_by_number(t: &T) {
    let c = t.bundle().inside(&["trap 37 0"]).start_as_is();
    crate::harness::wait_for("ready", || c.output().contains("ready").then_some(()));
    c.kill("37");
    c.wait_until("stopped");
}

pub fn kill_takes_real_time_signals_by_name(t: &T) {
    let c = t.bundle().inside(&["trap 37 0"]).start_as_is();
    crate::harness::wait_for("ready", || c.output().contains("ready").then_some(()));
    c.kill("SIGRTMIN+3");
    c.wait_until("stopped");
}

pub fn kill_of_an_unknown_signal_fails(t: &T) {
    let c = t.bundle().start();
    for signal in ["FROB", "0x9", "-9", "1000"] {
        assert_ne!(c.call("kill", &["--"], &[signal]).code, 0, "{signal}");
    }
    assert_eq!(c.status(), "running");
}

pub fn kill_of_a_stopped_container_says_not_running(t: &T) {
    let c = t.bundle().start();
    c.stop();
    c.call("kill", &[], &["KILL"]).refused().says("container not running");
}

pub fn list_shows_each_container(t: &T) {
    let (a, b) = (t.bundle().start(), t.bundle().create());
    let out = t.runtime(&["list"]).ok().out;
    let line = |id: &str| out.lines().find(|l| l.contains(id)).unwrap_or_default().to_string();
    assert!(line(&a.id).contains("running"), "{out}");
    assert!(line(&b.id).contains("created"), "{out}");
}

pub fn list_quiet_prints_ids_only(t: &T) {
    let c = t.bundle().create();
    assert_eq!(t.runtime(&["list", "-q"]).ok().out.trim(), c.id);
    assert_eq!(t.runtime(&["list", "--quiet"]).ok().out.trim(), c.id);
}

pub fn list_as_json_is_an_array_with_the_facts_of_each(t: &T) {
    let c = t.bundle().start();
    for option in ["--format=json", "-fjson"] {
        let list = t.runtime(&["list", option]).ok().json();
        assert_eq!(list[0]["id"], c.id.as_str());
        assert_eq!(list[0]["status"], "running");
        assert_eq!(list[0]["pid"], c.pid());
        assert_eq!(list[0]["bundle"], c.bundle.dir.to_str().unwrap());
    }
}

pub fn list_as_json_without_containers_is_an_empty_array(t: &T) {
    assert_eq!(t.runtime(&["list", "--format", "json"]).ok().json(), json!([]));
}

pub fn list_of_an_unknown_format_fails(t: &T) {
    t.runtime(&["list", "--format", "frob"]).refused();
}

pub fn ps_as_json_is_an_array_of_host_pids(t: &T) {
    let c = t.bundle().start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let pids = c.call("ps", &["--format", "json"], &[]).ok().json();
    let pids: Vec<i64> = pids.as_array().unwrap().iter().map(|p| p.as_i64().unwrap()).collect();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&c.pid()));
}

pub fn ps_as_a_table_shows_the_program(t: &T) {
    // needs: ps(1), which runtimes call for the table
    t.needs(&[Need::Program("ps")]);
    let c = t.bundle().start();
    let out = c.call("ps", &[], &[]).ok().out;
    assert!(out.lines().next().unwrap().contains("PID"), "{out}");
    assert!(out.contains("/inside pause"), "{out}");
}

pub fn ps_of_a_missing_id_fails(t: &T) {
    t.runtime(&["ps", "never-created"]).refused().says("does not exist");
}

pub fn spec_writes_a_config_that_runs(t: &T) {
    let b = t.bundle();
    let mut command = t.command();
    command.current_dir(&b.dir).arg("spec");
    t.finish(command).ok();
    let mut config: Value = serde_json::from_str(&read(b.dir.join("config.json"))).unwrap();
    assert!(config["ociVersion"].as_str().unwrap().starts_with("1."));
    for member in ["process", "root", "mounts", "linux", "hostname"] {
        assert!(!config[member].is_null(), "{member}");
    }
    config["process"]["args"] = json!(["/inside", "exit", "7"]);
    config["process"]["terminal"] = json!(false);
    config["linux"]["cgroupsPath"] = json!(t.cgroups_path(&b.id));
    fs::write(b.dir.join("config.json"), config.to_string()).unwrap();
    assert_eq!(t.runtime(&["run", "--bundle", b.dir.to_str().unwrap(), &b.id]).code, 7);
}

pub fn spec_writes_into_the_bundle_that_it_is_told(t: &T) {
    let dir = t.dir.join("elsewhere");
    fs::create_dir(&dir).unwrap();
    t.runtime(&["spec", "--bundle", dir.to_str().unwrap()]).ok();
    assert!(dir.join("config.json").is_file());
}

pub fn spec_does_not_overwrite_a_config(t: &T) {
    let dir = t.dir.join("elsewhere");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("config.json"), "precious").unwrap();
    t.runtime(&["spec", "--bundle", dir.to_str().unwrap()]).refused();
    assert_eq!(read(dir.join("config.json")), "precious");
}

pub fn rootless_spec_has_a_user_namespace_with_mappings(t: &T) {
    let dir = t.dir.join("elsewhere");
    fs::create_dir(&dir).unwrap();
    t.runtime(&["spec", "--rootless", "--bundle", dir.to_str().unwrap()]).ok();
    let config: Value = serde_json::from_str(&read(dir.join("config.json"))).unwrap();
    let kinds: Vec<&str> =
        config["linux"]["namespaces"].as_array().unwrap().iter().filter_map(|n| n["type"].as_str()).collect();
    assert!(kinds.contains(&"user") && !kinds.contains(&"network"), "{kinds:?}");
    assert_eq!(config["linux"]["uidMappings"][0]["containerID"], 0);
    assert_eq!(config["linux"]["gidMappings"][0]["size"], 1);
}

pub fn update_of_a_missing_id_fails(t: &T) {
    t.runtime(&["update", "--pids-limit", "5", "never-created"]).refused();
}

pub fn pause_of_a_missing_id_fails(t: &T) {
    t.runtime(&["pause", "never-created"]).refused().says("does not exist");
}

pub fn resume_of_a_running_container_fails(t: &T) {
    let c = t.bundle().start();
    c.call("resume", &[], &[]).refused();
    assert_eq!(c.status(), "running");
}

pub fn debug_option_does_not_disturb_the_output(t: &T) {
    let c = t.bundle().create();
    let mut command = t.command();
    command.args(["--debug", "state", &c.id]);
    assert_eq!(t.finish(command).ok().json()["id"], c.id.as_str());
}

pub fn global_options_come_before_the_command(t: &T) {
    let b = t.bundle().inside(&["exit 4"]);
    b.write();
    let log = t.dir.join("log");
    let mut command = t.command();
    command.args(["--log", log.to_str().unwrap(), "--log-format", "text", "--debug"]);
    command.args(["run", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    assert_eq!(t.finish(command).code, 4);
}

pub fn unknown_log_format_fails(t: &T) {
    let mut command = t.command();
    command.args(["--log", "/dev/null", "--log-format", "frob", "list"]);
    t.finish(command).refused();
}

pub fn no_pivot_runs_the_program_too(t: &T) {
    let b = t.bundle().inside(&["list /"]);
    let output = t.finish(b.command("run", &["--no-pivot"])).ok();
    assert!(output.probes()[0]["names"].as_array().unwrap().contains(&json!("inside")));
}

pub fn preserved_descriptors_reach_the_program(t: &T) {
    let b = t.bundle().inside(&["report"]);
    let mut command = b.command("run", &["--preserve-fds", "1"]);
    let file = fs::File::open("/proc/self/status").unwrap();
    let file = std::os::fd::OwnedFd::from(file);
    crate::harness::before_exec(&mut command, move || {
        use std::os::fd::AsRawFd;
        // SAFETY: descriptor 3 of the child is ours to replace.
        unsafe { libc::dup2(file.as_raw_fd(), 3) };
        Ok(())
    });
    let report = t.finish(command).ok().probes().remove(0);
    assert!(report["fds"]["3"].as_str().unwrap_or_default().ends_with("/status"), "{}", report["fds"]);
    assert!(report["fds"].get("4").is_none());
}

pub fn preserved_descriptors_that_are_not_open_are_refused(t: &T) {
    // Their numbers would stand for files of the runtime itself.
    let b = t.bundle();
    t.finish(b.command("create", &["--preserve-fds", "10"])).refused();
    t.runtime(&["state", &b.id]).refused();
}

pub fn container_that_preserves_descriptors_starts_like_any_other(t: &T) {
    let b = t.bundle().inside(&["report"]);
    let mut command = b.command("create", &["--preserve-fds", "2"]);
    let file = std::os::fd::OwnedFd::from(fs::File::open("/proc/self/status").unwrap());
    crate::harness::before_exec(&mut command, move || {
        use std::os::fd::AsRawFd;
        // SAFETY: descriptors 3 and 4 of the child are ours to replace; 3 may be the file itself.
        unsafe {
            let copy = libc::dup(file.as_raw_fd());
            libc::dup2(copy, 4);
            libc::dup2(copy, 3);
            libc::fcntl(3, libc::F_SETFD, 0);
            libc::fcntl(4, libc::F_SETFD, 0);
        }
        Ok(())
    });
    let running = t.begin(command);
    let out = running.out.clone();
    running.wait().ok();
    t.runtime(&["start", &b.id]).ok();
    let report = wait_for_json(|| read(&out));
    assert_eq!(report[0]["fds"].as_object().unwrap().keys().collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
}

pub fn output_to_a_full_disk_is_an_error_and_no_crash(t: &T) {
    let _c = t.bundle().create();
    for command in ["list", "features", "--version", "--help"] {
        let mut command_line = t.command();
        command_line.arg(command).stderr(std::process::Stdio::null());
        command_line.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
        let status = command_line.status().unwrap();
        assert_eq!(status.code(), Some(1), "{command}: {status}");
    }
}

pub fn rootless_option_takes_its_value_in_both_ways(t: &T) {
    for option in [&["--rootless=auto"][..], &["--rootless", "auto"], &["--rootless=false"]] {
        let mut command = t.command();
        command.args(option).args(["list", "-q"]);
        assert_eq!(t.finish(command).ok().out, "", "{option:?}");
    }
}

pub fn checkpoint_and_restore_are_refused_in_one_line(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let c = t.bundle().start();
    c.call("checkpoint", &["--image-path", "/tmp/x", "--leave-running"], &[]).refused().says("not supported");
    let mut command = c.bundle.command("restore", &["--detach", "-no-subreaper", "--image-path", "/tmp/x"]);
    command.args(["--work-path", "/tmp/y"]);
    t.finish(command).refused().says("not supported");
    assert_eq!(c.status(), "running");
}

pub fn resources_and_options_of_update_do_not_go_together(t: &T) {
    let c = t.bundle().start();
    let file = t.dir.join("resources.json");
    fs::write(&file, "{}").unwrap();
    c.call("update", &["--resources", file.to_str().unwrap(), "--pids-limit", "7"], &[]).refused();
}
