//! Sequenced-packet Unix sockets that carry descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::process::invalid;

const MAX_FDS: usize = 253;

/// A connected sequenced-packet socket: packets arrive whole, in order, with their descriptors.
#[derive(Debug)]
pub struct Seqpacket(OwnedFd);

/// One received packet.
#[derive(Debug)]
pub struct Packet {
    /// Bytes written to the buffer; 0 means that the other side has closed.
    pub length: usize,
    /// Descriptors that came along, all close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl AsFd for Seqpacket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Seqpacket {
    fn from(fd: OwnedFd) -> Self {
        Seqpacket(fd)
    }
}

impl From<Seqpacket> for OwnedFd {
    fn from(socket: Seqpacket) -> Self {
        socket.0
    }
}

impl Seqpacket {
    /// Two sockets connected with each other, close-on-exec.
    pub fn pair() -> io::Result<(Seqpacket, Seqpacket)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Seqpacket(one), Seqpacket(other)))
    }

    /// Connects to a listening socket.
    pub fn connect(path: &Path) -> io::Result<Seqpacket> {
        let socket = new_socket(SocketFlags::CLOEXEC)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Seqpacket(socket))
    }

    /// Sets whether calls return WouldBlock instead of waiting.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.0, nonblocking)?)
    }

    /// Sends one packet with descriptors (at most 253).
    pub fn send(&self, data: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if fds.len() > MAX_FDS {
            return Err(invalid());
        }
        let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(invalid());
        }
        let sent = rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(data)], &mut control, SendFlags::NOSIGNAL)
        })?;
        if sent == data.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives one packet. One that does not fit the buffer, or lost descriptors, is an error.
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<Packet> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)
        })?;
        let fds = control.drain().filter_map(rights).flatten().collect();
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "packet or its descriptors were cut short"));
        }
        Ok(Packet { length: received.bytes, fds })
    }

    /// Receives one packet of whatever length up to `most`, with its bytes in a buffer of just that size.
    pub fn recv_sized(&self, most: usize) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let flags = RecvFlags::PEEK | RecvFlags::TRUNC;
        let (_, length) = rustix::io::retry_on_intr(|| rustix::net::recv(&self.0, &mut [0_u8; 0][..], flags))?;
        let mut buffer = vec![0; length.min(most)];
        let packet = self.recv(&mut buffer)?;
        buffer.truncate(packet.length);
        Ok((buffer, packet.fds))
    }

    /// Waits until a packet or the end can be received; false when the time is up first.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&left)) {
                Ok(count) => return Ok(count > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn rights(message: RecvAncillaryMessage<'_>) -> Option<impl Iterator<Item = OwnedFd>> {
    match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    }
}

/// A listening sequenced-packet socket.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener {
    /// Binds `path`, relative to the working directory if it is not absolute, and listens. Non-blocking.
    pub fn bind(path: &Path) -> io::Result<Listener> {
        let socket = new_socket(SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, 8)?;
        Ok(Listener(socket))
    }

    /// Takes one connection; WouldBlock if none waits. The connection is non-blocking.
    pub fn accept(&self) -> io::Result<Seqpacket> {
        Ok(Seqpacket(rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?))
    }
}

fn new_socket(flags: SocketFlags) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_ride_along() {
        let (one, other) = Seqpacket::pair().unwrap();
        let file = crate::memfd::sealed("x", b"hello").unwrap();
        one.send(b"data", &[file.as_fd(), file.as_fd()]).unwrap();
        let mut buffer = [0; 16];
        let packet = other.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..packet.length], packet.fds.len()), (&b"data"[..], 2));
    }

    #[test]
    fn a_packet_comes_in_its_own_size() {
        let (one, other) = Seqpacket::pair().unwrap();
        one.send(&[7; 100_000], &[]).unwrap();
        one.send(b"next", &[one.as_fd()]).unwrap();
        assert_eq!(other.recv_sized(1 << 20).unwrap().0, [7; 100_000]);
        let (data, fds) = other.recv_sized(1 << 20).unwrap();
        assert_eq!((&data[..], fds.len()), (&b"next"[..], 1));
        one.send(b"too long", &[]).unwrap();
        assert_eq!(other.recv_sized(4).unwrap_err().kind(), io::ErrorKind::InvalidData);
        drop((one, fds));
        assert!(other.recv_sized(1 << 20).unwrap().0.is_empty());
    }

    #[test]
    fn the_end_is_an_empty_packet() {
        let (one, other) = Seqpacket::pair().unwrap();
        drop(one);
        assert_eq!(other.recv(&mut [0; 4]).unwrap().length, 0);
    }

    #[test]
    fn a_packet_too_large_is_an_error() {
        let (one, other) = Seqpacket::pair().unwrap();
        one.send(b"too long", &[]).unwrap();
        assert_eq!(other.recv(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
