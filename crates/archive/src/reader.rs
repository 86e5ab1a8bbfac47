//! A tar stream as entries and their data.

use crate::header::{Dialect, Entry, Header, Kind};
use crate::pax::Records;
use crate::source::{BLOCK, Source};
use crate::sparse::{self, Segment};
use crate::{Error, Result};
use corten_base::{Digest, Digester};
use std::io::{self, Read};

/// The most that an extension header or a long name may take, as in Go's archive/tar.
const LONGEST_EXTENSION: u64 = 1 << 20;

/// How large an archive may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the uncompressed stream.
    pub max_bytes: u64,
    /// Headers, those of extensions included.
    pub max_entries: u64,
    /// What is made on the disk of them: entries, and the directories that they imply.
    pub max_files: u64,
    /// What is kept in memory of directories until the end.
    pub max_kept_bytes: u64,
}

impl Default for Limits {
    /// A tebibyte and ten million entries, 128 MiB for directories (about 700,000 of them).
    fn default() -> Limits {
        Limits { max_bytes: 1 << 40, max_entries: 10_000_000, max_files: 10_000_000, max_kept_bytes: 128 << 20 }
    }
}

/// Reads a tar entry by entry. The data of the current entry is read through [`Read`], holes as zeros.
///
/// The end of the archive is two zero blocks or, as other readers accept too, the end of the stream between two entries.
/// Global extension headers are passed over, as Docker does.
pub struct Reader<R> {
    source: Source<R>,
    limits: Limits,
    headers: u64,
    ended: bool,
    /// Stored bytes of the current entry that were not handed out, and the padding behind them.
    stored: u64,
    padding: u64,
    /// The current entry's remaining map in reverse, where the data goes next, and the file's size.
    segments: Vec<Segment>,
    offset: u64,
    size: u64,
}

impl<R: Read> Reader<R> {
    /// Reads an uncompressed tar.
    pub fn new(inner: R, limits: Limits) -> Reader<R> {
        Reader::with_source(Source::new(inner, limits.max_bytes, None), limits)
    }

    /// The same, hashing the whole stream on the way; see [`Reader::finish`].
    pub fn hashing(inner: R, limits: Limits) -> Reader<R> {
        Reader::with_source(Source::new(inner, limits.max_bytes, Some(Digester::sha256())), limits)
    }

    fn with_source(source: Source<R>, limits: Limits) -> Reader<R> {
        Reader {
            source,
            limits,
            headers: 0,
            ended: false,
            stored: 0,
            padding: 0,
            segments: Vec::new(),
            offset: 0,
            size: 0,
        }
    }

