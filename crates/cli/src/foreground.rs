//! A container in the foreground: attach, wait, start and stream, for `run`, `start -a` and `attach`.
//!
//! Attach and wait are sent at once on connections of their own, and start follows when the daemon has agreed to both: the
//! container's first byte and its exit can't be missed, and no round trip is waited for twice.

use std::io::Read as _;

use corten_api_types::WaitResponse;
use corten_base::signal;
use corten_client::{Client, Hijacked, Request, Response};

use crate::container::Streams;
use crate::failure::{Failure, Outcome, local};
use crate::matches::Matches;
use crate::session::Session;
use crate::signals::{Signals, WINDOW_CHANGED};
use crate::streams::{self, DetachKeys, End};
use crate::terminal::{self, RawMode};

/// What a foreground session is to do.
pub(crate) struct Foreground<'a> {
    pub client: &'a Client,
    pub id: &'a str,
    pub streams: Streams,
    pub has_terminal: bool,
    pub forwards_signals: bool,
    pub detach_keys: Keys,
}

/// The detach sequence as the user wrote it, and as it is recognised.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    pub text: String,
    parsed: DetachKeys,
}

impl Keys {
    /// From `--detach-keys`, else the configuration file, else Docker's default. A sequence that can't be read is warned of.
    pub fn choose(session: &Session, matches: &Matches) -> Keys {
        let text = matches.get("detach-keys").or(session.config().detach_keys.as_deref()).unwrap_or_default();
        if text.is_empty() {
            return Keys { text: String::new(), parsed: DetachKeys::default() };
        }
        match DetachKeys::parse(text) {
            Ok(parsed) => Keys { text: text.to_owned(), parsed },
            Err(error) => {
                crate::args::report(&format!("WARNING: invalid detach escape keys, using default: {error}"));
                Keys { text: String::new(), parsed: DetachKeys::default() }
            }
        }
    }
}

/// Terminals belong to terminals: refuses to give a container one when input comes from elsewhere.
pub(crate) fn check_terminal(attaches_stdin: bool, has_terminal: bool) -> Outcome {
    if attaches_stdin && has_terminal && !terminal::stdin_is_terminal() {
        return Err(Failure::message("the input device is not a TTY"));
    }
    Ok(())
}

