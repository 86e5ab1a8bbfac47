//! What faces ask of images: the image room's own operations off the runtime's thread, what is in use by containers, and long
//! operations as streams of steps.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use corten_base::{ContainerId, ErrorKind, ImageId, Namespace, Platform, Reference};
use corten_distribution::{Credentials, Found};
use corten_events::Kind;
use corten_images::{
    Cancel, Checkup, Deleted, Descriptor, Filters, HistoryItem, Image, Images, ImportOptions, InUse, ManifestKind,
    ManifestSummary, Progress, Remote, Report, Sharing, Statement, Summary, TransferOptions, WebAddress,
};
use tokio::sync::mpsc;

use crate::blocking;
use crate::error::Error;
use crate::shared::Shared;
use crate::transfers::Transfers;

/// Steps that may wait for a slow reader before the operation waits itself.
const STEPS: usize = 64;
/// What is told to who has to wait for others' transfers.
const WAITING: &str = "Waiting for other transfers";

/// The images of one namespace.
#[derive(Debug, Clone)]
pub struct ImageService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
}

/// A request's body on its way to an operation: pieces, or why no more come. The sender's end of a bounded channel.
pub type Body = mpsc::Receiver<io::Result<Bytes>>;

/// Bytes on their way to a client, in pieces of this size...
const PIECE: usize = 256 << 10;
/// ...of which so many may wait for a slow one.
const PIECES: usize = 4;

/// Bytes that an operation makes. Dropping it ends the operation at its next piece.
#[derive(Debug)]
pub struct Download {
    /// How many there will be; fewer come only if the operation fails.
    pub length: u64,
    pieces: mpsc::Receiver<Bytes>,
}

impl Download {
    /// The next bytes; none at the end.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

/// A long operation under way: its steps, then its end. Dropping it cancels the operation, at once where it waits for a registry.
#[derive(Debug)]
pub struct Operation {
    steps: mpsc::Receiver<Result<Progress, Error>>,
    _wanted: Wanted,
}

/// Somebody waits for an operation's end: dropping it cancels the operation.
#[derive(Debug)]
struct Wanted(Cancel);

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Operation {
    /// The next step; an error is the last one, and what came before it was done all the same.
    pub async fn next(&mut self) -> Option<Result<Progress, Error>> {
        self.steps.recv().await
    }

    /// Runs `work` when there is a thread for it; until then it is told that it waits. It reports its steps through the function it
    /// is given; nobody reads them any more when it is cancelled.
    fn run<T>(
        transfers: &Transfers,
        work: impl FnOnce(Report<'_>, &Cancel) -> Result<T, Error> + Send + 'static,
    ) -> Operation {
        let (sender, steps) = mpsc::channel(STEPS);
        let cancel = Cancel::default();
        let (told, turn, later) = (cancel.clone(), transfers.turn_now(), transfers.turn());
        // It ends with the operation's steps, if it doesn't come to its turn.
        tokio::spawn(async move {
            let turn = match turn {
                Some(turn) => turn,
                None => {
                    let _ = sender.send(Ok(Progress::status(WAITING))).await;
                    tokio::select! {
                        turn = later => turn,
                        () = sender.closed() => return,
                    }
                }
            };
            let unable = sender.clone();
            if let Err(error) = turn.start(move || perform(&sender, &told, work)) {
                let _ = unable.send(Err(error)).await;
            }
        });
        Operation { steps, _wanted: Wanted(cancel) }
    }
}

fn perform<T>(
    sender: &mpsc::Sender<Result<Progress, Error>>,
    cancel: &Cancel,
    work: impl FnOnce(Report<'_>, &Cancel) -> Result<T, Error>,
) {
    let report = |step: Progress| {
        // How far something is will be told again; nobody has to wait for a slow reader because of it.
        let is_passing = matches!(step, Progress::Status { current: Some(_), .. });
        match is_passing {
            true => drop(sender.try_send(Ok(step))),
            false => drop(sender.blocking_send(Ok(step))),
        }
    };
    if let Err(error) = work(&report, cancel) {
        let _ = sender.blocking_send(Err(error));
    }
}

impl ImageService {
    /// The image room as this namespace sees it.
    fn images(&self) -> Images {
        self.shared.images.within(&self.namespace)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Images) -> corten_images::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let images = self.images();
        Ok(blocking::run(move || question(&images)).await??)
    }

    /// The same for what may take its time.
    async fn ask_slowly<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Images) -> corten_images::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let images = self.images();
        Ok(self.shared.transfers.run(move || question(&images)).await??)
    }

