use super::v1::Policy;
use super::*;
use crate::sys::bpf::{self, Insn};

/// Runs a device filter as the kernel would: `None` if it does something that is not allowed.
fn interpret(program: &[Insn], kind: u32, access: u32, major: u32, minor: u32) -> Option<bool> {
    let context = [access << 16 | kind, major, minor];
    let mut regs = [0u64; 11];
    let mut pc = 0usize;
    for _ in 0..program.len() + 1 {
        let insn = program.get(pc)?;
        let (dst, src) = ((insn.regs & 15) as usize, (insn.regs >> 4) as usize);
        let imm = insn.imm as i64 as u64;
        pc += 1;
        let jump = match insn.code {
            bpf::LOAD_WORD => {
                assert_eq!(src, 1);
                regs[dst] = u64::from(context[insn.off as usize / 4]);
                false
            }
            bpf::MOV_REG => {
                regs[dst] = regs[src];
                false
            }
            bpf::MOV => {
                regs[dst] = imm;
                false
            }
            bpf::AND => {
                regs[dst] = u64::from(regs[dst] as u32 & insn.imm as u32);
                false
            }
            bpf::SHIFT_RIGHT => {
                regs[dst] = u64::from((regs[dst] as u32) >> insn.imm);
                false
            }
            bpf::SHIFT_LEFT_REG => {
                regs[dst] = u64::from((regs[dst] as u32) << (regs[src] & 31));
                false
            }
            bpf::JUMP => true,
            bpf::JUMP_IF_ABOVE => regs[dst] > imm,
            bpf::JUMP_IF_EQUAL => regs[dst] == imm,
            bpf::JUMP_IF_ANY => regs[dst] & imm != 0,
            bpf::JUMP_UNLESS_EQUAL => regs[dst] != imm,
            bpf::EXIT => return Some(regs[0] == 1),
            _ => return None,
        };
        if jump {
            pc = pc.checked_add_signed(insn.off as isize)?;
        }
    }
    None
}

/// The rule book in plain words: each access is decided by the last rule that speaks about it.
fn oracle(rules: &[Rule], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    [1, 2, 4].into_iter().filter(|bit| access & bit != 0).all(|bit| {
        let speaks = |rule: &&Rule| {
            let kind_fits = match rule.kind {
                Kind::Any => true,
                Kind::Block => kind == 1,
                Kind::Char => kind == 2,
            };
            kind_fits
                && rule.major.is_none_or(|m| m == major)
                && rule.minor.is_none_or(|m| m == minor)
                && u32::from(rule.access) & bit != 0
        };
        rules.iter().rev().find(speaks).is_some_and(|rule| rule.allow)
    })
}

/// xorshift: the same rules on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn rule(&mut self) -> Rule {
        let number = |roll: u64| if roll == 0 { None } else { Some(roll as u32) };
        Rule {
            allow: self.roll(3) != 0,
            kind: [Kind::Any, Kind::Block, Kind::Char][self.roll(3) as usize],
            major: number(self.roll(4)),
            minor: [number(self.roll(4)), number(self.roll(4)), Some(31), Some(63)][self.roll(4) as usize],
            access: if self.roll(2) == 0 { ALL } else { self.roll(7) as u8 + 1 },
        }
    }
}

#[test]
fn program_decides_as_the_rules_say() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2000 {
        let mut rules: Vec<Rule> = (0..dice.roll(12)).map(|_| dice.rule()).collect();
        if dice.roll(2) == 0 {
            rules = with_defaults(&rules);
        }
        let program = program::compile(&rules).unwrap();
        for kind in 1..=2 {
            for access in 1..=7 {
                for (major, minor) in
                    [(1, 1), (1, 2), (2, 3), (3, 1), (9, 9), (1, 3), (136, 4), (5, 0), (2, 31), (3, 63)]
                {
                    assert_eq!(
                        interpret(&program, kind, access, major, minor),
                        Some(oracle(&rules, kind, access, major, minor)),
                        "{rules:?} kind {kind} access {access} {major}:{minor}"
                    );
                }
            }
        }
    }
}

