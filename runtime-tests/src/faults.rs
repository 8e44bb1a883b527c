//! Faults that must be survived: each ends with a clear error or a whole container, and nothing is left behind.

use crate::bundle::{Bundle, Output};
use crate::harness::{Running, T, before_exec, wait_for};
use crate::host::{self, Need, lives};
use crate::read;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::Duration;

/// The cgroups of a container by its path, in every hierarchy.
fn groups(t: &T, id: &str) -> Vec<PathBuf> {
    let folder = t.cgroup_folder(id);
    host::cgroup_mounts().iter().map(|m| m.join(&folder)).filter(|g| g.exists()).collect()
}

/// After this, the id must be as if it had never been used.
#[track_caller]
fn force_cleans_up(t: &T, id: &str) {
    t.runtime(&["delete", "--force", id]).ok();
    wait_for("the cgroups are gone", || groups(t, id).is_empty().then_some(()));
    let mut again = t.bundle();
    again.id = id.to_string();
    let c = again.set("/linux/cgroupsPath", t.cgroups_path(id)).create();
    assert_eq!(c.status(), "created");
    c.delete_by_force().ok();
}

/// Begins a `create` that waits in a hook of this kind, which has a child of its own. The numbers are the host's.
fn waiting_in_a_hook<'t>(t: &'t T, kind: &str) -> (Bundle<'t>, Running<'t>, [i64; 2]) {
    let script = t.dir.join("waiting");
    let waits =
        |file: &str| format!("read pid rest < /proc/self/stat; echo $pid > {}/{file}", t.dir.display());
    let text = format!("#!/bin/sh\nsh -c '{}; exec sleep 1000' &\n{}; wait\n", waits("child"), waits("hook"));
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let b = t.bundle().hook(kind, json!({ "path": script }));
    let running = t.begin(b.command("create", &[]));
    let pids = ["hook", "child"].map(|name| {
        let file = t.dir.join(name);
        let pid = wait_for("the hook", || fs::read_to_string(&file).ok()?.trim().parse().ok());
        fs::remove_file(file).unwrap();
        pid
    });
    (b, running, pids)
}

/// `create` is killed while a hook of this kind runs; then all is cleaned up from the id alone.
#[track_caller]
fn create_killed_in_a_hook(t: &T, kind: &str) {
    let (b, running, _) = waiting_in_a_hook(t, kind);
    running.signal(Signal::SIGKILL);
    running.wait();
    force_cleans_up(t, &b.id);
}

pub fn hook_of_a_killed_create_is_ended_by_delete(t: &T) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (b, running, pids) = waiting_in_a_hook(t, kind);
        running.signal(Signal::SIGKILL);
        running.wait();
        t.runtime(&["delete", "--force", &b.id]).ok();
        wait_for("the hook and its child are gone", || pids.iter().all(|pid| !lives(*pid)).then_some(()));
    }
}

pub fn create_that_is_stuck_in_a_hook_is_ended_by_delete(t: &T) {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (b, running, pids) = waiting_in_a_hook(t, kind);
        t.runtime(&["delete", "--force", &b.id]).ok();
        running.wait().refused();
        wait_for("the hook and its child are gone", || pids.iter().all(|pid| !lives(*pid)).then_some(()));
        t.runtime(&["state", &b.id]).refused();
        assert!(groups(t, &b.id).is_empty(), "{kind}: a cgroup is left");
    }
}

pub fn create_killed_in_a_prestart_hook_is_cleaned_up_by_id(t: &T) {
    create_killed_in_a_hook(t, "prestart");
}

pub fn create_killed_in_a_create_runtime_hook_is_cleaned_up_by_id(t: &T) {
    create_killed_in_a_hook(t, "createRuntime");
}

pub fn create_killed_in_a_create_container_hook_is_cleaned_up_by_id(t: &T) {
    create_killed_in_a_hook(t, "createContainer");
}

pub fn create_killed_at_any_moment_is_cleaned_up_by_id(t: &T) {
    // The moments are spread over what a create takes; wherever they fall, the same must hold.
    for moment in 0..12 {
        let b = t.bundle().inside(&["pause"]);
        let running = t.begin(b.command("create", &[]));
        thread::sleep(Duration::from_micros(1500 * moment));
        running.signal(Signal::SIGKILL);
        running.wait();
        force_cleans_up(t, &b.id);
    }
}

