//! What a profile says, checked: actions, flags, and the rule of each entry of `syscalls`.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};

use super::condition::Condition;
use crate::error::{Context, Error, Result};

/// The largest error number that the kernel hands to a program (linux/err.h, `MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
/// The largest value that a tracer gets: what fits in `SECCOMP_RET_DATA`.
const MAX_TRACE: u32 = 0xffff;

/// The `SECCOMP_RET_*` value of an action.
///
/// Fails for notify, for an error number that the kernel would cut, and for one on an action that takes
/// none: the spec demands that (config-linux.md, `errnoRet`); runc ignores it.
pub(super) fn answer(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32> {
    let max = match action {
        LinuxSeccompAction::ScmpActNotify => {
            return Err(Error::new("SCMP_ACT_NOTIFY is not supported"));
        }
        LinuxSeccompAction::ScmpActErrno => MAX_ERRNO,
        LinuxSeccompAction::ScmpActTrace => MAX_TRACE,
        _ if errno.is_some() => return Err(Error::new(format!("{action} takes no error number"))),
        _ => 0,
    };
    match errno {
        Some(errno) if errno > max => {
            Err(Error::new(format!("error number {errno} of {action} is above {max}")))
        }
        _ => Ok(action.as_u32(errno)),
    }
}

/// Whether a call that meets this action goes on to the kernel: then nothing is gained by `ENOSYS`.
pub(super) fn lets_through(action: LinuxSeccompAction) -> bool {
    use LinuxSeccompAction::*;
    matches!(action, ScmpActAllow | ScmpActLog | ScmpActTrace)
}

/// Refuses what only makes sense with notify.
pub(super) fn refuse_listener(profile: &LinuxSeccomp) -> Result<()> {
    let path = profile.listener_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let metadata = profile.listener_metadata().as_ref().is_some_and(|text| !text.is_empty());
    match (path, metadata) {
        (true, _) => {
            Err(Error::new("a seccomp listener is not supported")).from_config("/linux/seccomp/listenerPath")
        }
        (_, true) => Err(Error::new("a seccomp listener is not supported"))
            .from_config("/linux/seccomp/listenerMetadata"),
        _ => Ok(()),
    }
}

/// The `SECCOMP_FILTER_FLAG_*` to install the filter with.
///
/// Without the key it is `SPEC_ALLOW`, as runc does: containers would else run with the costly mitigation of
/// speculative store bypass. `TSYNC` says nothing new: a container starts with one thread.
pub(super) fn flags(profile: &LinuxSeccomp) -> Result<u32> {
    let Some(names) = profile.flags() else {
        return Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32);
    };
    let mut flags = 0;
    for (i, flag) in names.iter().enumerate() {
        flags |= match flag {
            LinuxSeccompFilterFlag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG as u32,
            LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32,
            LinuxSeccompFilterFlag::SeccompFilterFlagTsync => 0,
            LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => {
                return Err(Error::new(format!("{flag} needs SCMP_ACT_NOTIFY, which is not supported")))
                    .from_config(format!("/linux/seccomp/flags/{i}"));
            }
        };
    }
    Ok(flags)
}

/// One entry of `syscalls`: an action, and under which conditions.
pub(super) struct Rule {
    /// `SECCOMP_RET_*`.
    pub(super) answer: u32,
    /// Any of these suffices, and of each all conditions must hold; in the order of the arguments.
    wide: Vec<Vec<Condition>>,
    /// The same for interfaces with arguments of 32 bits.
    narrow: Vec<Vec<Condition>>,
}

impl Rule {
    /// Reads an entry of `syscalls`.
    pub(super) fn read(entry: &LinuxSyscall) -> Result<Rule> {
        let answer = answer(entry.action(), entry.errno_ret())?;
        let args = entry.args().as_deref().unwrap_or_default();
        let mut conditions = args.iter().map(Condition::read).collect::<Result<Vec<_>>>()?;
        let mut seen = 0_u8;
        let twice = conditions.iter().any(|c| {
            let bit = 1 << c.index;
            let again = seen & bit != 0;
            seen |= bit;
            again
        });
        let wide = if twice {
            // runc: two conditions on one argument make every condition a rule of its own.
            conditions.into_iter().map(|condition| vec![condition]).collect()
        } else {
            conditions.sort_by_key(|condition| condition.index);
            vec![conditions]
        };
        let narrow = wide.iter().map(|all| all.iter().map(|c| c.narrowed()).collect()).collect();
        Ok(Rule { answer, wide: needed(wide), narrow: needed(narrow) })
    }

    /// The alternatives on an interface of 64 or of 32 bits.
    pub(super) fn alternatives(&self, wide: bool) -> &[Vec<Condition>] {
        if wide { &self.wide } else { &self.narrow }
    }
}

/// Drops the conditions that always hold; no condition left means: always.
fn needed(mut alternatives: Vec<Vec<Condition>>) -> Vec<Vec<Condition>> {
    for all in &mut alternatives {
        all.retain(|condition| !condition.is_always_true());
    }
    alternatives
}
