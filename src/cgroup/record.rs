//! What the state remembers of a container's cgroup: enough to find it and to remove it again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::devices::Rule;
use super::systemd::Unit;

/// Who makes the cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// This runtime, on the cgroup filesystem.
    Cgroupfs,
    /// systemd, as a unit.
    Systemd,
    /// Nobody: the container runs where its caller runs.
    None,
}

/// Written before anything is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Who made it; `exec` comes without the option that said so.
    pub driver: Driver,
    /// Its directory in the cgroup2 tree.
    pub v2: Option<Place>,
    /// Its directories in the v1 hierarchies.
    pub v1: Vec<Place>,
    /// Made by a caller without rights over devices: no filter is expected.
    pub rootless: bool,
    /// The device rules in force, without the defaults; an update of others leaves them alone.
    pub devices: Vec<Rule>,
    /// systemd's unit, if systemd made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Default for Record {
    /// No cgroup.
    fn default() -> Self {
        let (v1, devices) = (Vec::new(), Vec::new());
        Record { driver: Driver::None, v2: None, v1, rootless: false, devices, unit: None }
    }
}

impl Record {
    /// Where the hierarchies can be bound from, the cgroup2 tree last.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        let point = |place: &Place| MountPoint {
            controllers: place.controllers.clone(),
            mount: place.mount.clone(),
            dir: place.dir(),
        };
        self.v1.iter().chain(&self.v2).map(point).collect()
    }

    /// The files of the v1 hierarchies through which a process moves itself in: see [`super::EnterV1`].
    pub fn entrances(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.v1.iter().map(|place| place.dir().join("tasks"))
    }
}

/// A cgroup's directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The hierarchy's controllers (`cpu`, `cpuacct`; `name=systemd`); empty for the cgroup2 tree.
    pub controllers: Vec<String>,
    /// Where the hierarchy is mounted.
    pub mount: PathBuf,
    /// The directory below the mount, without a leading slash.
    pub path: PathBuf,
    /// How many components at the end of `path` did not exist before: the container's and parents made for it.
    pub own: usize,
}

impl Place {
    /// The directory in the host's view.
    pub fn dir(&self) -> PathBuf {
        self.mount.join(&self.path)
    }

    /// The directory and the parents that were made for it, innermost first, the directory itself always.
    pub(super) fn own_dirs(&self) -> impl Iterator<Item = PathBuf> + '_ {
        let count = self.own.max(1);
        self.path.ancestors().take(count).filter(|p| !p.as_os_str().is_empty()).map(|p| self.mount.join(p))
    }

    /// Serves this controller.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }

    /// Every directory from the first below the mount to the container's own, outermost first.
    pub(super) fn all_dirs(&self) -> Vec<PathBuf> {
        let mut dirs: Vec<PathBuf> =
            self.path.ancestors().filter(|p| *p != Path::new("")).map(|p| self.mount.join(p)).collect();
        dirs.reverse();
        dirs
    }
}

/// Where a hierarchy can be shown to the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// The hierarchy's controllers; empty for the cgroup2 tree.
    pub controllers: Vec<String>,
    /// Where the host has it mounted.
    pub mount: PathBuf,
    /// The container's own directory in it, in the host's view.
    pub dir: PathBuf,
}
