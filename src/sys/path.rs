//! Every access to the container's root: openat2(2) with `RESOLVE_IN_ROOT`, and nothing else.
//!
//! The image and whoever shares a volume with it decide what lies behind a path, and may change it at any
//! moment (CVE-2021-30465, CVE-2024-45310). So a path in the container is a type of its own that cannot be
//! handed to `std::fs`; it is resolved once, at the moment of use, and what is used is the descriptor.

use std::ffi::{CStr, CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, mkdirat};

use crate::error::{Call, Context, Error, Result};

const RESOLVE_NO_XDEV: u64 = 0x01;
const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// `struct open_how`.
#[repr(C)]
#[derive(Default)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag, mode: u32, resolve: u64) -> nix::Result<OwnedFd> {
    let flags = (flags | OFlag::O_CLOEXEC).bits() as u32 as u64;
    let how = OpenHow { flags, mode: mode.into(), resolve };
    loop {
        // SAFETY: `path` is a NUL-terminated CStr that outlives the call; `how` is a live, zero-filled
        // `open_how` of exactly the size passed on.
        let ret = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                dir.as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match Errno::result(ret) {
            // SAFETY: the kernel has just returned this descriptor; it is ours alone.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            // Somebody renamed a directory on the way: the kernel asks to try again (openat2(2)).
            Err(Errno::EAGAIN | Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
    }
}

/// Opens a path below `dir`, which no symlink and no mount may leave. For trees that the kernel made
/// (procfs, cgroupfs).
pub fn open_beneath(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    openat2(dir, path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS)
}

/// A path in the container, not resolved yet. Always absolute: a relative one counts from the root.
#[derive(Clone, PartialEq, Eq)]
pub struct ContainerPath(CString);

impl ContainerPath {
    /// Takes a path of the configuration as it is; a NUL byte is an error.
    pub fn new(path: impl AsRef<Path>) -> Result<Self> {
        super::cstring(path.as_ref().as_os_str().as_bytes()).map(ContainerPath)
    }

    /// The path as the configuration has it, for messages and comparisons only.
    pub fn text(&self) -> &Path {
        Path::new(OsStr::from_bytes(self.0.as_bytes()))
    }

    /// True if it names the root itself, whatever it is called (`/`, `//`, `.`).
    pub fn is_root(&self) -> bool {
        self.components().next().is_none()
    }

    fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.as_bytes().split(|b| *b == b'/').filter(|c| !c.is_empty() && *c != b".")
    }

    /// The last component.
    pub fn name(&self) -> Result<CString> {
        self.split().map(|(_, name)| name)
    }

    /// The path without its last component, and that component.
    fn split(&self) -> Result<(ContainerPath, CString)> {
        let parts: Vec<&[u8]> = self.components().collect();
        match parts.split_last() {
            Some((last, rest)) if *last != b".." => {
                Ok((ContainerPath(super::cstring(rest.join(&b'/'))?), super::cstring(last)?))
            }
            _ => Err(Error::new(format!("{self} names no file"))),
        }
    }
}

impl fmt::Display for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.text().display())
    }
}

impl fmt::Debug for ContainerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Symlinks followed by hand while missing directories are made.
const LINKS: usize = 40;

