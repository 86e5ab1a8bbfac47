//! One 512-byte header block, and the entry it begins.
//!
//! ```text
//! 0 name[100]  100 mode[8]  108 uid[8]  116 gid[8]  124 size[12]  136 mtime[12]  148 checksum[8]  156 type
//! 157 link[100]  257 magic[8]  265 user[32]  297 group[32]  329 major[8]  337 minor[8]  345 prefix[155]
//! GNU instead of prefix: 386 sparse[4][24]  482 extended  483 real size[12]
//! ```
//!
//! Numbers are octal text, or big-endian two's complement behind a first bit of one (GNU). What POSIX leaves open is read
//! as Go's archive/tar reads it, since that is what Docker has: a layer must not mean something else here.
//! See POSIX pax, "ustar Interchange Format", and GNU tar's manual, "Basic Tar Format".

use crate::source::BLOCK;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of a file that came before, [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// Seconds since 1970, may be negative, and nanoseconds after them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Whole seconds.
    pub seconds: i64,
    /// Below 1,000,000,000, counted forward.
    pub nanoseconds: u32,
}

/// Extended attributes, name and value.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// One member of an archive. Names are as the archive has them: any bytes, not to be trusted; see [`clean`](crate::clean).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name.
    pub path: Vec<u8>,
    /// The target of a link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-uid, set-gid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file, with holes; 0 for all but files.
    pub size: u64,
    /// Modification time.
    pub mtime: Timestamp,
    /// Access time, where there is one.
    pub atime: Option<Timestamp>,
    /// Device number, major and minor.
    pub device: (u32, u32),
    /// Extended attributes, name and value.
    pub xattrs: Xattrs,
    /// Whether the archive says that the file has holes.
    pub is_sparse: bool,
}

impl Entry {
    /// An empty entry of this kind, owned by root, from 1970.
    pub fn new(kind: Kind, path: impl Into<Vec<u8>>, mode: u32) -> Entry {
        Entry {
            path: path.into(),
            link: Vec::new(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            atime: None,
            device: (0, 0),
            xattrs: Vec::new(),
            is_sparse: false,
        }
    }
}

/// Which dialect a block is written in: it decides what stands behind byte 345.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    V7,
    Ustar,
    Star,
    Gnu,
}

/// A block whose checksum was right.
pub(crate) struct Header<'a> {
    block: &'a [u8; BLOCK],
    pub dialect: Dialect,
}

type Parsed<T> = Result<T, &'static str>;

impl<'a> Header<'a> {
    pub fn new(block: &'a [u8; BLOCK]) -> Parsed<Header<'a>> {
        let stated = octal(&block[148..156])?;
        let (unsigned, signed) = checksums(block);
        if stated != unsigned && i64::try_from(stated) != Ok(signed) {
            return Err("the checksum is wrong");
        }
        let dialect = match &block[257..265] {
            [b'u', b's', b't', b'a', b'r', 0, ..] if &block[508..512] == b"tar\0" => Dialect::Star,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            b"ustar  \0" => Dialect::Gnu,
            _ => Dialect::V7,
        };
        Ok(Header { block, dialect })
    }

    pub fn flag(&self) -> u8 {
        self.block[156]
    }

    pub fn size(&self) -> Parsed<u64> {
        u64::try_from(number(&self.block[124..136])?).map_err(|_| "the size is negative")
    }

    /// The entry as this block alone describes it; extension records and the kind come on top.
    pub fn entry(&self, kind: Kind) -> Parsed<Entry> {
        let block = self.block;
        let mut entry = Entry::new(kind, self.name(), 0);
        entry.link = text(&block[157..257]).to_vec();
        entry.mode = (number(&block[100..108])? & 0o7777) as u32;
        entry.uid = owner(number(&block[108..116])?)?;
        entry.gid = owner(number(&block[116..124])?)?;
        entry.mtime.seconds = number(&block[136..148])?;
        if self.dialect != Dialect::V7 && matches!(kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.device = (device(&block[329..337])?, device(&block[337..345])?);
        }
        Ok(entry)
    }

    fn name(&self) -> Vec<u8> {
        let prefix = match self.dialect {
            Dialect::Ustar => text(&self.block[345..500]),
            Dialect::Star => text(&self.block[345..476]),
            Dialect::Gnu | Dialect::V7 => b"",
        };
        let mut name = prefix.to_vec();
        if !prefix.is_empty() {
            name.push(b'/');
        }
        name.extend_from_slice(text(&self.block[0..100]));
        name
    }

    /// GNU's four sparse slots with the flag that more follow, and the file's size.
    pub fn sparse(&self) -> Parsed<(&'a [u8], u64)> {
        if self.dialect != Dialect::Gnu {
            return Err("a sparse file in another format than GNU's");
        }
        let size = u64::try_from(number(&self.block[483..495])?).map_err(|_| "the size is negative")?;
        Ok((&self.block[386..483], size))
    }
}

/// Sums of all bytes with the checksum field as spaces: unsigned, and signed as some old programs had it.
pub(crate) fn checksums(block: &[u8; BLOCK]) -> (u64, i64) {
    let mut sums = (0, 0);
    for (at, &byte) in block.iter().enumerate() {
        let byte = if (148..156).contains(&at) { b' ' } else { byte };
        sums.0 += u64::from(byte);
        sums.1 += i64::from(byte as i8);
    }
    sums
}

/// The field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&b| b == 0).next().unwrap_or_default()
}

