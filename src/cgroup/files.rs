//! The directory of one cgroup in one hierarchy: its files read and written, by descriptor where there is one.
//!
//! Nothing here creates a file: a path that is not on a cgroup filesystem ends in ENOENT. File names come from
//! this room's own tables or are validated to hold no slash.

use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::error::{Call, Context, Error, Result};
use crate::sys::read_until;

/// A cgroup's directory.
#[derive(Debug)]
pub(super) struct Dir {
    path: PathBuf,
    fd: Option<OwnedFd>,
}

impl Dir {
    /// Opens the directory; its files are then found from the descriptor.
    pub(super) fn open(path: PathBuf) -> nix::Result<Dir> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let fd = open(&path, flags, Mode::empty())?;
        Ok(Dir { path, fd: Some(fd) })
    }

    /// The directory by name only: with nine v1 hierarchies and one file in each, a descriptor costs more.
    pub(super) fn named(path: PathBuf) -> Dir {
        Dir { path, fd: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Opens one of its files.
    pub(super) fn file(&self, name: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match &self.fd {
            Some(fd) => openat(fd, name, flags, Mode::empty()),
            None => open(&self.path.join(name), flags, Mode::empty()),
        }
    }

    /// Reads a file as the kernel returns it.
    pub(super) fn read_raw(&self, name: &str) -> nix::Result<String> {
        // The kernel hands out whole records up to a page, and here they are short: less than that is all.
        read_text(self.file(name, OFlag::O_RDONLY)?.as_fd(), 1024)
    }

    /// Reads a file, without the newline at its end.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        let mut text = self.read_raw(name).call("read(2)").at(self.step("read", name))?;
        text.truncate(text.trim_end().len());
        Ok(text)
    }

    /// Reads a file; `None` if there is no such file, or no such cgroup any more.
    pub(super) fn read_if_there(&self, name: &str) -> Result<Option<String>> {
        match self.read_raw(name) {
            Ok(text) => Ok(Some(text)),
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(None),
            Err(errno) => Err(Error::call("read(2)", errno).at(self.step("read", name))),
        }
    }

    /// Writes one value in one write(2), as the kernel wants it.
    pub(super) fn write_raw(&self, name: &str, value: &str) -> nix::Result<()> {
        let file = self.file(name, OFlag::O_WRONLY)?;
        write_once(file.as_fd(), value)
    }

    /// Writes one value; the error names the file and the value.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<()> {
        self.write_raw(name, value).map_err(|errno| self.write_error(name, value, errno))
    }

    pub(super) fn write_error(&self, name: &str, value: &str, errno: Errno) -> Error {
        Error::call("write(2)", errno).at(self.step(&format!("write {value:?} to"), name))
    }

    /// The value behind a key of a flat keyed file like cgroup.events.
    pub(super) fn key(&self, name: &str, key: &str) -> Result<Option<u64>> {
        Ok(self.read_if_there(name)?.and_then(|text| keyed(&text, key)))
    }

    /// `read /sys/fs/cgroup/web/memory.max`, for errors.
    pub(super) fn step(&self, verb: &str, name: impl Display) -> String {
        format!("{verb} {}/{name}", self.path.display())
    }
}

/// Finds `key value` in a text of such lines.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Reads to the end.
pub(super) fn read_all(fd: BorrowedFd<'_>) -> nix::Result<String> {
    read_text(fd, 0)
}

fn read_text(fd: BorrowedFd<'_>, whole: usize) -> nix::Result<String> {
    Ok(String::from_utf8_lossy(&read_until(fd, whole)?).into_owned())
}

/// One write(2) of the whole value: a control file reads each write as a value of its own.
pub(super) fn write_once(fd: BorrowedFd<'_>, value: &str) -> nix::Result<()> {
    loop {
        match nix::unistd::write(fd, value.as_bytes()) {
            Ok(n) if n == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::EIO),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
    }
}
