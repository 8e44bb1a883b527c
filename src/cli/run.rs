//! `myrt run`

use clap::Args;

use super::create::Create;
use super::{Global, Subcommand};
use crate::error::Result;
use crate::run::Foreground;
use crate::timings;

/// Create and start a container.
#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    create: Create,
    /// Do not wait for the program
    #[arg(long, short)]
    detach: bool,
    /// Do not delete the container when its program has ended
    #[arg(long)]
    keep: bool,
    /// Do not adopt orphans of the container
    #[arg(long)]
    no_subreaper: bool,
    /// Print how long each step took, once the program runs
    #[arg(long)]
    timings: bool,
}

impl Subcommand for Run {
    const NAME: &'static str = "run";
    const ABOUT: &'static str = "Create and start a container, wait for its program, delete it";

    fn run(self, global: &Global) -> Result<u8> {
        if self.timings {
            timings::want();
        }
        let how = Foreground { detach: self.detach, keep: self.keep, no_subreaper: self.no_subreaper };
        let id = self.create.id();
        let code = crate::run::run(&self.create.request(global)?, how).map_err(|e| e.at(id))?;
        Ok(code as u8)
    }
}