/// A user or group id; the last one means "no change" to chown(2) and is nobody's.
pub(crate) fn owner(number: i64) -> Parsed<u32> {
    u32::try_from(number).ok().filter(|&id| id != u32::MAX).ok_or("an owner is out of range")
}

fn device(field: &[u8]) -> Parsed<u32> {
    u32::try_from(number(field)?).map_err(|_| "a device number is out of range")
}

/// A numeric field, octal or base 256.
pub(crate) fn number(field: &[u8]) -> Parsed<i64> {
    if field.first().is_none_or(|first| first & 0x80 == 0) {
        return i64::try_from(octal(field)?).map_err(|_| "a number is out of range");
    }
    let negative = field[0] & 0x40 != 0;
    let fill = if negative { 0xff } else { 0 };
    let mut value = 0u64;
    for (at, &byte) in field.iter().enumerate() {
        // The first bit is the mark, the second the sign.
        let byte = if at == 0 { (byte & 0x7f) | (fill & 0x80) } else { byte } ^ fill;
        if value >> 56 != 0 {
            return Err("a number is out of range");
        }
        value = value << 8 | u64::from(byte);
    }
    let value = i64::try_from(value).map_err(|_| "a number is out of range")?;
    Ok(if negative { !value } else { value })
}

fn octal(field: &[u8]) -> Parsed<u64> {
    let padding = |b: &u8| matches!(b, b' ' | 0);
    let start = field.iter().position(|b| !padding(b)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    digits.iter().try_fold(0u64, |value, &digit| match digit {
        b'0'..=b'7' if value >> 61 == 0 => Ok(value << 3 | u64::from(digit - b'0')),
        _ => Err("a number is not octal"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let check = |field: &[u8], expect: Parsed<i64>| assert_eq!(number(field), expect, "{field:?}");
        check(b"0000644\0", Ok(0o644));
        check(b"  644 \0\0", Ok(0o644));
        check(b"\0\0\0\0\0\0\0\0", Ok(0));
        check(b"", Ok(0));
        check(b"777777777777", Ok(0o777777777777));
        check(b"12x\0", Err("a number is not octal"));
        check(b"-1\0", Err("a number is not octal"));
        check(b"\x80\0\0\0\0\0\0\x05", Ok(5));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xfe", Ok(-2));
        check(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Ok(-1));
        check(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Ok(i64::MAX));
        check(b"\x80\0\0\0\x80\0\0\0\0\0\0\0", Err("a number is out of range"));
        check(b"\x80\x01\0\0\0\0\0\0\0\0\0\0", Err("a number is out of range"));
    }

    #[test]
    fn owners() {
        assert_eq!(owner(65534), Ok(65534));
        assert!(owner(-1).is_err());
        assert!(owner(i64::from(u32::MAX)).is_err());
        assert!(owner(1 << 32).is_err());
    }

    #[test]
    fn a_wrong_checksum_is_seen() {
        assert!(Header::new(&[0; BLOCK]).is_err());
        assert!(Header::new(&[b'a'; BLOCK]).is_err());
    }
}
