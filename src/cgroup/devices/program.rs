//! Device rules as an eBPF program for cgroup v2.
//!
//! The program walks the rules from the last to the first. It keeps the accesses that are still undecided: an
//! allowing rule strikes its own off and grants when none is left, a denying one refuses if it meets one.

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
    let mut decided = false;
    for rule in rules.iter().rev() {
        program.rule(rule);
        if rule.is_total() {
            // The verifier refuses instructions that nothing leads to.
            decided = true;
            break;
        }
    }
    program.finish(decided)
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

    fn grant(&mut self, code: u8, dst: u8, imm: i32) {
        self.to_grant.push(self.insns.len());
        self.put(code, dst, 0, 0, imm);
    }

    fn refuse(&mut self, code: u8, dst: u8, imm: i32) {
        self.to_refuse.push(self.insns.len());
        self.put(code, dst, 0, 0, imm);
    }

    fn rule(&mut self, rule: &Rule) {
        let kind = match rule.kind {
            Kind::Any => None,
            Kind::Block => Some(BLOCK),
            Kind::Char => Some(CHAR),
        };
        let tests =
            [(KIND, kind), (MAJOR, rule.major.map(|m| m as i32)), (MINOR, rule.minor.map(|m| m as i32))];
        let mut skips = Vec::new();
        for (register, value) in tests {
            if let Some(value) = value {
                skips.push(self.insns.len());
                self.put(bpf::JUMP_UNLESS_EQUAL, register, 0, 0, value);
            }
        }
        match (rule.allow, rule.access) {
            (true, ALL) => self.grant(bpf::JUMP, 0, 0),
            (false, ALL) => self.refuse(bpf::JUMP, 0, 0),
            (true, access) => {
                self.put(bpf::AND, ACCESS, 0, 0, i32::from(ALL & !access));
                self.grant(bpf::JUMP_IF_EQUAL, ACCESS, 0);
            }
            (false, access) => self.refuse(bpf::JUMP_IF_ANY, ACCESS, i32::from(access)),
        }
        let here = self.insns.len();
        for skip in skips {
            // A rule is at most five instructions long.
            self.insns[skip].off = (here - skip - 1) as i16;
        }
    }

    /// Puts the verdicts behind the rules and leads the jumps there.
    fn finish(mut self, decided: bool) -> Result<Vec<Insn>> {
        let (to_grant, to_refuse) = (std::mem::take(&mut self.to_grant), std::mem::take(&mut self.to_refuse));
        if !decided || !to_refuse.is_empty() {
            self.verdict(0, &to_refuse)?;
        }
        if !to_grant.is_empty() {
            self.verdict(1, &to_grant)?;
        }
        Ok(self.insns)
    }

    fn verdict(&mut self, verdict: i32, jumps: &[usize]) -> Result<()> {
        let here = self.insns.len();
        for &jump in jumps {
            let distance = i16::try_from(here - jump - 1).map_err(|_| {
                Error::new(format!("too many device rules: {here} eBPF instructions"))
                    .from_config("/linux/resources/devices")
            })?;
            self.insns[jump].off = distance;
        }
        self.put(bpf::MOV, VERDICT, 0, 0, verdict);
        self.put(bpf::EXIT, 0, 0, 0, 0);
        Ok(())
    }
}
