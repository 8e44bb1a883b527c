//! The plan: every room asked for its steps, in order. What is refused is refused here.
//!
//! The order of the steps is the order of the pushes in [`Plan::create`] and [`Plan::exec`]; read them from
//! top to bottom. Three laws are not visible there: masks come after mounts, the bounding set is dropped
//! before the user id, and the filter comes last with no_new_privs but before the last capability without.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};

use crate::bundle::Bundle;
use crate::cgroup::{self, CgroupPlan, EnterV1};
use crate::child::{Enter, RunHooks, TellHooks};
use crate::container::State;
use crate::error::{Context, Error, Result};
use crate::hooks::{self, Kind};
use crate::isolation::apparmor;
use crate::isolation::capabilities::Capabilities;
use crate::isolation::confine::{InstallFilter, NoNewPrivs};
use crate::isolation::seccomp::{self, Filter};
use crate::isolation::selinux::steps::CheckProgram;
use crate::isolation::selinux::{self, Labels, Relabel};
use crate::log;
use crate::namespaces::{self, Joined, Namespaces};
use crate::process::command::{Command, EnterCwd, Execute, FindProgram, Prepare};
use crate::process::limits::Limit;
use crate::process::schedule::{self, Cpus};
use crate::process::session::{self, SetPersonality};
use crate::process::terminal::OpenTerminal;
use crate::process::user::Ids;
use crate::rootfs::cgroups::MountCgroups;
use crate::rootfs::hide::{self, ReadonlyRoot};
use crate::rootfs::idmap::IdMap;
use crate::rootfs::mounts::{self, MountStep, ReadonlyLater};
use crate::rootfs::options::Options;
use crate::rootfs::pivot::{Chroot, MakeCwd, Pivot};
use crate::rootfs::{self, Attach, Isolate, Propagation, Source, Use, devices};
use crate::step::{Slot, Step, Steps};
use crate::sys::path::ContainerPath;
use crate::sys::socket;

/// What the command line asks of `create`, `run` and `plan`.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The container's id.
    pub id: String,
    /// Where the containers' directories are.
    pub root: PathBuf,
    /// The bundle.
    pub bundle: PathBuf,
    /// Another file than `config.json`.
    pub config: Option<PathBuf>,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Where the pidfd goes.
    pub pidfd_socket: Option<PathBuf>,
    /// Use chroot(2) instead of pivot_root(2).
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// How many descriptors after 2 the program gets.
    pub preserve_fds: u32,
    /// Let systemd make the cgroup.
    pub systemd_cgroup: bool,
    /// SELinux labels beyond those of the configuration.
    pub selinux: selinux::Ask,
    /// Make no cgroup.
    pub no_cgroup: bool,
    /// Only print the plan: needs no rights.
    pub only_look: bool,
}

impl Request {
    /// Somebody waits to hear of the container's process.
    pub fn tells_engine(&self) -> bool {
        self.pid_file.is_some() || self.pidfd_socket.is_some()
    }
}

/// What the command line asks of `exec`.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The container's id.
    pub id: String,
    /// Where the containers' directories are.
    pub root: PathBuf,
    /// Where the terminal's master goes.
    pub console_socket: Option<PathBuf>,
    /// Where the pid is written.
    pub pid_file: Option<PathBuf>,
    /// Where the pidfd goes.
    pub pidfd_socket: Option<PathBuf>,
    /// How many descriptors after 2 the program gets.
    pub preserve_fds: u32,
    /// Capabilities beyond those of the configuration.
    pub more_capabilities: Vec<String>,
    /// Run in a paused container all the same: it waits until the container is resumed.
    pub ignore_paused: bool,
    /// A cgroup below the container's.
    pub sub_cgroup: Option<PathBuf>,
}

