//! The change of the root: pivot_root(2), or chroot(2) where that cannot be.
//!
//! After it nothing of the host's tree is reachable: the old root is unmounted, and no descriptor of it is open.

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, chroot, fchdir};

use super::Propagation;
use crate::error::{Call, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::mount::{Attr, pivot_root_here, set_attr};
use crate::sys::path::ContainerPath;

/// Makes the container's root the root, and lets go of the host's.
#[derive(Debug)]
pub struct Pivot(pub Propagation);

impl fmt::Display for Pivot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pivot into the root, unmount the host's")?;
        if !matches!(self.0.kind, libc::MS_SLAVE | libc::MS_PRIVATE) {
            write!(f, ", make it {}", self.0.word)?;
        }
        Ok(())
    }
}

impl Step for Pivot {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/root")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let root = ctx.root.take().ok_or_else(|| Error::new("the root is not attached"))?;
        ctx.proc = None;
        // Were its mounts still shared with the host's, unmounting them would reach the host.
        let shared = (self.0.kind == libc::MS_SHARED).then(super::host_root).transpose()?;
        fchdir(root.as_fd()).call("fchdir(2)")?;
        pivot_root_here().call("pivot_root(2)")?;
        if let Some(old) = shared {
            set_attr(old.as_fd(), Attr::propagation(libc::MS_SLAVE), true).call("mount_setattr(2)")?;
        }
        // The old root lies on top of the new one now, which is where "." leads umount2(2).
        umount2(".", MntFlags::MNT_DETACH).call("umount2(2)")?;
        chdir("/").call("chdir(2)")?;
        if !matches!(self.0.kind, libc::MS_SLAVE | libc::MS_PRIVATE) {
            set_attr(root.as_fd(), Attr::propagation(self.0.kind), self.0.recursive)
                .call("mount_setattr(2)")?;
        }
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EINVAL).then_some("on an initramfs there is no root to pivot from; use --no-pivot")
    }
}

/// Changes the root with chroot(2).
#[derive(Debug)]
pub struct Chroot;

impl fmt::Display for Chroot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("change the root")
    }
}

impl Step for Chroot {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/root")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let root = ctx.root.take().ok_or_else(|| Error::new("the root is not attached"))?;
        ctx.proc = None;
        fchdir(root.as_fd()).call("fchdir(2)")?;
        chroot(".").call("chroot(2)")?;
        Ok(Outcome::Done)
    }
}

/// Makes the working directory if the image has none.
#[derive(Debug)]
pub struct MakeCwd(pub ContainerPath);

impl fmt::Display for MakeCwd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make working directory {} if it is missing", self.0)
    }
}

impl Step for MakeCwd {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/cwd")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        match ctx.root()?.make_dir(&self.0) {
            Ok(_) => Ok(Outcome::Done),
            // Entering it, with the container's own rights, decides.
            Err(e) if matches!(e.errno(), Some(Errno::EACCES | Errno::EROFS | Errno::ELOOP)) => {
                Ok(Outcome::Skipped("it cannot be made"))
            }
            Err(e) => Err(e),
        }
    }
}
