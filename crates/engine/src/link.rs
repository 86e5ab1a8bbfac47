//! The daemon's end of one shim's connection, for async code.
//!
//! Answers are matched to requests by number; what a shim reports of its own accord meanwhile is kept in order for
//! [`Link::next_event`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_shim::client::{Connection, Error as ShimError};
use corten_shim::protocol::Event;
use corten_sys::process::Child;
use tokio::io::unix::AsyncFd;

use crate::error::Error;

/// How long a shim may take for an answer that costs it nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a released shim may take to hand out its container's last output.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that the reactor watches.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    /// A duplicate of the connection's descriptor: the reactor's registration never outlives it.
    readiness: AsyncFd<OwnedFd>,
    events: VecDeque<Event>,
    /// The shim's process, when it is this daemon's child.
    child: Option<Child>,
}

impl Link {
    /// Watches a connection. `events` are those that came before.
    pub(crate) fn new(connection: Connection, child: Option<Child>, events: VecDeque<Event>) -> Result<Link, Error> {
        let failed = || Error::failed("cannot watch a shim");
        let descriptor = connection.as_fd().try_clone_to_owned().map_err(failed())?;
        Ok(Link { connection, readiness: watch(descriptor).map_err(failed())?, events, child })
    }

    /// Sends a request and waits for its answer. A shim's refusal is an error.
    pub(crate) async fn call(
        &mut self,
        send: impl FnOnce(&mut Connection) -> Result<u64, ShimError>,
    ) -> Result<(Event, Vec<OwnedFd>), ShimError> {
        let wanted = send(&mut self.connection)?;
        self.answer(wanted, ANSWER_TIMEOUT).await
    }

    /// Waits for the answer to a request that was sent. A shim's refusal is an error.
    pub(crate) async fn answer(&mut self, wanted: u64, patience: Duration) -> Result<(Event, Vec<OwnedFd>), ShimError> {
        let answer = async {
            loop {
                let (message, fds) = self.receive().await?;
                match (message.re, message.event) {
                    (Some(re), Event::Failed(failure)) if re == wanted => return Err(failure.into()),
                    (Some(re), event) if re == wanted => return Ok((event, fds)),
                    // The answer to a request that somebody gave up, or did not wait for.
                    (Some(_), _) => {}
                    (None, event) => self.events.push_back(event),
                }
            }
        };
        tokio::time::timeout(patience, answer).await.unwrap_or(Err(ShimError::Timeout(patience)))
    }

    /// The shim is this daemon's child.
    pub(crate) fn with_child(self, child: Child) -> Link {
        Link { child: Some(child), ..self }
    }

    /// The connection, for sending.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The connection, not watched any more, and the shim's process.
    pub(crate) fn into_parts(self) -> (Connection, Option<Child>) {
        (self.connection, self.child)
    }

    /// Waits for the next thing that the shim reports of its own accord; none once it is gone. Cancelling loses nothing.
    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.receive().await {
                Ok((message, _)) if message.re.is_none() => return Some(message.event),
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = crate::error::chain(&error), "a shim's connection ended");
                    return None;
                }
            }
        }
    }

    async fn receive(&mut self) -> Result<(corten_shim::protocol::Message, Vec<OwnedFd>), ShimError> {
        loop {
            if let Some(message) = self.connection.try_recv()? {
                return Ok(message);
            }
            let mut ready = self.readiness.readable().await.map_err(ShimError::Io)?;
            // Only when it is empty still may the readiness be forgotten: a packet may have come in between.
            match self.connection.try_recv()? {
                Some(message) => return Ok(message),
                None => ready.clear_ready(),
            }
        }
    }

    /// Lets the shim end, and waits until it has.
    pub(crate) async fn release(mut self) {
        if let Err(error) = self.connection.release() {
            tracing::debug!(error = crate::error::chain(&error), "a shim could not be released");
        }
        if tokio::time::timeout(RELEASE_TIMEOUT, self.closed()).await.is_err()
            && let Some(child) = &self.child
        {
            // Its exit is recorded: what it still holds is output that a client does not read.
            tracing::warn!(shim = child.pid, "a released shim does not end: killing it");
            let _ = child.kill();
        }
        self.reap().await;
    }

    /// Reads whatever still comes until the shim closes the connection.
    async fn closed(&mut self) {
        while self.receive().await.is_ok() {}
    }

    /// Collects the shim's exit status once its connection has closed, so that no zombie stays.
    pub(crate) async fn reap(&mut self) {
        let Some(child) = self.child.take() else { return };
        reap(child).await;
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// Waits for a child by its pidfd: no thread sleeps for it.
pub(crate) async fn reap(mut child: Child) {
    if let Ok(pidfd) = child.pidfd.try_clone().and_then(watch) {
        let _ = pidfd.readable().await;
    }
    if let Err(error) = child.try_wait() {
        tracing::debug!(%error, "a shim could not be reaped");
    }
}

/// Registers a descriptor with the reactor.
fn watch(descriptor: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "the replacement is unsafe; an OwnedFd that is never exchanged keeps its contract")]
    AsyncFd::with_interest(descriptor, tokio::io::Interest::READABLE)
}
