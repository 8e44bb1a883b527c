//! Labels: refused where SELinux is off; where it is on, applied, kept apart, shared and given back.
//!
//! The tests' own processes must run at plain `s0`, so that containers may use what they inherit from them.

use crate::bundle::{Bundle, Container};
use crate::harness::{T, wait_for};
use crate::host::Need;
use crate::read;
use serde_json::json;
use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROCESS: &str = "system_u:system_r:container_t:s0:c11,c12";
const FILES: &str = "system_u:object_r:container_file_t:s0:c11,c12";
/// What every container may touch.
const SHARED: &str = "system_u:object_r:container_file_t:s0";

const EROFS: i32 = 30;
const EACCES: i32 = 13;

fn process_label(level: &str) -> String {
    format!("system_u:system_r:container_t:{level}")
}

fn file_label(level: &str) -> String {
    format!("system_u:object_r:container_file_t:{level}")
}

#[track_caller]
fn chcon(t: &T, label: &str, path: impl AsRef<Path>) {
    let mut command = Command::new("chcon");
    command.args(["-R", "-h", label]).arg(path.as_ref());
    t.finish(command).ok();
}

/// The label of a file, not of what a symlink leads to.
#[track_caller]
fn label_of(t: &T, path: impl AsRef<Path>) -> String {
    let mut command = Command::new("stat");
    command.args(["-c", "%C"]).arg(path.as_ref());
    t.finish(command).ok().out.trim().to_string()
}

fn label_of_process(pid: impl std::fmt::Display) -> String {
    read(format!("/proc/{pid}/attr/current")).trim_end_matches(['\0', '\n']).to_string()
}

fn level_of(container: &Container) -> String {
    label_of_process(container.pid()).splitn(4, ':').nth(3).unwrap_or_default().to_string()
}

/// SELinux is on, and all that the test makes from here on may be touched by every container.
fn on(t: &T) {
    t.needs(&[Need::SeLinux, Need::Program("chcon")]);
    chcon(t, SHARED, &t.dir);
}

/// A bundle whose process and mounts have a level.
fn at_level<'t>(t: &'t T, level: &str) -> Bundle<'t> {
    t.bundle().set("/process/selinuxLabel", process_label(level)).set("/linux/mountLabel", file_label(level))
}

fn labelled(t: &T) -> Bundle<'_> {
    on(t);
    at_level(t, "s0:c11,c12")
}

/// A folder of the host with a file in it, with a label.
fn store(t: &T, name: &str, label: &str) -> PathBuf {
    let dir = t.dir.join(name);
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), "content").unwrap();
    chcon(t, label, &dir);
    dir
}

/// A container with a pair of categories that myrt finds.
#[track_caller]
fn with_own_level(b: Bundle) -> Container {
    match b.inside(&["pause"]).create_with(&["--selinux-level", "auto"]) {
        Ok(container) => container,
        Err(output) => panic!("create must succeed: {}", output.err),
    }
}

// ---- without SELinux ---------------------------------------------------------------------------

pub fn label_without_selinux_is_refused(t: &T) {
    t.needs(&[Need::NoSeLinux]);
    let output = t.bundle().set("/process/selinuxLabel", PROCESS).refused();
    assert!(output.err.to_lowercase().contains("selinux"), "{}", output.err);
}

pub fn label_of_exec_without_selinux_is_refused(t: &T) {
    t.needs(&[Need::NoSeLinux]);
    let c = t.bundle().start();
    let output = c.call("exec", &["--process-label", PROCESS], &["/inside", "exit", "0"]).refused();
    assert!(output.err.to_lowercase().contains("selinux"), "{}", output.err);
}

pub fn level_without_selinux_is_refused(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::NoSeLinux]);
    match t.bundle().create_with(&["--selinux-level", "s0:c1,c2"]) {
        Ok(_) => panic!("must be refused"),
        Err(output) => output.refused().says("--selinux-level s0:c1,c2 cannot be applied: SELinux is off"),
    }
}

pub fn automatic_level_without_selinux_is_left_out_and_the_plan_says_so(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::NoSeLinux]);
    let b = t.bundle();
    b.write();
    let dir = b.dir.to_str().unwrap().to_string();
    let plan = t.runtime(&["plan", "--selinux-level", "auto", "--bundle", &dir]).ok().out;
    assert!(plan.contains("give no SELinux label: SELinux is off"), "{plan}");
    let c = with_own_level(b);
    c.start();
    assert_eq!(c.status(), "running");
}