/// Something of the host that the parent opens and the child inherits.
#[derive(Debug)]
pub enum Wanted {
    /// A namespace to join.
    Namespace(Joined),
    /// A detached clone of a tree (recursive or not) that the child could not reach, or not map.
    Tree(PathBuf, bool, Option<Relabel>, Option<IdMap>),
    /// The engine's console socket.
    Console(PathBuf),
    /// The place where the SELinux policy answers one question.
    Policy,
    /// The `tasks` file of a v1 hierarchy.
    Tasks(PathBuf),
}

impl Wanted {
    /// Opens it; `None` for what its step can do without.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let fd = match self {
            Wanted::Namespace(joined) => joined.open(),
            Wanted::Tree(path, recursive, relabel, idmap) => {
                let tree = rootfs::clone_source(path, *recursive, relabel.as_ref())?;
                match idmap {
                    Some(idmap) => idmap.apply(tree.as_fd()).at(path.display()).map(|()| tree),
                    None => Ok(tree),
                }
            }
            Wanted::Console(path) => socket::connect_stream(path).at("open the console socket"),
            Wanted::Policy => return selinux::policy::Question::open(),
            Wanted::Tasks(path) => cgroup::open_tasks(path),
        };
        fd.map(Some)
    }
}

/// Everything that will be done, in order.
#[derive(Debug)]
pub struct Plan {
    /// The container's id.
    pub id: String,
    /// The cgroup; `exec` uses the one that is there.
    pub cgroup: Option<CgroupPlan>,
    /// New and joined namespaces.
    pub namespaces: Namespaces,
    /// What the parent opens for the child; a [`Slot`] is a place in it.
    pub wanted: Vec<Wanted>,
    /// Limits whose hard value the parent raises, because the child could not.
    pub raise: Vec<Limit>,
    /// The CPUs from which `exec` enters the container.
    pub initial_cpus: Option<Cpus>,
    /// Written by the parent, who may lower it.
    pub oom_score_adj: Option<i32>,
    /// The filter, kept with the state for `exec`.
    pub filter: Option<Filter>,
    /// SELinux labels.
    pub labels: Labels,
    /// The child's steps up to `Ready`.
    pub setup: Steps,
    /// The child's steps after start.
    pub program: Steps,
    /// How many descriptors after 2 the program gets.
    pub preserve_fds: u32,
    /// True if the root is changed by chroot(2).
    pub chroot: bool,
    /// The root filesystem on the host.
    pub rootfs: PathBuf,
}

impl Plan {
    fn empty(id: &str, preserve_fds: u32) -> Plan {
        Plan {
            id: id.to_string(),
            cgroup: None,
            namespaces: Namespaces::default(),
            wanted: Vec::new(),
            raise: Vec::new(),
            initial_cpus: None,
            oom_score_adj: None,
            filter: None,
            labels: Labels::default(),
            setup: Steps::default(),
            program: Steps::default(),
            preserve_fds,
            chroot: false,
            rootfs: PathBuf::new(),
        }
    }

