//! What compiled filters answer, seen by running them.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::{Value, json};

use super::interpreter::{Data, run};
use super::{Filter, Machine, compile, compile_for};

const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const EPERM: u32 = ERRNO | 1;
const ENOSYS: u32 = ERRNO | 38;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const X32: u32 = 0x4000_0000;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;

fn profile(json: Value) -> LinuxSeccomp {
    serde_json::from_value(json).unwrap()
}

fn filter(json: Value) -> Filter {
    compile_for(&profile(json), Machine::X86_64).unwrap().unwrap()
}

fn error(json: Value) -> String {
    compile_for(&profile(json), Machine::X86_64).unwrap_err().to_string()
}

impl Filter {
    fn answer(&self, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let program = self.instructions.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect::<Vec<_>>();
        run(&program, &Data { number, arch, pointer: 0x1234_5678_9abc_def0, args })
    }

    fn plain(&self, number: u32) -> u32 {
        self.answer(X86_64, number, [0; 6])
    }
}

#[test]
fn every_action_has_its_answer() {
    for (action, errno, answer) in [
        ("KILL", None, KILL_THREAD),
        ("KILL_THREAD", None, KILL_THREAD),
        ("KILL_PROCESS", None, KILL_PROCESS),
        ("TRAP", None, TRAP),
        ("ERRNO", None, EPERM),
        ("ERRNO", Some(0), ERRNO),
        ("ERRNO", Some(4095), ERRNO | 4095),
        ("TRACE", None, TRACE | 1),
        ("TRACE", Some(0xffff), TRACE | 0xffff),
        ("LOG", None, LOG),
    ] {
        let action = format!("SCMP_ACT_{action}");
        let rule = json!({"names": ["getpid"], "action": action, "errnoRet": errno});
        let filter = filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}));
        assert_eq!(filter.plain(39), answer, "{action}");
        assert_eq!(filter.plain(40), ALLOW, "{action}");
        let filter = self::filter(json!({"defaultAction": action, "defaultErrnoRet": errno}));
        assert_eq!(filter.plain(39), answer, "{action}");
    }
}

#[test]
fn every_operator_compares_64_bits_unsigned() {
    const M: u64 = u64::MAX;
    const HIGH: u64 = 1 << 32;
    type Test = fn(u64, u64, u64) -> bool;
    let tests: [(&str, Test); 7] = [
        ("NE", |arg, value, _| arg != value),
        ("LT", |arg, value, _| arg < value),
        ("LE", |arg, value, _| arg <= value),
        ("EQ", |arg, value, _| arg == value),
        ("GE", |arg, value, _| arg >= value),
        ("GT", |arg, value, _| arg > value),
        ("MASKED_EQ", |arg, mask, value| arg & mask == value & mask),
    ];
    let edges = [0, 1, 0x7fff_ffff, 0x8000_0000, HIGH - 1, HIGH, HIGH + 1, 5 * HIGH + 5, 1 << 63, M - 1, M];
    for (operator, test) in tests {
        for value in edges {
            for two in [0, 5, HIGH, M] {
                let arg = json!({"index": 3, "value": value, "valueTwo": two, "op": format!("SCMP_CMP_{operator}")});
                let rule = json!({"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": [arg]});
                let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}));
                for arg in edges {
                    let answer = filter.answer(X86_64, 9, [7, 7, 7, arg, 7, 7]);
                    let expected = if test(arg, value, two) { ALLOW } else { EPERM };
                    assert_eq!(answer, expected, "{arg:#x} {operator} {value:#x} {two:#x}");
                }
            }
        }
    }
}

#[test]
fn arguments_of_32_bit_interfaces_lose_their_upper_half() {
    let rule = json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": (7_u64 << 32) + 8, "op": "SCMP_CMP_EQ"}]});
    let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule],
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}));
    assert_eq!(filter.answer(X86_64, 135, [8; 6]), EPERM);
    assert_eq!(filter.answer(X86_64, 135, [(7 << 32) + 8; 6]), ALLOW);
    for arg in [8, (7 << 32) + 8, (9 << 32) + 8] {
        assert_eq!(filter.answer(X86, 136, [arg; 6]), ALLOW);
        assert_eq!(filter.answer(X86_64, X32 | 135, [arg; 6]), ALLOW);
    }
    assert_eq!(filter.answer(X86, 136, [9; 6]), EPERM);
}

