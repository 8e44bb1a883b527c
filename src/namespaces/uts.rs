//! `/hostname` and `/domainname`. uts_namespaces(7).

use std::fmt;

use nix::unistd::sethostname;
use oci_spec::runtime::Spec;

use super::Namespaces;
use crate::error::{Call, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::process::set_domain_name;

/// The longest name that the kernel takes.
const LONGEST: usize = 64;

/// Plans both names; they need a UTS namespace that is not the host's.
pub fn plan(spec: &Spec, namespaces: &Namespaces, steps: &mut Steps) -> Result<()> {
    for (name, asked_by) in [(spec.hostname(), "/hostname"), (spec.domainname(), "/domainname")] {
        let Some(name) = name.clone().filter(|name| !name.is_empty()) else { continue };
        if !namespaces.has(libc::CLONE_NEWUTS) {
            return Err(Error::new(format!("{} {name:?} would change the host's", &asked_by[1..]))
                .hint("add {\"type\": \"uts\"} to /linux/namespaces")
                .from_config(asked_by));
        }
        if name.len() > LONGEST || name.contains('\0') {
            let cause = format!("{} is not a name of at most {LONGEST} bytes", &asked_by[1..]);
            return Err(Error::new(cause).from_config(asked_by));
        }
        steps.push(SetName { name, asked_by });
    }
    Ok(())
}

#[derive(Debug)]
struct SetName {
    name: String,
    asked_by: &'static str,
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set {} {:?}", &self.asked_by[1..], self.name)
    }
}

impl Step for SetName {
    fn asked_by(&self) -> Pointer {
        Pointer::Field(self.asked_by)
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        if self.asked_by == "/hostname" {
            sethostname(&self.name).call("sethostname(2)")?;
        } else {
            set_domain_name(self.name.as_bytes()).call("setdomainname(2)")?;
        }
        Ok(Outcome::Done)
    }
}
