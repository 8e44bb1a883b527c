//! The place where everything runs: mount namespaces of our own with the views of the host, a tmpfs for bundles and
//! state, and the runtimes.

use std::cell::Cell;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};

use crate::spawn::{Command, Spawner};

const FLOOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/floor"));
const PAYLOAD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/payload"));

/// What a runtime sees of the host's control groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// One cgroup2 tree.
    V2,
    /// The host as it is: v1 hierarchies, with or without a cgroup2 tree beside them.
    Host,
}

impl View {
    pub fn word(self) -> &'static str {
        match self {
            View::V2 => "cgroup v2",
            View::Host => "hybrid v1 host",
        }
    }
}

/// What kind of program is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Myrt,
    Runc,
    Crun,
    CrunStatic,
    Youki,
    Bwrap,
    /// Our own program that makes the system calls and nothing else.
    Floor,
    /// The same without a cgroup.
    FloorNoCgroup,
}

/// A program to measure.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub kind: Kind,
    /// "crun 1.27.1 static".
    pub name: String,
    pub path: String,
}

impl Runtime {
    /// Finds out what a program is.
    fn identify(path: &Path, lab: &Spawner) -> Result<Runtime, String> {
        let path = fs::canonicalize(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let text = path.to_string_lossy().into_owned();
        let said = lab.read(&Command::new([text.as_str(), "--version"]))?;
        let first = said.lines().next().unwrap_or_default().to_string();
        let version = first
            .split_whitespace()
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .map_or("?", |v| v.split(['+', '~', '-']).next().unwrap_or("?"))
            .to_string();
        let dynamic = has_interpreter(&fs::read(&path).map_err(|e| format!("{text}: {e}"))?);
        let kind = match first.split_whitespace().next().unwrap_or_default() {
            "myrt" => Kind::Myrt,
            "runc" => Kind::Runc,
            "crun" if dynamic => Kind::Crun,
            "crun" => Kind::CrunStatic,
            "youki" => Kind::Youki,
            "bubblewrap" => Kind::Bwrap,
            _ => return Err(format!("{text}: neither runc, crun, youki, bwrap nor myrt: {first:?}")),
        };
        let word = match kind {
            Kind::Myrt => "myrt",
            Kind::Runc => "runc",
            Kind::Crun | Kind::CrunStatic => "crun",
            Kind::Youki => "youki",
            _ => "bwrap",
        };
        let suffix = if kind == Kind::CrunStatic { " static" } else { "" };
        Ok(Runtime { kind, name: format!("{word} {version}{suffix}"), path: text })
    }

    /// True for what has the commands of an OCI runtime.
    pub fn is_oci(&self) -> bool {
        !matches!(self.kind, Kind::Bwrap | Kind::Floor | Kind::FloorNoCgroup)
    }
}

/// Everything that measurements share.
pub struct Lab {
    /// A tmpfs in our mount namespaces.
    pub dir: PathBuf,
    pub runtimes: Vec<Runtime>,
    pub spawner: Spawner,
    v2: File,
    host: File,
    /// The host without its cgroup2 tree, for crun, which refuses a hybrid one.
    legacy: File,
    /// The host's hierarchies by folder, "unified" among them if it is hybrid; empty on a v2 host.
    pub hierarchies: Vec<String>,
    next: Cell<u32>,
}

impl Lab {
    /// Prepares the views and finds the runtimes: `myrt`, and the peers by path or by name.
    pub fn open(myrt: &Path, peers: &[String]) -> Result<Lab, String> {
        let say = |what: &'static str| move |e| format!("{what}: {e}");
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".to_string());
        }
        let dir = PathBuf::from(format!("/run/myrt-bench-{}", std::process::id()));
        fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let none = None::<&str>;
        unshare(CloneFlags::CLONE_NEWNS).map_err(say("unshare"))?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(say("mount /"))?;
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(say("mount tmpfs"))?;
        let spawner = Spawner::new(&dir.join("output")).map_err(|e| e.to_string())?;
        write_program(&dir.join("floor"), FLOOR)?;

