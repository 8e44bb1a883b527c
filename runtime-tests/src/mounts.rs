//! `/mounts`: destinations, sources, types, and every option that config.md says a runtime must know.

use crate::bundle::{Bundle, errno};
use crate::harness::T;
use crate::host::{Need, mount_at};
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// The per-mount options at a point.
fn options(report: &Value, point: &str) -> Vec<String> {
    list(report, point, "options")
}

fn list(report: &Value, point: &str, member: &str) -> Vec<String> {
    let mount = mount_at(report, point).unwrap_or_else(|| panic!("nothing is mounted on {point}"));
    mount[member].as_array().unwrap().iter().map(|o| o.as_str().unwrap().to_string()).collect()
}

fn has(report: &Value, point: &str, option: &str) -> bool {
    options(report, point).iter().any(|o| o == option)
}

fn tmpfs(point: &str, kind: &str) {
    let none = None::<&str>;
    mount(Some("tmpfs"), point, Some(kind), MsFlags::empty(), none).unwrap();
}

/// A container with a tmpfs on /m that has these options.
fn with_tmpfs<'t>(t: &'t T, options: &[&str]) -> Bundle<'t> {
    t.bundle().mount("/m", "tmpfs", "tmpfs", options)
}

/// A folder of the host with a file, a program, a link and another mount in it.
fn tree(t: &T) -> PathBuf {
    let tree = t.dir.join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    tmpfs(tree.join("sub").to_str().unwrap(), "tmpfs");
    for dir in [tree.clone(), tree.join("sub")] {
        fs::write(dir.join("file"), "host").unwrap();
        std::os::unix::fs::symlink("file", dir.join("link")).unwrap();
        fs::copy(std::env::var_os("INSIDE").unwrap(), dir.join("program")).unwrap();
    }
    tree
}

/// A container that has `tree` on /m, with these options.
fn with_tree<'t>(t: &'t T, options: &[&str]) -> Bundle<'t> {
    t.bundle().mount("/m", "bind", tree(t), options)
}

// ---- one option each, on a tmpfs ---------------------------------------------------------------

pub fn ro_makes_a_mount_read_only(t: &T) {
    assert_eq!(with_tmpfs(t, &["ro"]).tries(&["create /m/x"]), [libc::EROFS]);
}

pub fn rw_leaves_a_mount_writable(t: &T) {
    assert_eq!(with_tmpfs(t, &["rw"]).tries(&["create /m/x"]), [0]);
}

pub fn last_of_contrary_options_wins(t: &T) {
    assert_eq!(with_tmpfs(t, &["ro", "rw"]).tries(&["create /m/x"]), [0]);
    assert_eq!(with_tmpfs(t, &["rw", "ro"]).tries(&["create /m/x"]), [libc::EROFS]);
}

pub fn nosuid_nodev_and_noexec_are_set_together(t: &T) {
    let report = with_tmpfs(t, &["nosuid", "nodev", "noexec"]).report();
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(has(&report, "/m", option), "{option}");
    }
}

pub fn noexec_keeps_programs_from_running(t: &T) {
    let tree = tree(t);
    let run = |option: &str| {
        t.bundle().mount("/m", "bind", &tree, &["bind", option]).tries(&["child /m/program print x"])
    };
    assert_eq!(run("noexec"), [libc::EACCES]);
    assert_eq!(run("exec"), [0]);
}

