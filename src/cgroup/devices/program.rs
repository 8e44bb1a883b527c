//! Device rules as an eBPF program for cgroup v2.
//!
//! The program walks the rules from the last to the first. It keeps the accesses that are still undecided: an
//! allowing rule strikes its own off and grants when none is left, a denying one refuses if it meets one.
//! Neighbours with the same verdict may change places, so they share their tests of kind and major number: what
//! loading costs is the verifier, and it pays for branches (0.26 ms for the defaults one by one).

use super::{ALL, Kind, Rule};
use crate::error::{Error, Result};
use crate::sys::bpf::{self, Insn};

// What is in which register: r1 is the context that the kernel passes, r0 the verdict (1: granted).
const VERDICT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const BIT: u8 = 6;

/// `BPF_DEVCG_DEV_BLOCK`.
const BLOCK: i32 = 1;
/// `BPF_DEVCG_DEV_CHAR`.
const CHAR: i32 = 2;

/// Compiles rules whose first one decides everything that the others leave open.
pub fn compile(rules: &[Rule]) -> Result<Vec<Insn>> {
    // struct bpf_cgroup_dev_ctx: access and type share the first word, then major and minor.
    let mut program = Program::default();
    program.put(bpf::LOAD_WORD, KIND, CONTEXT, 0, 0);
    program.put(bpf::MOV_REG, ACCESS, KIND, 0, 0);
    program.put(bpf::AND, KIND, 0, 0, 0xffff);
    program.put(bpf::SHIFT_RIGHT, ACCESS, 0, 0, 16);
    program.put(bpf::LOAD_WORD, MAJOR, CONTEXT, 4, 0);
    program.put(bpf::LOAD_WORD, MINOR, CONTEXT, 8, 0);
    // The verifier refuses instructions that nothing leads to: a rule about everything is the last one.
    let first = rules.iter().rposition(Rule::is_total);
    let open = &rules[first.map_or(0, |first| first + 1)..];
    for run in open.chunk_by(|a, b| a.allow == b.allow).rev() {
        program.run(run)?;
    }
    program.finish(first.is_some_and(|first| rules[first].allow))
}

#[derive(Default)]
struct Program {
    insns: Vec<Insn>,
    /// Jumps to the verdicts, patched at the end.
    to_grant: Vec<usize>,
    to_refuse: Vec<usize>,
}

impl Program {
    fn put(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.insns.push(Insn::new(code, dst, src, off, imm));
    }

    /// A jump to the verdict.
    fn decide(&mut self, allow: bool, code: u8, register: u8, imm: i32) {
        let jumps = if allow { &mut self.to_grant } else { &mut self.to_refuse };
        jumps.push(self.insns.len());
        self.put(code, register, 0, 0, imm);
    }

    /// A jump over what follows, up to [`Program::land`]; none if there is nothing to compare.
    fn skip_unless(&mut self, register: u8, value: Option<i32>) -> Option<usize> {
        let at = self.insns.len();
        self.put(bpf::JUMP_UNLESS_EQUAL, register, 0, 0, value?);
        Some(at)
    }

    /// Leads jumps to the next instruction.
    fn land(&mut self, jumps: impl IntoIterator<Item = usize>) -> Result<()> {
        let here = self.insns.len();
        for jump in jumps {
            self.insns[jump].off = i16::try_from(here - jump - 1).map_err(|_| {
                Error::new(format!("too many device rules: {here} eBPF instructions"))
                    .from_config("/linux/resources/devices")
            })?;
        }
        Ok(())
    }

    /// Neighbours with one verdict, in whatever order is cheapest.
    fn run(&mut self, rules: &[Rule]) -> Result<()> {
        let (mut whole, part): (Vec<Rule>, Vec<Rule>) = rules.iter().partition(|rule| rule.access == ALL);
        for rule in &part {
            self.part(rule)?;
        }
        whole.sort_by_key(|rule| (rule.kind as u8, rule.major, rule.minor));
        whole.dedup();
        for same_kind in whole.chunk_by(|a, b| a.kind == b.kind) {
            let skip = self.skip_unless(KIND, kind_number(same_kind[0].kind));
            self.majors(same_kind)?;
            self.land(skip)?;
        }
        Ok(())
    }

