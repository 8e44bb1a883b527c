//! What the user and the engine get to read: stderr, and `--log` in text or JSON.
//!
//! Engines read the last line of a JSON log to explain a failure: exactly one record with level `error`
//! for each failure, with `level`, `msg` and `time` (RFC 3339).

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::json;

use crate::error::{Call, Context, Result};

/// The shape of a record in the log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `time="..." level=... msg="..."`
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Debug)]
struct Log {
    file: Option<File>,
    format: Format,
    debug: bool,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Opens the log file for appending; from here on everything is written to it.
pub fn open(path: Option<&Path>, format: Format, debug: bool) -> Result<()> {
    let open = |path: &Path| {
        let options = OpenOptions::new().append(true).create(true).mode(0o644).open(path);
        options.call("open(2)").at(format!("open the log {}", path.display()))
    };
    let file = path.map(open).transpose()?;
    LOG.get_or_init(|| Log { file, format, debug });
    Ok(())
}

/// True if `--debug` was asked for.
pub fn debugging() -> bool {
    LOG.get().is_some_and(|log| log.debug)
}

/// A record for whoever asked for `--debug`.
pub fn debug(text: impl Display) {
    if debugging() {
        write("debug", &text.to_string());
    }
}

/// A record that something is not as the user may think; never for what confines.
pub fn warn(text: impl Display) {
    write("warning", &text.to_string());
}

/// The one record of a failure; the same text goes to stderr, with hint and origin on lines of their own.
pub fn error(error: &crate::error::Error) {
    let text = format!("{error}");
    if let Some(log) = LOG.get()
        && let Some(file) = &log.file
    {
        record(file, log.format, "error", &text);
    }
    // Nobody is left to tell if stderr is closed.
    drop(writeln!(std::io::stderr(), "myrt: {text}"));
}

fn write(level: &str, text: &str) {
    match LOG.get() {
        Some(Log { file: Some(file), format, .. }) => record(file, *format, level, text),
        _ => drop(writeln!(std::io::stderr(), "myrt: {level}: {text}")),
    }
}

fn record(mut file: &File, format: Format, level: &str, text: &str) {
    let time = now();
    let line = match format {
        Format::Json => format!("{}\n", json!({"level": level, "msg": text, "time": time})),
        Format::Text => format!("time={time:?} level={level} msg={text:?}\n"),
    };
    // One write, so that records of processes that share the log do not mix. A full disk must not
    // turn a log line into a second failure.
    drop(file.write_all(line.as_bytes()));
}

/// The current time in RFC 3339, UTC, with nanoseconds.
pub fn now() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    rfc3339(now.as_secs(), now.subsec_nanos())
}

/// Days since 1970 to a civil date: the well-known algorithm over 400-year eras that begin on 1 March.
fn rfc3339(seconds: u64, nanos: u32) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(951_782_400, 5), "2000-02-29T00:00:00.000000005Z");
        assert_eq!(rfc3339(4_107_542_399, 999_999_999), "2100-02-28T23:59:59.999999999Z");
    }
}
