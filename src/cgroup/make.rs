//! Directories made, and taken back if a later step fails.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::mkdir;

use super::record::Place;
use crate::error::{Error, Result};

/// The directories that this run made, oldest first.
#[derive(Debug, Default)]
pub(super) struct Made {
    dirs: Vec<PathBuf>,
}

impl Made {
    /// Makes the container's directory, and its parents where they are missing.
    pub(super) fn make(&mut self, place: &Place) -> Result<()> {
        let dir = place.dir();
        // A neighbour's delete may take an empty parent away between our two steps: once more then.
        for _ in 0..10 {
            match self.mkdir(dir.clone()) {
                Err(Errno::ENOENT) => {}
                result => return result.map_err(|errno| refused(&dir, errno)),
            }
            let mut parents = place.all_dirs();
            parents.pop();
            for parent in parents {
                match self.mkdir(parent.clone()) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(errno) => return Err(refused(&parent, errno)),
                }
            }
        }
        Err(refused(&dir, Errno::ENOENT))
    }

    fn mkdir(&mut self, dir: PathBuf) -> nix::Result<()> {
        match mkdir(&dir, Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                self.dirs.push(dir);
                Ok(())
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// This run made the container's own directory there.
    pub(super) fn has(&self, place: &Place) -> bool {
        let dir = place.dir();
        self.dirs.contains(&dir)
    }

    /// Removes what was made, newest first; what stays behind is named in the error's hint.
    pub(super) fn undo(self, error: Error) -> Error {
        let mut left = Vec::new();
        for dir in self.dirs.iter().rev() {
            match std::fs::remove_dir(dir) {
                Ok(()) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(_) => left.push(dir.display().to_string()),
            }
        }
        if left.is_empty() { error } else { error.hint(format!("left behind: {}", left.join(" "))) }
    }
}

fn refused(dir: &std::path::Path, errno: Errno) -> Error {
    let error = Error::call("mkdir(2)", errno).at(format!("make cgroup {}", dir.display()));
    match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            error.hint("you may not make cgroups there; choose a cgroupsPath that is delegated to you")
        }
        Errno::EAGAIN => error.hint("cgroup.max.descendants or cgroup.max.depth of a parent is reached"),
        _ => error,
    }
}
