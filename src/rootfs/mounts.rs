//! `/mounts`: each one made or cloned detached, given its flags, and only then attached.
//!
//! The target is resolved in the container's root at the moment of attaching, missing ones are made.
//! config.md, "Mounts".

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::Source;
use super::copyup::copy_up;
use super::options::Options;
use crate::error::{Call, Context, Error, Result};
use crate::isolation::selinux::Label;
use crate::step::{Ctx, Outcome, Pointer, Step};
use crate::sys::cstring;
use crate::sys::mount::{Attr, Filesystem, attach, attr, set_attr};
use crate::sys::path::{ContainerPath, is_dir, open_beneath};
use crate::sys::xattr::set_label_of;

/// What is mounted.
#[derive(Debug)]
pub enum What {
    /// A part of the host's tree.
    Bind(Source),
    /// A new instance of a filesystem.
    New {
        /// Its type.
        kind: CString,
        /// Its source: a device or a name.
        source: CString,
    },
    /// Nothing new: other flags for what is there.
    Remount,
}

/// One entry of `/mounts`.
#[derive(Debug)]
pub struct MountStep {
    /// What is mounted.
    pub what: What,
    /// Where.
    pub target: ContainerPath,
    /// How.
    pub options: Options,
    /// The words of the configuration, for printing.
    pub words: String,
    /// The place in `/mounts`.
    pub index: usize,
    /// The SELinux label of its files, if it is a filesystem that takes one.
    pub label: Option<Label>,
    /// It becomes read-only by a [`ReadonlyLater`], when what belongs into it is made.
    pub writable_first: bool,
}

impl MountStep {
    /// Reads one entry; `bind` finds the place of its source on the host.
    pub fn new(
        mount: &Mount,
        index: usize,
        bind: impl FnOnce(&std::path::Path, &Options) -> Result<Source>,
    ) -> Result<Self> {
        let words = mount.options().as_deref().unwrap_or_default();
        let options = Options::new(words)?;
        let target = ContainerPath::new(mount.destination())?;
        if target.is_root() {
            return Err(
                Error::new("a mount cannot cover the root").hint("/root/path names the root filesystem")
            );
        }
        let kind = mount.typ().as_deref().unwrap_or("none");
        let source = mount.source().as_deref();
        let recursive =
            options.bind.or((kind == "bind").then_some(false)).or((kind == "rbind").then_some(true));
        let options = Options { bind: recursive, ..options };
        let what = match (options.remount, recursive, source) {
            (true, ..) => What::Remount,
            (_, Some(_), Some(path)) => What::Bind(bind(path, &options)?),
            (_, Some(_), None) => return Err(Error::new("a bind mount needs a source")),
            (_, None, _) if kind == "none" || kind.is_empty() => {
                return Err(Error::new("neither a type nor bind").hint("add the option \"bind\" or a type"));
            }
            (_, None, source) => What::New {
                kind: cstring(kind)?,
                source: cstring(source.map_or(kind.as_bytes(), |s| s.as_os_str().as_encoded_bytes()))?,
            },
        };
        if !matches!(what, What::Bind(_)) {
            refuse_mappings(mount, &options)?;
        }
        if options.copy_up && kind != "tmpfs" {
            return Err(Error::new("tmpcopyup belongs to a tmpfs"));
        }
        if options.relabel.is_some() && !matches!(what, What::Bind(_)) {
            return Err(Error::new("z and Z belong to a bind mount")
                .hint("a new filesystem has the container's label anyway"));
        }
        Ok(MountStep {
            what,
            target,
            options,
            words: words.join(","),
            index,
            label: None,
            writable_first: false,
        })
    }

    /// Makes the mount, attached nowhere, with its flags.
    fn detached(&self, ctx: &mut Ctx) -> Result<OwnedFd> {
        let mount = match &self.what {
            What::Bind(source) => {
                let tree = source.take(ctx, self.options.bind == Some(true))?;
                change(tree.as_fd(), self.options.own, false)?;
                tree
            }
            What::New { kind, source } => self.filesystem(kind, source)?,
            What::Remount => return Err(Error::new("a remount makes nothing")),
        };
        finish(mount.as_fd(), &self.options)?;
        Ok(mount)
    }

