//! The streams of one process: its outputs to the log and the clients, the clients' input to its standard input.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_runtime::apply::Stdio;
use corten_sys::pty;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::clients::{Client, Input};
use crate::json_log::JsonLog;
use crate::protocol::TerminalSize;

/// Read size: what a pipe holds by default.
const CHUNK: usize = 64 * 1024;
/// How much output is taken in one turn of the loop, so that a chatty process does not starve requests.
const CHUNKS_PER_TURN: usize = 4;

/// More than the buffers of a terminal hold.
const TERMINAL_HOLDS: u64 = 256 * 1024;

/// The streams.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// Standard output (or the terminal) and standard error.
    outputs: [Option<OwnedFd>; 2],
    /// The write end of standard input; the terminal's input goes to `outputs[0]`.
    stdin: Option<OwnedFd>,
    terminal: bool,
    /// Input that the process has not taken.
    pending: Vec<u8>,
    /// Standard input is closed once `pending` is empty.
    closing: bool,
    /// Standard input ends with the first client's.
    pub(crate) stdin_once: bool,
    pub(crate) log: Option<JsonLog>,
    clients: Vec<Client>,
}

/// Which of the streams' descriptors became ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ready {
    Output(usize),
    Stdin,
    Client(usize),
}

impl Io {
    /// Makes pipes; returns the program's ends. Without `open_stdin` its input is the null device at `null`.
    pub(crate) fn pipes(open_stdin: bool, null: &str) -> io::Result<(Io, Stdio)> {
        let (stdin, ours) = if open_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            (read, Some(nonblocking(write)?))
        } else {
            (openat(CWD, null, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?, None)
        };
        let (out, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
        let outputs = [Some(nonblocking(out)?), Some(nonblocking(err)?)];
        Ok((Io { outputs, stdin: ours, ..Io::default() }, Stdio::Pipes { stdin, stdout, stderr }))
    }

    /// For a process whose terminal will come later.
    pub(crate) fn terminal() -> Io {
        Io { terminal: true, ..Io::default() }
    }

    /// Takes the terminal that the process has made.
    pub(crate) fn set_terminal(&mut self, primary: OwnedFd, size: Option<TerminalSize>) {
        let _ = rustix::io::ioctl_fionbio(&primary, true);
        if let Some(size) = size {
            let _ = pty::resize(primary.as_fd(), size.width, size.height);
        }
        self.outputs[0] = Some(primary);
    }

    /// Sets the terminal's size; false without a terminal.
    pub(crate) fn resize(&self, size: TerminalSize) -> io::Result<bool> {
        match &self.outputs[0] {
            Some(primary) if self.terminal => pty::resize(primary.as_fd(), size.width, size.height).map(|()| true),
            _ => Ok(false),
        }
    }

    pub(crate) fn attach(&mut self, socket: OwnedFd, mode: crate::protocol::AttachMode) {
        self.clients.push(Client::new(socket, mode, !self.terminal));
    }

    /// Standard input ends once what is pending has been taken.
    pub(crate) fn close_stdin(&mut self) {
        self.closing = true;
        self.write_stdin();
    }

    fn input(&self) -> Option<BorrowedFd<'_>> {
        if self.terminal { self.outputs[0].as_ref() } else { self.stdin.as_ref() }.map(AsFd::as_fd)
    }

