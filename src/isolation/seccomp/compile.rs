//! From a profile to a filter: the story.

use std::cmp::Ordering;

use oci_spec::runtime::LinuxSeccomp;

use super::abi::{Abi, Machine};
use super::filter::Filter;
use super::names;
use super::profile::{self, Rule};
use super::program::{Program, Target};
use super::rules::{Conditional, Rules, Verdict};
use super::spans::{self, Answer, BAD_ARCH, Defaults, Span};
use crate::error::{Context, Error, Result};

/// Compiles `/linux/seccomp` for the kernel that we run on.
///
/// `None` if a filter would change nothing: the profile allows everything, on every interface that the
/// kernel has, and asks for no mitigation. Fails if the profile contradicts itself or the spec, asks for
/// notify, or needs more than 4096 instructions. Calls that no table knows are skipped, and so are
/// architectures that this kernel never runs; both as if they had not been named.
pub fn compile(profile: &LinuxSeccomp) -> Result<Option<Filter>> {
    compile_for(profile, Machine::HERE)
}

/// Compiles `/linux/seccomp` for a given kernel; else as [`compile`].
pub fn compile_for(profile: &LinuxSeccomp, machine: Machine) -> Result<Option<Filter>> {
    let answer = profile::answer(profile.default_action(), profile.default_errno_ret())
        .from_config("/linux/seccomp/defaultAction")?;
    let flags = profile::flags(profile)?;
    profile::refuse_listener(profile)?;

    let mut interfaces = interfaces(profile, machine);
    read_rules(profile, answer, &mut interfaces)?;

    let open = answer == libc::SECCOMP_RET_ALLOW && interfaces.iter().all(Rules::is_open);
    if open && interfaces.len() == machine.abis().len() && flags == Filter::SPEC_ALLOW {
        return Ok(None);
    }
    let hide_newer = !profile::lets_through(profile.default_action());
    let instructions = write(&mut interfaces, Defaults { answer, hide_newer });
    if instructions.len() > Filter::MAX_INSTRUCTIONS {
        let (have, max) = (instructions.len(), Filter::MAX_INSTRUCTIONS);
        return Err(Error::new(format!(
            "the filter is too large for the kernel: {have} instructions, at most {max}"
        )))
        .from_config("/linux/seccomp/syscalls");
    }
    Ok(Some(Filter { instructions, flags }))
}

/// The interfaces to write rules for: the native one first, then those that the profile lists.
fn interfaces(profile: &LinuxSeccomp, machine: Machine) -> Vec<Rules> {
    let listed = profile.architectures().iter().flatten().filter_map(|&arch| machine.abi(arch));
    let listed = listed.collect::<Vec<_>>();
    let native = machine.abis()[0];
    let open = profile::lets_through(profile.default_action());
    machine
        .abis()
        .iter()
        .filter(|abi| **abi == native || listed.contains(abi))
        .map(|abi| Rules::new(*abi, open))
        .collect()
}

/// Hands every rule to every interface.
fn read_rules(profile: &LinuxSeccomp, default: u32, interfaces: &mut [Rules]) -> Result<()> {
    for (i, entry) in profile.syscalls().iter().flatten().enumerate() {
        let pointer = || format!("/linux/seccomp/syscalls/{i}");
        let rule = match Rule::read(entry) {
            Ok(rule) => rule,
            Err(e) => return Err(e.from_config(pointer())),
        };
        for name in entry.names() {
            if name.is_empty() {
                return Err(Error::new("a system call without a name").from_config(pointer()));
            }
            let Some(call) = names::find(name) else { continue };
            for rules in interfaces.iter_mut() {
                rules.know(&call);
                // runc: a rule that says what the default says is skipped, whatever comes before or after it.
                if rule.answer != default {
                    rules.add(&call, &rule).map_err(|e| e.at(name).from_config(pointer()))?;
                }
            }
        }
    }
    Ok(())
}

/// Writes the program, its last part first.
fn write(interfaces: &mut [Rules], defaults: Defaults) -> Vec<crate::sys::seccomp::Instruction> {
    let mut program = Program::new();
    let mut asks = Vec::new();
    for rules in interfaces.iter_mut() {
        rules.settle();
    }
    let mut parts = Vec::new();
    for rules in interfaces.iter().rev().filter(|rules| rules.abi != Abi::X32) {
        let x32 = interfaces.iter().find(|x32| x32.abi == Abi::X32 && rules.abi == Abi::X86_64);
        let spans = match rules.abi {
            Abi::X86_64 => spans::x86_64(rules, x32, defaults),
            _ => spans::plain(rules, defaults),
        };
        asks.clear();
        for rules in x32.into_iter().chain([rules]) {
            write_conditions(&mut program, rules, &spans, defaults, &mut asks);
        }
        let target = |answer| match answer {
            Answer::Return(value) => Target::Return(value),
            ask => asks.iter().find(|(of, _)| *of == ask).map_or(Target::Return(BAD_ARCH), |(_, at)| *at),
        };
        parts.insert(0, (rules.abi.audit_arch(), program.numbers(&spans, &target)));
    }
    program.dispatch(&parts, Target::Return(BAD_ARCH));
    program.finish()
}

/// Writes the conditions that the spans ask for, and notes where they are.
fn write_conditions(
    program: &mut Program,
    rules: &Rules,
    spans: &[Span],
    defaults: Defaults,
    asks: &mut Vec<(Answer, Target)>,
) {
    for (i, list) in rules.lists.iter().enumerate() {
        let ask = Answer::Ask(rules.abi, i as u16);
        if spans.iter().any(|span| span.answer == ask) {
            asks.push((ask, program.conditions(list, Target::Return(defaults.answer))));
        }
    }
}

impl Rules {
    /// Whether every rule allows.
    fn is_open(&self) -> bool {
        let allow = libc::SECCOMP_RET_ALLOW;
        let always = |verdict: &Verdict| match verdict {
            Verdict::Default => true,
            Verdict::Always(answer) => *answer == allow,
            Verdict::When(_) => false,
        };
        self.verdicts.iter().all(always)
    }

    /// Brings the lists into the order in which they are asked, and lets calls with equal lists share one.
    fn settle(&mut self) {
        for list in &mut self.lists {
            list.sort_by(by_precedence);
        }
        let first = |i: u16| self.lists.iter().position(|list| *list == self.lists[usize::from(i)]);
        for verdict in &mut self.verdicts {
            if let Verdict::When(list) = verdict {
                *list = first(*list).map_or(*list, |first| first as u16);
            }
        }
    }
}

/// Which of two rules for one call is asked first.
fn by_precedence(a: &Conditional, b: &Conditional) -> Ordering {
    let pairs = a.conditions.iter().zip(&b.conditions);
    let different = pairs.map(|(a, b)| a.precedence(b)).find(|order| order.is_ne());
    different.unwrap_or_else(|| a.conditions.len().cmp(&b.conditions.len()))
}
