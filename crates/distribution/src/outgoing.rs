//! The body of a request: nothing, a few bytes, or a reader that is drawn on as the network takes it.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

/// How much is read at once.
const PIECE: usize = 128 * 1024;

/// What a request sends. The reader is read on the thread that waits for the answer: it may block.
pub(crate) enum Outgoing {
    Whole(Option<Bytes>),
    Stream { reader: Box<dyn Read + Send>, left: Option<u64>, sent: Arc<Sent>, is_over: bool },
}

/// How far a stream is, as those see it who wait for its answer.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    bytes: AtomicU64,
    failed: Mutex<Option<io::Error>>,
}

impl Sent {
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What the reader failed with, if that is what broke the request.
    pub fn take_failure(&self) -> Option<io::Error> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn fail(&self, error: io::Error) -> io::Error {
        let told = io::Error::new(error.kind(), "the source of the body failed");
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        told
    }
}

impl Outgoing {
    pub fn whole(bytes: Bytes) -> Outgoing {
        Outgoing::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))
    }

    /// A stream of `left` bytes or, if that isn't known, of what there is.
    pub fn stream(reader: Box<dyn Read + Send>, left: Option<u64>) -> (Outgoing, Arc<Sent>) {
        let sent = Arc::new(Sent::default());
        (Outgoing::Stream { reader, left, sent: sent.clone(), is_over: left == Some(0) }, sent)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let piece = match self.get_mut() {
            Outgoing::Whole(bytes) => bytes.take().map(Ok),
            Outgoing::Stream { is_over: true, .. } => None,
            Outgoing::Stream { reader, left, sent, is_over } => match next_piece(reader, left) {
                Ok(Some(piece)) => {
                    sent.bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
                    *is_over = *left == Some(0);
                    Some(Ok(piece))
                }
                Ok(None) => {
                    *is_over = true;
                    None
                }
                Err(error) => {
                    *is_over = true;
                    Some(Err(sent.fail(error)))
                }
            },
        };
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(bytes) => bytes.is_none(),
            Outgoing::Stream { is_over, .. } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Outgoing::Stream { left: Some(left), .. } => SizeHint::with_exact(*left),
            Outgoing::Stream { left: None, .. } => SizeHint::default(),
        }
    }
}

/// A full piece, or the last one; none at the end. What was announced must come.
fn next_piece(reader: &mut dyn Read, left: &mut Option<u64>) -> io::Result<Option<Bytes>> {
    let most = left.map_or(PIECE as u64, |left| left.min(PIECE as u64));
    let mut piece = Vec::with_capacity(PIECE);
    reader.take(most).read_to_end(&mut piece)?;
    if let Some(left) = left {
        if piece.is_empty() && *left > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *left -= piece.len() as u64;
    }
    Ok(Some(piece).filter(|piece| !piece.is_empty()).map(Bytes::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut body: Outgoing) -> (u64, Result<(), io::ErrorKind>) {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut total = 0;
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Ready(Some(Ok(frame))) => total += frame.into_data().unwrap().len() as u64,
                Poll::Ready(Some(Err(error))) => return (total, Err(error.kind())),
                Poll::Ready(None) => return (total, Ok(())),
                Poll::Pending => panic!("a reader is never pending"),
            }
        }
    }

    #[test]
    fn streams() {
        let check = |length: usize, left, expect| {
            let (body, sent) = Outgoing::stream(Box::new(io::Cursor::new(vec![7; length])), left);
            assert_eq!(drain(body), expect, "{length} {left:?}");
            assert_eq!(sent.bytes(), expect.0);
            assert_eq!(sent.take_failure().is_some(), expect.1.is_err());
        };
        check(300_000, None, (300_000, Ok(())));
        check(300_000, Some(300_000), (300_000, Ok(())));
        check(300_000, Some(200_000), (200_000, Ok(())));
        check(300, Some(400), (300, Err(io::ErrorKind::UnexpectedEof)));
        check(0, Some(0), (0, Ok(())));
        check(0, None, (0, Ok(())));
    }
}
