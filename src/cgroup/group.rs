//! A container's cgroup that exists: made, opened again, joined, updated, removed.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use super::devices::{self, Rule};
use super::files::Dir;
use super::limits::{self, Now, Offer, Version, Write};
use super::make::Made;
use super::plan::CgroupPlan;
use super::record::{MountPoint, Place, Record};
use super::systemd::{self, UnitPlan};
use super::{apply, v1, v2};
use crate::error::{Call, Context, Error, Result};
use crate::sys::bpf;

/// The cgroup of a container: a directory in each hierarchy.
#[derive(Debug)]
pub struct Cgroup {
    pub(super) v2: Option<(Place, Dir)>,
    pub(super) v1: Vec<(Place, Dir)>,
}

impl Cgroup {
    pub(super) fn create(plan: &CgroupPlan) -> Result<Cgroup> {
        let mut made = Made::default();
        Cgroup::build(plan, &mut made).map_err(|error| made.undo(error))
    }

    fn build(plan: &CgroupPlan, made: &mut Made) -> Result<Cgroup> {
        let record = &plan.record;
        let mut cgroup = Cgroup { v2: None, v1: Vec::with_capacity(record.v1.len()) };
        if let Some(place) = &record.v2 {
            let dir = v2::make(place, &plan.enable, &needed(&plan.writes), made)?;
            // A new directory right below the root can be neither populated nor frozen.
            if !made.has(place) || place.path.components().count() > 1 {
                v2::check_usable(&dir, !record.v1.is_empty())?;
            }
            cgroup.v2 = Some((place.clone(), dir));
        }
        for place in &record.v1 {
            cgroup.v1.push((place.clone(), v1::make(place, made)?));
        }
        apply::all(&cgroup, &plan.writes)?;
        if !record.rootless {
            cgroup.set_devices(None, &record.devices)?;
        }
        Ok(cgroup)
    }

    /// Enters the directory that systemd has made and writes what systemd has no word for.
    ///
    /// `new` if it was made for us; `pid` is in it already, or is put there if it is a slice's.
    pub(super) fn in_unit(plan: &CgroupPlan, new: bool, pid: i32) -> Result<Cgroup> {
        let Some(place) = &plan.record.v2 else { return Err(Error::new("no cgroup2 tree")) };
        let dir = v2::open(place)?;
        if !new {
            v2::check_usable(&dir, false)?;
        }
        v2::enable_controllers(place, &plan.enable, &needed(&plan.writes))?;
        let cgroup = Cgroup { v2: Some((place.clone(), dir)), v1: Vec::new() };
        apply::all(&cgroup, &plan.writes)?;
        if !plan.record.rootless {
            cgroup.set_devices(None, &plan.record.devices)?;
        }
        match plan.unit.as_ref().is_some_and(UnitPlan::takes_process) {
            true => cgroup.check_inside(pid)?,
            false => cgroup.join_all(pid)?,
        }
        Ok(cgroup)
    }

