//! From what people write to an image.

use std::path::PathBuf;
use std::sync::Arc;

use corten_base::{ImageId, InvalidReference, Platform, Reference, time};
use corten_metadata::rusqlite::Connection;

use crate::config::ImageConfig;
use crate::document::{Document, LARGEST, Manifest};
use crate::record::{self, ImageRow, NameRow};
use crate::types::{Descriptor, Image};
use crate::{Error, Images, Result};

/// What a text means, before anything is looked up.
enum Wanted {
    /// A whole id.
    Id(ImageId),
    /// A name, or the beginning of an id.
    Name(Reference),
}

impl Images {
    /// The image that a name, a digest, or an id or its beginning means; a name comes before an id that begins so. Of images for
    /// several platforms behind a name, the one for `platform`: it may have to be unpacked first
    /// ([`ensure_unpacked`](Images::ensure_unpacked)).
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Reference`] for what can't be a name; [`Error::Ambiguous`] for the beginning of several
    /// ids; [`Error::Platform`] if nothing is here for the platform asked for.
    pub fn resolve(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let namespace = self.namespace().as_str();
        let (row, names) = self.database().read(|connection| -> Result<_> {
            let row = find(connection, namespace, name)?;
            let names = record::names_of(connection, namespace, &row.id)?;
            Ok((row, names))
        })?;
        let named = Reference::parse_normalized(name).ok().map(Reference::with_default_tag);
        let target = names.iter().find(|row| Some(&row.reference) == named.as_ref()).map(|row| row.target.clone());
        let row = match &target {
            Some(target) => self.as_named(row, target)?,
            None => row,
        };
        let image = self.image(row, names)?;
        if platform.is_some() && image.is_artifact() {
            return Err(self.artifact(name, &image)?);
        }
        let Some(wanted) = platform.filter(|wanted| !wanted.matches(&image.config.platform())) else {
            return Ok(image);
        };
        let target = target.unwrap_or_else(|| image.target.clone());
        self.sibling(&image, &target, wanted)?.ok_or_else(|| Error::Platform {
            reference: name.to_owned(),
            found: image.config.platform().to_string(),
            wanted: wanted.to_string(),
        })
    }

    /// The same for a container that is to be made.
    ///
    /// # Errors
    /// Besides, [`Error::Artifact`] if it is no image.
    pub fn resolve_to_run(&self, name: &str, platform: Option<&Platform>) -> Result<Image> {
        let image = self.resolve(name, platform)?;
        if image.is_artifact() { Err(self.artifact(name, &image)?) } else { Ok(image) }
    }

    /// The bytes of an image's configuration, as received.
    ///
    /// # Errors
    /// [`Error::Content`] if it isn't there or damaged.
    pub fn raw_config(&self, id: &ImageId) -> Result<Vec<u8>> {
        Ok(self.content().read(id.digest(), LARGEST)?)
    }

    /// The folders of an image's layers, topmost first; none for an image without layers. What `inspect` shows of the storage.
    ///
    /// # Errors
    /// [`Error::Snapshot`] if layers were lost with the power: see [`ensure_unpacked`](Images::ensure_unpacked).
    pub fn layer_paths(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let Some(chain) = &image.chain else { return Ok(Vec::new()) };
        Ok(self.snapshots().stack(chain)?.into_iter().map(|layer| layer.path).collect())
    }

    /// The record that a text means.
    pub(crate) fn find(&self, name: &str) -> Result<ImageRow> {
        self.database().read(|connection| find(connection, self.namespace().as_str(), name))
    }

    /// The record that a text means, as the name means it if it is one.
    pub(crate) fn find_named(&self, name: &str) -> Result<ImageRow> {
        let row = self.find(name)?;
        let Ok(reference) = Reference::parse_normalized(name).map(Reference::with_default_tag) else { return Ok(row) };
        let namespace = self.namespace().as_str();
        let named = self.database().read(|connection| record::name(connection, namespace, &reference))?;
        match named.filter(|named| named.image == row.id) {
            Some(named) => self.as_named(row, &named.target),
            None => Ok(row),
        }
    }

    /// A record with what one of its names means in the place of what came last: equal configurations may have come with
    /// several manifests.
    pub(crate) fn as_named(&self, row: ImageRow, target: &Descriptor) -> Result<ImageRow> {
        if row.target.digest == target.digest {
            return Ok(row);
        }
        // What was packed for a registry has a digest there that nothing here has: then it is what it was packed from.
        Ok(match self.own_manifest(&row, target)? {
            Some(manifest) => ImageRow { manifest, target: target.clone(), ..row },
            None => row,
        })
    }

    /// An image's manifest behind a target, if all of the image is here so.
    fn own_manifest(&self, row: &ImageRow, target: &Descriptor) -> Result<Option<Descriptor>> {
        let is_own = |descriptor: &Descriptor, manifest: &Manifest| match row.is_artifact() {
            true => descriptor.digest == row.id.0,
            false => manifest.config.digest == row.id.0,
        };
        let parts = self.contents(target)?.parts.into_iter();
        let mut manifests = parts.filter_map(|part| Some((part.entry.descriptor, part.manifest?)));
        let own = manifests.find(|(descriptor, manifest)| is_own(descriptor, manifest));
        let is_whole = |manifest: &Manifest| manifest.blobs().all(|blob| self.content().contains(&blob.digest));
        Ok(own.filter(|(_, manifest)| is_whole(manifest)).map(|(descriptor, _)| descriptor))
    }

    pub(crate) fn read_config(&self, id: &ImageId) -> Result<ImageConfig> {
        let bytes = self.raw_config(id)?;
        serde_json::from_slice(&bytes).map_err(|error| Error::document("image configuration", error))
    }

    /// Why an artifact isn't what was asked for.
    pub(crate) fn artifact(&self, name: &str, image: &Image) -> Result<Error> {
        let bytes = self.content().read(&image.manifest.digest, LARGEST)?;
        let kind = match Document::parse(&bytes, "manifest")? {
            Document::Manifest(manifest) => manifest.artifact_kind().escape_debug().to_string(),
            Document::Index(_) => String::new(),
        };
        Ok(Error::Artifact { reference: name.to_owned(), kind })
    }

    pub(crate) fn image(&self, row: ImageRow, names: Vec<NameRow>) -> Result<Image> {
        let config = if row.is_artifact() { ImageConfig::default() } else { self.read_config(&row.id)? };
        let (repo_tags, repo_digests) = familiar(&names);
        Ok(Image {
            layers: config.rootfs.diff_ids.clone(),
            config: Arc::new(config),
            id: row.id,
            chain: row.chain,
            size: row.size,
            repo_tags,
            repo_digests,
            manifest: row.manifest,
            target: row.target,
            parent: row.parent,
            last_tagged: row.last_tagged.map(time::from_unix_nanos),
            is_recorded: true,
        })
    }
}

/// The names with tags and those with digests, as people write them.
pub(crate) fn familiar(names: &[NameRow]) -> (Vec<String>, Vec<String>) {
    let (digests, tags): (Vec<_>, Vec<_>) = names.iter().partition(|row| row.reference.digest().is_some());
    let texts = |rows: Vec<&NameRow>| rows.into_iter().map(|row| row.reference.familiar()).collect();
    (texts(tags), texts(digests))
}

/// Whether `text` is the id or the beginning of it, with or without its algorithm: removing by id is another thing than
/// removing a name.
pub(crate) fn is_id_prefix(id: &ImageId, text: &str) -> bool {
    !text.is_empty() && (id.as_str().starts_with(text) || id.hex().starts_with(text))
}

fn find(connection: &Connection, namespace: &str, text: &str) -> Result<ImageRow> {
    let missing = |reference: &Reference| Error::NotFound(reference.clone().with_default_tag().familiar());
    match parse(text)? {
        Wanted::Id(id) => record::image(connection, namespace, &id)?.ok_or_else(|| Error::NotFound(id.to_string())),
        Wanted::Name(reference) => {
            if let Some(row) = record::name(connection, namespace, &reference)? {
                return record::image(connection, namespace, &row.image)?.ok_or_else(|| missing(&reference));
            }
            let Some(prefix) = id_prefix(text) else { return Err(missing(&reference)) };
            let mut rows = record::images_by_prefix(connection, namespace, &prefix)?;
            match (rows.pop(), rows.is_empty()) {
                (Some(_), false) => Err(Error::Ambiguous(text.to_owned())),
                (Some(row), true) => Ok(row),
                (None, _) => Err(missing(&reference)),
            }
        }
    }
}

fn parse(text: &str) -> Result<Wanted> {
    if let Ok(id) = ImageId::parse(text) {
        return Ok(Wanted::Id(id));
    }
    match Reference::parse_normalized(text) {
        Ok(reference) => Ok(Wanted::Name(reference)),
        Err(InvalidReference::Identifier(hex)) => {
            ImageId::parse(&format!("sha256:{hex}")).map(Wanted::Id).map_err(|_| InvalidReference::Format.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// `algorithm:digits` if the text may be the beginning of an id.
fn id_prefix(text: &str) -> Option<String> {
    let (algorithm, digits) = text.split_once(':').unwrap_or(("sha256", text));
    let is_hex = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_hex && algorithm == "sha256").then(|| format!("sha256:{digits}"))
}
