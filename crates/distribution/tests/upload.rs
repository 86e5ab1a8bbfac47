//! Uploads to a registry whose connections break, that forgets, and that takes less than it was sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Server, answer, config, told};
use corten_base::{Digest, Reference};
use corten_distribution::{Client, Credentials, Mounted, Source};
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a registry does to one `PATCH`.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Takes so many bytes and breaks the connection.
    Cut(usize),
    /// Forgets the upload.
    Forget,
    /// Takes all, and says that it has only so many of them.
    Less(usize),
    /// Refuses with this status, and has taken nothing.
    Refuse(u16),
    /// Takes nothing, and asks with this status to come back in a second.
    Busy(u16),
}

#[derive(Default)]
struct State {
    fates: Vec<Fate>,
    upload: Vec<u8>,
    stored: Vec<Vec<u8>>,
    requests: Vec<String>,
    sessions: usize,
    /// The most that a request may carry, and whether what is more is read to its end before it is refused.
    limit: Option<(usize, bool)>,
    /// What it asks for at least, as the header.
    least: usize,
}

/// A registry that has one upload at a time.
struct Registry {
    port: u16,
    state: Arc<Mutex<State>>,
}

impl Registry {
    fn start(fates: &[Fate]) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { fates: fates.iter().rev().copied().collect(), ..State::default() }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = shared.clone();
                std::thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        Registry { port, state }
    }

    fn reference(&self) -> Reference {
        Reference::parse_normalized(&format!("127.0.0.1:{}/a/b:t", self.port)).unwrap()
    }

    fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }
}

fn serve(state: &Mutex<State>, mut stream: TcpStream) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || !line.contains(" HTTP/1.1") {
            // TLS is not spoken here.
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        }
        let (mut length, mut chunked, mut range) = (0, false, String::new());
        loop {
            let mut header = String::new();
            reader.read_line(&mut header)?;
            let header = header.trim().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            match header.split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("transfer-encoding", _)) => chunked = true,
                Some(("content-range", value)) => range = format!(" {value}"),
                _ => {}
            }
        }
        let (method, path) = line.trim_end_matches(" HTTP/1.1\r\n").split_once(' ').unwrap();
        state.lock().unwrap().requests.push(format!("{method} {path}{range}"));
        let fate = if method == "PATCH" { state.lock().unwrap().fates.pop() } else { None };
        let most = if let Some(Fate::Cut(most)) = fate { most } else { usize::MAX };
        let limit = state.lock().unwrap().limit;
        if let Some((limit, false)) = limit
            && length > limit
        {
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            // As servers do, so that the answer isn't lost with a reset.
            return io::copy(&mut reader, &mut io::sink()).map(drop);
        }
        let body = body(&mut reader, length, chunked, most)?;
        let mut state = state.lock().unwrap();
        if limit.is_some_and(|(limit, _)| body.len() > limit) {
            stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")?;
            continue;
        }
        let before = state.upload.len();
        state.upload.extend_from_slice(&body);
        match fate {
            Some(Fate::Cut(_)) => return Ok(()),
            Some(Fate::Forget) => state.sessions += 1,
            Some(Fate::Less(most)) => state.upload.truncate(most),
            Some(Fate::Busy(_) | Fate::Refuse(_)) => state.upload.truncate(before),
            None => {}
        }
        let location = format!("Location: /upload/{}\r\n", state.sessions);
        let range = format!("Range: 0-{}\r\n", state.upload.len().saturating_sub(1));
        let is_current = path.contains(&format!("/upload/{}", state.sessions));
        let head = match (method, fate) {
            (_, Some(Fate::Refuse(status))) => format!("{status} Refused\r\n"),
            (_, Some(Fate::Busy(status))) => format!("{status} Busy\r\nRetry-After: 1\r\n"),
            ("HEAD", _) => "404 Not Found\r\n".to_owned(),
            ("POST", _) => {
                state.upload.clear();
                format!("202 Accepted\r\n{location}OCI-Chunk-Min-Length: {}\r\n", state.least)
            }
            ("PATCH" | "GET", _) if is_current => format!("202 Accepted\r\n{location}{range}"),
            ("PUT", _) if is_current => {
                let upload = std::mem::take(&mut state.upload);
                let is_right = path.ends_with(&format!("digest={}", Digest::sha256(&upload)));
                state.stored.extend(is_right.then_some(upload));
                if is_right { "201 Created\r\n" } else { "400 Bad Request\r\n" }.to_owned()
            }
            ("DELETE", _) => "204 No Content\r\n".to_owned(),
            _ => "404 Not Found\r\n".to_owned(),
        };
        write!(stream, "HTTP/1.1 {head}Content-Length: 0\r\n\r\n")?;
    }
}

