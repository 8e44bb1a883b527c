//! `myrt checkpoint`, `myrt restore`: known by name, so that an engine gets one clear line, but not there yet.

use std::ffi::OsString;

use clap::Args;

use super::{Global, Subcommand};
use crate::error::{Error, Result};

/// Save the state of a running container.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct Checkpoint {
    /// Whatever it is called with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

/// Bring a saved container back.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct Restore {
    /// Whatever it is called with
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    _all: Vec<OsString>,
}

fn refused() -> Error {
    Error::new("not supported by this version").hint("`myrt features` says so to engines")
}

impl Subcommand for Checkpoint {
    const NAME: &'static str = "checkpoint";
    const ABOUT: &'static str = "Not supported yet: save the state of a running container";

    fn run(self, _: &Global) -> Result<u8> {
        Err(refused())
    }
}

impl Subcommand for Restore {
    const NAME: &'static str = "restore";
    const ABOUT: &'static str = "Not supported yet: bring a saved container back";

    fn run(self, _: &Global) -> Result<u8> {
        Err(refused())
    }
}
