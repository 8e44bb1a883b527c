//! One condition on an argument: `/linux/seccomp/syscalls/*/args/*`.

use std::cmp::{Ordering, Reverse};

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator};

use crate::error::{Error, Result};

/// How an argument is compared; all comparisons are unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// A comparison of one argument, `argument & mask` with `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, 0 to 5.
    pub(super) index: u8,
    pub(super) test: Test,
    /// The bits that count. Without the upper half the argument is compared as 32 bits.
    pub(super) mask: u64,
    /// Within `mask`.
    pub(super) value: u64,
}

impl Condition {
    /// Reads `args/*`. Fails if there is no argument of that index.
    pub(super) fn read(arg: &LinuxSeccompArg) -> Result<Condition> {
        use LinuxSeccompOperator::*;
        let index = u8::try_from(arg.index()).ok().filter(|&index| index < 6);
        let Some(index) = index else {
            return Err(Error::new(format!("argument {}: a system call has arguments 0 to 5", arg.index())));
        };
        let (test, mask, value) = match arg.op() {
            ScmpCmpNe => (Test::NotEqual, u64::MAX, arg.value()),
            ScmpCmpLt => (Test::Less, u64::MAX, arg.value()),
            ScmpCmpLe => (Test::LessOrEqual, u64::MAX, arg.value()),
            ScmpCmpEq => (Test::Equal, u64::MAX, arg.value()),
            ScmpCmpGe => (Test::GreaterOrEqual, u64::MAX, arg.value()),
            ScmpCmpGt => (Test::Greater, u64::MAX, arg.value()),
            ScmpCmpMaskedEq => (Test::Equal, arg.value(), arg.value_two().unwrap_or(0)),
        };
        Ok(Condition { index, test, mask, value: value & mask })
    }

    /// The same on an interface whose arguments have 32 bits: the upper half of all values is dropped.
    pub(super) fn narrowed(self) -> Condition {
        Condition { mask: self.mask & 0xffff_ffff, value: self.value & 0xffff_ffff, ..self }
    }

    /// Whether it holds for every argument: a comparison of no bits.
    pub(super) fn is_always_true(self) -> bool {
        self.mask == 0 && self.test == Test::Equal
    }

    /// Whether it is asked before another one (`Less`), where rules of one call contradict each other.
    ///
    /// The order is libseccomp's: higher arguments first, equality before ranges, the narrower of two
    /// ranges first. What libseccomp leaves to the order of insertion goes by the number of bits.
    pub(super) fn precedence(&self, other: &Condition) -> Ordering {
        self.place().cmp(&other.place())
    }

    fn place(&self) -> impl Ord + use<> {
        let (class, value) = match self.test {
            Test::Equal | Test::NotEqual => (0, !self.value),
            Test::Less | Test::LessOrEqual => (1, self.value),
            Test::Greater | Test::GreaterOrEqual => (2, !self.value),
        };
        (Reverse(self.index), class, value, Reverse(self.mask.count_ones()), self.mask, self.test as u8)
    }
}
