//! Docker's json-file log: one JSON object per line of output, files rotated by size.
//!
//! ```text
//! {"log":"hello\n","stream":"stdout","time":"2026-11-21T01:02:03.123456789Z"}
//! ```
//!
//! A line is split every 16 KiB; the pieces but the last carry no line feed and all carry the first one's time. What is
//! left without a line feed at the end of the stream is written as it is. `<file>.1` is the newest rotated file.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, fstat, openat, renameat, unlinkat};

use crate::protocol::LogConfig;
use crate::time::{now_ns, rfc3339_nano};

/// Docker's buffer: no entry holds more bytes of output.
const MAX_ENTRY: usize = 16 * 1024;

/// Names of the streams, as the entries carry them.
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// An open log.
#[derive(Debug)]
pub(crate) struct JsonLog {
    directory: OwnedFd,
    name: String,
    max_size: Option<u64>,
    max_files: u32,
    attributes: String,
    file: OwnedFd,
    size: u64,
    lines: [Line; 2],
    pending: Vec<u8>,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
struct Line {
    bytes: Vec<u8>,
    /// Time of the first piece of a line that was split.
    partial_since: Option<u64>,
}

impl JsonLog {
    /// Opens the configured log below `directory`; none if nothing is to be logged.
    pub(crate) fn open(directory: OwnedFd, config: &LogConfig) -> io::Result<Option<JsonLog>> {
        let LogConfig::JsonFile { file, max_size, max_files, attrs } = config else { return Ok(None) };
        if file.is_empty() || file.contains('/') {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let opened = open_file(directory.as_fd(), file)?;
        Ok(Some(JsonLog {
            size: fstat(&opened)?.st_size as u64,
            directory,
            name: file.clone(),
            max_size: *max_size,
            max_files: (*max_files).max(1),
            attributes: attributes(attrs),
            file: opened,
            lines: Default::default(),
            pending: Vec::new(),
        }))
    }

    /// Records output of stream 0 (stdout) or 1 (stderr).
    pub(crate) fn write(&mut self, stream: usize, output: &[u8]) {
        self.write_at(stream, output, now_ns());
    }

    fn write_at(&mut self, stream: usize, mut output: &[u8], now: u64) {
        while !output.is_empty() {
            let room = MAX_ENTRY - self.lines[stream].bytes.len();
            let window = &output[..output.len().min(room)];
            let end = window.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(window.len(), |end| end + 1);
            self.lines[stream].bytes.extend_from_slice(&output[..taken]);
            output = &output[taken..];
            if end.is_some() || self.lines[stream].bytes.len() == MAX_ENTRY {
                self.entry(stream, end.is_none(), now);
            }
        }
        self.flush();
    }

    /// Records what is left of both streams.
    pub(crate) fn finish(&mut self) {
        for stream in 0..2 {
            if !self.lines[stream].bytes.is_empty() {
                self.entry(stream, true, now_ns());
            }
        }
        self.flush();
    }

    fn entry(&mut self, stream: usize, partial: bool, now: u64) {
        let line = &mut self.lines[stream];
        let time = line.partial_since.unwrap_or(now);
        line.partial_since = partial.then_some(time);
        let bytes = std::mem::take(&mut line.bytes);
        self.rotate_if_full();
        self.pending.extend_from_slice(b"{\"log\":");
        escape(&mut self.pending, &bytes);
        let rest =
            format!(",\"stream\":\"{}\"{},\"time\":\"{}\"}}\n", STREAMS[stream], self.attributes, rfc3339_nano(time));
        self.pending.extend_from_slice(rest.as_bytes());
        // The buffer is kept for the next line.
        self.lines[stream].bytes = bytes;
        self.lines[stream].bytes.clear();
    }

    /// A full disk loses output, as with Docker: the container goes on.
    fn flush(&mut self) {
        let mut rest = &self.pending[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.file, rest) {
                Ok(length) => {
                    self.size += length as u64;
                    rest = &rest[length..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        self.pending.clear();
    }

    fn rotate_if_full(&mut self) {
        if self.max_size.is_some_and(|max| self.size + self.pending.len() as u64 >= max) {
            self.flush();
            // If it fails the present file grows on.
            let _ = self.rotate();
        }
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.max_files < 2 {
            unlinkat(&self.directory, &*self.name, AtFlags::empty())?;
        } else {
            for number in (1..self.max_files - 1).rev() {
                let (from, to) = (format!("{}.{number}", self.name), format!("{}.{}", self.name, number + 1));
                let _ = renameat(&self.directory, from, &self.directory, to);
            }
            renameat(&self.directory, &*self.name, &self.directory, format!("{}.1", self.name))?;
        }
        self.file = open_file(self.directory.as_fd(), &self.name)?;
        self.size = 0;
        Ok(())
    }
}

fn open_file(directory: BorrowedFd<'_>, name: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(openat(directory, name, flags, Mode::from_raw_mode(0o640))?)
}

/// `,"attrs":{..}` or nothing.
fn attributes(attributes: &BTreeMap<String, String>) -> String {
    if attributes.is_empty() {
        return String::new();
    }
    serde_json::to_string(attributes).map_or(String::new(), |text| format!(",\"attrs\":{text}"))
}

/// A JSON string as Go writes it: `<`, `>`, `&` and the line separators escaped, bytes that are no UTF-8 replaced.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        escape_text(out, chunk.valid());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn escape_text(out: &mut Vec<u8>, text: &str) {
    let mut plain = 0;
    for (at, letter) in text.char_indices() {
        let code;
        let replacement = match letter {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                code = format!("\\u{:04x}", letter as u32);
                &code
            }
            _ => continue,
        };
        out.extend_from_slice(&text.as_bytes()[plain..at]);
        out.extend_from_slice(replacement.as_bytes());
        plain = at + letter.len_utf8();
    }
    out.extend_from_slice(&text.as_bytes()[plain..]);
}

#[cfg(test)]
#[path = "json_log_tests.rs"]
mod tests;
