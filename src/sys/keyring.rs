//! The session keyring: keyctl(2).

use std::ffi::CStr;

use nix::errno::Errno;

const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;

/// Makes a new session keyring of that name the one of this process.
///
/// Without it, a container reaches the keys of whoever started the runtime. See keyctl_join_session_keyring(3).
pub fn join_session(name: &CStr) -> nix::Result<()> {
    // SAFETY: `name` is a NUL-terminated CStr that outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    Errno::result(ret).map(drop)
}