    fn filesystem(&self, kind: &CString, source: &CString) -> Result<OwnedFd> {
        let fs = Filesystem::open(kind).call("fsopen(2)")?;
        fs.set(c"source", Some(source)).call("fsconfig(2)").at("source")?;
        let label = self.label();
        if let Some((label, false)) = label {
            let set = fs.set(c"context", Some(&cstring(label.to_string())?)).call("fsconfig(2)");
            set.at(format!("label {label}")).hint(NO_LABEL)?;
        }
        self.set_data(&fs)?;
        let kept = if self.writable_first { attr::RDONLY } else { 0 };
        let mounted = fs.mount(self.options.mount_flags() & !kept).call("fsmount(2)");
        let mount = mounted.map_err(|e| match (fs.message(), label) {
            (Some(words), _) => e.at(words),
            (None, Some((label, false))) if matches!(e.errno(), Some(Errno::EINVAL | Errno::EACCES)) => {
                e.at(format!("label {label}")).hint(NO_LABEL)
            }
            (None, _) => e,
        })?;
        if let Some((label, true)) = label {
            let root =
                open_beneath(mount.as_fd(), c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY).call("openat2(2)")?;
            set_label_of(&root, &label.to_string()).call("fsetxattr(2)").at(format!("label {label}"))?;
        }
        Ok(mount)
    }

    /// The label of a new filesystem, and true if it is given to its root afterwards; `None` if it takes none, or
    /// the options give another.
    fn label(&self) -> Option<(&Label, bool)> {
        let What::New { kind, .. } = &self.what else { return None };
        let given = self.options.data.iter().any(|(key, _)| is_context(key));
        match kind.to_bytes() {
            b"proc" | b"sysfs" => None,
            _ if given => None,
            kind => self.label.as_ref().map(|label| (label, kind == b"mqueue")),
        }
    }

    fn set_data(&self, fs: &Filesystem) -> Result<()> {
        for (key, value) in &self.options.data {
            // mount(8) and engines quote a label, because its commas would end the option.
            let value = match value {
                Some(label) if is_context(key) => &Some(label.trim_matches('"').to_string()),
                value => value,
            };
            let done = match (
                key.as_str(),
                fs.set(&cstring(key)?, value.as_deref().map(cstring).transpose()?.as_deref()),
            ) {
                // Filesystems that keep versions do so without being asked, or under this name (ext4).
                ("iversion", Err(_)) => fs.set(c"i_version", None).or(Ok(())),
                ("noiversion", Err(_)) => Ok(()),
                (_, done) => done,
            };
            done.call("fsconfig(2)").map_err(|e| {
                let e = e.at(format!("option {}", option(key, value)));
                match fs.message() {
                    Some(words) => e.at(words),
                    None => e,
                }
            })?;
        }
        Ok(())
    }

    fn remount(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let target = ctx.root()?.open(&self.target, OFlag::O_PATH).call("openat2(2)")?;
        change(target.as_fd(), self.options.own, false)?;
        if !self.options.data.is_empty() && self.options.bind.is_none() {
            let fs = Filesystem::pick(target.as_fd()).call("fspick(2)")?;
            self.set_data(&fs)?;
            fs.reconfigure().call("fsconfig(2)")?;
        }
        finish(target.as_fd(), &self.options)?;
        Ok(Outcome::Done)
    }

    /// Opens the target, making it: a directory, or a file if a file is to be mounted there.
    fn target(&self, ctx: &Ctx, mount: &OwnedFd) -> Result<OwnedFd> {
        let root = ctx.root()?;
        if let What::New { kind, .. } = &self.what
            && matches!(kind.to_bytes(), b"proc" | b"sysfs")
        {
            // Masks and labels rely on these lying where their paths say (CVE-2019-19921, CVE-2023-27561).
            let open = || root.open_no_symlinks(&self.target, OFlag::O_PATH | OFlag::O_DIRECTORY);
            let target = match open() {
                Err(Errno::ENOENT) => root.make_dir(&self.target).map(|_| open())?,
                other => other,
            };
            return target
                .call("openat2(2)")
                .hint("the image has a symlink where /proc or /sys belongs; it must be a directory");
        }
        // A filesystem begins with a directory; of a bind, nobody knows yet.
        if matches!(self.what, What::New { .. }) || is_dir(mount.as_fd()).call("fstat(2)")? {
            root.make_dir(&self.target)
        } else {
            root.make_file(&self.target)
        }
    }
}

const NO_LABEL: &str =
    "the loaded policy does not define the label, or the runtime's domain may not mount with it";

/// The options by which a filesystem is labelled: mount(8), "context=".
fn is_context(key: &str) -> bool {
    matches!(key, "context" | "fscontext" | "defcontext" | "rootcontext")
}

/// A new filesystem has no owners that could be mapped, and a remount cannot map.
pub fn refuse_mappings(mount: &Mount, options: &Options) -> Result<()> {
    let asked = |map: &Option<Vec<LinuxIdMapping>>| map.as_ref().is_some_and(|map| !map.is_empty());
    match asked(mount.uid_mappings()) || asked(mount.gid_mappings()) || options.idmap.is_some() {
        true => Err(Error::new("uidMappings, gidMappings and idmap belong to a bind mount")),
        false => Ok(()),
    }
}

