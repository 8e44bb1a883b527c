//! `/root`, the devices every container has, and what is hidden or read-only in it.

use crate::bundle::errno;
use crate::harness::T;
use crate::host::{Need, mount_at};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::fs;

pub fn root_of_the_container_is_the_rootfs(t: &T) {
    let names = t.bundle().file("/marker", "").probe(&["list /"])[0]["names"].clone();
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|n| n.as_str().unwrap()).collect();
    assert!(names.contains(&"marker") && !names.contains(&"usr"), "{names:?}");
}

pub fn absolute_root_path_works(t: &T) {
    let b = t.bundle();
    let root = b.rootfs().to_str().unwrap().to_string();
    assert_eq!(b.set("/root/path", root).tries(&["stat /inside"]), [0]);
}

pub fn missing_rootfs_is_refused(t: &T) {
    t.bundle().set("/root/path", "frobnicate").refused();
}

pub fn rootfs_that_is_a_file_is_refused(t: &T) {
    let b = t.bundle().set("/root/path", "file");
    fs::write(b.dir.join("file"), "").unwrap();
    b.refused();
}

pub fn missing_root_section_is_refused(t: &T) {
    t.bundle().remove("/root").refused();
}

pub fn rootfs_is_writable_unless_asked_otherwise(t: &T) {
    let b = t.bundle();
    let file = b.rootfs().join("new");
    assert_eq!(b.tries(&["create /new"]), [0]);
    assert!(file.exists());
}

pub fn readonly_root_cannot_be_written(t: &T) {
    let b = t.bundle().set("/root/readonly", true).mount("/tmp", "tmpfs", "tmpfs", &[]);
    assert_eq!(b.tries(&["create /new", "create /tmp/new", "open w /dev/null"]), [libc::EROFS, 0, 0]);
}

pub fn readonly_root_does_not_change_the_rootfs_outside(t: &T) {
    let b = t.bundle().set("/root/readonly", true);
    let file = b.rootfs().join("after");
    b.report();
    fs::write(file, "").unwrap();
}

pub fn mount_points_in_a_readonly_root_are_made_before_it_turns_readonly(t: &T) {
    let b = t.bundle().set("/root/readonly", true).mount("/fresh/point", "tmpfs", "tmpfs", &[]);
    assert_eq!(b.tries(&["create /fresh/point/x"]), [0]);
}

pub fn old_root_is_out_of_reach(t: &T) {
    let report = t.bundle().report();
    let roots = report["mounts"].as_array().unwrap().iter().filter(|m| m["point"] == "/").count();
    assert_eq!(roots, 1);
    assert!(
        report["mounts"].as_array().unwrap().iter().all(|m| !m["point"].as_str().unwrap().contains("pivot"))
    );
}

// ---- devices -----------------------------------------------------------------------------------

pub fn default_devices_are_there(t: &T) {
    let expected =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
    let probes: Vec<String> = expected.iter().map(|(name, ..)| format!("stat /dev/{name}")).collect();
    let probes: Vec<&str> = probes.iter().map(String::as_str).collect();
    for (probe, (name, major, minor)) in t.probe(&probes).iter().zip(expected) {
        assert_eq!(
            (&probe["type"], &probe["major"], &probe["minor"]),
            (&json!("c"), &json!(major), &json!(minor)),
            "{name}"
        );
        assert_eq!(probe["mode"], 0o666, "{name}");
    }
}

pub fn default_symlinks_are_there(t: &T) {
    let probes = t.probe(&[
        "readlink /dev/fd",
        "readlink /dev/stdin",
        "readlink /dev/stdout",
        "readlink /dev/stderr",
        "readlink /dev/ptmx",
    ]);
    let targets: Vec<&str> = probes.iter().map(|p| p["text"].as_str().unwrap_or("")).collect();
    assert_eq!(&targets[..4], ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]);
    assert!(["pts/ptmx", "/dev/pts/ptmx"].contains(&targets[4]), "{}", targets[4]);
}

pub fn default_devices_work(t: &T) {
    let probes = [
        "open rw /dev/null",
        "open r /dev/zero",
        "open r /dev/urandom",
        "put /dev/null x",
        "put /dev/full x",
    ];
    assert_eq!(t.bundle().tries(&probes), [0, 0, 0, 0, libc::ENOSPC]);
}

