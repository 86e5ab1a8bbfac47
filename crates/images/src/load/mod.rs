//! Images from a tar: what `docker save` writes, and OCI image layouts; plain, gzip, zstd, bzip2 or xz.
//!
//! An archive that is both is read as the layout: it has the manifests as they were pushed, so that digests stay.
//!
//! The tar is read once, as it comes. What names the layers may stand behind them, so everything that looks like a layer is
//! stored and extracted at once into a draft, several of them at a time; small documents are kept in memory, within a bound. At the end the manifest
//! says what is what: diff ids are compared, drafts become layers, and all images are recorded together. An archive that
//! turns out to be bad leaves nothing.

mod docker;
mod extract;
mod oci;
mod stage;

use std::io::Read;
use std::thread;

use corten_archive::{Limits, Reader, decompress};
use corten_base::{Platform, Reference};

use crate::register::{Moved, NewImage};
use crate::types::{Loaded, Progress, Report};
use crate::{Error, Images, Result};

use extract::{Queue, Workers};
use stage::Stage;

/// So large an archive is begun in any case: a disk that is full says so itself.
const LEAST_ROOM: u64 = 64 << 20;
/// The most files that an image archive may have.
const MOST_FILES: u64 = 100_000;

/// Takes all files of an archive in. Its layers are stored and extracted when this returns.
fn read(stage: &mut Stage<'_>, reader: impl Read + Send) -> Result<()> {
    let (images, lease, queue) = (stage.images, stage.lease, Queue::default());
    thread::scope(|scope| {
        let workers = Workers::start(scope, &queue, images.snapshots(), lease)?;
        let reader = decompress(reader).map_err(Error::Tar)?;
        // What is here already takes no place in the end, hence the factor.
        let max_bytes = images.snapshots().free().saturating_mul(2).clamp(LEAST_ROOM, Limits::default().max_bytes);
        let limits = Limits { max_bytes, max_entries: MOST_FILES, ..Limits::default() };
        let mut tar = Reader::new(reader, limits);
        while let Some(entry) = tar.next_entry().map_err(Error::Tar)? {
            stage.take(&entry, &mut tar, &workers)?;
        }
        // A compressed stream has a check sum behind its last byte.
        tar.finish().map_err(Error::Tar)?;
        stage.arrive()
    })
}

impl Images {
    /// Loads the images of a docker-archive or an OCI layout, plain or compressed, all or none. Reports layers as they come,
    /// and a line of Docker's text (`Loaded image: ..`) for each name. Survives power loss when it returns.
    ///
    /// Of an image for several platforms the one for this machine is unpacked and the others are kept as they came; with
    /// `platforms`, the first that is there is unpacked and only those are kept.
    ///
    /// # Errors
    /// [`Error::Archive`], [`Error::Document`], [`Error::Missing`], [`Error::Mismatch`], [`Error::Layer`], [`Error::Tar`] for
    /// what is wrong with the archive; [`Error::NoManifest`] if it has nothing for the platforms; [`Error::Input`] if
    /// reading it fails.
    pub fn load(&self, reader: impl Read + Send, platforms: &[Platform], report: Report<'_>) -> Result<Vec<Loaded>> {
        self.tidily(|| {
            let lease = self.lease("load")?;
            let mut stage = Stage::new(self, &lease, platforms, report);
            read(&mut stage, reader)?;
            let images = if stage.has(oci::LAYOUT) && stage.has(oci::INDEX) {
                oci::images(&mut stage)?
            } else if stage.has(docker::MANIFEST) {
                docker::images(&mut stage)?
            } else if stage.has(oci::INDEX) {
                oci::images(&mut stage)?
            } else {
                return Err(Error::Archive("it has neither manifest.json nor index.json".into()));
            };
            self.finish_load(images, report)
        })
    }

    fn finish_load(&self, images: Vec<NewImage>, report: Report<'_>) -> Result<Vec<Loaded>> {
        let told: Vec<_> = images
            .iter()
            .map(|image| {
                (image.id.clone(), image.names.clone(), image.config.config.labels.clone().unwrap_or_default())
            })
            .collect();
        let moved = self.register(images)?;
        for Moved { name, from } in &moved {
            let name = name.familiar();
            let text =
                format!("The image {name} already exists, renaming the old one with ID {from} to empty string\n");
            report(Progress::Stream(text));
        }
        let mut loaded: Vec<Loaded> = Vec::new();
        let nameless = told.iter().all(|(_, names, _)| names.is_empty());
        for (id, names, labels) in told {
            let names: Vec<String> = names.iter().map(Reference::familiar).collect();
            names.iter().for_each(|name| report(Progress::Stream(format!("Loaded image: {name}\n"))));
            if nameless {
                report(Progress::Stream(format!("Loaded image ID: {id}\n")));
            }
            self.publish("load", &id, id.as_str(), &labels);
            loaded.push(Loaded { id, names });
        }
        Ok(loaded)
    }
}
