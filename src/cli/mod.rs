//! The command line: global options, and one file for each command.
//!
//! Only the command that was named is built: clap takes as long for the whole tree as the kernel for half of
//! a container. Options may stand before and after the id, and `-no-subreaper` is accepted with one dash,
//! because engines write it so.

pub mod checkpoint;
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

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};

use crate::error::{Call, Context, Error, Result};
use crate::log::{self, Format};
use crate::timings;

/// The values of `--rootless`.
const ROOTLESS: [&str; 3] = ["true", "false", "auto"];

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
    /// Makes no difference: myrt sees for itself what it may do
    #[arg(long, value_parser = ROOTLESS, num_args = 0..=1, require_equals = true, hide = true)]
    rootless: Option<Option<String>>,
    /// How cgroups are made: cgroupfs, systemd, or disabled (none is)
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
            Some("disabled") => Ok(false),
            Some(other) => {
                Err(Error::new(format!("cgroup manager {other:?} is not cgroupfs, systemd or disabled")))
            }
        }
    }

    /// True if no cgroup is to be made: Podman's `--cgroups=disabled`.
    pub fn no_cgroup(&self) -> bool {
        self.cgroup_manager.as_deref() == Some("disabled")
    }

    fn open_log(&self) -> Result<()> {
        log::open(self.log.as_deref(), format(&self.log_format)?, self.debug)
    }
}

fn format(name: &str) -> Result<Format> {
    match name {
        "text" => Ok(Format::Text),
        "json" => Ok(Format::Json),
        other => Err(Error::new(format!("log format {other:?} is not text or json"))),
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
    entry::<checkpoint::Checkpoint>(),
    entry::<checkpoint::Restore>(),
    entry::<plan::Plan>(),
    entry::<spec::Spec>(),
    entry::<features::Features>(),
];

/// The whole program: returns the exit status.
pub fn main(args: impl Iterator<Item = OsString>) -> u8 {
    timings::begin();
    let args = as_engines_write(args.collect());
    let named = named(&args);
    let matches = match command(named).try_get_matches_from(&args) {
        Ok(matches) => matches,
        Err(e) if e.kind() == ErrorKind::DisplayHelp => return status(say(e).map(|()| 0), 1),
        Err(e) => {
            // If there can be no log there is nothing to say of it: what is wrong is the command line.
            drop(open_log_of(&args));
            return status(Err(usage(&e)), 1);
        }
    };
    let (Some(entry), Some((_, options)), false) = (named, matches.subcommand(), matches.get_flag("version"))
    else {
        let text =
            if matches.get_flag("version") { version() } else { command(None).render_help().to_string() };
        return status(say(text).map(|()| 0), 1);
    };
    let global = Global::from_arg_matches(&matches).map_err(|e| usage(&e));
    let result = global.and_then(|global| {
        global.open_log()?;
        (entry.run)(options, &global)
    });
    status(result.map_err(|e| e.at(entry.name)), entry.failure)
}

/// The exit status; a failure is reported, which happens here alone.
fn status(result: Result<u8>, failure: u8) -> u8 {
    result.unwrap_or_else(|e| {
        log::error(&e);
        failure
    })
}

/// Opens the log that a command line names which cannot be read as a whole: an engine looks for the failure there.
fn open_log_of(args: &[OsString]) -> Result<()> {
    let name = value_of(args, "--log-format").unwrap_or(OsStr::new("text"));
    log::open(value_of(args, "--log").map(Path::new), format(&name.to_string_lossy())?, false)
}

/// The value of a global option, as `--option value` or `--option=value`; the last one counts.
fn value_of<'a>(args: &'a [OsString], option: &str) -> Option<&'a OsStr> {
    let before = &args[..command_at(args).unwrap_or(args.len())];
    let value = |at: usize| match before[at] == option {
        true => before.get(at + 1).map(OsString::as_os_str),
        false => before[at].to_str()?.strip_prefix(option)?.strip_prefix('=').map(OsStr::new),
    };
    (0..before.len()).rev().find_map(value)
}

/// What engines write in a way that clap does not know: `-no-subreaper` with one dash (but not where it may be
/// an argument of the container's program), and the value of `--rootless` behind a space.
fn as_engines_write(mut args: Vec<OsString>) -> Vec<OsString> {
    let end = command_at(&args).unwrap_or(args.len());
    if let Some(at) = args[..end].iter().position(|arg| arg == "--rootless")
        && args.get(at + 1).is_some_and(is_rootless_value)
    {
        args.remove(at + 1);
    }
    if named(&args).is_some_and(|entry| entry.name != exec::Exec::NAME) {
        args.iter_mut().filter(|arg| *arg == "-no-subreaper").for_each(|arg| *arg = "--no-subreaper".into());
    }
    args
}

fn is_rootless_value(arg: &OsString) -> bool {
    ROOTLESS.iter().any(|word| arg == word)
}

/// The command that the arguments name.
fn named(args: &[OsString]) -> Option<&'static Entry> {
    let name = &args[command_at(args)?];
    COMMANDS.iter().find(|entry| name == entry.name)
}

/// The place of the command: the first argument behind the global options and their values.
fn command_at(args: &[OsString]) -> Option<usize> {
    const WITH_VALUE: [&str; 4] = ["--root", "--log", "--log-format", "--cgroup-manager"];
    let mut at = 1;
    while let Some(arg) = args.get(at) {
        let takes_next = WITH_VALUE.iter().any(|option| arg == option)
            || arg == "--rootless" && args.get(at + 1).is_some_and(is_rootless_value);
        if !arg.to_string_lossy().starts_with('-') {
            return Some(at);
        }
        at += if takes_next { 2 } else { 1 };
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

/// Prints a result. A full disk or a reader that went away is an error like any other, where println! panics.
pub fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout();
    let written = stdout.write_all(text.to_string().as_bytes()).and_then(|()| stdout.flush());
    written.call("write(2)").at("write to standard output")
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
    fn what_engines_write_is_understood() {
        let written = |line: &str| as_engines_write(line.split(' ').map(OsString::from).collect());
        assert_eq!(written("myrt run -no-subreaper a"), written("myrt run --no-subreaper a"));
        let own = "myrt --rootless exec a sh -no-subreaper --rootless auto";
        assert_eq!(written(own).join(" ".as_ref()), own, "these are the program's");
        assert_eq!(written("myrt --rootless auto list"), written("myrt --rootless list"));
        assert_eq!(written("myrt --rootless=true list").len(), 3);
        assert_eq!(written("myrt --rootless list").len(), 3);
    }

    #[test]
    fn the_log_is_found_on_a_command_line_that_cannot_be_read() {
        let log = |line: &str| {
            let args: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            value_of(&args, "--log").map(OsStr::to_os_string)
        };
        assert_eq!(log("myrt --log a --frob run"), Some("a".into()));
        assert_eq!(log("myrt --frob --log=a --log-format=json"), Some("a".into()));
        assert_eq!(log("myrt --log a --log b run --frob"), Some("b".into()));
        assert_eq!(log("myrt --log-format json exec a sh --log b"), None, "this is the program's");
        assert_eq!(log("myrt --log"), None);
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
