//! The life of a container, as the host sees it. Read this first.
//!
//! ```text
//! create   read the bundle, plan, claim the id, make the cgroup, clone the child, let it walk the plan
//! start    give the word: the child executes the program
//! run      both, and in the foreground also what comes after
//! exec     another program in the same namespaces, cgroup and restrictions
//! kill     a signal to the first process, or to all
//! delete   the cgroup, the directory, the poststop hooks
//! ```
//!
//! Whatever `create` makes is written to the container's journal first, so that a failure here, a failure in
//! the child and a `kill -9` are taken back by the same function: [`Container::destroy`].

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use serde_json::json;

use crate::bundle::{Bundle, check_id, read_process};
use crate::cgroup::{self, Cgroup, CgroupPlan, Starting, UnitPlan};
use crate::container::{self, Container, Lasting, Process, START, State, Status, write_atomically};
use crate::error::{Call, Context, Error, Result};
use crate::foreground;
use crate::hooks::{self, Kind};
use crate::isolation::seccomp::Filter;
use crate::log;
use crate::plan::{ExecRequest, Plan, Request};
use crate::process::schedule;
use crate::spawn;
use crate::step::Ctx;
use crate::sync::{self, Link, Message};
use crate::sys::clone::Child;
use crate::sys::procfs::Procfs;
use crate::sys::{process, seal, socket};
use crate::timings;

/// What a `run` or `exec` does once the program runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Foreground {
    /// Do not wait for the program.
    pub detach: bool,
    /// Do not delete the container when it has ended.
    pub keep: bool,
    /// Do not adopt orphans of the container.
    pub no_subreaper: bool,
}

/// `myrt create`: everything up to, but not including, the user's program.
pub fn create(ask: &Request) -> Result<()> {
    let proc = Procfs::open()?;
    seal::seal(&proc)?;
    let bundle = Bundle::open(&ask.bundle, ask.config.as_deref())?;
    // Every refusal happens here; nothing is touched yet.
    let plan = Plan::create(&bundle, ask)?;
    refuse_lone_terminal(&bundle, ask)?;

    let mut container = Container::claim(&ask.root, state(&bundle, &plan, ask), Lasting::UntilDeleted)?;
    match build(&mut container, &bundle, &plan, ask, &proc, true) {
        Ok(_) => Ok(()),
        Err(e) => Err(take_back(container, &bundle, e, &proc)),
    }
}

/// `myrt run`: create and start, and unless it is detached wait for the end and delete.
///
/// Returns the exit status of the program, 128 + n if signal n ended it.
pub fn run(ask: &Request, how: Foreground) -> Result<i32> {
    let proc = Procfs::open()?;
    seal::seal(&proc)?;
    timings::host("seal the binary");
    let bundle = Bundle::open(&ask.bundle, ask.config.as_deref())?;
    timings::host("read config.json");
    let plan = Plan::create(&bundle, ask)?;
    timings::host("plan");
    if how.detach {
        refuse_lone_terminal(&bundle, ask)?;
    }
    let signals = foreground::prepare(how)?;

    let lasting = if how.detach || how.keep { Lasting::UntilDeleted } else { Lasting::WithThisCommand };
    let mut container = Container::claim(&ask.root, state(&bundle, &plan, ask), lasting)?;
    let child = match build(&mut container, &bundle, &plan, ask, &proc, false) {
        Ok(child) => child,
        Err(e) => return Err(take_back(container, &bundle, e, &proc)),
    };
    let told = if child.told { Ok(()) } else { child.link.go() };
    if let Err(e) = told.and_then(|()| until_program(&child.link)) {
        return Err(take_back(container, &bundle, e, &proc));
    }
    timings::host("start the program");
    timings::print();
    // Other commands may have it while the program runs, and poststart hooks may call them.
    let container = container.release()?;
    if let Err(e) = poststart(&container.state, &bundle) {
        return Err(match container.take_back()? {
            Some(container) => take_back(container, &bundle, e, &proc),
            // The hook, or somebody else, has deleted it.
            None => e,
        });
    }
    let Some(signals) = signals else { return Ok(0) };
    let code = foreground::wait(&child.process, child.terminal, signals)?;
    if !how.keep
        && let Some(container) = container.take_back()?
    {
        remove(container, Some(&bundle), &proc)?;
    }
    Ok(code)
}