pub fn nodev_keeps_devices_from_opening(t: &T) {
    let tree = tree(t);
    nix::sys::stat::mknod(
        &tree.join("null"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    let run =
        |option: &str| t.bundle().mount("/m", "bind", &tree, &["bind", option]).tries(&["open r /m/null"]);
    assert_eq!(run("nodev"), [libc::EACCES]);
    assert_eq!(run("dev"), [0]);
}

pub fn suid_dev_and_exec_undo_what_came_before(t: &T) {
    let report = with_tmpfs(t, &["nosuid", "nodev", "noexec", "suid", "dev", "exec"]).report();
    for option in ["nosuid", "nodev", "noexec"] {
        assert!(!has(&report, "/m", option), "{option}");
    }
}

pub fn defaults_sets_nothing(t: &T) {
    assert_eq!(options(&with_tmpfs(t, &["defaults"]).report(), "/m"), ["rw", "relatime"]);
}

pub fn noatime_is_set_and_atime_undoes_it(t: &T) {
    assert!(has(&with_tmpfs(t, &["noatime"]).report(), "/m", "noatime"));
    assert!(!has(&with_tmpfs(t, &["noatime", "atime"]).report(), "/m", "noatime"));
}

pub fn nodiratime_is_set_and_diratime_undoes_it(t: &T) {
    assert!(has(&with_tmpfs(t, &["nodiratime"]).report(), "/m", "nodiratime"));
    assert!(!has(&with_tmpfs(t, &["nodiratime", "diratime"]).report(), "/m", "nodiratime"));
}

pub fn relatime_is_set(t: &T) {
    assert!(has(&with_tmpfs(t, &["relatime"]).report(), "/m", "relatime"));
}

pub fn strictatime_is_set(t: &T) {
    let report = with_tmpfs(t, &["strictatime"]).report();
    assert!(!has(&report, "/m", "relatime") && !has(&report, "/m", "noatime"));
}

pub fn norelatime_and_nostrictatime_are_accepted(t: &T) {
    with_tmpfs(t, &["norelatime"]).report();
    assert!(has(&with_tmpfs(t, &["strictatime", "nostrictatime"]).report(), "/m", "relatime"));
}

pub fn sync_is_set_and_async_undoes_it(t: &T) {
    let sync =
        |options: &[&str]| list(&with_tmpfs(t, options).report(), "/m", "super").contains(&"sync".into());
    assert!(sync(&["sync"]));
    assert!(!sync(&["sync", "async"]));
}

pub fn dirsync_is_set(t: &T) {
    assert!(list(&with_tmpfs(t, &["dirsync"]).report(), "/m", "super").contains(&"dirsync".into()));
}

pub fn lazytime_is_set_and_nolazytime_undoes_it(t: &T) {
    let lazy =
        |options: &[&str]| list(&with_tmpfs(t, options).report(), "/m", "super").contains(&"lazytime".into());
    assert!(lazy(&["lazytime"]));
    assert!(!lazy(&["lazytime", "nolazytime"]));
}

pub fn iversion_silent_and_their_contraries_are_accepted(t: &T) {
    for option in ["iversion", "noiversion", "silent", "loud"] {
        let report = with_tmpfs(t, &[option]).report();
        assert_eq!(list(&report, "/m", "super")[0], "rw", "{option}");
    }
}

pub fn nosymfollow_stops_symlinks(t: &T) {
    let tree = tree(t);
    let run = |options: &[&str]| t.bundle().mount("/m", "bind", &tree, options).tries(&["read /m/link"]);
    assert_eq!(run(&["bind", "nosymfollow"]), [libc::ELOOP]);
    assert_eq!(run(&["bind", "symfollow"]), [0]);
}

pub fn nosymfollow_works_on_a_new_filesystem(t: &T) {
    let b = with_tmpfs(t, &["nosymfollow"]);
    assert_eq!(b.tries(&["create /m/f", "symlink f /m/l", "read /m/l"]), [0, 0, libc::ELOOP]);
}

pub fn unknown_options_go_to_the_filesystem_as_data(t: &T) {
    let b = with_tmpfs(t, &["size=1m", "mode=0711", "uid=7", "gid=8", "nr_inodes=100"]);
    let probes = b.probe(&["stat /m", "report"]);
    assert_eq!(
        (&probes[0]["mode"], &probes[0]["uid"], &probes[0]["gid"]),
        (&json!(0o711), &json!(7), &json!(8))
    );
    let data = list(&probes[1], "/m", "super");
    assert!(data.contains(&"size=1024k".into()) && data.contains(&"nr_inodes=100".into()), "{data:?}");
}

pub fn read_only_tmpfs_still_gets_what_belongs_into_it(t: &T) {
    let mut b = with_tmpfs(t, &["ro"]).mount("/m/below", "tmpfs", "tmpfs", &[]);
    let mounts = b.config["mounts"].as_array_mut().unwrap();
    let dev = mounts.iter_mut().find(|mount| mount["destination"] == "/dev");
    dev.expect("a tmpfs on /dev")["options"] = json!(["nosuid", "ro", "mode=755"]);
    let tried = b.tries(&["create /m/x", "create /m/below/x", "create /dev/x", "create /dev/null"]);
    assert_eq!(tried, [libc::EROFS, 0, libc::EROFS, 0]);
}

pub fn read_only_tmpfs_has_the_files_that_it_covers(t: &T) {
    let b = with_tmpfs(t, &["tmpcopyup", "ro"]).file("/m/one", "1");
    let probes = b.probe(&["read /m/one", "create /m/new"]);
    assert_eq!((&probes[0]["text"], errno(&probes[1])), (&json!("1"), libc::EROFS));
}

pub fn mqueue_belongs_to_root_of_the_user_namespace(t: &T) {
    let b =
        t.bundle().user_namespace().mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    let probes = b.probe(&["stat /dev/mqueue"]);
    assert_eq!(probes[0]["uid"], 0);
}

pub fn empty_option_says_nothing(t: &T) {
    let report = with_tmpfs(t, &["nosuid", "", "size=1m"]).report();
    assert!(has(&report, "/m", "nosuid") && list(&report, "/m", "super").contains(&"size=1024k".into()));
}

pub fn option_that_the_filesystem_does_not_know_is_refused(t: &T) {
    with_tmpfs(t, &["frobnicate=yes"]).refused();
}

pub fn tmpcopyup_fills_the_tmpfs_with_what_it_covers(t: &T) {
    let b = with_tmpfs(t, &["tmpcopyup"]).file("/m/one", "1").file("/m/deep/two", "2").link("/m/link", "one");
    let probes = b.probe(&["read /m/one", "read /m/deep/two", "readlink /m/link", "create /m/new"]);
    assert_eq!(
        (&probes[0]["text"], &probes[1]["text"], &probes[2]["text"]),
        (&json!("1"), &json!("2"), &json!("one"))
    );
    assert_eq!(errno(&probes[3]), 0);
}

pub fn tmpcopyup_keeps_owner_and_mode(t: &T) {
    use std::os::unix::fs::PermissionsExt;
    let b = with_tmpfs(t, &["tmpcopyup"]).file("/m/one", "1");
    let one = b.rootfs().join("m/one");
    fs::set_permissions(&one, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&one, Some(12), Some(34)).unwrap();
    let probe = b.probe(&["stat /m/one"]).remove(0);
    assert_eq!((&probe["mode"], &probe["uid"], &probe["gid"]), (&json!(0o640), &json!(12), &json!(34)));
}

// ---- binds -------------------------------------------------------------------------------------

pub fn bind_shows_the_source_without_its_mounts(t: &T) {
    let b = with_tree(t, &["bind"]);
    let probes = b.probe(&["read /m/file", "list /m/sub"]);
    assert_eq!((&probes[0]["text"], &probes[1]["names"]), (&json!("host"), &json!([])));
}

pub fn rbind_shows_the_source_with_its_mounts(t: &T) {
    assert_eq!(with_tree(t, &["rbind"]).tries(&["read /m/file", "read /m/sub/file"]), [0, 0]);
}

pub fn bind_option_alone_makes_a_bind_mount(t: &T) {
    let tree = tree(t);
    for kind in ["", "none", "bind"] {
        assert_eq!(t.bundle().mount("/m", kind, &tree, &["bind"]).tries(&["read /m/file"]), [0], "{kind}");
    }
}

pub fn bind_of_a_file_makes_the_file_it_needs(t: &T) {
    let source = t.dir.join("source");
    fs::write(&source, "of the host").unwrap();
    let b = t.bundle().mount("/new/folder/file", "bind", &source, &["bind"]);
    assert_eq!(b.probe(&["read /new/folder/file"])[0]["text"], "of the host");
}

pub fn relative_source_is_resolved_from_the_bundle(t: &T) {
    let b = t.bundle().mount("/m", "bind", "here", &["bind"]);
    fs::create_dir(b.dir.join("here")).unwrap();
    fs::write(b.dir.join("here/file"), "").unwrap();
    assert_eq!(b.tries(&["read /m/file"]), [0]);
}

pub fn missing_source_is_refused_and_named(t: &T) {
    t.bundle().mount("/m", "bind", "/frobnicate", &["bind"]).refused().says("/frobnicate");
}

pub fn writes_to_a_bind_reach_the_host(t: &T) {
    let b = with_tree(t, &["rbind", "rw"]);
    b.probe(&["create /m/new"]);
    assert!(t.dir.join("tree/new").exists());
}

pub fn ro_bind_is_not_recursive(t: &T) {
    let b = with_tree(t, &["rbind", "ro"]);
    assert_eq!(b.tries(&["create /m/x", "create /m/sub/x"]), [libc::EROFS, 0]);
}

pub fn rro_bind_is_recursive(t: &T) {
    let b = with_tree(t, &["rbind", "rro"]);
    assert_eq!(b.tries(&["create /m/x", "create /m/sub/x"]), [libc::EROFS, libc::EROFS]);
}

pub fn ro_bind_does_not_change_the_source(t: &T) {
    with_tree(t, &["rbind", "rro"]).probe(&["stat /m"]);
    fs::write(t.dir.join("tree/after"), "").unwrap();
    fs::write(t.dir.join("tree/sub/after"), "").unwrap();
}

pub fn ro_bind_keeps_the_flags_of_its_source(t: &T) {
    let none = None::<&str>;
    let source = t.dir.join("strict");
    fs::create_dir(&source).unwrap();
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), &source, Some("tmpfs"), strict, none).unwrap();
    let report = t.bundle().mount("/m", "bind", &source, &["bind", "ro"]).report();
    for option in ["ro", "nosuid", "nodev", "noexec"] {
        assert!(has(&report, "/m", option), "{option}: {:?}", options(&report, "/m"));
    }
}

