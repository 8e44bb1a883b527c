//! `/process/scheduler`, `/process/ioPriority` and `/process/execCPUAffinity`: when and where the program runs.
//!
//! The child gives them to itself late, so that a weak one does not slow its own work, but while it has its rights.
//! sched_setattr(2), ioprio_set(2), sched_setaffinity(2).

use std::fmt;

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use oci_spec::runtime::{
    IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy, Process, Scheduler,
};

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::process::{SchedAttr, set_io_priority, set_scheduler};

const NEEDS_NICE: &str = "it needs CAP_SYS_NICE on the host";

/// Adds the steps for what the configuration has; returns the CPUs from which `exec` goes into the container. For others
/// CPUs are not meant, but a list that is none is refused.
pub fn plan(process: &Process, exec: bool, steps: &mut Steps) -> Result<Option<Cpus>> {
    if let Some(scheduler) = process.scheduler() {
        steps.push(SetScheduler::new(scheduler).from_config("/process/scheduler")?);
    }
    if let Some(priority) = process.io_priority() {
        steps.push(SetIoPriority::new(priority).from_config("/process/ioPriority")?);
    }
    let Some(affinity) = process.exec_cpu_affinity() else { return Ok(None) };
    let cpus = |list: Option<&str>| list.map(Cpus::new).transpose();
    let first = cpus(affinity.initial().as_deref()).from_config("/process/execCPUAffinity/initial")?;
    let last =
        cpus(affinity.cpu_affinity_final().as_deref()).from_config("/process/execCPUAffinity/final")?;
    if let Some(cpus) = last.filter(|_| exec) {
        steps.push(cpus);
    }
    Ok(first.filter(|_| exec))
}

/// Does something on these CPUs, if there are any given, and goes back: who serves a program must not share its processors.
pub fn on<T>(cpus: Option<&Cpus>, what: impl FnOnce() -> Result<T>) -> Result<T> {
    let Some(cpus) = cpus else { return what() };
    let own = sched_getaffinity(Pid::from_raw(0)).call("sched_getaffinity(2)")?;
    enter(&cpus.set).at(cpus).from_config("/process/execCPUAffinity/initial")?;
    let done = what();
    enter(&own)?;
    done
}

fn enter(cpus: &CpuSet) -> Result<()> {
    sched_setaffinity(Pid::from_raw(0), cpus)
        .call("sched_setaffinity(2)")
        .hint("at least one of the CPUs must be there for this cgroup")
}

/// The policy by which the kernel gives the program a processor.
#[derive(Debug)]
struct SetScheduler {
    attr: SchedAttr,
    words: String,
}

impl SetScheduler {
    fn new(config: &Scheduler) -> Result<SetScheduler> {
        use LinuxSchedulerPolicy::*;
        // linux/sched.h.
        let policy = match config.policy() {
            SchedOther => 0,
            SchedFifo => 1,
            SchedRr => 2,
            SchedBatch => 3,
            SchedIso => return Err(Error::new("Linux has no SCHED_ISO").hint("another policy, or none")),
            SchedIdle => 5,
            SchedDeadline => 6,
        };
        let (nice, priority) = (config.nice().unwrap_or(0), config.priority().unwrap_or(0));
        if !(-20..=19).contains(&nice) {
            return Err(Error::new(format!("nice {nice} is not between -20 and 19")));
        }
        let priority =
            u32::try_from(priority).map_err(|_| Error::new(format!("priority {priority} is below 0")))?;
        let flags = config.flags().iter().flatten().fold(0, |all, flag| all | bit(*flag));
        let [runtime, deadline, period] =
            [config.runtime(), config.deadline(), config.period()].map(|time| time.unwrap_or(0));
        let attr =
            SchedAttr { policy, flags, nice, priority, runtime, deadline, period, ..SchedAttr::default() };
        let mut words = config.policy().to_string();
        for (name, value) in [
            ("nice", nice.into()),
            ("priority", i64::from(priority)),
            ("flags", flags as i64),
            ("runtime", runtime as i64),
            ("deadline", deadline as i64),
            ("period", period as i64),
        ] {
            if value != 0 {
                words += &format!(" {name} {value}");
            }
        }
        Ok(SetScheduler { attr, words })
    }
}

