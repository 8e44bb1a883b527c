//! Starts a program and measures it: posix_spawn(3), which neither copies our memory nor waits for a thread of ours,
//! and wait4(2), which also tells the CPU time of the program and of the children that it waited for.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{io, mem, ptr};

/// How long any command may take before it counts as hung.
const PATIENCE: u32 = 30;

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    pub wall: Duration,
    /// User and system time together.
    pub cpu: Duration,
}

impl Sample {
    pub fn plus(self, other: Sample) -> Sample {
        Sample { wall: self.wall + other.wall, cpu: self.cpu + other.cpu }
    }
}

/// A program with its arguments, made ready so that nothing is left to do when the clock runs.
pub struct Command {
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Command {
    pub fn new(args: impl IntoIterator<Item = impl AsRef<str>>) -> Command {
        let c = |text: &str| CString::new(text).expect("no NUL in arguments");
        let args = args.into_iter().map(|a| c(a.as_ref())).collect();
        let path = std::env::var("PATH").unwrap_or_default();
        // Go's runtime and Rust's print less, and the same, on every machine.
        Command { args, env: vec![c(&format!("PATH={path}")), c("HOME=/"), c("LC_ALL=C")] }
    }

    /// Becomes the command; returns only if that failed. The standard streams stay.
    fn exec(&self) -> nix::Result<Infallible> {
        nix::unistd::execve(&self.args[0], &self.args, &self.env)
    }

    /// The program and its arguments.
    pub fn words(&self) -> impl Iterator<Item = String> {
        self.args.iter().map(|a| a.to_string_lossy().into_owned())
    }

    /// The command as a person would type it.
    pub fn line(&self) -> String {
        self.words().collect::<Vec<_>>().join(" ")
    }
}

/// Where programs run from: their standard streams, and their zombies.
pub struct Spawner {
    null: File,
    /// What the programs write; read back when one of them fails.
    output: File,
}

impl Spawner {
    /// Makes this process the one that adopts and reaps whatever the programs leave.
    pub fn new(output: &Path) -> io::Result<Spawner> {
        nix::sys::prctl::set_child_subreaper(true)?;
        install_alarm();
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let output = OpenOptions::new().read(true).append(true).create(true).open(output)?;
        Ok(Spawner { null, output })
    }

    /// Runs a command to its end. A failure comes with the command and what it wrote.
    pub fn run(&self, command: &Command) -> Result<Sample, String> {
        let begun = Instant::now();
        let pid = self.start(command)?;
        self.end(pid, begun).map_err(|why| self.complain(command, &why))
    }

    /// Runs a command and gives what it wrote to its standard output.
    pub fn read(&self, command: &Command) -> Result<String, String> {
        self.forget();
        self.run(command)?;
        let text = self.written();
        self.forget();
        Ok(text)
    }

    /// Runs commands at once, all of them started before the first is waited for; the time until the last has ended.
    pub fn run_all(&self, commands: &[Command]) -> Result<Sample, String> {
        let begun = Instant::now();
        let mut pids: Vec<i32> = commands.iter().map(|c| self.start(c)).collect::<Result<_, _>>()?;
        let mut sum = Sample::default();
        let mut failed = None;
        set_alarm(PATIENCE * 4);
        while !pids.is_empty() {
            let Some((pid, code, cpu)) = wait_any() else {
                pids.iter().for_each(|pid| kill(*pid));
                set_alarm(5);
                failed = Some("hangs".to_string());
                continue;
            };
            sum.cpu += cpu;
            if let Some(index) = pids.iter().position(|p| *p == pid) {
                pids.swap_remove(index);
                if code != 0 {
                    failed = failed.or(Some(format!("exit status {code}")));
                }
            }
        }
        set_alarm(0);
        sum.wall = begun.elapsed();
        match failed {
            None => Ok(sum),
            Some(why) => Err(self.complain(&commands[0], &why)),
        }
    }

    /// Becomes a command, with the streams that all commands have; returns only if that failed.
    pub fn become_it(&self, command: &Command) -> nix::Result<Infallible> {
        nix::unistd::dup2_stdin(&self.null)?;
        nix::unistd::dup2_stdout(&self.output)?;
        nix::unistd::dup2_stderr(&self.output)?;
        command.exec()
    }

