//! What can go wrong with a control group.

use std::io;
use std::path::PathBuf;

use corten_base::ErrorKind;

/// A failed operation on a control group.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither cgroup v1 controllers nor a v2 tree are mounted.
    #[error("no control groups are mounted on this host")]
    NotMounted,
    /// A path with `..`, empty or odd parts.
    #[error("invalid cgroup path {0:?}")]
    Path(String),
    /// The host's kind of control groups can't do it.
    #[error("{0} is not supported by the control groups of this host")]
    Unsupported(&'static str),
    /// A limit was asked whose controller is not there.
    #[error("cgroup controller {0} is not available")]
    NoController(&'static str),
    /// A value that no kernel takes.
    #[error("{0}")]
    Limit(String),
    /// Device rules that can't be expressed.
    #[error("device rule {0:?} denies a part of what an earlier rule allows")]
    DeviceRules(String),
    /// A file of the group couldn't be written; runc's words.
    #[error("failed to write {value:?}: write {}", .file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// What was written.
        value: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Another operation on a file or directory of the group.
    #[error("cgroup {}: {operation} failed", .path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Where.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The group didn't freeze, empty or vanish in time.
    #[error("cgroup {}: {operation} took too long", .path.display())]
    Timeout {
        /// What was waited for.
        operation: &'static str,
        /// The group.
        path: PathBuf,
    },
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Path(_) | Self::Limit(_) | Self::DeviceRules(_) => ErrorKind::Invalid,
            Self::Unsupported(_) | Self::NoController(_) => ErrorKind::NotImplemented,
            Self::NotMounted => ErrorKind::Unavailable,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => ErrorKind::NotFound,
            Self::Write { source, .. } if source.kind() == io::ErrorKind::InvalidInput => ErrorKind::Invalid,
            Self::Write { .. } | Self::Io { .. } | Self::Timeout { .. } => ErrorKind::Internal,
        }
    }
}
