//! The OOM killer: whether it struck, and waiting for it. See cgroup-v2.rst, `memory.events`; cgroup-v1/memory.rst, 10.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::pread;

use super::files::{Dir, keyed};
use super::group::Cgroup;
use super::limits::Version;
use crate::error::{Call, Context, Error, Result};

impl Cgroup {
    /// How many processes the OOM killer took, ever. 0 without a memory controller.
    pub fn oom_killed(&self) -> Result<u64> {
        match self.memory() {
            Some((Version::V1, dir)) => Ok(dir.key("memory.oom_control", "oom_kill")?.unwrap_or(0)),
            Some((Version::V2, dir)) => Ok(dir.key("memory.events", "oom_kill")?.unwrap_or(0)),
            None => Ok(0),
        }
    }

    /// Starts to listen; kills from now on are reported. `None` without a memory controller.
    pub fn oom_events(&self) -> Result<Option<OomEvents>> {
        let Some((version, dir)) = self.memory() else { return Ok(None) };
        let name = if version == Version::V2 { "memory.events" } else { "memory.oom_control" };
        let step = dir.step("watch", name);
        let file = match dir.file(name, OFlag::O_RDONLY) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.call("open(2)").at(&step)?,
        };
        let bell = match version {
            Version::V2 => None,
            Version::V1 => {
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let bell = EventFd::from_flags(flags).call("eventfd(2)").at(&step)?;
                let request = format!("{} {}", bell.as_raw_fd(), file.as_raw_fd());
                dir.write("cgroup.event_control", &request)?;
                Some(bell.into())
            }
        };
        let mut events = OomEvents { file, bell, seen: 0, step };
        events.seen = events.count()?.unwrap_or(0);
        Ok(Some(events))
    }

    fn memory(&self) -> Option<(Version, &Dir)> {
        match self.controller(Version::V1, "memory") {
            Some(dir) => Some((Version::V1, dir)),
            None => self.v2.as_ref().map(|(_, dir)| (Version::V2, dir)),
        }
    }
}

/// A listener for kills of the OOM killer in one cgroup.
#[derive(Debug)]
pub struct OomEvents {
    file: OwnedFd,
    /// v1 only: the eventfd that the kernel raises.
    bell: Option<OwnedFd>,
    seen: u64,
    step: String,
}

impl OomEvents {
    /// Waits until there were kills and says how many; `Some(0)` if the cgroup is gone, `None` after the timeout.
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<Option<u64>> {
        let deadline = timeout.map(|t| Instant::now() + t);
        loop {
            match self.count()? {
                None => return Ok(Some(0)),
                Some(now) if now > self.seen => {
                    let kills = now - self.seen;
                    self.seen = now;
                    return Ok(Some(kills));
                }
                Some(_) => {}
            }
            let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            self.listen(left)?;
        }
    }

    fn listen(&self, left: Option<Duration>) -> Result<()> {
        let millis = left.map(|left| PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        let (fd, flags) = match &self.bell {
            Some(bell) => (bell.as_fd(), PollFlags::POLLIN),
            None => (self.file.as_fd(), PollFlags::POLLPRI),
        };
        match poll(&mut [PollFd::new(fd, flags)], millis.unwrap_or(PollTimeout::NONE)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::call("poll(2)", errno).at(&self.step)),
        }
        if let Some(bell) = &self.bell {
            match nix::unistd::read(bell, &mut [0; 8]) {
                // v1 rings before it has picked its victim: look again a moment later.
                Ok(_) => std::thread::sleep(Duration::from_millis(5)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(Error::call("read(2)", errno).at(&self.step)),
            }
        }
        Ok(())
    }

    /// Kills so far; `None` if the cgroup is gone.
    fn count(&self) -> Result<Option<u64>> {
        let mut buffer = [0; 1024];
        match pread(&self.file, &mut buffer, 0) {
            Ok(n) => Ok(Some(keyed(&String::from_utf8_lossy(&buffer[..n]), "oom_kill").unwrap_or(0))),
            Err(Errno::ENODEV) => Ok(None),
            Err(errno) => Err(Error::call("pread(2)", errno).at(&self.step)),
        }
    }
}

impl AsFd for OomEvents {
    /// Readable (v1: POLLIN, v2: POLLPRI) when [`OomEvents::wait`] may have something to say.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_ref().unwrap_or(&self.file).as_fd()
    }
}
