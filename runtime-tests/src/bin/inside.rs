//! The payload: tells from inside a container what is true there, and what it may do.
//!
//! `inside PROBE [-- PROBE]...` runs the probes in order and prints one JSON array with an object for each.
//! A probe that tries something reports `errno`, 0 if it was allowed. Needs nothing in the rootfs.

// Each probe is one system call on arguments that live as long as it.
#![allow(clippy::undocumented_unsafe_blocks)]

use serde_json::{Map, Value, json};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::{env, fs, io, ptr, thread, time};

fn main() {
    let args: Vec<String> = env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let mut results = Vec::new();
    for probe in args.split(|a| a == "--") {
        let words: Vec<&str> = probe.iter().map(String::as_str).collect();
        results.push(run(&words));
    }
    println!("{}", Value::Array(results));
}

fn run(words: &[&str]) -> Value {
    let arg = |i: usize| words.get(i).copied().unwrap_or("");
    let num = |i: usize| number(arg(i));
    match arg(0) {
        "" | "report" => report(),
        "print" => {
            println!("{}", words[1..].join(" "));
            json!({})
        }
        "complain" => {
            eprintln!("{}", words[1..].join(" "));
            json!({})
        }
        "exit" => std::process::exit(num(1) as i32),
        "pause" => loop {
            thread::sleep(time::Duration::from_secs(3600));
        },
        "trap" => trap(num(1) as i32, num(2) as i32),
        "kill" => tried(unsafe { libc::kill(num(1) as i32, num(2) as i32) } as i64),
        "raise" => {
            unsafe { libc::kill(libc::getpid(), num(1) as i32) };
            tried(0)
        }
        "child" => child(&words[1..]),
        "copy" => of(io::copy(&mut io::stdin(), &mut io::stdout()).map(|n| json!({ "bytes": n }))),
        "read" => of(fs::read(arg(1)).map(|b| json!({ "text": String::from_utf8_lossy(&b) }))),
        "put" => of(fs::OpenOptions::new()
            .write(true)
            .open(arg(1))
            .and_then(|mut f| io::Write::write_all(&mut f, words[2..].join(" ").as_bytes()))
            .map(|()| json!({}))),
        "create" => of(fs::write(arg(1), "made inside").map(|()| json!({}))),
        "open" => open(arg(1), arg(2)),
        "list" => of(fs::read_dir(arg(1)).map(|d| {
            let mut names: Vec<_> =
                d.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            json!({ "names": names })
        })),
        "stat" => of(fs::symlink_metadata(arg(1)).map(|m| stat(&m))),
        "follow" => of(fs::metadata(arg(1)).map(|m| stat(&m))),
        "access" => tried(unsafe { libc::access(c(arg(1)).as_ptr(), num(2) as i32) } as i64),
        "readlink" => of(fs::read_link(arg(1)).map(|l| json!({ "text": l.to_string_lossy() }))),
        "mkdir" => of(fs::create_dir(arg(1)).map(|()| json!({}))),
        "unlink" => of(fs::remove_file(arg(1)).map(|()| json!({}))),
        "symlink" => of(std::os::unix::fs::symlink(arg(1), arg(2)).map(|()| json!({}))),
        "chmod" => tried(unsafe { libc::chmod(c(arg(1)).as_ptr(), num(2) as u32) } as i64),
        "chown" => tried(unsafe { libc::chown(c(arg(1)).as_ptr(), num(2) as u32, num(3) as u32) } as i64),
        "overwrite" => overwrite(arg(1), arg(2), arg(3)),
        "mknod" => mknod(arg(1), arg(2), num(3) as u32, num(4) as u32),
        "mount" => mount(arg(1), arg(2), arg(3), num(4) as u64, arg(5)),
        "umount" => tried(unsafe { libc::umount2(c(arg(1)).as_ptr(), libc::MNT_DETACH) } as i64),
        "unshare" => tried(unsafe { libc::unshare(num(1) as i32) } as i64),
        "chroot" => tried(unsafe { libc::chroot(c(arg(1)).as_ptr()) } as i64),
        "chdir" => of(env::set_current_dir(arg(1)).map(|()| json!({}))),
        "setuid" => tried(unsafe { libc::setuid(num(1) as u32) } as i64),
        "sethostname" => tried(unsafe { libc::sethostname(arg(1).as_ptr().cast(), arg(1).len()) } as i64),
        "serve" => serve(arg(1)),
        "connect" => of(connect(arg(1)).map(|_| json!({}))),
        "attach" => attach(num(1) as i32),
        "ptrace" => tried(unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } as i64),
        "socket" => tried(unsafe { libc::socket(num(1) as i32, num(2) as i32, num(3) as i32) } as i64),
        "syscall" => syscall(&words[1..]),
        "uname32" => uname32(),
        "ifflags" => ifflags(arg(1)),
        "tiocsti" => tried(unsafe { libc::ioctl(0, libc::TIOCSTI, c"x".as_ptr()) } as i64),
        "winsize" => winsize(),
        "clocks" => {
            json!({ "monotonic": clock(libc::CLOCK_MONOTONIC), "boottime": clock(libc::CLOCK_BOOTTIME) })
        }
        "schedule" => schedule(),
        "alloc" => alloc(num(1) as usize),
        "forks" => forks(num(1)),
        "hog" => hog(num(1) as usize),
        "direct" => of(direct(arg(1), num(2) as usize, num(3) as usize)),
        "spin" => {
            let end = time::Instant::now() + time::Duration::from_millis(num(1) as u64);
            while time::Instant::now() < end {}
            json!({})
        }
        "watch" => watch(num(1) as u64),
        "sleep" => {
            thread::sleep(time::Duration::from_millis(num(1) as u64));
            json!({})
        }
        "loopback" => loopback(),
        other => {
            eprintln!("inside: unknown probe {other:?}");
            std::process::exit(99)
        }
    }
}

