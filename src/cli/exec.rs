//! `myrt exec`

use std::path::PathBuf;

use clap::Args;
use oci_spec::runtime::{Process, User};

use super::create::preserved;
use super::{Global, Subcommand};
use crate::bundle::Bundle;
use crate::error::{Error, Result};
use crate::plan::ExecRequest;
use crate::process::user;
use crate::run::{Foreground, exec_process};

/// Run another program in a container.
#[derive(Debug, Args)]
pub struct Exec {
    /// Unix socket that gets the terminal's master
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Working directory in the container
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Add a variable to the environment
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    tty: bool,
    /// User, and group if it is another: UID[:GID]
    #[arg(long, short, value_name = "UID[:GID]")]
    user: Option<String>,
    /// Additional groups
    #[arg(long, short = 'g', value_name = "GID")]
    additional_gids: Vec<u32>,
    /// File with the process as JSON
    #[arg(long, short, value_name = "FILE")]
    process: Option<PathBuf>,
    /// Do not wait for the program
    #[arg(long, short)]
    detach: bool,
    /// File to write the pid to
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Unix socket that gets the pidfd
    #[arg(long, value_name = "SOCKET")]
    pidfd_socket: Option<PathBuf>,
    /// SELinux label of the process
    #[arg(long, value_name = "LABEL")]
    process_label: Option<String>,
    /// AppArmor profile of the process
    #[arg(long, value_name = "PROFILE")]
    apparmor: Option<String>,
    /// Set no_new_privs
    #[arg(long)]
    no_new_privs: bool,
    /// Add a capability
    #[arg(long, short, value_name = "CAP")]
    cap: Vec<String>,
    /// Pass N more descriptors after 2 to the program
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
    /// Run in this cgroup below the container's
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Run in a paused container all the same
    #[arg(long)]
    ignore_paused: bool,
    /// Do not adopt orphans
    #[arg(long, hide = true)]
    no_subreaper: bool,
    /// Name of the container
    id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true)]
    command: Vec<String>,
}

impl Subcommand for Exec {
    const NAME: &'static str = "exec";
    const ABOUT: &'static str = "Run another program in a container";
    const FAILURE: u8 = 255;

    fn run(self, global: &Global) -> Result<u8> {
        let ask = ExecRequest {
            id: self.id.clone(),
            root: global.root()?,
            console_socket: self.console_socket.clone(),
            pid_file: self.pid_file.clone(),
            pidfd_socket: self.pidfd_socket.clone(),
            preserve_fds: preserved(self.preserve_fds)?,
            more_capabilities: self.cap.clone(),
            ignore_paused: self.ignore_paused,
            sub_cgroup: self.cgroup.clone(),
        };
        let how = Foreground { detach: self.detach, keep: true, no_subreaper: self.no_subreaper };
        let code = crate::run::exec(&ask, |bundle| self.process(bundle), how).map_err(|e| e.at(&self.id))?;
        Ok(code as u8)
    }
}

impl Exec {
    /// The process: from the file, or the container's own with what the options change.
    fn process(&self, bundle: &Bundle) -> Result<Process> {
        let terminal = self.tty || self.console_socket.is_some();
        if let Some(file) = &self.process {
            let process = exec_process(file, bundle)?;
            return self.check_terminal(process.terminal().unwrap_or(false)).map(|()| process);
        }
        if self.command.is_empty() {
            return Err(
                Error::new("nothing to execute").hint("give a program after the id, or --process FILE")
            );
        }
        self.check_terminal(terminal)?;
        let own = bundle.spec.process().clone();
        let mut process = own.ok_or_else(|| {
            Error::new("the container has no process to take after").hint("use --process FILE")
        })?;
        process.set_args(Some(self.command.clone())).set_terminal(Some(terminal)).set_console_size(None);
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        if let Some(text) = &self.user {
            let (uid, gid) = user::parse(text).map_err(|e| e.at("--user"))?;
            process.set_user(other_user(uid, gid.unwrap_or(0), process.user()));
        }
        if !self.additional_gids.is_empty() {
            let mut user = process.user().clone();
            user.set_additional_gids(Some(self.additional_gids.clone()));
            process.set_user(user);
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label.clone());
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor.clone());
        }
        if self.no_new_privs {
            process.set_no_new_privileges(Some(true));
        }
        Ok(process)
    }

    fn check_terminal(&self, terminal: bool) -> Result<()> {
        if terminal && self.detach && self.console_socket.is_none() {
            let hint = "give --console-socket, or leave the terminal out";
            return Err(Error::new("a terminal in the background needs a console socket").hint(hint));
        }
        Ok(())
    }
}

/// Another user has neither the groups nor anything else of the container's own; the umask stays.
fn other_user(uid: u32, gid: u32, own: &User) -> User {
    let mut user = own.clone();
    user.set_uid(uid).set_gid(gid).set_additional_gids(None).set_username(None);
    user
}