/// A child that has walked its plan.
struct Ready {
    process: Child,
    link: Link,
    terminal: Option<OwnedFd>,
    /// It has the word already, and does not wait for it.
    told: bool,
}

/// Makes the cgroup and the child, and brings the child to where only the program is missing.
fn build(
    container: &mut Container,
    bundle: &Bundle,
    plan: &Plan,
    ask: &Request,
    proc: &Procfs,
    wait_for_start: bool,
) -> Result<Ready> {
    timings::host("claim the id");
    if plan.labels.reserve() {
        container.reserve_level(|reserved| plan.labels.choose(reserved))?;
    }
    container.state.selinux_label = plan.labels.process.as_ref().map(ToString::to_string);
    let (mut cgroup, mut unit) = (None, None);
    if let Some(plan) = &plan.cgroup {
        plan.notes().iter().for_each(log::warn);
        // A systemd that cannot be reached was asked for nothing: there is nothing to take back.
        unit = plan.unit().map(UnitPlan::reach).transpose()?.map(|reached| (plan, reached));
        plan.refuse_strangers()?;
        container.note_cgroup(&plan.record())?;
        if unit.is_none() {
            cgroup = Some(make_cgroup(container, plan)?);
        }
    }
    timings::host("make the cgroup");
    let start = match wait_for_start {
        true => Some(socket::listen_in(container.dir().as_fd(), START)?),
        false => None,
    };
    let (link, theirs) = sync::pair()?;
    // If nothing has to be done to the child first, it finds the word as soon as it is there.
    if !plan.holds_child() {
        link.go()?;
    }
    let ctx = Ctx { opened: plan.open()?, start, ..Ctx::new(theirs, proc.try_clone()?) };
    let spawned = spawn::create(plan, ctx, cgroup.as_ref().and_then(Cgroup::clone_into));
    let child = spawned.map_err(|e| said_on(&link).unwrap_or(e))?;
    timings::host("clone the child");
    let process = Process::describe(proc, child.pid)?;
    container.note_process(&process)?;
    container.state.process = Some(process);
    // systemd puts the child into its scope while we go on.
    let unit = match unit {
        Some((plan, reached)) => Some((plan, reached.start(child.pid.as_raw())?)),
        None => None,
    };

    if let Some(maps) = &plan.namespaces.maps {
        maps.write(proc, child.pid)?;
    }
    for limit in &plan.raise {
        limit.raise(child.pid)?;
    }
    set_oom_score(proc, child.pid, plan.oom_score_adj)?;
    if let Some((plan, starting)) = unit {
        cgroup = Some(enter_unit(container, plan, starting, child.pid)?);
        timings::host("wait for systemd");
    }
    if plan.holds_child() {
        link.go()?;
    }
    timings::host("write down the process, let it go");

    // While the child sets itself up: what exec and the poststop hooks will need.
    seal::close();
    container.write("config.json", &bundle.config)?;
    if let Some(filter) = &plan.filter {
        container.write("seccomp", &filter.to_bytes())?;
    }
    // If nobody looks at the container before its program runs, the child need not wait for its start either.
    let told = !wait_for_start && bundle.spec.hooks().is_none() && !ask.tells_engine();
    if told {
        container.created()?;
        link.go()?;
    }
    timings::host("keep the configuration");
    let terminal = until_ready(&link, cgroup.as_ref(), || {
        // To prestart, which the spec once placed after `create`, the container counts as created.
        for (kind, status) in [(Kind::Prestart, Status::Created), (Kind::CreateRuntime, Status::Creating)] {
            let state = oci_state(&container.state, status);
            hooks::run(hooks::of(bundle.spec.hooks(), kind), kind, &state, Some(container))?;
        }
        Ok(())
    })?;
    timings::host("wait until the child is ready");
    if !told {
        container.created()?;
        timings::host("write the state");
    }
    tell_engine(&child, ask.pid_file.as_deref(), ask.pidfd_socket.as_deref())?;
    Ok(Ready { process: child, link, terminal, told })
}

/// Makes the cgroup. What fails takes back itself what it made, and nothing else: who is in the cgroup may be strangers.
fn make_cgroup(container: &Container, plan: &CgroupPlan) -> Result<Cgroup> {
    let made = plan.create();
    if made.is_err() {
        container.forget_cgroup()?;
    }
    made
}

