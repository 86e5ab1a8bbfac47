//! HTTP/1.1 connections: one request at a time, kept for the next one to the same place.
//!
//! hyper splits a connection into a sender and a driver that has to be polled. Here both stay together, and whoever waits
//! for an answer or a piece of a body polls the driver: a connection that nobody waits for stands still.

use crate::connect::{Connected, Dialer};
use crate::error::{Cause, alert};
use crate::outgoing::Outgoing;
use crate::url::Origin;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long a connection is kept unused; servers mostly wait longer.
const LONGEST_IDLE: Duration = Duration::from_secs(30);

/// How many connections to one place are kept, and to all together: a registry may lead to ever new ones.
const MOST_IDLE: usize = 6;
const MOST_IDLE_IN_ALL: usize = 32;

/// Bounds on an answer's head.
const MOST_HEADERS: usize = 128;
const LONGEST_HEAD: usize = 64 * 1024;

pub(crate) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    is_over: bool,
    pub through: Option<crate::proxy::Proxy>,
}

impl Connection {
    pub async fn open(dialer: &Dialer, origin: &Origin) -> Result<Connection, Cause> {
        let Connected { stream, through } = dialer.connect(origin).await?;
        let handshake = Builder::new()
            .max_headers(MOST_HEADERS)
            .max_header_size(LONGEST_HEAD)
            .handshake::<_, Outgoing>(TokioIo::new(stream));
        let (sender, driver) = handshake.await.map_err(Cause::Http)?;
        Ok(Connection { sender, driver: Box::pin(driver), is_over: false, through })
    }

    /// Waits for `future` while moving the connection.
    pub async fn drive<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            if !self.is_over && self.driver.as_mut().poll(context).is_ready() {
                self.is_over = true;
            }
            future.as_mut().poll(context)
        })
        .await
    }

    pub async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, Cause> {
        let answer = self.sender.send_request(request);
        self.drive(answer).await.map_err(http_cause)
    }

    /// Waits until the connection can take another request; false if it can't any more.
    async fn is_reusable(&mut self) -> bool {
        poll_fn(|context| {
            if !self.is_over && self.driver.as_mut().poll(context).is_ready() {
                self.is_over = true;
            }
            if self.is_over {
                return Poll::Ready(false);
            }
            self.sender.poll_ready(context).map(|ready| ready.is_ok())
        })
        .await
    }

    /// A look at whether the other side has closed meanwhile.
    fn is_alive(&mut self) -> bool {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if !self.is_over && self.driver.as_mut().poll(&mut context).is_ready() {
            self.is_over = true;
        }
        !self.is_over && self.sender.is_ready()
    }
}

pub(crate) fn http_cause(error: hyper::Error) -> Cause {
    if error.is_parse() {
        return Cause::Http(error);
    }
    if let Some(cause) = alert(&error) {
        return cause;
    }
    tracing::debug!("connection broke: {error:?}");
    Cause::Closed
}

/// Connections that wait for their next request.
#[derive(Default)]
pub(crate) struct Pool(Mutex<HashMap<Origin, Vec<(Connection, Instant)>>>);

impl Pool {
    /// A connection that still seems to be good.
    pub fn take(&self, origin: &Origin) -> Option<Connection> {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(origin)?;
        while let Some((mut connection, since)) = connections.pop() {
            if since.elapsed() < LONGEST_IDLE && connection.is_alive() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end.
    pub async fn put(&self, origin: &Origin, mut connection: Connection) {
        // The answer is complete, so this takes no time unless the other side is odd.
        let reusable = tokio::time::timeout(Duration::from_millis(100), connection.is_reusable()).await;
        if reusable != Ok(true) {
            return;
        }
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, connections| {
            connections.retain(|(_, since)| since.elapsed() < LONGEST_IDLE);
            !connections.is_empty()
        });
        if idle.values().map(Vec::len).sum::<usize>() >= MOST_IDLE_IN_ALL {
            drop_oldest(&mut idle);
        }
        let connections = idle.entry(origin.clone()).or_default();
        if connections.len() < MOST_IDLE {
            connections.push((connection, Instant::now()));
        }
    }
}

/// The first of each place is its oldest.
fn drop_oldest(idle: &mut HashMap<Origin, Vec<(Connection, Instant)>>) {
    let oldest = idle.values_mut().min_by_key(|connections| connections.first().map(|(_, since)| *since));
    if let Some(connections) = oldest.filter(|connections| !connections.is_empty()) {
        connections.remove(0);
    }
}
