//! Progress of pulls and loads: lines that are rewritten in place on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::BufRead;

use corten_api_types::{JsonMessage, ProgressDetail, decode};
use corten_base::units::human_size;
use serde_json::Value;

use crate::failure::{Failure, Outcome, local};
use crate::streams::{Sink, write_plain};
use crate::terminal;

/// Shows the daemon's messages until they end. A failure among them is the outcome. `None`: show nothing.
pub(crate) fn show(stream: impl BufRead, sink: Option<Sink>) -> Outcome {
    show_with(stream, sink, |_| {})
}

/// The same; `take` gets what is meant for programs.
pub(crate) fn show_with(stream: impl BufRead, sink: Option<Sink>, mut take: impl FnMut(&Value)) -> Outcome {
    let width = terminal::width().filter(|_| sink == Some(Sink::Stdout) || stderr_is_terminal());
    let mut display = Display { width, lines: HashMap::new() };
    for line in stream.split(b'\n') {
        let line = line.map_err(local("reading the daemon's progress"))?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let message: JsonMessage =
            decode(&line).map_err(|error| Failure::message(format!("cannot read the daemon's progress: {error}")))?;
        if let Some(failure) = failure_of(&message) {
            return Err(failure);
        }
        if let Some(aux) = &message.aux {
            take(aux);
        }
        if let Some(sink) = sink {
            write_plain(sink, display.render(&message).as_bytes())?;
        }
    }
    Ok(())
}

fn stderr_is_terminal() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal()
}

fn failure_of(message: &JsonMessage) -> Option<Failure> {
    let detail = message.error_detail.as_ref().map(|detail| detail.message.as_str()).filter(|text| !text.is_empty());
    let text = detail.or(Some(message.error.as_str())).filter(|text| !text.is_empty())?;
    Some(Failure::message(text))
}

struct Display {
    /// The terminal's width; none when it is no terminal.
    width: Option<usize>,
    /// On which line, counted from the first, each id is shown.
    lines: HashMap<String, usize>,
}

impl Display {
    fn render(&mut self, message: &JsonMessage) -> String {
        if !message.stream.is_empty() {
            return message.stream.clone();
        }
        if message.status.is_empty() {
            return String::new();
        }
        let head = if message.id.is_empty() { String::new() } else { format!("{}: ", message.id) };
        let text = format!("{head}{}", message.status);
        let Some(width) = self.width else {
            let counts = message.progress_detail.as_ref().is_some_and(|detail| !detail.bar().is_empty());
            return if counts { String::new() } else { format!("{text}\n") };
        };
        let text = match &message.progress_detail {
            Some(detail) => format!("{text} {}", bar(detail, width.saturating_sub(text.chars().count() + 2))),
            None => text,
        };
        self.place(message, text.trim_end())
    }

    /// Rewrites the line of this id, or begins a new one.
    fn place(&mut self, message: &JsonMessage, text: &str) -> String {
        if message.id.is_empty() || message.progress_detail.is_none() {
            // Anything else ends the block of lines that can be rewritten.
            self.lines.clear();
            return format!("{text}\n");
        }
        let total = self.lines.len();
        let mut output = String::new();
        match self.lines.get(&message.id) {
            Some(line) => {
                let up = total - line;
                let _ = write!(output, "\x1b[{up}A\x1b[2K\r{text}\r\x1b[{up}B");
            }
            None => {
                self.lines.insert(message.id.clone(), total);
                let _ = writeln!(output, "\x1b[2K{text}");
            }
        }
        output
    }
}

/// `[=====>     ]  1.2MB/3.4MB`, as wide as there is room for; counts alone when there is little.
fn bar(detail: &ProgressDetail, room: usize) -> String {
    const WIDEST: usize = 50;
    const NARROWEST: usize = 10;
    if detail.current == 0 && detail.total == 0 {
        return String::new();
    }
    let counts = match detail.total {
        0 => format!("{:>8}", human_size(detail.current)),
        total if detail.current > total => format!("{:>8}", human_size(detail.current)),
        total => format!("{:>8}/{}", human_size(detail.current), human_size(total)),
    };
    let width = room.saturating_sub(counts.len() + 4).min(WIDEST);
    if detail.total == 0 || width < NARROWEST {
        return counts;
    }
    let done = (u128::from(detail.current) * width as u128 / u128::from(detail.total)).min(width as u128) as usize;
    format!("[{}>{}] {counts}", "=".repeat(done), " ".repeat(width - done))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detail(current: u64, total: u64) -> ProgressDetail {
        ProgressDetail { current, total, ..ProgressDetail::default() }
    }

    #[test]
    fn plain_lines() {
        let mut display = Display { width: None, lines: HashMap::new() };
        assert_eq!(display.render(&JsonMessage::status("latest", "Pulling from x")), "latest: Pulling from x\n");
        assert_eq!(display.render(&JsonMessage::progress("a", "Downloading", detail(5, 10))), "");
        assert_eq!(display.render(&JsonMessage::progress("a", "Pull complete", detail(0, 0))), "a: Pull complete\n");
        assert_eq!(display.render(&JsonMessage::stream("Loaded image: x\n")), "Loaded image: x\n");
    }

    #[test]
    fn rewritten_lines() {
        let mut display = Display { width: Some(40), lines: HashMap::new() };
        assert_eq!(display.render(&JsonMessage::progress("a", "Wait", detail(0, 0))), "\x1b[2Ka: Wait\n");
        assert_eq!(display.render(&JsonMessage::progress("b", "Wait", detail(0, 0))), "\x1b[2Kb: Wait\n");
        let shown = display.render(&JsonMessage::progress("a", "Get", detail(5, 10)));
        assert_eq!(shown, "\x1b[2A\x1b[2K\ra: Get [========>        ]       5B/10B\r\x1b[2B");
        assert_eq!(display.render(&JsonMessage::status("", "Status: done")), "Status: done\n");
    }

    #[test]
    fn bars_fit() {
        assert_eq!(bar(&detail(1, 2), 5), "      1B/2B");
        assert_eq!(bar(&detail(7, 0), 80), "      7B");
        assert!(bar(&detail(u64::MAX, u64::MAX), 200).starts_with("[====="));
    }
}
