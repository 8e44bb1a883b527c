//! `/process/args`, `env`, `cwd`: the program, found with the container's own rights, and executed.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat, stat};
use nix::unistd::chdir;
use oci_spec::runtime::Process;

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::cstring;
use crate::sys::process::{Argv, execve, may_execute, raw_getcwd, reset_signals};

/// Where a program without a slash is looked for if the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is executed.
#[derive(Debug, Clone)]
pub struct Command {
    args: Vec<CString>,
    env: Vec<CString>,
    path: String,
    uid: u32,
}

impl Command {
    /// Reads the configuration.
    pub fn new(process: &Process) -> Result<Command> {
        let args = strings(process.args().as_deref().unwrap_or_default(), "/process/args")?;
        if args.is_empty() || args[0].is_empty() {
            return Err(Error::new("args is empty: nothing to execute").from_config("/process/args"));
        }
        let texts = process.env().as_deref().unwrap_or_default();
        let env = strings(texts, "/process/env")?;
        let path = texts
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("PATH="))
            .unwrap_or(DEFAULT_PATH)
            .to_string();
        Ok(Command { args, env, path, uid: process.user().uid() })
    }

    /// The name of the program as the configuration has it.
    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.args[0].to_string_lossy()
    }

    fn find(&self) -> Result<CString> {
        let name = self.args[0].to_bytes();
        if name.contains(&b'/') {
            return executable(&self.args[0])
                .map(|()| self.args[0].clone())
                .map_err(|errno| self.unfit(errno));
        }
        let mut found = Errno::ENOENT;
        for dir in self.path.split(':') {
            let candidate =
                cstring([if dir.is_empty() { "." } else { dir }.as_bytes(), b"/", name].concat())?;
            match executable(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(Errno::EACCES) => found = Errno::EACCES,
                Err(_) => {}
            }
        }
        // Engines know "not found" by this phrase and exit with 127 for it.
        Err(match found {
            Errno::EACCES => self.unfit(found),
            _ => Error::new(format!("exec: {:?}: executable file not found in $PATH", self.name())),
        })
    }

    fn unfit(&self, errno: Errno) -> Error {
        match errno {
            // execve(2) says EACCES of a directory, and Docker before 23 makes 126 of no other word.
            Errno::EISDIR => Error::call(&format!("exec: {:?} is a directory", self.name()), Errno::EACCES),
            _ => Error::call(&format!("exec: {:?}", self.name()), errno),
        }
    }
}

fn strings(texts: &[String], at: &str) -> Result<Vec<CString>> {
    let one = |(index, text): (usize, &String)| cstring(text).from_config(format!("{at}/{index}"));
    texts.iter().enumerate().map(one).collect()
}

/// A regular file that we may execute.
fn executable(path: &CStr) -> nix::Result<()> {
    let kind = SFlag::from_bits_truncate(stat(path)?.st_mode) & SFlag::S_IFMT;
    match kind {
        SFlag::S_IFREG => may_execute(path),
        SFlag::S_IFDIR => Err(Errno::EISDIR),
        _ => Err(Errno::EACCES),
    }
}

/// Enters the working directory and verifies that it lies inside (CVE-2024-21626).
#[derive(Debug)]
pub struct EnterCwd {
    cwd: CString,
    again: bool,
}

impl EnterCwd {
    /// Reads the configuration: absolute.
    pub fn new(process: &Process) -> Result<EnterCwd> {
        let cwd = process.cwd();
        if !cwd.is_absolute() {
            return Err(
                Error::new(format!("cwd {} is not absolute", cwd.display())).from_config("/process/cwd")
            );
        }
        Ok(EnterCwd { cwd: cstring(cwd.as_os_str().as_bytes()).from_config("/process/cwd")?, again: false })
    }

    /// The same once more, for when the user is the container's own: one of the two may be allowed.
    pub fn as_user(&self) -> EnterCwd {
        EnterCwd { cwd: self.cwd.clone(), again: true }
    }
}

impl fmt::Display for EnterCwd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "enter {}{}",
            self.cwd.to_string_lossy(),
            if self.again { " as the user, verify that it is inside" } else { "" }
        )
    }
}

impl Step for EnterCwd {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/cwd")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        let entered = chdir(self.cwd.as_c_str());
        if !self.again {
            return Ok(match entered {
                Ok(()) => Outcome::Done,
                // Perhaps the user may: a home directory on a filesystem that denies root.
                Err(_) => Outcome::Skipped("the user tries"),
            });
        }
        let inside = raw_getcwd().call("getcwd(2)")?;
        // Entered before with the rights of root: being there is enough.
        if let Err(errno) = entered
            && inside != trimmed(&self.cwd)
        {
            return Err(Error::call("chdir(2)", errno));
        }
        if !inside.starts_with(b"/") {
            return Err(Error::new("the working directory lies outside of the container"));
        }
        Ok(Outcome::Done)
    }
}

