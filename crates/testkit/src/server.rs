//! A server of a test's own inside an engine's network: registries, web servers and proxies that behave as the test wants.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use corten_sys::netlink::netns::run_in;

use crate::TestEngine;

impl TestEngine {
    /// Listens on 127.0.0.1 inside the engine's network, at the port that is the answer. Each connection is handled on a thread
    /// of its own; that it broke is nobody's concern. Ends with the test's process.
    pub fn serve(&self, handle: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + Clone + 'static) -> u16 {
        let namespace = File::open(format!("/proc/{}/ns/net", self.namespace_pid())).expect("opening the namespace");
        let listener = run_in(namespace.as_fd(), || TcpListener::bind("127.0.0.1:0")).and_then(|bound| bound);
        let listener = listener.expect("listening inside the engine's network");
        let port = listener.local_addr().expect("the listener has an address").port();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let handle = handle.clone();
                std::thread::spawn(move || drop(handle(stream)));
            }
        });
        port
    }

    /// Connects to an address inside the engine's network.
    pub fn connect(&self, address: &str) -> io::Result<TcpStream> {
        connect_in(self.namespace_pid(), address)
    }
}

/// Connects to an address inside the network of the process `pid`: what a handler that lives longer than its engine may do.
pub fn connect_in(pid: u32, address: &str) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    run_in(namespace.as_fd(), || TcpStream::connect(address))?
}

/// An authority (`ca.pem`), and certificates of it with their keys: `server` for an IP address, and `client`.
pub fn certificates(at: &Path, address: &str) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(at).output().expect("openssl starts");
        assert!(made.status.success(), "{arguments}: {}", String::from_utf8_lossy(&made.stderr));
    };
    openssl("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.pem");
    for (name, usage) in [
        ("server", format!("subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth\n")),
        ("client", "subjectAltName=DNS:me\nextendedKeyUsage=clientAuth\n".to_owned()),
    ] {
        std::fs::write(at.join("names"), usage).expect("writing a certificate's names");
        openssl(&format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out request.pem"));
        openssl(&format!("x509 -req -in request.pem -CA ca.pem -CAkey ca.key -days 2 -extfile names -out {name}.pem"));
    }
}

/// A request's head up to and with its empty line, and its body by `Content-Length`; none when the other side is done or
/// speaks no HTTP.
pub fn request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 || line[0] == 0x16 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line);
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    io::Read::read_exact(reader, &mut body)?;
    Ok(Some((head, body)))
}