/// When and where this process runs.
fn schedule() -> Value {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    unsafe {
        json!({
            "policy": libc::sched_getscheduler(0), "nice": libc::getpriority(libc::PRIO_PROCESS, 0),
            "io": libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0), "cpus": status("Cpus_allowed_list"),
        })
    }
}

fn number(text: &str) -> i64 {
    let parsed = match (text.strip_prefix("0x"), text.strip_prefix("0o")) {
        (Some(hex), _) => u64::from_str_radix(hex, 16).map(|n| n as i64).ok(),
        (_, Some(octal)) => i64::from_str_radix(octal, 8).ok(),
        _ => text.parse().ok(),
    };
    parsed.unwrap_or(0)
}

fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(-1)
}

/// The result of a system call that returns -1 and an errno, or something useful.
fn tried(result: i64) -> Value {
    if result < 0 { json!({ "errno": errno() }) } else { json!({ "errno": 0, "result": result }) }
}

fn of(result: io::Result<Value>) -> Value {
    match result {
        Ok(mut facts) => {
            facts["errno"] = json!(0);
            facts
        }
        Err(e) => json!({ "errno": e.raw_os_error().unwrap_or(-1) }),
    }
}

// ---- what is true here -------------------------------------------------------------------------

fn report() -> Value {
    let (mut r, mut e, mut s) = (0, 0, 0);
    unsafe { libc::getresuid(&mut r, &mut e, &mut s) };
    let uids = [r, e, s];
    unsafe { libc::getresgid(&mut r, &mut e, &mut s) };
    let gids = [r, e, s];
    let umask = unsafe { libc::umask(0) };
    unsafe { libc::umask(umask) };
    json!({
        "pid": std::process::id(), "ppid": unsafe { libc::getppid() }, "sid": unsafe { libc::getsid(0) },
        "uids": uids, "gids": gids, "groups": groups(), "umask": umask,
        "capabilities": capabilities(),
        "no_new_privs": unsafe { libc::prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) },
        "securebits": unsafe { libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0) },
        "dumpable": unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0) },
        "personality": unsafe { libc::personality(0xffff_ffff) },
        "seccomp": status("Seccomp"), "seccomp_filters": status("Seccomp_filters"),
        "sigmask": status("SigBlk"), "sigignored": status("SigIgn"),
        "rlimits": rlimits(),
        "args": env::args_os().map(|a| a.to_string_lossy().into_owned()).collect::<Vec<_>>(),
        "env": environment(),
        "cwd": env::current_dir().map(|d| d.to_string_lossy().into_owned()).unwrap_or_default(),
        "fds": descriptors(), "mounts": mounts(), "namespaces": namespaces(),
        "uid_map": text("/proc/self/uid_map"), "gid_map": text("/proc/self/gid_map"),
        "setgroups": text("/proc/self/setgroups"),
        "hostname": uname(|u| &u.nodename), "domainname": uname(|u| &u.domainname),
        "machine": uname(|u| &u.machine),
        "oom_score_adj": text("/proc/self/oom_score_adj").trim().parse::<i32>().unwrap_or(9999),
        "cgroup": text("/proc/self/cgroup"), "timens_offsets": text("/proc/self/timens_offsets"),
        "label": text("/proc/self/attr/current").trim_end_matches(['\0', '\n']),
        "keyring": keyring(), "tty": tty(),
    })
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn status(key: &str) -> String {
    let all = text("/proc/self/status");
    all.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default().trim().to_string()
}

