//! Writes the program: a jump tree over spans of numbers, and the comparisons of arguments.
//!
//! The program is written from its end to its beginning, so that every jump knows how far it is. A target
//! that is out of the reach of a conditional jump (255 instructions) gets a long jump beside it, or a
//! second copy if it is a return. Only instructions are used that the kernel's own constant folding knows:
//! it answers calls that are always allowed from a bitmap, without running us (linux/kernel/seccomp.c,
//! `seccomp_is_const_allow`).

use super::condition::{Condition, Test};
use super::rules::Conditional;
use super::spans::{Answer, Span};
use crate::sys::seccomp::Instruction;

pub(super) const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
pub(super) const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
pub(super) const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
pub(super) const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
pub(super) const IF_GREATER: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
pub(super) const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
pub(super) const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The longest distance of a conditional jump, less the two instructions that may come to stand between.
const REACH: usize = 253;
// Offsets in `struct seccomp_data` (linux/seccomp.h).
const NUMBER: u32 = 0;
const AUDIT_ARCH: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// Return this value.
    Return(u32),
    /// An instruction, by its index from the end.
    At(usize),
}

/// A program in the making, its last instruction first.
#[derive(Default)]
pub(super) struct Program {
    reversed: Vec<Instruction>,
    /// The nearest return of each value.
    returns: Vec<(u32, usize)>,
}

impl Program {
    pub(super) fn new() -> Program {
        Program { reversed: Vec::with_capacity(1024), returns: Vec::with_capacity(8) }
    }

    /// The finished program, its first instruction first.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// The beginning of the program: goes to the part of the caller's `AUDIT_ARCH`.
    pub(super) fn dispatch(&mut self, parts: &[(u32, Target)], otherwise: Target) {
        let mut next = otherwise;
        for &(arch, part) in parts.iter().rev() {
            next = self.branch(IF_EQUAL, arch, part, next);
        }
        self.load(AUDIT_ARCH, next);
    }

    /// Goes by the number of the call. `ask` says where the conditions of an answer are.
    pub(super) fn numbers(&mut self, spans: &[Span], ask: &dyn Fn(Answer) -> Target) -> Target {
        let tree = self.tree(spans, ask);
        self.load(NUMBER, tree)
    }

    fn tree(&mut self, spans: &[Span], ask: &dyn Fn(Answer) -> Target) -> Target {
        match spans {
            [only] => ask(only.answer),
            // One number that differs from those around it.
            [around, one, rest] if around.answer == rest.answer && rest.start - one.start == 1 => {
                self.branch(IF_EQUAL, one.start, ask(one.answer), ask(around.answer))
            }
            _ => {
                let (low, high) = spans.split_at(spans.len() / 2);
                let start = high[0].start;
                let high = self.tree(high, ask);
                let low = self.tree(low, ask);
                self.branch(IF_AT_LEAST, start, high, low)
            }
        }
    }

    /// Asks the conditions of a list in its order; none that holds leads to `otherwise`.
    pub(super) fn conditions(&mut self, list: &[Conditional], otherwise: Target) -> Target {
        let mut next = otherwise;
        for rule in list.iter().rev() {
            let mut holds = Target::Return(rule.answer);
            for condition in rule.conditions.iter().rev() {
                holds = self.condition(condition, holds, next);
            }
            next = holds;
        }
        next
    }

    /// Compares an argument of 64 bits by halves: classic BPF computes in 32 bits.
    fn condition(&mut self, condition: &Condition, yes: Target, no: Target) -> Target {
        let (test, yes, no) = match condition.test {
            Test::Equal => (IF_EQUAL, yes, no),
            Test::NotEqual => (IF_EQUAL, no, yes),
            Test::Greater => (IF_GREATER, yes, no),
            Test::LessOrEqual => (IF_GREATER, no, yes),
            Test::GreaterOrEqual => (IF_AT_LEAST, yes, no),
            Test::Less => (IF_AT_LEAST, no, yes),
        };
        // struct seccomp_data has the bytes of an argument in the order of the machine: low half first.
        let low_half = ARGUMENTS + 8 * u32::from(condition.index);
        let (mask, value) = (condition.mask as u32, condition.value as u32);
        let (high_mask, high) = ((condition.mask >> 32) as u32, (condition.value >> 32) as u32);
        let low = match mask {
            0 => yes,
            _ => {
                let compare = self.branch(test, value, yes, no);
                self.masked(low_half, mask, compare)
            }
        };
        if high_mask == 0 {
            return low;
        }
        let mut compare = self.branch(IF_EQUAL, high, low, no);
        if test != IF_EQUAL {
            compare = self.branch(IF_GREATER, high, yes, compare);
        }
        self.masked(low_half + 4, high_mask, compare)
    }

    /// Loads the bits of `mask` for `next`, the comparison just written.
    fn masked(&mut self, offset: u32, mask: u32, next: Target) -> Target {
        if next != Target::At(self.reversed.len().wrapping_sub(1)) {
            return next; // Both ways led there, so there is no comparison.
        }
        if mask != u32::MAX {
            self.write(AND, mask);
        }
        self.write(LOAD, offset)
    }

    /// Loads a word and goes on with `next`; with the instruction just written, that takes no jump.
    fn load(&mut self, offset: u32, next: Target) -> Target {
        match next {
            Target::At(at) if at + 1 == self.reversed.len() => {}
            Target::At(at) => {
                self.write(JUMP, self.distance(at) as u32);
            }
            Target::Return(value) => {
                self.write(RETURN, value);
            }
        }
        self.write(LOAD, offset)
    }

    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.in_reach(yes);
        let no = self.in_reach(no);
        // In reach means less than 254, and one more instruction may have come between.
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        self.push(Instruction { code, jt, jf, k })
    }

    /// The index of a target that a conditional jump reaches from here, after a helping hand if needed.
    fn in_reach(&mut self, target: Target) -> usize {
        let far = match target {
            Target::At(at) => Some(at),
            Target::Return(value) => self.returns.iter().find(|(of, _)| *of == value).map(|(_, at)| *at),
        };
        if let Some(at) = far.filter(|&at| self.distance(at) <= REACH) {
            return at;
        }
        match target {
            Target::At(at) => {
                self.write(JUMP, self.distance(at) as u32);
            }
            Target::Return(value) => {
                self.write(RETURN, value);
                self.returns.retain(|(of, _)| *of != value);
                self.returns.push((value, self.reversed.len() - 1));
            }
        }
        self.reversed.len() - 1
    }

    /// How many instructions the next one would jump over to get there.
    fn distance(&self, at: usize) -> usize {
        self.reversed.len() - 1 - at
    }

    fn write(&mut self, code: u16, k: u32) -> Target {
        self.push(Instruction { code, jt: 0, jf: 0, k })
    }

    fn push(&mut self, instruction: Instruction) -> Target {
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }
}
