//! Who is inside, and signals to all of them.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::files::Dir;
use super::group::Cgroup;
use super::limits::Version;
use crate::error::{Call, Context, Error, Result};
use crate::sys::process::{pidfd_open, pidfd_signal};

/// pidfds held at once.
const BATCH: usize = 256;
/// How long killing without cgroup.kill may take.
const PATIENCE: Duration = Duration::from_secs(5);

impl Cgroup {
    /// All processes inside, those of cgroups below included, as our PID namespace numbers them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(dir) = self.any_dir() else { return Ok(Vec::new()) };
        let mut pids = Vec::new();
        let mut todo = vec![dir.path().to_path_buf()];
        while let Some(path) = todo.pop() {
            let dir = Dir::named(path);
            if let Some(text) = dir.read_if_there("cgroup.procs")? {
                // 0 is a process that our PID namespace does not show.
                pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|&pid| pid > 0));
            }
            todo.extend(children(dir.path())?);
        }
        Ok(pids)
    }

    /// Nobody is inside, nor in a cgroup below.
    pub fn is_empty(&self) -> Result<bool> {
        if let Some((_, dir)) = &self.v2
            && let Some(populated) = dir.key("cgroup.events", "populated")?
        {
            return Ok(populated == 0);
        }
        Ok(self.pids()?.is_empty())
    }

    /// Sends SIGKILL to everyone inside, frozen or forking. Does not wait for them to be gone.
    pub fn kill(&self) -> Result<()> {
        if let Some((_, dir)) = &self.v2 {
            match dir.write_raw("cgroup.kill", "1") {
                // What v1's freezer holds dies only when it is let go.
                Ok(()) => return self.thaw_v1(),
                Err(Errno::ENODEV) => return Ok(()),
                Err(Errno::ENOENT | Errno::EOPNOTSUPP) => {} // before kernel 5.14, or a threaded cgroup
                Err(errno) => return Err(dir.write_error("cgroup.kill", "1", errno)),
            }
        }
        self.kill_each()
    }

    /// Without cgroup.kill: frozen, so that nobody forks away; killed one by one; let go to die; until all are gone.
    fn kill_each(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(100);
        while !self.pids()?.is_empty() {
            if Instant::now() > deadline {
                return Err(Error::new("processes in the container's cgroup outlive SIGKILL")
                    .hint("they wait in the kernel, perhaps for a disk or a network mount"));
            }
            // It is only there to win against fork bombs: a process that cannot be frozen is killed all the same.
            let frozen = match self.controller(Version::V1, "freezer") {
                Some(dir) => dir.write_raw("freezer.state", "FROZEN").is_ok(),
                None => false,
            };
            let sent = self.signal_each(libc::SIGKILL);
            if frozen {
                self.thaw_v1()?;
            }
            if let Some((_, dir)) = &self.v2 {
                dir.write("cgroup.freeze", "0")?;
            }
            sent?;
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Sends a signal (any number) to everyone inside.
    pub fn signal_all(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL { self.kill() } else { self.signal_each(signal) }
    }

    fn signal_each(&self, signal: i32) -> Result<()> {
        for batch in self.pids()?.chunks(BATCH) {
            let mut open = Vec::with_capacity(batch.len());
            for &pid in batch {
                match pidfd_open(Pid::from_raw(pid)) {
                    Ok(fd) => open.push((pid, fd)),
                    Err(Errno::ESRCH | Errno::EINVAL) => {}
                    Err(errno) => return Err(Error::call("pidfd_open(2)", errno).at(format!("signal {pid}"))),
                }
            }
            // A number that is still listed after its descriptor was opened is no stranger's.
            let still: HashSet<i32> = self.pids()?.into_iter().collect();
            for (pid, fd) in open.iter().filter(|(pid, _)| still.contains(pid)) {
                match pidfd_signal(fd.as_fd(), signal) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    result => {
                        result.call("pidfd_send_signal(2)").at(format!("send signal {signal} to {pid}"))?
                    }
                }
            }
        }
        Ok(())
    }

    fn thaw_v1(&self) -> Result<()> {
        let Some(dir) = self.controller(Version::V1, "freezer") else { return Ok(()) };
        match dir.write_raw("freezer.state", "THAWED") {
            Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => Ok(()),
            Err(errno) => Err(dir.write_error("freezer.state", "THAWED", errno)),
        }
    }

    /// The directory that tells who is inside.
    fn any_dir(&self) -> Option<&Dir> {
        self.v2.iter().chain(&self.v1).next().map(|(_, dir)| dir)
    }
}

/// The cgroups right below one; none if it is gone.
pub(super) fn children(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).call("open(2)").at(dir.display()),
    };
    let mut children = Vec::new();
    for entry in entries {
        let Ok(entry) = entry else { break }; // ENODEV: removed while we read
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok(children)
}