fn groups() -> Vec<u32> {
    let mut list = vec![0; 65536];
    let n = unsafe { libc::getgroups(list.len() as i32, list.as_mut_ptr()) };
    list.truncate(n.max(0) as usize);
    list.sort_unstable();
    list
}

/// The five sets by system call (no /proc needed), each as a number with a bit for each capability.
fn capabilities() -> Value {
    #[repr(C)]
    struct Header(u32, i32);
    let header = Header(0x2008_0522, 0);
    let mut data = [0u32; 6];
    unsafe { libc::syscall(libc::SYS_capget, &header, data.as_mut_ptr()) };
    let join = |i: usize| u64::from(data[i]) | u64::from(data[i + 3]) << 32;
    let ask = |option: i32, sub: u64, shift: bool| -> u64 {
        (0..64u64)
            .filter(|&cap| {
                let (a, b) = if shift { (sub, cap) } else { (cap, 0) };
                unsafe { libc::prctl(option, a, b, 0, 0) == 1 }
            })
            .map(|cap| 1 << cap)
            .sum()
    };
    json!({
        "effective": join(0), "permitted": join(1), "inheritable": join(2),
        "bounding": ask(libc::PR_CAPBSET_READ, 0, false),
        "ambient": ask(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_IS_SET as u64, true),
    })
}

fn rlimits() -> Value {
    let names = [
        "CPU",
        "FSIZE",
        "DATA",
        "STACK",
        "CORE",
        "RSS",
        "NPROC",
        "NOFILE",
        "MEMLOCK",
        "AS",
        "LOCKS",
        "SIGPENDING",
        "MSGQUEUE",
        "NICE",
        "RTPRIO",
        "RTTIME",
    ];
    let mut all = Map::new();
    for (i, name) in names.iter().enumerate() {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe { libc::getrlimit(i as u32, &mut limit) };
        all.insert(format!("RLIMIT_{name}"), json!([limit.rlim_cur, limit.rlim_max]));
    }
    all.into()
}

fn environment() -> Vec<String> {
    // As the kernel was given it: with duplicates, and without what std thinks malformed.
    let raw = fs::read("/proc/self/environ").unwrap_or_default();
    raw.split(|b| *b == 0)
        .filter(|v| !v.is_empty())
        .map(|v| String::from_utf8_lossy(v).into_owned())
        .collect()
}

fn descriptors() -> Value {
    let mut open = Map::new();
    for fd in 0..4096 {
        let mut stat = unsafe { std::mem::zeroed::<libc::stat>() };
        if unsafe { libc::fstat(fd, &mut stat) } == 0 {
            let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            open.insert(fd.to_string(), json!(link.to_string_lossy()));
        }
    }
    open.into()
}