/// True if the option shows on /m, on /m/sub, when the tree is bound with `given`.
fn shows(t: &T, given: &str, option: &str) -> (bool, bool) {
    let tree = t.dir.join("tree");
    let tree = if tree.exists() { tree } else { self::tree(t) };
    let report = t.bundle().mount("/m", "bind", tree, &["rbind", given]).report();
    (has(&report, "/m", option), has(&report, "/m/sub", option))
}

pub fn rnosuid_reaches_the_mounts_below_and_nosuid_does_not(t: &T) {
    assert_eq!(shows(t, "rnosuid", "nosuid"), (true, true));
    assert_eq!(shows(t, "nosuid", "nosuid"), (true, false));
}

pub fn rnodev_reaches_the_mounts_below(t: &T) {
    assert_eq!(shows(t, "rnodev", "nodev"), (true, true));
}

pub fn rnoexec_reaches_the_mounts_below(t: &T) {
    assert_eq!(shows(t, "rnoexec", "noexec"), (true, true));
}

pub fn rnoatime_and_rnodiratime_reach_the_mounts_below(t: &T) {
    assert_eq!(shows(t, "rnoatime", "noatime"), (true, true));
    assert_eq!(shows(t, "rnodiratime", "nodiratime"), (true, true));
}

pub fn rstrictatime_and_rrelatime_reach_the_mounts_below(t: &T) {
    assert_eq!(shows(t, "rstrictatime", "relatime"), (false, false));
    assert_eq!(shows(t, "rrelatime", "relatime"), (true, true));
}

