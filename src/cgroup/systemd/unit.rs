//! The container's unit: planned, started, changed, stopped.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::bus::{Answer, Bus, Manager, words};
use super::name::Name;
use super::property::{self, Property};
use super::value::{Reader, Value};
use crate::cgroup::host::read_proc;
use crate::error::{Context, Error, Result};

const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// What the state remembers of the unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// Whose systemd has it.
    pub manager: Manager,
    /// It was started for this container, which takes it along; false for a slice that was there before.
    pub own: bool,
}

/// The unit as it will be.
#[derive(Debug, Clone)]
pub struct UnitPlan {
    name: Name,
    manager: Manager,
    properties: Vec<Property>,
}

impl UnitPlan {
    /// Reads the path and the annotations.
    pub fn new(
        path: Option<&Path>,
        id: &str,
        rootless: bool,
        annotations: Option<&HashMap<String, String>>,
    ) -> Result<UnitPlan> {
        let manager = Manager::of_caller(rootless);
        let default_slice = if manager == Manager::System { "system.slice" } else { "user.slice" };
        let name = Name::new(path, id, default_slice)?;
        let mut plan = UnitPlan { manager, properties: base(&name, id), name };
        for annotated in property::of_annotations(annotations)? {
            plan.properties.retain(|property| property.name != annotated.name);
            plan.properties.push(annotated);
        }
        Ok(plan)
    }

    /// Adds what the configuration asks for; an annotation that wants to say otherwise is refused.
    pub fn add(&mut self, properties: Vec<Property>) -> Result<()> {
        for property in &properties {
            let double = self.properties.iter().find(|other| other.name == property.name);
            if let Some(annotated) = double.filter(|other| other.pointer.starts_with("/annotations")) {
                return Err(Error::new(format!("{} is set by {} already", property.name, property.pointer))
                    .hint("leave the annotation out, or the resource")
                    .from_config(&annotated.pointer));
            }
        }
        self.properties.retain(|own| properties.iter().all(|property| property.name != own.name));
        self.properties.extend(properties);
        Ok(())
    }

    /// The unit's directory, without a leading slash, below the mount of the cgroup2 tree.
    pub fn path(&self) -> Result<PathBuf> {
        Ok(self.root().join(self.name.path()?))
    }

    /// The cgroup of the manager that has the unit.
    pub fn root(&self) -> PathBuf {
        root(self.manager)
    }

    /// What the state remembers.
    pub fn record(&self) -> Unit {
        Unit { name: self.name.unit.clone(), manager: self.manager, own: true }
    }

    /// The unit starts with the container's process in it; a slice starts empty.
    pub fn takes_process(&self) -> bool {
        !self.name.is_slice()
    }

    /// Connects to systemd; nothing is asked yet and nothing awaited.
    pub fn reach(&self) -> Result<Reached<'_>> {
        let mut bus = Bus::open(self.manager)?;
        bus.watch(&self.name.unit);
        Ok(Reached { plan: self, bus })
    }

    /// A line for each property that the configuration asked for, and the rest in one.
    pub fn lines(&self) -> Vec<(String, String)> {
        let whose = if self.manager == Manager::System { "" } else { " of the user's systemd" };
        let kind = if self.name.is_slice() { "slice" } else { "scope" };
        let (asked, own): (Vec<_>, Vec<_>) = self.properties.iter().partition(|p| !p.pointer.is_empty());
        let own: Vec<String> =
            own.iter().filter(|p| p.name != "DeviceAllow").map(ToString::to_string).collect();
        let pointer = if self.name.given { "/linux/cgroupsPath" } else { "" };
        let path = self.name.path().unwrap_or_default();
        let first = format!("{kind} {}{whose}  {}", path.display(), own.join(" "));
        let mut lines = vec![(first, pointer.to_string())];
        let shown = asked.iter().filter(|p| !p.is_empty_list());
        lines.extend(shown.map(|property| (format!("property {property}"), property.pointer.clone())));
        lines
    }
}

