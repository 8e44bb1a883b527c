//! `myrt start`

use clap::Args;

use super::{Global, Subcommand};
use crate::error::Result;

/// Start a created container.
#[derive(Debug, Args)]
pub struct Start {
    /// Name of the container
    id: String,
}

impl Subcommand for Start {
    const NAME: &'static str = "start";
    const ABOUT: &'static str = "Run the program of a created container";

    fn run(self, global: &Global) -> Result<u8> {
        crate::run::start(&global.root()?, &self.id).map_err(|e| e.at(self.id)).map(|()| 0)
    }
}