        let here =
            || File::open("/proc/thread-self/ns/mnt").map_err(|e| format!("/proc/thread-self/ns/mnt: {e}"));
        let host = here()?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(say("unshare"))?;
        if Path::new("/sys/fs/cgroup/unified").exists() {
            umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH).map_err(say("hide the cgroup2 tree"))?;
        }
        let legacy = here()?;
        setns(&host, CloneFlags::CLONE_NEWNS).map_err(say("setns"))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(say("unshare"))?;
        if !Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none)
                .map_err(say("mount cgroup2"))?;
        }
        let v2 = here()?;
        setns(&host, CloneFlags::CLONE_NEWNS).map_err(say("setns"))?;

        let mut runtimes = vec![Runtime::identify(myrt, &spawner)?];
        for path in find(peers)? {
            match Runtime::identify(&path, &spawner) {
                Ok(found) if !runtimes.iter().any(|r| r.path == found.path) => runtimes.push(found),
                Ok(_) => {}
                Err(why) => return Err(why),
            }
        }
        let floor = dir.join("floor").to_string_lossy().into_owned();
        for (kind, name) in [(Kind::Floor, "floor"), (Kind::FloorNoCgroup, "floor, no cgroup")] {
            runtimes.push(Runtime { kind, name: name.to_string(), path: floor.clone() });
        }
        // State on ext4 would measure the disk: everywhere else /run is a tmpfs.
        for index in 0..runtimes.len() {
            fs::create_dir(dir.join(format!("state-{index}"))).map_err(|e| e.to_string())?;
        }
        let hierarchies = hierarchies();
        Ok(Lab { dir, runtimes, spawner, v2, host, legacy, hierarchies, next: Cell::new(0) })
    }

    /// Enters the view in which a runtime is to run; what is spawned next sees it.
    pub fn enter(&self, view: View, runtime: usize) {
        let crun = matches!(self.runtimes[runtime].kind, Kind::Crun | Kind::CrunStatic);
        let namespace = match view {
            View::V2 => &self.v2,
            View::Host if crun => &self.legacy,
            View::Host => &self.host,
        };
        setns(namespace, CloneFlags::CLONE_NEWNS).expect("our own mount namespace can be entered");
    }

    /// An id that no container has had.
    pub fn fresh_id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("{}{}", self.prefix(), self.next.get())
    }

    /// What all our ids begin with, and nobody else's.
    pub fn prefix(&self) -> String {
        format!("bench-{}-", std::process::id())
    }

    /// A runtime with its global options, followed by a command.
    pub fn oci(&self, runtime: usize, words: &[&str]) -> Command {
        let root = self.dir.join(format!("state-{runtime}")).to_string_lossy().into_owned();
        let head = [self.runtimes[runtime].path.as_str(), "--root", root.as_str()];
        Command::new(head.iter().chain(words))
    }

    /// The floor's word for the cgroups of a view.
    pub fn floor_cgroups(&self, view: View) -> String {
        match view {
            View::Host if !self.hierarchies.is_empty() => self.hierarchies.join(":"),
            _ => "v2".to_string(),
        }
    }

    /// Writes a bundle: the one that `spec` writes with our payload as its program, changed by `change`.
    pub fn bundle(&self, name: &str, change: impl FnOnce(&mut Value)) -> Result<PathBuf, String> {
        let dir = self.dir.join(name);
        let error = |e: std::io::Error| format!("{}: {e}", dir.display());
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(error)?;
        }
        fs::create_dir_all(dir.join("rootfs/bin")).map_err(error)?;
        for folder in ["proc", "dev", "sys"] {
            fs::create_dir(dir.join("rootfs").join(folder)).map_err(error)?;
        }
        write_program(&dir.join("rootfs/bin/true"), PAYLOAD)?;
        let spec = Command::new([self.runtimes[0].path.as_str(), "spec", "--bundle", &dir.to_string_lossy()]);
        self.spawner.run(&spec)?;
        let text = fs::read(dir.join("config.json")).map_err(error)?;
        let mut config: Value = serde_json::from_slice(&text).map_err(|e| e.to_string())?;
        config["process"]["terminal"] = json!(false);
        config["process"]["args"] = json!(["/bin/true"]);
        // crun 1.8 and runc 1.1 refuse newer ones.
        config["ociVersion"] = json!("1.0.2");
        change(&mut config);
        let text = serde_json::to_vec_pretty(&config).map_err(|e| e.to_string())?;
        fs::write(dir.join("config.json"), text).map_err(error)?;
        Ok(dir)
    }

    /// Removes what is left: containers, processes and cgroups of ours. Gives what was left, in words.
    pub fn clean(&self) -> Vec<String> {
        let mut left = Vec::new();
        self.spawner.reap();
        for (index, runtime) in self.runtimes.iter().enumerate().filter(|(_, r)| r.is_oci()) {
            for entry in fs::read_dir(self.dir.join(format!("state-{index}"))).into_iter().flatten().flatten()
            {
                let id = entry.file_name().to_string_lossy().into_owned();
                if id.starts_with(&self.prefix()) {
                    left.push(format!("{}: container {id}", runtime.name));
                    for view in [View::V2, View::Host] {
                        self.enter(view, index);
                        // It has been reported; if it cannot be deleted here, its processes and cgroups are, below.
                        drop(self.spawner.run(&self.oci(index, &["delete", "--force", &id])));
                    }
                }
            }
        }
        for pid in children() {
            left.push(format!("process {pid}"));
            self.spawner.stop(pid);
        }
        for (index, view) in [(0, View::V2), (0, View::Host)] {
            self.enter(view, index);
            for folder in cgroup_folders() {
                left.extend(remove_cgroups(&folder, &self.prefix()));
            }
        }
        left
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.clean();
        setns(&self.host, CloneFlags::CLONE_NEWNS).expect("our own mount namespace can be entered");
        let _ = umount2(&self.dir, MntFlags::MNT_DETACH);
        // The mount point itself is the host's.
        drop(fs::remove_dir(&self.dir));
    }
}

