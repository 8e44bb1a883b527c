//! The system call interfaces that a kernel serves, and how their calls are numbered.

use oci_spec::runtime::Arch;

use super::names::Call;

/// The bit that marks a call of x32; the kernel reports x32 as x86_64 (asm/unistd.h, `__X32_SYSCALL_BIT`).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// The kernel that the filter is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Machine {
    /// x86_64, which also runs x86 and x32 programs.
    X86_64,
    /// aarch64, which also runs 32-bit ARM programs.
    Aarch64,
}

impl Machine {
    /// The kernel that this program runs on.
    #[cfg(target_arch = "x86_64")]
    pub const HERE: Machine = Machine::X86_64;
    /// The kernel that this program runs on.
    #[cfg(target_arch = "aarch64")]
    pub const HERE: Machine = Machine::Aarch64;

    /// Every interface of this kernel, its own first.
    pub(super) fn abis(self) -> &'static [Abi] {
        match self {
            Machine::X86_64 => &[Abi::X86_64, Abi::X86, Abi::X32],
            Machine::Aarch64 => &[Abi::Aarch64, Abi::Arm],
        }
    }

    /// The interface that an entry of `architectures` names; `None` if this kernel never runs it.
    pub(super) fn abi(self, arch: Arch) -> Option<Abi> {
        let abi = match arch {
            Arch::ScmpArchNative => self.abis()[0],
            Arch::ScmpArchX86_64 => Abi::X86_64,
            Arch::ScmpArchX86 => Abi::X86,
            Arch::ScmpArchX32 => Abi::X32,
            Arch::ScmpArchAarch64 => Abi::Aarch64,
            Arch::ScmpArchArm => Abi::Arm,
            _ => return None,
        };
        self.abis().contains(&abi).then_some(abi)
    }
}

/// One way to make system calls: its own numbers, and arguments of 32 or 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

impl Abi {
    /// What the kernel calls it in `seccomp_data.arch` (linux/audit.h, `AUDIT_ARCH_*`).
    pub(super) fn audit_arch(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::X86 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are compared as 64 bits. libseccomp takes x32 for a 32-bit interface.
    pub(super) fn is_wide(self) -> bool {
        matches!(self, Abi::X86_64 | Abi::Aarch64)
    }

    /// The number of a call here, without the bit of x32.
    pub(super) fn number(self, call: &Call) -> Option<u32> {
        u32::try_from(call.numbers[self as usize]).ok()
    }
}

/// How many calls an interface can have: 0 to 559, and the 16 private ones of ARM at 0xf0000.
pub(super) const SLOTS: usize = 576;
const PRIVATE_SLOT: u32 = 560;
const ARM_PRIVATE: u32 = 0x000f_0000;

/// The place of a number in a table of `SLOTS`; `None` for a number that no call has.
pub(super) fn slot(number: u32) -> Option<usize> {
    match number {
        0..PRIVATE_SLOT => Some(number as usize),
        ARM_PRIVATE..=0x000f_000f => Some((number - ARM_PRIVATE + PRIVATE_SLOT) as usize),
        _ => None,
    }
}

/// The number at a place in a table of `SLOTS`; the inverse of [`slot`].
pub(super) fn number(slot: usize) -> u32 {
    match slot as u32 {
        slot @ 0..PRIVATE_SLOT => slot,
        slot => slot - PRIVATE_SLOT + ARM_PRIVATE,
    }
}

/// On x86 the number of `socketcall`, which carries the calls of sockets (linux/net.h).
pub(super) const SOCKETCALL: u32 = 102;
/// On x86 the number of `ipc`, which carries the calls of System V IPC (linux/ipc.h).
pub(super) const IPC: u32 = 117;
