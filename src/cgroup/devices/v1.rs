//! Device rules as lines for `devices.deny` and `devices.allow` of cgroup v1.
//!
//! The kernel keeps one default and a list of exceptions of the opposite meaning. It can take an exception away
//! again only by its exact numbers, so not every list of rules can be said: what cannot is refused, never
//! weakened. See the kernel's cgroup-v1/devices.rst.

use super::{ALL, Kind, MKNOD, READ, Rule, WRITE};
use crate::error::{Error, Result};

/// One line for one of the two files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `devices.allow` or `devices.deny`.
    pub file: &'static str,
    /// `c 1:3 rwm`.
    pub text: String,
}

/// What the kernel holds for one cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    default_allow: bool,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exception {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Exception {
    fn covers(&self, other: &Exception) -> bool {
        let within = |mine: Option<u32>, theirs| mine.is_none() || mine == theirs;
        self.block == other.block && within(self.major, other.major) && within(self.minor, other.minor)
    }

    fn touches(&self, other: &Exception) -> bool {
        let meets = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
        self.block == other.block && meets(self.major, other.major) && meets(self.minor, other.minor)
    }

    fn same_devices(&self, other: &Exception) -> bool {
        self.block == other.block && self.major == other.major && self.minor == other.minor
    }

    fn line(&self, allow: bool) -> Line {
        let number = |n: Option<u32>| n.map_or("*".to_string(), |n| n.to_string());
        let mut text =
            format!("{} {}:{} ", if self.block { 'b' } else { 'c' }, number(self.major), number(self.minor));
        text.extend(
            [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|l| self.access & l.0 != 0).map(|l| l.1),
        );
        Line { file: if allow { "devices.allow" } else { "devices.deny" }, text }
    }
}

impl Policy {
    /// What the rules come to. Refuses what the kernel cannot hold.
    pub fn new(rules: &[Rule]) -> Result<Policy> {
        let mut policy = Policy { default_allow: false, exceptions: Vec::new() };
        for rule in rules {
            policy.apply(rule)?;
        }
        Ok(policy)
    }

    fn apply(&mut self, rule: &Rule) -> Result<()> {
        if rule.is_total() {
            *self = Policy { default_allow: rule.allow, exceptions: Vec::new() };
            return Ok(());
        }
        let blocks: &[bool] = match rule.kind {
            Kind::Any => &[true, false],
            Kind::Block => &[true],
            Kind::Char => &[false],
        };
        for &block in blocks {
            let what = Exception { block, major: rule.major, minor: rule.minor, access: rule.access };
            if rule.allow == self.default_allow {
                self.take_back(&what)?;
            } else {
                self.add(what);
            }
        }
        Ok(())
    }

    fn add(&mut self, what: Exception) {
        match self.exceptions.iter_mut().find(|e| e.same_devices(&what)) {
            Some(exception) => exception.access |= what.access,
            None => self.exceptions.push(what),
        }
    }

    fn take_back(&mut self, what: &Exception) -> Result<()> {
        for exception in &mut self.exceptions {
            if what.covers(exception) {
                exception.access &= ALL & !what.access;
            } else if what.touches(exception) && exception.access & what.access != 0 {
                let verb = if self.default_allow { "allow" } else { "deny" };
                let (part, whole) = (what.line(false).text, exception.line(false).text);
                return Err(Error::new(format!(
                    "cgroup v1 cannot {verb} {part:?} after a rule for {whole:?}"
                ))
                .hint("name the devices one by one, or use a host with cgroup v2")
                .from_config("/linux/resources/devices"));
            }
        }
        self.exceptions.retain(|exception| exception.access != 0);
        Ok(())
    }

    /// The lines that lead from `old` here. `None`: nothing is known, begin with the default.
    pub fn lines(&self, old: Option<&Policy>) -> Vec<Line> {
        let (begin, before): (bool, &[Exception]) = match old {
            Some(old) if old.default_allow == self.default_allow => (false, &old.exceptions),
            _ => (true, &[]),
        };
        let mut lines = Vec::new();
        if begin {
            let file = if self.default_allow { "devices.allow" } else { "devices.deny" };
            lines.push(Line { file, text: "a".to_string() });
        }
        for exception in before {
            let kept = self.exceptions.iter().find(|e| e.same_devices(exception)).map_or(0, |e| e.access);
            let gone = Exception { access: exception.access & !kept, ..*exception };
            if gone.access != 0 {
                lines.push(gone.line(self.default_allow));
            }
        }
        for exception in &self.exceptions {
            let had = before.iter().find(|e| e.same_devices(exception)).map_or(0, |e| e.access);
            let new = Exception { access: exception.access & !had, ..*exception };
            if new.access != 0 {
                lines.push(new.line(!self.default_allow));
            }
        }
        lines
    }
}
