//! What a hostile image, config or caller may try. Each test first shows that the attack is possible without the
//! defence, or that what it builds on is there.

use crate::bundle::{Output, errno};
use crate::harness::{T, before_exec, wait_for};
use crate::host::{self, Need, mount_points};
use crate::read;
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;

/// A folder of the host that no container may reach, with a file in it.
fn victim(t: &T) -> PathBuf {
    let victim = t.dir.join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::write(victim.join("host-secret"), "secret").unwrap();
    victim
}

fn names_in(dir: &PathBuf) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Fails if the container could be run and its output shows the secret's name.
#[track_caller]
fn hides(output: &Output) {
    assert!(!output.err.contains("panicked"), "{}", output.err);
    assert!(output.code != 0 || !output.out.contains("host-secret"), "the host is visible: {}", output.out);
}

pub fn symlink_in_a_mount_destination_leads_nowhere_outside(t: &T) {
    let victim = victim(t);
    let b = t.bundle();
    symlink(&victim, b.rootfs().join("m")).unwrap();
    fs::create_dir(b.rootfs().join("m/proof")).unwrap();
    assert!(victim.join("proof").exists(), "a plain mkdir follows the link out of the rootfs");
    let b = b.mount("/m/new", "tmpfs", "tmpfs", &[]);
    let _ = b.inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret", "proof"]);
}

pub fn relative_symlink_in_a_mount_destination_leads_nowhere_outside(t: &T) {
    let victim = victim(t);
    let b = t.bundle();
    symlink("../../victim", b.rootfs().join("m")).unwrap();
    assert!(b.rootfs().join("m/host-secret").exists(), "a plain path follows the link out of the rootfs");
    let source = t.dir.join("source");
    fs::write(&source, "").unwrap();
    let _ = b.mount("/m/new", "bind", &source, &["bind"]).inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret"]);
}

pub fn symlink_to_the_hosts_folder_shows_it_to_no_container(t: &T) {
    let victim = victim(t);
    let b = t.bundle();
    symlink(&victim, b.rootfs().join("m")).unwrap();
    assert!(b.rootfs().join("m/host-secret").exists(), "a plain path follows the link");
    hides(&b.mount("/m", "tmpfs", "tmpfs", &["tmpcopyup"]).inside(&["list /m"]).run());
}

pub fn symlink_at_dev_gets_no_devices_outside(t: &T) {
    let victim = victim(t);
    let mut b = t.bundle();
    b.config["mounts"].as_array_mut().unwrap().truncate(1);
    fs::remove_dir(b.rootfs().join("dev")).unwrap();
    symlink(&victim, b.rootfs().join("dev")).unwrap();
    assert!(b.rootfs().join("dev/host-secret").exists(), "a plain path follows the link");
    let _ = b.inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret"]);
}

pub fn symlink_at_the_working_directory_makes_nothing_outside(t: &T) {
    let victim = victim(t);
    let b = t.bundle().set("/process/cwd", "/m/new");
    symlink(&victim, b.rootfs().join("m")).unwrap();
    assert!(b.rootfs().join("m/host-secret").exists(), "a plain path follows the link");
    let _ = b.inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret"]);
}

pub fn device_path_with_dots_makes_nothing_outside(t: &T) {
    let victim = victim(t);
    let device = json!([{ "path": "/dev/../../../victim/node", "type": "c", "major": 1, "minor": 3 }]);
    let b = t.bundle().set("/linux/devices", device);
    assert!(b.rootfs().join("../../victim").exists(), "a plain path climbs out of the rootfs");
    let _ = b.inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret"]);
}

pub fn destination_with_dots_mounts_nothing_outside(t: &T) {
    let victim = victim(t);
    let b = t.bundle().mount("/../../victim/new", "tmpfs", "tmpfs", &[]);
    assert!(b.rootfs().join("../../victim").exists(), "a plain path climbs out of the rootfs");
    let _ = b.inside(&["exit 0"]).run();
    assert_eq!(names_in(&victim), ["host-secret"]);
}

pub fn proc_that_is_a_symlink_loses_no_mask(t: &T) {
    // CVE-2019-19921: the mask would cover a path that the container can rename.
    let b = t.bundle().set("/linux/maskedPaths", json!(["/proc/filesystems"]));
    fs::remove_dir(b.rootfs().join("proc")).unwrap();
    symlink("/tmp", b.rootfs().join("proc")).unwrap();
    let output = b.inside(&["read /proc/filesystems", "read /tmp/filesystems"]).run();
    if output.code == 0 {
        for probe in output.probes() {
            assert!(probe["text"].as_str().unwrap_or_default().is_empty(), "unmasked: {probe}");
        }
    }
}

