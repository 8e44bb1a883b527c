//! Counts exactly: the system calls and the instructions of a command and of all its descendants, with ptrace(2).
//!
//! No timer and no sampling is involved, so a busy machine changes nothing. Instructions are those of user space,
//! counted by stepping over each; a repeated string instruction counts once for each round.

use std::collections::{BTreeSet, HashSet};

use libc::c_int;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};

use crate::spawn::{Command, Spawner};

/// asm/ptrace-abi.h.
const PTRACE_SINGLEBLOCK: libc::c_uint = 33;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// System calls, from the one that the command begins with to its last.
    pub calls: u64,
    /// Instructions in user space.
    pub instructions: u64,
    /// Resident memory in KiB of the largest process when it ended or executed something else.
    pub resident_kib: u64,
}

/// What is to be counted: stepping is about a hundred times slower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    Calls,
    Instructions,
    /// The addresses of the instructions too, of the command itself: not of what it executes.
    Addresses,
}

/// Runs a command under observation. Fails if it does.
pub fn count(spawner: &Spawner, command: &Command, what: What) -> Result<Counts, String> {
    on_one_processor(spawner, command, what).map(|tracer| tracer.counts)
}

/// The addresses of the instructions that a command executes, in the order of their first time.
pub fn addresses(spawner: &Spawner, command: &Command) -> Result<Vec<u64>, String> {
    on_one_processor(spawner, command, What::Addresses).map(|tracer| tracer.visited)
}

fn on_one_processor(spawner: &Spawner, command: &Command, what: What) -> Result<Tracer, String> {
    let say = |e: Errno| format!("{}: {e}", command.line());
    let processors = sched_getaffinity(Pid::this()).map_err(say)?;
    // On one processor each stop costs a switch instead of a wake-up elsewhere: several times faster.
    let mut one = CpuSet::new();
    one.set(nix::sched::sched_getcpu().map_err(say)?).map_err(say)?;
    sched_setaffinity(Pid::this(), &one).map_err(say)?;
    let traced = trace(spawner, command, what);
    sched_setaffinity(Pid::this(), &processors).map_err(say)?;
    traced
}

fn trace(spawner: &Spawner, command: &Command, what: What) -> Result<Tracer, String> {
    let say = |e: Errno| format!("{}: {e}", command.line());
    // SAFETY: this process has one thread.
    let child = match unsafe { fork() }.map_err(say)? {
        ForkResult::Parent { child } => child,
        ForkResult::Child => become_traced(spawner, command),
    };
    let mut tracer = Tracer {
        root: child,
        what,
        counts: Counts::default(),
        tasks: BTreeSet::new(),
        foreign: BTreeSet::new(),
        seen: HashSet::new(),
        visited: Vec::new(),
    };
    let followed = tracer.follow();
    // Whoever is still traced must not stand still for ever, nor be taken for a task of the next command.
    tracer.end_all();
    match followed {
        Ok(()) => Ok(tracer),
        Err(why) => Err(spawner.complain(command, &why)),
    }
}

/// In the child: lets the parent trace it, and executes the command.
fn become_traced(spawner: &Spawner, command: &Command) -> ! {
    let ready = ptrace::traceme().and_then(|()| nix::sys::signal::raise(Signal::SIGSTOP));
    let _failed = ready.and_then(|()| spawner.become_it(command));
    // SAFETY: _exit(2) has no precondition.
    unsafe { libc::_exit(127) }
}

/// What wait(2) tells, decoded by hand: real-time signals, which Go programs use, have no name in nix.
enum Stop {
    Ended(c_int),
    Call,
    Event(c_int),
    Signal(c_int),
}

fn wait(pid: c_int) -> Result<(Pid, Stop), String> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours and large enough.
        let pid = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
        let stop = match pid {
            -1 if Errno::last() == Errno::EINTR => continue,
            -1 => return Err(Errno::last().to_string()),
            _ if libc::WIFEXITED(status) => Stop::Ended(libc::WEXITSTATUS(status)),
            _ if libc::WIFSIGNALED(status) => Stop::Ended(128 + libc::WTERMSIG(status)),
            _ if status >> 16 != 0 => Stop::Event(status >> 16),
            _ => match libc::WSTOPSIG(status) {
                signal if signal == libc::SIGTRAP | 0x80 => Stop::Call,
                signal => Stop::Signal(signal),
            },
        };
        return Ok((Pid::from_raw(pid), stop));
    }
}

struct Tracer {
    root: Pid,
    what: What,
    counts: Counts,
    /// The tasks that have not ended.
    tasks: BTreeSet<i32>,
    /// Those that execute another program.
    foreign: BTreeSet<i32>,
    seen: HashSet<u64>,
    visited: Vec<u64>,
}

