//! Answers and their headers.

use crate::body::{Body, Gone, PieceSender, json_line};
use crate::call::Answer;
use crate::error::Failure;
use corten_api_types::deltas::{self, Shape};
use corten_api_types::{ApiVersion, ErrorResponse};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, SERVER};
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::Value;

/// An answer.
pub(crate) type Response = hyper::Response<Body>;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const SERVER_NAME: &str = concat!("Corten/", env!("CARGO_PKG_VERSION"), " (linux)");

/// JSON with a status.
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    let mut response = Response::new(Body::whole(json_line(value)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// JSON.
pub(crate) fn json(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

/// JSON in the form that `version` knows.
pub(crate) fn adapted(shape: Shape, version: ApiVersion, value: &impl Serialize) -> Answer {
    if !deltas::differs(shape, version) {
        return Ok(json(value));
    }
    Ok(json(&adapt(shape, version, value)?))
}

/// A list whose items have the form that `version` knows.
pub(crate) fn adapted_list(shape: Shape, version: ApiVersion, items: &[impl Serialize]) -> Answer {
    if !deltas::differs(shape, version) {
        return Ok(json(&items));
    }
    let items: Result<Vec<Value>, Failure> = items.iter().map(|item| adapt(shape, version, item)).collect();
    Ok(json(&items?))
}

fn adapt(shape: Shape, version: ApiVersion, value: &impl Serialize) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(value).map_err(|error| Failure::internal(error.to_string()))?;
    deltas::adapt_output(shape, version, &mut value);
    Ok(value)
}

/// A status alone.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Plain text.
pub(crate) fn text(text: &'static str) -> Response {
    let mut response = Response::new(Body::whole(text));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// Pieces of a media type, as they come.
pub(crate) fn pieces<P, F>(media: &'static str, produce: P) -> Response
where
    P: FnOnce(PieceSender) -> F,
    F: Future<Output = Result<(), Gone>> + Send + 'static,
{
    let mut response = Response::new(Body::produce(produce));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// The answer to a failure; 304 has no body.
pub(crate) fn failure(failure: Failure) -> Response {
    if failure.status == StatusCode::NOT_MODIFIED {
        return empty(failure.status);
    }
    json_with(failure.status, &ErrorResponse { message: failure.message })
}

/// The headers of every answer to a known path.
pub(crate) fn add_common_headers(headers: &mut HeaderMap) {
    let newest = HeaderValue::from_str(&ApiVersion::NEWEST.to_string()).expect("digits and a dot are a header's value");
    headers.insert(HeaderName::from_static("api-version"), newest);
    headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
    headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
    headers.insert(SERVER, HeaderValue::from_static(SERVER_NAME));
}
