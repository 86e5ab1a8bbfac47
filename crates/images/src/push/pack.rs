//! Packing a layer that is stored plain, while it goes out.
//!
//! The same bytes always give the same packed bytes (no time, no name, one level), so that a stream that broke can go on where
//! it ended and a second push finds what the first one left. What came out is remembered: the next push asks for it first.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::{Arc, Mutex, PoisonError};

use corten_base::{Digest, Digester};
use flate2::Compression;
use flate2::bufread::GzEncoder;

/// Much faster than the usual 6, and hardly larger.
const LEVEL: u32 = 4;

/// Where what came out is told when a stream has been read to its end.
pub(super) type Told = Arc<Mutex<Option<(Digest, u64)>>>;

/// A plain layer as its gzip form.
pub(super) struct Packed {
    encoder: GzEncoder<BufReader<File>>,
    digester: Digester,
    length: u64,
    told: Told,
}

impl Packed {
    /// The packed bytes from an offset on.
    pub(super) fn open(plain: File, offset: u64, told: Told) -> io::Result<Packed> {
        let encoder = GzEncoder::new(BufReader::with_capacity(1 << 17, plain), Compression::new(LEVEL));
        let mut packed = Packed { encoder, digester: Digester::sha256(), length: 0, told };
        let passed = io::copy(&mut packed.by_ref().take(offset), &mut io::sink())?;
        if passed < offset {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(packed)
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.encoder.read(buffer)?;
        self.digester.update(&buffer[..read]);
        self.length += read as u64;
        if read == 0 && !buffer.is_empty() {
            let result = (self.digester.clone().finish(), self.length);
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn packing_is_the_same_each_time_and_from_anywhere() {
        let plain: Vec<u8> = (0..500_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&plain).unwrap();
        let read = |offset| {
            let told = Told::default();
            let mut bytes = Vec::new();
            let file = File::open(file.path()).unwrap();
            Packed::open(file, offset, told.clone()).unwrap().read_to_end(&mut bytes).unwrap();
            let told = told.lock().unwrap().clone().unwrap();
            (bytes, told)
        };
        let (whole, told) = read(0);
        assert_eq!(told, (Digest::sha256(&whole), whole.len() as u64));
        assert_eq!(read(0), (whole.clone(), told.clone()));
        assert_eq!(read(12_345), (whole[12_345..].to_vec(), told));
        assert!(Packed::open(File::open(file.path()).unwrap(), whole.len() as u64 + 1, Told::default()).is_err());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&whole[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain);
    }
}
