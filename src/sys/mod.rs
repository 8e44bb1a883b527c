//! All unsafe code and raw system calls. One call per block, with its reason.
//!
//! nix serves wherever it has a safe function; what it lacks (the new mount API, clone3, openat2, pidfds,
//! bpf, seccomp) stands here, thin and typed, one function per system call.

pub mod bpf;
pub mod caps;
pub mod clone;
pub mod keyring;
pub mod mount;
pub mod net;
pub mod path;
pub mod process;
pub mod procfs;
pub mod remap;
pub mod seal;
pub mod seccomp;
pub mod socket;
pub mod start;
pub mod tty;
pub mod xattr;

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use crate::error::{Error, Result};

/// A C string; a NUL inside is an error that shows the text.
pub fn cstring(text: impl AsRef<[u8]>) -> Result<CString> {
    let bytes = text.as_ref();
    CString::new(bytes)
        .map_err(|_| Error::new(format!("{:?} has a NUL byte in it", String::from_utf8_lossy(bytes))))
}

/// Reads to the end. A read that leaves it at less than `whole` bytes was the last: of a file, or of a record that the
/// kernel hands out whole, less than was asked for is all that there is.
pub fn read_until(fd: BorrowedFd<'_>, whole: usize) -> nix::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let count = match nix::unistd::read(fd, &mut buffer) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        bytes.extend_from_slice(&buffer[..count]);
        if count == 0 || bytes.len() < whole {
            return Ok(bytes);
        }
    }
}

/// A number that nobody can guess: getrandom(2).
pub fn random() -> nix::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the kernel writes at most `bytes.len()` bytes to `bytes`; so few are never cut short.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    Errno::result(got)?;
    Ok(u64::from_ne_bytes(bytes))
}
