//! From a stream of bytes to a blob and a layer, in one pass.
//!
//! One thread takes bytes from the source, hashes them and writes the blob; another one follows it through the blob's file,
//! decompresses, hashes the diff id and extracts into a draft. Neither holds the other up, and what lies between them lies in the
//! page cache. The layers below needn't be there yet: directories that the layer implies get their attributes when it is
//! committed, and the rare layer that needs more of those below is extracted again then.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::thread;

use corten_archive::{Applied, ApplyOptions, Compression, Limits, apply, inherit};
use corten_base::{Algorithm, ChainId, DiffId, Digest, Digester, ErrorKind};
use corten_content::{Follower, Ingest, Store};
use corten_snapshot::{Hold, LayerDraft, Snapshots};

use crate::{Error, Result};

/// Bytes are taken from the source in pieces of at most this size.
const PIECE: usize = 256 << 10;

/// An extracted layer that isn't named yet.
#[derive(Debug)]
pub(crate) struct Extracted {
    draft: LayerDraft,
    applied: Applied,
}

impl Extracted {
    /// What the layer is; `blob` is what it was extracted from.
    pub(crate) fn diff_id(&self, blob: &Digest) -> DiffId {
        // What wasn't hashed isn't packed: it is its blob.
        self.applied.diff_id.clone().unwrap_or_else(|| DiffId(blob.clone()))
    }
}

/// Whether it failed only matters if the layer is wanted: an archive may hold other things that look like layers.
pub(crate) type Extraction = Result<Extracted, corten_archive::Error>;

/// A blob that came, and what became of its extraction.
#[derive(Debug)]
pub(crate) struct Received {
    pub digest: Digest,
    pub size: u64,
    pub extraction: Extraction,
}

/// When a blob's bytes are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Whatever becomes of the extraction.
    Always,
    /// Of a source that may have no end: no more of it is taken when the extraction gives up, and what came is thrown away.
    WhileExtracted,
    /// The same, but what is nearly whole is taken all the same: bytes that are damaged are best told by their digest.
    UnlessLong,
}

/// What may still come of a layer whose extraction has given up, to be told by its digest.
const NEARLY_WHOLE: u64 = 64 << 20;

/// Takes all of `source` into `ingest`, extracts it at the same time, and has the whole blob committed. What `ingest` has already
/// is extracted first. `progress` is told how many bytes of the blob are there.
pub(crate) fn receive(
    wanted: Wanted,
    snapshots: &Snapshots,
    name: &str,
    ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    commit: impl FnOnce(Ingest) -> Result<(Digest, u64)>,
) -> Result<Received> {
    let extract = |extractor: Extractor| extractor.extract(snapshots);
    // A source that broke off makes the extraction fail too; the source's own story is the one to tell.
    match followed(wanted, ingest, source, progress, extract, commit)? {
        (Some((digest, size)), extraction) => received(name, digest, size, extraction),
        (None, Err(source)) => Err(Error::Layer { layer: name.to_owned(), source }),
        (None, Ok(_)) => Err(Error::Archive("its extraction ended before it did".into())),
    }
}

/// The same for a layer that is unpacked already: the blob is compared with the layer that it has to unfold to, and committed
/// if it does. `most` bounds what it may unfold to.
pub(crate) fn receive_packing(
    layer: (&str, &DiffId),
    most: u64,
    ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    commit: impl FnOnce(Ingest) -> Result<(Digest, u64)>,
) -> Result<()> {
    let (name, expected) = layer;
    let (whole, unfolded) =
        followed(Wanted::UnlessLong, ingest, source, progress, |extractor| extractor.digest(most), Ok)?;
    let actual = unfolded.map_err(|source| Error::Layer { layer: name.to_owned(), source })?;
    if actual != expected.0 {
        return Err(Error::Mismatch { what: format!("layer {name}"), expected: expected.0.clone(), actual });
    }
    whole.map(commit).transpose().map(drop)
}

/// Takes all of `source` into `ingest` while `follow` reads it. `finish` gets the whole ingest, unless `follow` gave up on one
/// that was wanted for it only.
fn followed<T: Send, C>(
    wanted: Wanted,
    mut ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    follow: impl FnOnce(Extractor) -> T + Send,
    finish: impl FnOnce(Ingest) -> Result<C>,
) -> Result<(Option<C>, T)> {
    let extractor = Extractor::of(&ingest)?;
    thread::scope(|scope| {
        let following = thread::Builder::new()
            .name("extract".into())
            .spawn_scoped(scope, move || follow(extractor))
            .map_err(Error::io("start a thread"))?;
        let filled = fill(wanted, &mut ingest, source, progress);
        let finished = filled.and_then(|filled| filled.then(|| finish(ingest)).transpose());
        let followed = following.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((finished?, followed))
    })
}

