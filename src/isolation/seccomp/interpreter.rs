//! Runs a program as the kernel would. For tests only, also for those in `tests/`.

/// `struct seccomp_data` (linux/seccomp.h).
#[derive(Debug, Clone, Copy, Default)]
pub struct Data {
    /// The number of the call, with the bit of x32.
    pub number: u32,
    /// `AUDIT_ARCH_*`.
    pub arch: u32,
    /// Where the call was made.
    pub pointer: u64,
    /// The six arguments.
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < 64, "load from offset {offset}");
        let half = |value: u64| (value >> (8 * (offset % 8))) as u32;
        match offset {
            0 => self.number,
            4 => self.arch,
            8 | 12 => half(self.pointer),
            _ => half(self.args[(offset as usize - 16) / 8]),
        }
    }
}

/// What a program of `(code, jt, jf, k)` returns; panics where the kernel would refuse the program.
pub fn run(program: &[(u16, u8, u8, u32)], data: &Data) -> u32 {
    let (mut at, mut a, mut x) = (0, 0_u32, 0_u32);
    let mut memory = [0; 16];
    loop {
        let (code, jt, jf, k) = program[at];
        at += 1;
        let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            0x20 => a = data.word(k),
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = memory[k as usize],
            0x61 => x = memory[k as usize],
            0x02 => memory[k as usize] = a,
            0x03 => memory[k as usize] = x,
            0x07 => x = a,
            0x87 => a = x,
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => jump(a == k),
            0x25 => jump(a > k),
            0x35 => jump(a >= k),
            0x45 => jump(a & k != 0),
            0x06 => return k,
            0x16 => return a,
            _ => panic!("instruction {code:#x}"),
        }
    }
}
