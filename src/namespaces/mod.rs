//! `/linux/namespaces`: which are new, which are joined, and when.
//!
//! All new ones come with one clone3(2). A joined one is entered by the child itself with setns(2), except
//! those that only take effect for children (pid, time) or must come before all others (user): these are
//! entered *before* the child is cloned. config-linux.md, "Namespaces".

pub mod net;
pub mod sysctl;
pub mod time;
pub mod user;
pub mod uts;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Slot, Step, Steps};
use crate::sys::process::{namespace_kind, setns};

/// The flags, in the order in which they are printed.
const KINDS: [(i32, &str); 8] = [
    (libc::CLONE_NEWUSER, "user"),
    (libc::CLONE_NEWPID, "pid"),
    (libc::CLONE_NEWNET, "net"),
    (libc::CLONE_NEWIPC, "ipc"),
    (libc::CLONE_NEWUTS, "uts"),
    (libc::CLONE_NEWNS, "mnt"),
    (libc::CLONE_NEWCGROUP, "cgroup"),
    (libc::CLONE_NEWTIME, "time"),
];

/// The names of a set of namespaces: `pid, net`.
pub fn names(flags: i32) -> String {
    let names: Vec<&str> =
        KINDS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect();
    names.join(", ")
}

/// A namespace of the configuration that exists already.
#[derive(Debug, Clone)]
pub struct Joined {
    /// Its `CLONE_NEW*` flag.
    pub kind: i32,
    /// Where it is, on the host.
    pub path: PathBuf,
    /// Its place in `/linux/namespaces`.
    pub index: usize,
}

impl Joined {
    fn pointer(&self) -> Pointer {
        Pointer::Item("/linux/namespaces", self.index)
    }

    /// Opens it and verifies that it is of its kind.
    pub fn open(&self) -> Result<OwnedFd> {
        let fd = open(&self.path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty());
        let fd = fd.call("open(2)").at(self).from_config(self.pointer())?;
        if namespace_kind(fd.as_fd()) != Ok(self.kind) {
            let cause = format!("{} is no {} namespace", self.path.display(), names(self.kind));
            return Err(Error::new(cause).at(self).from_config(self.pointer()));
        }
        Ok(fd)
    }
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "join {} namespace {}", names(self.kind), self.path.display())
    }
}

/// What becomes of `/linux/namespaces`.
#[derive(Debug, Default)]
pub struct Namespaces {
    /// Made by clone3(2).
    pub new: i32,
    /// A new cgroup namespace that the child makes itself. On v1 hosts it is moved into its cgroups after
    /// the clone, and the namespace's root is where its maker is.
    pub late_cgroup: bool,
    /// A new ipc namespace that the child makes itself, as root of its user namespace: else the root of its mqueue
    /// belongs to a user that is nobody there, and not even its label can be set.
    pub late_ipc: bool,
    /// Entered before the child is cloned: user first, then pid.
    pub before: Vec<Joined>,
    /// Offsets of a new time namespace, which must be written before anybody is in it.
    pub offsets: Option<String>,
    /// Entered by the child, with the place of each descriptor.
    pub joined: Vec<Joined>,
    /// Uid and gid mappings of a new user namespace.
    pub maps: Option<user::Maps>,
}

