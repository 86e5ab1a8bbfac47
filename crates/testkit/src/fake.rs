//! A registry of a test's own, inside an engine's network, that counts, and misbehaves path by path.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use corten_base::{Algorithm, Digest};
use serde_json::{Value, json};

use crate::image::{Packing, TestImage, pack};
use crate::{TestEngine, server};

/// An image's manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An image's configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer packed with gzip.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What becomes of the next requests for a path.
#[derive(Clone, Debug)]
pub enum Fault {
    /// So many times this status with these header lines (each with its line end).
    Status(usize, &'static str, String),
    /// So many bytes come at once, then one after the other for as long as somebody waits for them.
    Trickle(usize),
    /// So many bytes of the body come, then nothing for as long as somebody waits; none: not even a head.
    Silent(Option<usize>),
}

/// What comes on a connection after an answer.
#[derive(PartialEq)]
enum Next {
    Request,
    Silence,
}

#[derive(Default)]
struct State {
    /// Body and media type by path.
    content: HashMap<String, (Vec<u8>, String)>,
    faults: HashMap<String, Vec<Fault>>,
    /// Method, path and the header `Range` of each request, and when it came.
    requests: Vec<(String, String, String, Instant)>,
    /// Blobs of layers that are being sent or taken, the most there were at once, and how many have to be for any to go on.
    sending: usize,
    most: usize,
    together: usize,
    /// Silent connections that were given up.
    left_alone: usize,
    /// How many requests a token is good for, if tokens are asked for; what is left of the newest, and its number.
    token: Option<usize>,
    left: usize,
    tokens: usize,
}

/// A registry; clones are the same one.
#[derive(Clone)]
pub struct Fake {
    state: Arc<(Mutex<State>, Condvar)>,
    /// Its address as it stands in image names.
    pub host: String,
}

impl Fake {
    /// Starts one inside an engine's network.
    pub fn start(engine: &TestEngine) -> Fake {
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let fake = Fake { state, host: String::new() };
        let kept = fake.clone();
        let port = engine.serve(move |stream| kept.converse(stream));
        Fake { host: format!("127.0.0.1:{port}"), ..fake }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.0.lock().expect("no panic")
    }

    /// Puts an image below a tag; the digest of its manifest and those of its layers.
    pub fn push(&self, repository: &str, tag: &str, image: &TestImage, algorithm: Algorithm) -> (Digest, Vec<Digest>) {
        let blob = |bytes: Vec<u8>, media_type: &str| self.blob(repository, bytes, media_type, algorithm);
        let config = blob(image.config(), CONFIG);
        let layers: Vec<Value> = image.layers.iter().map(|layer| blob(pack(layer, Packing::Gzip), LAYER)).collect();
        let digests = layers.iter().map(|layer| Digest::parse(layer["digest"].as_str().expect("text")).expect("one"));
        let digests = digests.collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        (self.manifest(repository, tag, &manifest, MANIFEST, algorithm), digests)
    }

