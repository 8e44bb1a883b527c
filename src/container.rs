//! A container on disk: its directory, its lock, its journal, its state.
//!
//! ```text
//! /run/myrt/<id>/        0700, held by flock(2) while a command changes the container
//!     made-00 ...        a symlink for each thing before or as it is made; what it says is how to clean up
//!     state.json         what the container is; written to a new file, synced, renamed
//!     config.json        as it was at creation, for exec and the poststop hooks
//!     seccomp            the compiled filter, for exec
//!     level              a symlink that says which SELinux level is the container's
//!     start              the socket on which a created container waits; it lives as long as it waits
//! ```
//!
//! The journal is made of symlinks because symlink(2) is all or nothing: there is no half-written entry after a
//! crash or on a full disk, and `delete --force` needs the id and nothing else. It is not synced: the processes and
//! cgroups that it names do not outlive a crash of the machine either.
//!
//! The status is never stored alone: it follows from what lives. A process is known by its pid *and* start
//! time *and* boot, so a reused pid is never taken for the container.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
use nix::sys::stat::fstat;
use nix::unistd::{Pid, UnlinkatFlags, symlinkat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::bundle::check_id;
use crate::cgroup::{self, Cgroup};
use crate::error::{Call, Context, Error, Result};
use crate::sys::process::{before_exec, pidfd_open, pidfd_signal, pidfd_signal_group};
use crate::sys::procfs::Procfs;
use crate::sys::{read_until, socket};

/// The name of the socket of a waiting container.
pub const START: &str = "start";

/// A process that cannot be taken for another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// When it started, in clock ticks after the boot (proc_pid_stat(5), field 22).
    pub start: u64,
    /// The boot it belongs to.
    pub boot: String,
}

impl Process {
    /// Describes a process that cannot end meanwhile: a child of ours.
    pub fn describe(proc: &Procfs, pid: Pid) -> Result<Process> {
        let (_, start) =
            stat(proc, pid.as_raw()).call("proc_pid_stat(5)").at(format!("look at process {pid}"))?;
        Ok(Process { pid: pid.as_raw(), start, boot: proc.boot_id()?.to_string() })
    }

    /// A descriptor of the process if it still is the one that was recorded and has not exited.
    pub fn open(&self, proc: &Procfs) -> Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(Pid::from_raw(self.pid)) {
            Err(Errno::ESRCH | Errno::EINVAL) => return Ok(None),
            other => other.call("pidfd_open(2)")?,
        };
        // The descriptor first: what is read now belongs to it, or the process is gone.
        Ok(self.lives(proc)?.then_some(pidfd))
    }

    /// True if the process still is the one that was recorded and has not exited: for who only tells.
    fn lives(&self, proc: &Procfs) -> Result<bool> {
        match stat(proc, self.pid) {
            Ok((state, start)) => {
                Ok(start == self.start && !matches!(state, 'Z' | 'X') && proc.boot_id()? == self.boot)
            }
            Err(Errno::ENOENT | Errno::ESRCH) => Ok(false),
            // Who cannot look does not take it for dead.
            Err(errno) => {
                Err(Error::call("proc_pid_stat(5)", errno).at(format!("look at process {}", self.pid)))
            }
        }
    }
}

/// State and start time of a process: proc_pid_stat(5), fields 3 and 22.
fn stat(proc: &Procfs, pid: i32) -> nix::Result<(char, u64)> {
    let path = crate::sys::cstring(format!("{pid}/stat")).map_err(|_| Errno::EINVAL)?;
    parse_stat(&proc.read(&path)?).ok_or(Errno::EINVAL)
}

/// The name in the second field may hold anything, `)` and spaces too: count from its last `)`.
fn parse_stat(text: &str) -> Option<(char, u64)> {
    let mut fields = text[text.rfind(')')? + 1..].split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.nth(18)?.parse().ok()?))
}

