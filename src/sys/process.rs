//! Processes: pidfds, identity, user and group ids, session, personality, execve.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::Pid;

/// Opens a descriptor of a process. `ESRCH` if there is none. See pidfd_open(2).
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })?;
    // SAFETY: the kernel has just returned this descriptor; it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal (any number, real-time ones too) to the process behind a pidfd. See pidfd_send_signal(2).
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    send_signal(pidfd, signal, 0)
}

/// Sends a signal to the process group that the process behind a pidfd leads.
///
/// `EINVAL` before Linux 6.9.
pub fn pidfd_signal_group(pidfd: BorrowedFd<'_>, signal: i32) -> nix::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 4;
    send_signal(pidfd, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn send_signal(pidfd: BorrowedFd<'_>, signal: i32, flags: u32) -> nix::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is borrowed for the call; a null siginfo asks for the defaults of kill(2).
    let ret =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, flags) };
    Errno::result(ret).map(drop)
}

/// Lets the process that will be `command` do something before it is that program. An error keeps it from it.
///
/// The caller must be single-threaded: the new process has only the calling thread.
pub fn before_exec(command: &mut Command, act: impl Fn() -> nix::Result<()> + Send + Sync + 'static) {
    // SAFETY: without other threads there are no locks whose holder the new process could miss.
    unsafe { command.pre_exec(move || Ok(act()?)) };
}

/// Moves this process (for a pid or time namespace: its future children) into the namespaces `flags`
/// (`CLONE_NEW*`) of the process behind a pidfd, or into the one namespace behind a descriptor.
///
/// All or nothing. See setns(2).
pub fn setns(fd: BorrowedFd<'_>, flags: i32) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::setns(fd.as_raw_fd(), flags) }).map(drop)
}

/// The kind of namespace behind a descriptor, as its `CLONE_NEW*` flag. See ioctl_nsfs(2).
pub fn namespace_kind(fd: BorrowedFd<'_>) -> nix::Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) })
}

/// Sets supplementary groups. An empty list drops the caller's. See setgroups(2).
pub fn set_groups(groups: &[u32]) -> nix::Result<()> {
    // SAFETY: the pointer and the length belong to a live slice; gid_t is u32.
    Errno::result(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// Sets the real, effective and saved group id.
pub fn set_gid(gid: u32) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Sets the real, effective and saved user id.
pub fn set_uid(uid: u32) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Sets the soft and hard limit of one resource of a process (0: this one). See prlimit(2).
pub fn prlimit(pid: Pid, resource: u32, soft: u64, hard: u64) -> nix::Result<()> {
    let new = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: `new` is a live rlimit64; a null old limit is allowed.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            pid.as_raw(),
            resource,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    Errno::result(ret).map(drop)
}

/// The soft and hard limit of one resource of this process.
pub fn rlimit(resource: u32) -> nix::Result<(u64, u64)> {
    let mut old = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a null new limit is allowed; `old` is a live rlimit64 to be filled.
    let ret = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<libc::rlimit64>(), &raw mut old)
    };
    Errno::result(ret)?;
    Ok((old.rlim_cur, old.rlim_max))
}

/// `struct sched_attr`, version 1 (kernel 5.3): times in nanoseconds. sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// [`set_scheduler`] fills it in.
    pub size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 to 19, for the policies that share the processor.
    pub nice: i32,
    /// The static priority of a real-time policy.
    pub priority: u32,
    /// Of `SCHED_DEADLINE`: time on the processor,
    pub runtime: u64,
    /// until when at the latest,
    pub deadline: u64,
    /// in each period.
    pub period: u64,
    /// The least share of a processor to count with, for `SCHED_FLAG_UTIL_CLAMP_MIN`; the spec has no value for it.
    pub util_min: u32,
    /// The same, at most.
    pub util_max: u32,
}

