//! `/process`: arguments, environment, directory, user, limits, and what else the program is born with.

use crate::harness::{T, before_exec};
use crate::host::{self, Need};
use crate::read;
use nix::unistd::{Gid, setgroups};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

pub fn program_gets_exactly_its_arguments(t: &T) {
    let args = ["/inside", "report", "with space", "", "ünïcode", "$HOME", "--"];
    let output = t.bundle().args(&args).run().ok();
    assert_eq!(output.probes()[0]["args"], json!(args));
}

pub fn program_is_found_on_the_path_of_its_environment(t: &T) {
    let b = t.bundle().set("/process/env", json!(["PATH=/nowhere:/tools"])).folder("/tools");
    fs::rename(b.rootfs().join("inside"), b.rootfs().join("tools/inside")).unwrap();
    assert_eq!(b.args(&["inside", "exit", "6"]).run().code, 6);
}

pub fn program_that_is_not_on_the_path_is_named(t: &T) {
    t.bundle().args(&["frobnicate"]).run().refused().says("executable file not found in $PATH");
}

pub fn missing_absolute_program_is_no_such_file(t: &T) {
    t.bundle().args(&["/frobnicate"]).run().refused().says("no such file or directory");
}

pub fn program_that_is_not_executable_is_permission_denied(t: &T) {
    t.bundle().file("/text", "text").args(&["/text"]).run().refused().says("permission denied");
}

pub fn program_that_is_a_directory_is_permission_denied(t: &T) {
    // Docker before 23 makes 126 of this phrase only.
    t.bundle().args(&["/tmp"]).run().refused().says("permission denied");
}

pub fn relative_program_is_resolved_from_the_working_directory(t: &T) {
    let b = t.bundle().set("/process/cwd", "/bin");
    assert_eq!(b.args(&["../inside", "exit", "6"]).run().code, 6);
}

pub fn empty_args_are_refused(t: &T) {
    t.bundle().set("/process/args", json!([])).refused();
}

pub fn program_gets_exactly_its_environment(t: &T) {
    let env = ["PATH=/", "HOME=/root", "EMPTY=", "WITH=an=equals sign", "ünïcode=yes"];
    let report = t.bundle().set("/process/env", json!(env)).report();
    assert_eq!(report["env"], json!(env));
}

pub fn environment_of_the_caller_stays_outside(t: &T) {
    let b = t.bundle().inside(&["report"]);
    let mut command = b.command("run", &[]);
    command.env("SECRET_OF_THE_CALLER", "1");
    let report = t.finish(command).ok().probes().remove(0);
    assert!(!report["env"].to_string().contains("SECRET_OF_THE_CALLER"));
}

pub fn home_is_set_from_the_user_when_it_is_missing(t: &T) {
    let b = t.bundle().file("/etc/passwd", "root:x:0:0:root:/the/home:/bin/sh\n");
    let report = b.report();
    let home: Vec<_> = report["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|v| v.as_str().unwrap().starts_with("HOME="))
        .collect();
    assert_eq!(home, ["HOME=/the/home"]);
}

pub fn working_directory_is_what_the_config_says(t: &T) {
    assert_eq!(t.bundle().folder("/a/b").set("/process/cwd", "/a/b").report()["cwd"], "/a/b");
}

pub fn missing_working_directory_is_made(t: &T) {
    assert_eq!(t.bundle().set("/process/cwd", "/made/here").report()["cwd"], "/made/here");
}

pub fn relative_working_directory_is_refused(t: &T) {
    t.bundle().set("/process/cwd", "tmp").refused();
}

pub fn working_directory_that_is_a_file_is_refused(t: &T) {
    t.bundle().file("/text", "").set("/process/cwd", "/text").refused();
}

pub fn working_directory_that_only_the_user_may_enter_is_entered(t: &T) {
    let b = t.bundle().folder("/own").set("/process/cwd", "/own").set("/process/user/uid", 1000);
    let own = b.rootfs().join("own");
    std::os::unix::fs::chown(&own, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(b.report()["cwd"], "/own");
}

pub fn user_and_group_are_set_for_good(t: &T) {
    let report = t.bundle().set("/process/user", json!({ "uid": 1234, "gid": 4321 })).report();
    assert_eq!((&report["uids"], &report["gids"]), (&json!([1234, 1234, 1234]), &json!([4321, 4321, 4321])));
}

pub fn additional_groups_are_exactly_those_of_the_config(t: &T) {
    let user = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5, 10, 4_000_000_000u32] });
    let report = t.bundle().set("/process/user", user).report();
    assert_eq!(report["groups"], json!([5, 10, 4_000_000_000u32]));
}

