//! Writing a tar: ustar headers, with PAX records for what doesn't fit into them. Equal input gives equal bytes.

use crate::header::{Entry, Kind, Timestamp, checksums};
use crate::source::BLOCK;
use crate::{Error, Result};
use std::io::{self, Read, Write};

/// Writes entries in the order they are given.
pub struct Writer<W> {
    inner: W,
}

impl<W: Write> Writer<W> {
    /// Begins an archive.
    pub fn new(inner: W) -> Writer<W> {
        Writer { inner }
    }

    /// Adds an entry. For files exactly `entry.size` bytes are taken from `data`; what it lacks is written as zeros, since
    /// a file may shrink while it is read.
    pub fn append(&mut self, entry: &Entry, data: impl Read) -> Result<()> {
        let records = records(entry);
        if !records.is_empty() {
            let mut extension = Entry::new(Kind::File, "PaxHeaders.0/extension", 0o644);
            extension.size = records.len() as u64;
            self.put(&header(&extension, b'x'))?;
            self.data(extension.size, &records[..])?;
        }
        self.put(&header(entry, flag(entry.kind)))?;
        if entry.kind == Kind::File { self.data(entry.size, data) } else { Ok(()) }
    }

    /// [`append`](Writer::append) of a file or directory without data of its own, or with these bytes.
    pub fn append_bytes(&mut self, entry: &Entry, bytes: &[u8]) -> Result<()> {
        let mut entry = entry.clone();
        entry.size = bytes.len() as u64;
        self.append(&entry, bytes)
    }

    /// Writes the end of the archive and hands the stream below back.
    pub fn finish(mut self) -> Result<W> {
        self.put(&[0; 2 * BLOCK])?;
        self.inner.flush().map_err(Error::Write)?;
        Ok(self.inner)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.inner.write_all(bytes).map_err(Error::Write)
    }

    fn data(&mut self, size: u64, data: impl Read) -> Result<()> {
        let copied = io::copy(&mut data.take(size), &mut self.inner).map_err(Error::Write)?;
        let zeros = size - copied + size.wrapping_neg() % BLOCK as u64;
        io::copy(&mut io::repeat(0).take(zeros), &mut self.inner).map_err(Error::Write)?;
        Ok(())
    }
}

/// The bytes that an entry takes in an archive, with its data.
#[must_use]
pub fn entry_length(entry: &Entry) -> u64 {
    let padded = |length: u64| length.next_multiple_of(BLOCK as u64);
    let extension = match records(entry).len() as u64 {
        0 => 0,
        length => BLOCK as u64 + padded(length),
    };
    let data = if entry.kind == Kind::File { padded(entry.size) } else { 0 };
    extension + BLOCK as u64 + data
}

fn flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// What a field of so many octal digits can hold.
fn fits(value: u64, digits: u32) -> bool {
    value < 1 << (3 * digits)
}

fn header(entry: &Entry, flag: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    put_text(&mut block[0..100], &entry.path);
    put_octal(&mut block[100..108], entry.mode.into());
    put_octal(&mut block[108..116], entry.uid.into());
    put_octal(&mut block[116..124], entry.gid.into());
    put_octal(&mut block[124..136], if entry.kind == Kind::File { entry.size } else { 0 });
    put_octal(&mut block[136..148], entry.mtime.seconds.try_into().unwrap_or(0));
    block[156] = flag;
    put_text(&mut block[157..257], &entry.link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    put_octal(&mut block[329..337], entry.device.0.into());
    put_octal(&mut block[337..345], entry.device.1.into());
    let sum = checksums(&block).0;
    put_octal(&mut block[148..155], sum);
    block[155] = b' ';
    block
}

fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Digits and a NUL; zero where the number has a record of its own because it doesn't fit.
fn put_octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if fits(value, digits as u32) { value } else { 0 };
    field[..digits].copy_from_slice(format!("{value:0digits$o}").as_bytes());
}

/// The PAX records that an entry needs.
fn records(entry: &Entry) -> Vec<u8> {
    let mut records = Vec::new();
    if needs_record(&entry.path) {
        record(&mut records, b"path", &entry.path);
    }
    if needs_record(&entry.link) {
        record(&mut records, b"linkpath", &entry.link);
    }
    if entry.kind == Kind::File && !fits(entry.size, 11) {
        record(&mut records, b"size", entry.size.to_string().as_bytes());
    }
    for (key, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
        if !fits(id.into(), 7) {
            record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if entry.mtime.nanoseconds != 0 || !u64::try_from(entry.mtime.seconds).is_ok_and(|seconds| fits(seconds, 11)) {
        record(&mut records, b"mtime", time(entry.mtime).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

fn needs_record(name: &[u8]) -> bool {
    name.len() > 100 || !name.is_ascii()
}

fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    // The length counts its own digits.
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length += 1;
    }
    records.extend_from_slice(format!("{length} ").as_bytes());
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

fn time(time: Timestamp) -> String {
    let (sign, seconds, nanoseconds) = match (time.seconds < 0, time.nanoseconds) {
        (true, 1..) => ("-", (time.seconds + 1).unsigned_abs(), 1_000_000_000 - time.nanoseconds),
        (true, 0) => ("-", time.seconds.unsigned_abs(), 0),
        (false, nanoseconds) => ("", time.seconds.unsigned_abs(), nanoseconds),
    };
    if nanoseconds == 0 { format!("{sign}{seconds}") } else { format!("{sign}{seconds}.{nanoseconds:09}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, Reader};

    fn check(entry: Entry, data: &[u8]) {
        let mut writer = Writer::new(Vec::new());
        writer.append_bytes(&entry, data).unwrap();
        let tar = writer.finish().unwrap();
        let length = entry_length(&Entry { size: data.len() as u64, ..entry.clone() });
        assert_eq!(length + 2 * BLOCK as u64, tar.len() as u64);
        let mut reader = Reader::new(&tar[..], Limits::default());
        let read = reader.next_entry().unwrap().unwrap();
        assert_eq!(read, Entry { size: data.len() as u64, ..entry });
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content, data);
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn round_trips() {
        check(Entry::new(Kind::File, "a", 0o4755), b"hello");
        check(Entry::new(Kind::Directory, "d/", 0o1777), b"");
        check(Entry::new(Kind::File, "x".repeat(100), 0o600), &[1; 512]);
        check(Entry::new(Kind::File, "long/".repeat(60), 0o600).into_file(), &[1; 513]);
        check(Entry::new(Kind::File, b"caf\xe9".to_vec(), 0o600), b"");
        check(Entry { link: "t".repeat(300).into(), ..Entry::new(Kind::Symlink, "l", 0o777) }, b"");
        check(Entry { device: (8, 300), ..Entry::new(Kind::BlockDevice, "sda", 0o660) }, b"");
        check(Entry { uid: 4_000_000_000, gid: 2_097_152, ..Entry::new(Kind::Fifo, "p", 0o660) }, b"");
        for (seconds, nanoseconds) in [(0, 1), (-1, 0), (-1, 750_000_000), (-7, 1), (1 << 40, 0), (1_700_000_000, 5)] {
            let mtime = Timestamp { seconds, nanoseconds };
            check(Entry { mtime, ..Entry::new(Kind::File, "t", 0o644) }, b"x");
        }
        let capability = (b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n', b'=', 0xff]);
        check(Entry { xattrs: vec![capability], ..Entry::new(Kind::File, "ping", 0o755) }, b"x");
    }

    impl Entry {
        fn into_file(mut self) -> Entry {
            self.path.pop();
            self
        }
    }
}
