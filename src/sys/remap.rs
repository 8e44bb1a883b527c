//! Exchanges the file that this process runs from for another one of the same content, while it runs.
//!
//! Each part of the program is mapped again at its place from the new file, with what the program has written
//! since it was started. When nothing of the old file is mapped any more, the kernel lets
//! `/proc/self/exe` be exchanged as well, and it checks that itself: `EBUSY` otherwise (prctl(2), `PR_SET_MM_MAP`,
//! made for restoring checkpoints). Executing the new file instead costs five times as much.

use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{Elf64_Phdr, c_void};
use nix::errno::Errno;

use super::caps;

const PAGE: u64 = 4096;

/// `struct prctl_mm_map`, linux/prctl.h.
#[repr(C)]
struct MemoryMap {
    start_code: u64,
    end_code: u64,
    start_data: u64,
    end_data: u64,
    start_brk: u64,
    brk: u64,
    start_stack: u64,
    arg_start: u64,
    arg_end: u64,
    env_start: u64,
    env_end: u64,
    auxv: u64,
    auxv_size: u32,
    exe_fd: u32,
}

/// A part of the program in memory: whole pages of the file.
#[derive(Clone, Copy)]
struct Part {
    start: u64,
    end: u64,
    offset: u64,
    /// `PROT_*`.
    protection: i32,
}

/// Makes `file`, which has the content of this program, the file that it runs from.
///
/// `stat` is the text of /proc/self/stat. Fails with `EPERM` without `CAP_SYS_ADMIN` or
/// `CAP_CHECKPOINT_RESTORE`, with `EINVAL` if the kernel lacks CHECKPOINT_RESTORE; the program goes on all the
/// same, only the name in /proc is the old one. The caller must be single-threaded.
pub fn run_from(file: BorrowedFd<'_>, stat: &str) -> nix::Result<()> {
    let headers = program_headers().ok_or(Errno::ENOEXEC)?;
    let parts: Vec<Part> = headers.iter().filter(|header| header.p_type == libc::PT_LOAD).map(part).collect();
    // A page of two parts would be lost when the first of them is mapped again.
    if parts.is_empty() || parts.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(Errno::ENOEXEC);
    }
    for part in &parts {
        match part.protection & libc::PROT_WRITE {
            0 => map_again(part, file)?,
            _ => copy(part, file)?,
        }
    }
    for header in headers.iter().filter(|header| header.p_type == libc::PT_GNU_RELRO) {
        protect(header.p_vaddr / PAGE * PAGE, (header.p_vaddr + header.p_memsz) / PAGE * PAGE)?;
    }
    exchange_exe(file, stat)
}

/// The program headers of this program, if it runs where it was linked to run.
fn program_headers() -> Option<&'static [Elf64_Phdr]> {
    // SAFETY: getauxval has no preconditions.
    let (at, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if at == 0 {
        return None;
    }
    // SAFETY: the kernel has put the address and the number of the mapped program headers there.
    let headers = unsafe { std::slice::from_raw_parts(at as *const Elf64_Phdr, count as usize) };
    let own = headers.iter().find(|header| header.p_type == libc::PT_PHDR)?;
    (own.p_vaddr == at).then_some(headers)
}

fn part(header: &Elf64_Phdr) -> Part {
    let flag = |flag, protection| if header.p_flags & flag != 0 { protection } else { 0 };
    Part {
        start: header.p_vaddr / PAGE * PAGE,
        end: (header.p_vaddr + header.p_filesz).div_ceil(PAGE) * PAGE,
        offset: header.p_offset / PAGE * PAGE,
        protection: flag(libc::PF_R, libc::PROT_READ)
            | flag(libc::PF_W, libc::PROT_WRITE)
            | flag(libc::PF_X, libc::PROT_EXEC),
    }
}

fn map_again(part: &Part, file: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED;
    let (start, len, offset) =
        (part.start as *mut c_void, (part.end - part.start) as usize, part.offset as i64);
    // SAFETY: the pages are replaced in one step by pages of the same content, which the caller vouches for; nobody
    // has ever written to them.
    mapped(unsafe { libc::mmap(start, len, part.protection, flags, file.as_raw_fd(), offset) }).map(drop)
}

