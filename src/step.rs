//! A step: one thing the child does. Printing it and doing it are the same value.

use std::fmt;
use std::os::fd::OwnedFd;

use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::sync::Link;
use crate::sys::path::Root;
use crate::sys::procfs::Procfs;

/// Where `config.json` asked for something, as a JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pointer {
    /// myrt itself did.
    Myrt,
    /// A field: `/hostname`.
    Field(&'static str),
    /// An element of a list: `/mounts/3`.
    Item(&'static str, usize),
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pointer::Myrt => Ok(()),
            Pointer::Field(path) => f.pad(path),
            Pointer::Item(list, index) => f.pad(&format!("{list}/{index}")),
        }
    }
}

/// What became of a step. A plan is an intention; `--debug` prints the outcome.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done as planned.
    Done,
    /// Nothing was to be done, and why that is right.
    Skipped(&'static str),
    /// Done in another way than planned, and why.
    FellBack(&'static str),
    /// Done, and the user should know something (never for what confines).
    Warned(String),
}

/// One thing the child does.
///
/// `Display` is an imperative sentence in lower case: for `myrt plan`, `--debug` and errors.
pub trait Step: fmt::Display + fmt::Debug {
    /// Where `config.json` asked for it.
    fn asked_by(&self) -> Pointer {
        Pointer::Myrt
    }

    /// Does it, in the child.
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome>;

    /// What the user could try, for this errno.
    fn hint(&self, _errno: Errno) -> Option<&'static str> {
        None
    }
}

/// Runs one step; a failure says which step, why, what to try and who asked.
pub fn run(step: &dyn Step, ctx: &mut Ctx) -> Result<Outcome> {
    step.run(ctx).map_err(|mut e| {
        if let Some(hint) = e.errno().and_then(|errno| step.hint(errno)) {
            e = e.hint(hint);
        }
        if step.asked_by() != Pointer::Myrt {
            e = e.from_config(step.asked_by());
        }
        e.at(step)
    })
}

/// Steps in the order in which they run.
#[derive(Debug, Default)]
pub struct Steps(Vec<Box<dyn Step>>);

impl Steps {
    /// Adds a step at the end.
    pub fn push(&mut self, step: impl Step + 'static) {
        self.0.push(Box::new(step));
    }

    /// The steps, first to last.
    pub fn iter(&self) -> impl Iterator<Item = &dyn Step> {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// What one step leaves to a later one: a handful of descriptors, and the program that was found.
#[derive(Debug)]
pub struct Ctx {
    /// The way to the parent.
    pub link: Link,
    /// The host's /proc; closed before the child leaves the host's tree.
    pub proc: Option<Procfs>,
    /// What the parent opened for the child, each taken once.
    pub opened: Vec<Option<OwnedFd>>,
    /// `exec`: the container's first process.
    pub init: Option<OwnedFd>,
    /// Its root directory, where that is not the root of its mount namespace.
    pub init_root: Option<OwnedFd>,
    /// The container's root, once it is attached.
    pub root: Option<Root>,
    /// Where `myrt start` will send its word; `None` if whoever created us starts us.
    pub start: Option<OwnedFd>,
    /// The path of the program, once it was found with the container's own rights.
    pub program: Option<std::ffi::CString>,
    /// `HOME=...` from the container's /etc/passwd, if the configuration gives none.
    pub home: Option<std::ffi::CString>,
}

/// The place in [`Ctx::opened`] of something that the parent opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

impl Ctx {
    /// A child that has nothing but the way to its parent and the host's /proc.
    pub fn new(link: Link, proc: Procfs) -> Ctx {
        Ctx {
            link,
            proc: Some(proc),
            opened: Vec::new(),
            init: None,
            init_root: None,
            root: None,
            start: None,
            program: None,
            home: None,
        }
    }

    /// The container's root. The plan attaches it before any step that needs it.
    pub fn root(&self) -> Result<&Root> {
        self.root.as_ref().ok_or_else(|| Error::new("the root is not attached yet"))
    }

    /// The host's /proc. The plan closes it only when no step needs it any more.
    pub fn proc(&self) -> Result<&Procfs> {
        self.proc.as_ref().ok_or_else(|| Error::new("the host's /proc is closed already"))
    }

    /// Takes what the parent opened.
    pub fn take(&mut self, slot: Slot) -> Result<OwnedFd> {
        let fd = self.opened.get_mut(slot.0).and_then(Option::take);
        fd.ok_or_else(|| Error::new("the parent left no descriptor for this step"))
    }
}
