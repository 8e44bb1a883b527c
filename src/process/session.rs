//! The session: setsid(2), a keyring of its own, `/linux/personality`.

use std::ffi::CString;
use std::fmt;

use nix::errno::Errno;
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

use crate::error::{Call, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::keyring::join_session;
use crate::sys::process::personality;

/// Plans a new session, and with `keyring` a session keyring named after the container.
pub fn plan(id: &str, keyring: bool, steps: &mut Steps) -> Result<()> {
    steps.push(NewSession);
    if keyring {
        steps.push(JoinKeyring { name: crate::sys::cstring(format!("_ses.{id}"))? });
    }
    Ok(())
}

/// Leaves the caller's session, so that its terminal cannot be written to with TIOCSTI.
#[derive(Debug)]
struct NewSession;

impl fmt::Display for NewSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("start a session")
    }
}

impl Step for NewSession {
    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        nix::unistd::setsid().call("setsid(2)")?;
        Ok(Outcome::Done)
    }
}

#[derive(Debug)]
struct JoinKeyring {
    name: CString,
}

impl fmt::Display for JoinKeyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join session keyring {}", self.name.to_string_lossy())
    }
}

impl Step for JoinKeyring {
    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        match join_session(&self.name) {
            Ok(()) => Ok(Outcome::Done),
            Err(Errno::ENOSYS) => Ok(Outcome::Skipped("this kernel has no keyrings")),
            Err(errno) => Err(Error::call("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", errno)),
        }
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EDQUOT)
            .then_some("the user has too many keys (/proc/key-users); use --no-new-keyring")
    }
}

/// The execution domain of the program. personality(2).
#[derive(Debug)]
pub struct SetPersonality {
    domain: u64,
}

impl SetPersonality {
    /// Reads the configuration; the spec names no flags yet, so one is refused.
    pub fn new(config: &LinuxPersonality) -> Result<SetPersonality> {
        if config.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
            let e = Error::new("personality flags are not supported: the spec names none");
            return Err(e.from_config("/linux/personality/flags"));
        }
        let domain = match config.domain() {
            LinuxPersonalityDomain::PerLinux => 0,
            LinuxPersonalityDomain::PerLinux32 => 8,
        };
        Ok(SetPersonality { domain })
    }
}

impl fmt::Display for SetPersonality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set personality {}", if self.domain == 0 { "LINUX" } else { "LINUX32" })
    }
}

impl Step for SetPersonality {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/personality")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        personality(self.domain).call("personality(2)")?;
        Ok(Outcome::Done)
    }
}