    /// What `create` and `run` do.
    pub fn create(bundle: &Bundle, ask: &Request) -> Result<Plan> {
        let spec = &bundle.spec;
        let linux = spec.linux().as_ref();
        refuse_what_is_missing(spec)?;
        hooks::check(spec.hooks())?;

        let mut plan = Plan::empty(&ask.id, ask.preserve_fds);
        plan.namespaces = Namespaces::new(spec)?;
        let rootless = !nix::unistd::geteuid().is_root() || namespaces::user::inside_one()?;
        let cgroups = cgroup::Ask {
            systemd: ask.systemd_cgroup,
            none: ask.no_cgroup,
            rootless,
            only_look: ask.only_look,
        };
        let cgroup = CgroupPlan::new(spec, &ask.id, &cgroups)?;
        plan.namespaces.late_cgroup =
            plan.namespaces.has_new(libc::CLONE_NEWCGROUP) && !cgroup.is_entered_by_clone();
        plan.enter_cgroup(&cgroup.record());
        plan.cgroup = Some(cgroup);

        let process = spec.process().as_ref();
        plan.labels = Labels::new(spec, &ask.selinux)?;
        // Before the keyring is made.
        plan.labels.plan_keys(&mut plan.setup);
        session::plan(&ask.id, !ask.no_new_keyring, &mut plan.setup)?;
        plan.join_namespaces();
        namespaces::uts::plan(spec, &plan.namespaces, &mut plan.setup)?;
        namespaces::net::plan(&plan.namespaces, &mut plan.setup);
        namespaces::sysctl::plan(spec, &plan.namespaces, &mut plan.setup)?;
        let readonly_later = plan.root(bundle, ask)?;
        if let Some(process) = process {
            plan.terminal(process, ask.console_socket.as_deref(), true)?;
        }
        plan.hooks_before_pivot(spec, bundle, ask)?;
        // The labels of the program: after the hooks, which are the host's, and while /proc is ours.
        plan.labels.plan_program(&mut plan.setup);
        if let Some(process) = process {
            apparmor::plan(process.apparmor_profile(), &mut plan.setup)?;
        }
        plan.change_root(spec, readonly_later)?;

        if let Some(personality) = linux.and_then(|linux| linux.personality().as_ref()) {
            plan.setup.push(SetPersonality::new(personality)?);
        }
        plan.filter = filter(spec)?;
        let start_hooks = RunHooks::new(spec, Kind::StartContainer, &bundle.path, &ask.id);
        match process {
            Some(process) => {
                let capabilities = Capabilities::new(process.capabilities())?;
                plan.process(process, capabilities, start_hooks, false)?;
            }
            None => plan.program.push(crate::child::NoProgram),
        }
        Ok(plan)
    }

    /// What `exec` does: the same rooms, in the namespaces of a container that is there.
    pub fn exec(state: &State, process: &Process, filter: Option<Filter>, ask: &ExecRequest) -> Result<Plan> {
        let mut plan = Plan::empty(&ask.id, ask.preserve_fds);
        plan.enter_cgroup(&state.cgroup);
        plan.labels = Labels::of_process(process)?;
        plan.labels.plan_keys(&mut plan.setup);
        plan.labels.plan_program(&mut plan.setup);
        apparmor::plan(process.apparmor_profile(), &mut plan.setup)?;
        session::plan(&ask.id, !state.keep_keyring, &mut plan.setup)?;
        let namespaces = state.namespaces & !entered_by_parent(state.namespaces);
        plan.setup.push(Enter { namespaces, chroot: state.chroot });
        if state.namespaces & libc::CLONE_NEWUSER != 0 {
            plan.setup.push(namespaces::user::BecomeRoot);
        }
        plan.terminal(process, ask.console_socket.as_deref(), false)?;
        plan.filter = filter;
        let mut capabilities = Capabilities::new(process.capabilities())?;
        for name in &ask.more_capabilities {
            capabilities.add(name)?;
        }
        plan.namespaces.new = state.namespaces & libc::CLONE_NEWUSER;
        plan.process(process, capabilities, None, true)?;
        plan.namespaces.new = 0;
        Ok(plan)
    }

    /// True if the parent must do something to the child before it may begin.
    pub fn holds_child(&self) -> bool {
        let by_systemd = self.cgroup.as_ref().is_some_and(|cgroup| cgroup.unit().is_some());
        by_systemd || self.namespaces.maps.is_some() || !self.raise.is_empty() || self.oom_score_adj.is_some()
    }

    /// Opens what the child inherits, in the order of the slots.
    pub fn open(&self) -> Result<Vec<Option<OwnedFd>>> {
        self.wanted.iter().map(Wanted::open).collect()
    }

    fn want(&mut self, wanted: Wanted) -> Slot {
        self.wanted.push(wanted);
        Slot(self.wanted.len() - 1)
    }

