//! Terminals: the console socket, the foreground, and the size.

use crate::bundle::Bundle;
use crate::harness::{T, before_exec, wait_for};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

/// What came over a console socket.
pub struct Console {
    pub master: File,
    pub descriptors: usize,
    pub messages: usize,
    pub text: Vec<u8>,
}

/// Listens where a runtime can be told to send the terminal.
pub fn listen(t: &T) -> (UnixListener, PathBuf) {
    // Short: a socket's path has at most 107 bytes.
    let path = crate::work_dir(t.run).join(format!("{}.sock", t.fresh_id()));
    (UnixListener::bind(&path).unwrap(), path)
}

/// Takes one connection and all that comes on it.
pub fn receive(listener: &UnixListener) -> Console {
    listener.set_nonblocking(true).unwrap();
    let (socket, _) = wait_for("a connection to the console socket", || listener.accept().ok());
    socket.set_nonblocking(false).unwrap();
    let mut console =
        Console { master: File::open("/dev/null").unwrap(), descriptors: 0, messages: 0, text: vec![] };
    loop {
        let mut buffer = [0; 4096];
        let mut space = nix::cmsg_space!([i32; 8]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
                .unwrap();
        let bytes = message.bytes;
        for control in message.cmsgs().unwrap() {
            console.messages += 1;
            if let ControlMessageOwned::ScmRights(fds) = control {
                for fd in fds {
                    console.descriptors += 1;
                    // SAFETY: the descriptor has just been received and is ours alone.
                    console.master = unsafe { File::from_raw_fd(fd) };
                }
            }
        }
        if bytes == 0 {
            return console;
        }
        console.text.extend(&buffer[..bytes]);
    }
}

impl Console {
    /// Reads from the terminal until the program's JSON line is complete.
    fn report(&mut self) -> Vec<Value> {
        let mut heard = String::new();
        wait_for("a report on the terminal", || {
            let mut chunk = [0; 65536];
            let n = self.master.read(&mut chunk).unwrap_or(0);
            heard.push_str(&String::from_utf8_lossy(&chunk[..n]));
            heard.contains("]\r\n").then_some(())
        });
        let line = heard.lines().find(|l| l.starts_with('[')).unwrap();
        serde_json::from_str(line.trim()).unwrap()
    }
}

fn with_terminal(t: &T) -> Bundle<'_> {
    t.bundle().set("/process/terminal", true).inside(&["report"])
}

/// Runs the bundle to the report that its program prints on the terminal.
fn on_terminal(b: Bundle) -> Value {
    let (listener, path) = listen(b.t);
    let c =
        b.create_with(&["--console-socket", path.to_str().unwrap()]).unwrap_or_else(|o| panic!("{}", o.err));
    let mut console = receive(&listener);
    c.start();
    console.report().remove(0)
}

pub fn console_socket_gets_one_message_with_one_descriptor(t: &T) {
    let (listener, path) = listen(t);
    let b = with_terminal(t);
    let c =
        b.create_with(&["--console-socket", path.to_str().unwrap()]).unwrap_or_else(|o| panic!("{}", o.err));
    let console = receive(&listener);
    assert_eq!((console.messages, console.descriptors), (1, 1));
    assert!(!console.text.is_empty(), "a message without a byte cannot be told from the end");
    // SAFETY: isatty only looks at the descriptor.
    assert_eq!(unsafe { libc::isatty(console.master.as_raw_fd()) }, 1);
    assert_eq!(c.status(), "created");
}

pub fn three_standard_descriptors_are_the_terminal(t: &T) {
    let report = on_terminal(with_terminal(t));
    assert_eq!(report["tty"]["is"], json!([true, true, true]));
    let fds: Vec<&String> = report["fds"].as_object().unwrap().keys().collect();
    assert_eq!(fds, ["0", "1", "2"]);
}

pub fn terminal_is_the_controlling_one(t: &T) {
    let report = on_terminal(with_terminal(t));
    assert_eq!(report["tty"]["controlling"], true);
    assert_eq!(report["tty"]["foreground"], true);
}

pub fn terminal_is_of_the_containers_own_devpts(t: &T) {
    let report = on_terminal(with_terminal(t));
    assert_eq!(report["tty"]["name"], "/dev/pts/0");
}

