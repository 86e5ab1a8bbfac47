//! Connections that stop being HTTP: `attach` and `exec`.
//!
//! A client asks for raw streams in one of two ways. The proper one is `Upgrade: tcp`, answered by
//! `101 UPGRADED`; hyper does that. Old clients just send the request and treat the connection as raw after a
//! `200 OK`. HTTP has no such thing, and hyper would frame the answer and take the client's input for the next
//! request. [`OldStyle`] sits between the socket and hyper and translates: into the head of such a request it writes
//! an `Upgrade` header (and [`MARK`], so that the handler knows), and the 101 that comes back it turns into a 200.
//!
//! It also percent-encodes what hyper refuses in a request line but Go's server takes, as in
//! `curl --globoff '.../containers/json?filters={"status":["exited"]}'`.
//!
//! It looks only at the first bytes that arrive while no request is under way, so bodies are never mistaken for heads.

use crate::hijack::Takeover;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The header that marks a request which asked for no upgrade. Clients can't set it to any effect but their own.
pub(crate) const MARK: &str = "x-corten-old-style";
/// A head that is longer than this is left to hyper, which has limits of its own.
const HEAD_MAX: usize = 64 * 1024;
const SWITCHING: &[u8] = b"HTTP/1.1 101 UPGRADED\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// What connection and handlers share.
#[derive(Debug, Default)]
pub(crate) struct Between {
    /// How many hold that a request is under way.
    busy: AtomicUsize,
    /// The next answer's 101 is to become a 200.
    rewrite: AtomicBool,
    /// What happens with the connection after its last answer.
    takeover: Mutex<Option<Takeover>>,
}

