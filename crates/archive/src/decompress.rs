//! Which compression a stream has, told by its first bytes, and its undoing.

use crate::{Error, Result};
use std::io::{self, BufRead, BufReader, Read};

/// Compressed bytes are read in pieces of this size.
const BUFFER: usize = 128 * 1024;

/// How a layer or an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, one or several members.
    Gzip,
    /// RFC 8878, one or several frames.
    Zstd,
    /// Recognised, not read yet.
    Bzip2,
    /// Recognised, not read yet.
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

/// The uncompressed bytes of `reader`, whatever of gzip, zstd and nothing it is packed with.
///
/// The caller bounds how much it takes; zstd windows larger than 128 MiB are refused.
pub fn decompress<'a>(reader: impl Read + Send + 'a) -> Result<Box<dyn Read + Send + 'a>> {
    let mut reader = BufReader::with_capacity(BUFFER, reader);
    let start = peek(&mut reader).map_err(Error::Read)?;
    let unsupported = |name: &str| {
        let text = format!("{name} compression is not read yet; gzip, zstd and uncompressed archives are");
        Err(Error::Unsupported(text))
    };
    match Compression::detect(&start) {
        Compression::None => Ok(Box::new(io::Cursor::new(start).chain(reader))),
        Compression::Gzip => {
            let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(reader));
            Ok(Box::new(flate2::bufread::MultiGzDecoder::new(whole)))
        }
        Compression::Zstd => {
            let whole = BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(reader));
            let mut decoder = zstd::stream::read::Decoder::with_buffer(whole).map_err(Error::Read)?;
            decoder.window_log_max(27).map_err(Error::Read)?;
            Ok(Box::new(decoder))
        }
        Compression::Bzip2 => unsupported("bzip2"),
        Compression::Xz => unsupported("xz"),
    }
}

/// Takes the first bytes, however small the pieces they come in.
fn peek(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(6);
    reader.take(6).read_to_end(&mut start)?;
    Ok(start)
}