/// Waits for systemd and enters the unit's directory.
fn enter_unit(
    container: &mut Container,
    plan: &CgroupPlan,
    mut starting: Starting<'_>,
    pid: Pid,
) -> Result<Cgroup> {
    let started = starting.wait();
    if starting.was_refused() {
        container.forget_cgroup()?;
    }
    let new = started?;
    if let (false, Some(unit)) = (new, &mut container.state.cgroup.unit) {
        // A slice that others have made stays when we go.
        unit.own = false;
        container.note_cgroup(&container.state.cgroup)?;
    }
    container.note_started()?;
    plan.enter(new, pid.as_raw())
}

/// Listens to the child until it is ready; returns the terminal's master if it is ours to serve.
fn until_ready(
    link: &Link,
    cgroup: Option<&Cgroup>,
    run_hooks: impl Fn() -> Result<()>,
) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        match link.receive()? {
            Some(Message::Hooks) => {
                run_hooks()?;
                link.go()?;
            }
            Some(Message::Note(text)) => note(&text),
            Some(Message::Took(time, step)) => timings::child(time, step),
            Some(Message::Terminal(master)) => terminal = Some(master),
            Some(Message::Ready) => return Ok(terminal),
            Some(Message::Fault(e)) => return Err(e),
            Some(Message::Go) => return Err(Error::new("the child said Go")),
            None => return Err(killed(cgroup)),
        }
    }
}

/// Listens until the program was executed (the end of the other side) or could not be.
fn until_program(link: &Link) -> Result<()> {
    loop {
        match link.receive()? {
            None => return Ok(()),
            Some(Message::Fault(e)) => return Err(e),
            Some(Message::Note(text)) => note(&text),
            Some(Message::Took(time, step)) => timings::child(time, step),
            Some(other) => return Err(Error::new(format!("the child said {other:?}"))),
        }
    }
}

fn note(text: &str) {
    match text.strip_prefix("warning: ") {
        Some(text) => log::warn(text),
        None => log::debug(text),
    }
}

/// The fault that a child has left behind, if it has.
fn said_on(link: &Link) -> Option<Error> {
    match link.receive() {
        Ok(Some(Message::Fault(e))) => Some(e),
        _ => None,
    }
}

fn killed(cgroup: Option<&Cgroup>) -> Error {
    let e = Error::new("the container's process was killed while it was set up");
    match cgroup.map(Cgroup::oom_killed) {
        Some(Ok(count)) if count > 0 => e
            .hint("it was the OOM killer: the memory limit is too small")
            .from_config("/linux/resources/memory/limit"),
        _ => e,
    }
}

/// A failed create leaves nothing behind; the poststop hooks run (runtime.md, "Lifecycle").
fn take_back(container: Container, bundle: &Bundle, cause: Error, proc: &Procfs) -> Error {
    let state = oci_state(&container.state, Status::Stopped);
    let undone = container.destroy(proc);
    hooks::run_all(hooks::of(bundle.spec.hooks(), Kind::Poststop), Kind::Poststop, &state);
    match undone {
        Ok(()) => cause,
        Err(e) => cause
            .hint(format!("and it could not be cleaned up: {}; `myrt delete --force` tries again", e.line())),
    }
}

/// `myrt start`: gives a created container the word.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let proc = Procfs::open()?;
    let container = Container::open(root, id)?;
    match container.status(&proc)? {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        status => return Err(Error::new(format!("cannot start an already {status} container"))),
    }
    let bundle = saved_bundle(&container)?;
    let waiting = socket::connect_datagram(&container.file(START))?
        .call("connect(2)")
        .at("reach the waiting process")?;
    let (link, theirs) = socket::pair()?;
    socket::hand_over(waiting.as_fd(), b"start", theirs.as_fd())?;
    drop(theirs);
    let started = until_program(&Link::new(link));
    // Should it stay, it says nothing: nobody answers behind it. But everybody who asks has to try.
    drop(std::fs::remove_file(container.file(START)));
    let container = container.release()?;
    let started = started.and_then(|()| poststart(&container.state, &bundle));
    if started.is_err() {
        // The program did not start, or must not run on (runtime.md, "Lifecycle", 8 and 9).
        stop(&container.state, &proc)?;
    }
    started
}

/// Runs the poststart hooks. Nobody holds the container meanwhile: a hook may call the runtime.
fn poststart(state: &State, bundle: &Bundle) -> Result<()> {
    let list = hooks::of(bundle.spec.hooks(), Kind::Poststart);
    hooks::run(list, Kind::Poststart, &oci_state(state, Status::Running), None)
}

