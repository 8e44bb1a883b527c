//! The runtime's own binary cannot be overwritten from inside a container (CVE-2019-5736).
//!
//! A container can make the runtime execute `/proc/self/exe` and then hold the file that it runs from. If
//! that file lies on a writable mount, a root process inside can open it for writing once nobody runs it.
//! So a command that enters a container first changes over to a read-only, detached mount of the same file:
//! nothing is copied, nothing is mounted where anybody sees it, and the write is refused by the mount (EROFS)
//! whoever asks. It maps itself from there where it stands; where the kernel does not let it, it executes itself again.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, PoisonError};

use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::mount::{self, Attr, attr};
use super::process::{Argv, execveat};
use super::procfs::Procfs;
use super::remap;
use crate::error::{Call, Context, Error, Result};

/// The mount that this process runs from, until [`close`].
static MOUNT: Mutex<Option<OwnedFd>> = Mutex::new(None);

/// Closes what [`seal`] has left open. The kernel takes an RCU grace period for it, 0.06 ms at best and
/// milliseconds on a busy machine: the time to do it is while the child is at work.
pub fn close() {
    drop(MOUNT.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Sees to it that this process runs from a file that nobody inside could write.
///
/// If it must execute itself again for that, it does not return unless that failed.
pub fn seal(proc: &Procfs) -> Result<()> {
    seal_now(proc).at("seal the binary against writes from inside (CVE-2019-5736)")
}

fn seal_now(proc: &Procfs) -> Result<()> {
    let exe = File::open("/proc/self/exe").call("open(2)").at("/proc/self/exe")?;
    if fstatvfs(&exe).call("fstatvfs(3)")?.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    if !nix::unistd::geteuid().is_root() && !writable_by_us(&exe)? {
        // Inside a user namespace of ours only our own ids exist, so what we cannot write nobody there can.
        return Ok(());
    }
    let tree = mount::clone_fd(exe.as_fd(), false).call("open_tree(2)")?;
    mount::set_attr(tree.as_fd(), Attr::flags(attr::RDONLY, 0), false).call("mount_setattr(2)")?;
    let sealed = File::open(format!("/proc/self/fd/{}", tree.as_raw_fd())).call("open(2)")?;
    let stat = proc.read(c"self/stat").call("read(2)").at("read /proc/self/stat")?;
    if remap::run_from(sealed.as_fd(), &stat).is_ok() {
        MOUNT.lock().unwrap_or_else(PoisonError::into_inner).replace(tree);
        return Ok(());
    }
    let args = strings(std::env::args_os().map(OsStringExt::into_vec))?;
    let env = strings(std::env::vars_os().map(|(name, value)| {
        let mut entry = name.into_vec();
        entry.push(b'=');
        entry.extend(value.into_vec());
        entry
    }))?;
    Err(Error::call("execveat(2)", execveat(tree.as_fd(), &Argv::new(&args), &Argv::new(&env))))
}

fn strings(items: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>> {
    items.map(super::cstring).collect()
}

/// Whether our own ids could ever write the file: we own it, or its mode lets us.
fn writable_by_us(file: &File) -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata().call("fstat(2)")?;
    Ok(meta.uid() == nix::unistd::geteuid().as_raw() || meta.mode() & 0o022 != 0)
}
