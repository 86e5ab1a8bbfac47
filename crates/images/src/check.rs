//! Whether the store is sound: every blob, every layer, every reference; and mending what can be mended.
//!
//! | what is found | what mends it |
//! |---|---|
//! | a blob that isn't its digest, or that the disk fails to read twice | it is removed; the images it belongs to forget it and their digests, so that the next pull brings it again |
//! | a blob that an image needs and that isn't here | the same |
//! | an image that forgot blobs so | nothing, until it is pulled again: it runs, but can't be handed on |
//! | a blob that can't be read for another reason | nothing: it is told |
//! | an image without its manifest or configuration | the image is removed, unless a container uses it |
//! | a name of an image that isn't there | the name is removed |
//! | a layer whose files aren't what its blob says | it is extracted again, unless a container stands on it |
//! | a container's layer that can't be mounted | nothing: it is told |
//! | a lease whose operation or time is over, or of which only what it holds is recorded | it ends |
//! | a lease that holds what isn't here | it forgets that |
//! | what nobody needs | it is collected |

use std::collections::{HashMap, HashSet};
use std::os::fd::AsFd;

use corten_archive::{Limits, decompress};
use corten_base::{ChainId, DiffId, Digest, ImageId};
use corten_snapshot::Layer;

use crate::record::{self, ImageRow};
use crate::types::InUse;
use crate::unpack::{self, LayerSource};
use crate::{Error, Images, Result};

/// What a check found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkup {
    /// Blobs that were read.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Layers that were compared with their blobs.
    pub layers: u64,
    /// Images that were looked at.
    pub images: u64,
    /// Names that were looked at.
    pub names: u64,
    /// Parts of blobs that interrupted pulls may go on with.
    pub parts: u64,
    /// Their bytes, and those of the whole blobs that wait with them.
    pub part_bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// Bytes of blobs and layers that were removed.
    pub freed: u64,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// With what: `blob sha256:..`, `layer sha256:..`, `image sha256:..`, `name ..`, `container ..`, `lease ..`.
    pub subject: String,
    /// What is wrong with it.
    pub what: String,
    /// Whether it was mended.
    pub repaired: bool,
}

/// One check on its way.
struct Check<'a> {
    images: &'a Images,
    repair: bool,
    users: &'a dyn Fn(&ImageId) -> Vec<InUse>,
    found: Checkup,
    /// Blobs that are damaged and may have been removed.
    bad: HashSet<Digest>,
    /// Blobs that could not be read now: nothing is compared with them.
    unread: HashSet<Digest>,
}

impl Images {
    /// Checks everything that all namespaces have and, with `repair`, mends what can be. Reads every byte of the store.
    ///
    /// Safe beside other operations: what they hold is left alone.
    ///
    /// # Errors
    /// What keeps the check from being made; what is wrong with the store is in the answer.
    pub fn check(&self, repair: bool, users: &dyn Fn(&ImageId) -> Vec<InUse>) -> Result<Checkup> {
        let mut check = Check {
            images: self,
            repair,
            users,
            found: Checkup::default(),
            bad: HashSet::new(),
            unread: HashSet::new(),
        };
        check.leases()?;
        check.garbage()?;
        check.blobs()?;
        check.names()?;
        check.images()?;
        check.layers()?;
        check.containers()?;
        check.interrupted()?;
        Ok(check.found)
    }
}