pub fn rnosymfollow_reaches_the_mounts_below(t: &T) {
    assert_eq!(shows(t, "rnosymfollow", "nosymfollow"), (true, true));
}

pub fn recursive_contraries_undo_what_the_source_has(t: &T) {
    let none = None::<&str>;
    let source = t.dir.join("strict");
    fs::create_dir(&source).unwrap();
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NODIRATIME;
    mount(Some("tmpfs"), &source, Some("tmpfs"), flags | MsFlags::MS_NOATIME, none).unwrap();
    fs::create_dir(source.join("sub")).unwrap();
    mount(Some("tmpfs"), &source.join("sub"), Some("tmpfs"), flags | MsFlags::MS_RDONLY, none).unwrap();
    let undo = ["rbind", "rrw", "rsuid", "rdev", "rexec", "rdiratime", "ratime", "rsymfollow"];
    let report = t.bundle().mount("/m", "bind", &source, &undo).report();
    for point in ["/m", "/m/sub"] {
        for option in ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"] {
            assert!(!has(&report, point, option), "{option} on {point}");
        }
    }
}

pub fn rnorelatime_and_rnostrictatime_are_accepted(t: &T) {
    assert!(shows(t, "rnorelatime", "rw").0);
    assert!(shows(t, "rnostrictatime", "relatime").0);
}