impl Tracer {
    fn follow(&mut self) -> Result<(), String> {
        let text = |e: Errno| e.to_string();
        self.tasks.insert(self.root.as_raw());
        wait(self.root.as_raw())?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_TRACEEXIT
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.root, options).map_err(text)?;
        // Up to the exec everything is ours: counting begins after it.
        ptrace::cont(self.root, None).map_err(text)?;
        loop {
            match wait(self.root.as_raw())?.1 {
                Stop::Event(libc::PTRACE_EVENT_EXEC) => break,
                Stop::Ended(code) => return Err(format!("exit status {code}")),
                _ => ptrace::cont(self.root, None).map_err(text)?,
            }
        }
        self.go_on(self.root, 0);
        loop {
            let (pid, stop) = wait(-1)?;
            match stop {
                Stop::Ended(0) if pid == self.root => {
                    self.tasks.remove(&pid.as_raw());
                    return Ok(());
                }
                Stop::Ended(code) if pid == self.root => return Err(format!("exit status {code}")),
                stop => self.see(pid, stop),
            }
        }
    }

    /// Counts one stop and lets the task go on.
    fn see(&mut self, pid: Pid, stop: Stop) {
        let mut signal = 0;
        match stop {
            Stop::Ended(_) => {
                self.tasks.remove(&pid.as_raw());
                return;
            }
            // Each call stops twice; the kernel says which one this is.
            Stop::Call => {
                let entry = ptrace::syscall_info(pid).is_ok_and(|i| i.op == libc::PTRACE_SYSCALL_INFO_ENTRY);
                self.counts.calls += u64::from(entry);
            }
            Stop::Event(event @ (libc::PTRACE_EVENT_EXIT | libc::PTRACE_EVENT_EXEC)) => {
                self.note_memory(pid);
                if event == libc::PTRACE_EVENT_EXEC {
                    self.foreign.insert(pid.as_raw());
                }
            }
            Stop::Event(_) => {}
            Stop::Signal(libc::SIGTRAP) if self.what != What::Calls => {
                self.counts.instructions += 1;
                if self.what == What::Addresses {
                    self.visit(pid);
                }
            }
            // A new task begins with a stop of its own.
            Stop::Signal(libc::SIGSTOP) => {
                self.tasks.insert(pid.as_raw());
            }
            Stop::Signal(other) => signal = other,
        }
        self.go_on(pid, signal);
    }

    /// Notes where a task stands.
    fn visit(&mut self, pid: Pid) {
        // A task that was killed meanwhile stands nowhere.
        if let Ok(registers) = ptrace::getregs(pid)
            && self.seen.insert(registers.rip)
        {
            self.visited.push(registers.rip);
        }
    }

    /// Kills the tasks that are left, and waits for them.
    fn end_all(&mut self) {
        for pid in std::mem::take(&mut self.tasks) {
            let pid = Pid::from_raw(pid);
            // A task that has ended meanwhile is no concern.
            let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
            while let Ok((_, Stop::Call | Stop::Event(_) | Stop::Signal(_))) = wait(pid.as_raw()) {
                let _ = ptrace::cont(pid, None);
            }
        }
    }

    fn note_memory(&mut self, pid: Pid) {
        // A task that shares the memory of another, or has none any more, has no file to read.
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let rss = text.lines().find_map(|line| line.strip_prefix("Rss:"));
        let kib = rss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        self.counts.resident_kib = self.counts.resident_kib.max(kib);
    }

    /// Up to the next call or instruction. A task that was killed meanwhile is heard of by wait.
    fn go_on(&self, pid: Pid, signal: c_int) {
        let request = match self.what {
            What::Addresses if self.foreign.contains(&pid.as_raw()) => libc::PTRACE_CONT,
            What::Calls => libc::PTRACE_SYSCALL,
            What::Instructions => libc::PTRACE_SINGLESTEP,
            // From jump to jump, where the processor can: it enters a function by one.
            What::Addresses => PTRACE_SINGLEBLOCK,
        };
        // SAFETY: the request reads no memory of ours; its last argument is a number.
        unsafe { libc::ptrace(request, pid.as_raw(), 0, signal as libc::c_long) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_same_each_time() {
        let dir = std::env::temp_dir().join(format!("bench-count-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let spawner = Spawner::new(&dir.join("output")).unwrap();
        let list = Command::new(["/bin/sh", "-c", "/bin/true; /bin/true"]);
        let calls = || count(&spawner, &list, What::Calls).unwrap().calls;
        let first = calls();
        assert!(first > 20, "{first}");
        assert_eq!(first, calls());
        let failing = Command::new(["/bin/sh", "-c", "exit 3"]);
        assert!(count(&spawner, &failing, What::Calls).unwrap_err().contains("exit status 3"));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
