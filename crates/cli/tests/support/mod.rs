//! A daemon of scripted answers on a Unix socket, and the client run against it in an empty environment.
#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

/// A request as the daemon saw it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// Without the version, with the query.
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

/// What the daemon does with a request.
pub enum Reply {
    /// A status and a JSON body.
    Json(u16, String),
    /// JSON lines in chunks.
    Lines(Vec<String>),
    /// Bytes in one chunk with a content type.
    Bytes(&'static str, Vec<u8>),
    /// 101, these bytes, then what the client sends up to its end is echoed in a stdout frame if asked for; then the end.
    Hijack { bytes: Vec<u8>, echo: bool },
    /// 204
    Empty,
}

pub type Script = Box<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The daemon. It ends with the test's process.
pub struct Daemon {
    pub directory: tempfile::TempDir,
    pub seen: Arc<Mutex<Vec<Request>>>,
}

impl Daemon {
    pub fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Daemon {
        let directory = tempfile::tempdir().expect("temp dir");
        let listener = UnixListener::bind(directory.path().join("d.sock")).expect("bind");
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let script: Arc<Script> = Arc::new(Box::new(script));
        let log = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &script, &log));
            }
        });
        Daemon { directory, seen }
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.directory.path().join("d.sock").display())
    }

    /// The client with this daemon, in a directory of its own and without the user's settings.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = client(arguments);
        command.env("DOCKER_HOST", self.host()).current_dir(self.directory.path());
        command.env("HOME", self.directory.path());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Shown {
        Shown::from(self.command(arguments).output().expect("client runs"))
    }

    /// Runs with input on stdin.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Shown {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("client runs");
        child.stdin.take().expect("piped").write_all(input).expect("client reads");
        Shown::from(child.wait_with_output().expect("client ends"))
    }

    /// `METHOD path` of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.seen.lock().expect("lock").iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}

/// The client's program.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_corten-client-for-tests"))
}

/// The client in an empty environment.
pub fn client(arguments: &[&str]) -> Command {
    let mut command = Command::new(program());
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

/// What a program printed, and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub out: String,
    pub err: String,
    pub status: i32,
}

impl From<Output> for Shown {
    fn from(output: Output) -> Shown {
        Shown {
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
            status: output.status.code().unwrap_or(-1),
        }
    }
}

/// A frame of Docker's multiplexed streams.
pub fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![stream, 0, 0, 0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// Seconds since 1970, some time ago.
pub fn ago(seconds: u64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    now.as_secs() - seconds
}

fn serve(stream: UnixStream, script: &Script, log: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader) {
        log.lock().expect("lock").push(request.clone());
        let reply = script(&request);
        if answer(&mut reader, reply).is_none() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<UnixStream>) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
    let mut words = line.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let path = target.strip_prefix("/v").and_then(|rest| rest.find('/').map(|at| &rest[at..])).unwrap_or(target);
    let mut headers = HashMap::from([(":target".to_owned(), target.to_owned())]);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = headers.get("content-length") {
        body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut body).ok()?;
    }
    Some(Request { method, path: path.to_owned(), headers, body })
}

/// None when the connection is at its end.
fn answer(reader: &mut BufReader<UnixStream>, reply: Reply) -> Option<()> {
    let mut stream = reader.get_ref().try_clone().ok()?;
    let mut send = |bytes: &[u8]| stream.write_all(bytes).ok();
    match reply {
        Reply::Json(status, body) => send(
            format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .as_bytes(),
        ),
        Reply::Empty => send(b"HTTP/1.1 204 No Content\r\n\r\n"),
        Reply::Lines(lines) => {
            send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for line in lines {
                send(format!("{:x}\r\n{line}\r\n\r\n", line.len() + 2).as_bytes())?;
            }
            send(b"0\r\n\r\n")
        }
        Reply::Bytes(kind, bytes) => {
            send(
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n",
                    bytes.len()
                )
                .as_bytes(),
            )?;
            send(&bytes)?;
            send(b"\r\n0\r\n\r\n")
        }
        Reply::Hijack { bytes, echo } => {
            send(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
            send(&bytes)?;
            if echo {
                let mut input = String::new();
                reader.read_to_string(&mut input).ok()?;
                send(&frame(1, &input))?;
            }
            None
        }
    }
}
