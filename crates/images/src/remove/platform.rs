//! Taking one platform's image away from an index that has several here.
//!
//! Docker's containerd store (daemon/containerd/image_delete.go): only by force, as every name of the index loses it; the index
//! and the names stay, and what goes is told by its manifest. What another image needs stays. Here a running container stands
//! in the way besides, as it does for a whole image. Where only one image is here, it goes as without a platform, which is
//! the rule of Docker's other stores.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use corten_base::{Digest, ImageId, Platform};
use corten_metadata::rusqlite::Transaction;

use super::{Checks, Users};
use crate::document::Manifest;
use crate::record;
use crate::register::NewImage;
use crate::types::{Deleted, Descriptor, Image};
use crate::walk::{Contents, Part};
use crate::{Error, Images, Result, family, media_type};

const FORCE: &str =
    "Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.";

/// What goes with one platform.
struct Going {
    id: ImageId,
    /// The image's manifest, and what its index says about it.
    manifests: Vec<Digest>,
    blobs: HashSet<Digest>,
}

/// The blobs behind other indexes that have names.
type Others = HashMap<Digest, HashSet<Digest>>;

impl Images {
    /// Removes the images for these platforms from an image for several; from one that is the only one here, the image itself, as
    /// [`remove`](Images::remove). Answers the manifests that went. Survives power loss.
    ///
    /// # Errors
    /// As [`remove`](Images::remove); [`Error::Refused`] without force, [`Error::Variant`] for a platform that isn't here.
    pub fn remove_platforms(
        &self,
        name: &str,
        platforms: &[Platform],
        (force, no_prune): (bool, bool),
        users: Users<'_>,
    ) -> Result<Vec<Deleted>> {
        let target = self.resolve(name, None)?.target;
        let is_alone = || Ok::<bool, Error>(self.sibling_ids(&target)?.len() <= 1);
        if is_alone()? && platforms.len() > 1 {
            return Err(Error::Refused("multiple platforms are not supported".into()));
        }
        if !is_alone()? && !force {
            return Err(Error::Refused(FORCE.into()));
        }
        let mut done = Vec::new();
        for platform in platforms {
            if is_alone()? {
                self.resolve(name, Some(platform))?;
                done.extend(self.remove(name, force, no_prune, users)?);
                break;
            }
            let removed = self.remove_platform(name, &target, platform, users);
            done.extend(removed.map_err(|source| Error::Variant {
                platform: platform.to_string(),
                image: target.digest.clone(),
                source: Box::new(source),
            })?);
        }
        Ok(done)
    }

    fn remove_platform(
        &self,
        name: &str,
        target: &Descriptor,
        platform: &Platform,
        users: Users<'_>,
    ) -> Result<Vec<Deleted>> {
        let image = self.resolve(name, Some(platform))?;
        let running = Checks { names: false, stopped: false };
        if let Some(conflict) = self.conflict(&image.id, running, users)? {
            return Err(conflict.error(&image.id));
        }
        let going = going(&self.contents(target)?, &image.id);
        let leads = self.resolve(name, None)?.id == image.id;
        let heir = if leads { self.heir(target, &image)? } else { None };
        let labels = image.config.config.labels.clone().unwrap_or_default();
        let manifests: Vec<Deleted> =
            going.manifests.iter().map(|digest| Deleted::Deleted(digest.to_string())).collect();
        let (namespace, digest) = (self.namespace().to_string(), target.digest.clone());
        let others = self.others(&digest)?;
        let write =
            move |transaction: &Transaction<'_>| take(transaction, &namespace, &digest, &going, heir.as_ref(), &others);
        self.database().write(write)?;
        self.publish("delete", &image.id, image.id.as_str(), &labels);
        self.collect()?;
        Ok(manifests)
    }

    fn others(&self, target: &Digest) -> Result<Others> {
        let names = self.database().read(|connection| record::names(connection, self.namespace().as_str()))?;
        let is_other = |index: &Descriptor| index.digest != *target && media_type::is_index(&index.media_type);
        let others = names.into_iter().map(|name| name.target).filter(is_other);
        others.map(|index| Ok((index.digest.clone(), self.contents(&index)?.blobs()))).collect()
    }

