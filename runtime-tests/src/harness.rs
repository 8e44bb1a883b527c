//! Keeps tests apart: each runs in a process, a mount namespace and a tmpfs of its own, under a keeper.
//!
//! `start` (in the harness) executes the keeper. The keeper is the subreaper of all that the test starts: it forks
//! the test, waits for its verdict or its deadline, and then deletes its containers, kills what is left among its
//! own descendants and removes the test's cgroups. Mounts go with the namespace, so the machine's table is
//! never touched.

use crate::host::{self, Need};
use crate::{bundle::Output, work_dir};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use std::{env, panic, process, thread};

/// The hidden first argument that makes this binary the keeper of one test.
pub const KEEP: &str = "--keep";

const TIMEOUT: Duration = Duration::from_secs(20);

pub struct Test {
    pub subject: &'static str,
    pub name: &'static str,
    pub run: fn(&T),
}

impl Test {
    pub fn title(&self) -> String {
        format!("{}::{}", self.subject, self.name)
    }
}

pub enum Verdict {
    Ok,
    Skip(String),
    Fail(String),
}

pub struct Options {
    pub runtime: Option<PathBuf>,
    pub view: Option<String>,
}

impl Options {
    /// The complaint, if the tests cannot run at all.
    pub fn check(&self) -> Result<(), String> {
        let runtime = self.runtime.as_ref().ok_or("set RUNTIME to the path of a container runtime")?;
        if !runtime.is_file() {
            return Err(format!("RUNTIME={}: no such file", runtime.display()));
        }
        if !nix::unistd::geteuid().is_root() {
            return Err("needs root".into());
        }
        let inside = inside();
        let image = fs::read(&inside).map_err(|e| format!("{}: {e}", inside.display()))?;
        if image.windows(26).any(|w| w == b"/lib64/ld-linux-x86-64.so.") {
            return Err(format!(
                "{} is not static: build with RUSTFLAGS=-Ctarget-feature=+crt-static",
                inside.display()
            ));
        }
        match self.view.as_deref() {
            None | Some("host" | "v1" | "v2") => Ok(()),
            Some(other) => Err(format!("--view {other}: not host, v1 or v2")),
        }
    }

    /// The first word of `RUNTIME --version`: "runc", "crun", "myrt".
    pub fn kind(&self) -> String {
        let runtime = self.runtime.clone().unwrap_or_default();
        let version = Command::new(runtime).arg("--version").output().map(|o| o.stdout).unwrap_or_default();
        String::from_utf8_lossy(&version).split_whitespace().next().unwrap_or("unknown").to_string()
    }
}

/// The static payload lies beside this binary.
pub fn inside() -> PathBuf {
    env::current_exe().unwrap().with_file_name("inside")
}

pub fn timeout_factor() -> u32 {
    env::var("TIMEOUT_FACTOR").ok().and_then(|f| f.parse().ok()).unwrap_or(1)
}

/// How long a test polls for something that must come: well below the test's own deadline.
pub fn patience() -> Duration {
    Duration::from_secs(10) * timeout_factor()
}