pub fn relabelling_without_selinux_is_left_out_with_a_warning(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::NoSeLinux]);
    let dir = t.dir.join("store");
    fs::create_dir(&dir).unwrap();
    let output = t.bundle().mount("/m", "bind", &dir, &["bind", "Z"]).inside(&["create /m/file"]).run().ok();
    output.says("nothing is relabelled");
    assert!(dir.join("file").exists());
}

// ---- labels ------------------------------------------------------------------------------------

pub fn program_has_the_label_of_the_config(t: &T) {
    let c = labelled(t).start();
    assert_eq!(label_of_process(c.pid()), PROCESS);
}

pub fn program_without_a_label_keeps_that_of_its_caller(t: &T) {
    on(t);
    let c = t.bundle().start();
    assert_eq!(label_of_process(c.pid()), label_of_process("self"));
}

pub fn no_new_privs_does_not_hinder_the_label(t: &T) {
    let c = labelled(t).set("/process/noNewPrivileges", true).start();
    assert_eq!(label_of_process(c.pid()), PROCESS);
}

pub fn mounts_have_the_label_of_the_config(t: &T) {
    let b = labelled(t).mount("/m", "tmpfs", "tmpfs", &[]).mount("/q", "mqueue", "mqueue", &[]);
    let c = b.start();
    for path in ["m", "q", "dev", "dev/pts"] {
        assert_eq!(label_of(t, format!("/proc/{}/root/{path}", c.pid())), FILES, "{path}");
    }
}

pub fn filesystems_that_take_no_label_are_mounted_all_the_same(t: &T) {
    let b = labelled(t).mount("/sys", "sysfs", "sysfs", &["ro"]);
    let b = b.namespace("cgroup").mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    let c = b.start();
    for (path, kind) in [("proc/version", "proc_t"), ("sys", "sysfs_t"), ("sys/fs/cgroup", "cgroup_t")] {
        let label = label_of(t, format!("/proc/{}/root/{path}", c.pid()));
        assert!(label.contains(kind), "{path}: {label}");
    }
}

pub fn label_in_the_options_of_a_mount_comes_first(t: &T) {
    // As engines write it: quoted, because mount(8) would split it at the comma.
    t.needs(&[Need::Only("myrt")]);
    let other = "context=\"system_u:object_r:container_file_t:s0:c11\"";
    let c = labelled(t).mount("/m", "tmpfs", "tmpfs", &[other]).start();
    let label = label_of(t, format!("/proc/{}/root/m", c.pid()));
    assert_eq!(label, "system_u:object_r:container_file_t:s0:c11");
}

pub fn masks_have_a_label_and_leave_the_hosts_null_device_alone(t: &T) {
    let b = labelled(t).file("/secret", "secret").folder("/hidden");
    let before = label_of(t, "/dev/null");
    let c = b.set("/linux/maskedPaths", json!(["/secret", "/hidden"])).start();
    let inside = |path| label_of(t, format!("/proc/{}/root/{path}", c.pid()));
    assert_eq!((inside("hidden"), inside("secret")), (FILES.to_string(), before.clone()));
    assert_eq!(label_of(t, "/dev/null"), before);
}

pub fn keyring_has_the_label_of_the_process(t: &T) {
    let report = labelled(t).report();
    assert_eq!(report["keyring"]["label"], PROCESS, "{}", report["keyring"]);
    assert_eq!(report["label"], PROCESS);
}

pub fn sockets_and_the_program_are_labelled_while_the_container_waits(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let c = labelled(t).create();
    for kind in ["exec", "sockcreate", "keycreate"] {
        let label = read(format!("/proc/{}/attr/{kind}", c.pid()));
        assert_eq!(label.trim_end_matches(['\0', '\n']), PROCESS, "{kind}");
    }
}

pub fn exec_has_the_label_of_the_container(t: &T) {
    let c = labelled(t).start();
    let file = t.dir.join("pid");
    c.call("exec", &["--detach", "--pid-file", file.to_str().unwrap()], &["/inside", "pause"]).ok();
    assert_eq!(label_of_process(read(file)), PROCESS);
}