/// The root of a container, as a descriptor.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Takes the directory that is the container's root.
    pub fn new(dir: OwnedFd) -> Root {
        Root(dir)
    }

    /// Opens a path in the container; symlinks stay inside, magic links are refused.
    pub fn open(&self, path: &ContainerPath, flags: OFlag) -> nix::Result<OwnedFd> {
        self.open_with(&path.0, flags, 0)
    }

    /// Opens a path in the container that must not pass a symlink: `ELOOP` otherwise.
    pub fn open_no_symlinks(&self, path: &ContainerPath, flags: OFlag) -> nix::Result<OwnedFd> {
        self.open_with(&path.0, flags, RESOLVE_NO_SYMLINKS)
    }

    fn open_with(&self, path: &CStr, flags: OFlag, resolve: u64) -> nix::Result<OwnedFd> {
        let path = if path.is_empty() { c"." } else { path };
        openat2(self.as_fd(), path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve)
    }

    /// Opens the directory at `path`, making what is missing with mode 0755.
    pub fn make_dir(&self, path: &ContainerPath) -> Result<OwnedFd> {
        self.make_dir_within(path, LINKS).at(format!("make directory {path}"))
    }

    fn make_dir_within(&self, path: &ContainerPath, links: usize) -> Result<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        match self.open(path, flags) {
            Err(Errno::ENOENT) => {}
            other => return other.call("openat2(2)"),
        }
        let parts: Vec<&[u8]> = path.components().collect();
        let (mut dir, there) = self.deepest(&parts)?;
        for end in there + 1..=parts.len() {
            let name = super::cstring(parts[end - 1])?;
            if parts[end - 1] == b".." {
                let prefix = super::cstring(parts[..end].join(&b'/'))?;
                dir = self.open_with(&prefix, flags, 0).call("openat2(2)")?;
                continue;
            }
            match mkdirat(&dir, name.as_c_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Error::call("mkdirat(2)", errno)),
            }
            match openat2(dir.as_fd(), &name, flags | OFlag::O_NOFOLLOW, 0, RESOLVE_BENEATH) {
                Ok(next) => dir = next,
                // A symlink whose target is missing: make the target, then go on behind it.
                Err(Errno::ENOTDIR | Errno::ELOOP) if links > 0 => {
                    let target = readlinkat(&dir, name.as_c_str()).call("readlinkat(2)")?;
                    let path = join_link(&parts, end, target.as_bytes())?;
                    return self.make_dir_within(&path, links - 1);
                }
                Err(errno) => return Err(Error::call("openat2(2)", errno)),
            }
        }
        Ok(dir)
    }

    /// The deepest directory on the way that is there, and how many components lead to it. Most often only the last
    /// one is missing.
    fn deepest(&self, parts: &[&[u8]]) -> Result<(OwnedFd, usize)> {
        for end in (0..parts.len()).rev() {
            let prefix = super::cstring(parts[..end].join(&b'/'))?;
            match self.open_with(&prefix, OFlag::O_PATH | OFlag::O_DIRECTORY, 0) {
                Err(Errno::ENOENT) => {}
                other => return Ok((other.call("openat2(2)")?, end)),
            }
        }
        Err(Error::call("openat2(2)", Errno::ENOENT))
    }

    /// Opens the file at `path`, making it (and missing directories) if it is not there.
    pub fn make_file(&self, path: &ContainerPath) -> Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH) {
            Err(Errno::ENOENT) => {}
            other => return other.call("openat2(2)").at(format!("open {path}")),
        }
        let (dir, name) = self.parent(path)?;
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        openat2(dir.as_fd(), &name, flags, 0o644, RESOLVE_BENEATH)
            .call("openat2(2)")
            .at(format!("create {path}"))?;
        openat2(dir.as_fd(), &name, OFlag::O_PATH | OFlag::O_NOFOLLOW, 0, RESOLVE_BENEATH)
            .call("openat2(2)")
            .at(format!("open {path}"))
    }

    /// Opens (and makes) the directory that `path` lies in; returns it with the last component.
    pub fn parent(&self, path: &ContainerPath) -> Result<(OwnedFd, CString)> {
        let (dir, name) = path.split()?;
        Ok((self.make_dir(&dir)?, name))
    }
}

/// The path that `parts[..end]` (a symlink to `target`) and the rest of `parts` stand for.
fn join_link(parts: &[&[u8]], end: usize, target: &[u8]) -> Result<ContainerPath> {
    let mut path = Vec::new();
    if !target.starts_with(b"/") {
        path.push(parts[..end - 1].join(&b'/'));
    }
    path.push(target.to_vec());
    path.push(parts[end..].join(&b'/'));
    Ok(ContainerPath(super::cstring(path.join(&b'/'))?))
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// True if the descriptor is a character device with these numbers.
pub fn is_char_device(stat: &FileStat, major: u64, minor: u64) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR
        && stat.st_rdev == libc::makedev(major as u32, minor as u32)
}

/// True if the descriptor is a directory.
pub fn is_dir(fd: BorrowedFd<'_>) -> nix::Result<bool> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}