impl Check<'_> {
    fn tell(&mut self, subject: String, what: impl Into<String>, repaired: bool) {
        self.found.problems.push(Problem { subject, what: what.into(), repaired });
    }

    /// Collects what nobody needs. It isn't a problem: an operation that ends a moment later would do the same.
    fn garbage(&mut self) -> Result<()> {
        if self.repair {
            self.found.freed += self.images.collect()?.bytes();
        }
        Ok(())
    }

    /// Leases that nobody is at work with, before anything is collected: what they hold shouldn't stay, or is lost.
    fn leases(&mut self) -> Result<()> {
        for lease in self.images.content().bad_leases(self.repair)? {
            self.tell(format!("lease {}", lease.owner), lease.what, self.repair);
        }
        Ok(())
    }

    /// What interrupted pulls keep, in the end: of blobs that were removed nothing is kept.
    fn interrupted(&mut self) -> Result<()> {
        let interrupted = self.images.interrupted()?;
        (self.found.parts, self.found.part_bytes) = (interrupted.ingests, interrupted.bytes);
        Ok(())
    }

    fn blobs(&mut self) -> Result<()> {
        for digest in self.images.content().blobs()? {
            let size = self.images.content().size(&digest).unwrap_or(0);
            let (what, is_lost) = match self.verify(&digest) {
                Ok(_) => (None, false),
                // Removed since it was listed.
                Err(corten_content::Error::NotFound(_)) => continue,
                Err(corten_content::Error::Mismatch { actual, .. }) => {
                    (Some(format!("its bytes have the digest {actual}")), true)
                }
                Err(error) => (Some(chain(&error)), error.is_disks_fault()),
            };
            self.found.blobs += 1;
            self.found.blob_bytes += size;
            let Some(what) = what else { continue };
            let repaired = self.repair && is_lost;
            if repaired {
                self.images.content().remove(&digest)?;
                self.found.freed += size;
            }
            self.tell(format!("blob {digest}"), what, repaired);
            let list = if is_lost { &mut self.bad } else { &mut self.unread };
            list.insert(digest);
        }
        Ok(())
    }

    /// Reads a blob, and again if the disk failed: that may pass.
    fn verify(&self, digest: &Digest) -> corten_content::Result<u64> {
        let content = self.images.content();
        match content.verify(digest) {
            Err(error) if error.is_disks_fault() => content.verify(digest),
            verified => verified,
        }
    }

    /// Names that lead nowhere.
    fn names(&mut self) -> Result<()> {
        let database = self.images.database();
        let count: i64 = database.read(|connection| -> Result<i64> {
            Ok(connection.query_row("SELECT count(*) FROM images_name", [], |row| row.get(0))?)
        })?;
        self.found.names = u64::try_from(count).unwrap_or(0);
        let repair = self.repair;
        let lost = database.write(move |transaction| record::names_without_image(transaction, repair))?;
        for name in lost {
            self.tell(format!("name {name}"), "its image is not there", repair);
        }
        Ok(())
    }

    fn images(&mut self) -> Result<()> {
        let rows = self.images.database().read(record::all_images)?;
        for (namespace, row) in rows {
            self.found.images += 1;
            let images = self.images.within(&namespace);
            let is_missing = |blob: &Digest| self.bad.contains(blob) || !images.content().contains(blob);
            let mut needed: HashSet<Digest> = images.blobs_of(&row.id)?.into_iter().collect();
            needed.extend([row.id.0.clone(), row.manifest.digest.clone()]);
            let missing: Vec<Digest> = needed.iter().filter(|blob| is_missing(blob)).cloned().collect();
            if !images.is_recorded(&row.id)? {
                continue;
            }
            if !missing.is_empty() {
                self.image(&images, &row, &missing)?;
                continue;
            }
            // What an earlier repair had it forget is no less missing.
            let forgotten = images.parts_of(&row)?.into_iter().filter(|blob| is_missing(blob)).count();
            if forgotten > 0 {
                let what = format!(
                    "{forgotten} of its blobs are gone; it runs, but can't be handed on until it is pulled again"
                );
                self.tell(format!("image {}", row.id), what, false);
            }
        }
        Ok(())
    }

    /// An image that lacks blobs.
    fn image(&mut self, images: &Images, row: &ImageRow, missing: &[Digest]) -> Result<()> {
        let subject = format!("image {}", row.id);
        let is_lost = [&row.id.0, &row.manifest.digest].iter().any(|digest| missing.contains(digest));
        if !is_lost {
            let what = format!("{} of its blobs are missing; pull it again", missing.len());
            if self.repair {
                images.forget_blobs(&row.id, missing)?;
            }
            self.tell(subject, what, self.repair);
            return Ok(());
        }
        let users = (self.users)(&row.id);
        let can_go = self.repair && users.is_empty();
        if can_go {
            images.delete_record(row)?;
            self.found.freed += images.collect()?.bytes();
        }
        let reason = match users.first().filter(|_| self.repair) {
            Some(user) => format!("; container {} uses it", user.container.short()),
            None => String::new(),
        };
        self.tell(subject, format!("its manifest or configuration is missing{reason}"), can_go);
        Ok(())
    }

    /// Compares every layer that an image has with the blob it came from.
    fn layers(&mut self) -> Result<()> {
        let layers: HashMap<ChainId, Layer> =
            self.images.snapshots().layers()?.into_iter().map(|layer| (layer.chain.clone(), layer)).collect();
        let mut seen = HashSet::new();
        for (_, row) in self.images.database().read(record::all_images)? {
            let Ok(config) = self.images.read_config(&row.id) else { continue };
            let diff_ids = &config.rootfs.diff_ids;
            for (chain, diff_id) in ChainId::prefixes(diff_ids).into_iter().zip(diff_ids) {
                if let Some(layer) = layers.get(&chain)
                    && seen.insert(chain)
                {
                    self.layer(layer, diff_id)?;
                }
            }
        }
        Ok(())
    }

    fn layer(&mut self, layer: &Layer, diff_id: &DiffId) -> Result<()> {
        // Held, so that nobody removes it meanwhile.
        let Some(_hold) = self.images.snapshots().hold(&layer.chain)? else { return Ok(()) };
        let blob = self.images.blob_of(&diff_id.0, diff_id)?;
        if self.unread.contains(&blob) || !self.images.content().contains(&blob) {
            return Ok(());
        }
        self.found.layers += 1;
        let Some(what) = self.difference(layer, &blob)? else { return Ok(()) };
        let subject = format!("layer {}", layer.chain);
        if !self.repair {
            self.tell(subject, what, false);
            return Ok(());
        }
        match self.extract_again(layer, diff_id, &blob) {
            Ok(()) => self.tell(subject, what, true),
            Err(error) => self.tell(subject, format!("{what}; {}", chain(&error)), false),
        }
        Ok(())
    }

    /// What differs between a layer and its blob, if anything.
    fn difference(&self, layer: &Layer, blob: &Digest) -> Result<Option<String>> {
        let Ok(root) = std::fs::File::open(&layer.path) else { return Ok(Some("its folder is missing".into())) };
        let blob = decompress(self.images.content().open_blob(blob)?).map_err(Error::Tar)?;
        let found = match corten_archive::verify(blob, root.as_fd(), Limits::default()) {
            Ok(found) => found,
            Err(error) => return Ok(Some(chain(&error))),
        };
        let first = found.first().map(|first| {
            let path = String::from_utf8_lossy(&first.path).escape_debug().to_string();
            let others = if found.len() > 1 { format!(", and {} others", found.len() - 1) } else { String::new() };
            format!("/{path}: {}{others}", first.what)
        });
        Ok(first)
    }

    fn extract_again(&self, layer: &Layer, diff_id: &DiffId, blob: &Digest) -> Result<()> {
        let snapshots = self.images.snapshots();
        let parent = layer.parent.as_ref();
        let source = LayerSource { name: diff_id.short(), blob, diff_id, chain: &layer.chain, parent };
        unpack::replace(snapshots, self.images.content(), &source)
    }

    fn containers(&mut self) -> Result<()> {
        for key in self.images.snapshots().broken()? {
            self.tell(format!("container {key}"), "its file system can't be mounted", false);
        }
        Ok(())
    }
}

impl Images {
    /// What the image's own manifest and target name.
    fn parts_of(&self, row: &ImageRow) -> Result<HashSet<Digest>> {
        let mut parts = self.contents(&row.manifest)?.blobs();
        parts.insert(row.target.digest.clone());
        Ok(parts)
    }

    fn blobs_of(&self, id: &ImageId) -> Result<Vec<Digest>> {
        self.database().read(|connection| record::blobs_of(connection, self.namespace().as_str(), id))
    }

    /// Takes blobs from an image's record, and its names with digests: it isn't any more what was pulled.
    fn forget_blobs(&self, id: &ImageId, blobs: &[Digest]) -> Result<()> {
        let (namespace, id, blobs) = (self.namespace().to_string(), id.clone(), blobs.to_vec());
        self.database().write(move |transaction| record::forget_blobs(transaction, &namespace, &id, &blobs))
    }

    fn delete_record(&self, row: &ImageRow) -> Result<()> {
        let (namespace, id) = (self.namespace().to_string(), row.id.clone());
        self.database().write(move |transaction| record::delete_image(transaction, &namespace, &id))?;
        self.publish("delete", &row.id, row.id.as_str(), &row.labels);
        Ok(())
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
