//! `myrt state`

use clap::Args;
use serde_json::{Value, json};

use super::{Global, Subcommand, say};
use crate::container::{self, Status};
use crate::error::Result;
use crate::sys::procfs::Procfs;

/// Print the state.
#[derive(Debug, Args)]
pub struct State {
    /// Name of the container
    id: String,
}

impl Subcommand for State {
    const NAME: &'static str = "state";
    const ABOUT: &'static str = "Print the state of a container as JSON";

    fn run(self, global: &Global) -> Result<u8> {
        let (state, status) =
            container::look(&global.root()?, &self.id, &Procfs::open()?).map_err(|e| e.at(&self.id))?;
        say(format!("{:#}\n", json(&state, status))).map(|()| 0)
    }
}

/// The first process as long as it lives, else 0.
pub fn pid(state: &container::State, status: Status) -> i32 {
    state.process.as_ref().filter(|_| status != Status::Stopped).map_or(0, |process| process.pid)
}

/// The state of the spec (runtime.md, "State") and what runc adds to it.
pub fn json(state: &container::State, status: Status) -> Value {
    json!({
        "ociVersion": state.oci_version,
        "id": state.id,
        "pid": pid(state, status),
        "status": status,
        "bundle": state.bundle,
        "rootfs": state.rootfs,
        "created": state.created,
        "owner": state.owner,
        "annotations": state.annotations,
    })
}