pub fn foreground_run_that_is_killed_is_cleaned_up_by_id(t: &T) {
    let b = t.bundle().inside(&["pause"]);
    let running = b.begin();
    wait_for("it runs", || t.runtime(&["state", &b.id]).out.contains("\"running\"").then_some(()));
    running.signal(Signal::SIGKILL);
    running.wait();
    force_cleans_up(t, &b.id);
}

pub fn of_many_creates_of_one_id_exactly_one_wins(t: &T) {
    let bundles: Vec<Bundle> = (0..8).map(|_| t.bundle().inside(&["pause"])).collect();
    let id = bundles[0].id.clone();
    let started: Vec<_> = bundles
        .into_iter()
        .map(|mut b| {
            b.id = id.clone();
            t.begin(b.set("/linux/cgroupsPath", t.cgroups_path(&id)).command("create", &[]))
        })
        .collect();
    let outputs: Vec<Output> = started.into_iter().map(|r| r.wait()).collect();
    let winners = outputs.iter().filter(|o| o.code == 0).count();
    assert_eq!(winners, 1, "{outputs:?}");
    t.runtime(&["start", &id]).ok();
    let state = t.runtime(&["state", &id]).ok().json();
    assert_eq!(state["status"], "running");
    assert!(lives(state["pid"].as_i64().unwrap()));
}

pub fn fifty_containers_at_once_all_run(t: &T) {
    t.alone();
    let started: Vec<_> = (0..50).map(|_| t.bundle().inside(&["exit 5"]).begin()).collect();
    for running in started {
        assert_eq!(running.wait().code, 5);
    }
    assert_eq!(t.runtime(&["list", "-q"]).ok().out.trim(), "");
}

/// The files that hold the state of a container.
fn state_files(t: &T, id: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![t.dir.join("state")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.path().to_string_lossy().contains(id) {
                found.push(entry.path());
            }
        }
    }
    found
}

/// With one container's state spoilt, the other is listed and the first can be removed.
#[track_caller]
fn survives_spoilt_state(t: &T, spoil: impl Fn(&PathBuf)) {
    let (spoilt, whole) = (t.bundle().start(), t.bundle().start());
    let pid = spoilt.pid();
    let files = state_files(t, &spoilt.id);
    assert!(!files.is_empty());
    files.iter().for_each(spoil);
    let list = t.runtime(&["list"]);
    assert!(list.out.contains(&whole.id), "{}{}", list.out, list.err);
    spoilt.delete_by_force().ok();
    wait_for("the program ends", || (!lives(pid)).then_some(()));
    assert_eq!(whole.status(), "running");
}

pub fn truncated_state_hinders_neither_list_nor_delete(t: &T) {
    survives_spoilt_state(t, |file| {
        let text = fs::read(file).unwrap();
        fs::write(file, &text[..text.len() / 2]).unwrap();
    });
}

pub fn empty_state_hinders_neither_list_nor_delete(t: &T) {
    survives_spoilt_state(t, |file| fs::write(file, "").unwrap());
}

pub fn corrupt_state_hinders_neither_list_nor_delete(t: &T) {
    survives_spoilt_state(t, |file| fs::write(file, b"\xff\x00{]").unwrap());
}

pub fn missing_state_hinders_neither_list_nor_delete(t: &T) {
    survives_spoilt_state(t, |file| fs::remove_file(file).unwrap());
}

