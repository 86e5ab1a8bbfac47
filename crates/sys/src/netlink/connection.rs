//! One netlink socket: sends a buffer of requests in one system call and collects the answers, never waiting for ever.
//!
//! The kernel works through all requests of a `sendmsg` before it returns, so the answers are already there; the time limit
//! only guards against a kernel that lost one (a full receive queue).

use super::Error;
use super::wire::{self, Buffer, DUMP_INTERRUPTED, TYPE_DONE, TYPE_ERROR};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_send_buffer_size_force, set_socket_timeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Interrupted dumps are asked for again this often.
const DUMP_ATTEMPTS: usize = 8;

/// A netlink socket of one protocol, bound to the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
}

/// One answer to a request of a batch.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) seq: u32,
    /// 0 is success.
    pub(crate) errno: i32,
    pub(crate) detail: Option<String>,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Connection {
    pub(crate) fn open(protocol: isize) -> Result<Connection, Error> {
        let mut socket = Socket::new(protocol).map_err(Error::Socket)?;
        socket.bind_auto().map_err(Error::Socket)?;
        // Both options are niceties (short answers, the kernel's own words) that old kernels may refuse.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        set_socket_timeout(&socket, Timeout::Recv, Some(TIME_LIMIT)).map_err(|e| Error::Socket(e.into()))?;
        set_socket_timeout(&socket, Timeout::Send, Some(TIME_LIMIT)).map_err(|e| Error::Socket(e.into()))?;
        Ok(Connection { socket, buffer: vec![0; 32 << 10] })
    }

    /// Makes room for a datagram larger than the default allows.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), Error> {
        const DEFAULT: usize = 100 << 10;
        if len <= DEFAULT {
            return Ok(());
        }
        set_socket_send_buffer_size_force(&self.socket, len * 2).map_err(|e| Error::Socket(e.into()))
    }

    pub(crate) fn send(&mut self, requests: &Buffer) -> Result<(), Error> {
        let kernel = SocketAddr::new(0, 0);
        loop {
            match self.socket.send_to(requests.bytes(), &kernel, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Socket(error)),
            }
        }
    }

    /// Receives one datagram; `None` if none came in time.
    fn receive(&mut self, flags: libc::c_int) -> Result<Option<&[u8]>, Error> {
        loop {
            match self.socket.recv(&mut &mut self.buffer[..], flags) {
                Ok(len) => return Ok(Some(&self.buffer[..len.min(self.buffer.len())])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Error::Socket(error)),
            }
        }
    }

    /// Waits for an acknowledgement and takes all others that are there with it: the kernel queues all answers to a
    /// `sendmsg` before that returns. None at all if none came in time.
    pub(crate) fn queued_answers(&mut self) -> Result<Vec<Answer>, Error> {
        let mut answers = Vec::new();
        let mut flags = 0;
        while let Some(datagram) = self.receive(flags)? {
            read_answers(datagram, &mut answers)?;
            flags = libc::MSG_DONTWAIT;
        }
        Ok(answers)
    }

    /// Collects acknowledgements until `done` holds for what is there; false if they didn't come in time.
    pub(crate) fn answers(&mut self, done: impl Fn(&[Answer]) -> bool) -> Result<(Vec<Answer>, bool), Error> {
        let mut answers = Vec::new();
        while !done(&answers) {
            let Some(datagram) = self.receive(0)? else { return Ok((answers, false)) };
            read_answers(datagram, &mut answers)?;
        }
        Ok((answers, true))
    }

    /// Sends one dump request and hands every message of the answer to `each`, again from the start (after `restart`)
    /// when the kernel says that its tables changed meanwhile.
    pub(crate) fn dump<T>(
        &mut self,
        what: &str,
        request: &Buffer,
        mut read: impl FnMut(&wire::Message<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(request)?;
            if let Some(found) = self.dump_once(what, &mut read)? {
                return Ok(found);
            }
        }
        Err(Error::Timeout { request: what.to_owned() })
    }

    fn dump_once<T>(
        &mut self,
        what: &str,
        read: &mut impl FnMut(&wire::Message<'_>) -> Result<Option<T>, Error>,
    ) -> Result<Option<Vec<T>>, Error> {
        let mut found = Vec::new();
        let mut consistent = true;
        loop {
            let Some(datagram) = self.receive(0)? else { return Err(Error::Timeout { request: what.to_owned() }) };
            for message in wire::messages(datagram) {
                consistent &= message.flags & DUMP_INTERRUPTED == 0;
                match message.kind {
                    TYPE_DONE => return Ok(consistent.then_some(found)),
                    TYPE_ERROR => match wire::acknowledgement(&message) {
                        Some((0, _)) => return Ok(Some(found)),
                        Some((errno, detail)) => return Err(refused(what.to_owned(), errno, detail)),
                        None => return Err(Error::Malformed("acknowledgement")),
                    },
                    _ => found.extend(read(&message)?),
                }
            }
        }
    }
}

fn read_answers(datagram: &[u8], answers: &mut Vec<Answer>) -> Result<(), Error> {
    for message in wire::messages(datagram).filter(|message| message.kind == TYPE_ERROR) {
        let (errno, detail) = wire::acknowledgement(&message).ok_or(Error::Malformed("acknowledgement"))?;
        answers.push(Answer { seq: message.seq, errno, detail });
    }
    Ok(())
}

pub(crate) fn refused(request: String, errno: i32, detail: Option<String>) -> Error {
    Error::Refused { request, detail, source: io::Error::from_raw_os_error(errno) }
}
