//! Packing a layer that is stored as no registry has it, while it goes out.
//!
//! The layer goes as gzip members of one piece each (RFC 1952, 2.2): readers take several for one, and a piece at a time can be packed
//! by libdeflate, which needs half of zlib's time for the same size. Not written here: it is the fastest that is kept for all
//! processors, and nothing but a C compiler is needed to build it.
//!
//! The same bytes always give the same packed bytes (no time, no name, one level), so that a stream that broke can go on where
//! it ended and a second push finds what the first one left. What came out is remembered: the next push asks for it first.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, PoisonError};

use corten_base::{Digest, Digester};
use libdeflater::{CompressionLvl, Compressor};

/// A tenth larger than what zlib makes at its usual level, in a quarter of its time. Higher levels gain a twentieth at most.
const LEVEL: i32 = 1;
/// Plain bytes of one member. Longer ones are hardly smaller.
const PIECE: usize = 512 << 10;

/// Where what came out is told when a stream has been read to its end.
pub(super) type Told = Arc<Mutex<Option<(Digest, u64)>>>;

/// A plain layer as its gzip form.
pub(super) struct Packed {
    plain: Box<dyn Read + Send>,
    piece: Vec<u8>,
    compressor: Compressor,
    /// The present member, and how much of it was read.
    member: Vec<u8>,
    at: usize,
    digester: Digester,
    length: u64,
    told: Told,
}

impl Packed {
    /// The packed bytes from an offset on, of a layer that is plain or packed in any way that archives know.
    pub(super) fn open(layer: File, offset: u64, told: Told) -> io::Result<Packed> {
        let plain = corten_archive::decompress(layer).map_err(io::Error::other)?;
        let compressor = Compressor::new(CompressionLvl::new(LEVEL).unwrap_or_default());
        let (piece, member) = (Vec::with_capacity(PIECE), Vec::new());
        let mut packed =
            Packed { plain, piece, compressor, member, at: 0, digester: Digester::sha256(), length: 0, told };
        let passed = io::copy(&mut packed.by_ref().take(offset), &mut io::sink())?;
        if passed < offset {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(packed)
    }

    /// Packs the next piece; the member stays empty at the end.
    fn pack(&mut self) -> io::Result<()> {
        self.piece.clear();
        self.plain.by_ref().take(PIECE as u64).read_to_end(&mut self.piece)?;
        self.at = 0;
        // Even an empty layer is one member.
        if self.piece.is_empty() && self.length > 0 {
            self.member.clear();
            return Ok(());
        }
        self.member.resize(self.compressor.gzip_compress_bound(self.piece.len()), 0);
        let length = self.compressor.gzip_compress(&self.piece, &mut self.member).map_err(io::Error::other)?;
        self.member.truncate(length);
        self.digester.update(&self.member);
        self.length += length as u64;
        Ok(())
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.member.len() {
            self.pack()?;
        }
        let rest = &self.member[self.at..];
        if rest.is_empty() {
            let result = (self.digester.clone().finish(), self.length);
            *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
        }
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn packing_is_the_same_each_time_and_from_anywhere() {
        // Several members, the last one short.
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
        flate2::read::MultiGzDecoder::new(&whole[..]).read_to_end(&mut unpacked).unwrap();
        assert!(unpacked == plain);
        let (empty, told) = (tempfile::tempfile().unwrap(), Told::default());
        let mut bytes = Vec::new();
        Packed::open(empty, 0, told.clone()).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!(flate2::read::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap(), 0);
        assert_eq!(told.lock().unwrap().clone().unwrap(), (Digest::sha256(&bytes), bytes.len() as u64));
    }
}