/// Takes all of `source` into `ingest`, and tells those who follow it that this was all; false if they have given up.
pub(crate) fn fill(
    wanted: Wanted,
    ingest: &mut Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<bool> {
    let mut piece = vec![0; PIECE];
    loop {
        match source.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => {
                ingest.write_all(&piece[..length]).map_err(Error::io("write a layer"))?;
                let is_enough = match wanted {
                    Wanted::Always => false,
                    Wanted::WhileExtracted => true,
                    Wanted::UnlessLong => ingest.left().is_none_or(|left| left > NEARLY_WHOLE),
                };
                if is_enough && ingest.is_abandoned() {
                    return Ok(false);
                }
                progress(ingest.offset())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(input(error)),
        }
    }
    ingest.complete();
    Ok(true)
}

/// Puts a blob and its extraction together. A failure of this machine is told at once, one of the layer if it is wanted.
pub(crate) fn received(name: &str, digest: Digest, size: u64, extraction: Extraction) -> Result<Received> {
    match extraction {
        Err(source) if source.kind() == ErrorKind::Internal => Err(Error::Layer { layer: name.to_owned(), source }),
        extraction => Ok(Received { digest, size, extraction }),
    }
}

/// Extracts a blob while it comes.
pub(crate) struct Extractor {
    follower: Follower,
    /// A layer that isn't packed has its blob's digest: it is computed as the blob is written.
    has_digest: bool,
}

impl Extractor {
    pub(crate) fn of(ingest: &Ingest) -> Result<Extractor> {
        Ok(Extractor { follower: ingest.follow()?, has_digest: ingest.algorithm() == Algorithm::Sha256 })
    }

    /// Extracts into a draft, while the layers below may not be there.
    pub(crate) fn extract(self, snapshots: &Snapshots) -> Extraction {
        extract(snapshots, self.follower, None, self.has_digest)
    }

    /// Unfolds it to nothing but its digest; it may not unfold to more than `most` bytes.
    fn digest(self, most: u64) -> Result<Digest, corten_archive::Error> {
        let mut unfolded = corten_archive::decompress(self.follower)?.take(most.saturating_add(1));
        let mut digester = Digester::sha256();
        let length = io::copy(&mut unfolded, &mut digester).map_err(corten_archive::Error::Read)?;
        if length > most {
            return Err(corten_archive::Error::Limit { what: "bytes", limit: most });
        }
        Ok(digester.finish())
    }
}

/// What reading the source failed with: a registry's own error, where there is one inside.
pub(crate) fn input(error: io::Error) -> Error {
    match error.downcast::<corten_distribution::Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::Input(error),
    }
}

/// Extracts a layer, compressed or not, into a draft; `lower` is none while the layers below aren't there. With `has_digest` the
/// diff id of one that isn't compressed is left out.
fn extract(snapshots: &Snapshots, reader: impl Read + Send, lower: Option<&[OwnedFd]>, has_digest: bool) -> Extraction {
    let draft = snapshots.draft_layer().map_err(|error| corten_archive::Error::Write(io::Error::other(error)))?;
    let most = Limits::default();
    let max_files = most.max_files.min(snapshots.room_for_files());
    let limits = Limits { max_bytes: snapshots.room(), max_files, ..most };
    let (compression, reader) = corten_archive::open(reader)?;
    let unhashed = has_digest && compression == Compression::None;
    let options = ApplyOptions { limits, lower_pending: lower.is_none(), unhashed };
    let applied = apply(reader, draft.fs(), lower.unwrap_or_default(), &options)?;
    Ok(Extracted { draft, applied })
}

/// Extracts a layer from a blob that is there, while the layers below may not be.
pub(crate) fn extract_blob(snapshots: &Snapshots, content: &Store, blob: &Digest) -> Result<Extraction> {
    Ok(extract(snapshots, content.open_blob(blob)?, None, false))
}

/// Names an extracted layer; extracts it from its blob if there is no extraction, or again if it needs the layers below. The
/// diff id is compared before anything is named.
pub(crate) fn commit(
    snapshots: &Snapshots,
    content: &Store,
    layer: &LayerSource<'_>,
    extraction: Option<Extraction>,
) -> Result<Hold> {
    let failed = |source| Error::Layer { layer: layer.name.to_owned(), source };
    let lower = || layer.parent.map_or(Ok(Vec::new()), |parent| snapshots.open_stack(parent));
    let extracted = match extraction.transpose().map_err(failed)?.filter(|extracted| !extracted.applied.needs_lower) {
        Some(extracted) => {
            if layer.parent.is_some() && !extracted.applied.implied.is_empty() {
                inherit(extracted.draft.fs(), &lower()?, &extracted.applied.implied).map_err(failed)?;
            }
            extracted
        }
        None => extract(snapshots, content.open_blob(layer.blob)?, Some(&lower()?), false).map_err(failed)?,
    };
    matches(layer, &extracted)?;
    let Extracted { draft, applied } = extracted;
    Ok(draft.commit(layer.chain, layer.parent, applied.size)?)
}

/// Extracts a layer anew, to stand in the place of one whose files were damaged.
pub(crate) fn replace(snapshots: &Snapshots, content: &Store, layer: &LayerSource<'_>) -> Result<()> {
    let failed = |source| Error::Layer { layer: layer.name.to_owned(), source };
    let lower = layer.parent.map_or(Ok(Vec::new()), |parent| snapshots.open_stack(parent))?;
    let extracted = extract(snapshots, content.open_blob(layer.blob)?, Some(&lower), false).map_err(failed)?;
    matches(layer, &extracted)?;
    let Extracted { draft, applied } = extracted;
    Ok(snapshots.replace_layer(layer.chain, draft, applied.size)?)
}

/// Compares the diff id with what the configuration says.
fn matches(layer: &LayerSource<'_>, extracted: &Extracted) -> Result<()> {
    let actual = extracted.diff_id(layer.blob);
    if actual == *layer.diff_id {
        return Ok(());
    }
    let expected = layer.diff_id.0.clone();
    Err(Error::Mismatch { what: format!("layer {}", layer.name), expected, actual: actual.0 })
}

/// What a layer is called and stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerSource<'a> {
    /// For people.
    pub name: &'a str,
    /// Its blob.
    pub blob: &'a Digest,
    /// What its configuration says it is.
    pub diff_id: &'a DiffId,
    /// What it makes of the layers below.
    pub chain: &'a ChainId,
    /// The layers below.
    pub parent: Option<&'a ChainId>,
}