/// What `myrt state` reports as status (runtime.md, "State").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Everything but the program is there.
    Created,
    /// The program runs.
    Running,
    /// The program is frozen.
    Paused,
    /// The program has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The version of this file's shape.
    pub version: u32,
    /// The version of the spec that the bundle names.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// True until the container was created.
    pub creating: bool,
    /// The container's first process.
    pub process: Option<Process>,
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// The root filesystem on the host.
    pub rootfs: PathBuf,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Who created it, as a user name or number.
    pub owner: String,
    /// `/annotations`.
    pub annotations: HashMap<String, String>,
    /// The cgroup and the driver that made it.
    pub cgroup: cgroup::Record,
    /// The namespaces (`CLONE_NEW*`) that the container does not share with the host.
    pub namespaces: i32,
    /// True if the container has a pid namespace of its own: its first process takes the others along.
    pub own_pid_namespace: bool,
    /// True if the root was changed by chroot(2): `exec` must do so too.
    pub chroot: bool,
    /// True if the caller's session keyring was to be kept.
    pub keep_keyring: bool,
    /// The SELinux label of the program, whoever chose it: `exec` gives the same.
    #[serde(default)]
    pub selinux_label: Option<String>,
}

/// An entry of the journal.
#[derive(Debug, Serialize, Deserialize)]
enum Made {
    Cgroup(cgroup::Place),
    Process(Process),
    /// A hook of the host that runs: the first of its process group.
    Hook(Process),
    /// A unit that systemd is asked for, and its directory.
    Unit(cgroup::Unit, cgroup::Place),
    /// systemd has started it: from here on the name is nobody else's.
    Started,
}

/// What the journal's names begin with.
const MADE: &str = "made-";

/// The entry of a hook, which is there as long as it runs.
const HOOK: &str = "made-97";

/// A container's directory, held by this command alone.
#[derive(Debug)]
pub struct Container {
    path: PathBuf,
    lock: Flock<File>,
    lasting: Lasting,
    /// What the container is.
    pub state: State,
}

/// What a crash of the machine may do to a container's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// They are synced: until it is deleted the container is known, and its poststop hooks can run.
    UntilDeleted,
    /// They are not: the container ends with this command, which a crash ends too.
    WithThisCommand,
}

/// A container that its creator has let go of while the program runs; other commands may have deleted it.
#[derive(Debug)]
pub struct Released {
    path: PathBuf,
    dir: File,
    lasting: Lasting,
    /// What was known of it.
    pub state: State,
}

/// The name of the reservation of a level.
const LEVEL: &str = "level";

/// How long a command waits for another one on the same container.
const PATIENCE: Duration = Duration::from_secs(60);

impl Container {
    /// Makes the directory of a new container, and with it the claim to the id.
    ///
    /// Of many that claim one id exactly one succeeds: mkdir(2) decides.
    pub fn claim(root: &Path, state: State, lasting: Lasting) -> Result<Container> {
        check_id(&state.id)?;
        let path = root.join(&state.id);
        let make = |path: &Path, parents| DirBuilder::new().mode(0o700).recursive(parents).create(path);
        let made = make(&path, false).or_else(|e| match e.kind() {
            std::io::ErrorKind::NotFound => make(root, true).and_then(|()| make(&path, false)),
            _ => Err(e),
        });
        if let Err(e) = made {
            if e.kind() == std::io::ErrorKind::AlreadyExists {
                let hint = "`myrt delete` removes a stopped container, `myrt delete --force` any";
                return Err(Error::new("container with given ID already exists").hint(hint));
            }
            return Err(e).call("mkdir(2)").at(format!("claim {}", path.display()));
        }
        let lock = lock(&path, Instant::now())?
            .ok_or_else(|| Error::new("another command deleted the new container"))?;
        // Not synced yet, nor is the journal: a container that is half made does not outlive a crash.
        let container = Container { path, lock, lasting: Lasting::WithThisCommand, state };
        if let Err(e) = container.write_state() {
            // Nothing else was made yet: the id is free again. What cannot be removed either waits for a delete by force.
            drop(fs::remove_dir_all(&container.path));
            return Err(e);
        }
        Ok(Container { lasting, ..container })
    }

