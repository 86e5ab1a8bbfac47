//! A reader's place in a rotated log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::entry::{Line, Stream};
use crate::error::Error;
use crate::tail::start_of_last_lines;
use crate::watch::Watch;

/// About so many bytes of a file are turned into lines by one [`Cursor::read`].
const PIECE: usize = 64 * 1024;
/// An entry longer than this isn't one: the shim cuts at 16 KiB, and JSON escapes make it six times as long at most.
const LONGEST_ENTRY: usize = 1024 * 1024;

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Only so many lines from the end; counted before the other conditions, as Docker does.
    pub tail: Option<u64>,
    /// Not before this time, nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Not after this time.
    pub until_ns: Option<i64>,
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// The reader is going to wait for more with [`Cursor::changed`].
    pub follow: bool,
}

/// A place in a log.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    query: Query,
    /// The file being read; none until the container writes its first line.
    current: Option<File>,
    /// Rotated files still to be read, the next one last.
    waiting: Vec<File>,
    buffer: Vec<u8>,
    past_until: bool,
    watch: Option<Watch>,
}

impl Cursor {
    /// Opens the log whose newest file is `path`, at the first line wanted. A log that isn't there yet is empty.
    /// With [`Query::follow`] this must happen on a thread of the tokio runtime.
    pub fn open(path: &Path, query: Query) -> Result<Cursor, Error> {
        let directory = path.parent().unwrap_or(Path::new("."));
        // The watch comes before the first read: what is written in between is noticed.
        let watch = match query.follow {
            true => Some(Watch::begin(directory).map_err(|source| Error::Watch { path: directory.into(), source })?),
            false => None,
        };
        let mut files = open_all(path).map_err(|source| Error::Read { path: path.into(), source })?;
        if let Some(tail) = query.tail {
            seek_to_tail(&mut files, tail).map_err(|source| Error::Read { path: path.into(), source })?;
        }
        // Newest first up to here: the oldest is read first.
        let current = files.pop();
        Ok(Cursor { path: path.into(), query, current, waiting: files, buffer: Vec::new(), past_until: false, watch })
    }

    /// Whether a line after [`Query::until_ns`] has been met: nothing wanted will come any more.
    pub fn is_past_until(&self) -> bool {
        self.past_until
    }

    /// The next lines that are there; empty at the present end. Blocks on the disk only.
    pub fn read(&mut self) -> Result<Vec<Line>, Error> {
        let mut lines = Vec::new();
        while lines.is_empty() && !self.past_until {
            let read = self.fill().map_err(|source| Error::Read { path: self.path.clone(), source })?;
            self.take_lines(&mut lines);
            if read == 0 && lines.is_empty() && !self.advance()? {
                break;
            }
        }
        Ok(lines)
    }

    /// Waits until there may be more to read. Needs [`Query::follow`]; without it, it waits for ever.
    pub async fn changed(&self) -> Result<(), Error> {
        match &self.watch {
            Some(watch) => watch.changed().await.map_err(|source| Error::Watch { path: self.path.clone(), source }),
            None => std::future::pending().await,
        }
    }

    /// Reads one piece behind what the buffer holds.
    fn fill(&mut self) -> io::Result<usize> {
        let Some(file) = &mut self.current else { return Ok(0) };
        let begin = self.buffer.len();
        self.buffer.resize(begin + PIECE, 0);
        let read = file.read(&mut self.buffer[begin..]);
        self.buffer.truncate(begin + read.as_ref().copied().unwrap_or(0));
        read
    }

    /// Turns the whole lines of the buffer into entries, and keeps a last half one.
    fn take_lines(&mut self, lines: &mut Vec<Line>) {
        let mut begin = 0;
        while let Some(length) = self.buffer[begin..].iter().position(|byte| *byte == b'\n') {
            let line = Line::parse(&self.buffer[begin..begin + length]);
            begin += length + 1;
            if let Some(line) = line {
                self.take(line, lines);
            }
        }
        self.buffer.drain(..begin);
        if self.buffer.len() > LONGEST_ENTRY {
            self.buffer.clear();
        }
        self.buffer.shrink_to(2 * PIECE);
    }

    fn take(&mut self, line: Line, lines: &mut Vec<Line>) {
        if self.query.until_ns.is_some_and(|until| line.time_ns > until) {
            self.past_until = true;
            return;
        }
        let wanted = match line.stream {
            Stream::Stdout => self.query.stdout,
            Stream::Stderr => self.query.stderr,
        };
        if wanted && self.query.since_ns.is_none_or(|since| line.time_ns >= since) {
            lines.push(line);
        }
    }

    /// At the end of a file: goes on to the next one. False when this is the newest, and its end.
    fn advance(&mut self) -> Result<bool, Error> {
        if let Some(next) = self.waiting.pop() {
            self.current = Some(next);
            self.buffer.clear();
            return Ok(true);
        }
        let failed = |source| Error::Read { path: self.path.clone(), source };
        let newer = files_newer_than(&self.path, self.current.as_ref()).map_err(failed)?;
        let Some((next, rest)) = newer else { return Ok(false) };
        // The file was rotated after we reached its end: there may be a last line that we haven't seen.
        if let Some(old) = &mut self.current {
            let position = old.stream_position().map_err(failed)?;
            if old.metadata().map_err(failed)?.len() > position {
                return Ok(true);
            }
        }
        self.current = Some(next);
        self.waiting = rest;
        self.buffer.clear();
        Ok(true)
    }
}

/// All files of the log that are there, newest first.
fn open_all(path: &Path) -> io::Result<Vec<File>> {
    let mut files = Vec::new();
    for index in 0.. {
        match File::open(numbered(path, index)) {
            Ok(file) => files.push(file),
            // The newest may be missing for the moment of a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound && index == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

fn numbered(path: &Path, index: u32) -> PathBuf {
    if index == 0 {
        return path.into();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{index}"));
    name.into()
}

/// Files that were begun after `current`, the oldest of them apart and the rest newest first. None if `current` is the newest.
/// A `current` that has been rotated out of existence has all files behind it.
fn files_newer_than(path: &Path, current: Option<&File>) -> io::Result<Option<(File, Vec<File>)>> {
    let Some(current) = current else {
        let mut files = open_all(path)?;
        return Ok(files.pop().map(|oldest| (oldest, files)));
    };
    let here = current.metadata()?;
    // The common case costs one stat: nothing was rotated.
    match std::fs::metadata(path) {
        Ok(newest) if same_file(&newest, &here) => return Ok(None),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut newer = Vec::new();
    for file in open_all(path)? {
        if same_file(&file.metadata()?, &here) {
            break;
        }
        newer.push(file);
    }
    Ok(newer.pop().map(|oldest| (oldest, newer)))
}

fn same_file(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    one.ino() == other.ino() && one.dev() == other.dev()
}

/// Places the files (newest first) so that the last `tail` lines are left to read, and drops those before.
fn seek_to_tail(files: &mut Vec<File>, tail: u64) -> io::Result<()> {
    let mut wanted = tail;
    let mut keep = 0;
    for file in files.iter_mut() {
        let length = file.metadata()?.len();
        let (offset, lines) = start_of_last_lines(file, length, wanted)?;
        file.seek(SeekFrom::Start(offset))?;
        wanted -= lines;
        keep += 1;
        if wanted == 0 {
            break;
        }
    }
    files.truncate(keep);
    Ok(())
}

#[cfg(test)]
#[path = "cursor_tests.rs"]
mod tests;