pub fn devices_of_the_config_are_made(t: &T) {
    let devices = json!([
        { "path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 12, "gid": 34 },
        { "path": "/dev/deep/two", "type": "b", "major": 7, "minor": 3, "fileMode": 0o600 },
        { "path": "/dev/pipe", "type": "p", "fileMode": 0o622 },
        { "path": "/elsewhere", "type": "u", "major": 1, "minor": 3 },
    ]);
    let probes = t.bundle().set("/linux/devices", devices).probe(&[
        "stat /dev/one",
        "stat /dev/deep/two",
        "stat /dev/pipe",
        "stat /elsewhere",
    ]);
    let fact = |i: usize| json!([probes[i]["type"], probes[i]["major"], probes[i]["minor"]]);
    assert_eq!([fact(0), fact(1), fact(3)], [json!(["c", 1, 5]), json!(["b", 7, 3]), json!(["c", 1, 3])]);
    assert_eq!(json!([probes[0]["mode"], probes[0]["uid"], probes[0]["gid"]]), json!([0o640, 12, 34]));
    assert_eq!(probes[1]["mode"], 0o600);
    assert_eq!(json!([probes[2]["type"], probes[2]["mode"]]), json!(["p", 0o622]));
}

pub fn mode_of_a_device_is_not_masked_by_the_umask(t: &T) {
    let device = json!([{ "path": "/dev/one", "type": "c", "major": 1, "minor": 5, "fileMode": 0o777 }]);
    let b = t.bundle().set("/linux/devices", device).set("/process/user/umask", 0o077);
    assert_eq!(b.probe(&["stat /dev/one"])[0]["mode"], 0o777);
}

pub fn devices_are_bound_in_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let b = t.bundle().user_namespace();
    assert_eq!(b.tries(&["open rw /dev/null", "open r /dev/zero"]), [0, 0]);
}

pub fn device_of_an_unknown_type_is_refused(t: &T) {
    let device = json!([{ "path": "/dev/one", "type": "x", "major": 1, "minor": 5 }]);
    t.bundle().set("/linux/devices", device).refused();
}

pub fn bound_dev_of_the_host_is_left_alone(t: &T) {
    let dev = t.dir.join("dev");
    fs::create_dir_all(dev.join("pts")).unwrap();
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    let null = nix::sys::stat::makedev(1, 3);
    nix::sys::stat::mknod(&dev.join("null"), nix::sys::stat::SFlag::S_IFCHR, mode, null).unwrap();
    let mut b = t.bundle();
    b.config["mounts"].as_array_mut().unwrap().retain(|m| m["destination"] == "/proc");
    let b = b.mount("/dev", "bind", &dev, &["bind"]);
    b.inside(&["exit 0"]).run().ok();
    assert!(!dev.join("zero").exists(), "a /dev that is bound keeps what it has");
}

// ---- hidden and read-only ----------------------------------------------------------------------

pub fn masked_file_reads_as_empty(t: &T) {
    let b = t
        .bundle()
        .file("/secret", "secret")
        .set("/linux/maskedPaths", json!(["/secret", "/proc/filesystems"]));
    let probes = b.probe(&["read /secret", "stat /secret", "read /proc/filesystems"]);
    assert_eq!(
        (&probes[0]["text"], &probes[1]["type"], &probes[2]["text"]),
        (&json!(""), &json!("c"), &json!(""))
    );
    assert_eq!(json!([probes[1]["major"], probes[1]["minor"]]), json!([1, 3]));
}

pub fn masked_directory_is_empty_and_read_only(t: &T) {
    let b = t.bundle().file("/secret/file", "secret").set("/linux/maskedPaths", json!(["/secret"]));
    let probes = b.probe(&["list /secret", "create /secret/new"]);
    assert_eq!((&probes[0]["names"], errno(&probes[1])), (&json!([]), libc::EROFS));
}

pub fn masked_path_that_is_missing_is_skipped(t: &T) {
    t.bundle().set("/linux/maskedPaths", json!(["/frobnicate", "/proc/frobnicate"])).report();
}

