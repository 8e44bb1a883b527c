//! What went wrong, once, as the user reads it.
//!
//! One struct for every failure: the steps that led to it (outermost first), the cause, at most one hint
//! and at most one origin. It crosses the socket between child and parent whole, so that a failure inside
//! the container is reported as if it had happened in front of the user.

use std::borrow::Cow;
use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: `steps: cause`, then a hint and where `config.json` asked for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    /// What was being done, outermost first: `["mount proc on /proc"]`.
    steps: Vec<String>,
    /// Why it did not work: `mount(2): EPERM: operation not permitted`.
    cause: Cow<'static, str>,
    /// The raw error number, 0 if the cause is not a system call.
    errno: i32,
    /// What the user could try.
    hint: Option<Cow<'static, str>>,
    /// Where it was asked for: `config.json /mounts/0`.
    from: Option<String>,
}

impl Error {
    /// A refusal in words: lower case, no full stop, no "failed to".
    pub fn new(cause: impl Into<Cow<'static, str>>) -> Self {
        Error { steps: Vec::new(), cause: cause.into(), errno: 0, hint: None, from: None }
    }

    /// A system call that failed: `mount(2): EPERM: operation not permitted`.
    pub fn call(call: &str, errno: Errno) -> Self {
        let cause = format!("{call}: {errno:?}: {}", errno_text(errno));
        Error { steps: Vec::new(), cause: cause.into(), errno: errno as i32, hint: None, from: None }
    }

    /// Puts what was being done in front.
    pub fn at(mut self, step: impl fmt::Display) -> Self {
        self.steps.insert(0, step.to_string());
        self
    }

    /// Adds what the user could try; the first hint stays.
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Adds the JSON pointer in `config.json` that asked for it; the first one stays.
    pub fn from_config(mut self, pointer: impl fmt::Display) -> Self {
        self.from.get_or_insert_with(|| format!("config.json {pointer}"));
        self
    }

    /// The error number of the system call that failed; `None` if none did.
    pub fn errno(&self) -> Option<Errno> {
        (self.errno != 0).then(|| Errno::from_raw(self.errno))
    }

    /// Steps and cause in one line, without hint and origin.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for step in &self.steps {
            line.push_str(step);
            line.push_str(": ");
        }
        line.push_str(&self.cause);
        line.replace(['\n', '\r'], " ")
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.line())?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        if let Some(from) = &self.from {
            write!(f, "\n  from: {from}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Adds context to whatever failed.
#[allow(clippy::wrong_self_convention)] // `from_config` adds to a result, it converts nothing.
pub trait Context<T> {
    /// Puts what was being done in front. Written only if it failed.
    fn at(self, step: impl fmt::Display) -> Result<T>;
    /// Adds what the user could try.
    fn hint(self, hint: impl Into<Cow<'static, str>>) -> Result<T>;
    /// Adds the JSON pointer in `config.json` that asked for it.
    fn from_config(self, pointer: impl fmt::Display) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn at(self, step: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.at(step))
    }
    fn hint(self, hint: impl Into<Cow<'static, str>>) -> Result<T> {
        self.map_err(|e| e.hint(hint))
    }
    fn from_config(self, pointer: impl fmt::Display) -> Result<T> {
        self.map_err(|e| e.from_config(pointer))
    }
}

/// Names the system call behind a bare error number.
pub trait Call<T> {
    /// `Err(EPERM)` becomes `mount(2): EPERM: operation not permitted`.
    fn call(self, name: &str) -> Result<T>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call(self, name: &str) -> Result<T> {
        self.map_err(|errno| Error::call(name, errno))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call(self, name: &str) -> Result<T> {
        self.map_err(|e| match e.raw_os_error() {
            Some(raw) => Error::call(name, Errno::from_raw(raw)),
            None => Error::new(format!("{name}: {e}")),
        })
    }
}

/// The text of an error number as users know it: lower case, as strerror(3) has it.
fn errno_text(errno: Errno) -> String {
    let text = errno.desc();
    let mut chars = text.chars();
    match chars.next() {
        Some(first) if !text[1..].starts_with(|c: char| c.is_uppercase()) => {
            first.to_lowercase().collect::<String>() + chars.as_str()
        }
        _ => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_reads_outermost_first_with_hint_and_origin() {
        let e = Error::call("mount(2)", Errno::EPERM)
            .at("mount proc on /proc")
            .at("create web")
            .hint("add a pid namespace")
            .hint("a later hint does not replace the first")
            .from_config("/mounts/0");
        assert_eq!(
            e.to_string(),
            "create web: mount proc on /proc: mount(2): EPERM: operation not permitted\n  \
             hint: add a pid namespace\n  from: config.json /mounts/0"
        );
        assert_eq!(e.errno(), Some(Errno::EPERM));
    }

    #[test]
    fn a_line_is_one_line_whatever_the_cause_holds() {
        assert_eq!(Error::new("a\nb\r").line(), "a b ");
    }

    #[test]
    fn an_error_survives_the_socket() {
        let e = Error::call("openat2", Errno::ENOENT).at("x").hint("h").from_config("/root");
        let back: Error = serde_json::from_str(&serde_json::to_string(&e).unwrap()).unwrap();
        assert_eq!(e.to_string(), back.to_string());
    }
}
