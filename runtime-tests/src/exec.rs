//! `exec`: another process in a running container.

use crate::bundle::errno;
use crate::harness::{T, wait_for};
use crate::host::{Need, lives};
use crate::read;
use serde_json::json;
use std::fs;
use std::path::PathBuf;

pub fn exec_gives_the_exit_status_of_its_program(t: &T) {
    let c = t.bundle().start();
    assert_eq!(c.call("exec", &[], &["/inside", "exit", "29"]).code, 29);
}

pub fn exec_gives_128_and_the_signal(t: &T) {
    let c = t.bundle().start();
    assert_eq!(c.call("exec", &[], &["/inside", "raise", "9"]).code, 128 + 9);
}

pub fn exec_that_fails_is_255(t: &T) {
    let c = t.bundle().start();
    let output = c.call("exec", &[], &["/frobnicate"]);
    assert_eq!(output.code, 255);
    output.says("no such file or directory");
}

pub fn exec_in_a_missing_container_is_255(t: &T) {
    let output = t.runtime(&["exec", "never-created", "/inside"]);
    assert_eq!(output.code, 255);
    output.says("does not exist");
}

pub fn exec_in_a_stopped_container_fails(t: &T) {
    let c = t.bundle().start();
    c.stop();
    let output = c.call("exec", &[], &["/inside", "exit", "0"]).refused();
    assert_eq!(output.code, 255);
}

pub fn exec_in_a_created_container_works(t: &T) {
    let c = t.bundle().create();
    assert_eq!(c.call("exec", &[], &["/inside", "exit", "12"]).code, 12);
}

pub fn exec_has_the_user_directory_and_environment_of_the_config(t: &T) {
    let b = t.bundle().set("/process/user", json!({ "uid": 5, "gid": 6, "additionalGids": [7] }));
    let c = b.set("/process/cwd", "/tmp").set("/process/env", json!(["A=1", "PATH=/"])).start();
    let report = c.exec(&[], &["report"]).remove(0);
    assert_eq!((&report["uids"][0], &report["gids"][0]), (&json!(5), &json!(6)));
    assert_eq!(report["groups"], json!([7]));
    assert_eq!(report["cwd"], "/tmp");
    assert!(report["env"].as_array().unwrap().contains(&json!("A=1")));
}

pub fn exec_options_set_user_directory_and_environment(t: &T) {
    let c = t.bundle().start();
    let options = [
        "--user",
        "11:12",
        "--cwd",
        "/tmp",
        "--env",
        "B=2",
        "--env",
        "C=3",
        "--additional-gids",
        "13",
        "--additional-gids",
        "14",
    ];
    let report = c.exec(&options, &["report"]).remove(0);
    assert_eq!((&report["uids"][0], &report["gids"][0]), (&json!(11), &json!(12)));
    assert_eq!(report["groups"], json!([13, 14]));
    assert_eq!(report["cwd"], "/tmp");
    for variable in ["B=2", "C=3"] {
        assert!(report["env"].as_array().unwrap().contains(&json!(variable)), "{variable}");
    }
}

pub fn exec_takes_a_process_file(t: &T) {
    let c = t.bundle().start();
    let output = c.exec_process(
        |p| {
            p["user"] = json!({ "uid": 21, "gid": 22, "umask": 0o077 });
            p["cwd"] = json!("/tmp");
            p["env"] = json!(["ONLY=this"]);
            p["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 100 }]);
        },
        &["report"],
    );
    let report = output.ok().probes().remove(0);
    assert_eq!(
        (&report["uids"][0], &report["umask"], &report["cwd"]),
        (&json!(21), &json!(0o077), &json!("/tmp"))
    );
    assert!(report["env"].as_array().unwrap().contains(&json!("ONLY=this")));
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!([100, 100]));
}

pub fn exec_detached_writes_the_pid_file_and_returns(t: &T) {
    let c = t.bundle().start();
    let file = t.dir.join("pid");
    c.call("exec", &["--detach", "--pid-file", file.to_str().unwrap()], &["/inside", "pause"]).ok();
    let pid: i64 = read(file).parse().unwrap();
    assert!(lives(pid));
    assert_eq!(crate::host::namespace(pid, "pid"), crate::host::namespace(c.pid(), "pid"));
}

