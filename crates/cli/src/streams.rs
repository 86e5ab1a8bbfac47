//! Between the user's standard streams and a container's: one loop over poll, without threads.
//!
//! Input is forwarded as it comes and its end closes the connection's write side. Output is either raw (terminal) or in
//! Docker's frames: `[stream, 0, 0, 0, length (4, big-endian)]` and the bytes, where stream 1 is stdout and 2 is stderr.
//! While a slow reader of our output makes us wait, signals are still served.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};

use corten_client::Hijacked;
use rustix::event::{PollFd, PollFlags, poll};

use crate::failure::{Failure, Outcome, local};
use crate::signals::Signals;

mod demux;
mod detach;

pub(crate) use demux::{Demux, Sink};
pub(crate) use detach::DetachKeys;

/// Exit status after our own output broke, as a shell shows it for SIGPIPE.
pub(crate) const BROKEN_PIPE: u8 = 141;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The container's side closed the connection.
    Finished,
    /// The user typed the detach sequence.
    Detached,
}

/// What a session needs besides its connection.
pub(crate) struct Session<'a> {
    /// Raw bytes instead of frames.
    pub is_raw: bool,
    /// Whether our standard input is forwarded.
    pub forwards_input: bool,
    /// The sequence that detaches, looked for in the input of a terminal.
    pub detach_keys: Option<DetachKeys>,
    pub signals: Option<&'a Signals>,
    /// Called for each signal; an error ends the session.
    pub on_signal: &'a dyn Fn(i32) -> Outcome,
}

const BUFFER: usize = 64 * 1024;

/// Runs until the connection ends or the user detaches.
pub(crate) fn pump(mut connection: Hijacked, mut session: Session<'_>) -> Outcome<End> {
    connection.set_nonblocking(true).map_err(local("cannot prepare the connection"))?;
    let mut demux = Demux::new(session.is_raw);
    let mut input = Input { is_open: session.forwards_input, pending: Vec::new(), detach: session.detach_keys.take() };
    let mut buffer = vec![0; BUFFER];
    let mut has_output = connection.has_buffered();
    loop {
        let ready =
            if has_output { Ready { output: true, ..Ready::default() } } else { wait(&connection, &input, &session)? };
        if ready.signal {
            serve_signals(&session)?;
        }
        if ready.output {
            match connection.read(&mut buffer) {
                Ok(0) => return Ok(End::Finished),
                Ok(length) => demux.feed(&buffer[..length], &mut |sink, bytes| write_out(sink, bytes, &session))?,
                Err(error) if is_temporary(&error) => {}
                // A daemon that ends a session abruptly has nothing more to say; the exit status is asked for elsewhere.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(End::Finished),
                Err(error) => return Err(local("reading the container's output")(error)),
            }
        }
        has_output = connection.has_buffered();
        if ready.room {
            input.flush(&mut connection)?;
        }
        if ready.input && input.read(&mut buffer, &mut connection)? {
            return Ok(End::Detached);
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Ready {
    output: bool,
    room: bool,
    input: bool,
    signal: bool,
}

/// Waits for whatever can go on.
fn wait(connection: &Hijacked, input: &Input, session: &Session<'_>) -> Outcome<Ready> {
    let stdin = io::stdin();
    let mut wanted = PollFlags::IN;
    if !input.pending.is_empty() {
        wanted |= PollFlags::OUT;
    }
    let mut fds = vec![PollFd::new(connection, wanted)];
    let signal_at = session.signals.map(|signals| {
        fds.push(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN));
        fds.len() - 1
    });
    let input_at = (input.is_open && input.pending.is_empty()).then(|| {
        fds.push(PollFd::new(&stdin, PollFlags::IN));
        fds.len() - 1
    });
    poll_until(&mut fds)?;
    let at = |index: Option<usize>| index.is_some_and(|index| !fds[index].revents().is_empty());
    let connection_events = fds[0].revents();
    Ok(Ready {
        output: connection_events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR),
        room: connection_events.contains(PollFlags::OUT),
        signal: at(signal_at),
        input: at(input_at),
    })
}

fn poll_until(fds: &mut [PollFd<'_>]) -> Outcome {
    loop {
        match poll(fds, None) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(local("waiting for input")(error.into())),
        }
    }
}

fn serve_signals(session: &Session<'_>) -> Outcome {
    while let Some(number) = session.signals.and_then(Signals::take) {
        (session.on_signal)(number)?;
    }
    Ok(())
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The user's input on its way to the container.
struct Input {
    is_open: bool,
    pending: Vec<u8>,
    detach: Option<DetachKeys>,
}

impl Input {
    /// Reads once and passes it on. True when the detach sequence is complete.
    fn read(&mut self, buffer: &mut [u8], connection: &mut Hijacked) -> Outcome<bool> {
        let length = match rustix::io::read(io::stdin(), &mut *buffer) {
            Ok(length) => length,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(false),
            // A terminal that hung up reads as an error; for the container that is the end of its input.
            Err(_) => 0,
        };
        if length == 0 {
            self.is_open = false;
            // The container may have gone already.
            let _ = connection.close_write();
            return Ok(false);
        }
        let detached = match self.detach.as_mut() {
            Some(keys) => keys.filter(&buffer[..length], &mut self.pending),
            None => {
                self.pending.extend_from_slice(&buffer[..length]);
                false
            }
        };
        self.flush(connection)?;
        Ok(detached)
    }

    fn flush(&mut self, connection: &mut Hijacked) -> Outcome {
        while !self.pending.is_empty() {
            match connection.write(&self.pending) {
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // Nobody reads the input any more; the output's end comes by itself.
                Err(_) => {
                    self.pending.clear();
                    self.is_open = false;
                }
            }
        }
        Ok(())
    }
}

/// Writes to our standard output or error, in pieces that can't block once the descriptor is ready.
fn write_out(sink: Sink, mut bytes: &[u8], session: &Session<'_>) -> Outcome {
    const PIPE_ATOM: usize = 4096;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let target: BorrowedFd<'_> = if sink == Sink::Stderr { stderr.as_fd() } else { stdout.as_fd() };
    while !bytes.is_empty() {
        let mut fds = vec![PollFd::from_borrowed_fd(target, PollFlags::OUT)];
        if let Some(signals) = session.signals {
            fds.push(PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN));
        }
        poll_until(&mut fds)?;
        if fds.get(1).is_some_and(|fd| !fd.revents().is_empty()) {
            serve_signals(session)?;
        }
        if !fds[0].revents().is_empty() {
            bytes = &bytes[write_once(target, &bytes[..bytes.len().min(PIPE_ATOM)])?..];
        }
    }
    Ok(())
}

fn write_once(target: BorrowedFd<'_>, bytes: &[u8]) -> Outcome<usize> {
    match rustix::io::write(target, bytes) {
        Ok(written) => Ok(written),
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => Ok(0),
        Err(rustix::io::Errno::PIPE) => Err(Failure::Status(BROKEN_PIPE)),
        Err(error) => Err(local("writing the output")(error.into())),
    }
}

/// Writes all of it, without serving anything else meanwhile.
pub(crate) fn write_plain(sink: Sink, bytes: &[u8]) -> Outcome {
    let session =
        Session { is_raw: true, forwards_input: false, detach_keys: None, signals: None, on_signal: &|_| Ok(()) };
    write_out(sink, bytes, &session)
}
