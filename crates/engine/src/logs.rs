//! `logs` and the logged part of `attach`: lines of the log as one byte stream in Docker's format.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use corten_logs::{Cursor, Query, Stream};
use tokio::sync::watch;

use crate::blocking;
use crate::error::Error;
use crate::view::ContainerView;

/// What part of the log is wanted, and how it is written.
#[derive(Debug, Clone, Default)]
pub struct LogOptions {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Not before this time, nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Not after this time.
    pub until_ns: Option<i64>,
    /// The time in front of each line.
    pub timestamps: bool,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Go on until the container ends.
    pub follow: bool,
    /// Extra attributes in front of each line.
    pub details: bool,
}

/// Bytes that a client gets from the engine, in pieces: a log, or what an attached client's stream begins with. Dropping it ends it.
#[derive(Debug)]
pub struct LogStream {
    tty: bool,
    source: Source,
}

enum Source {
    Log(Box<Reader>),
    /// An execution, which is started when its client is ready for output; the bytes say why it could not be.
    Start(Option<Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Log(reader) => reader.fmt(f),
            Source::Start(_) => f.write_str("Start"),
        }
    }
}

/// A place in a container's log.
#[derive(Debug)]
struct Reader {
    cursor: Option<Cursor>,
    tty: bool,
    options: LogOptions,
    view: watch::Receiver<Arc<ContainerView>>,
}

impl LogStream {
    pub(crate) async fn open(
        view: watch::Receiver<Arc<ContainerView>>,
        options: LogOptions,
    ) -> Result<LogStream, Error> {
        let (path, tty) = {
            let now = view.borrow();
            (now.files.log.clone(), now.spec.tty)
        };
        if path.as_os_str().is_empty() {
            return Err(Error::NotImplemented("configured logging driver does not support reading: logs".into()));
        }
        let query = Query {
            tail: options.tail,
            since_ns: options.since_ns,
            until_ns: options.until_ns,
            stdout: options.stdout,
            stderr: options.stderr,
            follow: options.follow,
        };
        let cursor = blocking::run(move || Cursor::open(&path, query)).await?;
        let cursor = cursor.map_err(Error::failed("cannot read the log"))?;
        Ok(LogStream { tty, source: Source::Log(Box::new(Reader { cursor: Some(cursor), tty, options, view })) })
    }

    /// A stream that begins with doing something; what that returns is all there is to be read.
    pub(crate) fn starting(tty: bool, start: impl Future<Output = Option<Bytes>> + Send + 'static) -> LogStream {
        LogStream { tty, source: Source::Start(Some(Box::pin(start))) }
    }

    /// Whether the bytes are raw (a terminal's) or in Docker's frames.
    pub fn tty(&self) -> bool {
        self.tty
    }

    /// The next piece; none at the end. Cancelling the future may lose the piece it was reading.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match &mut self.source {
            Source::Log(reader) => reader.next().await,
            Source::Start(start) => start.take()?.await.map(Ok),
        }
    }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            let mut cursor = self.cursor.take()?;
            // Asked before reading: lines written up to the end are read before the stream ends.
            let ended = !self.options.follow || !self.view.borrow_and_update().state.has_process();
            let read = blocking::run(move || {
                let lines = cursor.read();
                (cursor, lines)
            });
            let (cursor, lines) = match read.await {
                Ok(read) => read,
                Err(error) => return Some(Err(error)),
            };
            match lines {
                Err(error) => return Some(Err(Error::failed("cannot read the log")(error))),
                Ok(lines) if !lines.is_empty() => {
                    self.cursor = Some(cursor);
                    return Some(Ok(self.format(&lines)));
                }
                Ok(_) if ended || cursor.is_past_until() => return None,
                Ok(_) => {
                    let changed = tokio::select! {
                        changed = cursor.changed() => changed,
                        _ = self.view.changed() => Ok(()),
                    };
                    if let Err(error) = changed {
                        return Some(Err(Error::failed("cannot watch the log")(error)));
                    }
                    self.cursor = Some(cursor);
                }
            }
        }
    }

    fn format(&self, lines: &[corten_logs::Line]) -> Bytes {
        let mut output = Vec::new();
        for line in lines {
            format_line(&mut output, line, self.tty, &self.options);
        }
        output.into()
    }
}

/// Writes one line as Docker's API does: frame header (without a terminal), time, attributes, text.
fn format_line(output: &mut Vec<u8>, line: &corten_logs::Line, tty: bool, options: &LogOptions) {
    let mut prefix = String::new();
    if options.timestamps {
        prefix.push_str(&corten_base::time::rfc3339_nano_fixed(corten_base::time::from_unix_nanos(line.time_ns)));
        prefix.push(' ');
    }
    if options.details {
        let details: Vec<String> = line.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect();
        prefix.push_str(&details.join(","));
        prefix.push(' ');
    }
    if !tty {
        let stream = if line.stream == Stream::Stderr { 2 } else { 1 };
        let length = (prefix.len() + line.text.len()) as u32;
        output.extend_from_slice(&[stream, 0, 0, 0]);
        output.extend_from_slice(&length.to_be_bytes());
    }
    output.extend_from_slice(prefix.as_bytes());
    output.extend_from_slice(&line.text);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stream: Stream) -> corten_logs::Line {
        corten_logs::Line { stream, time_ns: 1_000_000_001, text: b"hi\n".to_vec(), attributes: Default::default() }
    }

    #[test]
    fn frames_carry_stream_and_length() {
        let mut output = Vec::new();
        format_line(&mut output, &line(Stream::Stderr), false, &LogOptions::default());
        assert_eq!(output, b"\x02\0\0\0\0\0\0\x03hi\n");
    }

    #[test]
    fn a_terminal_is_raw_and_times_come_first() {
        let mut output = Vec::new();
        format_line(&mut output, &line(Stream::Stdout), true, &LogOptions { timestamps: true, ..Default::default() });
        assert_eq!(output, b"1970-01-01T00:00:01.000000001Z hi\n");
    }
}
