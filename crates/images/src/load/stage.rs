//! The files of an image archive on their way in.

use std::collections::HashMap;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::Receiver;

use corten_archive::{Compression, Entry, Kind, clean};
use corten_base::{Algorithm, ChainId, Digest, Platform};
use corten_content::{Ingest, Lease};
use corten_snapshot::Hold;

use crate::config::ImageConfig;
use crate::document::LARGEST;
use crate::extract::{Extraction, never};
use crate::types::{Descriptor, Progress, Report};
use crate::unpack::{self, LayerSource, Received, Wanted};
use crate::{Error, Images, Result};

use super::extract::{Arriving, Workers};

/// What all documents that are kept in memory may take together.
const MEMORY: u64 = 32 << 20;
/// What all names and links' targets may take together.
const MOST_NAMES: usize = 16 << 20;
/// Files that look like nothing known are kept in memory up to this size: old archives have some.
const SMALL: u64 = 64 << 10;
/// Links from link to link that are followed.
const MOST_LINKS: usize = 16;
/// Progress is reported each time so many bytes have come.
const STEP: u64 = 1 << 20;

/// The files seen so far.
pub(crate) struct Stage<'a> {
    pub images: &'a Images,
    pub lease: &'a Lease,
    /// What is wanted of images for several platforms; empty: this machine's.
    platforms: &'a [Platform],
    report: Report<'a>,
    files: HashMap<Vec<u8>, File>,
    memory: u64,
    /// Bytes of names and links' targets.
    names: usize,
}

enum File {
    Document(Vec<u8>),
    Blob(Blob),
    /// A layer that is still being extracted.
    Arriving(Receiver<Result<Received>>),
    Link(Vec<u8>),
}