pub fn exec_takes_a_label_by_option(t: &T) {
    let other = process_label("s0:c13,c14");
    let c = labelled(t).start();
    let file = t.dir.join("pid");
    let options = ["--process-label", &other, "--detach", "--pid-file", file.to_str().unwrap()];
    c.call("exec", &options, &["/inside", "pause"]).ok();
    assert_eq!(label_of_process(read(file)), other);
}

pub fn malformed_label_is_refused(t: &T) {
    t.needs(&[Need::SeLinux]);
    t.bundle().set("/process/selinuxLabel", json!("not a label")).refused();
}

pub fn undefined_label_is_refused_by_its_name(t: &T) {
    t.needs(&[Need::SeLinux]);
    for label in ["system_u:system_r:no_such_type_t:s0", "system_u:system_r:container_t:s0:c5000"] {
        t.bundle().set("/process/selinuxLabel", label).refused();
    }
    t.needs(&[Need::Only("myrt")]);
    let output = t.bundle().set("/process/selinuxLabel", "system_u:system_r:container_t:s0:c5000").refused();
    output.says("system_u:system_r:container_t:s0:c5000: the loaded policy does not define it");
    output.says("not the level \"s0:c5000\"");
    t.bundle().set("/linux/mountLabel", "system_u:object_r:no_such_t:s0").refused().says("no_such_t");
}

pub fn label_that_the_runtime_may_not_give_is_refused_with_the_missing_rule(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::SeLinux]);
    // A domain that nothing but the kernel starts.
    let output = t.bundle().set("/process/selinuxLabel", "system_u:system_r:kernel_t:s0").refused();
    output.says("process transition is denied");
    output.says("kernel_t:process transition");
}

pub fn level_that_may_not_read_the_program_is_an_error_that_says_so(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let b = at_level(t, "s0:c1,c2");
    chcon(t, &file_label("s0:c3,c4"), b.rootfs());
    let output = b.inside(&["exit 0"]).run().refused();
    assert_eq!(output.code, 1, "no signal: {}", output.err);
    output.says("permission denied");
    output.says("the level s0:c3,c4 of the file is not within the level s0:c1,c2 of the process");
}

pub fn type_that_may_not_be_executed_is_an_error_that_says_so(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let b = at_level(t, "s0:c1,c2");
    chcon(t, "system_u:object_r:etc_t:s0", b.rootfs());
    let output = b.inside(&["exit 0"]).run().refused();
    output.says("permission denied");
    output.says("etc_t");
}

pub fn exec_of_a_program_with_another_level_is_an_error_that_says_so(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let c = labelled(t).start();
    let other = c.bundle.rootfs().join("other");
    fs::copy(c.bundle.rootfs().join("inside"), &other).unwrap();
    chcon(t, &file_label("s0:c3,c4"), &other);
    let output = c.call("exec", &[], &["/other", "exit", "0"]).refused();
    assert_eq!(output.code, 255);
    output.says("the level s0:c3,c4 of the file is not within the level s0:c11,c12");
}

pub fn fake_proc_swallows_no_label(t: &T) {
    // CVE-2019-16884, CVE-2025-52881: what is written to the container's own /proc labels nobody.
    on(t);
    let fake = t.dir.join("fake");
    for task in ["self", "thread-self"] {
        fs::create_dir_all(fake.join(task).join("attr")).unwrap();
        for kind in ["exec", "keycreate", "sockcreate", "current"] {
            fs::write(fake.join(task).join("attr").join(kind), "untouched").unwrap();
        }
    }
    let mut b = at_level(t, "s0:c11,c12");
    b.config["mounts"][0] =
        json!({ "destination": "/proc", "type": "bind", "source": fake, "options": ["bind"] });
    match b.inside(&["pause"]).create_with(&[]) {
        // To refuse it is good too.
        Err(output) => drop(output.refused()),
        Ok(c) => {
            c.start();
            assert_eq!(label_of_process(c.pid()), PROCESS);
        }
    }
    for task in ["self", "thread-self"] {
        for kind in ["exec", "keycreate", "sockcreate", "current"] {
            assert_eq!(read(fake.join(task).join("attr").join(kind)), "untouched");
        }
    }
}

