//! A small registry on loopback that can be told to misbehave.

#![expect(dead_code, reason = "each test program uses some of it")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use corten_base::{Digest, ImageId, Platform, Reference};
use corten_distribution::{Blocking, Client, Limits, RegistryConfig};
use corten_images::{Result, TransferOptions};
use corten_testkit::image::{Packing, TestImage, noise, pack, tar};
use serde_json::{Value, json};

use crate::common::Opened;

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What goes wrong with one path.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection breaks where so many bytes of the whole have come, as often as said.
    Cut(usize, u32),
    /// Other bytes of the same length.
    Changed,
    /// Another length than it is told, and no end.
    Endless,
    /// So many bytes, then nothing for as long as somebody waits.
    Silent(usize),
}

#[derive(Default)]
struct State {
    /// Body and media type by path.
    content: HashMap<String, (Vec<u8>, String)>,
    faults: HashMap<String, Fault>,
    /// Method, path and the offset that was asked for.
    requests: Vec<(String, String, u64)>,
}

pub struct Registry {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: tokio::runtime::Handle,
}

impl Registry {
    /// Starts a registry; it ends with the test's process.
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                // A client that goes away is no failure of the registry.
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        Registry { address, state, runtime: handle }
    }

    /// The full name of something here.
    pub fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    pub fn client(&self) -> Blocking {
        self.client_with(Limits::default())
    }

    pub fn client_with(&self, limits: Limits) -> Blocking {
        let mut config = RegistryConfig { limits, ..RegistryConfig::default() };
        config.timeouts.back_off = std::time::Duration::from_millis(1);
        config.timeouts.stall = std::time::Duration::from_millis(500);
        Client::new(config).blocking(self.runtime.clone())
    }

    /// A client that waits longer than a test.
    pub fn patient_client(&self) -> Blocking {
        Client::new(RegistryConfig::default()).blocking(self.runtime.clone())
    }

    /// Puts an image under a tag; answers the manifest's descriptor.
    pub fn push(&self, repository: &str, tag: &str, image: &TestImage, packing: Packing) -> Value {
        let config = self.blob(repository, image.config(), "application/vnd.oci.image.config.v1+json");
        let layers: Vec<Value> = image
            .layers
            .iter()
            .map(|layer| self.blob(repository, pack(layer, packing), "application/vnd.oci.image.layer.v1.tar+gzip"))
            .collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        self.manifest(repository, tag, manifest.to_string().into_bytes(), MANIFEST)
    }

    pub fn blob(&self, repository: &str, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.put(format!("/v2/{repository}/blobs/{digest}"), bytes, "application/octet-stream");
        descriptor
    }

    pub fn manifest(&self, repository: &str, tag: &str, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.put(format!("/v2/{repository}/manifests/{digest}"), bytes.clone(), media_type);
        self.put(format!("/v2/{repository}/manifests/{tag}"), bytes, media_type);
        descriptor
    }

    /// Answers something else than what the digest says.
    pub fn lie(&self, repository: &str, digest: &str, bytes: Vec<u8>, media_type: &str) {
        self.put(format!("/v2/{repository}/manifests/{digest}"), bytes, media_type);
    }

    pub fn pull(&self, store: &Opened, name: &str) -> Result<ImageId> {
        self.pull_for(store, name, None)
    }

    pub fn pull_for(&self, store: &Opened, name: &str, platform: Option<&Platform>) -> Result<ImageId> {
        let client = self.client();
        let options = TransferOptions { registry: &client, credentials: None, platform };
        store.images.pull(&Reference::parse_normalized(&self.name(name)).unwrap(), &options, &|_| {})
    }

    pub fn fault(&self, path: &str, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        match fault {
            Some(fault) => state.faults.insert(path.into(), fault),
            None => state.faults.remove(path),
        };
    }

    /// The blobs that were asked for since the last call, with their offsets.
    pub fn take_blob_requests(&self) -> Vec<(String, u64)> {
        let blobs = self.take_requests().into_iter().filter(|(path, _)| path.contains("/blobs/"));
        blobs.collect()
    }

    /// What was asked for since the last call, with the offsets.
    pub fn take_requests(&self) -> Vec<(String, u64)> {
        let requests = std::mem::take(&mut self.state.lock().unwrap().requests);
        let got = requests.into_iter().filter(|(method, _, _)| method == "GET");
        got.map(|(_, path, offset)| (path, offset)).collect()
    }

    fn put(&self, path: String, bytes: Vec<u8>, media_type: &str) {
        self.state.lock().unwrap().content.insert(path, (bytes, media_type.to_owned()));
    }
}

/// An image of so many layers, each of them with 300 kB that don't compress.
pub fn image(layers: u32) -> TestImage {
    let layer = |number: u32| {
        let name = format!("file-{number}");
        tar(&[("etc/", b""), ("etc/same", name.as_bytes()), (&name, &noise(number.into(), 300_000))])
    };
    TestImage::new("app:1", (0..layers).map(layer))
}

pub fn blob_path(descriptor: &Value) -> String {
    format!("/v2/app/blobs/{}", descriptor["digest"].as_str().unwrap())
}

fn serve(state: &Mutex<State>, mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let Some((method, path, offset)) = request(&mut reader)? else { return Ok(()) };
        let mut state = state.lock().unwrap();
        state.requests.push((method.clone(), path.clone(), offset));
        let fault = state.faults.get(&path).cloned();
        if let Some(Fault::Cut(bytes, times)) = &fault {
            let left = if *times > 1 { Some(Fault::Cut(*bytes, times - 1)) } else { None };
            match left {
                Some(left) => state.faults.insert(path.clone(), left),
                None => state.faults.remove(&path),
            };
        }
        let found = if path == "/v2/" {
            Some((b"{}".to_vec(), "application/json".into()))
        } else {
            state.content.get(&path).cloned()
        };
        drop(state);
        let Some((mut body, media_type)) = found else {
            let body = r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            write!(
                stream,
                "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )?;
            continue;
        };
        if matches!(fault, Some(Fault::Changed)) {
            body.iter_mut().for_each(|byte| *byte ^= 1);
        }
        let digest = Digest::sha256(&body);
        let (total, offset) = (body.len(), offset as usize);
        let body = &body[offset.min(total)..];
        let status = if offset > 0 {
            format!("206 Partial Content\r\ncontent-range: bytes {offset}-{}/{total}", total - 1)
        } else {
            "200 OK".into()
        };
        write!(stream, "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ndocker-content-digest: {digest}\r\n")?;
        match fault {
            Some(Fault::Endless) => {
                write!(stream, "\r\n")?;
                stream.write_all(body)?;
                loop {
                    stream.write_all(&[0; 4096])?;
                }
            }
            fault => {
                write!(stream, "content-length: {}\r\n\r\n", body.len())?;
                if method == "HEAD" {
                    continue;
                }
                if let Some(Fault::Silent(bytes)) = fault {
                    stream.write_all(&body[..bytes.saturating_sub(offset).min(body.len())])?;
                    // Until the client gives up.
                    return reader.fill_buf().map(drop);
                }
                if let Some(Fault::Cut(bytes, _)) = fault {
                    return stream.write_all(&body[..bytes.saturating_sub(offset).min(body.len())]);
                }
                stream.write_all(body)?;
            }
        }
    }
}

/// Method, path and the offset of a Range; none at the end of the connection.
fn request(reader: &mut impl BufRead) -> std::io::Result<Option<(String, String, u64)>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut offset = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            return Ok(Some((method, path, offset)));
        }
        if let Some(range) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
            offset = range.split('-').next().and_then(|start| start.parse().ok()).unwrap_or(0);
        }
    }
}
