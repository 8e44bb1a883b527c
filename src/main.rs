//! Parses the command line, runs it, prints one error, exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(myrt::cli::main(std::env::args_os()))
}