pub fn folder_bound_over_proc_takes_no_sysctl(t: &T) {
    // CVE-2019-16884 and its kin: what the runtime writes to /proc must be the kernel's.
    let fake = t.dir.join("fake");
    fs::create_dir_all(fake.join("sys/kernel")).unwrap();
    fs::create_dir_all(fake.join("self")).unwrap();
    fs::write(fake.join("sys/kernel/msgmax"), "untouched").unwrap();
    let mut b = t.bundle().set("/linux/sysctl", json!({ "kernel.msgmax": "4097" }));
    b.config["mounts"][0] =
        json!({ "destination": "/proc", "type": "bind", "source": fake, "options": ["bind"] });
    let output = b.inside(&["exit 0"]).run();
    assert_eq!(read(fake.join("sys/kernel/msgmax")), "untouched", "{}", output.err);
}

pub fn mask_is_not_made_from_a_dev_null_of_the_image(t: &T) {
    // CVE-2025-31133: a link at /dev/null would be bound over the masked file.
    let mut b =
        t.bundle().file("/secret", "secret").file("/other", "host-secret").link("/dev/null", "/other");
    assert_eq!(read(b.rootfs().join("other")), "host-secret");
    b.config["mounts"].as_array_mut().unwrap().truncate(1);
    let b = b.set("/linux/maskedPaths", json!(["/secret"]));
    let output = b.inside(&["read /secret"]).run();
    hides(&output);
    if output.code == 0 {
        assert_eq!(output.probes()[0]["text"], "");
    }
}

pub fn console_is_not_made_through_a_link_of_the_image(t: &T) {
    // CVE-2025-52565.
    let victim = victim(t);
    let mut b = t.bundle().set("/process/terminal", true);
    b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] != "/dev");
    fs::create_dir_all(b.rootfs().join("dev/pts")).unwrap();
    symlink(victim.join("console"), b.rootfs().join("dev/console")).unwrap();
    fs::write(b.rootfs().join("dev/console"), "").unwrap();
    assert_eq!(names_in(&victim), ["console", "host-secret"], "a plain write follows the link");
    fs::remove_file(victim.join("console")).unwrap();
    let (_listener, path) = crate::terminal::listen(t);
    let _ = b.create_with(&["--console-socket", path.to_str().unwrap()]);
    assert_eq!(names_in(&victim), ["host-secret"]);
}

/// Runs a bundle with a descriptor of the victim folder left open at 20.
fn with_leaked_descriptor(t: &T, cwd: &str) -> Output {
    let folder = fs::File::open(victim(t)).unwrap();
    assert_eq!(
        names_in(&PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))),
        ["host-secret"],
        "magic links work"
    );
    let b = t.bundle().set("/process/cwd", cwd).inside(&["list .", "report"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, move || {
        // SAFETY: descriptor 20 of the child is free; it stays open over the exec.
        unsafe { libc::dup2(folder.as_raw_fd(), 20) };
        Ok(())
    });
    t.finish(command)
}

pub fn working_directory_through_a_descriptor_is_refused(t: &T) {
    // CVE-2024-21626.
    for fd in [3, 4, 5, 6, 7, 8, 9, 10, 20] {
        hides(&with_leaked_descriptor(t, &format!("/proc/self/fd/{fd}")));
    }
    with_leaked_descriptor(t, "/proc/self/fd/20").refused();
}

pub fn descriptors_of_the_caller_are_not_passed_on(t: &T) {
    let report = with_leaked_descriptor(t, "/").ok().probes().remove(1);
    assert_eq!(
        report["fds"].as_object().unwrap().keys().collect::<Vec<_>>(),
        ["0", "1", "2"],
        "{}",
        report["fds"]
    );
}

pub fn exec_through_a_descriptor_is_refused(t: &T) {
    let c = t.bundle().start();
    for fd in 3..12 {
        let output = c.call("exec", &["--cwd", &format!("/proc/self/fd/{fd}")], &["/inside", "stat", "usr"]);
        assert!(output.code != 0 || errno(&output.probes()[0]) != 0, "descriptor {fd} leads to the host");
    }
}

