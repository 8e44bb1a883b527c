//! The container's root: `/root`, `/mounts`, devices, masks, and the change into it.
//!
//! The root is a clone of the bundle's tree, attached on top of the child's own `/`. The child's root
//! directory stays the host's tree below it until pivot_root(2): host paths mean the host whatever the
//! container has mounted, and container paths are resolved by [`crate::sys::path`] alone.

pub mod cgroups;
pub mod copyup;
pub mod devices;
pub mod hide;
pub mod idmap;
pub mod mounts;
pub mod options;
pub mod pivot;

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use self::idmap::IdMap;
use crate::error::{Call, Context, Error, Result};
use crate::isolation::selinux::Relabel;
use crate::step::{Ctx, Outcome, Pointer, Slot, Step};
use crate::sys::mount::{Attr, attach, clone_path, set_attr, set_attr_of_all};
use crate::sys::path::Root;

/// Something of the host that the container gets a view of.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it is on the host. The container cannot influence what this path leads to.
    pub path: PathBuf,
    /// The parent's clone of it, if in its user namespace the child may not reach it, or may not map it; else it clones it
    /// itself.
    pub slot: Option<Slot>,
    /// What the parent's clone becomes (`MS_*`), as if the child had made it; `None` leaves it a peer of the host's.
    pub propagation: Option<u64>,
    /// The SELinux label that its files get.
    pub relabel: Option<Relabel>,
    /// The owners that its files appear with: the parent maps them, who has the right.
    pub idmap: Option<IdMap>,
}

impl Source {
    /// A detached clone of the mount (or tree of mounts) there.
    ///
    /// Inside the child's mount namespace it is a slave of the host's already, or what rootfsPropagation asks for; what
    /// the parent cloned is made that here, so that nothing mounted in the container appears on the host.
    fn take(&self, ctx: &mut Ctx, recursive: bool) -> Result<OwnedFd> {
        let Some(slot) = self.slot else {
            return clone_source(&self.path, recursive, self.relabel.as_ref());
        };
        let tree = ctx.take(slot)?;
        if let Some(kind) = self.propagation {
            set_attr(tree.as_fd(), Attr::propagation(kind), true).call("mount_setattr(2)")?;
        }
        Ok(tree)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(relabel) = &self.relabel {
            write!(f, " relabelled {}", relabel.label)?;
        }
        match &self.idmap {
            Some(idmap) => write!(f, " ({idmap})"),
            None => Ok(()),
        }
    }
}

/// Clones a tree of the host, and labels its files if that is asked for.
pub fn clone_source(path: &Path, recursive: bool, relabel: Option<&Relabel>) -> Result<OwnedFd> {
    let tree = clone_host(path, recursive)?;
    if let Some(relabel) = relabel {
        relabel.run(tree.as_fd(), path)?;
    }
    Ok(tree)
}

/// Clones a tree of the host, for a child that the parent opens it for.
pub fn clone_host(path: &Path, recursive: bool) -> Result<OwnedFd> {
    use std::os::unix::ffi::OsStrExt;
    let name: CString = crate::sys::cstring(path.as_os_str().as_bytes())?;
    clone_path(&name, recursive).call("open_tree(2)").at(path.display())
}

/// Cuts the child's mount namespace off from the host's.
#[derive(Debug)]
pub struct Isolate(pub Propagation);

/// `/linux/rootfsPropagation`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`.
    pub kind: u64,
    /// True if it was given with an `r`.
    pub recursive: bool,
    /// The word of the configuration.
    pub word: &'static str,
}