fn stop(state: &State, proc: &Procfs) -> Result<()> {
    if let Some(process) = &state.process
        && let Some(pidfd) = process.open(proc)?
    {
        signal(&pidfd, libc::SIGKILL)?;
        container::exited(&pidfd, Duration::from_secs(10))?;
    }
    Ok(())
}

/// `myrt exec`: another program in the container. Returns its exit status, 0 at once if detached.
pub fn exec(
    ask: &ExecRequest,
    process: impl FnOnce(&Bundle) -> Result<oci_spec::runtime::Process>,
    how: Foreground,
) -> Result<i32> {
    let proc = Procfs::open()?;
    seal::seal(&proc)?;
    let container = Container::open(&ask.root, &ask.id)?;
    let (status, init) = container.inspect(&proc)?;
    match status {
        Status::Running | Status::Created => {}
        Status::Paused if ask.ignore_paused => {}
        Status::Paused => {
            return Err(
                Error::new("the container is paused").hint("`myrt resume` it, or use --ignore-paused")
            );
        }
        Status::Creating => return Err(Error::new("the container is being created")),
        Status::Stopped => return Err(Error::new("container not running")),
    }
    let bundle = saved_bundle(&container)?;
    let process = process(&bundle)?;
    let filter = match std::fs::read(container.file("seccomp")) {
        Ok(bytes) => Some(Filter::from_bytes(&bytes)?),
        Err(_) if bundle.spec.linux().as_ref().is_some_and(|linux| linux.seccomp().is_some()) => {
            crate::plan::filter(&bundle.spec)?
        }
        Err(_) => None,
    };
    let plan = Plan::exec(&container.state, &process, filter, ask)?;
    let init = init.ok_or_else(|| Error::new("container not running"))?;
    let cgroup = Cgroup::open(&container.state.cgroup)?;
    if container.state.cgroup.v2.is_some() && cgroup.as_ref().and_then(Cgroup::clone_into).is_none() {
        // The program would run in the caller's cgroup, without the container's limits.
        return Err(Error::new("the container's cgroup is gone").hint(
            "something has moved its processes and removed it; `myrt delete` the container, or restart it",
        ));
    }
    let signals = foreground::prepare(how)?;

    let (link, theirs) = sync::pair()?;
    let ctx = Ctx {
        opened: plan.open()?,
        init: Some(init.try_clone().call("fcntl(2)")?),
        init_root: root_of(&container.state, &proc)?,
        ..Ctx::new(theirs, proc.try_clone()?)
    };
    // Before anything of the container is entered: it may hold CAP_SYS_PTRACE over its own namespaces.
    process::set_dumpable(false).call("prctl(PR_SET_DUMPABLE)")?;
    let entered = crate::plan::entered_by_parent(container.state.namespaces);
    let by_systemd = must_attach(&container.state, cgroup.as_ref(), ask)?;
    let into = match by_systemd {
        Some(_) => None,
        None => exec_cgroup(&container.state, cgroup.as_ref(), &proc, ask)?,
    };
    let child = schedule::on(plan.initial_cpus.as_ref(), || {
        spawn::exec(&plan, ctx, init.as_fd(), entered, into.as_ref().map(AsFd::as_fd))
    })?;
    if let Some(unit) = by_systemd {
        unit.attach(child.pid.as_raw())?;
    }
    for limit in &plan.raise {
        limit.raise(child.pid)?;
    }
    set_oom_score(&proc, child.pid, plan.oom_score_adj)?;
    // Nothing of ours has to happen between the two: the child finds both words, and does not wait for the second.
    link.go()?;
    link.go()?;
    seal::close();
    let terminal = until_ready(&link, None, || Ok(()))?;
    drop(container);
    until_program(&link)?;
    if let Err(e) = tell_engine(&child, ask.pid_file.as_deref(), ask.pidfd_socket.as_deref()) {
        // Nobody would know of the program.
        signal(&child.pidfd, libc::SIGKILL)?;
        return Err(e);
    }
    match signals {
        Some(signals) => foreground::wait(&child, terminal, signals),
        None => Ok(0),
    }
}