fn trimmed(path: &CStr) -> &[u8] {
    let bytes = path.to_bytes();
    match bytes.iter().rposition(|b| *b != b'/') {
        Some(last) => &bytes[..=last],
        None => b"/",
    }
}

/// Finds the program, so that `create` and not `start` says that it is missing.
#[derive(Debug)]
pub struct FindProgram(pub Command);

impl fmt::Display for FindProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "find {}", self.0.name())
    }
}

impl Step for FindProgram {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/args/0")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        ctx.program = Some(self.0.find()?);
        Ok(Outcome::Done)
    }
}

/// Becomes the program.
#[derive(Debug)]
pub struct Execute(pub Command);

impl Execute {
    /// `HOME` of the user from the container's /etc/passwd, if the configuration gives none.
    fn home(&self) -> Option<CString> {
        if self.0.env.iter().any(|entry| entry.to_bytes().starts_with(b"HOME=")) {
            return None;
        }
        let home = home_of(self.0.uid).unwrap_or_else(|| "/".to_string());
        cstring(format!("HOME={home}")).ok()
    }
}

/// The home directory of a user: passwd(5). Whatever the container put there cannot stop us for long.
fn home_of(uid: u32) -> Option<String> {
    let fd = open(
        "/etc/passwd",
        OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | OFlag::O_NOCTTY,
        Mode::empty(),
    )
    .ok()?;
    if SFlag::from_bits_truncate(fstat(&fd).ok()?.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return None;
    }
    let mut text = String::new();
    File::from(fd).take(1 << 20).read_to_string(&mut text).ok()?;
    let line = text.lines().find(|line| line.split(':').nth(2).and_then(|n| n.parse().ok()) == Some(uid))?;
    line.split(':').nth(5).filter(|home| !home.is_empty()).map(str::to_string)
}

impl fmt::Display for Execute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("execute")?;
        for arg in &self.0.args {
            let arg = arg.to_string_lossy();
            let plain = !arg.is_empty() && arg.chars().all(|c| c.is_ascii_graphic() && !"\"'\\$".contains(c));
            if plain { write!(f, " {arg}")? } else { write!(f, " {arg:?}")? }
        }
        Ok(())
    }
}

/// Reads `HOME` and gives signals back their meaning, before the filter is installed.
#[derive(Debug)]
pub struct Prepare(pub Execute);

impl fmt::Display for Prepare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reset signals")
    }
}

impl Step for Prepare {
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        ctx.home = self.0.home();
        reset_signals().call("sigprocmask(2)")?;
        Ok(Outcome::Done)
    }
}

impl Step for Execute {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/args")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let program = ctx.program.take().ok_or_else(|| Error::new("the program was not found before"))?;
        let mut env = self.0.env.clone();
        env.extend(ctx.home.take());
        let errno = execve(&program, &Argv::new(&self.0.args), &Argv::new(&env));
        let e = Error::call("execve(2)", errno);
        Err(match (errno, missing_loader(&program)) {
            (Errno::ENOENT, Some(loader)) => {
                e.hint(format!("the file is there but its loader {loader} is not"))
            }
            (Errno::ENOEXEC, _) => {
                e.hint("exec format error: is it a script without #!, or for another processor?")
            }
            _ => e,
        })
    }
}

/// The interpreter that the file names and that is missing: the `#!` line, or PT_INTERP of an ELF file.
fn missing_loader(program: &CStr) -> Option<String> {
    let mut start = vec![0u8; 4096];
    let fd = open(program, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty()).ok()?;
    let len = File::from(fd).read(&mut start).ok()?;
    start.truncate(len);
    let loader = match start.strip_prefix(b"#!") {
        Some(line) => line.split(|b| *b == b'\n').next()?.trim_ascii().split(|b| *b == b' ').next()?.to_vec(),
        None => interpreter(&start)?.to_vec(),
    };
    let path = cstring(&loader).ok()?;
    stat(path.as_c_str()).is_err().then(|| String::from_utf8_lossy(&loader).into_owned())
}

/// PT_INTERP of a 64-bit little-endian ELF file: elf(5).
fn interpreter(file: &[u8]) -> Option<&[u8]> {
    let number = |at: usize, size: usize| -> Option<usize> {
        let bytes = file.get(at..at.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b)))
    };
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    (0..count).find_map(|n| {
        let entry = table.checked_add(n.checked_mul(size)?)?;
        if number(entry, 4)? != 3 {
            return None;
        }
        let (offset, len) = (number(entry + 8, 8)?, number(entry + 32, 8)?);
        file.get(offset..offset.checked_add(len)?)?.split(|b| *b == 0).next()
    })
}
