//! Raw streams between a client and a container's process.
//!
//! The engine gives a socket whose other end the shim holds and which carries Docker's frames already; here bytes are
//! moved and nothing else. Each direction has one bounded buffer and waits for its reader: a client that doesn't read
//! holds back its own container stream only. The client's half-close becomes the end of the process's input; the
//! stream ends when the process's side does, or when the client types the detach keys.

use crate::call::{Answer, Call};
use crate::error::Failure;
use crate::stream::ClientStream;
use crate::upgrade::{Between, MARK, OldStyle};
use corten_engine::{Attached, DetachKeys, LogStream};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub(crate) const RAW: &str = "application/vnd.docker.raw-stream";
pub(crate) const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";
/// Bytes under way in one direction.
const BUFFER: usize = 64 * 1024;

/// How long a client may take to hang up after the end of the output.
const LINGER: Duration = Duration::from_secs(1);

/// A raw session under way.
pub(crate) type Session = Pin<Box<dyn Future<Output = ()> + Send>>;
type Begin = Box<dyn FnOnce(ClientStream, Vec<u8>) -> Session + Send>;

/// What happens with a connection after its last HTTP answer.
pub(crate) struct Takeover {
    upgrade: OnUpgrade,
    begin: Begin,
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Takeover")
    }
}

impl Takeover {
    /// Runs the raw session until it ends.
    pub(crate) async fn run(self) {
        let upgraded = match self.upgrade.await {
            Ok(upgraded) => upgraded,
            Err(error) => return tracing::debug!(%error, "the client left before its stream began"),
        };
        let Ok(parts) = upgraded.downcast::<TokioIo<OldStyle<ClientStream>>>() else {
            return tracing::error!("an upgraded connection is of another type than it was accepted as");
        };
        let (stream, pending) = parts.io.into_inner().into_parts();
        let mut early = parts.read_buf.to_vec();
        early.extend(pending);
        (self.begin)(stream, early).await;
    }
}

/// Which media type a stream has: raw with a terminal, and for clients older than the distinction.
pub(crate) fn media(call: &Call, tty: bool) -> &'static str {
    if tty || !call.since(42) { RAW } else { MULTIPLEXED }
}

/// Answers with the switch to a raw stream, and has `begin` run on the connection afterwards.
pub(crate) fn take_over<B, F>(request: Request<B>, between: &Between, media: &'static str, begin: F) -> Answer
where
    F: FnOnce(ClientStream, Vec<u8>) -> Session + Send + 'static,
{
    if !request.headers().contains_key(UPGRADE) {
        return Err(Failure::invalid("the connection can't be used as a raw stream: no upgrade was asked for"));
    }
    let old_style = request.headers().contains_key(MARK);
    let upgrade = hyper::upgrade::on(request);
    let mut response = crate::response::empty(StatusCode::SWITCHING_PROTOCOLS);
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    if old_style {
        between.rewrite();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(RAW));
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("tcp"));
    }
    between.take_over(Takeover { upgrade, begin: Box::new(begin) });
    Ok(response)
}

/// Answers with the switch to the streams of an attached process.
pub(crate) fn attach(call: Call, process: Attached) -> Answer {
    let media = media(&call, process.tty);
    take_over(call.request, &call.between, media, |client, early| Box::pin(attached(client, early, process)))
}

/// A session that gives the client an attached process.
pub(crate) async fn attached(client: ClientStream, early: Vec<u8>, attached: Attached) {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let ended = async {
        if let Some(log) = attached.log {
            replay(log, &mut to_client).await?;
        }
        if let Some(stream) = attached.stream {
            let (from_process, to_process) = stream.into_split();
            let input = input(early, &mut from_client, to_process, attached.keys);
            let output = output(from_process, &mut to_client);
            let detached = join(input, output).await?;
            if let Some(detach) = attached.detach.filter(|_| detached) {
                detach.tell();
            }
            // Clients ask for the exit code as soon as the stream ends.
            if let Some(end) = attached.end.filter(|_| !detached) {
                end.recorded().await;
            }
        }
        to_client.shutdown().await
    };
    match ended.await {
        Ok(()) => linger(from_client).await,
        Err(error) => tracing::debug!(%error, "an attached client went away"),
    }
}

/// Takes what the client still sends until it hangs up, which it does at the end of the output. A socket that is closed with
/// something unread ends in an error (ECONNRESET) for the client, which may have typed ahead.
async fn linger(mut from: impl AsyncRead + Unpin) {
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(&mut from, &mut tokio::io::sink())).await;
}

