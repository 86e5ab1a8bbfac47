use super::*;
use crate::hijack;
use crate::response;
use crate::upgrade::MARK;
use corten_engine::Attached;
use hyper::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// `/echo` takes the connection over and gives the input back, `/held` sends its head at once and its body never,
/// everything else is `204`.
async fn answer(request: Request<Upload>, between: Arc<Between>) -> Response {
    match request.uri().path() {
        "/containers/a/attach" => {
            let (ours, theirs) = UnixStream::pair().unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = ours.into_split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
            let attached =
                Attached { tty: false, log: None, stream: Some(theirs), keys: None, end: None, detach: None };
            let begin = |client, early| {
                let session: hijack::Session = Box::pin(hijack::attached(client, early, attached));
                session
            };
            hijack::take_over(request, &between, hijack::MULTIPLEXED, begin).unwrap()
        }
        "/held" => response::pieces("application/json", |sender| async move {
            std::future::pending::<()>().await;
            sender.send("x").await
        }),
        "/refused" => {
            drop(request);
            response::empty(StatusCode::BAD_REQUEST)
        }
        "/upload" => {
            let body = request.into_body();
            response::pieces("application/json", |sender| async move {
                sender.send("begun ").await?;
                let body = http_body_util::BodyExt::collect(body).await.map_err(|_| crate::body::Gone)?;
                sender.send(body.to_bytes()).await
            })
        }
        _ => response::empty(StatusCode::NO_CONTENT),
    }
}

fn connect() -> (UnixStream, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let (client, server) = UnixStream::pair().unwrap();
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(ClientStream::Unix(server), answer, stopped));
    (client, stop, server)
}

async fn head(client: &mut UnixStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn an_upgrade_is_a_raw_stream() {
    let (mut client, _stop, server) = connect();
    let request = "POST /containers/a/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101 UPGRADED\r\n"), "{head}");
    for line in ["content-type: application/vnd.docker.multiplexed-stream", "connection: upgrade", "upgrade: tcp"] {
        assert!(head.to_ascii_lowercase().contains(line), "{head}");
    }
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut echo = String::new();
    client.read_to_string(&mut echo).await.unwrap();
    assert_eq!(echo, "hello");
    server.await.unwrap();
}

#[tokio::test]
async fn the_old_style_is_one_too() {
    let (mut client, _stop, server) = connect();
    client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 204 "));
    client.write_all(b"POST /containers/a/attach HTTP/1.1\r\nHost: d\r\n\r\nearly ").await.unwrap();
    let head = head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("upgrade") && !head.to_ascii_lowercase().contains(MARK), "{head}");
    client.write_all(b"hello").await.unwrap();
    client.shutdown().await.unwrap();
    let mut echo = String::new();
    client.read_to_string(&mut echo).await.unwrap();
    assert_eq!(echo, "early hello");
    server.await.unwrap();
}

#[tokio::test]
async fn heads_are_sent_before_bodies_are_there() {
    let (mut client, _stop, _server) = connect();
    client.write_all(b"GET /held HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.to_ascii_lowercase().contains("transfer-encoding: chunked"));
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_server() {
    let (mut client, stop, server) = connect();
    client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    head(&mut client).await;
    stop.send(true).unwrap();
    server.await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let (mut client, _stop, server) = connect();
    client.write_all(b"\x16\x03\x01 what\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    server.await.unwrap();
}

/// What is uploaded while the answer has begun is no request, whatever it looks like.
#[tokio::test]
async fn an_upload_is_left_alone() {
    let (mut client, _stop, _server) = connect();
    client.write_all(b"POST /upload HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    head(&mut client).await;
    let piece = "POST /containers/{a}/attach HTTP/1.1\r\n\r\n";
    client.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    client.write_all(piece.as_bytes()).await.unwrap();
    client.write_all(b"\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert!(text.contains(piece) && text.contains("HTTP/1.1 204"), "{text}");
}

/// A client that still writes when it is refused sees the answer, and the connection goes on.
#[tokio::test]
async fn a_refused_body_is_read() {
    let (mut client, _stop, _server) = connect();
    client.write_all(b"POST /refused HTTP/1.1\r\nHost: d\r\nContent-Length: 100000\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 400 "));
    client.write_all(&[b'P'; 99_990]).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    client.write_all(b"POST {x}\r\n").await.unwrap();
    client.write_all(b"GET /x HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
    assert!(head(&mut client).await.starts_with("HTTP/1.1 204 "));
}