pub fn remount_changes_what_an_earlier_mount_set(t: &T) {
    let b = with_tmpfs(t, &[]).mount("/m", "tmpfs", "tmpfs", &["remount", "ro"]);
    assert_eq!(b.tries(&["create /m/x"]), [libc::EROFS]);
}

// ---- propagation -------------------------------------------------------------------------------

/// The propagation tags of /m, whose source is shared on the host, with one propagation option.
fn tags(t: &T, option: &str) -> (String, String) {
    let none = None::<&str>;
    let tree = t.dir.join("tree");
    let tree = if tree.exists() { tree } else { self::tree(t) };
    mount(Some(&tree), &tree, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    mount(none, &tree, none, MsFlags::MS_SHARED | MsFlags::MS_REC, none).unwrap();
    let options: Vec<&str> = ["rbind"].into_iter().chain((!option.is_empty()).then_some(option)).collect();
    let report =
        t.bundle().set("/linux/rootfsPropagation", "rslave").mount("/m", "bind", &tree, &options).report();
    let word = |point: &str| {
        let tags = list(&report, point, "tags");
        let names: Vec<&str> = tags.iter().map(|t| t.split(':').next().unwrap()).collect();
        names.join(" ")
    };
    (word("/m"), word("/m/sub"))
}

pub fn private_and_rprivate_are_set(t: &T) {
    assert_eq!(tags(t, "rprivate"), (String::new(), String::new()));
    assert_eq!(tags(t, "private").0, "");
}

pub fn slave_and_rslave_are_set(t: &T) {
    assert_eq!(tags(t, "rslave"), ("master".into(), "master".into()));
    assert_eq!(tags(t, "slave").0, "master");
}

pub fn shared_and_rshared_are_set(t: &T) {
    let (top, sub) = tags(t, "rshared");
    assert!(top.starts_with("shared") && sub.starts_with("shared"), "{top}, {sub}");
    assert!(tags(t, "shared").0.starts_with("shared"));
}

pub fn unbindable_and_runbindable_are_set(t: &T) {
    assert_eq!(tags(t, "runbindable"), ("unbindable".into(), "unbindable".into()));
    assert_eq!(tags(t, "unbindable").0, "unbindable");
}

pub fn shared_mount_passes_new_mounts_to_the_host(t: &T) {
    let none = None::<&str>;
    let source = t.dir.join("shared");
    fs::create_dir(&source).unwrap();
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &source, none, MsFlags::MS_SHARED, none).unwrap();
    fs::create_dir(source.join("new")).unwrap();
    for (option, arrives) in [("rprivate", false), ("rslave", false), ("rshared", true)] {
        let b = t.bundle().all_caps().set("/linux/rootfsPropagation", "rshared");
        let b = b.mount("/m", "bind", &source, &["rbind", option]);
        let c = b.inside(&["mount tmpfs /m/new tmpfs", "create /m/new/inside", "pause"]).start_as_is();
        crate::harness::wait_for("the mount inside", || {
            let path = format!("/proc/{}/root/m/new/inside", c.pid());
            fs::exists(path).is_ok_and(|e| e).then_some(())
        });
        assert_eq!(source.join("new/inside").exists(), arrives, "{option}");
        c.delete_by_force().ok();
        let _ = nix::mount::umount2(&source.join("new"), nix::mount::MntFlags::MNT_DETACH);
    }
}