/// A file that became a blob, extracted if it looked like a layer.
pub(crate) struct Blob {
    pub digest: Digest,
    pub size: u64,
    pub extraction: Option<Extraction>,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(
        images: &'a Images,
        lease: &'a Lease,
        platforms: &'a [Platform],
        report: Report<'a>,
    ) -> Stage<'a> {
        Stage { images, lease, platforms, report, files: HashMap::new(), memory: 0, names: 0 }
    }

    /// Whether something for this platform is wanted: everything is if nothing else was asked for.
    pub(crate) fn wants(&self, platform: &Platform) -> bool {
        self.platforms.is_empty() || self.platforms.iter().any(|wanted| wanted.matches(platform))
    }

    /// Whether what is for no platform is wanted.
    pub(crate) fn takes_artifacts(&self) -> bool {
        self.platforms.is_empty()
    }

    /// The platforms to look for, the first one first.
    pub(crate) fn preferred(&self) -> Vec<Platform> {
        if self.platforms.is_empty() { vec![Platform::host()] } else { self.platforms.to_vec() }
    }

    /// What it is called when nothing of what was wanted is there.
    pub(crate) fn nothing(&self) -> Error {
        let texts: Vec<String> = self.preferred().iter().map(ToString::to_string).collect();
        Error::NoManifest { platform: texts.join(", ") }
    }

    /// Takes a blob into the store if the archive has it; whether it does.
    pub(crate) fn keep(&mut self, path: &str, digest: &Digest) -> Result<bool> {
        if !self.has(path) {
            return Ok(false);
        }
        let place = self.follow(path)?;
        let found = match self.files.get(&place) {
            Some(File::Blob(blob)) => blob.digest.clone(),
            Some(File::Document(bytes)) => self.images.put_document(bytes, Some(digest), self.lease)?,
            _ => return Err(Error::Missing(path.escape_debug().to_string())),
        };
        if found == *digest {
            return Ok(true);
        }
        let what = format!("blob {}", path.escape_debug());
        Err(Error::Mismatch { what, expected: digest.clone(), actual: found })
    }

    /// Takes one file in; of several with the same name the last one counts, as if they were extracted.
    pub(super) fn take(&mut self, entry: &Entry, data: &mut (dyn Read + Send), workers: &Workers<'_>) -> Result<()> {
        let path = clean(&entry.path).map_err(Error::Tar)?;
        let file = match entry.kind {
            Kind::Directory => return Ok(()),
            Kind::File => self.file(&path, entry.size, data, workers)?,
            Kind::HardLink => self.link(clean(&entry.link).map_err(Error::Tar)?)?,
            Kind::Symlink => self.link(beside(&path, &entry.link)?)?,
            Kind::CharDevice | Kind::BlockDevice | Kind::Fifo => {
                return Err(Error::Archive(format!("{} is a device or a pipe", shown(&path))));
            }
        };
        self.remember(path.len())?;
        if let Some(File::Document(bytes)) = self.files.insert(path, file) {
            self.memory -= bytes.len() as u64;
        }
        Ok(())
    }

    fn link(&mut self, target: Vec<u8>) -> Result<File> {
        self.remember(target.len())?;
        Ok(File::Link(target))
    }

    /// Counts a name that is kept in memory.
    fn remember(&mut self, length: usize) -> Result<()> {
        self.names += length;
        if self.names > MOST_NAMES {
            return Err(Error::Archive(format!("its names take more than {MOST_NAMES} bytes")));
        }
        Ok(())
    }

    /// Waits until all layers are extracted.
    pub(super) fn arrive(&mut self) -> Result<()> {
        for file in self.files.values_mut() {
            if let File::Arriving(done) = file {
                let received = done.recv().map_err(|_| Error::Archive("a layer was not extracted".into()))??;
                let Received { digest, size, extraction } = received;
                *file = File::Blob(Blob { digest, size, extraction: Some(extraction) });
            }
        }
        Ok(())
    }

    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path.as_bytes())
    }

    /// The bytes of a document.
    pub(crate) fn document(&self, path: &str) -> Result<Vec<u8>> {
        match self.files.get(&self.follow(path)?) {
            Some(File::Document(bytes)) => Ok(bytes.clone()),
            // One that was too large for the memory, or looked like a layer.
            Some(File::Blob(blob)) => Ok(self.images.content().read(&blob.digest, LARGEST)?),
            _ => Err(Error::Missing(path.escape_debug().to_string())),
        }
    }

    /// The blob of a layer. Its extraction is handed out once.
    pub(crate) fn blob(&mut self, path: &str) -> Result<Blob> {
        let place = self.follow(path)?;
        let (images, lease) = (self.images, self.lease);
        match self.files.get_mut(&place) {
            Some(File::Blob(blob)) => {
                let extraction = blob.extraction.take();
                Ok(Blob { digest: blob.digest.clone(), size: blob.size, extraction })
            }
            // An empty or odd layer was taken for a document.
            Some(File::Document(bytes)) => {
                let (digest, size) = (images.put_document(bytes, None, lease)?, bytes.len() as u64);
                Ok(Blob { digest, size, extraction: None })
            }
            _ => Err(Error::Missing(path.escape_debug().to_string())),
        }
    }

    /// Commits the layers of an image from below; holds the topmost. `layers` are their blobs' paths and, where it is known,
    /// their digests.
    pub(crate) fn layers(
        &mut self,
        config: &ImageConfig,
        layers: &[(String, Option<Digest>)],
    ) -> Result<(Vec<Descriptor>, Option<Hold>)> {
        let diff_ids = &config.rootfs.diff_ids;
        let chains = ChainId::prefixes(diff_ids);
        let (mut descriptors, mut held) = (Vec::new(), None);
        for (at, (path, expected)) in layers.iter().enumerate() {
            let blob = self.blob(path)?;
            if let Some(expected) = expected.as_ref().filter(|&expected| *expected != blob.digest) {
                let what = format!("layer {}", path.escape_debug());
                return Err(Error::Mismatch { what, expected: expected.clone(), actual: blob.digest });
            }
            descriptors.push(self.images.layer_descriptor(&blob.digest, blob.size)?);
            let parent = at.checked_sub(1).map(|below| &chains[below]);
            if blob.extraction.is_none()
                && let Some(hold) = self.images.snapshots().hold(&chains[at])?
            {
                held = Some(hold);
                continue;
            }
            let name = format!("{} ({})", diff_ids[at].short(), path.escape_debug());
            let source =
                LayerSource { name: &name, blob: &blob.digest, diff_id: &diff_ids[at], chain: &chains[at], parent };
            let (snapshots, content) = (self.images.snapshots(), self.images.content());
            held = Some(unpack::commit(snapshots, content, &source, blob.extraction, &never)?);
        }
        Ok((descriptors, held))
    }

    fn file(&mut self, path: &[u8], size: u64, data: &mut (dyn Read + Send), workers: &Workers<'_>) -> Result<File> {
        let mut head = Vec::with_capacity(512);
        data.take(512).read_to_end(&mut head).map_err(Error::Input)?;
        let looks = Looks::of(&head, size);
        let most = if looks == Looks::Document { LARGEST } else { SMALL };
        if looks != Looks::Layer && size <= most && self.memory + size <= MEMORY {
            let mut bytes = head;
            data.read_to_end(&mut bytes).map_err(Error::Input)?;
            self.memory += size;
            return Ok(File::Document(bytes));
        }
        let algorithm = if path.starts_with(b"blobs/sha512/") { Algorithm::Sha512 } else { Algorithm::Sha256 };
        let mut ingest = self.images.content().ingest_nameless(algorithm, Some(size))?;
        let data = &mut Cursor::new(head).chain(data);
        if looks == Looks::Layer {
            return self.layer(path, size, ingest, data, workers);
        }
        io::copy(data, &mut ingest).map_err(Error::Input)?;
        let (digest, size) = ingest.commit(None, self.lease)?;
        Ok(File::Blob(Blob { digest, size, extraction: None }))
    }

    /// Writes a layer's blob while one of the workers extracts it.
    fn layer(
        &self,
        path: &[u8],
        size: u64,
        mut ingest: Ingest,
        data: &mut dyn Read,
        workers: &Workers<'_>,
    ) -> Result<File> {
        let (label, report) = (label(path), self.report);
        let mut told = 0;
        let mut progress = |current: u64| {
            if current >= told + STEP || current == size {
                told = current;
                report(Progress::bytes(&label, "Loading layer", current, Some(size)));
            }
            Ok(())
        };
        let Arriving { whole, done } = workers.begin(shown(path), &ingest)?;
        unpack::fill(Wanted::Always, &mut ingest, data, &mut progress)?;
        // A worker that gave up answers why.
        let _ = whole.send(ingest);
        Ok(File::Arriving(done))
    }

    /// The file that a path means, through links.
    fn follow(&self, path: &str) -> Result<Vec<u8>> {
        let mut place = clean(path.as_bytes()).map_err(Error::Tar)?;
        for _ in 0..MOST_LINKS {
            match self.files.get(&place) {
                Some(File::Link(target)) => place.clone_from(target),
                _ => return Ok(place),
            }
        }
        Err(Error::Archive(format!("too many links from {}", path.escape_debug())))
    }
}

/// What a file looks like from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    Document,
    Layer,
    Other,
}

impl Looks {
    fn of(head: &[u8], size: u64) -> Looks {
        let is_tar = head.get(257..262) == Some(b"ustar") || (size >= 1024 && head.iter().all(|&byte| byte == 0));
        if is_tar || Compression::detect(head) != Compression::None {
            return Looks::Layer;
        }
        match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{' | b'[') => Looks::Document,
            _ => Looks::Other,
        }
    }
}

/// A symbolic link's target, by text. Absolute ones begin at the archive's root.
fn beside(path: &[u8], target: &[u8]) -> Result<Vec<u8>> {
    let folder = path.iter().rposition(|&byte| byte == b'/').map_or(&[][..], |at| &path[..at]);
    let joined = if target.starts_with(b"/") { target.to_vec() } else { [folder, b"/", target].concat() };
    clean(&joined).map_err(Error::Tar)
}

/// What the progress calls a layer: the digest in its path, where there is one.
fn label(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let parts = text.split(['/', '.']);
    let hex = parts
        .filter(|part| part.len() >= 12 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .max_by_key(|part| part.len());
    hex.map_or_else(|| text.chars().take(32).collect(), |hex| hex[..12].to_owned())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}