pub fn relative_masked_path_is_refused_or_masks(t: &T) {
    let b = t.bundle().file("/secret", "secret").set("/linux/maskedPaths", json!(["secret"]));
    let output = b.inside(&["read /secret"]).run();
    assert!(output.code != 0 || output.probes()[0]["text"] == "", "the mask is silently dropped");
}

pub fn masked_path_covers_what_a_mount_brought(t: &T) {
    let source = t.dir.join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("secret"), "secret").unwrap();
    let b =
        t.bundle().mount("/m", "bind", &source, &["bind"]).set("/linux/maskedPaths", json!(["/m/secret"]));
    assert_eq!(b.probe(&["read /m/secret"])[0]["text"], "");
}

pub fn readonly_path_cannot_be_written(t: &T) {
    let b = t
        .bundle()
        .all_caps()
        .file("/data/file", "")
        .set("/linux/readonlyPaths", json!(["/data", "/proc/sys"]));
    assert_eq!(
        b.tries(&[
            "create /data/new",
            "open w /data/file",
            "open w /proc/sys/kernel/hostname",
            "create /other"
        ]),
        [libc::EROFS, libc::EROFS, libc::EROFS, 0]
    );
}

pub fn readonly_file_cannot_be_written(t: &T) {
    let b = t.bundle().all_caps().file("/data", "").set("/linux/readonlyPaths", json!(["/data"]));
    assert_eq!(b.tries(&["open w /data"]), [libc::EROFS]);
}

pub fn readonly_path_that_is_missing_is_skipped(t: &T) {
    t.bundle().set("/linux/readonlyPaths", json!(["/frobnicate"])).report();
}

pub fn readonly_path_keeps_the_other_flags_of_its_mount(t: &T) {
    let mut b = t.bundle().set("/linux/readonlyPaths", json!(["/proc/sys"]));
    b.config["mounts"][0]["options"] = json!(["nosuid", "noexec", "nodev"]);
    let report = b.report();
    let options = mount_at(&report, "/proc/sys").unwrap()["options"].to_string();
    for option in ["ro", "nosuid", "noexec", "nodev"] {
        assert!(options.contains(option), "{options}");
    }
}

// ---- propagation of the root -------------------------------------------------------------------

/// The propagation tags of the container's root.
fn root_tags(t: &T, propagation: &str) -> String {
    let b = t.bundle().set("/linux/rootfsPropagation", propagation);
    let none = None::<&str>;
    mount(Some(&b.rootfs()), &b.rootfs(), none, MsFlags::MS_BIND, none).unwrap();
    mount(none, &b.rootfs(), none, MsFlags::MS_SHARED, none).unwrap();
    let report = b.report();
    let root = report["mounts"].as_array().unwrap().iter().find(|m| m["point"] == "/").unwrap().clone();
    let tags: Vec<String> = root["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| t.as_str().unwrap().split(':').next().unwrap().to_string())
        .collect();
    tags.join(" ")
}

pub fn root_propagation_private(t: &T) {
    assert_eq!(root_tags(t, "private"), "");
    assert_eq!(root_tags(t, "rprivate"), "");
}

pub fn root_propagation_slave_sends_nothing_to_the_host(t: &T) {
    assert!(!root_tags(t, "slave").contains("shared"));
    assert!(!root_tags(t, "rslave").contains("shared"));
}

pub fn root_propagation_shared(t: &T) {
    assert!(root_tags(t, "shared").starts_with("shared"));
    assert!(root_tags(t, "rshared").starts_with("shared"));
}

pub fn root_propagation_unbindable(t: &T) {
    assert_eq!(root_tags(t, "unbindable"), "unbindable");
    assert_eq!(root_tags(t, "runbindable"), "unbindable");
}

pub fn unknown_root_propagation_is_refused(t: &T) {
    t.bundle().set("/linux/rootfsPropagation", "frob").refused();
}

pub fn mount_label_alone_is_skipped_without_selinux(t: &T) {
    t.needs(&[Need::NoSeLinux]);
    t.bundle().set("/linux/mountLabel", "system_u:object_r:container_file_t:s0:c1,c2").report();
}
