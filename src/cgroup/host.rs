//! What the host offers: one cgroup2 tree (unified), v1 hierarchies (legacy), or both (hybrid).

use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use std::os::fd::AsFd;

use super::files::{Dir, read_all};
use super::limits::Offer;
use crate::error::{Call, Context, Error, Result};

/// Where a unified host has its tree.
const UNIFIED: &str = "/sys/fs/cgroup";

/// The three kinds of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only the cgroup2 tree.
    Unified,
    /// Only v1 hierarchies.
    Legacy,
    /// v1 hierarchies and, mostly without controllers, a cgroup2 tree.
    Hybrid,
    /// No cgroup filesystem is mounted at all.
    Nothing,
}

/// The mounted hierarchies.
#[derive(Debug, Clone, Default)]
pub struct Host {
    pub(super) v2: Option<Tree>,
    pub(super) v1: Vec<Tree>,
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tree {
    /// Its controllers; empty for cgroup2.
    pub(super) controllers: Vec<String>,
    pub(super) mount: PathBuf,
    /// The cgroup that the mount shows as its root, as /proc/self/cgroup counts.
    pub(super) root: PathBuf,
    pub(super) read_only: bool,
}

impl Host {
    /// Looks at the mounts: one statfs(2) on a unified host, /proc/self/mountinfo on others.
    pub fn detect() -> Result<Host> {
        // ENOENT and the like: nothing there, or not what we look for; mountinfo decides.
        if statfs(UNIFIED).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            let tree = Tree {
                controllers: Vec::new(),
                mount: UNIFIED.into(),
                root: "/".into(),
                // The mount flag shows as EROFS when it is used; access(2) asks for it in the plan.
                read_only: false,
            };
            return Ok(Host { v2: Some(tree), v1: Vec::new() });
        }
        Ok(Host::parse(&read_proc("/proc/self/mountinfo")?))
    }

    /// Finds the hierarchies in the text of mountinfo. See proc_pid_mountinfo(5).
    pub(super) fn parse(mountinfo: &str) -> Host {
        let mut host = Host::default();
        for line in mountinfo.lines() {
            let Some((version, tree)) = parse_line(line) else { continue };
            if version == 2 {
                // The first one is the host's own; later ones are views of containers.
                host.v2.get_or_insert(tree);
            } else if !tree.controllers.is_empty()
                && !host.v1.iter().any(|t| t.controllers == tree.controllers)
            {
                host.v1.push(tree);
            }
        }
        host
    }

    /// Unified, legacy or hybrid.
    pub fn kind(&self) -> Kind {
        match (&self.v2, self.v1.is_empty()) {
            (Some(_), true) => Kind::Unified,
            (Some(_), false) => Kind::Hybrid,
            (None, false) => Kind::Legacy,
            (None, true) => Kind::Nothing,
        }
    }

    /// All hierarchies, the cgroup2 tree last.
    pub(super) fn trees(&self) -> impl Iterator<Item = &Tree> {
        self.v1.iter().chain(&self.v2)
    }

    /// The controllers by hierarchy; reads the cgroup2 root's `cgroup.controllers`.
    pub(super) fn offer(&self) -> Result<Offer> {
        let v1 = self.v1.iter().flat_map(|t| t.controllers.iter().cloned()).collect();
        let v2 = match &self.v2 {
            Some(tree) => Dir::named(tree.mount.clone())
                .read("cgroup.controllers")?
                .split_whitespace()
                .map(str::to_string)
                .collect(),
            None => Vec::new(),
        };
        Ok(Offer { v2, v1, unified: self.v2.is_some() })
    }
}

impl Tree {
    /// The caller's own cgroup below this mount, from the text of /proc/self/cgroup, without a leading slash.
    ///
    /// Empty if it lies outside of what the mount shows.
    pub(super) fn own_cgroup(&self, proc_cgroup: &str) -> PathBuf {
        let path = proc_cgroup.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
            let same = match self.controllers.is_empty() {
                true => controllers.is_empty(),
                false => controllers.split(',').any(|c| self.controllers.iter().any(|t| t == c)),
            };
            same.then_some(Path::new(path))
        });
        let below = path.and_then(|path| path.strip_prefix(&self.root).ok()).unwrap_or(Path::new(""));
        match below.components().all(|c| matches!(c, Component::Normal(_))) {
            true => below.to_path_buf(),
            false => PathBuf::new(),
        }
    }
}