pub fn closed_stdio_is_no_fault(t: &T) {
    let b = t.bundle().inside(&["stat /dev/null", "exit 8"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, || {
        // SAFETY: closes descriptors of the child only.
        (0..3).for_each(|fd| _ = unsafe { libc::close(fd) });
        Ok(())
    });
    let running = t.begin(command);
    // The exit status may be that of the program or, as println fails inside, of a panic; the runtime lives on.
    let code = running.wait().code;
    assert!([8, 101].contains(&code), "{code}");
}

/// A directory for the state with a tmpfs of its own.
fn small_root(t: &T, name: &str, flags: MsFlags, options: &str) -> PathBuf {
    let root = t.dir.join(name);
    fs::create_dir(&root).unwrap();
    mount(Some("tmpfs"), &root, Some("tmpfs"), flags, Some(options)).unwrap();
    root
}

/// `create` is refused where the state cannot be kept, and leaves nothing.
#[track_caller]
fn root_is_refused(t: &T, root: &Path) {
    let b = t.bundle();
    b.write();
    let mut command = t.command_at(root);
    command.args(["create", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    t.finish(command).refused();
    assert!(groups(t, &b.id).is_empty(), "a cgroup is left");
}

pub fn root_that_is_a_file_is_refused(t: &T) {
    let root = t.dir.join("root-file");
    fs::write(&root, "").unwrap();
    root_is_refused(t, &root);
}

pub fn root_that_is_read_only_is_refused(t: &T) {
    root_is_refused(t, &small_root(t, "root-ro", MsFlags::MS_RDONLY, ""));
}

pub fn root_on_a_full_disk_is_refused_and_nothing_is_left(t: &T) {
    let root = small_root(t, "root-full", MsFlags::empty(), "size=4k");
    fs::write(root.join("filler"), [0; 4096]).unwrap();
    root_is_refused(t, &root);
}

pub fn id_is_free_again_after_a_create_on_a_full_disk(t: &T) {
    let root = small_root(t, "state-full", MsFlags::empty(), "size=4k");
    fs::write(root.join("filler"), [0; 4096]).unwrap();
    let b = t.bundle();
    b.write();
    let create = || {
        let mut command = t.command_at(&root);
        command.args(["create", "--bundle", b.dir.to_str().unwrap(), &b.id]);
        t.finish(command)
    };
    create().refused();
    fs::remove_file(root.join("filler")).unwrap();
    mount(None::<&str>, &root, None::<&str>, MsFlags::MS_REMOUNT, Some("size=1m")).unwrap();
    create().ok();
}

pub fn root_that_is_missing_is_made(t: &T) {
    let root = t.dir.join("state-deep/a/b");
    let b = t.bundle().inside(&["exit 9"]);
    b.write();
    let mut command = t.command_at(&root);
    command.args(["run", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    assert_eq!(t.finish(command).code, 9);
}

pub fn root_is_open_to_nobody_else(t: &T) {
    let _c = t.bundle().create();
    let mode = fs::metadata(t.dir.join("state")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

pub fn too_few_descriptors_are_an_error(t: &T) {
    let b = t.bundle();
    let mut command = b.command("create", &[]);
    before_exec(&mut command, || {
        nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 5, 5)?;
        Ok(())
    });
    t.finish(command).refused();
    t.runtime(&["delete", "--force", &b.id]).ok();
    assert!(groups(t, &b.id).is_empty());
}

pub fn delete_never_succeeds_while_the_cgroup_is_there(t: &T) {
    let c = t.bundle().start();
    let dir = c.cgroups().dir("pids");
    let mut command = std::process::Command::new("sleep");
    command.arg("1000");
    let stranger = t.begin(command);
    fs::write(dir.join("cgroup.procs"), stranger.pid().to_string()).unwrap();
    c.kill("KILL");
    wait_for("the first process ends", || {
        (read(dir.join("cgroup.procs")).trim() == stranger.pid().to_string()).then_some(())
    });
    let output = c.call("delete", &["--force"], &[]);
    assert!(output.code != 0 || !dir.exists(), "delete reports success, but the cgroup is there");
    let _ = nix::sys::signal::kill(stranger.pid(), Signal::SIGKILL);
}

pub fn bundle_that_vanished_hinders_no_delete(t: &T) {
    let c = t.bundle().start();
    // crun's `start` does not wait for the program to be executed.
    let exe = format!("/proc/{}/exe", c.pid());
    wait_for("the program", || fs::read_link(&exe).is_ok_and(|exe| exe.ends_with("inside")).then_some(()));
    fs::remove_dir_all(&c.bundle.dir).unwrap();
    c.stop();
    c.delete();
}

/// A config.json of these bytes is refused in one line.
#[track_caller]
fn refuses(t: &T, what: &str, config: &[u8]) {
    let b = t.bundle();
    b.write();
    fs::write(b.dir.join("config.json"), config).unwrap();
    let output = t.runtime(&["create", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    assert_ne!(output.code, 0, "{what} is accepted");
    assert!(!output.err.trim().is_empty(), "{what}: silence");
    assert!(!output.err.contains("panic") && !output.err.contains("goroutine"), "{what}: {}", output.err);
    // A hint and an origin may follow, each indented.
    let lines =
        output.err.lines().filter(|line| !line.starts_with("  ") && !line.contains("warning")).count();
    assert_eq!(lines, 1, "{what}: {}", output.err);
    assert!(output.code < 128, "{what}: killed by signal {}", output.code - 128);
    assert!(groups(t, &b.id).is_empty(), "{what}: a cgroup is left");
}

fn config(t: &T) -> String {
    t.bundle().config.to_string()
}

pub fn config_that_is_missing_is_refused(t: &T) {
    let b = t.bundle();
    t.runtime(&["create", "--bundle", b.dir.to_str().unwrap(), &b.id]).refused().says("config.json");
}

pub fn config_that_is_empty_or_truncated_is_refused(t: &T) {
    let whole = config(t);
    refuses(t, "an empty file", b"");
    refuses(t, "half of it", &whole.as_bytes()[..whole.len() / 2]);
    refuses(t, "all but a brace", &whole.as_bytes()[..whole.len() - 1]);
}

pub fn config_that_is_no_json_object_is_refused(t: &T) {
    for text in ["null", "[]", "\"text\"", "17", "{}", "nonsense"] {
        refuses(t, text, text.as_bytes());
    }
}

pub fn config_with_bytes_that_are_no_text_is_refused(t: &T) {
    refuses(t, "NUL bytes", &[0; 100]);
    refuses(
        t,
        "invalid UTF-8",
        &config(t)
            .replace("/inside", "/in\u{1}side")
            .into_bytes()
            .iter()
            .map(|b| if *b == 1 { 0xff } else { *b })
            .collect::<Vec<_>>(),
    );
}

pub fn config_with_a_nul_in_a_string_is_refused(t: &T) {
    t.bundle().set("/process/args", json!(["/inside\0x"])).refused();
    t.bundle().set("/process/cwd", "/tmp\0/x").refused();
}

pub fn config_of_wrong_types_is_refused(t: &T) {
    for (pointer, value) in [
        ("/process", json!("text")),
        ("/process/args", json!("text")),
        ("/process/env", json!({})),
        ("/root", json!(5)),
        ("/mounts", json!("none")),
        ("/linux/namespaces", json!({})),
        ("/hooks", json!([])),
        ("/process/cwd", json!(1)),
    ] {
        t.bundle().set(pointer, value).refused();
    }
}

pub fn config_nested_a_hundred_thousand_levels_deep_is_refused(t: &T) {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = config(t).replacen('{', &format!("{{\"annotations\":{deep},"), 1);
    refuses(t, "a deep config", text.as_bytes());
}

pub fn config_of_a_hundred_megabytes_is_no_crash(t: &T) {
    t.alone();
    let text =
        config(t).replacen('{', &format!("{{\"annotations\":{{\"big\":\"{}\"}},", "x".repeat(100 << 20)), 1);
    let b = t.bundle();
    fs::write(b.dir.join("config.json"), text).unwrap();
    let output = t.runtime(&["create", "--bundle", b.dir.to_str().unwrap(), &b.id]);
    assert!(output.code < 128 && !output.err.contains("panic"), "{}: {}", output.code, output.err);
}

pub fn missing_bundle_is_refused(t: &T) {
    t.runtime(&["create", "--bundle", "/frobnicate", "some-id"]).refused();
}

pub fn missing_process_section_is_refused_or_waits(t: &T) {
    // The spec allows to create without a process; then start has nothing to run.
    let output = t.bundle().remove("/process").create_with(&[]);
    if let Ok(c) = output {
        assert_eq!(c.status(), "created");
    }
}

pub fn many_thousand_arguments_and_variables_are_passed(t: &T) {
    let args: Vec<String> =
        ["/inside", "report"].into_iter().map(String::from).chain((0..5000).map(|i| i.to_string())).collect();
    let env: Vec<String> = (0..5000).map(|i| format!("V{i}={i}")).collect();
    let b = t.bundle().set("/process/args", json!(args)).set("/process/env", json!(env));
    let output = b.run().ok();
    assert_eq!(output.probes()[0]["args"].as_array().unwrap().len(), 5002);
}

// ---- at each system call ----------------------------------------------------------------------

/// Each system call in a trace, with its number among those of its name in the same process, in order.
fn calls(trace: &str) -> Vec<(String, usize)> {
    let mut counts = std::collections::HashMap::new();
    let mut seen = Vec::new();
    for line in trace.lines() {
        let Some((before, _)) = line.split_once('(') else { continue };
        let mut words = before.split_whitespace();
        let (name, pid) = (words.next_back().unwrap_or_default(), words.next().unwrap_or_default());
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            continue;
        }
        let count = counts.entry((pid.to_string(), name.to_string())).or_insert(0);
        *count += 1;
        let call = (name.to_string(), *count);
        if !seen.contains(&call) {
            seen.push(call);
        }
    }
    seen
}

/// At most `most` of a list, spread over all of it.
fn spread<V>(list: Vec<V>, most: usize) -> impl Iterator<Item = V> {
    let step = list.len().div_ceil(most).max(1);
    list.into_iter().step_by(step)
}

pub fn create_killed_at_a_system_call_is_cleaned_up_by_id(t: &T) {
    // The moments between two system calls are all that there are to tell apart from outside.
    t.needs(&[Need::Program("strace"), Need::Cgroupfs]);
    let trace = t.dir.join("trace");
    let create = |b: &Bundle, options: &[&str]| {
        b.write();
        let mut command = t.traced(options);
        command.args(["create", "--bundle"]).arg(&b.dir).arg(&b.id);
        t.finish(command)
    };
    let b = t.bundle().inside(&["pause"]);
    create(&b, &["-o", trace.to_str().unwrap()]).ok();
    force_cleans_up(t, &b.id);
    let moments: Vec<_> =
        calls(&read(&trace)).into_iter().skip(1).filter(|(name, _)| name != "exit_group").collect();
    assert!(moments.len() > 50, "{moments:?}");
    let mut killed = 0;
    for (name, count) in spread(moments, 40) {
        t.go_on();
        let b = t.bundle().inside(&["pause"]);
        let inject = format!("inject={name}:signal=SIGKILL:when={count}");
        let output = create(&b, &["-o", "/dev/null", "-e", &inject]);
        killed += usize::from(output.code == 137);
        t.note(format!("at {name} {count}"));
        force_cleans_up(t, &b.id);
    }
    assert!(killed > 20, "only {killed} were killed");
}

/// System calls that confine, or that what confines depends on.
const CONFINING: [&str; 31] = [
    "capset",
    "chdir",
    "chroot",
    "clone3",
    "close_range",
    "fchdir",
    "fchownat",
    "fsconfig",
    "fsmount",
    "fsopen",
    "keyctl",
    "mkdir",
    "mkdirat",
    "mknodat",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "pivot_root",
    "prctl",
    "prlimit64",
    "seccomp",
    "setgroups",
    "sethostname",
    "setns",
    "setresgid",
    "setresuid",
    "setsid",
    "symlinkat",
    "umount2",
    "unshare",
    "mount",
];

/// What a program can say of its confinement, without what is another one each time.
fn confinement(output: &Output) -> serde_json::Value {
    let mut report = output.probes().remove(0);
    for mount in report["mounts"].as_array_mut().unwrap() {
        for other in ["id", "parent", "device", "root", "tags", "source", "super"] {
            mount.as_object_mut().unwrap().remove(other);
        }
    }
    let host = |kind: &str| json!(host::namespace("self", kind));
    let shared: Vec<_> = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"]
        .into_iter()
        .filter(|k| report["namespaces"][k] == host(k))
        .collect();
    json!({
        "shared": shared, "mounts": report["mounts"], "capabilities": report["capabilities"],
        "no_new_privs": report["no_new_privs"], "seccomp": report["seccomp"], "filters": report["seccomp_filters"],
        "uids": report["uids"], "gids": report["gids"], "groups": report["groups"], "rlimits": report["rlimits"],
        "fds": report["fds"].as_object().unwrap().keys().collect::<Vec<_>>(), "umask": report["umask"],
        "hostname": report["hostname"], "sid": report["sid"] == report["pid"], "keyring": report["keyring"]["name"].is_string(),
    })
}

pub fn confining_call_that_fails_is_an_error_or_changes_nothing(t: &T) {
    t.needs(&[Need::Program("strace"), Need::Cgroupfs]);
    t.alone();
    let trace = t.dir.join("trace");
    let run = |options: &[&str]| {
        let b =
            t.bundle().namespace("network").set("/hostname", "guarded").set("/process/noNewPrivileges", true);
        let b = b.set("/root/readonly", true).set("/linux/maskedPaths", json!(["/proc/kcore", "/proc/acpi"]));
        let b = b
            .set("/linux/readonlyPaths", json!(["/proc/sys"]))
            .caps(&["CAP_KILL"], &["bounding", "effective", "permitted"]);
        let b = b.set("/process/user", json!({ "uid": 7, "gid": 8, "additionalGids": [9] }));
        let b = b.set("/process/rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]));
        let b = b.set(
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["chroot"], "action": "SCMP_ACT_ERRNO" }] }),
        );
        let b = b.inside(&["report"]);
        b.write();
        let mut command = t.traced(options);
        command.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
        let output = t.finish(command);
        if output.code != 0 {
            t.runtime(&["delete", "--force", &b.id]).ok();
        }
        assert!(groups(t, &b.id).is_empty(), "a cgroup is left");
        output
    };
    let whole = confinement(&run(&["-f", "-o", trace.to_str().unwrap()]).ok());
    // The program itself, and what comes after it, is not the runtime's.
    let all = read(&trace);
    let all = all.split("execve(\"/inside\"").next().unwrap();
    let moments: Vec<_> =
        calls(all).into_iter().filter(|(name, _)| CONFINING.contains(&name.as_str())).collect();
    assert!(moments.len() > 20, "{moments:?}");
    let mut refused = 0;
    for (name, count) in spread(moments, 110) {
        t.go_on();
        let inject = format!("inject={name}:error=EPERM:when={count}");
        let output = run(&["-f", "-o", "/dev/null", "-e", &inject]);
        if output.code == 0 {
            assert_eq!(confinement(&output), whole, "after {name} failed the {count}. time");
        } else {
            refused += 1;
            assert!(
                !output.err.trim().is_empty() && !output.err.contains("panicked"),
                "{name} {count}: {}",
                output.err
            );
        }
    }
    assert!(refused > 10, "only {refused} were refused");
}

// ---- too little of everything -----------------------------------------------------------------

pub fn few_descriptors_are_an_error_or_enough(t: &T) {
    for limit in (4..28).step_by(2) {
        let b = t.bundle().inside(&["pause"]);
        let mut command = b.command("create", &[]);
        before_exec(&mut command, move || {
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, limit, limit)?;
            Ok(())
        });
        let output = t.finish(command);
        if output.code == 0 {
            t.runtime(&["start", &b.id]).ok();
        } else {
            assert!(!output.err.trim().is_empty(), "{limit}: silence");
            t.runtime(&["delete", "--force", &b.id]).ok();
            assert!(groups(t, &b.id).is_empty(), "{limit}: a cgroup is left");
        }
    }
}

/// A v1 cgroup for the runtime itself, with one limit; the command is put into it.
fn narrow(t: &T, command: &mut process::Command, controller: &str, file: &str, limit: &str) {
    let mount = host::cgroup_mounts().into_iter().find(|m| m.ends_with(controller)).unwrap();
    let narrow = mount.join(t.cgroups_path("narrow").trim_start_matches('/'));
    fs::create_dir_all(&narrow).unwrap();
    fs::write(narrow.join(file), limit).unwrap();
    let procs = narrow.join("cgroup.procs");
    before_exec(command, move || fs::write(&procs, "0"));
}

pub fn runtime_that_may_start_no_process_says_so(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::CgroupV1]);
    let b = t.bundle();
    let mut command = b.command("create", &[]);
    narrow(t, &mut command, "pids", "pids.max", "1");
    t.finish(command).refused();
    t.runtime(&["state", &b.id]).refused();
    assert!(groups(t, &b.id).is_empty(), "a cgroup is left");
}

pub fn runtime_with_little_memory_works_or_ends_and_leaves_nothing(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::CgroupV1]);
    t.alone();
    let mut worked = 0;
    for kib in [256, 384, 512, 768, 1024, 1536, 2048, 4096, 65536] {
        t.go_on();
        let b = t.bundle().inside(&["exit 7"]);
        let mut command = b.command("run", &[]);
        narrow(t, &mut command, "memory", "memory.limit_in_bytes", &format!("{kib}K"));
        let output = t.finish(command);
        worked += usize::from(output.code == 7);
        let killed = output.code == 128 + libc::SIGKILL;
        assert!(
            output.code == 7 || killed || !output.err.trim().is_empty(),
            "{kib} KiB: {} and silence",
            output.code
        );
        t.runtime(&["delete", "--force", &b.id]).ok();
        wait_for("the cgroups are gone", || groups(t, &b.id).is_empty().then_some(()));
        t.runtime(&["state", &b.id]).refused();
    }
    assert!(worked > 0, "not even 64 MiB are enough");
}

