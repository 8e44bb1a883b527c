//! `/linux/seccomp`: actions, operators, errno, architectures, flags; in create and in exec.

use crate::bundle::{Bundle, errnos};
use crate::harness::T;
use serde_json::{Value, json};

// Numbers on x86-64, the only architecture for which the profiles here are written.
// A call that no runtime makes between the filter and the program.
const RARE: &str = "syscall 146 0";
const MKDIR: &str = "mkdir /tmp/x";

/// A container whose filter allows all but these rules.
fn allowing<'t>(t: &'t T, rules: Value) -> Bundle<'t> {
    filtered(t, json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }))
}

fn filtered(t: &T, mut seccomp: Value) -> Bundle<'_> {
    if seccomp["architectures"].is_null() {
        seccomp["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    }
    t.bundle().set("/linux/seccomp", seccomp)
}

fn rule(names: &[&str], action: &str) -> Value {
    json!({ "names": names, "action": action })
}

pub fn without_seccomp_there_is_no_filter(t: &T) {
    assert_eq!(t.bundle().report()["seccomp"], "0");
}

pub fn filter_mode_is_on(t: &T) {
    assert_eq!(allowing(t, json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")])).report()["seccomp"], "2");
}

pub fn errno_action_gives_eperm(t: &T) {
    assert_eq!(t.bundle().tries(&[MKDIR]), [0], "it works without the filter");
    assert_eq!(
        allowing(t, json!([rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")])).tries(&[MKDIR]),
        [libc::EPERM]
    );
}

pub fn errno_action_gives_the_errno_of_the_rule(t: &T) {
    let mut rule = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    rule["errnoRet"] = json!(libc::EXDEV);
    assert_eq!(allowing(t, json!([rule])).tries(&[MKDIR]), [libc::EXDEV]);
}

pub fn errno_of_zero_is_success_without_the_call(t: &T) {
    let mut rule = rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO");
    rule["errnoRet"] = json!(0);
    assert_eq!(allowing(t, json!([rule])).tries(&[MKDIR, "stat /tmp/x"]), [0, libc::ENOENT]);
}

pub fn kill_process_ends_the_program(t: &T) {
    for action in ["SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL"] {
        let b = allowing(t, json!([rule(&["sched_get_priority_max"], action)])).inside(&[RARE]);
        assert_eq!(b.run().code, 128 + libc::SIGSYS, "{action}");
    }
}

pub fn kill_thread_ends_the_only_thread(t: &T) {
    let b = allowing(t, json!([rule(&["sched_get_priority_max"], "SCMP_ACT_KILL_THREAD")])).inside(&[RARE]);
    assert_eq!(b.run().code, 128 + libc::SIGSYS);
}

pub fn trap_sends_sigsys(t: &T) {
    let b = allowing(t, json!([rule(&["sched_get_priority_max"], "SCMP_ACT_TRAP")])).inside(&[RARE]);
    assert_eq!(b.run().code, 128 + libc::SIGSYS);
}

pub fn trace_without_a_tracer_gives_enosys(t: &T) {
    assert_eq!(
        allowing(t, json!([rule(&["mkdir", "mkdirat"], "SCMP_ACT_TRACE")])).tries(&[MKDIR]),
        [libc::ENOSYS]
    );
}

pub fn log_lets_the_call_through(t: &T) {
    assert_eq!(allowing(t, json!([rule(&["mkdir", "mkdirat"], "SCMP_ACT_LOG")])).tries(&[MKDIR]), [0]);
}

pub fn allow_overrides_a_default_of_errno(t: &T) {
    // Everything is allowed by name but what the probe tries.
    let default = json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::EXDEV, "syscalls": [everyday()] });
    assert_eq!(filtered(t, default).tries(&[MKDIR, RARE]), [libc::EXDEV, 0]);
}

pub fn default_errno_is_eperm(t: &T) {
    let default = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [everyday()] });
    assert_eq!(filtered(t, default).tries(&[MKDIR]), [libc::EPERM]);
}

/// What the payload and runtimes call every day, without mkdir.
fn everyday() -> Value {
    let names = [
        "read",
        "write",
        "open",
        "openat",
        "openat2",
        "close",
        "fstat",
        "stat",
        "lstat",
        "newfstatat",
        "statx",
        "poll",
        "ppoll",
        "lseek",
        "mmap",
        "mprotect",
        "munmap",
        "brk",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "ioctl",
        "pread64",
        "writev",
        "access",
        "faccessat",
        "faccessat2",
        "sched_yield",
        "mremap",
        "madvise",
        "dup",
        "dup2",
        "dup3",
        "getpid",
        "gettid",
        "exit",
        "exit_group",
        "execve",
        "execveat",
        "fcntl",
        "getcwd",
        "chdir",
        "fchdir",
        "readlink",
        "readlinkat",
        "sigaltstack",
        "prctl",
        "arch_prctl",
        "futex",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "getrlimit",
        "getrandom",
        "getppid",
        "sched_get_priority_max",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "setuid",
        "setgid",
        "setresuid",
        "setresgid",
        "setgroups",
        "capget",
        "capset",
        "seccomp",
        "umask",
        "fstatfs",
        "statfs",
        "close_range",
        "getdents64",
        "sched_getaffinity",
        "uname",
        "clone",
        "clone3",
        "wait4",
        "sendmsg",
        "recvmsg",
        "sendto",
        "recvfrom",
        "socket",
        "connect",
        "tgkill",
        "nanosleep",
        "clock_nanosleep",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "pipe2",
        "eventfd2",
        "fchown",
        "chown",
        "setsid",
        "kill",
        "fchmod",
        "gettimeofday",
        "clock_gettime",
        "getpgrp",
        "getsid",
        "unlink",
        "unlinkat",
        "ftruncate",
        "pwrite64",
        "select",
        "pselect6",
    ];
    rule(&names, "SCMP_ACT_ALLOW")
}

pub fn unknown_newer_calls_get_enosys_under_a_default_of_errno(t: &T) {
    // A libc probes for calls newer than the profile and falls back on ENOSYS only.
    let default = json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": [everyday()] });
    assert_eq!(filtered(t, default).tries(&["syscall 9999"]), [libc::ENOSYS]);
}

pub fn each_operator_compares_an_argument(t: &T) {
    // personality(2) is called with 5, and stands for any call with an argument.
    let cases = [
        ("SCMP_CMP_EQ", 5, true),
        ("SCMP_CMP_EQ", 6, false),
        ("SCMP_CMP_NE", 6, true),
        ("SCMP_CMP_NE", 5, false),
        ("SCMP_CMP_LT", 6, true),
        ("SCMP_CMP_LT", 5, false),
        ("SCMP_CMP_LE", 5, true),
        ("SCMP_CMP_LE", 4, false),
        ("SCMP_CMP_GT", 4, true),
        ("SCMP_CMP_GT", 5, false),
        ("SCMP_CMP_GE", 5, true),
        ("SCMP_CMP_GE", 6, false),
    ];
    for (op, value, matches) in cases {
        let rule = json!({ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
            "args": [{ "index": 0, "value": value, "op": op }] });
        let errno = allowing(t, json!([rule])).tries(&["syscall 121 5"])[0];
        assert_eq!(errno == 99, matches, "{op} {value}");
    }
}

pub fn masked_comparison_takes_two_values(t: &T) {
    let rule = json!({ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
        "args": [{ "index": 0, "value": 0xf0, "valueTwo": 0x30, "op": "SCMP_CMP_MASKED_EQ" }] });
    let tries = allowing(t, json!([rule])).tries(&["syscall 121 0x3f", "syscall 121 0x4f"]);
    assert_eq!((tries[0], tries[1] == 99), (99, false));
}

pub fn comparison_uses_all_64_bits(t: &T) {
    let rule = json!({ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
        "args": [{ "index": 0, "value": 0x1_0000_0005u64, "op": "SCMP_CMP_EQ" }] });
    let tries = allowing(t, json!([rule])).tries(&["syscall 121 0x100000005", "syscall 121 5"]);
    assert_eq!((tries[0], tries[1] == 99), (99, false));
}

pub fn several_arguments_must_all_match(t: &T) {
    let rule = json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [
        { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }, { "index": 1, "value": 2, "op": "SCMP_CMP_EQ" }] });
    assert_eq!(
        allowing(t, json!([rule])).tries(&["socket 2 2 0", "socket 2 1 0", "socket 1 2 0"]),
        [99, 0, 0]
    );
}

