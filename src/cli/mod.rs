//! The command line: global options, and one file for each command.
//!
//! Only the command that was named is built: clap takes as long for the whole tree as the kernel for half of
//! a container. Options may stand before and after the id, and `-no-subreaper` is accepted with one dash,
//! because engines write it so.

pub mod create;
pub mod delete;
pub mod events;
pub mod exec;
pub mod features;
pub mod kill;
pub mod list;
pub mod pause;
pub mod plan;
pub mod ps;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod update;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::error::{Error, Result};
use crate::log::{self, Format};

/// Options before the command.
#[derive(Debug, Args)]
pub struct Global {
    /// Directory of the containers [default: /run/myrt, or $XDG_RUNTIME_DIR/myrt without root]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// File to append the log to
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Format of the log: text or json
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: String,
    /// Log what every step did
    #[arg(long)]
    debug: bool,
    /// Let systemd make the cgroup (cgroupsPath is slice:prefix:name)
    #[arg(long)]
    systemd_cgroup: bool,
    /// Ignored: myrt sees for itself what it may do
    #[arg(long, value_name = "true|false|auto", num_args = 0..=1, require_equals = true, hide = true)]
    rootless: Option<Option<String>>,
    /// How cgroups are made: cgroupfs or systemd
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<String>,
}

impl Global {
    /// The directory of the containers.
    pub fn root(&self) -> Result<PathBuf> {
        if let Some(root) = &self.root {
            return std::path::absolute(root)
                .map_err(|e| Error::new(format!("--root {}: {e}", root.display())));
        }
        if nix::unistd::geteuid().is_root() {
            return Ok(PathBuf::from("/run/myrt"));
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(dir) => Ok(PathBuf::from(dir).join("myrt")),
            None => {
                Err(Error::new("XDG_RUNTIME_DIR is not set").hint("set it, or name a directory with --root"))
            }
        }
    }

    /// True if systemd is to make the cgroup.
    pub fn systemd_cgroup(&self) -> Result<bool> {
        match self.cgroup_manager.as_deref() {
            None | Some("cgroupfs") => Ok(self.systemd_cgroup),
            Some("systemd") => Ok(true),
            Some(other) => Err(Error::new(format!("cgroup manager {other:?} is not cgroupfs or systemd"))),
        }
    }

    fn open_log(&self) -> Result<()> {
        let format = match self.log_format.as_str() {
            "text" => Format::Text,
            "json" => Format::Json,
            other => return Err(Error::new(format!("log format {other:?} is not text or json"))),
        };
        log::open(self.log.as_deref(), format, self.debug)
    }
}

/// One command.
pub trait Subcommand: Args {
    /// Its name.
    const NAME: &'static str;
    /// What it does, in a few words.
    const ABOUT: &'static str;
    /// The exit status when the command itself fails.
    const FAILURE: u8 = 1;
    /// Does it; returns the exit status.
    fn run(self, global: &Global) -> Result<u8>;
}

struct Entry {
    name: &'static str,
    about: &'static str,
    failure: u8,
    options: fn(Command) -> Command,
    run: fn(&ArgMatches, &Global) -> Result<u8>,
}

const fn entry<T: Subcommand>() -> Entry {
    Entry {
        name: T::NAME,
        about: T::ABOUT,
        failure: T::FAILURE,
        options: T::augment_args,
        run: |matches, global| T::from_arg_matches(matches).map_err(|e| usage(&e))?.run(global),
    }
}

const COMMANDS: &[Entry] = &[
    entry::<create::Create>(),
    entry::<start::Start>(),
    entry::<run::Run>(),
    entry::<exec::Exec>(),
    entry::<state::State>(),
    entry::<list::List>(),
    entry::<ps::Ps>(),
    entry::<kill::Kill>(),
    entry::<pause::Pause>(),
    entry::<pause::Resume>(),
    entry::<update::Update>(),
    entry::<events::Events>(),
    entry::<delete::Delete>(),
    entry::<plan::Plan>(),
    entry::<spec::Spec>(),
    entry::<features::Features>(),
];

/// The whole program: returns the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> =
        args.map(|arg| if arg == "-no-subreaper" { "--no-subreaper".into() } else { arg }).collect();
    let named = named(&args);
    let matches = match command(named).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(e) if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            print!("{e}");
            return 0;
        }
        Err(e) => {
            log::error(&usage(&e));
            return 1;
        }
    };
    if matches.get_flag("version") {
        print!("{}", version());
        return 0;
    }
    let (Some(entry), Some((_, options))) = (named, matches.subcommand()) else {
        print!("{}", command(None).render_help());
        return 0;
    };
    let global = Global::from_arg_matches(&matches).map_err(|e| usage(&e));
    let result = global.and_then(|global| {
        global.open_log()?;
        (entry.run)(options, &global)
    });
    match result {
        Ok(code) => code,
        Err(e) => {
            log::error(&e.at(entry.name));
            entry.failure
        }
    }
}

/// The command that the arguments name: the first that is one, behind the global options.
fn named(args: &[OsString]) -> Option<&'static Entry> {
    const WITH_VALUE: [&str; 4] = ["--root", "--log", "--log-format", "--cgroup-manager"];
    let mut args = args.iter().skip(1);
    while let Some(arg) = args.next() {
        if WITH_VALUE.iter().any(|option| arg == option) {
            args.next();
        } else if !arg.to_string_lossy().starts_with('-') {
            return COMMANDS.iter().find(|entry| arg == entry.name);
        }
    }
    None
}

fn command(named: Option<&'static Entry>) -> Command {
    let version = clap::Arg::new("version")
        .short('v')
        .long("version")
        .action(clap::ArgAction::SetTrue)
        .help("Print version");
    let mut command = Global::augment_args(Command::new("myrt"))
        .about("A low-level OCI container runtime with built-in isolation")
        .disable_version_flag(true)
        .disable_help_subcommand(true)
        .arg(version);
    for entry in COMMANDS.iter().filter(|entry| named.is_none_or(|named| named.name == entry.name)) {
        command = command.subcommand((entry.options)(Command::new(entry.name).about(entry.about)));
    }
    command
}

/// clap's several lines as one, with the usage line as hint.
fn usage(e: &clap::Error) -> Error {
    let text = e.to_string();
    let cause: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
    let cause = cause.join(" ").trim_start_matches("error: ").to_string();
    let usage = text.lines().find_map(|line| line.strip_prefix("Usage: "));
    let error = Error::new(cause);
    match usage {
        Some(usage) => error.hint(format!("usage: {usage}")),
        None => error.hint("myrt --help lists the commands"),
    }
}

fn version() -> String {
    format!("myrt version {}\ncommit: {}\nspec: 1.3.0\n", env!("CARGO_PKG_VERSION"), env!("MYRT_COMMIT"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_command_line_is_well_formed() {
        command(None).debug_assert();
    }

    #[test]
    fn a_command_is_found_behind_the_values_of_global_options() {
        let find =
            |args: &[&str]| named(&args.iter().map(OsString::from).collect::<Vec<_>>()).map(|e| e.name);
        assert_eq!(find(&["myrt", "--root", "run", "--debug", "state", "run"]), Some("state"));
        assert_eq!(find(&["myrt", "--log=x", "kill", "a"]), Some("kill"));
        assert_eq!(find(&["myrt", "nonsense", "kill"]), None);
        assert_eq!(find(&["myrt", "--help"]), None);
    }
}
