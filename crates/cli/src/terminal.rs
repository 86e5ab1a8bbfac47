//! The user's terminal: its size, and raw mode that is undone on every way out.

use std::io::{IsTerminal as _, stdin, stdout};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

const DEFAULT_WIDTH: usize = 80;

/// Height and width in characters, of the terminal that standard output is; none when it is something else.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row != 0 || size.ws_col != 0).then_some((size.ws_row, size.ws_col))
}

/// The width that help pages are wrapped to.
pub(crate) fn help_width() -> usize {
    width().unwrap_or(DEFAULT_WIDTH)
}

/// The terminal's width; none when standard output is no terminal.
pub(crate) fn width() -> Option<usize> {
    size().map(|(_, columns)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    stdout().is_terminal()
}

/// Raw mode of the terminal on standard input; dropping it restores what was.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches to raw mode. None when standard input is no terminal.
    pub fn enter() -> Option<RawMode> {
        let before = tcgetattr(stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).ok()?;
        Some(RawMode { before })
    }
}

/// A terminal on standard input that doesn't show what is typed; dropping it restores what was.
#[derive(Debug)]
pub(crate) struct Silence {
    before: Termios,
}

impl Silence {
    /// Stops the echo. None when standard input is no terminal.
    pub fn begin() -> Option<Silence> {
        let before = tcgetattr(stdin()).ok()?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(stdin(), OptionalActions::Now, &silent).ok()?;
        Some(Silence { before })
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone away needs no restoring.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}