/// Polls until `check` gives a value; fails with `what` when patience ends.
pub fn wait_for<V>(what: &str, mut check: impl FnMut() -> Option<V>) -> V {
    let end = Instant::now() + patience();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until what a program writes is a whole JSON value: a report comes in pieces.
pub fn wait_for_json(output: impl Fn() -> String) -> serde_json::Value {
    wait_for("a whole report", || serde_json::from_str(output().trim()).ok())
}

// ---- in the harness ----------------------------------------------------------------------------

/// Runs one test under a keeper and gives its verdict.
pub fn start(test: &Test, options: &Options, kind: &str) -> Verdict {
    let run = process::id();
    let output = Command::new("/proc/self/exe")
        .arg(KEEP)
        .args([test.subject, test.name, &run.to_string(), options.view.as_deref().unwrap_or("")])
        .env("RUNTIME", fs::canonicalize(options.runtime.as_ref().unwrap()).unwrap())
        .env("TESTED_KIND", kind)
        .env("INSIDE", inside())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let detail = said["detail"].as_str().unwrap_or_default().to_string();
    match said["verdict"].as_str() {
        Some("ok") => Verdict::Ok,
        Some("skip") => Verdict::Skip(detail),
        Some("fail") => Verdict::Fail(detail),
        _ => Verdict::Fail(format!(
            "the keeper gave no verdict ({}): {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// Removes what all tests of this run shared.
pub fn clean_up() {
    let _ = fs::remove_dir_all(work_dir(process::id()));
    for hierarchy in host::cgroup_mounts() {
        remove_cgroup(&hierarchy.join(group_parent(process::id())));
    }
}

/// The cgroup above all containers of this run.
fn group_parent(run: u32) -> String {
    format!("myrt-tests-{run}")
}

/// Kills and removes a cgroup that this run made, with all below it.
fn remove_cgroup(dir: &Path) {
    let end = Instant::now() + Duration::from_secs(5);
    while dir.exists() && Instant::now() < end {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                remove_cgroup(&entry.path());
            }
        }
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        for pid in fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid @ 2..) = pid.parse() {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        if fs::remove_dir(dir).is_err() {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

// ---- in the keeper -----------------------------------------------------------------------------

/// `--keep SUBJECT NAME RUN VIEW`: runs the test in a process below this one and cleans up after it.
pub fn keep(tests: &[Test], args: &[String]) -> ExitCode {
    let test = tests.iter().find(|t| t.subject == args[0] && t.name == args[1]).expect("a test");
    let run: u32 = args[2].parse().expect("a pid");
    let dir = work_dir(run).join(format!("{}.{}", test.subject, test.name));
    private_mounts(&dir, &args[3]);
    prctl::set_child_subreaper(true).unwrap();
    // Orphans are reaped at once: a zombie would keep the first process of its PID namespace from ending.
    child_signal(SigHandler::SigIgn);

    let (mut from_test, to_keeper) = pipe();
    let t = T::new(test, dir.clone(), run, to_keeper.try_clone().unwrap());
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(from_test);
            live(test, &t)
        }
        ForkResult::Parent { child } => child,
    };
    drop(to_keeper);
    let verdict = wait_for_verdict(&mut from_test);
    child_signal(SigHandler::SigDfl);
    let _ = kill(child, Signal::SIGKILL);
    let leftover = clean(&t);
    let verdict = match (verdict["verdict"].as_str(), leftover) {
        (Some("ok"), Some(left)) => json!({ "verdict": "fail", "detail": left }),
        _ => verdict,
    };
    println!("{verdict}");
    let _ = umount2(&dir, MntFlags::MNT_DETACH);
    let _ = fs::remove_dir(&dir);
    ExitCode::SUCCESS
}

/// A mount namespace in which the test may do as it likes, with a fresh tmpfs at `dir`.
fn private_mounts(dir: &Path, view: &str) {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    fs::create_dir_all(dir).unwrap();
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    match view {
        "v2" => mount(Some("cgroup2"), "/sys/fs/cgroup", Some("cgroup2"), MsFlags::empty(), none).unwrap(),
        "v1" => _ = umount2("/sys/fs/cgroup/unified", MntFlags::MNT_DETACH),
        _ => {}
    }
}

fn pipe() -> (File, File) {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors, which are then ours alone.
    unsafe {
        assert_eq!(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC), 0);
        (File::from_raw_fd(fds[0]), File::from_raw_fd(fds[1]))
    }
}

/// Reads the test's messages: "wait" stops the clock, "go" starts it anew, a verdict ends it.
fn wait_for_verdict(from_test: &mut File) -> Value {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let limit = TIMEOUT * timeout_factor();
    let mut deadline = Some(Instant::now() + limit);
    let mut heard = Vec::new();
    loop {
        let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |l| PollTimeout::try_from(l).unwrap());
        let mut fds = [PollFd::new(from_test.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap() == 0 {
            return json!({ "verdict": "fail", "detail": format!("no end after {} s", limit.as_secs()) });
        }
        let mut chunk = [0; 65536];
        match from_test.read(&mut chunk).unwrap() {
            0 => return json!({ "verdict": "fail", "detail": "the test process died" }),
            n => heard.extend(&chunk[..n]),
        }
        while let Some(end) = heard.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = heard.drain(..=end).collect();
            match &line[..] {
                b"wait\n" => deadline = None,
                b"go\n" => deadline = Some(Instant::now() + limit),
                verdict => return serde_json::from_slice(verdict).unwrap(),
            }
        }
    }
}

fn child_signal(handler: SigHandler) {
    // SAFETY: neither handler runs code of ours.
    unsafe { signal(Signal::SIGCHLD, handler) }.unwrap();
}

/// Deletes the test's containers, its processes and its cgroups. Says what the runtime could not delete.
fn clean(t: &T) -> Option<String> {
    let mut trouble = None;
    let folders = fs::read_dir(&t.dir).into_iter().flatten().flatten();
    for root in folders
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"state")))
    {
        for entry in fs::read_dir(&root).into_iter().flatten().flatten() {
            let id = entry.file_name();
            let mut command = t.command_at(&root);
            command.args(["delete", "--force"]).arg(&id).stdout(Stdio::null()).stderr(Stdio::null());
            let child = Pid::from_raw(command.spawn().unwrap().id() as i32);
            let end = Instant::now() + patience();
            // Reaps whatever the containers leave meanwhile: zombies would keep them from ending.
            while !matches!(waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)), Ok(s) if s.pid() == Some(child))
            {
                if Instant::now() > end {
                    let _ = kill(child, Signal::SIGKILL);
                    trouble = Some(format!("delete --force {id:?} hangs after the test"));
                    break;
                }
                thread::sleep(Duration::from_millis(2));
            }
        }
    }
    for hierarchy in host::cgroup_mounts() {
        remove_cgroup(&hierarchy.join(group_parent(t.run)).join(t.label()));
    }
    let end = Instant::now() + patience();
    while Instant::now() < end {
        let me = process::id();
        let children = fs::read_to_string(format!("/proc/self/task/{me}/children")).unwrap_or_default();
        for pid in children.split_whitespace().filter_map(|p| p.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG)) {
            Err(_) => return trouble,
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(2)),
            Ok(_) => {}
        }
    }
    trouble.or(Some("a process of this test cannot be killed".into()))
}

