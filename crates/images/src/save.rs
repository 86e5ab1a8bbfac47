//! Images as a tar: an OCI image layout that is also what `docker load` has always read.
//!
//! ```text
//! blobs/<algorithm>/<hex>   manifests, indexes, configurations and layers, as they are stored
//! index.json                what each name means: the descriptor as pulled or loaded, annotated with the name
//! manifest.json             for readers of docker-archives: configuration, names and layers of each image
//! oci-layout
//! repositories              the oldest form: name and tag to the top layer
//! ```
//!
//! Image-spec image-layout.md and Docker 28's `docker save`. Everything is planned before the first byte is written: what is
//! missing is an error then, the length is known, and a lease keeps the blobs until the archive is written.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Write};

use corten_archive::{Entry, Kind, Writer, entry_length};
use corten_base::{DiffId, Digest, ImageId, Platform, Reference};
use corten_content::Lease;
use serde_json::{Value, json};

use crate::document::{Document, LARGEST, Manifest};
use crate::media_type;
use crate::record::{self, ImageRow, NameRow};
use crate::resolve::is_id_prefix;
use crate::types::Descriptor;
use crate::walk::Contents;
use crate::{Error, Images, Result};

/// Blobs are read in pieces of this size.
const BUFFER: usize = 256 << 10;
/// What ends a tar.
const END: u64 = 1024;

/// An archive ready to be written.
#[derive(Debug)]
pub struct Export {
    images: Images,
    /// Keeps the blobs while they are read.
    _lease: Lease,
    blobs: BTreeMap<Digest, u64>,
    /// Name and bytes of the other files.
    documents: Vec<(&'static str, Vec<u8>)>,
    /// What is told when the archive is written.
    saved: Vec<ImageRow>,
}

/// An image on its way out.
struct Item {
    row: ImageRow,
    /// What the archive's index shows for it.
    target: Descriptor,
    /// The manifest whose layers `manifest.json` lists.
    manifest: Manifest,
    id: ImageId,
    diff_ids: Vec<DiffId>,
    names: BTreeSet<Reference>,
}

impl Images {
    /// Plans an archive of images. A name without a tag means all its tags, an id an image without its names. Of images for
    /// several platforms all that is here is taken, or what is for one of `platforms` if there are any.
    ///
    /// # Errors
    /// As [`resolve`](Images::resolve); [`Error::Platform`], [`Error::NoManifest`] if an image isn't here for any of the
    /// platforms; [`Error::Content`] if one of its blobs isn't here.
    pub fn export(&self, names: &[String], platforms: &[Platform]) -> Result<Export> {
        let lease = self.lease("save")?;
        let mut blobs = BTreeMap::new();
        let mut items: Vec<Item> = Vec::new();
        for (row, name) in self.wanted(names)? {
            let is_it = |item: &&mut Item| item.row.id == row.id && item.row.target.digest == row.target.digest;
            if let Some(item) = items.iter_mut().find(is_it) {
                item.names.extend(name);
                continue;
            }
            let mut item = self.export_item(row, platforms, &lease, &mut blobs)?;
            item.names.extend(name);
            items.push(item);
        }
        let documents = documents(&items)?;
        let saved = items.into_iter().map(|item| item.row).collect();
        Ok(Export { images: self.clone(), _lease: lease, blobs, documents, saved })
    }

    /// The images that names mean, each with the name to save, if any.
    fn wanted(&self, names: &[String]) -> Result<Vec<(ImageRow, Option<Reference>)>> {
        let namespace = self.namespace().as_str();
        let mut found = Vec::new();
        for name in names {
            let tags = match Reference::parse_normalized(name) {
                Ok(reference) if reference.tag().is_none() && reference.digest().is_none() => {
                    self.database().read(|connection| record::tags_of(connection, namespace, &reference))?
                }
                _ => Vec::new(),
            };
            if tags.is_empty() {
                found.push(self.wanted_one(name)?);
            }
            for NameRow { reference, image, target } in tags {
                let row = self.database().read(|connection| record::image(connection, namespace, &image))?;
                if let Some(row) = row {
                    found.push((self.as_named(row, &target)?, Some(reference)));
                }
            }
        }
        Ok(found)
    }

