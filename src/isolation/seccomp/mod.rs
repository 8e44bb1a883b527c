//! System call filters: `/linux/seccomp`.
//!
//! A profile is compiled straight to classic BPF, in microseconds and without libseccomp. What it means is
//! what runc and libseccomp make of it: `rules` and `abi` follow them, and `program` says where the
//! answer is deliberately another one. The compiled `Filter` is kept with the container's state, so that
//! `exec` installs the very same program. A filter comes last: whatever it forbids, setting up may need.
//!
//! Read in this order: `compile` (the story), `profile` (what the config says), `abi` and `syscalls`
//! (numbers), `condition` and `rules` (which rule answers), `spans` and `program` (the code), `filter`.
//! Source: config-linux.md, "Seccomp"; seccomp(2); linux/Documentation/userspace-api/seccomp_filter.rst.

mod abi;
#[cfg(test)]
mod against_libseccomp;
mod compile;
mod condition;
mod filter;
#[cfg(test)]
mod interpreter;
mod names;
mod profile;
mod program;
mod rules;
mod spans;
mod syscalls;
#[cfg(test)]
mod tests;

pub use abi::Machine;
pub use compile::{compile, compile_for};
pub use filter::Filter;
