//! `myrt create`

use std::path::PathBuf;

use clap::Args;

use super::{Global, Subcommand};
use crate::error::{Error, Result};
use crate::isolation::selinux::{Ask, LevelAsk};
use crate::plan::Request;
use crate::sys::process::is_inherited;

/// Options that `create` and `run` share.
#[derive(Debug, Args)]
pub struct Create {
    /// Directory of the bundle
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    bundle: PathBuf,
    /// Another file than config.json
    #[arg(long, short = 'f', value_name = "FILE")]
    config: Option<PathBuf>,
    /// Unix socket that gets the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// File to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Unix socket that gets the pidfd
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// Use chroot instead of pivot_root (for an initramfs)
    #[arg(long)]
    no_pivot: bool,
    /// Keep the caller's session keyring
    #[arg(long)]
    no_new_keyring: bool,
    /// Pass N more descriptors after 2 to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    #[command(flatten)]
    selinux: Selinux,
    /// Name of the container
    id: String,
}

/// Options about SELinux labels, for `plan` too.
#[derive(Debug, Args)]
pub struct Selinux {
    /// SELinux level: one like s0:c1,c2, or auto for categories that no other container has
    #[arg(long, value_name = "LEVEL|auto")]
    selinux_level: Option<String>,
    /// File with the SELinux labels for containers [default: the policy's lxc_contexts]
    #[arg(long, value_name = "FILE")]
    selinux_contexts: Option<PathBuf>,
    /// Relabel the root filesystem: Z for this container alone, z for all
    #[arg(long, value_name = "z|Z")]
    selinux_root: Option<char>,
}

impl Selinux {
    /// What is asked.
    pub fn ask(self) -> Result<Ask> {
        let root = match self.selinux_root {
            None => None,
            Some('z') => Some(false),
            Some('Z') => Some(true),
            Some(other) => return Err(Error::new(format!("--selinux-root {other}: not z or Z"))),
        };
        let level = self.selinux_level.as_deref().map(LevelAsk::new);
        Ok(Ask { level, contexts: self.selinux_contexts, root })
    }
}

impl Create {
    /// What is asked, with the global options.
    pub fn request(self, global: &Global) -> Result<Request> {
        crate::bundle::check_id(&self.id)?;
        Ok(Request {
            id: self.id,
            root: global.root()?,
            bundle: self.bundle,
            config: self.config,
            console_socket: self.console_socket,
            pid_file: self.pid_file,
            pidfd_socket: self.pidfd_socket,
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserve_fds: preserved(self.preserve_fds)?,
            systemd_cgroup: global.systemd_cgroup()?,
            selinux: self.selinux.ask()?,
            no_cgroup: global.no_cgroup(),
            only_look: false,
        })
    }

    /// The container's id.
    pub fn id(&self) -> String {
        self.id.clone()
    }
}

/// The descriptors after 2 that are passed on: those of the option, and those of systemd's socket activation.
///
/// All of them must be the caller's. A number that the caller left free is one that this process may use for a
/// file of its own, which the program must not get, and the waiting child must not hold.
pub fn preserved(option: u32) -> Result<u32> {
    let activated = std::env::var("LISTEN_FDS").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let count = option.checked_add(activated).filter(|n| *n < 1 << 20);
    let count = count.ok_or_else(|| Error::new(format!("{option} descriptors are too many")))?;
    match (3..3 + count as i32).find(|fd| !is_inherited(*fd)) {
        Some(fd) => Err(Error::new(format!("descriptor {fd} of the {count} to be preserved is not open"))
            .hint("--preserve-fds, and LISTEN_FDS, count descriptors from 3 on")),
        None => Ok(count),
    }
}

impl Subcommand for Create {
    const NAME: &'static str = "create";
    const ABOUT: &'static str = "Create a container; `start` runs its program";

    fn run(self, global: &Global) -> Result<u8> {
        let id = self.id();
        crate::run::create(&self.request(global)?).map_err(|e| e.at(id)).map(|()| 0)
    }
}
