//! `myrt list`

use clap::Args;
use serde_json::Value;

use super::state::{json, pid};
use super::{Global, Subcommand, say};
use crate::container::{self, State, Status};
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
                Ok(found) => states.push(found),
                // One that is damaged, or was deleted just now, does not hide the others.
                Err(e) => log::warn(format!("{id}: {}", e.line())),
            }
        }
        match self.format.as_str() {
            "json" => {
                let all = states.iter().map(|(state, status)| json(state, *status));
                say(format!("{}\n", all.collect::<Value>()))?;
            }
            "table" => say(table(&states))?,
            other => return Err(Error::new(format!("format {other:?} is not table or json"))),
        }
        Ok(0)
    }
}

fn table(states: &[(State, Status)]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let row = |(state, status): &(State, Status)| {
        let (id, bundle) = (state.id.clone(), state.bundle.display().to_string());
        let (created, owner) = (state.created.clone(), state.owner.clone());
        [id, pid(state, *status).to_string(), status.to_string(), bundle, created, owner]
    };
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(states.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.len() + 3));
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
