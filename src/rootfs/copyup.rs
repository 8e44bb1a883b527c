//! `tmpcopyup`: a tmpfs that begins with a copy of what it covers.
//!
//! Both sides are walked by descriptor and no symlink is followed.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, fstatat, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::error::{Call, Context, Error, Result};

/// No honest image nests deeper; the walk recurses.
const DEEPEST: usize = 128;

/// Copies the content of the directory `from` into the directory `to`, with owners and modes.
pub fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    copy_dir(&open_dir(from, c".")?, &open_dir(to, c".")?, DEEPEST).at("copy up")
}

fn open_dir(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, name, flags, Mode::empty()).call("openat(2)")
}

fn copy_dir(from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
    if depth == 0 {
        return Err(Error::new(format!("more than {DEEPEST} directories deep")));
    }
    let mut entries = Dir::from_fd(from.try_clone().call("fcntl(2)")?).call("getdents(2)")?;
    for entry in entries.iter() {
        let entry = entry.call("getdents(2)")?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, depth).at(name.to_string_lossy())?;
        }
    }
    let stat = fstat(from).call("fstat(2)")?;
    fchownat(to, c"", owner(&stat).0, owner(&stat).1, AtFlags::AT_EMPTY_PATH).call("fchownat(2)")?;
    nix::sys::stat::fchmod(to, Mode::from_bits_truncate(stat.st_mode)).call("fchmod(2)")
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, depth: usize) -> Result<()> {
    let stat = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW).call("fstatat(2)")?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let mode = Mode::from_bits_truncate(stat.st_mode);
    match kind {
        SFlag::S_IFDIR => {
            mkdirat(to, name, Mode::S_IRWXU).call("mkdirat(2)")?;
            return copy_dir(&open_dir(from.as_fd(), name)?, &open_dir(to.as_fd(), name)?, depth - 1);
        }
        SFlag::S_IFLNK => {
            let target = readlinkat(from, name).call("readlinkat(2)")?;
            symlinkat(target.as_os_str(), to, name).call("symlinkat(2)")?;
        }
        SFlag::S_IFREG => copy_file(from, to, name)?,
        _ => mknodat(to, name, kind, Mode::S_IRUSR, stat.st_rdev).call("mknodat(2)")?,
    }
    let (uid, gid) = owner(&stat);
    fchownat(to, name, uid, gid, AtFlags::AT_SYMLINK_NOFOLLOW).call("fchownat(2)")?;
    if kind != SFlag::S_IFLNK {
        fchmodat(to, name, mode, FchmodatFlags::FollowSymlink).call("fchmodat(2)")?;
    }
    Ok(())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &CStr) -> Result<()> {
    let read = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let mut from = File::from(openat(from, name, read, Mode::empty()).call("openat(2)")?);
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut to = File::from(openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR).call("openat(2)")?);
    std::io::copy(&mut from, &mut to).call("write(2)").map(drop)
}

fn owner(stat: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
}
