//! The same profiles, compiled by libseccomp as runc does it, must give the same answers.
//!
//! The profiles are made at random, from a few calls, actions and values that meet often. Left out is where the
//! answer is another one on purpose: calls newer than the profile, and calls of x86 that have a carrier.

use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use serde_json::{Value, json};

use super::interpreter::{Data, run};
use super::{Machine, compile_for, names};

/// A small generator of the xorshift family: the same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

const CALLS: [&str; 12] = [
    "read",
    "write",
    "openat",
    "clone",
    "personality",
    "ioctl",
    "mmap",
    "fcntl",
    "prctl",
    "kill",
    "keyctl",
    "openat2",
];
const VALUES: [u64; 9] = [0, 1, 2, 7, 8, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, u64::MAX];
const OPERATORS: [&str; 7] = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];
const ACTIONS: [&str; 6] = ["ALLOW", "ERRNO", "KILL_PROCESS", "KILL_THREAD", "TRAP", "LOG"];

/// One profile. Each call has at most one rule with conditions, each on another argument: of several, libseccomp
/// 2.5.4 compares the upper half of an argument with what is left of the lower one, and permits what no rule does.
fn profile(dice: &mut Dice) -> Value {
    let mut conditional = Vec::new();
    let entries = (0..=dice.roll(7)).map(|_| {
        let call = dice.pick(&CALLS);
        let mut args = Vec::new();
        for index in 0..3 {
            if !conditional.contains(&call) && dice.roll(2) == 0 {
                let operator = format!("SCMP_CMP_{}", dice.pick(&OPERATORS));
                let (value, two) = (dice.pick(&VALUES), dice.pick(&VALUES));
                args.push(json!({"index": index, "value": value, "valueTwo": two, "op": operator}));
            }
        }
        if !args.is_empty() {
            conditional.push(call);
        }
        json!({"names": [call], "action": format!("SCMP_ACT_{}", dice.pick(&ACTIONS)), "args": args})
    });
    let entries: Vec<Value> = entries.collect();
    let arches = [&["SCMP_ARCH_X86_64"][..], &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], &[]];
    json!({
        "defaultAction": format!("SCMP_ACT_{}", dice.pick(&ACTIONS)),
        "architectures": dice.pick(&arches),
        "syscalls": entries,
    })
}

fn action(text: &Value) -> ScmpAction {
    let text = text.as_str().unwrap();
    // An error number that the profile does not name is EPERM.
    ScmpAction::from_str(text, (text == "SCMP_ACT_ERRNO").then_some(libc::EPERM)).unwrap()
}

fn compare(arg: &Value) -> ScmpArgCompare {
    let number = |key: &str| arg[key].as_u64().unwrap();
    let (operator, datum) = match arg["op"].as_str().unwrap() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, number("value")),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, number("value")),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, number("value")),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, number("value")),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, number("value")),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, number("value")),
        _ => (ScmpCompareOp::MaskedEqual(number("value")), number("valueTwo")),
    };
    ScmpArgCompare::new(number("index") as u32, operator, datum)
}

/// What runc asks of libseccomp; `None` where libseccomp refuses.
fn by_libseccomp(profile: &Value) -> Option<Vec<(u16, u8, u8, u32)>> {
    let default = action(&profile["defaultAction"]);
    let mut context = ScmpFilterContext::new(default).unwrap();
    for arch in profile["architectures"].as_array().unwrap() {
        context.add_arch(arch.as_str().unwrap().parse::<ScmpArch>().unwrap()).unwrap();
    }
    for entry in profile["syscalls"].as_array().unwrap() {
        let call = ScmpSyscall::from_name(entry["names"][0].as_str().unwrap()).unwrap();
        let does = action(&entry["action"]);
        if does == default {
            continue;
        }
        let args: Vec<ScmpArgCompare> = entry["args"].as_array().unwrap().iter().map(compare).collect();
        context.add_rule_conditional(does, call, &args).ok()?;
    }
    let file = nix::sys::memfd::memfd_create("bpf", nix::sys::memfd::MFdFlags::MFD_CLOEXEC).unwrap();
    let mut file = std::fs::File::from(file);
    context.export_bpf(&file).unwrap();
    let mut bytes = Vec::new();
    std::io::Seek::rewind(&mut file).unwrap();
    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
    let instruction = |b: &[u8]| {
        (u16::from_le_bytes([b[0], b[1]]), b[2], b[3], u32::from_le_bytes([b[4], b[5], b[6], b[7]]))
    };
    Some(bytes.chunks_exact(8).map(instruction).collect())
}

#[test]
fn random_profiles_answer_as_with_libseccomp() {
    let mut dice = Dice(0x6d79_7274_2024);
    let (mut compared, mut refused) = (0, 0);
    for round in 0..3000 {
        let json = profile(&mut dice);
        let ours = compile_for(&serde_json::from_value(json.clone()).unwrap(), Machine::X86_64);
        let (Some(theirs), Ok(ours)) = (by_libseccomp(&json), ours) else {
            refused += 1;
            continue;
        };
        let ours: Option<Vec<_>> =
            ours.map(|filter| filter.instructions.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect());
        let named =
            json["syscalls"].as_array().unwrap().iter().map(|entry| entry["names"][0].as_str().unwrap());
        let named: Vec<_> = named.map(|name| names::find(name).unwrap()).collect();
        // x86_64, x86, and an interface that no profile lists.
        for (arch, column) in [(0xc000_003e, 0), (0x4000_0003, 1), (0x4000_0028, 4)] {
            let numbers: Vec<u32> =
                named.iter().filter_map(|c| u32::try_from(c.numbers[column]).ok()).collect();
            let newest = numbers.iter().copied().max().unwrap_or(0);
            for _ in 0..40 {
                let number = match dice.roll(4) {
                    0 => dice.roll(newest as usize + 1) as u32,
                    _ if numbers.is_empty() => 0,
                    _ => dice.pick(&numbers),
                };
                let args = std::array::from_fn(|_| dice.pick(&VALUES));
                let data = Data { number, arch, pointer: 0, args };
                let allow = libc::SECCOMP_RET_ALLOW;
                let answer = ours.as_ref().map_or(allow, |program| run(program, &data));
                assert_eq!(answer, run(&theirs, &data), "round {round}: {data:x?} under {json:#}");
                compared += 1;
            }
        }
    }
    assert!(compared > 200_000 && refused < 600, "{compared} compared, {refused} refused");
}
