//! `/linux/resources/memory`: bytes; 0 is "not set" and -1 is "no limit", as runc reads them.

use oci_spec::runtime::LinuxMemory;

use super::{List, Missing, Version, check_limit, or_max};
use crate::error::{Error, Result};

const LIMIT: &str = "/linux/resources/memory/limit";
const SWAP: &str = "/linux/resources/memory/swap";
const RESERVATION: &str = "/linux/resources/memory/reservation";
const SWAPPINESS: &str = "/linux/resources/memory/swappiness";
const OOM: &str = "/linux/resources/memory/disableOOMKiller";

/// The writes of the memory controller.
pub(super) fn memory(list: &mut List, memory: &LinuxMemory) -> Result<()> {
    let limit = memory.limit().unwrap_or(0);
    let swap = memory.swap().unwrap_or(0);
    let reservation = memory.reservation().unwrap_or(0);
    check_limit("memory limit", limit, LIMIT)?;
    check_limit("memory+swap limit", swap, SWAP)?;
    check_limit("memory reservation", reservation, RESERVATION)?;
    if limit > 0 && swap > 0 && swap < limit {
        return Err(Error::new(format!("memory+swap limit {swap} is below the memory limit {limit}"))
            .hint("swap counts memory and swap together")
            .from_config(SWAP));
    }
    #[allow(deprecated)]
    if memory.kernel().is_some() || memory.kernel_tcp().is_some() {
        list.note("kernel memory limits are ignored: the kernel no longer has them");
    }
    let oom_off = memory.disable_oom_killer().unwrap_or(false);
    let swappiness = memory.swappiness();
    if limit == 0 && swap == 0 && reservation == 0 && !oom_off && swappiness.is_none() {
        return Ok(());
    }
    let pointer = [(limit, LIMIT), (swap, SWAP), (reservation, RESERVATION)]
        .iter()
        .find(|(value, _)| *value != 0)
        .map_or(if oom_off { OOM } else { SWAPPINESS }, |(_, pointer)| pointer);
    match list.home("memory", "memory", pointer)? {
        Version::V2 => {
            v2(list, limit, swap, reservation)?;
            if oom_off {
                list.note("disableOOMKiller is ignored: cgroup v2 has no such switch");
            }
            if swappiness.is_some() {
                list.note("swappiness is ignored: cgroup v2 has no such setting");
            }
        }
        Version::V1 => {
            v1(list, limit, swap, reservation);
            v1_rest(list, swappiness, oom_off)?;
        }
    }
    Ok(())
}

/// memory.swap.max counts swap alone, where the spec's number counts memory and swap together.
fn v2(list: &mut List, limit: i64, swap: i64, reservation: i64) -> Result<()> {
    let v2 = Version::V2;
    if let Some(swap_max) = swap_alone(limit, swap, list.now.memory)? {
        // Without swap accounting there is no file, and no swap to limit either.
        let missing = if swap_max <= 0 { Missing::Skip } else { Missing::Refuse };
        list.push_or(v2, "memory", "memory.swap.max", or_max(swap_max), SWAP, missing);
    }
    if limit != 0 {
        list.push(v2, "memory", "memory.max", or_max(limit), LIMIT);
    }
    if reservation != 0 {
        list.push(v2, "memory", "memory.low", or_max(reservation), RESERVATION);
    }
    Ok(())
}

/// The swap of a memory+swap limit: `None` if it is not asked for, -1 for no limit.
fn swap_alone(limit: i64, swap: i64, limit_now: Option<i64>) -> Result<Option<i64>> {
    match (limit, swap) {
        // No memory limit and no word about swap: both unlimited, as v1 does it.
        (-1, 0) => Ok(Some(-1)),
        (_, 0) => Ok(None),
        (_, -1) => Ok(Some(-1)),
        (-1, swap) => Ok(Some(swap)),
        (0, swap) => match limit_now {
            Some(-1) => Ok(Some(swap)),
            Some(now) if now <= swap => Ok(Some(swap - now)),
            Some(now) => Err(Error::new(format!("memory+swap limit {swap} is below the memory limit {now}"))
                .hint("swap counts memory and swap together")
                .from_config(SWAP)),
            None => Err(Error::new(format!("memory+swap limit {swap} without a memory limit"))
                .hint("swap counts memory and swap together; set /linux/resources/memory/limit too")
                .from_config(SWAP)),
        },
        (limit, swap) => Ok(Some(swap - limit)),
    }
}

/// The kernel holds limit <= memory+swap at all times, so which of the two may be written first depends on
/// what is in force; who writes tries the one that was refused again after the other.
fn v1(list: &mut List, limit: i64, swap: i64, reservation: i64) {
    let v1 = Version::V1;
    if limit != 0 {
        list.push(v1, "memory", "memory.limit_in_bytes", limit, LIMIT);
    }
    if swap != 0 {
        list.push(v1, "memory", "memory.memsw.limit_in_bytes", swap, SWAP);
    } else if limit == -1 {
        list.push_or(v1, "memory", "memory.memsw.limit_in_bytes", -1, LIMIT, Missing::Skip);
    }
    if reservation != 0 {
        list.push(v1, "memory", "memory.soft_limit_in_bytes", reservation, RESERVATION);
    }
}

fn v1_rest(list: &mut List, swappiness: Option<u64>, oom_off: bool) -> Result<()> {
    if oom_off {
        list.push(Version::V1, "memory", "memory.oom_control", 1, OOM);
    }
    match swappiness {
        // Engines send -1 as the largest number when they mean "the host's value".
        None | Some(u64::MAX) => Ok(()),
        Some(value) if value <= 100 => {
            list.push(Version::V1, "memory", "memory.swappiness", value, SWAPPINESS);
            Ok(())
        }
        Some(value) => {
            Err(Error::new(format!("memory swappiness {value} is above 100")).from_config(SWAPPINESS))
        }
    }
}
