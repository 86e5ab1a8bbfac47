//! A registry that misbehaves: every answer ends in a clear error within bounds, or is made good.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Reply, Server, answer, bytes, client, config, told};
use corten_base::{Digest, ErrorKind, Reference};
use corten_distribution::{Client, Credentials, Descriptor, Error, Proxies, RegistryConfig, WebAddress};
use std::time::{Duration, Instant};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The error of resolving a tag, as told, and how many requests it took.
async fn refused(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> (Error, Server) {
    let server = Server::start(reply);
    let error = client().resolve(&server.reference("a/b:t"), None).await.unwrap_err();
    (error, server)
}

fn blob(data: &[u8]) -> Descriptor {
    Descriptor { media_type: "x".to_owned(), digest: Digest::sha256(data), size: data.len() as u64 }
}

async fn read(client: &Client, reference: &Reference, blob: &Descriptor, offset: u64) -> Result<Vec<u8>, Error> {
    let mut stream = client.blob(reference, blob, offset, None).await?;
    let mut data = Vec::new();
    while let Some(piece) = stream.chunk().await? {
        data.extend_from_slice(&piece);
    }
    Ok(data)
}

#[tokio::test]
async fn manifests_by_tag_and_digest() {
    let server = Server::start(|_, _| answer("200 OK", &[("Content-Type", &format!("{INDEX}; charset=utf-8"))], b"{}"));
    let client = client();
    let (descriptor, body) = client.resolve(&server.reference("a/b:t"), None).await.unwrap();
    assert_eq!((&descriptor.media_type[..], descriptor.size), (INDEX, 2));
    assert_eq!(descriptor.digest, Digest::sha256(b"{}"));
    assert_eq!(&body[..], b"{}");
    let head = server.head(0);
    assert!(head.starts_with("GET /v2/a/b/manifests/t HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{head}");
    let right = format!("a/b@{}", Digest::sha256(b"{}"));
    client.resolve(&server.reference(&right), None).await.unwrap();
    let wrong = Digest::sha256(b"other");
    let error = client.resolve(&server.reference(&format!("a/b@{wrong}")), None).await.unwrap_err();
    assert_eq!(error.to_string(), format!("manifest verification failed for digest {wrong}"));
}

#[tokio::test]
async fn dockers_texts() {
    let check =
        async |status: &'static str, header: Option<&'static str>, code: &'static str, message: &'static str| {
            let body = format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":null}}]}}"#);
            let server = Server::start(move |_, _| {
                let headers: Vec<_> = header.iter().map(|value| ("WWW-Authenticate", *value)).collect();
                answer(status, &headers, body.as_bytes())
            });
            let error = client().resolve(&server.reference("a/b:t"), None).await.unwrap_err();
            (error.kind(), error.to_string().replace(&server.port.to_string(), "PORT"))
        };
    assert_eq!(
        check("404 Not Found", None, "MANIFEST_UNKNOWN", "manifest unknown").await,
        (
            ErrorKind::NotFound,
            "manifest for 127.0.0.1:PORT/a/b:t not found: manifest unknown: manifest unknown".to_owned()
        )
    );
    assert_eq!(
        check("404 Not Found", None, "NAME_UNKNOWN", "repository name not known to registry").await.1,
        "repository 127.0.0.1:PORT/a/b not found: name unknown: repository name not known to registry"
    );
    let denied = "pull access denied for 127.0.0.1:PORT/a/b, repository does not exist or may require 'docker login': \
                  denied: requested access to the resource is denied";
    assert_eq!(check("403 Forbidden", None, "DENIED", "requested access to the resource is denied").await.1, denied);
    let unauthorized = check("401 Unauthorized", None, "UNAUTHORIZED", "authentication required").await;
    assert_eq!(unauthorized, (ErrorKind::Unauthorized, "unauthorized: authentication required".to_owned()));
    let (error, _) = refused(|_, _| answer("404 Not Found", &[], b"<html>")).await;
    assert!(error.to_string().ends_with("a/b:t not found: manifest unknown: manifest unknown"), "{error}");
    let (error, _) = refused(|_, _| answer("418 I'm a teapot", &[], b"")).await;
    assert_eq!(error.to_string(), "received unexpected HTTP status: 418 I'm a teapot");
}

#[tokio::test]
async fn nobody_there() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reference = Reference::parse_normalized(&format!("127.0.0.1:{port}/a")).unwrap();
    let error = client().resolve(&reference, None).await.unwrap_err();
    let text = format!("Get \"http://127.0.0.1:{port}/v2/\": dial tcp 127.0.0.1:{port}: connect: connection refused");
    assert!(told(&error).starts_with(&text), "{}", told(&error));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let secure = RegistryConfig { insecure: Vec::new(), ..config() };
    let reference = Reference::parse_normalized("registry.invalid/a").unwrap();
    let error = Client::new(secure).resolve(&reference, None).await.unwrap_err();
    assert!(told(&error).contains("dial tcp: lookup registry.invalid"), "{}", told(&error));
}

#[tokio::test]
async fn bodies_without_end() {
    let endless = |_: usize, _: &str| {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        Reply::Repeat(head, [b"10000\r\n".to_vec(), vec![b'x'; 65536], b"\r\n".to_vec()].concat(), Duration::ZERO)
    };
    let (error, _) = refused(endless).await;
    assert!(error.to_string().ends_with("is larger than 4194304 bytes"), "{error}");
    let (error, _) = refused(|_, _| answer("200 OK", &[], &vec![b'x'; 5 << 20])).await;
    assert!(error.to_string().ends_with("is larger than 4194304 bytes"), "{error}");
    let server = Server::start(endless);
    let error = read(&client(), &server.reference("a/b"), &blob(&[0; 100_000]), 0).await.unwrap_err();
    assert!(matches!(error, Error::Length { expected: 100_000, .. }), "{error}");
    // A length that can't be right is refused before the body is read.
    let server = Server::start(|_, _| Reply::Stall(bytes("200 OK", &[], &[0; 50])));
    let error = read(&client(), &server.reference("a/b"), &blob(&[0; 20]), 0).await.unwrap_err();
    assert!(matches!(error, Error::Length { expected: 20, actual: 50, .. }), "{error}");
}

#[tokio::test]
async fn bodies_cut_short() {
    let (error, server) = refused(|_, _| {
        let mut whole = bytes("200 OK", &[], &[b'x'; 1000]);
        whole.truncate(500);
        Reply::Close(whole)
    })
    .await;
    assert!(told(&error).ends_with("/v2/a/b/manifests/t\": unexpected EOF"), "{}", told(&error));
    assert_eq!(server.count(), 5);
    let (error, server) = refused(|_, _| Reply::Close(Vec::new())).await;
    assert!(told(&error).ends_with("unexpected EOF"), "{}", told(&error));
    assert_eq!(server.count(), 5);
}

#[tokio::test]
async fn silence_and_trickles() {
    let begun = Instant::now();
    let (error, _) = refused(|_, _| Reply::Stall(Vec::new())).await;
    assert!(told(&error).contains("waiting for the response took longer than 0.4 s"), "{}", told(&error));
    let (error, _) = refused(|_, _| Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n12".to_vec())).await;
    assert!(told(&error).contains("waiting for the body took longer than 0.4 s"), "{}", told(&error));
    let trickle = |_: usize, _: &str| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec();
        Reply::Repeat(head, b"x".to_vec(), Duration::from_millis(50))
    };
    let (error, _) = refused(trickle).await;
    assert!(told(&error).contains("reading the body took longer than 0.8 s"), "{}", told(&error));
    let server = Server::start(trickle);
    let error = read(&client(), &server.reference("a/b"), &blob(&[0; 100_000]), 0).await.unwrap_err();
    assert!(told(&error).contains("a trickling body took longer"), "{}", told(&error));
    // A slow head is a slow head, however it comes.
    let (error, _) =
        refused(|_, _| Reply::Repeat(b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".to_vec(), Duration::from_millis(50)))
            .await;
    assert!(told(&error).contains("waiting for the response took longer"), "{}", told(&error));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn heads_that_are_too_large() {
    for (name, size, count) in [("X-Large", 300_000, 1), ("X-Many", 1, 1000)] {
        let (error, _) = refused(move |_, _| {
            let value = "x".repeat(size);
            answer("200 OK", &vec![(name, &value[..]); count], b"{}")
        })
        .await;
        assert!(told(&error).contains("malformed HTTP response"), "{}", told(&error));
    }
    let (error, server) = refused(|_, _| Reply::Close(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec())).await;
    assert!(told(&error).contains("malformed HTTP response"), "{}", told(&error));
    assert_eq!(server.count(), 1);
}

#[tokio::test]
async fn redirects() {
    let (error, server) = refused(|_, _| answer("307 Temporary Redirect", &[("Location", "/v2/again")], b"")).await;
    assert!(told(&error).ends_with("stopped after 10 redirects"), "{}", told(&error));
    assert_eq!(server.count(), 11);
    for location in ["file:///etc/passwd", "http://user:pw@x/", "gopher://x", ""] {
        let (error, _) = refused(move |_, _| answer("302 Found", &[("Location", location)], b"")).await;
        let told = told(&error);
        assert!(told.contains("refused redirect") || told.contains("stopped after"), "{told}");
    }
    let (error, _) = refused(|_, _| answer("302 Found", &[], b"")).await;
    assert!(told(&error).contains("it has no location"), "{}", told(&error));
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let data = b"blob bytes";
    let elsewhere = Server::start(|_, _| answer("200 OK", &[], b"blob bytes"));
    let target = format!("http://127.0.0.1:{}/blob?signature=s", elsewhere.port);
    let server = Server::start(move |_, head| match head.contains("uthorization: Basic bWU6cHc=") {
        true if head.contains("/blobs/") => answer("307 Temporary Redirect", &[("Location", &target)], b""),
        true => answer("302 Found", &[("Location", "/v2/other")], b""),
        false => answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"r\"")], b""),
    });
    let me = Credentials::password("me", "pw");
    let client = client();
    let mut stream = client.blob(&server.reference("a/b"), &blob(data), 0, Some(&me)).await.unwrap();
    assert_eq!(&stream.chunk().await.unwrap().unwrap()[..], data);
    assert!(stream.chunk().await.unwrap().is_none());
    assert!(elsewhere.head(0).starts_with("GET /blob?signature=s "));
    assert!(!elsewhere.head(0).to_lowercase().contains("authorization"), "{}", elsewhere.head(0));
    // Within the registry they go along, and nowhere do they show.
    let error = client.resolve(&server.reference("a/b:t"), Some(&me)).await.unwrap_err();
    assert!(server.head(server.count() - 1).contains("uthorization: Basic"));
    assert!(!format!("{error:?} {}", told(&error)).contains("bWU6cHc"));
    let error = client.resolve(&server.reference("a/b:t"), None).await.unwrap_err();
    assert!(told(&error).ends_with("/v2/a/b/manifests/t\": no basic auth credentials"), "{}", told(&error));
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

/// A registry that asks for tokens, with itself as the token service that answers this.
fn with_tokens(status: &'static str, token: &'static [u8]) -> Server {
    Server::start(move |_, head| {
        if head.contains(" /token?") || head.contains(" /token ") {
            return answer(status, &[], token);
        }
        if head.contains("uthorization: Bearer good") {
            return answer("200 OK", &[("Content-Type", INDEX)], b"{}");
        }
        let host = head.to_lowercase().split("host: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:x:push\"");
        answer("401 Unauthorized", &[("WWW-Authenticate", &challenge)], b"")
    })
}

#[tokio::test]
async fn tokens() {
    let server = with_tokens("200 OK", br#"{"token":"good","expires_in":300}"#);
    let client = client();
    let me = Credentials::password("me", "pw");
    client.resolve(&server.reference("a/b:t"), Some(&me)).await.unwrap();
    let request = server.head(1);
    assert!(request.starts_with("GET /token?service=s&scope=repository%3Aa%2Fb%3Apull&account=me HTTP"), "{request}");
    assert!(request.contains("uthorization: Basic bWU6cHc="), "{request}");
    // Known by now, for this account only.
    client.resolve(&server.reference("a/b:u"), Some(&me)).await.unwrap();
    assert_eq!(server.count(), 4);
    client.resolve(&server.reference("a/b:u"), None).await.unwrap();
    assert_eq!(server.count(), 7);
    let server = with_tokens("200 OK", br#"{"access_token":"good"}"#);
    client.resolve(&server.reference("a/b:t"), Some(&Credentials::identity_token("refresh"))).await.unwrap();
    assert!(server.head(1).starts_with("POST /token HTTP"), "{}", server.head(1));
    assert!(server.head(1).contains("refresh_token=refresh"), "{}", server.head(1));
    client.resolve(&server.reference("c/d:t"), Some(&Credentials::registry_token("good"))).await.unwrap();
}

#[tokio::test]
async fn token_services_that_misbehave() {
    let check = async |status: &'static str, token: &'static [u8], expect: &str| {
        let server = with_tokens(status, token);
        let error = client().resolve(&server.reference("a/b:t"), Some(&Credentials::password("me", "hunter2"))).await;
        let error = error.unwrap_err();
        assert!(told(&error).contains(expect), "{}", told(&error));
        assert!(!format!("{error:?}{}", told(&error)).contains("hunter2"));
        assert!(server.count() <= 4, "{}", server.count());
    };
    check("200 OK", b"not json", "unable to decode the token service's answer").await;
    check("200 OK", b"{}", "authorization server did not include a token in the response").await;
    check("200 OK", br#"{"token":"a\r\nX: y"}"#, "characters that a header can't carry").await;
    check("200 OK", br#"{"token":"bad"}"#, "unauthorized: authentication required").await;
    check("200 OK", &[b'['; 100_000], "is larger than 65536 bytes").await;
    check(
        "401 Unauthorized",
        br#"{"details":"incorrect username or password"}"#,
        "unauthorized: incorrect username or password",
    )
    .await;
    let (error, server) =
        refused(|_, _| answer("401 Unauthorized", &[("WWW-Authenticate", "Bearer realm=\"x\"")], b"")).await;
    assert!(told(&error).contains("invalid token auth challenge realm"), "{}", told(&error));
    assert_eq!(server.count(), 1);
    let (error, _) = refused(|_, _| answer("401 Unauthorized", &[("WWW-Authenticate", "Negotiate")], b"")).await;
    assert!(told(&error).contains("unknown kind of authorization"), "{}", told(&error));
}

#[tokio::test]
async fn a_registry_that_never_accepts_is_asked_twice() {
    let me = Credentials::password("me", "hunter2");
    let server = Server::start(|_, _| answer("401 Unauthorized", &[("WWW-Authenticate", "Basic realm=\"r\"")], b""));
    let error = client().resolve(&server.reference("a/b:t"), Some(&me)).await.unwrap_err();
    assert_eq!((error.to_string().as_str(), server.count()), ("unauthorized: authentication required", 2));
    // With tokens that are worth nothing: one for each try, and no third try.
    let server = with_tokens("200 OK", br#"{"token":"worthless"}"#);
    for asked in 1..4 {
        let error = client().resolve(&server.reference("a/b:t"), Some(&me)).await.unwrap_err();
        assert!(!told(&error).contains("worthless") && !told(&error).contains("hunter2"), "{}", told(&error));
        assert_eq!(server.count(), 3 * asked);
    }
}

#[tokio::test]
async fn patience() {
    let server = Server::start(|number, _| match number {
        0 => answer("429 Too Many Requests", &[("Retry-After", "0")], b""),
        1 => answer("503 Service Unavailable", &[], b""),
        2 => Reply::Close(Vec::new()),
        _ => answer("200 OK", &[("Content-Type", INDEX)], b"{}"),
    });
    client().resolve(&server.reference("a/b:t"), None).await.unwrap();
    assert_eq!(server.count(), 4);
    let (error, server) = refused(|_, _| answer("503 Service Unavailable", &[], b"")).await;
    assert_eq!(error.to_string(), "received unexpected HTTP status: 503 Service Unavailable");
    assert_eq!((server.count(), error.kind()), (5, ErrorKind::Unavailable));
    let limited = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#;
    let (error, server) = refused(|_, _| answer("429 Too Many Requests", &[("Retry-After", "86400")], limited)).await;
    assert_eq!(error.to_string(), "toomanyrequests: You have reached your pull rate limit.");
    assert_eq!(server.count(), 1);
}

/// Bytes that differ everywhere.
fn sample(size: u32) -> Vec<u8> {
    (0..size / 4).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_ended() {
    for honours_range in [true, false] {
        let data = sample(400_000);
        let served = data.clone();
        let server = Server::start(move |number, head| {
            let asked =
                head.to_lowercase().split("range: bytes=").nth(1).map(|rest| rest.split('-').next().unwrap().parse());
            let start: usize = asked.map_or(0, Result::unwrap);
            let mut whole = if start > 0 && honours_range {
                let range = format!("bytes {start}-{}/{}", served.len() - 1, served.len());
                bytes("206 Partial Content", &[("Content-Range", &range)], &served[start..])
            } else {
                bytes("200 OK", &[], &served)
            };
            if number < 3 {
                whole.truncate(150_000);
                return Reply::Close(whole);
            }
            Reply::Keep(whole)
        });
        let client = client();
        let reference = server.reference("a/b");
        assert!(read(&client, &reference, &blob(&data), 0).await.unwrap() == data, "{honours_range}");
        assert!(server.head(1).to_lowercase().contains("range: bytes=149"), "{}", server.head(1));
        assert!(read(&client, &reference, &blob(&data), 300_001).await.unwrap() == data[300_001..]);
        assert_eq!(read(&client, &reference, &blob(&data), 400_000).await.unwrap(), b"");
    }
}

#[tokio::test]
async fn a_registry_that_begins_anew_in_crumbs() {
    let data = sample(256 << 10);
    let crumbs: Vec<u8> = data.iter().flat_map(|byte| [b'1', b'\r', b'\n', *byte, b'\r', b'\n']).collect();
    let served = data.clone();
    let server = Server::start(move |number, _| match number {
        0 => {
            let mut whole = bytes("200 OK", &[], &served);
            whole.truncate(250_000);
            Reply::Close(whole)
        }
        _ => {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            Reply::Keep([head, &crumbs[..], b"0\r\n\r\n"].concat())
        }
    });
    // All but the last bytes are here already, and come again one by one.
    assert!(read(&client(), &server.reference("a/b"), &blob(&data), 0).await.unwrap() == data);
    assert_eq!(server.count(), 2);
}

#[tokio::test]
async fn a_server_that_has_no_answer_without_the_manifest() {
    for status in ["405 Method Not Allowed", "500 Internal Server Error", "501 Not Implemented"] {
        let server = Server::start(move |_, _| Reply::Keep(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()));
        assert_eq!(client().head(&server.reference("a/b:t"), None).await.unwrap(), None, "{status}");
    }
    for (status, kind) in [("404 Not Found", ErrorKind::NotFound), ("403 Forbidden", ErrorKind::NotFound)] {
        let server = Server::start(move |_, _| Reply::Keep(format!("HTTP/1.1 {status}\r\n\r\n").into_bytes()));
        assert_eq!(client().head(&server.reference("a/b:t"), None).await.unwrap_err().kind(), kind, "{status}");
    }
}

#[tokio::test]
async fn lists_of_tags() {
    let page = |tags: std::ops::Range<usize>, next: bool| {
        let tags: Vec<String> = tags.map(|tag| format!("\"t{tag}\"")).collect();
        let link = [("Link", "</v2/a/b/tags/list?last=x>; rel=\"next\"")];
        answer("200 OK", if next { &link } else { &[] }, format!("{{\"tags\":[{}]}}", tags.join(",")).as_bytes())
    };
    // Each page has some of the last one again.
    let server = Server::start(move |number, _| page(number * 8000..number * 8000 + 10_000, number < 2));
    let tags = client().tags(&server.reference("a/b"), None).await.unwrap();
    assert_eq!((tags.len(), &tags[25_999][..], server.count()), (26_000, "t25999", 3));
    // The same page for ever.
    let server = Server::start(move |_, _| page(0..10, true));
    assert_eq!(client().tags(&server.reference("a/b"), None).await.unwrap().len(), 10);
    assert_eq!(server.count(), 2);
    // New ones for ever.
    let server = Server::start(move |number, _| page(number * 30_000..(number + 1) * 30_000, true));
    let error = client().tags(&server.reference("a/b"), None).await.unwrap_err();
    assert!(told(&error).ends_with("a/b: it has more than 100000 entries"), "{}", told(&error));
    assert_eq!(server.count(), 4);
}

#[tokio::test]
async fn redirects_to_ever_new_hosts_leave_few_connections() {
    let hosts: Vec<Server> = (0..40).map(|_| Server::start(|_, _| answer("200 OK", &[], b"{}"))).collect();
    let ports: Vec<u16> = hosts.iter().map(|host| host.port).collect();
    let server = Server::start(move |number, _| {
        answer("307 Temporary Redirect", &[("Location", &format!("http://127.0.0.1:{}/x", ports[number]))], b"")
    });
    let client = client();
    for _ in &hosts {
        client.resolve(&server.reference("a/b:t"), None).await.unwrap();
    }
    let open = || hosts.iter().map(Server::open).sum::<usize>();
    let begun = Instant::now();
    while open() > 32 && begun.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!((1..=32).contains(&open()), "{}", open());
}

#[tokio::test]
async fn downloads_that_never_get_on() {
    let server = Server::start(|_, head| {
        let mut whole = bytes("200 OK", &[], &[7; 1000]);
        if head.contains("bytes=") {
            whole = bytes("206 Partial Content", &[("Content-Range", "bytes 0-999/1000")], &[7; 1000]);
        }
        whole.truncate(whole.len() - 500);
        Reply::Close(whole)
    });
    let error = read(&client(), &server.reference("a/b"), &blob(&[7; 1000]), 0).await.unwrap_err();
    assert!(told(&error).contains("another range than 500"), "{}", told(&error));
    let server = Server::start(|_, _| {
        let mut whole = bytes("200 OK", &[], &[7; 1000]);
        whole.truncate(whole.len() - 500);
        Reply::Close(whole)
    });
    let error = read(&client(), &server.reference("a/b"), &blob(&[7; 1000]), 0).await.unwrap_err();
    assert!(told(&error).ends_with("unexpected EOF"), "{}", told(&error));
    assert_eq!(server.count(), 5);
    let server = Server::start(|_, _| {
        answer("404 Not Found", &[], br#"{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}"#)
    });
    let error = read(&client(), &server.reference("a/b"), &blob(b"x"), 0).await.unwrap_err();
    assert_eq!(
        (error.to_string(), error.kind()),
        ("blob unknown: blob unknown to registry".to_owned(), ErrorKind::NotFound)
    );
}

#[test]
fn the_blocking_reader_takes_only_what_is_read() {
    use std::io::Read as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let runs = std::thread::spawn(move || runtime.block_on(stopped));
    let data = sample(8 << 20);
    let served = data.clone();
    let server = Server::start(move |_, _| answer("200 OK", &[], &served));
    let blocking = client().blocking(handle);
    let reference = server.reference("a/b");
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (blocking, reference, blob) = (blocking.clone(), reference.clone(), blob(&data));
            std::thread::spawn(move || {
                let mut reader = blocking.blob(&reference, &blob, 0, None).unwrap();
                let mut start = vec![0; 1000];
                reader.read_exact(&mut start).unwrap();
                // The stall limit is for the registry, not for the reader.
                std::thread::sleep(Duration::from_millis(600));
                reader.read_to_end(&mut start).unwrap();
                start
            })
        })
        .collect();
    for reader in readers {
        assert!(reader.join().unwrap() == data);
    }
    stop.send(()).unwrap();
    runs.join().unwrap().unwrap();
}

#[tokio::test]
async fn through_a_proxy() {
    // As a tunnel it refuses, as a proxy of plain HTTP it is the registry itself.
    let proxy = Server::start(|_, head| match head.starts_with("CONNECT ") {
        true => Reply::Close(b"HTTP/1.1 403 No tunnels\r\n\r\n".to_vec()),
        false => answer("200 OK", &[("Content-Type", INDEX)], b"{}"),
    });
    let address = format!("http://me:hunter2@127.0.0.1:{}", proxy.port);
    let proxies = Proxies::new(Some(&address), Some(&address), "").unwrap();
    let config = RegistryConfig { proxies, insecure: vec!["registry.invalid:5000".parse().unwrap()], ..config() };
    let reference = Reference::parse_normalized("registry.invalid:5000/a/b:t").unwrap();
    Client::new(config.clone()).resolve(&reference, None).await.unwrap();
    assert!(proxy.head(0).starts_with("CONNECT registry.invalid:5000 HTTP/1.1\r\n"), "{}", proxy.head(0));
    assert!(proxy.head(0).contains("Proxy-Authorization: Basic bWU6aHVudGVyMg==\r\n"));
    let plain = proxy.head(1);
    assert!(plain.starts_with("GET http://registry.invalid:5000/v2/a/b/manifests/t HTTP/1.1\r\n"), "{plain}");
    let secure = RegistryConfig { insecure: Vec::new(), ..config };
    let error = Client::new(secure).resolve(&reference, None).await.unwrap_err();
    assert!(told(&error).ends_with("proxyconnect tcp: 403 No tunnels"), "{}", told(&error));
    assert!(!format!("{error:?}").contains("hunter2"));
}

#[tokio::test]
async fn web_servers() {
    let download = async |reply: Reply| {
        let server = Server::start(move |_, _| reply.clone());
        let address = WebAddress::parse(&format!("http://127.0.0.1:{}/x", server.port)).unwrap();
        let mut file = client().download(&address).await.map_err(|error| told(&error))?;
        let mut bytes = 0;
        while let Some(piece) = file.chunk().await.map_err(|error| told(&error))? {
            bytes += piece.len();
        }
        Ok::<_, String>((bytes, server.count()))
    };
    assert_eq!(download(answer("200 OK", &[], b"123")).await, Ok((3, 1)));
    let check = async |reply: Reply, expect: &str| {
        let error = download(reply).await.unwrap_err();
        assert!(error.contains(expect), "{error}");
    };
    check(Reply::Stall(Vec::new()), "waiting for the response took longer than 0.4 s").await;
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n".to_vec();
    check(Reply::Stall(head.clone()), "waiting for the body took longer than 0.4 s").await;
    check(Reply::Close(head.clone()), "unexpected EOF").await;
    check(Reply::Repeat(head, b"x".to_vec(), Duration::from_millis(50)), "a trickling body took longer").await;
    let bad = b"HTTP/1.1 500 Oh no\r\nConnection: close\r\n\r\n".to_vec();
    check(Reply::Repeat(bad, vec![b'x'; 60_000], Duration::ZERO), "with status 500 Internal Server Error: ").await;
    check(Reply::Close(b"SSH-2.0-OpenSSH_9.9\r\n\r\n".to_vec()), "malformed HTTP response").await;
}
