//! A layer's blob to a draft of its files, while the blob comes or when it is here.
//!
//! Extractions go by [`Terms`]: they take turns, and end at the next piece when nobody wants them any more.

use std::io::{self, Read};
use std::os::fd::OwnedFd;

use corten_archive::{Applied, ApplyOptions, Compression, Limits, apply};
use corten_base::{Algorithm, DiffId, Digest, Digester};
use corten_content::{Follower, Ingest, Store};
use corten_distribution::Cancel;
use corten_snapshot::{LayerDraft, Snapshots};

use crate::turns::{Turn, Turns};
use crate::{Error, Result};

/// What extractions go by.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub snapshots: &'a Snapshots,
    /// Where they wait for their turn, and how many may go on at once; none: they begin at once.
    pub turns: Option<(&'a Turns, usize)>,
    /// Gives them up.
    pub cancel: &'a Cancel,
}

impl<'a> Terms<'a> {
    /// Waits for an extraction's turn, or until it is over before it has begun.
    pub(crate) fn turn(&self, is_over: IsOver<'_>) -> Option<Turn<'a>> {
        let (turns, most) = self.turns?;
        turns.enter(most, is_over)
    }

    /// What an extraction that was given up failed with is nobody's concern.
    pub(crate) fn unless_cancelled<T>(
        &self,
        extraction: Result<T, corten_archive::Error>,
    ) -> Result<Result<T, corten_archive::Error>> {
        if extraction.is_err() && self.cancel.is_cancelled() { Err(Error::Cancelled) } else { Ok(extraction) }
    }
}

/// Whether nobody wants what an extraction makes any more. It is asked at every piece.
pub(crate) type IsOver<'a> = &'a (dyn Fn() -> bool + Sync);

/// For what is always wanted.
pub(crate) fn never() -> bool {
    false
}

/// Reads as long as it is wanted.
struct WhileWanted<'a, R> {
    reader: R,
    is_over: IsOver<'a>,
}

impl<R: Read> Read for WhileWanted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if (self.is_over)() {
            return Err(io::Error::other("it was given up"));
        }
        self.reader.read(into)
    }
}

/// An extracted layer that isn't named yet.
#[derive(Debug)]
pub(crate) struct Extracted {
    pub draft: LayerDraft,
    pub applied: Applied,
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
    pub(crate) fn extract(self, snapshots: &Snapshots, is_over: IsOver<'_>) -> Extraction {
        extract(snapshots, self.follower, None, self.has_digest, is_over)
    }

    /// Unfolds it to nothing but its digest; it may not unfold to more than `most` bytes.
    pub(crate) fn digest(self, most: u64, is_over: IsOver<'_>) -> Result<Digest, corten_archive::Error> {
        let reader = corten_archive::decompress(self.follower)?;
        let mut unfolded = WhileWanted { reader, is_over }.take(most.saturating_add(1));
        let mut digester = Digester::sha256();
        let length = io::copy(&mut unfolded, &mut digester).map_err(corten_archive::Error::Read)?;
        if length > most {
            return Err(corten_archive::Error::Limit { what: "bytes", limit: most });
        }
        Ok(digester.finish())
    }
}

/// Extracts a layer, compressed or not, into a draft; `lower` is none while the layers below aren't there. With `has_digest` the
/// diff id of one that isn't compressed is left out.
pub(crate) fn extract(
    snapshots: &Snapshots,
    reader: impl Read + Send,
    lower: Option<&[OwnedFd]>,
    has_digest: bool,
    is_over: IsOver<'_>,
) -> Extraction {
    let draft = snapshots.draft_layer().map_err(|error| corten_archive::Error::Write(io::Error::other(error)))?;
    let most = Limits::default();
    let max_files = most.max_files.min(snapshots.room_for_files());
    let limits = Limits { max_bytes: snapshots.room(), max_files, ..most };
    let (compression, reader) = corten_archive::open(reader)?;
    let unhashed = has_digest && compression == Compression::None;
    let options = ApplyOptions { limits, lower_pending: lower.is_none(), unhashed };
    let reader = WhileWanted { reader, is_over };
    let applied = apply(reader, draft.fs(), lower.unwrap_or_default(), &options)?;
    Ok(Extracted { draft, applied })
}