    /// A rule about some accesses.
    fn part(&mut self, rule: &Rule) -> Result<()> {
        let skips = [
            self.skip_unless(KIND, kind_number(rule.kind)),
            self.skip_unless(MAJOR, rule.major.map(|m| m as i32)),
            self.skip_unless(MINOR, rule.minor.map(|m| m as i32)),
        ];
        if rule.allow {
            self.put(bpf::AND, ACCESS, 0, 0, i32::from(ALL & !rule.access));
            self.decide(true, bpf::JUMP_IF_EQUAL, ACCESS, 0);
        } else {
            self.decide(false, bpf::JUMP_IF_ANY, ACCESS, i32::from(rule.access));
        }
        self.land(skips.into_iter().flatten())
    }

    /// Rules about all accesses to one kind, sorted; those for every major number come first.
    fn majors(&mut self, rules: &[Rule]) -> Result<()> {
        for same_major in rules.chunk_by(|a, b| a.major == b.major) {
            let allow = same_major[0].allow;
            match (same_major[0].major, same_major[0].minor) {
                (None, None) => {
                    // Nothing leads past this one.
                    self.decide(allow, bpf::JUMP, 0, 0);
                    return Ok(());
                }
                (Some(major), None) => self.decide(allow, bpf::JUMP_IF_EQUAL, MAJOR, major as i32),
                (major, Some(_)) => {
                    let skip = self.skip_unless(MAJOR, major.map(|m| m as i32));
                    self.minors(allow, same_major)?;
                    self.land(skip)?;
                }
            }
        }
        Ok(())
    }

    /// Small minor numbers are looked up in one word, others compared one by one.
    fn minors(&mut self, allow: bool, rules: &[Rule]) -> Result<()> {
        let (small, large): (Vec<u32>, Vec<u32>) =
            rules.iter().filter_map(|r| r.minor).partition(|&m| m < 32);
        if small.len() > 2 {
            let mask = small.iter().fold(0u32, |mask, minor| mask | 1 << minor);
            let skip = self.insns.len();
            self.put(bpf::JUMP_IF_ABOVE, MINOR, 0, 0, 31);
            self.put(bpf::MOV, BIT, 0, 0, 1);
            self.put(bpf::SHIFT_LEFT_REG, BIT, MINOR, 0, 0);
            self.decide(allow, bpf::JUMP_IF_ANY, BIT, mask as i32);
            self.land([skip])?;
        }
        for &minor in small.iter().filter(|_| small.len() <= 2).chain(&large) {
            self.decide(allow, bpf::JUMP_IF_EQUAL, MINOR, minor as i32);
        }
        Ok(())
    }

    /// Puts the verdicts behind the rules and leads the jumps there.
    fn finish(mut self, default: bool) -> Result<Vec<Insn>> {
        let to_grant = std::mem::take(&mut self.to_grant);
        let to_refuse = std::mem::take(&mut self.to_refuse);
        let (falls_here, other) = if default { (to_grant, to_refuse) } else { (to_refuse, to_grant) };
        self.verdict(default, falls_here)?;
        if !other.is_empty() {
            self.verdict(!default, other)?;
        }
        Ok(self.insns)
    }

    fn verdict(&mut self, verdict: bool, jumps: Vec<usize>) -> Result<()> {
        self.land(jumps)?;
        self.put(bpf::MOV, VERDICT, 0, 0, i32::from(verdict));
        self.put(bpf::EXIT, 0, 0, 0, 0);
        Ok(())
    }
}

fn kind_number(kind: Kind) -> Option<i32> {
    match kind {
        Kind::Any => None,
        Kind::Block => Some(BLOCK),
        Kind::Char => Some(CHAR),
    }
}