impl Between {
    pub(crate) fn rewrite(&self) {
        self.rewrite.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_over(&self, takeover: Takeover) {
        *self.takeover.lock().unwrap_or_else(PoisonError::into_inner) = Some(takeover);
    }

    pub(crate) fn taken_over(&self) -> Option<Takeover> {
        self.takeover.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A request under way: what arrives belongs to its body.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Between>);

impl Busy {
    pub(crate) fn begin(between: Arc<Between>) -> Busy {
        between.busy.fetch_add(1, Ordering::Relaxed);
        Busy(between)
    }

    /// Another holder of the same.
    pub(crate) fn again(&self) -> Busy {
        Busy::begin(self.0.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection with the translation of old-style hijacks and of careless request lines.
#[derive(Debug)]
pub(crate) struct OldStyle<S> {
    stream: S,
    between: Arc<Between>,
    /// Bytes read but not given to hyper yet.
    pending: Vec<u8>,
    /// How many of `pending` were given.
    given: usize,
    /// `pending` is the beginning of a head that is still incomplete.
    gathering: bool,
}

impl<S> OldStyle<S> {
    pub(crate) fn new(stream: S, between: Arc<Between>) -> OldStyle<S> {
        OldStyle { stream, between, pending: Vec::new(), given: 0, gathering: false }
    }

    /// The connection itself, and what was read from it too early.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.pending[self.given..].to_vec())
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let piece = &self.pending[self.given..];
        let length = piece.len().min(buf.remaining());
        buf.put_slice(&piece[..length]);
        self.given += length;
        if self.given == self.pending.len() {
            self.pending = Vec::new();
            self.given = 0;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for OldStyle<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.gathering && this.given < this.pending.len() {
            this.give(buf);
            return Poll::Ready(Ok(()));
        }
        if !this.gathering && this.between.busy.load(Ordering::Relaxed) > 0 {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        loop {
            let mut space = [0u8; 8192];
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut read))?;
            this.pending.extend_from_slice(read.filled());
            match inspect(&this.pending) {
                Head::Incomplete if !read.filled().is_empty() => this.gathering = true,
                Head::Request { line, old_style } => {
                    if let Some(end) = old_style {
                        let header = format!("Upgrade: tcp\r\n{MARK}: 1\r\n");
                        this.pending.splice(end..end, header.into_bytes());
                    }
                    encode(&mut this.pending, line);
                    break;
                }
                Head::Incomplete | Head::Other => break,
            }
        }
        this.gathering = false;
        this.give(buf);
        Poll::Ready(Ok(()))
    }
}

/// What the first bytes of a request are.
enum Head {
    /// Its line, or the whole head of what may be an old-style hijack, is not there yet.
    Incomplete,
    /// A request.
    Request {
        /// The length of its line.
        line: usize,
        /// Of an old-style hijack, the place where more headers may be put.
        old_style: Option<usize>,
    },
    /// No request, or one that is hyper's to refuse.
    Other,
}

fn inspect(bytes: &[u8]) -> Head {
    if !bytes.first().is_some_and(u8::is_ascii_uppercase) || bytes.len() > HEAD_MAX {
        return Head::Other;
    }
    let Some(line) = bytes.windows(2).position(|w| w == b"\r\n") else { return Head::Incomplete };
    if !is_hijack(&bytes[..line]) {
        return Head::Request { line, old_style: None };
    }
    let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else { return Head::Incomplete };
    let headers = bytes[line..end].to_ascii_lowercase();
    let old_style = (!contains(&headers, b"\r\nupgrade:")).then_some(end + 2);
    Head::Request { line, old_style }
}

fn is_hijack(line: &[u8]) -> bool {
    let path = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    let hijacks = path.ends_with(b"/attach") || (path.ends_with(b"/start") && contains(path, b"/exec/"));
    hijacks && line.starts_with(b"POST /")
}

/// Percent-encodes what no request line may carry in its first `line` bytes.
fn encode(head: &mut Vec<u8>, line: usize) {
    let is_foreign = |byte: &u8| b"\"<>\\^`{|}".contains(byte);
    if !head[..line].iter().any(is_foreign) {
        return;
    }
    let encoded: Vec<u8> = head[..line]
        .iter()
        .flat_map(|byte| if is_foreign(byte) { format!("%{byte:02X}").into_bytes() } else { vec![*byte] })
        .collect();
    head.splice(..line, encoded);
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|w| w == part)
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OldStyle<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.between.rewrite.load(Ordering::Relaxed) && buf.starts_with(SWITCHING) {
            // A status line is far smaller than a socket's buffer: it is written whole or not at all.
            let written = ready!(Pin::new(&mut this.stream).poll_write(cx, OK))?;
            if written != OK.len() {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.between.rewrite.store(false, Ordering::Relaxed);
            return Poll::Ready(Ok(SWITCHING.len()));
        }
        Pin::new(&mut this.stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn pair() -> (OldStyle<DuplexStream>, DuplexStream, Arc<Between>) {
        let (server, client) = duplex(64 * 1024);
        let between = Arc::new(Between::default());
        (OldStyle::new(server, between.clone()), client, between)
    }

    async fn translated(pieces: &[&str]) -> String {
        let (mut server, mut client, _) = pair();
        let pieces: Vec<String> = pieces.iter().map(|p| (*p).to_owned()).collect();
        tokio::spawn(async move {
            for piece in pieces {
                client.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        text
    }

    #[tokio::test]
    async fn requests() {
        let marked = "POST /v1.24/containers/a/attach?x=1 HTTP/1.1\r\nHost: d\r\nUpgrade: tcp\r\nx-corten-old-style: 1\r\n\r\nin";
        let whole = "POST /v1.24/containers/a/attach?x=1 HTTP/1.1\r\nHost: d\r\n\r\nin";
        assert_eq!(translated(&[whole]).await, marked);
        assert_eq!(
            translated(&["P", "OST /v1.24/containers/a/at", &whole[27..whole.len() - 4], "\r\nin"]).await,
            marked
        );
        for unchanged in [
            "GET /containers/a/attach HTTP/1.1\r\n\r\n",
            "POST /containers/a/attach HTTP/1.1\r\nupgrade: tcp\r\n\r\n",
            "POST /containers/a/start HTTP/1.1\r\n\r\n",
            "POST /containers/a/attach HTTP/1.1\r\nHost",
            "",
            "PO",
        ] {
            assert_eq!(translated(&[unchanged]).await, unchanged);
        }
        assert!(translated(&["POST /exec/a/start HTTP/1.1\r\n\r\n"]).await.contains(MARK));
    }

    #[tokio::test]
    async fn careless_lines() {
        let filters = "GET /containers/json?filters={\"status\":[\"x\"]} HTTP/1.1\r\nHost: {d}\r\n\r\n";
        let encoded = "GET /containers/json?filters=%7B%22status%22:[%22x%22]%7D HTTP/1.1\r\nHost: {d}\r\n\r\n";
        assert_eq!(translated(&[filters]).await, encoded);
        assert_eq!(translated(&["GE", &filters[2..30], &filters[30..]]).await, encoded);
        let hijack = translated(&["POST /containers/{a}/attach HTTP/1.1\r\n\r\n{in}"]).await;
        assert_eq!(
            hijack,
            format!("POST /containers/%7Ba%7D/attach HTTP/1.1\r\nUpgrade: tcp\r\n{MARK}: 1\r\n\r\n{{in}}")
        );
        for unchanged in ["\x16\x03\x01{}", "\r\nGET /{ HTTP/1.1\r\n\r\n"] {
            assert_eq!(translated(&[unchanged]).await, unchanged);
        }
    }

    #[tokio::test]
    async fn bodies_are_left_alone() {
        let (mut server, mut client, between) = pair();
        let _busy = Busy::begin(between);
        client.write_all(b"POST /containers/a/attach HTTP/1.1\r\n\r\n").await.unwrap();
        drop(client);
        let mut text = String::new();
        server.read_to_string(&mut text).await.unwrap();
        assert!(!text.contains(MARK));
    }

    #[tokio::test]
    async fn answers() {
        let (mut server, mut client, between) = pair();
        between.rewrite();
        server.write_all(b"HTTP/1.1 101 UPGRADED\r\na: b\r\n\r\n").await.unwrap();
        server.write_all(SWITCHING).await.unwrap();
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "HTTP/1.1 200 OK\r\na: b\r\n\r\nHTTP/1.1 101 UPGRADED\r\n");
    }
}
