//! `/process/noNewPrivileges` and the installation of the system call filter.
//!
//! seccomp(2) needs no_new_privs or CAP_SYS_ADMIN. With no_new_privs the filter comes last of all, so that
//! it need not allow what the runtime does. Without, it comes before the last capabilities are dropped.

use std::fmt;

use nix::errno::Errno;

use super::seccomp::Filter;
use crate::error::{Call, Result};
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::process::set_no_new_privs;

/// Sets no_new_privs: no execve(2) grants more from here on.
#[derive(Debug)]
pub struct NoNewPrivs;

impl fmt::Display for NoNewPrivs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set no_new_privs")
    }
}

impl Step for NoNewPrivs {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/noNewPrivileges")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        set_no_new_privs().call("prctl(PR_SET_NO_NEW_PRIVS)")?;
        Ok(Outcome::Done)
    }
}

/// Installs the compiled filter.
#[derive(Debug)]
pub struct InstallFilter(pub Filter);

impl fmt::Display for InstallFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "install seccomp filter, {} instructions", self.0.instructions.len())
    }
}

impl Step for InstallFilter {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/seccomp")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        self.0.install()?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::EACCES => Some("without CAP_SYS_ADMIN a filter needs noNewPrivileges: true"),
            Errno::EINVAL => Some("a flag or action of the profile is newer than this kernel"),
            _ => None,
        }
    }
}
