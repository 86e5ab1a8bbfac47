//! Waiting for a program in the foreground: signals go to it, its terminal is served, its exit code is the result.

use std::os::fd::{AsFd, OwnedFd};

use corten_sys::{process, signal};
use rustix::event::{PollFd, PollFlags, poll};

use super::error::{Error, Result};
use super::launch::Launched;
use super::terminal::Console;

const SIGCHLD: i32 = 17;
const SIGURG: i32 = 23;
const SIGWINCH: i32 = 28;

/// Blocks the signals that are to be passed on, before there is anybody to pass them to.
pub(super) fn watch_signals() -> Result<OwnedFd> {
    let passed: Vec<i32> = (1..=64).filter(|number| !matches!(number, 9 | 19 | 32 | 33)).collect();
    signal::watch(&passed).map_err(Error::doing("signalfd"))
}

/// Serves the program until it ends; its exit code, or 128 + n after signal n.
pub(super) fn foreground(launched: &Launched, mut console: Option<Console>, signals: Option<&OwnedFd>) -> Result<u8> {
    let mut code = None;
    loop {
        let ready = wait(launched, console.as_ref(), signals)?;
        if let Some(signals) = signals.filter(|_| ready.signals) {
            code = pass_on(launched, signals, console.as_ref())?.or(code);
        }
        if let Some(console) = &mut console {
            if ready.input {
                console.copy_input();
            }
            if ready.output {
                console.copy_output();
            }
        }
        if ready.ended {
            while let Some(console) = console.as_mut().filter(|console| console.has_output()) {
                console.copy_output();
            }
            let code = code.map_or_else(|| process::reap(launched.pid).map(|ended| ended.code), Ok);
            return Ok(u8::try_from(code.map_err(Error::doing("waitpid"))?).unwrap_or(255));
        }
    }
}

#[derive(Default)]
struct Ready {
    ended: bool,
    signals: bool,
    output: bool,
    input: bool,
}

fn wait(launched: &Launched, console: Option<&Console>, signals: Option<&OwnedFd>) -> Result<Ready> {
    let mut fds = vec![PollFd::new(&launched.pidfd, PollFlags::IN)];
    let mut marks: Vec<fn(&mut Ready)> = vec![|ready| ready.ended = true];
    if let Some(signals) = signals {
        fds.push(PollFd::new(signals, PollFlags::IN));
        marks.push(|ready| ready.signals = true);
    }
    let (output, input) = console.map(Console::sources).unwrap_or_default();
    if let Some(output) = &output {
        fds.push(PollFd::new(output, PollFlags::IN));
        marks.push(|ready| ready.output = true);
    }
    if let Some(input) = &input {
        fds.push(PollFd::new(input, PollFlags::IN));
        marks.push(|ready| ready.input = true);
    }
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).map_err(Error::doing("poll"))?;
    let mut ready = Ready::default();
    fds.iter().zip(marks).filter(|(fd, _)| !fd.revents().is_empty()).for_each(|(_, mark)| mark(&mut ready));
    Ok(ready)
}

/// Hands signals on. Children that have ended are reaped, orphans that were given to this process among them; the
/// program's exit code, if it was one of them.
fn pass_on(launched: &Launched, signals: &OwnedFd, console: Option<&Console>) -> Result<Option<i32>> {
    let mut code = None;
    while let Some(number) = signal::next(signals.as_fd()) {
        match (number, console) {
            (SIGWINCH, Some(console)) => console.follow_size(),
            (SIGCHLD, _) => {
                while let Some(ended) = process::reap_any().map_err(Error::doing("waitpid"))? {
                    code = if ended.pid == launched.pid { Some(ended.code) } else { code };
                }
            }
            (SIGURG, _) => {}
            _ => {
                let _ = process::signal_pidfd(launched.pidfd.as_fd(), number);
            }
        }
    }
    Ok(code)
}