/// True if an ELF file (64 bits, little-endian) asks for a dynamic loader.
fn has_interpreter(image: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    let number = |at: usize, size: usize| -> u64 {
        let bytes = image.get(at..at + size).unwrap_or_default();
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
    };
    let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2) as usize);
    (0..count).any(|index| number(table + index * size, 4) == PT_INTERP)
}

fn write_program(path: &Path, image: &[u8]) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let done =
        fs::write(path, image).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)));
    done.map_err(|e| format!("{}: {e}", path.display()))
}

/// The runtimes that are looked for if none is named.
pub fn peers_on_the_path() -> Vec<String> {
    ["runc", "crun", "youki", "bwrap"]
        .iter()
        .filter(|name| on_path(name).is_some())
        .map(|n| n.to_string())
        .collect()
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}

fn find(peers: &[String]) -> Result<Vec<PathBuf>, String> {
    let get = |name: &String| match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|file| file.is_file()),
        false => on_path(name),
    };
    peers.iter().map(|name| get(name).ok_or(format!("{name}: no such runtime"))).collect()
}

/// Our children, adopted ones included.
pub fn children() -> Vec<i32> {
    let me = std::process::id();
    let text = fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn hierarchies() -> Vec<String> {
    let folders = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    // A hierarchy with another name is somebody's test, and may be gone soon.
    let own = ["systemd", "unified"];
    let known = fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let is_known = |name: &str| {
        own.contains(&name)
            || name.split(',').all(|part| known.lines().any(|line| line.split('\t').next() == Some(part)))
    };
    let mut names: Vec<String> = folders
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()) && e.path().join("cgroup.procs").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .filter(|name| is_known(name))
        .collect();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        names.clear();
    }
    names.sort();
    names
}

/// The roots of the cgroup trees in the view we are in.
pub fn cgroup_folders() -> Vec<PathBuf> {
    let top = PathBuf::from("/sys/fs/cgroup");
    match hierarchies() {
        names if names.is_empty() => vec![top],
        names => names.iter().map(|name| top.join(name)).collect(),
    }
}

/// Removes cgroups whose names hold `prefix`, the deepest first; gives those that there were.
fn remove_cgroups(folder: &Path, prefix: &str) -> Vec<String> {
    let mut left = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_dir() {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(prefix) {
            let below = remove_cgroups(&path, "");
            left.push(format!("cgroup {}", path.display()));
            left.extend(below);
            for _ in 0..100 {
                if fs::remove_dir(&path).is_ok() || !path.exists() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_program_has_no_interpreter() {
        assert!(!has_interpreter(FLOOR));
        assert!(has_interpreter(&fs::read("/bin/sh").unwrap()));
        assert!(!has_interpreter(b"#!/bin/sh"));
    }
}
