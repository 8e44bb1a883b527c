//! All unsafe code and raw system calls. One call per block, with its reason.

pub mod bpf;
pub mod cgroupfs;
pub mod seccomp;
