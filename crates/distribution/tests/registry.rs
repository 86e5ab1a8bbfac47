//! Debian's docker-registry on loopback: the protocol as a real registry speaks it, with TLS and with passwords.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use corten_base::{Digest, Reference};
use corten_distribution::resolve::Resolver;
use corten_distribution::{Client, Credentials, Descriptor, RegistryConfig};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

struct Registry {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Registry {
    /// With these lines of configuration below `http:` and besides it; none where no registry is installed.
    fn start(http: &str, besides: &str, prepare: impl Fn(&std::path::Path)) -> Option<Registry> {
        let directory = tempfile::tempdir().unwrap();
        prepare(directory.path());
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let at = directory.path().display().to_string();
        let text = format!(
            "version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    \
             rootdirectory: {at}/data\nhttp:\n  addr: 127.0.0.1:{port}\n{http}\n{besides}\n"
        );
        let file = directory.path().join("config.yml");
        fs::write(&file, text.replace("DIRECTORY", &at)).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        };
        let registry = Registry { process, port, directory };
        let ready = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        assert!(ready, "the registry does not listen");
        Some(registry)
    }

    fn reference(&self, rest: &str) -> Reference {
        Reference::parse_normalized(&format!("127.0.0.1:{}/{rest}", self.port)).unwrap()
    }

    /// One request in plain HTTP; answers the head.
    fn request(&self, line: &str, headers: &str, body: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let length = body.len();
        let head =
            format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn push_blob(&self, name: &str, data: &[u8]) -> Descriptor {
        let digest = Digest::sha256(data);
        let begun = self.request(&format!("POST /v2/{name}/blobs/uploads/"), "", b"");
        let location = begun.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap();
        let path = location.split("http://x").nth(1).unwrap();
        let line = format!("PUT {path}&digest={digest}");
        let done = self.request(&line, "Content-Type: application/octet-stream\r\n", data);
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        Descriptor { media_type: "x".to_owned(), digest, size: data.len() as u64 }
    }

    /// An image of one layer; answers the manifest.
    fn push_image(&self, name: &str, tag: &str, layer: &[u8]) -> (Vec<u8>, Descriptor) {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let config = self.push_blob(name, b"{\"architecture\":\"amd64\",\"os\":\"linux\"}");
        let layer = self.push_blob(name, layer);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{}","size":{}}}]}}"#,
            config.digest, config.size, layer.digest, layer.size
        );
        let line = format!("PUT /v2/{name}/manifests/{tag}");
        let done = self.request(&line, &format!("Content-Type: {MANIFEST}\r\n"), manifest.as_bytes());
        assert!(done.starts_with("HTTP/1.1 201"), "{done}");
        (manifest.into_bytes(), layer)
    }
}

async fn read(client: &Client, reference: &Reference, blob: &Descriptor, offset: u64) -> Vec<u8> {
    let mut stream = client.blob(reference, blob, offset, None).await.unwrap();
    let mut data = Vec::new();
    while let Some(piece) = stream.chunk().await.unwrap() {
        data.extend_from_slice(&piece);
    }
    data
}

