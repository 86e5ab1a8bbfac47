//! HTTP to the rooms' public services and back; no logic.
//!
//! A request is routed (`router`), decoded (`call`, `query`, `convert`), given to the engine (`handlers`, one file per tag
//! of the API), and its result encoded (`convert`, `response`). Old versions of the API differ in one table,
//! `corten_api_types::deltas`; failures become statuses in one table, `error`.
//!
//! - Handlers hold no engine state: a client that reads slowly or not at all holds up its own connection only. Streams are
//!   bounded (`body`, `hijack`), JSON bodies too (`call`).
//! - A panic in a handler is a 500 to its client and nothing to anybody else (`connection`).

mod body;
mod call;
mod connection;
mod convert;
mod dispatch;
mod error;
mod handlers;
mod hijack;
mod listener;
mod query;
mod response;
mod router;
mod stream;
mod upgrade;
mod upload;

pub use listener::Listener;

use corten_engine::Engine;
use std::io;
use std::time::Duration;
use stream::ClientStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long requests under way may take to end once the server stops.
const GRACE: Duration = Duration::from_secs(2);

/// Serves the API on all listeners until `shutdown` is ready; then requests under way get a moment to end, and the
/// unix sockets are removed. Cancelling the future drops all connections at once.
pub async fn serve(listeners: Vec<Listener>, engine: Engine, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(listener, engine.clone(), stopped.clone()));
    }
    drop(stopped);
    shutdown.await;
    let _ = stop.send(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// Accepts connections until `stop` is true, then waits for those that are open.
async fn accept(listener: Listener, engine: Engine, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener) => accepted,
            () = connection::stopped(&mut stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(stream) => {
                let engine = engine.clone();
                let answer = move |request, between| dispatch::answer(engine.clone(), request, between);
                connections.spawn(connection::serve(stream, answer, stop.clone()));
            }
            Err(error) => {
                // Out of descriptors, mostly: they come back as connections end.
                tracing::warn!(%error, listener = listener.describe(), "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        let _ = std::fs::remove_file(path);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn next(listener: &Listener) -> io::Result<ClientStream> {
    match listener {
        Listener::Unix(listener, _) => Ok(ClientStream::Unix(listener.accept().await?.0)),
        Listener::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            Ok(ClientStream::Tcp(stream))
        }
    }
}