    /// Opens a container and keeps other commands away from it.
    pub fn open(root: &Path, id: &str) -> Result<Container> {
        check_id(id)?;
        let path = root.join(id);
        let Some(lock) = lock(&path, Instant::now() + PATIENCE)? else {
            return Err(if path.exists() { held() } else { does_not_exist() });
        };
        Container::read(path, lock)
    }

    /// Opens a container to delete it, whatever it is doing: a command that holds it is made to fail first.
    pub fn seize(root: &Path, id: &str, proc: &Procfs) -> Result<Container> {
        check_id(id)?;
        let path = root.join(id);
        let lock = lock_by_force(&path, proc)?.ok_or_else(does_not_exist)?;
        Container::read(path, lock)
    }

    fn read(path: PathBuf, lock: Flock<File>) -> Result<Container> {
        let state = read_state(&path)?;
        Ok(Container { path, lock, lasting: Lasting::UntilDeleted, state })
    }

    /// Lets other commands have it; what is known of it stays.
    pub fn release(self) -> Result<Released> {
        let Container { path, lock, lasting, state } = self;
        let dir = lock.unlock().map_err(|(_, errno)| Error::call("flock(2)", errno))?;
        Ok(Released { path, dir, lasting, state })
    }

    /// A name in the container's directory.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    pub fn dir(&self) -> &File {
        &self.lock
    }

    /// The container is created: writes it down.
    pub fn created(&mut self) -> Result<()> {
        self.state.creating = false;
        self.write_state()
    }

    /// Writes `state.json` so that it is either the old or the new one, whatever happens.
    pub fn write_state(&self) -> Result<()> {
        let text = serde_json::to_vec(&self.state).map_err(|e| Error::new(format!("write state: {e}")))?;
        self.write("state.json", &text)
    }

    /// Writes a file of the container: a new file, synced, renamed; then the directory is synced.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        let sync = self.lasting == Lasting::UntilDeleted;
        write_atomically(&self.path, name, content, 0o600, sync)
            .at(format!("write {}", self.file(name).display()))?;
        match sync {
            true => self.lock.sync_all().call("fsync(2)").at(format!("sync {}", self.path.display())),
            false => Ok(()),
        }
    }

    /// Records the cgroup before it is made: each of its directories, or systemd's unit.
    pub fn note_cgroup(&self, record: &cgroup::Record) -> Result<()> {
        if let (Some(unit), Some(place)) = (&record.unit, &record.v2) {
            return self.note(0, &Made::Unit(unit.clone(), place.clone()));
        }
        let places = record.v2.iter().chain(&record.v1);
        places.enumerate().try_for_each(|(number, place)| self.note(number, &Made::Cgroup(place.clone())))
    }

    /// Records the process as soon as it is there. Should we be killed before, the child ends when it finds us gone.
    pub fn note_process(&self, process: &Process) -> Result<()> {
        self.note(99, &Made::Process(process.clone()))
    }

    /// Lets a hook record itself before it executes: whoever reads the journal then knows every hook that runs,
    /// whenever we are killed. Until it executes it holds the container as we do.
    pub fn note_hook(&self, hook: &mut Command) -> Result<()> {
        let dir = self.lock.try_clone().call("fcntl(2)")?;
        before_exec(hook, move || {
            let noted = Procfs::open()
                .and_then(|proc| Process::describe(&proc, Pid::this()))
                .and_then(|process| note(&dir, HOOK, &Made::Hook(process)));
            noted.map_err(|e| e.errno().unwrap_or(Errno::EIO))
        });
        Ok(())
    }

    /// The hook has ended.
    pub fn forget_hook(&self) -> Result<()> {
        self.forget(HOOK)
    }

    /// Records that systemd has started the unit.
    pub fn note_started(&self) -> Result<()> {
        self.note(98, &Made::Started)
    }

    /// Takes back the record of a cgroup or unit that was not made: the name may be somebody else's.
    pub fn forget_cgroup(&self) -> Result<()> {
        let record = &self.state.cgroup;
        let entries = record.v1.len() + usize::from(record.v2.is_some());
        // A unit has one entry, whatever its places.
        (0..entries).try_for_each(|number| self.forget(&entry(number)))
    }

    fn note(&self, number: usize, made: &Made) -> Result<()> {
        note(&self.lock, &entry(number), made)
    }

    fn forget(&self, entry: &str) -> Result<()> {
        match unlinkat(&*self.lock, entry, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(Error::call("unlinkat(2)", errno).at("write the journal")),
        }
    }

    /// Reserves an SELinux level: the one that `choose` picks when it sees all that are reserved.
    ///
    /// Reserved is what the directories of the containers say, under a lock on the directory above them. So a level
    /// is found again after a crash, and free again once its container's directory is gone.
    pub fn reserve_level(&self, choose: impl FnOnce(&[String]) -> Result<String>) -> Result<()> {
        let root = self.path.parent().unwrap_or(Path::new("/"));
        let _held = lock(root, Instant::now() + PATIENCE)?
            .ok_or_else(|| Error::new("another command holds the levels").at("reserve a level"))?;
        let level = choose(&levels(root)?)?;
        symlinkat(level.as_str(), &*self.lock, LEVEL)
            .call("symlinkat(2)")
            .at(format!("reserve level {level}"))
    }

    /// What the container is doing. We hold it, so nobody is creating it: a `create` that did not end was killed.
    pub fn status(&self, proc: &Procfs) -> Result<Status> {
        match self.state.creating {
            true => Ok(Status::Stopped),
            false => status(&self.path, &self.state, proc),
        }
    }

    /// What the container is doing, and a descriptor of its first process if that lives.
    pub fn inspect(&self, proc: &Procfs) -> Result<(Status, Option<OwnedFd>)> {
        let process = match (&self.state.process, self.state.creating) {
            (Some(process), false) => process.open(proc)?,
            _ => None,
        };
        match process {
            Some(process) => Ok((of_living(&self.path, &self.state)?, Some(process))),
            None => Ok((Status::Stopped, None)),
        }
    }

    /// Takes back everything that the journal names, newest first, then the directory.
    ///
    /// Works without a readable state. Nothing is forgotten before it is gone: if a step fails the
    /// directory stays, so that the next `delete --force` finds it.
    pub fn destroy(self, proc: &Procfs) -> Result<()> {
        destroy(&self.path, proc)
    }
}