impl Propagation {
    /// Reads the configuration: one of eight words, `rslave` if there is none.
    pub fn new(word: Option<&str>) -> Result<Propagation> {
        const WORDS: [(&str, u64); 4] = [
            ("private", libc::MS_PRIVATE),
            ("slave", libc::MS_SLAVE),
            ("shared", libc::MS_SHARED),
            ("unbindable", libc::MS_UNBINDABLE),
        ];
        let word = word.filter(|w| !w.is_empty()).unwrap_or("rslave");
        let (name, recursive) = match word.strip_prefix('r') {
            Some(name) => (name, true),
            None => (word, false),
        };
        match WORDS.iter().find(|(known, _)| *known == name) {
            Some(&(word, kind)) => Ok(Propagation { kind, recursive, word }),
            None => Err(Error::new(format!("propagation {word:?} is not known"))
                .hint("one of private, slave, shared, unbindable, or one of them with an r in front")
                .from_config("/linux/rootfsPropagation")),
        }
    }

    fn is_shared(self) -> bool {
        self.kind == libc::MS_SHARED
    }
}

impl fmt::Display for Isolate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "make the host's mounts {}",
            if self.0.is_shared() { "shared, / private" } else { self.own() }
        )
    }
}

impl Propagation {
    /// What a mount of the host becomes in the child's mount namespace; `None` for what stays its peer.
    pub fn of_host(self) -> Option<u64> {
        match self.kind {
            libc::MS_SHARED => None,
            libc::MS_PRIVATE => Some(libc::MS_PRIVATE),
            // Unbindable host mounts could not be given to the container; it applies to its root, later.
            _ => Some(libc::MS_SLAVE),
        }
    }
}

impl Isolate {
    fn own(&self) -> &'static str {
        if self.0.kind == libc::MS_PRIVATE { "private" } else { "slaves" }
    }
}

impl Step for Isolate {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/rootfsPropagation")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        let kind = self.0.of_host().unwrap_or(libc::MS_SHARED);
        set_attr_of_all(Attr::propagation(kind)).call("mount_setattr(2)")?;
        if self.0.is_shared() {
            // The container's root will lie on this mount: were it shared, it would cover the host's.
            let root = host_root()?;
            set_attr(root.as_fd(), Attr::propagation(libc::MS_PRIVATE), false).call("mount_setattr(2)")?;
        }
        Ok(Outcome::Done)
    }
}

fn host_root() -> Result<OwnedFd> {
    open("/", OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .call("open(2)")
        .at("open /")
}

/// Attaches a clone of the bundle's root on top of the child's own.
#[derive(Debug)]
pub struct Attach {
    /// The directory on the host.
    pub source: Source,
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attach root {}", self.source)
    }
}

impl Step for Attach {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/root/path")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let tree = self.source.take(ctx, true)?;
        // pivot_root(2) refuses a shared root, and what is mounted on the host later is not the container's.
        set_attr(tree.as_fd(), Attr::propagation(libc::MS_PRIVATE), false).call("mount_setattr(2)")?;
        attach(tree.as_fd(), host_root()?.as_fd()).call("move_mount(2)")?;
        ctx.root = Some(Root::new(tree));
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::ENOENT | Errno::ENOTDIR => {
                Some("the path counts from the bundle; is the root filesystem there?")
            }
            Errno::ENOSYS => Some("myrt needs Linux 5.12 or newer"),
            _ => None,
        }
    }
}

/// Takes the bundle's root as it is, where the container has no mount namespace of its own.
#[derive(Debug)]
pub struct Use {
    /// The directory on the host.
    pub path: PathBuf,
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "use root {}", self.path.display())
    }
}

impl Step for Use {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/root/path")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        ctx.root = Some(Root::new(open(&self.path, flags, Mode::empty()).call("open(2)")?));
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_takes_an_r_and_refuses_other_words() {
        assert_eq!(Propagation::new(None).unwrap().kind, libc::MS_SLAVE);
        assert!(Propagation::new(Some("rshared")).unwrap().recursive);
        assert!(!Propagation::new(Some("unbindable")).unwrap().recursive);
        for bad in ["rrslave", "r", "Private", "runshared"] {
            assert!(Propagation::new(Some(bad)).is_err(), "{bad}");
        }
    }
}
