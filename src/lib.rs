//! myrt: a low-level OCI container runtime with built-in isolation.
//!
//! Begin with [`run`], the life of a container as a story, then [`plan`], the order of the steps, then
//! whichever room interests you. `docs/` says what is done with each field of `config.json`.

pub mod cli;

pub mod run;

pub mod bundle;
pub mod plan;
pub mod step;

pub mod child;
pub mod foreground;
pub mod spawn;
pub mod sync;

pub mod container;
pub mod hooks;

pub mod cgroup;
pub mod isolation;
pub mod namespaces;
pub mod process;
pub mod rootfs;

pub mod error;
pub mod log;
pub mod sys;
pub mod timings;