    /// Starts a command and leaves it running.
    pub fn start(&self, command: &Command) -> Result<i32, String> {
        posix_spawn(command, [&self.null, &self.output, &self.output])
            .map_err(|e| format!("{}: {e}", command.line()))
    }

    /// Waits for the end of what `start` gave; whatever else ends meanwhile is reaped.
    fn end(&self, pid: i32, begun: Instant) -> Result<Sample, String> {
        let mut orphans = Duration::ZERO;
        set_alarm(PATIENCE);
        loop {
            match wait_any() {
                Some((ended, code, cpu)) if ended == pid => {
                    let sample = Sample { wall: begun.elapsed(), cpu: cpu + orphans };
                    set_alarm(0);
                    return if code == 0 { Ok(sample) } else { Err(format!("exit status {code}")) };
                }
                Some((_, _, cpu)) => orphans += cpu,
                None => {
                    kill(pid);
                    set_alarm(5);
                    while wait_any().is_some_and(|(ended, _, _)| ended != pid) {}
                    set_alarm(0);
                    return Err(format!("hangs (more than {PATIENCE} s)"));
                }
            }
        }
    }

    /// Kills what `start` gave and waits for it.
    pub fn stop(&self, pid: i32) {
        kill(pid);
        drop(self.end(pid, Instant::now()));
    }

    /// Reaps what has ended.
    pub fn reap(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
    }

    /// Says which command failed, why, and what it wrote.
    pub fn complain(&self, command: &Command, why: &str) -> String {
        let text = self.written();
        self.forget();
        let said =
            text.lines().rev().take(3).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" | ");
        format!("{}: {why}: {said}", command.line())
    }

    fn written(&self) -> String {
        let mut text = Vec::new();
        let mut file = &self.output;
        // Appending moves no offset of ours, and what cannot be read is not reported.
        let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut text));
        read.map_or(String::new(), |_| String::from_utf8_lossy(&text).into_owned())
    }

    /// Empties the file of outputs.
    pub fn forget(&self) {
        self.output.set_len(0).expect("our own file can be emptied");
    }
}

fn posix_spawn(command: &Command, streams: [&File; 3]) -> io::Result<i32> {
    let pointers = |list: &[CString]| -> Vec<*mut libc::c_char> {
        list.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
    };
    let (argv, envp) = (pointers(&command.args), pointers(&command.env));
    let check = |code: i32| if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) };
    let mut pid = 0;
    // SAFETY: `actions` is initialised before it is used and destroyed after; the strings and arrays of pointers,
    // each with a null at its end, outlive the call.
    unsafe {
        let mut actions = mem::zeroed();
        check(libc::posix_spawn_file_actions_init(&mut actions))?;
        for (number, file) in (0..).zip(streams) {
            check(libc::posix_spawn_file_actions_adddup2(&mut actions, file.as_raw_fd(), number))?;
        }
        let code = libc::posix_spawn(&mut pid, argv[0], &actions, ptr::null(), argv.as_ptr(), envp.as_ptr());
        libc::posix_spawn_file_actions_destroy(&mut actions);
        check(code)?;
    }
    Ok(pid)
}

/// The next child that ends: its pid, its exit status (128 + n after signal n) and its CPU time. `None` at the alarm
/// or without children.
fn wait_any() -> Option<(i32, i32, Duration)> {
    let mut status = 0;
    // SAFETY: both places are ours and large enough; an all-zero rusage is a valid one.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = mem::zeroed();
        (libc::wait4(-1, &mut status, libc::__WALL, &mut usage), usage)
    };
    let time = |t: libc::timeval| Duration::new(t.tv_sec as u64, t.tv_usec as u32 * 1000);
    let code = if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
    (pid > 0).then(|| (pid, code, time(usage.ru_utime) + time(usage.ru_stime)))
}

fn kill(pid: i32) {
    // It may have ended; it stays our zombie until we wait for it.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

/// An alarm that only interrupts wait4(2).
fn install_alarm() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: the handler does nothing, so it is safe at any moment; no SA_RESTART, so that system calls return.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGALRM, &action, ptr::null_mut());
    }
}

fn set_alarm(seconds: u32) {
    // SAFETY: alarm(2) has no precondition.
    unsafe { libc::alarm(seconds) };
}