    /// Images that the filters let through, newest first.
    pub async fn list(&self, filters: Filters) -> Result<Vec<Summary>, Error> {
        self.ask(move |images| images.list(&filters)).await
    }

    /// The image that a name, digest or beginning of an id means.
    pub async fn resolve(&self, name: &str, platform: Option<Platform>) -> Result<Image, Error> {
        let name = name.to_string();
        self.ask(move |images| images.resolve(&name, platform.as_ref())).await
    }

    /// Where an image's layers are, the top one first; empty for an image that isn't unpacked or has none.
    pub async fn layer_directories(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        let Some(chain) = image.chain.clone() else { return Ok(Vec::new()) };
        let snapshots = self.shared.snapshots.clone();
        let stack = blocking::run(move || snapshots.stack(&chain)).await?;
        Ok(stack.map(|layers| layers.into_iter().map(|layer| layer.path).collect()).unwrap_or_default())
    }

    /// The configuration's bytes as received.
    pub async fn raw_config(&self, id: ImageId) -> Result<Vec<u8>, Error> {
        self.ask(move |images| images.raw_config(&id)).await
    }

    /// How an image came to be, newest step first.
    pub async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryItem>, Error> {
        let name = name.to_string();
        self.ask(move |images| images.history(&name, platform.as_ref())).await
    }

    /// Gives an image another name.
    pub async fn tag(&self, name: &str, target: Reference) -> Result<ImageId, Error> {
        let name = name.to_string();
        self.ask(move |images| images.tag(&name, &target)).await
    }

    /// Takes a name away, and the image with its last one, unless a container is in the way.
    pub async fn remove(&self, name: &str, force: bool, no_prune: bool) -> Result<Vec<Deleted>, Error> {
        let (name, shared, namespace) = (name.to_string(), self.shared.clone(), self.namespace.clone());
        self.ask(move |images| {
            // What was made for its next container stands on it.
            shared.spares.clear();
            images.remove(&name, force, no_prune, &|id| users(&shared, &namespace, id))
        })
        .await
    }

    /// The same for one or several platforms of an image for several.
    pub async fn remove_platforms(
        &self,
        name: &str,
        platforms: Vec<Platform>,
        force: bool,
        no_prune: bool,
    ) -> Result<Vec<Deleted>, Error> {
        let (name, shared, namespace) = (name.to_string(), self.shared.clone(), self.namespace.clone());
        self.ask(move |images| {
            shared.spares.clear();
            images.remove_platforms(&name, &platforms, (force, no_prune), &|id| users(&shared, &namespace, id))
        })
        .await
    }