fn mounts() -> Vec<Value> {
    text("/proc/self/mountinfo")
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let l: Vec<&str> = left.split(' ').collect();
            let r: Vec<&str> = right.split(' ').collect();
            Some(json!({
                "id": l[0], "parent": l[1], "device": l[2], "root": l[3], "point": l[4],
                "options": l[5].split(',').collect::<Vec<_>>(), "tags": &l[6..], "type": r[0], "source": r[1],
                "super": r.get(2).map(|s| s.split(',').collect::<Vec<_>>()),
            }))
        })
        .collect()
}

fn namespaces() -> Value {
    let mut all = Map::new();
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap_or_default();
        all.insert(kind.into(), json!(link.to_string_lossy()));
    }
    all.into()
}

fn uname(field: impl Fn(&libc::utsname) -> &[libc::c_char; 65]) -> String {
    let mut names = unsafe { std::mem::zeroed::<libc::utsname>() };
    unsafe { libc::uname(&mut names) };
    field(&names).iter().take_while(|b| **b != 0).map(|b| *b as u8 as char).collect()
}

/// The session keyring's id and its description, as keyctl(KEYCTL_DESCRIBE) gives it.
fn keyring() -> Value {
    let id = unsafe { libc::syscall(libc::SYS_keyctl, 0, -3i32, 0) };
    if id < 0 {
        return json!({ "errno": errno() });
    }
    let mut name = [0u8; 256];
    let n = unsafe { libc::syscall(libc::SYS_keyctl, 6, id as i32, name.as_mut_ptr(), name.len()) };
    let name = &name[..(n.max(1) as usize - 1).min(255)];
    let mut label = [0u8; 256];
    let n = unsafe { libc::syscall(libc::SYS_keyctl, 17, id as i32, label.as_mut_ptr(), label.len()) };
    let label = &label[..(n.max(1) as usize - 1).min(255)];
    json!({ "id": id, "name": String::from_utf8_lossy(name), "label": String::from_utf8_lossy(label) })
}

fn tty() -> Value {
    let terminal = |fd| unsafe { libc::isatty(fd) == 1 };
    let name = fs::read_link("/proc/self/fd/0").unwrap_or_default();
    json!({
        "is": [terminal(0), terminal(1), terminal(2)], "name": name.to_string_lossy(), "size": winsize(),
        "controlling": fs::File::open("/dev/tty").is_ok(),
        "foreground": unsafe { libc::tcgetpgrp(0) == libc::getpgrp() },
    })
}

fn winsize() -> Value {
    let mut size = unsafe { std::mem::zeroed::<libc::winsize>() };
    unsafe { libc::ioctl(0, libc::TIOCGWINSZ, &mut size) };
    json!({ "rows": size.ws_row, "columns": size.ws_col })
}

fn clock(id: libc::clockid_t) -> i64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(id, &mut now) };
    now.tv_sec
}

fn stat(m: &fs::Metadata) -> Value {
    let t = m.file_type();
    let kind = match () {
        () if t.is_char_device() => "c",
        () if t.is_block_device() => "b",
        () if t.is_fifo() => "p",
        () if t.is_dir() => "d",
        () if t.is_symlink() => "l",
        () if t.is_socket() => "s",
        () => "f",
    };
    json!({
        "type": kind, "mode": m.mode() & 0o7777, "uid": m.uid(), "gid": m.gid(), "size": m.size(),
        "major": libc::major(m.rdev()), "minor": libc::minor(m.rdev()), "device": m.dev(), "inode": m.ino(),
        "atime": m.atime(), "mtime": m.mtime(),
    })
}

// ---- what may be done here ---------------------------------------------------------------------

fn open(mode: &str, path: &str) -> Value {
    let flags = match mode {
        "w" => libc::O_WRONLY,
        "rw" => libc::O_RDWR,
        "c" => libc::O_WRONLY | libc::O_CREAT,
        "x" => libc::O_PATH,
        _ => libc::O_RDONLY,
    };
    let fd = unsafe { libc::open(c(path).as_ptr(), flags | libc::O_NONBLOCK | libc::O_NOCTTY, 0o666) };
    let result = tried(i64::from(fd));
    if fd >= 0 {
        unsafe { libc::close(fd) };
    }
    result
}

