//! From the name of a system call to its numbers.

use super::abi::{IPC, SOCKETCALL};
use super::syscalls::SYSCALLS;

/// A system call, by its numbers.
pub(super) struct Call {
    /// On x86_64, x86, x32, aarch64 and arm; -1 where it is absent.
    pub(super) numbers: [i32; 5],
    /// On x86: the number of the call that can carry it too, and as what.
    pub(super) carried: Option<(u32, u64)>,
}

/// Four times as many places as calls, so that most names are found at the first look.
const PLACES: usize = 2048;
/// Which call has its place where; one more than its index in `SYSCALLS`, 0 for nobody.
static INDEX: [u16; PLACES] = index();

/// Finds a call by its name; `None` if no architecture of the table has it.
pub(super) fn find(name: &str) -> Option<Call> {
    let mut place = place(name.as_bytes());
    let numbers = loop {
        let entry = SYSCALLS.get(usize::from(INDEX[place]).checked_sub(1)?)?;
        if entry.0 == name {
            break entry.1;
        }
        place = (place + 1) % PLACES;
    };
    // Only calls that x86 got late, or never, can be carried.
    let late = !(0..300).contains(&numbers[1]);
    Some(Call { numbers, carried: if late { carried(name) } else { None } })
}

/// As what number `socketcall` or `ipc` carries a call (linux/net.h, `SYS_*`; linux/ipc.h).
fn carried(name: &str) -> Option<(u32, u64)> {
    let (carrier, which) = match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    };
    Some((carrier, which))
}

/// Where to look for a name first: FNV-1a, folded.
const fn place(name: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut i = 0;
    while i < name.len() {
        hash = (hash ^ name[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    (hash ^ (hash >> 15)) as usize % PLACES
}

/// Gives every call the first free place from where its name is looked for.
const fn index() -> [u16; PLACES] {
    let mut index = [0; PLACES];
    let mut i = 0;
    while i < SYSCALLS.len() {
        let mut at = place(SYSCALLS[i].0.as_bytes());
        while index[at] != 0 {
            at = (at + 1) % PLACES;
        }
        i += 1;
        index[at] = i as u16;
    }
    index
}

#[cfg(test)]
mod tests {
    use super::super::abi::slot;
    use super::*;

    #[test]
    fn every_call_is_found_by_its_name_and_has_a_slot() {
        for (name, numbers) in &SYSCALLS {
            assert_eq!(find(name).unwrap().numbers, *numbers, "{name}");
            assert!(numbers.iter().all(|&n| n == -1 || slot(n as u32).is_some()), "{name}");
        }
        assert!(find("no_such_call").is_none() && find("").is_none());
        assert!(SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn every_call_that_can_be_carried_knows_by_whom() {
        let carried = SYSCALLS.iter().filter(|entry| carried(entry.0).is_some());
        assert_eq!(carried.clone().count(), 32);
        for (name, _) in carried {
            assert!(find(name).unwrap().carried.is_some(), "{name}");
        }
    }
}