    /// Removes images that no container uses: those without a tag only, unless `all`; without filters also what interrupted pulls
    /// left. Returns what went and the bytes of the layers that went with it. Tells a `prune` event.
    pub async fn prune(&self, all: bool, filters: Filters) -> Result<(Vec<Deleted>, u64), Error> {
        let is_whole = filters.label.is_empty() && filters.label_not.is_empty() && filters.until.is_none();
        let filters = if all { filters } else { Filters { dangling: Some(true), ..filters } };
        let snapshots = self.shared.snapshots.clone();
        let layers = blocking::run(move || snapshots.layers()).await?;
        let layers = layers.map_err(Error::failed("cannot measure the layers"))?;
        let sizes: HashMap<String, u64> =
            layers.into_iter().map(|layer| (layer.chain.to_string(), layer.size)).collect();
        let mut gone = Vec::new();
        for image in self.list(filters).await? {
            // Docker would take all but the last of its names.
            if self.users(&image.id) > 0 {
                continue;
            }
            // Digests go with the last tag of their repository; those of others, whose tags mean something else by now, don't.
            let mut names = [image.repo_tags, image.repo_digests].concat();
            if names.is_empty() {
                names.push(image.id.to_string());
            }
            for name in names {
                match self.remove(&name, false, false).await {
                    Ok(removed) => gone.extend(removed),
                    // Used or gone since it was listed.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let freed = gone.iter().filter_map(|step| match step {
            Deleted::Deleted(subject) => sizes.get(subject),
            Deleted::Untagged(_) => None,
        });
        let freed = freed.sum::<u64>() + if is_whole { self.forget_interrupted().await? } else { 0 };
        self.shared.tell(&self.namespace, Kind::Image, "prune", "", [("reclaimed", freed.to_string())]);
        Ok((gone, freed))
    }

    /// Gives up what interrupted pulls may go on with; the bytes that went.
    pub(crate) async fn forget_interrupted(&self) -> Result<u64, Error> {
        self.ask(|images| Ok(images.forget_interrupted()?.bytes())).await
    }

    /// The bytes that are kept for interrupted pulls alone.
    pub async fn interrupted(&self) -> Result<u64, Error> {
        self.ask(|images| Ok(images.interrupted()?.bytes)).await
    }

    /// Reads everything again that is stored of images, and mends what can be with `repair`.
    pub async fn check(&self, repair: bool) -> Result<Checkup, Error> {
        let (shared, namespace) = (self.shared.clone(), self.namespace.clone());
        self.ask_slowly(move |images| images.check(repair, &|id| users(&shared, &namespace, id))).await
    }

    /// What the layers of images take, and which they share.
    pub async fn sharing(&self) -> Result<Sharing, Error> {
        self.ask(Images::sharing).await
    }

    /// How many containers were made from an image.
    pub fn users(&self, image: &ImageId) -> usize {
        users(&self.shared, &self.namespace, image).len()
    }

    /// Pulls an image; without tag and digest, all tags of the repository.
    pub fn pull(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
    ) -> Operation {
        let shared = self.shared.clone();
        self.transfer(platform, credentials, move |images, options, report| {
            let pulled = match reference.tag().is_none() && reference.digest().is_none() {
                true => images.pull_all_tags(&reference, options, report),
                false => images.pull(&reference, options, report).map(drop),
            };
            if pulled.is_err() {
                shared.pull_interrupted.notify_one();
            }
            shared.image_arrived.notify_one();
            pulled
        })
    }

    /// Pushes what a tag names, or all tags of a repository.
    pub fn push(
        &self,
        reference: Reference,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
    ) -> Operation {
        self.transfer(platform, credentials, move |images, options, report| images.push(&reference, options, report))
    }

    /// A pull or push with this daemon's registries.
    fn transfer(
        &self,
        platform: Option<Platform>,
        credentials: Option<Credentials>,
        work: impl FnOnce(&Images, &TransferOptions<'_>, Report<'_>) -> corten_images::Result<()> + Send + 'static,
    ) -> Operation {
        let (images, registry) = (self.images(), self.shared.registry_client.clone());
        Operation::run(&self.shared.transfers, move |report, cancel| {
            let options = TransferOptions {
                registry: &registry.under(cancel),
                credentials: credentials.as_ref(),
                platform: platform.as_ref(),
            };
            Ok(work(&images, &options, report)?)
        })
    }

    /// What a registry has of a name. Dropping it ends the wait for the registry.
    pub async fn inspect_remote(
        &self,
        reference: Reference,
        credentials: Option<Credentials>,
    ) -> Result<Remote, Error> {
        let wanted = Wanted(Cancel::default());
        let registry = self.shared.registry_client.under(&wanted.0);
        self.ask_slowly(move |images| images.inspect_remote(&reference, &registry, credentials.as_ref())).await
    }

    /// Repositories that Docker Hub, or the registry that the term begins with, finds.
    pub async fn search(&self, term: &str, limit: u32, credentials: Option<Credentials>) -> Result<Vec<Found>, Error> {
        let found = self.shared.registries.search(term, limit, credentials.as_ref()).await;
        Ok(found.map_err(corten_images::Error::from)?)
    }

    /// Loads the images of a tar; of images for several platforms those, if any are given.
    pub fn load(&self, body: Body, platforms: Vec<Platform>) -> Operation {
        let (images, shared) = (self.images(), self.shared.clone());
        Operation::run(&self.shared.transfers, move |report, _| {
            let done = images.load(BodyReader::new(body), &platforms, report)?;
            shared.image_arrived.notify_one();
            Ok(done)
        })
    }

    /// Images as a tar. What is missing is an error here; a failure afterwards ends the archive short of its length.
    pub async fn save(&self, names: Vec<String>, platforms: Vec<Platform>) -> Result<Download, Error> {
        let export = self.ask(move |images| images.export(&names, &platforms)).await?;
        let length = export.length();
        let (sender, pieces) = mpsc::channel(PIECES);
        let writing = move || {
            let mut writer = PieceWriter { sender, piece: Vec::with_capacity(PIECE) };
            // Who reads the archive sees that it is short, and says so.
            if let Err(error) = export.write(&mut writer).map_err(Error::from)
                && !writer.sender.is_closed()
            {
                tracing::warn!(error = error.message(), "an archive of images could not be written");
            }
        };
        self.shared.transfers.turn().await.start(writing)?;
        Ok(Download { length, pieces })
    }

    /// The manifests behind an image's name, each with the containers that were made from it.
    pub async fn manifests(&self, target: Descriptor) -> Result<Vec<(ManifestSummary, Vec<ContainerId>)>, Error> {
        let manifests = self.ask(move |images| images.manifests(&target)).await?;
        let with_users = manifests.into_iter().map(|manifest| {
            let ManifestKind::Image { id: Some(id), .. } = &manifest.kind else { return (manifest, Vec::new()) };
            let users = users(&self.shared, &self.namespace, id);
            (manifest, users.into_iter().map(|user| user.container).collect())
        });
        Ok(with_users.collect())
    }

    /// The in-toto statements about an image, of these predicate types if there are any.
    pub async fn attestations(
        &self,
        image: Image,
        platform: Option<Platform>,
        types: Vec<String>,
        with_text: bool,
    ) -> Result<Vec<Statement>, Error> {
        self.ask(move |images| images.attestations(&image, platform.as_ref(), &types, with_text)).await
    }

    /// Makes an image of a root file system's tar that a web server has.
    pub fn import_from(&self, address: WebAddress, options: ImportOptions) -> Operation {
        let (images, shared) = (self.images(), self.shared.clone());
        Operation::run(&self.shared.transfers, move |report, cancel| {
            let registry = shared.registry_client.under(cancel);
            let done = images.import_from(&address, &registry, &options, report)?;
            shared.image_arrived.notify_one();
            Ok(done)
        })
    }

    /// Makes an image of a root file system's tar.
    pub fn import(&self, body: Body, options: ImportOptions) -> Operation {
        let (images, shared) = (self.images(), self.shared.clone());
        Operation::run(&self.shared.transfers, move |report, _| {
            let done = images.import(BodyReader::new(body), &options, report)?;
            shared.image_arrived.notify_one();
            Ok(done)
        })
    }
}

/// The containers that were made from an image.
pub(crate) fn users(shared: &Shared, namespace: &Namespace, image: &ImageId) -> Vec<InUse> {
    let views = shared.registry.all(namespace).into_iter().map(|handle| handle.now());
    let users = views.filter(|view| !view.removed && view.image_id == *image);
    users.map(|view| InUse { container: view.id.clone(), running: view.state.is_running() }).collect()
}

/// A download as blocking code writes it.
struct PieceWriter {
    sender: mpsc::Sender<Bytes>,
    piece: Vec<u8>,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = bytes.len().min(room);
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.blocking_send(piece.into()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// A body as blocking code reads it.
#[derive(Debug)]
struct BodyReader {
    body: Body,
    piece: Bytes,
}

impl BodyReader {
    fn new(body: Body) -> BodyReader {
        BodyReader { body, piece: Bytes::new() }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.body.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_to_its_end() {
        let (sender, body) = mpsc::channel(4);
        for piece in ["ab", "", "cde"] {
            sender.blocking_send(Ok(Bytes::from(piece))).unwrap();
        }
        drop(sender);
        let mut text = String::new();
        BodyReader::new(body).read_to_string(&mut text).unwrap();
        assert_eq!(text, "abcde");
    }

    #[test]
    fn a_body_that_breaks_off_is_an_error() {
        let (sender, body) = mpsc::channel(4);
        sender.blocking_send(Err(io::Error::other("gone"))).unwrap();
        assert!(BodyReader::new(body).read(&mut [0; 4]).is_err());
    }
}