pub fn slave_mount_receives_new_mounts_of_the_host(t: &T) {
    let none = None::<&str>;
    let source = t.dir.join("shared");
    fs::create_dir(&source).unwrap();
    mount(Some("tmpfs"), &source, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount(none, &source, none, MsFlags::MS_SHARED, none).unwrap();
    fs::create_dir(source.join("new")).unwrap();
    let b = t.bundle().set("/linux/rootfsPropagation", "rslave");
    let slave = b.mount("/m", "bind", &source, &["rbind", "rslave"]).start();
    let private = t.bundle().mount("/m", "bind", &source, &["rbind", "rprivate"]).start();
    mount(Some("tmpfs"), &source.join("new"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    fs::write(source.join("new/outside"), "").unwrap();
    assert_eq!(errno(&slave.exec(&[], &["stat /m/new/outside"])[0]), 0);
    assert_eq!(errno(&private.exec(&[], &["stat /m/new/outside"])[0]), libc::ENOENT);
}

// ---- types and order ---------------------------------------------------------------------------

pub fn mounts_are_made_in_the_order_of_the_list(t: &T) {
    let b = t.bundle().mount("/m", "tmpfs", "tmpfs", &["mode=711"]).mount(
        "/m/n",
        "tmpfs",
        "tmpfs",
        &["mode=700"],
    );
    let probes = b.probe(&["stat /m", "stat /m/n"]);
    assert_eq!((&probes[0]["mode"], &probes[1]["mode"]), (&json!(0o711), &json!(0o700)));
    let covered = t.bundle().mount("/m/n", "tmpfs", "tmpfs", &[]).mount("/m", "tmpfs", "tmpfs", &[]);
    assert_eq!(covered.tries(&["stat /m/n"]), [libc::ENOENT]);
}

pub fn proc_shows_only_the_containers_processes(t: &T) {
    let names = t.probe(&["list /proc"])[0]["names"].clone();
    let pids: Vec<&Value> =
        names.as_array().unwrap().iter().filter(|n| n.as_str().unwrap().parse::<u32>().is_ok()).collect();
    assert_eq!(pids, ["1"]);
}

pub fn sysfs_mqueue_devpts_and_shm_can_be_mounted(t: &T) {
    t.needs(&[Need::Filesystem("mqueue")]);
    let b = t
        .bundle()
        .namespace("network")
        .mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
        .mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"])
        .mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]);
    let report = b.report();
    for (point, kind) in
        [("/sys", "sysfs"), ("/dev/mqueue", "mqueue"), ("/dev/shm", "tmpfs"), ("/dev/pts", "devpts")]
    {
        assert_eq!(mount_at(&report, point).expect(point)["type"], kind);
    }
}

pub fn sysfs_shows_the_network_namespace_of_the_container(t: &T) {
    let ours: Vec<_> = fs::read_dir("/sys/class/net").unwrap().flatten().map(|e| e.file_name()).collect();
    let Some(card) = ours.iter().find(|n| n.to_string_lossy().starts_with('e')) else {
        t.skip("needs a network card")
    };
    let b = t.bundle().namespace("network").mount("/sys", "sysfs", "sysfs", &["ro"]);
    let names = b.probe(&["list /sys/class/net"])[0]["names"].to_string();
    assert!(names.contains("\"lo\"") && !names.contains(&*card.to_string_lossy()), "{names}");
}

pub fn overlay_can_be_mounted(t: &T) {
    t.needs(&[Need::Filesystem("overlay")]);
    for dir in ["lower", "upper", "work"] {
        fs::create_dir(t.dir.join(dir)).unwrap();
    }
    fs::write(t.dir.join("lower/file"), "low").unwrap();
    let data = |dir: &str| format!("{dir}dir={}", t.dir.join(dir).display());
    let options = [data("lower"), data("upper"), data("work")];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let b = t.bundle().mount("/m", "overlay", "overlay", &options);
    assert_eq!(b.tries(&["read /m/file", "create /m/new"]), [0, 0]);
    assert!(t.dir.join("upper/new").exists());
}

pub fn unknown_filesystem_is_refused(t: &T) {
    t.bundle().mount("/m", "frobfs", "none", &[]).refused();
}

pub fn destination_that_is_missing_is_made(t: &T) {
    let b = t.bundle().mount("/a/b/c", "tmpfs", "tmpfs", &[]);
    assert_eq!(b.probe(&["stat /a/b"])[0]["type"], "d");
}

pub fn many_mounts_are_possible(t: &T) {
    let tree = tree(t);
    let b = (0..200).fold(t.bundle(), |b, i| b.mount(&format!("/m/{i}"), "bind", &tree, &["bind", "ro"]));
    assert_eq!(b.tries(&["read /m/0/file", "read /m/199/file", "create /m/100/x"]), [0, 0, libc::EROFS]);
}

pub fn cgroup_mount_shows_the_containers_own_cgroup(t: &T) {
    let b = t.bundle().namespace("cgroup").mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    );
    let folder = if crate::host::is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let probes = b.probe(&[&format!("read {folder}/cgroup.procs"), &format!("create {folder}/x")]);
    assert_eq!(probes[0]["text"], "1\n");
    assert_eq!(errno(&probes[1]), libc::EROFS);
}

