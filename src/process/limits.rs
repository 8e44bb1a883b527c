//! `/process/rlimits`. getrlimit(2).
//!
//! The child sets them late, so that a small limit does not hinder its own work. In a new user namespace it
//! could not raise a hard limit any more, so there the parent does that part before.

use std::fmt;

use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::{PosixRlimit, PosixRlimitType};

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::process::{prlimit, rlimit};

/// One limit: soft and hard in the unit of the resource (bytes, seconds, or a count).
#[derive(Debug, Clone)]
pub struct Limit {
    resource: u32,
    name: String,
    soft: u64,
    hard: u64,
    index: usize,
}

impl Limit {
    /// Reads the configuration. A second limit of one resource is an error (config.md, `rlimits`).
    pub fn all(config: &Option<Vec<PosixRlimit>>) -> Result<Vec<Limit>> {
        let mut limits: Vec<Limit> = Vec::new();
        for (index, limit) in config.iter().flatten().enumerate() {
            let at = Pointer::Item("/process/rlimits", index);
            let (name, resource) = (limit.typ().to_string(), resource(limit.typ()));
            if limits.iter().any(|l| l.resource == resource) {
                return Err(Error::new(format!("a second {name}")).from_config(at));
            }
            if limit.soft() > limit.hard() {
                let cause = format!("{name}: soft {} is above hard {}", limit.soft(), limit.hard());
                return Err(Error::new(cause).from_config(at));
            }
            limits.push(Limit { resource, name, soft: limit.soft(), hard: limit.hard(), index });
        }
        Ok(limits)
    }

    /// Raises the hard limit of a waiting child, if it has to rise.
    pub fn raise(&self, pid: Pid) -> Result<()> {
        let (soft, hard) = rlimit(self.resource).call("getrlimit(2)")?;
        if self.hard > hard {
            prlimit(pid, self.resource, soft, self.hard)
                .call("prlimit(2)")
                .at(self)
                .from_config(self.asked_by())?;
        }
        Ok(())
    }
}

fn resource(kind: PosixRlimitType) -> u32 {
    use PosixRlimitType::*;
    match kind {
        RlimitCpu => libc::RLIMIT_CPU,
        RlimitFsize => libc::RLIMIT_FSIZE,
        RlimitData => libc::RLIMIT_DATA,
        RlimitStack => libc::RLIMIT_STACK,
        RlimitCore => libc::RLIMIT_CORE,
        RlimitRss => libc::RLIMIT_RSS,
        RlimitNproc => libc::RLIMIT_NPROC,
        RlimitNofile => libc::RLIMIT_NOFILE,
        RlimitMemlock => libc::RLIMIT_MEMLOCK,
        RlimitAs => libc::RLIMIT_AS,
        RlimitLocks => libc::RLIMIT_LOCKS,
        RlimitSigpending => libc::RLIMIT_SIGPENDING,
        RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        RlimitNice => libc::RLIMIT_NICE,
        RlimitRtprio => libc::RLIMIT_RTPRIO,
        RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} {}:{}", self.name, self.soft, self.hard)
    }
}

impl Step for Limit {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/process/rlimits", self.index)
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        prlimit(Pid::from_raw(0), self.resource, self.soft, self.hard).call("setrlimit(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EPERM).then_some("raising a hard limit needs CAP_SYS_RESOURCE on the host")
    }
}