/// What every unit of a container has; see runc's systemd driver, whose properties engines know.
fn base(name: &Name, id: &str) -> Vec<Property> {
    let on = |name| Property::new(name, Value::Bool(true));
    let mut list = vec![Property::new("Description", Value::Text(description(id)))];
    if name.is_slice() {
        list.push(Property::new("Wants", Value::texts([&name.slice])));
    } else {
        list.push(Property::new("Slice", Value::text(&name.slice)));
        list.push(on("Delegate"));
        // Nothing of a container stays in systemd's memory, not even after the OOM killer has been there.
        list.push(Property::new("CollectMode", Value::text("inactive-or-failed")));
    }
    list.extend(["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"].map(on));
    list.push(Property::new("DefaultDependencies", Value::Bool(false)));
    // Without a word about it systemd would put its own default on the container.
    list.push(Property::new("TasksMax", Value::U64(u64::MAX)));
    list
}

fn description(id: &str) -> String {
    format!("myrt container {id}")
}

/// Where a manager's own cgroup is, in the caller's view, without a leading slash.
///
/// The host's first process sits in the `init.scope` of its systemd. A user's systemd is found from where the caller
/// is, or else where the host's systemd puts it.
fn root(manager: Manager) -> PathBuf {
    let unified = |file: &str| {
        let text = read_proc(file).unwrap_or_default();
        let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        path.to_string()
    };
    match manager {
        Manager::System => PathBuf::from(
            unified("/proc/1/cgroup").strip_suffix("init.scope").unwrap_or_default().trim_end_matches('/'),
        ),
        Manager::User => {
            let uid = host_uid();
            let service = format!("user@{uid}.service");
            let own = PathBuf::from(unified("/proc/self/cgroup"));
            let above = own.ancestors().find(|path| path.ends_with(&service)).map(Path::to_path_buf);
            above.unwrap_or_else(|| format!("user.slice/user-{uid}.slice/{service}").into())
        }
    }
}

/// The caller's user id as the host counts, also from inside a user namespace.
fn host_uid() -> u32 {
    let own = geteuid().as_raw();
    let map = read_proc("/proc/self/uid_map").unwrap_or_default();
    let outside = map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u32>().ok());
        let (inside, outside, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let offset = own.checked_sub(inside).filter(|&offset| offset < count)?;
        outside.checked_add(offset)
    });
    outside.unwrap_or(own)
}

/// systemd is reached: the child may be made.
#[derive(Debug)]
pub struct Reached<'a> {
    plan: &'a UnitPlan,
    bus: Bus,
}

impl<'a> Reached<'a> {
    /// Asks for the unit, with this process in it if it is a scope.
    pub fn start(mut self, pid: i32) -> Result<Starting<'a>> {
        let serial = ask(&mut self.bus, self.plan, pid);
        self.bus.send().at(format!("start {}", self.plan.name.unit))?;
        Ok(Starting { plan: self.plan, bus: self.bus, pid, serial, refused: false })
    }
}

fn ask(bus: &mut Bus, plan: &UnitPlan, pid: i32) -> u32 {
    let mut properties = plan.properties.clone();
    if !plan.name.is_slice() {
        let pids = Value::Array("u".into(), vec![Value::U32(pid as u32)]);
        properties.push(Property::new("PIDs", pids));
    }
    let arguments = [
        Value::text(&plan.name.unit),
        Value::text("replace"),
        property::argument(&properties),
        Value::Array("(sa(sv))".into(), Vec::new()),
    ];
    bus.call("StartTransientUnit", &arguments)
}

/// systemd is at work.
#[derive(Debug)]
pub struct Starting<'a> {
    plan: &'a UnitPlan,
    bus: Bus,
    pid: i32,
    serial: u32,
    refused: bool,
}

