//! `myrt kill`

use clap::Args;

use super::{Global, Subcommand};
use crate::error::{Error, Result};

/// Send a signal.
#[derive(Debug, Args)]
pub struct Kill {
    /// To every process of the container
    #[arg(long, short)]
    all: bool,
    /// Name of the container
    id: String,
    /// Name (with or without SIG) or number
    #[arg(default_value = "TERM")]
    signal: String,
}

impl Subcommand for Kill {
    const NAME: &'static str = "kill";
    const ABOUT: &'static str = "Send a signal to a container";

    fn run(self, global: &Global) -> Result<u8> {
        let number = number(&self.signal)?;
        crate::run::kill(&global.root()?, &self.id, number, self.all).map_err(|e| e.at(self.id)).map(|()| 0)
    }
}

/// The number of a signal: `9`, `KILL`, `sigkill`, `RTMIN+3`. signal(7).
fn number(text: &str) -> Result<i32> {
    let unknown = || Error::new(format!("unknown signal {text:?}")).hint("a name or a number of signal(7)");
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=64).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    // Numbers as the kernel and all engines have them, whatever libc keeps for itself.
    let (base, offset) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => (34, rest),
        (_, Some(rest)) => (64, rest),
        _ => {
            return format!("SIG{name}")
                .parse::<nix::sys::signal::Signal>()
                .map(|s| s as i32)
                .map_err(|_| unknown());
        }
    };
    let offset = if offset.is_empty() { 0 } else { offset.parse::<i32>().map_err(|_| unknown())? };
    let number = base + offset;
    if (34..=64).contains(&number) { Ok(number) } else { Err(unknown()) }
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_have_names_and_numbers() {
        let good = [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("0", 0),
            ("37", 37),
            ("RTMIN+3", 37),
            ("SIGRTMAX", 64),
            ("RTMAX-1", 63),
        ];
        for (text, signal) in good {
            assert_eq!(number(text).unwrap(), signal, "{text}");
        }
        for bad in ["", "SIG", "65", "-1", "NOPE", "RTMIN-1", "RTMAX+1", "9 "] {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
