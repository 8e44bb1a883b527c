//! Planning with systemd: the unit, its properties, and what will be written to its directory. Touches nothing.

use std::path::Path;

use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::Spec;

use super::bus::is_running;
use super::property;
use super::unit::UnitPlan;
use crate::cgroup::files::Dir;
use crate::cgroup::host::{Host, Kind};
use crate::cgroup::limits::{self, Now};
use crate::cgroup::plan::{CgroupPlan, is_needed};
use crate::cgroup::record::{Driver, Place, Record};
use crate::cgroup::{Ask, devices};
use crate::error::{Error, Result};

impl CgroupPlan {
    /// Reads `/linux/cgroupsPath` as `slice:prefix:name`, `/linux/resources` and the annotations.
    pub(in crate::cgroup) fn by_systemd(spec: &Spec, id: &str, ask: &Ask) -> Result<CgroupPlan> {
        let linux = spec.linux().as_ref();
        let resources = linux.and_then(|l| l.resources().as_ref());
        let path = linux.and_then(|l| l.cgroups_path().as_deref()).filter(|p| !p.as_os_str().is_empty());
        let mut unit = UnitPlan::new(path, id, ask.rootless, spec.annotations().as_ref())?;
        let rules = devices::parse(resources.and_then(|r| r.devices().as_deref()).unwrap_or_default())?;

        let host = Host::detect()?;
        let Some(tree) = host.v2.as_ref().filter(|_| host.kind() == Kind::Unified) else {
            return Err(Error::new("the systemd cgroup driver needs a host with cgroup v2 alone")
                .hint("leave out --systemd-cgroup and give cgroupsPath as a path, /system.slice/web"));
        };
        if !is_running() && !ask.only_look {
            return Err(Error::new("systemd does not run this host")
                .hint("leave out --systemd-cgroup and give cgroupsPath as a path, /web"));
        }
        let place = Place { controllers: Vec::new(), mount: tree.mount.clone(), path: unit.path()?, own: 1 };
        let path_pointer = if path.is_some() { "/linux/cgroupsPath" } else { "" };
        refuse_existing(&unit, &place, path_pointer)?;

        let mut offer = host.offer()?;
        // A user's systemd has the controllers that the host's gave it.
        let below = Dir::named(tree.mount.join(unit.root())).read_if_there("cgroup.controllers")?;
        if let Some(text) = below {
            offer.v2 = text.split_whitespace().map(str::to_string).collect();
        }
        let limits = match resources {
            Some(resources) => limits::plan(resources, &offer, &Now::default())?,
            None => limits::Limits::default(),
        };
        let enable = offer.v2.iter().filter(|c| is_needed(c, &limits.writes)).cloned().collect();
        unit.add(property::of_limits(&limits.writes, None))?;
        if !ask.rootless {
            unit.add(property::of_devices(&rules))?;
        }
        let record = Record {
            driver: Driver::Systemd,
            v2: Some(place),
            v1: Vec::new(),
            rootless: ask.rootless,
            devices: rules,
            unit: Some(unit.record()),
        };
        let (writes, notes) = (limits.writes, limits.notes);
        Ok(CgroupPlan { record, writes, enable, notes, nothing: None, path_pointer, unit: Some(unit) })
    }
}

/// A scope of this name that is there already is somebody's; systemd would say so later, less clearly.
fn refuse_existing(unit: &UnitPlan, place: &Place, pointer: &str) -> Result<()> {
    if !unit.takes_process() || access(Path::new(&place.dir()), AccessFlags::F_OK).is_err() {
        return Ok(());
    }
    let name = unit.record().name;
    let e = Error::new(format!("unit {name} is there already"))
        .hint(format!("`systemctl status {name}` shows whose it is; choose another cgroupsPath"));
    Err(if pointer.is_empty() { e } else { e.from_config(pointer) })
}