/// Sets by which policy this thread is scheduled. See sched_setattr(2).
pub fn set_scheduler(attr: &SchedAttr) -> nix::Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` is a live sched_attr that says its own size.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
    Errno::result(ret).map(drop)
}

/// Sets the I/O priority of this thread: `IOPRIO_CLASS_*` and a level from 0 (first) to 7. See ioprio_set(2).
pub fn set_io_priority(class: u16, level: u16) -> nix::Result<()> {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    const IOPRIO_CLASS_SHIFT: u32 = 13;
    let value = i32::from(class) << IOPRIO_CLASS_SHIFT | i32::from(level);
    // SAFETY: no pointers.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) }).map(drop)
}

/// One prctl(2) with integer arguments.
pub fn prctl(option: i32, a: u64, b: u64) -> nix::Result<i32> {
    // SAFETY: every option used with this function takes integers only.
    Errno::result(unsafe { libc::prctl(option, a, b, 0u64, 0u64) })
}

/// While false, other processes can neither trace this one nor look through its /proc entries.
pub fn set_dumpable(on: bool) -> nix::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, on.into(), 0).map(drop)
}

/// The next execve can not grant more rights than the process has. Cannot be undone.
pub fn set_no_new_privs() -> nix::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Orphaned descendants come to this process instead of to init. See PR_SET_CHILD_SUBREAPER.
pub fn set_subreaper() -> nix::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// Sets the execution domain. See personality(2).
pub fn personality(domain: u64) -> nix::Result<()> {
    // SAFETY: no pointers are passed.
    Errno::result(unsafe { libc::personality(domain) }).map(drop)
}

/// Sets the NIS domain name of the UTS namespace. See setdomainname(2).
pub fn set_domain_name(name: &[u8]) -> nix::Result<()> {
    // SAFETY: the pointer and the length belong to a live slice.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }).map(drop)
}

/// Whether a descriptor was open before this process began: its own ones all close at the next execve.
pub fn is_inherited(fd: i32) -> bool {
    // SAFETY: F_GETFD takes no argument; a number that is not open is an error.
    unsafe { libc::fcntl(fd, libc::F_GETFD) == 0 }
}

/// Closes all descriptors but these. What owned the others must not be used or dropped any more.
pub fn close_all_but(kept: &[i32]) -> nix::Result<()> {
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            close_range(first as u32, fd as u32 - 1)?;
        }
        first = fd + 1;
    }
    close_range(first as u32, u32::MAX)
}

fn close_range(first: u32, last: u32) -> nix::Result<()> {
    // SAFETY: no pointers are passed; the caller gives up what owned these descriptors.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// The working directory as the kernel sees it; outside of the root it begins with `(unreachable)`.
///
/// glibc's getcwd(3) hides that case, so this is the system call itself.
pub fn raw_getcwd() -> nix::Result<Vec<u8>> {
    let mut path = vec![0u8; libc::PATH_MAX as usize];
    // SAFETY: the pointer and the length belong to a live buffer.
    let len = Errno::result(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    path.truncate((len as usize).saturating_sub(1));
    Ok(path)
}

/// Whether this process, with its effective ids, may execute the file. See faccessat2(2).
pub fn may_execute(path: &CStr) -> nix::Result<()> {
    // SAFETY: `path` is a NUL-terminated CStr that outlives the call.
    let ret = unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    };
    Errno::result(ret).map(drop)
}

/// A NULL-terminated array of pointers for execve(2), made before the last moment.
pub struct Argv<'a> {
    pointers: Vec<*const libc::c_char>,
    _strings: &'a [CString],
}

impl<'a> Argv<'a> {
    /// Points at each string.
    pub fn new(strings: &'a [CString]) -> Argv<'a> {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
        Argv { pointers, _strings: strings }
    }
}

/// Becomes another program. Returns only if that failed. See execve(2).
pub fn execve(path: &CStr, args: &Argv<'_>, env: &Argv<'_>) -> Errno {
    // SAFETY: both arrays are NULL-terminated and point at live NUL-terminated strings.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Errno::last()
}

/// Becomes the program behind a descriptor. Returns only if that failed. See execveat(2).
pub fn execveat(file: BorrowedFd<'_>, args: &Argv<'_>, env: &Argv<'_>) -> Errno {
    // SAFETY: as for execve; the empty path is a literal.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

/// Blocks no signal, and lets SIGPIPE, which Rust's start-up ignores, end the program again.
///
/// Handlers end with execve(2) by themselves; what the caller ignores stays ignored, as nohup(1) wants it, but for SIGCHLD.
pub fn reset_signals() -> nix::Result<()> {
    // SAFETY: SIG_DFL is a valid disposition for SIGPIPE.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    nix::sys::signal::SigSet::empty().thread_set_mask()
}

/// Gives back the memory that is not in use: free pages of the heap, and what deeper calls left of the stack.
#[inline(never)] // The margin is for a small frame of its own.
pub fn give_back_memory() {
    const MARGIN: usize = 1 << 10;
    const DEPTH: usize = 1 << 20;
    // SAFETY: malloc_trim has no preconditions.
    unsafe { libc::malloc_trim(0) };
    let local = 0u8;
    let end = (&raw const local as usize - MARGIN) & !4095;
    // SAFETY: everything below this call's frame, which with the red zone of a leaf function is well within the
    // margin, is unused stack; what is not mapped is left out.
    unsafe { libc::madvise((end - DEPTH) as *mut libc::c_void, DEPTH, libc::MADV_DONTNEED) };
}

/// Ends this process at once, without running anything that belongs to the process it was cloned from.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Waits until a child of ours has exited; returns its exit status, or 128 + n if signal n ended it.
pub fn wait_child(pid: Pid) -> nix::Result<i32> {
    loop {
        if let Some((_, code)) = wait(pid.as_raw(), 0)? {
            return Ok(code);
        }
    }
}

/// Reaps a child that has exited, whichever it is; `None` if there is none yet. `ECHILD` without children.
pub fn reap_any() -> nix::Result<Option<(Pid, i32)>> {
    wait(-1, libc::WNOHANG)
}

/// waitpid(2). nix has no names for real-time signals and loses a child that one of them ended.
fn wait(pid: i32, flags: i32) -> nix::Result<Option<(Pid, i32)>> {
    let mut status = 0;
    let pid = loop {
        // SAFETY: `status` is a live int to be filled.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags | libc::__WALL) }) {
            Err(Errno::EINTR) => continue,
            other => break other?,
        }
    };
    let code = match libc::WIFSIGNALED(status) {
        true => 128 + libc::WTERMSIG(status),
        false => libc::WEXITSTATUS(status),
    };
    Ok((pid > 0).then_some((Pid::from_raw(pid), code)))
}

/// Blocks every signal and returns a descriptor that reads them. See signalfd(2).
pub fn signal_fd() -> nix::Result<OwnedFd> {
    // SAFETY: a zeroed sigset_t is a valid argument for sigfillset to fill.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is a live sigset_t; a null old set is allowed.
    Errno::result(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })?;
    // SAFETY: `set` is a live sigset_t.
    let fd =
        Errno::result(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })?;
    // SAFETY: the kernel has just returned this descriptor; it is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads the number of the next signal from a [`signal_fd`]; `None` when there is none.
pub fn next_signal(fd: BorrowedFd<'_>) -> nix::Result<Option<i32>> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match nix::unistd::read(fd, &mut info) {
        Ok(len) if len == info.len() => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) | Err(Errno::EAGAIN) => Ok(None),
        Err(errno) => Err(errno),
    }
}