/// The entries of `/mounts` that begin writable though they are read-only: new tmpfs in which something is yet to be
/// made, a target of a later mount or, in /dev, the devices. Podman gives such a /dev to containers that are read-only
/// as a whole.
pub fn writable_first(mounts: &[Mount]) -> Vec<ReadonlyLater> {
    let reads_only = |mount: &Mount| {
        let options = Options::new(mount.options().as_deref().unwrap_or_default());
        mount.typ().as_deref() == Some("tmpfs")
            && options.is_ok_and(|o| o.own.set & attr::RDONLY != 0 && o.bind.is_none() && !o.remount)
    };
    let copies = |mount: &Mount| mount.options().iter().flatten().any(|word| word == "tmpcopyup");
    // Few are; only for these all later mounts are looked at.
    let few = mounts.iter().enumerate().filter(|(_, mount)| reads_only(mount));
    let found = few.filter_map(|(index, mount)| {
        let (target, later) = (mount.destination(), &mounts[index + 1..]);
        let covered = later.iter().any(|other| other.destination() == target);
        let filled = target == Path::new("/dev")
            || copies(mount)
            || later.iter().any(|o| o.destination().starts_with(target));
        (filled && !covered).then_some((index, target))
    });
    found
        .filter_map(|(index, at)| Some(ReadonlyLater { target: ContainerPath::new(at).ok()?, index }))
        .collect()
}

/// Makes a mount read-only after everything in it is made.
#[derive(Debug)]
pub struct ReadonlyLater {
    target: ContainerPath,
    /// The place in `/mounts`.
    pub index: usize,
}

impl fmt::Display for ReadonlyLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make {} read-only", self.target)
    }
}

impl Step for ReadonlyLater {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/mounts", self.index)
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let target = ctx.root()?.open(&self.target, OFlag::O_PATH).call("openat2(2)")?;
        change(target.as_fd(), Attr::flags(attr::RDONLY, 0), false)?;
        Ok(Outcome::Done)
    }
}

/// What applies to the tree below as well, and the propagation.
pub fn finish(mount: BorrowedFd<'_>, options: &Options) -> Result<()> {
    change(mount, options.recursive, true)?;
    for &(kind, recursive) in &options.propagation {
        set_attr(mount, Attr::propagation(kind), recursive).call("mount_setattr(2)")?;
    }
    Ok(())
}

/// Changes flags, if there is anything to change.
fn change(mount: BorrowedFd<'_>, attr: Attr, recursive: bool) -> Result<()> {
    if attr == Attr::default() {
        return Ok(());
    }
    set_attr(mount, attr, recursive).call("mount_setattr(2)")
}

fn option(key: &str, value: &Option<String>) -> String {
    value.as_ref().map_or_else(|| key.to_string(), |value| format!("{key}={value}"))
}

impl fmt::Display for MountStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Bind(source) => write!(f, "bind {source} on {}", self.target)?,
            What::New { kind, .. } => write!(f, "mount {} on {}", kind.to_string_lossy(), self.target)?,
            What::Remount => write!(f, "remount {}", self.target)?,
        }
        if !self.words.is_empty() {
            write!(f, " {}", self.words)?;
        }
        match self.label() {
            Some((label, _)) => write!(f, " labelled {label}"),
            None => Ok(()),
        }
    }
}

impl Step for MountStep {
    fn asked_by(&self) -> Pointer {
        Pointer::Item("/mounts", self.index)
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        if matches!(self.what, What::Remount) {
            return self.remount(ctx);
        }
        let mount = self.detached(ctx)?;
        let target = self.target(ctx, &mount)?;
        if self.options.copy_up {
            copy_up(target.as_fd(), mount.as_fd())?;
        }
        attach(mount.as_fd(), target.as_fd()).call("move_mount(2)")?;
        Ok(Outcome::Done)
    }

    fn hint(&self, errno: Errno) -> Option<&'static str> {
        match (&self.what, errno) {
            (What::New { kind, .. }, Errno::EPERM) if kind.to_bytes() == b"proc" => Some(
                "inside a user namespace a new proc needs a pid namespace of its own; add {\"type\": \"pid\"} to /linux/namespaces",
            ),
            (What::New { kind, .. }, Errno::EPERM) if kind.to_bytes() == b"sysfs" => Some(
                "inside a user namespace a new sysfs needs a network namespace of its own; add {\"type\": \"network\"} to /linux/namespaces",
            ),
            (What::New { .. }, Errno::ENODEV) => {
                Some("this kernel has no such filesystem type: cat /proc/filesystems")
            }
            (What::Bind(_), Errno::ENOENT) => Some("the source of a bind mount must exist on the host"),
            (_, Errno::EPERM) => {
                Some("a flag that the user namespace inherited is locked and cannot be cleared")
            }
            _ => None,
        }
    }
}