pub fn hook_of_the_host_keeps_the_label_of_the_runtime(t: &T) {
    on(t);
    let said = t.dir.join("hook-label");
    let script = format!("cat /proc/self/attr/current > {}", said.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let _c = at_level(t, "s0:c11,c12").hook("createContainer", hook).create();
    assert_eq!(read(said).trim_end_matches(['\0', '\n']), label_of_process("self"));
}

// ---- who may do what to whom -------------------------------------------------------------------

/// What one container tries against another that it shares namespaces and folders with, so that only the label
/// stands between them.
///
/// The victim is the first process of its PID namespace: from inside no signal ends it, but each is checked.
const TRIES: [&str; 8] = [
    "read /store/file",
    "put /store/file changed",
    "create /store/new",
    "kill 1 9",
    "kill 1 19",
    "kill 1 15",
    "connect @victim",
    "attach 1",
];

/// Starts a victim with its store at one level and runs all tries from another.
fn attacked(t: &T, victim: &str, attacker: &str) -> Vec<i32> {
    let name = t.fresh_id();
    let store = store(t, &format!("store-{name}"), &file_label(victim));
    let serve = format!("serve @{name}");
    // The level s0 stands for no label at all, as engines give with label=disable.
    let at_level = |level| if level == "s0" { t.bundle() } else { at_level(t, level) };
    let c = at_level(victim).mount("/store", "bind", &store, &["bind"]).inside(&[&serve, "pause"]).create();
    c.start();
    let pid = c.pid();
    let unix = || read("/proc/net/unix").contains(&format!("@{name}"));
    wait_for("the victim's socket", || unix().then_some(()));
    let tries = TRIES.map(|probe| probe.replace("@victim", &format!("@{name}")));
    let tries: Vec<&str> = tries.iter().map(String::as_str).collect();
    let b = at_level(attacker).mount("/store", "bind", &store, &["bind"]);
    let b = b.join_namespace("pid", &format!("/proc/{pid}/ns/pid"));
    let errors = b.tries(&tries);
    assert_eq!(c.status(), "running");
    c.stop();
    errors
}

pub fn containers_of_different_levels_cannot_touch_each_other(t: &T) {
    on(t);
    // First that nothing but labels stands in the way: without them all works, and with the same level all but
    // ptrace(2), which a policy may forbid to containers altogether.
    assert_eq!(attacked(t, "s0", "s0"), [0; TRIES.len()], "{TRIES:?}");
    let same = attacked(t, "s0:c1,c2", "s0:c1,c2");
    assert_eq!(same[..TRIES.len() - 1], [0; TRIES.len() - 1], "{TRIES:?}");
    let errors = attacked(t, "s0:c1,c2", "s0:c3,c4");
    assert!(errors.iter().all(|e| [EACCES, 1].contains(e)), "{TRIES:?}: {errors:?}");
    // One category in common is not enough.
    let errors = attacked(t, "s0:c1,c2", "s0:c2,c3");
    assert!(errors.iter().all(|e| [EACCES, 1].contains(e)), "{TRIES:?}: {errors:?}");
}

pub fn three_containers_reach_what_is_theirs_and_what_is_shared_and_no_more(t: &T) {
    on(t);
    let levels = ["s0:c21,c22", "s0:c23,c24", "s0:c25,c26"];
    let stores: Vec<PathBuf> =
        levels.iter().map(|l| store(t, &format!("of-{}", &l[3..]), &file_label(l))).collect();
    let shared = store(t, "shared", SHARED);
    for (own, level) in levels.iter().enumerate() {
        let mut b = at_level(t, level).mount("/shared", "bind", &shared, &["bind"]);
        for (number, dir) in stores.iter().enumerate() {
            b = b.mount(&format!("/store{number}"), "bind", dir, &["bind"]);
        }
        let probes: Vec<String> = (0..3)
            .flat_map(|n| [format!("read /store{n}/file"), format!("put /store{n}/file {own}")])
            .chain([format!("put /shared/file {own}"), format!("create /shared/by-{own}")])
            .collect();
        let errors = b.tries(&probes.iter().map(String::as_str).collect::<Vec<_>>());
        let expected: Vec<i32> =
            (0..3).flat_map(|n| if n == own { [0, 0] } else { [EACCES; 2] }).chain([0, 0]).collect();
        assert_eq!(errors, expected, "{level}: {probes:?}");
    }
    assert_eq!(read(shared.join("file")), "2ontent");
    for (own, dir) in stores.iter().enumerate() {
        assert_eq!(read(dir.join("file")), format!("{own}ontent"));
    }
}

pub fn read_only_bind_stays_read_only_for_the_right_level(t: &T) {
    on(t);
    let level = "s0:c31,c32";
    let store = store(t, "store", &file_label(level));
    let b = at_level(t, level).mount("/w", "bind", &store, &["bind"]);
    let b = b.mount("/r", "bind", &store, &["bind", "ro"]);
    let tries = ["put /w/file x", "create /w/new", "read /r/file", "put /r/file y", "create /r/other"];
    assert_eq!(b.tries(&tries), [0, 0, 0, EROFS, EROFS]);
}

// ---- levels of their own -----------------------------------------------------------------------

pub fn automatic_levels_differ_and_are_kept_by_exec(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let (one, two) = (with_own_level(t.bundle()), with_own_level(t.bundle()));
    one.start();
    two.start();
    let levels = [level_of(&one), level_of(&two)];
    assert_ne!(levels[0], levels[1]);
    for level in &levels {
        let pair: Vec<u16> = level["s0:".len()..].split(',').map(|c| c[1..].parse().unwrap()).collect();
        assert!(pair.len() == 2 && pair[0] < pair[1] && pair[1] < 1024, "{level}");
    }
    let report = one.exec(&[], &["report"]).remove(0);
    assert_eq!(report["label"], process_label(&levels[0]));
    assert_eq!(label_of(t, format!("/proc/{}/root/dev", one.pid())), file_label(&levels[0]));
}

/// The pairs that are reserved in the tests' state directory.
fn reserved(t: &T) -> HashSet<String> {
    let root = t.dir.join("state");
    let ids = fs::read_dir(root).into_iter().flatten().flatten();
    ids.filter_map(|id| Some(fs::read_link(id.path().join("level")).ok()?.to_string_lossy().into_owned()))
        .collect()
}

pub fn two_hundred_containers_at_once_have_two_hundred_levels(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::Cgroupfs]);
    on(t);
    t.alone();
    let b = t.bundle().inside(&["pause"]);
    let ids: Vec<String> = (0..200).map(|_| t.fresh_id()).collect();
    let create = |id: &String| {
        let mut config = b.config.clone();
        config["linux"]["cgroupsPath"] = json!(t.cgroups_path(id));
        fs::write(b.dir.join(format!("{id}.json")), config.to_string()).unwrap();
        let mut command = t.command();
        command.args(["create", "--selinux-level", "auto", "--config", &format!("{id}.json"), "--bundle"]);
        command.arg(&b.dir).arg(id);
        t.begin(command)
    };
    let running: Vec<_> = ids.iter().map(create).collect();
    running.into_iter().for_each(|command| drop(command.wait().ok()));
    t.alone();
    assert_eq!(reserved(t).len(), 200);
    let mut seen = HashSet::new();
    for id in &ids {
        let pid = t.runtime(&["state", id]).ok().json()["pid"].as_i64().unwrap();
        // Created containers still wait: what they will be is in attr/exec.
        seen.insert(read(format!("/proc/{pid}/attr/exec")));
    }
    assert_eq!(seen.len(), 200);
    t.alone();
    let delete = |id: &String| {
        let mut command = t.command();
        command.args(["delete", "--force", id]);
        t.begin(command)
    };
    let running: Vec<_> = ids.iter().map(delete).collect();
    running.into_iter().for_each(|command| drop(command.wait().ok()));
    assert_eq!(reserved(t), HashSet::new());
}

