//! Unix sockets that carry small messages and descriptors: unix(7).

use std::fs::File;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, bind,
    connect, recvmsg, sendmsg, socket, socketpair,
};

use crate::error::{Call, Context, Error, Result};

/// The longest message: an error with all its words.
const LONGEST: usize = 64 * 1024;

/// Where messages arrive. Of a static buffer only the pages that a message fills cost memory and time.
static ARRIVAL: Mutex<[u8; LONGEST]> = Mutex::new([0; LONGEST]);

/// A connected pair that keeps message boundaries and reports the end of the other side.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).call("socketpair(2)")
}

/// Sends one message, with at most one descriptor.
pub fn send(to: BorrowedFd<'_>, message: &[u8], descriptor: Option<BorrowedFd<'_>>) -> nix::Result<()> {
    let raw: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    let iov = [IoSlice::new(message)];
    loop {
        match sendmsg::<()>(to.as_raw_fd(), &iov, control, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives one message and the descriptor that came with it; `None` at the end of the other side.
pub fn receive(from: BorrowedFd<'_>) -> nix::Result<Option<(Vec<u8>, Option<OwnedFd>)>> {
    let mut buffer = ARRIVAL.lock().unwrap_or_else(PoisonError::into_inner);
    let mut control = nix::cmsg_space!(RawFd);
    let (len, descriptor) = loop {
        let mut iov = [IoSliceMut::new(&mut buffer[..])];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        match recvmsg::<()>(from.as_raw_fd(), &mut iov, Some(&mut control), flags) {
            Ok(message) => {
                let mut descriptor = None;
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(fds) = part {
                        // SAFETY: the kernel has just installed these descriptors; they are ours alone.
                        descriptor = fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).next();
                    }
                }
                break (message.bytes, descriptor);
            }
            // It ended without reading all that we said; what it said itself is still there.
            Err(Errno::EINTR | Errno::ECONNRESET) => continue,
            Err(errno) => return Err(errno),
        }
    };
    if len == 0 && descriptor.is_none() {
        return Ok(None);
    }
    Ok(Some((buffer[..len].to_vec(), descriptor)))
}

/// A datagram socket bound to `name` in the directory behind `dir`.
pub fn listen_in(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    let fd = datagram()?;
    bind(fd.as_raw_fd(), &address_in(dir, name)?).call("bind(2)").at(format!("listen on {name}"))?;
    Ok(fd)
}

/// A datagram socket connected to the one bound to that path.
///
/// `ECONNREFUSED` or `ENOENT` if nobody holds it any more.
pub fn connect_datagram(path: &Path) -> Result<nix::Result<OwnedFd>> {
    let fd = datagram()?;
    let (address, _dir) = address(path)?;
    Ok(connect(fd.as_raw_fd(), &address).map(|()| fd))
}

fn datagram() -> Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).call("socket(2)")
}

/// A socket address holds 108 bytes; a descriptor's path is short whatever the directory is called.
fn address_in(dir: BorrowedFd<'_>, name: &str) -> Result<UnixAddr> {
    UnixAddr::new(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()).as_str()).call("unix(7)")
}

/// The address of a path. One that is longer than an address holds is reached through a descriptor of its
/// directory, which must live as long as the address is used.
fn address(path: &Path) -> Result<(UnixAddr, Option<File>)> {
    if path.as_os_str().len() < 100 {
        return Ok((UnixAddr::new(path).call("unix(7)")?, None));
    }
    let dir = File::open(path.parent().unwrap_or(Path::new("/"))).call("open(2)")?;
    let name = path.file_name().map(|n| String::from_utf8_lossy(n.as_bytes())).unwrap_or_default();
    Ok((address_in(dir.as_fd(), &name)?, Some(dir)))
}

/// Connects to a stream socket of the host, such as an engine's console socket.
pub fn connect_stream(path: &Path) -> Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).call("socket(2)")?;
    let (address, _dir) = address(path)?;
    connect(fd.as_raw_fd(), &address).call("connect(2)").at(format!("connect to {}", path.display()))?;
    Ok(fd)
}

/// Hands a descriptor to the other side with exactly one message and no other control data.
pub fn hand_over(to: BorrowedFd<'_>, text: &[u8], descriptor: BorrowedFd<'_>) -> Result<()> {
    if text.is_empty() {
        return Err(Error::new("a descriptor needs at least one byte beside it"));
    }
    send(to, text, Some(descriptor)).call("sendmsg(2)")
}