pub fn groups_of_the_caller_are_dropped(t: &T) {
    let b = t.bundle().inside(&["report"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, || Ok(setgroups(&[77, 78].map(Gid::from_raw))?));
    let groups = t.finish(command).ok().probes()[0]["groups"].clone();
    assert!(groups.as_array().unwrap().iter().all(|g| g == 0), "{groups}");
}

pub fn greatest_uid_and_gid_are_possible(t: &T) {
    let report =
        t.bundle().set("/process/user", json!({ "uid": 4_294_967_294u32, "gid": 4_294_967_294u32 })).report();
    assert_eq!(report["uids"][1], 4_294_967_294u32);
}

pub fn umask_is_what_the_config_says(t: &T) {
    assert_eq!(t.bundle().set("/process/user/umask", 0o027).report()["umask"], 0o027);
    assert_eq!(t.bundle().set("/process/user/umask", 0).report()["umask"], 0);
}

pub fn umask_defaults_to_022(t: &T) {
    let b = t.bundle().inside(&["report"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, || {
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
        Ok(())
    });
    assert_eq!(t.finish(command).ok().probes()[0]["umask"], 0o022);
}

pub fn umask_of_the_config_does_not_change_what_the_runtime_makes(t: &T) {
    let b = t
        .bundle()
        .set("/process/user/umask", 0o077)
        .set("/process/cwd", "/made")
        .inside(&["stat /made", "stat /dev/null"]);
    let probes = b.run().ok().probes();
    assert_eq!((&probes[0]["mode"], &probes[1]["mode"]), (&json!(0o755), &json!(0o666)));
}

pub fn every_rlimit_is_set(t: &T) {
    let limits = [
        ("RLIMIT_CPU", 1000u64, 2000u64),
        ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        ("RLIMIT_DATA", 1 << 30, 1 << 31),
        ("RLIMIT_STACK", 1 << 22, 1 << 23),
        ("RLIMIT_CORE", 0, 0),
        ("RLIMIT_RSS", 1 << 30, 1 << 31),
        ("RLIMIT_NPROC", 500, 600),
        ("RLIMIT_NOFILE", 256, 512),
        ("RLIMIT_MEMLOCK", 4096, 8192),
        ("RLIMIT_AS", 1 << 33, 1 << 34),
        ("RLIMIT_LOCKS", 10, 20),
        ("RLIMIT_SIGPENDING", 100, 200),
        ("RLIMIT_MSGQUEUE", 1000, 2000),
        ("RLIMIT_NICE", 0, 0),
        ("RLIMIT_RTPRIO", 0, 0),
        ("RLIMIT_RTTIME", 100_000, 200_000),
    ];
    let list: Vec<Value> =
        limits.iter().map(|(name, soft, hard)| json!({ "type": name, "soft": soft, "hard": hard })).collect();
    let report = t.bundle().set("/process/rlimits", json!(list)).report();
    for (name, soft, hard) in limits {
        assert_eq!(report["rlimits"][name], json!([soft, hard]), "{name}");
    }
}

pub fn unlimited_rlimit_is_the_greatest_number(t: &T) {
    let b = t
        .bundle()
        .set("/process/rlimits", json!([{ "type": "RLIMIT_CPU", "soft": u64::MAX, "hard": u64::MAX }]));
    assert_eq!(b.report()["rlimits"]["RLIMIT_CPU"], json!([u64::MAX, u64::MAX]));
}

pub fn rlimit_given_twice_is_refused(t: &T) {
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 });
    t.bundle().set("/process/rlimits", json!([limit, limit])).refused();
}