    /// The next entry, passing over what was not read of the current one; none at the end.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        if self.ended {
            return Ok(None);
        }
        self.skip_data()?;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.source.position();
            let Some(block) = self.header_block()? else {
                self.ended = true;
                return if extensions.any { Err(Error::Truncated("an entry")) } else { Ok(None) };
            };
            self.headers += 1;
            if self.headers > self.limits.max_entries {
                return Err(Error::Limit { what: "entries", limit: self.limits.max_entries });
            }
            let fault = |reason| Error::Header { offset, reason };
            let header = Header::new(&block).map_err(fault)?;
            match header.flag() {
                flag @ (b'x' | b'g' | b'L' | b'K') => self.read_extension(flag, &header, &mut extensions, offset)?,
                _ => return self.read_entry(&header, extensions, offset).map(Some),
            }
        }
    }

    /// The next block, unless the archive ends here.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let Some(block) = self.source.block()? else { return Ok(None) };
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        let offset = self.source.position();
        match self.source.block()? {
            Some(block) if block != [0; BLOCK] => Err(Error::Header { offset, reason: "it follows a zero block" }),
            _ => Ok(None),
        }
    }

    fn read_extension(&mut self, flag: u8, header: &Header, into: &mut Extensions, offset: u64) -> Result<()> {
        let fault = |reason| Error::Header { offset, reason };
        let size = header.size().map_err(fault)?;
        if size > LONGEST_EXTENSION {
            return Err(fault("an extension is longer than 1 MiB"));
        }
        let data = self.source.bytes(size as usize, "an extension header")?;
        self.source.skip(padding(size), "an extension header")?;
        match flag {
            b'x' => into.records = Records::parse(&data).map_err(fault)?,
            b'L' => into.name = Some(until_nul(data)),
            b'K' => into.link = Some(until_nul(data)),
            _ => {
                Records::parse(&data).map_err(fault)?;
                return Ok(());
            }
        }
        into.any = true;
        Ok(())
    }

    fn read_entry(&mut self, header: &Header, extensions: Extensions, offset: u64) -> Result<Entry> {
        let fault = |reason| Error::Header { offset, reason };
        let flag = header.flag();
        let mut entry = header.entry(kind(flag).map_err(fault)?).map_err(fault)?;
        let mut records = extensions.records;
        if let Some(path) = extensions.name.or(records.sparse.name.take()).or(records.path.take()) {
            entry.path = path;
        }
        if let Some(link) = extensions.link.or(records.link.take()) {
            entry.link = link;
        }
        if entry.kind == Kind::File && flag != b'S' && entry.path.ends_with(b"/") {
            entry.kind = Kind::Directory;
        }
        // Only files have data. A size on anything else is ignored, as in Go: the next block is the next header.
        if entry.kind == Kind::File {
            let stored = match records.size {
                Some(size) => size,
                None => header.size().map_err(fault)?,
            };
            self.begin_data(header, &mut entry, &records, stored, offset)?;
        }
        records.apply(&mut entry);
        Ok(entry)
    }

    /// Sets up the data of a file of which `stored` bytes follow.
    fn begin_data(
        &mut self,
        header: &Header,
        entry: &mut Entry,
        records: &Records,
        stored: u64,
        offset: u64,
    ) -> Result<()> {
        let fault = |reason| Error::Header { offset, reason };
        if i64::try_from(stored).is_err() {
            return Err(fault("the size is out of range"));
        }
        self.stored = stored;
        self.padding = padding(stored);
        let (segments, size) = match (&records.sparse, header.flag()) {
            (_, b'S') => {
                let (slots, size) = header.sparse().map_err(fault)?;
                (sparse::read_gnu(&mut self.source, slots)?, size)
            }
            (records, _) if records.version == (1, 0) => {
                let size = records.size.ok_or(fault("a sparse file without a size"))?;
                let (segments, taken) = sparse::read_pax(&mut self.source, stored)?;
                self.stored -= taken;
                (segments, size)
            }
            (records, _) if records.map.is_some() && header.dialect != Dialect::Gnu => {
                let size = records.size.ok_or(fault("a sparse file without a size"))?;
                (sparse::from_pairs(records.map.as_deref().unwrap_or_default()).map_err(fault)?, size)
            }
            _ => {
                entry.size = stored;
                (self.segments, self.offset, self.size) = (Vec::new(), 0, stored);
                if stored > 0 {
                    self.segments.push(Segment { offset: 0, length: stored });
                }
                return Ok(());
            }
        };
        sparse::check(&segments, size, self.stored).map_err(fault)?;
        entry.size = size;
        entry.is_sparse = true;
        self.segments = segments;
        self.segments.reverse();
        (self.offset, self.size) = (0, size);
        Ok(())
    }

    /// The next piece of the current entry's data and where in the file it belongs; none at its end. Holes are left out.
    pub(crate) fn next_piece(&mut self) -> Result<Option<(u64, &[u8])>> {
        while self.segments.last().is_some_and(|segment| segment.length == 0) {
            self.segments.pop();
        }
        let Some(segment) = self.segments.last_mut() else { return Ok(None) };
        if self.source.fill()?.is_empty() {
            return Err(Error::Truncated("a file"));
        }
        let piece = self.source.take(segment.length);
        let at = segment.offset;
        segment.offset += piece.len() as u64;
        segment.length -= piece.len() as u64;
        self.stored -= piece.len() as u64;
        Ok(Some((at, piece)))
    }

    fn skip_data(&mut self) -> Result<()> {
        let (stored, padding) = (self.stored, self.padding);
        (self.stored, self.padding) = (0, 0);
        self.segments.clear();
        (self.offset, self.size) = (0, 0);
        self.source.skip(stored, "a file")?;
        self.source.skip(padding, "a file's padding")
    }

    /// Reads the stream to its end; answers its length and, for [`Reader::hashing`], its digest.
    pub fn finish(self) -> Result<(u64, Option<Digest>)> {
        self.source.drain()
    }

    /// Data for [`Read`]: up to `into.len()` bytes from the current position, zeros for holes.
    fn read_data(&mut self, into: &mut [u8]) -> Result<usize> {
        let most = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        while self.segments.last().is_some_and(|segment| segment.length == 0) {
            self.segments.pop();
        }
        let next = self.segments.last().map_or(self.size, |segment| segment.offset);
        let length = if next > self.offset {
            let hole = usize::try_from(next - self.offset).unwrap_or(usize::MAX).min(most);
            into[..hole].fill(0);
            hole
        } else {
            if self.source.fill()?.is_empty() {
                return Err(Error::Truncated("a file"));
            }
            let Some(segment) = self.segments.last_mut() else { return Ok(0) };
            let piece = self.source.take(segment.length.min(most as u64));
            into[..piece.len()].copy_from_slice(piece);
            segment.offset += piece.len() as u64;
            segment.length -= piece.len() as u64;
            self.stored -= piece.len() as u64;
            piece.len()
        };
        self.offset += length as u64;
        Ok(length)
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.read_data(into).map_err(|error| match error {
            Error::Read(source) => source,
            Error::Truncated(_) => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            _ => io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// What stood in front of an entry.
#[derive(Default)]
struct Extensions {
    any: bool,
    records: Records,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|&b| b == 0) {
        data.truncate(end);
    }
    data
}

fn kind(flag: u8) -> Result<Kind, &'static str> {
    Ok(match flag {
        b'0' | 0 | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => return Err("its type is unknown"),
    })
}