impl Released {
    /// Takes it back, to delete it; `None` if another command has deleted it meanwhile.
    pub fn take_back(self) -> Result<Option<Container>> {
        let Released { path, dir, lasting, state } = self;
        let deadline = Instant::now() + PATIENCE;
        match lock_dir(&path, dir, deadline)? {
            Some(lock) => Ok(Some(Container { path, lock, lasting, state })),
            None if Instant::now() >= deadline => Err(held()),
            None => Ok(None),
        }
    }
}

/// The name of an entry of the journal.
fn entry(number: usize) -> String {
    format!("{MADE}{number:02}")
}

fn note(dir: &File, entry: &str, made: &Made) -> Result<()> {
    let text = serde_json::to_string(made).map_err(|e| Error::new(format!("write the journal: {e}")))?;
    symlinkat(text.as_str(), dir, entry).call("symlinkat(2)").at("write the journal")
}

/// Removes a container whose state may be damaged or missing, whatever it is doing; it is no error if there is none.
pub fn destroy_by_id(root: &Path, id: &str, proc: &Procfs) -> Result<()> {
    check_id(id)?;
    let path = root.join(id);
    match lock_by_force(&path, proc)? {
        Some(_held) => destroy(&path, proc),
        None => Ok(()),
    }
}

/// Locks a container's directory; `None` if there is none any more.
///
/// While another command holds it, its processes and the hook that it runs are killed: a `create` then fails, which
/// takes everything back itself. Again and again, because the next hook may begin meanwhile.
fn lock_by_force(path: &Path, proc: &Procfs) -> Result<Option<Flock<File>>> {
    let Some(dir) = open_dir(path)? else { return Ok(None) };
    let (begin, mut deadline) = (Instant::now(), Instant::now());
    loop {
        let again = dir.try_clone().call("fcntl(2)")?;
        if let Some(lock) = lock_dir(path, again, deadline)? {
            return Ok(Some(lock));
        }
        if is_gone(&dir, path)? {
            return Ok(None);
        }
        if begin.elapsed() > PATIENCE {
            return Err(held());
        }
        Journal::read(path)?.kill(proc)?;
        deadline = Instant::now() + Duration::from_millis(50);
    }
}

