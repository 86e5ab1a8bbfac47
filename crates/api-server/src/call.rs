//! One request on its way to a handler.

use crate::error::Failure;
use crate::query::Query;
use crate::response::Response;
use crate::upgrade::Between;
use crate::upload::Upload;
use bytes::Bytes;
use corten_api_types::ApiVersion;
use corten_engine::Engine;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;

/// JSON bodies are read whole; no client has reason to send more.
const JSON_MAX: usize = 8 * 1024 * 1024;

/// What every handler returns.
pub(crate) type Answer = Result<Response, Failure>;
/// A handler at work.
pub(crate) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request that was routed.
pub(crate) struct Call {
    pub(crate) engine: Engine,
    pub(crate) version: ApiVersion,
    /// What stands for `{id}` or `{name}` in the route, decoded; else empty.
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) request: Request<Upload>,
    pub(crate) between: Arc<Between>,
}

impl Call {
    /// Whether the client speaks at least version `1.<minor>`.
    pub(crate) fn since(&self, minor: u16) -> bool {
        self.version >= ApiVersion::new(minor)
    }

    /// The whole body.
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, Failure> {
        match Limited::new(self.request.body_mut(), JSON_MAX).collect().await {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) => Err(Failure::invalid(format!("cannot read the request's body: {error}"))),
        }
    }

    /// The body as JSON that must be there.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let body = self.json_body().await?;
        Ok(corten_api_types::decode(&body)?)
    }

    /// The body as JSON, the default when there is none.
    pub(crate) async fn json_or_default<T: DeserializeOwned + Default>(&mut self) -> Result<T, Failure> {
        let body = self.json_body().await?;
        if body.trim_ascii().is_empty() { Ok(T::default()) } else { Ok(corten_api_types::decode(&body)?) }
    }

    /// The body as any JSON that must be there.
    pub(crate) async fn json_value(&mut self) -> Result<Value, Failure> {
        let body = self.json_body().await?;
        Ok(corten_api_types::decode(&body)?)
    }

    async fn json_body(&mut self) -> Result<Bytes, Failure> {
        let body = self.bytes().await?;
        if !body.is_empty() {
            check_content_type(self.header("content-type"))?;
        }
        Ok(body)
    }

    /// A header as text, empty when absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

fn check_content_type(value: &str) -> Result<(), Failure> {
    let media = value.split(';').next().unwrap_or_default().trim();
    if media.is_empty() || media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Failure::invalid(format!("unsupported Content-Type header ({value}): must be 'application/json'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_types() {
        for good in ["", "application/json", "Application/JSON; charset=utf-8"] {
            assert!(check_content_type(good).is_ok(), "{good}");
        }
        assert_eq!(
            check_content_type("text/plain").unwrap_err().message,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
    }
}