impl Starting<'_> {
    /// Waits until the unit is there. False if it was there before, which only a slice may be.
    pub fn wait(&mut self) -> Result<bool> {
        let name = &self.plan.name.unit;
        let at = format!("start {name}");
        let mut answer = self.bus.answer(self.serial).at(&at)?;
        if matches!(&answer, Answer::Error(error, _) if error == EXISTS) {
            // A failed one of the same name may have been left by another runtime: systemd forgets it when told to.
            self.bus.call("ResetFailedUnit", &[Value::text(name)]);
            self.serial = ask(&mut self.bus, self.plan, self.pid);
            answer = self.bus.answer(self.serial).at(&at)?;
        }
        let (body, sender) = match answer {
            Answer::Return(body, sender) => (body, sender),
            Answer::Error(error, _) if error == EXISTS && self.plan.name.is_slice() => {
                self.refused = true;
                return Ok(false);
            }
            Answer::Error(error, text) => {
                self.refused = true;
                let e = explain(&error, &text, name).at(&at);
                return Err(if self.plan.name.given { e.from_config("/linux/cgroupsPath") } else { e });
            }
        };
        let job = Reader::new(&body).text()?.to_string();
        match self.bus.result_of(&job, &sender).at(&at)?.as_str() {
            "done" => Ok(true),
            result => Err(Error::new(format!("systemd says {result:?}"))
                .at(&at)
                .hint(format!("`systemctl status {name}` and `journalctl -u {name}` may say why"))),
        }
    }

    /// systemd made nothing: whatever has the name is somebody else's.
    pub fn was_refused(&self) -> bool {
        self.refused
    }
}

fn explain(error: &str, text: &str, name: &str) -> Error {
    let e = Error::new(format!("systemd refuses: {}", words(error, text)));
    match error {
        EXISTS => {
            e.hint(format!("`systemctl status {name}` shows the unit that has the name; choose another"))
        }
        "org.freedesktop.DBus.Error.PropertyReadOnly" | "org.freedesktop.DBus.Error.UnknownProperty" => e
            .hint(
                "this systemd does not have one of the properties (244 or newer is needed), see `myrt plan`",
            ),
        _ => e.hint("`myrt plan` shows what is asked of it"),
    }
}

impl Unit {
    /// A user's systemd has it.
    pub fn is_users(&self) -> bool {
        self.manager == Manager::User
    }

    /// Tells systemd of changed limits. They are in force when this returns.
    pub fn set(&self, properties: &[Property]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let at = format!("change {}", self.name);
        let mut bus = Bus::open(self.manager).at(&at)?;
        let arguments = [Value::text(&self.name), Value::Bool(true), property::argument(properties)];
        let serial = bus.call("SetUnitProperties", &arguments);
        match bus.answer(serial).at(&at)? {
            Answer::Return(..) => Ok(()),
            Answer::Error(error, text) => Err(explain(&error, &text, &self.name).at(&at)),
        }
    }

    /// Puts a process into the unit: for a caller who may not do so by himself.
    pub fn attach(&self, pid: i32) -> Result<()> {
        let at = format!("move {pid} into {}", self.name);
        let mut bus = Bus::open(self.manager).at(&at)?;
        let pids = Value::Array("u".into(), vec![Value::U32(pid as u32)]);
        let arguments = [Value::text(&self.name), Value::text(""), pids];
        let serial = bus.call("AttachProcessesToUnit", &arguments);
        match bus.answer(serial).at(&at)? {
            Answer::Return(..) => Ok(()),
            Answer::Error(error, text) => Err(explain(&error, &text, &self.name).at(&at)),
        }
    }

