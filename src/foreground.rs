//! What a `run` or `exec` in the foreground does while its program runs: pass signals on, serve the terminal,
//! reap orphans, and report how the program ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::Pid;

use crate::error::{Call, Error, Result};
use crate::run::Foreground;
use crate::sys::clone::Child;
use crate::sys::process::{next_signal, pidfd_signal, reap_any, set_subreaper, signal_fd};
use crate::sys::tty;

/// Gets ready to wait, before the child exists, so that no signal is lost. `None` if detached.
pub fn prepare(how: Foreground) -> Result<Option<OwnedFd>> {
    if how.detach {
        return Ok(None);
    }
    if !how.no_subreaper {
        set_subreaper().call("prctl(PR_SET_CHILD_SUBREAPER)")?;
    }
    signal_fd().call("signalfd(2)").map(Some)
}

/// Waits for the program; returns its exit status, 128 + n if signal n ended it.
pub fn wait(child: &Child, terminal: Option<OwnedFd>, signals: OwnedFd) -> Result<i32> {
    let mut relay = terminal.map(Relay::new).transpose()?;
    let mut code = None;
    while code.is_none() {
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if let Some(relay) = &relay {
            fds.extend(relay.polled());
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.call("poll(2)")?,
        };
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready[0] {
            while let Some(signal) = next_signal(signals.as_fd()).call("read(2)")? {
                match signal {
                    libc::SIGCHLD => code = reap(child.pid)?.or(code),
                    libc::SIGWINCH => relay.iter().for_each(Relay::resize),
                    // Ours, from our own terminal output; not the container's.
                    libc::SIGPIPE => {}
                    signal => pass_on(child, signal)?,
                }
            }
        }
        if let Some(active) = &mut relay
            && !active.copy(&ready[1..])
        {
            relay = None;
        }
    }
    if let Some(relay) = &mut relay {
        relay.drain();
    }
    Ok(code.unwrap_or(0))
}

fn pass_on(child: &Child, signal: i32) -> Result<()> {
    match pidfd_signal(child.pidfd.as_fd(), signal) {
        // It has ended; SIGCHLD will say so.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        other => other.call("pidfd_send_signal(2)"),
    }
}

/// Reaps every child that has ended; returns how ours did, if it did.
fn reap(ours: Pid) -> Result<Option<i32>> {
    let mut code = None;
    loop {
        match reap_any() {
            Ok(Some((pid, status))) if pid == ours => code = Some(status),
            Ok(Some(_)) => {}
            Ok(None) | Err(Errno::ECHILD) => return Ok(code),
            Err(errno) => return Err(Error::call("waitpid(2)", errno)),
        }
    }
}

/// Copies between our terminal and the container's.
struct Relay {
    master: OwnedFd,
    before: Option<Termios>,
    input: bool,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        let stdin = std::io::stdin();
        // Without a terminal of our own (a pipe) there is nothing to make raw.
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw).call("tcsetattr(3)")?;
        }
        let relay = Relay { master, before, input: true };
        relay.resize();
        Ok(relay)
    }

    fn polled(&self) -> Vec<PollFd<'_>> {
        let mut fds = vec![PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        if self.input {
            fds.push(PollFd::new(stdin(), PollFlags::POLLIN));
        }
        fds
    }

    /// Gives the container's terminal the size of ours.
    fn resize(&self) {
        if let Ok((rows, columns)) = tty::size(stdin())
            && rows != 0
        {
            // A terminal that is gone needs no size.
            let _ = tty::resize(self.master.as_fd(), rows, columns);
        }
    }

    /// Copies what is ready; false when the container's side is closed.
    fn copy(&mut self, ready: &[bool]) -> bool {
        if ready.get(1) == Some(&true) && !copy(stdin(), self.master.as_fd()) {
            // The end of our input is ^D for the container.
            let _ = nix::unistd::write(&self.master, b"\x04");
            self.input = false;
        }
        ready.first() != Some(&true) || copy(self.master.as_fd(), stdout())
    }

    /// Copies what the program wrote last.
    fn drain(&mut self) {
        loop {
            let mut fds = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, PollTimeout::ZERO) {
                Ok(n) if n > 0 && copy(self.master.as_fd(), stdout()) => {}
                _ => return,
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Copies once; false at the end of either side.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut buffer = [0u8; 8192];
    let Ok(len @ 1..) = nix::unistd::read(from, &mut buffer) else { return false };
    let mut rest = &buffer[..len];
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Ok(done) => rest = &rest[done..],
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
    true
}

fn stdin() -> BorrowedFd<'static> {
    tty::standard(0)
}

fn stdout() -> BorrowedFd<'static> {
    tty::standard(1)
}
