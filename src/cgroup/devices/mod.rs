//! Device rules: `/linux/resources/devices`, who may read, write and make which device node.
//!
//! A request (a device and a set of the accesses r, w, m) is granted if for each of its accesses the last
//! rule that speaks about it allows it. Before all rules stands "deny everything", behind them stand the
//! devices that every container gets; both are runc's, and engines rely on them. On cgroup v2 the list becomes
//! an eBPF program, on v1 lines for `devices.deny` and `devices.allow`. See config-linux.md, "Allowed Device list".

pub(super) mod program;
pub(super) mod v1;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Make a node with mknod(2). The bits are those of the kernel's `BPF_DEVCG_ACC_*`.
pub const MKNOD: u8 = 1;
/// Open for reading.
pub const READ: u8 = 2;
/// Open for writing.
pub const WRITE: u8 = 4;
/// All three.
pub const ALL: u8 = 7;

/// Which kind of node a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Both kinds (`a`).
    Any,
    /// Block devices (`b`).
    Block,
    /// Character devices (`c`, `u`).
    Char,
}

/// One rule, validated. `None` for a number stands for all numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Grants or takes away.
    pub allow: bool,
    /// Character, block or both.
    pub kind: Kind,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// [`MKNOD`], [`READ`] and [`WRITE`], or-ed.
    pub access: u8,
}

impl Rule {
    /// Speaks about all devices and all accesses, and so overrides everything before it.
    pub(super) fn is_total(&self) -> bool {
        self.kind == Kind::Any && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

const fn char_device(major: u32, minor: Option<u32>) -> Rule {
    Rule { allow: true, kind: Kind::Char, major: Some(major), minor, access: ALL }
}

const DENY_ALL: Rule = Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: ALL };

/// What every container gets, whatever its rules say. Making a node is allowed because it gives nothing:
/// opening it is checked again.
const DEFAULTS: [Rule; 10] = [
    Rule { allow: true, kind: Kind::Any, major: None, minor: None, access: MKNOD },
    char_device(1, Some(3)),    // null
    char_device(1, Some(5)),    // zero
    char_device(1, Some(7)),    // full
    char_device(1, Some(8)),    // random
    char_device(1, Some(9)),    // urandom
    char_device(5, Some(0)),    // tty
    char_device(5, Some(2)),    // ptmx
    char_device(136, None),     // pts
    char_device(10, Some(200)), // net/tun: runc took it away in 1.2 and had to give it back
];

/// The whole list in order: deny all, what the config says, what every container gets.
pub(super) fn with_defaults(rules: &[Rule]) -> Vec<Rule> {
    let mut all = Vec::with_capacity(rules.len() + DEFAULTS.len() + 1);
    all.push(DENY_ALL);
    all.extend_from_slice(rules);
    all.extend_from_slice(&DEFAULTS);
    all
}

/// Nothing is denied: as good as no filter at all.
pub(super) fn allows_everything(rules: &[Rule]) -> bool {
    rules.iter().rev().find(|rule| !rule.allow || rule.is_total()).is_some_and(|rule| rule.allow)
}

/// Validates the rules of a config.
pub(super) fn parse(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let pointer = |n| format!("/linux/resources/devices/{n}");
    rules.iter().enumerate().map(|(n, rule)| parse_one(rule).map_err(|e| e.from_config(pointer(n)))).collect()
}

fn parse_one(rule: &LinuxDeviceCgroup) -> Result<Rule> {
    let kind = match rule.typ() {
        None | Some(LinuxDeviceType::A) => Kind::Any,
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Char,
        Some(LinuxDeviceType::P) => return Err(Error::new("a device rule cannot be about a fifo (type p)")),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            other => return Err(Error::new(format!("device access {other:?} is none of r, w, m"))),
        };
    }
    if access == 0 {
        return Err(Error::new("a device rule without access").hint("access is a string of r, w and m"));
    }
    Ok(Rule {
        allow: rule.allow(),
        kind,
        major: number("major", rule.major())?,
        minor: number("minor", rule.minor())?,
        access,
    })
}

/// Absent and -1 are wildcards.
fn number(name: &str, value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match i32::try_from(value) {
            Ok(value) if value >= 0 => Ok(Some(value as u32)),
            _ => Err(Error::new(format!("device {name} number {value} is out of range"))),
        },
    }
}

#[cfg(test)]
mod tests;
