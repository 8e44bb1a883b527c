//! Masked and read-only paths: `/linux/maskedPaths`, `/linux/readonlyPaths`.
//!
//! A masked file is covered by the host's `/dev/null`, a masked directory by an empty read-only tmpfs.
//! Comes after the mounts (it covers what they brought) and before the root turns read-only.
//! A path that does not exist is skipped: there is nothing to hide (config-linux.md, "Masked Paths").

use std::cell::RefCell;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use crate::error::{Call, Context, Error, Result};
use crate::isolation::selinux::Label;
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::mount::{Attr, Filesystem, attach, attr, clone_fd, clone_path, clone_with, set_attr};
use crate::sys::path::{ContainerPath, is_char_device, is_dir};

/// Reads the two lists: absolute paths only (config-linux.md).
pub fn plan(masked: &[String], readonly: &[String], label: Option<&Label>, steps: &mut Steps) -> Result<()> {
    let covers = Rc::new(Covers { label: label.cloned(), ..Covers::default() });
    for (index, path) in masked.iter().enumerate() {
        let path = absolute(path, Pointer::Item("/linux/maskedPaths", index))?;
        let last = index + 1 == masked.len();
        steps.push(Mask { path, index, covers: Rc::clone(&covers), last });
    }
    for (index, path) in readonly.iter().enumerate() {
        let path = absolute(path, Pointer::Item("/linux/readonlyPaths", index))?;
        steps.push(Readonly { path, index });
    }
    Ok(())
}

fn absolute(path: &str, at: Pointer) -> Result<ContainerPath> {
    if !path.starts_with('/') {
        return Err(Error::new(format!("path {path:?} is not absolute")).from_config(at));
    }
    ContainerPath::new(path).from_config(at)
}

const MISSING: Outcome = Outcome::Skipped("it does not exist");

/// Covers one path so that nothing of it can be read.
#[derive(Debug)]
struct Mask {
    path: ContainerPath,
    index: usize,
    covers: Rc<Covers>,
    /// The last one closes what the masks share.
    last: bool,
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mask {}", self.path)
    }
}

impl Step for Mask {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/linux/maskedPaths", self.index)
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let outcome = self.cover(ctx);
        if self.last {
            self.covers.close();
        }
        outcome
    }
}

impl Mask {
    fn cover(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let target = match ctx.root()?.open(&self.path, OFlag::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(MISSING),
            other => other.call("openat2(2)")?,
        };
        let label = self.covers.label.as_ref();
        let (slot, make): (_, &dyn Fn() -> Result<OwnedFd>) = match is_dir(target.as_fd()).call("fstat(2)")? {
            true => (&self.covers.empty, &|| empty_dir(label)),
            false => (&self.covers.null, &null),
        };
        let cover = match &*slot.borrow() {
            Some(first) => clone_fd(first.as_fd(), false).call("open_tree(2)")?,
            None => make()?,
        };
        attach(cover.as_fd(), target.as_fd()).call("move_mount(2)")?;
        slot.borrow_mut().get_or_insert(cover);
        Ok(Outcome::Done)
    }
}

/// What the masks of a container share: once the first mask of its kind is attached, others are clones of it.
///
/// Sharing one empty directory gives nobody anything: it is read-only, and has no inode left for a file.
#[derive(Debug, Default)]
struct Covers {
    null: RefCell<Option<OwnedFd>>,
    empty: RefCell<Option<OwnedFd>>,
    /// The SELinux label of the empty directory.
    label: Option<Label>,
}

impl Covers {
    fn close(&self) {
        self.null.take();
        self.empty.take();
    }
}

/// The host's /dev/null, verified: the container's own may be a symlink to anything (CVE-2025-31133).
fn null() -> Result<OwnedFd> {
    let null = clone_path(c"/dev/null", false).call("open_tree(2)").at("/dev/null of the host")?;
    if !is_char_device(&fstat(&null).call("fstat(2)")?, 1, 3) {
        return Err(Error::new("/dev/null of the host is not the null device"));
    }
    Ok(null)
}

fn empty_dir(label: Option<&Label>) -> Result<OwnedFd> {
    let fs = Filesystem::open(c"tmpfs").call("fsopen(2)")?;
    fs.set(c"source", Some(c"tmpfs")).call("fsconfig(2)")?;
    fs.set(c"nr_inodes", Some(c"1")).call("fsconfig(2)")?;
    if let Some(label) = label {
        fs.set(c"context", Some(&crate::sys::cstring(label.to_string())?)).call("fsconfig(2)")?;
    }
    fs.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC).call("fsmount(2)")
}

/// Makes one path, and all that is mounted below it, read-only.
#[derive(Debug)]
struct Readonly {
    path: ContainerPath,
    index: usize,
}

impl fmt::Display for Readonly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make {} read-only", self.path)
    }
}

impl Step for Readonly {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/linux/readonlyPaths", self.index)
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let target = match ctx.root()?.open(&self.path, OFlag::O_PATH) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(MISSING),
            other => other.call("openat2(2)")?,
        };
        // A clone of what is there, on top of itself: the flags that it has stay, and are not cleared.
        let attr = Attr::flags(attr::RDONLY, 0);
        let tree = clone_with(target.as_fd(), true, attr).call("open_tree_attr(2)")?;
        attach(tree.as_fd(), target.as_fd()).call("move_mount(2)")?;
        Ok(Outcome::Done)
    }
}

/// Makes the root itself read-only: `/root/readonly`.
#[derive(Debug)]
pub struct ReadonlyRoot;

impl fmt::Display for ReadonlyRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("make the root read-only")
    }
}

impl Step for ReadonlyRoot {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/root/readonly")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        set_attr(ctx.root()?.as_fd(), Attr::flags(attr::RDONLY, 0), false).call("mount_setattr(2)")?;
        Ok(Outcome::Done)
    }
}