    /// The v1 hierarchies come first of all; into the cgroup2 tree the child is cloned.
    fn enter_cgroup(&mut self, record: &cgroup::Record) {
        let tasks: Vec<Slot> = record.entrances().map(|path| self.want(Wanted::Tasks(path))).collect();
        if !tasks.is_empty() {
            self.setup.push(EnterV1 { tasks });
        }
    }

    fn join_namespaces(&mut self) {
        let wanted = &mut self.wanted;
        let slot = |joined: &Joined| {
            wanted.push(Wanted::Namespace(joined.clone()));
            Slot(wanted.len() - 1)
        };
        self.namespaces.plan(slot, &mut self.setup);
    }

    /// The root and everything in it. Returns what becomes read-only once everything is made.
    fn root(&mut self, bundle: &Bundle, ask: &Request) -> Result<Vec<ReadonlyLater>> {
        let spec = &bundle.spec;
        let Some(root) = spec.root() else {
            return Err(Error::new("root is missing")
                .hint("a Linux container needs /root/path")
                .from_config("/root"));
        };
        let path = bundle.host_path(root.path());
        self.rootfs = path.canonicalize().unwrap_or_else(|_| path.clone());
        let own_mounts = self.namespaces.has_new(libc::CLONE_NEWNS);
        self.chroot = ask.no_pivot || !own_mounts;
        let linux = spec.linux().as_ref();
        let propagation = Propagation::new(linux.and_then(|linux| linux.rootfs_propagation().as_deref()))?;
        if own_mounts {
            self.setup.push(Isolate(propagation));
            let source =
                self.source(self.rootfs.clone(), true, propagation, self.labels.relabel_root(), None);
            self.setup.push(Attach { source });
        } else {
            self.setup.push(Use { path: self.rootfs.clone() });
            if self.labels.relabel_root().is_some() {
                return Err(Error::new("--selinux-root needs a mount namespace of the container's own"));
            }
        }
        let readonly_later = match self.namespaces.has(libc::CLONE_NEWNS) {
            true => self.mounts(bundle, ask, propagation)?,
            false => refuse_without_mounts(spec).map(|()| Vec::new())?,
        };
        // A /dev that is bound from elsewhere brings its own devices.
        let dev_is_bound = spec.mounts().iter().flatten().any(|mount| {
            mount.destination() == Path::new("/dev")
                && (mount.typ().as_deref() == Some("bind")
                    || mount.options().iter().flatten().any(|word| word == "bind" || word == "rbind"))
        });
        if own_mounts && !dev_is_bound {
            let devices = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
            let bind = self.namespaces.has(libc::CLONE_NEWUSER);
            devices::plan(devices, bind, &mut self.setup)?;
        }
        if let Some(linux) = linux {
            let masked = linux.masked_paths().as_deref().unwrap_or_default();
            let readonly = linux.readonly_paths().as_deref().unwrap_or_default();
            hide::plan(masked, readonly, self.labels.mount.as_ref(), &mut self.setup)?;
        }
        if let Some(process) = spec.process() {
            self.setup.push(MakeCwd(ContainerPath::new(process.cwd()).from_config("/process/cwd")?));
        }
        Ok(readonly_later)
    }

