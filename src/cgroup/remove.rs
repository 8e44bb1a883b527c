//! Removing a container's cgroup: what is below it, itself, and parents that were made for it alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::group::Cgroup;
use super::record::Place;
use super::signal::children;
use crate::error::{Error, Result};

/// How long the last processes get to be gone, for all hierarchies together.
const PATIENCE: Duration = Duration::from_secs(1);

impl Cgroup {
    /// Removes it in every hierarchy. Whoever is inside must be dead or dying; it is an error if it stays.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let places: Vec<&Place> = self.v2.iter().chain(&self.v1).map(|(place, _)| place).collect();
        let mut first_error = None;
        // One hierarchy that stays busy does not keep the others.
        for place in places {
            if let Err(error) = remove(place, deadline) {
                first_error.get_or_insert(error);
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    /// Removes it if nobody is inside: one rmdir(2) in each hierarchy, and nothing is signalled. Otherwise false,
    /// and what is not empty is still there.
    pub fn remove_if_empty(&self) -> Result<bool> {
        for (place, _) in self.v2.iter().chain(&self.v1) {
            let mut dirs = place.own_dirs();
            let Some(own) = dirs.next() else { continue };
            match rmdir(&own) {
                Ok(()) | Err(Errno::ENOENT) => remove_parents(dirs),
                Err(Errno::EBUSY | Errno::ENOTEMPTY) => return Ok(false),
                Err(errno) => return Err(stays(&own, errno)),
            }
        }
        Ok(true)
    }
}

fn remove(place: &Place, deadline: Instant) -> Result<()> {
    let mut dirs = place.own_dirs();
    let Some(own) = dirs.next() else { return Ok(()) };
    let mut pause = Duration::from_micros(100);
    loop {
        match rmdir(&own) {
            Ok(()) | Err(Errno::ENOENT) => break,
            Err(Errno::EBUSY | Errno::ENOTEMPTY) => remove_below(&own)?,
            Err(errno) => return Err(stays(&own, errno)),
        }
        if Instant::now() > deadline {
            return Err(stays(&own, Errno::EBUSY));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    remove_parents(dirs);
    Ok(())
}

/// Parents made for this container; another one that moved in keeps them.
fn remove_parents(mut dirs: impl Iterator<Item = PathBuf>) {
    while dirs.next().is_some_and(|parent| rmdir(&parent).is_ok()) {}
}

/// Removes the cgroups below, deepest first. What is busy stays for the next round.
fn remove_below(dir: &Path) -> Result<()> {
    let mut all: Vec<PathBuf> = children(dir)?;
    let mut next = 0;
    while next < all.len() {
        let more = children(&all[next])?;
        all.extend(more);
        next += 1;
    }
    for below in all.iter().rev() {
        match rmdir(below) {
            Ok(()) | Err(Errno::ENOENT | Errno::EBUSY | Errno::ENOTEMPTY) => {}
            Err(errno) => return Err(stays(below, errno)),
        }
    }
    Ok(())
}

fn rmdir(dir: &Path) -> nix::Result<()> {
    unlinkat(AT_FDCWD, dir, UnlinkatFlags::RemoveDir)
}

fn stays(dir: &Path, errno: Errno) -> Error {
    let error = Error::call("rmdir(2)", errno).at(format!("remove cgroup {}", dir.display()));
    if errno == Errno::EBUSY {
        error.hint("processes are still in it or below it: see cgroup.procs")
    } else {
        error
    }
}
