//! Which rule answers: the rules of one interface, call by call.
//!
//! As in libseccomp a rule without conditions beats all that have some, and the first such rule stays. Rules
//! with conditions are alternatives; where they contradict each other, `Condition::precedence` decides.

use super::abi::{Abi, IPC, SLOTS, slot};
use super::condition::{Condition, Test};
use super::names::Call;
use super::profile::Rule;
use crate::error::{Error, Result};

/// More rules with conditions than fit into any program.
const MAX_CONDITIONALS: usize = 4096;

/// What is answered to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No rule names it.
    Default,
    /// The same whatever its arguments: a `SECCOMP_RET_*` value.
    Always(u32),
    /// It depends: the index of a list in `Rules::lists`.
    When(u16),
}

/// An answer, and all that must hold for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Conditional {
    /// `SECCOMP_RET_*`.
    pub(super) answer: u32,
    /// Not empty; each of another argument, in the order of the arguments.
    pub(super) conditions: Vec<Condition>,
}

/// The rules of one interface.
pub(super) struct Rules {
    pub(super) abi: Abi,
    /// One per `slot`.
    pub(super) verdicts: [Verdict; SLOTS],
    /// Per call: the first that holds answers.
    pub(super) lists: Vec<Vec<Conditional>>,
    /// The largest number that the profile names; `None` if it names none here.
    pub(super) newest: Option<u32>,
    /// How many rules with conditions there were.
    conditionals: usize,
    /// Whether what no rule names is let through.
    open: bool,
}

impl Rules {
    /// No rules yet. `open`: what no rule names is let through.
    pub(super) fn new(abi: Abi, open: bool) -> Rules {
        Rules {
            abi,
            verdicts: [Verdict::Default; SLOTS],
            lists: Vec::new(),
            newest: None,
            conditionals: 0,
            open,
        }
    }

    /// Takes note that the profile knows this call, whatever it says about it.
    pub(super) fn know(&mut self, call: &Call) {
        let carrier = self.carrier(call).map(|(number, _)| number);
        let newest = self.abi.number(call).max(carrier);
        // runc reads a largest number of 0 as "none found"; only for x32 its bit is part of the number.
        self.newest = self.newest.max(newest.filter(|&n| n > 0 || self.abi == Abi::X32));
    }

    /// Adds a rule for one call, if this interface has it.
    ///
    /// Fails if the rule contradicts an earlier one for the same arguments.
    pub(super) fn add(&mut self, call: &Call, rule: &Rule) -> Result<()> {
        let carrier = self.carrier(call);
        for alternative in rule.alternatives(self.abi.is_wide()) {
            if let Some((number, which)) = carrier {
                let which = self.carries(number, which);
                // libseccomp: what the rule says about the first argument gives way to which call it is.
                let rest = alternative.iter().filter(|condition| condition.index != 0);
                let conditions = [which].into_iter().chain(rest.copied()).collect::<Vec<_>>();
                self.place(number, &conditions, rule.answer)?;
            }
            if let Some(number) = self.abi.number(call) {
                self.place(number, alternative, rule.answer)?;
            }
        }
        Ok(())
    }

    /// The number of the call that can carry this one here, and as what.
    fn carrier(&self, call: &Call) -> Option<(u32, u64)> {
        call.carried.filter(|_| self.abi == Abi::X86)
    }

    /// The condition that the carrier carries this call.
    fn carries(&self, carrier: u32, which: u64) -> Condition {
        // The kernel ignores the upper half of ipc's first argument, a version. Where the rules forbid, it is
        // ignored here as well, or ipc(SEMOP | 1 << 16) gets past them; where they permit, we stay exact.
        let mask = if self.open && carrier == IPC { 0xffff } else { 0xffff_ffff };
        Condition { index: 0, test: Test::Equal, mask, value: which }
    }

    /// Puts a rule where its number is.
    fn place(&mut self, number: u32, conditions: &[Condition], answer: u32) -> Result<()> {
        let Some(verdict) = slot(number).map(|slot| &mut self.verdicts[slot]) else {
            return Ok(());
        };
        match *verdict {
            Verdict::Always(_) => return Ok(()),
            _ if conditions.is_empty() => {
                *verdict = Verdict::Always(answer);
                return Ok(());
            }
            Verdict::Default => {
                *verdict = Verdict::When(self.lists.len() as u16);
                self.lists.push(vec![Conditional { answer, conditions: conditions.to_vec() }]);
            }
            Verdict::When(list) => merge(&mut self.lists[usize::from(list)], conditions, answer)?,
        }
        self.conditionals += 1;
        if self.conditionals > MAX_CONDITIONALS {
            return Err(Error::new("the filter is too large for the kernel: too many rules with arguments"));
        }
        Ok(())
    }
}

/// Adds a rule to those of the same call. Of two rules with the same beginning the shorter one covers the other.
fn merge(list: &mut Vec<Conditional>, conditions: &[Condition], answer: u32) -> Result<()> {
    for old in list.iter() {
        let same = old.conditions.len() == conditions.len();
        if conditions.starts_with(&old.conditions) && !(same && old.answer != answer) {
            return Ok(());
        }
        if old.conditions.starts_with(conditions) && old.answer != answer {
            return Err(Error::new("contradicts an earlier rule for the same arguments"));
        }
    }
    list.retain(|old| !old.conditions.starts_with(conditions));
    list.push(Conditional { answer, conditions: conditions.to_vec() });
    Ok(())
}
