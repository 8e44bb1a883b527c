//! `myrt plan`

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::create::Selinux;
use super::{Global, Subcommand, say};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::plan::{self, Request};

/// Print what create would do.
#[derive(Debug, Args)]
pub struct Plan {
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Another file than config.json
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// text or json
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    format: String,
    #[command(flatten)]
    selinux: Selinux,
    /// Name of the container [default: the name of the bundle's directory]
    id: Option<String>,
}

impl Subcommand for Plan {
    const NAME: &'static str = "plan";
    const ABOUT: &'static str = "Print what `create` would do, step by step, and who asked for it";

    fn run(self, global: &Global) -> Result<u8> {
        let bundle = Bundle::open(&self.bundle, self.config.as_deref())?;
        let name = bundle.path.file_name().map(|name| name.to_string_lossy().into_owned());
        let id = self
            .id
            .or(name.filter(|name| crate::bundle::check_id(name).is_ok()))
            .unwrap_or_else(|| "container".to_string());
        crate::bundle::check_id(&id)?;
        // A terminal would go to the caller; nothing is opened here.
        let ask = Request {
            id,
            bundle: self.bundle,
            systemd_cgroup: global.systemd_cgroup()?,
            selinux: self.selinux.ask()?,
            no_cgroup: global.no_cgroup(),
            only_look: true,
            ..Request::default()
        };
        let plan = plan::Plan::create(&bundle, &ask)?;
        match self.format.as_str() {
            "text" => say(plan)?,
            "json" => say(format!("{:#}\n", json!(plan.lines())))?,
            other => return Err(Error::new(format!("format {other:?} is not text or json"))),
        }
        Ok(0)
    }
}
