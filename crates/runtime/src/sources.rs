//! Opens what a plan refers to, on the side of whoever hands it over.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use corten_base::ErrorKind;
use corten_sys::mount;
use rustix::fs::{CWD, Mode, OFlags};

use crate::plan::{NamespaceKind, Plan};

/// Something that a plan refers to could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bind source.
    #[error("cannot open the mount source {path}")]
    Source {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A namespace.
    #[error("cannot open the {kind:?} namespace {path}")]
    Namespace {
        /// Its kind.
        kind: NamespaceKind,
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The kind for the faces' tables.
    pub fn kind(&self) -> ErrorKind {
        let (Error::Source { source, .. } | Error::Namespace { source, .. }) = self;
        match source.kind() {
            io::ErrorKind::NotFound => ErrorKind::NotFound,
            io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        }
    }
}

/// Detached mount trees for [`Plan::sources`], in that order.
pub fn open_sources(plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    plan.sources()
        .into_iter()
        .map(|wanted| {
            mount::clone_path(Path::new(&wanted.path), wanted.recursive)
                .map_err(|source| Error::Source { path: wanted.path, source })
        })
        .collect()
}

/// Descriptors for [`Plan::joins`], in that order.
pub fn open_namespaces(plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    plan.joins()
        .into_iter()
        .map(|join| {
            rustix::fs::open(&*join.path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|error| Error::Namespace { kind: join.kind, path: join.path, source: error.into() })
        })
        .collect()
}

/// A directory as a root file system: a detached bind of it, for callers without a layered one.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::clone_of(std::os::fd::AsFd::as_fd(&directory), true)
}