fn mknod(path: &str, kind: &str, major: u32, minor: u32) -> Value {
    let kind = match kind {
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => libc::S_IFCHR,
    };
    tried(unsafe { libc::mknod(c(path).as_ptr(), kind | 0o666, libc::makedev(major, minor)) } as i64)
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, data: &str) -> Value {
    let (source, target, kind, data) = (c(source), c(target), c(kind), c(data));
    let data = if data.is_empty() { ptr::null() } else { data.as_ptr() };
    tried(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.cast()) } as i64)
}

/// Keeps a path descriptor of a program that runs, says so in a file, and opens it for writing as soon as it is busy
/// no more. Writes "DEVICE INODE ERRNO" to another file; writes nothing to the program.
fn overwrite(path: &str, holds: &str, result: &str) -> Value {
    let fd = unsafe { libc::open(c(path).as_ptr(), libc::O_PATH) };
    let mut outcome = format!("0 0 {}\n", errno());
    let link = format!("/proc/self/fd/{fd}");
    let facts = fs::metadata(&link);
    let _ = fs::write(holds, "");
    if let Ok(facts) = facts {
        for _ in 0..10_000 {
            let opened = fs::OpenOptions::new().write(true).open(&link);
            let errno = opened.err().map_or(0, |e| e.raw_os_error().unwrap_or(-1));
            outcome = format!("{} {} {errno}\n", facts.dev(), facts.ino());
            if errno != libc::ETXTBSY {
                break;
            }
            thread::sleep(time::Duration::from_millis(1));
        }
    }
    of(fs::write(result, outcome).map(|()| json!({})))
}

fn syscall(words: &[&str]) -> Value {
    let a: Vec<i64> = words.iter().map(|w| number(w)).chain([0; 7]).collect();
    tried(unsafe { libc::syscall(a[0], a[1], a[2], a[3], a[4], a[5], a[6]) })
}

/// getpid(2) through the 32-bit gate (int 0x80): another architecture in the eyes of seccomp.
#[cfg(target_arch = "x86_64")]
fn uname32() -> Value {
    let result: i32;
    unsafe {
        std::arch::asm!("int 0x80", inout("eax") 20i32 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if result < 0 { json!({ "errno": -result }) } else { json!({ "errno": 0, "result": result }) }
}

#[cfg(not(target_arch = "x86_64"))]
fn uname32() -> Value {
    json!({ "errno": libc::ENOSYS })
}

fn ifflags(name: &str) -> Value {
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) };
    let mut request = unsafe { std::mem::zeroed::<libc::ifreq>() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    let result = unsafe { libc::ioctl(socket, libc::SIOCGIFFLAGS, &mut request) };
    if result < 0 {
        return json!({ "errno": errno() });
    }
    let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
    json!({ "errno": 0, "up": flags & libc::IFF_UP != 0, "running": flags & libc::IFF_RUNNING != 0 })
}

/// For so many milliseconds: where the links of all other processes lead, as far as they can be read.
fn watch(millis: u64) -> Value {
    let end = time::Instant::now() + time::Duration::from_millis(millis);
    let mut seen = std::collections::BTreeSet::new();
    while time::Instant::now() < end {
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name().to_string_lossy().into_owned();
            if name.parse().is_ok_and(|pid: u32| pid != std::process::id()) {
                let read = |link: &str| fs::read_link(process.path().join(link));
                for link in ["exe", "cwd", "root"] {
                    seen.extend(read(link).map(|to| format!("{link} {}", to.to_string_lossy())));
                }
                for fd in fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
                    seen.extend(fs::read_link(fd.path()).map(|to| format!("fd {}", to.to_string_lossy())));
                }
            }
        }
        thread::sleep(time::Duration::from_millis(2));
    }
    json!({ "seen": seen })
}

/// A TCP connection from this process to itself over 127.0.0.1.
fn loopback() -> Value {
    of(std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| {
        let address = listener.local_addr()?;
        std::net::TcpStream::connect_timeout(&address, time::Duration::from_secs(5))?;
        Ok(json!({}))
    }))
}