pub fn two_rules_of_one_call_are_alternatives(t: &T) {
    let rule = |value: u32| {
        json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
        "args": [{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }] })
    };
    let tries =
        allowing(t, json!([rule(2), rule(10)])).tries(&["socket 2 1 0", "socket 10 1 0", "socket 1 1 0"]);
    assert_eq!(tries, [99, 99, 0]);
}

pub fn conditions_on_one_argument_are_alternatives(t: &T) {
    // As runc reads a rule that names an index twice.
    let rule = json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": [
        { "index": 0, "value": 2, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 10, "op": "SCMP_CMP_EQ" }] });
    assert_eq!(
        allowing(t, json!([rule])).tries(&["socket 2 1 0", "socket 10 1 0", "socket 1 1 0"]),
        [99, 99, 0]
    );
}

pub fn unknown_system_call_name_is_skipped(t: &T) {
    let rules = json!([rule(&["frobnicate", "mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]);
    assert_eq!(allowing(t, rules).tries(&[MKDIR]), [libc::EPERM]);
}

pub fn unknown_action_is_refused(t: &T) {
    allowing(t, json!([rule(&["mkdir"], "SCMP_ACT_FROB")])).refused();
}

pub fn unknown_default_action_is_refused(t: &T) {
    filtered(t, json!({ "defaultAction": "SCMP_ACT_FROB" })).refused();
}

pub fn unknown_operator_is_refused(t: &T) {
    let mut rule = rule(&["mkdir"], "SCMP_ACT_ERRNO");
    rule["args"] = json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_FROB" }]);
    allowing(t, json!([rule])).refused();
}

pub fn unknown_architecture_is_refused(t: &T) {
    filtered(
        t,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_FROB"],
        "syscalls": [rule(&["mkdir"], "SCMP_ACT_ERRNO")] }),
    )
    .refused();
}

pub fn unknown_flag_is_refused(t: &T) {
    filtered(
        t,
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_FROB"],
        "syscalls": [rule(&["mkdir"], "SCMP_ACT_ERRNO")] }),
    )
    .refused();
}

