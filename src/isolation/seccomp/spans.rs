//! All numbers that one `AUDIT_ARCH` can bring, as spans with the same answer.

use super::abi::{Abi, SLOTS, X32_BIT, number};
use super::rules::{Rules, Verdict};

/// `SECCOMP_RET_ERRNO` with `ENOSYS`.
const ENOSYS: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
/// What libseccomp answers to an interface that the profile does not list.
pub(super) const BAD_ARCH: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// The answer to all numbers of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// A `SECCOMP_RET_*` value.
    Return(u32),
    /// A list of conditions of an interface, by index.
    Ask(Abi, u16),
}

/// Numbers from `start` up to the next span.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) answer: Answer,
}

/// What a profile answers where no rule does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Defaults {
    /// `SECCOMP_RET_*` of `defaultAction`.
    pub(super) answer: u32,
    /// Whether calls that are newer than the profile get `ENOSYS` instead.
    ///
    /// A C library tries a new call first and falls back to an old one on `ENOSYS` only. A profile that
    /// was written before the call existed would break it with its `EPERM` (or its kill); so runc
    /// answers `ENOSYS` to every number above the largest that the profile names, and so do we.
    pub(super) hide_newer: bool,
}

/// The spans of an interface that is alone behind its `AUDIT_ARCH`: all but x86_64 and x32.
pub(super) fn plain(rules: &Rules, defaults: Defaults) -> Vec<Span> {
    let mut spans = Spans::default();
    spans.interface(rules, defaults, 0);
    spans.0
}

/// The spans of `AUDIT_ARCH_X86_64`: numbers with `X32_BIT` are those of x32.
pub(super) fn x86_64(native: &Rules, x32: Option<&Rules>, defaults: Defaults) -> Vec<Span> {
    let bad = Answer::Return(BAD_ARCH);
    let newer = |rules: &Rules, old| match rules.newest.filter(|_| defaults.hide_newer) {
        Some(_) => Answer::Return(ENOSYS),
        None => old,
    };
    let default = Answer::Return(defaults.answer);
    let mut spans = Spans::default();
    spans.interface(native, defaults, 0);
    match x32 {
        Some(x32) => {
            spans.interface(x32, defaults, X32_BIT);
            spans.push(0x8000_0000, newer(native, default));
            spans.push(0xc000_0000, newer(x32, default));
        }
        None => {
            spans.push(X32_BIT, bad);
            spans.push(0x8000_0000, newer(native, bad));
            spans.push(0xc000_0000, bad);
            // -1 is how a tracer skips a call; libseccomp does not kill for that.
            spans.push(u32::MAX, default);
        }
    }
    spans.0
}

#[derive(Default)]
struct Spans(Vec<Span>);

impl Spans {
    /// Goes on with another answer from `start`.
    fn push(&mut self, start: u32, answer: Answer) {
        if self.0.last().is_none_or(|last| last.answer != answer) {
            self.0.push(Span { start, answer });
        }
    }

    /// All numbers of one interface, and what comes after the last.
    fn interface(&mut self, rules: &Rules, defaults: Defaults, base: u32) {
        let newest = rules.newest.filter(|_| defaults.hide_newer);
        let default = Answer::Return(defaults.answer);
        let mut next = 0;
        for slot in 0..SLOTS {
            let number = number(slot);
            if newest.is_some_and(|newest| number > newest) {
                break;
            }
            if number > next {
                self.push(base | next, default);
            }
            self.push(
                base | number,
                match rules.verdicts[slot] {
                    Verdict::Default => default,
                    Verdict::Always(answer) => Answer::Return(answer),
                    Verdict::When(list) => Answer::Ask(rules.abi, list),
                },
            );
            next = number + 1;
        }
        match newest {
            Some(newest) => self.push(base | (newest + 1), Answer::Return(ENOSYS)),
            None => self.push(base | next, default),
        }
    }
}
