//! What a program must see to before anything else, where std's own start-up is left out.
//!
//! That start-up also reads the memory map and installs handlers that only describe a stack overflow: 20 system
//! calls, which every command would pay for.

use std::os::fd::IntoRawFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::tty::standard;

/// Lets a write to a closed pipe fail instead of ending us half-way, keeps the kernel from reaping our children, as it
/// does for a caller that ignores the end of his, and opens 0, 1 and 2 if the caller closed them: else the next file
/// that is opened would be taken for the standard output.
pub fn prepare() -> nix::Result<()> {
    // SAFETY: SIG_IGN and SIG_DFL are valid dispositions for these.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
    let mut streams = [0, 1, 2].map(|number| PollFd::new(standard(number), PollFlags::empty()));
    while let Err(errno) = poll(&mut streams, PollTimeout::ZERO) {
        if errno != Errno::EINTR {
            return Err(errno);
        }
    }
    for stream in streams {
        if stream.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL)) {
            // The lowest free number is the closed one: they are looked at in order.
            let null = open("/dev/null", OFlag::O_RDWR, Mode::empty())?;
            let _ = null.into_raw_fd();
        }
    }
    Ok(())
}