pub fn scheduler_and_nice_value_are_set(t: &T) {
    let b = t.bundle().set("/process/scheduler", json!({ "policy": "SCHED_BATCH", "nice": 5 }));
    let found = b.probe(&["schedule"]).remove(0);
    assert_eq!((&found["policy"], &found["nice"]), (&json!(libc::SCHED_BATCH), &json!(5)));
}

pub fn flags_of_a_scheduler_are_set(t: &T) {
    let scheduler = json!({ "policy": "SCHED_IDLE", "flags": ["SCHED_FLAG_RESET_ON_FORK"] });
    let found = t.bundle().set("/process/scheduler", scheduler).probe(&["schedule"]).remove(0);
    assert_eq!(found["policy"], libc::SCHED_IDLE | libc::SCHED_RESET_ON_FORK);
}

pub fn scheduler_whose_values_do_not_fit_is_refused(t: &T) {
    t.bundle().set("/process/scheduler", json!({ "policy": "SCHED_FIFO", "priority": 100 })).refused();
}

pub fn io_priority_is_set(t: &T) {
    let priority = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
    let found = t.bundle().set("/process/ioPriority", priority).probe(&["schedule"]).remove(0);
    // linux/ioprio.h: the class in the bits from 13 on.
    assert_eq!(found["io"], 2 << 13 | 6);
}

pub fn unknown_rlimit_is_refused(t: &T) {
    let limit = json!({ "type": "RLIMIT_FROBNICATE", "soft": 100, "hard": 200 });
    t.bundle().set("/process/rlimits", json!([limit])).refused();
}

pub fn soft_rlimit_above_the_hard_one_is_refused(t: &T) {
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 300, "hard": 200 });
    t.bundle().set("/process/rlimits", json!([limit])).refused();
}

pub fn hard_rlimit_is_raised_by_a_privileged_runtime(t: &T) {
    t.needs(&[Need::Cap(host::SYS_RESOURCE)]);
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 600_000, "hard": 600_000 });
    let b = t.bundle().set("/process/rlimits", json!([limit]));
    assert_eq!(b.report()["rlimits"]["RLIMIT_NOFILE"], json!([600_000, 600_000]));
}

pub fn hard_rlimit_that_cannot_be_raised_is_refused(t: &T) {
    if host::effective() >> host::SYS_RESOURCE & 1 == 1 {
        t.skip("needs a caller without CAP_SYS_RESOURCE");
    }
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 600_000, "hard": 600_000 });
    t.bundle().set("/process/rlimits", json!([limit])).refused();
}

pub fn rlimits_are_set_though_a_user_namespace_takes_the_right_away(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 256, "hard": 512 });
    let b = t.bundle().user_namespace().set("/process/rlimits", json!([limit]));
    assert_eq!(b.report()["rlimits"]["RLIMIT_NOFILE"], json!([256, 512]));
}

pub fn no_new_privileges_is_set_when_asked_for(t: &T) {
    assert_eq!(t.bundle().set("/process/noNewPrivileges", true).report()["no_new_privs"], 1);
    assert_eq!(t.bundle().set("/process/noNewPrivileges", false).report()["no_new_privs"], 0);
    assert_eq!(t.bundle().report()["no_new_privs"], 0);
}

pub fn no_new_privileges_defeats_a_setuid_program(t: &T) {
    let run = |no_new_privileges: bool| {
        let b = t.bundle().set("/process/user/uid", 1000).set("/process/noNewPrivileges", no_new_privileges);
        fs::copy(b.rootfs().join("inside"), b.rootfs().join("bin/suid")).unwrap();
        fs::set_permissions(b.rootfs().join("bin/suid"), fs::Permissions::from_mode(0o4755)).unwrap();
        let out = b.probe(&["child /bin/suid report"])[0]["out"].as_str().unwrap().to_string();
        serde_json::from_str::<Value>(&out).unwrap()[0]["uids"][1].clone()
    };
    assert_eq!(run(false), 0, "the attack works without it");
    assert_eq!(run(true), 1000);
}

