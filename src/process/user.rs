//! `/process/user`: groups, ids, umask.
//!
//! setgroups(2) comes before setresgid(2), and that before setresuid(2): once we are not root we may not
//! drop the groups we came with. credentials(7).

use std::fmt;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, fstat, umask};
use nix::unistd::{Uid, fchownat};
use oci_spec::runtime::User;

use crate::error::{Call, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::path::is_char_device;
use crate::sys::process::{set_gid, set_groups, set_uid};

/// The numbers that the kernel takes as "leave it" (setresuid(2)).
const NOBODY_AT_ALL: u32 = u32::MAX;

/// Who the program runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The supplementary groups; none drops those of the caller.
    pub groups: Vec<u32>,
    /// The mask for new files.
    pub umask: u32,
}

impl Ids {
    /// Reads the configuration.
    pub fn new(user: &User) -> Result<Ids> {
        let groups = user.additional_gids().clone().unwrap_or_default();
        let ids = Ids { uid: user.uid(), gid: user.gid(), groups, umask: user.umask().unwrap_or(0o022) };
        if ids.uid == NOBODY_AT_ALL || ids.gid == NOBODY_AT_ALL || ids.groups.contains(&NOBODY_AT_ALL) {
            return Err(
                Error::new(format!("{NOBODY_AT_ALL} is no user or group")).from_config("/process/user")
            );
        }
        if ids.umask > 0o777 {
            return Err(
                Error::new(format!("umask {:o} is above 777", ids.umask)).from_config("/process/user/umask")
            );
        }
        Ok(ids)
    }

    /// Plans the change.
    pub fn plan(&self, steps: &mut Steps) {
        steps.push(GiveStdio { uid: self.uid });
        steps.push(SetGroups { groups: self.groups.clone() });
        steps.push(SetIds { uid: self.uid, gid: self.gid });
        steps.push(SetUmask(self.umask));
    }
}

/// Parses `exec --user UID[:GID]`: decimal numbers below 2^32 - 1 only (crun CVE-2026-30892, CVE-2016-3697).
pub fn parse(text: &str) -> Result<(u32, Option<u32>)> {
    let number = |text: &str| -> Result<u32> {
        let decimal = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = if decimal { text.parse().ok() } else { None };
        number.filter(|n| *n != NOBODY_AT_ALL).ok_or_else(|| {
            let e = Error::new(format!("user {text:?} is not a number from 0 to {}", NOBODY_AT_ALL - 1));
            e.hint("write UID or UID:GID; names are for the engine to look up")
        })
    };
    match text.split_once(':') {
        Some((uid, gid)) => Ok((number(uid)?, Some(number(gid)?))),
        None => Ok((number(text)?, None)),
    }
}

/// Lets the user open its own standard streams again, as `/dev/stdout` does.
#[derive(Debug)]
struct GiveStdio {
    uid: u32,
}

impl fmt::Display for GiveStdio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "give the standard streams to user {}", self.uid)
    }
}

impl Step for GiveStdio {
    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
        for fd in [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()] {
            let Ok(stat) = fstat(fd) else { continue };
            // A null device belongs to the host, and to every other container that got it.
            if stat.st_uid == self.uid || is_char_device(&stat, 1, 3) {
                continue;
            }
            match fchownat(fd, c"", Some(Uid::from_raw(self.uid)), None, AtFlags::AT_EMPTY_PATH) {
                Ok(()) | Err(Errno::EPERM | Errno::EINVAL | Errno::EROFS | Errno::EOVERFLOW) => {}
                Err(errno) => return Err(Error::call("fchownat(2)", errno)),
            }
        }
        Ok(Outcome::Done)
    }
}

#[derive(Debug)]
struct SetGroups {
    groups: Vec<u32>,
}

impl fmt::Display for SetGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.groups.is_empty() {
            return f.write_str("drop the caller's groups");
        }
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        write!(f, "set groups {}", groups.join(","))
    }
}

impl Step for SetGroups {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/user/additionalGids")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        match set_groups(&self.groups) {
            Ok(()) => Ok(Outcome::Done),
            Err(Errno::EPERM) if self.groups.is_empty() && setgroups_denied() => Ok(Outcome::Skipped(
                "the user namespace was made without privileges, which gives up setgroups(2)",
            )),
            Err(errno) => Err(Error::call("setgroups(2)", errno)),
        }
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match errno {
            Errno::EINVAL => Some("a group is not mapped in the user namespace: /linux/gidMappings"),
            Errno::EPERM => Some("a user namespace made without privileges cannot have additional groups"),
            _ => None,
        }
    }
}

/// Whether setgroups(2) is denied in this user namespace. Its own word counts, not the container's /proc:
/// with CAP_SETGID over the namespace nothing else gives `EPERM`.
fn setgroups_denied() -> bool {
    const SETGID: u64 = 1 << 6;
    crate::sys::caps::get().is_ok_and(|sets| sets.effective & SETGID != 0)
}

#[derive(Debug)]
struct SetIds {
    uid: u32,
    gid: u32,
}

impl fmt::Display for SetIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "become user {} group {}", self.uid, self.gid)
    }
}

impl Step for SetIds {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/user")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        set_gid(self.gid).call("setresgid(2)")?;
        set_uid(self.uid).call("setresuid(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EINVAL)
            .then_some("the user or group is not mapped in the user namespace: /linux/uidMappings")
    }
}

#[derive(Debug)]
struct SetUmask(u32);

impl fmt::Display for SetUmask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set umask {:03o}", self.0)
    }
}

impl Step for SetUmask {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/user/umask")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        umask(Mode::from_bits_truncate(self.0));
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_decimal_number_that_fits() {
        assert_eq!(parse("0").unwrap(), (0, None));
        assert_eq!(parse("1000:100").unwrap(), (1000, Some(100)));
        assert_eq!(parse("4294967294").unwrap(), (4_294_967_294, None));
        let bad =
            ["", ":", "root", "4294967295", "4294967296", "-1", "+1", "0x0", "1 ", "1:", ":1", "1:2:3", "１"];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
