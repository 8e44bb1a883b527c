//! `/linux/resources` as a list of writes, for cgroup v2 and for v1. Pure: reads nothing, touches nothing.
//!
//! Each controller is looked up in what the host offers, the cgroup2 tree first: that is all that a hybrid
//! host needs. What the host cannot apply is refused here, before anything is made; zeros that engines send
//! for "not set" are left out as runc does. `unified` comes last, so that it has the final word.
//! See config-linux.md, "Control groups", and the kernel's cgroup-v2.rst and cgroup-v1/*.rst.

mod cpu;
mod io;
mod memory;
mod rest;
#[cfg(test)]
mod tests;

use oci_spec::runtime::LinuxResources;

use crate::error::{Error, Result};

/// The two kinds of hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A cgroup v1 hierarchy with one or a few controllers.
    V1,
    /// The cgroup2 tree.
    V2,
}

/// What to do when the kernel has no such file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// An error that names the file.
    Refuse,
    /// The value is what the kernel does without the file anyway.
    Skip,
    /// Write this value to this file instead.
    Instead(String, String),
}

/// One value for one file of one controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Where the controller is.
    pub version: Version,
    /// The controller, as the kernel names it in that version.
    pub controller: String,
    /// The file's name inside the cgroup's directory.
    pub file: String,
    /// What is written, one line.
    pub value: String,
    /// The JSON pointer that asked for it.
    pub pointer: String,
    /// What to do when the file is not there.
    pub missing: Missing,
}

/// The controllers that the host has, by hierarchy.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// Controllers of the cgroup2 tree (its root's `cgroup.controllers`).
    pub v2: Vec<String>,
    /// Controllers of all v1 hierarchies.
    pub v1: Vec<String>,
    /// There is a cgroup2 tree, perhaps without controllers.
    pub unified: bool,
}

/// Limits in force, for an update that names only one half of a pair.
#[derive(Debug, Clone, Default)]
pub struct Now {
    /// `memory.max` in bytes, -1 for "max"; v2 only.
    pub memory: Option<i64>,
    /// The quota of `cpu.max` in microseconds, -1 for "max"; v2 only.
    pub quota: Option<i64>,
}

/// The writes in the order in which they are made, and what the user should know.
#[derive(Debug, Clone, Default)]
pub struct Limits {
    /// In order; later ones of the same controller may depend on earlier ones.
    pub writes: Vec<Write>,
    /// Fields that are ignored, as runc does, in words.
    pub notes: Vec<String>,
}

/// Turns resources into writes. Fields that are absent (or zero where zero means that) are left out.
pub fn plan(resources: &LinuxResources, offer: &Offer, now: &Now) -> Result<Limits> {
    let mut list = List { offer, now, limits: Limits::default() };
    if let Some(cpu) = resources.cpu() {
        cpu::cpuset(&mut list, cpu)?;
        cpu::cpu(&mut list, cpu)?;
    }
    if let Some(memory) = resources.memory() {
        memory::memory(&mut list, memory)?;
    }
    if let Some(pids) = resources.pids() {
        rest::pids(&mut list, pids)?;
    }
    if let Some(io) = resources.block_io() {
        io::block_io(&mut list, io)?;
    }
    rest::hugetlb(&mut list, resources.hugepage_limits().as_deref().unwrap_or_default())?;
    if let Some(rdma) = resources.rdma() {
        rest::rdma(&mut list, rdma)?;
    }
    if let Some(network) = resources.network() {
        rest::network(&mut list, network)?;
    }
    if let Some(unified) = resources.unified() {
        rest::unified(&mut list, unified)?;
    }
    Ok(list.limits)
}

/// The list while it grows.
struct List<'a> {
    offer: &'a Offer,
    now: &'a Now,
    limits: Limits,
}

impl List<'_> {
    /// Where the controller is, or an error that names it.
    fn home(&self, v2: &str, v1: &str, pointer: &str) -> Result<Version> {
        if self.offer.v2.iter().any(|c| c == v2) {
            return Ok(Version::V2);
        }
        if self.offer.v1.iter().any(|c| c == v1) {
            return Ok(Version::V1);
        }
        let name = if self.offer.v1.is_empty() && !v2.is_empty() { v2 } else { v1 };
        Err(Error::new(format!("this host offers no {name} controller to containers"))
            .hint("see cgroup.controllers of the cgroup2 mount and /proc/cgroups; or leave the limit out")
            .from_config(pointer))
    }

    fn push(&mut self, version: Version, controller: &str, file: &str, value: impl ToString, pointer: &str) {
        self.push_or(version, controller, file, value, pointer, Missing::Refuse);
    }

    fn push_or(
        &mut self,
        version: Version,
        controller: &str,
        file: &str,
        value: impl ToString,
        pointer: &str,
        missing: Missing,
    ) {
        self.limits.writes.push(Write {
            version,
            controller: controller.to_string(),
            file: file.to_string(),
            value: value.to_string(),
            pointer: pointer.to_string(),
            missing,
        });
    }

    fn note(&mut self, text: &str) {
        self.limits.notes.push(text.to_string());
    }
}

/// -1 is "no limit" in the spec and "max" in cgroup v2.
fn or_max(value: i64) -> String {
    if value == -1 { "max".to_string() } else { value.to_string() }
}

/// The only negative limit that means something is -1.
fn check_limit(name: &str, value: i64, pointer: &str) -> Result<()> {
    if value < -1 {
        return Err(Error::new(format!("{name} {value} is negative"))
            .hint("-1 means no limit")
            .from_config(pointer));
    }
    Ok(())
}
