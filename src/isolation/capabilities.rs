//! `/process/capabilities`: the five sets.
//!
//! The bounding set is dropped first, while CAP_SETPCAP is there; the others are set after the change of the
//! user id, which would empty them. The caps crate knows the names; it takes 155 system calls to set what
//! one capset(2) and a loop over prctl(2) set, so the setting is ours. capabilities(7).

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use nix::errno::Errno;
use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::error::{Call, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::caps as sys;

/// Five sets of capabilities, bit n for capability n.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Capabilities {
    bounding: u64,
    effective: u64,
    permitted: u64,
    inheritable: u64,
    ambient: u64,
}

impl Capabilities {
    /// Reads the configuration; what it does not name is not granted.
    pub fn new(config: &Option<LinuxCapabilities>) -> Result<Capabilities> {
        let Some(config) = config else { return Ok(Capabilities::default()) };
        Ok(Capabilities {
            bounding: bits(config.bounding())?,
            effective: bits(config.effective())?,
            permitted: bits(config.permitted())?,
            inheritable: bits(config.inheritable())?,
            ambient: bits(config.ambient())?,
        })
    }

    /// Adds one capability, as `exec --cap` does: to all sets but the ambient one.
    ///
    /// Nor to the inheritable one (CVE-2022-29162): a program with file capabilities would get it.
    pub fn add(&mut self, name: &str) -> Result<()> {
        let bit = bit(name)?;
        self.bounding |= bit;
        self.effective |= bit;
        self.permitted |= bit;
        Ok(())
    }

    /// Plans what comes before the change of the user id.
    pub fn plan_before_user(&self, steps: &mut Steps) {
        steps.push(DropBounding(self.bounding));
    }

    /// Plans what comes after it; `keep_admin` leaves CAP_SYS_ADMIN until [`Capabilities::plan_last`].
    pub fn plan_after_user(&self, keep_admin: bool, steps: &mut Steps) {
        steps.push(SetCapabilities { sets: *self, keep_admin });
    }

    /// Plans the drop of the CAP_SYS_ADMIN that was kept for the system call filter.
    pub fn plan_last(&self, steps: &mut Steps) {
        steps.push(SetCapabilities { sets: *self, keep_admin: false });
    }
}

fn bits(names: &Option<HashSet<Capability>>) -> Result<u64> {
    names.iter().flatten().try_fold(0, |all, name| Ok(all | bit(&name.to_string())?))
}

/// The bit of a capability by its name, with or without `CAP_`, in any case.
fn bit(name: &str) -> Result<u64> {
    let upper = name.to_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    match caps::Capability::from_str(&full) {
        Ok(capability) => Ok(1 << capability.index()),
        Err(_) => Err(Error::new(format!("unknown capability {name:?}")).hint("capabilities(7) lists them")),
    }
}

fn name(cap: u32) -> String {
    caps::all()
        .into_iter()
        .find(|c| u32::from(c.index()) == cap)
        .map_or_else(|| cap.to_string(), |c| c.to_string())
}

fn count(f: &mut fmt::Formatter<'_>, set: u64) -> fmt::Result {
    match set.count_ones() {
        1 => write!(f, "1 capability"),
        n => write!(f, "{n} capabilities"),
    }
}

/// Drops from the bounding set all that is not in this one, up to the last that the kernel knows.
#[derive(Debug)]
struct DropBounding(u64);

impl fmt::Display for DropBounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("limit bounding set to ")?;
        count(f, self.0)
    }
}

impl Step for DropBounding {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/capabilities/bounding")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        for cap in 0..64 {
            if self.0 & 1 << cap != 0 {
                continue;
            }
            match sys::drop_bounding(cap) {
                Ok(()) => {}
                // The first number that the kernel does not know: all others were dropped.
                Err(Errno::EINVAL) => break,
                // Not ours to drop, which is right if it is not there.
                Err(Errno::EPERM) if sys::in_bounding(cap) == Ok(false) => {}
                Err(errno) => return Err(Error::call("prctl(PR_CAPBSET_DROP)", errno).at(name(cap))),
            }
        }
        sys::keep_over_setuid().call("prctl(PR_SET_KEEPCAPS)")?;
        Ok(Outcome::Done)
    }
}

