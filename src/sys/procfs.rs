//! The host's procfs, opened before any container exists and verified to be one.
//!
//! Labels, sysctls and everything else in /proc that confines a container is written through this
//! descriptor. A container can bring a /proc of its own, redirect it by symlinks or cover it with mounts
//! (CVE-2019-16884, CVE-2025-52881); it has no way to this one.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, fstat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use crate::error::{Call, Context, Error, Result};

/// The inode number of the root of every procfs.
const PROC_ROOT_INO: u64 = 1;

/// A descriptor of the host's /proc.
#[derive(Debug)]
pub struct Procfs {
    dir: OwnedFd,
    boot_id: OnceCell<String>,
}

impl Procfs {
    /// Opens /proc and verifies that it is the root of a procfs.
    pub fn open() -> Result<Procfs> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open("/proc", flags, Mode::empty()).call("open(2)").at("open /proc")?;
        let kind = fstatfs(&fd).call("fstatfs(2)").at("open /proc")?.filesystem_type();
        let ino = fstat(&fd).call("fstat(2)").at("open /proc")?.st_ino;
        if kind != PROC_SUPER_MAGIC || ino != PROC_ROOT_INO {
            return Err(Error::new("/proc is not a procfs").hint("mount proc on /proc on the host"));
        }
        Ok(Procfs { dir: fd, boot_id: OnceCell::new() })
    }

    /// Opens a file below /proc; neither a mount nor a magic link may lie on the way.
    pub fn open_file(&self, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
        super::path::open_beneath(self.dir.as_fd(), path, flags)
    }

    /// Writes a whole value into a file in one write(2).
    pub fn write(&self, path: &CStr, value: &[u8]) -> Result<()> {
        let step =
            || format!("write {:?} to /proc/{}", String::from_utf8_lossy(value), path.to_string_lossy());
        let fd = self.open_file(path, OFlag::O_WRONLY).call("openat2(2)").map_err(|e| e.at(step()))?;
        let done = File::from(fd).write(value).call("write(2)").map_err(|e| e.at(step()))?;
        if done != value.len() { Err(Error::call("write(2)", Errno::EIO).at(step())) } else { Ok(()) }
    }

    /// Opens the root directory of a process, which the caller has verified to be the right one.
    pub fn root_of(&self, pid: i32) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let path = super::cstring(format!("{pid}/root"))?;
        nix::fcntl::openat(&self.dir, path.as_c_str(), flags, Mode::empty())
            .call("openat(2)")
            .at(format!("open the root of process {pid}"))
    }

    /// Opens the user namespace of this process.
    pub fn own_user_namespace(&self) -> nix::Result<OwnedFd> {
        nix::fcntl::openat(&self.dir, c"self/ns/user", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
    }

    /// Reads a whole file. Those that are read here have one record, and the kernel hands it out whole.
    pub fn read(&self, path: &CStr) -> nix::Result<String> {
        let file = self.open_file(path, OFlag::O_RDONLY)?;
        Ok(String::from_utf8_lossy(&super::read_until(file.as_fd(), 2048)?).into_owned())
    }

    /// The id of this boot of the machine: random(4). Read once.
    pub fn boot_id(&self) -> Result<&str> {
        if let Some(id) = self.boot_id.get() {
            return Ok(id);
        }
        let id = self.read(c"sys/kernel/random/boot_id").call("read(2)").at("read the boot id")?;
        Ok(self.boot_id.get_or_init(|| id.trim().to_string()))
    }

    /// A copy of the descriptor, for another holder.
    pub fn try_clone(&self) -> Result<Procfs> {
        Ok(Procfs { dir: self.dir.try_clone().call("fcntl(2)")?, boot_id: self.boot_id.clone() })
    }

    /// The number of the descriptor.
    pub fn raw(&self) -> i32 {
        self.dir.as_raw_fd()
    }
}
