//! seccomp(2): installs a filter.

use nix::errno::Errno;

/// One instruction of classic BPF, in the kernel's layout (`struct sock_filter`, linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do: `BPF_LD | BPF_W | BPF_ABS` and the like.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand: a constant, an offset into `struct seccomp_data`, a distance or a return value.
    pub k: u32,
}

// `install` hands the one over as the other.
const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() >= align_of::<libc::sock_filter>());

/// Installs a filter for this thread and all that it will start; there is no way back.
///
/// `flags` are `SECCOMP_FILTER_FLAG_*`. Fails with `EACCES` without both no_new_privs and
/// `CAP_SYS_ADMIN`, with `EINVAL` for a program that the kernel's checker refuses or a flag that it does
/// not know, with `ENOMEM` if all filters of the thread together have more than 32768 instructions.
/// See seccomp(2), `SECCOMP_SET_MODE_FILTER`.
pub fn install(program: &[Instruction], flags: u32) -> nix::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `len` live instructions of the kernel's layout (asserted above), which the
    // kernel copies and does not write to; both outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    Errno::result(result).map(drop)
}
