//! The client: one endpoint, one idle connection kept for the next request, and hijacked streams.

use std::cell::{Cell, RefCell};
use std::io::{self, BufReader, Read, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::{API_VERSION, ConfigFile, Endpoint, Error, Request, Result, Stream};

/// A buffered connection; bytes that arrived behind a response's head stay in its buffer.
pub(crate) type Connection = BufReader<Stream>;

/// A client of one daemon. Not shared between threads; every request blocks.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    version: RefCell<String>,
    version_is_fixed: Cell<bool>,
    headers: Vec<(String, String)>,
    idle: RefCell<Vec<Connection>>,
}

impl Client {
    /// A client of `endpoint`. Nothing is connected yet.
    pub fn new(endpoint: Endpoint) -> Client {
        Client {
            endpoint,
            version: RefCell::new(API_VERSION.to_owned()),
            version_is_fixed: Cell::new(false),
            headers: Vec::new(),
            idle: RefCell::new(Vec::new()),
        }
    }

    /// Adds the headers that the configuration file wants in every request.
    pub fn with_config(mut self, config: &ConfigFile) -> Client {
        self.headers.extend(config.http_headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self
    }

    /// Pins the API version (`DOCKER_API_VERSION`): the client then never steps down by itself.
    pub fn with_version(self, version: &str) -> Client {
        self.version.replace(version.trim_start_matches('v').to_owned());
        self.version_is_fixed.set(true);
        self
    }

    /// Where this client connects to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API version of the next request, as `1.51`.
    pub fn version(&self) -> String {
        self.version.borrow().clone()
    }

    /// Starts a GET request of a path such as `/containers/json`.
    pub fn get(&self, path: &str) -> Request<'_> {
        Request::new(self, "GET", path)
    }

    /// Starts a POST request.
    pub fn post(&self, path: &str) -> Request<'_> {
        Request::new(self, "POST", path)
    }

    /// Starts a PUT request.
    pub fn put(&self, path: &str) -> Request<'_> {
        Request::new(self, "PUT", path)
    }

    /// Starts a HEAD request.
    pub fn head(&self, path: &str) -> Request<'_> {
        Request::new(self, "HEAD", path)
    }

    /// Starts a DELETE request.
    pub fn delete(&self, path: &str) -> Request<'_> {
        Request::new(self, "DELETE", path)
    }

    /// Connects, so that an absent daemon is noticed before anything else is done; the connection serves the next request.
    pub fn connect(&self) -> Result<()> {
        let connection = self.take_connection()?;
        self.give_back(connection);
        Ok(())
    }

    pub(crate) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// An idle connection that is still alive, else a new one.
    pub(crate) fn take_connection(&self) -> Result<Connection> {
        while let Some(connection) = self.idle.borrow_mut().pop() {
            if is_quiet(connection.get_ref()) {
                return Ok(connection);
            }
        }
        Ok(BufReader::with_capacity(16 * 1024, Stream::connect(&self.endpoint)?))
    }

    pub(crate) fn give_back(&self, connection: Connection) {
        self.idle.borrow_mut().push(connection);
    }

    #[cfg(test)]
    pub(crate) fn has_idle(&self) -> bool {
        !self.idle.borrow().is_empty()
    }

    /// Takes over the version that an older daemon names in its refusal. False when there is nothing to try.
    pub(crate) fn step_down(&self, message: &str) -> bool {
        let named = message.split_once("Maximum supported API version is ").map(|(_, version)| version.trim());
        match named {
            Some(version) if !self.version_is_fixed.replace(true) => {
                self.version.replace(version.to_owned());
                true
            }
            _ => false,
        }
    }
}

/// An idle connection must have nothing to read: bytes or an end there mean that the daemon has closed it.
fn is_quiet(stream: &Stream) -> bool {
    let mut fds = [PollFd::new(stream, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

/// A connection that has left HTTP behind: bytes of a container's streams in both directions.
#[derive(Debug)]
pub struct Hijacked {
    connection: Connection,
    is_multiplexed: bool,
}

impl Hijacked {
    pub(crate) fn new(connection: Connection, is_multiplexed: bool) -> Hijacked {
        Hijacked { connection, is_multiplexed }
    }

    /// True when the daemon announced Docker's multiplexed format; false means raw, or a daemon that does not say.
    pub fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    /// Bytes that have arrived already; they must be read before the descriptor is polled.
    pub fn has_buffered(&self) -> bool {
        !self.connection.buffer().is_empty()
    }

    /// Ends the input; output goes on.
    pub fn close_write(&self) -> io::Result<()> {
        self.connection.get_ref().close_write()
    }

    /// Makes reads and writes return `WouldBlock`.
    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        self.connection.get_ref().set_nonblocking(on)
    }
}

impl Read for Hijacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.connection.read(buffer)
    }
}

impl Write for Hijacked {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.connection.get_mut().write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Hijacked {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.connection.get_ref().as_fd()
    }
}

pub(crate) fn broken(during: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Broken { during, source }
}