pub fn failed_exec_writes_no_pid_file(t: &T) {
    let c = t.bundle().start();
    let file = t.dir.join("pid");
    c.call("exec", &["--detach", "--pid-file", file.to_str().unwrap()], &["/frobnicate"]).refused();
    assert!(!file.exists());
}

pub fn exec_is_in_the_cgroup_of_the_container(t: &T) {
    let c = t.bundle().start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    let procs = c.cgroups().dir("pids").join("cgroup.procs");
    assert_eq!(read(procs).lines().count(), 2);
}

pub fn exec_has_no_new_privileges_by_option_and_by_config(t: &T) {
    let c = t.bundle().start();
    assert_eq!(c.exec(&["--no-new-privs"], &["report"])[0]["no_new_privs"], 1);
    assert_eq!(c.exec(&[], &["report"])[0]["no_new_privs"], 0);
    let c = t.bundle().set("/process/noNewPrivileges", true).start();
    assert_eq!(c.exec(&[], &["report"])[0]["no_new_privs"], 1);
}

pub fn exec_has_the_rlimits_and_the_oom_score_of_the_config(t: &T) {
    let ours: i32 = read("/proc/self/oom_score_adj").trim().parse().unwrap();
    let limit = json!([{ "type": "RLIMIT_NOFILE", "soft": 111, "hard": 222 }]);
    let c = t.bundle().set("/process/rlimits", limit).set("/process/oomScoreAdj", ours.max(0) + 100).start();
    let report = c.exec(&[], &["report"]).remove(0);
    assert_eq!(report["rlimits"]["RLIMIT_NOFILE"], json!([111, 222]));
    assert_eq!(report["oom_score_adj"], ours.max(0) + 100);
}

pub fn exec_sees_the_mounts_of_the_container(t: &T) {
    let c = t.bundle().mount("/m", "tmpfs", "tmpfs", &[]).inside(&["create /m/made", "pause"]).start_as_is();
    wait_for("the file", || {
        let root = format!("/proc/{}/root/m/made", c.pid());
        fs::exists(root).is_ok_and(|e| e).then_some(())
    });
    assert_eq!(errno(&c.exec(&[], &["stat /m/made"])[0]), 0);
}

