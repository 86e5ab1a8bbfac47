//! Images from a registry.
//!
//! Resolve the name, choose a manifest for the platform, fetch the configuration, then bring the layers in: a few at a time,
//! each through one pipeline (download, hash, write the blob; decompress, hash the diff id, extract), and committed from below
//! as they become ready. What the image's index has about it (BuildKit's attestations) comes beside them. Then image and names
//! are recorded. A manifest that isn't an image's (an artifact) is kept with its blobs as they are.
//!
//! What is interrupted can be continued: a layer's partial blob stays under its digest, and the lease that holds the whole
//! ones outlives the process by a day. What was refused for being wrong is thrown away.

mod blobs;
mod flights;
mod layers;
mod manifest;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use corten_base::{Digest, ImageId, Platform, Reference};
use corten_content::{Lease, LeaseOptions};
use corten_distribution::Cancel;

use crate::document;
use crate::media_type;
use crate::record;
use crate::register::NewImage;
use crate::types::{Descriptor, Progress, Report, TransferOptions};
use crate::{Error, Images, Result, family};

pub(crate) use flights::Flights;
use manifest::Chosen;

/// What an interrupted pull has brought in is kept so long.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// How Docker's last line begins, and what it says.
const STATUS: &str = "Status: ";
const NEWER: &str = "Downloaded newer image";
const CURRENT: &str = "Image is up to date";

/// One pull on its way.
struct Pull<'a> {
    images: &'a Images,
    /// With a tag or a digest.
    reference: Reference,
    options: TransferOptions<'a>,
    lease: &'a Lease,
    report: Report<'a>,
    /// Set when one part has failed: the others needn't go on. What the registry is asked is under it.
    failed: &'a Cancel,
}

impl Images {
    /// Pulls an image by tag (`latest` where there is none) or digest. Reports Docker's steps. Survives power loss when it
    /// returns.
    ///
    /// # Errors
    /// [`Error::Registry`] in Docker's words; [`Error::NoManifest`], [`Error::Platform`]; [`Error::Mismatch`],
    /// [`Error::Content`], [`Error::Document`], [`Error::Layer`] for what is wrong with the content; [`Error::Cancelled`].
    pub fn pull(&self, reference: &Reference, options: &TransferOptions<'_>, report: Report<'_>) -> Result<ImageId> {
        let reference = reference.clone().with_default_tag();
        if let Some(id) = self.is_current(&reference, options, report)? {
            return Ok(id);
        }
        let owner = format!("pull {reference}");
        let lease = self.content().lease(LeaseOptions {
            namespace: self.namespace().clone(),
            owner: owner.clone(),
            ttl: Some(KEEP),
            ..LeaseOptions::default()
        })?;
        let failed = options.registry.cancel().below();
        let registry = options.registry.under(&failed);
        let options = TransferOptions { registry: &registry, ..*options };
        let pull = Pull { images: self, reference, options, lease: &lease, report, failed: &failed };
        match pull.run() {
            Ok(id) => {
                drop(lease);
                // An interrupted pull before it may have begun with what the name meant then.
                if self.content().end_abandoned(self.namespace(), Some(&owner))? > 0 {
                    self.collect()?;
                }
                Ok(id)
            }
            Err(error) => {
                // A bad connection is no reason to fetch everything again.
                if error.is_interruption() {
                    lease.abandon();
                } else {
                    drop(lease);
                }
                self.tidily(|| Err(error))
            }
        }
    }

    /// Pulls all tags of a repository. Docker's last line is told once, for all.
    ///
    /// # Errors
    /// As [`pull`](Images::pull): the first tag that can't be had, for the want of an image for the platform too, ends it, as with
    /// Docker. Those before it are there.
    pub fn pull_all_tags(
        &self,
        repository: &Reference,
        options: &TransferOptions<'_>,
        report: Report<'_>,
    ) -> Result<()> {
        let repository = repository.repository();
        let tags = options.registry.tags(&repository, options.credentials)?;
        let is_newer = AtomicBool::new(false);
        let quieter = |step: Progress| match &step {
            Progress::Status { id: None, status, .. } if status.starts_with(STATUS) => {
                is_newer.fetch_or(status.starts_with(&format!("{STATUS}{NEWER}")), Ordering::Relaxed);
            }
            _ => report(step),
        };
        for tag in tags {
            self.pull(&repository.with_tag(&tag)?, options, &quieter)?;
        }
        let state = if is_newer.into_inner() { NEWER } else { CURRENT };
        report(Progress::status(format!("{STATUS}{state} for {}", repository.familiar())));
        Ok(())
    }

