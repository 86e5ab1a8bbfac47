//! The body of an answer.

use crate::error::{Cause, Error};
use crate::pool::{Connection, Pool, http_cause};
use crate::url::Origin;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::Duration;

/// A body that is read piece by piece; its connection is used again when it was read to the end, and closed otherwise.
pub(crate) struct Body {
    incoming: Incoming,
    connection: Option<Connection>,
    pool: Arc<Pool>,
    origin: Origin,
    stall: Duration,
}

impl Body {
    pub async fn new(
        incoming: Incoming,
        connection: Connection,
        pool: Arc<Pool>,
        origin: Origin,
        stall: Duration,
    ) -> Body {
        let mut body = Body { incoming, connection: Some(connection), pool, origin, stall };
        if body.incoming.is_end_stream() {
            body.release().await;
        }
        body
    }

    async fn release(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(&self.origin, connection).await;
        }
    }

    /// The next piece; none at the end. A body that ends before its stated length is an error.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Cause> {
        loop {
            let Some(connection) = &mut self.connection else { return Ok(None) };
            let frame = connection.drive(self.incoming.frame());
            let frame = tokio::time::timeout(self.stall, frame)
                .await
                .map_err(|_| Cause::Timeout { what: "waiting for the body", limit: self.stall })?;
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Ok(Some(data)),
                    // Trailers mean nothing here.
                    Err(_) => {}
                },
                Some(Err(error)) => {
                    self.connection = None;
                    return Err(http_cause(error));
                }
                None => {
                    self.release().await;
                    return Ok(None);
                }
            }
        }
    }

    /// The whole of a small body.
    pub async fn collect(mut self, limit: u64, what: impl Fn() -> String) -> Result<Bytes, CollectError> {
        let too_large = || CollectError::TooLarge(Error::TooLarge { what: what(), limit });
        if self.incoming.size_hint().exact().is_some_and(|size| size > limit) {
            return Err(too_large());
        }
        let patience = self.stall * 2;
        let collecting = async {
            let mut whole = BytesMut::new();
            while let Some(piece) = self.chunk().await.map_err(CollectError::Cause)? {
                whole.extend_from_slice(&piece);
                if whole.len() as u64 > limit {
                    return Err(too_large());
                }
            }
            Ok(whole.freeze())
        };
        let late = CollectError::Cause(Cause::Timeout { what: "reading the body", limit: patience });
        tokio::time::timeout(patience, collecting).await.unwrap_or(Err(late))
    }
}

pub(crate) enum CollectError {
    Cause(Cause),
    TooLarge(Error),
}

impl CollectError {
    /// As the error of this request.
    pub fn of(self, method: &'static str, url: String) -> Error {
        match self {
            CollectError::Cause(source) => Error::Request { method, url, source },
            CollectError::TooLarge(error) => error,
        }
    }
}
