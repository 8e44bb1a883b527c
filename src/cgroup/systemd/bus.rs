//! One connection to systemd: plain, blocking, without threads, and only opened where systemd makes the cgroup.
//!
//! The message bus comes first: of all that systemd says it passes on only the end of our own job. systemd's private
//! socket, which serves where there is no bus, sends everything to everyone: of fifty containers started at once each
//! hears of all others (3.8 s instead of 2.5 s for all, where without systemd it is 2.3 s). The greeting is sent at
//! once and its answer read when the first call goes out: sooner a call would lie unread in systemd's buffer until
//! something else came. All calls up to there go out together.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::message::{self, Callee, Incoming};
use super::value::{Reader, Value};
use crate::error::{Error, Result};

/// How long systemd gets for everything that is asked on one connection.
const PATIENCE: Duration = Duration::from_secs(60);

/// "I am who the kernel says I am."
const GREETING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
const SYSTEM_PRIVATE: &str = "/run/systemd/private";

const BROKER: Callee<'static> =
    Callee { name: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

const MANAGER: Callee<'static> = Callee {
    name: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// Whose systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    /// The host's.
    System,
    /// The caller's own (`systemd --user`).
    User,
}

impl Manager {
    /// The one that the caller has rights over.
    ///
    /// Root of a user namespace has a systemd of its own only if that belongs to the same root: in a system
    /// container it does, in an engine's namespace it does not.
    pub fn of_caller(rootless: bool) -> Manager {
        let ours = || std::fs::metadata(SYSTEM_PRIVATE).is_ok_and(|meta| meta.uid() == 0);
        match !rootless || (geteuid().is_root() && ours()) {
            true => Manager::System,
            false => Manager::User,
        }
    }

