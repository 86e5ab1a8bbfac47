//! Pull, push, load, save, import, tag, remove, unpack, garbage.
//!
//! An image is a configuration and layers. Its **id** is the digest of the configuration, as Docker 28 and CRI have it; its
//! **names** point at what was pulled or loaded, byte for byte: a manifest, or the index it was chosen from. Blobs stay as
//! they came, so that an image can be pushed or saved again, and an unpacked layer that a power loss may have damaged is
//! unpacked again ([`Images::ensure_unpacked`]).
//!
//! Whatever makes an image goes the same way: take a lease, bring every blob in and verify it, commit every layer from below,
//! and record image and names in one durable transaction. What is killed on the way leaves blobs and layers that nothing
//! names; they are collected when the store is opened.
//!
//! Everything here blocks and is called from threads that may. Namespaces share blobs and layers.

mod changes;
mod check;
mod config;
mod contents;
mod document;
mod error;
mod extract;
mod family;
mod garbage;
mod healthcheck;
mod hello;
mod history;
mod import;
mod list;
mod load;
mod media_type;
mod needs;
mod pull;
mod push;
mod record;
mod register;
mod remote;
mod remove;
mod resolve;
mod save;
mod sibling;
mod tag;
mod turns;
mod types;
mod unpack;
mod usage;
mod walk;

use std::sync::Arc;

use corten_base::{ImageId, Namespace, Reference};
use corten_content::{Lease, LeaseOptions, Store};
use corten_events::Log;
use corten_metadata::{Database, Schema};
use corten_snapshot::Snapshots;

use crate::import::Archive;

pub use check::{Checkup, Problem};
pub use config::{Healthcheck, HistoryEntry, ImageConfig, RootFs, RunConfig};
pub use corten_distribution::{Blocking, Cancel, Client, Credentials, Found, RegistryConfig, WebAddress};
pub use document::{ReadDocument, read_document};
pub use error::{Error, Result};
pub use garbage::Collected;
pub use import::ImportOptions;
pub use remote::Remote;
pub use save::Export;
pub use types::{
    Deleted, Descriptor, Filters, HistoryItem, Image, InUse, Loaded, ManifestKind, ManifestSummary, Progress, Report,
    Statement, Summary, TransferOptions,
};
pub use usage::Sharing;

/// The tables of this room.
pub const SCHEMA: Schema = Schema { room: "images", migrations: &[record::TABLES, record::PACKED, record::NEEDED] };

/// The image store as one namespace sees it; clones are handles on the same one.
#[derive(Clone, Debug)]
pub struct Images {
    namespace: Namespace,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    content: Store,
    snapshots: Snapshots,
    events: Log,
    flights: pull::Flights,
    turns: turns::Turns,
}

impl Images {
    /// Opens the store in the default namespace and collects what interrupted operations left.
    ///
    /// # Errors
    /// [`Error::Content`], [`Error::Snapshot`] if what was left can't be looked through.
    pub fn open(database: Database, content: Store, snapshots: Snapshots, events: Log) -> Result<Images> {
        let (flights, turns) = (pull::Flights::default(), turns::Turns::default());
        let shared = Shared { database, content, snapshots, events, flights, turns };
        let images = Images { namespace: Namespace::default(), shared: Arc::new(shared) };
        images.collect()?;
        Ok(images)
    }

    /// The same store as another namespace sees it.
    #[must_use]
    pub fn within(&self, namespace: &Namespace) -> Images {
        Images { namespace: namespace.clone(), shared: self.shared.clone() }
    }

    /// Registers the embedded image `corten/hello:latest`, unless something has its name.
    ///
    /// # Errors
    /// As [`load`](Images::load).
    pub fn ensure_hello(&self) -> Result<ImageId> {
        let name = Reference::parse_normalized(hello::NAME)?.with_default_tag();
        let namespace = self.namespace.as_str();
        if let Some(row) = self.database().read(|connection| record::name(connection, namespace, &name))? {
            return Ok(row.image);
        }
        let layer = hello::layer_tar().map_err(Error::Tar)?;
        let config = hello::config_json(&layer);
        self.make(Archive::of(&mut &layer[..]), "corten/hello", |_| Ok(config), Some(name), &|_| {})
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn database(&self) -> &Database {
        &self.shared.database
    }

    fn content(&self) -> &Store {
        &self.shared.content
    }

    fn snapshots(&self) -> &Snapshots {
        &self.shared.snapshots
    }

    fn events(&self) -> &Log {
        &self.shared.events
    }

    fn flights(&self) -> &pull::Flights {
        &self.shared.flights
    }

    fn turns(&self) -> &turns::Turns {
        &self.shared.turns
    }

    /// A lease for an operation; it ends with the operation or the process.
    fn lease(&self, owner: &str) -> Result<Lease> {
        let options =
            LeaseOptions { namespace: self.namespace.clone(), owner: owner.into(), ..LeaseOptions::default() };
        Ok(self.content().lease(options)?)
    }

    /// Runs an operation that may leave blobs and layers behind when it fails, and collects them then.
    fn tidily<T>(&self, operation: impl FnOnce() -> Result<T>) -> Result<T> {
        operation().inspect_err(|_| {
            if let Err(error) = self.collect() {
                tracing::warn!(%error, "cannot collect what a failed operation left");
            }
        })
    }
}
