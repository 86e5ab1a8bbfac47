//! What can be wrong with a container's settings.

use corten_base::ErrorKind;

/// Why settings can't become an OCI spec. Texts that Docker's clients know are Docker's.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such capability.
    #[error("unknown capability: {0:?}")]
    UnknownCapability(String),
    /// The kernel lacks the capability, or the daemon may not give it.
    #[error("capability not supported by your kernel or not available in the current environment: {0:?}")]
    CapabilityUnavailable(String),
    /// One of the lists at creation; the cause is part of the text, as in Docker's answer.
    #[error("invalid {list}: {cause}")]
    InvalidCapabilities {
        /// `CapAdd` or `CapDrop`.
        list: &'static str,
        /// What is wrong with it.
        cause: Box<Error>,
    },
    /// Malformed `--device-cgroup-rule`.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    /// An option that a tmpfs doesn't know.
    #[error("invalid tmpfs option {0:?}")]
    TmpfsOption(String),
    /// No such resource limit.
    #[error("invalid ulimit type: {0}")]
    Rlimit(String),
    /// The kernel can't make mounts read-only recursively, and the user insisted.
    #[error("mount {0:?} can't be made read-only recursively: the kernel is older than 5.12")]
    RecursiveReadonly(String),
    /// A profile was given, but the kernel has no seccomp.
    #[error("seccomp is not enabled in your kernel, cannot run a custom seccomp profile")]
    NoSeccomp,
    /// The seccomp profile isn't valid.
    #[error(transparent)]
    Profile(#[from] crate::seccomp::ProfileError),
    /// Something was left out that the spec needs.
    #[error("writing the OCI spec failed")]
    Document(#[from] oci_spec::OciSpecError),
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Document(_) => ErrorKind::Internal,
            _ => ErrorKind::Invalid,
        }
    }
}
