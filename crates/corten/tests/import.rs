//! Images of what a web server has: redirects, errors in its words and ours, files that break off, don't end, or are no archive.

mod common;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{CORTEN, sound, spawn, told_as, wait_until};
use corten_testkit::image::{Packing, pack, tar};
use corten_testkit::{TestEngine, engine::docker_client, is_root, server};

/// What the server has done.
#[derive(Default)]
struct Seen {
    bytes: AtomicU64,
    endless_is_over: AtomicBool,
}

fn archive() -> Vec<u8> {
    tar(&[("etc/", b""), ("etc/motd", b"imported\n")])
}

/// A file system that is larger than what may be held in memory, and packs to little.
const LARGE: usize = 96 << 20;

fn answer(mut stream: TcpStream, seen: &Seen) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some((head, _)) = server::request(&mut reader)? else { return Ok(()) };
    let whole = |stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]| {
        write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n", body.len())?;
        stream.write_all(body)
    };
    let path = head.split_whitespace().nth(1).unwrap_or_default();
    match path.split('?').next().unwrap_or_default() {
        "/plain.tar" => whole(&mut stream, "200 OK", "", &archive()),
        "/packed" => whole(&mut stream, "200 OK", "Content-Type: text/plain\r\n", &pack(&archive(), Packing::Gzip)),
        "/zstd" => whole(&mut stream, "200 OK", "", &pack(&archive(), Packing::Zstd)),
        "/moved" => whole(&mut stream, "302 Found", "Location: plain.tar\r\n", b""),
        "/loop" => whole(&mut stream, "301 Moved Permanently", "Location: /loop\r\n", b""),
        "/secret" if head.contains("authorization: Basic bWU6cEBzcw==\r\n") => {
            whole(&mut stream, "200 OK", "", &archive())
        }
        "/secret" => whole(&mut stream, "401 Unauthorized", "", b"who are you?\n"),
        "/down" => whole(&mut stream, "503 Service Unavailable", "Retry-After: 1\r\n", b"later"),
        "/text" => whole(&mut stream, "200 OK", "", b"this is no archive, whatever it is called"),
        "/large" => whole(&mut stream, "200 OK", "", &tar(&[("zeros", &vec![0; LARGE])])),
        "/short" => {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
            stream.write_all(&archive()[..700])
        }
        "/chunked" => {
            write!(stream, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n")?;
            for piece in archive().chunks(1000) {
                write!(stream, "{:x}\r\n", piece.len())?;
                stream.write_all(piece)?;
                stream.write_all(b"\r\n")?;
            }
            stream.write_all(b"0\r\n\r\n")
        }
        "/endless" => {
            let sent = endless(&mut stream, seen);
            seen.endless_is_over.store(true, Ordering::SeqCst);
            sent
        }
        _ => whole(&mut stream, "404 Not Found", "", b"  nothing\x1b here \n"),
    }
}

/// A tar whose only file goes on for ever, as far as anybody can see.
fn endless(stream: &mut TcpStream, seen: &Seen) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
    let whole = tar(&[("a", &[7; 100])]);
    let mut header = whole[..512].to_vec();
    // The size: 8 GiB, less one, is what eleven octal digits can say.
    header[124..136].copy_from_slice(b"77777777777\0");
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    stream.write_all(&header)?;
    let piece = [7; 64 << 10];
    loop {
        stream.write_all(&piece)?;
        seen.bytes.fetch_add(piece.len() as u64, Ordering::SeqCst);
    }
}

fn serve(engine: &TestEngine) -> (String, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let kept = seen.clone();
    (format!("127.0.0.1:{}", engine.serve(move |stream| answer(stream, &kept))), seen)
}