    fn wanted_one(&self, name: &str) -> Result<(ImageRow, Option<Reference>)> {
        let row = self.find_named(name)?;
        if is_id_prefix(&row.id, name) {
            return Ok((row, None));
        }
        let reference = Reference::parse_normalized(name)?.with_default_tag();
        Ok((row, Some(reference).filter(|reference| reference.digest().is_none())))
    }

    fn export_item(
        &self,
        row: ImageRow,
        platforms: &[Platform],
        lease: &Lease,
        blobs: &mut BTreeMap<Digest, u64>,
    ) -> Result<Item> {
        let contents = self.contents(&row.target)?;
        let (id, descriptor) = self.chosen(&row, &contents, platforms)?;
        let Document::Manifest(manifest) =
            Document::parse(&self.content().read(&descriptor.digest, LARGEST)?, "manifest")?
        else {
            return Err(Error::document("manifest", "it is an index"));
        };
        let target = if platforms.is_empty() { row.target.clone() } else { descriptor };
        self.take_contents(&target, lease, blobs)?;
        for blob in manifest.blobs() {
            self.take(&blob.digest, lease, blobs)?;
        }
        let diff_ids = if row.is_artifact() { Vec::new() } else { self.read_config(&id)?.rootfs.diff_ids };
        Ok(Item { row, target, manifest, id, diff_ids, names: BTreeSet::new() })
    }

    /// The image to save, by id and manifest: the record's own, or the one for the first platform that is here.
    fn chosen(&self, row: &ImageRow, contents: &Contents, platforms: &[Platform]) -> Result<(ImageId, Descriptor)> {
        if row.is_artifact() {
            return match platforms.is_empty() {
                true => Ok((row.id.clone(), row.manifest.clone())),
                false => Err(self.artifact(row.id.as_str(), &self.image(row.clone(), Vec::new())?)?),
            };
        }
        let own = self.read_config(&row.id)?.platform();
        let Some(first) = platforms.first().filter(|_| !platforms.iter().any(|wanted| wanted.matches(&own))) else {
            return Ok((row.id.clone(), row.manifest.clone()));
        };
        let part = contents.parts.iter().find(|part| {
            let offered = part.entry.platform.as_ref();
            !part.entry.is_attestation() && offered.is_some_and(|offered| platforms.iter().any(|p| p.matches(offered)))
        });
        match part.and_then(|part| Some((part, part.manifest.as_ref()?))) {
            Some((part, manifest)) => Ok((ImageId(manifest.config.digest.clone()), part.entry.descriptor.clone())),
            None => Err(Error::Platform {
                reference: row.id.to_string(),
                found: own.to_string(),
                wanted: first.to_string(),
            }),
        }
    }

    /// Takes all that lies behind a target and is here.
    fn take_contents(&self, target: &Descriptor, lease: &Lease, blobs: &mut BTreeMap<Digest, u64>) -> Result<()> {
        for digest in self.contents(target)?.blobs() {
            if self.content().contains(&digest) {
                self.take(&digest, lease, blobs)?;
            }
        }
        Ok(())
    }

    /// Takes one blob, which must be here.
    fn take(&self, digest: &Digest, lease: &Lease, blobs: &mut BTreeMap<Digest, u64>) -> Result<()> {
        lease.hold(digest)?;
        let size = self.content().size(digest).ok_or_else(|| corten_content::Error::NotFound(digest.clone()))?;
        blobs.insert(digest.clone(), size);
        Ok(())
    }
}

impl Export {
    /// The archive's length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        let blobs = self.blobs.iter().map(|(digest, &size)| entry_length(&file(&blob_path(digest), size)));
        let folders = self.folders().into_iter().map(|path| entry_length(&folder(&path)));
        let documents = self.documents.iter().map(|(name, bytes)| entry_length(&file(name, bytes.len() as u64)));
        blobs.chain(folders).chain(documents).sum::<u64>() + END
    }