// ---- in the test -------------------------------------------------------------------------------

struct Skipped(String);

thread_local! {
    static COMPLAINT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the test and reports its verdict; never returns to the keeper's code.
fn live(test: &Test, t: &T) -> ! {
    child_signal(SigHandler::SigDfl);
    panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<String>().cloned();
        let text = text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string));
        let place = info.location().map(|l| format!("{}:{}: ", l.file(), l.line())).unwrap_or_default();
        COMPLAINT.with(|c| c.replace(format!("{place}{}", text.unwrap_or_default())));
    }));
    t.lock(FlockArg::LockShared);
    let verdict = match panic::catch_unwind(panic::AssertUnwindSafe(|| (test.run)(t))) {
        Ok(()) => json!({ "verdict": "ok" }),
        Err(payload) => match payload.downcast_ref::<Skipped>() {
            Some(Skipped(reason)) => json!({ "verdict": "skip", "detail": reason }),
            None => {
                let complaint = COMPLAINT.with(|c| c.borrow().clone());
                json!({ "verdict": "fail", "detail": format!("{complaint}\n{}", t.transcript()) })
            }
        },
    };
    t.tell(&verdict.to_string());
    // SAFETY: ends this process without running the keeper's exit code.
    unsafe { libc::_exit(0) }
}

/// What a test has at hand.
pub struct T {
    pub subject: &'static str,
    pub name: &'static str,
    /// A tmpfs of the test's own.
    pub dir: PathBuf,
    pub runtime: PathBuf,
    pub run: u32,
    counter: Cell<u32>,
    log: RefCell<Vec<String>>,
    keeper: File,
    lock: RefCell<Option<Flock<File>>>,
}

impl T {
    fn new(test: &Test, dir: PathBuf, run: u32, keeper: File) -> T {
        let runtime = env::var_os("RUNTIME").unwrap().into();
        T {
            subject: test.subject,
            name: test.name,
            dir,
            runtime,
            run,
            counter: Cell::new(0),
            log: RefCell::default(),
            keeper,
            lock: RefCell::default(),
        }
    }

    /// "runc", "crun" or "myrt".
    pub fn kind(&self) -> String {
        env::var("TESTED_KIND").unwrap_or_default()
    }

    fn tell(&self, message: &str) {
        let _ = (&self.keeper).write_all(format!("{message}\n").as_bytes());
    }

    /// Takes the lock that all tests share, or has alone; the clock stands still meanwhile.
    fn lock(&self, how: FlockArg) {
        self.tell("wait");
        self.lock.take();
        let file = File::create(work_dir(self.run).join("lock")).unwrap();
        let lock = Flock::lock(file, how).unwrap_or_else(|(_, e)| panic!("lock: {e}"));
        self.lock.replace(Some(lock));
        self.tell("go");
    }

    /// Waits until no other test runs; stands first in a test that needs the whole machine.
    pub fn alone(&self) {
        self.lock(FlockArg::LockExclusive);
    }

    /// Starts the clock anew, for a test that has many parts.
    pub fn go_on(&self) {
        self.tell("go");
    }

    /// Skips the test, with the reason, unless all that it needs is here.
    pub fn needs(&self, needs: &[Need]) {
        for need in needs {
            if let Some(missing) = need.missing(self) {
                self.skip(&missing);
            }
        }
    }

    /// Skips the rest of the test.
    pub fn skip(&self, reason: &str) -> ! {
        panic::resume_unwind(Box::new(Skipped(reason.to_string())))
    }

