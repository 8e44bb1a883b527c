//! Id-mapped mounts: the files of a bind mount appear with other owners, and files made there belong to others on the
//! host. config.md, "Mounts", `uidMappings`.
//!
//! The kernel takes the mapping from a user namespace: mount_setattr(2), "ID-mapped mounts". It is the one that the
//! container joins, or one that exists for no longer than it takes to make the mount.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::Mount;

use crate::error::{Call, Context, Error, Result};
use crate::namespaces::user::Maps;
use crate::namespaces::{Joined, Namespaces};
use crate::spawn::{explain, hide_from_owner};
use crate::sys::clone::clone3;
use crate::sys::mount::map_owners;
use crate::sys::process::{exit_now, wait_child};
use crate::sys::procfs::Procfs;
use crate::sys::socket;

/// The mapping of one bind mount.
#[derive(Debug, Clone)]
pub struct IdMap {
    mapping: Mapping,
    /// True for the mounts below it too (`ridmap`).
    recursive: bool,
    /// The place in the configuration.
    at: String,
}

#[derive(Debug, Clone)]
enum Mapping {
    Maps(Maps),
    /// That of the user namespace that the container joins.
    Joined(Joined),
}

impl IdMap {
    /// Reads the mappings of a mount and its option `idmap` (`Some(false)`) or `ridmap`; without mappings the option
    /// means those of the container's user namespace.
    pub fn new(
        mount: &Mount,
        at: &str,
        option: Option<bool>,
        namespaces: &Namespaces,
    ) -> Result<Option<IdMap>> {
        let own = Maps::of_mount(mount, at)?;
        let mapping = match (own, option) {
            (Some(maps), _) => Mapping::Maps(maps),
            (None, None) => return Ok(None),
            (None, Some(_)) => {
                let joined = namespaces.before.iter().find(|joined| joined.kind == libc::CLONE_NEWUSER);
                match (&namespaces.maps, joined) {
                    (Some(maps), _) => Mapping::Maps(maps.clone()),
                    (None, Some(joined)) => Mapping::Joined(joined.clone()),
                    (None, None) => {
                        return Err(Error::new("idmap without mappings and without a user namespace")
                            .hint("give the mount uidMappings and gidMappings"));
                    }
                }
            }
        };
        Ok(Some(IdMap { mapping, recursive: option.unwrap_or(false), at: at.to_string() }))
    }

    /// Maps a detached mount that was never attached: the kernel allows it once.
    pub fn apply(&self, mount: BorrowedFd<'_>) -> Result<()> {
        self.map(mount).from_config(&self.at)
    }

    fn map(&self, mount: BorrowedFd<'_>) -> Result<()> {
        let namespace = match &self.mapping {
            Mapping::Maps(maps) => namespace(maps)?,
            Mapping::Joined(joined) => joined.open()?,
        };
        let done = map_owners(mount, namespace.as_fd(), self.recursive);
        done.call("mount_setattr(2)").map_err(|e| match e.errno() {
            Some(Errno::EINVAL) => {
                e.hint("the filesystem of the source, or one below it, cannot be id-mapped")
            }
            Some(Errno::EPERM) => {
                e.hint("the source is id-mapped already, or on a filesystem that is not the host's")
            }
            _ => e,
        })
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.recursive { "id-mapped with all below: " } else { "id-mapped: " })?;
        match &self.mapping {
            Mapping::Maps(maps) => maps.fmt(f),
            Mapping::Joined(joined) => write!(f, "as {}", joined.path.display()),
        }
    }
}

/// A user namespace with these maps. Nobody is in it any more.
fn namespace(maps: &Maps) -> Result<OwnedFd> {
    let proc = Procfs::open()?;
    let (ours, theirs) = socket::pair()?;
    hide_from_owner()?;
    let Some(child) = clone3(libc::CLONE_NEWUSER, None).call("clone3(2)").map_err(explain)? else {
        drop(ours);
        // Nobody else may look into this process, so it hands its namespace over itself.
        let own = proc.own_user_namespace();
        if own.and_then(|own| socket::send(theirs.as_fd(), b"namespace", Some(own.as_fd()))).is_ok() {
            // Nothing ever comes: this ends when the parent closes its side, or has died.
            drop(socket::receive(theirs.as_fd()));
        }
        exit_now(0)
    };
    drop(theirs);
    let sent = socket::receive(ours.as_fd()).call("recvmsg(2)");
    let written = maps.write(&proc, child.pid);
    drop(ours);
    wait_child(child.pid).call("waitpid(2)")?;
    written?;
    let namespace = sent?.and_then(|(_, descriptor)| descriptor);
    namespace.ok_or_else(|| Error::new("a user namespace for the mapping could not be opened"))
}