async fn replay(mut log: LogStream, to_client: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    while let Some(piece) = log.next().await {
        match piece {
            Ok(bytes) => to_client.write_all(&bytes).await?,
            Err(error) => {
                tracing::warn!(error = error.message(), "cannot read the log for an attached client");
                break;
            }
        }
    }
    Ok(())
}

/// How the client's side ended.
#[derive(Debug, PartialEq, Eq)]
enum Input {
    /// No more input; output may still come.
    Closed,
    /// The client typed the detach keys.
    Detached,
}

/// Ends with the output, or with the input if that detaches; says whether it did.
async fn join(input: impl Future<Output = Input>, output: impl Future<Output = io::Result<()>>) -> io::Result<bool> {
    let (mut input, mut output) = (std::pin::pin!(input), std::pin::pin!(output));
    tokio::select! {
        ended = &mut output => return ended.map(|()| false),
        ended = &mut input => if ended == Input::Detached { return Ok(true) },
    }
    output.await.map(|()| false)
}

/// Moves the client's input to the process until either ends, and closes the process's input.
async fn input(
    early: Vec<u8>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut keys: Option<DetachKeys>,
) -> Input {
    let mut piece = early;
    loop {
        if !piece.is_empty() {
            let (passed, detaches) = match &mut keys {
                Some(keys) => keys.filter(&piece),
                None => (std::mem::take(&mut piece), false),
            };
            let written = to.write_all(&passed).await;
            if detaches {
                return Input::Detached;
            }
            if written.is_err() {
                // The process closed its input; it may still have something to say.
                return Input::Closed;
            }
        }
        piece.clear();
        piece.reserve(BUFFER / 8);
        match from.read_buf(&mut piece).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    let _ = to.shutdown().await;
    Input::Closed
}

/// Moves the process's output to the client until it ends.
async fn output(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    let mut piece = Vec::with_capacity(BUFFER);
    // A process whose shim broke off has ended as far as the client can tell.
    while matches!(from.read_buf(&mut piece).await, Ok(length) if length > 0) {
        to.write_all(&piece).await?;
        piece.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;

    /// Client's and process's ends of a session under way.
    fn session(keys: Option<DetachKeys>) -> (UnixStream, UnixStream) {
        let (client, server) = UnixStream::pair().unwrap();
        let (engine, process) = UnixStream::pair().unwrap();
        let attached_process =
            Attached { tty: keys.is_some(), log: None, stream: Some(engine), keys, end: None, detach: None };
        tokio::spawn(attached(ClientStream::Unix(server), b"early ".to_vec(), attached_process));
        (client, process)
    }

    #[tokio::test]
    async fn half_close_ends_the_input_and_not_the_output() {
        let (mut client, mut process) = session(None);
        client.write_all(b"in").await.unwrap();
        client.shutdown().await.unwrap();
        let mut input = String::new();
        process.read_to_string(&mut input).await.unwrap();
        assert_eq!(input, "early in");
        process.write_all(b"out").await.unwrap();
        drop(process);
        let mut output = String::new();
        client.read_to_string(&mut output).await.unwrap();
        assert_eq!(output, "out");
    }

    #[tokio::test]
    async fn input_that_nobody_takes_is_no_error() {
        let (mut client, process) = session(None);
        drop(process);
        // The output has ended; the client does not know yet.
        let mut typed = 0;
        while client.try_write(b"typed ahead").is_ok() && typed < 100 {
            typed += 1;
            tokio::task::yield_now().await;
        }
        let mut output = Vec::new();
        client.read_to_end(&mut output).await.unwrap();
        assert!(output.is_empty() && typed > 0);
    }

    #[tokio::test]
    async fn much_output_arrives_whole() {
        let (mut client, mut process) = session(None);
        let sent = vec![7u8; 1 << 20];
        let copy = sent.clone();
        tokio::spawn(async move { process.write_all(&copy).await });
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, sent);
    }

    #[tokio::test]
    async fn detach_keys_end_the_session() {
        let (mut client, mut process) = session(Some(DetachKeys::parse("").unwrap()));
        client.write_all(b"a\x10\x11b").await.unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        let mut input = String::new();
        process.read_to_string(&mut input).await.unwrap();
        assert_eq!((input.as_str(), rest.len()), ("early a", 0));
    }
}