pub fn dev_console_is_the_terminal(t: &T) {
    let b = with_terminal(t).inside(&["stat /dev/console", "stat /dev/pts/0", "report"]);
    let (listener, path) = listen(t);
    let c =
        b.create_with(&["--console-socket", path.to_str().unwrap()]).unwrap_or_else(|o| panic!("{}", o.err));
    let mut console = receive(&listener);
    c.start();
    let probes = console.report();
    assert_eq!(probes[0]["type"], "c");
    assert_eq!(probes[0]["major"], probes[1]["major"]);
    assert_eq!(probes[0]["minor"], probes[1]["minor"]);
}

pub fn console_size_is_set(t: &T) {
    let report =
        on_terminal(with_terminal(t).set("/process/consoleSize", json!({ "height": 33, "width": 101 })));
    assert_eq!(report["tty"]["size"], json!({ "rows": 33, "columns": 101 }));
}

pub fn terminal_belongs_to_the_user_of_the_process(t: &T) {
    let b = with_terminal(t).set("/process/user/uid", 1000).inside(&["stat /dev/pts/0", "report"]);
    let (listener, path) = listen(t);
    let c =
        b.create_with(&["--console-socket", path.to_str().unwrap()]).unwrap_or_else(|o| panic!("{}", o.err));
    let mut console = receive(&listener);
    c.start();
    assert_eq!(console.report()[0]["uid"], 1000);
}

pub fn terminal_without_a_socket_is_refused_by_create(t: &T) {
    with_terminal(t).refused();
}

pub fn socket_without_a_terminal_is_refused(t: &T) {
    let (_listener, path) = listen(t);
    let output = t.bundle().create_with(&["--console-socket", path.to_str().unwrap()]);
    assert!(output.is_err_and(|o| o.code != 0), "must be refused");
}

pub fn console_socket_that_nobody_listens_on_is_an_error(t: &T) {
    let output = with_terminal(t).create_with(&["--console-socket", "/nowhere/socket"]);
    assert!(output.is_err_and(|o| !o.err.is_empty()), "must be refused");
}

pub fn exec_sends_a_terminal_of_its_own(t: &T) {
    let c = t.bundle().start();
    let (listener, path) = listen(t);
    let file = c.process_file(|p| p["terminal"] = json!(true), &["report"]);
    let options =
        ["--detach", "--console-socket", path.to_str().unwrap(), "--process", file.to_str().unwrap()];
    c.call("exec", &options, &[]).ok();
    let mut console = receive(&listener);
    assert_eq!((console.messages, console.descriptors), (1, 1));
    let report = console.report().remove(0);
    assert_eq!(report["tty"]["is"], json!([true, true, true]));
    assert_eq!(report["tty"]["controlling"], true);
}

/// A terminal of the test, of which a command can be given the inner end.
pub fn pty() -> (File, OwnedFd) {
    let (mut outer, mut inner) = (0, 0);
    let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
    // SAFETY: both descriptors are written on success and ours alone.
    unsafe {
        assert_eq!(libc::openpty(&mut outer, &mut inner, name, settings, size), 0);
        libc::fcntl(outer, libc::F_SETFL, libc::O_NONBLOCK);
        (File::from_raw_fd(outer), OwnedFd::from_raw_fd(inner))
    }
}

/// `run` with its stdio on this terminal, which becomes its controlling one.
fn run_on(b: &Bundle, inner: OwnedFd) -> Command {
    let mut command = b.command("run", &[]);
    before_exec(&mut command, move || {
        let fd = inner.as_raw_fd();
        nix::unistd::setsid()?;
        // SAFETY: plain system calls on a live descriptor.
        unsafe {
            libc::ioctl(fd, libc::TIOCSCTTY, 0);
            (0..3).for_each(|n| _ = libc::dup2(fd, n));
        }
        Ok(())
    });
    command
}

