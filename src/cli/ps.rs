//! `myrt ps`

use std::process::Command;

use clap::Args;
use serde_json::json;

use super::{Global, Subcommand, say};
use crate::cgroup::Cgroup;
use crate::container;
use crate::error::{Call, Context, Error, Result};
use crate::sys::procfs::Procfs;

/// List processes.
#[derive(Debug, Args)]
pub struct Ps {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Name of the container
    id: String,
    /// Options of ps(1) [default: -ef]
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<String>,
}

impl Subcommand for Ps {
    const NAME: &'static str = "ps";
    const ABOUT: &'static str = "List the processes of a container";

    fn run(self, global: &Global) -> Result<u8> {
        let (state, _) =
            container::look(&global.root()?, &self.id, &Procfs::open()?).map_err(|e| e.at(&self.id))?;
        let cgroup = Cgroup::open(&state.cgroup)?
            .ok_or_else(|| Error::new("the container has no cgroup to look into"))?;
        let pids = cgroup.pids()?;
        match self.format.as_str() {
            "json" => say(format!("{}\n", json!(pids)))?,
            "table" => say(table(&pids, &self.options)?)?,
            other => return Err(Error::new(format!("format {other:?} is not table or json"))),
        }
        Ok(0)
    }
}

/// The lines of ps(1) that belong to the container, and its heading.
fn table(pids: &[i32], options: &[String]) -> Result<String> {
    let default = ["-ef".to_string()];
    let options = if options.is_empty() { &default } else { options };
    let output =
        Command::new("ps").args(options).output().call("execve(2)").at("ps").hint("install procps")?;
    if !output.status.success() {
        return Err(Error::new(String::from_utf8_lossy(&output.stderr).trim_end().to_string()).at("ps"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_ascii_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::new("the output of ps has no column PID"))?;
    let ours = |line: &&str| {
        let pid = line.split_ascii_whitespace().nth(column).and_then(|pid| pid.parse().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    Ok(std::iter::once(heading).chain(lines.filter(ours)).map(|line| format!("{line}\n")).collect())
}