    fn mounts(
        &mut self,
        bundle: &Bundle,
        ask: &Request,
        propagation: Propagation,
    ) -> Result<Vec<ReadonlyLater>> {
        let label = self.labels.mount.clone();
        let hierarchies =
            self.cgroup.as_ref().map(|cgroup| cgroup.record().mount_points()).unwrap_or_default();
        let writable_first = mounts::writable_first(bundle.spec.mounts().as_deref().unwrap_or_default());
        for (index, mount) in bundle.spec.mounts().iter().flatten().enumerate() {
            let at = format!("/mounts/{index}");
            let words = mount.options().as_deref().unwrap_or_default();
            if matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
                let options = Options::new(words).from_config(&at)?;
                mounts::refuse_mappings(mount, &options).from_config(&at)?;
                if let Some((key, _)) = options.data.first() {
                    let e = Error::new(format!(
                        "option {key} is no flag of a mount, and a cgroup mount takes no other"
                    ));
                    return Err(e.hint("leave it out").from_config(&at));
                }
                self.setup.push(MountCgroups {
                    hierarchies: hierarchies.clone(),
                    own_namespace: self.namespaces.has(libc::CLONE_NEWCGROUP),
                    target: ContainerPath::new(mount.destination()).from_config(&at)?,
                    options,
                    words: words.join(","),
                    label: label.clone(),
                    index,
                });
                continue;
            }
            let bind = |path: &Path, options: &Options| {
                let relabel = self.labels.relabel(options.relabel);
                if options.relabel.is_some() && relabel.is_none() {
                    log::warn(format!(
                        "{}: nothing is relabelled, the container has no mount label",
                        mount.destination().display()
                    ));
                }
                let idmap = IdMap::new(mount, &at, options.idmap, &self.namespaces)?;
                if idmap.is_some() && !self.namespaces.has_new(libc::CLONE_NEWNS) {
                    return Err(Error::new("an id-mapped mount needs a new mount namespace"));
                }
                if idmap.is_some() && !nix::unistd::geteuid().is_root() && !ask.only_look {
                    return Err(Error::new("id-mapped mounts need root on the host"));
                }
                let (path, recursive) = (bundle.host_path(path), options.bind == Some(true));
                Ok(self.source(path, recursive, propagation, relabel, idmap))
            };
            let mut step = MountStep::new(mount, index, bind).from_config(&at)?;
            step.label = label.clone();
            step.writable_first = writable_first.iter().any(|later| later.index == index);
            self.setup.push(step);
        }
        Ok(writable_first)
    }

    /// A place of the host: in a user namespace a privileged parent opens it, because the child may not reach it, and
    /// what is id-mapped it opens always.
    fn source(
        &mut self,
        path: PathBuf,
        recursive: bool,
        propagation: Propagation,
        relabel: Option<Relabel>,
        idmap: Option<IdMap>,
    ) -> Source {
        let user = self.namespaces.has(libc::CLONE_NEWUSER);
        let opened = user && nix::unistd::geteuid().is_root();
        let slot = (opened || idmap.is_some())
            .then(|| self.want(Wanted::Tree(path.clone(), recursive, relabel.clone(), idmap.clone())));
        // What a less privileged mount namespace gets of the host is a slave at most: mount_namespaces(7).
        let propagation = propagation.of_host().or(user.then_some(libc::MS_SLAVE));
        Source { path, slot, propagation, relabel, idmap }
    }

    fn terminal(&mut self, process: &Process, console_socket: Option<&Path>, console: bool) -> Result<()> {
        match (process.terminal().unwrap_or(false), console_socket) {
            (true, socket) => {
                let size = OpenTerminal::size(process.console_size())?;
                let console_socket = socket.map(|path| self.want(Wanted::Console(path.to_path_buf())));
                self.setup.push(OpenTerminal { size, console_socket, console });
                Ok(())
            }
            (false, Some(_)) => Err(Error::new("a console socket without a terminal")
                .hint("set /process/terminal to true, or leave --console-socket out")),
            (false, None) => Ok(()),
        }
    }

    fn hooks_before_pivot(&mut self, spec: &Spec, bundle: &Bundle, ask: &Request) -> Result<()> {
        let on_host = [Kind::Prestart, Kind::CreateRuntime].map(|kind| hooks::of(spec.hooks(), kind).len());
        if on_host != [0, 0] {
            self.setup.push(TellHooks { count: on_host.iter().sum() });
        }
        if let Some(step) = RunHooks::new(spec, Kind::CreateContainer, &bundle.path, &ask.id) {
            self.setup.push(step);
        }
        Ok(())
    }

    fn change_root(&mut self, spec: &Spec, readonly_later: Vec<ReadonlyLater>) -> Result<()> {
        readonly_later.into_iter().for_each(|mount| self.setup.push(mount));
        let readonly = spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false));
        if readonly {
            self.setup.push(ReadonlyRoot);
        }
        if self.chroot {
            self.setup.push(Chroot);
        } else {
            let word = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
            self.setup.push(Pivot(Propagation::new(word)?));
        }
        Ok(())
    }

    /// Who the program is and what it may do; the same for `create` and `exec`.
    fn process(
        &mut self,
        process: &Process,
        capabilities: Capabilities,
        start_hooks: Option<RunHooks>,
        exec: bool,
    ) -> Result<()> {
        let command = Command::new(process)?;
        let cwd = EnterCwd::new(process)?;
        let ids = Ids::new(process.user())?;
        let limits = Limit::all(process.rlimits())?;
        let no_new_privs = process.no_new_privileges().unwrap_or(false);
        let filter = self.filter.clone();
        let keep_admin = filter.is_some() && !no_new_privs;
        self.oom_score_adj = process.oom_score_adj();
        if let Some(value) = self.oom_score_adj.filter(|value| !(-1000..=1000).contains(value)) {
            let e = Error::new(format!("oomScoreAdj {value} is not between -1000 and 1000"));
            return Err(e.from_config("/process/oomScoreAdj"));
        }

        let steps = &mut self.setup;
        let as_user = cwd.as_user();
        steps.push(cwd);
        capabilities.plan_before_user(steps);
        if self.namespaces.has(libc::CLONE_NEWUSER) {
            self.raise = limits.clone();
        }
        self.initial_cpus = schedule::plan(process, exec, steps)?;
        limits.into_iter().for_each(|limit| steps.push(limit));
        ids.plan(steps);
        capabilities.plan_after_user(keep_admin, steps);
        if no_new_privs {
            steps.push(NoNewPrivs);
        }
        steps.push(as_user);
        steps.push(FindProgram(command.clone()));
        if let Some(label) = &self.labels.process {
            let wanted = &mut self.wanted;
            let place = || {
                wanted.push(Wanted::Policy);
                Slot(wanted.len() - 1)
            };
            if let Some(check) = CheckProgram::new(label, place) {
                steps.push(check);
            }
        }

        let steps = &mut self.program;
        if let Some(hooks) = start_hooks {
            steps.push(hooks);
        }
        steps.push(Prepare(Execute(command.clone())));
        if let Some(filter) = filter {
            steps.push(InstallFilter(filter));
        }
        if keep_admin {
            capabilities.plan_last(steps);
        }
        steps.push(Execute(command));
        Ok(())
    }

    /// The lines of `myrt plan`: where it happens, what, and which part of `config.json` asked for it.
    pub fn lines(&self) -> Vec<Line> {
        let line = |place, text: String, asked_by: String| Line { place, text, asked_by };
        let mut lines = vec![line("host", format!("claim {}", self.id), String::new())];
        lines.extend(self.labels.lines().into_iter().map(|(text, asked_by)| line("host", text, asked_by)));
        for (text, asked_by) in self.cgroup.iter().flat_map(CgroupPlan::lines) {
            lines.push(line("host", text, asked_by));
        }
        for joined in &self.namespaces.before {
            lines.push(line("clone", joined.to_string(), format!("/linux/namespaces/{}", joined.index)));
        }
        if let Some(offsets) = &self.namespaces.offsets {
            let text = format!("set time offsets {}", offsets.trim_end().replace('\n', ", "));
            lines.push(line("clone", text, "/linux/timeOffsets".to_string()));
        }
        let new = match namespaces::names(self.namespaces.cloned()) {
            names if names.is_empty() => "child".to_string(),
            names => format!("child with new {names}"),
        };
        lines.push(line("clone", new, "/linux/namespaces".to_string()));
        if let Some(maps) = &self.namespaces.maps {
            lines.push(line("host", format!("map {maps}"), "/linux/uidMappings".to_string()));
        }
        if let Some(value) = self.oom_score_adj {
            lines.push(line(
                "host",
                format!("set oom_score_adj {value}"),
                "/process/oomScoreAdj".to_string(),
            ));
        }
        let steps = |steps: &Steps, place| {
            steps
                .iter()
                .map(|s: &dyn Step| line(place, s.to_string(), s.asked_by().to_string()))
                .collect::<Vec<_>>()
        };
        lines.extend(steps(&self.setup, "child"));
        lines.extend(steps(&self.program, "start"));
        lines
    }
}

