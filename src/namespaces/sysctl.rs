//! `/linux/sysctl`: kernel parameters of the container's own namespaces.
//!
//! Written through the host's procfs, which no container has touched (CVE-2025-52881): the kernel looks at
//! the namespaces of who writes, not at the mount. A parameter that no namespace holds would change the host
//! and is refused.

use std::ffi::CString;
use std::fmt;

use oci_spec::runtime::Spec;

use super::Namespaces;
use crate::error::{Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};

/// Plans the parameters, in the order of their names.
pub fn plan(spec: &Spec, namespaces: &Namespaces, steps: &mut Steps) -> Result<()> {
    let Some(sysctl) = spec.linux().as_ref().and_then(|linux| linux.sysctl().as_ref()) else { return Ok(()) };
    let mut names: Vec<&String> = sysctl.keys().collect();
    names.sort();
    for name in names {
        steps.push(one(name, &sysctl[name], namespaces).from_config(format!("/linux/sysctl/{name}"))?);
    }
    Ok(())
}

fn one(name: &str, value: &str, namespaces: &Namespaces) -> Result<SetParameter> {
    let path = path(name);
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !path.split('/').all(plain) {
        return Err(Error::new(format!("sysctl {name:?} is not a name")));
    }
    let dotted = path.replace('/', ".");
    let kind = namespace_of(&path).ok_or_else(|| {
        let cause = format!("sysctl {dotted:?} is not in a separate kernel namespace");
        Error::new(cause).hint("it would change the host; set it there")
    })?;
    if !namespaces.has(kind) {
        return Err(Error::new(format!("sysctl {dotted:?} would change the host's"))
            .hint(format!("add {{\"type\": {:?}}} to /linux/namespaces", spec_name(kind))));
    }
    if dotted == "kernel.hostname" {
        return Err(Error::new("sysctl \"kernel.hostname\" is not set here").hint("use /hostname"));
    }
    Ok(SetParameter { file: crate::sys::cstring(format!("sys/{path}"))?, value: value.to_string() })
}

/// `net.ipv4.conf.eth0/1.forwarding`: as in sysctl(8), the first separator decides; if it is a dot, dots
/// separate and slashes stand for dots in a name.
fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_string(),
    }
}

/// The kind of namespace that holds the parameter, as its `CLONE_NEW*` flag. namespaces(7), ipc_namespaces(7).
fn namespace_of(path: &str) -> Option<i32> {
    const IPC: [&str; 10] = [
        "kernel/msgmax",
        "kernel/msgmnb",
        "kernel/msgmni",
        "kernel/sem",
        "kernel/shmall",
        "kernel/shmmax",
        "kernel/shmmni",
        "kernel/shm_rmid_forced",
        "kernel/auto_msgmni",
        "kernel/msg_next_id",
    ];
    const UTS: [&str; 2] = ["kernel/domainname", "kernel/hostname"];
    if path.starts_with("net/") {
        Some(libc::CLONE_NEWNET)
    } else if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        Some(libc::CLONE_NEWIPC)
    } else if UTS.contains(&path) {
        Some(libc::CLONE_NEWUTS)
    } else if path.starts_with("user/") {
        Some(libc::CLONE_NEWUSER)
    } else {
        None
    }
}

fn spec_name(kind: i32) -> &'static str {
    match kind {
        libc::CLONE_NEWNET => "network",
        libc::CLONE_NEWIPC => "ipc",
        libc::CLONE_NEWUTS => "uts",
        _ => "user",
    }
}

#[derive(Debug)]
struct SetParameter {
    file: CString,
    value: String,
}

impl fmt::Display for SetParameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.file.to_string_lossy()[4..].replace('/', ".");
        write!(f, "set sysctl {name} = {:?}", self.value)
    }
}

impl Step for SetParameter {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/sysctl")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        ctx.proc()?.write(&self.file, self.value.as_bytes())?;
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_sysctl_does() {
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding"), "net/ipv4/conf/eth0.1/forwarding");
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding"), "net/ipv4/conf/eth0.1/forwarding");
    }

    #[test]
    fn a_parameter_of_the_host_is_refused() {
        let all = Namespaces { new: !0, ..Namespaces::default() };
        for bad in [
            "kernel.core_pattern",
            "vm.swappiness",
            "net/../kernel/core_pattern",
            "",
            "kernel.hostname",
            "net.",
        ] {
            assert!(one(bad, "1", &all).is_err(), "{bad}");
        }
        assert!(one("kernel.shmmax", "1", &all).is_ok());
        assert!(one("kernel.shmmax", "1", &Namespaces::default()).is_err());
    }
}