#[test]
fn from_a_url() {
    if !is_root("from_a_url") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (host, _) = serve(&engine);
    for client in [docker_client(), CORTEN.into()] {
        let import = |path: &str, name: &str| {
            engine.client(client.clone(), &["import", "-c", "CMD x", &format!("http://{host}/{path}"), name], b"")
        };
        let first = import("plain.tar?x=1", "plain:1");
        let lines: Vec<&str> = first.ok().lines().collect();
        assert_eq!(lines[0].trim(), format!("Downloading from http://{host}/plain.tar?x=1"), "{first:?}");
        let id = engine.docker(&["inspect", "-f", "{{.Id}} {{.Comment}} {{.Config.Cmd}}", "plain:1"]);
        let expect = format!("Imported from http://{host}/plain.tar?x=1 [/bin/sh -c x]");
        assert_eq!(id.ok(), format!("{} {expect}", lines.last().expect("an id").trim()));
        for path in ["packed", "zstd", "moved", "chunked"] {
            import(path, path).ok();
            let layers = |name: &str| engine.docker(&["inspect", "-f", "{{.RootFS.Layers}}", name]);
            assert_eq!(layers(path).ok(), layers("plain:1").ok(), "{path}");
        }
        let failed = |path: &str, expect: &str| {
            import(path, "bad").fails(1, expect);
        };
        failed("absent", &format!("failed to GET http://{host}/absent with status 404 Not Found: nothing here"));
        failed("secret", &format!("failed to GET http://{host}/secret with status 401 Unauthorized: who are you?"));
        failed("down", &format!("failed to GET http://{host}/down with status 503 Service Unavailable: later"));
        failed("loop", &format!("Get \"http://{host}/loop\": stopped after 10 redirects"));
        failed("short", "unexpected EOF");
        failed("text", "failed to register layer of the archive");
        let url = format!("http://me:p%40ss@{host}/secret");
        let secret = engine.client(client.clone(), &["import", &url, "secret"], b"");
        assert!(secret.ok().contains(&format!("Downloading from http://{host}/secret")), "{secret:?}");
        let history = engine.docker(&["history", "--no-trunc", "secret"]);
        assert!(history.ok().contains(&format!("Imported from http://{host}/secret")), "{history:?}");
        engine
            .client(client.clone(), &["import", "http://127.0.0.1:1/x", "bad"], b"")
            .fails(1, "Get \"http://127.0.0.1:1/x\": dial tcp 127.0.0.1:1: connect: connection refused");
    }
    // What Docker's client takes for a file goes through the API.
    let create = |source: &str| engine.post(&format!("/images/create?fromSrc={source}&repo=api"), "");
    assert!(create(&format!("{host}/plain.tar")).starts_with("HTTP/1.1 200"));
    let ftp = create("ftp://a.test/x");
    assert!(ftp.starts_with("HTTP/1.1 400") && ftp.contains("unsupported protocol scheme"), "{ftp}");
    assert!(create(&format!("http://{host}/absent")).starts_with("HTTP/1.1 404"));
    // That nobody answers is no state of this daemon.
    let lookup = create("http://nosuch.invalid/x");
    assert!(lookup.starts_with("HTTP/1.1 500") && lookup.contains("dial tcp: lookup nosuch.invalid"), "{lookup}");
    let refused = create("http://127.0.0.1:1/x");
    assert!(refused.starts_with("HTTP/1.1 500") && refused.contains("connection refused"), "{refused}");
    let down = create(&format!("http://{host}/down"));
    assert!(down.contains("503 Service Unavailable") && down.starts_with("HTTP/1.1 500"), "{down}");
    assert_eq!(engine.docker(&["images", "-q", "bad"]).ok(), "");
    assert!(!engine.log().contains("p@ss") && !engine.log().contains("p%40ss"), "{}", engine.log());
    sound(&engine);
    engine.finish();
}

#[test]
fn the_events_of_an_import() {
    if !is_root("the_events_of_an_import") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let archive = engine.path().join("plain.tar");
    for (number, client) in [docker_client(), CORTEN.into()].into_iter().enumerate() {
        // Another image each time: the second takes the name of the first.
        std::fs::write(&archive, tar(&[("file", &[b'0' + number as u8])])).expect("writing an archive");
        let import = |name: &[&str]| {
            let arguments = [&["import", "-c", "LABEL k=v", archive.to_str().expect("UTF-8")], name].concat();
            let format = "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}} {{.Actor.Attributes.k}}";
            let mut id = String::new();
            let told = told_as(&engine, format, || {
                engine.client(client.clone(), &arguments, b"").ok().clone_into(&mut id);
            });
            (told, id)
        };
        // moby, daemon/images/image_import.go: the tag comes first, and the import is called by the id.
        let (told, id) = import(&["plain"]);
        assert_eq!(told, [format!("tag {id} plain:latest v"), format!("import {id} {id} v")]);
        let (told, id) = import(&[]);
        assert_eq!(told, [format!("import {id} {id} v")]);
        let told = told_as(&engine, "{{.Action}}", || {
            let failed = engine.client(client.clone(), &["import", "-c", "NONSENSE", "-", "plain"], b"x");
            failed.fails(1, "NONSENSE");
        });
        assert_eq!(told, [""; 0]);
    }
    engine.finish();
}

#[test]
fn files_that_do_not_end() {
    if !is_root("files_that_do_not_end") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--max-layer-size", "100m"]);
    let (host, seen) = serve(&engine);
    engine.corten(&["import", &format!("http://{host}/large"), "large"]).ok();
    let status = std::fs::read_to_string(format!("/proc/{}/status", engine.pid())).expect("the daemon lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of its memory");
    let peak: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak << 10 < LARGE, "the daemon has had {peak} kB in memory");
    let import = ["import", &format!("http://{host}/endless"), "endless"];
    engine.corten(&import).fails(1, "the archive has more than 104857600 bytes");
    wait_until("the server hears of it", || seen.endless_is_over.load(Ordering::SeqCst));
    assert!(seen.bytes.load(Ordering::SeqCst) < 160 << 20, "{} bytes were taken", seen.bytes.load(Ordering::SeqCst));
    // The same from a standard input that has no end.
    let stdin = engine.path().join("zeros");
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{{ head -c 512 {}; yes; }} | timeout 60 {CORTEN} import - endless", stdin.display()));
    let whole = tar(&[("a", &[7; 100])]);
    std::fs::write(&stdin, &whole[..512]).expect("writing a header");
    let output = command.env("DOCKER_HOST", engine.host()).output().expect("the client runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    sound(&engine);
    engine.finish();
}

#[test]
fn a_client_that_leaves_ends_the_download() {
    if !is_root("a_client_that_leaves_ends_the_download") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (host, seen) = serve(&engine);
    let mut client = spawn(&engine, CORTEN, &["import", &format!("http://{host}/endless"), "endless"]);
    wait_until("the download has begun", || seen.bytes.load(Ordering::SeqCst) > 0);
    client.kill().expect("killing the client");
    client.wait().expect("the client ends");
    wait_until("the server hears of it", || seen.endless_is_over.load(Ordering::SeqCst));
    wait_until("nothing is left", || engine.corten(&["system", "check"]).ok().ends_with("nothing is wrong"));
    assert_eq!(engine.docker(&["images", "-q", "endless"]).ok(), "");
    engine.finish();
}
