//! v1 hierarchies: one directory in each, the cpuset filled in, the device lists, the way in.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::devices::{self, Rule, v1::Policy};
use super::files::{Dir, write_once};
use super::make::Made;
use super::record::Place;
use crate::error::{Context, Error, Result};

/// Makes the container's directory in one hierarchy.
pub(super) fn make(place: &Place, made: &mut Made) -> Result<Dir> {
    made.make(place)?;
    let dir = Dir::named(place.dir());
    if place.has("cpuset") {
        fill_cpuset(place, made.has(place))?;
    }
    if place.has("freezer") && (!made.has(place) || place.path.components().count() > 1) {
        let state = dir.read("freezer.state")?;
        if state != "THAWED" {
            let error = Error::new(format!("cgroup {} is frozen ({state})", dir.path().display()));
            return Err(error.hint("write THAWED to its freezer.state, or choose another cgroupsPath"));
        }
    }
    Ok(dir)
}

/// A new cpuset is empty and takes no process in: it gets what its parent has.
fn fill_cpuset(place: &Place, new: bool) -> Result<()> {
    let mut dirs = vec![place.mount.clone()];
    dirs.extend(place.all_dirs());
    let dirs: Vec<Dir> = dirs.into_iter().map(Dir::named).collect();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        fill(&dirs, file, new)?;
    }
    Ok(())
}

/// Fills one file of the last of these directories, and of its parents if they are empty too.
fn fill(dirs: &[Dir], file: &str, known_empty: bool) -> Result<String> {
    let Some((dir, parents)) = dirs.split_last() else { return Ok(String::new()) };
    if !known_empty {
        let value = dir.read(file)?;
        if !value.is_empty() || parents.is_empty() {
            return Ok(value);
        }
    }
    let value = fill(parents, file, false)?;
    dir.write(file, &value)?;
    Ok(value)
}

/// Brings the device lists from `old` (unknown: `None`) to `new`. Each file is opened once.
pub(super) fn set_devices(dir: &Dir, old: Option<&[Rule]>, new: &[Rule]) -> Result<()> {
    let policy = |rules: &[Rule]| Policy::new(&devices::with_defaults(rules));
    let old = old.map(policy).transpose()?;
    let lines = policy(new)?.lines(old.as_ref());
    for file in lines.chunk_by(|a, b| a.file == b.file) {
        let name = file[0].file;
        let open = dir.file(name, OFlag::O_WRONLY).map_err(|errno| Error::call("open(2)", errno));
        let open = open.at(dir.step("open", name))?;
        for line in file {
            write_once(open.as_fd(), &line.text).map_err(|errno| {
                let error = dir.write_error(name, &line.text, errno).from_config("/linux/resources/devices");
                if errno == Errno::EPERM {
                    error.hint("the parent cgroup does not allow this device")
                } else {
                    error
                }
            })?;
        }
    }
    Ok(())
}

/// Moves a process in. A task that is just being made is refused with EINVAL for a moment.
pub(super) fn join(dir: &Dir, pid: i32) -> Result<()> {
    let text = pid.to_string();
    for _ in 0..5 {
        match dir.write_raw("cgroup.procs", &text) {
            Err(Errno::EINVAL) => std::thread::sleep(Duration::from_millis(10)),
            result => return result.map_err(|errno| dir.write_error("cgroup.procs", &text, errno)),
        }
    }
    Err(dir
        .write_error("cgroup.procs", &text, Errno::EINVAL)
        .hint("a process with real-time priority needs /linux/resources/cpu/realtimeRuntime"))
}
