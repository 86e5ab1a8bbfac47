//! Bytes on their way to becoming a blob.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use corten_base::{Algorithm, Digest, Digester};

use crate::follow::{End, Follower, Progress};
use crate::{Error, Lease, Result, Store};

/// So many bytes are gathered before the disk is told to begin with them.
const AHEAD: u64 = 8 << 20;

/// A named part that nobody has continued for so long is thrown away when the store is opened.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

/// A blob being written. Dropped without [`commit`](Ingest::commit), a named one stays to be continued (unless a write
/// failed or nothing has come), a nameless one is removed.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    /// The reference; none for a nameless ingest.
    reference: Option<String>,
    path: PathBuf,
    file: File,
    digester: Digester,
    offset: u64,
    /// Up to here the disk has been told to begin.
    begun: u64,
    size: Option<u64>,
    keep: bool,
    progress: Arc<Progress>,
}

impl Store {
    /// Begins or continues the ingest called `reference`: [`Ingest::offset`] tells how many bytes are there already.
    ///
    /// `size` is the number of bytes that must come, if it is known; more are refused as they are written.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody else writes it; [`Error::Io`].
    pub fn ingest(&self, reference: &str, algorithm: Algorithm, size: Option<u64>) -> Result<Ingest> {
        let mut busy = self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if !busy.insert(reference.to_owned()) {
            return Err(Error::Busy(reference.to_owned()));
        }
        drop(busy);
        let path = self.ingest_path(reference);
        let begun = self.begin(Some(reference.to_owned()), path, algorithm, size);
        if begun.is_err() {
            self.release(reference);
        }
        let mut ingest = begun?;
        ingest.rehash()?;
        if size.is_some_and(|size| ingest.offset > size) {
            ingest.restart(algorithm)?;
        }
        Ok(ingest)
    }

    /// Begins or continues the ingest of a blob that is known by its digest.
    ///
    /// # Errors
    /// As [`ingest`](Store::ingest).
    pub fn ingest_blob(&self, digest: &Digest, size: u64) -> Result<Ingest> {
        self.ingest(&reference_of(digest), digest.algorithm(), Some(size))
    }