pub fn oom_score_adj_is_what_the_config_says(t: &T) {
    let ours: i32 = read("/proc/self/oom_score_adj").trim().parse().unwrap();
    for score in [ours.max(0), 500, 1000] {
        assert_eq!(t.bundle().set("/process/oomScoreAdj", score).report()["oom_score_adj"], score);
    }
}

pub fn oom_score_adj_of_the_caller_is_kept_when_absent(t: &T) {
    let ours: i32 = read("/proc/self/oom_score_adj").trim().parse().unwrap();
    assert_eq!(t.bundle().report()["oom_score_adj"], ours);
}

pub fn oom_score_adj_out_of_range_is_refused(t: &T) {
    t.bundle().set("/process/oomScoreAdj", 1001).refused();
    t.bundle().set("/process/oomScoreAdj", -1001).refused();
}

pub fn oom_score_adj_is_lowered_by_a_privileged_runtime(t: &T) {
    t.needs(&[Need::Cap(host::SYS_RESOURCE)]);
    assert_eq!(t.bundle().set("/process/oomScoreAdj", -500).report()["oom_score_adj"], -500);
}

pub fn apparmor_profile_without_apparmor_is_refused(t: &T) {
    t.needs(&[Need::NoAppArmor]);
    let output = t.bundle().set("/process/apparmorProfile", "docker-default").refused();
    assert!(output.err.to_lowercase().contains("apparmor"), "{}", output.err);
}

pub fn program_has_no_descriptor_but_its_three(t: &T) {
    let report = t.bundle().report();
    let fds: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
    assert_eq!(fds, ["0", "1", "2"], "{}", report["fds"]);
}

pub fn program_starts_with_no_signal_blocked(t: &T) {
    assert_eq!(t.bundle().report()["sigmask"], "0000000000000000");
}

pub fn program_leads_its_own_session(t: &T) {
    let report = t.bundle().report();
    assert_eq!(report["sid"], report["pid"]);
}

pub fn personality_is_what_the_config_says(t: &T) {
    let b = t.bundle().set("/linux/personality", json!({ "domain": "LINUX32" }));
    let report = b.report();
    assert_eq!(report["personality"].as_i64().unwrap() & 0xff, 8);
    assert_ne!(report["machine"], "x86_64");
}

pub fn unknown_personality_is_refused(t: &T) {
    t.bundle().set("/linux/personality", json!({ "domain": "FROB" })).refused();
}

pub fn hostname_is_what_the_config_says(t: &T) {
    let before = nix::unistd::gethostname().unwrap();
    assert_eq!(t.bundle().set("/hostname", "the-host.example").report()["hostname"], "the-host.example");
    assert_eq!(nix::unistd::gethostname().unwrap(), before);
}

pub fn hostname_without_a_namespace_of_its_own_is_refused(t: &T) {
    t.bundle().without_namespace("uts").set("/hostname", "frob").refused();
}

pub fn domainname_is_what_the_config_says(t: &T) {
    assert_eq!(t.bundle().set("/domainname", "the.domain").report()["domainname"], "the.domain");
}

pub fn session_keyring_is_the_containers_own(t: &T) {
    let (a, b) = (t.bundle().report(), t.bundle().report());
    if a["keyring"]["errno"].is_i64() {
        t.skip("needs session keyrings");
    }
    assert_ne!(a["keyring"]["id"], b["keyring"]["id"]);
}

pub fn session_keyring_is_the_callers_with_no_new_keyring(t: &T) {
    let ring = || {
        let b = t.bundle().inside(&["report"]);
        t.finish(b.command("run", &["--no-new-keyring"])).ok().probes()[0]["keyring"]["name"].clone()
    };
    let own = t.bundle().report()["keyring"]["name"].clone();
    assert_ne!(ring(), own);
}
