//! From a request to its handler, and what every answer has in common.

use crate::call::{Answer, Call, Work};
use crate::error::Failure;
use crate::query::Query;
use crate::response::{self, Response};
use crate::router::{self, Handler};
use crate::upgrade::Between;
use crate::upload::Upload;
use corten_api_types::ApiVersion;
use corten_base::ErrorKind;
use corten_engine::Engine;
use hyper::{Method, Request, StatusCode};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Docker's answer to every use of Swarm on a machine that is in none.
const NO_SWARM: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect \
                        this node to swarm and try again.";

/// Answers one request, whatever happens in its handler.
pub(crate) async fn answer(engine: Engine, request: Request<Upload>, between: Arc<Between>) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let routed = match decide(&method, uri.path()) {
        Decision::Answer(response) => return response,
        Decision::Run(routed) => routed,
    };
    let work = (routed.handler)(call(engine, routed, request, between));
    let answered = Guarded(work).await;
    match &answered {
        Err(failure) if failure.status.is_server_error() => {
            tracing::warn!(%method, path = uri.path(), status = %failure.status, error = failure.message, "failed");
        }
        Err(failure) => {
            tracing::debug!(%method, path = uri.path(), status = %failure.status, error = failure.message, "refused");
        }
        Ok(response) => tracing::trace!(%method, path = uri.path(), status = %response.status(), "answered"),
    }
    finish(answered)
}

/// What a request line leads to.
enum Decision {
    /// An answer without a handler.
    Answer(Response),
    /// A handler.
    Run(Routed),
}

struct Routed {
    handler: fn(Call) -> Work,
    version: ApiVersion,
    name: String,
}

fn decide(method: &Method, path: &str) -> Decision {
    let target = router::split_version(path);
    if method == Method::OPTIONS && router::is_known(target.path) {
        return Decision::Answer(finish(Ok(response::empty(StatusCode::OK))));
    }
    let Some((route, name)) = router::find(method.as_str(), target.path) else {
        // Without the common headers, as Docker answers what it doesn't know; so it does with other methods.
        return Decision::Answer(response::failure(Failure::new(ErrorKind::NotFound, "page not found")));
    };
    let version = match target.version.unwrap_or(ApiVersion::NEWEST).supported() {
        Ok(version) => version,
        Err(refused) => return Decision::Answer(finish(Err(refused.into()))),
    };
    match route.handler {
        Handler::Run(handler) => Decision::Run(Routed { handler, version, name }),
        Handler::Missing => Decision::Answer(finish(Err(Failure::unsupported(route.operation)))),
        Handler::Swarm => Decision::Answer(finish(Err(Failure::new(ErrorKind::Unavailable, NO_SWARM)))),
    }
}

fn finish(answer: Answer) -> Response {
    let mut response = answer.unwrap_or_else(response::failure);
    response::add_common_headers(response.headers_mut());
    response
}

fn call(engine: Engine, routed: Routed, request: Request<Upload>, between: Arc<Between>) -> Call {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    Call { engine, version: routed.version, name: routed.name, query, request, between }
}

/// A handler whose panic becomes a 500. What it held is dropped with it; the engine's state lives in other tasks.
struct Guarded(Work);

impl Future for Guarded {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let work = &mut self.0;
        match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => Poll::Ready(Err(Failure::internal("internal error: a request's handler panicked"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn check(method: &str, path: &str, status: u16, message: &str) {
        let Decision::Answer(response) = decide(&method.parse().unwrap(), path) else { panic!("{path} has a handler") };
        assert_eq!(response.status().as_u16(), status, "{path}");
        let has_common_headers = response.headers().contains_key("api-version");
        assert_eq!(has_common_headers, message != "page not found");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let body: corten_api_types::ErrorResponse = serde_json::from_slice(&body).unwrap_or_default();
        assert_eq!(body.message, message, "{path}");
    }

    #[tokio::test]
    async fn answers_without_a_handler() {
        check("GET", "/nonsense", 404, "page not found").await;
        check("GET", "/v1.99/nonsense", 404, "page not found").await;
        check("POST", "/version", 404, "page not found").await;
        check("OPTIONS", "/info", 200, "").await;
        check("GET", "/services", 503, NO_SWARM).await;
        check("GET", "/v1.24/swarm", 503, NO_SWARM).await;
        check("POST", "/build", 501, "ImageBuild is not supported yet").await;
        check("GET", "/v1.51/containers/a/export", 501, "ContainerExport is not supported yet").await;
        let too_new = "client version 1.99 is too new. Maximum supported API version is 1.55";
        check("GET", "/v1.99/_ping", 400, too_new).await;
        let too_old = "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your \
                       client to a newer version";
        check("GET", "/v1.12/info", 400, too_old).await;
    }

    #[test]
    fn handlers_get_version_and_name() {
        let run = |path| match decide(&Method::GET, path) {
            Decision::Run(routed) => (routed.version, routed.name),
            Decision::Answer(_) => panic!("{path} has no handler"),
        };
        assert_eq!(run("/v1.43/images/a/b/json"), (ApiVersion::new(43), "a/b".to_owned()));
        assert_eq!(run("/containers/json"), (ApiVersion::NEWEST, String::new()));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        let work: Work = Box::pin(async { panic!("on purpose") });
        assert_eq!(Guarded(work).await.unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
