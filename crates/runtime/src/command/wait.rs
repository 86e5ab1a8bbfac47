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
pub(super) fn watch_signals(no_subreaper: bool) -> Result<OwnedFd> {
    let passed: Vec<i32> = (1..=64).filter(|number| !matches!(number, 9 | 19 | 32 | 33)).collect();
    if !no_subreaper {
        process::become_subreaper().map_err(Error::doing("prctl"))?;
    }
    signal::watch(&passed).map_err(Error::doing("signalfd"))
}

/// Serves the program until it ends; its exit code, or 128 + n after signal n.
pub(super) fn foreground(launched: &Launched, mut console: Option<Console>, signals: Option<&OwnedFd>) -> Result<u8> {
    loop {
        let ready = wait(launched, console.as_ref(), signals)?;
        if let (Some(true), Some(signals)) = (ready.signals, signals) {
            pass_on(launched, signals, console.as_ref());
        }
        if let Some(console) = &mut console {
            if ready.input {
                console.copy_input();
            }
            if ready.output && !console.copy_output() && !ready.ended {
                // Nothing more will come from there; the end is still to be waited for.
                return end(launched);
            }
        }
        if ready.ended {
            while console.as_ref().is_some_and(has_output) && console.as_ref().is_some_and(Console::copy_output) {}
            return end(launched);
        }
    }
}

fn end(launched: &Launched) -> Result<u8> {
    let ended = process::reap(launched.pid).map_err(Error::doing("waitpid"))?;
    // Orphans that came here end with this process.
    Ok(u8::try_from(ended.code).unwrap_or(255))
}

struct Ready {
    ended: bool,
    signals: Option<bool>,
    output: bool,
    input: bool,
}

fn wait(launched: &Launched, console: Option<&Console>, signals: Option<&OwnedFd>) -> Result<Ready> {
    let mut fds = vec![PollFd::new(&launched.pidfd, PollFlags::IN)];
    fds.extend(signals.map(|signals| PollFd::new(signals, PollFlags::IN)));
    let sources = console.map(Console::sources).unwrap_or_default();
    fds.extend(sources.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).map_err(Error::doing("poll"))?;
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok(Ready {
        ended: ready.next().unwrap_or(false),
        signals: signals.and_then(|_| ready.next()),
        output: ready.next().unwrap_or(false),
        input: ready.next().unwrap_or(false),
    })
}

fn has_output(console: &Console) -> bool {
    let sources = console.sources();
    let Some((fd, flags)) = sources.first() else { return false };
    let mut fds = [PollFd::new(fd, *flags)];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0) && fds[0].revents().contains(PollFlags::IN)
}

fn pass_on(launched: &Launched, signals: &OwnedFd, console: Option<&Console>) {
    while let Some(number) = signal::next(signals.as_fd()) {
        match (number, console) {
            (SIGWINCH, Some(console)) => console.follow_size(),
            (SIGCHLD | SIGURG, _) => {}
            _ => {
                let _ = process::signal_pidfd(launched.pidfd.as_fd(), number);
            }
        }
    }
}
