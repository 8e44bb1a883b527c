//! Extended attributes: getxattr(2), setxattr(2), and the one that holds an SELinux label.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// The attribute in which SELinux keeps the label of a file.
const SELINUX: &CStr = c"security.selinux";

/// Longer labels do not fit into a page of /proc either.
const LONGEST: usize = 4096;

/// The label of the file that a path leads to; symlinks are followed as execve(2) does.
///
/// `EOPNOTSUPP` where SELinux is off and the filesystem keeps none.
pub fn label_of(path: &CStr) -> nix::Result<String> {
    let mut text = vec![0u8; LONGEST];
    // SAFETY: both strings end with NUL; the kernel writes at most `text.len()` bytes to `text`.
    let len =
        unsafe { libc::getxattr(path.as_ptr(), SELINUX.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
    text.truncate(Errno::result(len)? as usize);
    while text.last() == Some(&0) {
        text.pop();
    }
    String::from_utf8(text).map_err(|_| Errno::EILSEQ)
}

/// Labels the file that a path leads to.
pub fn set_label(path: &CStr, label: &str) -> nix::Result<()> {
    let value = label.as_bytes();
    // SAFETY: both strings end with NUL; `value` is a live slice of the length passed on.
    let ret =
        unsafe { libc::setxattr(path.as_ptr(), SELINUX.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}

/// Labels the file behind an open descriptor (not an `O_PATH` one).
pub fn set_label_of(file: impl AsFd, label: &str) -> nix::Result<()> {
    let (fd, value) = (file.as_fd().as_raw_fd(), label.as_bytes());
    // SAFETY: the name ends with NUL; `value` is a live slice of the length passed on.
    let ret = unsafe { libc::fsetxattr(fd, SELINUX.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(ret).map(drop)
}