#[test]
fn conditions_of_one_rule_all_hold_unless_two_are_on_one_argument() {
    let eq = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let with = |args: Value| {
        filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls":
            [{"names": ["socket", "close"], "action": "SCMP_ACT_ALLOW", "args": args}]}))
    };
    let both = with(json!([eq(2, 9), eq(0, 16)]));
    assert_eq!(both.answer(X86_64, 41, [16, 0, 9, 0, 0, 0]), ALLOW);
    assert_eq!(both.answer(X86_64, 41, [16, 0, 8, 0, 0, 0]), EPERM);
    assert_eq!(both.answer(X86_64, 41, [15, 0, 9, 0, 0, 0]), EPERM);
    let any = with(json!([eq(0, 1), eq(0, 2), eq(1, 3)]));
    for (args, answer) in [([1, 0], ALLOW), ([2, 0], ALLOW), ([0, 3], ALLOW), ([0, 1], EPERM)] {
        assert_eq!(any.answer(X86_64, 3, [args[0], args[1], 0, 0, 0, 0]), answer);
    }
}

#[test]
fn a_rule_without_conditions_beats_those_with_some_and_the_first_one_stays() {
    let arg = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]);
    let always = json!([{"index": 0, "value": 0, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]);
    for always in [json!([]), always] {
        let filter = filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": arg},
            {"names": ["close"], "action": "SCMP_ACT_LOG", "args": always},
            {"names": ["close"], "action": "SCMP_ACT_TRAP"},
            {"names": ["close"], "action": "SCMP_ACT_KILL", "args": arg},
        ]}));
        assert_eq!(filter.answer(X86_64, 3, [1; 6]), LOG);
        assert_eq!(filter.answer(X86_64, 3, [2; 6]), LOG);
    }
}

#[test]
fn a_rule_that_contradicts_an_earlier_one_is_refused() {
    let eq = |index: u32| json!({"index": index, "value": 1, "op": "SCMP_CMP_EQ"});
    let two = |first: Value, second: Value| {
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": first},
            {"names": ["read", "close"], "action": "SCMP_ACT_LOG", "args": second}]})
    };
    for (first, second) in [(json!([eq(0)]), json!([eq(0)])), (json!([eq(0), eq(1)]), json!([eq(0)]))] {
        assert_eq!(
            error(two(first, second)),
            "close: contradicts an earlier rule for the same arguments\n  from: config.json /linux/seccomp/syscalls/1"
        );
    }
    let shorter_first = filter(two(json!([eq(0)]), json!([eq(0), eq(1)])));
    assert_eq!(shorter_first.answer(X86_64, 3, [1; 6]), ALLOW);
}

#[test]
fn an_interface_that_is_not_listed_is_killed() {
    let rules = json!([{"names": ["getpid"], "action": "SCMP_ACT_ALLOW"}]);
    let only = |architectures: Value| {
        filter(json!({"defaultAction": "SCMP_ACT_TRACE", "architectures": architectures, "syscalls": rules}))
    };
    let native = only(json!(["SCMP_ARCH_S390X", "SCMP_ARCH_AARCH64"]));
    assert_eq!(native.plain(39), ALLOW);
    for (arch, number) in [(X86, 20), (X86_64, X32 | 39), (X86_64, X32), (AARCH64, 172), (0, 0)] {
        assert_eq!(native.answer(arch, number, [0; 6]), KILL_THREAD, "{arch:#x} {number:#x}");
    }
    assert_eq!(native.plain(u32::MAX), TRACE | 1, "a tracer skips a call with -1");
    let all = only(json!(["SCMP_ARCH_X86", "SCMP_ARCH_X32"]));
    for (arch, number, answer) in
        [(X86, 20, ALLOW), (X86_64, X32 | 39, ALLOW), (X86, 39, TRACE | 1), (X86_64, X32 | 20, TRACE | 1)]
    {
        assert_eq!(all.answer(arch, number, [0; 6]), answer, "{arch:#x} {number:#x}");
    }
}