/// Sets the four other sets to what the configuration grants and this process has.
#[derive(Debug)]
struct SetCapabilities {
    sets: Capabilities,
    keep_admin: bool,
}

/// CAP_SYS_ADMIN, which seccomp(2) needs without no_new_privs.
const SYS_ADMIN: u64 = 1 << 21;

impl fmt::Display for SetCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set effective ")?;
        count(f, self.sets.effective)?;
        f.write_str(", inheritable ")?;
        count(f, self.sets.inheritable)?;
        f.write_str(", ambient ")?;
        count(f, self.sets.ambient)?;
        if self.keep_admin {
            f.write_str(" (and CAP_SYS_ADMIN until the filter is installed)")?;
        }
        Ok(())
    }
}

impl Step for SetCapabilities {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/capabilities")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        let had = sys::get().call("capget(2)")?.permitted;
        let asked = &self.sets;
        let kept = if self.keep_admin { SYS_ADMIN & had } else { 0 };
        let sets = sys::Sets {
            permitted: asked.permitted & had | kept,
            effective: asked.effective & asked.permitted & had | kept,
            inheritable: asked.inheritable & had,
        };
        sys::set(sets).call("capset(2)")?;
        sys::clear_ambient().call("prctl(PR_CAP_AMBIENT)")?;
        // An ambient capability must be permitted and inheritable (capabilities(7)).
        let mut missing = asked.permitted & !had;
        for cap in (0..64).filter(|cap| asked.ambient & 1 << cap != 0) {
            if sys::raise_ambient(cap).is_err() {
                missing |= 1 << cap;
            }
        }
        if missing == 0 {
            return Ok(Outcome::Done);
        }
        // config.md: what cannot be granted is a warning. It is less than was asked for, never more.
        let names: Vec<String> = (0..64).filter(|cap| missing & 1 << cap != 0).map(name).collect();
        Ok(Outcome::Warned(format!("not granted, because the runtime lacks them: {}", names.join(", "))))
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EPERM && !self.keep_admin)
            .then_some("if a system call filter is installed it must allow capset, or set noNewPrivileges")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caps_crate_and_the_spec_name_the_same_capabilities() {
        for capability in caps::all() {
            let full = capability.to_string();
            assert_eq!(bit(&full).unwrap(), 1 << capability.index(), "{full}");
            assert_eq!(bit(&full[4..].to_lowercase()).unwrap(), bit(&full).unwrap(), "{full}");
            assert_eq!(name(capability.index().into()), full);
            let spec: Capability = serde_json::from_value(serde_json::json!(full)).unwrap();
            assert_eq!(bit(&spec.to_string()).unwrap(), bit(&full).unwrap(), "{full}");
        }
        assert_eq!(caps::all().len(), 41, "capabilities(7)");
        for unknown in ["", "CAP_", "CAP_NOPE", "41", "CAP_CAP_KILL"] {
            assert!(bit(unknown).is_err(), "{unknown:?}");
        }
    }

    #[test]
    fn our_sets_are_read_as_the_caps_crate_reads_them() {
        let read = |set| caps::read(None, set).unwrap().iter().fold(0, |all, c| all | 1 << c.index());
        let sets = sys::get().unwrap();
        assert_eq!(sets.effective, read(caps::CapSet::Effective));
        assert_eq!(sets.permitted, read(caps::CapSet::Permitted));
        assert_eq!(sets.inheritable, read(caps::CapSet::Inheritable));
        let bounding = read(caps::CapSet::Bounding);
        for capability in caps::all() {
            let in_set = sys::in_bounding(capability.index().into()).unwrap();
            assert_eq!(in_set, bounding & 1 << capability.index() != 0, "{capability}");
        }
    }
}