pub fn users_beyond_32_bits_are_refused(t: &T) {
    let c = t.bundle().start();
    assert_eq!(
        c.exec(&["--user", "4294967294"], &["report"]).remove(0)["uids"][0],
        4_294_967_294u32,
        "the greatest one works"
    );
    for user in ["4294967296", "4294967295", "-1", "18446744073709551616", "0:4294967296", "0:4294967295"] {
        let output = c.call("exec", &["--user", user], &["/inside", "report"]);
        assert_ne!(output.code, 0, "--user {user} is {}", output.out);
    }
}

pub fn users_that_are_not_decimal_are_refused(t: &T) {
    let c = t.bundle().start();
    for user in ["0x0", "1e3", " 0", "0 ", "+0", "1000:", ":0", "0:0:0", "٣"] {
        let output = c.call("exec", &["--user", user], &["/inside", "report"]);
        assert_ne!(output.code, 0, "--user {user:?} is {}", output.out);
    }
}

pub fn numeric_user_is_not_looked_up_as_a_name(t: &T) {
    // CVE-2016-3697: an image with a user named "1000" that is root.
    let c = t.bundle().file("/etc/passwd", "1000:x:0:0:root:/:/bin/sh\n").start();
    assert_eq!(c.exec(&["--user", "1000"], &["report"])[0]["uids"], json!([1000, 1000, 1000]));
}

pub fn ids_in_the_config_beyond_32_bits_are_refused(t: &T) {
    for (field, value) in
        [("uid", json!(4_294_967_296u64)), ("gid", json!(-1)), ("uid", json!(1.5)), ("uid", json!("0"))]
    {
        t.bundle().set(&format!("/process/user/{field}"), value).refused();
    }
    t.bundle().set("/process/user/additionalGids", json!([4_294_967_296u64])).refused();
}

pub fn inheritable_capabilities_of_the_caller_stay_outside(t: &T) {
    // CVE-2022-24769 and its kin.
    let b = t.bundle().caps(&["CAP_KILL"], &["bounding", "permitted", "effective"]).inside(&["report"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, || {
        let header = [0x2008_0522u32, 0];
        let mut data = [0u32; 6];
        // SAFETY: both structures have the size that version 3 asks for.
        unsafe {
            libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr());
            (data[2], data[5]) = (data[1], data[4]);
            match libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        }
    });
    let report = t.finish(command).ok().probes().remove(0);
    assert_eq!(report["capabilities"]["inheritable"], 0);
}

pub fn cgroups_path_with_dots_is_refused(t: &T) {
    t.needs(&[Need::Cgroupfs]);
    for end in ["../x", "a/../../x", ".."] {
        let b = t.bundle();
        let path = format!("{}/{end}", t.cgroups_path(&b.id));
        b.set("/linux/cgroupsPath", path).refused();
    }
}

pub fn cgroups_path_with_dots_reaches_no_other_cgroup(t: &T) {
    t.needs(&[Need::Cgroupfs]);
    let b = t.bundle();
    let path = t.cgroups_path(&b.id);
    let output = b.set("/linux/cgroupsPath", format!("{path}/../../../../frob-{}", t.run)).create_with(&[]);
    for mount in host::cgroup_mounts() {
        let outside = mount.join(format!("../frob-{}", t.run));
        let made = outside.exists();
        // Plain files, made by a runtime that took them for a cgroup's.
        drop(fs::remove_dir_all(&outside));
        assert!(!made, "{} was made", outside.display());
    }
    if let Ok(c) = output {
        c.delete_by_force().ok();
        for mount in host::cgroup_mounts() {
            assert!(!mount.join(format!("frob-{}", t.run)).exists(), "left behind");
        }
    }
}

pub fn odd_container_ids_are_refused(t: &T) {
    let long = "x".repeat(300);
    let b = t.bundle();
    b.write();
    for id in [
        "",
        ".",
        "..",
        "a/b",
        "../escape",
        "a b",
        "line\nbreak",
        "a\tb",
        "*",
        "ünï",
        "a\\b",
        "a:b",
        long.as_str(),
    ] {
        let output = t.runtime(&["create", "--bundle", b.dir.to_str().unwrap(), "--", id]);
        assert_ne!(output.code, 0, "{id:?} is accepted");
    }
    assert!(!t.dir.join("escape").exists());
}

