//! `myrt pause`, `myrt resume`

use clap::Args;

use super::{Global, Subcommand};
use crate::cgroup::Cgroup;
use crate::container::{Container, Status};
use crate::error::{Error, Result};
use crate::sys::procfs::Procfs;

/// Freeze a container.
#[derive(Debug, Args)]
pub struct Pause {
    /// Name of the container
    id: String,
}

/// Thaw a container.
#[derive(Debug, Args)]
pub struct Resume {
    /// Name of the container
    id: String,
}

/// Finds the cgroup of a container that has one of these states.
fn cgroup(global: &Global, id: &str, allowed: &[Status]) -> Result<(Container, Cgroup)> {
    let container = Container::open(&global.root()?, id)?;
    let status = container.status(&Procfs::open()?)?;
    if !allowed.contains(&status) {
        let cause = if status == Status::Stopped {
            "container not running".to_string()
        } else {
            format!("the container is {status}")
        };
        return Err(Error::new(cause));
    }
    let cgroup = Cgroup::open(&container.state.cgroup)?;
    Ok((container, cgroup.ok_or_else(|| Error::new("the container has no cgroup that could be frozen"))?))
}

impl Subcommand for Pause {
    const NAME: &'static str = "pause";
    const ABOUT: &'static str = "Freeze all processes of a container";

    fn run(self, global: &Global) -> Result<u8> {
        let allowed = [Status::Running, Status::Created];
        cgroup(global, &self.id, &allowed)
            .and_then(|(_held, cgroup)| cgroup.freeze())
            .map_err(|e| e.at(self.id))
            .map(|()| 0)
    }
}

impl Subcommand for Resume {
    const NAME: &'static str = "resume";
    const ABOUT: &'static str = "Let the processes of a frozen container go on";

    fn run(self, global: &Global) -> Result<u8> {
        cgroup(global, &self.id, &[Status::Paused])
            .and_then(|(_held, cgroup)| cgroup.thaw())
            .map_err(|e| e.at(self.id))
            .map(|()| 0)
    }
}
