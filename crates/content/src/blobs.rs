//! Committed blobs: looking them up and reading them.

use std::fs::{self, File};
use std::io::{self, Read};

use corten_base::{Algorithm, Digest, Digester};

use crate::{Error, Result, Store};

impl Store {
    /// Opens a blob for reading.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.blob_path(digest);
        File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::NotFound(digest.clone()),
            _ => Error::Io { operation: "open", path, source },
        })
    }

    /// The blob's number of bytes; none if it isn't here.
    #[must_use]
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.blob_path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Whether the blob is here.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.size(digest).is_some()
    }

    /// Reads a whole document of at most `limit` bytes, and verifies it again.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::TooLarge`], [`Error::Mismatch`] if the disk has damaged it.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(Error::io("inspect", &path))?.len();
        if size > limit {
            return Err(Error::TooLarge { digest: digest.clone(), size, limit });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read", &path))?;
        let mut digester = Digester::new(digest.algorithm());
        digester.update(&bytes);
        let actual = digester.finish();
        if actual != *digest {
            return Err(Error::Mismatch { expected: digest.clone(), actual });
        }
        Ok(bytes)
    }

    /// Removes a blob, wanted or not; fine if it isn't here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { operation: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// All blobs that are here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn blobs(&self) -> Result<Vec<Digest>> {
        let mut found = Vec::new();
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let folder = self.blob_folder(algorithm);
            for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let name = entry.map_err(Error::io("list", &folder))?.file_name();
                // What isn't a digest isn't ours, and is left alone.
                found.extend(name.to_str().and_then(|hex| Digest::parse(&format!("{algorithm}:{hex}")).ok()));
            }
        }
        Ok(found)
    }
}