/// Extracts a layer from a blob that is there, while the layers below may not be.
pub(crate) fn extract_blob(terms: &Terms<'_>, content: &Store, blob: &Digest) -> Result<Extraction> {
    let is_over = || terms.cancel.is_cancelled();
    let _turn = terms.turn(&is_over);
    terms.unless_cancelled(extract(terms.snapshots, content.open_blob(blob)?, None, false, &is_over))
}

/// Stores in a folder of their own, in which the test leaves no draft.
#[cfg(test)]
pub(crate) fn with_stores(test: impl FnOnce(&Snapshots, &Store)) {
    let folder = tempfile::tempdir().unwrap();
    let schemas = [corten_content::SCHEMA, corten_snapshot::SCHEMA];
    let database = corten_metadata::Database::open(&folder.path().join("metadata.db"), &schemas).unwrap();
    let content = Store::open(&folder.path().join("content"), database.clone()).unwrap();
    let snapshots = Snapshots::open(&folder.path().join("snapshots"), database).unwrap();
    let folders = || std::fs::read_dir(folder.path().join("snapshots")).unwrap().count();
    let empty = folders();
    test(&snapshots, &content);
    snapshots.wait_removed();
    assert_eq!(folders(), empty, "a draft stayed");
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use corten_testkit::image::{Packing, noise, pack, tar};
    use corten_testkit::is_root;

    use super::*;
    use crate::unpack::{self, Wanted};

    #[test]
    fn it_ends_at_the_next_piece() {
        if !is_root("it_ends_at_the_next_piece") {
            return;
        }
        let layer = tar(&[("large", &noise(1, 4 << 20))]);
        for packing in [Packing::Plain, Packing::Gzip] {
            for asked_before in [0, 3] {
                with_stores(|snapshots, content| {
                    let mut ingest = content.ingest_nameless(Algorithm::Sha256, None).unwrap();
                    ingest.write_all(&pack(&layer, packing)).unwrap();
                    ingest.complete();
                    let asked = AtomicUsize::new(0);
                    let is_over = || asked.fetch_add(1, Ordering::Relaxed) >= asked_before;
                    let extraction = Extractor::of(&ingest).unwrap().extract(snapshots, &is_over);
                    assert!(matches!(extraction, Err(corten_archive::Error::Read(_))), "{extraction:?}");
                    assert_eq!(asked.load(Ordering::Relaxed), asked_before + 1);
                    let asked = AtomicUsize::new(0);
                    let is_over = || asked.fetch_add(1, Ordering::Relaxed) >= asked_before;
                    let digest = Extractor::of(&ingest).unwrap().digest(u64::MAX, &is_over);
                    assert!(matches!(digest, Err(corten_archive::Error::Read(_))), "{digest:?}");
                    assert_eq!(asked.load(Ordering::Relaxed), asked_before + 1);
                });
            }
        }
    }

    #[test]
    fn a_download_does_not_wait_for_its_extraction_s_turn() {
        if !is_root("a_download_does_not_wait_for_its_extraction_s_turn") {
            return;
        }
        let layer = pack(&tar(&[("file", b"content")]), Packing::Gzip);
        for is_given_up in [false, true] {
            with_stores(|snapshots, content| {
                let ingest = content.ingest_nameless(Algorithm::Sha256, None).unwrap();
                let (turns, cancel) = (Turns::default(), Cancel::default());
                let terms = Terms { snapshots, turns: Some((&turns, 1)), cancel: &cancel };
                let mut before = turns.enter(1, never);
                let lease = content.lease(corten_content::LeaseOptions::default()).unwrap();
                let commit = |ingest: Ingest| {
                    let committed = ingest.commit(None, &lease)?;
                    if is_given_up {
                        cancel.cancel()
                    } else {
                        before = None
                    }
                    Ok(committed)
                };
                let received =
                    unpack::receive(Wanted::Always, &terms, "it", ingest, &mut &layer[..], &mut |_| Ok(()), commit);
                match received {
                    Ok(received) => assert!(!is_given_up && received.extraction.is_ok()),
                    Err(error) => assert!(is_given_up && matches!(error, Error::Cancelled), "{error:?}"),
                }
            });
        }
    }
}
