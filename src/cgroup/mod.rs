//! Control groups: limits, device rules, freezing, killing, statistics. `/linux/cgroupsPath`, `/linux/resources`.
//!
//! cgroup v2 comes first: one directory, entered by clone3(2). On legacy and hybrid hosts the container has a
//! directory in every v1 hierarchy as well, for isolation and statistics. Order matters: limits and device rules
//! are in force before the first process is inside. With `--systemd-cgroup` systemd makes the directory. What is made is found again from the [`Record`] alone.
//! Words: a *hierarchy* is one mounted cgroup filesystem, the *cgroup2 tree* the one of version 2.

mod apply;
mod devices;
mod enter;
mod files;
mod freeze;
mod group;
mod host;
mod limits;
mod make;
mod oom;
mod plan;
mod record;
mod remove;
mod signal;
mod stats;
mod systemd;
#[cfg(test)]
mod tests;
mod v1;
mod v2;

pub use devices::{Kind as DeviceKind, Rule as DeviceRule};
pub use enter::{EnterV1, open_tasks};
pub use freeze::is_frozen;
pub use group::Cgroup;
pub use host::{Host, Kind as HostKind};
pub use limits::Version;
pub use oom::OomEvents;
pub use plan::CgroupPlan;
pub use record::{Driver, MountPoint, Place, Record};
pub use stats::Stats;
pub use systemd::{Manager, Reached, Starting, Unit, UnitPlan};

/// What the command line says about cgroups.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// `--systemd-cgroup`: let systemd make the cgroup.
    pub systemd: bool,
    /// `--cgroup-manager disabled`: make none. A path is passed over, device rules are with a warning; limits are refused.
    pub none: bool,
    /// The caller has no rights over devices (it is not root, or root of a user namespace): rules are skipped.
    pub rootless: bool,
    /// Nothing will be made, so that the caller needs no right to: `myrt plan`.
    pub only_look: bool,
}