// ---- id-mapped mounts --------------------------------------------------------------------------

/// A tmpfs of user and group `owner`, with another in it, and in both a file of that user.
fn owned(t: &T, owner: u32) -> PathBuf {
    // The kernel maps a tmpfs since then, and whatever lies below the folder of a test.
    t.needs(&[Need::Kernel(6, 3)]);
    fs::create_dir_all(t.dir.join("tree")).unwrap();
    tmpfs(t.dir.join("tree").to_str().unwrap(), "tmpfs");
    let tree = tree(t);
    for file in [".", "file", "sub/file"] {
        chown(tree.join(file), Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o777)).unwrap();
    tree
}

/// A bind mount of it on /m, with a mapping of the mount's own.
fn mapped(tree: &Path, options: &[&str], container: u32, host: u32) -> Value {
    let map = json!([{ "containerID": container, "hostID": host, "size": 100 }]);
    json!({ "destination": "/m", "type": "bind", "source": tree, "options": options, "uidMappings": map,
        "gidMappings": map })
}

fn owner(found: &Value) -> (u64, u64) {
    (found["uid"].as_u64().unwrap(), found["gid"].as_u64().unwrap())
}

pub fn idmapped_mount_shows_other_owners(t: &T) {
    let tree = owned(t, 1000);
    fs::write(tree.join("other"), "").unwrap();
    chown(tree.join("other"), Some(7), Some(7)).unwrap();
    let b = t.bundle().set("/mounts/-", mapped(&tree, &["bind"], 1000, 2000));
    let found = b.probe(&["stat /m/file", "stat /m/other"]);
    assert_eq!(owner(&found[0]), (2000, 2000));
    // What is not mapped belongs to nobody.
    assert_eq!(owner(&found[1]), (65534, 65534));
    assert_eq!(fs::metadata(tree.join("file")).unwrap().uid(), 1000);
}

