//! Limits written, in order, with second tries where two files of one controller depend on each other.

use nix::errno::Errno;
use oci_spec::runtime::LinuxMemory;

use super::group::Cgroup;
use super::limits::{Missing, Version, Write};
use crate::error::{Error, Result};

/// Makes all writes.
///
/// EINVAL may only mean "not before the other one": a memory limit above the old memory+swap limit, a quota
/// below the old burst. Such a write is tried once more after the others of its controller.
pub(super) fn all(cgroup: &Cgroup, writes: &[Write]) -> Result<()> {
    let same = |a: &Write, b: &Write| a.version == b.version && a.controller == b.controller;
    for group in writes.chunk_by(same) {
        let mut again = Vec::new();
        for write in group {
            match one(cgroup, write)? {
                Err(Errno::EINVAL) if group.len() > 1 => again.push(write),
                result => result.map_err(|errno| explain(cgroup, write, errno))?,
            }
        }
        for write in again {
            one(cgroup, write)?.map_err(|errno| explain(cgroup, write, errno))?;
        }
    }
    Ok(())
}

/// One write; the inner result is the kernel's answer.
fn one(cgroup: &Cgroup, write: &Write) -> Result<nix::Result<()>> {
    let dir = cgroup.dir_of(write)?;
    let answer = dir.write_raw(&write.file, &write.value);
    Ok(match (answer, &write.missing) {
        (Err(Errno::ENOENT), Missing::Skip) => Ok(()),
        (Err(Errno::ENOENT), Missing::Instead(file, value)) => dir.write_raw(file, value),
        (answer, _) => answer,
    })
}

fn explain(cgroup: &Cgroup, write: &Write, errno: Errno) -> Error {
    let Some(dir) = cgroup.controller(write.version, &write.controller) else {
        return Error::call("write(2)", errno).at(&write.file).from_config(&write.pointer);
    };
    let error = dir.write_error(&write.file, &write.value, errno).from_config(&write.pointer);
    match errno {
        Errno::ENOENT => error.hint("this kernel has no such file in the cgroup; leave the limit out"),
        Errno::EBUSY if write.file == "memory.limit_in_bytes" => {
            let read = |file| dir.read(file).unwrap_or_else(|_| "unknown".to_string());
            let (usage, peak) = (read("memory.usage_in_bytes"), read("memory.max_usage_in_bytes"));
            error.hint(format!("the container uses more than that: {usage} bytes now, {peak} at its peak"))
        }
        Errno::EINVAL if write.file == "memory.limit_in_bytes" => {
            error.hint("it may not be above the memory+swap limit; set /linux/resources/memory/swap too")
        }
        Errno::EINVAL | Errno::ERANGE => {
            error.hint("the kernel does not take this value, or not below this parent")
        }
        Errno::ENODEV => error.hint("there is no such device, or it has no such setting"),
        _ => error,
    }
}

/// `checkBeforeUpdate`: refuses a memory limit below what is in use, which would end in the OOM killer.
pub(super) fn check_before_update(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    if limit <= 0 || !memory.check_before_update().unwrap_or(false) {
        return Ok(());
    }
    let used = match (cgroup.controller(Version::V1, "memory"), cgroup.controller(Version::V2, "memory")) {
        (Some(dir), _) => dir.read_if_there("memory.usage_in_bytes")?,
        (None, Some(dir)) => dir.read_if_there("memory.current")?,
        (None, None) => None,
    };
    match used.and_then(|text| text.trim().parse::<i64>().ok()) {
        Some(used) if used > limit => {
            Err(Error::new(format!("memory limit {limit} is below the {used} bytes in use"))
                .hint("checkBeforeUpdate asks for this refusal")
                .from_config("/linux/resources/memory/limit"))
        }
        _ => Ok(()),
    }
}