fn told(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", told(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn pulls() {
    let Some(registry) = Registry::start("", "", |_| {}) else { return };
    let layer: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let (manifest, blob) = registry.push_image("team/app", "v1", &layer);
    let client = Client::new(RegistryConfig::default());
    let tagged = registry.reference("team/app:v1");
    let (descriptor, bytes) = client.resolve(&tagged, None).await.unwrap();
    assert_eq!(bytes, manifest);
    assert_eq!(descriptor.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!(client.head(&tagged, None).await.unwrap(), Some(descriptor.clone()));
    let by_digest = registry.reference(&format!("team/app@{}", descriptor.digest));
    assert_eq!(client.resolve(&by_digest, None).await.unwrap().0, descriptor);
    assert!(read(&client, &tagged, &blob, 0).await == layer);
    assert!(read(&client, &tagged, &blob, 2_000_001).await == layer[2_000_001..]);
    let text = |error: corten_distribution::Error| told(&error).replace(&registry.port.to_string(), "PORT");
    let error = client.resolve(&registry.reference("team/app:v2"), None).await.unwrap_err();
    assert_eq!(text(error), "manifest for 127.0.0.1:PORT/team/app:v2 not found: manifest unknown: manifest unknown");
    let error = client.head(&registry.reference("team/app:v2"), None).await.unwrap_err();
    assert_eq!(text(error), "manifest for 127.0.0.1:PORT/team/app:v2 not found: manifest unknown: manifest unknown");
    let missing = Descriptor { digest: Digest::sha256(b"missing"), ..blob };
    let error = client.blob(&tagged, &missing, 0, None).await.unwrap_err();
    assert_eq!(text(error), "blob unknown: blob unknown to registry");
}

/// bcrypt of "U*U", from the test vectors of crypt_blowfish.
const PASSWORD: &str = "me:$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n";

#[tokio::test]
async fn passwords() {
    let auth = "auth:\n  htpasswd:\n    realm: basic-realm\n    path: DIRECTORY/htpasswd";
    let prepare = |at: &std::path::Path| fs::write(at.join("htpasswd"), PASSWORD).unwrap();
    let Some(registry) = Registry::start("", auth, prepare) else { return };
    let client = Client::new(RegistryConfig::default());
    let reference = registry.reference("a:t");
    let check = async |credentials: Option<Credentials>, expect: &str| {
        let error = client.resolve(&reference, credentials.as_ref()).await.unwrap_err();
        assert!(told(&error).contains(expect), "{}", told(&error));
    };
    check(None, "no basic auth credentials").await;
    check(Some(Credentials::password("me", "wrong")), "unauthorized: authentication required").await;
    check(Some(Credentials::password("me", "U*U")), "not found: manifest unknown").await;
}

/// An authority, a certificate of it for registry.test, and one that signed itself.
fn certificate(at: &std::path::Path) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(at).output().unwrap();
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    openssl("req -newkey rsa:2048 -nodes -subj /CN=registry.test -keyout key.pem -out request.pem");
    fs::write(at.join("names"), "subjectAltName=DNS:registry.test\n").unwrap();
    openssl("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile names -out cert.pem");
}

#[tokio::test]
async fn certificates() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("skipped: openssl is not installed");
        return;
    }
    let tls = "  tls:\n    certificate: DIRECTORY/cert.pem\n    key: DIRECTORY/key.pem";
    let Some(registry) = Registry::start(tls, "", certificate) else { return };
    let file = |name: &str, text: &str| -> PathBuf {
        let path = registry.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let resolver = Resolver::with_files(&file("hosts", "127.0.0.1 registry.test\n"), &file("resolv.conf", ""));
    let plain = RegistryConfig { resolver, ..RegistryConfig::default() };
    let name = format!("registry.test:{}", registry.port);
    let reference = Reference::parse_normalized(&format!("{name}/a:t")).unwrap();
    let check = async |config: &RegistryConfig, reference: &Reference, expect: &str| {
        let error = Client::new(config.clone()).resolve(reference, None).await.unwrap_err();
        assert!(told(&error).contains(expect), "{}", told(&error));
    };
    let unknown = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    check(&plain, &reference, unknown).await;
    let authorities = vec![fs::read(registry.directory.path().join("ca.pem")).unwrap()];
    let trusting = RegistryConfig { authorities, ..plain.clone() };
    check(&trusting, &reference, "not found: manifest unknown").await;
    let renamed = file("hosts", "127.0.0.1 registry.test other.test\n");
    let trusting = RegistryConfig { resolver: Resolver::with_files(&renamed, &renamed), ..trusting };
    let other = Reference::parse_normalized(&format!("other.test:{}/a:t", registry.port)).unwrap();
    check(&trusting, &other, "tls: failed to verify certificate: x509: ").await;
    let insecure = RegistryConfig { insecure: vec![name.parse().unwrap()], ..plain.clone() };
    check(&insecure, &reference, "not found: manifest unknown").await;
    let network = RegistryConfig { insecure: vec!["127.0.0.0/8".parse().unwrap()], ..plain.clone() };
    check(&network, &reference, "not found: manifest unknown").await;
    // Loopback needs no certificate.
    check(&plain, &registry.reference("a:t"), "not found: manifest unknown").await;
}

#[tokio::test]
async fn a_plain_registry_that_should_have_tls() {
    let Some(registry) = Registry::start("", "", |_| {}) else { return };
    let hosts = registry.directory.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 registry.test\n").unwrap();
    let config = RegistryConfig { resolver: Resolver::with_files(&hosts, &hosts), ..RegistryConfig::default() };
    let reference = Reference::parse_normalized(&format!("registry.test:{}/a:t", registry.port)).unwrap();
    let error = Client::new(config).resolve(&reference, None).await.unwrap_err();
    let port = registry.port;
    let expect = format!("Get \"https://registry.test:{port}/v2/\": http: server gave HTTP response to HTTPS client");
    assert_eq!(told(&error), expect);
}