/// The compiled `/linux/seccomp`, if it forbids anything.
pub fn filter(spec: &Spec) -> Result<Option<Filter>> {
    match spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        Some(profile) => seccomp::compile(profile).from_config("/linux/seccomp"),
        None => Ok(None),
    }
}

/// The namespaces that `exec` enters before it clones: the pid namespace, which only takes effect for
/// children, and without privileges the user namespace, which gives the right to the others.
pub fn entered_by_parent(namespaces: i32) -> i32 {
    let user = if nix::unistd::geteuid().is_root() { 0 } else { libc::CLONE_NEWUSER };
    namespaces & (libc::CLONE_NEWPID | user)
}

/// A line of the plan.
#[derive(Debug, serde::Serialize)]
pub struct Line {
    /// `host`: the parent. `clone`: the creation of the child. `child`: the child. `start`: the child, once started.
    pub place: &'static str,
    /// An imperative sentence.
    pub text: String,
    /// The JSON pointer in `config.json` that asked for it; empty if myrt itself did.
    pub asked_by: String,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { place, text, asked_by } in self.lines() {
            if asked_by.is_empty() {
                writeln!(f, "{place:<6} {text}")?;
            } else {
                writeln!(f, "{place:<6} {text:<64} {asked_by}")?;
            }
        }
        Ok(())
    }
}

