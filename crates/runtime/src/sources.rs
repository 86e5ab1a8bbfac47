//! Opens what a plan refers to, on the side of whoever hands it over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_base::ErrorKind;
use corten_sys::mount::{self, Attributes, attr, by_path};
use corten_sys::user_namespace;
use rustix::fs::{CWD, Mode, OFlags};

use crate::plan::{MountMap, NamespaceKind, Plan, Source};

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
    /// A bind source that is to show other owners.
    #[error("cannot map the owners of the mount source {path}")]
    IdMap {
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
        let (Error::Source { source, .. } | Error::IdMap { source, .. } | Error::Namespace { source, .. }) = self;
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
            open_source(&wanted).map_err(|source| match source {
                Opened::Not(source) => Error::Source { path: wanted.path, source },
                Opened::NotMapped(source) => Error::IdMap { path: wanted.path, source },
            })
        })
        .collect()
}

/// How far it came.
enum Opened {
    Not(io::Error),
    NotMapped(io::Error),
}

fn open_source(wanted: &Source) -> Result<OwnedFd, Opened> {
    let tree = mount::clone_path(Path::new(&wanted.path), wanted.recursive).map_err(Opened::Not)?;
    match &wanted.id_map {
        Some(map) => show_mapped(tree.as_fd(), map).map(|()| tree).map_err(Opened::NotMapped),
        None => Ok(tree),
    }
}

/// Has a detached tree show other owners; only whoever owns the file system may, so it is not left to the container.
fn show_mapped(tree: BorrowedFd<'_>, wanted: &MountMap) -> io::Result<()> {
    let namespace = user_namespace::with_maps(&wanted.map.uid_lines(), &wanted.map.gid_lines())?;
    let change = Attributes { set: attr::IDMAP, user_namespace: Some(namespace.as_fd()), ..Attributes::default() };
    mount::set_attributes(tree, &change, wanted.recursive).map_err(|error| match by_path::is_needed(&error) {
        true => by_path::missing("to show other owners"),
        false => error,
    })
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
    mount::clone_of(directory.as_fd(), true)
}
