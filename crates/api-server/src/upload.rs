//! Large request bodies, handed on piece by piece.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io;
use tokio::sync::mpsc;

/// Pieces between the connection and who reads the body; the client waits when they are all taken.
const PIECES: usize = 4;

/// A channel that the body's pieces come out of. A client that breaks off is an error, not an end.
pub(crate) fn body(mut body: Incoming) -> mpsc::Receiver<io::Result<Bytes>> {
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