/// Runs the bundle on a terminal; sends `input` when the program has said "ready", and gives all that it printed.
fn in_foreground(t: &T, b: &Bundle, input: &str) -> String {
    let (mut outer, inner) = pty();
    let mut command = run_on(b, inner);
    let mut child = command.spawn().unwrap();
    drop(command);
    let (mut heard, mut rest) = (String::new(), input.as_bytes());
    wait_for("the foreground ends", || {
        let mut chunk = [0; 65536];
        let n = outer.read(&mut chunk).unwrap_or(0);
        heard.push_str(&String::from_utf8_lossy(&chunk[..n]));
        if heard.contains("ready") {
            // What does not go now goes later: the program may wait for somebody to read.
            rest = &rest[outer.write(rest).unwrap_or(0)..];
        }
        (n == 0 && child.try_wait().unwrap().is_some()).then_some(())
    });
    t.note(heard.clone());
    heard
}

pub fn run_in_the_foreground_shows_the_programs_terminal(t: &T) {
    let heard = in_foreground(t, &with_terminal(t), "");
    let line = heard.lines().find(|l| l.starts_with('[')).expect("a report");
    let report: Value = serde_json::from_str::<Value>(line.trim()).unwrap().as_array().unwrap()[0].clone();
    assert_eq!(report["tty"]["is"], json!([true, true, true]));
    assert_eq!(report["tty"]["name"], "/dev/pts/0");
}

pub fn run_in_the_foreground_passes_input_on(t: &T) {
    // ^D at the beginning of a line ends the program's input.
    let heard = in_foreground(t, &with_terminal(t).inside(&["print ready", "copy"]), "hello inside\n\x04");
    assert!(heard.matches("hello inside").count() >= 2, "echo and copy: {heard}");
}

pub fn run_in_the_foreground_passes_a_lot_of_input_on(t: &T) {
    // The program answers each line, and does not go on to read before its answer has gone.
    let input = format!("{}\n", "x".repeat(99)).repeat(1000) + "\x04";
    let heard = in_foreground(t, &with_terminal(t).inside(&["print ready", "copy"]), &input);
    assert!(heard.contains("\"bytes\":100000"), "{}", heard.lines().last().unwrap_or_default());
}

pub fn output_of_the_foreground_that_nobody_takes_yet_waits(t: &T) {
    let (_outer, inner) = pty();
    let b = with_terminal(t).inside(&["read /big"]);
    std::fs::write(b.rootfs().join("big"), "x".repeat(300_000)).unwrap();
    let (mut reader, writer) = std::io::pipe().unwrap();
    // SAFETY: a plain system call on a live descriptor.
    unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    let mut command = run_on(&b, inner);
    before_exec(&mut command, move || {
        // SAFETY: plain system calls on a live descriptor.
        unsafe {
            libc::dup2(writer.as_raw_fd(), 1);
            libc::fcntl(1, libc::F_SETFL, libc::O_WRONLY | libc::O_NONBLOCK);
        }
        Ok(())
    });
    let mut child = command.spawn().unwrap();
    drop(command);
    // The pipe holds one page: from here on whoever writes faster than we read finds it full.
    wait_for("the first output", || {
        let mut waiting = 0;
        // SAFETY: FIONREAD fills a live int.
        unsafe { libc::ioctl(reader.as_raw_fd(), libc::FIONREAD, &raw mut waiting) };
        (waiting > 0 || child.try_wait().unwrap().is_some()).then_some(())
    });
    let mut heard = String::new();
    reader.read_to_string(&mut heard).unwrap();
    let status = child.wait().unwrap();
    assert!(heard.matches('x').count() >= 300_000, "{} bytes, {status}", heard.len());
    assert!(status.success(), "{status}");
}

pub fn run_in_the_foreground_passes_the_exit_status_on(t: &T) {
    let (_outer, inner) = pty();
    let b = with_terminal(t).inside(&["sleep 10", "exit 23"]);
    let mut command = b.command("run", &[]);
    before_exec(&mut command, move || {
        // SAFETY: plain system calls on a live descriptor.
        unsafe { (0..3).for_each(|n| _ = libc::dup2(inner.as_raw_fd(), n)) };
        Ok(())
    });
    let mut child = command.spawn().unwrap();
    let code = wait_for("the end", || child.try_wait().unwrap());
    assert_eq!(code.code(), Some(23));
}
