//! `/linux/resources/blockIO`: weights (10 to 1000) and rates (bytes or operations per second; 0: no limit).

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice, LinuxWeightDevice};

use super::{List, Missing, Version};
use crate::error::{Error, Result};

const HERE: &str = "/linux/resources/blockIO";

/// The writes of the io (v1: blkio) controller.
pub(super) fn block_io(list: &mut List, io: &LinuxBlockIo) -> Result<()> {
    let weight = io.weight().filter(|&w| w != 0);
    let leaf = io.leaf_weight().filter(|&w| w != 0);
    let devices = io.weight_device().as_deref().unwrap_or_default();
    let rates = rates(io);
    if weight.is_none() && leaf.is_none() && devices.is_empty() && rates.iter().all(|r| r.devices.is_empty())
    {
        return Ok(());
    }
    check_weight(weight, &format!("{HERE}/weight"))?;
    check_weight(leaf, &format!("{HERE}/leafWeight"))?;
    for (n, device) in devices.iter().enumerate() {
        let pointer = format!("{HERE}/weightDevice/{n}");
        check_device(device.major(), device.minor(), &pointer)?;
        check_weight(device.weight().filter(|&w| w != 0), &pointer)?;
        check_weight(device.leaf_weight().filter(|&w| w != 0), &pointer)?;
    }
    let version = list.home("io", "blkio", HERE)?;
    match version {
        Version::V2 => v2_weights(list, weight, leaf, devices)?,
        Version::V1 => v1_weights(list, weight, leaf, devices),
    }
    for rate in &rates {
        for (n, device) in rate.devices.iter().enumerate() {
            let pointer = format!("{HERE}/{}/{n}", rate.field);
            check_device(device.major(), device.minor(), &pointer)?;
            let number = format!("{}:{}", device.major(), device.minor());
            match version {
                Version::V1 => {
                    list.push(version, "blkio", rate.v1, format!("{number} {}", device.rate()), &pointer);
                }
                Version::V2 => {
                    let limit = if device.rate() == 0 { "max".into() } else { device.rate().to_string() };
                    list.push(version, "io", "io.max", format!("{number} {}={limit}", rate.v2), &pointer);
                }
            }
        }
    }
    Ok(())
}

/// One of the four kinds of rate: its field, its v1 file and its key in io.max.
struct Rate<'a> {
    field: &'static str,
    v1: &'static str,
    v2: &'static str,
    devices: &'a [LinuxThrottleDevice],
}

fn rates(io: &LinuxBlockIo) -> [Rate<'_>; 4] {
    fn rate<'a>(
        field: &'static str,
        v1: &'static str,
        v2: &'static str,
        devices: &'a Option<Vec<LinuxThrottleDevice>>,
    ) -> Rate<'a> {
        Rate { field, v1, v2, devices: devices.as_deref().unwrap_or_default() }
    }
    [
        rate(
            "throttleReadBpsDevice",
            "blkio.throttle.read_bps_device",
            "rbps",
            io.throttle_read_bps_device(),
        ),
        rate(
            "throttleWriteBpsDevice",
            "blkio.throttle.write_bps_device",
            "wbps",
            io.throttle_write_bps_device(),
        ),
        rate(
            "throttleReadIOPSDevice",
            "blkio.throttle.read_iops_device",
            "riops",
            io.throttle_read_iops_device(),
        ),
        rate(
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
            io.throttle_write_iops_device(),
        ),
    ]
}

/// BFQ takes the spec's number as it is; io.weight counts from 1 to 10000, so it is stretched.
fn v2_weights(
    list: &mut List,
    weight: Option<u16>,
    leaf: Option<u16>,
    devices: &[LinuxWeightDevice],
) -> Result<()> {
    if leaf.is_some() || devices.iter().any(|d| d.leaf_weight().unwrap_or(0) != 0) {
        return Err(Error::new("cgroup v2 has no leaf weights")
            .hint("they belonged to the CFQ scheduler, which is gone since kernel 5.0; leave leafWeight out")
            .from_config(format!("{HERE}/leafWeight")));
    }
    let v2 = Version::V2;
    if let Some(weight) = weight {
        let instead = Missing::Instead("io.weight".into(), stretched(weight).to_string());
        list.push_or(v2, "io", "io.bfq.weight", weight, &format!("{HERE}/weight"), instead);
    }
    for (n, device) in devices.iter().enumerate() {
        let Some(weight) = device.weight().filter(|&w| w != 0) else { continue };
        let number = format!("{}:{}", device.major(), device.minor());
        let instead = Missing::Instead("io.weight".into(), format!("{number} {}", stretched(weight)));
        let pointer = format!("{HERE}/weightDevice/{n}/weight");
        list.push_or(v2, "io", "io.bfq.weight", format!("{number} {weight}"), &pointer, instead);
    }
    Ok(())
}

/// 10 to 1000 as 1 to 10000, in a straight line.
pub(super) fn stretched(weight: u16) -> u64 {
    1 + (u64::from(weight) - 10) * 9999 / 990
}

/// `blkio.weight` is CFQ's and BFQ's alias on some kernels; newer ones have only the name with bfq.
fn v1_weights(list: &mut List, weight: Option<u16>, leaf: Option<u16>, devices: &[LinuxWeightDevice]) {
    let v1 = Version::V1;
    if let Some(weight) = weight {
        let instead = Missing::Instead("blkio.bfq.weight".into(), weight.to_string());
        list.push_or(v1, "blkio", "blkio.weight", weight, &format!("{HERE}/weight"), instead);
    }
    if let Some(leaf) = leaf {
        list.push(v1, "blkio", "blkio.leaf_weight", leaf, &format!("{HERE}/leafWeight"));
    }
    for (n, device) in devices.iter().enumerate() {
        let number = format!("{}:{}", device.major(), device.minor());
        let pointer = format!("{HERE}/weightDevice/{n}");
        if let Some(weight) = device.weight().filter(|&w| w != 0) {
            let value = format!("{number} {weight}");
            let instead = Missing::Instead("blkio.bfq.weight_device".into(), value.clone());
            list.push_or(v1, "blkio", "blkio.weight_device", value, &pointer, instead);
        }
        if let Some(leaf) = device.leaf_weight().filter(|&w| w != 0) {
            list.push(v1, "blkio", "blkio.leaf_weight_device", format!("{number} {leaf}"), &pointer);
        }
    }
}

fn check_weight(weight: Option<u16>, pointer: &str) -> Result<()> {
    match weight {
        Some(weight) if !(10..=1000).contains(&weight) => {
            Err(Error::new(format!("blkio weight {weight} is not between 10 and 1000")).from_config(pointer))
        }
        _ => Ok(()),
    }
}

fn check_device(major: i64, minor: i64, pointer: &str) -> Result<()> {
    if (0..=i64::from(u32::MAX)).contains(&major) && (0..=i64::from(u32::MAX)).contains(&minor) {
        return Ok(());
    }
    Err(Error::new(format!("{major}:{minor} is no block device number")).from_config(pointer))
}