fn body(reader: &mut impl BufRead, length: usize, chunked: bool, most: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if !chunked {
        reader.take(length.min(most) as u64).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut piece = vec![0; size + 2];
        reader.read_exact(&mut piece)?;
        body.extend_from_slice(&piece[..size]);
        if size == 0 || body.len() >= most {
            body.truncate(most);
            return Ok(body);
        }
    }
}

/// Uploads; the answer, and from which offsets the bytes were read.
async fn upload(registry: &Registry, data: &[u8], is_size_known: bool) -> (Result<Digest, String>, Vec<u64>) {
    let offsets = Mutex::new(Vec::new());
    let open = |offset: u64| -> io::Result<Box<dyn Read + Send>> {
        offsets.lock().unwrap().push(offset);
        Ok(Box::new(Cursor::new(data[usize::try_from(offset).unwrap()..].to_vec())))
    };
    let identity = || Some((Digest::sha256(data), data.len() as u64));
    let size = is_size_known.then_some(data.len() as u64);
    let source = Source { open: &open, size, identity: &identity, progress: &|_| true };
    let client = Client::new(config());
    let uploaded = client.upload(&registry.reference(), &source, None, None).await;
    (uploaded.map_err(|error| told(&error)), offsets.into_inner().unwrap())
}

fn sample() -> Vec<u8> {
    (0..1_000_000u32).map(|number| (number.wrapping_mul(number) >> 5) as u8).collect()
}

#[tokio::test]
async fn small_and_large() {
    for is_size_known in [true, false] {
        for data in [Vec::new(), b"small".to_vec(), sample()] {
            let registry = Registry::start(&[]);
            let (done, _) = upload(&registry, &data, is_size_known).await;
            assert_eq!(done, Ok(Digest::sha256(&data)));
            assert!(registry.state.lock().unwrap().stored == [data.clone()], "{} {is_size_known}", data.len());
            let patched = registry.requests().iter().any(|request| request.starts_with("PATCH"));
            assert_eq!(patched, !is_size_known || data.len() > 1000);
        }
    }
}

#[tokio::test]
async fn broken_connections_are_resumed() {
    let data = sample();
    for is_size_known in [true, false] {
        let registry = Registry::start(&[Fate::Cut(300_000), Fate::Cut(250_000), Fate::Less(700_000)]);
        let (done, offsets) = upload(&registry, &data, is_size_known).await;
        assert_eq!(done, Ok(Digest::sha256(&data)), "{:?}", registry.requests());
        assert_eq!(offsets, [0, 300_000, 550_000, 700_000]);
        assert!(registry.state.lock().unwrap().stored == [data.clone()]);
        let ranged = registry.requests().iter().any(|request| request == "PATCH /upload/0 550000-999999");
        assert_eq!(ranged, is_size_known);
    }
}

#[tokio::test]
async fn a_forgotten_upload_begins_anew() {
    let data = sample();
    let registry = Registry::start(&[Fate::Cut(300_000), Fate::Forget]);
    let (done, offsets) = upload(&registry, &data, true).await;
    assert_eq!(done, Ok(Digest::sha256(&data)), "{:?}", registry.requests());
    assert_eq!(offsets, [0, 300_000, 0]);
}

#[tokio::test]
async fn an_upload_that_is_refused_is_given_up_and_taken_back() {
    let registry = Registry::start(&[Fate::Refuse(405)]);
    let (done, offsets) = upload(&registry, &sample(), true).await;
    assert_eq!(done, Err("received unexpected HTTP status: 405 Method Not Allowed".to_owned()));
    assert_eq!(offsets, [0]);
    assert!(registry.requests().last().unwrap().starts_with("DELETE /upload/0"));
    // Tries are bounded.
    let registry = Registry::start(&[Fate::Cut(10); 9]);
    let (done, offsets) = upload(&registry, &sample(), true).await;
    assert!(done.is_err());
    assert_eq!(offsets.len(), 5);
}

