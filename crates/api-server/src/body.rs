//! Bodies of answers: a piece of text, or pieces that a producer makes as the client takes them.

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// Pieces that wait for a slow client; the producer sleeps when they are all taken.
const PIECES: usize = 8;

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum Body {
    Whole(Option<Bytes>),
    Pieces(Pieces),
}

/// Pieces from a producer, which ends when the client goes away.
#[derive(Debug)]
pub(crate) struct Pieces {
    received: mpsc::Receiver<Bytes>,
    producer: AbortHandle,
}

/// Where a producer puts its pieces.
#[derive(Clone, Debug)]
pub(crate) struct PieceSender(mpsc::Sender<Bytes>);

/// The client has gone away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

impl PieceSender {
    /// Sends one piece, waiting until there is room.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), Gone> {
        self.0.send(piece.into()).await.map_err(|_| Gone)
    }

    /// Sends one JSON value and a line end.
    pub(crate) async fn send_json(&self, value: &impl serde::Serialize) -> Result<(), Gone> {
        self.send(json_line(value)).await
    }
}

/// JSON as Go's encoder ends it.
pub(crate) fn json_line(value: &impl serde::Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer is no JSON");
        b"null".to_vec()
    });
    line.push(b'\n');
    line
}

impl Body {
    pub(crate) fn empty() -> Body {
        Body::Whole(None)
    }

    pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
        Body::Whole(Some(bytes.into()))
    }

    /// A body whose pieces `produce` sends. It runs as a task of its own that ends with the body.
    pub(crate) fn produce<P, F>(produce: P) -> Body
    where
        P: FnOnce(PieceSender) -> F,
        F: Future<Output = Result<(), Gone>> + Send + 'static,
    {
        let (sender, received) = mpsc::channel(PIECES);
        let work = produce(PieceSender(sender));
        let task = tokio::spawn(async move {
            // A client that went away is no failure.
            let _ = work.await;
        });
        Body::Pieces(Pieces { received, producer: task.abort_handle() })
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.producer.abort();
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Pieces(pieces) => {
                pieces.received.poll_recv(cx).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Body::Pieces(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn pieces_arrive_in_order() {
        let body = Body::produce(|sender| async move {
            for piece in ["a", "b", "c"] {
                sender.send(piece).await?;
            }
            sender.send_json(&1).await
        });
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc1\n");
    }

    #[tokio::test]
    async fn a_producer_ends_with_its_body() {
        let (ended, end) = tokio::sync::oneshot::channel::<()>();
        let body = Body::produce(|sender| async move {
            let _held = ended;
            loop {
                sender.send("x").await?;
            }
        });
        drop(body);
        assert!(end.await.is_err());
    }
}