    /// Opens what the record names. `None` if nothing of it is there any more.
    ///
    /// A container that has no cgroup (its plan said so) opens as one without directories.
    pub fn open(record: &Record) -> Result<Option<Cgroup>> {
        let mut cgroup = Cgroup { v2: None, v1: Vec::new() };
        if let Some(place) = &record.v2 {
            match Dir::open(place.dir()) {
                Ok(dir) => cgroup.v2 = Some((place.clone(), dir)),
                Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::call("open(2)", errno).at(place.dir().display())),
            }
        }
        let v1 = record.v1.iter().map(|place| (place.clone(), Dir::named(place.dir())));
        cgroup.v1 = match cgroup.v2 {
            // One look tells for all: they come and go together.
            Some(_) => v1.collect(),
            None => v1.filter(|(_, dir)| dir.path().exists()).collect(),
        };
        let nothing_there = cgroup.v2.is_none() && cgroup.v1.is_empty();
        let nothing_named = record.v2.is_none() && record.v1.is_empty();
        Ok((nothing_named || !nothing_there).then_some(cgroup))
    }

    /// The directory for clone3(2) with CLONE_INTO_CGROUP: the one in the cgroup2 tree.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().and_then(|(_, dir)| dir.fd())
    }

    /// Moves a process into every hierarchy, for one that was not cloned into the cgroup.
    pub fn join_all(&self, pid: i32) -> Result<()> {
        let mut dirs = self.v2.iter().chain(&self.v1);
        dirs.try_for_each(|(_, dir)| v1::join(dir, pid)).at(format!("move {pid} into its cgroup"))
    }

    /// Where the hierarchies can be bound from, the cgroup2 tree last.
    pub fn mount_points(&self) -> Vec<MountPoint> {
        let point = |(place, _): &(Place, Dir)| MountPoint {
            controllers: place.controllers.clone(),
            mount: place.mount.clone(),
            dir: place.dir(),
        };
        self.v1.iter().chain(&self.v2).map(point).collect()
    }

    /// Changes what is named and nothing else; device rules, if any are given, take the place of all earlier ones.
    ///
    /// Refuses before anything is written what planning would refuse. The record learns the new device rules.
    pub fn update(&self, resources: &LinuxResources, record: &mut Record) -> Result<()> {
        let offer = self.offer()?;
        let limits = limits::plan(resources, &offer, &self.now(resources)?)?;
        let rules = resources.devices().as_deref().filter(|rules| !rules.is_empty());
        let rules = rules.map(devices::parse).transpose()?;
        if let Some(memory) = resources.memory() {
            apply::check_before_update(self, memory)?;
        }
        if let Some((place, _)) = &self.v2 {
            let needed = needed(&limits.writes);
            v2::enable_controllers(place, &needed, &needed)?;
        }
        if rules.is_some() && record.rootless {
            return Err(Error::new("device rules cannot be changed without rights over devices")
                .from_config("/linux/resources/devices"));
        }
        if let Some(unit) = &record.unit {
            let mut properties = systemd::of_limits(&limits.writes, self.cpu_period()?);
            properties.extend(rules.iter().flat_map(|rules| systemd::of_devices(rules)));
            unit.set(&properties)?;
        }
        apply::all(self, &limits.writes)?;
        if let Some(rules) = rules {
            self.set_devices(Some(&record.devices), &rules)?;
            record.devices = rules;
        }
        Ok(())
    }

    fn offer(&self) -> Result<Offer> {
        let mut offer = Offer { unified: self.v2.is_some(), ..Offer::default() };
        offer.v1 = self.v1.iter().flat_map(|(place, _)| place.controllers.iter().cloned()).collect();
        if let Some((place, _)) = &self.v2 {
            let text = Dir::named(place.mount.clone()).read("cgroup.controllers")?;
            offer.v2 = text.split_whitespace().map(str::to_string).collect();
        }
        Ok(offer)
    }

    /// The halves of pairs that the update does not name.
    fn now(&self, resources: &LinuxResources) -> Result<Now> {
        let mut now = Now::default();
        let Some((_, dir)) = &self.v2 else { return Ok(now) };
        let number = |text: &str| text.parse().unwrap_or(-1);
        let memory = resources.memory().filter(|m| m.swap().unwrap_or(0) > 0 && m.limit().unwrap_or(0) == 0);
        if memory.is_some() {
            now.memory = dir.read_if_there("memory.max")?.map(|text| number(text.trim()));
        }
        let cpu = resources.cpu().as_ref();
        if cpu.is_some_and(|c| c.period().unwrap_or(0) > 0 && c.quota().unwrap_or(0) == 0) {
            let text = dir.read_if_there("cpu.max")?;
            now.quota = text.and_then(|text| text.split_whitespace().next().map(number));
        }
        Ok(now)
    }

    /// The CPU period in force, in microseconds.
    fn cpu_period(&self) -> Result<Option<u64>> {
        let Some((_, dir)) = &self.v2 else { return Ok(None) };
        let text = dir.read_if_there("cpu.max")?;
        Ok(text.and_then(|text| text.split_whitespace().nth(1)?.parse().ok()))
    }

    /// Puts device rules in force: v1's own controller where there is one, else a filter on the cgroup2 tree.
    fn set_devices(&self, old: Option<&[Rule]>, new: &[Rule]) -> Result<()> {
        if let Some((_, dir)) = self.v1.iter().find(|(place, _)| place.has("devices")) {
            return v1::set_devices(dir, old, new);
        }
        let rules = devices::with_defaults(new);
        match &self.v2 {
            Some((_, dir)) => set_filter(dir, &rules, old.is_some()).from_config("/linux/resources/devices"),
            None if new.is_empty() || self.v1.is_empty() => Ok(()),
            None => Err(Error::new("this host has neither a devices controller nor a cgroup2 tree")
                .from_config("/linux/resources/devices")),
        }
    }

    /// The directory in which a write belongs.
    pub(super) fn dir_of(&self, write: &Write) -> Result<&Dir> {
        self.controller(write.version, &write.controller)
            .ok_or_else(|| {
                Error::new(format!("the container's cgroup has no {} controller", write.controller))
            })
            .from_config(&write.pointer)
    }

    /// The directory of a controller.
    pub(super) fn controller(&self, version: Version, controller: &str) -> Option<&Dir> {
        match version {
            Version::V2 => self.v2.as_ref().map(|(_, dir)| dir),
            Version::V1 => self.v1.iter().find(|(place, _)| place.has(controller)).map(|(_, dir)| dir),
        }
    }
}

/// Controllers of the cgroup2 tree without which a write fails.
fn needed(writes: &[Write]) -> Vec<String> {
    let mut names: Vec<String> = writes
        .iter()
        .filter(|w| w.version == Version::V2 && w.controller != "cgroup")
        .map(|w| w.controller.clone())
        .collect();
    names.dedup();
    names
}

/// Hangs the filter on the cgroup; an earlier one of ours is replaced in one step, also under running processes.
fn set_filter(dir: &Dir, rules: &[Rule], replace: bool) -> Result<()> {
    let step = format!("device filter of cgroup {}", dir.path().display());
    let cgroup = dir.fd().ok_or_else(|| Error::new("the directory is not open").at(&step))?;
    let old = match replace {
        true => bpf::attached_device_filter(cgroup).call("bpf(2)").at(&step)?,
        false => None,
    };
    if old.is_none() && devices::allows_everything(rules) {
        return Ok(());
    }
    let program = devices::program::compile(rules)?;
    let explain = |errno: Errno| {
        let error = Error::call("bpf(2)", errno).at(&step);
        if errno == Errno::EPERM {
            error.hint("loading a device filter needs CAP_BPF or CAP_SYS_ADMIN in the first user namespace")
        } else {
            error
        }
    };
    let filter = bpf::load_device_filter(&program).map_err(explain)?;
    bpf::attach_device_filter(cgroup, filter.as_fd(), old.as_ref().map(AsFd::as_fd)).map_err(explain)
}
