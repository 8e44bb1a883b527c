//! The mount API on descriptors: fsopen, open_tree, mount_setattr, move_mount; pivot_root.
//!
//! No function here takes a path in the container: targets are descriptors from [`super::path`].

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// `MOUNT_ATTR_*`, mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device files cannot be opened.
    pub const NODEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NOEXEC: u64 = 0x8;
    /// The three access time modes share this mask.
    pub const ATIME: u64 = 0x70;
    /// Access times are never updated.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always updated.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of directories are not updated.
    pub const NODIRATIME: u64 = 0x80;
    /// The owners of files are mapped.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

const OPEN_TREE_CLONE: u32 = 1;
const OPEN_TREE_CLOEXEC: u32 = libc::O_CLOEXEC as u32;
const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = libc::AT_EMPTY_PATH as u32;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSPICK_CLOEXEC: u32 = 1;
const FSPICK_EMPTY_PATH: u32 = 8;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSCONFIG_CMD_RECONFIGURE: u32 = 7;

/// What mount_setattr(2) changes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attr {
    /// [`attr`] flags to set.
    pub set: u64,
    /// [`attr`] flags to clear.
    pub clear: u64,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`; 0 leaves it.
    pub propagation: u64,
    /// The user namespace of an id-mapped mount.
    userns_fd: u64,
}

impl Attr {
    /// Sets and clears flags.
    pub fn flags(set: u64, clear: u64) -> Attr {
        Attr { set, clear, ..Attr::default() }
    }

    /// Changes the propagation only.
    pub fn propagation(kind: u64) -> Attr {
        Attr { propagation: kind, ..Attr::default() }
    }
}

fn owned(ret: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = Errno::result(ret)?;
    // SAFETY: the kernel has just returned this descriptor; it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Clones the mount (with `recursive`: the tree of mounts) at a path of the host; it is attached nowhere.
///
/// Needs `CAP_SYS_ADMIN` over the caller's mount namespace. See open_tree(2).
pub fn clone_path(path: &CStr, recursive: bool) -> nix::Result<OwnedFd> {
    open_tree(libc::AT_FDCWD, path, if recursive { AT_RECURSIVE } else { 0 })
}

/// Clones the mount (or tree) behind a descriptor, which must lie in the caller's mount namespace.
pub fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> nix::Result<OwnedFd> {
    open_tree(fd.as_raw_fd(), c"", AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 })
}

fn open_tree(dir: i32, path: &CStr, flags: u32) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags;
    // SAFETY: `path` is a NUL-terminated CStr that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, dir, path.as_ptr(), flags) })
}

/// Changes flags or propagation of the mount behind `mount`, with `recursive` of all mounts below it too.
///
/// All or nothing. `EPERM` if a flag is locked by a more privileged user namespace. See mount_setattr(2).
pub fn set_attr(mount: BorrowedFd<'_>, attr: Attr, recursive: bool) -> nix::Result<()> {
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` is a live mount_attr (version 0) of exactly the size passed on; the path is a literal.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    Errno::result(ret).map(drop)
}

/// Maps the owners of files as a user namespace maps ids: once, and while the mount was never attached.
pub fn map_owners(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> nix::Result<()> {
    let attr = Attr { set: attr::IDMAP, userns_fd: namespace.as_raw_fd() as u64, ..Attr::default() };
    set_attr(mount, attr, recursive)
}

/// Clones as [`clone_fd`] does and changes flags as [`set_attr`] does: one call since kernel 6.15, two before.
pub fn clone_with(fd: BorrowedFd<'_>, recursive: bool, attr: Attr) -> nix::Result<OwnedFd> {
    /// The number is the same on every architecture that Rust's libc knows.
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    let recurse = if recursive { AT_RECURSIVE } else { 0 };
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | recurse;
    // SAFETY: `attr` is a live mount_attr (version 0) of exactly the size passed on; the path is a literal.
    let ret = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    match owned(ret) {
        // Not there, or a filter of an older engine does not know it: what is really forbidden fails again.
        Err(Errno::ENOSYS | Errno::EPERM) => {
            let tree = clone_fd(fd, recursive)?;
            set_attr(tree.as_fd(), attr, recursive).map(|()| tree)
        }
        other => other,
    }
}

/// Changes all mounts of the caller's namespace, below its root.
pub fn set_attr_of_all(attr: Attr) -> nix::Result<()> {
    // SAFETY: `attr` is a live mount_attr (version 0) of exactly the size passed on; the path is a literal.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            c"/".as_ptr(),
            AT_RECURSIVE,
            &raw const attr,
            size_of::<Attr>(),
        )
    };
    Errno::result(ret).map(drop)
}

/// Attaches a detached mount on the directory or file behind `target`. See move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: both paths are literals; both descriptors are live.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    Errno::result(ret).map(drop)
}

/// A filesystem being configured: fsopen(2), fspick(2).
#[derive(Debug)]
pub struct Filesystem(OwnedFd);

impl Filesystem {
    /// Starts a new instance of a filesystem type. `ENODEV` if the kernel does not know it.
    pub fn open(kind: &CStr) -> nix::Result<Filesystem> {
        // SAFETY: `kind` is a NUL-terminated CStr that outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Filesystem)
    }

    /// Takes the superblock behind an existing mount, to change its options.
    pub fn pick(mount: BorrowedFd<'_>) -> nix::Result<Filesystem> {
        let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
        // SAFETY: the path is a literal; the descriptor is live.
        owned(unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) })
            .map(Filesystem)
    }

    /// Sets `key=value`, or the flag `key` without a value.
    pub fn set(&self, key: &CStr, value: Option<&CStr>) -> nix::Result<()> {
        match value {
            Some(value) => self.config(FSCONFIG_SET_STRING, Some(key), Some(value)),
            None => self.config(FSCONFIG_SET_FLAG, Some(key), None),
        }
    }

    /// Makes the superblock and a detached mount of it with the flags `attr`.
    pub fn mount(&self, attr: u64) -> nix::Result<OwnedFd> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: no pointers; the descriptor is live.
        owned(unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), FSMOUNT_CLOEXEC, attr) })
    }

    /// Applies the options to a picked superblock.
    pub fn reconfigure(&self) -> nix::Result<()> {
        self.config(FSCONFIG_CMD_RECONFIGURE, None, None)
    }

    /// The kernel's own words on the last failure: `tmpfs: Bad value for 'size'`.
    pub fn message(&self) -> Option<String> {
        let mut text = [0u8; 256];
        let len = nix::unistd::read(self.0.as_fd(), &mut text).ok()?;
        let text = String::from_utf8_lossy(&text[..len]);
        Some(text.trim_start_matches("e ").trim_end().to_string())
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> nix::Result<()> {
        let key = key.map_or(std::ptr::null(), CStr::as_ptr);
        let value = value.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: both pointers are null or NUL-terminated strings that outlive the call.
        let ret = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) };
        Errno::result(ret).map(drop)
    }
}

/// Makes the current directory the root and puts the old root on top of it, to be unmounted next.
///
/// See pivot_root(2), section "pivot_root(\".\", \".\")".
pub fn pivot_root_here() -> nix::Result<()> {
    // SAFETY: both paths are literals.
    let ret = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    Errno::result(ret).map(drop)
}
