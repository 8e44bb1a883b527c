//! AppArmor: `/process/apparmorProfile`. Takes effect at execve(2); refused where there is no AppArmor.

use std::fmt;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};

/// Plans the change to the profile.
pub fn plan(profile: &Option<String>, steps: &mut Steps) -> Result<()> {
    let Some(profile) = profile.clone().filter(|p| !p.is_empty() && p != "unconfined") else { return Ok(()) };
    if std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|on| on.starts_with('Y'))
    {
        steps.push(Profile { profile });
        return Ok(());
    }
    Err(Error::new(format!("profile {profile:?} cannot be applied: AppArmor is off"))
        .hint("enable AppArmor on the host, or remove the profile")
        .from_config("/process/apparmorProfile"))
}

#[derive(Debug)]
struct Profile {
    profile: String,
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "confine the program by AppArmor profile {}", self.profile)
    }
}

impl Step for Profile {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/apparmorProfile")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let command = format!("exec {}", self.profile);
        let proc = ctx.proc()?;
        // The file of its own since kernel 5.8; the shared one may belong to another security module.
        let own = c"thread-self/attr/apparmor/exec";
        match proc.open_file(own, nix::fcntl::OFlag::O_WRONLY) {
            Ok(_) => proc.write(own, command.as_bytes())?,
            Err(_) => proc.write(c"thread-self/attr/exec", command.as_bytes())?,
        }
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::ENOENT).then_some("the profile is not loaded: apparmor_parser(8)")
    }
}
