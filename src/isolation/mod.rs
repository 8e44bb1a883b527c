//! What restricts: capabilities, seccomp, labels, no_new_privs.

pub mod seccomp;