    /// Stops the unit and makes systemd forget it; nothing is to be done if it has done so already.
    ///
    /// With `id`, only if it is that container's: after a crash the name may be somebody else's.
    pub fn stop(&self, id: Option<&str>) -> Result<()> {
        if !self.own {
            return Ok(());
        }
        let at = format!("stop {}", self.name);
        let mut bus = Bus::open(self.manager).at(&at)?;
        bus.watch(&self.name);
        if let Some(id) = id
            && !self.is_of(&mut bus, id).at(&at)?
        {
            return Ok(());
        }
        let stop = bus.call("StopUnit", &[Value::text(&self.name), Value::text("replace")]);
        match bus.answer(stop).at(&at)? {
            Answer::Return(body, sender) => {
                let job = Reader::new(&body).text().at(&at)?.to_string();
                let result = bus.result_of(&job, &sender).at(&at)?;
                if result != "done" {
                    return Err(Error::new(format!("systemd says {result:?}"))
                        .at(&at)
                        .hint(format!("see `systemctl status {}`", self.name)));
                }
            }
            Answer::Error(error, _) if error == NO_SUCH_UNIT => return Ok(()),
            Answer::Error(error, text) => return Err(Error::new(words(&error, &text)).at(&at)),
        }
        // An annotation may have told systemd to remember failures.
        let reset = bus.call("ResetFailedUnit", &[Value::text(&self.name)]);
        match bus.answer(reset).at(&at)? {
            Answer::Error(error, text) if error != NO_SUCH_UNIT => {
                Err(Error::new(words(&error, &text)).at(&at))
            }
            _ => Ok(()),
        }
    }

    /// A unit that is not loaded has its own name as description.
    fn is_of(&self, bus: &mut Bus, id: &str) -> Result<bool> {
        let serial = bus.get(&self.name, "org.freedesktop.systemd1.Unit", "Description");
        match bus.answer(serial)? {
            Answer::Return(body, _) => {
                let mut reader = Reader::new(&body);
                reader.signature()?;
                Ok(reader.text()? == description(id))
            }
            Answer::Error(..) => Ok(false),
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(path: &str, annotations: &[(&str, &str)]) -> Result<UnitPlan> {
        let annotations =
            annotations.iter().map(|(k, v)| (format!("org.systemd.property.{k}"), v.to_string())).collect();
        UnitPlan::new(Some(Path::new(path)), "web", false, Some(&annotations))
    }

    fn values(plan: &UnitPlan, name: &str) -> Vec<String> {
        plan.properties.iter().filter(|p| p.name == name).map(|p| p.value.to_string()).collect()
    }

    #[test]
    fn an_annotation_takes_the_place_of_a_default_but_not_of_a_resource() {
        let mut unit =
            plan("a.slice:b:c", &[("CollectMode", "'inactive'"), ("MemoryMax", "uint64 1")]).unwrap();
        assert_eq!(values(&unit, "CollectMode"), ["inactive"]);
        unit.add(vec![Property::new("TasksMax", Value::U64(5))]).unwrap();
        assert_eq!(values(&unit, "TasksMax"), ["5"]);
        let error = unit.add(vec![Property::new("MemoryMax", Value::U64(9))]).unwrap_err().to_string();
        assert!(error.contains("from: config.json /annotations/org.systemd.property.MemoryMax"), "{error}");
    }

    #[test]
    fn the_plan_shows_the_unit_and_what_was_asked_for() {
        let mut unit = plan("a-b.slice:p:c", &[("TimeoutStopSec", "2")]).unwrap();
        unit.add(property::of_devices(&[])).unwrap();
        let lines = unit.lines();
        assert!(lines[0].0.starts_with("scope a.slice/a-b.slice/p-c.scope  Description="), "{lines:?}");
        assert_eq!(lines[0].1, "/linux/cgroupsPath");
        let second = ("property TimeoutStopUSec=2000000", "/annotations/org.systemd.property.TimeoutStopSec");
        assert_eq!((lines[1].0.as_str(), lines[1].1.as_str()), second);
        assert!(
            plan("a.slice:p:a-b.slice", &[]).unwrap().lines()[0].0.starts_with("slice a.slice/a-b.slice ")
        );
    }

    #[test]
    fn a_slice_takes_no_process_and_is_not_delegated() {
        let slice = plan("a.slice:p:a-b.slice", &[]).unwrap();
        assert!(!slice.takes_process() && values(&slice, "Delegate").is_empty());
        assert_eq!(values(&slice, "Wants"), ["[a.slice]"]);
        assert!(plan("a.slice:p:c", &[]).unwrap().takes_process());
    }
}
