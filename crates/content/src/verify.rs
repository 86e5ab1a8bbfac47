//! Reading blobs again to see that the disk has kept them.

use std::io;

use corten_base::{Digest, Digester};

use crate::{Error, Result, Store};

/// Blobs are read in pieces of this size.
const BUFFER: usize = 256 << 10;

impl Store {
    /// Reads a whole blob and compares it with its digest, whatever its size; its length if it is sound.
    ///
    /// # Errors
    /// [`Error::Mismatch`] for a damaged one, [`Error::NotFound`], [`Error::Io`] if it can't be read.
    pub fn verify(&self, digest: &Digest) -> Result<u64> {
        let mut reader = io::BufReader::with_capacity(BUFFER, self.open_blob(digest)?);
        let mut digester = Digester::new(digest.algorithm());
        let length = io::copy(&mut reader, &mut digester).map_err(Error::io("read", &self.blob_path(digest)))?;
        let actual = digester.finish();
        if actual == *digest { Ok(length) } else { Err(Error::Mismatch { expected: digest.clone(), actual }) }
    }
}