    /// The sockets to try, in this order; says of each whether systemd itself listens there.
    fn sockets(self) -> Vec<(PathBuf, bool)> {
        let address = |name: &str| std::env::var(name).ok().and_then(|text| unix_path(&text));
        match self {
            Manager::System => {
                let bus = address("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or(SYSTEM_BUS.into());
                vec![(bus, false), (SYSTEM_PRIVATE.into(), true)]
            }
            Manager::User => {
                let run = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
                let bus = address("DBUS_SESSION_BUS_ADDRESS").or(run.as_ref().map(|run| run.join("bus")));
                let direct = run.map(|run| (run.join("systemd/private"), true));
                bus.map(|path| (path, false)).into_iter().chain(direct).collect()
            }
        }
    }
}

/// The first socket path of a list of addresses (D-Bus specification, "Server Addresses").
fn unix_path(addresses: &str) -> Option<PathBuf> {
    let path = addresses.split(';').find_map(|address| {
        address.strip_prefix("unix:")?.split(',').find_map(|pair| pair.strip_prefix("path="))
    })?;
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// What systemd says to a call.
#[derive(Debug)]
pub enum Answer {
    /// It did it; the body, and who that was.
    Return(Vec<u8>, String),
    /// It did not: the error's name and words.
    Error(String, String),
}

/// The end of a job.
#[derive(Debug)]
struct Removed {
    job: String,
    result: String,
    sender: String,
}

/// An open connection.
#[derive(Debug)]
pub struct Bus {
    stream: UnixStream,
    socket: PathBuf,
    /// No broker in between.
    direct: bool,
    serial: u32,
    /// Bytes that came and were not read yet.
    buffer: Vec<u8>,
    /// Calls that were not sent yet.
    outgoing: Vec<u8>,
    greeted: bool,
    /// Calls to the broker whose answer nobody waits for.
    unasked: Vec<u32>,
    removed: Vec<Removed>,
    deadline: Instant,
}

impl Bus {
    /// Connects and introduces itself; waits for nothing.
    pub fn open(manager: Manager) -> Result<Bus> {
        let mut error = None;
        for (socket, direct) in manager.sockets() {
            match UnixStream::connect(&socket) {
                Ok(stream) => return Bus::greet(stream, socket, direct),
                Err(e) => error = Some(Error::new(format!("connect to {}: {e}", socket.display()))),
            }
        }
        let (what, hint) = match manager {
            Manager::System => ("the host's systemd", "is systemd the first process here?"),
            Manager::User => (
                "the user's systemd",
                "set XDG_RUNTIME_DIR or DBUS_SESSION_BUS_ADDRESS; `loginctl enable-linger` keeps a user's systemd running",
            ),
        };
        let error = error
            .unwrap_or_else(|| Error::new("neither XDG_RUNTIME_DIR nor DBUS_SESSION_BUS_ADDRESS is set"));
        Err(error.at(format!("reach {what}")).hint(hint))
    }

    fn greet(stream: UnixStream, socket: PathBuf, direct: bool) -> Result<Bus> {
        let mut bus = Bus {
            outgoing: Vec::new(),
            stream,
            socket,
            direct,
            serial: 0,
            buffer: Vec::new(),
            greeted: false,
            unasked: Vec::new(),
            removed: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        };
        bus.write(GREETING)?;
        if !direct {
            let hello = bus.call_to(&BROKER, "Hello", &[]);
            bus.unasked.push(hello);
        }
        Ok(bus)
    }

    /// Hears of the ends of jobs of this unit from now on.
    pub fn watch(&mut self, unit: &str) {
        if self.direct {
            return;
        }
        // Of this unit alone: a hundred creates at once are not woken up by each other.
        let rule = format!(
            "type='signal',sender='{}',interface='{}',member='JobRemoved',arg2='{unit}'",
            MANAGER.name, MANAGER.interface
        );
        let serial = self.call_to(&BROKER, "AddMatch", &[Value::Text(rule)]);
        self.unasked.push(serial);
    }

    /// A call to systemd's manager; returns the number that [`Bus::answer`] wants.
    pub fn call(&mut self, member: &str, arguments: &[Value]) -> u32 {
        self.call_to(&MANAGER, member, arguments)
    }

    /// Asks for a property of a unit.
    pub fn get(&mut self, unit: &str, interface: &str, property: &str) -> u32 {
        let path = object_path(unit);
        let callee = Callee { path: &path, interface: "org.freedesktop.DBus.Properties", ..MANAGER };
        self.call_to(&callee, "Get", &[Value::text(interface), Value::text(property)])
    }

    fn call_to(&mut self, callee: &Callee<'_>, member: &str, arguments: &[Value]) -> u32 {
        self.serial += 1;
        self.outgoing.extend(message::call(self.serial, callee, member, !self.direct, arguments));
        self.serial
    }

    /// Sends what was called, once the other side has let us in.
    pub fn send(&mut self) -> Result<()> {
        while !self.greeted && !self.read_greeting()? {
            self.fill()?;
        }
        let calls = std::mem::take(&mut self.outgoing);
        self.write(&calls)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.set_write_timeout(Some(PATIENCE)).map_err(|e| self.broken(&e))?;
        self.stream.write_all(bytes).map_err(|e| self.broken(&e))
    }

    /// Waits for the answer to a call.
    pub fn answer(&mut self, serial: u32) -> Result<Answer> {
        self.send()?;
        loop {
            match self.receive()? {
                Some(Incoming::Return { to, sender, body }) if to == serial => {
                    return Ok(Answer::Return(body, sender));
                }
                Some(Incoming::Error { to, name, text }) if to == serial => {
                    return Ok(Answer::Error(name, text));
                }
                // Nobody waits for the answers to Hello and AddMatch, but without them there will be no other.
                Some(Incoming::Error { to, name, text }) if self.unasked.contains(&to) => {
                    return Err(Error::new(format!("the message bus refuses: {}", words(&name, &text))));
                }
                _ => {}
            }
        }
    }

    /// Waits for the end of a job; returns its result: `done`, `failed`, `timeout` ...
    pub fn result_of(&mut self, job: &str, sender: &str) -> Result<String> {
        loop {
            if let Some(at) = self.removed.iter().position(|r| r.job == job && r.sender == sender) {
                return Ok(self.removed.swap_remove(at).result);
            }
            self.receive()?;
        }
    }

    /// The next answer; `None` for a signal, which is noted if it is the end of a job.
    fn receive(&mut self) -> Result<Option<Incoming>> {
        loop {
            let length = message::length(&self.buffer)?.filter(|&length| length <= self.buffer.len());
            let Some(length) = length else {
                self.fill()?;
                continue;
            };
            let message: Vec<u8> = self.buffer.drain(..length).collect();
            return match message::read(&message)? {
                Some(Incoming::Signal { member, sender, body }) => {
                    self.note(&member, sender, &body).map(|()| None)
                }
                incoming => Ok(incoming),
            };
        }
    }

    fn note(&mut self, member: &str, sender: String, body: &[u8]) -> Result<()> {
        if member == "JobRemoved" {
            let mut reader = Reader::new(body);
            reader.u32()?;
            let job = reader.text()?.to_string();
            reader.text()?;
            self.removed.push(Removed { job, result: reader.text()?.to_string(), sender });
        }
        Ok(())
    }

    /// The lines before the first message; true once we are let in.
    fn read_greeting(&mut self) -> Result<bool> {
        while let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
            let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
            match &line[..end] {
                b"DATA" => {}
                line if line.starts_with(b"OK ") => {
                    self.greeted = true;
                    return Ok(true);
                }
                line => {
                    let line = String::from_utf8_lossy(line).into_owned();
                    return Err(Error::new(format!("{} does not let us in: {line}", self.socket.display())));
                }
            }
        }
        Ok(false)
    }

    fn fill(&mut self) -> Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.late());
        }
        self.stream.set_read_timeout(Some(left)).map_err(|e| self.broken(&e))?;
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(self.closed()),
            Ok(count) => {
                self.buffer.extend(&bytes[..count]);
                Ok(())
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => Ok(()),
            Err(e) if e.kind() == ErrorKind::WouldBlock => Err(self.late()),
            Err(e) => Err(self.broken(&e)),
        }
    }

    fn late(&self) -> Error {
        Error::new(format!(
            "systemd did not answer on {} within {} seconds",
            self.socket.display(),
            PATIENCE.as_secs()
        ))
    }

    fn closed(&self) -> Error {
        Error::new(format!("{} was closed by the other side", self.socket.display()))
    }

    fn broken(&self, e: &std::io::Error) -> Error {
        if matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            return self.closed();
        }
        Error::new(format!("{}: {e}", self.socket.display()))
    }
}

