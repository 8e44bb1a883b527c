//! The mount options `z` and `Z`: the files of a bind mount's source get the container's label.
//!
//! `Z` gives the label whole, `z` without its categories, so that all containers share the files. The source is
//! walked by descriptor from the mount that the container gets: no path is resolved twice, no symlink is followed, no
//! other mount is entered. What the host itself lives from is refused.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::fstat;

use super::label::Label;
use crate::error::{Call, Context, Error, Result};
use crate::sys::path::{is_dir, open_beneath};
use crate::sys::{cstring, xattr};

/// Directories whose files the host's own services need labelled as they are.
const SYSTEM: [&str; 35] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/efi",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/lost+found",
    "/media",
    "/mnt",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/sys",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/local",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/tmp",
];

/// Trees of the kernel, of devices and of the host's accounts and keys, with all that is below.
const SYSTEM_TREES: [&str; 13] = [
    "/boot",
    "/dev",
    "/efi",
    "/proc",
    "/sys",
    "/etc/passwd",
    "/etc/shadow",
    "/etc/group",
    "/etc/gshadow",
    "/etc/pki",
    "/etc/selinux",
    "/etc/ssh",
    "/etc/ssl",
];

/// No honest tree nests deeper, and each level keeps a descriptor open.
const DEEPEST: usize = 500;

/// A label for a whole tree of files.
#[derive(Debug, Clone)]
pub struct Relabel {
    /// What all its files get.
    pub label: Label,
}

impl Relabel {
    /// Labels the tree at a detached mount that was cloned from `path`, of which only its name is used.
    pub fn run(&self, tree: BorrowedFd<'_>, path: &Path) -> Result<()> {
        let step = || format!("relabel {}", path.display());
        refuse_system(tree, path).map_err(|e| e.at(step()))?;
        match self.walk(tree) {
            // As with other engines: a filesystem without labels stays as it is, the policy has one for all of it.
            Err(e) if e.errno() == Some(Errno::EOPNOTSUPP) => Ok(()),
            other => other.map_err(|e| e.at(step())),
        }
    }

    fn walk(&self, tree: BorrowedFd<'_>) -> Result<()> {
        let label = self.label.to_string();
        set(tree, &label)?;
        if !is_dir(tree).call("fstat(2)")? {
            return Ok(());
        }
        let mut open = vec![Directory::new(tree)?];
        while let Some(dir) = open.last_mut() {
            let Some(name) = dir.names.pop() else {
                open.pop();
                continue;
            };
            let Some(file) = open_entry(dir.fd.as_fd(), &name)? else { continue };
            set(file.as_fd(), &label).at(name.to_string_lossy())?;
            if is_dir(file.as_fd()).call("fstat(2)")? {
                if open.len() == DEEPEST {
                    return Err(Error::new(format!("more than {DEEPEST} directories deep")));
                }
                open.push(Directory::new(file.as_fd())?);
            }
        }
        Ok(())
    }
}

/// A directory on the way down, and what is left to do in it.
struct Directory {
    fd: OwnedFd,
    names: Vec<CString>,
}

impl Directory {
    fn new(dir: BorrowedFd<'_>) -> Result<Directory> {
        let fd = open_beneath(dir, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY).call("openat2(2)")?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(fd.try_clone().call("fcntl(2)")?).call("getdents(2)")? {
            let name = entry.call("getdents(2)")?.file_name().to_owned();
            if name.as_c_str() != c"." && name.as_c_str() != c".." {
                names.push(name);
            }
        }
        Ok(Directory { fd, names })
    }
}

/// A descriptor of the file itself, be it a symlink or a device; `None` if it is another mount or was removed.
fn open_entry(dir: BorrowedFd<'_>, name: &CStr) -> Result<Option<OwnedFd>> {
    match open_beneath(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW) {
        Err(Errno::EXDEV | Errno::ENOENT) => Ok(None),
        other => other.call("openat2(2)").at(name.to_string_lossy()).map(Some),
    }
}

/// Labels one file, unless it has the label: what is right is not written.
fn set(file: BorrowedFd<'_>, label: &str) -> Result<()> {
    // The host's /proc, which was verified; the link leads to the file itself, a symlink too.
    let path = cstring(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    if xattr::label_of(&path).is_ok_and(|has| has == label) {
        return Ok(());
    }
    xattr::set_label(&path, label).call("setxattr(2)").map_err(|e| match e.errno() {
        Some(Errno::EINVAL) => e.hint("the loaded policy does not define this label"),
        Some(Errno::EACCES | Errno::EPERM) => e.hint(
            "the policy does not let the runtime's domain relabel these files (relabelfrom, relabelto)",
        ),
        Some(Errno::EROFS) => e.hint("the filesystem is read-only: relabel it where it is writable"),
        _ => e,
    })
}

/// Refuses the host's own directories, whatever they are called.
fn refuse_system(tree: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let refused = |system: &Path| {
        Error::new(format!("{} belongs to the system", system.display()))
            .hint("relabelling it would keep the host's own services from it; bind a directory made for the container")
    };
    let stat = fstat(tree).call("fstat(2)")?;
    for system in SYSTEM {
        if nix::sys::stat::stat(system).is_ok_and(|s| (s.st_dev, s.st_ino) == (stat.st_dev, stat.st_ino)) {
            return Err(refused(Path::new(system)));
        }
    }
    let real = path.canonicalize().unwrap_or_else(|_| PathBuf::from(path));
    let home = real.parent() == Some(Path::new("/home"));
    if home || SYSTEM_TREES.iter().any(|system| real.starts_with(system)) {
        return Err(refused(&real));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn refused(path: &str) -> bool {
        let fd = File::open(path).unwrap();
        refuse_system(fd.as_fd(), Path::new(path)).is_err()
    }

    #[test]
    fn system_directories_are_refused_under_any_name() {
        for path in [
            "/",
            "/etc",
            "//usr/../etc",
            "/proc/self/root",
            "/sys/kernel",
            "/etc/passwd",
            "/dev/null",
            "/usr/.",
        ] {
            assert!(refused(path), "{path}");
        }
    }

    #[test]
    fn other_directories_are_not() {
        let dir = std::env::temp_dir().join(format!("myrt-relabel-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let refused = refused(dir.to_str().unwrap());
        std::fs::remove_dir(&dir).unwrap();
        assert!(!refused);
    }
}