fn held() -> Error {
    let hint = "a `create`, or a hook that it runs, may be stuck; `myrt delete --force` ends it";
    Error::new(format!("another command has held the container for {} seconds", PATIENCE.as_secs()))
        .hint(hint)
}

fn does_not_exist() -> Error {
    Error::new("container does not exist").hint("`myrt list` shows the containers; is --root the same?")
}

/// Locks a container's directory; `None` if there is none, or another command holds it until `deadline`.
fn lock(path: &Path, deadline: Instant) -> Result<Option<Flock<File>>> {
    open_dir(path)?.map_or(Ok(None), |dir| lock_dir(path, dir, deadline))
}

fn open_dir(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.call("open(2)").at(format!("open {}", path.display())).map(Some),
    }
}

/// Whoever held it before may have deleted it, and another container may have its name by now.
fn is_gone(dir: &File, path: &Path) -> Result<bool> {
    Ok(fstat(dir).call("fstat(2)").at(format!("lock {}", path.display()))?.st_nlink == 0)
}

fn lock_dir(path: &Path, mut dir: File, deadline: Instant) -> Result<Option<Flock<File>>> {
    loop {
        match Flock::lock(dir, FlockArg::LockExclusiveNonblock) {
            Ok(held) => return Ok((!is_gone(&held, path)?).then_some(held)),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                dir = back;
                std::thread::sleep(Duration::from_millis(2));
            }
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => {
                return Err(Error::call("flock(2)", errno).at(format!("lock {}", path.display())));
            }
        }
    }
}

fn read_state(path: &Path) -> Result<State> {
    let file = path.join("state.json");
    let hint = "`myrt delete --force` removes the container all the same";
    let step = || format!("read {}", file.display());
    let read = |file: File| Ok(read_until(file.as_fd(), 4096)?);
    let bytes = File::open(&file).and_then(read).call("open(2)").map_err(|e| e.at(step()).hint(hint))?;
    serde_json::from_slice(&bytes).map_err(|e| Error::new(e.to_string()).at(step()).hint(hint))
}

/// Reads a container without holding it, for `state` and `list`.
pub fn look(root: &Path, id: &str, proc: &Procfs) -> Result<(State, Status)> {
    check_id(id)?;
    let path = root.join(id);
    let state = read_state(&path).map_err(|e| if path.is_dir() { e } else { does_not_exist() })?;
    let status = status(&path, &state, proc)?;
    Ok((state, status))
}

/// The ids of all containers, sorted.
pub fn ids(root: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.call("open(2)").at(format!("list {}", root.display()))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.call("getdents(2)")?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            ids.extend(entry.file_name().into_string().ok().filter(|id| check_id(id).is_ok()));
        }
    }
    ids.sort();
    Ok(ids)
}

/// The levels that are reserved by the containers below `root`.
fn levels(root: &Path) -> Result<Vec<String>> {
    let mut levels = Vec::new();
    for entry in fs::read_dir(root).call("getdents(2)").at(format!("list {}", root.display()))? {
        let path = entry.call("getdents(2)")?.path().join(LEVEL);
        match fs::read_link(&path) {
            Ok(level) => levels.push(level.to_string_lossy().into_owned()),
            // No level, no directory, or a container that is being deleted.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(e) => return Err(e).call("readlink(2)").at(path.display()),
        }
    }
    Ok(levels)
}

