//! `myrt list`

use clap::Args;
use serde_json::Value;

use super::{Global, Subcommand, say, state::json};
use crate::container;
use crate::error::{Error, Result};
use crate::log;
use crate::sys::procfs::Procfs;

/// List containers.
#[derive(Debug, Args)]
pub struct List {
    /// table or json
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    format: String,
    /// Print ids only
    #[arg(long, short)]
    quiet: bool,
}

impl Subcommand for List {
    const NAME: &'static str = "list";
    const ABOUT: &'static str = "List the containers";

    fn run(self, global: &Global) -> Result<u8> {
        let root = global.root()?;
        let ids = container::ids(&root)?;
        if self.quiet {
            return say(ids.iter().map(|id| format!("{id}\n")).collect::<String>()).map(|()| 0);
        }
        let proc = Procfs::open()?;
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            match container::look(&root, &id, &proc) {
                Ok((state, status)) => states.push(json(&state, status)),
                // One that is damaged, or was deleted just now, does not hide the others.
                Err(e) => log::warn(format!("{id}: {}", e.line())),
            }
        }
        match self.format.as_str() {
            "json" => say(format!("{}\n", Value::Array(states)))?,
            "table" => say(table(&states))?,
            other => return Err(Error::new(format!("format {other:?} is not table or json"))),
        }
        Ok(0)
    }
}

fn table(states: &[Value]) -> String {
    let columns = ["id", "pid", "status", "bundle", "created", "owner"];
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let mut rows: Vec<Vec<String>> = vec![columns.iter().map(|c| c.to_uppercase()).collect()];
    rows.extend(states.iter().map(|state| columns.iter().map(|c| text(&state[*c])).collect()));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
