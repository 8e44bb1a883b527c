//! Planning: where the container's cgroup will be and what will be written there. Touches nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access, geteuid};
use oci_spec::runtime::Spec;

use super::Ask;
use super::devices;
use super::group::Cgroup;
use super::host::{self, Host, Kind, Tree};
use super::limits::{self, Now, Write};
use super::record::{Driver, Place, Record};
use super::systemd::UnitPlan;
use super::v2;
use crate::error::{Error, Result};

/// The container's cgroup as it will be.
#[derive(Debug, Clone)]
pub struct CgroupPlan {
    pub(super) record: Record,
    pub(super) writes: Vec<Write>,
    /// Controllers of the cgroup2 tree to enable for our path.
    pub(super) enable: Vec<String>,
    pub(super) notes: Vec<String>,
    /// Why there will be no cgroup.
    pub(super) nothing: Option<String>,
    pub(super) path_pointer: &'static str,
    /// systemd makes it.
    pub(super) unit: Option<UnitPlan>,
}

/// Controllers that are enabled wherever the host has them: statistics, OOM reports and engines read their files.
const ACCOUNTING: [&str; 4] = ["cpu", "io", "memory", "pids"];

impl CgroupPlan {
    /// Reads `/linux/cgroupsPath` and `/linux/resources` and refuses what this host cannot do.
    ///
    /// An absolute path counts from the root of each hierarchy. A relative one, and `id` if there is none, is put
    /// below the caller's own cgroup in v1 and beside it in the cgroup2 tree, where a cgroup with processes
    /// cannot hand controllers to children.
    pub fn new(spec: &Spec, id: &str, ask: &Ask) -> Result<CgroupPlan> {
        if ask.systemd {
            return CgroupPlan::by_systemd(spec, id, ask);
        }
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|l| l.resources().as_ref());
        let asked_path =
            linux.and_then(|l| l.cgroups_path().as_deref()).filter(|p| !p.as_os_str().is_empty());
        let (absolute, inner) = host::split(asked_path.unwrap_or(Path::new(id)))?;
        let limited = resources.is_some_and(asks_for_limits);
        let rules = resources.and_then(|r| r.devices().as_deref()).unwrap_or_default();
        if ask.none {
            // Podman leaves its device rules in the configuration when it disables cgroups.
            let unenforced = devices::parse(rules)?;
            let why = "--cgroup-manager disabled".to_string();
            let mut plan = CgroupPlan::without(why, limited, None, Record::default())?;
            if !unenforced.is_empty() {
                plan.notes.push("without a cgroup the device rules are not enforced".to_string());
            }
            return Ok(plan);
        }
        let host = Host::detect()?;
        let own = if absolute { String::new() } else { host::read_proc("/proc/self/cgroup")? };
        let place = |tree: &Tree| place(tree, absolute, &inner, &own);
        let record = Record {
            driver: Driver::Cgroupfs,
            v2: host.v2.as_ref().map(place),
            v1: host.v1.iter().map(place).collect(),
            rootless: ask.rootless,
            devices: devices::parse(rules)?,
            unit: None,
        };
        if let Some(why) = cannot_make(&host, &record).filter(|_| !ask.only_look) {
            return CgroupPlan::without(why, limited, asked_path, record);
        }
        let offer = host.offer()?;
        let limits = match resources {
            Some(resources) => limits::plan(resources, &offer, &Now::default())?,
            None => limits::Limits::default(),
        };
        let enable = offer.v2.iter().filter(|c| is_needed(c, &limits.writes)).cloned().collect();
        if !ask.rootless && host.kind() != Kind::Unified {
            // What the kernel's v1 lists cannot say is refused here.
            check_v1_devices(&record)?;
        }
        let path_pointer = if asked_path.is_some() { "/linux/cgroupsPath" } else { "" };
        Ok(CgroupPlan {
            record,
            writes: limits.writes,
            enable,
            notes: limits.notes,
            nothing: None,
            path_pointer,
            unit: None,
        })
    }

    /// The state of a container without a cgroup: only if nothing was asked for.
    fn without(why: String, limits: bool, path: Option<&Path>, refused: Record) -> Result<CgroupPlan> {
        let pointer = match (limits, path, refused.devices.is_empty() || refused.rootless) {
            (true, _, _) => "/linux/resources",
            (_, Some(_), _) => "/linux/cgroupsPath",
            (_, _, false) => "/linux/resources/devices",
            (false, None, true) => "",
        };
        if !pointer.is_empty() {
            return Err(Error::new(why)
                .hint(
                    "without a cgroup no limit can be set; remove the resources, or have a cgroup delegated",
                )
                .from_config(pointer));
        }
        Ok(CgroupPlan {
            record: Record { driver: Driver::None, v2: None, v1: Vec::new(), ..refused },
            writes: Vec::new(),
            enable: Vec::new(),
            notes: Vec::new(),
            nothing: Some(why),
            path_pointer: "",
            unit: None,
        })
    }

    /// What belongs into the state before anything is made.
    pub fn record(&self) -> Record {
        self.record.clone()
    }

    /// Refuses a cgroup that is there already and has processes in it, or is frozen: before it is recorded as ours, so
    /// that nobody takes it back with the strangers in it.
    pub fn refuse_strangers(&self) -> Result<()> {
        match &self.record.v2 {
            Some(place) if place.own == 0 && self.unit.is_none() => {
                v2::check_usable(&v2::open(place)?, !self.record.v1.is_empty())
            }
            _ => Ok(()),
        }
    }

    /// Makes it: the directories, the limits, the device filter; nobody is inside yet.
    ///
    /// On failure everything that was made is removed again.
    pub fn create(&self) -> Result<Cgroup> {
        Cgroup::create(self)
    }

    /// The child is in it from its first moment on: a cgroup namespace made with it has its root there.
    pub fn is_entered_by_clone(&self) -> bool {
        self.record.v1.is_empty() && self.unit.is_none()
    }

    /// systemd's part, if systemd makes the cgroup.
    pub fn unit(&self) -> Option<&UnitPlan> {
        self.unit.as_ref()
    }

    /// Makes what is left to be made once systemd has made the unit; its directory is then found.
    pub fn enter(&self, new: bool, pid: i32) -> Result<Cgroup> {
        Cgroup::in_unit(self, new, pid)
    }

    /// There will be no cgroup, because nothing was asked for and nothing could be done.
    pub fn is_nothing(&self) -> bool {
        self.nothing.is_some()
    }

    /// Fields that are ignored, in words, for the log.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// One line per thing that will be done, each with the JSON pointer that asked for it ("" if none did).
    pub fn lines(&self) -> Vec<(String, String)> {
        if let Some(why) = &self.nothing {
            let none = (format!("no cgroup: {why}"), String::new());
            let notes = self.notes.iter().map(|note| (format!("note {note}"), String::new()));
            return std::iter::once(none).chain(notes).collect();
        }
        if let Some(unit) = &self.unit {
            return [unit.lines(), self.lines_of_files()].concat();
        }
        self.lines_of_files()
    }

    fn lines_of_files(&self) -> Vec<(String, String)> {
        let mut by_version: BTreeMap<u8, Vec<&Write>> = BTreeMap::new();
        for write in &self.writes {
            by_version.entry(write.version as u8).or_default().push(write);
        }
        let mut lines = Vec::new();
        let home = self.record.v2.iter().chain(&self.record.v1).next().map_or(PathBuf::new(), Place::dir);
        let hierarchies = match self.record.v1.len() {
            0 => String::new(),
            n => format!(" and in {n} v1 {}", if n == 1 { "hierarchy" } else { "hierarchies" }),
        };
        lines.push((format!("cgroup {}{hierarchies}", home.display()), self.path_pointer.to_string()));
        for write in by_version.into_values().flatten() {
            lines.push((format!("cgroup {}={}", write.file, sized(&write.value)), write.pointer.clone()));
        }
        if self.has_device_filter() {
            let count = self.record.devices.len();
            let rules = if count == 1 { "rule" } else { "rules" };
            let text = format!("cgroup device filter, {count} {rules} and the defaults");
            lines.push((text, "/linux/resources/devices".to_string()));
        }
        lines.extend(self.notes.iter().map(|note| (format!("note {note}"), String::new())));
        lines
    }

    fn has_device_filter(&self) -> bool {
        !self.record.rootless && !devices::allows_everything(&devices::with_defaults(&self.record.devices))
    }
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (text, pointer) in self.lines() {
            writeln!(f, "{}", format!("{text:<70} {pointer}").trim_end())?;
        }
        Ok(())
    }
}

