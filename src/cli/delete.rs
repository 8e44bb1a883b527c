//! `myrt delete`

use clap::Args;

use super::{Global, Subcommand};
use crate::error::Result;

/// Delete containers.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kill it first, whatever it does; no error if there is none
    #[arg(long, short)]
    force: bool,
    /// Name of the container
    id: String,
}

impl Subcommand for Delete {
    const NAME: &'static str = "delete";
    const ABOUT: &'static str = "Delete a container and all that was made for it";

    fn run(self, global: &Global) -> Result<u8> {
        crate::run::delete(&global.root()?, &self.id, self.force).map_err(|e| e.at(self.id)).map(|()| 0)
    }
}