/// What the spec has and this version has not: refused, never ignored.
fn refuse_what_is_missing(spec: &Spec) -> Result<()> {
    let refuse = |present: bool, at: &str| match present {
        true => Err(Error::new(format!("{} is not supported by this version", &at[1..])).from_config(at)),
        false => Ok(()),
    };
    if let Some(linux) = spec.linux() {
        refuse(linux.intel_rdt().is_some(), "/linux/intelRdt")?;
        refuse(linux.memory_policy().is_some(), "/linux/memoryPolicy")?;
        refuse(linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()), "/linux/netDevices")?;
    }
    Ok(())
}

/// Without a mount namespace a container would change the mounts of the host. What confines is refused;
/// the mounts themselves are left out, as other runtimes do.
fn refuse_without_mounts(spec: &Spec) -> Result<()> {
    let linux = spec.linux().as_ref();
    let asked = [
        (
            linux.is_some_and(|l| l.masked_paths().as_ref().is_some_and(|p| !p.is_empty())),
            "/linux/maskedPaths",
        ),
        (
            linux.is_some_and(|l| l.readonly_paths().as_ref().is_some_and(|p| !p.is_empty())),
            "/linux/readonlyPaths",
        ),
        (spec.root().as_ref().is_some_and(|root| root.readonly().unwrap_or(false)), "/root/readonly"),
    ];
    if let Some((_, at)) = asked.iter().find(|(present, _)| *present) {
        return Err(Error::new(format!("{} needs a mount namespace", &at[1..]))
            .hint("add {\"type\": \"mount\"} to /linux/namespaces")
            .from_config(at));
    }
    if spec.mounts().as_ref().is_some_and(|mounts| !mounts.is_empty()) {
        log::warn("/mounts are left out: without a mount namespace they would change the host's");
    }
    Ok(())
}