#[tokio::test]
async fn a_registry_that_takes_no_large_requests_gets_smaller_ones() {
    let data = sample();
    for is_size_known in [true, false] {
        for is_read in [true, false] {
            let registry = Registry::start(&[]);
            registry.state.lock().unwrap().limit = Some((300_000, is_read));
            let (done, offsets) = upload(&registry, &data, is_size_known).await;
            assert_eq!(done, Ok(Digest::sha256(&data)), "{:?}", registry.requests());
            assert!(registry.state.lock().unwrap().stored == [data.clone()]);
            // The source isn't opened anew for each part: that may mean to pack all that was before it.
            assert_eq!(offsets.last(), Some(&0), "{offsets:?}");
            let taken = registry.requests().iter().any(|request| request == "PATCH /upload/0 262144-524287");
            assert_eq!(taken, is_size_known, "{:?}", registry.requests());
        }
    }
    // Not smaller than it asks for.
    for (least, expect) in [(280_000, true), (400_000, false), (usize::MAX, false)] {
        let registry = Registry::start(&[]);
        (registry.state.lock().unwrap().limit, registry.state.lock().unwrap().least) = (Some((300_000, true)), least);
        let (done, _) = upload(&registry, &data, true).await;
        assert_eq!(done.is_ok(), expect, "{least}: {:?}", registry.requests());
        let refusal = "received unexpected HTTP status: 413 Payload Too Large";
        assert!(expect || done == Err(refusal.to_owned()), "{done:?}");
        let ranges = registry.requests();
        let ranges = ranges.iter().filter_map(|request| request.strip_prefix("PATCH /upload/0 ")?.split_once('-'));
        let parts = ranges.map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        assert!(parts.into_iter().all(|(from, to): (usize, usize)| to == 999_999 || to + 1 - from >= least));
    }
    // A small blob goes with one request, and that may be too large.
    let registry = Registry::start(&[]);
    registry.state.lock().unwrap().limit = Some((100_000, true));
    assert_eq!(upload(&registry, &data[..200_000], true).await.0, Ok(Digest::sha256(&data[..200_000])));
    let registry = Registry::start(&[]);
    registry.state.lock().unwrap().limit = Some((10, true));
    assert!(upload(&registry, &data, true).await.0.is_err());
    assert!(registry.requests().len() < 30, "{:?}", registry.requests());
}

#[tokio::test]
async fn progress_makes_up_for_failures() {
    let data: Vec<u8> = [sample(), sample(), sample(), sample()].concat();
    let half = 1 << 19;
    // Half a megabyte each time doesn't...
    let registry = Registry::start(&[Fate::Cut(half); 9]);
    assert!(upload(&registry, &data, true).await.0.is_err_and(|error| error.ends_with("unexpected EOF")));
    assert_eq!(registry.requests().iter().filter(|request| request.starts_with("PATCH")).count(), 5);
    // ...more than one does.
    let data: Vec<u8> = data.repeat(3);
    let registry = Registry::start(&[Fate::Cut(1_100_000); 9]);
    assert_eq!(upload(&registry, &data, true).await.0, Ok(Digest::sha256(&data)));
}