pub fn flags_are_accepted(t: &T) {
    for flag in ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"] {
        let b = filtered(
            t,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": [flag],
            "syscalls": [rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")] }),
        );
        assert_eq!(b.tries(&[MKDIR]), [libc::EPERM], "{flag}");
    }
}

pub fn speculation_stays_mitigated_unless_the_flag_allows_it(t: &T) {
    let status = |flags: Value| {
        let b = filtered(
            t,
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags,
            "syscalls": [rule(&["mkdir"], "SCMP_ACT_ERRNO")] }),
        );
        let text = b.probe(&["read /proc/self/status"])[0]["text"].as_str().unwrap().to_string();
        text.lines().find(|l| l.starts_with("Speculation_Store_Bypass")).unwrap_or_default().to_string()
    };
    // Whatever the machine's own policy is, allowing never mitigates more.
    let allowed = status(json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]));
    assert!(!allowed.contains("force mitigated"), "{allowed}");
}

pub fn call_of_another_architecture_is_killed(t: &T) {
    let b = allowing(t, json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")])).inside(&["uname32"]);
    assert_eq!(b.run().code, 128 + libc::SIGSYS);
}

pub fn call_of_a_listed_architecture_is_filtered_too(t: &T) {
    let probe = t.bundle().probe(&["uname32"]);
    if errnos(&probe)[0] != 0 {
        t.skip("needs a kernel that runs 32-bit calls");
    }
    let architectures = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    let with = |rules: Value| {
        let seccomp =
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures, "syscalls": rules });
        filtered(t, seccomp).tries(&["uname32"])
    };
    assert_eq!(with(json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")])), [0]);
    assert_eq!(with(json!([rule(&["getpid"], "SCMP_ACT_ERRNO")])), [libc::EPERM]);
}

pub fn x32_calls_do_not_slip_through(t: &T) {
    // The same number with bit 30 set: the call of the x32 ABI.
    let b = allowing(t, json!([rule(&["sched_get_priority_max"], "SCMP_ACT_ERRNO")]))
        .inside(&["syscall 0x40000092"]);
    let output = b.run();
    assert!(output.code == 128 + libc::SIGSYS || errnos(&output.probes())[0] != 0, "{}", output.out);
}

pub fn filter_holds_with_and_without_no_new_privileges(t: &T) {
    for no_new_privileges in [true, false] {
        let b = allowing(t, json!([rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")]));
        let b = b.set("/process/noNewPrivileges", no_new_privileges);
        let probes = b.probe(&[MKDIR, "report"]);
        assert_eq!(
            (&probes[0]["errno"], &probes[1]["no_new_privs"]),
            (&json!(libc::EPERM), &json!(i32::from(no_new_privileges)))
        );
    }
}

pub fn filter_holds_for_a_user_who_is_not_root(t: &T) {
    let b = allowing(t, json!([rule(&["sched_get_priority_max"], "SCMP_ACT_ERRNO")]))
        .set("/process/user/uid", 1000);
    assert_eq!(b.tries(&[RARE]), [libc::EPERM]);
}

pub fn filter_holds_in_exec(t: &T) {
    let c = allowing(t, json!([rule(&["mkdir", "mkdirat"], "SCMP_ACT_ERRNO")])).start();
    assert_eq!(errnos(&c.exec(&[], &[MKDIR])), [libc::EPERM]);
}

pub fn exec_has_as_many_filters_as_the_container(t: &T) {
    let c = allowing(t, json!([rule(&["mkdir"], "SCMP_ACT_ERRNO")])).start();
    let filters = crate::host::status_of(c.pid(), "Seccomp_filters").unwrap();
    assert_eq!(c.exec(&[], &["report"])[0]["seccomp_filters"], filters);
}

pub fn killed_exec_gives_128_and_the_signal(t: &T) {
    let c = allowing(t, json!([rule(&["sched_get_priority_max"], "SCMP_ACT_KILL_PROCESS")])).start();
    assert_eq!(c.call("exec", &[], &["/inside", "syscall", "146"]).code, 128 + libc::SIGSYS);
}

pub fn filter_with_notify_and_no_listener_is_refused(t: &T) {
    allowing(t, json!([rule(&["mkdir"], "SCMP_ACT_NOTIFY")])).refused();
}

pub fn what_a_profile_of_docker_denies_is_denied(t: &T) {
    let docker: Value = serde_json::from_str(include_str!("../bundles/docker-plain.json")).unwrap();
    let b = t.bundle().set("/linux/seccomp", docker["linux"]["seccomp"].clone());
    // unshare(CLONE_NEWUSER), keyctl, bpf; and mkdir is allowed.
    let tries = b.tries(&["unshare 0x10000000", "syscall 250", "syscall 321", MKDIR]);
    assert_eq!(tries, [libc::EPERM, libc::EPERM, libc::EPERM, 0]);
}