    /// Whether the name here means what it means in the registry, asked without fetching anything.
    fn is_current(
        &self,
        reference: &Reference,
        options: &TransferOptions<'_>,
        report: Report<'_>,
    ) -> Result<Option<ImageId>> {
        let namespace = self.namespace().as_str();
        let Some(row) = self.database().read(|connection| record::name(connection, namespace, reference))? else {
            return Ok(None);
        };
        let remote = match reference.digest() {
            Some(digest) => Some(digest.clone()),
            None => options.registry.head(reference, options.credentials)?.map(|descriptor| descriptor.digest),
        };
        let Some(remote) = remote else { return Ok(None) };
        // What was pushed from here may have another manifest there than here; what was loaded has no name with a digest yet.
        let digest = reference.with_digest(remote.clone());
        let known = self.database().read(|connection| record::name(connection, namespace, &digest))?;
        if known.is_none_or(|known| known.image != row.image) {
            return Ok(None);
        }
        let platform = options.platform.cloned().unwrap_or_else(Platform::host);
        let id = match self.resolve(&reference.to_string(), Some(&platform)) {
            Ok(image) => image.id,
            Err(Error::Artifact { .. }) => row.image,
            Err(Error::Platform { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if !self.database().read(|connection| family::came_for(connection, namespace, &row.target.digest, &id))? {
            return Ok(None);
        }
        say_from(reference, report);
        say_done(reference, &remote, false, report);
        self.publish_pull(reference, &id);
        Ok(Some(id))
    }

    fn publish_pull(&self, reference: &Reference, id: &ImageId) {
        let labels = self.read_config(id).ok().and_then(|config| config.config.labels).unwrap_or_default();
        self.publish_of("pull", &reference.familiar(), &reference.familiar_name(), &labels);
    }
}

impl Pull<'_> {
    fn run(&self) -> Result<ImageId> {
        let chosen = self.choose()?;
        say_from(&self.reference, self.report);
        let digest = self.reference.with_digest(chosen.target.digest.clone());
        let mut names = vec![digest];
        if self.reference.digest().is_none() {
            names.push(self.reference.clone());
        }
        let before = self.target_of(&names[names.len() - 1])?;
        let is_newer = before.as_ref() != Some(&chosen.target.digest);
        let mut image = if chosen.manifest.is_artifact() { self.artifact(&chosen)? } else { self.image(&chosen)? };
        for (digest, bytes) in &chosen.documents {
            image.blobs.insert(self.images.put_document(bytes, Some(digest), self.lease)?);
        }
        let id = image.id.clone();
        self.images.register(vec![NewImage { names, ..image }])?;
        say_done(&self.reference, &chosen.target.digest, is_newer, self.report);
        self.images.publish_pull(&self.reference, &id);
        Ok(id)
    }

    /// Brings an image in, and what is said about it.
    fn image(&self, chosen: &Chosen) -> Result<NewImage> {
        let manifest = &chosen.manifest;
        self.check_types(&manifest.layers)?;
        let bytes = self.fetch_document(&manifest.config, "image configuration");
        let bytes = bytes.map_err(|error| error.of_part(&self.reference, "image configuration"))?;
        let config = document::parse_config(&bytes, "image configuration", manifest.layers.len())?;
        if let Some(wanted) = self.options.platform.filter(|wanted| !wanted.matches(&config.platform())) {
            return Err(Error::Platform {
                reference: self.reference.familiar(),
                found: config.platform().to_string(),
                wanted: wanted.to_string(),
            });
        }
        // Nobody follows these on a terminal.
        let quiet = Pull { report: &|_| {}, reference: self.reference.clone(), ..*self };
        let (held, said) = thread::scope(|scope| -> Result<_> {
            let said = scope.spawn(|| {
                let said = quiet.attestations(&chosen.attestations);
                said.inspect_err(|_| self.failed.cancel())
            });
            let held = self.layers(&config, &manifest.layers);
            let said = said.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            match (held, said) {
                // It was given up for the other.
                (Err(Error::Cancelled), Err(error)) | (Err(error), _) => Err(error),
                (Ok(held), said) => Ok((held, said?)),
            }
        })?;
        let layers: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        Ok(NewImage {
            id: ImageId(manifest.config.digest.clone()),
            config,
            manifest: chosen.descriptor.clone(),
            target: chosen.target.clone(),
            blobs: layers.iter().cloned().chain(said).chain([manifest.config.digest.clone()]).collect(),
            layers,
            names: Vec::new(),
            parent: None,
            held,
        })
    }

    /// Refuses layers that are none before anything of the image is fetched.
    fn check_types(&self, layers: &[Descriptor]) -> Result<()> {
        let Some(odd) = layers.iter().find(|layer| !media_type::is_part(&layer.media_type)) else { return Ok(()) };
        let error = Error::MediaType(odd.media_type.clone());
        Err(error.of_part(&self.reference, &format!("layer {}", odd.digest.short())))
    }

    /// Brings an artifact in.
    fn artifact(&self, chosen: &Chosen) -> Result<NewImage> {
        let blobs: Vec<Descriptor> = chosen.manifest.blobs().cloned().collect();
        self.keep_all(&blobs)?;
        let blobs = blobs.into_iter().map(|blob| blob.digest).collect();
        Ok(NewImage::artifact(&chosen.manifest, chosen.descriptor.clone(), chosen.target.clone(), blobs))
    }

    /// What a name means here.
    fn target_of(&self, name: &Reference) -> Result<Option<Digest>> {
        let namespace = self.images.namespace().as_str();
        let row = self.images.database().read(|connection| record::name(connection, namespace, name))?;
        Ok(row.map(|row| row.target.digest))
    }

    fn is_cancelled(&self) -> bool {
        self.failed.is_cancelled()
    }
}

/// Docker's first line.
fn say_from(reference: &Reference, report: Report<'_>) {
    let part = reference.digest().map_or_else(|| reference.tag().unwrap_or_default().to_owned(), Digest::to_string);
    report(Progress::part(part, format!("Pulling from {}", reference.path())));
}

/// Docker's last lines.
fn say_done(reference: &Reference, digest: &Digest, newer: bool, report: Report<'_>) {
    report(Progress::status(format!("Digest: {digest}")));
    let state = if newer { NEWER } else { CURRENT };
    report(Progress::status(format!("{STATUS}{state} for {}", reference.familiar())));
}