/// Why no cgroup can be made here; `None` if one can.
fn cannot_make(host: &Host, record: &Record) -> Option<String> {
    if host.kind() == Kind::Nothing {
        return Some("no cgroup filesystem is mounted".to_string());
    }
    if let Some(tree) = host.trees().find(|t| t.read_only) {
        return Some(format!("{} is mounted read-only", tree.mount.display()));
    }
    // Root may write everywhere but on a read-only mount, and of v1 hierarchies mountinfo has told us that.
    let asked_v1: &[Place] = if record.v1.is_empty() || geteuid().is_root() { &[] } else { &record.v1 };
    record.v2.iter().chain(asked_v1).find_map(|place| {
        let parent = place.mount.join(place.path.ancestors().nth(place.own).unwrap_or(Path::new("")));
        let errno = access(&parent, AccessFlags::W_OK).err()?;
        Some(format!("no cgroup can be made in {}: {}", parent.display(), errno.desc().to_lowercase()))
    })
}

fn asks_for_limits(resources: &oci_spec::runtime::LinuxResources) -> bool {
    // The host offers nothing, so whatever comes out as an error or as a write was asked for.
    let everything = ["cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "rdma", "net_cls", "net_prio"];
    let offer = limits::Offer { v1: everything.map(str::to_string).to_vec(), ..limits::Offer::default() };
    limits::plan(resources, &offer, &Now::default()).map_or(true, |limits| !limits.writes.is_empty())
}

pub(super) fn is_needed(controller: &str, writes: &[Write]) -> bool {
    ACCOUNTING.contains(&controller)
        || writes.iter().any(|w| w.version == limits::Version::V2 && w.controller == controller)
}

fn check_v1_devices(record: &Record) -> Result<()> {
    if record.v1.iter().any(|place| place.has("devices")) {
        devices::v1::Policy::new(&devices::with_defaults(&record.devices))?;
    }
    Ok(())
}

/// The container's directory in one hierarchy, and how much of it is not there yet.
fn place(tree: &Tree, absolute: bool, inner: &Path, own: &str) -> Place {
    let mut path = if absolute { PathBuf::new() } else { tree.own_cgroup(own) };
    if !absolute && tree.controllers.is_empty() {
        path.pop();
    }
    path.push(inner);
    let mut missing = 1;
    for parent in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        match access(&tree.mount.join(parent), AccessFlags::F_OK) {
            Err(Errno::ENOENT) => missing += 1,
            _ => break,
        }
    }
    Place { controllers: tree.controllers.clone(), mount: tree.mount.clone(), path, own: missing }
}

