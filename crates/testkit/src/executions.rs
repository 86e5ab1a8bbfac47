//! Which processes execute a program, told by the kernel: nothing is traced, and nothing goes unseen however short it lives.
//!
//! The process connector sends a message for each fork, execve and exit on the machine, in their order (linux/cn_proc.h; Linux 2.6.15,
//! CONFIG_PROC_EVENTS, which Debian's kernels have). It serves root of the machine's own user, PID and network namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use rustix::net::netlink::{CONNECTOR, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size_force, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};

/// `CN_IDX_PROC` and `CN_VAL_PROC` are both this, and so is `PROC_CN_MCAST_LISTEN`.
const ONE: u32 = 1;
const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;
/// `struct nlmsghdr`, `struct cn_msg` and what `struct proc_event` begins with, in bytes.
const HEADERS: [usize; 3] = [16, 20, 16];
/// Longer than any message takes that is on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// Watches one process and everything that descends from it.
pub struct Executions {
    socket: OwnedFd,
    family: BTreeSet<u32>,
}

impl Executions {
    /// Watches `ancestor` from now on; nothing, with the reason printed, where the kernel tells nobody.
    pub fn of(test: &str, ancestor: u32) -> Option<Self> {
        let socket = match listen() {
            Ok(socket) => socket,
            Err(error) => {
                eprintln!("skipped {test}: the kernel does not tell of processes: {error}");
                return None;
            }
        };
        // Whoever is born meanwhile is told of, too.
        Some(Self { socket, family: descendants(ancestor) })
    }

    /// The members of the family that have executed a program since it was asked last, one for each execve. Whoever they forked
    /// belongs to it, whoever has become their parent since.
    ///
    /// # Panics
    /// If the kernel had to drop messages.
    pub fn so_far(&mut self) -> Vec<u32> {
        // The messages are in order: this one's comes after all that the caller has seen the effect of.
        let mut last = Command::new("true").spawn().expect("true(1) starts");
        let mut executed = Vec::new();
        loop {
            match event(&self.socket).expect("the kernel's next message") {
                (FORK, [_, parent, _, child]) if self.family.contains(&parent) => {
                    self.family.insert(child);
                }
                (EXEC, [_, pid, ..]) if pid == last.id() => break,
                (EXEC, [_, pid, ..]) if self.family.contains(&pid) => executed.push(pid),
                (EXIT, [thread, pid, ..]) if thread == pid => {
                    self.family.remove(&pid);
                }
                _ => {}
            }
        }
        last.wait().expect("true(1) ends");
        executed
    }
}

fn listen() -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(CONNECTOR))?;
    set_socket_recv_buffer_size_force(&socket, 32 << 20)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    // The kernel chooses this end's address; the group is the connector's number.
    bind(&socket, &SocketAddrNetlink::new(0, ONE))?;
    let length = (HEADERS[0] + HEADERS[1] + 4) as u32;
    // Type NLMSG_DONE, no flags; the connector's message carries one word.
    let words = [length, 3, 0, 0, ONE, ONE, 0, 0, 4, ONE];
    send(&socket, &words.map(u32::to_ne_bytes).concat(), SendFlags::empty())?;
    // Its answer is an event of no kind with an error number, sent to all who listen; from other namespaces there is none.
    loop {
        if let (0, [error, ..]) = event(&socket)? {
            return if error == 0 { Ok(socket) } else { Err(io::Error::from_raw_os_error(error.cast_signed())) };
        }
    }
}

/// The next event's kind and the first words of what it tells. For a fork: the parent, its process, the child, its process; for the others: the
/// thread, its process.
fn event(socket: &OwnedFd) -> io::Result<(u32, [u32; 4])> {
    let mut buffer = [0; 256];
    let (length, _) = recv(socket, &mut buffer, RecvFlags::empty())?;
    let [netlink, connector, event] = HEADERS;
    let what = netlink + connector;
    if length < what + event + 8 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a message of {length} bytes")));
    }
    let word = |at: usize| u32::from_ne_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
    let told = what + event;
    Ok((word(what), [0, 4, 8, 12].map(|at| word(told + at))))
}

/// A process and those that descend from it now.
fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let pairs: Vec<(u32, u32)> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = BTreeSet::from([ancestor]);
    loop {
        let children = pairs.iter().filter(|(pid, parent)| family.contains(parent) && !family.contains(pid));
        let children: Vec<u32> = children.map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}
