//! One client's connection: HTTP/1.1 until it ends or turns into a raw stream.

use crate::body::Body;
use crate::response::Response;
use crate::stream::ClientStream;
use crate::upgrade::{Between, Busy, OldStyle};
use crate::upload::Upload;
use bytes::Bytes;
use hyper::Request;
use hyper::body::{Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;

/// Serves one connection with `answer` until the client leaves or `stop` turns true and its request is done. If an
/// answer takes the connection over, its raw session runs here too: who drops this future ends everything.
pub(crate) async fn serve<A, F>(stream: ClientStream, answer: A, mut stop: watch::Receiver<bool>)
where
    A: Fn(Request<Upload>, Arc<Between>) -> F,
    F: Future<Output = Response> + Send + 'static,
{
    let between = Arc::new(Between::default());
    let io = TokioIo::new(OldStyle::new(stream, between.clone()));
    let shared = between.clone();
    let service = service_fn(move |request| {
        let busy = Busy::begin(shared.clone());
        let answer = answer(Upload::of(request, shared.clone()), shared.clone());
        async move { Ok::<_, Infallible>(answer.await.map(|body| Tracked { body, _busy: busy })) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        // Scripts look for `Api-Version:` as Go writes it.
        .title_case_headers(true)
        .serve_connection(io, service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopped(&mut stop) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
    if let Some(takeover) = between.taken_over() {
        takeover.run().await;
    }
}

/// An answer's body. As long as it lives, the request may still have a body to be read: an upload is answered while it
/// comes in.
struct Tracked {
    body: Body,
    _busy: Busy,
}

impl hyper::body::Body for Tracked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Returns once the server is to stop.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server itself is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
