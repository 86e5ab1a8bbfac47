//! Images of one layer, made from a tar.

use std::collections::HashSet;
use std::io::Read;
use std::time::SystemTime;

use corten_base::{Algorithm, ChainId, DiffId, ImageId, Platform, Reference, time};
use corten_content::Ingest;
use corten_distribution::{Blocking, Cancel, WebAddress};

use crate::changes;
use crate::config::{HistoryEntry, ImageConfig, RootFs};
use crate::document::{self, Manifest};
use crate::extract::{Terms, never};
use crate::register::NewImage;
use crate::types::{Progress, Report};
use crate::unpack::{self, LayerSource, Received, Wanted};
use crate::{Error, Images, Result};

/// How to import a root file system.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The name to give (`latest` where it has no tag), if any.
    pub name: Option<Reference>,
    /// Dockerfile instructions: `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// The message of the history.
    pub message: String,
    /// The platform of the programs within; the host's if none is given.
    pub platform: Option<Platform>,
}

/// A root file system's tar on its way.
pub(crate) struct Archive<'a> {
    reader: &'a mut (dyn Read + Send),
    /// The number of its bytes, where it is known.
    total: Option<u64>,
    /// Gives up on it.
    cancel: Cancel,
}

impl<'a> Archive<'a> {
    /// One that ends by itself.
    pub fn of(reader: &'a mut (dyn Read + Send)) -> Archive<'a> {
        Archive { reader, total: None, cancel: Cancel::default() }
    }
}

impl Images {
    /// Makes an image of what a web server has, which is a tar of a root file system, plain or compressed.
    ///
    /// # Errors
    /// As [`Images::import`]; [`Error::Registry`] where the server does not give it, before anything is reported, or breaks
    /// off; [`Error::Cancelled`] once the registry's [`Cancel`] is set.
    pub fn import_from(
        &self,
        address: &WebAddress,
        registry: &Blocking,
        options: &ImportOptions,
        report: Report<'_>,
    ) -> Result<ImageId> {
        let mut file = registry.download(address)?;
        report(Progress::status(format!("Downloading from {address}")));
        let (total, cancel) = (file.size(), registry.cancel().clone());
        self.import_archive(Archive { reader: &mut file, total, cancel }, options, report)
    }

    /// Makes an image of one layer from a tar of a root file system, plain or compressed. Reports its id at the end.
    ///
    /// # Errors
    /// [`Error::Change`] for a change that isn't understood, before anything is read; [`Error::Layer`] for a bad tar;
    /// nothing of the image is kept then.
    pub fn import(&self, mut reader: impl Read + Send, options: &ImportOptions, report: Report<'_>) -> Result<ImageId> {
        self.import_archive(Archive::of(&mut reader), options, report)
    }

    fn import_archive(&self, archive: Archive<'_>, options: &ImportOptions, report: Report<'_>) -> Result<ImageId> {
        let run = changes::apply(&options.changes)?;
        let name = options.name.clone().map(Reference::with_default_tag);
        if name.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::InvalidName("cannot import digest reference".into()));
        }
        let platform = options.platform.clone().unwrap_or_else(Platform::host);
        let created = time::rfc3339_nano(SystemTime::now());
        let config = |diff_id: DiffId| {
            let history = HistoryEntry {
                created: Some(created.clone()),
                comment: options.message.clone(),
                ..HistoryEntry::default()
            };
            let config = ImageConfig {
                architecture: platform.architecture,
                os: platform.os,
                variant: platform.variant,
                os_version: platform.os_version,
                created: Some(created),
                docker_version: env!("CARGO_PKG_VERSION").into(),
                comment: options.message.clone(),
                config: run,
                rootfs: RootFs { kind: "layers".into(), diff_ids: vec![diff_id] },
                history: vec![history],
                ..ImageConfig::default()
            };
            serde_json::to_vec(&config).map_err(|error| Error::document("image configuration", error))
        };
        let id = self.make(archive, "import", config, name.clone(), report)?;
        let labels = self.read_config(&id)?.config.labels.unwrap_or_default();
        if let Some(name) = name {
            self.publish("tag", &id, &name.familiar(), &labels);
        }
        self.publish("import", &id, id.as_str(), &labels);
        report(Progress::status(id.to_string()));
        Ok(id)
    }

    /// Makes an image of one layer; its configuration is asked for when the layer's diff id is known.
    pub(crate) fn make(
        &self,
        archive: Archive<'_>,
        owner: &str,
        config: impl FnOnce(DiffId) -> Result<Vec<u8>>,
        name: Option<Reference>,
        report: Report<'_>,
    ) -> Result<ImageId> {
        let Archive { reader, total, cancel } = archive;
        self.tidily(|| {
            let lease = self.lease(owner)?;
            let ingest = self.content().ingest_nameless(Algorithm::Sha256, None)?;
            let mut progress = |current| {
                report(Progress::bytes("", "Importing", current, total));
                Ok(())
            };
            let name_of_layer = "of the archive";
            let commit = |ingest: Ingest| Ok(ingest.commit(None, &lease)?);
            let terms = Terms { snapshots: self.snapshots(), turns: None, cancel: &cancel };
            let wanted = Wanted::WhileExtracted;
            let received = unpack::receive(wanted, &terms, name_of_layer, ingest, reader, &mut progress, commit)?;
            let Received { digest: blob, size, extraction } = received;
            let extracted = extraction.map_err(|source| Error::Layer { layer: name_of_layer.into(), source })?;
            let diff_id = extracted.diff_id(&blob);
            let chain = ChainId(diff_id.0.clone());
            let source =
                LayerSource { name: diff_id.short(), blob: &blob, diff_id: &diff_id, chain: &chain, parent: None };
            let held = unpack::commit(self.snapshots(), self.content(), &source, Some(Ok(extracted)), &never)?;
            let bytes = config(diff_id.clone())?;
            let config = document::parse_config(&bytes, "image configuration", 1)?;
            let layers = vec![self.layer_descriptor(&blob, size)?];
            let manifest = Manifest::write(document::config_descriptor(&bytes), layers);
            let id = ImageId(self.put_document(&bytes, None, &lease)?);
            let target = document::manifest_descriptor(&manifest);
            self.put_document(&manifest, None, &lease)?;
            self.register(vec![NewImage {
                id: id.clone(),
                config,
                blobs: HashSet::from([id.0.clone(), blob.clone(), target.digest.clone()]),
                layers: vec![blob],
                manifest: target.clone(),
                target,
                names: name.into_iter().collect(),
                parent: None,
                held: Some(held),
            }])?;
            Ok(id)
        })
    }
}
