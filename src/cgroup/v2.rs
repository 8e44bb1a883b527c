//! The cgroup2 tree: directories from the top down, controllers only along the container's path.

use nix::errno::Errno;

use super::files::{Dir, keyed};
use super::make::Made;
use super::record::Place;
use crate::error::{Error, Result};

/// Makes the container's directory and enables controllers for it; those of `needed` must be there.
pub(super) fn make(place: &Place, enable: &[String], needed: &[String], made: &mut Made) -> Result<Dir> {
    made.make(place)?;
    enable_controllers(place, enable, needed)?;
    open(place)
}

pub(super) fn open(place: &Place) -> Result<Dir> {
    let path = place.dir();
    let step = format!("open {}", path.display());
    Dir::open(path).map_err(|errno| Error::call("open(2)", errno).at(step))
}

/// Refuses a cgroup in which a new process would hang or meet strangers.
pub(super) fn check_usable(dir: &Dir, may_be_populated: bool) -> Result<()> {
    let events = dir.read("cgroup.events")?;
    let name = dir.path().display();
    if keyed(&events, "frozen") == Some(1) {
        return Err(Error::new(format!("cgroup {name} is frozen: a container would hang in it"))
            .hint("thaw it or its parent (write 0 to cgroup.freeze), or choose another cgroupsPath"));
    }
    if keyed(&events, "populated") == Some(1) && !may_be_populated {
        return Err(Error::new(format!("cgroup {name} has processes in it")).hint(
            "left by a crash? write 1 to its cgroup.kill and remove it; else choose another cgroupsPath",
        ));
    }
    Ok(())
}

/// Enables controllers from the root down to the parent of the container's directory.
///
/// Only what `needed` names must succeed; the rest is for statistics. A parent that offers everything already
/// costs one read.
pub(super) fn enable_controllers(place: &Place, enable: &[String], needed: &[String]) -> Result<()> {
    if enable.is_empty() {
        return Ok(());
    }
    let mut parents = place.all_dirs();
    parents.pop();
    for parent in std::iter::once(place.mount.clone()).chain(parents) {
        let parent = Dir::named(parent);
        let on = parent.read("cgroup.subtree_control")?;
        let is_off = |c: &&String| !on.split(' ').any(|o| o == c.as_str());
        let missing: Vec<&String> = enable.iter().filter(is_off).collect();
        if missing.is_empty() || parent.write_raw("cgroup.subtree_control", &plus(&missing)).is_ok() {
            continue;
        }
        for controller in missing {
            let Err(errno) = parent.write_raw("cgroup.subtree_control", &plus(&[controller])) else {
                continue;
            };
            if needed.contains(controller) {
                let error = parent.write_error("cgroup.subtree_control", &format!("+{controller}"), errno);
                return Err(error.hint(hint(errno)));
            }
        }
    }
    Ok(())
}

fn plus(controllers: &[&String]) -> String {
    controllers.iter().map(|c| format!("+{c}")).collect::<Vec<_>>().join(" ")
}

fn hint(errno: Errno) -> &'static str {
    match errno {
        Errno::EBUSY => {
            "a cgroup with processes cannot hand controllers down; choose a cgroupsPath elsewhere"
        }
        Errno::EACCES | Errno::EPERM => "this controller is not delegated to you",
        _ => "the parent cgroup does not offer this controller",
    }
}
