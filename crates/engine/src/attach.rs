//! Clients' streams on a container or an execution.
//!
//! The engine gives a face one end of a socket pair and the shim the other, so that bytes between client and container pass no
//! third process and need no copy in the engine. What the shim writes is framed as Docker does it already.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use corten_base::ExecId;
use corten_events::{Actor, Kind};
use corten_shim::protocol::AttachMode;
use tokio::net::UnixStream;

use crate::error::Error;
use crate::exec::ExecEnd;
use crate::life::Phase;
use crate::logs::{LogOptions, LogStream};
use crate::registry::Handle;
use crate::shared::Shared;
use crate::task::Request;
use crate::view::ContainerView;

/// Which streams a client wants.
#[derive(Debug, Clone, Default)]
pub struct AttachOptions {
    /// Send it standard input.
    pub stdin: bool,
    /// Take its standard output.
    pub stdout: bool,
    /// Take its standard error.
    pub stderr: bool,
    /// First what was logged until now.
    pub logs: bool,
    /// Then what comes; false ends after the log.
    pub stream: bool,
    /// Docker's notation, such as `ctrl-p,ctrl-q`; empty is that.
    pub detach_keys: String,
}

/// An attached client's side.
#[derive(Debug)]
pub struct Attached {
    /// Raw bytes with a terminal, else Docker's frames of eight bytes header each.
    pub tty: bool,
    /// To be sent first: what was logged before. An execution is started by reading it, and says on it why it could not be.
    pub log: Option<LogStream>,
    /// What to read from and write to; shutting its write side down ends standard input. None without `stream`.
    pub stream: Option<UnixStream>,
    /// What the client's keystrokes go through; only there with a terminal and standard input.
    pub keys: Option<DetachKeys>,
    /// With an execution: to be waited for between the stream's end and telling the client of it, who asks for the exit code at once.
    pub end: Option<ExecEnd>,
    /// To be told when the client leaves by its detach keys.
    pub detach: Option<Detach>,
}

/// The event of a client that leaves a process running.
#[derive(Debug)]
pub struct Detach {
    pub(crate) shared: Arc<Shared>,
    pub(crate) view: Arc<ContainerView>,
    /// With an execution, its id.
    pub(crate) exec: Option<ExecId>,
}

impl Detach {
    /// Tells the event log.
    pub fn tell(self) {
        let view = &self.view;
        let mut actor = Actor { id: view.id.to_string(), attributes: view.spec.labels.clone() };
        actor.attributes.insert("image".into(), view.spec.image.clone());
        actor.attributes.insert("name".into(), view.name.clone());
        actor.attributes.extend(self.exec.as_ref().map(|id| ("execID".into(), id.to_string())));
        let action = if self.exec.is_some() { "exec_detach" } else { "detach" };
        self.shared.events.publish(&view.namespace, Kind::Container, action, actor);
    }
}

/// Attaches a client to a container.
pub(crate) async fn attach(shared: &Arc<Shared>, handle: &Handle, options: AttachOptions) -> Result<Attached, Error> {
    let view = handle.now();
    let tty = view.spec.tty;
    let keys = Some(DetachKeys::parse(&options.detach_keys)?).filter(|_| tty && options.stdin);
    let log = match options.logs {
        true => {
            let wanted = LogOptions { stdout: options.stdout, stderr: options.stderr, ..Default::default() };
            Some(LogStream::open(handle.view(), wanted).await?)
        }
        false => None,
    };
    let stream = match options.stream {
        true if view.state.phase == Phase::Dead => None,
        true => {
            let (client, theirs) = pair()?;
            let mode = AttachMode {
                stdin: options.stdin && view.spec.open_stdin,
                stdout: options.stdout,
                stderr: options.stderr,
            };
            handle.ask(|reply| Request::Attach { mode, socket: theirs, reply }).await?;
            Some(client)
        }
        false => None,
    };
    let detach = Some(Detach { shared: shared.clone(), view, exec: None });
    Ok(Attached { tty, log, stream, keys, end: None, detach })
}

/// A client's end of a stream, and the shim's.
pub(crate) fn pair() -> Result<(UnixStream, OwnedFd), Error> {
    let failed = || Error::failed("cannot make a stream");
    let (client, shim) = UnixStream::pair().map_err(failed())?;
    Ok((client, shim.into_std().map_err(failed())?.into()))
}

/// Finds the key sequence that detaches in a client's input.
///
/// Keys that begin the sequence are held back until it is clear that it doesn't go on.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    matched: usize,
}

impl DetachKeys {
    /// Reads Docker's notation: single characters and `ctrl-<value>`, with commas between.
    pub fn parse(text: &str) -> Result<DetachKeys, Error> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let sequence = text.split(',').map(key).collect::<Option<Vec<u8>>>();
        match sequence {
            Some(sequence) => Ok(DetachKeys { sequence, matched: 0 }),
            None => Err(Error::Invalid(format!("Invalid detach keys ({text}) provided"))),
        }
    }

    /// The bytes of the sequence.
    pub fn sequence(&self) -> &[u8] {
        &self.sequence
    }

    /// Passes input on. Returns what the container shall read and whether the client detaches (the rest is dropped then).
    pub fn filter(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut output = Vec::with_capacity(input.len());
        for &byte in input {
            if byte != self.sequence[self.matched] && self.matched > 0 {
                output.extend_from_slice(&self.sequence[..self.matched]);
                self.matched = 0;
            }
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (output, true);
                }
            } else {
                output.push(byte);
            }
        }
        (output, false)
    }
}

/// One key of the notation.
fn key(text: &str) -> Option<u8> {
    if let Some(control) = text.strip_prefix("ctrl-") {
        let [letter] = control.as_bytes() else { return None };
        return match letter.to_ascii_lowercase() {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        };
    }
    match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(keys: &str, inputs: &[&[u8]], expect: &[u8], detaches: bool) {
        let mut filter = DetachKeys::parse(keys).unwrap();
        let mut output = Vec::new();
        let mut detached = false;
        for input in inputs {
            let (passed, done) = filter.filter(input);
            output.extend(passed);
            detached |= done;
        }
        assert_eq!((output.as_slice(), detached), (expect, detaches));
    }

    #[test]
    fn the_sequence_detaches_and_nothing_else_is_lost() {
        check("", &[b"ls\n"], b"ls\n", false);
        check("", &[b"a\x10\x11"], b"a", true);
        check("", &[b"a\x10", b"\x11"], b"a", true);
        check("", &[b"\x10", b"x"], b"\x10x", false);
        check("", &[b"\x10\x10\x11"], b"\x10", true);
        check("ctrl-a,b,c", &[b"\x01b\x01bc"], b"\x01b", true);
        check("x", &[b"abx"], b"ab", true);
    }

    #[test]
    fn notations() {
        assert_eq!(key("ctrl-@"), Some(0));
        assert_eq!(key("ctrl-_"), Some(31));
        assert_eq!(key("ctrl-Z"), Some(26));
        for bad in ["ctrl-1", "ab", ""] {
            assert_eq!(key(bad), None, "{bad}");
        }
        assert!(DetachKeys::parse("ctrl-p,,").is_err());
    }
}