    /// What is to be polled now: an output unless a client holds it back, input where there is room for it.
    pub(crate) fn interests<'a>(&'a self, mut add: impl FnMut(Ready, PollFd<'a>)) {
        let waiting_for_input = !self.pending.is_empty();
        for (stream, output) in self.outputs.iter().enumerate() {
            let Some(fd) = output else { continue };
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, !self.clients.iter().any(|client| client.holds_back(stream)));
            flags.set(PollFlags::OUT, self.terminal && waiting_for_input);
            if !flags.is_empty() {
                add(Ready::Output(stream), PollFd::new(fd, flags));
            }
        }
        if let Some(fd) = self.stdin.as_ref().filter(|_| waiting_for_input) {
            add(Ready::Stdin, PollFd::new(fd, PollFlags::OUT));
        }
        for (index, client) in self.clients.iter().enumerate() {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, client.reading && !waiting_for_input);
            flags.set(PollFlags::OUT, client.wants_to_write());
            add(Ready::Client(index), PollFd::new(client, flags));
        }
    }

    /// Serves one descriptor that became ready.
    pub(crate) fn serve(&mut self, ready: Ready, flags: PollFlags, buffer: &mut Vec<u8>) {
        match ready {
            Ready::Output(stream) => {
                if flags.contains(PollFlags::OUT) {
                    self.write_stdin();
                }
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    self.read_output(stream, CHUNKS_PER_TURN, buffer);
                }
            }
            Ready::Stdin => self.write_stdin(),
            Ready::Client(index) => self.serve_client(index, flags, buffer),
        }
    }

    /// Forgets clients that are done; to be called when no index is in use any more.
    pub(crate) fn sweep(&mut self) {
        self.clients.retain(|client| !client.is_done());
    }

    fn serve_client(&mut self, index: usize, flags: PollFlags, buffer: &mut Vec<u8>) {
        let Some(client) = self.clients.get_mut(index) else { return };
        if flags.contains(PollFlags::OUT) {
            client.flush();
        }
        if flags.contains(PollFlags::IN) && client.reading {
            buffer.clear();
            buffer.reserve_exact(CHUNK);
            match client.input(buffer) {
                Input::Bytes => {
                    self.pending.extend_from_slice(buffer);
                    self.write_stdin();
                    return;
                }
                Input::End => self.client_input_ended(),
                Input::Nothing => {}
            }
        }
        if flags.intersects(PollFlags::HUP | PollFlags::ERR) {
            let client = &mut self.clients[index];
            let was_reading = std::mem::replace(&mut client.reading, false);
            client.hung_up();
            if was_reading {
                self.client_input_ended();
            }
        }
    }

    fn client_input_ended(&mut self) {
        if self.stdin_once && !self.terminal {
            self.close_stdin();
        }
    }

    fn write_stdin(&mut self) {
        while !self.pending.is_empty() {
            let Some(input) = self.input() else {
                self.pending = Vec::new();
                break;
            };
            match rustix::io::write(input, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => {
                    self.pending = Vec::new();
                    self.stdin = None;
                }
            }
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
            if self.closing {
                self.stdin = None;
            }
        }
    }

    /// Reads up to `turns` chunks of an output, and says how many bytes they had; its end closes it.
    fn read_output(&mut self, stream: usize, turns: usize, buffer: &mut Vec<u8>) -> u64 {
        // Of what isn't filled nothing is touched: a supervisor whose container says little stays small.
        buffer.clear();
        buffer.reserve_exact(CHUNK);
        let mut taken = 0;
        for _ in 0..turns {
            let Some(output) = &self.outputs[stream] else { break };
            buffer.clear();
            match rustix::io::read(output, spare_capacity(buffer)) {
                Ok(length) if length > 0 => {
                    taken += length as u64;
                    // All output of a terminal is standard output.
                    if let Some(log) = &mut self.log {
                        log.write(stream, buffer);
                    }
                    for client in &mut self.clients {
                        client.output(stream, buffer);
                    }
                    if length < CHUNK {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                // A terminal without programs reads as EIO.
                _ => self.outputs[stream] = None,
            }
        }
        taken
    }

    /// There was no program: what its pipes hold is somebody else's, and nobody's to read.
    pub(crate) fn discard(&mut self, buffer: &mut Vec<u8>) {
        self.outputs = [None, None];
        self.finish(buffer);
    }

    /// The process has ended: takes what its pipes still hold, ends the log, and lets the clients go once they have
    /// everything.
    pub(crate) fn finish(&mut self, buffer: &mut Vec<u8>) {
        self.stdin = None;
        self.pending = Vec::new();
        for stream in 0..2 {
            // Not what others write meanwhile: a process that the ended one has left behind may never cease.
            let mut left = self.held(stream);
            while left > 0 && self.has_output(stream) {
                left = left.saturating_sub(self.read_output(stream, 1, buffer).max(1));
            }
            self.outputs[stream] = None;
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        self.log = None;
        for client in &mut self.clients {
            client.finish();
        }
    }

    /// How much an output holds, of what the ended process may have written.
    fn held(&self, stream: usize) -> u64 {
        match &self.outputs[stream] {
            None => 0,
            Some(_) if self.terminal => TERMINAL_HOLDS,
            Some(pipe) => rustix::io::ioctl_fionread(pipe).unwrap_or(0),
        }
    }

    fn has_output(&self, stream: usize) -> bool {
        let Some(output) = &self.outputs[stream] else { return false };
        let mut polled = [PollFd::new(output, PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|count| count > 0)
    }

    /// True while a client has not got everything.
    pub(crate) fn has_clients(&self) -> bool {
        !self.clients.is_empty()
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    Ok(fd)
}
