//! What can go wrong with images, in Docker's words where its clients match on them.

use std::io;

use corten_base::{Digest, ErrorKind, InvalidReference, Reference};

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an operation on images.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No image has this name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// An id's beginning that several images share.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name isn't one.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The image is there, but for another platform.
    #[error(
        "image with reference {reference} was found but its platform ({found}) does not match the specified platform ({wanted})"
    )]
    Platform {
        /// What was asked for.
        reference: String,
        /// The image's platform.
        found: String,
        /// The platform asked for.
        wanted: String,
    },
    /// It is there, but no image: nothing runs from it.
    #[error("image with reference {reference} was found but does not provide any platform: it is an artifact ({kind})")]
    Artifact {
        /// What was asked for.
        reference: String,
        /// What sort of artifact it says to be.
        kind: String,
    },
    /// No manifest of an index fits the platform.
    #[error("no matching manifest for {platform} in the manifest list entries")]
    NoManifest {
        /// The platform asked for.
        platform: String,
    },
    /// Something uses the image or the name; Docker's whole text.
    #[error("{0}")]
    Conflict(String),
    /// A name that can't be given.
    #[error("{0}")]
    InvalidName(String),
    /// A filter or its value isn't known.
    #[error("{0}")]
    Filter(String),
    /// What isn't done as it was asked for; Docker's whole text.
    #[error("{0}")]
    Refused(String),
    /// One platform of an image for several could not be removed.
    #[error("failed to delete platform {platform} for image {image}")]
    Variant {
        /// The platform.
        platform: String,
        /// The digest of the image's index.
        image: Digest,
        /// Why.
        source: Box<Error>,
    },
    /// There is nothing of this name to push; Docker's whole text.
    #[error("{0}")]
    Push(String),
    /// The archive isn't an image archive or is damaged.
    #[error("invalid image archive: {0}")]
    Archive(String),
    /// A document of an image isn't what it should be.
    #[error("invalid {what}: {reason}")]
    Document {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A layer whose media type no image's layer has; Docker's text.
    #[error("unsupported media type {0}")]
    MediaType(String),
    /// A file that the archive's manifest names isn't in it.
    #[error("invalid image archive: {0} is missing")]
    Missing(String),
    /// Content that isn't what its digest says.
    #[error("{what}: digest mismatch: expected {expected}, got {actual}")]
    Mismatch {
        /// Which content.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// A change given to `import` isn't known or malformed; Docker's text.
    #[error("{0}")]
    Change(String),
    /// Reading the input failed.
    #[error("cannot read the image")]
    Input(#[source] io::Error),
    /// A layer could not be unpacked.
    #[error("failed to register layer {layer}")]
    Layer {
        /// The layer's diff id or its path in the archive.
        layer: String,
        /// Why.
        source: corten_archive::Error,
    },
    /// The tar itself is bad.
    #[error("invalid tar archive")]
    Tar(#[source] corten_archive::Error),
    /// The operation's caller went away.
    #[error("context canceled")]
    Cancelled,
    /// A file of the store could not be read or written.
    #[error("cannot {operation}")]
    Io {
        /// What was being done.
        operation: String,
        /// The system's answer.
        source: io::Error,
    },
    /// One of an archive's images could not be brought in.
    #[error("{image}")]
    Image {
        /// The image, by its name or what else the archive calls it.
        image: String,
        /// Why.
        source: Box<Error>,
    },
    /// A part of an image could not be brought in.
    #[error("{image}: {part}")]
    Part {
        /// The image, as people write it.
        image: String,
        /// Which of its parts.
        part: String,
        /// Why.
        source: Box<Error>,
    },
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(corten_distribution::Error),
    /// The blob store failed.
    #[error(transparent)]
    Content(#[from] corten_content::Error),
    /// The layer store failed.
    #[error(transparent)]
    Snapshot(#[from] corten_snapshot::Error),
    /// The record store failed.
    #[error(transparent)]
    Metadata(#[from] corten_metadata::Error),
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound(_) | Error::Push(_) | Error::Platform { .. } | Error::NoManifest { .. } => {
                ErrorKind::NotFound
            }
            Error::Conflict(_) => ErrorKind::Conflict,
            Error::Ambiguous(_)
            | Error::Artifact { .. }
            | Error::Refused(_)
            | Error::Reference(_)
            | Error::InvalidName(_)
            | Error::Filter(_)
            | Error::Archive(_)
            | Error::Document { .. }
            | Error::MediaType(_)
            | Error::Missing(_)
            | Error::Mismatch { .. }
            | Error::Change(_)
            | Error::Input(_) => ErrorKind::Invalid,
            Error::Cancelled => ErrorKind::Cancelled,
            Error::Part { source, .. } | Error::Variant { source, .. } | Error::Image { source, .. } => source.kind(),
            Error::Io { .. } => ErrorKind::Internal,
            Error::Layer { source, .. } | Error::Tar(source) => source.kind(),
            Error::Registry(error) => error.kind(),
            Error::Content(error) => error.kind(),
            Error::Snapshot(error) => error.kind(),
            Error::Metadata(error) => error.kind(),
        }
    }

    /// Whether trying again may go on with what came already: nothing was wrong with that.
    pub(crate) fn is_interruption(&self) -> bool {
        match self {
            Error::Part { source, .. } => source.is_interruption(),
            Error::Registry(_) | Error::Input(_) | Error::Cancelled => true,
            _ => false,
        }
    }

    /// The same, told of one of an archive's images.
    pub(crate) fn of_image(image: &str) -> impl FnOnce(Error) -> Error + '_ {
        move |error| Error::Image { image: image.escape_debug().to_string(), source: Box::new(error) }
    }

    /// The same, told of a part of an image. What the registry refuses and what nobody wants any more stays as it is.
    pub(crate) fn of_part(self, image: &Reference, part: &str) -> Error {
        use corten_distribution::Error as Registry;
        match self {
            Error::Cancelled | Error::Part { .. } => self,
            Error::Registry(Registry::NotFound(_) | Registry::Refused { .. }) => self,
            _ => Error::Part { image: image.familiar(), part: part.to_owned(), source: Box::new(self) },
        }
    }

    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let operation = operation.into();
        move |source| Error::Io { operation, source }
    }

    pub(crate) fn document(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Document { what: what.into(), reason: reason.to_string() }
    }
}

impl From<corten_distribution::Error> for Error {
    fn from(error: corten_distribution::Error) -> Error {
        match error {
            corten_distribution::Error::Cancelled => Error::Cancelled,
            error => Error::Registry(error),
        }
    }
}

impl From<corten_metadata::rusqlite::Error> for Error {
    fn from(error: corten_metadata::rusqlite::Error) -> Error {
        Error::Metadata(error.into())
    }
}