    /// Writes the archive: equal images give equal bytes. Publishes a `save` event for each image.
    ///
    /// # Errors
    /// [`Error::Content`], [`Error::Tar`] if a blob can't be read or the writer fails.
    pub fn write(self, writer: impl Write) -> Result<()> {
        let mut tar = Writer::new(writer);
        for path in self.folders() {
            tar.append_bytes(&folder(&path), b"").map_err(Error::Tar)?;
        }
        for (digest, &size) in &self.blobs {
            let blob = self.images.content().open_blob(digest)?;
            let blob = BufReader::with_capacity(BUFFER, blob);
            tar.append(&file(&blob_path(digest), size), blob).map_err(Error::Tar)?;
        }
        for (name, bytes) in &self.documents {
            tar.append_bytes(&file(name, 0), bytes).map_err(Error::Tar)?;
        }
        tar.finish().map_err(Error::Tar)?;
        for row in &self.saved {
            self.images.publish("save", &row.id, row.id.as_str(), &row.labels);
        }
        Ok(())
    }

    fn folders(&self) -> BTreeSet<String> {
        let algorithms = self.blobs.keys().map(|digest| format!("blobs/{}/", digest.algorithm()));
        std::iter::once("blobs/".to_owned()).chain(algorithms).collect()
    }
}

fn file(path: &str, size: u64) -> Entry {
    Entry { size, ..Entry::new(Kind::File, path, 0o644) }
}

fn folder(path: &str) -> Entry {
    Entry::new(Kind::Directory, path, 0o755)
}

/// The place of a blob in a layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// The files beside the blobs.
fn documents(items: &[Item]) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let (mut entries, mut archive) = (Vec::new(), Vec::new());
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in items {
        let descriptor = json!(item.target);
        entries.extend(item.names.iter().map(|name| annotated(&descriptor, name)));
        if item.names.is_empty() {
            entries.push(descriptor);
        }
        if item.row.is_artifact() {
            continue;
        }
        archive.push(docker_item(item));
        for name in &item.names {
            let (tag, top) = (name.tag().unwrap_or_default(), item.manifest.layers.last());
            let top = top.map(|layer| layer.digest.hex().to_owned()).unwrap_or_default();
            repositories.entry(name.familiar_name()).or_default().insert(tag.to_owned(), top);
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries });
    let bytes = |value: &Value| value.to_string().into_bytes();
    let mut documents = vec![
        ("index.json", bytes(&index)),
        ("manifest.json", bytes(&Value::from(archive))),
        ("oci-layout", bytes(&json!({ "imageLayoutVersion": "1.0.0" }))),
    ];
    if !repositories.is_empty() {
        documents.push(("repositories", bytes(&json!(repositories))));
    }
    Ok(documents)
}

fn annotated(descriptor: &Value, name: &Reference) -> Value {
    let mut entry = descriptor.clone();
    let tag = name.tag().unwrap_or_default();
    let whole = format!("{}:{tag}", name.name());
    entry["annotations"] = json!({ "io.containerd.image.name": whole, "org.opencontainers.image.ref.name": tag });
    entry
}

/// An image's line in `manifest.json`.
fn docker_item(item: &Item) -> Value {
    let tags: Vec<String> = item.names.iter().map(Reference::familiar).collect();
    let layers: Vec<String> = item.manifest.layers.iter().map(|layer| blob_path(&layer.digest)).collect();
    let sources =
        item.diff_ids.iter().map(ToString::to_string).zip(item.manifest.layers.iter().map(|layer| json!(layer)));
    json!({
        "Config": blob_path(item.id.digest()),
        "RepoTags": if tags.is_empty() { Value::Null } else { json!(tags) },
        "Layers": layers,
        "LayerSources": Value::from_iter(sources),
    })
}
