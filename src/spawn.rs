//! One clone3(2), or two where a namespace must be entered before the child exists.
//!
//! A user namespace must be joined before the others are made in it; a pid namespace takes effect only for
//! children; offsets of a time namespace must be written before anybody is in it. `create` must not do that
//! itself (its hooks would then run inside): a short-lived process does, and clones the child as our own
//! with `CLONE_PARENT`. `exec` has nothing left to do outside and enters the pid namespace itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, geteuid};

use crate::child;
use crate::error::{Call, Context, Error, Result};
use crate::plan::Plan;
use crate::step::Ctx;
use crate::sync::Message;
use crate::sys::clone::{Child, clone3};
use crate::sys::process::{exit_now, pidfd_open, set_dumpable, setns, wait_child};
use crate::sys::procfs::Procfs;
use crate::sys::socket;

/// Creates the child of `create` and `run`. It waits for Go.
pub fn create(plan: &Plan, ctx: Ctx, cgroup: Option<BorrowedFd<'_>>) -> Result<Child> {
    let namespaces = &plan.namespaces;
    if namespaces.has_new(libc::CLONE_NEWUSER) {
        hide_from_owner()?;
    }
    if !namespaces.before.is_empty() || namespaces.offsets.is_some() {
        return through_another(plan, ctx, cgroup);
    }
    match clone3(namespaces.cloned(), cgroup).call("clone3(2)").map_err(explain)? {
        Some(child) => Ok(child),
        None => child::live(plan, ctx),
    }
}

/// Creates the child of `exec`, in the namespaces `entered` (`CLONE_NEW*`) of `init`. It waits for Go.
pub fn exec(
    plan: &Plan,
    ctx: Ctx,
    init: BorrowedFd<'_>,
    entered: i32,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Child> {
    if entered != 0 {
        setns(init, entered).call("setns(2)").at("join the container's pid namespace")?;
    }
    match clone3(0, cgroup).call("clone3(2)")? {
        Some(child) => Ok(child),
        None => child::live(plan, ctx),
    }
}

/// The owner of a user namespace has every right over who is in it, even where he has none over us: without this he could
/// look into a child that still has the host's files open (ptrace(2), "Ptrace access mode checking"). The child inherits it.
///
/// Without root it is the caller who is the owner, and he could not write the maps any more.
pub fn hide_from_owner() -> Result<()> {
    match geteuid().is_root() {
        true => set_dumpable(false).call("prctl(PR_SET_DUMPABLE)"),
        false => Ok(()),
    }
}

/// What a clone with namespaces needs that it did not find.
pub fn explain(e: Error) -> Error {
    match e.errno() {
        Some(Errno::EPERM) => {
            e.hint("creating namespaces needs root, or a user namespace in /linux/namespaces")
        }
        Some(Errno::ENOSPC) => e.hint("a limit of /proc/sys/user is reached"),
        Some(Errno::EINVAL) => e.hint("this kernel lacks one of the namespaces"),
        _ => e,
    }
}

fn through_another(plan: &Plan, ctx: Ctx, cgroup: Option<BorrowedFd<'_>>) -> Result<Child> {
    let opened = plan.namespaces.before.iter().map(|joined| joined.open()).collect::<Result<Vec<_>>>()?;
    let (ours, theirs) = socket::pair()?;
    let Some(other) = clone3(0, None).call("clone3(2)")? else {
        let fault = match enter(plan, &opened, ctx.proc.as_ref(), cgroup) {
            Ok(None) => child::live(plan, ctx),
            Ok(Some(child)) => {
                socket::send(theirs.as_fd(), child.pid.to_string().as_bytes(), None).call("sendmsg(2)").err()
            }
            Err(e) => Some(e),
        };
        if let Some(fault) = fault {
            // If nobody listens any more there is nobody to tell.
            drop(ctx.link.send(&Message::Fault(fault)));
        }
        exit_now(0)
    };
    drop(theirs);
    let said = socket::receive(ours.as_fd()).call("recvmsg(2)")?;
    wait_child(other.pid).call("waitpid(2)")?;
    let pid = said.and_then(|(text, _)| String::from_utf8(text).ok()?.parse().ok()).map(Pid::from_raw);
    // No pid: what went wrong was said on the link, where the caller hears it next.
    let Some(pid) = pid else { return Err(Error::new("the namespaces could not be entered")) };
    Ok(Child { pid, pidfd: pidfd_open(pid).call("pidfd_open(2)")? })
}

/// Enters what must come first and clones the child there. Returns `None` in the child.
fn enter(
    plan: &Plan,
    opened: &[OwnedFd],
    proc: Option<&Procfs>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Option<Child>> {
    if !opened.is_empty() {
        // Whoever is in there already could look into a process that still has the host's files open, before it
        // has heard Go. The child inherits this.
        set_dumpable(false).call("prctl(PR_SET_DUMPABLE)")?;
    }
    for (joined, fd) in plan.namespaces.before.iter().zip(opened) {
        setns(fd.as_fd(), joined.kind)
            .call("setns(2)")
            .at(joined)
            .from_config(format!("/linux/namespaces/{}", joined.index))?;
    }
    let mut new = plan.namespaces.cloned();
    if let (Some(offsets), Some(proc)) = (&plan.namespaces.offsets, proc) {
        let time = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);
        unshare(time).call("unshare(2)").at("new time namespace").from_config("/linux/namespaces")?;
        proc.write(c"self/timens_offsets", offsets.as_bytes()).from_config("/linux/timeOffsets")?;
        new &= !libc::CLONE_NEWTIME;
    }
    clone3(new | libc::CLONE_PARENT, cgroup).call("clone3(2)").map_err(explain)
}