fn status(path: &Path, state: &State, proc: &Procfs) -> Result<Status> {
    if state.creating {
        // Whoever creates holds the lock; if nobody does, `create` was killed.
        let dir = File::open(path).call("open(2)")?;
        return Ok(match Flock::lock(dir, FlockArg::LockSharedNonblock) {
            Ok(_) => Status::Stopped,
            Err(_) => Status::Creating,
        });
    }
    match &state.process {
        Some(process) if process.lives(proc)? => of_living(path, state),
        _ => Ok(Status::Stopped),
    }
}

/// What a container is doing whose process lives.
fn of_living(path: &Path, state: &State) -> Result<Status> {
    // It is gone once the container is started; that a file is there does not mean that somebody waits.
    let start = path.join(START);
    if start.exists() && socket::connect_datagram(&start)?.is_ok() {
        return Ok(Status::Created);
    }
    Ok(if cgroup::is_frozen(&state.cgroup)? { Status::Paused } else { Status::Running })
}

/// What the journal names, and the files of the container's directory.
#[derive(Debug, Default)]
struct Journal {
    cgroup: cgroup::Record,
    processes: Vec<Process>,
    hooks: Vec<Process>,
    /// systemd has started the unit.
    started: bool,
    files: Vec<PathBuf>,
}

impl Journal {
    fn read(path: &Path) -> Result<Journal> {
        let mut journal = Journal::default();
        let entries = match fs::read_dir(path) {
            // Deleted by a command that held it.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(journal),
            other => other.call("getdents(2)").at(format!("list {}", path.display()))?,
        };
        for entry in entries {
            let entry = entry.call("getdents(2)")?;
            let file = entry.path();
            if entry.file_name().as_bytes().starts_with(MADE.as_bytes()) {
                let text = match fs::read_link(&file) {
                    // Taken back by a command that holds it.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                    other => other.call("readlink(2)").at(file.display())?,
                };
                match serde_json::from_slice(text.as_os_str().as_bytes()) {
                    Ok(Made::Process(process)) => journal.processes.push(process),
                    Ok(Made::Hook(process)) => journal.hooks.push(process),
                    Ok(Made::Cgroup(place)) if place.controllers.is_empty() => {
                        journal.cgroup.v2 = Some(place)
                    }
                    Ok(Made::Cgroup(place)) => journal.cgroup.v1.push(place),
                    Ok(Made::Unit(unit, place)) => {
                        (journal.cgroup.unit, journal.cgroup.v2) = (Some(unit), Some(place));
                    }
                    Ok(Made::Started) => journal.started = true,
                    Err(e) => return Err(Error::new(e.to_string()).at(file.display())),
                }
            }
            journal.files.push(file);
        }
        Ok(journal)
    }

    /// Kills the processes that are still there, hooks with all of their groups; returns their descriptors.
    fn kill(&self, proc: &Procfs) -> Result<Vec<OwnedFd>> {
        let mut pidfds = Vec::new();
        for process in &self.processes {
            pidfds.extend(process.open(proc)?);
        }
        for pidfd in &pidfds {
            killed(pidfd_signal(pidfd.as_fd(), libc::SIGKILL))?;
        }
        for hook in &self.hooks {
            let Some(pidfd) = hook.open(proc)? else { continue };
            killed(match pidfd_signal_group(pidfd.as_fd(), libc::SIGKILL) {
                // It lived a moment ago, and as long as it lives its number is its group's.
                Err(Errno::EINVAL) => killpg(Pid::from_raw(hook.pid), Signal::SIGKILL),
                other => other,
            })?;
            pidfds.push(pidfd);
        }
        Ok(pidfds)
    }
}

