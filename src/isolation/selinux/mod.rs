//! SELinux: `/process/selinuxLabel`, `/linux/mountLabel`, the mount options `z` and `Z`, `--selinux-level`.
//!
//! The label of the program takes effect at execve(2), that of keys when they are made; all are written
//! through the host's procfs (CVE-2019-16884, CVE-2025-52881). A process label confines, so without SELinux
//! it is refused; a mount label alone confines nobody and is left out with a warning.
//!
//! [`Labels::new`] decides what is labelled how, [`label`] knows the text of a label, [`levels`] finds a free
//! pair of categories, [`policy`] asks the loaded policy, [`steps`] does it, [`relabel`] labels files.

pub mod label;
pub mod levels;
pub mod policy;
pub mod relabel;
pub mod steps;

mod labels;

pub use label::Label;
pub use labels::{Ask, Labels, LevelAsk};
pub use relabel::Relabel;
