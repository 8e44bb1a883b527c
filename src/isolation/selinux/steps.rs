//! What the child does: labels for the keyring, for the program, and the question whether the program can run.

use std::fmt;

use nix::errno::Errno;

use super::label::{Categories, Label};
use super::policy::{self, Question};
use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Slot, Step};
use crate::sys::xattr;

/// Labels the keys that are made from here on: the session keyring.
#[derive(Debug)]
pub struct LabelKeys(pub Label);

impl fmt::Display for LabelKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label keys {}", self.0)
    }
}

impl Step for LabelKeys {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/selinuxLabel")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        ctx.proc()?.write(c"thread-self/attr/keycreate", self.0.to_string().as_bytes())?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        policy::explain_write(errno)
    }
}

/// Labels the program that execve(2) brings, and the sockets that are made for it until then.
///
/// The hooks that the host's programs serve have run: they keep the runtime's label.
#[derive(Debug)]
pub struct LabelProgram {
    /// The label.
    pub label: Label,
    /// False if the policy does not let us label sockets. The program inherits none of ours, so nothing is lost.
    pub sockets: bool,
}

impl fmt::Display for LabelProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "label the program {}{}", if self.sockets { "and its sockets " } else { "" }, self.label)
    }
}

impl Step for LabelProgram {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/selinuxLabel")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let label = self.label.to_string();
        let proc = ctx.proc()?;
        if self.sockets {
            proc.write(c"thread-self/attr/sockcreate", label.as_bytes())?;
        }
        proc.write(c"thread-self/attr/exec", label.as_bytes())?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        policy::explain_write(errno)
    }
}

/// What a program needs of its own file. Without `entrypoint` execve(2) fails; without one of the others it
/// succeeds, and the new program dies of SIGSEGV before its first instruction.
const NEEDED: [&str; 4] = ["entrypoint", "read", "execute", "map"];

const NOT_ASKED: Outcome = Outcome::Skipped("the policy may not be asked by this domain; the kernel decides");

/// Asks the policy whether the program may run with its label, while the answer can still be told to somebody.
#[derive(Debug)]
pub struct CheckProgram {
    label: Label,
    question: Question,
    place: Slot,
}

impl CheckProgram {
    /// Plans the question; nothing where the policy only notes what it forbids.
    pub fn new(label: &Label, place: impl FnOnce() -> Slot) -> Option<CheckProgram> {
        let same = policy::current().is_ok_and(|own| own == label.to_string());
        let question = Question::new("file", if same { &NEEDED[1..] } else { &NEEDED })?;
        policy::enforcing().then(|| CheckProgram { label: label.clone(), question, place: place() })
    }
}

impl fmt::Display for CheckProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ask the policy whether {} may run it", self.label)
    }
}

impl Step for CheckProgram {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/selinuxLabel")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let Ok(place) = ctx.take(self.place) else { return Ok(NOT_ASKED) };
        let program = ctx.program.as_deref().ok_or_else(|| Error::new("the program was not found before"))?;
        let shown = program.to_string_lossy();
        let file = xattr::label_of(program).call("getxattr(2)").at(format!("read the label of {shown}"))?;
        let Some(denied) = self.question.denied(place, &self.label.to_string(), &file) else {
            return Ok(NOT_ASKED);
        };
        if denied.is_empty() {
            return Ok(Outcome::Done);
        }
        let denied = denied.join(", ");
        let cause =
            format!("{shown} is labelled {file}, which {} may not {denied}: permission denied", self.label);
        Err(Error::new(cause).hint(explain(&self.label, &file)))
    }
}

/// Why a program cannot run: its categories are others, or its type is none for containers.
fn explain(process: &Label, file: &str) -> String {
    let level = |label: &Label| label.level().unwrap_or_default();
    let file = Label::new(file).ok();
    let categories = |label: &Label| Categories::of(&level(label));
    let apart = file.as_ref().is_some_and(|file| match (categories(process), categories(file)) {
        (Some(process), Some(file)) => !process.include(&file),
        _ => false,
    });
    match file {
        Some(file) if apart => format!(
            "the level {} of the file is not within the level {} of the process; give the root filesystem the \
             level of the process (--selinux-root Z), or the process that of its files (--selinux-level)",
            level(&file),
            level(process)
        ),
        file => format!(
            "files of the type {} are not for {}; label the root filesystem container_file_t (--selinux-root Z \
             or z, or chcon -R)",
            file.as_ref().map_or("?", Label::kind),
            process.kind()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_level_is_told_from_a_wrong_type() {
        let process = Label::new("system_u:system_r:container_t:s0:c1,c2").unwrap();
        let level = explain(&process, "system_u:object_r:container_file_t:s0:c3,c4");
        assert!(
            level.contains("s0:c3,c4") && level.contains("s0:c1,c2") && level.contains("level"),
            "{level}"
        );
        let kind = explain(&process, "system_u:object_r:etc_t:s0");
        assert!(kind.contains("etc_t") && kind.contains("container_t"), "{kind}");
        assert!(explain(&process, "unlabeled").contains("container_t"));
    }
}
