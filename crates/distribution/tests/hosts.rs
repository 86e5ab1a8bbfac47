//! Mirrors, `hosts.toml` and certificates per registry.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Reply, Server, answer, bytes, config, told};
use corten_base::{Digest, Reference};
use corten_distribution::resolve::Resolver;
use corten_distribution::{Client, Credentials, RegistryConfig};
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn reference(text: &str) -> Reference {
    Reference::parse_normalized(text).unwrap()
}

fn index() -> Reply {
    answer("200 OK", &[("Content-Type", INDEX)], b"{}")
}

/// Settings with this `hosts.toml` for the registry `reg.invalid:5000`.
fn with_hosts(directory: &Path, text: &str) -> RegistryConfig {
    fs::create_dir_all(directory.join("reg.invalid:5000")).unwrap();
    fs::write(directory.join("reg.invalid:5000/hosts.toml"), text).unwrap();
    RegistryConfig { directories: vec![directory.into()], ..config() }
}

#[tokio::test]
async fn mirrors_of_any_registry_in_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let tags = Server::start(|_, head| match head.contains("/manifests/") {
        true => index(),
        false => answer("404 Not Found", &[], b""),
    });
    let blobs = Server::start(|_, _| answer("404 Not Found", &[], b""));
    let upstream = Server::start(|_, head| match head.contains("/blobs/") {
        true => answer("200 OK", &[], b"data"),
        false => index(),
    });
    let text = format!(
        "server = \"http://127.0.0.1:{}\"\n\
         [host.\"http://127.0.0.1:{}/x\"]\ncapabilities = [\"pull\"]\n\
         [host.\"http://127.0.0.1:{}/odd\"]\noverride_path = true\ncapabilities = [\"resolve\"]\n\
         [host.\"http://127.0.0.1:{}/odd\".header]\nx-key = \"secret\"\n",
        upstream.port, blobs.port, tags.port, tags.port
    );
    let client = Client::new(with_hosts(directory.path(), &text));
    let wanted = reference("reg.invalid:5000/a/b:t");
    let credentials = Credentials::password("me", "hunter2");
    client.resolve(&wanted, Some(&credentials)).await.unwrap();
    assert_eq!((tags.count(), blobs.count(), upstream.count()), (1, 0, 0));
    let head = tags.head(0);
    assert!(head.starts_with("GET /odd/a/b/manifests/t?ns=reg.invalid:5000 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("x-key: secret\r\n") && !head.contains("authorization"), "{head}");
    let digest = Digest::sha256(b"data");
    let blob = corten_distribution::Descriptor { media_type: String::new(), digest, size: 4 };
    client.blob(&wanted, &blob, 0, None).await.unwrap();
    assert_eq!((tags.count(), blobs.count(), upstream.count()), (1, 1, 1));
    assert!(blobs.head(0).starts_with("GET /x/v2/a/b/blobs/sha256:"), "{}", blobs.head(0));
    assert!(upstream.head(0).starts_with("GET /v2/a/b/blobs/sha256:"), "{}", upstream.head(0));
    // What is pushed goes to the registry itself: neither of the others may take it.
    client.has_blob(&wanted, &blob.digest, None).await.unwrap();
    assert_eq!((tags.count(), blobs.count(), upstream.count()), (1, 1, 2));
}

#[tokio::test]
async fn a_dead_mirror_is_left_alone_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let mirror = Server::start(|_, _| Reply::Close(Vec::new()));
    let upstream = Server::start(|_, _| index());
    let text =
        format!("server = \"http://127.0.0.1:{}\"\n[host.\"http://127.0.0.1:{}\"]\n", upstream.port, mirror.port);
    let mut settings = with_hosts(directory.path(), &text);
    let client = Client::new(settings.clone());
    for asked in 1..4 {
        client.resolve(&reference("reg.invalid:5000/a:t"), None).await.unwrap();
        assert_eq!((mirror.count(), upstream.count()), (1, asked));
    }
    settings.timeouts.mirror_rest = Duration::ZERO;
    let client = Client::new(settings);
    for asked in 1..3 {
        client.resolve(&reference("reg.invalid:5000/a:t"), None).await.unwrap();
        assert_eq!(mirror.count(), 1 + asked);
    }
}

