//! What the child does: wait for Go, walk the plan, Ready, wait for start, walk the rest, which ends in the program.

use std::convert::Infallible;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Pid, chdir, chroot, fchdir};
use oci_spec::runtime::{Hook, Spec};
use serde_json::json;

use crate::error::{Call, Error, Result};
use crate::hooks::{self, Kind};
use crate::log;
use crate::plan::Plan;
use crate::step::{self, Ctx, Outcome, Pointer, Step, Steps};
use crate::sync::{Link, Message};
use crate::sys::process::{close_all_but, exit_now, give_back_memory, set_dumpable, setns};
use crate::sys::{path::Root, socket};
use crate::timings;

/// The life of the child, in a process of its own.
pub fn live(plan: &Plan, mut ctx: Ctx) -> ! {
    let Err(fault) = walk(plan, &mut ctx);
    // If nobody listens any more there is nobody to tell.
    drop(ctx.link.send(&Message::Fault(fault)));
    exit_now(1)
}

fn walk(plan: &Plan, ctx: &mut Ctx) -> Result<Infallible> {
    close_all_but(&kept(plan, ctx)).call("close_range(2)")?;
    ctx.link.wait_for_go()?;
    // From here on nobody in the container can look into this process until it is the program.
    set_dumpable(false).call("prctl(PR_SET_DUMPABLE)")?;
    umask(Mode::empty());
    run_all(&plan.setup, ctx)?;
    ctx.link.send(&Message::Ready)?;
    wait_for_start(ctx)?;
    run_all(&plan.program, ctx)?;
    Err(Error::new("the plan has no program in it"))
}

fn run_all(steps: &Steps, ctx: &mut Ctx) -> Result<()> {
    let (debugging, timed) = (log::debugging(), timings::wanted());
    for step in steps.iter() {
        let begin = (debugging || timed).then(Instant::now);
        let outcome = step::run(step, ctx)?;
        let took = begin.map(|begin| begin.elapsed()).unwrap_or_default();
        match &outcome {
            Outcome::Warned(text) => ctx.link.send(&Message::Note(format!("warning: {step}: {text}")))?,
            _ if debugging => {
                let time = timings::milliseconds(took);
                ctx.link.send(&Message::Note(format!("{step}: {outcome:?} in {time:.3} ms")))?;
            }
            _ => {}
        }
        if timed {
            ctx.link.send(&Message::Took(took, step.to_string()))?;
        }
    }
    Ok(())
}

/// The descriptors that the child goes on with; all others were the parent's.
fn kept(plan: &Plan, ctx: &Ctx) -> Vec<i32> {
    let mut kept: Vec<i32> = (0..3 + plan.preserve_fds as i32).collect();
    kept.push(ctx.link.raw());
    kept.extend(ctx.proc.iter().map(|proc| proc.raw()));
    kept.extend(ctx.start.iter().map(AsRawFd::as_raw_fd));
    kept.extend(ctx.opened.iter().flatten().map(AsRawFd::as_raw_fd));
    kept.extend(ctx.init.iter().map(AsRawFd::as_raw_fd));
    kept.extend(ctx.init_root.iter().map(AsRawFd::as_raw_fd));
    kept
}

/// `run` starts us over the pair; after `create`, `myrt start` sends us a pair of its own.
fn wait_for_start(ctx: &mut Ctx) -> Result<()> {
    let Some(start) = ctx.start.take() else { return ctx.link.wait_for_go() };
    // It may be days until somebody starts us.
    give_back_memory();
    loop {
        if let Some((_, Some(link))) = socket::receive(start.as_fd()).call("recvmsg(2)")? {
            ctx.link = Link::new(link);
            return Ok(());
        }
    }
}

/// The container's state for a hook that runs in the container (runtime.md, "State").
#[derive(Debug)]
pub struct RunHooks {
    hooks: Vec<Hook>,
    kind: Kind,
    state: serde_json::Value,
}

impl RunHooks {
    /// The hooks of one kind, if there are any.
    pub fn new(spec: &Spec, kind: Kind, bundle: &Path, id: &str) -> Option<RunHooks> {
        let hooks = hooks::of(spec.hooks(), kind).to_vec();
        let state = json!({
            "ociVersion": spec.version(),
            "id": id,
            "status": if kind == Kind::StartContainer { "created" } else { "creating" },
            "bundle": bundle,
            "annotations": spec.annotations().clone().unwrap_or_default(),
        });
        (!hooks.is_empty()).then_some(RunHooks { hooks, kind, state })
    }
}

impl fmt::Display for RunHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} {} hooks", self.hooks.len(), &self.kind.pointer()[7..])
    }
}

impl Step for RunHooks {
    fn asked_by(&self) -> Pointer {
        Pointer::Field(self.kind.pointer())
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        let mut state = self.state.clone();
        state["pid"] = json!(Pid::this().as_raw());
        hooks::run(&self.hooks, self.kind, &state.to_string(), None)?;
        Ok(Outcome::Done)
    }
}

/// Lets the parent run the hooks of the host: namespaces and mounts are there, the root is still the host's.
#[derive(Debug)]
pub struct TellHooks {
    /// How many there are.
    pub count: usize,
}

impl fmt::Display for TellHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "let the host run {} prestart and createRuntime hooks", self.count)
    }
}

impl Step for TellHooks {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/hooks")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        ctx.link.send(&Message::Hooks)?;
        ctx.link.wait_for_go()?;
        Ok(Outcome::Done)
    }
}

/// `exec`: enters the namespaces of the container's first process, all at once.
#[derive(Debug)]
pub struct Enter {
    /// `CLONE_NEW*`; the pid namespace was entered before the clone.
    pub namespaces: i32,
    /// True if the container's root is not the root of its mount namespace.
    pub chroot: bool,
}

impl fmt::Display for Enter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join {} of the container", crate::namespaces::names(self.namespaces))?;
        if self.chroot { f.write_str(", change to its root") } else { Ok(()) }
    }
}

impl Step for Enter {
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let init = ctx.init.take().ok_or_else(|| Error::new("the container's process is not open"))?;
        ctx.proc = None;
        let flags = self.namespaces & !libc::CLONE_NEWPID;
        if flags != 0 {
            setns(init.as_fd(), flags).call("setns(2)")?;
        }
        if let Some(root) = ctx.init_root.take().filter(|_| self.chroot) {
            fchdir(&root).call("fchdir(2)")?;
            chroot(".").call("chroot(2)")?;
        }
        chdir("/").call("chdir(2)")?;
        let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        let root: OwnedFd = nix::fcntl::open("/", flags, Mode::empty()).call("open(2)")?;
        ctx.root = Some(Root::new(root));
        Ok(Outcome::Done)
    }
}

/// A container without `/process`: it can be created and started, and ends at once.
#[derive(Debug)]
pub struct NoProgram;

impl fmt::Display for NoProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("end: there is no program")
    }
}

impl Step for NoProgram {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        exit_now(0)
    }
}
