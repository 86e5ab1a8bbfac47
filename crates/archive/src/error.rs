//! What can go wrong with an archive.

use crate::name::Shown;
use corten_base::ErrorKind;
use std::io;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an archive could not be read, extracted or written. Names are shown with control characters escaped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream below failed; decompression errors arrive here too.
    #[error("reading the archive")]
    Read(#[source] io::Error),
    /// The stream ended within an entry.
    #[error("unexpected EOF: the archive ends within {0}")]
    Truncated(&'static str),
    /// The bytes are not a tar header.
    #[error("invalid tar header at byte {offset}: {reason}")]
    Header {
        /// Where in the uncompressed stream.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A name or a hard link's target leads out of the archive's root.
    #[error("invalid path in archive: \"{}\" is outside of its root", Shown(.0))]
    Breakout(Vec<u8>),
    /// A name that no file can have.
    #[error("invalid path in archive: \"{}\": {reason}", Shown(name))]
    Name {
        /// The name as the archive has it.
        name: Vec<u8>,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The archive is larger than its reader allows.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// A valid format that this version does not read.
    #[error("unsupported archive: {0}")]
    Unsupported(String),
    /// Creating one entry failed.
    #[error("{operation} /{}", Shown(name))]
    Entry {
        /// The system's operation, such as `mkdir`.
        operation: &'static str,
        /// The entry.
        name: Vec<u8>,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// Writing an archive failed.
    #[error("writing the archive")]
    Write(#[source] io::Error),
}

impl Error {
    /// What sort of failure it is: bad archives are [`ErrorKind::Invalid`], failures of the disk internal.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Read(source) => match source.kind() {
                io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                    ErrorKind::Invalid
                }
                _ => ErrorKind::Internal,
            },
            Error::Entry { source, .. } => match source.raw_os_error() {
                Some(code) if is_archives_fault(code) => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            },
            Error::Write(_) => ErrorKind::Internal,
            Error::Unsupported(_) => ErrorKind::NotImplemented,
            _ => ErrorKind::Invalid,
        }
    }

    /// Whether the disk, or the share of it that was granted, is full.
    pub fn is_disk_full(&self) -> bool {
        let (Error::Entry { source, .. } | Error::Write(source)) = self else { return false };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    pub(crate) fn entry(operation: &'static str, name: &[u8], source: impl Into<io::Error>) -> Error {
        Error::Entry { operation, name: name.to_vec(), source: source.into() }
    }
}

/// Answers of the system that an honest archive doesn't provoke.
fn is_archives_fault(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NAMETOOLONG, Errno::LOOP, Errno::NOTDIR, Errno::NOENT, Errno::ISDIR, Errno::INVAL, Errno::FBIG]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn kinds() {
        assert_eq!(Error::Truncated("a header").kind(), ErrorKind::Invalid);
        assert_eq!(Error::entry("open", b"a", Errno::NOTDIR).kind(), ErrorKind::Invalid);
        let full = Error::entry("write", b"a/b", Errno::NOSPC);
        assert_eq!(full.kind(), ErrorKind::Internal);
        assert!(full.is_disk_full());
        assert_eq!(full.to_string(), "write /a/b");
    }

    #[test]
    fn names_are_escaped() {
        let error = Error::Breakout(b"../\x1b[31m\xff".to_vec());
        assert_eq!(error.to_string(), r#"invalid path in archive: "../\x1b[31m\xff" is outside of its root"#);
    }
}
