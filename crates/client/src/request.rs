//! Building a request and writing it: the head and a JSON body in one write, or an upload in chunks from a thread.

use std::fmt::Write as _;
use std::io::{self, Read, Write};

use serde::Serialize;

use crate::connection::{Connection, broken};
use crate::response::Head;
use crate::{Client, Error, Hijacked, Response, Result, Stream};

const UPLOAD_CHUNK: usize = 128 * 1024;

/// A request being built. Nothing is sent before [`send`](Self::send), [`start`](Self::start), [`upload`](Self::upload) or
/// [`hijack`](Self::hijack).
#[derive(Debug)]
pub struct Request<'a> {
    client: &'a Client,
    method: &'static str,
    path: String,
    headers: String,
    body: Option<Vec<u8>>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(client: &'a Client, method: &'static str, path: &str) -> Request<'a> {
        Request { client, method, path: path.to_owned(), headers: String::new(), body: None }
    }

    /// Adds `name=value` to the query, percent-encoded.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path.push_str(name);
        self.path.push('=');
        encode_into(&mut self.path, value);
        self
    }

    /// Adds `name=1` when `on`.
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.query(name, "1") } else { self }
    }

    /// Adds `name=value` when there is a value that is not empty.
    pub fn query_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) if !value.is_empty() => self.query(name, value),
            _ => self,
        }
    }

    /// Adds a header; a value that would break the head is left out.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if !value.contains(['\r', '\n']) {
            let _ = write!(self.headers, "{name}: {value}\r\n");
        }
        self
    }

    /// Sets a JSON body.
    pub fn json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(serde_json::to_vec(body).expect("request types always serialise"));
        self.header("Content-Type", "application/json")
    }

    /// Sends the request and reads the response's head. Error statuses become [`Error::Api`].
    pub fn send(self) -> Result<Response<'a>> {
        self.start()?.receive()
    }

    /// Sends the request without waiting for its response, so that several can be under way on connections of their own.
    pub fn start(self) -> Result<Pending<'a>> {
        let mut connection = self.client.take_connection()?;
        self.write_to(connection.get_mut(), "").map_err(broken("sending the request"))?;
        Ok(Pending { request: self, connection })
    }

    /// Sends the request with everything that `source` yields as its body, while the response is read: the daemon reports
    /// progress before it has read the whole body.
    pub fn upload(self, source: impl Read + Send + 'static) -> Result<Response<'a>> {
        let mut connection = self.client.take_connection()?;
        let fields = "Transfer-Encoding: chunked\r\n";
        self.write_to(connection.get_mut(), fields).map_err(broken("sending the request"))?;
        let stream = connection.get_ref().try_clone().map_err(broken("sending the request"))?;
        std::thread::spawn(move || {
            // When the daemon refuses early, writing fails; its answer says why, so this error is not needed.
            let _ = write_chunks(stream, source);
        });
        Pending { request: self, connection }.receive()
    }

    /// Sends the request and takes over the connection for a container's streams.
    pub fn hijack(self) -> Result<Hijacked> {
        self.start_hijack()?.receive_hijacked()
    }

    /// Like [`hijack`](Self::hijack), without waiting for the daemon's agreement yet.
    pub fn start_hijack(self) -> Result<Pending<'a>> {
        let mut connection = self.client.take_connection()?;
        self.write_to(connection.get_mut(), "Connection: Upgrade\r\nUpgrade: tcp\r\n")
            .map_err(broken("sending the request"))?;
        Ok(Pending { request: self, connection })
    }

    /// The whole head and body leave in one write: one wake-up of the daemon, one packet on TCP.
    fn write_to(&self, stream: &mut Stream, fields: &str) -> io::Result<()> {
        let body = self.body.as_deref().unwrap_or_default();
        let mut head = String::with_capacity(256 + body.len());
        let _ = write!(
            head,
            "{} /v{}{} HTTP/1.1\r\nHost: api.moby.localhost\r\n",
            self.method,
            self.client.version(),
            self.path
        );
        head.push_str("User-Agent: Corten-Client/");
        head.push_str(env!("CARGO_PKG_VERSION"));
        head.push_str(" (linux)\r\n");
        for (name, value) in self.client.headers() {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str(&self.headers);
        head.push_str(fields);
        let chunked = fields.starts_with("Transfer-Encoding");
        if !chunked && (self.body.is_some() || self.method == "POST" || self.method == "PUT") {
            let _ = write!(head, "Content-Length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        stream.write_all(&bytes)
    }
}

/// A request that is on its way.
#[derive(Debug)]
pub struct Pending<'a> {
    request: Request<'a>,
    connection: Connection,
}

impl<'a> Pending<'a> {
    /// Reads the response's head. A daemon that is too old is asked again with the version it names.
    pub fn receive(mut self) -> Result<Response<'a>> {
        let head = Head::read(&mut self.connection)?;
        let response = Response::new(self.request.client, self.connection, head, self.request.method == "HEAD");
        if response.status() < 400 {
            return Ok(response);
        }
        match response.into_error() {
            Error::Api { status: 400, message } if self.request.client.step_down(&message) => self.request.send(),
            error => Err(error),
        }
    }

    /// Reads the head and takes over the connection.
    pub fn receive_hijacked(mut self) -> Result<Hijacked> {
        let head = Head::read(&mut self.connection)?;
        if head.status == 101 || head.status == 200 {
            let multiplexed = head.content_type() == "application/vnd.docker.multiplexed-stream";
            return Ok(Hijacked::new(self.connection, multiplexed));
        }
        match Response::new(self.request.client, self.connection, head, false).into_error() {
            Error::Api { status: 400, message } if self.request.client.step_down(&message) => self.request.hijack(),
            error => Err(error),
        }
    }
}

fn write_chunks(mut stream: Stream, mut source: impl Read) -> io::Result<()> {
    let mut buffer = vec![0; UPLOAD_CHUNK];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // A body that ends without its last chunk is a broken body to the daemon, which is the truth.
            Err(error) => {
                let _ = stream.close_write();
                return Err(error);
            }
        };
        stream.write_all(format!("{length:x}\r\n").as_bytes())?;
        stream.write_all(&buffer[..length])?;
        stream.write_all(b"\r\n")?;
        if length == 0 {
            return Ok(());
        }
    }
}

/// Percent-encodes what is not unreserved in a URL's query.
fn encode_into(path: &mut String, value: &str) {
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                path.push(char::from(byte))
            }
            _ => {
                let _ = write!(path, "%{byte:02X}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoint;

    #[test]
    fn queries() {
        let client = Client::new(Endpoint::default_socket());
        let request =
            client.get("/images/json").query("filters", r#"{"a":{"b c":true}}"#).flag("all", true).flag("x", false);
        assert_eq!(request.path, "/images/json?filters=%7B%22a%22:%7B%22b%20c%22:true%7D%7D&all=1");
    }

    #[test]
    fn header_injection_is_dropped() {
        let client = Client::new(Endpoint::default_socket());
        assert_eq!(client.get("/x").header("A", "b\r\nC: d").headers, "");
    }
}
