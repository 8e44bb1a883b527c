//! The one socket pair between parent and child, and its few messages.
//!
//! ```text
//! parent                          child
//!   Go        ->                            maps and limits are in place (sent before the child exists if there are none): walk the plan
//!             <-  Hooks                     (only with prestart or createRuntime hooks) namespaces and mounts are there
//!   Go        ->                            the hooks have run
//!             <-  Note(text)                something the user should know
//!             <-  Took(time, step)          (only if somebody wants timings) how long a step took
//!             <-  Terminal(descriptor)      (only for a terminal in the foreground)
//!             <-  Ready                     all but the program
//!   Go        ->                            start (in `create` this comes from `myrt start`, through a socket of its own; in `run` and
//!                                           `exec` it is sent early if nothing has to happen after Ready)
//!             <-  Fault(error)              at any time: what failed, whole; the child exits
//!             <-  end of file               the program was executed
//! ```
//!
//! An end of file before `Ready` means that the child was killed.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;

use crate::error::{Call, Context, Error, Result};
use crate::sys::socket;

/// What one side says to the other.
#[derive(Debug)]
pub enum Message {
    /// Go on.
    Go,
    /// The namespaces and mounts are there: run the hooks of the host.
    Hooks,
    /// A line for the log.
    Note(String),
    /// How long a step took.
    Took(Duration, String),
    /// The master side of the container's terminal.
    Terminal(OwnedFd),
    /// Everything but the program is done.
    Ready,
    /// The child failed and exits.
    Fault(Error),
}

/// One end of the pair.
#[derive(Debug)]
pub struct Link(OwnedFd);

/// Both ends: the parent's and the child's.
pub fn pair() -> Result<(Link, Link)> {
    let (ours, theirs) = socket::pair()?;
    Ok((Link(ours), Link(theirs)))
}

impl Link {
    /// Takes a descriptor as an end; `myrt start` sends one to the waiting child.
    pub fn new(fd: OwnedFd) -> Link {
        Link(fd)
    }

    /// The number of the descriptor.
    pub fn raw(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Sends one message.
    pub fn send(&self, message: &Message) -> Result<()> {
        let (tag, text, descriptor) = match message {
            Message::Go => (b'g', Vec::new(), None),
            Message::Hooks => (b'h', Vec::new(), None),
            Message::Note(text) => (b'n', text.clone().into_bytes(), None),
            Message::Took(time, step) => (b'k', format!("{} {step}", time.as_nanos()).into_bytes(), None),
            Message::Terminal(fd) => (b't', Vec::new(), Some(fd.as_fd())),
            Message::Ready => (b'r', Vec::new(), None),
            Message::Fault(e) => {
                (b'f', serde_json::to_vec(e).map_err(|e| Error::new(format!("serde_json: {e}")))?, None)
            }
        };
        let mut bytes = vec![tag];
        bytes.extend(text);
        socket::send(self.0.as_fd(), &bytes, descriptor).call("sendmsg(2)").at("tell the other side")
    }

    /// Says Go. To a child that has ended already it makes no difference: why it did is what we hear next.
    pub fn go(&self) -> Result<()> {
        match self.send(&Message::Go) {
            Err(e) if matches!(e.errno(), Some(Errno::EPIPE | Errno::ECONNRESET)) => Ok(()),
            other => other,
        }
    }

    /// Waits for the next message; `None` at the end of the other side.
    pub fn receive(&self) -> Result<Option<Message>> {
        let Some((bytes, descriptor)) = socket::receive(self.0.as_fd()).call("recvmsg(2)")? else {
            return Ok(None);
        };
        let (tag, text) = bytes.split_first().ok_or_else(|| Error::new("an empty message"))?;
        let message = match (tag, descriptor) {
            (b'g', _) => Message::Go,
            (b'h', _) => Message::Hooks,
            (b'n', _) => Message::Note(String::from_utf8_lossy(text).into_owned()),
            (b'k', _) => took(&String::from_utf8_lossy(text))?,
            (b't', Some(fd)) => Message::Terminal(fd),
            (b'r', _) => Message::Ready,
            (b'f', _) => Message::Fault(
                serde_json::from_slice(text)
                    .map_err(|e| Error::new(format!("a fault that cannot be read: {e}")))?,
            ),
            _ => return Err(Error::new("an unknown message between parent and child")),
        };
        Ok(Some(message))
    }

    /// Waits for [`Message::Go`]; anything else means that the parent is gone or gave up.
    pub fn wait_for_go(&self) -> Result<()> {
        match self.receive()? {
            Some(Message::Go) => Ok(()),
            _ => Err(Error::new("the runtime that created this container ended before it was ready")),
        }
    }
}

fn took(text: &str) -> Result<Message> {
    let (nanos, step) = text.split_once(' ').unwrap_or_default();
    let nanos = nanos.parse().map_err(|_| Error::new("a time that cannot be read"))?;
    Ok(Message::Took(Duration::from_nanos(nanos), step.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_arrives_whole() {
        let (parent, child) = pair().unwrap();
        let e = Error::call("mount(2)", nix::errno::Errno::EPERM)
            .at("mount proc on /proc")
            .from_config("/mounts/0");
        child.send(&Message::Fault(e.clone())).unwrap();
        match parent.receive().unwrap() {
            Some(Message::Fault(back)) => assert_eq!(back.to_string(), e.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_time_arrives_with_its_step() {
        let (parent, child) = pair().unwrap();
        child.send(&Message::Took(Duration::from_micros(1234), "mount proc on /proc".into())).unwrap();
        match parent.receive().unwrap() {
            Some(Message::Took(time, step)) => {
                assert_eq!((time.as_micros(), step.as_str()), (1234, "mount proc on /proc"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (parent, child) = pair().unwrap();
        drop(child);
        assert!(parent.receive().unwrap().is_none());
    }
}
