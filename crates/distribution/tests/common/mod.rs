//! A server that answers as a test tells it to, and the clients for it.
#![allow(dead_code, reason = "each suite is an executable of its own and uses a part of this")]

use corten_base::Reference;
use corten_distribution::{Client, RegistryConfig, Timeouts};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server does with one request.
#[derive(Clone)]
pub enum Reply {
    /// These bytes, then the next request on the same connection.
    Keep(Vec<u8>),
    /// These bytes, then the end of the connection.
    Close(Vec<u8>),
    /// These bytes, then silence.
    Stall(Vec<u8>),
    /// These bytes, then the second ones for ever, with this pause in between.
    Repeat(Vec<u8>, Vec<u8>, Duration),
}

/// A complete answer.
pub fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    Reply::Keep(bytes(status, headers, body))
}

pub fn bytes(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}

/// The heads of the requests that came, oldest first.
pub type Seen = Arc<Mutex<Vec<String>>>;

pub struct Server {
    pub port: u16,
    pub seen: Seen,
    open: Arc<AtomicUsize>,
}

impl Server {
    /// `reply` gets the number of the request, from 0, and its head.
    pub fn start(reply: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Seen::default();
        let (reply, kept, open) = (Arc::new(reply), seen.clone(), Arc::new(AtomicUsize::new(0)));
        let counted = open.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (reply, seen, open) = (reply.clone(), seen.clone(), counted.clone());
                open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    converse(stream.unwrap(), &*reply, &seen);
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Server { port, seen: kept, open }
    }

    pub fn reference(&self, rest: &str) -> Reference {
        Reference::parse_normalized(&format!("127.0.0.1:{}/{rest}", self.port)).unwrap()
    }

    /// Connections that the client has not closed.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    pub fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub fn head(&self, number: usize) -> String {
        self.seen.lock().unwrap()[number].clone()
    }
}

fn converse(mut stream: TcpStream, reply: &(dyn Fn(usize, &str) -> Reply + Send + Sync), seen: &Seen) {
    while let Some(head) = read_head(&mut stream) {
        let number = {
            let mut seen = seen.lock().unwrap();
            seen.push(head.clone());
            seen.len() - 1
        };
        match reply(number, &head) {
            Reply::Keep(bytes) => {
                if stream.write_all(&bytes).is_err() {
                    return;
                }
            }
            Reply::Close(bytes) => {
                stream.write_all(&bytes).ok();
                return;
            }
            Reply::Stall(bytes) => {
                stream.write_all(&bytes).ok();
                // Until the client gives up.
                let _ = stream.read(&mut [0; 64]);
                return;
            }
            Reply::Repeat(first, again, pause) => {
                let mut next = stream.write_all(&first);
                while next.is_ok() {
                    std::thread::sleep(pause);
                    next = stream.write_all(&again);
                }
                return;
            }
        }
    }
}

/// A request's head; none at the end, and for TLS, which gets the answer that Go's plain servers give.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        if head.is_empty() && byte[0] == 0x16 {
            // All of it has to be read, or the answer would be lost with a reset.
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").ok();
            return None;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap();
    if let Some(length) = text.to_lowercase().split("content-length: ").nth(1) {
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        return Some(text + &String::from_utf8(body).unwrap());
    }
    Some(text)
}

pub fn config() -> RegistryConfig {
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        headers: Duration::from_millis(400),
        stall: Duration::from_millis(400),
        back_off: Duration::from_millis(10),
        mirror_rest: Duration::from_secs(60),
    };
    RegistryConfig { timeouts, ..RegistryConfig::default() }
}

pub fn client() -> Client {
    Client::new(config())
}

/// An error with its causes in one line, as the user reads it.
pub fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}
