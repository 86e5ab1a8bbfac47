//! The role that warm shims are copied from: a process that has done once what all of them have in common.
//!
//! It has one thread, lives in the minimal root and holds nothing but its socket. Each shim is a copy of it, as a child of the
//! daemon like itself, and shares its mount namespace, in which nothing is ever mounted again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::apply::base;
use corten_runtime::{Failure, Plan};
use corten_sys::memfd;
use corten_sys::process::{self, Cloned};
use corten_sys::slate::Slate;
use corten_sys::socket::Seqpacket;
use serde::{Deserialize, Serialize};

use crate::stub::MAX_PLAN;

/// No answer is larger.
pub(crate) const MAX_ANSWER: usize = 4096;

/// What the daemon asks a zygote for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// The plan that the shims to come can prepare themselves for. Fd: the plan. Not answered.
    Expect,
    /// A shim. Fd: its connection.
    Shim {
        /// As in [`WarmOptions`](crate::spawn::WarmOptions).
        late_init: bool,
    },
}

/// How a zygote answers the wish for a shim.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is there. Fd: its pidfd.
    Shim { pid: i32 },
    /// There is none.
    Failed(Failure),
}

/// What a shim has from its zygote.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) daemon: Seqpacket,
    pub(crate) late_init: bool,
    /// Of the zygote's memory, which it shares as long as nobody writes.
    pub(crate) usual: Option<&'static Plan>,
}

/// Serves wishes until the daemon's end of the socket is closed: none then. In each copy it returns what that one is to be.
/// `births` is where the daemon finds a copy that it is not told of.
pub(crate) fn serve(daemon: Seqpacket, births: Slate) -> io::Result<Option<Inheritance>> {
    let hierarchies = base::Hierarchy::own()?;
    base::enter_minimal_root()?;
    base::lay_out_kit(&hierarchies)?;
    base::seal()?;
    let mut usual = None;
    let mut buffer = [0; 256];
    loop {
        let packet = daemon.recv(&mut buffer)?;
        let mut fds = packet.fds.into_iter();
        let (Ok(wish), Some(fd)) = (serde_json::from_slice(&buffer[..packet.length]), fds.next()) else {
            return Ok(None);
        };
        match wish {
            // Once, and for as long as the process is there.
            Wish::Expect => usual = Some(&*Box::leak(Box::new(read_plan(fd)?))),
            Wish::Shim { late_init } => match process::clone_sibling_noted(&births) {
                Ok(Cloned::Child) => return Ok(Some(Inheritance { daemon: fd.into(), late_init, usual })),
                Ok(Cloned::Parent { pid, pidfd }) => answer(&daemon, &Answer::Shim { pid }, Some(&pidfd))?,
                Err(error) => answer(&daemon, &Answer::Failed(Failure::host("cannot make a shim", &error)), None)?,
            },
        }
    }
}

fn read_plan(fd: OwnedFd) -> io::Result<Plan> {
    Ok(serde_json::from_slice(&memfd::read(fd, MAX_PLAN)?)?)
}

fn answer(daemon: &Seqpacket, answer: &Answer, pidfd: Option<&OwnedFd>) -> io::Result<()> {
    let fds: Vec<_> = pidfd.into_iter().map(AsFd::as_fd).collect();
    daemon.send(&serde_json::to_vec(answer)?, &fds)
}