impl<'a> Foreground<'a> {
    /// The attach request for the streams wanted.
    pub fn attach_request(&self) -> Request<'a> {
        self.client
            .post(&format!("/containers/{}/attach", self.id))
            .query_if("detachKeys", Some(&self.detach_keys.text))
            .flag("stderr", self.streams.stderr)
            .flag("stdin", self.streams.stdin)
            .flag("stdout", self.streams.stdout)
            .query("stream", "1")
    }

    /// Attaches to a container that is not running yet, starts it, and stays until it exits. Returns its exit status, none
    /// when the user detached.
    pub fn start(&self, condition: &str) -> Outcome<Option<i64>> {
        let signals = self.watch_signals()?;
        let attached = (self.streams.stdin || self.streams.stdout || self.streams.stderr)
            .then(|| self.attach_request().start_hijack())
            .transpose()?;
        let waiting = wait_request(self.client, self.id, condition).start()?;
        let attached = attached.map(|pending| pending.receive_hijacked()).transpose()?;
        let waiting = waiting.receive()?;
        self.client.post(&format!("/containers/{}/start", self.id)).send()?.discard()?;
        let end = match attached {
            Some(attached) => self.stream(attached, signals.as_ref(), &resize_path("containers", self.id))?,
            None => End::Finished,
        };
        match end {
            End::Finished => self.exit_status(waiting, signals.as_ref()).map(Some),
            End::Detached => Ok(None),
        }
    }

    /// Signals are caught when they are to be forwarded, or when there is a terminal to restore and to watch.
    pub fn watch_signals(&self) -> Outcome<Option<Signals>> {
        match (self.forwards_signals, self.has_terminal) {
            (true, _) => Signals::forwardable().map(Some),
            (false, true) => Signals::own().map(Some),
            (false, false) => Ok(None),
        }
    }

    /// Carries bytes until the streams end. `resize` is where the terminal's size is reported.
    pub fn stream(&self, attached: Hijacked, signals: Option<&Signals>, resize: &str) -> Outcome<End> {
        let uses_terminal = self.has_terminal && self.streams.stdin;
        let raw_mode = if uses_terminal { RawMode::enter() } else { None };
        if self.has_terminal {
            report_size(self.client, resize);
        }
        let session = streams::Session {
            is_raw: self.has_terminal,
            forwards_input: self.streams.stdin,
            detach_keys: uses_terminal.then(|| self.detach_keys.parsed.clone()),
            signals,
            on_signal: &|number| self.serve(number, resize),
        };
        let end = streams::pump(attached, session);
        drop(raw_mode);
        end
    }

    fn serve(&self, number: i32, resize: &str) -> Outcome {
        match number {
            WINDOW_CHANGED if self.has_terminal => report_size(self.client, resize),
            _ if self.forwards_signals => {
                let kill = self.client.post(&format!("/containers/{}/kill", self.id));
                // The container may not run yet or any more: then there is nobody to signal.
                let _ = kill.query("signal", &signal_name(number)).send().and_then(|response| response.discard());
            }
            WINDOW_CHANGED => {}
            // Not forwarded: it is meant for this program, which ends as the signal would have ended it.
            number => return Err(Failure::Status(u8::try_from(128 + number).unwrap_or(1))),
        }
        Ok(())
    }

    /// Waits for the answer of `wait`, forwarding signals meanwhile.
    fn exit_status(&self, mut waiting: Response<'_>, signals: Option<&Signals>) -> Outcome<i64> {
        let resize = resize_path("containers", self.id);
        while let (Some(signals), false, Some(fd)) = (signals, waiting.has_buffered(), waiting.poll_fd()) {
            use rustix::event::{PollFd, PollFlags, poll};
            let mut fds =
                [PollFd::from_borrowed_fd(fd, PollFlags::IN), PollFd::from_borrowed_fd(signals.fd(), PollFlags::IN)];
            // An interrupted poll is tried again by the loop; the events are empty then.
            let _ = poll(&mut fds, None);
            let is_answered = !fds[0].revents().is_empty();
            while let Some(number) = signals.take() {
                self.serve(number, &resize)?;
            }
            if is_answered {
                break;
            }
        }
        let mut body = Vec::new();
        waiting.read_to_end(&mut body).map_err(local("waiting for the container"))?;
        parse_wait(&body)
    }
}

/// Starts waiting; the daemon answers the head at once and the body at the exit.
pub(crate) fn wait_request<'a>(client: &'a Client, id: &str, condition: &str) -> Request<'a> {
    client.post(&format!("/containers/{id}/wait")).query_if("condition", Some(condition))
}

fn parse_wait(body: &[u8]) -> Outcome<i64> {
    let answer: WaitResponse = corten_api_types::decode(body)
        .map_err(|error| Failure::message(format!("Error waiting for container: {error}")))?;
    match answer.error.filter(|error| !error.message.is_empty()) {
        Some(error) => {
            Err(Failure::Message { text: format!("Error waiting for container: {}", error.message), status: 125 })
        }
        None => Ok(answer.status_code),
    }
}

/// The path of a container's or exec's resize call.
pub(crate) fn resize_path(kind: &str, id: &str) -> String {
    format!("/{kind}/{id}/resize")
}

/// Tells the daemon how large the terminal is. A failure costs only the layout.
pub(crate) fn report_size(client: &Client, path: &str) {
    if let Some((height, width)) = terminal::size() {
        let request = client.post(path).query("h", &height.to_string()).query("w", &width.to_string());
        let _ = request.send().and_then(|response| response.discard());
    }
}

/// A signal as the API takes it.
fn signal_name(number: i32) -> String {
    let name = signal::name(number);
    name.strip_prefix("SIG").map_or_else(|| number.to_string(), str::to_owned)
}

/// Ends the program as the container ended.
pub(crate) fn exit_with(status: i64) -> Outcome {
    match status {
        0 => Ok(()),
        status => Err(Failure::Status(u8::try_from(status & 0xff).unwrap_or(1))),
    }
}
