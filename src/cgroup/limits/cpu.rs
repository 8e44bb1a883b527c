//! `/linux/resources/cpu`: shares (2 to 262144), quota, period and burst in microseconds, cpus and mems.

use oci_spec::runtime::LinuxCpu;

use super::{List, Version};
use crate::error::{Error, Result};

const SHARES: &str = "/linux/resources/cpu/shares";
const QUOTA: &str = "/linux/resources/cpu/quota";
const PERIOD: &str = "/linux/resources/cpu/period";
const BURST: &str = "/linux/resources/cpu/burst";
const IDLE: &str = "/linux/resources/cpu/idle";
const RT_PERIOD: &str = "/linux/resources/cpu/realtimePeriod";
const RT_RUNTIME: &str = "/linux/resources/cpu/realtimeRuntime";
const CPUS: &str = "/linux/resources/cpu/cpus";
const MEMS: &str = "/linux/resources/cpu/mems";

/// The writes of the cpuset controller. The kernel parses the lists; they have the same form in v1 and v2.
pub(super) fn cpuset(list: &mut List, cpu: &LinuxCpu) -> Result<()> {
    for (value, file, pointer) in [(cpu.cpus(), "cpuset.cpus", CPUS), (cpu.mems(), "cpuset.mems", MEMS)] {
        let Some(value) = value.as_deref().filter(|v| !v.is_empty()) else { continue };
        if !value.bytes().all(|b| b.is_ascii_digit() || b",-:/ ".contains(&b)) {
            return Err(Error::new(format!("{file} {value:?} is not a list like 0-3,7")).from_config(pointer));
        }
        let version = list.home("cpuset", "cpuset", pointer)?;
        list.push(version, "cpuset", file, value, pointer);
    }
    Ok(())
}

/// The writes of the cpu controller. Zeros are "not set", as runc reads them; idle and burst may be zero.
pub(super) fn cpu(list: &mut List, cpu: &LinuxCpu) -> Result<()> {
    let set: [(bool, &str); 7] = [
        (cpu.shares().unwrap_or(0) != 0, SHARES),
        (cpu.quota().unwrap_or(0) != 0, QUOTA),
        (cpu.period().unwrap_or(0) != 0, PERIOD),
        (cpu.burst().is_some(), BURST),
        (cpu.idle().is_some(), IDLE),
        (cpu.realtime_period().unwrap_or(0) != 0, RT_PERIOD),
        (cpu.realtime_runtime().unwrap_or(0) != 0, RT_RUNTIME),
    ];
    let Some((_, pointer)) = set.iter().find(|(is_set, _)| *is_set) else { return Ok(()) };
    match list.home("cpu", "cpu", pointer)? {
        Version::V2 => v2(list, cpu),
        Version::V1 => v1(list, cpu),
    }
}

fn v2(list: &mut List, cpu: &LinuxCpu) -> Result<()> {
    if cpu.realtime_runtime().unwrap_or(0) != 0 || cpu.realtime_period().unwrap_or(0) != 0 {
        let error = Error::new("cgroup v2 cannot limit realtime scheduling");
        return Err(error.hint("leave realtimeRuntime and realtimePeriod out").from_config(RT_RUNTIME));
    }
    let v2 = Version::V2;
    weight_and_idle(list, v2, ("cpu.weight", cpu.shares().map(weight).filter(|&w| w != 0)), cpu.idle());
    let quota = cpu.quota().unwrap_or(0);
    let period = cpu.period().unwrap_or(0);
    if quota != 0 || period != 0 {
        // Only one half is named: the kernel keeps the period by itself, the quota must be repeated.
        let quota = if quota != 0 { quota } else { list.now.quota.unwrap_or(-1) };
        let mut value = if quota > 0 { quota.to_string() } else { "max".to_string() };
        if period != 0 {
            value.push_str(&format!(" {period}"));
        }
        list.push(v2, "cpu", "cpu.max", value, if cpu.quota().is_some() { QUOTA } else { PERIOD });
    }
    if let Some(burst) = cpu.burst() {
        list.push(v2, "cpu", "cpu.max.burst", burst, BURST);
    }
    Ok(())
}

/// While a cgroup is idle its weight cannot be changed: the weight goes first when idle is switched on.
fn weight_and_idle(list: &mut List, version: Version, weight: (&str, Option<u64>), idle: Option<i64>) {
    if let Some(idle) = idle.filter(|&i| i == 0) {
        list.push(version, "cpu", "cpu.idle", idle, IDLE);
    }
    if let (file, Some(weight)) = weight {
        list.push(version, "cpu", file, weight, SHARES);
    }
    if let Some(idle) = idle.filter(|&i| i != 0) {
        list.push(version, "cpu", "cpu.idle", idle, IDLE);
    }
}

/// CPU shares of v1 (2 to 262144, default 1024) as a weight of v2 (1 to 10000, default 100).
///
/// The exponent is a quadratic in log2(shares) through the smallest, the default and the largest pair. The
/// straight line that all runtimes used until 2025 mapped the default of 1024 to 39, which starved
/// containers beside systemd's own services at 100 (runc 1.3.2, crun 1.23).
pub fn weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        3..=262_143 => {
            let l = (shares as f64).log2();
            10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
        _ => 10_000,
    }
}

fn v1(list: &mut List, cpu: &LinuxCpu) -> Result<()> {
    let v1 = Version::V1;
    let shares = cpu.shares().filter(|&s| s != 0);
    if let Some(shares) = shares.filter(|s| !(2..=262_144).contains(s)) {
        // The kernel would clamp it without a word.
        return Err(
            Error::new(format!("cpu shares {shares} are not between 2 and 262144")).from_config(SHARES)
        );
    }
    if let Some(period) = cpu.realtime_period().filter(|&p| p != 0) {
        list.push(v1, "cpu", "cpu.rt_period_us", period, RT_PERIOD);
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|&r| r != 0) {
        list.push(v1, "cpu", "cpu.rt_runtime_us", runtime, RT_RUNTIME);
    }
    weight_and_idle(list, v1, ("cpu.shares", shares), cpu.idle());
    if let Some(period) = cpu.period().filter(|&p| p != 0) {
        list.push(v1, "cpu", "cpu.cfs_period_us", period, PERIOD);
    }
    if let Some(quota) = cpu.quota().filter(|&q| q != 0) {
        list.push(v1, "cpu", "cpu.cfs_quota_us", quota.max(-1), QUOTA);
    }
    if let Some(burst) = cpu.burst() {
        list.push(v1, "cpu", "cpu.cfs_burst_us", burst, BURST);
    }
    Ok(())
}