impl Namespaces {
    /// Reads the configuration; refuses what contradicts itself.
    pub fn new(spec: &Spec) -> Result<Namespaces> {
        let mut namespaces = Namespaces::default();
        let Some(linux) = spec.linux() else { return Ok(namespaces) };
        let mut seen = 0;
        for (index, namespace) in linux.namespaces().iter().flatten().enumerate() {
            let at = format!("/linux/namespaces/{index}");
            let kind = kind(namespace.typ());
            if seen & kind != 0 {
                let cause = format!("a second {} namespace", names(kind));
                return Err(Error::new(cause).hint("name each type once").from_config(at));
            }
            seen |= kind;
            match namespace.path() {
                None => namespaces.new |= kind,
                Some(path) if !path.is_absolute() => {
                    let cause = format!("namespace path {} is not absolute", path.display());
                    return Err(Error::new(cause).from_config(at));
                }
                Some(path) => {
                    let joined = Joined { kind, path: path.clone(), index };
                    match kind {
                        libc::CLONE_NEWUSER => namespaces.before.insert(0, joined),
                        libc::CLONE_NEWPID => namespaces.before.push(joined),
                        _ => namespaces.joined.push(joined),
                    }
                }
            }
        }
        namespaces.maps = user::Maps::new(linux, namespaces.has_new(libc::CLONE_NEWUSER))?;
        namespaces.late_ipc = namespaces.has_new(libc::CLONE_NEWIPC) && namespaces.has(libc::CLONE_NEWUSER);
        namespaces.offsets = time::offsets(linux, namespaces.has_new(libc::CLONE_NEWTIME))?;
        Ok(namespaces)
    }

    /// True if the container gets a new namespace of this kind.
    pub fn has_new(&self, kind: i32) -> bool {
        self.new & kind != 0
    }

    /// True if the container has a namespace of this kind that the configuration names, new or joined.
    pub fn has(&self, kind: i32) -> bool {
        self.all() & kind != 0
    }

    /// All that the configuration names.
    pub fn all(&self) -> i32 {
        self.before.iter().chain(&self.joined).fold(self.new, |all, joined| all | joined.kind)
    }

    /// What clone3(2) makes.
    pub fn cloned(&self) -> i32 {
        let late = [(self.late_cgroup, libc::CLONE_NEWCGROUP), (self.late_ipc, libc::CLONE_NEWIPC)];
        late.iter().filter(|(late, _)| *late).fold(self.new, |new, (_, kind)| new & !kind)
    }

    /// The steps of the child that join the rest; each one's descriptor comes from the parent.
    pub fn plan(&self, mut slot: impl FnMut(&Joined) -> Slot, steps: &mut Steps) {
        if self.late_cgroup {
            steps.push(Make(CloneFlags::CLONE_NEWCGROUP));
        }
        if self.has(libc::CLONE_NEWUSER) {
            steps.push(user::BecomeRoot);
        }
        if self.late_ipc {
            steps.push(Make(CloneFlags::CLONE_NEWIPC));
        }
        for joined in &self.joined {
            steps.push(Join { joined: joined.clone(), slot: slot(joined) });
        }
    }
}

fn kind(kind: LinuxNamespaceType) -> i32 {
    match kind {
        LinuxNamespaceType::Mount => libc::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => libc::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => libc::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => libc::CLONE_NEWIPC,
        LinuxNamespaceType::User => libc::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => libc::CLONE_NEWPID,
        LinuxNamespaceType::Network => libc::CLONE_NEWNET,
        LinuxNamespaceType::Time => libc::CLONE_NEWTIME,
    }
}

/// Makes a namespace after the clone.
#[derive(Debug)]
struct Make(CloneFlags);

impl fmt::Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.0 == CloneFlags::CLONE_NEWIPC { "an" } else { "a" };
        write!(f, "make {article} {} namespace", names(self.0.bits()))
    }
}

impl Step for Make {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/linux/namespaces")
    }

    fn run(&self, _: &mut Ctx) -> Result<Outcome> {
        unshare(self.0).call("unshare(2)")?;
        Ok(Outcome::Done)
    }
}

/// Joins one namespace.
#[derive(Debug)]
struct Join {
    joined: Joined,
    slot: Slot,
}

impl fmt::Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.joined.fmt(f)
    }
}

impl Step for Join {
    fn asked_by(&self) -> Pointer {
        self.joined.pointer()
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let fd = ctx.take(self.slot)?;
        setns(fd.as_fd(), self.joined.kind).call("setns(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        (errno == Errno::EPERM)
            .then_some("the namespace belongs to another user namespace; join that one too")
    }
}
