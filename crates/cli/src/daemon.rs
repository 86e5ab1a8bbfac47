//! Starting a daemon in the background for root, or telling an ordinary user what to do.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corten_client::{Client, Error as ClientError};
use rustix::process::{Pid, test_kill_process};

use crate::args::report;
use crate::failure::{Failure, Outcome, local};
use crate::help::PROGRAM;

/// Where the built-in default daemon keeps its run-time files.
const EXEC_ROOT: &str = "/run/corten";
const LOG_FILE: &str = "/run/corten/daemon.log";
/// Where it writes its process id unless it is told otherwise.
pub(crate) const PID_FILE: &str = "/run/corten/corten.pid";
const PATIENCE: Duration = Duration::from_secs(30);
const LOG_TAIL_LINES: usize = 10;

/// Called when nobody answers at the built-in socket: root gets a daemon, others a sentence.
pub(crate) fn start_or_explain(client: &Client, error: ClientError) -> Outcome {
    if !rustix::process::geteuid().is_root() {
        let reason = match error {
            ClientError::SocketDenied { .. } => "you may not use it as this user",
            _ => "no daemon runs there",
        };
        return Err(Failure::message(format!(
            "Cannot connect to the Corten daemon at {}: {reason}; run this command as root (sudo {PROGRAM} ...), or set CORTEN_HOST to a daemon you may use.",
            client.endpoint()
        )));
    }
    if !error.is_unreachable() {
        return Err(error.into());
    }
    // One that is starting or reconciling does not answer yet; a second one would only be refused.
    if running_daemon(PID_FILE).is_some() {
        return await_answer(client, &mut None);
    }
    let mut start = Some(Start::spawn()?);
    await_answer(client, &mut start)?;
    if start.is_some() {
        report(&format!(
            "{PROGRAM}: started a daemon in the background (log: {LOG_FILE}; '{PROGRAM} daemon stop' ends it)"
        ));
    }
    Ok(())
}

/// The process that a pidfile names, if it is alive and a daemon of this program.
pub(crate) fn running_daemon(pidfile: &str) -> Option<Pid> {
    let pid = Pid::from_raw(std::fs::read_to_string(pidfile).ok()?.trim().parse().ok()?)?;
    test_kill_process(pid).ok()?;
    // A number in an old file may belong to anybody by now.
    let command_line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
    let is_daemon = command_line.split(|byte| *byte == 0).skip(1).any(|word| word == b"daemon" || word == b"-d");
    is_daemon.then_some(pid)
}

/// A daemon on its way, and where its own lines begin in the log.
struct Start {
    child: Child,
    log: File,
    log_begin: u64,
}

impl Start {
    fn spawn() -> Outcome<Start> {
        let denied = || local(format!("cannot open {LOG_FILE}"));
        std::fs::create_dir_all(EXEC_ROOT).map_err(local(format_args!("cannot create {EXEC_ROOT}")))?;
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).read(true).mode(0o600).open(LOG_FILE).map_err(denied())?;
        let log_begin = log.metadata().map_err(denied())?.len();
        let (stdout, stderr) = (log.try_clone().map_err(denied())?, log.try_clone().map_err(denied())?);
        // `--background` makes the child begin a session of its own, out of reach of the terminal's signals: doing that
        // here, between fork and exec, would need unsafe code.
        let child = Command::new("/proc/self/exe")
            .args(["daemon", "--background"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(local("cannot start the daemon"))?;
        Ok(Start { child, log, log_begin })
    }

    fn has_ended(&mut self) -> Outcome<Option<String>> {
        let status = self.child.try_wait().map_err(local("cannot watch the daemon"))?;
        Ok(status.map(|status| format!("it ended with {status}")))
    }

    /// The last lines that this daemon has written.
    fn log_tail(mut self) -> String {
        let mut text = String::new();
        let read = self.log.seek(SeekFrom::Start(self.log_begin)).and_then(|_| self.log.read_to_string(&mut text));
        if read.is_err() || text.trim().is_empty() {
            return String::new();
        }
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
        format!(" The end of {LOG_FILE}:\n  {tail}")
    }
}

/// Waits for the socket to answer, the daemon to die, or patience to end. The socket's appearance could be watched, but
/// not that somebody listens on it, so this tries again at short and growing distances. A `start` that has stepped back
/// for another daemon is none afterwards.
fn await_answer(client: &Client, start: &mut Option<Start>) -> Outcome {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    while begin.elapsed() < PATIENCE {
        if client.connect().is_ok() {
            return Ok(());
        }
        let ended = start.as_mut().map(Start::has_ended).transpose()?.flatten();
        if let Some(reason) = ended {
            let ours = start.take();
            // Another invocation may have been faster: then ours has stepped back, and that one is waited for.
            if running_daemon(PID_FILE).is_none() && client.connect().is_err() {
                return Err(failed(&reason, ours));
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
    Err(failed(&format!("no answer within {} seconds", PATIENCE.as_secs()), start.take()))
}

fn failed(reason: &str, start: Option<Start>) -> Failure {
    let tail = match start {
        Some(start) => start.log_tail(),
        None => format!(" See {LOG_FILE}."),
    };
    Failure::message(format!("The daemon could not be started: {reason}.{tail}"))
}
