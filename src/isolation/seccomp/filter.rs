//! The compiled filter, and the form in which it is kept with the container's state.

use super::program::{AND, IF_AT_LEAST, IF_EQUAL, IF_GREATER, JUMP, LOAD, RETURN};
use crate::error::{Call, Error, Result};
use crate::sys;
use crate::sys::seccomp::Instruction;

/// A compiled filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The program, in classic BPF over `struct seccomp_data`.
    pub instructions: Vec<Instruction>,
    /// `SECCOMP_FILTER_FLAG_*` to install it with: `LOG` and `SPEC_ALLOW`.
    pub flags: u32,
}

/// What the kept form begins with; the number is its version.
const MAGIC: [u8; 8] = *b"myrtbpf1";
/// Magic, flags, number of instructions, checksum.
const HEADER: usize = 24;
/// The size of `struct seccomp_data`, in bytes.
const DATA: u32 = 64;

impl Filter {
    /// The longest program that the kernel takes (linux/bpf_common.h, `BPF_MAXINSNS`).
    pub const MAX_INSTRUCTIONS: usize = 4096;
    pub(super) const SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
    const FLAGS: u32 = Self::SPEC_ALLOW | libc::SECCOMP_FILTER_FLAG_LOG as u32;

    /// Installs the filter for this thread and all that it will start; there is no way back.
    ///
    /// Fails with `EACCES` without both no_new_privs and `CAP_SYS_ADMIN`.
    pub fn install(&self) -> Result<()> {
        sys::seccomp::install(&self.instructions, self.flags).call("seccomp(2)")
    }

    /// The kept form: little-endian, the same on every machine.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + 8 * self.instructions.len());
        bytes.extend(MAGIC);
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend((self.instructions.len() as u32).to_le_bytes());
        bytes.extend(self.checksum().to_le_bytes());
        for instruction in &self.instructions {
            bytes.extend(word(instruction).to_le_bytes());
        }
        bytes
    }

    /// Reads the kept form.
    ///
    /// Fails if it is of another version, cut or changed, or not a program that [`super::compile`] writes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Filter> {
        let broken = |why| Error::new(format!("the kept seccomp filter is {why}"));
        let (header, words) = bytes.split_at_checked(HEADER).ok_or_else(|| broken("cut"))?;
        let u32_at = |at| header[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk));
        if !header.starts_with(&MAGIC) {
            return Err(broken("of another version"));
        }
        let (flags, count) = (u32_at(8), u32_at(12) as usize);
        let checksum = u64::from(u32_at(20)) << 32 | u64::from(u32_at(16));
        if words.len() != count.saturating_mul(8) {
            return Err(broken("cut"));
        }
        let instructions = words.as_chunks().0.iter().map(|chunk| instruction(u64::from_le_bytes(*chunk)));
        let filter = Filter { instructions: instructions.collect(), flags };
        if filter.checksum() != checksum || flags & !Self::FLAGS != 0 || !filter.is_sound() {
            return Err(broken("damaged"));
        }
        Ok(filter)
    }

    /// Whether the kernel's checker would take it: known instructions, jumps inside, a return at the end.
    fn is_sound(&self) -> bool {
        let len = self.instructions.len();
        let sound = |(at, i): (usize, &Instruction)| {
            let left = len - 1 - at;
            match i.code {
                LOAD => i.k < DATA && i.k.is_multiple_of(4) && left > 0,
                AND => left > 0,
                JUMP => (i.k as usize) < left,
                IF_EQUAL | IF_GREATER | IF_AT_LEAST => usize::from(i.jt.max(i.jf)) < left,
                RETURN => true,
                _ => false,
            }
        };
        (1..=Self::MAX_INSTRUCTIONS).contains(&len) && self.instructions.iter().enumerate().all(sound)
    }

    /// FNV-1a by words, against accidents; the state directory itself is ours alone.
    fn checksum(&self) -> u64 {
        let start = 0xcbf2_9ce4_8422_2325 ^ u64::from(self.flags);
        self.instructions
            .iter()
            .fold(start, |sum, i| (sum ^ word(i)).wrapping_mul(0x0100_0000_01b3).rotate_left(29))
    }
}

/// An instruction in 64 bits, in the order of its fields.
fn word(i: &Instruction) -> u64 {
    u64::from(i.code) | u64::from(i.jt) << 16 | u64::from(i.jf) << 24 | u64::from(i.k) << 32
}

/// The inverse of [`word`].
fn instruction(word: u64) -> Instruction {
    Instruction { code: word as u16, jt: (word >> 16) as u8, jf: (word >> 24) as u8, k: (word >> 32) as u32 }
}