/// A create that is refused may not take strangers with it: its own record of the cgroup is how it cleans up.
pub fn strangers_in_the_cgroup_outlive_a_create_that_is_refused(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Cgroupfs, Need::Only("myrt")]);
    let group = PathBuf::from("/sys/fs/cgroup").join(t.cgroups_path("strangers").trim_start_matches('/'));
    fs::create_dir_all(&group).unwrap();
    let mut stranger = process::Command::new("sleep").arg("100").spawn().unwrap();
    fs::write(group.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    let b = t.bundle().set("/linux/cgroupsPath", t.cgroups_path("strangers"));
    let id = b.id.clone();
    let created = b.create_with(&[]).map(|c| c.status());
    let deleted = t.runtime(&["delete", "--force", &id]);
    let survived = group.is_dir() && stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    created.expect_err("created among strangers").refused();
    deleted.ok();
    assert!(survived, "the stranger was killed");
}

pub fn root_without_inodes_is_refused_and_nothing_is_left(t: &T) {
    root_is_refused(t, &small_root(t, "root-full", MsFlags::empty(), "nr_inodes=1"));
}

pub fn root_that_fills_up_on_the_way_leaves_nothing(t: &T) {
    for inodes in 2..9 {
        let (name, options) = (format!("state-{inodes}"), format!("nr_inodes={inodes}"));
        let root = small_root(t, &name, MsFlags::empty(), &options);
        let b = t.bundle().inside(&["pause"]);
        b.write();
        let call = |args: &[&str]| {
            let mut command = t.command_at(&root);
            command.args(args);
            t.finish(command)
        };
        let output = call(&["create", "--bundle", b.dir.to_str().unwrap(), &b.id]);
        if output.code != 0 {
            assert!(!output.err.trim().is_empty(), "{inodes}: silence");
        }
        call(&["delete", "--force", &b.id]).ok();
        assert!(groups(t, &b.id).is_empty(), "{inodes}: a cgroup is left");
    }
}

pub fn config_with_a_key_twice_is_refused(t: &T) {
    let twice = config(t).replacen('{', "{\"hostname\":\"a\",\"hostname\":\"b\",", 1);
    refuses(t, "a key twice", twice.as_bytes());
}

pub fn five_thousand_mounts_are_an_error_or_work(t: &T) {
    t.alone();
    let source = t.dir.join("source");
    fs::create_dir(&source).unwrap();
    let mounts: Vec<_> = (0..5000)
        .map(|i| json!({ "destination": format!("/m/{i}"), "type": "bind", "source": source, "options": ["bind"] }))
        .collect();
    let mut b = t.bundle().inside(&["exit 3"]);
    b.config["mounts"].as_array_mut().unwrap().extend(mounts);
    let output = b.run();
    assert!(output.code == 3 || !output.err.trim().is_empty(), "{}", output.code);
    assert!(output.code < 128, "killed by signal {}", output.code - 128);
}
