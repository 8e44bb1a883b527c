//! What restricts: capabilities, system call filters, labels, no_new_privs.

pub mod apparmor;
pub mod capabilities;
pub mod confine;
pub mod seccomp;
pub mod selinux;