/// The process of `exec --process FILE`, with what it leaves open taken from the container's own.
pub fn exec_process(file: &Path, bundle: &Bundle) -> Result<oci_spec::runtime::Process> {
    let mut process = read_process(file)?;
    if let Some(own) = bundle.spec.process() {
        if process.capabilities().is_none() {
            process.set_capabilities(own.capabilities().clone());
        }
        if process.selinux_label().is_none() {
            process.set_selinux_label(own.selinux_label().clone());
        }
        if process.apparmor_profile().is_none() {
            process.set_apparmor_profile(own.apparmor_profile().clone());
        }
        if process.scheduler().is_none() {
            process.set_scheduler(own.scheduler().clone());
        }
        if process.io_priority().is_none() {
            process.set_io_priority(*own.io_priority());
        }
        if process.exec_cpu_affinity().is_none() {
            process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
        }
    }
    Ok(process)
}

/// The unit that systemd must put the new process into, because the caller may not.
fn must_attach<'a>(
    state: &'a State,
    cgroup: Option<&Cgroup>,
    ask: &ExecRequest,
) -> Result<Option<&'a cgroup::Unit>> {
    match (&state.cgroup.unit, cgroup) {
        (Some(unit), Some(cgroup)) if unit.is_users() && ask.sub_cgroup.is_none() => {
            Ok((!cgroup.may_be_entered()?).then_some(unit))
        }
        _ => Ok(None),
    }
}

/// The directory that the new process is cloned into: the container's cgroup, or one below it.
fn exec_cgroup(
    state: &State,
    cgroup: Option<&Cgroup>,
    proc: &Procfs,
    ask: &ExecRequest,
) -> Result<Option<OwnedFd>> {
    let Some(dir) = cgroup.and_then(Cgroup::clone_into) else {
        return match &ask.sub_cgroup {
            Some(_) => Err(Error::new("--cgroup needs a cgroup v2")),
            None => Ok(None),
        };
    };
    let cgroup = cgroup.ok_or_else(|| Error::new("no cgroup"))?;
    if let Some(below) = &ask.sub_cgroup {
        return cgroup.below(below).map(Some);
    }
    // A systemd inside moves everybody into leaves, and the container's own directory takes nobody any more.
    let init = state.process.as_ref().map_or(0, |p| p.pid);
    match cgroup.takes_processes()? {
        true => dir.try_clone_to_owned().call("fcntl(2)").map(Some),
        false => cgroup.of_process(proc, init).map(Some),
    }
}

/// The container's root directory, where entering its mount namespace does not lead there.
fn root_of(state: &State, proc: &Procfs) -> Result<Option<OwnedFd>> {
    match (&state.process, state.chroot) {
        (Some(process), true) => proc.root_of(process.pid).map(Some),
        _ => Ok(None),
    }
}

/// `myrt kill`: a signal to the container's first process, or with `all` to every process in it.
pub fn kill(root: &Path, id: &str, number: i32, all: bool) -> Result<()> {
    let proc = Procfs::open()?;
    let container = Container::open(root, id)?;
    let cgroup = Cgroup::open(&container.state.cgroup)?;
    // Without a pid namespace of its own the first process does not take the others along.
    let whole = all || (number == libc::SIGKILL && !container.state.own_pid_namespace);
    match (whole, cgroup) {
        (true, Some(cgroup)) if !cgroup.is_nothing() => {
            return if number == libc::SIGKILL { cgroup.kill() } else { cgroup.signal_all(number) };
        }
        (_, cgroup) => {
            let running = || Error::new("container not running");
            let process = container.state.process.as_ref().ok_or_else(running)?;
            let pidfd = process.open(&proc)?.ok_or_else(running)?;
            signal(&pidfd, number)?;
            // A frozen v1 cgroup keeps even SIGKILL waiting.
            if let Some(cgroup) = cgroup.filter(|_| number == libc::SIGKILL)
                && cgroup.is_frozen()?
            {
                cgroup.thaw()?;
            }
        }
    }
    Ok(())
}

fn signal(pidfd: &OwnedFd, number: i32) -> Result<()> {
    match process::pidfd_signal(pidfd.as_fd(), number) {
        Err(Errno::ESRCH) => Err(Error::new("no such process")),
        other => other.call("pidfd_send_signal(2)"),
    }
}

/// `myrt delete`: a stopped or created container; with `force` any, even one whose state is damaged.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    check_id(id)?;
    let proc = Procfs::open()?;
    let container = match force {
        false => Container::open(root, id)?,
        true => match Container::seize(root, id, &proc) {
            Ok(container) => container,
            Err(_) => return container::destroy_by_id(root, id, &proc),
        },
    };
    match container.status(&proc)? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            return Err(Error::new(format!("cannot delete container {id} that is not stopped: {status}"))
                .hint("`myrt kill` it first, or use --force"));
        }
    }
    // What cannot be read any more has no hooks; that it is deleted matters more.
    let bundle = saved_bundle(&container).ok();
    remove(container, bundle.as_ref(), &proc)
}

