//! Clients attached to a process's streams, each over one stream socket.
//!
//! Output without a terminal is framed as Docker's API does it: one byte stream number (1 stdout, 2 stderr), three
//! zeros, the length as 32 bits big-endian, the bytes. With a terminal it is raw.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use crate::protocol::AttachMode;

/// Output waiting for one client beyond this holds the process back.
pub(crate) const MAX_BUFFERED: usize = 64 * 1024;

/// Room in the socket for what a client has not taken when the output ends: what was waiting and what the pipes held.
const LAST_ROOM: usize = 2 * 1024 * 1024;

/// One attached client.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    mode: AttachMode,
    framed: bool,
    buffer: Vec<u8>,
    sent: usize,
    /// Its input has not ended.
    pub(crate) reading: bool,
    /// There will be no more output: it is closed when the buffer is empty.
    finishing: bool,
    gone: bool,
}

/// What a client's socket gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// Bytes were put into the buffer.
    Bytes,
    /// Its input has ended.
    End,
    /// Nothing now.
    Nothing,
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Client {
    /// Takes part as `mode` says; `framed` unless the process has a terminal.
    pub(crate) fn new(socket: OwnedFd, mode: AttachMode, framed: bool) -> Client {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        let reading = mode.stdin;
        Client { socket, mode, framed, buffer: Vec::new(), sent: 0, reading, finishing: false, gone: false }
    }

    /// True if output of the stream (0 stdout, 1 stderr) goes to this client.
    fn wants(&self, stream: usize) -> bool {
        !self.gone && if stream == 0 { self.mode.stdout } else { self.mode.stderr }
    }

    /// Its buffer is full, so the stream must wait.
    pub(crate) fn holds_back(&self, stream: usize) -> bool {
        self.wants(stream) && self.waiting() >= MAX_BUFFERED
    }

    fn waiting(&self) -> usize {
        self.buffer.len() - self.sent
    }

    /// True while there is something to be sent.
    pub(crate) fn wants_to_write(&self) -> bool {
        self.waiting() > 0
    }

    /// True once it may be forgotten.
    pub(crate) fn is_done(&self) -> bool {
        self.gone || (self.finishing && !self.wants_to_write())
    }

    /// Hands output to the client, at once as far as its socket takes it.
    pub(crate) fn output(&mut self, stream: usize, bytes: &[u8]) {
        if !self.wants(stream) {
            return;
        }
        if self.framed {
            let [a, b, c, d] = (bytes.len() as u32).to_be_bytes();
            self.buffer.extend_from_slice(&[stream as u8 + 1, 0, 0, 0, a, b, c, d]);
        }
        self.buffer.extend_from_slice(bytes);
        self.flush();
    }

    /// Sends what the socket takes.
    pub(crate) fn flush(&mut self) {
        while self.wants_to_write() && !self.gone {
            match send(&self.socket, &self.buffer[self.sent..], SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(length) => self.sent += length,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(_) => self.gone = true,
            }
        }
        if !self.wants_to_write() {
            // An idle client costs no memory.
            self.buffer = Vec::new();
            self.sent = 0;
        }
    }

    /// Takes what the client has sent into the buffer's spare room.
    pub(crate) fn input(&mut self, buffer: &mut Vec<u8>) -> Input {
        match recv(&self.socket, spare_capacity(buffer), RecvFlags::DONTWAIT) {
            Ok((length, _)) if length > 0 => Input::Bytes,
            Err(Errno::AGAIN | Errno::INTR) => Input::Nothing,
            _ => {
                self.reading = false;
                Input::End
            }
        }
    }

    /// The other side has closed both directions.
    pub(crate) fn hung_up(&mut self) {
        self.gone = true;
    }

    /// There will be no more output.
    pub(crate) fn finish(&mut self) {
        self.finishing = true;
        self.reading = false;
        self.flush();
        if self.wants_to_write() {
            // The kernel keeps it for a client that is slow, or stopped: nobody has to wait for that one.
            let _ = set_socket_send_buffer_size_force(&self.socket, LAST_ROOM);
            self.flush();
        }
        if !self.wants_to_write() {
            let _ = shutdown(&self.socket, Shutdown::Both);
        }
    }
}

impl Drop for Client {
    /// What the client has sent and nobody wants any more is taken: closed with that, the socket would end in an error
    /// for the client (ECONNRESET) instead of an end.
    fn drop(&mut self) {
        let _ = shutdown(&self.socket, Shutdown::Both);
        let mut buffer = [0; 16 * 1024];
        while recv(&self.socket, &mut buffer, RecvFlags::DONTWAIT).is_ok_and(|(length, _)| length > 0) {}
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    const ALL: AttachMode = AttachMode { stdin: true, stdout: true, stderr: true };

    #[test]
    fn output_is_framed_as_docker_does() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), ALL, true);
        client.output(1, b"oops");
        client.finish();
        let mut text = Vec::new();
        theirs.read_to_end(&mut text).unwrap();
        assert_eq!(text, b"\x02\0\0\0\0\0\0\x04oops");
        assert!(client.is_done());
    }

    #[test]
    fn a_slow_client_holds_back_and_recovers() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), ALL, false);
        while !client.holds_back(0) {
            client.output(0, &[b'x'; 4096]);
        }
        assert!(client.wants_to_write() && !client.is_done());
        let mut buffer = [0; 65536];
        while client.wants_to_write() {
            let _ = theirs.read(&mut buffer).unwrap();
            client.flush();
        }
        assert!(!client.holds_back(0));
    }

    #[test]
    fn nobody_waits_for_a_client_that_does_not_read() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: needs root");
            return;
        }
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), ALL, false);
        let mut sent = 0;
        while !client.holds_back(0) {
            client.output(0, &[b'x'; 65536]);
            sent += 65536;
        }
        client.output(0, &[b'x'; 65536]);
        client.finish();
        assert!(client.is_done());
        drop(client);
        let mut bytes = Vec::new();
        theirs.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), sent + 65536);
    }

    #[test]
    fn input_that_nobody_took_is_no_error() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), ALL, false);
        theirs.write_all(&[b'x'; 50_000]).unwrap();
        client.output(0, b"bye");
        client.finish();
        drop(client);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "bye");
    }

    #[test]
    fn input_ends_with_the_clients() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(ours.into(), ALL, false);
        theirs.write_all(b"hi").unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        let mut buffer = Vec::with_capacity(16);
        assert_eq!(client.input(&mut buffer), Input::Bytes);
        assert_eq!(buffer, b"hi");
        assert_eq!(client.input(&mut buffer), Input::End);
        assert!(!client.reading && !client.is_done());
    }
}