    pub fn label(&self) -> String {
        format!("{}.{}", self.subject, self.name)
    }

    /// A container id that nobody else has.
    pub fn fresh_id(&self) -> String {
        self.counter.set(self.counter.get() + 1);
        format!("rt{}-{}-{}", self.run, process::id(), self.counter.get())
    }

    /// The cgroupsPath of one container, in the form that the cgroup manager in use wants.
    pub fn cgroups_path(&self, id: &str) -> String {
        if self.by_systemd() {
            format!("system.slice:myrt-tests:{id}")
        } else {
            format!("/{}/{}/{id}", group_parent(self.run), self.label())
        }
    }

    /// The folder of the container with that cgroupsPath, below the mount of each hierarchy.
    pub fn cgroup_folder(&self, id: &str) -> PathBuf {
        if self.by_systemd() {
            format!("system.slice/myrt-tests-{id}.scope").into()
        } else {
            self.cgroups_path(id).trim_start_matches('/').into()
        }
    }

    /// systemd makes the containers' cgroups.
    pub fn by_systemd(&self) -> bool {
        env::var("RUNTIME_ARGS").is_ok_and(|a| a.contains("systemd"))
    }

    /// From here on systemd makes them, whatever the runner was told.
    pub fn use_systemd(&self) {
        if !self.by_systemd() {
            // SAFETY: a test has one thread.
            unsafe { env::set_var("RUNTIME_ARGS", "--systemd-cgroup") };
        }
    }

    /// The runtime with its global options, ready for a command; state goes to the test's folder.
    pub fn command(&self) -> Command {
        self.command_at(&self.dir.join("state"))
    }

    /// The same with another state directory; it is cleaned up too if its name begins with "state".
    pub fn command_at(&self, root: &Path) -> Command {
        let mut command = self.bare();
        command.arg("--root").arg(root);
        command.args(env::var("RUNTIME_ARGS").unwrap_or_default().split_whitespace());
        command
    }

    /// The runtime without any option.
    pub fn bare(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.current_dir(&self.dir).stdin(Stdio::null());
        for private in ["TESTED_KIND", "INSIDE", "RUNTIME_ARGS", "RUNTIME"] {
            command.env_remove(private);
        }
        command
    }

    /// strace with these options, and the runtime behind it.
    pub fn traced(&self, options: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command.arg("-qq").args(options).arg(&self.runtime).arg("--root").arg(self.dir.join("state"));
        command.current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs a command of the runtime to its end.
    pub fn runtime(&self, args: &[&str]) -> Output {
        let mut command = self.command();
        command.args(args);
        self.finish(command)
    }

    /// Runs any prepared command to its end, its output in files, and keeps a note of it for a failure.
    pub fn finish(&self, command: Command) -> Output {
        self.begin(command).wait()
    }

    /// Starts a prepared command with its output in files.
    pub fn begin(&self, mut command: Command) -> Running<'_> {
        self.counter.set(self.counter.get() + 1);
        let base = self.dir.join(format!("said-{}", self.counter.get()));
        let (out, err) = (base.with_extension("out"), base.with_extension("err"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let line: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        let line = format!("{} {}", command.get_program().to_string_lossy(), line.join(" "));
        let child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
        Running { t: self, child, line, out, err }
    }

    pub fn note(&self, line: String) {
        self.log.borrow_mut().push(line);
    }

    fn transcript(&self) -> String {
        // The last commands are enough, and polling is not worth repeating.
        let log = self.log.borrow();
        let last = &log[log.len().saturating_sub(8)..];
        last.iter().map(|l| format!("  | {}\n", l.trim_end().replace('\n', "\n  |   "))).collect()
    }
}

/// A command that has been started.
pub struct Running<'t> {
    t: &'t T,
    pub child: process::Child,
    line: String,
    pub out: PathBuf,
    pub err: PathBuf,
}

impl Running<'_> {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    pub fn wait(mut self) -> Output {
        let status = self.child.wait().unwrap();
        let output = Output::new(status, &self.out, &self.err);
        self.t.note(format!("{} -> {}\n{}{}", self.line, output.code, cut(&output.out), cut(&output.err)));
        output
    }
}

fn cut(text: &str) -> String {
    let end = text.char_indices().nth(500).map_or(text.len(), |(i, _)| i);
    if end < text.len() { format!("{}...\n", &text[..end]) } else { text.to_string() }
}

/// Makes a command run `prepare` in the child, after the fork and before the exec.
pub fn before_exec(
    command: &mut Command,
    prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the test process has one thread, so the child may call anything between fork and exec.
    unsafe { command.pre_exec(prepare) };
}