/// A client whose registry has one mirror.
fn with_mirror(directory: &Path, mirror: &Server, upstream: u16) -> Client {
    let text = format!("server = \"http://127.0.0.1:{upstream}\"\n[host.\"http://127.0.0.1:{}\"]\n", mirror.port);
    Client::new(with_hosts(directory, &text))
}

#[tokio::test]
async fn a_mirror_that_answers_badly_is_passed_over() {
    let data: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
    let blob = corten_distribution::Descriptor {
        media_type: String::new(),
        digest: Digest::sha256(&data),
        size: data.len() as u64,
    };
    let cut = {
        let mut whole = bytes("200 OK", &[], &data);
        whole.truncate(200_000);
        Reply::Close(whole)
    };
    let bad = [
        (answer("503 Service Unavailable", &[], b""), true),
        (answer("429 Too Many Requests", &[("Retry-After", "1")], b""), true),
        (answer("404 Not Found", &[], b""), false),
        (answer("200 OK", &[], b"not what it should be"), true),
        (cut, true),
        (Reply::Stall(Vec::new()), true),
    ];
    for (reply, is_rested) in bad {
        let directory = tempfile::tempdir().unwrap();
        let kept = reply.clone();
        let mirror = Server::start(move |_, _| kept.clone());
        let whole = data.clone();
        let upstream = Server::start(move |_, head| {
            let start = head.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse().ok());
            match start.filter(|_| head.contains("/blobs/")) {
                Some(start) => {
                    let start: usize = start;
                    let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
                    answer("206 Partial Content", &[("Content-Range", &range)], &whole[start..])
                }
                None if head.contains("/blobs/") => answer("200 OK", &[], &whole),
                None => index(),
            }
        });
        let client = with_mirror(directory.path(), &mirror, upstream.port);
        let wanted = reference(&format!("reg.invalid:5000/a/b@{}", Digest::sha256(b"{}")));
        client.resolve(&wanted, None).await.unwrap();
        client.resolve(&wanted, None).await.unwrap();
        assert_eq!(mirror.count(), if is_rested { 1 } else { 2 });
        let client = with_mirror(directory.path(), &mirror, upstream.port);
        let before = (mirror.count(), upstream.count());
        let mut stream = client.blob(&wanted, &blob, 0, None).await.unwrap();
        let mut read = Vec::new();
        while let Some(piece) = stream.chunk().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert!(read == data);
        assert_eq!((mirror.count() - before.0, upstream.count() - before.1), (1, 1));
    }
}

#[tokio::test]
async fn a_mirror_is_what_is_left_without_its_registry() {
    let directory = tempfile::tempdir().unwrap();
    let mirror = Server::start(|number, _| match number {
        0 | 2 => answer("503 Service Unavailable", &[], b""),
        _ => index(),
    });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = with_mirror(directory.path(), &mirror, nobody);
    client.resolve(&reference("reg.invalid:5000/a:t"), None).await.unwrap();
    assert_eq!(mirror.count(), 2);
    // It rests; there is nobody else, and now it is worth some patience.
    client.resolve(&reference("reg.invalid:5000/a:t"), None).await.unwrap();
    assert_eq!(mirror.count(), 4);
}

#[tokio::test]
async fn headers_of_a_host_do_not_follow_a_redirect() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = Server::start(|_, _| answer("200 OK", &[], b"data"));
    let location = format!("http://127.0.0.1:{}/blob", elsewhere.port);
    let server = Server::start(move |_, _| answer("307 Temporary Redirect", &[("Location", &location)], b""));
    let text = format!("server = \"http://127.0.0.1:{}\"\n[header]\nx-key = \"secret\"\n", server.port);
    let client = Client::new(with_hosts(directory.path(), &text));
    let blob = corten_distribution::Descriptor { media_type: String::new(), digest: Digest::sha256(b"data"), size: 4 };
    client.blob(&reference("reg.invalid:5000/a:t"), &blob, 0, None).await.unwrap();
    assert!(server.head(0).contains("x-key: secret\r\n"));
    assert!(!elsewhere.head(0).contains("x-key"), "{}", elsewhere.head(0));
}

