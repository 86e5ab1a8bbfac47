//! Which compression a stream has, told by its first bytes, and its undoing.

use crate::{Error, Result};
use std::io::{self, BufRead, BufReader, Read};

/// Compressed bytes are read in pieces of this size.
const BUFFER: usize = 128 * 1024;
/// The largest window that a zstd frame may ask for, as a power of two: zstd's own bound for streams from outside.
const ZSTD_WINDOW: u32 = 27;
/// The most memory that an xz stream may ask for, in KiB: what the largest preset of xz needs.
const XZ_MEMORY: u32 = 66 << 10;

/// How a layer or an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 8878, one or several frames.
    Zstd,
    /// Julian Seward's format, one or several streams.
    Bzip2,
    /// The .xz file format, one or several streams.
    Xz,
}

impl Compression {
    /// Looks at the first bytes of a stream; six decide.
    pub fn detect(start: &[u8]) -> Compression {
        match start {
            [0x1f, 0x8b, 8, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [b'B', b'Z', b'h', ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
            _ => Compression::None,
        }
    }
}

/// The uncompressed bytes of `reader`, whatever of gzip, zstd, bzip2, xz and nothing it is packed with.
///
/// The caller bounds how much it takes. Memory is bounded here: what asks for more than the formats' own largest presets need
/// is refused.
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    open(reader).map(|(_, reader)| reader)
}

/// As [`decompress`], with what it was packed with.
pub fn open<'a>(reader: impl Read + Send + 'a) -> Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let start = peek(&mut reader).map_err(Error::Read)?;
    let compression = Compression::detect(&start);
    let whole = io::Cursor::new(start).chain(reader);
    if compression == Compression::None {
        return Ok((compression, Box::new(whole)));
    }
    let whole = BufReader::with_capacity(BUFFER, whole);
    let reader: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(whole)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(Error::Read)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(Error::Read)?;
            Box::new(decoder)
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(whole)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(whole, true, XZ_MEMORY)),
    };
    Ok((compression, reader))
}

/// Takes the first bytes, however small the pieces they come in.
fn peek(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(6);
    reader.take(6).read_to_end(&mut start)?;
    Ok(start)
}
