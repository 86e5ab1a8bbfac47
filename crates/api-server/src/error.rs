//! Failures on their way to the client: one table turns [`ErrorKind`] into HTTP statuses.

use corten_base::ErrorKind;
use hyper::StatusCode;

/// What a handler answers when it can't do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

/// Which status each kind of failure gets, as moby's httpstatus table has it.
pub(crate) fn status_of(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Invalid => StatusCode::BAD_REQUEST,
        ErrorKind::NotModified => StatusCode::NOT_MODIFIED,
        ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorKind::Denied => StatusCode::FORBIDDEN,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::Cancelled | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Failure {
        Failure { status: status_of(kind), message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(ErrorKind::Internal, message)
    }

    /// The answer of operations and settings that are not there yet; `what` begins the sentence.
    pub(crate) fn unsupported(what: impl std::fmt::Display) -> Failure {
        Failure::new(ErrorKind::NotImplemented, format!("{what} is not supported yet"))
    }
}

macro_rules! failure_from {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Failure {
                Failure::new(error.kind(), corten_engine::chain(&error))
            }
        })*
    };
}

failure_from!(
    corten_api_types::VersionRefused,
    corten_base::InvalidName,
    corten_base::InvalidPlatform,
    corten_base::InvalidReference,
    corten_base::time::InvalidTime,
    corten_engine::Error,
    corten_events::InvalidFilter,
    corten_images::Error,
    corten_network::Error,
    corten_volumes::Error,
);

impl From<corten_api_types::InvalidJson> for Failure {
    /// The parser's own error is part of the text already.
    fn from(error: corten_api_types::InvalidJson) -> Failure {
        Failure::new(error.kind(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_statuses() {
        let check = |failure: Failure, status: u16, message: &str| {
            assert_eq!((failure.status.as_u16(), failure.message.as_str()), (status, message));
        };
        check(Failure::unsupported("ContainerExport"), 501, "ContainerExport is not supported yet");
        let reference = corten_base::Reference::parse_normalized("Foo").unwrap_err();
        check(
            Failure::from(reference),
            400,
            "invalid reference format: repository name (library/Foo) must be lowercase",
        );
        let json = corten_api_types::decode::<Vec<u8>>(b"{").unwrap_err();
        check(Failure::from(json), 400, "invalid JSON: EOF while parsing an object at line 1 column 1");
    }
}
