//! myrt: a low-level OCI container runtime with built-in isolation.
//!
//! The modules in the order of a container's life.

pub mod error;

pub mod cgroup;
pub mod isolation;

pub mod sys;