    /// Begins an ingest that can't be continued later.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ingest_nameless(&self, algorithm: Algorithm, size: Option<u64>) -> Result<Ingest> {
        // All of these are removed when a store is opened, so a count is enough of a name.
        let path = self.ingest_folder().join(format!("tmp-{}", self.next()));
        self.begin(None, path, algorithm, size)
    }

    fn begin(
        &self,
        reference: Option<String>,
        path: PathBuf,
        algorithm: Algorithm,
        size: Option<u64>,
    ) -> Result<Ingest> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let keep = reference.is_some();
        let digester = Digester::new(algorithm);
        let (store, progress) = (self.clone(), Arc::default());
        Ok(Ingest { store, reference, path, file, digester, offset: 0, begun: 0, size, keep, progress })
    }

    fn release(&self, reference: &str) {
        self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(reference);
    }

    /// Removes parts of blobs that have come whole in another way, unless somebody is about to find that out.
    pub(crate) fn clear_parts_of(&self, blobs: &[Digest]) -> Result<()> {
        let folder = self.ingest_folder();
        if fs::read_dir(&folder).map_err(Error::io("list", &folder))?.next().is_none() {
            return Ok(());
        }
        let busy = self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner);
        for reference in blobs.iter().map(reference_of).filter(|reference| !busy.contains(reference)) {
            let path = self.ingest_path(&reference);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn ingest_path(&self, reference: &str) -> PathBuf {
        self.ingest_folder().join(Digest::sha256(reference.as_bytes()).hex())
    }

    /// Removes nameless parts and those that are too old.
    pub(crate) fn clear_ingests(&self) -> Result<()> {
        let folder = self.ingest_folder();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let nameless = entry.file_name().to_string_lossy().starts_with("tmp-");
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let age = SystemTime::now().duration_since(changed).unwrap_or_default();
            if nameless || age > STALE {
                fs::remove_file(entry.path()).map_err(Error::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// What the ingest of a blob with a known digest is called.
fn reference_of(digest: &Digest) -> String {
    format!("blob-{digest}")
}

impl Ingest {
    /// The hash function of its digest.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.digester.algorithm()
    }

    /// The number of bytes that are there.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// A reader of the bytes from the first on, those that are still to come too: it waits for them, on another thread, until
    /// [`complete`](Ingest::complete) says that they are all there. If this ingest ends without that, reading fails.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn follow(&self) -> Result<Follower> {
        let file = File::open(&self.path).map_err(Error::io("open", &self.path))?;
        self.progress.reach(self.offset);
        Ok(Follower::new(file, self.progress.clone()))
    }

    /// Tells those who follow that all bytes are there.
    pub fn complete(&self) {
        self.progress.end(End::Whole);
    }

    /// Whether somebody followed this and does no longer.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.progress.is_abandoned()
    }

    /// Throws away the bytes that are there, to begin anew.
    fn restart(&mut self, algorithm: Algorithm) -> Result<()> {
        self.file.set_len(0).map_err(Error::io("truncate", &self.path))?;
        self.digester = Digester::new(algorithm);
        (self.offset, self.begun) = (0, 0);
        Ok(())
    }

    /// Verifies the bytes and makes them a blob that `lease` holds; what isn't as expected is thrown away.
    ///
    /// When this returns, the blob survives power loss. Committing what is already there is fine.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Mismatch`], [`Error::Io`].
    pub fn commit(mut self, expected: Option<&Digest>, lease: &Lease) -> Result<(Digest, u64)> {
        self.keep = false;
        if let Some(size) = self.size.filter(|&size| size != self.offset) {
            return Err(Error::Size { expected: size, actual: self.offset });
        }
        let actual = self.digester.clone().finish();
        if let Some(expected) = expected.filter(|&expected| *expected != actual) {
            return Err(Error::Mismatch { expected: expected.clone(), actual });
        }
        // Held before it has its name: a collection between the two would take it.
        if !lease.hold(&actual)? {
            self.publish(&actual)?;
        }
        Ok((actual, self.offset))
    }

    /// Throws the bytes away.
    pub fn abort(mut self) {
        self.keep = false;
    }

    fn publish(&self, digest: &Digest) -> Result<()> {
        self.file.set_permissions(fs::Permissions::from_mode(0o444)).map_err(Error::io("protect", &self.path))?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))?;
        let target = self.store.blob_path(digest);
        fs::rename(&self.path, &target).map_err(Error::io("name", &target))?;
        let folder = self.store.blob_folder(digest.algorithm());
        File::open(&folder).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", &folder))
    }

    /// Lets the disk write what has come so far while more comes, so that little is left to wait for in the end. The kernel
    /// writes dirty pages when it is told that they aren't needed; only clean ones would be dropped.
    fn write_ahead(&mut self) {
        if self.offset < self.begun + AHEAD {
            return;
        }
        let length = std::num::NonZeroU64::new(self.offset - self.begun);
        // Advice: nothing depends on it.
        let _ = rustix::fs::fadvise(&self.file, self.begun, length, rustix::fs::Advice::DontNeed);
        self.begun = self.offset;
    }

    fn rehash(&mut self) -> Result<()> {
        let mut reader = BufReader::with_capacity(1 << 18, &self.file);
        self.offset = io::copy(&mut reader, &mut self.digester).map_err(Error::io("read", &self.path))?;
        Ok(())
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.offset + bytes.len() as u64;
        if let Some(size) = self.size.filter(|&size| after > size) {
            self.keep = false;
            return Err(io::Error::new(io::ErrorKind::InvalidData, Error::Size { expected: size, actual: after }));
        }
        let written = self.file.write(bytes).inspect_err(|_| self.keep = false)?;
        self.digester.update(&bytes[..written]);
        self.offset += written as u64;
        self.progress.reach(self.offset);
        self.write_ahead();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.progress.end(End::Broken);
        // One without a byte has nothing to be continued. After a commit the name is gone already.
        if !self.keep || self.offset == 0 {
            drop(fs::remove_file(&self.path));
        }
        if let Some(reference) = &self.reference {
            self.store.release(reference);
        }
    }
}
