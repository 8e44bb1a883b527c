//! All unsafe code and raw system calls. One call per block, with its reason.

pub mod bpf;
pub mod seccomp;