/// Takes the container back, then runs the poststop hooks (runtime.md, "Lifecycle", 12 and 13).
fn remove(container: Container, bundle: Option<&Bundle>, proc: &Procfs) -> Result<()> {
    let state = oci_state(&container.state, Status::Stopped);
    container.destroy(proc)?;
    if let Some(bundle) = bundle {
        hooks::run_all(hooks::of(bundle.spec.hooks(), Kind::Poststop), Kind::Poststop, &state);
    }
    Ok(())
}

/// The configuration as it was when the container was created.
pub fn saved_bundle(container: &Container) -> Result<Bundle> {
    let file = container.file("config.json");
    let config = std::fs::read(&file).call("open(2)").at(format!("read {}", file.display()))?;
    let mut bundle = Bundle::from_bytes(container.state.bundle.clone(), config)?;
    if let (Some(label), Some(process)) = (&container.state.selinux_label, bundle.spec.process()) {
        let mut process = process.clone();
        process.set_selinux_label(Some(label.clone()));
        bundle.spec.set_process(Some(process));
    }
    Ok(bundle)
}

/// The state as hooks and `myrt state` get it (runtime.md, "State").
pub fn oci_state(state: &State, status: Status) -> String {
    let pid = state.process.as_ref().filter(|_| status != Status::Stopped).map_or(0, |process| process.pid);
    json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "status": status,
        "pid": pid,
        "bundle": state.bundle,
        "annotations": state.annotations,
    })
    .to_string()
}

fn state(bundle: &Bundle, plan: &Plan, ask: &Request) -> State {
    let spec = &bundle.spec;
    let uid = nix::unistd::getuid();
    State {
        version: 1,
        oci_version: spec.version().clone(),
        id: ask.id.clone(),
        creating: true,
        process: None,
        bundle: bundle.path.clone(),
        rootfs: plan.rootfs.clone(),
        created: log::now(),
        owner: if uid.is_root() { "root".to_string() } else { uid.to_string() },
        annotations: spec.annotations().clone().unwrap_or_default(),
        cgroup: plan.cgroup.as_ref().map(|cgroup| cgroup.record()).unwrap_or_default(),
        namespaces: plan.namespaces.all(),
        own_pid_namespace: plan.namespaces.has_new(libc::CLONE_NEWPID),
        chroot: plan.chroot,
        keep_keyring: ask.no_new_keyring,
        selinux_label: None,
    }
}

/// A terminal needs somebody who serves it.
fn refuse_lone_terminal(bundle: &Bundle, ask: &Request) -> Result<()> {
    let terminal = bundle.spec.process().as_ref().is_some_and(|process| process.terminal().unwrap_or(false));
    if terminal && ask.console_socket.is_none() {
        return Err(Error::new("a terminal in the background needs a console socket")
            .hint("give --console-socket, or set /process/terminal to false")
            .from_config("/process/terminal"));
    }
    Ok(())
}

fn set_oom_score(proc: &Procfs, pid: Pid, value: Option<i32>) -> Result<()> {
    let Some(value) = value else { return Ok(()) };
    let path = crate::sys::cstring(format!("{pid}/oom_score_adj"))?;
    let written = proc.write(&path, value.to_string().as_bytes());
    written.hint("lowering it needs CAP_SYS_RESOURCE on the host").from_config("/process/oomScoreAdj")
}

/// The pid file (digits only, written at once or not at all) and the pidfd socket.
fn tell_engine(child: &Child, pid_file: Option<&Path>, pidfd_socket: Option<&Path>) -> Result<()> {
    if let Some(path) = pidfd_socket {
        let socket = socket::connect_stream(path).at("open the pidfd socket")?;
        socket::hand_over(socket.as_fd(), b"pidfd", child.pidfd.as_fd())?;
    }
    if let Some(path) = pid_file {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name =
            path.file_name().ok_or_else(|| Error::new(format!("pid file {} is no file", path.display())))?;
        let text = child.pid.to_string();
        write_atomically(dir, &name.to_string_lossy(), text.as_bytes(), 0o644, false)
            .at(format!("write pid file {}", path.display()))?;
    }
    Ok(())
}
