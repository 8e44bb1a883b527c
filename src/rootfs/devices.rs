//! Device nodes: `/linux/devices`, those that every container has, and the links beside them.
//!
//! Made with mknodat(2) in a directory that was resolved in the root; inside a user namespace, where that is
//! denied, the host's device is bound instead. config-linux.md, "Default Devices".

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mknodat};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Step, Steps};
use crate::sys::mount::attach;
use crate::sys::path::ContainerPath;

/// One device node.
#[derive(Debug)]
struct Device {
    path: ContainerPath,
    kind: SFlag,
    major: u32,
    minor: u32,
    mode: u32,
    uid: u32,
    gid: u32,
    /// Bound from the host instead of made.
    bind: bool,
    asked_by: Pointer,
}

/// Plans the default devices, the configured ones and the links; `bind` in a user namespace.
pub fn plan(devices: &[LinuxDevice], bind: bool, steps: &mut Steps) -> Result<()> {
    const DEFAULT: [(&str, u32, u32); 6] = [
        ("/dev/null", 1, 3),
        ("/dev/zero", 1, 5),
        ("/dev/full", 1, 7),
        ("/dev/random", 1, 8),
        ("/dev/urandom", 1, 9),
        ("/dev/tty", 5, 0),
    ];
    let configured: Vec<ContainerPath> =
        devices.iter().map(|d| ContainerPath::new(d.path())).collect::<Result<_>>()?;
    let mut default = Vec::new();
    for (path, major, minor) in DEFAULT {
        let path = ContainerPath::new(path)?;
        if !configured.contains(&path) {
            let (kind, asked_by) = (SFlag::S_IFCHR, Pointer::Myrt);
            default.push(Device { path, kind, major, minor, mode: 0o666, uid: 0, gid: 0, bind, asked_by });
        }
    }
    if !default.is_empty() {
        steps.push(Default(default));
    }
    for (index, (device, path)) in devices.iter().zip(configured).enumerate() {
        let asked_by = Pointer::Item("/linux/devices", index);
        steps.push(configured_device(device, path, bind, asked_by).from_config(asked_by)?);
    }
    steps.push(Links);
    Ok(())
}

fn configured_device(
    device: &LinuxDevice,
    path: ContainerPath,
    bind: bool,
    asked_by: Pointer,
) -> Result<Device> {
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
        LinuxDeviceType::B => SFlag::S_IFBLK,
        LinuxDeviceType::P => SFlag::S_IFIFO,
        LinuxDeviceType::A => return Err(Error::new("a device node is of type c, u, b or p")),
    };
    if !path.text().is_absolute() || path.text().components().any(|c| c == std::path::Component::ParentDir) {
        return Err(Error::new(format!("device path {path} is not absolute, or has .. in it")));
    }
    let number = |n: i64, name: &str| {
        u32::try_from(n).map_err(|_| Error::new(format!("{name} {n} is not a device number")))
    };
    let fifo = kind == SFlag::S_IFIFO;
    Ok(Device {
        path,
        kind,
        major: if fifo { 0 } else { number(device.major(), "major")? },
        minor: if fifo { 0 } else { number(device.minor(), "minor")? },
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        bind: bind && !fifo,
        asked_by,
    })
}

impl Device {
    fn is(&self, stat: &FileStat) -> bool {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        kind == self.kind && (kind == SFlag::S_IFIFO || stat.st_rdev == libc::makedev(self.major, self.minor))
    }

    /// Has the owner and the mode that were asked for.
    fn is_right(&self, stat: &FileStat) -> bool {
        (stat.st_uid, stat.st_gid, stat.st_mode & 0o7777) == (self.uid, self.gid, self.mode)
    }

    fn make(&self, dir: &OwnedFd, name: &CStr) -> Result<Outcome> {
        let device = libc::makedev(self.major, self.minor);
        match mknodat(dir, name, self.kind, Mode::from_bits_truncate(self.mode), device) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Error::call("mknodat(2)", errno)),
        }
        let there = fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW).call("fstatat(2)")?;
        if !self.is(&there) {
            return Err(Error::new("something else is there already"));
        }
        if self.is_right(&there) {
            return Ok(Outcome::Done);
        }
        // It was there, or the directory has a group or an ACL for new files. Changed through a descriptor that is
        // verified, so that nobody exchanges the node for a symlink meanwhile.
        let node = openat(dir, name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
            .call("openat(2)")?;
        let there = fstat(&node).call("fstat(2)")?;
        if !self.is(&there) {
            return Err(Error::new("it was exchanged while it was made"));
        }
        if (there.st_uid, there.st_gid) != (self.uid, self.gid) {
            let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
            fchownat(&node, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).call("fchownat(2)")?;
        }
        if there.st_mode & 0o7777 != self.mode {
            // fchmod(2) does not take O_PATH descriptors; the directory is ours alone until the pivot.
            let mode = Mode::from_bits_truncate(self.mode);
            nix::sys::stat::fchmodat(dir, name, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
                .call("fchmodat(2)")?;
        }
        Ok(Outcome::Done)
    }

    fn bind(&self, ctx: &Ctx) -> Result<Outcome> {
        let host = PathBuf::from(self.path.text());
        let node = super::clone_host(&host, false)?;
        if !self.is(&fstat(&node).call("fstat(2)")?) {
            return Err(Error::new(format!("{} of the host is another device", host.display())));
        }
        let target = ctx.root()?.make_file(&self.path)?;
        attach(node.as_fd(), target.as_fd()).call("move_mount(2)")?;
        Ok(Outcome::Done)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            SFlag::S_IFBLK => 'b',
            SFlag::S_IFIFO => 'p',
            _ => 'c',
        };
        let verb = if self.bind { "bind" } else { "make" };
        write!(f, "{verb} device {} {kind} {}:{}", self.path, self.major, self.minor)?;
        // A bound one is the host's, with its owner and mode.
        if self.bind { Ok(()) } else { write!(f, " {:o}", self.mode) }
    }
}

impl Step for Device {
    fn asked_by(&self) -> Pointer {
        self.asked_by
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        if self.bind {
            return self.bind(ctx);
        }
        let (dir, name) = ctx.root()?.parent(&self.path)?;
        self.make(&dir, &name)
    }
}

/// The devices that every container has, all in one directory.
#[derive(Debug)]
struct Default(Vec<Device>);

impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.iter().any(|device| device.bind) { "bind devices" } else { "make devices" })?;
        for (index, device) in self.0.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { " " } else { ", " }, device.path)?;
        }
        Ok(())
    }
}

impl Step for Default {
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let dev = ctx.root()?.make_dir(&ContainerPath::new("/dev")?)?;
        for device in &self.0 {
            match device.bind {
                true => device.bind(ctx),
                false => device.path.name().and_then(|name| device.make(&dev, &name)),
            }
            .at(&device.path)?;
        }
        Ok(Outcome::Done)
    }
}

/// The symbolic links beside the devices; what is there already stays.
#[derive(Debug)]
struct Links;

const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

impl fmt::Display for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("link /dev/fd, stdin, stdout, stderr to /proc/self/fd, /dev/ptmx to pts/ptmx")
    }
}

impl Step for Links {
    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let dev = ctx.root()?.make_dir(&ContainerPath::new("/dev")?)?;
        for (name, target) in LINKS {
            match symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => {
                    return Err(
                        Error::call("symlinkat(2)", errno).at(format!("/dev/{}", name.to_string_lossy()))
                    );
                }
            }
        }
        Ok(Outcome::Done)
    }
}
