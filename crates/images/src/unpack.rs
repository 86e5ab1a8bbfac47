//! From a stream of bytes to a blob and a layer, in one pass.
//!
//! One thread takes bytes from the source, hashes them and writes the blob; another one follows it through the blob's file,
//! decompresses, hashes the diff id and extracts into a draft. Neither holds the other up, and what lies between them lies in the
//! page cache. The layers below needn't be there yet: directories that the layer implies get their attributes when it is
//! committed, and the rare layer that needs more of those below is extracted again then.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use corten_archive::inherit;
use corten_base::{ChainId, DiffId, Digest, ErrorKind};
use corten_content::{Ingest, Store};
use corten_snapshot::{Hold, Snapshots};

use crate::extract::{Extracted, Extraction, Extractor, IsOver, Terms, extract, never};
use crate::{Error, Result};

/// Bytes are taken from the source in pieces of at most this size.
const PIECE: usize = 256 << 10;

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
    terms: &Terms<'_>,
    name: &str,
    ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    commit: impl FnOnce(Ingest) -> Result<(Digest, u64)>,
) -> Result<Received> {
    let extract = |extractor: Extractor, is_over: IsOver<'_>| extractor.extract(terms.snapshots, is_over);
    // A source that broke off makes the extraction fail too; the source's own story is the one to tell.
    let (whole, extraction) = followed(wanted, terms, ingest, source, progress, extract, commit)?;
    match (whole, terms.unless_cancelled(extraction)?) {
        (Some((digest, size)), extraction) => received(name, digest, size, extraction),
        (None, Err(source)) => Err(Error::Layer { layer: name.to_owned(), source }),
        (None, Ok(_)) => Err(Error::Archive("its extraction ended before it did".into())),
    }
}

/// The same for a layer that is unpacked already: the blob is compared with the layer that it has to unfold to, and committed
/// if it does.
pub(crate) fn receive_packing(
    layer: (&str, &DiffId),
    terms: &Terms<'_>,
    ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    commit: impl FnOnce(Ingest) -> Result<(Digest, u64)>,
) -> Result<()> {
    let (name, expected) = layer;
    let most = terms.snapshots.room();
    let unfold = |extractor: Extractor, is_over: IsOver<'_>| extractor.digest(most, is_over);
    let (whole, unfolded) = followed(Wanted::UnlessLong, terms, ingest, source, progress, unfold, Ok)?;
    let actual = terms.unless_cancelled(unfolded)?.map_err(|source| Error::Layer { layer: name.to_owned(), source })?;
    if actual != expected.0 {
        return Err(Error::Mismatch { what: format!("layer {name}"), expected: expected.0.clone(), actual });
    }
    whole.map(commit).transpose().map(drop)
}

/// Takes all of `source` into `ingest` while `follow` reads it. `finish` gets the whole ingest, unless `follow` gave up on one
/// that was wanted for it only.
fn followed<T: Send, C>(
    wanted: Wanted,
    terms: &Terms<'_>,
    mut ingest: Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
    follow: impl FnOnce(Extractor, IsOver<'_>) -> T + Send,
    finish: impl FnOnce(Ingest) -> Result<C>,
) -> Result<(Option<C>, T)> {
    let extractor = Extractor::of(&ingest)?;
    let is_broken = AtomicBool::new(false);
    let is_over = || is_broken.load(Ordering::Relaxed) || terms.cancel.is_cancelled();
    thread::scope(|scope| {
        let following = || {
            let _turn = terms.turn(&is_over);
            follow(extractor, &is_over)
        };
        let following = thread::Builder::new()
            .name("extract".into())
            .spawn_scoped(scope, following)
            .map_err(Error::io("start a thread"))?;
        let filled = fill(wanted, &mut ingest, source, progress);
        let finished = filled.and_then(|filled| filled.then(|| finish(ingest)).transpose());
        // The follower may be far behind.
        is_broken.store(finished.is_err(), Ordering::Relaxed);
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

/// What reading the source failed with: a registry's own error, where there is one inside.
pub(crate) fn input(error: io::Error) -> Error {
    match error.downcast::<corten_distribution::Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::Input(error),
    }
}

/// Names an extracted layer; extracts it from its blob if there is no extraction, or again if it needs the layers below. The
/// diff id is compared before anything is named.
pub(crate) fn commit(
    snapshots: &Snapshots,
    content: &Store,
    layer: &LayerSource<'_>,
    extraction: Option<Extraction>,
    is_over: IsOver<'_>,
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
        None => extract(snapshots, content.open_blob(layer.blob)?, Some(&lower()?), false, is_over).map_err(failed)?,
    };
    matches(layer, &extracted)?;
    let Extracted { draft, applied } = extracted;
    Ok(draft.commit(layer.chain, layer.parent, applied.size)?)
}

/// Extracts a layer anew, to stand in the place of one whose files were damaged.
pub(crate) fn replace(snapshots: &Snapshots, content: &Store, layer: &LayerSource<'_>) -> Result<()> {
    let failed = |source| Error::Layer { layer: layer.name.to_owned(), source };
    let lower = layer.parent.map_or(Ok(Vec::new()), |parent| snapshots.open_stack(parent))?;
    let extracted = extract(snapshots, content.open_blob(layer.blob)?, Some(&lower), false, &never).map_err(failed)?;
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
