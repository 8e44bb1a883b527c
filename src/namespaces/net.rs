//! A new network namespace begins with its loopback interface down. network_namespaces(7).

use std::fmt;

use super::Namespaces;
use crate::error::{Call, Result};
use crate::step::{Ctx, Outcome, Step, Steps};
use crate::sys::net::loopback_up;

/// Plans the loopback interface of a new network namespace.
pub fn plan(namespaces: &Namespaces, steps: &mut Steps) {
    if namespaces.has_new(libc::CLONE_NEWNET) {
        steps.push(LoopbackUp);
    }
}

#[derive(Debug)]
struct LoopbackUp;

impl fmt::Display for LoopbackUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bring loopback up")
    }
}

impl Step for LoopbackUp {
    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        loopback_up().call("ioctl(SIOCSIFFLAGS)")?;
        Ok(Outcome::Done)
    }
}
