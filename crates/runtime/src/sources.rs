//! Opens what a plan refers to, on the side of whoever hands it over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_base::ErrorKind;
use corten_sys::mount::{self, Attributes, attr, by_path};
use corten_sys::user_namespace;
use rustix::fs::{CWD, Mode, OFlags, fstat};

use crate::plan::{MountMap, NamespaceKind, Plan, Source, owner};

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
    /// A namespace's setting that would be the caller's own.
    #[error("sysctl {name:?} is not allowed in the hosts {} namespace", kind.in_words())]
    Sysctl {
        /// The setting.
        name: String,
        /// Whose it is.
        kind: NamespaceKind,
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
        let source = match self {
            Error::Source { source, .. } | Error::IdMap { source, .. } | Error::Namespace { source, .. } => source,
            Error::Sysctl { .. } => return ErrorKind::Invalid,
        };
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

/// Descriptors for [`Plan::joins`], in that order. A path may lead to the caller's own namespace: settings are refused then, as
/// they would be the host's.
pub fn open_namespaces(plan: &Plan) -> Result<Vec<OwnedFd>, Error> {
    plan.joins()
        .into_iter()
        .map(|join| {
            let failed = |source: io::Error| Error::Namespace { kind: join.kind, path: join.path.clone(), source };
            let namespace = open(&join.path).map_err(failed)?;
            match plan.sysctls.keys().find(|name| owner(name) == Some(join.kind)) {
                Some(name) if is_own(join.kind, &namespace).map_err(failed)? => {
                    Err(Error::Sysctl { name: name.clone(), kind: join.kind })
                }
                _ => Ok(namespace),
            }
        })
        .collect()
}

fn open(path: &str) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn is_own(kind: NamespaceKind, namespace: &OwnedFd) -> io::Result<bool> {
    let own = open(&format!("/proc/self/ns/{}", kind.file_name()))?;
    let (own, other) = (fstat(&own)?, fstat(namespace)?);
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// A directory as a root file system: a detached bind of it, for callers without a layered one.
pub fn open_root(path: &Path) -> io::Result<OwnedFd> {
    let directory = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    mount::clone_of(directory.as_fd(), true)
}
