//! User namespaces: `/linux/uidMappings`, `/linux/gidMappings`.
//!
//! The maps are written by the parent while the child waits: directly where that is allowed, otherwise by
//! newuidmap(1) and newgidmap(1), which check /etc/subuid and /etc/subgid. user_namespaces(7).

use std::fmt::{self, Write as _};
use std::process::Command;

use nix::sys::stat::stat;
use nix::unistd::{Pid, getegid, geteuid};
use oci_spec::runtime::{Linux, LinuxIdMapping, Mount};

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::process::{set_gid, set_uid};
use crate::sys::procfs::Procfs;

/// The most lines that the kernel takes in a map (user_namespaces(7)).
const MOST: usize = 340;

/// One line of a map.
#[derive(Debug, Clone, Copy)]
struct Range {
    inside: u32,
    host: u32,
    size: u32,
}

/// The uid and gid maps of a new user namespace.
#[derive(Debug, Clone)]
pub struct Maps {
    uids: Vec<Range>,
    gids: Vec<Range>,
    /// What has the two in the configuration.
    at: String,
}

impl Maps {
    /// Reads both maps; they are required with a new user namespace and refused without one.
    pub fn new(linux: &Linux, user: bool) -> Result<Option<Maps>> {
        let uids = ranges(linux.uid_mappings(), "/linux/uidMappings")?;
        let gids = ranges(linux.gid_mappings(), "/linux/gidMappings")?;
        match (user, uids.is_empty(), gids.is_empty()) {
            (true, false, false) => Ok(Some(Maps { uids, gids, at: "/linux".to_string() })),
            (true, true, _) => {
                Err(Error::new("a new user namespace needs uid mappings").from_config("/linux/uidMappings"))
            }
            (true, _, true) => {
                Err(Error::new("a new user namespace needs gid mappings").from_config("/linux/gidMappings"))
            }
            (false, true, true) => Ok(None),
            // Engines write the mappings of a namespace that they join as well.
            (false, ..) if joins_user(linux) => Ok(None),
            (false, ..) => Err(Error::new("id mappings without a user namespace")
                .hint("add {\"type\": \"user\"} to /linux/namespaces")
                .from_config("/linux/uidMappings")),
        }
    }

    /// Reads those of an id-mapped mount: both, or `None`.
    pub fn of_mount(mount: &Mount, at: &str) -> Result<Option<Maps>> {
        let uids = ranges(mount.uid_mappings(), &format!("{at}/uidMappings"))?;
        let gids = ranges(mount.gid_mappings(), &format!("{at}/gidMappings"))?;
        match (uids.is_empty(), gids.is_empty()) {
            (true, true) => Ok(None),
            (false, false) => Ok(Some(Maps { uids, gids, at: at.to_string() })),
            _ => Err(Error::new("an id-mapped mount needs both uidMappings and gidMappings")),
        }
    }

    /// Writes both maps for a child that is waiting in its new user namespace.
    pub fn write(&self, proc: &Procfs, pid: Pid) -> Result<()> {
        let [gids, uids] = ["gidMappings", "uidMappings"].map(|list| format!("{}/{list}", self.at));
        self.write_map(proc, pid, "gid_map", &self.gids, getegid().as_raw()).from_config(gids)?;
        self.write_map(proc, pid, "uid_map", &self.uids, geteuid().as_raw()).from_config(uids)
    }

    fn write_map(&self, proc: &Procfs, pid: Pid, file: &str, map: &[Range], own: u32) -> Result<()> {
        let only_own = matches!(map, [Range { host, size: 1, .. }] if *host == own);
        if !geteuid().is_root() && !only_own {
            return by_helper(if file == "uid_map" { "newuidmap" } else { "newgidmap" }, pid, map);
        }
        if !geteuid().is_root() && file == "gid_map" {
            // Without privileges a group could be dropped that is denied something: setgroups(2) is given up.
            proc.write(&path(pid, "setgroups")?, b"deny")?;
        }
        let mut text = String::new();
        for range in map {
            writeln!(text, "{} {} {}", range.inside, range.host, range.size)
                .map_err(|e| Error::new(e.to_string()))?;
        }
        proc.write(&path(pid, file)?, text.as_bytes())
    }
}

impl fmt::Display for Maps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, map) in [("uids", &self.uids), (", gids", &self.gids)] {
            write!(f, "{name}")?;
            for Range { inside, host, size } in map {
                write!(f, " {inside}->{host}+{size}")?;
            }
        }
        Ok(())
    }
}

/// True if the runtime itself runs in a user namespace: root there has no rights over devices and the like.
pub fn inside_one() -> Result<bool> {
    /// The inode number of the first user namespace: USER_NS_INIT_INO, linux/nsfs.h.
    const FIRST: u64 = 0xeffffffd;
    let namespace = stat("/proc/self/ns/user").call("stat(2)").at("look at /proc/self/ns/user")?;
    Ok(namespace.st_ino != FIRST)
}

fn path(pid: Pid, file: &str) -> Result<std::ffi::CString> {
    crate::sys::cstring(format!("{pid}/{file}"))
}

fn joins_user(linux: &Linux) -> bool {
    use oci_spec::runtime::LinuxNamespaceType::User;
    linux.namespaces().iter().flatten().any(|n| n.typ() == User && n.path().is_some())
}

fn ranges(map: &Option<Vec<LinuxIdMapping>>, at: &str) -> Result<Vec<Range>> {
    let map = map.as_deref().unwrap_or_default();
    if map.len() > MOST {
        return Err(Error::new(format!("{} mappings; the kernel takes {MOST}", map.len())).from_config(at));
    }
    let mut ranges = Vec::with_capacity(map.len());
    for (index, entry) in map.iter().enumerate() {
        let range = Range { inside: entry.container_id(), host: entry.host_id(), size: entry.size() };
        let fits = |first: u32| first.checked_add(range.size).is_some();
        if range.size == 0 || !fits(range.inside) || !fits(range.host) {
            let cause = format!("mapping of {} ids does not fit into 32 bits or is empty", range.size);
            return Err(Error::new(cause).from_config(format!("{at}/{index}")));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn by_helper(helper: &str, pid: Pid, map: &[Range]) -> Result<()> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for range in map {
        command.args([range.inside, range.host, range.size].map(|n| n.to_string()));
    }
    let hint =
        "install uidmap and give this user a range in /etc/subuid and /etc/subgid, or map only the own id";
    let output = command.output().call("execve(2)").at(helper).hint(hint)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim_end().to_string();
    Err(Error::new(said).at(helper).hint(hint))
}

/// Becomes user 0 of the user namespace, so that what the child makes belongs to it.
#[derive(Debug)]
pub struct BecomeRoot;

impl fmt::Display for BecomeRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("become root of the user namespace")
    }
}

impl Step for BecomeRoot {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/uidMappings")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        match set_gid(0).and_then(|()| set_uid(0)) {
            Ok(()) => Ok(Outcome::Done),
            Err(nix::errno::Errno::EINVAL) => Ok(Outcome::Skipped("user 0 is not mapped")),
            Err(errno) => Err(Error::call("setresuid(2)", errno)),
        }
    }
}
