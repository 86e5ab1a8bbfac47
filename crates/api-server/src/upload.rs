//! Requests' bodies: read whole, handed on piece by piece, or left unread.
//!
//! A request that is refused before its body was read would have its connection closed while the client still writes:
//! it would see a broken pipe instead of the answer. So what a handler leaves is read and thrown away, up to a limit. Go's
//! server stops after 256 KiB, so that a `load` that fills the disk shows its reason only by luck; here an image's rest fits.

use crate::upgrade::{Between, Busy};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::EXPECT;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Pieces between the connection and who reads the body; the client waits when they are all taken.
const PIECES: usize = 4;
/// How much of an unread body is thrown away before the connection is closed on the client.
const LEFT_MAX: usize = 64 << 20;
/// For how long.
const LEFT_TIME: Duration = Duration::from_secs(2);

/// A request's body.
#[derive(Debug)]
pub(crate) struct Upload {
    /// None once it is read to its end.
    body: Option<Incoming>,
    /// The client waits to be asked for it: what nobody reads is not sent.
    is_held_back: bool,
    busy: Busy,
}

impl Upload {
    /// A request whose body may be left unread.
    pub(crate) fn of(request: Request<Incoming>, between: Arc<Between>) -> Request<Upload> {
        let is_held_back = request.headers().contains_key(EXPECT);
        let busy = Busy::begin(between);
        request.map(|body| Upload { body: Some(body), is_held_back, busy })
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_held_back = false;
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let left = self.body.take().filter(|body| !self.is_held_back && !body.is_end_stream());
        if let (Some(body), Ok(runtime)) = (left, tokio::runtime::Handle::try_current()) {
            let busy = self.busy.again();
            // Ends by itself, after LEFT_TIME at the latest.
            runtime.spawn(async move {
                let _busy = busy;
                tokio::time::timeout(LEFT_TIME, throw_away(body)).await
            });
        }
    }
}

async fn throw_away(mut body: Incoming) {
    let mut left = LEFT_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// A channel that the body's pieces come out of. A client that breaks off is an error, not an end.
pub(crate) fn body(mut body: Upload) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    // Ends with the body, or when nobody reads any more: the receiver is the owner.
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let piece = match frame.map(|frame| frame.into_data()) {
                Ok(Ok(data)) => Ok(data),
                Ok(Err(_trailers)) => continue,
                Err(error) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, error)),
            };
            let failed = piece.is_err();
            if sender.send(piece).await.is_err() || failed {
                break;
            }
        }
    });
    receiver
}
