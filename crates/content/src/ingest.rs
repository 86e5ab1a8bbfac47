//! Bytes on their way to becoming a blob.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard, PoisonError};

use corten_base::{Algorithm, Digest, Digester};

use crate::follow::{End, Follower, Progress};
use crate::{Error, Lease, Result, Store};

/// So many bytes are gathered before the disk is told to begin with them.
const AHEAD: u64 = 8 << 20;

/// What is smaller is begun without a look at the disk.
const SMALL: u64 = 1 << 20;

/// How the files of ingests begin that end with the process.
const NAMELESS: &str = "tmp-";

/// A blob being written. Dropped without [`commit`](Ingest::commit), a named one stays to be continued (unless a write
/// failed or nothing has come), a nameless one is removed.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    /// Its file's name, made of its reference; none for a nameless ingest.
    name: Option<String>,
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
    /// `size` is the number of bytes that must come, if it is known; more are refused as they are written. What has come stays as
    /// long as one of the leases that it was written under.
    ///
    /// # Errors
    /// [`Error::Busy`] while somebody else writes it; [`Error::Io`].
    pub fn ingest(&self, reference: &str, algorithm: Algorithm, size: Option<u64>, lease: &Lease) -> Result<Ingest> {
        let name = name_of(reference);
        if !self.busy().insert(name.clone()) {
            return Err(Error::Busy(reference.to_owned()));
        }
        // Held before it is there: a collection between the two would take it.
        let begun = lease.hold_ingest(&name).and_then(|()| {
            let path = self.ingest_folder().join(&name);
            self.begin(Some(name.clone()), path, algorithm, size)
        });
        if begun.is_err() {
            self.busy().remove(&name);
        }
        let mut ingest = begun?;
        ingest.rehash()?;
        if size.is_some_and(|size| ingest.offset > size) {
            ingest.restart(algorithm)?;
        }
        self.check_room(&ingest)?;
        Ok(ingest)
    }

    /// Begins or continues the ingest of a blob that is known by its digest.
    ///
    /// # Errors
    /// As [`ingest`](Store::ingest).
    pub fn ingest_blob(&self, digest: &Digest, size: u64, lease: &Lease) -> Result<Ingest> {
        self.ingest(&reference_of(digest), digest.algorithm(), Some(size), lease)
    }

    /// Begins an ingest that can't be continued later.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn ingest_nameless(&self, algorithm: Algorithm, size: Option<u64>) -> Result<Ingest> {
        // All of these are removed when a store is opened, so a count is enough of a name.
        let path = self.ingest_folder().join(format!("{NAMELESS}{}", self.next()));
        let ingest = self.begin(None, path, algorithm, size)?;
        self.check_room(&ingest)?;
        Ok(ingest)
    }

    /// What can't come whole isn't begun: a size is easily said.
    fn check_room(&self, ingest: &Ingest) -> Result<()> {
        let Some(needed) = ingest.left().filter(|&left| left > SMALL) else { return Ok(()) };
        let folder = self.ingest_folder();
        let stat = rustix::fs::statvfs(&folder).map_err(|errno| Error::io("look at", &folder)(errno.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if needed > free { Err(Error::Full { needed, free }) } else { Ok(()) }
    }

    fn begin(&self, name: Option<String>, path: PathBuf, algorithm: Algorithm, size: Option<u64>) -> Result<Ingest> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(Error::io("create", &path))?;
        let keep = name.is_some();
        let digester = Digester::new(algorithm);
        let (store, progress) = (self.clone(), Arc::default());
        Ok(Ingest { store, name, path, file, digester, offset: 0, begun: 0, size, keep, progress })
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<String>> {
        self.shared.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody writes the ingest of this file.
    pub(crate) fn is_busy(&self, name: &str) -> bool {
        self.busy().contains(name)
    }

    /// Removes nameless parts, which ended with their process.
    pub(crate) fn clear_nameless(&self) -> Result<()> {
        for (name, _) in self.ingests()?.into_iter().filter(|(name, _)| is_nameless(name)) {
            let path = self.ingest_folder().join(name);
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Whether a named ingest's file is here.
    pub(crate) fn has_part(&self, name: &str) -> bool {
        // It may come from a record: it isn't a path.
        name.bytes().all(|byte| byte.is_ascii_hexdigit()) && self.ingest_folder().join(name).exists()
    }

    /// The files of the ingests that can be continued, and their bytes.
    pub(crate) fn named_ingests(&self) -> Result<Vec<(String, u64)>> {
        Ok(self.ingests()?.into_iter().filter(|(name, _)| !is_nameless(name)).collect())
    }

    fn ingests(&self) -> Result<Vec<(String, u64)>> {
        let folder = self.ingest_folder();
        let mut found = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            // One that was committed meanwhile has another name.
            let Ok(metadata) = entry.metadata() else { continue };
            found.push((entry.file_name().to_string_lossy().into_owned(), metadata.len()));
        }
        Ok(found)
    }
}

fn is_nameless(name: &str) -> bool {
    name.starts_with(NAMELESS)
}

/// What the ingest of a blob with a known digest is called.
fn reference_of(digest: &Digest) -> String {
    format!("blob-{digest}")
}

/// The file of the ingest of a blob with a known digest.
pub(crate) fn part_of(digest: &Digest) -> String {
    name_of(&reference_of(digest))
}

fn name_of(reference: &str) -> String {
    Digest::sha256(reference.as_bytes()).hex().to_owned()
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

    /// The number of bytes that must still come, if it is known.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        Some(self.size?.saturating_sub(self.offset))
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
        if let Some(name) = &self.name {
            self.store.busy().remove(name);
        }
    }
}