#[test]
fn v1_lines_come_to_what_the_rules_say_or_are_refused() {
    let mut dice = Dice(42);
    let mut said = 0;
    for _ in 0..5000 {
        let rules = with_defaults(&(0..dice.roll(4)).map(|_| dice.rule()).collect::<Vec<_>>());
        let Ok(policy) = Policy::new(&rules) else { continue };
        said += 1;
        // Single accesses only: the kernel wants one exception to cover a whole request.
        for (kind, bit) in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4)] {
            for (major, minor) in [(1, 1), (1, 2), (2, 3), (3, 1), (9, 9), (1, 3), (136, 4)] {
                let lines = policy.lines(None);
                assert_eq!(
                    kernel_v1(&lines, kind, bit, major, minor),
                    oracle(&rules, kind, bit, major, minor),
                    "{rules:?} {lines:?} kind {kind} access {bit} {major}:{minor}"
                );
            }
        }
    }
    assert!(said > 1000, "only {said} lists could be said");
}

/// The kernel's devices controller for one request, from the lines written to a new cgroup.
fn kernel_v1(lines: &[v1::Line], kind: u32, bit: u32, major: u32, minor: u32) -> bool {
    let mut default = true;
    let mut exceptions: Vec<&str> = Vec::new();
    for line in lines {
        let allow = line.file == "devices.allow";
        if line.text == "a" {
            default = allow;
            exceptions.clear();
        } else {
            assert_ne!(allow, default, "nothing is taken back in a new cgroup");
            exceptions.push(&line.text);
        }
    }
    let hit = exceptions.iter().any(|text| {
        let mut words = text.split(' ');
        let kind_fits = words.next().unwrap() == if kind == 1 { "b" } else { "c" };
        let (a, b) = words.next().unwrap().split_once(':').unwrap();
        let fits = |word: &str, n: u32| word == "*" || word == n.to_string();
        let letter = ["m", "r", "w"][bit.trailing_zeros() as usize];
        kind_fits && fits(a, major) && fits(b, minor) && words.next().unwrap().contains(letter)
    });
    default != hit
}

#[test]
fn v1_update_writes_only_the_difference() {
    let tun = Rule { allow: true, kind: Kind::Char, major: Some(10), minor: Some(229), access: READ | WRITE };
    let old = Policy::new(&with_defaults(&[])).unwrap();
    let new = Policy::new(&with_defaults(&[tun])).unwrap();
    let text =
        |lines: Vec<v1::Line>| lines.iter().map(|l| format!("{} {}", l.file, l.text)).collect::<Vec<_>>();
    assert_eq!(text(new.lines(Some(&old))), ["devices.allow c 10:229 rw"]);
    assert_eq!(text(old.lines(Some(&new))), ["devices.deny c 10:229 rw"]);
    assert!(old.lines(Some(&old)).is_empty());
}

#[test]
fn v1_refuses_a_hole_in_a_wildcard() {
    let all = Rule { allow: true, kind: Kind::Char, major: Some(10), minor: None, access: ALL };
    let hole = Rule { allow: false, minor: Some(7), ..all };
    let error = Policy::new(&with_defaults(&[all, hole])).unwrap_err();
    assert!(error.line().contains("cannot deny \"c 10:7 rwm\" after a rule for \"c 10:* rwm\""), "{error}");
}

#[test]
fn a_privileged_list_needs_no_filter() {
    let all = Rule { allow: true, ..DENY_ALL };
    assert!(allows_everything(&with_defaults(&[all])));
    assert!(!allows_everything(&with_defaults(&[])));
    assert!(!allows_everything(&with_defaults(&[all, DENY_ALL])));
    assert_eq!(interpret(&program::compile(&with_defaults(&[all])).unwrap(), 1, 7, 8, 0), Some(true));
}

#[test]
fn rules_are_validated() {
    let rule = |json: &str| parse(&[serde_json::from_str(json).unwrap()]).map_err(|e| e.to_string());
    assert!(rule(r#"{"allow": true, "type": "p", "access": "r"}"#).unwrap_err().contains("fifo"));
    assert!(rule(r#"{"allow": true, "access": "x"}"#).unwrap_err().contains("'x'"));
    assert!(rule(r#"{"allow": true, "access": ""}"#).unwrap_err().contains("/linux/resources/devices/0"));
    assert!(rule(r#"{"allow": true, "major": -2, "access": "r"}"#).unwrap_err().contains("major number -2"));
    let any = rule(r#"{"allow": false, "access": "rwm"}"#).unwrap();
    assert_eq!(any, [DENY_ALL]);
    let u = rule(r#"{"allow": true, "type": "u", "major": 1, "minor": -1, "access": "mr"}"#).unwrap();
    assert_eq!(
        u[0],
        Rule { allow: true, kind: Kind::Char, major: Some(1), minor: None, access: READ | MKNOD }
    );
}