/// Bytes as people read them: `67108864` is `64M`. Small and odd numbers stay.
fn sized(value: &str) -> String {
    match value.parse::<u64>() {
        Ok(n) if n >= 1 << 30 && n % (1 << 30) == 0 => format!("{}G", n >> 30),
        Ok(n) if n >= 1 << 20 && n % (1 << 20) == 0 => format!("{}M", n >> 20),
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::devices::Rule;

    fn refused() -> Record {
        Record { driver: Driver::Cgroupfs, rootless: true, ..Record::default() }
    }

    #[test]
    fn without_rights_a_container_runs_without_a_cgroup_if_nothing_was_asked_for() {
        let plan = CgroupPlan::without("read-only".into(), false, None, refused()).unwrap();
        assert!(plan.is_nothing());
        assert_eq!(plan.to_string(), "no cgroup: read-only\n");
        let cgroup = plan.create().unwrap();
        assert!(cgroup.clone_into().is_none() && cgroup.pids().unwrap().is_empty());
        cgroup.join_all(0).unwrap();
        cgroup.remove().unwrap();
        assert!(Cgroup::open(&plan.record()).unwrap().is_some());
        assert!(cgroup.freeze().unwrap_err().to_string().contains("no cgroup"));
    }

    #[test]
    fn without_rights_whatever_was_asked_for_is_an_error() {
        let error = |limits, path: Option<&str>, record| {
            let path = path.map(Path::new);
            CgroupPlan::without("read-only".into(), limits, path, record).unwrap_err().to_string()
        };
        assert!(error(true, None, refused()).contains("/linux/resources"));
        assert!(error(false, Some("/a"), refused()).contains("/linux/cgroupsPath"));
        let rule = Rule { allow: false, kind: devices::Kind::Any, major: None, minor: None, access: 7 };
        let as_root = Record { rootless: false, devices: vec![rule], ..refused() };
        assert!(error(false, None, as_root.clone()).contains("/linux/resources/devices"));
        assert!(CgroupPlan::without("".into(), false, None, Record { rootless: true, ..as_root }).is_ok());
    }

    #[test]
    fn a_read_only_mount_is_found_while_planning() {
        let host = Host::parse("35 31 0:32 / /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
        assert!(
            cannot_make(&host, &refused()).unwrap().contains("/sys/fs/cgroup/memory is mounted read-only")
        );
        assert!(cannot_make(&Host::default(), &refused()).unwrap().contains("no cgroup filesystem"));
    }

    #[test]
    fn zeros_of_engines_ask_for_nothing() {
        let asks = |json| asks_for_limits(&serde_json::from_str(json).unwrap());
        assert!(!asks(
            r#"{"cpu": {"shares": 0}, "pids": {"limit": 0}, "memory": {}, "blockIO": {"weight": 0}}"#
        ));
        assert!(asks(r#"{"pids": {"limit": 1}}"#));
        assert!(asks(r#"{"unified": {"memory.high": "1"}}"#));
    }
}
