//! `myrt update`

use std::io::Read;
use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::{Global, Subcommand};
use crate::bundle::read_resources;
use crate::cgroup::Cgroup;
use crate::container::{Container, Status};
use crate::error::{Call, Context, Error, Result};
use crate::sys::procfs::Procfs;

/// Change the limits of a container.
#[derive(Debug, Args)]
pub struct Update {
    /// JSON file with the resources of the spec; - for standard input
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    blkio_weight: Option<u16>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time in a period in microseconds; -1 for no limit
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// CPU time that may be saved up, in microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// CPU shares, 2 to 262144
    #[arg(long, value_name = "N", visible_alias = "cpu-shares")]
    cpu_share: Option<u64>,
    /// Length of a realtime period in microseconds
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Realtime CPU time in a period in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<i64>,
    /// 1 to run only when nothing else wants to
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// CPUs to run on, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to allocate on
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit in bytes, or with k, m, g
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that is kept for the container
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for no limit
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    /// Obsolete since Linux 5.4
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory: Option<String>,
    /// Obsolete
    #[arg(long, value_name = "SIZE", hide = true)]
    kernel_memory_tcp: Option<String>,
    /// Most processes; -1 for no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Not supported: Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// Not supported: Intel RDT
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
    /// Name of the container
    id: String,
}

impl Subcommand for Update {
    const NAME: &'static str = "update";
    const ABOUT: &'static str = "Change limits and device rules of a container; what is not named stays";

    fn run(self, global: &Global) -> Result<u8> {
        let resources = self.resources()?;
        self.apply(global, &resources).map_err(|e| e.at(&self.id)).map(|()| 0)
    }
}

impl Update {
    fn apply(&self, global: &Global, resources: &LinuxResources) -> Result<()> {
        let mut container = Container::open(&global.root()?, &self.id)?;
        if container.status(&Procfs::open()?)? == Status::Stopped {
            return Err(Error::new("container not running"));
        }
        let cgroup = Cgroup::open(&container.state.cgroup)?;
        let cgroup = cgroup.ok_or_else(|| Error::new("the container has no cgroup to limit"))?;
        let mut record = container.state.cgroup.clone();
        cgroup.update(resources, &mut record)?;
        container.state.cgroup = record;
        container.write_state()
    }

    fn resources(&self) -> Result<LinuxResources> {
        for (name, value) in
            [("kernel-memory", &self.kernel_memory), ("kernel-memory-tcp", &self.kernel_memory_tcp)]
        {
            if value.is_some() {
                return Err(Error::new(format!("--{name}: the kernel has no such limit any more")));
            }
        }
        if self.l3_cache_schema.is_some() || self.mem_bw_schema.is_some() {
            return Err(Error::new("Intel RDT is not supported by this version"));
        }
        let options = self.options()?;
        match &self.resources {
            Some(_) if options.as_object().is_some_and(|all| !all.is_empty()) => {
                Err(Error::new("--resources and limits by option do not go together")
                    .hint("give one or the other"))
            }
            Some(file) => read_resources(&read(file)?).at("--resources"),
            None => read_resources(options.to_string().as_bytes()),
        }
    }

    /// The options in the shape of the spec.
    fn options(&self) -> Result<Value> {
        let mut all = Map::new();
        let mut put = |group: &str, key: &str, value: Option<Value>| {
            if let Some(value) = value {
                all.entry(group).or_insert_with(|| json!({}))[key] = value;
            }
        };
        put("blockIO", "weight", self.blkio_weight.map(Value::from));
        put("cpu", "period", self.cpu_period.map(Value::from));
        put("cpu", "quota", self.cpu_quota.map(Value::from));
        put("cpu", "burst", self.cpu_burst.map(Value::from));
        put("cpu", "shares", self.cpu_share.map(Value::from));
        put("cpu", "realtimePeriod", self.cpu_rt_period.map(Value::from));
        put("cpu", "realtimeRuntime", self.cpu_rt_runtime.map(Value::from));
        put("cpu", "idle", self.cpu_idle.map(Value::from));
        put("cpu", "cpus", self.cpuset_cpus.clone().map(Value::from));
        put("cpu", "mems", self.cpuset_mems.clone().map(Value::from));
        let size = |text: &Option<String>| text.as_deref().map(size).transpose().map(|n| n.map(Value::from));
        put("memory", "limit", size(&self.memory)?);
        put("memory", "reservation", size(&self.memory_reservation)?);
        put("memory", "swap", size(&self.memory_swap)?);
        put("pids", "limit", self.pids_limit.map(Value::from));
        Ok(Value::Object(all))
    }
}

fn read(file: &PathBuf) -> Result<Vec<u8>> {
    if file.as_os_str() != "-" {
        return std::fs::read(file).call("open(2)").at(file.display());
    }
    let mut bytes = Vec::new();
    std::io::stdin().take(1 << 20).read_to_end(&mut bytes).call("read(2)").at("standard input")?;
    Ok(bytes)
}

/// A number of bytes: `-1`, `65536`, `64m`, `1.5GiB`; powers of 1024.
fn size(text: &str) -> Result<i64> {
    let bad =
        || Error::new(format!("{text:?} is not a size")).hint("write bytes, or a number with k, m, g or t");
    if text == "-1" {
        return Ok(-1);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let amount: f64 = text[..digits].parse().map_err(|_| bad())?;
    let unit = text[digits..].trim().to_lowercase();
    let power = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(bad()),
    };
    let bytes = amount * 1024f64.powi(power);
    if bytes < i64::MAX as f64 { Ok(bytes as i64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("-1", -1), ("0", 0), ("65536", 65536), ("64m", 64 << 20), ("1.5GiB", 3 << 29), ("2KB", 2048)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["", "m", "-2", "1x", "1 2", "99999999999t"] {
            assert!(size(bad).is_err(), "{bad:?}");
        }
    }
}
