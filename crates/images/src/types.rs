//! What the image store tells its callers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use corten_base::{ChainId, ContainerId, DiffId, Digest, ImageId, Platform};
use corten_distribution::{Blocking, Credentials};
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::media_type;

/// A reference to content: what it is, its digest and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The media type.
    #[serde(default)]
    pub media_type: String,
    /// The digest of the bytes.
    pub digest: Digest,
    /// The number of bytes.
    pub size: u64,
}

impl Descriptor {
    /// The same, as its document says what it is. Where that doesn't, a name that is no document's stands for OCI's.
    pub(crate) fn of_document(mut self, own: Option<&str>, is_index: bool) -> Descriptor {
        self.media_type = media_type::of_document(own, &self.media_type, is_index).to_owned();
        self
    }
}

/// One image of one platform, with all that a container's creation or `inspect` needs.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of the configuration.
    pub id: ImageId,
    /// The configuration, read.
    pub config: Arc<ImageConfig>,
    /// The layers' stack; none for an image without layers.
    pub chain: Option<ChainId>,
    /// The layers, lowest first.
    pub layers: Vec<DiffId>,
    /// Bytes of all layers' files together.
    pub size: u64,
    /// Its names with tags, in their familiar form, sorted.
    pub repo_tags: Vec<String>,
    /// Its names with digests, in their familiar form, sorted.
    pub repo_digests: Vec<String>,
    /// The manifest of this platform.
    pub manifest: Descriptor,
    /// What was pulled or loaded: the manifest or the index that it was chosen from.
    pub target: Descriptor,
    /// The image it was built on here, where that is known.
    pub parent: Option<ImageId>,
    /// When it last got a name; none if it never had one.
    pub last_tagged: Option<SystemTime>,
    /// False for one of several behind a name that isn't the record's own: its layers stay only while somebody uses them.
    pub is_recorded: bool,
}

impl Image {
    /// Whether it is no image, but something else that registries keep: nothing runs from it, and its configuration is empty.
    #[must_use]
    pub fn is_artifact(&self) -> bool {
        self.id.0 == self.manifest.digest
    }
}

/// One line of `images`.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The image's id.
    pub id: ImageId,
    /// The image it was built on here, where that is known.
    pub parent: Option<ImageId>,
    /// Names with tags, sorted; empty for a dangling image.
    pub repo_tags: Vec<String>,
    /// Names with digests, sorted.
    pub repo_digests: Vec<String>,
    /// Seconds since 1970; 0 if the configuration doesn't say.
    pub created: i64,
    /// Bytes of all layers' files together.
    pub size: u64,
    /// The configuration's labels.
    pub labels: BTreeMap<String, String>,
    /// What was pulled or loaded.
    pub target: Descriptor,
    /// When it last got a name; none if it never had one.
    pub last_tagged: Option<SystemTime>,
}

/// A manifest behind an image's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestSummary {
    /// The manifest.
    pub descriptor: Descriptor,
    /// The platform that its index gives it.
    pub platform: Option<Platform>,
    /// What its index says of it otherwise.
    pub annotations: BTreeMap<String, String>,
    /// What sort of artifact it is, if its index says so.
    pub artifact_type: String,
    /// Whether it and all that it needs is here.
    pub available: bool,
    /// Bytes of its blobs that are here.
    pub content: u64,
    /// Bytes of its layers' files, if they are unpacked.
    pub unpacked: u64,
    /// What it is.
    pub kind: ManifestKind,
}

/// What a manifest is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManifestKind {
    /// An image for one platform.
    Image {
        /// Its id, if the manifest is here.
        id: Option<ImageId>,
        /// The platform, from the index or else the configuration.
        platform: Platform,
    },
    /// Statements about another manifest.
    Attestation {
        /// The digest of that manifest, as the index says.
        subject: String,
    },
    /// Something else, or not here and nothing is said of it.
    Unknown,
}

/// An in-toto statement about an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its blob.
    pub descriptor: Descriptor,
    /// What its manifest says of it.
    pub annotations: BTreeMap<String, String>,
    /// What it states, as a URI.
    pub predicate_type: String,
    /// Its JSON, where that was asked for and is here.
    pub text: Option<Vec<u8>>,
}

/// Which images `list` shows; each set condition must hold, several values of one are alternatives but for `label`.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Also images without a name that others were built on.
    pub all: bool,
    /// Patterns for names, as `reference=` has them: `busybox`, `bu*:latest`.
    pub reference: Vec<String>,
    /// Only images without (`true`) or with (`false`) a name.
    pub dangling: Option<bool>,
    /// `name` or `name=value`; all must be there.
    pub label: Vec<String>,
    /// `name` or `name=value`; none may be there.
    pub label_not: Vec<String>,
    /// Made before this image.
    pub before: Vec<String>,
    /// Made after this image.
    pub since: Vec<String>,
    /// Made before this time.
    pub until: Option<SystemTime>,
}

/// One line of `history`, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryItem {
    /// The image's id at this step, or `<missing>`.
    pub id: String,
    /// Seconds since 1970; 0 where unknown.
    pub created: i64,
    /// The instruction.
    pub created_by: String,
    /// Names of the image at this step.
    pub tags: Vec<String>,
    /// Bytes of the step's layer.
    pub size: u64,
    /// A message.
    pub comment: String,
}

/// A container that uses an image.
#[derive(Clone, Debug)]
pub struct InUse {
    /// The container.
    pub container: ContainerId,
    /// Whether it runs.
    pub running: bool,
}

/// What `remove` did, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// A name was taken away.
    Untagged(String),
    /// An image (by id) or a layer (by chain id) was deleted.
    Deleted(String),
}

/// An image that `load` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: ImageId,
    /// The names it was given, in their familiar form.
    pub names: Vec<String>,
}

/// A step that a long operation reports; Docker's JSON progress messages without their JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub enum Progress {
    /// A state, of one part (`id`) or of the whole.
    Status {
        /// The part: a layer's short digest, a tag.
        id: Option<String>,
        /// The state in Docker's words.
        status: String,
        /// Bytes done.
        current: Option<u64>,
        /// Bytes in all.
        total: Option<u64>,
    },
    /// A line of text with its line end.
    Stream(String),
    /// Data for programs.
    Aux(serde_json::Value),
}

impl Progress {
    /// A state of the whole operation.
    pub fn status(status: impl Into<String>) -> Progress {
        Progress::Status { id: None, status: status.into(), current: None, total: None }
    }

    /// A state of one part.
    pub fn part(id: impl Into<String>, status: impl Into<String>) -> Progress {
        Progress::Status { id: Some(id.into()), status: status.into(), current: None, total: None }
    }

    /// A part's state with its bytes.
    pub fn bytes(id: impl Into<String>, status: impl Into<String>, current: u64, total: Option<u64>) -> Progress {
        Progress::Status { id: Some(id.into()), status: status.into(), current: Some(current), total }
    }
}

/// Where a long operation reports its steps; called from several threads.
pub type Report<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// How to pull or push.
#[derive(Clone, Copy, Debug)]
pub struct TransferOptions<'a> {
    /// The registries. When its [`Cancel`](corten_distribution::Cancel) is set, the operation ends at once.
    pub registry: &'a Blocking,
    /// Whose account to use.
    pub credentials: Option<&'a Credentials>,
    /// The one platform wanted of several. Without it the host's is pulled, and all that is here is pushed.
    pub platform: Option<&'a Platform>,
}