/// A Unix socket by path, or in the network namespace's own names if it begins with `@`.
fn address(name: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// Takes connections from here on, while the next probes run.
fn serve(name: &str) -> Value {
    let listener = address(name).and_then(|a| std::os::unix::net::UnixListener::bind_addr(&a));
    of(listener.map(|listener| {
        thread::spawn(move || listener.incoming().for_each(drop));
        json!({})
    }))
}

fn connect(name: &str) -> io::Result<std::os::unix::net::UnixStream> {
    std::os::unix::net::UnixStream::connect_addr(&address(name)?)
}

/// Stops another process as a debugger does, and lets it go.
fn attach(pid: i32) -> Value {
    let result = tried(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) });
    if result["errno"] == 0 {
        unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WALL) };
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
    result
}

/// Maps and touches so many bytes.
fn alloc(bytes: usize) -> Value {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let memory =
        unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return json!({ "errno": errno() });
    }
    // Fewer faults, where there are huge pages: an emulated machine takes long for each.
    unsafe { libc::madvise(memory, bytes, libc::MADV_HUGEPAGE) };
    for offset in (0..bytes).step_by(4096) {
        unsafe { memory.cast::<u8>().add(offset).write_volatile(1) };
    }
    unsafe { libc::munmap(memory, bytes) };
    json!({ "errno": 0 })
}

/// Forks up to so many sleeping children; says how many came to life and the errno that ended it.
fn forks(wanted: i64) -> Value {
    let mut children = Vec::new();
    let mut ended_by = 0;
    for _ in 0..wanted {
        match unsafe { libc::fork() } {
            0 => loop {
                unsafe { libc::pause() };
            },
            -1 => {
                ended_by = errno();
                break;
            }
            child => children.push(child),
        }
    }
    for child in &children {
        unsafe { libc::kill(*child, libc::SIGKILL) };
        unsafe { libc::waitpid(*child, ptr::null_mut(), 0) };
    }
    json!({ "errno": ended_by, "children": children.len() })
}

/// Takes so many bytes of memory again and again, and every CPU once that has killed it; never ends.
fn hog(bytes: usize) -> ! {
    for round in 0.. {
        if round == usize::from(bytes > 0) {
            for _ in 1..thread::available_parallelism().map_or(1, usize::from) {
                if unsafe { libc::fork() } == 0 {
                    spin();
                }
            }
        }
        if bytes == 0 {
            spin();
        }
        match unsafe { libc::fork() } {
            0 => {
                alloc(bytes);
                std::process::exit(0)
            }
            child => _ = unsafe { libc::waitpid(child, ptr::null_mut(), 0) },
        }
    }
    unreachable!()
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Writes so many blocks to a nameless file in a folder, past all caches, and says how long that took.
fn direct(folder: &str, blocks: usize, size: usize) -> io::Result<Value> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = libc::O_TMPFILE | libc::O_DIRECT;
    let mut file = fs::OpenOptions::new().write(true).custom_flags(flags).open(folder)?;
    let memory = vec![7u8; size + 4096];
    let aligned = memory.as_ptr().align_offset(4096);
    let start = time::Instant::now();
    for _ in 0..blocks {
        io::Write::write_all(&mut file, &memory[aligned..aligned + size])?;
    }
    Ok(json!({ "millis": start.elapsed().as_millis() as u64 }))
}

/// Blocks a signal, says so with a file in /tmp, and exits with `code` when the signal comes.
fn trap(signal: i32, code: i32) -> Value {
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::sigprocmask(libc::SIG_BLOCK, &set, ptr::null_mut());
        let _ = fs::write("/tmp/ready", signal.to_string());
        println!("ready");
        let mut got = 0;
        libc::sigwait(&set, &mut got);
    }
    std::process::exit(code)
}

/// Runs a program and reports the errno of its execve(2), else its exit status and output.
fn child(words: &[&str]) -> Value {
    let program = std::ffi::OsStr::from_bytes(words[0].as_bytes());
    of(std::process::Command::new(program).args(&words[1..]).output().map(|o| {
        use std::os::unix::process::ExitStatusExt;
        json!({ "code": o.status.code(), "signal": o.status.signal(), "out": String::from_utf8_lossy(&o.stdout) })
    }))
}