#[test]
fn a_filter_for_aarch64_knows_arm_with_its_private_calls() {
    let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_ARM", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["set_tls", "openat", "open"], "action": "SCMP_ACT_ALLOW"}]});
    let filter = compile_for(&profile(json), Machine::Aarch64).unwrap().unwrap();
    for (arch, number, answer) in [
        (AARCH64, 56, ALLOW),
        (AARCH64, 5, EPERM),
        (AARCH64, 57, ENOSYS),
        (ARM, 5, ALLOW),
        (ARM, 322, ALLOW),
        (ARM, 323, EPERM),
        (ARM, 0xf0004, EPERM),
        (ARM, 0xf0005, ALLOW),
        (ARM, 0xf0006, ENOSYS),
        (X86, 5, KILL_THREAD),
        (X86_64, 2, KILL_THREAD),
    ] {
        assert_eq!(filter.answer(arch, number, [0; 6]), answer, "{arch:#x} {number:#x}");
    }
}

#[test]
fn calls_that_are_newer_than_the_profile_do_not_exist() {
    let with = |default: &str| {
        filter(json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "syscalls": [{"names": ["getpid", "no_such_call"], "action": "SCMP_ACT_KILL_PROCESS"},
                {"names": ["statx"], "action": default}]}))
    };
    for (default, old, new) in [
        ("SCMP_ACT_ERRNO", EPERM, ENOSYS),
        ("SCMP_ACT_KILL", KILL_THREAD, ENOSYS),
        ("SCMP_ACT_TRAP", TRAP, ENOSYS),
        ("SCMP_ACT_ALLOW", ALLOW, ALLOW),
        ("SCMP_ACT_LOG", LOG, LOG),
        ("SCMP_ACT_TRACE", TRACE | 1, TRACE | 1),
    ] {
        let filter = with(default);
        for (arch, base, newest) in [(X86_64, 0, 332), (X86, 0, 383), (X86_64, X32, 332)] {
            assert_eq!(filter.answer(arch, base | newest, [0; 6]), old, "{default}");
            for number in [newest + 1, 449, 0x3fff_ffff] {
                assert_eq!(filter.answer(arch, base | number, [0; 6]), new, "{default} {number:#x}");
            }
        }
    }
    let names_none = filter(json!({"defaultAction": "SCMP_ACT_ERRNO"}));
    assert_eq!(names_none.plain(1000), EPERM);
}

#[test]
fn calls_of_x86_are_also_met_inside_their_carriers() {
    let args = json!([{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]);
    let with = |default: &str, action: &str| {
        filter(json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86"], "syscalls": [
            {"names": ["connect", "semget"], "action": action},
            {"names": ["socket"], "action": action, "args": args}]}))
    };
    let allow = with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW");
    let deny = with("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    for (number, args, named) in [
        (362, [0; 6], true),
        (393, [0; 6], true),
        (102, [3, 0, 0, 0, 0, 0], true),
        (102, [4, 0, 0, 0, 0, 0], false),
        (117, [2, 0, 0, 0, 0, 0], true),
        (117, [3, 0, 0, 0, 0, 0], false),
        (359, [16, 0, 9, 0, 0, 0], true),
        (359, [16, 0, 8, 0, 0, 0], false),
        (102, [1, 0, 9, 0, 0, 0], true),
        (102, [1, 0, 8, 0, 0, 0], false),
    ] {
        assert_eq!(allow.answer(X86, number, args) == ALLOW, named, "{number} {args:?}");
        assert_eq!(deny.answer(X86, number, args) == EPERM, named, "{number} {args:?}");
    }
    // The version that the kernel ignores gets past neither an allow-list nor a deny-list.
    let versioned = [1 << 16 | 2, 0, 0, 0, 0, 0];
    assert_eq!(allow.answer(X86, 117, versioned), EPERM);
    assert_eq!(deny.answer(X86, 117, versioned), EPERM);
}

#[test]
fn flags_are_those_of_runc() {
    let flags = |flags: Value| {
        let json = json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": flags});
        compile_for(&profile(json), Machine::X86_64).map(|filter| filter.unwrap().flags)
    };
    assert_eq!(flags(Value::Null).unwrap(), 4, "absent: SPEC_ALLOW");
    assert_eq!(flags(json!([])).unwrap(), 0);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"])).unwrap(), 2);
    assert_eq!(flags(json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"])).unwrap(), 4);
    assert!(flags(json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])).is_err());
}

