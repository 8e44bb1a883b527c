//! clone3(2): a child with its namespaces, straight into its cgroup.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// A child of this process, by number and by descriptor. The number stays ours until we wait for it.
#[derive(Debug)]
pub struct Child {
    /// Its process id, as this process sees it.
    pub pid: Pid,
    /// Its pidfd: readable once it has exited.
    pub pidfd: OwnedFd,
}

/// Does not fit the i32 of the libc crate.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args`, version 2 (kernel 5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Creates a child that goes on from here with a copy of our memory, in the new namespaces of `flags`
/// (`CLONE_NEW*`, `CLONE_PARENT`) and in `cgroup`. Returns `None` in the child.
///
/// The caller must be single-threaded: the child has only the calling thread. See clone3(2).
pub fn clone3(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Option<Child>> {
    let mut pidfd: i32 = -1;
    let mut args = CloneArgs {
        flags: (flags as u32 as u64) | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        // CLONE_PARENT takes the exit signal of the caller's own parent and refuses another.
        exit_signal: if flags & libc::CLONE_PARENT != 0 { 0 } else { libc::SIGCHLD as u64 },
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a live clone_args of exactly the size passed on; without CLONE_VM the child has a
    // memory of its own, and the caller has no other thread whose locks it could miss.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let pid = Errno::result(ret)?;
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel stored a new descriptor in `pidfd`; it is ours alone.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Some(Child { pid: Pid::from_raw(pid as i32), pidfd }))
}