fn killed(sent: nix::Result<()>) -> Result<()> {
    match sent {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(Error::call("pidfd_send_signal(2)", errno)),
    }
}

fn destroy(path: &Path, proc: &Procfs) -> Result<()> {
    let journal = Journal::read(path)?;
    let pidfds = journal.kill(proc)?;
    match &journal.cgroup.unit {
        None => destroy_cgroup(&journal.cgroup, &pidfds)?,
        Some(unit) => destroy_unit(unit, &journal, path, &pidfds)?,
    }
    let removed = journal.files.iter().try_for_each(fs::remove_file).and_then(|()| fs::remove_dir(path));
    // Something else than files, or one that has come since: it goes too.
    let removed = removed.or_else(|_| fs::remove_dir_all(path));
    removed.call("unlink(2)").at(format!("remove {}", path.display()))
}

fn destroy_cgroup(record: &cgroup::Record, pidfds: &[OwnedFd]) -> Result<()> {
    match Cgroup::open(record)? {
        // The usual end: the program has exited, and took everybody along.
        Some(cgroup) if pidfds.is_empty() && cgroup.remove_if_empty()? => Ok(()),
        Some(cgroup) => {
            cgroup.kill()?;
            wait_ended(pidfds)?;
            cgroup.remove()
        }
        None => wait_ended(pidfds),
    }
}

/// systemd may have noticed the end by itself and forgotten the unit already, or at any moment now.
fn destroy_unit(unit: &cgroup::Unit, journal: &Journal, path: &Path, pidfds: &[OwnedFd]) -> Result<()> {
    if !journal.started {
        // Whether systemd has heard of it before `create` was killed, only systemd knows.
        wait_ended(pidfds)?;
        return unit.stop(Some(&path.file_name().unwrap_or_default().to_string_lossy()));
    }
    let cgroup = Cgroup::open(&journal.cgroup)?;
    if let Some(cgroup) = &cgroup {
        cgroup.kill()?;
    }
    wait_ended(pidfds)?;
    let stopped = unit.stop(None);
    match cgroup {
        Some(cgroup) if unit.own => stopped.and_then(|()| cgroup.remove()),
        // The processes are gone and so is the cgroup: a systemd that is gone too has nothing left of it.
        None => Ok(()),
        Some(_) => stopped,
    }
}

/// Waits until killed processes have exited.
fn wait_ended(pidfds: &[OwnedFd]) -> Result<()> {
    for pidfd in pidfds {
        if !exited(pidfd, Duration::from_secs(10))? {
            return Err(Error::new("the container's process does not end after SIGKILL"));
        }
    }
    Ok(())
}

/// Waits until the process behind a pidfd has exited; false if it has not within the time.
pub fn exited(pidfd: &OwnedFd, within: Duration) -> Result<bool> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut fds, timeout) {
            Err(Errno::EINTR) => continue,
            other => return Ok(other.call("poll(2)")? > 0),
        }
    }
}

/// Writes a file so that it has either its old or its new content; with `sync` even if the machine crashes.
pub fn write_atomically(dir: &Path, name: &str, content: &[u8], mode: u32, sync: bool) -> Result<()> {
    let new = dir.join(format!(".{name}.new"));
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new);
    let mut file = options.call("open(2)")?;
    file.write_all(content).call("write(2)")?;
    if sync {
        file.sync_all().call("fsync(2)")?;
    }
    fs::rename(&new, dir.join(name)).call("rename(2)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_its_state() {
        let text = "42 (a) Z 1 (b)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_stat(text), Some(('S', 777)));
        assert_eq!(parse_stat(""), None);
        assert_eq!(parse_stat("1 (x"), None);
    }

    #[test]
    fn this_process_is_recognised_and_another_start_time_is_not() {
        let proc = Procfs::open().unwrap();
        let mut me = Process::describe(&proc, Pid::this()).unwrap();
        assert!(me.open(&proc).unwrap().is_some());
        me.start += 1;
        assert!(me.open(&proc).unwrap().is_none());
    }
}