pub fn exec_has_no_descriptor_but_its_three(t: &T) {
    let c = t.bundle().start();
    let report = c.exec(&[], &["report"]).remove(0);
    assert_eq!(
        report["fds"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["0", "1", "2"],
        "{}",
        report["fds"]
    );
}

pub fn exec_leads_its_own_session(t: &T) {
    let c = t.bundle().start();
    let report = c.exec(&[], &["report"]).remove(0);
    assert_eq!(report["sid"], report["pid"]);
}

pub fn exec_in_a_user_namespace_has_its_ids(t: &T) {
    t.needs(&[crate::host::Need::UserNamespaces]);
    let c = t.bundle().user_namespace().start();
    let report = c.exec(&["--user", "3:4"], &["report"]).remove(0);
    assert_eq!((&report["uids"][0], &report["gids"][0]), (&json!(3), &json!(4)));
    assert_eq!(report["uid_map"].as_str().unwrap().split_whitespace().nth(1), Some("100000"));
}

pub fn exec_without_a_command_fails(t: &T) {
    let c = t.bundle().start();
    c.call("exec", &[], &[]).refused();
}

pub fn exec_passes_stdin_on(t: &T) {
    let c = t.bundle().start();
    let file = t.dir.join("input");
    fs::write(&file, "through the exec").unwrap();
    let mut command = t.command();
    command.args(["exec", &c.id, "/inside", "copy"]).stdin(fs::File::open(file).unwrap());
    assert!(t.finish(command).ok().out.starts_with("through the exec"));
}

pub fn exec_survives_the_end_of_another(t: &T) {
    let c = t.bundle().start();
    c.call("exec", &["--detach"], &["/inside", "pause"]).ok();
    assert_eq!(c.call("exec", &[], &["/inside", "exit", "0"]).code, 0);
    assert_eq!(c.status(), "running");
}

pub fn exec_keeps_options_of_its_command_to_itself(t: &T) {
    let c = t.bundle().start();
    let output = c.call("exec", &[], &["/inside", "print", "--user", "-d"]).ok();
    assert!(output.out.starts_with("--user -d"), "{}", output.out);
}

pub fn exec_preserves_descriptors(t: &T) {
    let c = t.bundle().start();
    let mut command = t.command();
    command.args(["exec", "--preserve-fds", "1", &c.id, "/inside", "report"]);
    let file = std::os::fd::OwnedFd::from(fs::File::open("/proc/self/status").unwrap());
    crate::harness::before_exec(&mut command, move || {
        use std::os::fd::AsRawFd;
        // SAFETY: descriptor 3 of the child is ours to replace.
        unsafe { libc::dup2(file.as_raw_fd(), 3) };
        Ok(())
    });
    let report = t.finish(command).ok().probes().remove(0);
    assert!(report["fds"].get("3").is_some() && report["fds"].get("4").is_none(), "{}", report["fds"]);
}

pub fn exec_gives_128_and_the_number_of_a_real_time_signal(t: &T) {
    let c = t.bundle().start();
    let output = c.call("exec", &[], &["/inside", "raise", "37", "--", "sleep", "10000"]);
    assert_eq!(output.code, 128 + 37);
}

pub fn exec_does_not_rewrite_arguments_of_its_command(t: &T) {
    let c = t.bundle().start();
    let output = c.call("exec", &[], &["/inside", "print", "-no-subreaper", "--rootless", "auto"]).ok();
    assert!(output.out.starts_with("-no-subreaper --rootless auto"), "{}", output.out);
}

pub fn exec_whose_pid_file_cannot_be_written_leaves_no_program(t: &T) {
    let c = t.bundle().start();
    let output = c.call("exec", &["--detach", "--pid-file", "/frobnicate/pid"], &["/inside", "pause"]);
    assert_eq!(output.refused().code, 255);
    let procs = c.cgroups().dir("pids").join("cgroup.procs");
    wait_for("only the first process is left", || (read(&procs).lines().count() == 1).then_some(()));
}

pub fn exec_is_refused_where_the_containers_cgroup_is_gone(t: &T) {
    // Its program would run beside the container's limits.
    t.needs(&[Need::CgroupV2, Need::Cgroupfs]);
    let c = t.bundle().start();
    let own = c.cgroups().dir("pids");
    let elsewhere = PathBuf::from("/sys/fs/cgroup").join(t.cgroups_path("elsewhere").trim_start_matches('/'));
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("cgroup.procs"), c.pid().to_string()).unwrap();
    wait_for("the cgroup is removed", || fs::remove_dir(&own).ok());
    c.call("exec", &[], &["/inside", "report"]).refused();
}

pub fn exec_takes_the_scheduling_of_the_container_or_its_own(t: &T) {
    let b = t.bundle().set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 }));
    let c = b.set("/process/ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 })).start();
    let found = c.exec(&[], &["schedule"]).remove(0);
    assert_eq!((&found["policy"], &found["nice"]), (&json!(libc::SCHED_BATCH), &json!(5)));
    assert_eq!(found["io"], 2 << 13 | 6);
    let own = |process: &mut serde_json::Value| process["scheduler"] = json!({ "policy": "SCHED_IDLE" });
    let found = c.exec_process(own, &["schedule"]).ok().probes().remove(0);
    assert_eq!(found["policy"], libc::SCHED_IDLE);
}

pub fn exec_runs_on_the_cpus_of_its_affinity(t: &T) {
    let all = crate::host::status_of(std::process::id().into(), "Cpus_allowed_list").unwrap();
    let last = all.rsplit([',', '-']).next().unwrap().to_string();
    // It is for those that come later: the container's own program runs where it likes.
    let affinity = json!({ "initial": last, "final": last });
    let b = t.bundle().set("/process/execCPUAffinity", affinity.clone());
    assert_eq!(b.probe(&["schedule"])[0]["cpus"], all);
    let c = t.bundle().set("/process/execCPUAffinity", affinity).start();
    assert_eq!(c.exec(&[], &["schedule"])[0]["cpus"], last);
    for part in ["initial", "final"] {
        let none = |process: &mut serde_json::Value| process["execCPUAffinity"] = json!({ part: "1000" });
        assert_ne!(c.exec_process(none, &["schedule"]).code, 0, "{part}");
        // An empty list is as good as none.
        let empty = |process: &mut serde_json::Value| process["execCPUAffinity"] = json!({ part: "" });
        c.exec_process(empty, &["schedule"]).ok();
    }
}
