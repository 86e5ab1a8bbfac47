//! From a stream of bytes to a blob and a layer, in one pass.
//!
//! The caller's thread takes bytes from the source, hashes them and writes the blob; a second one decompresses, hashes the
//! diff id and extracts into a draft. The layers below needn't be there yet: directories that the layer implies get their
//! attributes when it is committed, and the rare layer that needs more of those below is extracted again then.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use corten_archive::{Applied, ApplyOptions, Limits, apply, decompress, inherit};
use corten_base::{ChainId, DiffId, Digest, ErrorKind};
use corten_content::{Ingest, Store};
use corten_snapshot::{Hold, LayerDraft, Snapshots};

use crate::{Error, Result};

/// Bytes are handed over in pieces of this size...
const PIECE: usize = 256 << 10;
/// ...of which so many may wait: memory is bounded however slow the disk is.
const PIECES: usize = 4;

/// An extracted layer that isn't named yet.
#[derive(Debug)]
pub(crate) struct Extracted {
    draft: LayerDraft,
    applied: Applied,
}

/// Whether it failed only matters if the layer is wanted: an archive may hold other things that look like layers.
pub(crate) type Extraction = Result<Extracted, corten_archive::Error>;

impl Extracted {
    pub(crate) fn diff_id(&self) -> &DiffId {
        &self.applied.diff_id
    }
}

/// Takes all of `source` into `ingest` and extracts it at the same time. What `ingest` has already is extracted first.
/// `progress` is told how many bytes of the blob are there.
pub(crate) fn receive(
    snapshots: &Snapshots,
    name: &str,
    ingest: &mut Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Extraction> {
    receive_as(Wanted::Always, snapshots, name, ingest, source, progress)
}

/// The same for a source that may have no end: when the extraction gives up, no more is taken.
pub(crate) fn receive_endless(
    snapshots: &Snapshots,
    name: &str,
    ingest: &mut Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Extraction> {
    receive_as(Wanted::WhileExtracted, snapshots, name, ingest, source, progress)
}

/// When a blob's bytes are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Always,
    WhileExtracted,
}

fn receive_as(
    wanted: Wanted,
    snapshots: &Snapshots,
    name: &str,
    ingest: &mut Ingest,
    source: &mut dyn Read,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Extraction> {
    let prefix = ingest.reader()?;
    thread::scope(|scope| {
        let (send, receive) = sync_channel(PIECES);
        let extraction = thread::Builder::new()
            .name("extract".into())
            .spawn_scoped(scope, move || extract(snapshots, Pieces::new(receive), None))
            .map_err(Error::io("start a thread"))?;
        let copied = copy(wanted, ingest, prefix, source, &send, progress);
        drop(send);
        let extraction = extraction.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // A source that broke off makes the extraction fail too; the source's own story is the one to tell.
        copied?;
        match extraction {
            Err(source) if source.kind() == ErrorKind::Internal => Err(Error::Layer { layer: name.to_owned(), source }),
            other => Ok(other),
        }
    })
}

fn copy(
    wanted: Wanted,
    ingest: &mut Ingest,
    mut prefix: impl Read,
    source: &mut dyn Read,
    send: &SyncSender<Vec<u8>>,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let mut prefix = Cutter::new(&mut prefix);
    while let Some(piece) = prefix.next_piece().map_err(Error::io("read a partial download"))? {
        drop(send.send(piece));
    }
    let mut source = Cutter::new(source);
    while let Some(piece) = source.next_piece().map_err(input)? {
        ingest.write_all(&piece).map_err(Error::io("write a layer"))?;
        let has_given_up = send.send(piece).is_err();
        if has_given_up && wanted == Wanted::WhileExtracted {
            break;
        }
        progress(ingest.offset())?;
    }
    Ok(())
}

/// What reading the source failed with: a registry's own error, where there is one inside.
pub(crate) fn input(error: io::Error) -> Error {
    match error.downcast::<corten_distribution::Error>() {
        Ok(error) => Error::Registry(error),
        Err(error) => Error::Input(error),
    }
}

/// Cuts a stream into pieces.
struct Cutter<'a> {
    source: &'a mut dyn Read,
    /// What ended the stream in the middle of a piece. The bytes before it are worth keeping, so it is told after them.
    failed: Option<io::Error>,
}

impl<'a> Cutter<'a> {
    fn new(source: &'a mut dyn Read) -> Cutter<'a> {
        Cutter { source, failed: None }
    }

    /// The next piece, full but for the last one; none at the end.
    fn next_piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut piece = Vec::with_capacity(PIECE);
        // What was read before an error stays in the vector.
        if let Err(error) = self.source.take(PIECE as u64).read_to_end(&mut piece) {
            if piece.is_empty() {
                return Err(error);
            }
            self.failed = Some(error);
        }
        Ok(Some(piece).filter(|piece| !piece.is_empty()))
    }
}

/// Reads the pieces that come through a channel.
struct Pieces {
    receive: Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Pieces {
    fn new(receive: Receiver<Vec<u8>>) -> Pieces {
        Pieces { receive, piece: io::Cursor::default() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.piece.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.receive.recv() {
                Ok(piece) => self.piece = io::Cursor::new(piece),
                Err(_) => return Ok(0),
            }
        }
    }
}

/// Extracts a layer, compressed or not, into a draft; `lower` is none while the layers below aren't there.
fn extract(snapshots: &Snapshots, reader: impl Read + Send, lower: Option<&[OwnedFd]>) -> Extraction {
    let draft = snapshots.draft_layer().map_err(|error| corten_archive::Error::Write(io::Error::other(error)))?;
    let limits = Limits { max_bytes: draft.room(), ..Limits::default() };
    let options = ApplyOptions { limits, lower_pending: lower.is_none() };
    let applied = apply(decompress(reader)?, draft.fs(), lower.unwrap_or_default(), &options)?;
    Ok(Extracted { draft, applied })
}

/// Extracts a layer from a blob that is there, while the layers below may not be.
pub(crate) fn extract_blob(snapshots: &Snapshots, content: &Store, blob: &Digest) -> Result<Extraction> {
    Ok(extract(snapshots, content.open_blob(blob)?, None))
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
        None => extract(snapshots, content.open_blob(layer.blob)?, Some(&lower()?)).map_err(failed)?,
    };
    let Extracted { draft, applied } = extracted;
    matches(layer, &applied)?;
    Ok(draft.commit(layer.chain, layer.parent, applied.size)?)
}

/// Extracts a layer anew, to stand in the place of one whose files were damaged.
pub(crate) fn replace(snapshots: &Snapshots, content: &Store, layer: &LayerSource<'_>) -> Result<()> {
    let failed = |source| Error::Layer { layer: layer.name.to_owned(), source };
    let lower = layer.parent.map_or(Ok(Vec::new()), |parent| snapshots.open_stack(parent))?;
    let Extracted { draft, applied } =
        extract(snapshots, content.open_blob(layer.blob)?, Some(&lower)).map_err(failed)?;
    matches(layer, &applied)?;
    Ok(snapshots.replace_layer(layer.chain, draft, applied.size)?)
}

/// Compares the diff id with what the configuration says.
fn matches(layer: &LayerSource<'_>, applied: &Applied) -> Result<()> {
    if applied.diff_id == *layer.diff_id {
        return Ok(());
    }
    Err(Error::Mismatch {
        what: format!("layer {}", layer.name),
        expected: layer.diff_id.0.clone(),
        actual: applied.diff_id.0.clone(),
    })
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
