//! The files behind the statistics.

use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::cpuacct::CpuAcctController;
use cgroups_rs::fs::hugetlb::HugeTlbController;
use cgroups_rs::fs::memory::MemController;
use cgroups_rs::fs::pid::PidController;

use super::{BlkioEntry, Hugetlb, MemoryEntry, Pids, Pressure, PressureLine, Stats};
use crate::cgroup::files::{Dir, keyed};
use crate::error::Result;

/// Reads the cgroup2 directory: pressure always, the controllers' files where they are.
///
/// `all`: there are no v1 hierarchies that know better.
pub(super) fn v2(dir: &Dir, all: bool, stats: &mut Stats) -> Result<()> {
    let path = || dir.path().to_path_buf();
    stats.cpu.psi = pressure(dir, "cpu.pressure")?;
    stats.memory.psi = pressure(dir, "memory.pressure")?;
    stats.blkio.psi = pressure(dir, "io.pressure")?;
    hugetlb(dir, true, stats)?;
    if !all {
        return Ok(());
    }
    let cpu = CpuController::new(path(), path(), true).cpu().stat;
    let nanoseconds = |key| keyed(&cpu, key).unwrap_or(0) * 1000;
    stats.cpu.usage.total = nanoseconds("usage_usec");
    stats.cpu.usage.user = nanoseconds("user_usec");
    stats.cpu.usage.kernel = nanoseconds("system_usec");
    throttling(&cpu, nanoseconds("throttled_usec"), stats);
    memory_v2(dir, stats)?;
    pids(dir, true, stats);
    if let Some(text) = dir.read_if_there("io.stat")? {
        io_stat(&text, stats);
    }
    Ok(())
}

fn memory_v2(dir: &Dir, stats: &mut Stats) -> Result<()> {
    if dir.read_if_there("memory.current")?.is_none() {
        return Ok(()); // the controller is not enabled for the container
    }
    let controller = MemController::new(dir.path().to_path_buf(), dir.path().to_path_buf(), true);
    let memory = controller.memory_stat();
    let swap = controller.memswap();
    let entry = MemoryEntry {
        limit: unsigned(memory.limit_in_bytes),
        usage: memory.usage_in_bytes,
        max: memory.max_usage_in_bytes,
        failcnt: memory.fail_cnt,
    };
    stats.memory.usage = entry;
    // Memory and swap together, as v1 counts; the peaks of the two cannot be added.
    stats.memory.swap = MemoryEntry {
        limit: swap_limit(dir)?.saturating_add(entry.limit),
        usage: swap.usage_in_bytes + entry.usage,
        max: 0,
        failcnt: swap.fail_cnt,
    };
    stats.memory.raw = memory.stat.raw.into_iter().collect();
    stats.memory.cache = stats.memory.raw.get("file").copied().unwrap_or(0);
    Ok(())
}

/// The limit of swap alone; cgroups-rs reads its "max" as 0.
fn swap_limit(dir: &Dir) -> Result<u64> {
    match dir.read_if_there("memory.swap.max")? {
        Some(text) => Ok(text.trim().parse().unwrap_or(u64::MAX)),
        None => Ok(0), // without swap accounting there is no swap
    }
}

/// Reads one controller of a v1 hierarchy.
pub(super) fn v1(controller: &str, dir: &Dir, stats: &mut Stats) -> Result<()> {
    let path = || dir.path().to_path_buf();
    match controller {
        "cpu" => {
            let cpu = CpuController::new(path(), path(), false).cpu().stat;
            throttling(&cpu, keyed(&cpu, "throttled_time").unwrap_or(0), stats);
        }
        "cpuacct" => {
            let cpu = CpuAcctController::new(path(), path()).cpuacct();
            let usage = &mut stats.cpu.usage;
            (usage.total, usage.user, usage.kernel) = (cpu.usage, cpu.usage_user, cpu.usage_sys);
            usage.percpu = numbers(&cpu.usage_percpu);
            usage.percpu_user = numbers(&cpu.usage_percpu_user);
            usage.percpu_kernel = numbers(&cpu.usage_percpu_sys);
        }
        "memory" => memory_v1(dir, stats),
        "pids" => pids(dir, false, stats),
        "cpuset" => cpuset(dir, stats)?,
        "blkio" => blkio(dir, stats)?,
        "hugetlb" => hugetlb(dir, false, stats)?,
        _ => {}
    }
    Ok(())
}

fn memory_v1(dir: &Dir, stats: &mut Stats) {
    let controller = MemController::new(dir.path().to_path_buf(), dir.path().to_path_buf(), false);
    let memory = controller.memory_stat();
    let (swap, kernel, tcp) = (controller.memswap(), controller.kmem_stat(), controller.kmem_tcp_stat());
    let entry = |limit, usage, max, failcnt| MemoryEntry { limit: unsigned(limit), usage, max, failcnt };
    stats.memory.usage =
        entry(memory.limit_in_bytes, memory.usage_in_bytes, memory.max_usage_in_bytes, memory.fail_cnt);
    stats.memory.swap =
        entry(swap.limit_in_bytes, swap.usage_in_bytes, swap.max_usage_in_bytes, swap.fail_cnt);
    stats.memory.kernel =
        entry(kernel.limit_in_bytes, kernel.usage_in_bytes, kernel.max_usage_in_bytes, kernel.fail_cnt);
    stats.memory.kernel_tcp =
        entry(tcp.limit_in_bytes, tcp.usage_in_bytes, tcp.max_usage_in_bytes, tcp.fail_cnt);
    stats.memory.raw = memory.stat.raw.into_iter().collect();
    stats.memory.cache = memory.stat.cache;
}