pub fn usual_container_ids_are_accepted(t: &T) {
    for id in ["a", "A-b_c.d+e", "0", "-x"].iter().filter(|id| !id.starts_with('-')) {
        let mut b = t.bundle();
        b.id = format!("{id}{}", b.id);
        assert_eq!(b.create().status(), "created");
    }
}

pub fn mounts_of_the_container_do_not_reach_a_shared_host(t: &T) {
    let none = None::<&str>;
    mount(none, &t.dir, none, MsFlags::MS_SHARED, none).unwrap();
    let leak = t.dir.join("leak");
    fs::create_dir(&leak).unwrap();
    let mut proof = Command::new("unshare");
    proof.args(["--mount", "--propagation", "unchanged", "mount", "-t", "tmpfs", "tmpfs"]).arg(&leak);
    t.finish(proof).ok();
    assert!(mount_points().contains(&leak.to_str().unwrap().to_string()), "a shared parent passes mounts on");
    let before = mount_points();
    let c = t.bundle().mount("/m", "tmpfs", "tmpfs", &[]).start();
    assert_eq!(mount_points(), before);
    c.delete_by_force().ok();
}

pub fn program_without_a_terminal_cannot_reach_the_callers(t: &T) {
    let (_outer, inner) = crate::terminal::pty();
    let b = t.bundle().all_caps().inside(&["report"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, move || {
        nix::unistd::setsid()?;
        // SAFETY: a plain system call on a live descriptor.
        match unsafe { libc::ioctl(inner.as_raw_fd(), libc::TIOCSCTTY, 0) } {
            0 => fs::File::open("/dev/tty").map(|_| ()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    let report = t.finish(command).ok().probes().remove(0);
    assert_eq!(report["tty"]["controlling"], false);
}

pub fn binary_of_the_runtime_cannot_be_written_from_inside(t: &T) {
    // CVE-2019-5736: while a container waits for start, its first process is still the runtime. Who keeps a
    // descriptor of its executable can write to it as soon as it is busy no more.
    let copy = t.dir.join("runtime");
    fs::copy(&t.runtime, &copy).unwrap();
    let command = |args: &[&str]| {
        let mut command = Command::new(&copy);
        command.arg("--root").arg(t.dir.join("state")).args(args).current_dir(&t.dir);
        t.finish(command)
    };
    let b = t.bundle().all_caps().inside(&["pause"]);
    b.write();
    command(&["create", "--bundle", b.dir.to_str().unwrap(), &b.id]).ok();
    command(&["exec", "--detach", &b.id, "/inside", "overwrite", "/proc/1/exe", "/tmp/holds", "/tmp/result"])
        .ok();
    wait_for("a descriptor of the executable", || b.rootfs().join("tmp/holds").exists().then_some(()));
    command(&["start", &b.id]).ok();
    let result = wait_for("the attempt", || {
        fs::read_to_string(b.rootfs().join("tmp/result")).ok().filter(|r| r.ends_with('\n'))
    });
    assert!(fs::OpenOptions::new().write(true).open(&copy).is_ok(), "outside, root may write it");
    let binary = fs::metadata(&copy).unwrap();
    let written = format!("{} {} 0\n", binary.dev(), binary.ino());
    assert_ne!(result, written, "device, inode, errno");
}

pub fn program_cannot_be_the_runtime_itself(t: &T) {
    // The other way to it: a program that is a link to the one that executes it.
    let binary = fs::metadata(&t.runtime).unwrap();
    let b = t.bundle().all_caps().link("/self", "/proc/self/exe").args(&["/self", "--version"]);
    let before = (binary.ino(), binary.mtime(), binary.size());
    let _ = b.run();
    let after = fs::metadata(&t.runtime).unwrap();
    assert_eq!(before, (after.ino(), after.mtime(), after.size()));
}

pub fn user_namespace_keeps_the_hosts_files_out_of_reach(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let victim = victim(t);
    fs::set_permissions(victim.join("host-secret"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .unwrap();
    let plain = t.bundle().mount("/m", "bind", &victim, &["bind"]).tries(&["read /m/host-secret"]);
    assert_eq!(plain, [0], "root without a user namespace reads it");
    let b = t.bundle().user_namespace().mount("/m", "bind", &victim, &["bind"]);
    assert_eq!(b.all_caps().tries(&["read /m/host-secret"]), [libc::EACCES]);
}

pub fn environment_of_the_caller_does_not_steer_the_runtime(t: &T) {
    let b = t.bundle().inside(&["exit 7"]);
    let mut command = b.command("run", &[]);
    for (key, value) in
        [("_LIBCONTAINER_INITPIPE", "0"), ("_OCI_SYNCPIPE", "0"), ("_LIBCONTAINER_LOGPIPE", "1")]
    {
        command.env(key, value);
    }
    assert_eq!(t.finish(command).code, 7);
}

pub fn sys_that_is_a_symlink_hides_nothing_elsewhere(t: &T) {
    // CVE-2023-27561 and CVE-2023-28642: a link where /proc or /sys belongs moves what the masks are for.
    let b = t.bundle().namespace("network").set("/linux/maskedPaths", json!(["/sys/kernel"]));
    fs::remove_dir(b.rootfs().join("sys")).unwrap();
    symlink("/tmp", b.rootfs().join("sys")).unwrap();
    assert!(
        b.rootfs().join("sys").is_dir() || b.rootfs().join("sys").is_symlink(),
        "a plain path follows the link"
    );
    let b = b.mount("/sys", "sysfs", "sysfs", &["ro"]);
    let output = b.inside(&["list /sys/kernel", "list /tmp/kernel"]).run();
    if output.code == 0 {
        for probe in output.probes() {
            assert!(probe["names"].as_array().is_none_or(Vec::is_empty), "unmasked: {probe}");
        }
    }
}

/// Exchanges two paths, again and again, until told to stop.
fn exchange(one: PathBuf, other: PathBuf, stop: std::sync::Arc<std::sync::atomic::AtomicBool>) {
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &PathBuf| std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let (one, other) = (name(&one), name(&other));
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        let (at, how) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
        // SAFETY: both names end with NUL and live on.
        unsafe { libc::syscall(libc::SYS_renameat2, at, one.as_ptr(), at, other.as_ptr(), how) };
    }
}

pub fn folder_exchanged_for_a_symlink_leads_no_mount_outside(t: &T) {
    // CVE-2021-30465, CVE-2024-45310: whoever shares a volume swaps a folder for a link between the check and the use.
    t.alone();
    let victim = victim(t);
    let volume = t.dir.join("volume");
    fs::create_dir_all(volume.join("a")).unwrap();
    symlink(&victim, volume.join("b")).unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapping = {
        let (a, b, stop) = (volume.join("a"), volume.join("b"), stop.clone());
        std::thread::spawn(move || exchange(a, b, stop))
    };
    wait_for("a check followed by a use loses the race", || {
        (0..500).find(|_| {
            let honest = fs::symlink_metadata(volume.join("a")).is_ok_and(|m| m.is_dir());
            std::thread::yield_now();
            let _ = honest.then(|| fs::create_dir(volume.join("a/proof")));
            victim.join("proof").exists()
        })
    });
    fs::remove_dir(victim.join("proof")).unwrap();
    for _ in 0..12 {
        let b = t
            .bundle()
            .mount("/v", "bind", &volume, &["rbind"])
            .mount("/v/a/new", "tmpfs", "tmpfs", &[])
            .mount("/v/a/file", "bind", "/dev/null", &["bind"])
            .set("/linux/maskedPaths", json!(["/v/a/mask"]));
        hides(&b.inside(&["list /v/a", "list /v/a/new", "list /v/a/.."]).run());
        assert_eq!(names_in(&victim), ["host-secret"]);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapping.join().unwrap();
}

/// The runtime, held for a while at each of these system calls.
fn held_at(t: &T, call: &str) -> Command {
    let (trace, hold) = (format!("trace={call}"), format!("inject={call}:delay_enter=400000"));
    t.traced(&["-f", "-o", "/dev/null", "-e", &trace, "-e", &hold])
}

pub fn process_that_exec_brings_shows_nothing_of_the_runtime(t: &T) {
    // CVE-2016-9962: while exec sets its process up in the container, that process still has the runtime's files
    // open. strace holds it there, so that what watches from inside has all the time that it needs.
    t.needs(&[Need::Program("strace")]);
    let c = t.bundle().inside(&["watch 6000"]).start_as_is();
    let mut command = held_at(t, "execve");
    command.args(["exec", &c.id, "/inside", "sleep", "500"]);
    t.finish(command).ok();
    shows_only_the_containers_own(&c);
}

/// Of what watches in this container: it saw programs of the container, and nothing of the runtime.
#[track_caller]
fn shows_only_the_containers_own(c: &crate::bundle::Container) {
    let seen = crate::harness::wait_for_json(|| c.output());
    let links: Vec<&str> = seen[0]["seen"].as_array().unwrap().iter().filter_map(|l| l.as_str()).collect();
    assert!(links.contains(&"exe /inside"), "it sees the programs of the container: {links:?}");
    let own = |link: &str| {
        ["exe /inside", "cwd /", "root /"].contains(&link)
            || link.starts_with("fd /dev/null")
            || link.starts_with("fd pipe:")
            || link.contains("said-")
            // What Rust's start-up of the program itself reads for a moment.
            || (link.starts_with("fd /proc/") && link.ends_with("/maps"))
    };
    let leaked: Vec<&&str> = links.iter().filter(|link| !own(link)).collect();
    assert!(leaked.is_empty(), "{leaked:?}");
}

pub fn process_that_joins_namespaces_shows_nothing_of_the_runtime(t: &T) {
    // As the one before, for a pod: who is root of the user namespace that a second container joins.
    t.needs(&[Need::Program("strace"), Need::UserNamespaces]);
    let c = t.bundle().user_namespace().all_caps().inside(&["watch 8000"]).start_as_is();
    let ns = |kind: &str| format!("/proc/{}/ns/{kind}", c.pid());
    let b = t.bundle().user_namespace().without_namespace("user");
    let b = b.join_namespace("user", &ns("user")).join_namespace("pid", &ns("pid")).inside(&["sleep 700"]);
    b.write();
    let mut command = held_at(t, "recvmsg");
    command.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
    t.finish(command).ok();
    shows_only_the_containers_own(&c);
}

/// A process of the host that the runtime has cloned: it is two steps below the strace that the test has started.
fn cloned_by(running: &crate::harness::Running) -> i64 {
    let children = |pid: i64| -> Vec<i64> {
        let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    };
    wait_for("the runtime to clone a process", || {
        children(running.pid().as_raw().into())
            .first()
            .and_then(|runtime| children(*runtime).first().copied())
    })
}

/// A container among the host's processes, without any capability, whose user is root, as the owner of a user namespace
/// that the runtime makes: over what is in there he has every right, and whatever it has open is the host's.
fn sees_nothing_of_what_is_cloned(b: crate::bundle::Bundle, call: &str) {
    let t = b.t;
    t.needs(&[Need::Only("myrt"), Need::Program("strace"), Need::Program("unshare"), Need::UserNamespaces]);
    let watcher =
        t.bundle().without_namespace("pid").caps(&[], &["bounding", "permitted", "effective"]).start();
    let look = |pid: i64| errno(&watcher.exec(&[], &[&format!("list /proc/{pid}/root")])[0]);
    // The attack: without a defence the root of the host lies open.
    let mut plain = Command::new("unshare").args(["--user", "sleep", "1000"]).spawn().unwrap();
    let pid = i64::from(plain.id());
    let user = |pid: i64| host::namespace(pid, "user");
    let own = user(std::process::id().into());
    wait_for("a new user namespace", || (user(pid) != own).then_some(()));
    let open = look(pid);
    plain.kill().unwrap();
    plain.wait().unwrap();
    assert_eq!(open, 0, "the attack works");
    // strace holds the runtime before it lets its child go on.
    b.write();
    let (trace, hold) = (format!("trace={call}"), format!("inject={call}:delay_enter=10000000:when=1"));
    let mut command = t.traced(&["-o", "/dev/null", "-e", &trace, "-e", &hold]);
    command.args(["run", "--bundle"]).arg(&b.dir).arg(&b.id);
    let running = t.begin(command);
    let pid = cloned_by(&running);
    assert_ne!(user(pid), own);
    assert_eq!(look(pid), libc::EACCES);
    // It was still there to be seen.
    assert!(host::lives(pid));
    running.wait().ok();
}

pub fn process_in_a_new_user_namespace_is_hidden_from_its_owner(t: &T) {
    sees_nothing_of_what_is_cloned(t.bundle().user_namespace().inside(&["exit 0"]), "sendmsg");
}

pub fn process_that_makes_an_id_mapping_is_hidden_from_its_owner(t: &T) {
    let map = json!([{ "containerID": 0, "hostID": 1000, "size": 10 }]);
    let mount = json!({ "destination": "/m", "type": "bind", "source": "/", "options": ["bind"],
        "uidMappings": map, "gidMappings": map });
    sees_nothing_of_what_is_cloned(t.bundle().set("/mounts/-", mount).inside(&["exit 0"]), "recvmsg");
}

pub fn long_fields_cut_nothing_off(t: &T) {
    // CVE-2021-43784: a length that did not fit into 16 bits let the rest of a message be read as a new one.
    let b = t.bundle().namespace("network").set("/hostname", "guarded");
    let b = b.set("/process/env", json!([format!("BIG={}", "x".repeat(70_000)), "PATH=/"]));
    let b = b.set("/annotations", json!({ "big": "y".repeat(140_000) }));
    let report = b.report();
    assert_eq!(report["hostname"], "guarded");
    for kind in ["net", "pid", "mnt", "uts", "ipc"] {
        assert_ne!(report["namespaces"][kind], host::namespace("self", kind).as_str(), "{kind}");
    }
    assert_eq!(report["env"][0].as_str().unwrap().len(), 70_004);
}

pub fn cgroups_in_a_user_namespace_are_mounted_as_asked(t: &T) {
    // CVE-2023-25809: without a cgroup namespace the host's tree was bound, and writable.
    t.needs(&[Need::UserNamespaces]);
    let procs =
        if host::is_v2() { "/sys/fs/cgroup/cgroup.procs" } else { "/sys/fs/cgroup/pids/cgroup.procs" };
    let b = t.bundle().user_namespace();
    let b = b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    let probes = b.probe(&[&format!("read {procs}"), "report", &format!("put {procs} 1")]);
    assert_eq!(errno(&probes[0]), 0, "the tree is there");
    for mount in probes[1]["mounts"].as_array().unwrap() {
        if mount["type"].as_str().unwrap().starts_with("cgroup") {
            assert!(mount["options"].as_array().unwrap().contains(&json!("ro")), "{mount}");
        }
    }
    assert_ne!(errno(&probes[2]), 0);
}

pub fn release_agent_of_the_host_is_out_of_reach(t: &T) {
    // CVE-2022-0492: whoever writes release_agent of a v1 hierarchy's root runs a program on the host.
    t.needs(&[Need::CgroupV1]);
    let agent = |dir: &PathBuf| dir.join("release_agent").exists();
    assert!(host::cgroup_mounts().iter().any(agent), "the host has the file");
    let b = t.bundle().all_caps().namespace("cgroup");
    let b = b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    let names = b.inside(&["list /sys/fs/cgroup"]).run().ok().probes().remove(0)["names"].clone();
    let names: Vec<String> = serde_json::from_value(names).unwrap();
    let probes: Vec<String> =
        names.iter().map(|name| format!("stat /sys/fs/cgroup/{name}/release_agent")).collect();
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    let b = t.bundle().all_caps().namespace("cgroup");
    let b = b.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]);
    assert!(!probes.is_empty() && b.tries(&probes).iter().all(|errno| *errno == libc::ENOENT), "{names:?}");
}

pub fn pid_that_was_given_to_a_stranger_is_not_signalled(t: &T) {
    // In a PID namespace of its own, where the next number can be chosen.
    t.needs(&[Need::Program("unshare"), Need::Path("/proc/sys/kernel/ns_last_pid")]);
    let b = t.bundle().inside(&["exit 0"]);
    b.write();
    let call = format!("{} --root {}/state", t.runtime.display(), t.dir.display());
    let (id, bundle, dir) = (&b.id, b.dir.display(), t.dir.display());
    let script = format!(
        "{call} create --bundle {bundle} --pid-file {dir}/pid {id} >/dev/null; {call} start {id}; pid=$(cat {dir}/pid)
         while [ -e /proc/$pid ]; do sleep 0.05; done; sleep 0.1
         for try in 1 2 3 4 5 6 7 8 9 10; do
             echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid; sleep 100 & stranger=$!
             [ $stranger = $pid ] && break; kill $stranger
         done
         [ $stranger = $pid ] || exit 50
         {call} kill {id} KILL 2>/dev/null; {call} kill --all {id} KILL 2>/dev/null
         {call} delete {id} || exit 51
         sleep 0.1; kill -0 $stranger || exit 52
         kill $stranger; exit 7"
    );
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "bash", "-c", &script]);
    let output = t.finish(command);
    assert_eq!(output.code, 7, "{}", output.err);
}