/// An error of the bus in one line.
pub fn words(name: &str, text: &str) -> String {
    let name = name.strip_prefix("org.freedesktop.").unwrap_or(name);
    if text.is_empty() { name.to_string() } else { format!("{text} ({name})") }
}

/// The object of a unit: what is no letter or digit is written as `_` and two hexadecimal digits.
fn object_path(unit: &str) -> String {
    let mut path = format!("{}/unit/", MANAGER.path);
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            path.push(byte as char);
        } else {
            path.push_str(&format!("_{byte:02x}"));
        }
    }
    path
}

/// systemd is the first process here.
pub fn is_running() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A systemd that says what the test wants it to.
    fn bus(direct: bool) -> (Bus, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Bus::greet(ours, "test".into(), direct).unwrap(), theirs)
    }

    #[test]
    fn units_have_object_paths() {
        assert_eq!(object_path("a-1.scope"), "/org/freedesktop/systemd1/unit/a_2d1_2escope");
        assert_eq!(object_path("1.scope"), "/org/freedesktop/systemd1/unit/_31_2escope");
    }

    #[test]
    fn addresses_name_a_socket() {
        let path = |text| unix_path(text).map(|p| p.to_string_lossy().into_owned());
        assert_eq!(path("unix:path=/run/user/1000/bus,guid=1").unwrap(), "/run/user/1000/bus");
        assert_eq!(path("tcp:host=x;unix:guid=2,path=/a%20b").unwrap(), "/a b");
        assert_eq!(path("unix:abstract=/x"), None);
        assert_eq!(path("unix:path=%zz"), None);
    }

    #[test]
    fn whoever_does_not_let_us_in_is_an_error_and_so_is_the_end() {
        let (mut ours, mut theirs) = bus(true);
        theirs.write_all(b"REJECTED EXTERNAL\r\n").unwrap();
        assert!(ours.answer(1).unwrap_err().to_string().contains("does not let us in: REJECTED"));
        let (mut ours, theirs) = bus(false);
        drop(theirs);
        assert!(ours.answer(1).unwrap_err().to_string().contains("closed by the other side"));
    }

    #[test]
    fn a_job_that_ended_before_the_answer_is_remembered_and_a_strangers_word_is_not_taken() {
        let (mut ours, mut theirs) = bus(true);
        let serial = ours.call("StartTransientUnit", &[]);
        let removed = |sender: &str, result: &str| {
            let body =
                [Value::U32(1), Value::Path("/job/1".into()), Value::text("a.scope"), Value::text(result)];
            message::tests::signal("JobRemoved", sender, &body)
        };
        theirs.write_all(b"DATA\r\nOK 00\r\n").unwrap();
        theirs.write_all(&removed(":1.9", "failed")).unwrap();
        theirs.write_all(&removed(":1.0", "done")).unwrap();
        theirs
            .write_all(&message::tests::answer_to(serial, ":1.0", &[Value::Path("/job/1".into())]))
            .unwrap();
        let Answer::Return(body, sender) = ours.answer(serial).unwrap() else { panic!() };
        let job = Reader::new(&body).text().unwrap().to_string();
        assert_eq!(ours.result_of(&job, &sender).unwrap(), "done");
    }

    #[test]
    fn nothing_is_called_before_the_greeting_is_answered() {
        let (mut ours, mut theirs) = bus(false);
        ours.watch("a.scope");
        let mut bytes = [0; 1024];
        let count = theirs.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..count], GREETING);
        theirs.write_all(b"DATA\r\nOK 00\r\n").unwrap();
        ours.call("GetUnit", &[Value::text("a.scope")]);
        ours.send().unwrap();
        let count = theirs.read(&mut bytes).unwrap();
        let calls = String::from_utf8_lossy(&bytes[..count]).into_owned();
        let at = |word| calls.find(word).unwrap();
        assert!(
            at("Hello") < at("AddMatch")
                && at("AddMatch") < at("GetUnit")
                && calls.contains("arg2='a.scope'")
        );
    }

    #[test]
    fn a_broker_that_refuses_is_heard() {
        let (mut ours, mut theirs) = bus(false);
        let serial = ours.call("StopUnit", &[]);
        theirs.write_all(b"DATA\r\nOK 00\r\n").unwrap();
        theirs
            .write_all(&message::tests::error_to(1, "org.freedesktop.DBus.Error.LimitsExceeded", "full"))
            .unwrap();
        let error = ours.answer(serial).unwrap_err().to_string();
        assert!(error.contains("the message bus refuses: full (DBus.Error.LimitsExceeded)"), "{error}");
    }
}
