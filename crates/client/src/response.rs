//! Reading a response: head, then a body by length, in chunks or to the end of the connection (RFC 9112).

use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd};

use serde::de::DeserializeOwned;

use crate::connection::{Connection, broken};
use crate::{Client, Error, Result};

const MAX_HEAD: usize = 256 * 1024;

/// A response's status and header fields; names in lower case.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    pub(crate) fn read(connection: &mut Connection) -> Result<Head> {
        loop {
            let head = Head::read_one(connection)?;
            // 100 Continue and its kin announce nothing that a client here waits for.
            if head.status == 101 || head.status >= 200 {
                return Ok(head);
            }
        }
    }

    fn read_one(connection: &mut Connection) -> Result<Head> {
        let mut budget = MAX_HEAD;
        let first = read_line(connection, &mut budget)?;
        let status = parse_status(&first).ok_or_else(|| Error::Protocol(format!("unexpected first line {first:?}")))?;
        let mut fields = Vec::new();
        loop {
            let line = read_line(connection, &mut budget)?;
            if line.is_empty() {
                return Ok(Head { status, fields });
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| Error::Protocol(format!("malformed header {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn content_type(&self) -> &str {
        self.field("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim()
    }

    fn framing(&self, is_head: bool) -> Framing {
        if is_head || self.status == 204 || self.status == 304 {
            return Framing::Length(0);
        }
        if self.field("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Framing::Chunk(0);
        }
        match self.field("content-length").map(str::parse) {
            Some(Ok(length)) => Framing::Length(length),
            _ => Framing::ToEnd,
        }
    }
}

fn parse_status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn read_line(connection: &mut Connection, budget: &mut usize) -> Result<String> {
    let mut line = Vec::new();
    let mut limited = connection.take(*budget as u64);
    limited.read_until(b'\n', &mut line).map_err(broken("reading the answer"))?;
    *budget -= line.len();
    if line.pop() != Some(b'\n') {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended within the answer's head");
        return Err(Error::Broken { during: "reading the answer", source });
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|_| Error::Protocol("the head is not UTF-8".to_owned()))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    /// Bytes left in the current chunk; 0 before the next chunk's size line.
    Chunk(u64),
    ToEnd,
    Done,
}

/// A response whose body is read as it arrives ([`Read`], [`BufRead`]). When the body has been read to its end, the
/// connection serves the next request.
#[derive(Debug)]
pub struct Response<'a> {
    client: &'a Client,
    head: Head,
    framing: Framing,
    connection: Option<Connection>,
}

impl<'a> Response<'a> {
    pub(crate) fn new(client: &'a Client, connection: Connection, head: Head, is_head: bool) -> Response<'a> {
        let framing = head.framing(is_head);
        let mut response = Response { client, head, framing, connection: Some(connection) };
        if response.framing == Framing::Length(0) {
            response.finish();
        }
        response
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// A header field's value; the name in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    /// True when the body is Docker's multiplexed stream of stdout and stderr.
    pub fn is_multiplexed(&self) -> bool {
        self.head.content_type() == "application/vnd.docker.multiplexed-stream"
    }

    /// True when part of the body has arrived and waits in the buffer, so that polling the descriptor would miss it.
    pub fn has_buffered(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| !connection.buffer().is_empty())
    }

    /// The descriptor to poll for the rest of the body; none when the body is complete.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.connection.as_ref().map(|connection| connection.get_ref().as_fd())
    }

    /// Reads the whole body.
    pub fn bytes(mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.read_to_end(&mut body).map_err(broken("reading the answer"))?;
        Ok(body)
    }

    /// Reads the whole body as JSON; `null` counts as absent.
    pub fn json<T: DeserializeOwned>(self) -> Result<T> {
        corten_api_types::decode(&self.bytes()?).map_err(Error::Decode)
    }

    /// Reads and drops the rest of the body.
    pub fn discard(self) -> Result<()> {
        self.bytes().map(drop)
    }

    pub(crate) fn into_error(self) -> Error {
        let status = self.status();
        let is_json = self.head.content_type() == "application/json";
        let body = match self.bytes() {
            Ok(body) => body,
            Err(error) => return error,
        };
        #[derive(serde::Deserialize)]
        struct Message {
            message: String,
        }
        let message = match serde_json::from_slice::<Message>(&body) {
            Ok(parsed) if is_json => parsed.message.trim().to_owned(),
            _ => String::from_utf8_lossy(&body).trim().to_owned(),
        };
        let message = if message.is_empty() { format!("request returned status {status}") } else { message };
        Error::Api { status, message }
    }

    fn finish(&mut self) {
        let reusable = self.framing != Framing::ToEnd
            && !self.head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.framing = Framing::Done;
        if let Some(connection) = self.connection.take().filter(|_| reusable) {
            self.client.give_back(connection);
        }
    }

    /// Reads size lines until a chunk has bytes left, or the last chunk and its trailer are consumed.
    fn next_chunk(&mut self) -> io::Result<()> {
        let Some(connection) = self.connection.as_mut() else { return Ok(()) };
        let size = loop {
            let line = chunk_line(connection)?;
            if !line.is_empty() {
                break line;
            }
        };
        let size = size.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(size, 16)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("malformed chunk size {size:?}")))?;
        self.framing = Framing::Chunk(size);
        if size == 0 {
            while !chunk_line(connection)?.is_empty() {}
            self.finish();
        }
        Ok(())
    }
}

fn chunk_line(connection: &mut Connection) -> io::Result<String> {
    let mut line = String::new();
    connection.take(4096).read_line(&mut line)?;
    if !line.ends_with('\n') {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
    }
    Ok(line.trim_end().to_owned())
}

impl Read for Response<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let length = available.len().min(buffer.len());
        buffer[..length].copy_from_slice(&available[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Response<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.framing == Framing::Chunk(0) {
            self.next_chunk()?;
        }
        let limit = match self.framing {
            Framing::Done | Framing::Length(0) => return Ok(&[]),
            Framing::Length(left) | Framing::Chunk(left) => left,
            Framing::ToEnd => u64::MAX,
        };
        let Some(connection) = self.connection.as_mut() else { return Ok(&[]) };
        let available = connection.fill_buf()?;
        if available.is_empty() && self.framing != Framing::ToEnd {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"));
        }
        let length = available.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(&available[..length])
    }

    fn consume(&mut self, amount: usize) {
        if let Some(connection) = self.connection.as_mut() {
            connection.consume(amount);
        }
        match &mut self.framing {
            Framing::Length(left) => {
                *left -= amount as u64;
                if *left == 0 {
                    self.finish();
                }
            }
            Framing::Chunk(left) => *left -= amount as u64,
            Framing::ToEnd | Framing::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::{Endpoint, Stream};

    /// Reads a response whose bytes arrive in pieces of `size`; returns status, body, and whether the connection was kept.
    fn read(raw: &[u8], size: usize) -> Result<(u16, Vec<u8>, bool)> {
        let (ours, mut theirs) = UnixStream::pair().expect("pair");
        let raw = raw.to_owned();
        let writer = std::thread::spawn(move || {
            for piece in raw.chunks(size) {
                theirs.write_all(piece).expect("pipe");
            }
            // Kept open for kept connections; bodies without a length end here.
            theirs.shutdown(std::net::Shutdown::Write).expect("pipe");
            theirs
        });
        let client = Client::new(Endpoint::default_socket());
        let mut connection = BufReader::new(Stream::Unix(ours));
        let head = Head::read(&mut connection)?;
        let response = Response::new(&client, connection, head, false);
        let status = response.status();
        let body = response.bytes();
        drop(writer.join());
        Ok((status, body?, client.has_idle()))
    }

    fn check(raw: &str, expect: &str, kept: bool) {
        for size in [1, 3, 1000] {
            let (_, body, is_kept) = read(raw.as_bytes(), size).expect("valid");
            assert_eq!((String::from_utf8_lossy(&body).as_ref(), is_kept), (expect, kept), "{raw:?}");
        }
    }

    #[test]
    fn framings() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "hello", true);
        check("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "", true);
        check("HTTP/1.1 204 No Content\r\n\r\n", "", true);
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "x", true);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nT: t\r\n\r\n",
            "abc0123456789",
            true,
        );
        check("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", false);
        check("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "x", false);
    }

    #[test]
    fn broken_answers() {
        for raw in [
            "",
            "HTTP/1.1 200",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert!(read(raw.as_bytes(), 1000).is_err(), "{raw:?}");
        }
    }
}
