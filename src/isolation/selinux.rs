//! SELinux: `/process/selinuxLabel`, `/linux/mountLabel`.
//!
//! The label of the program takes effect at execve(2), that of the keyring when it is made; both are written
//! through the host's procfs (CVE-2019-16884, CVE-2025-52881). A process label confines, so without SELinux
//! it is refused; a mount label alone confines nobody and is left out with a warning.

use std::fmt;

use nix::errno::Errno;

use crate::error::{Context, Error, Result};
use crate::log;
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};

/// True if the kernel runs with SELinux and a policy is loaded.
fn enabled() -> bool {
    selinux::kernel_support() != selinux::KernelSupport::Unsupported
}

/// Plans the label of the program and of its session keyring.
pub fn plan(label: &Option<String>, steps: &mut Steps) -> Result<()> {
    let Some(label) = label.clone().filter(|label| !label.is_empty()) else { return Ok(()) };
    if !enabled() {
        return Err(Error::new(format!("label {label:?} cannot be applied: SELinux is off"))
            .hint("enable SELinux on the host, or remove the label")
            .from_config("/process/selinuxLabel"));
    }
    steps.push(Label { label });
    Ok(())
}

/// The label that every mount which takes one gets; `None` without SELinux.
pub fn mount_label(label: &Option<String>) -> Option<String> {
    let label = label.clone().filter(|label| !label.is_empty())?;
    if !enabled() {
        log::warn(format!("mountLabel {label:?} is left out: SELinux is off"));
        return None;
    }
    Some(label)
}

#[derive(Debug)]
struct Label {
    label: String,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label the program {}", self.label)
    }
}

impl Step for Label {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/selinuxLabel")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let proc = ctx.proc()?;
        proc.write(c"thread-self/attr/exec", self.label.as_bytes())?;
        proc.write(c"thread-self/attr/keycreate", self.label.as_bytes()).at("label the keyring")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::EINVAL => Some("the policy does not know this label"),
            Errno::EACCES | Errno::EPERM => Some("the policy does not let the runtime give this label"),
            _ => None,
        }
    }
}