/// `SCHED_FLAG_*`, linux/sched.h.
fn bit(flag: LinuxSchedulerFlag) -> u64 {
    use LinuxSchedulerFlag::*;
    match flag {
        SchedResetOnFork => 0x01,
        SchedFlagReclaim => 0x02,
        SchedFlagDLOverrun => 0x04,
        SchedFlagKeepPolicy => 0x08,
        SchedFlagKeepParams => 0x10,
        SchedFlagUtilClampMin => 0x20,
        SchedFlagUtilClampMax => 0x40,
    }
}

impl fmt::Display for SetScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schedule by {}", self.words)
    }
}

impl Step for SetScheduler {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/scheduler")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        set_scheduler(&self.attr).call("sched_setattr(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::EPERM => Some(NEEDS_NICE),
            Errno::EINVAL => Some("the values do not go with the policy: see sched_setattr(2)"),
            Errno::EBUSY => Some("the deadline cannot be kept beside those that others have"),
            _ => None,
        }
    }
}

/// How soon the program's reads and writes are served.
#[derive(Debug)]
struct SetIoPriority {
    class: IOPriorityClass,
    priority: u16,
}

impl SetIoPriority {
    fn new(config: &LinuxIOPriority) -> Result<SetIoPriority> {
        let priority = config.priority();
        if !(0..=7).contains(&priority) {
            return Err(Error::new(format!("priority {priority} is not between 0 and 7")));
        }
        Ok(SetIoPriority { class: config.class(), priority: priority as u16 })
    }
}

impl fmt::Display for SetIoPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "do I/O by {} {}", self.class, self.priority)
    }
}

impl Step for SetIoPriority {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/ioPriority")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        // linux/ioprio.h.
        let class = match self.class {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        set_io_priority(class, self.priority).call("ioprio_set(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EPERM).then_some(NEEDS_NICE)
    }
}

/// A list of processors: `0-3,7`.
#[derive(Debug)]
pub struct Cpus {
    set: CpuSet,
    list: String,
}

impl Cpus {
    fn new(list: &str) -> Result<Cpus> {
        let error = || Error::new(format!("CPUs {list:?}")).hint("a list such as 0-3,7, of CPUs below 1024");
        let mut set = CpuSet::new();
        for range in list.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::count());
            let (first, last) = number(first).zip(number(last)).ok_or_else(error)?;
            if first > last {
                return Err(error());
            }
            (first..=last).try_for_each(|cpu| set.set(cpu)).map_err(|_| error())?;
        }
        Ok(Cpus { set, list: list.to_string() })
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run on CPUs {}", self.list)
    }
}

/// `exec`: the processors on which the program runs.
impl Step for Cpus {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/execCPUAffinity/final")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        enter(&self.set)?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_have_ranges() {
        let cpus = Cpus::new("0-2,7").unwrap();
        let has: Vec<bool> = (0..9).map(|cpu| cpus.set.is_set(cpu).unwrap()).collect();
        assert_eq!(has, [true, true, true, false, false, false, false, true, false]);
        for bad in ["", "a", "3-1", "1024", "0-4096", "1,,2", "-1"] {
            assert!(Cpus::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn schedulers_that_linux_does_not_have_are_refused() {
        let config = |text: &str| serde_json::from_str::<Scheduler>(text).unwrap();
        assert!(SetScheduler::new(&config(r#"{"policy": "SCHED_ISO"}"#)).is_err());
        assert!(SetScheduler::new(&config(r#"{"policy": "SCHED_OTHER", "nice": 20}"#)).is_err());
        assert!(SetScheduler::new(&config(r#"{"policy": "SCHED_FIFO", "priority": -1}"#)).is_err());
        let set = SetScheduler::new(&config(r#"{"policy": "SCHED_BATCH", "nice": 5}"#)).unwrap();
        assert_eq!((set.attr.policy, set.attr.nice), (3, 5));
        assert_eq!(set.to_string(), "schedule by SCHED_BATCH nice 5");
    }
}