    /// The image that gets the index's names when the one that had them goes: this machine's, or any; none if it is the last one.
    /// It has a record then.
    fn heir(&self, target: &Descriptor, gone: &Image) -> Result<Option<ImageId>> {
        let others = self.siblings(target)?.into_iter().filter(|(_, manifest)| manifest.config.digest != gone.id.0);
        // Those for other systems can't be unpacked.
        let image = |(descriptor, manifest): (Descriptor, Arc<Manifest>)| {
            Some((self.behind(gone, target, descriptor, &manifest).ok()?, manifest))
        };
        let mut others: Vec<_> = others.filter_map(image).collect();
        let host = Platform::host();
        others.sort_by_key(|(image, _)| !host.matches(&image.config.platform()));
        let Some((image, manifest)) = others.into_iter().next() else { return Ok(None) };
        if !image.is_recorded {
            self.register_sibling(&image, &manifest)?;
        }
        Ok(Some(image.id))
    }

    /// Gives an image that came with an index a record of its own; it is unpacked for that.
    fn register_sibling(&self, image: &Image, manifest: &Manifest) -> Result<()> {
        let held = self.ensure_unpacked(image)?;
        let contents = self.contents(&image.target)?;
        let here = contents.blobs().into_iter().filter(|blob| self.content().contains(blob));
        self.register(vec![NewImage {
            id: image.id.clone(),
            config: (*image.config).clone(),
            manifest: image.manifest.clone(),
            target: image.target.clone(),
            blobs: here.collect(),
            layers: manifest.layers.iter().map(|layer| layer.digest.clone()).collect(),
            names: Vec::new(),
            parent: None,
            held,
        }])?;
        Ok(())
    }
}

/// What only one image of an index needs.
fn going(contents: &Contents, id: &ImageId) -> Going {
    let own: Vec<&str> = contents.parts.iter().filter(|part| is_of(part, id)).map(digest).collect();
    let is_gone = |part: &&Part| own.contains(&digest(part)) || is_about(part, &own);
    let (gone, stay): (Vec<&Part>, Vec<&Part>) = contents.parts.iter().partition(is_gone);
    let stay: HashSet<&Digest> = stay.into_iter().flat_map(Part::blobs).collect();
    let manifests = gone.iter().filter(|part| part.manifest.is_some());
    Going {
        id: id.clone(),
        manifests: manifests.map(|part| part.digest().clone()).collect(),
        blobs: gone.iter().flat_map(|part| part.blobs()).filter(|blob| !stay.contains(blob)).cloned().collect(),
    }
}

fn is_of(part: &Part, id: &ImageId) -> bool {
    part.manifest.as_ref().is_some_and(|manifest| manifest.config.digest == id.0)
}

fn is_about(part: &Part, subjects: &[&str]) -> bool {
    part.entry.is_attestation() && part.entry.subject().is_some_and(|subject| subjects.contains(&subject))
}

fn digest(part: &Part) -> &str {
    part.digest().as_str()
}

/// Takes it from all records of the index, and the names from its own one.
fn take(
    transaction: &Transaction<'_>,
    namespace: &str,
    target: &Digest,
    going: &Going,
    heir: Option<&ImageId>,
    others: &Others,
) -> Result<()> {
    if let Some(heir) = heir {
        family::give_names(transaction, namespace, target, heir)?;
        record::give_blobs(transaction, namespace, &going.id, heir)?;
    }
    for row in family::members(transaction, namespace, target)? {
        if row.id == going.id {
            // By another name, or behind another index, it is needed.
            family::depart(transaction, namespace, &row, target)?;
            continue;
        }
        let indexes = family::indexes_of(transaction, namespace, &row.id)?.into_iter();
        let kept: Vec<&HashSet<Digest>> = indexes.filter_map(|index| others.get(&index.digest)).collect();
        let going = going.blobs.iter().filter(|blob| !kept.iter().any(|kept| kept.contains(blob)));
        record::take_blobs(transaction, namespace, &row.id, going)?;
    }
    record::forget_layers(transaction)
}