#[test]
fn a_profile_that_lets_everything_through_needs_no_filter() {
    let all = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
    let rules = json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]);
    let open = |json: Value| compile_for(&profile(json), Machine::X86_64).unwrap().is_none();
    let json = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": all, "syscalls": rules});
    assert!(open(json.clone()));
    for (key, value) in [
        ("architectures", json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])),
        ("defaultAction", json!("SCMP_ACT_LOG")),
        ("flags", json!([])),
        ("syscalls", json!([{"names": ["read"], "action": "SCMP_ACT_LOG"}])),
    ] {
        let mut json = json.clone();
        json[key] = value;
        assert!(!open(json), "{key}");
    }
}

#[test]
fn what_the_spec_or_the_kernel_forbids_is_refused_in_one_line() {
    let rule = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    let from = "\n  from: config.json /linux/seccomp/";
    for (json, text) in [
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY is not supported|defaultAction"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "SCMP_ACT_ALLOW takes no error number|defaultAction",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent"}),
            "a seccomp listener is not supported|listenerPath",
        ),
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_NOTIFY"})),
            "SCMP_ACT_NOTIFY is not supported|syscalls/0",
        ),
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_KILL", "errnoRet": 1})),
            "SCMP_ACT_KILL takes no error number|syscalls/0",
        ),
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096})),
            "error number 4096 of SCMP_ACT_ERRNO is above 4095|syscalls/0",
        ),
        (
            rule(json!({"names": ["close"], "action": "SCMP_ACT_TRAP",
                "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "argument 6: a system call has arguments 0 to 5|syscalls/0",
        ),
        (rule(json!({"names": [""], "action": "SCMP_ACT_TRAP"})), "a system call without a name|syscalls/0"),
    ] {
        assert_eq!(error(json), text.replace('|', from));
    }
}

#[test]
fn a_filter_that_is_too_large_is_refused_and_a_large_one_jumps_far() {
    let many = |count: u64| {
        let rules = (0..count).map(|i| {
            let names = &["close", "read", "ioctl"][..1 + i as usize % 3];
            json!({"names": names, "action": "SCMP_ACT_ALLOW",
                "args": [{"index": i % 6, "value": i << 30, "op": "SCMP_CMP_EQ"}]})
        });
        json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules.collect::<Vec<_>>()})
    };
    let filter = filter(many(480));
    assert!((3000..4096).contains(&filter.instructions.len()), "{}", filter.instructions.len());
    for i in 0..480 {
        let mut args = [u64::MAX; 6];
        args[i as usize % 6] = i << 30;
        assert_eq!(filter.answer(X86_64, 3, args), ALLOW, "{i}");
        assert_eq!(filter.answer(X86_64, 16, args) == ALLOW, i % 3 == 2, "{i}");
    }
    assert_eq!(filter.answer(X86_64, 3, [u64::MAX; 6]), EPERM);
    assert_eq!(filter.plain(4), EPERM);
    let text = error(many(1000));
    assert!(text.starts_with("the filter is too large for the kernel: "), "{text}");
    assert!(error(many(100_000)).contains("too many rules with arguments"));
}

#[test]
fn a_kept_filter_comes_back_whole_or_not_at_all() {
    let filter =
        filter(json!({"defaultAction": "SCMP_ACT_ERRNO", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls":
        [{"names": ["read", "write", "futex"], "action": "SCMP_ACT_ALLOW"}]}));
    let bytes = filter.to_bytes();
    assert_eq!(Filter::from_bytes(&bytes).unwrap(), filter);
    for len in 0..bytes.len() {
        assert!(Filter::from_bytes(&bytes[..len]).is_err(), "{len}");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            assert!(Filter::from_bytes(&bytes).is_err(), "byte {at} bit {bit}");
        }
    }
    let mut jumps_out = filter.clone();
    let last = jumps_out.instructions.len() - 1;
    jumps_out.instructions[last].code = 0x15;
    assert!(Filter::from_bytes(&jumps_out.to_bytes()).is_err());
    let none = Filter { instructions: Vec::new(), flags: 0 };
    assert!(Filter::from_bytes(&none.to_bytes()).is_err());
}

#[test]
fn a_profile_for_this_machine_compiles() {
    assert!(compile(&profile(json!({"defaultAction": "SCMP_ACT_ERRNO"}))).unwrap().is_some());
}