#[tokio::test]
async fn a_registry_that_keeps_no_lists_of_referrers() {
    let subject = Digest::sha256(b"subject");
    let manifest = format!(
        r#"{{"subject":{{"digest":"{subject}","size":7,"mediaType":"m"}},"artifactType":"a/b","annotations":{{"k":"v"}}}}"#
    );
    let tag = format!("/v2/a/b/manifests/sha256-{}", subject.hex());
    let put = async |server: &Server| {
        let reference = server.reference("a/b:t");
        Client::new(config()).put_manifest(&reference, "t", "x/y", manifest.clone().into(), None).await
    };
    let found = |body: &str| answer("200 OK", &[], body.as_bytes());
    let digest = Digest::sha256(manifest.as_bytes());
    let other = r#"{"digest":"sha256:1"}"#;
    let cases = [
        (answer("404 Not Found", &[], b""), 1),
        (found(&format!(r#"{{"schemaVersion":2,"manifests":[{other}]}}"#)), 2),
    ];
    for (before, entries) in cases {
        let server = Server::start(move |_, head| match head.starts_with("GET") {
            true => before.clone(),
            false => answer("201 Created", &[], b""),
        });
        put(&server).await.unwrap();
        let put = server.head(2);
        assert!(put.starts_with(&format!("PUT {tag} HTTP")), "{put}");
        assert!(put.contains("content-type: application/vnd.oci.image.index.v1+json\r\n"), "{put}");
        let index: serde_json::Value = serde_json::from_str(put.split_once("\r\n\r\n").unwrap().1).unwrap();
        let listed = index["manifests"].as_array().unwrap();
        assert_eq!(listed.len(), entries);
        let expect = serde_json::json!({ "mediaType": "x/y", "digest": digest, "size": manifest.len(),
            "artifactType": "a/b", "annotations": { "k": "v" } });
        assert_eq!(listed.last(), Some(&expect));
    }
    // It is listed already, by a client or by the registry itself.
    let listed = found(&format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}"}}]}}"#));
    let server = Server::start(move |_, head| match head.starts_with("GET") {
        true => listed.clone(),
        false => answer("201 Created", &[], b""),
    });
    put(&server).await.unwrap();
    assert_eq!(server.count(), 2);
    let server = Server::start(|_, _| answer("201 Created", &[("OCI-Subject", "sha256:1")], b""));
    put(&server).await.unwrap();
    assert_eq!(server.count(), 1);
    // What is no index is left alone.
    let server = Server::start(move |_, head| match head.starts_with("GET") {
        true => answer("200 OK", &[], b"{\"layers\":[]}"),
        false => answer("201 Created", &[], b""),
    });
    let error = told(&put(&server).await.unwrap_err());
    assert!(error.starts_with("referrers: sha256-") && error.ends_with(" is no index"), "{error}");
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn an_entry_among_referrers_that_another_client_wrote_over() {
    let subject = Digest::sha256(b"subject");
    let manifest = format!(r#"{{"subject":{{"digest":"{subject}","size":7,"mediaType":"m"}}}}"#);
    let digest = Digest::sha256(manifest.as_bytes());
    // So many times another client, which has read the list before, writes it after.
    for lost in [0, 1, 2, usize::MAX] {
        let (list, written) = (Mutex::new(r#"{"manifests":[]}"#.to_owned()), Arc::new(AtomicUsize::new(0)));
        let counted = written.clone();
        let server = Server::start(move |_, head| {
            let mut list = list.lock().unwrap();
            match head.split_once("\r\n\r\n") {
                Some((head, body)) if head.starts_with("PUT") && head.contains("/manifests/sha256-") => {
                    let before = counted.fetch_add(1, Ordering::SeqCst);
                    let theirs = format!(r#"{{"manifests":[{{"digest":"sha256:{before}"}}]}}"#);
                    *list = if before < lost { theirs } else { body.to_owned() };
                    answer("201 Created", &[], b"")
                }
                _ if head.starts_with("GET") => answer("200 OK", &[], list.as_bytes()),
                _ => answer("201 Created", &[], b""),
            }
        });
        Client::new(config())
            .put_manifest(&server.reference("a/b:t"), "t", "x/y", manifest.clone().into(), None)
            .await
            .unwrap();
        let writes = lost.saturating_add(1).min(4);
        assert_eq!(written.load(Ordering::SeqCst), writes);
        let last = server.seen.lock().unwrap().iter().rfind(|head| head.starts_with("PUT")).cloned().unwrap();
        let index: serde_json::Value = serde_json::from_str(last.split_once("\r\n\r\n").unwrap().1).unwrap();
        let listed: Vec<&str> =
            index["manifests"].as_array().unwrap().iter().map(|entry| entry["digest"].as_str().unwrap()).collect();
        let theirs = format!("sha256:{}", writes.wrapping_sub(2));
        // What the other one wrote stays.
        let expect = if lost == 0 { vec![digest.as_str()] } else { vec![theirs.as_str(), digest.as_str()] };
        assert_eq!(listed, expect);
    }
}

#[tokio::test]
async fn a_registry_that_is_busy_is_asked_again_when_it_says() {
    let data = sample();
    let registry = Registry::start(&[Fate::Cut(300_000), Fate::Busy(429), Fate::Busy(503)]);
    let begun = std::time::Instant::now();
    let (done, offsets) = upload(&registry, &data, true).await;
    assert_eq!(done, Ok(Digest::sha256(&data)), "{:?}", registry.requests());
    assert_eq!(offsets, [0, 300_000, 300_000, 300_000]);
    assert!(begun.elapsed() >= std::time::Duration::from_secs(2), "as long as it was asked to, twice");
}

#[tokio::test]
async fn a_source_that_fails_and_one_that_is_not_wanted_any_more() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let registry = Registry::start(&[]);
    let identity = || None;
    let open = |_| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(Broken)) };
    let source = Source { open: &open, size: None, identity: &identity, progress: &|_| true };
    let error = Client::new(config()).upload(&registry.reference(), &source, None, None).await.unwrap_err();
    assert!(told(&error).ends_with("cannot read what is to be sent: the disk is gone"), "{}", told(&error));
    // A registry that never answers, and a caller that loses interest.
    let server = Server::start(|_, head| match head.starts_with("POST") {
        true => answer("202 Accepted", &[("Location", "/upload/1")], b""),
        false => common::Reply::Stall(Vec::new()),
    });
    let calls = AtomicU64::new(0);
    let open = |_| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(Cursor::new(vec![0; 500_000]))) };
    let progress = |_| calls.fetch_add(1, Ordering::Relaxed) == 0;
    let source = Source { open: &open, size: Some(500_000), identity: &identity, progress: &progress };
    let mut patient = config();
    patient.timeouts.headers = std::time::Duration::from_secs(1);
    let error = Client::new(patient).upload(&server.reference("a/b"), &source, None, None).await.unwrap_err();
    assert!(told(&error).ends_with("context canceled"), "{}", told(&error));
}

#[tokio::test]
async fn credentials_do_not_follow_an_upload_to_another_host() {
    let elsewhere = Server::start(|_, _| answer("201 Created", &[], b""));
    let location = format!("http://127.0.0.1:{}/upload?state=x", elsewhere.port);
    let registry = Server::start(move |_, head| match head.contains("authorization: Basic") {
        true => answer("202 Accepted", &[("Location", &location)], b""),
        false => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
    });
    let open = |_| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(&b"data"[..])) };
    let identity = || Some((Digest::sha256(b"data"), 4));
    let source = Source { open: &open, size: Some(4), identity: &identity, progress: &|_| true };
    let credentials = Credentials::password("me", "hunter2");
    let client = Client::new(config());
    client.upload(&registry.reference("a/b"), &source, None, Some(&credentials)).await.unwrap();
    let head = elsewhere.head(0);
    assert!(
        head.starts_with(&format!("PUT /upload?state=x&digest={} HTTP/1.1\r\n", Digest::sha256(b"data"))),
        "{head}"
    );
    assert!(!head.to_lowercase().contains("authorization"), "{head}");
}

#[tokio::test]
async fn mounts_ask_for_the_right_to_read_the_source() {
    let server = Server::start(|_, head| {
        let port =
            head.to_lowercase().split("host: 127.0.0.1:").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let challenge = format!("Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"s\"");
        match head {
            _ if head.starts_with("GET /token") => answer("200 OK", &[], br#"{"token":"t"}"#),
            _ if head.contains("authorization: Bearer t\r\n") => answer("201 Created", &[], b""),
            _ => answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b""),
        }
    });
    let client = Client::new(config());
    let mounted = client.mount(&server.reference("a/b"), &Digest::sha256(b""), "c/d", None).await.unwrap();
    assert!(matches!(mounted, Mounted::Done));
    let asked = server.seen.lock().unwrap().iter().find(|head| head.starts_with("GET /token")).unwrap().clone();
    assert!(asked.contains("scope=repository%3Aa%2Fb%3Apull%2Cpush&scope=repository%3Ac%2Fd%3Apull"), "{asked}");
}
