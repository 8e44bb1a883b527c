//! The ways in. The cgroup2 tree is entered by clone3(2): the container's own directory or, for `exec`, one below
//! it. Into the v1 hierarchies the child moves itself.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, access};

use super::Cgroup;
use super::files::write_once;
use super::host::read_proc;
use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Slot, Step};
use crate::sys::procfs::Procfs;

const PLACE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC).union(OFlag::O_NOFOLLOW);

impl Cgroup {
    /// True if the container has no cgroup of its own.
    pub fn is_nothing(&self) -> bool {
        self.v2.is_none() && self.v1.is_empty()
    }

    /// Whether processes may be in the directory itself: on v2 it gives its controllers to nobody below it.
    pub fn takes_processes(&self) -> Result<bool> {
        match &self.v2 {
            Some((_, dir)) => {
                Ok(dir.read_if_there("cgroup.subtree_control")?.is_none_or(|text| text.trim().is_empty()))
            }
            None => Ok(true),
        }
    }

    /// Whether the caller may put processes there from where it is: it must own the next cgroup above both.
    ///
    /// A user's systemd owns its part of the tree, a login session is beside it.
    pub fn may_be_entered(&self) -> Result<bool> {
        let Some((place, _)) = &self.v2 else { return Ok(true) };
        let text = read_proc("/proc/self/cgroup")?;
        let own = Path::new(text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default());
        let above = place.path.ancestors().find(|path| own.starts_with(path)).unwrap_or(Path::new(""));
        Ok(access(&place.mount.join(above).join("cgroup.procs"), AccessFlags::W_OK).is_ok())
    }

    /// Opens a directory below the container's, which may not lead out of it.
    pub fn below(&self, path: &Path) -> Result<OwnedFd> {
        let plain = path
            .components()
            .all(|c| matches!(c, Component::Normal(_) | Component::RootDir | Component::CurDir));
        let Some((place, _)) = self.v2.as_ref().filter(|_| plain) else {
            return Err(Error::new(format!("cgroup {} does not lie below the container's", path.display())));
        };
        let dir = place.dir().join(path.strip_prefix("/").unwrap_or(path));
        open(&dir, PLACE, Mode::empty()).call("open(2)").at(format!("open {}", dir.display()))
    }

    /// Refuses to go on if a process is anywhere else than in the container's own directory.
    pub(super) fn check_inside(&self, pid: i32) -> Result<()> {
        let Some((place, _)) = &self.v2 else { return Ok(()) };
        let text = read_proc(&format!("/proc/{pid}/cgroup"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        if Path::new(path) == place.path {
            return Ok(());
        }
        Err(Error::new(format!(
            "the container's process is in cgroup /{path}, not in /{}",
            place.path.display()
        )))
    }

    /// Opens the directory in which a process of the container is now.
    pub fn of_process(&self, proc: &Procfs, pid: i32) -> Result<OwnedFd> {
        let file = CString::new(format!("{pid}/cgroup")).unwrap_or_default();
        let text = proc.read(&file).call("read(2)").at(format!("read /proc/{pid}/cgroup"))?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
        let Some((place, _)) = &self.v2 else { return Err(Error::call("open(2)", Errno::ENOENT)) };
        let dir = place.mount.join(path.trim_start_matches('/'));
        if !dir.starts_with(place.dir()) {
            return Err(Error::new(format!("the container's process has left its cgroup for {path}")));
        }
        open(&dir, PLACE, Mode::empty()).call("open(2)").at(format!("open {}", dir.display()))
    }
}

/// Opens the `tasks` file of a v1 hierarchy for a child that enters through it.
pub fn open_tasks(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(path, flags, Mode::empty()).call("open(2)").at(format!("open {}", path.display()))
}

/// Moves the child itself into the v1 hierarchies: before it does anything else, so that all it does is counted
/// and limited.
///
/// A single thread that moves itself ("0" into `tasks`) is the one case in which the kernel takes no global lock.
/// The same through `cgroup.procs`, or by the parent, waits for an RCU grace period: 4 ms on an idle machine.
/// See cgroup_procs_write_start() in the kernel.
#[derive(Debug)]
pub struct EnterV1 {
    /// Each hierarchy's `tasks` file, which the parent opened with the host's rights.
    pub tasks: Vec<Slot>,
}

impl fmt::Display for EnterV1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hierarchies = if self.tasks.len() == 1 { "hierarchy" } else { "hierarchies" };
        write!(f, "enter the cgroup in {} v1 {hierarchies}", self.tasks.len())
    }
}

impl Step for EnterV1 {
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        for &slot in &self.tasks {
            write_once(ctx.take(slot)?.as_fd(), "0").call("write(2)").at("write \"0\" to tasks")?;
        }
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EINVAL)
            .then_some("a process with real-time priority needs /linux/resources/cpu/realtimeRuntime")
    }
}