pub fn files_made_in_an_idmapped_mount_belong_to_the_mapped_user(t: &T) {
    let tree = owned(t, 1000);
    let b = t.bundle().set("/mounts/-", mapped(&tree, &["bind"], 1000, 2000));
    let b = b.set("/process/user", json!({ "uid": 2005, "gid": 2006 }));
    assert_eq!(b.tries(&["create /m/new"]), [0]);
    let made = fs::metadata(tree.join("new")).unwrap();
    assert_eq!((made.uid(), made.gid()), (1005, 1006));
    // Root is not mapped, and may not leave a file of nobody.
    let b = t.bundle().set("/mounts/-", mapped(&tree, &["bind"], 1000, 2000));
    assert_eq!(b.tries(&["create /m/another"]), [libc::EOVERFLOW]);
}

pub fn idmap_takes_the_mappings_of_the_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let tree = owned(t, 5);
    let look = |options: &[&str]| {
        let b = t.bundle().user_namespace().mount("/m", "bind", &tree, options);
        owner(&b.probe(&["stat /m/file"])[0])
    };
    // The host's users are nobody in the namespace, but through the mount.
    assert_eq!(look(&["bind"]), (65534, 65534));
    assert_eq!(look(&["bind", "idmap"]), (5, 5));
}

pub fn idmap_takes_the_mappings_of_a_joined_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let tree = owned(t, 5);
    let first = t.bundle().user_namespace().start();
    let path = format!("/proc/{}/ns/user", first.pid());
    let b = t.bundle().user_namespace().join_namespace("user", &path).mount(
        "/m",
        "bind",
        &tree,
        &["bind", "idmap"],
    );
    assert_eq!(owner(&b.probe(&["stat /m/file"])[0]), (5, 5));
}

pub fn ridmap_maps_the_mounts_below_and_idmap_does_not(t: &T) {
    let tree = owned(t, 1000);
    let look = |option: &str| {
        let b = t.bundle().set("/mounts/-", mapped(&tree, &["rbind", option], 1000, 2000));
        b.probe(&["stat /m/file", "stat /m/sub/file"]).iter().map(owner).collect::<Vec<_>>()
    };
    assert_eq!(look("idmap"), [(2000, 2000), (1000, 1000)]);
    assert_eq!(look("ridmap"), [(2000, 2000), (2000, 2000)]);
}

pub fn idmapped_file_shows_another_owner(t: &T) {
    let tree = owned(t, 1000);
    let b = t.bundle().set("/mounts/-", mapped(&tree.join("file"), &["bind", "ro"], 1000, 2000));
    let found = b.probe(&["stat /m", "create /m"]);
    assert_eq!(owner(&found[0]), (2000, 2000));
    assert_eq!(found[1]["errno"], libc::EROFS);
}

pub fn idmapped_mount_follows_the_propagation_of_the_root(t: &T) {
    let tree = owned(t, 1000);
    let look = |word: &str| {
        let b = t.bundle().set("/linux/rootfsPropagation", word);
        let report = b.set("/mounts/-", mapped(&tree, &["bind"], 1000, 2000)).report();
        list(&report, "/m", "tags")
            .iter()
            .map(|o| o.split(':').next().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    mount(None::<&str>, &tree, None::<&str>, MsFlags::MS_SHARED, None::<&str>).unwrap();
    assert_eq!(look("rslave"), ["master"]);
    assert_eq!(look("rprivate"), [""; 0]);
}