fn throttling(cpu_stat: &str, throttled_time: u64, stats: &mut Stats) {
    stats.cpu.throttling.periods = keyed(cpu_stat, "nr_periods").unwrap_or(0);
    stats.cpu.throttling.throttled_periods = keyed(cpu_stat, "nr_throttled").unwrap_or(0);
    stats.cpu.throttling.throttled_time = throttled_time;
}

fn pids(dir: &Dir, v2: bool, stats: &mut Stats) {
    let controller = PidController::new(dir.path().to_path_buf(), dir.path().to_path_buf(), v2);
    let limit = match controller.get_pid_max() {
        Ok(cgroups_rs::fs::MaxValue::Value(limit)) => u64::try_from(limit).unwrap_or(0),
        _ => 0,
    };
    stats.pids = Pids { current: controller.get_pid_current().unwrap_or(0), limit };
}

fn cpuset(dir: &Dir, stats: &mut Stats) -> Result<()> {
    let text = |file: &str| Ok(dir.read_if_there(file)?.unwrap_or_default());
    let number = |file: &str| -> Result<u64> { Ok(text(file)?.trim().parse().unwrap_or(0)) };
    let set = &mut stats.cpuset;
    set.cpus = ranges(&text("cpuset.cpus")?);
    set.mems = ranges(&text("cpuset.mems")?);
    set.cpu_exclusive = number("cpuset.cpu_exclusive")?;
    set.mem_hardwall = number("cpuset.mem_hardwall")?;
    set.mem_exclusive = number("cpuset.mem_exclusive")?;
    set.memory_migrate = number("cpuset.memory_migrate")?;
    set.memory_spread_page = number("cpuset.memory_spread_page")?;
    set.memory_spread_slab = number("cpuset.memory_spread_slab")?;
    set.memory_pressure = number("cpuset.memory_pressure")?;
    set.sched_load_balance = number("cpuset.sched_load_balance")?;
    set.sched_relax_domain_level = text("cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0);
    Ok(())
}

/// BFQ's numbers where it is in charge, the throttling layer's otherwise.
fn blkio(dir: &Dir, stats: &mut Stats) -> Result<()> {
    for policy in ["blkio.bfq", "blkio.throttle"] {
        let bytes = dir.read_if_there(&format!("{policy}.io_service_bytes_recursive"))?;
        let count = dir.read_if_there(&format!("{policy}.io_serviced_recursive"))?;
        stats.blkio.io_service_bytes_recursive = bytes.as_deref().map(blkio_table).unwrap_or_default();
        stats.blkio.io_serviced_recursive = count.as_deref().map(blkio_table).unwrap_or_default();
        if !stats.blkio.io_service_bytes_recursive.is_empty() {
            break;
        }
    }
    Ok(())
}

/// `8:0 Read 4096`; the last line, the total of all devices, has no device.
pub(super) fn blkio_table(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = (words.next()?.to_string(), words.next()?.parse().ok()?);
        Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
    };
    text.lines().filter_map(entry).collect()
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...`, told in v1's words.
pub(super) fn io_stat(text: &str, stats: &mut Stats) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let entry = |op: &str| BlkioEntry { major, minor, op: op.to_string(), value };
            match key {
                "rbytes" => stats.blkio.io_service_bytes_recursive.push(entry("Read")),
                "wbytes" => stats.blkio.io_service_bytes_recursive.push(entry("Write")),
                "rios" => stats.blkio.io_serviced_recursive.push(entry("Read")),
                "wios" => stats.blkio.io_serviced_recursive.push(entry("Write")),
                _ => {}
            }
        }
    }
}

/// Usage is what is reserved where the kernel counts that, as limits are about reservations too.
fn hugetlb(dir: &Dir, v2: bool, stats: &mut Stats) -> Result<()> {
    let (now, most) = if v2 { ("current", "") } else { ("usage_in_bytes", "max_usage_in_bytes") };
    for size in HugeTlbController::new(dir.path().to_path_buf(), dir.path().to_path_buf(), v2).get_sizes() {
        let number = |file: String| -> Result<Option<u64>> {
            Ok(dir.read_if_there(&file)?.and_then(|text| text.trim().parse().ok()))
        };
        let mut prefix = format!("hugetlb.{size}.rsvd");
        let usage = match number(format!("{prefix}.{now}"))? {
            Some(usage) => usage,
            None => {
                prefix = format!("hugetlb.{size}");
                match number(format!("{prefix}.{now}"))? {
                    Some(usage) => usage,
                    None => continue, // not enabled for the container
                }
            }
        };
        let (max, failcnt) = match v2 {
            true => (0, dir.key(&format!("hugetlb.{size}.events"), "max")?.unwrap_or(0)),
            false => (
                number(format!("{prefix}.{most}"))?.unwrap_or(0),
                number(format!("{prefix}.failcnt"))?.unwrap_or(0),
            ),
        };
        stats.hugetlb.insert(size, Hugetlb { usage, max, failcnt });
    }
    Ok(())
}

fn pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>> {
    Ok(dir.read_if_there(file)?.map(|text| parse_pressure(&text)))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, then the same for `full`.
pub(super) fn parse_pressure(text: &str) -> Pressure {
    let mut pressure = Pressure::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target: &mut PressureLine = match words.next() {
            Some("some") => &mut pressure.some,
            Some("full") => &mut pressure.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => target.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => target.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => target.avg300 = value.parse().unwrap_or(0.0),
                "total" => target.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    pressure
}

fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `0-2,7` as 0, 1, 2, 7.
pub(super) fn ranges(text: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for range in text.trim().split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            all.extend(first..=last);
        }
    }
    all
}

/// -1 is "no limit" to cgroups-rs and the largest number to runc.
fn unsigned(limit: i64) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}
