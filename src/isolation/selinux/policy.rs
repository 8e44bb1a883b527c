//! Questions to the loaded policy: is SELinux on, is a label valid, may one domain do something to another.
//!
//! The kernel decides; what is asked here is asked to refuse early and in words what the kernel would refuse
//! with a bare EACCES, or with a SIGSEGV once the program's pages cannot be read. A question that cannot be put
//! (a domain without the right to ask) is therefore no refusal.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use selinux::{KernelSupport, SELinuxMode, SecurityClass, SecurityContext};

use super::label::Label;
use crate::error::{Call, Context, Error, Result};
use crate::sys::cstring;
use crate::sys::procfs::Procfs;

/// Where the policy is asked whether something is allowed.
const ACCESS: &str = "/sys/fs/selinux/access";

/// Where it is asked whether it defines a label.
const CONTEXT: &str = "/sys/fs/selinux/context";

/// True if the kernel runs with SELinux and a policy is loaded.
pub fn enabled() -> bool {
    selinux::kernel_support() != KernelSupport::Unsupported
}

/// True if the policy has levels, without which no container is kept from another.
pub fn has_levels() -> bool {
    selinux::kernel_support() == KernelSupport::SELinuxMLS
}

/// True if what the policy forbids is forbidden, not only noted.
pub fn enforcing() -> bool {
    selinux::current_mode() == SELinuxMode::Enforcing
}

/// Refuses a label that the policy does not define.
pub fn check(label: &Label) -> Result<()> {
    // A level that is not chosen yet will be one like this.
    let text = match label.level() {
        Some(_) => label.to_string(),
        None => label.with_level(&format!("{}:c0,c1023", label.sensitivity())).to_string(),
    };
    if valid(&text) {
        return Ok(());
    }
    let level = label.level().unwrap_or_default();
    let why = match valid(&label.shared().to_string()) {
        true => format!("it knows {} but not the level {level:?}", label.kind()),
        false => {
            format!("seinfo -t lists its types: {:?} must be one, and its user and role too", label.kind())
        }
    };
    Err(Error::new(format!("label {label}: the loaded policy does not define it")).hint(why))
}

/// False if the policy does not define the label. A confined engine may not ask; then the kernel tells.
fn valid(label: &str) -> bool {
    let asked = OpenOptions::new().read(true).write(true).open(CONTEXT);
    let asked = asked.and_then(|mut place| place.write_all(format!("{label}\0").as_bytes()));
    !asked.is_err_and(|e| e.raw_os_error() == Some(Errno::EINVAL as i32))
}

/// The label of this process.
pub fn current() -> Result<String> {
    let label = Procfs::open()?.read(c"thread-self/attr/current").call("read(2)").at("read our own label")?;
    Ok(label.trim_end_matches(['\0', '\n']).to_string())
}

/// Refuses a label that this process may not give to a program.
pub fn check_transition(to: &Label) -> Result<()> {
    let (from, target) = (current()?, to.to_string());
    let levelled = match to.level() {
        Some(_) => target.clone(),
        None => to.with_level(&format!("{}:c0,c1023", to.sensitivity())).to_string(),
    };
    if from == levelled || !enforcing() {
        return Ok(());
    }
    let steps = [("transition", levelled.as_str()), ("setexec", &from), ("setkeycreate", &from)];
    for (permission, object) in steps {
        if allows(&from, object, "process", permission) == Some(false) {
            let domain = Label::new(&from)?;
            let on = if permission == "transition" { to.kind() } else { "self" };
            let e = Error::new(format!(
                "label {target}: the policy does not let {from} give it: process {permission} is denied"
            ));
            return Err(e.hint(format!(
                "allow {} {on}:process {permission}; or start myrt in a domain that may, container_runtime_t for example; a domain with categories must have those of the label",
                domain.kind()
            )));
        }
    }
    Ok(())
}

/// True if the policy says that this process may label sockets. Few domains may, and other runtimes never ask for it.
pub fn may_label_sockets() -> bool {
    current().is_ok_and(|own| allows(&own, &own, "process", "setsockcreate") == Some(true))
}

/// What the policy says; `None` if it has no such class or permission or may not be asked.
fn allows(source: &str, target: &str, class: &str, permission: &str) -> Option<bool> {
    let class = SecurityClass::from_name(class).ok()?;
    let bit = class.access_vector_bit(permission).ok()?;
    let (source, target) = (cstring(source).ok()?, cstring(target).ok()?);
    let (source, target) =
        (SecurityContext::from_c_str(&source, true), SecurityContext::from_c_str(&target, true));
    let decision = source.query_access_decision(&target, class, bit).ok()?;
    Some(decision.allowed & bit != 0 || decision.flags & PERMISSIVE != 0)
}

/// `SELINUX_AVD_FLAGS_PERMISSIVE`: the source is a domain for which nothing is enforced.
const PERMISSIVE: u32 = 1;

/// A question that can be put once, later, where the policy cannot be reached by a path any more.
#[derive(Debug, Clone)]
pub struct Question {
    class: u16,
    /// Names and bits of the permissions.
    wanted: Vec<(&'static str, u32)>,
}

impl Question {
    /// Whether a process may have these permissions on an object of a class; those that the policy has not are left out.
    pub fn new(class: &str, permissions: &[&'static str]) -> Option<Question> {
        let class = SecurityClass::from_name(class).ok()?;
        let wanted = permissions
            .iter()
            .filter_map(|name| class.access_vector_bit(name).ok().map(|bit| (*name, bit)))
            .collect();
        Some(Question { class: class.value(), wanted })
    }

    /// Opens the place where it is put; `None` if this process may not ask.
    pub fn open() -> Result<Option<OwnedFd>> {
        match OpenOptions::new().read(true).write(true).open(ACCESS) {
            Err(e) if e.raw_os_error() == Some(Errno::EACCES as i32) => Ok(None),
            file => Ok(Some(file.call("open(2)").at(ACCESS)?.into())),
        }
    }

    /// The permissions that are denied; `None` if the policy may not be asked.
    pub fn denied(&self, place: OwnedFd, process: &str, object: &str) -> Option<Vec<&'static str>> {
        let mut place = File::from(place);
        place.write_all(format!("{process} {object} {}", self.class).as_bytes()).ok()?;
        let mut answer = [0u8; 256];
        let len = place.read(&mut answer).ok()?;
        let (allowed, flags) = parse_answer(std::str::from_utf8(&answer[..len]).ok()?)?;
        let denied = self.wanted.iter().filter(|(_, bit)| allowed & bit == 0 && flags & PERMISSIVE == 0);
        Some(denied.map(|(name, _)| *name).collect())
    }
}

/// `allowed decided auditallow auditdeny seqno flags`: numbers in hexadecimal, the fifth in decimal.
fn parse_answer(text: &str) -> Option<(u32, u32)> {
    let words: Vec<&str> = text.trim_end_matches('\0').split_ascii_whitespace().collect();
    let hex = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok();
    Some((hex(0)?, hex(5)?))
}

/// What the kernel's answer to the writing of a label means.
pub fn explain_write(errno: Errno) -> Option<&'static str> {
    match errno {
        Errno::EINVAL => Some("the loaded policy does not define this label"),
        Errno::EACCES | Errno::EPERM => {
            Some("the policy does not let the runtime's domain give labels: process setexec, setkeycreate")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_its_flags_last() {
        assert_eq!(parse_answer("3c ffffffff 0 fffffc00 7 1\0"), Some((0x3c, 1)));
        assert_eq!(parse_answer("3c ffffffff 0 ffff 7"), None);
        assert_eq!(parse_answer(""), None);
    }
}