pub fn level_of_a_create_that_was_killed_is_free_after_delete_by_id(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let script = format!("echo > {0}/reached; exec sleep 1000", t.dir.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
    let b = t.bundle().hook("prestart", hook);
    let creating = t.begin(b.command("create", &["--selinux-level", "auto"]));
    wait_for("the hook", || t.dir.join("reached").exists().then_some(()));
    assert_eq!(reserved(t).len(), 1);
    creating.signal(nix::sys::signal::Signal::SIGKILL);
    assert_ne!(creating.wait().code, 0);
    assert_eq!(reserved(t).len(), 1, "a crash alone frees nothing");
    t.runtime(&["delete", "--force", &b.id]).ok();
    assert_eq!(reserved(t), HashSet::new());
}

pub fn automatic_level_avoids_those_that_are_reserved(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    // It leaves the pairs with c1023 and no others: one in 512.
    let first = at_level(t, "s0:c0.c1022").start();
    for _ in 0..4 {
        let c = with_own_level(t.bundle());
        c.start();
        assert!(level_of(&c).ends_with(",c1023"), "{}", level_of(&c));
    }
    assert_eq!(reserved(t).len(), 5);
    first.stop();
    first.delete();
    assert_eq!(reserved(t).len(), 4);
}

pub fn explicit_level_may_be_shared(t: &T) {
    on(t);
    let (one, two) = (at_level(t, "s0:c41,c42").start(), at_level(t, "s0:c41,c42").start());
    assert_eq!((level_of(&one).as_str(), level_of(&two).as_str()), ("s0:c41,c42", "s0:c41,c42"));
}

pub fn level_by_option_comes_before_that_of_the_config(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let b = labelled(t).inside(&["pause"]);
    let c = b.create_with(&["--selinux-level", "s0:c51,c52"]).unwrap_or_else(|o| panic!("{}", o.err));
    c.start();
    assert_eq!(label_of_process(c.pid()), process_label("s0:c51,c52"));
    assert_eq!(label_of(t, format!("/proc/{}/root/dev", c.pid())), file_label("s0:c51,c52"));
    assert_eq!(c.exec(&[], &["report"])[0]["label"], process_label("s0:c51,c52"));
}

pub fn level_that_the_policy_does_not_know_is_refused(t: &T) {
    t.needs(&[Need::Only("myrt"), Need::SeLinux]);
    match t.bundle().create_with(&["--selinux-level", "s0:c1,c9999"]) {
        Ok(_) => panic!("must be refused"),
        Err(output) => output.refused().says("c9999"),
    }
}

pub fn types_come_from_a_file_that_is_named(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let file = t.dir.join("contexts");
    let process = "system_u:system_r:container_kvm_t:s0";
    fs::write(&file, format!("process = \"{process}\"\nfile = \"{SHARED}\"\n")).unwrap();
    let options = ["--selinux-level", "s0:c61,c62", "--selinux-contexts", file.to_str().unwrap()];
    let b = t.bundle().inside(&["pause"]);
    let c = b.create_with(&options).unwrap_or_else(|o| panic!("{}", o.err));
    c.start();
    assert_eq!(label_of_process(c.pid()), format!("{process}:c61,c62"));
}

pub fn plan_shows_the_labels(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    let b = labelled(t).mount("/m", "bind", store(t, "store", SHARED), &["bind", "Z"]);
    b.write();
    let plan = t.runtime(&["plan", "--bundle", b.dir.to_str().unwrap()]).ok().out;
    for line in [
        "reserve level s0:c11,c12",
        &format!("label keys {PROCESS}"),
        &format!("label the program and its sockets {PROCESS}"),
        &format!("mount tmpfs on /dev nosuid,mode=755 labelled {FILES}"),
        &format!("store relabelled {FILES} on /m bind,Z"),
        &format!("ask the policy whether {PROCESS} may run it"),
    ] {
        assert!(plan.contains(line), "{line}: {plan}");
    }
    assert_eq!(label_of(t, t.dir.join("store")), SHARED, "a plan changes nothing");
}

// ---- relabelling -------------------------------------------------------------------------------

/// A folder with a label that no container may touch, with what a walk may stumble on.
fn foreign_store(t: &T) -> PathBuf {
    let dir = store(t, "foreign", "system_u:object_r:etc_t:s0");
    fs::create_dir_all(dir.join("a/b/c")).unwrap();
    fs::write(dir.join("a/b/c/deep"), "deep").unwrap();
    fs::write(t.dir.join("outside"), "outside").unwrap();
    fs::create_dir(t.dir.join("outside-dir")).unwrap();
    fs::write(t.dir.join("outside-dir/file"), "outside").unwrap();
    symlink(t.dir.join("outside"), dir.join("a/link")).unwrap();
    symlink(t.dir.join("outside-dir"), dir.join("a/link-to-dir")).unwrap();
    nix::unistd::mkfifo(&dir.join("a/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [dir.as_path(), &t.dir.join("outside"), &t.dir.join("outside-dir")] {
        chcon(t, "system_u:object_r:etc_t:s0", path);
    }
    dir
}

fn relabelled(t: &T, word: &str, expected: &str) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let dir = foreign_store(t);
    let touch = ["read /m/a/b/c/deep", "put /m/file x", "create /m/a/new"];
    let without = at_level(t, "s0:c11,c12").mount("/m", "bind", &dir, &["bind"]).tries(&touch);
    assert!(without[1..].iter().all(|e| *e == EACCES), "{without:?}");
    let with = at_level(t, "s0:c11,c12").mount("/m", "bind", &dir, &["bind", word]).tries(&touch);
    assert_eq!(with, [0, 0, 0]);
    for path in ["", "file", "a", "a/b/c/deep", "a/link", "a/link-to-dir", "a/fifo"] {
        assert_eq!(label_of(t, dir.join(path)), expected, "{path}");
    }
    for outside in ["outside", "outside-dir", "outside-dir/file"] {
        assert_eq!(label_of(t, t.dir.join(outside)), "system_u:object_r:etc_t:s0", "{outside}");
    }
}

pub fn private_relabelling_gives_the_files_to_one_container(t: &T) {
    relabelled(t, "Z", FILES);
}

pub fn shared_relabelling_gives_the_files_to_all(t: &T) {
    relabelled(t, "z", SHARED);
}

pub fn relabelling_enters_no_other_mount(t: &T) {
    use nix::mount::{MsFlags, mount};
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let dir = foreign_store(t);
    let below = dir.join("a/b");
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    fs::write(below.join("file"), "").unwrap();
    let before = label_of(t, below.join("file"));
    at_level(t, "s0:c11,c12").mount("/m", "bind", &dir, &["rbind", "Z"]).inside(&["exit 0"]).run().ok();
    assert_eq!(label_of(t, dir.join("a")), FILES);
    assert_eq!(label_of(t, below.join("file")), before);
}

pub fn system_directories_are_never_relabelled(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let link = t.dir.join("link");
    symlink("/etc", &link).unwrap();
    let around = t.dir.join("../../etc/../usr");
    for path in ["/", "/etc", "/usr", "/home", "/var/lib", link.to_str().unwrap(), around.to_str().unwrap()] {
        if fs::metadata(path).is_err() {
            continue;
        }
        let before = label_of(t, fs::canonicalize(path).unwrap());
        let b = at_level(t, "s0:c11,c12").mount("/m", "bind", path, &["bind", "Z"]);
        b.refused().says("belongs to the system");
        assert_eq!(label_of(t, fs::canonicalize(path).unwrap()), before);
    }
}

pub fn root_filesystem_is_relabelled_on_request(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let b = t.bundle().inside(&["report"]);
    chcon(t, "system_u:object_r:etc_t:s0", b.rootfs());
    t.finish(b.command("run", &["--selinux-level", "auto"])).refused().says("etc_t");
    let output = t.finish(b.command("run", &["--selinux-level", "auto", "--selinux-root", "Z"])).ok();
    let label = output.probes()[0]["label"].as_str().unwrap().to_string();
    assert_eq!(
        label_of(t, b.rootfs().join("inside")),
        label.replace("system_r:container_t", "object_r:container_file_t")
    );
    // The next container has another pair: the files are not its own any more, until it takes them.
    t.finish(b.command("run", &["--selinux-level", "auto"])).refused().says("level");
    t.finish(b.command("run", &["--selinux-level", "auto", "--selinux-root", "z"])).ok();
    t.finish(b.command("run", &["--selinux-level", "auto"])).ok();
}

pub fn relabelling_without_a_label_to_give_is_a_warning_or_an_error(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    on(t);
    let dir = foreign_store(t);
    let output = t.bundle().mount("/m", "bind", &dir, &["bind", "Z"]).inside(&["exit 0"]).run().ok();
    output.says("nothing is relabelled");
    assert_eq!(label_of(t, &dir), "system_u:object_r:etc_t:s0");
    match t.bundle().create_with(&["--selinux-root", "Z"]) {
        Ok(_) => panic!("must be refused"),
        Err(output) => output.refused().says("there is no label to give"),
    }
}

pub fn relabelling_belongs_to_a_bind_mount(t: &T) {
    t.needs(&[Need::Only("myrt")]);
    t.bundle().mount("/m", "tmpfs", "tmpfs", &["Z"]).refused().says("z and Z belong to a bind mount");
}