/// The cgroup version and mount of one line; `None` for other filesystems.
fn parse_line(line: &str) -> Option<(u8, Tree)> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut fields = filesystem.split(' ');
    let version = match fields.next()? {
        "cgroup2" => 2,
        "cgroup" => 1,
        _ => return None,
    };
    let super_options = fields.nth(1)?;
    let mut fields = mount.split(' ');
    let root = unescape(fields.nth(3)?);
    let mount = unescape(fields.next()?);
    let read_only = fields.next()?.split(',').any(|o| o == "ro");
    let controllers = match version {
        1 => super_options.split(',').filter(|o| is_controller(o)).map(str::to_string).collect(),
        _ => Vec::new(),
    };
    Some((version, Tree { controllers, mount: mount.into(), root: root.into(), read_only }))
}

/// Mount options of a v1 hierarchy that are no controllers. See the kernel's cgroup1_show_options().
fn is_controller(option: &str) -> bool {
    !matches!(
        option,
        "rw" | "ro" | "noprefix" | "xattr" | "cpuset_v2_mode" | "clone_children" | "favordynmods"
    ) && !option.starts_with("release_agent=")
        && !option.starts_with("seclabel")
}

/// mountinfo writes space, tab, newline and backslash in octal.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Reads a file of /proc whole.
pub(super) fn read_proc(path: &str) -> Result<String> {
    let file = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).call("open(2)").at(path)?;
    read_all(file.as_fd()).call("read(2)").at(path)
}

/// Splits a cgroups path into safe components; says whether it was absolute.
pub(super) fn split(path: &Path) -> Result<(bool, PathBuf)> {
    let refuse = |why: &str| {
        Error::new(format!("cgroups path {:?} {why}", path.display().to_string()))
            .from_config("/linux/cgroupsPath")
    };
    let text = path.to_str().ok_or_else(|| refuse("is not UTF-8"))?;
    let (absolute, rest) = match text.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if rest.is_empty() {
        return Err(refuse("names the root of the hierarchy").hint("name a cgroup below it, as /web"));
    }
    for component in rest.split('/') {
        match component {
            "" => {
                return Err(
                    refuse("has an empty component").hint("write it without double or trailing slashes")
                );
            }
            "." | ".." => return Err(refuse(&format!("has the component {component:?}"))),
            c if c.len() > 255 => return Err(refuse("has a component of more than 255 bytes")),
            c if c.chars().any(char::is_control) => return Err(refuse("has a control character")),
            _ => {}
        }
    }
    Ok((absolute, rest.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
23 1 8:1 / / rw - ext4 /dev/root rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory ro,relatime shared:5 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/a,name=systemd
41 31 0:38 / /sys/fs/cgroup/uni\\040fied rw,relatime - cgroup2 cgroup2 rw
42 31 0:29 / /elsewhere rw,relatime - cgroup cgroup rw,cpu,cpuacct
";

    #[test]
    fn hierarchies_are_found_in_mountinfo() {
        let host = Host::parse(HYBRID);
        assert_eq!(host.kind(), Kind::Hybrid);
        let names: Vec<String> = host.v1.iter().map(|t| t.controllers.join("+")).collect();
        assert_eq!(names, ["cpu+cpuacct", "memory", "name=systemd"]);
        assert_eq!(host.v1[0].mount, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(host.v1[1].read_only && !host.v1[0].read_only);
        assert_eq!(host.v2.unwrap().mount, Path::new("/sys/fs/cgroup/uni fied"));
    }

    #[test]
    fn own_cgroup_is_counted_from_the_root_of_the_mount() {
        let host = Host::parse(HYBRID);
        let own = "4:memory:/docker/x/y\n2:cpu,cpuacct:/a\n1:name=systemd:/../../b\n0::/user/me\n";
        assert_eq!(host.v1[0].own_cgroup(own), Path::new("a"));
        assert_eq!(host.v1[1].own_cgroup(own), Path::new("y"));
        assert_eq!(host.v1[2].own_cgroup(own), Path::new(""), "outside of our cgroup namespace");
        assert_eq!(host.v2.unwrap().own_cgroup(own), Path::new("user/me"));
        assert_eq!(host.v1[1].own_cgroup("4:memory:/elsewhere\n"), Path::new(""));
    }

    #[test]
    fn cgroups_path_cannot_leave_its_hierarchy() {
        assert_eq!(split(Path::new("/a/b")).unwrap(), (true, "a/b".into()));
        assert_eq!(split(Path::new("a:b")).unwrap(), (false, "a:b".into()));
        for bad in ["/", "", "a/../b", "..", "/a//b", "a/", "./a", "a\0b", "a\nb", &"x".repeat(256)] {
            let error = split(Path::new(bad)).unwrap_err().to_string();
            assert!(error.contains("/linux/cgroupsPath"), "{bad:?}: {error}");
        }
    }
}