    /// Puts a blob; its descriptor.
    pub fn blob(&self, repository: &str, bytes: Vec<u8>, media_type: &str, algorithm: Algorithm) -> Value {
        let digest = Digest::of(algorithm, &bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.put(blob_path(repository, &digest), bytes, "application/octet-stream");
        descriptor
    }

    /// Puts a manifest below a tag and its digest, which is the answer.
    pub fn manifest(
        &self,
        repository: &str,
        tag: &str,
        manifest: &Value,
        media_type: &str,
        algorithm: Algorithm,
    ) -> Digest {
        let bytes = manifest.to_string().into_bytes();
        let digest = Digest::of(algorithm, &bytes);
        self.put(format!("/v2/{repository}/manifests/{digest}"), bytes.clone(), media_type);
        self.put(format!("/v2/{repository}/manifests/{tag}"), bytes, media_type);
        digest
    }

    fn put(&self, path: String, bytes: Vec<u8>, media_type: &str) {
        self.lock().content.insert(path, (bytes, media_type.to_owned()));
    }

    /// Whether there is something with this digest at a path.
    pub fn has(&self, path: &str, digest: &Digest) -> bool {
        let state = self.lock();
        state.content.get(path).is_some_and(|(bytes, _)| Digest::of(digest.algorithm(), bytes) == *digest)
    }

    /// Has the same elsewhere.
    pub fn alias(&self, path: &str, other: &str) {
        let content = self.lock().content.get(path).cloned().expect("it is there");
        self.lock().content.insert(other.to_owned(), content);
    }

    /// Changes the last byte of what is there; a second time it is what it was.
    pub fn change(&self, path: &str) {
        let mut state = self.lock();
        let (bytes, _) = state.content.get_mut(path).expect("it is there");
        *bytes.last_mut().expect("it isn't empty") ^= 1;
    }

    /// What becomes of the next requests for a path, the first one first.
    pub fn fault(&self, path: &str, faults: &[Fault]) {
        self.lock().faults.insert(path.to_owned(), faults.iter().rev().cloned().collect());
    }

    /// From now on a token is good for so many requests.
    pub fn want_tokens(&self, good_for: usize) {
        self.lock().token = Some(good_for);
    }

    /// How many tokens were fetched.
    pub fn tokens(&self) -> usize {
        self.lock().tokens
    }

    /// From now on a layer is sent, or taken, when so many are on their way at once, or none comes for a while.
    pub fn wait_for_together(&self, together: usize) {
        self.lock().together = together;
    }

    /// The most layers that were on their way at once.
    pub fn most_at_once(&self) -> usize {
        self.lock().most
    }

    /// How many clients have given up waiting for more.
    pub fn left_alone(&self) -> usize {
        self.lock().left_alone
    }

    /// The requests for a path so far: method, `Range`, and when.
    pub fn requests(&self, path: &str) -> Vec<(String, String, Instant)> {
        let state = self.lock();
        let wanted = state.requests.iter().filter(|(_, asked, _, _)| asked == path);
        wanted.map(|(method, _, range, at)| (method.clone(), range.clone(), *at)).collect()
    }

    fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some((head, body)) = server::request(&mut reader)? {
            if self.answer(&mut stream, &head, body)? == Next::Silence {
                // Until the client goes; it has nothing more to say.
                drop(reader.fill_buf());
                self.lock().left_alone += 1;
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(&self, stream: &mut TcpStream, head: &str, sent: Vec<u8>) -> io::Result<Next> {
        let mut words = head.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_lowercase().starts_with(&format!("{name}: ")));
            line.and_then(|line| line.split_once(": ")).map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let range = header("range");
        let mut state = self.lock();
        state.requests.push((method.clone(), path.clone(), range.clone(), Instant::now()));
        if path.starts_with("/token") {
            state.tokens += 1;
            state.left = state.token.unwrap_or_default();
            let body = json!({ "token": format!("token-{}", state.tokens), "expires_in": 300 }).to_string();
            drop(state);
            return whole(stream, "200 OK", "", body.as_bytes()).map(|()| Next::Request);
        }
        if state.token.is_some() {
            if header("authorization") != format!("Bearer token-{}", state.tokens) || state.left == 0 {
                let host = header("host");
                let challenge = format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"s\"\r\n");
                drop(state);
                return whole(stream, "401 Unauthorized", &challenge, b"").map(|()| Next::Request);
            }
            state.left -= 1;
        }
        let fault = state.faults.get_mut(&path).and_then(Vec::pop);
        if let Some(Fault::Status(times, status, headers)) = &fault {
            if *times > 1 {
                let left = Fault::Status(times - 1, status, headers.clone());
                state.faults.get_mut(&path).expect("it was there").push(left);
            }
            drop(state);
            return whole(stream, status, headers, b"").map(|()| Next::Request);
        }
        if let Some(Fault::Silent(None)) = fault {
            return Ok(Next::Silence);
        }
        let found = state.content.get(&path).cloned();
        drop(state);
        if matches!(method.as_str(), "POST" | "PUT") {
            return self.take(stream, &method, &path, &header("content-type"), sent).map(|()| Next::Request);
        }
        let Some((body, media_type)) = found else {
            let status = if path == "/v2/" { "200 OK" } else { "404 Not Found" };
            return whole(stream, status, "", b"{}").map(|()| Next::Request);
        };
        let offset = range.strip_prefix("bytes=").and_then(|range| range.split('-').next()?.parse().ok()).unwrap_or(0);
        let status = match offset {
            0 => "200 OK".to_owned(),
            _ => format!("206 Partial Content\r\nContent-Range: bytes {offset}-{}/{}", body.len() - 1, body.len()),
        };
        let rest = &body[offset.min(body.len())..];
        write!(stream, "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n", rest.len())?;
        if method == "HEAD" {
            return Ok(Next::Request);
        }
        if let Some(Fault::Silent(Some(bytes))) = fault {
            return stream.write_all(&rest[..bytes.min(rest.len())]).map(|()| Next::Silence);
        }
        let layer = if path.contains("/blobs/") { &body[..] } else { &[] };
        let sent = self.counted(layer, || match fault {
            Some(Fault::Trickle(bytes)) => trickle(stream, rest, bytes),
            _ => stream.write_all(rest),
        });
        sent.map(|()| Next::Request)
    }

    /// What is pushed: small blobs, which come with the request that closes their upload, and manifests.
    fn take(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        media_type: &str,
        body: Vec<u8>,
    ) -> io::Result<()> {
        if method == "POST" {
            let location = format!("Location: {}upload\r\n", path.split('?').next().unwrap_or_default());
            return whole(stream, "202 Accepted", &location, b"");
        }
        let (place, layer) = match path.split_once("uploads/upload?digest=") {
            Some((blobs, digest)) => (format!("{blobs}{digest}"), body.clone()),
            None => (path.to_owned(), Vec::new()),
        };
        self.put(place, body, media_type);
        self.counted(&layer, || whole(stream, "201 Created", "", b""))
    }

    /// Counts what is done with a layer's blob while it is done.
    fn counted<T>(&self, blob: &[u8], work: impl FnOnce() -> T) -> T {
        let is_layer = blob.starts_with(&[0x1f, 0x8b]);
        if is_layer {
            self.wait_for_others();
        }
        let done = work();
        if is_layer {
            self.lock().sending -= 1;
        }
        done
    }

    fn wait_for_others(&self) {
        let mut state = self.lock();
        state.sending += 1;
        state.most = state.most.max(state.sending);
        self.state.1.notify_all();
        // Nobody waits for ever for a download that isn't begun.
        let deadline = Duration::from_secs(2);
        let waited = self.state.1.wait_timeout_while(state, deadline, |state| state.most < state.together);
        drop(waited.expect("no panic"));
    }
}

fn trickle(stream: &mut TcpStream, body: &[u8], bytes: usize) -> io::Result<()> {
    let (first, rest) = body.split_at(bytes.min(body.len()));
    stream.write_all(first)?;
    for byte in rest.chunks(1) {
        std::thread::sleep(Duration::from_millis(5));
        stream.write_all(byte)?;
    }
    Ok(())
}

/// Where a blob is asked for.
pub fn blob_path(repository: &str, digest: &Digest) -> String {
    format!("/v2/{repository}/blobs/{digest}")
}

fn whole(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) -> io::Result<()> {
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
    stream.write_all(body)
}
