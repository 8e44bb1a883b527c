//! eBPF: a small assembler and the bpf(2) commands that the device filter of cgroup v2 needs.
//!
//! No library and no RLIMIT_MEMLOCK: since kernel 5.11 program memory is charged to the memory cgroup.
//! See bpf(2) and the kernel's Documentation/bpf/standardization/instruction-set.rst.

use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// One instruction as the kernel reads it (`struct bpf_insn`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Class, source and operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// The constant operand.
    pub imm: i32,
}

/// `dst = *(u32 *)(src + off)`: BPF_LDX | BPF_W | BPF_MEM.
pub const LOAD_WORD: u8 = 0x61;
/// `dst = src`: BPF_ALU64 | BPF_MOV | BPF_X.
pub const MOV_REG: u8 = 0xbf;
/// `dst = imm`: BPF_ALU64 | BPF_MOV | BPF_K.
pub const MOV: u8 = 0xb7;
/// `dst = (u32)dst & imm`: BPF_ALU | BPF_AND | BPF_K.
pub const AND: u8 = 0x54;
/// `dst = (u32)dst >> imm`: BPF_ALU | BPF_RSH | BPF_K.
pub const SHIFT_RIGHT: u8 = 0x74;
/// `dst = (u32)dst << (src & 31)`: BPF_ALU | BPF_LSH | BPF_X.
pub const SHIFT_LEFT_REG: u8 = 0x6c;
/// Jump always: BPF_JMP | BPF_JA.
pub const JUMP: u8 = 0x05;
/// Jump if `dst == imm`: BPF_JMP | BPF_JEQ | BPF_K.
pub const JUMP_IF_EQUAL: u8 = 0x15;
/// Jump if `dst > imm`, unsigned: BPF_JMP | BPF_JGT | BPF_K.
pub const JUMP_IF_ABOVE: u8 = 0x25;
/// Jump if `dst & imm`: BPF_JMP | BPF_JSET | BPF_K.
pub const JUMP_IF_ANY: u8 = 0x45;
/// Jump if `dst != imm`: BPF_JMP | BPF_JNE | BPF_K.
pub const JUMP_UNLESS_EQUAL: u8 = 0x55;
/// Return r0: BPF_JMP | BPF_EXIT.
pub const EXIT: u8 = 0x95;

impl Insn {
    /// `code dst, src/imm, off`.
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
        Insn { code, regs: dst | src << 4, off, imm }
    }
}

const PROG_LOAD: c_long = 5;
const PROG_ATTACH: c_long = 8;
const PROG_GET_FD_BY_ID: c_long = 13;
const OBJ_GET_INFO_BY_FD: c_long = 15;
const PROG_QUERY: c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// Programs that may hang on one cgroup (the kernel's BPF_CGROUP_MAX_PROGS).
const MAX_PROGRAMS: usize = 64;

/// The program name by which this runtime knows its own device filter again.
const NAME: [u8; 16] = *b"myrt_devices\0\0\0\0";

/// The part of `union bpf_attr` that each command used here fits into.
#[repr(C, align(8))]
#[derive(Default)]
struct Attr([u32; 16]);

impl Attr {
    fn set_pointer(&mut self, word: usize, address: u64) {
        // The union is in native byte order: two words in memory order make one __aligned_u64.
        let bytes = address.to_ne_bytes();
        self.0[word] = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.0[word + 1] = u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    }
}

fn bpf(command: c_long, attr: &mut Attr) -> nix::Result<i32> {
    let size = std::mem::size_of::<Attr>();
    // SAFETY: `attr` is a live, zero-filled and aligned attribute block of exactly the size passed on; the
    // buffers that it points to belong to the caller's frame and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut Attr, size) };
    Errno::result(result).map(|value| value as i32)
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: called only with the descriptor that bpf(2) has just returned; nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a device filter; the kernel verifies it. The descriptor is close-on-exec.
pub fn load_device_filter(program: &[Insn]) -> nix::Result<OwnedFd> {
    let license = c"Apache-2.0";
    let mut attr = Attr::default();
    attr.0[0] = PROG_TYPE_CGROUP_DEVICE;
    attr.0[1] = u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?;
    attr.set_pointer(2, program.as_ptr() as u64);
    attr.set_pointer(4, license.as_ptr() as u64);
    for (word, four) in attr.0[12..16].iter_mut().zip(NAME.chunks_exact(4)) {
        *word = u32::from_ne_bytes([four[0], four[1], four[2], four[3]]);
    }
    bpf(PROG_LOAD, &mut attr).map(own)
}

/// Hangs a filter on the cgroup directory; with `replace` it takes that one's place in one step.
///
/// All filters on the cgroup and on its parents must agree before a device may be used.
pub fn attach_device_filter(
    cgroup: BorrowedFd<'_>,
    filter: BorrowedFd<'_>,
    replace: Option<BorrowedFd<'_>>,
) -> nix::Result<()> {
    let mut attr = Attr::default();
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = filter.as_raw_fd() as u32;
    attr.0[2] = ATTACH_CGROUP_DEVICE;
    attr.0[3] = ALLOW_MULTI;
    if let Some(old) = replace {
        attr.0[3] |= REPLACE;
        attr.0[4] = old.as_raw_fd() as u32;
    }
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// The filter that this runtime hung on the cgroup earlier; others' filters are left out.
pub fn attached_device_filter(cgroup: BorrowedFd<'_>) -> nix::Result<Option<OwnedFd>> {
    let mut ids = [0u32; MAX_PROGRAMS];
    let mut attr = Attr::default();
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = ATTACH_CGROUP_DEVICE;
    attr.set_pointer(4, ids.as_mut_ptr() as u64);
    attr.0[6] = MAX_PROGRAMS as u32;
    bpf(PROG_QUERY, &mut attr)?;
    let count = attr.0[6] as usize;
    for &id in ids.iter().take(count) {
        let mut attr = Attr::default();
        attr.0[0] = id;
        let program = match bpf(PROG_GET_FD_BY_ID, &mut attr) {
            Ok(fd) => own(fd),
            Err(Errno::ENOENT) => continue, // detached since we asked
            Err(errno) => return Err(errno),
        };
        if program_name(&program)? == NAME {
            return Ok(Some(program));
        }
    }
    Ok(None)
}

/// The name a program was loaded with: `bpf_prog_info.name`, 64 bytes into the structure.
fn program_name(program: &OwnedFd) -> nix::Result<[u8; 16]> {
    let mut info = [0u64; 10];
    let mut attr = Attr::default();
    attr.0[0] = program.as_raw_fd() as u32;
    attr.0[1] = std::mem::size_of_val(&info) as u32;
    attr.set_pointer(2, info.as_mut_ptr() as u64);
    bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
    let mut name = [0; 16];
    name[..8].copy_from_slice(&info[8].to_ne_bytes());
    name[8..].copy_from_slice(&info[9].to_ne_bytes());
    Ok(name)
}