/// Maps a part from the new file elsewhere, brings the pages that differ up to date, and moves it to its place.
fn copy(part: &Part, file: BorrowedFd<'_>) -> nix::Result<()> {
    let (start, len) = (part.start as *mut c_void, (part.end - part.start) as usize);
    let (protection, offset) = (part.protection, part.offset as i64);
    // SAFETY: a private mapping at a place of the kernel's choice.
    let new = mapped(unsafe {
        libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_PRIVATE, file.as_raw_fd(), offset)
    })?;
    // SAFETY: `len` mapped bytes, to which nobody writes while they are looked at.
    let old_bytes = unsafe { std::slice::from_raw_parts(start.cast::<u8>(), len) };
    // SAFETY: `len` mapped and writable bytes that nobody else knows.
    let new_bytes = unsafe { std::slice::from_raw_parts_mut(new.cast::<u8>(), len) };
    for (new, old) in new_bytes.chunks_mut(PAGE as usize).zip(old_bytes.chunks(PAGE as usize)) {
        if new != old {
            new.copy_from_slice(old);
        }
    }
    // SAFETY: the pages are replaced in one step by pages of the same content; there is no other thread that could
    // have written to them since, and nothing here writes to a static variable.
    mapped(unsafe { libc::mremap(new, len, len, libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED, start) }).map(drop)
}

fn mapped(at: *mut c_void) -> nix::Result<*mut c_void> {
    if at == libc::MAP_FAILED { Err(Errno::last()) } else { Ok(at) }
}

/// Makes read-only again what only the start-up writes to.
fn protect(start: u64, end: u64) -> nix::Result<()> {
    // SAFETY: this is the part that the linker marked to be read-only once the program is started.
    let ret = unsafe { libc::mprotect(start as *mut c_void, (end - start) as usize, libc::PROT_READ) };
    Errno::result(ret).map(drop)
}

fn exchange_exe(file: BorrowedFd<'_>, stat: &str) -> nix::Result<()> {
    // The name in the second field may hold anything; the third is the one after its last `)`.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let fields: Vec<u64> = fields.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
    let field = |number: usize| fields.get(number - 3).copied().ok_or(Errno::EINVAL);
    // SAFETY: sbrk(0) changes nothing.
    let brk = unsafe { libc::sbrk(0) } as u64;
    let map = MemoryMap {
        start_code: field(26)?,
        end_code: field(27)?,
        start_data: field(45)?,
        end_data: field(46)?,
        start_brk: field(47)?,
        brk,
        start_stack: field(28)?,
        arg_start: field(48)?,
        arg_end: field(49)?,
        env_start: field(50)?,
        env_end: field(51)?,
        auxv: 0,
        auxv_size: 0,
        exe_fd: file.as_raw_fd() as u32,
    };
    // The kernel asks for CAP_CHECKPOINT_RESTORE, then for CAP_SYS_ADMIN. Confined engines have only the second by
    // SELinux' will; without the first in the effective set SELinux is not asked for it and notes no denial.
    let sets = caps::get()?;
    let lowered = sets.effective & !(1 << CAP_CHECKPOINT_RESTORE);
    let lower = sets.effective != lowered && sets.effective & 1 << CAP_SYS_ADMIN != 0;
    if lower {
        caps::set(caps::Sets { effective: lowered, ..sets })?;
    }
    let size = size_of::<MemoryMap>();
    // SAFETY: `map` is a live prctl_mm_map of exactly the size passed on, and says of our memory what the kernel does.
    let ret = unsafe { libc::prctl(libc::PR_SET_MM, libc::PR_SET_MM_MAP, &raw const map, size, 0) };
    let exchanged = Errno::result(ret).map(drop);
    if lower {
        caps::set(sets)?;
    }
    exchanged
}

/// Capabilities by number: capabilities(7).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_CHECKPOINT_RESTORE: u32 = 40;
