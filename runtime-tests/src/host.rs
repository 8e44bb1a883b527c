//! What is here: the needs of tests, and the machine's mounts, cgroups and processes as the tests see them.

use crate::harness::T;
use crate::read;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a test may need; `T::needs` skips the test when it is not here.
pub enum Need {
    /// /sys/fs/cgroup is one cgroup2 tree.
    CgroupV2,
    /// /sys/fs/cgroup has a folder for each v1 controller.
    CgroupV1,
    /// A controller that can be used for limits, by its v2 name (io means blkio on v1).
    Controller(&'static str),
    /// A capability of ours, by number.
    Cap(u8),
    SeLinux,
    NoSeLinux,
    NoAppArmor,
    /// A program on the PATH.
    Program(&'static str),
    /// Only this runtime promises what is tested.
    Only(&'static str),
    /// A file or folder of the kernel.
    Path(&'static str),
    /// A kernel of at least this version.
    Kernel(u32, u32),
    /// User namespaces can be made.
    UserNamespaces,
    /// Not run by way of systemd's cgroup manager.
    Cgroupfs,
    /// systemd is the first process here, on a unified host.
    Systemd,
    /// A filesystem the kernel knows.
    Filesystem(&'static str),
}

pub const SYS_RESOURCE: u8 = 24;

impl Need {
    /// Why the test cannot run here; none if it can.
    pub fn missing(&self, t: &T) -> Option<String> {
        let lacks = |here: bool, what: &str| (!here).then(|| format!("needs {what}"));
        match self {
            Need::CgroupV2 => lacks(is_v2(), "a unified cgroup v2 host"),
            Need::CgroupV1 => lacks(!is_v2(), "cgroup v1 controllers"),
            Need::Controller(name) => lacks(has_controller(name), &format!("the {name} controller")),
            Need::Cap(cap) => lacks(effective() >> cap & 1 == 1, &format!("capability {cap}")),
            Need::SeLinux => lacks(selinux(), "SELinux"),
            Need::NoSeLinux => lacks(!selinux(), "a host without SELinux"),
            Need::NoAppArmor => {
                lacks(!Path::new("/sys/kernel/security/apparmor").exists(), "a host without AppArmor")
            }
            Need::Program(name) => lacks(program(name).is_some(), name),
            Need::Only(kind) => lacks(t.kind() == *kind, &format!("{kind}, promised by no one else")),
            Need::Path(path) => lacks(Path::new(path).exists(), path),
            Need::Kernel(major, minor) => {
                let release = read("/proc/sys/kernel/osrelease");
                let mut parts = release.split(['.', '-']).map(|part| part.trim().parse().unwrap_or(0u32));
                let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
                lacks(version >= (*major, *minor), &format!("Linux {major}.{minor}"))
            }
            Need::UserNamespaces => {
                let limit = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
                lacks(limit.trim().parse().is_ok_and(|n: u64| n > 0), "user namespaces")
            }
            Need::Cgroupfs => {
                let args = std::env::var("RUNTIME_ARGS").unwrap_or_default();
                lacks(!args.contains("systemd"), "the cgroupfs manager")
            }
            Need::Systemd => {
                lacks(is_v2() && Path::new("/run/systemd/system").is_dir(), "systemd on a cgroup v2 host")
            }
            Need::Filesystem(name) => {
                let known = read("/proc/filesystems");
                let known = known.lines().any(|l| l.split_whitespace().last() == Some(name));
                lacks(known, &format!("the {name} filesystem"))
            }
        }
    }
}

pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|d| Path::new(d).join(name)).find(|p| p.is_file())
}

fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// Our own effective capabilities.
pub fn effective() -> u64 {
    let status = read("/proc/self/status");
    let hex = status.lines().find_map(|l| l.strip_prefix("CapEff:")).unwrap_or_default();
    u64::from_str_radix(hex.trim(), 16).unwrap_or(0)
}

pub fn cap_last_cap() -> u8 {
    read("/proc/sys/kernel/cap_last_cap").trim().parse().unwrap()
}

// ---- mounts ------------------------------------------------------------------------------------

/// The mount points of this process, in the order of mountinfo.
pub fn mount_points() -> Vec<String> {
    read("/proc/self/mountinfo").lines().filter_map(|l| l.split(' ').nth(4).map(str::to_string)).collect()
}

fn fs_magic(path: &str) -> i64 {
    let path = CString::new(path).unwrap();
    // SAFETY: `path` ends with NUL and `buffer` is a live statfs.
    unsafe {
        let mut buffer = std::mem::zeroed::<libc::statfs>();
        libc::statfs(path.as_ptr(), &mut buffer);
        buffer.f_type as i64
    }
}

// ---- cgroups -----------------------------------------------------------------------------------

pub fn is_v2() -> bool {
    fs_magic("/sys/fs/cgroup") == 0x6367_7270
}

/// Every cgroup hierarchy that is mounted, by mount point.
pub fn cgroup_mounts() -> Vec<PathBuf> {
    hierarchies().into_iter().map(|(_, dir)| dir).collect()
}

/// Controllers ("" for cgroup2) and mount point of each hierarchy, latest mount first.
fn hierarchies() -> Vec<(String, PathBuf)> {
    let mut all = Vec::new();
    for line in read("/proc/self/mountinfo").lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let point = left.split(' ').nth(4).unwrap_or_default();
        let right: Vec<&str> = right.split(' ').collect();
        match right[0] {
            "cgroup2" => all.push((String::new(), point.into())),
            "cgroup" => all.push((right.get(2).unwrap_or(&"").to_string(), point.into())),
            _ => {}
        }
    }
    // A tree that another mount hides is no use.
    all.retain(|(_, dir): &(String, PathBuf)| dir.join("cgroup.procs").exists());
    all
}

fn has_controller(name: &str) -> bool {
    if is_v2() {
        let list = read("/sys/fs/cgroup/cgroup.controllers");
        return list.split_whitespace().any(|c| c == name);
    }
    let name = if name == "io" { "blkio" } else { name };
    hierarchies().iter().any(|(controllers, _)| controllers.split(',').any(|c| c == name))
}

/// Where a process is in every hierarchy, as folders of the host.
pub struct Cgroups(BTreeMap<String, PathBuf>);

impl Cgroups {
    pub fn of(pid: i64) -> Cgroups {
        let mut dirs = BTreeMap::new();
        let hierarchies = hierarchies();
        for line in read(format!("/proc/{pid}/cgroup")).lines() {
            let mut parts = line.splitn(3, ':');
            let (_, controllers, path) =
                (parts.next(), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
            for controller in controllers.split(',') {
                let mount = hierarchies.iter().find(|(options, _)| match controller {
                    "" => options.is_empty(),
                    name => options.split(',').any(|o| o == name),
                });
                if let Some((_, dir)) = mount {
                    dirs.insert(controller.to_string(), dir.join(path.trim_start_matches('/')));
                }
            }
        }
        Cgroups(dirs)
    }

    /// The folder of a controller by its v2 name, whichever version has it.
    pub fn dir(&self, controller: &str) -> PathBuf {
        let names = match controller {
            "io" => ["blkio", ""],
            other => [other, ""],
        };
        names
            .iter()
            .find_map(|n| self.0.get(*n))
            .cloned()
            .unwrap_or_else(|| panic!("no cgroup for {controller}"))
    }

    /// The trimmed text of one file: `v1` names it on a v1 host, `v2` on a unified one.
    pub fn value(&self, controller: &str, v1: &str, v2: &str) -> String {
        let file = if is_v2() { v2 } else { v1 };
        read(self.dir(controller).join(file)).trim().to_string()
    }

    pub fn all(&self) -> Vec<PathBuf> {
        self.0.values().cloned().collect()
    }
}

/// The value of a `key value` line, as in cgroup.events.
pub fn keyed(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ').map(str::to_string))
}

// ---- processes ---------------------------------------------------------------------------------

/// A field of /proc/PID/status; none when the process is gone.
pub fn status_of(pid: i64, key: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':').map(|v| v.trim().to_string()))
}

/// True while the process exists and is no zombie.
pub fn lives(pid: i64) -> bool {
    status_of(pid, "State").is_some_and(|s| !s.starts_with('Z') && !s.starts_with('X'))
}

pub fn namespace(pid: impl std::fmt::Display, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

/// A process in new namespaces (flags of unshare(1)) that waits until it is killed.
pub fn process_in_new_namespaces(t: &T, flags: &[&str]) -> i64 {
    let mut command = Command::new("unshare");
    command.args(flags).args(["sh", "-c", "echo ready; exec sleep 1000"]);
    let running = t.begin(command);
    crate::harness::wait_for("unshare(1)", || read(&running.out).contains("ready").then_some(()));
    i64::from(running.child.id())
}

/// The mount of a report at this point, the topmost if there are several.
pub fn mount_at<'r>(report: &'r Value, point: &str) -> Option<&'r Value> {
    report["mounts"].as_array()?.iter().rfind(|m| m["point"] == point)
}
