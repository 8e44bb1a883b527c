//! What a `run` or `exec` in the foreground does while its program runs: pass signals on, serve the terminal,
//! reap orphans, and report how the program ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
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
        let (ends, polled): (Vec<_>, Vec<_>) = relay.iter().flat_map(Relay::polled).unzip();
        let mut fds = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        fds.extend(polled);
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
        let mut ends = ends.into_iter().zip(&ready[1..]).filter(|(_, ready)| **ready).map(|(end, _)| end);
        if let Some(active) = &mut relay
            && !ends.all(|end| active.copy(end))
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
///
/// What one side does not take yet waits here, so that neither direction ever waits for the other (a program that
/// reads nothing before its output is read), and signals for neither.
struct Relay {
    /// Never blocks.
    master: OwnedFd,
    before: Option<Termios>,
    /// False once our input has ended.
    input: bool,
    to_program: Vec<u8>,
    to_stdout: Vec<u8>,
}

/// Where something can be copied from or to.
#[derive(Debug, Clone, Copy)]
enum End {
    Stdin,
    Stdout,
    Master,
}

impl Relay {
    fn new(master: OwnedFd) -> Result<Relay> {
        fcntl(&master, FcntlArg::F_SETFL(OFlag::O_RDWR | OFlag::O_NONBLOCK)).call("fcntl(2)")?;
        let stdin = std::io::stdin();
        // Without a terminal of our own (a pipe) there is nothing to make raw.
        let before = tcgetattr(&stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            cfmakeraw(&mut raw);
            tcsetattr(&stdin, SetArg::TCSANOW, &raw).call("tcsetattr(3)")?;
        }
        let relay = Relay { master, before, input: true, to_program: Vec::new(), to_stdout: Vec::new() };
        relay.resize();
        Ok(relay)
    }

    /// What there is to wait for: to read where nothing is left to write, to write where something is.
    fn polled(&self) -> Vec<(End, PollFd<'_>)> {
        let mut polled = Vec::with_capacity(3);
        if self.input && self.to_program.is_empty() {
            polled.push((End::Stdin, PollFd::new(stdin(), PollFlags::POLLIN)));
        }
        if !self.to_stdout.is_empty() {
            polled.push((End::Stdout, PollFd::new(stdout(), PollFlags::POLLOUT)));
        }
        let mut master = PollFlags::empty();
        master.set(PollFlags::POLLIN, self.to_stdout.is_empty());
        master.set(PollFlags::POLLOUT, !self.to_program.is_empty());
        if !master.is_empty() {
            polled.push((End::Master, PollFd::new(self.master.as_fd(), master)));
        }
        polled
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

    /// Copies at an end that is ready; false when the container's side is closed, or our output.
    fn copy(&mut self, end: End) -> bool {
        match end {
            End::Stdin => {
                self.to_program = read(stdin()).unwrap_or_else(|| {
                    self.input = false;
                    // The end of our input is ^D for the container.
                    vec![4]
                });
                true
            }
            End::Stdout => write(stdout(), &mut self.to_stdout),
            End::Master => {
                if !write(self.master.as_fd(), &mut self.to_program) {
                    self.input = false;
                    self.to_program.clear();
                }
                // Its last output comes before its end.
                !self.to_stdout.is_empty()
                    || read(self.master.as_fd()).map(|output| self.to_stdout = output).is_some()
            }
        }
    }

    /// Copies what the program wrote last.
    fn drain(&mut self) {
        loop {
            while !self.to_stdout.is_empty() {
                let mut fds = [PollFd::new(stdout(), PollFlags::POLLOUT)];
                match poll(&mut fds, PollTimeout::NONE) {
                    Ok(_) if !self.copy(End::Stdout) => return,
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(_) => return,
                }
            }
            match read(self.master.as_fd()) {
                Some(output) if !output.is_empty() => self.to_stdout = output,
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

/// Reads once; `None` at the end, nothing if there is nothing yet.
fn read(from: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut buffer = [0u8; 8192];
    match nix::unistd::read(from, &mut buffer) {
        Ok(0) => None,
        Ok(len) => Some(buffer[..len].to_vec()),
        Err(Errno::EAGAIN | Errno::EINTR) => Some(Vec::new()),
        Err(_) => None,
    }
}

/// Writes once and takes away what was written; false at the end of the other side.
fn write(to: BorrowedFd<'_>, bytes: &mut Vec<u8>) -> bool {
    if bytes.is_empty() {
        return true;
    }
    // A pipe that is ready takes so much without waiting, whoever else has set it to block: pipe(7), PIPE_BUF.
    match nix::unistd::write(to, &bytes[..bytes.len().min(4096)]) {
        Ok(done) => drop(bytes.drain(..done)),
        Err(Errno::EAGAIN | Errno::EINTR) => {}
        Err(_) => return false,
    }
    true
}

fn stdin() -> BorrowedFd<'static> {
    tty::standard(0)
}

fn stdout() -> BorrowedFd<'static> {
    tty::standard(1)
}
