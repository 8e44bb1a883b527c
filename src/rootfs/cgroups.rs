//! A mount of type `cgroup`: the container's view of its control groups.
//!
//! With a cgroup namespace the kernel roots the view at the container's own cgroup; without one the
//! container's directory is bound. On v1 hosts that is a tmpfs with a directory for each hierarchy.
//! cgroup_namespaces(7), config-linux.md, "Cgroup ownership".

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;

use super::mounts::finish;
use super::options::Options;
use crate::cgroup::MountPoint;
use crate::error::{Call, Context, Error, Result};
use crate::isolation::selinux::Label;
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::cstring;
use crate::sys::mount::{Attr, Filesystem, attach, attr, set_attr};
use crate::sys::path::ContainerPath;

/// Mounts what the host has of control groups.
#[derive(Debug)]
pub struct MountCgroups {
    /// The container's directory in each hierarchy.
    pub hierarchies: Vec<MountPoint>,
    /// True if the container has a cgroup namespace of its own.
    pub own_namespace: bool,
    /// Where.
    pub target: ContainerPath,
    /// How.
    pub options: Options,
    /// The words of the configuration, for printing.
    pub words: String,
    /// The place in `/mounts`.
    pub index: usize,
    /// The SELinux label of the tmpfs that holds several hierarchies; the kernel labels their own files.
    pub label: Option<Label>,
}

impl MountCgroups {
    fn unified(&self) -> bool {
        self.hierarchies.iter().all(|hierarchy| hierarchy.controllers.is_empty())
    }

    /// One hierarchy, attached nowhere.
    fn view(&self, hierarchy: &MountPoint) -> Result<(OwnedFd, Outcome)> {
        if self.own_namespace {
            match self.new_instance(hierarchy) {
                Ok(mount) => return Ok((mount, Outcome::Done)),
                Err(e) if !matches!(e.errno(), Some(Errno::EPERM | Errno::EBUSY)) => return Err(e),
                Err(_) => {}
            }
        }
        let bound = super::clone_host(&hierarchy.dir, false)?;
        set_attr(bound.as_fd(), Attr::flags(self.options.own.set, self.options.own.clear), false)
            .call("mount_setattr(2)")?;
        let outcome = if self.own_namespace {
            Outcome::FellBack("bound the container's directory")
        } else {
            Outcome::Done
        };
        Ok((bound, outcome))
    }

    fn new_instance(&self, hierarchy: &MountPoint) -> Result<OwnedFd> {
        let kind = if hierarchy.controllers.is_empty() { c"cgroup2" } else { c"cgroup" };
        let fs = Filesystem::open(kind).call("fsopen(2)")?;
        fs.set(c"source", Some(c"cgroup")).call("fsconfig(2)")?;
        for controller in &hierarchy.controllers {
            match controller.split_once('=') {
                Some((key, value)) => fs.set(c"none", None).and_then(|()| {
                    fs.set(
                        &CString::new(key).unwrap_or_default(),
                        Some(&CString::new(value).unwrap_or_default()),
                    )
                }),
                None => fs.set(&cstring(controller)?, None),
            }
            .call("fsconfig(2)")
            .at(controller)?;
        }
        fs.mount(self.options.mount_flags()).call("fsmount(2)")
    }

    /// A tmpfs with a directory for each hierarchy, named as on the host, and links for joined controllers.
    fn mount_all(&self, target: BorrowedFd<'_>) -> Result<Outcome> {
        let fs = Filesystem::open(c"tmpfs").call("fsopen(2)")?;
        fs.set(c"mode", Some(c"755")).call("fsconfig(2)")?;
        if let Some(label) = &self.label {
            fs.set(c"context", Some(&cstring(label.to_string())?)).call("fsconfig(2)").at(label)?;
        }
        let top = fs.mount(self.options.mount_flags() & !attr::RDONLY).call("fsmount(2)")?;
        attach(top.as_fd(), target).call("move_mount(2)")?;
        let mut outcome = Outcome::Done;
        for hierarchy in &self.hierarchies {
            let name =
                hierarchy.mount.file_name().ok_or_else(|| Error::new("a hierarchy is mounted on /"))?;
            mkdirat(&top, name, Mode::from_bits_truncate(0o755)).call("mkdirat(2)")?;
            let place =
                openat(&top, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
                    .call("openat(2)")?;
            let (view, how) = self.view(hierarchy).at(name.to_string_lossy())?;
            attach(view.as_fd(), place.as_fd()).call("move_mount(2)")?;
            if how != Outcome::Done {
                outcome = how;
            }
            for controller in hierarchy.controllers.iter().filter(|c| c.as_str() != name && !c.contains('='))
            {
                symlinkat(name, &top, controller.as_str()).call("symlinkat(2)")?;
            }
        }
        if self.options.own.set & attr::RDONLY != 0 {
            set_attr(top.as_fd(), Attr::flags(attr::RDONLY, 0), false).call("mount_setattr(2)")?;
        }
        finish(top.as_fd(), &self.options)?;
        Ok(outcome)
    }
}

impl fmt::Display for MountCgroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.unified() { "cgroup2" } else { "cgroup hierarchies" };
        write!(f, "mount {what} on {}", self.target)?;
        if !self.words.is_empty() {
            write!(f, " {}", self.words)?;
        }
        Ok(())
    }
}

impl Step for MountCgroups {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/mounts", self.index)
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let target = ctx.root()?.make_dir(&self.target)?;
        if !self.unified() {
            return self.mount_all(target.as_fd());
        }
        let (view, outcome) = match self.hierarchies.first() {
            Some(hierarchy) => self.view(hierarchy)?,
            // The container is where its caller is: it may look at all that its caller sees.
            None => {
                (super::clone_host(Path::new("/sys/fs/cgroup"), true)?, Outcome::FellBack("bound the host's"))
            }
        };
        finish(view.as_fd(), &self.options)?;
        attach(view.as_fd(), target.as_fd()).call("move_mount(2)")?;
        Ok(outcome)
    }
}
