//! All unsafe code and raw system calls. One call per block, with its reason.
//!
//! nix serves wherever it has a safe function; what it lacks (the new mount API, clone3, openat2, pidfds,
//! bpf, seccomp) stands here, thin and typed, one function per system call.

pub mod bpf;
pub mod caps;
pub mod cgroupfs;
pub mod clone;
pub mod keyring;
pub mod mount;
pub mod net;
pub mod path;
pub mod process;
pub mod procfs;
pub mod seal;
pub mod seccomp;
pub mod socket;
pub mod tty;

use std::ffi::CString;

use crate::error::{Error, Result};

/// A C string; a NUL inside is an error that shows the text.
pub fn cstring(text: impl AsRef<[u8]>) -> Result<CString> {
    let bytes = text.as_ref();
    CString::new(bytes)
        .map_err(|_| Error::new(format!("{:?} has a NUL byte in it", String::from_utf8_lossy(bytes))))
}