#[tokio::test]
async fn a_file_with_mistakes_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let client = Client::new(with_hosts(directory.path(), "[host.\"gopher://x\"]"));
    let error = client.resolve(&reference("reg.invalid:5000/a:t"), None).await.unwrap_err();
    assert!(told(&error).contains("reg.invalid:5000/hosts.toml: \"gopher://x\" is not a URL"), "{}", told(&error));
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// An authority, and certificates of it for the registry and for a client.
fn certificates(at: &Path) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(at).output().unwrap();
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    fs::write(at.join("server.names"), "subjectAltName=DNS:reg.test\nextendedKeyUsage=serverAuth\n").unwrap();
    fs::write(at.join("client.names"), "subjectAltName=DNS:me\nextendedKeyUsage=clientAuth\n").unwrap();
    for name in ["server", "client"] {
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr"));
        openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 2 -extfile {name}.names -out {name}.pem"
        ));
    }
}

#[tokio::test]
async fn a_registry_that_wants_a_certificate_of_its_clients() {
    let present =
        |program: &str| Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if present("docker-registry").is_err() || present("openssl").is_err() {
        eprintln!("skipped: docker-registry or openssl is not installed");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificates(at);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let shown = at.display();
    let text = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  inmemory: {{}}\nhttp:\n  addr: 127.0.0.1:{port}\n  tls:\n    \
         certificate: {shown}/server.pem\n    key: {shown}/server.key\n    clientcas: [{shown}/ca.pem]\n"
    );
    fs::write(at.join("config.yml"), text).unwrap();
    let mut registry = Command::new("docker-registry");
    registry.arg("serve").arg(at.join("config.yml")).stdout(Stdio::null()).stderr(Stdio::null());
    let _registry = Ended(registry.spawn().unwrap());
    let listens = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    assert!(listens, "the registry does not listen");
    // Not a loopback name, so that certificates count.
    fs::write(at.join("hosts"), "127.0.0.1 reg.test\n").unwrap();
    let host = format!("reg.test:{port}");
    let resolver = Resolver::with_files(&at.join("hosts"), &at.join("resolv.conf"));
    let settings =
        |folder: &str| RegistryConfig { directories: vec![at.join(folder)], resolver: resolver.clone(), ..config() };
    let check = async |folder: &str, expect: &str| {
        let client = Client::new(settings(folder));
        let error = client.resolve(&reference(&format!("{host}/a:t")), None).await.unwrap_err();
        assert!(told(&error).contains(expect), "{folder}: {}", told(&error));
    };
    let certs = |folder: &str, files: &[(&str, &str)]| {
        let folder = at.join(folder).join(&host);
        fs::create_dir_all(&folder).unwrap();
        for (from, to) in files {
            fs::copy(at.join(from), folder.join(to)).unwrap();
        }
    };
    certs("full", &[("ca.pem", "ca.crt"), ("client.pem", "me.cert"), ("client.key", "me.key")]);
    check("full", "not found: manifest unknown").await;
    certs("keyless", &[("ca.pem", "ca.crt"), ("client.pem", "me.cert")]);
    check("keyless", "me.key: No such file").await;
    certs("toml", &[("ca.pem", "authority.pem"), ("client.pem", "c.pem"), ("client.key", "k.pem")]);
    let toml = format!("server = \"https://{host}\"\nca = \"authority.pem\"\nclient = [[\"c.pem\", \"k.pem\"]]\n");
    fs::write(at.join("toml").join(&host).join("hosts.toml"), toml).unwrap();
    check("toml", "not found: manifest unknown").await;
    check("none", "certificate signed by unknown authority").await;
    certs("nobody", &[("ca.pem", "ca.crt")]);
    let client = Client::new(settings("nobody"));
    assert!(client.resolve(&reference(&format!("{host}/a:t")), None).await.is_err(), "no certificate, no answer");
}
