//! Images to a registry.
//!
//! What came from a registry or an OCI layout goes out byte for byte: the manifest, or the index with all it names if all of
//! that is here. Only the layers of images that were made here out of plain tars are packed on the way, and get a manifest that
//! names them so; see [`pack`].
//!
//! Per layer: ask whether the registry has it, else whether it takes it from another of its repositories, else upload it. Layers
//! go in parallel, bounded for all pushes together.

mod layers;
mod pack;
mod plan;

use corten_base::{ImageId, Reference};
use corten_content::Lease;
use corten_distribution::Cancel;

use crate::record::{self, NameRow};
use crate::types::{Descriptor, Progress, Report, TransferOptions};
use crate::{Error, Images, Result, media_type};

use plan::Plan;

/// One push on its way.
struct Push<'a> {
    images: &'a Images,
    /// With the tag.
    reference: Reference,
    options: TransferOptions<'a>,
    lease: &'a Lease,
    report: Report<'a>,
    /// Set when one part has failed: the others needn't go on. What the registry is asked is under it.
    failed: &'a Cancel,
}

impl Images {
    /// Pushes what a tag names, or without a tag all tags of the repository. Reports Docker's steps.
    ///
    /// # Errors
    /// [`Error::Push`] for names that are not here, in Docker's words; [`Error::Registry`]; [`Error::Platform`];
    /// [`Error::Content`] for blobs that are damaged or gone; [`Error::Cancelled`].
    pub fn push(&self, reference: &Reference, options: &TransferOptions<'_>, report: Report<'_>) -> Result<()> {
        report(Progress::status(format!("The push refers to repository [{}]", reference.name())));
        let repository = reference.name();
        let rows = self.database().read(|connection| record::names(connection, self.namespace().as_str()))?;
        let rows: Vec<NameRow> = rows.into_iter().filter(|row| row.reference.name() == repository).collect();
        if rows.is_empty() {
            let text = format!("An image does not exist locally with the tag: {}", reference.familiar_name());
            return Err(Error::Push(text));
        }
        if reference.digest().is_some() {
            return Err(Error::Push("cannot push a digest reference".to_owned()));
        }
        let is_wanted = |row: &&NameRow| match reference.tag() {
            Some(tag) => row.reference.tag() == Some(tag),
            None => row.reference.tag().is_some(),
        };
        let wanted: Vec<&NameRow> =
            rows.iter().filter(|row| row.reference.digest().is_none()).filter(is_wanted).collect();
        if wanted.is_empty() {
            return Err(Error::Push(format!("tag does not exist: {}", reference.familiar())));
        }
        wanted.into_iter().try_for_each(|row| self.push_one(row, options, report))
    }

    fn push_one(&self, row: &NameRow, options: &TransferOptions<'_>, report: Report<'_>) -> Result<()> {
        let lease = self.lease(&format!("push {}", row.reference))?;
        let failed = options.registry.cancel().below();
        let registry = options.registry.under(&failed);
        let push = Push {
            images: self,
            reference: row.reference.clone(),
            options: TransferOptions { registry: &registry, ..*options },
            lease: &lease,
            report,
            failed: &failed,
        };
        let pushed = push.run(row)?;
        let labels = self.read_config(&row.image).ok().and_then(|config| config.config.labels).unwrap_or_default();
        self.publish_of("push", &row.reference.familiar(), &row.reference.familiar_name(), &labels);
        let tag = row.reference.tag().unwrap_or_default();
        let (digest, size) = (&pushed.digest, pushed.size);
        report(Progress::status(format!("{tag}: digest: {digest} size: {size}")));
        report(Progress::Aux(serde_json::json!({ "Tag": tag, "Digest": digest, "Size": size })));
        Ok(())
    }
}

impl Push<'_> {
    /// Pushes everything and answers what the tag means in the registry now.
    fn run(&self, row: &NameRow) -> Result<Descriptor> {
        let plan = Plan::of(self, row)?;
        let mut written = Vec::new();
        for image in plan.images {
            written.push(self.image(image)?);
        }
        let top = match plan.index {
            Some(indexes) => {
                let (last, inner) = indexes.split_last().expect("an index plan has its index");
                for (descriptor, bytes) in inner {
                    self.put(descriptor.digest.as_str(), descriptor, bytes)?;
                }
                self.put(self.tag(), &last.0, &last.1)?;
                last.0.clone()
            }
            None => written.pop().ok_or_else(|| Error::NotFound(self.reference.familiar()))?,
        };
        if let Some(original) = plan.instead_of {
            (self.report)(Progress::Aux(serde_json::json!({
                "manifestPushedInsteadOfIndex": true,
                "originalIndex": original,
                "selectedManifest": top,
            })));
        }
        // One of an index's images is no name of that index, and maybe not of the image that leads there.
        if top.digest == row.target.digest || !media_type::is_index(&row.target.media_type) {
            self.remember(&row.image, &top)?;
        }
        Ok(top)
    }

    fn tag(&self) -> &str {
        self.reference.tag().unwrap_or(corten_base::reference::DEFAULT_TAG)
    }

    /// Stores a manifest or index in the registry.
    fn put(&self, name: &str, descriptor: &Descriptor, bytes: &[u8]) -> Result<()> {
        let (registry, credentials) = (self.options.registry, self.options.credentials);
        registry.put_manifest(&self.reference, name, &descriptor.media_type, bytes.to_vec(), credentials)?;
        Ok(())
    }

    /// The image can be named by what the registry has now.
    fn remember(&self, image: &ImageId, target: &Descriptor) -> Result<()> {
        let reference = self.reference.repository().with_digest(target.digest.clone());
        let row = NameRow { reference, image: image.clone(), target: target.clone() };
        let namespace = self.images.namespace().to_string();
        self.images.database().write(move |transaction| -> Result<()> {
            // It may have been removed meanwhile; the registry has it all the same.
            if record::image(transaction, &namespace, &row.image)?.is_none() {
                return Ok(());
            }
            record::add_blob(transaction, &namespace, &row.image, &row.target.digest)?;
            record::put_name(transaction, &namespace, &row).map(drop)
        })
    }

    fn is_cancelled(&self) -> bool {
        self.failed.is_cancelled()
    }
}
