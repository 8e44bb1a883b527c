//! `/hooks`: programs of the host that run at six points of a container's life.
//!
//! A hook gets the container's state on stdin and only the environment that the configuration gives it
//! (never ours, which may hold secrets), runs in a process group of its own, and is killed with all of
//! that group at its timeout. config.md, "POSIX-platform Hooks".

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Hooks};

use crate::container::Container;
use crate::error::{Call, Context, Error, Result};
use crate::log;

/// The six kinds, in the order of a container's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On the host, before pivot_root (deprecated by the spec, used by Docker).
    Prestart,
    /// On the host, before pivot_root.
    CreateRuntime,
    /// In the container's namespaces, before pivot_root.
    CreateContainer,
    /// In the container, before the program.
    StartContainer,
    /// On the host, after the program was started.
    Poststart,
    /// On the host, after the container was deleted.
    Poststop,
}

impl Kind {
    /// The JSON pointer of the list.
    pub fn pointer(self) -> &'static str {
        match self {
            Kind::Prestart => "/hooks/prestart",
            Kind::CreateRuntime => "/hooks/createRuntime",
            Kind::CreateContainer => "/hooks/createContainer",
            Kind::StartContainer => "/hooks/startContainer",
            Kind::Poststart => "/hooks/poststart",
            Kind::Poststop => "/hooks/poststop",
        }
    }
}

/// The hooks of one kind; empty if there are none.
#[allow(deprecated)] // prestart: Docker still uses it.
pub fn of(hooks: &Option<Hooks>, kind: Kind) -> &[Hook] {
    let Some(hooks) = hooks else { return &[] };
    let list = match kind {
        Kind::Prestart => hooks.prestart(),
        Kind::CreateRuntime => hooks.create_runtime(),
        Kind::CreateContainer => hooks.create_container(),
        Kind::StartContainer => hooks.start_container(),
        Kind::Poststart => hooks.poststart(),
        Kind::Poststop => hooks.poststop(),
    };
    list.as_deref().unwrap_or_default()
}

/// Refuses what could not be run: a path that is not absolute, a timeout that is not positive.
pub fn check(hooks: &Option<Hooks>) -> Result<()> {
    use Kind::*;
    for kind in [Prestart, CreateRuntime, CreateContainer, StartContainer, Poststart, Poststop] {
        for (index, hook) in of(hooks, kind).iter().enumerate() {
            let at = format!("{}/{index}", kind.pointer());
            if !hook.path().is_absolute() {
                let e = Error::new(format!("hook path {:?} is not absolute", hook.path()));
                return Err(e.from_config(format!("{at}/path")));
            }
            if let Some(entry) = hook.env().iter().flatten().find(|entry| !entry.contains('=')) {
                return Err(Error::new(format!("env {entry:?} has no =")).from_config(format!("{at}/env")));
            }
            if hook.timeout().is_some_and(|seconds| seconds <= 0) {
                return Err(Error::new("a hook's timeout is above zero").from_config(format!("{at}/timeout")));
            }
        }
    }
    Ok(())
}

/// Runs hooks in order; the first one that fails ends it.
///
/// With `holder`, which must be held, whoever deletes the container by force ends the hook too, also if this process
/// is gone by then: nobody would look at its timeout any more, and what it sets up would be for nothing.
pub fn run(hooks: &[Hook], kind: Kind, state: &str, holder: Option<&Container>) -> Result<()> {
    for (index, hook) in hooks.iter().enumerate() {
        run_one(hook, state, holder)
            .at(format!("run hook {}", hook.path().display()))
            .from_config(format!("{}/{index}", kind.pointer()))?;
    }
    Ok(())
}

/// Runs hooks in order; one that fails is a warning and the next one runs (runtime.md, "Lifecycle", 13).
pub fn run_all(hooks: &[Hook], kind: Kind, state: &str) {
    for (index, hook) in hooks.iter().enumerate() {
        if let Err(e) = run(std::slice::from_ref(hook), kind, state, None) {
            log::warn(format!("{}/{index}: {}", kind.pointer(), e.line()));
        }
    }
}

fn run_one(hook: &Hook, state: &str, holder: Option<&Container>) -> Result<()> {
    let args = hook.args().as_deref().unwrap_or_default();
    let mut command = Command::new(hook.path());
    if let Some((name, rest)) = args.split_first() {
        command.arg0(name).args(rest);
    }
    command.env_clear().process_group(0).current_dir("/");
    for entry in hook.env().as_deref().unwrap_or_default() {
        let (name, value) =
            entry.split_once('=').ok_or_else(|| Error::new(format!("env {entry:?} has no =")))?;
        command.env(name, value);
    }
    // Files, not pipes: nobody has to read or write while the hook runs, however much either side says.
    let mut stdin = file_in_memory("state")?;
    stdin.write_all(state.as_bytes()).and_then(|()| stdin.rewind()).call("write(2)")?;
    let mut said = file_in_memory("stderr")?;
    let stderr = said.try_clone().call("fcntl(2)")?;
    command.stdin(stdin).stdout(Stdio::null()).stderr(stderr);
    // One that no clock reaches is none.
    let deadline = hook.timeout().and_then(|s| Instant::now().checked_add(Duration::from_secs(s as u64)));
    if let Some(container) = holder {
        container.note_hook(&mut command)?;
    }
    let ended = wait_for(command.spawn().call("execve(2)"), deadline);
    if let Some(container) = holder {
        container.forget_hook()?;
    }
    let status = ended?;
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    said.rewind().and_then(|()| said.take(4096).read_to_end(&mut text)).call("read(2)")?;
    let said = String::from_utf8_lossy(&text);
    Err(Error::new(format!("{status}; stderr: {:?}", said.trim_end())))
}

/// Waits for the hook, and kills it with all of its group at the deadline.
fn wait_for(child: Result<Child>, deadline: Option<Instant>) -> Result<ExitStatus> {
    let mut child = child?;
    let group = Pid::from_raw(child.id() as i32);
    let Some(status) = wait(&mut child, deadline)? else {
        // The hook may have ended right now; its group may not.
        let _ = killpg(group, Signal::SIGKILL);
        child.wait().call("waitpid(2)")?;
        return Err(Error::new("timed out").hint("it was killed with everything in its process group"));
    };
    Ok(status)
}

/// An empty file that is nowhere. Not executable, or a host with `vm.memfd_noexec=2` refuses it.
fn file_in_memory(name: &str) -> Result<File> {
    let file = match memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::from_bits_retain(NOEXEC_SEAL)) {
        // Before Linux 6.3 there was no such flag.
        Err(Errno::EINVAL) => memfd_create(name, MFdFlags::MFD_CLOEXEC),
        other => other,
    };
    file.map(File::from).call("memfd_create(2)")
}

/// `MFD_NOEXEC_SEAL`, memfd_create(2).
const NOEXEC_SEAL: u32 = 8;

/// Waits for the hook; `None` if the deadline comes first.
fn wait(child: &mut Child, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
    let Some(deadline) = deadline else { return child.wait().call("waitpid(2)").map(Some) };
    let pidfd = crate::sys::process::pidfd_open(Pid::from_raw(child.id() as i32)).call("pidfd_open(2)")?;
    match crate::container::exited(&pidfd, deadline.saturating_duration_since(Instant::now()))? {
        true => child.wait().call("waitpid(2)").map(Some),
        false => Ok(None),
    }
}
