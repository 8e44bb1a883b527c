//! Freezing and thawing: `pause` and `resume`.
//!
//! The cgroup2 tree's freezer is taken wherever there is one, on hybrid hosts too: its frozen processes can
//! still be killed, those of v1's freezer cannot.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::uio::pread;

use super::files::{Dir, keyed};
use super::group::Cgroup;
use super::limits::Version;
use super::record::Record;
use crate::error::{Call, Context, Error, Result};

/// How long processes get to stop. One that sleeps in the kernel uninterruptibly stops only when it wakes.
const PATIENCE: Duration = Duration::from_secs(5);

/// True if every process of a recorded cgroup is stopped: one look at a file, without opening the cgroup.
pub fn is_frozen(record: &Record) -> Result<bool> {
    frozen(
        record.v2.as_ref().map(|place| Dir::named(place.dir())).as_ref(),
        record.v1.iter().find(|place| place.has("freezer")).map(|place| Dir::named(place.dir())).as_ref(),
    )
}

fn frozen(v2: Option<&Dir>, v1: Option<&Dir>) -> Result<bool> {
    if let Some(dir) = v2
        && dir.key("cgroup.events", "frozen")? == Some(1)
    {
        return Ok(true);
    }
    match v1 {
        Some(dir) => Ok(dir.read_if_there("freezer.state")?.is_some_and(|state| state.trim() == "FROZEN")),
        None => Ok(false),
    }
}

impl Cgroup {
    /// Stops every process; returns when they have stopped. Takes it back if they don't in time.
    pub fn freeze(&self) -> Result<()> {
        let done = match self.freezer()? {
            Freezer::V2(dir) => {
                dir.write("cgroup.freeze", "1")?;
                wait_v2(dir, 1)?
            }
            Freezer::V1(dir) => wait_v1(dir, "FROZEN")?,
        };
        if done {
            return Ok(());
        }
        self.thaw()?;
        Err(Error::new(format!("the container did not freeze within {} seconds", PATIENCE.as_secs()))
            .hint("a process waits in the kernel, perhaps for a disk or a network mount; it runs on"))
    }

    /// Lets every process run again, whichever freezer stopped it.
    pub fn thaw(&self) -> Result<()> {
        let mut done = true;
        if let Some(dir) = self.controller(Version::V1, "freezer") {
            done &= wait_v1(dir, "THAWED")?;
        }
        if let Freezer::V2(dir) = self.freezer()? {
            dir.write("cgroup.freeze", "0")?;
            done &= wait_v2(dir, 0)?;
        }
        if done {
            return Ok(());
        }
        Err(Error::new("the container stays frozen").hint("a parent cgroup is frozen; thaw that one"))
    }

    /// Every process is stopped, by this cgroup's freezer or by a parent's.
    pub fn is_frozen(&self) -> Result<bool> {
        frozen(self.v2.as_ref().map(|(_, dir)| dir), self.controller(Version::V1, "freezer"))
    }

    fn freezer(&self) -> Result<Freezer<'_>> {
        if let Some((_, dir)) = &self.v2 {
            return Ok(Freezer::V2(dir));
        }
        match self.controller(Version::V1, "freezer") {
            Some(dir) => Ok(Freezer::V1(dir)),
            None => Err(Error::new("the container has no cgroup with a freezer")),
        }
    }
}

enum Freezer<'a> {
    V1(&'a Dir),
    V2(&'a Dir),
}

/// Waits until cgroup.events says `frozen` 0 or 1; the kernel wakes the poll at each change.
fn wait_v2(dir: &Dir, frozen: u64) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let step = dir.step("read", "cgroup.events");
    let file = dir.file("cgroup.events", OFlag::O_RDONLY).call("open(2)").at(&step)?;
    loop {
        let mut buffer = [0; 256];
        let n = pread(file.as_fd(), &mut buffer, 0).call("pread(2)").at(&step)?;
        if keyed(&String::from_utf8_lossy(&buffer[..n]), "frozen") == Some(frozen) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        // A whole millisecond more than is left, so that the last round does not spin.
        match poll(&mut fds, left.as_millis() as u16 + 1) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("poll(2)", errno).at(&step)),
        }
    }
}

/// Writes the state until it has come about: a fork that was under way lets v1's freezer stay at FREEZING.
fn wait_v1(dir: &Dir, state: &str) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut pause = Duration::from_micros(50);
    loop {
        dir.write("freezer.state", state)?;
        if dir.read("freezer.state")? == state {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}
