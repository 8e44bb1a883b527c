//! `/process/terminal`: a pseudo terminal from the container's own devpts.
//!
//! The master goes to the engine's console socket, or to the parent in the foreground. The slave is opened
//! from the master, never by a path (CVE-2025-52565), and lies on /dev/console. pty(7).

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::fstat;
use nix::sys::statfs::{FsType, fstatfs};
use oci_spec::runtime::Box as ConsoleSize;

use crate::error::{Call, Context, Error, Result};
use crate::step::{Ctx, Outcome, Pointer, Slot, Step};
use crate::sync::Message;
use crate::sys::mount::{attach, clone_fd};
use crate::sys::path::{ContainerPath, is_char_device};
use crate::sys::{socket, tty};

const DEVPTS_SUPER_MAGIC: FsType = FsType(0x1cd1);

/// Opens the terminal, hands its master over and makes it the standard streams.
#[derive(Debug)]
pub struct OpenTerminal {
    /// Rows and columns: `/process/consoleSize`.
    pub size: Option<(u16, u16)>,
    /// The engine's socket; `None` in the foreground.
    pub console_socket: Option<Slot>,
    /// True if the slave shall lie on /dev/console: in `create`, not in `exec`.
    pub console: bool,
}

impl fmt::Display for OpenTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("open a terminal from /dev/pts")?;
        if let Some((rows, columns)) = self.size {
            write!(f, ", {columns}x{rows}")?;
        }
        f.write_str(if self.console_socket.is_some() {
            ", for the console socket"
        } else {
            ", in the foreground"
        })
    }
}

impl OpenTerminal {
    /// Rows and columns of the configuration, if it names any; each fits into 16 bits.
    pub fn size(config: Option<ConsoleSize>) -> Result<Option<(u16, u16)>> {
        let Some(config) = config else { return Ok(None) };
        let fit = |n: u64| u16::try_from(n).map_err(|_| Error::new(format!("{n} is no size of a terminal")));
        let size = (
            fit(config.height()).from_config("/process/consoleSize/height")?,
            fit(config.width()).from_config("/process/consoleSize/width")?,
        );
        Ok(Some(size).filter(|size| *size != (0, 0)))
    }

    fn master(&self, ctx: &Ctx) -> Result<OwnedFd> {
        let path = ContainerPath::new("/dev/pts/ptmx")?;
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW;
        let master = ctx.root()?.open(&path, flags).call("openat2(2)").at(&path)?;
        let device = fstat(&master).call("fstat(2)")?;
        let multiplexer = is_char_device(&device, 5, 2);
        if !multiplexer || fstatfs(&master).call("fstatfs(2)")?.filesystem_type() != DEVPTS_SUPER_MAGIC {
            return Err(Error::new("/dev/pts/ptmx is not the multiplexer of a devpts"));
        }
        Ok(master)
    }
}

impl Step for OpenTerminal {
    fn asked_by(&self) -> Pointer {
        Pointer::Field("/process/terminal")
    }

    fn run(&self, ctx: &mut Ctx) -> Result<Outcome> {
        let hint = "a terminal needs a devpts with newinstance on /dev/pts";
        let master = self.master(ctx).map_err(|e| e.hint(hint))?;
        tty::unlock(master.as_fd()).call("ioctl(TIOCSPTLCK)")?;
        let slave = tty::peer(master.as_fd()).call("ioctl(TIOCGPTPEER)")?;
        if let Some((rows, columns)) = self.size {
            tty::resize(slave.as_fd(), rows, columns).call("ioctl(TIOCSWINSZ)")?;
        }
        if self.console {
            let target = ctx.root()?.make_file(&ContainerPath::new("/dev/console")?)?;
            let device = clone_fd(slave.as_fd(), false).call("open_tree(2)")?;
            attach(device.as_fd(), target.as_fd()).call("move_mount(2)").at("/dev/console")?;
        }
        match self.console_socket {
            Some(slot) => socket::hand_over(ctx.take(slot)?.as_fd(), b"/dev/ptmx", master.as_fd())?,
            None => ctx.link.send(&Message::Terminal(master))?,
        }
        tty::control(slave.as_fd()).call("ioctl(TIOCSCTTY)")?;
        for number in 0..=2 {
            tty::redirect(slave.as_fd(), number).call("dup2(2)")?;
        }
        Ok(Outcome::Done)
    }
}
