//! Starting a daemon in the background for root, or telling an ordinary user what to do.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use corten_client::{Client, Error as ClientError};

use crate::args::report;
use crate::failure::{Failure, Outcome, local};
use crate::help::PROGRAM;

/// Where the built-in default daemon keeps its run-time files.
const EXEC_ROOT: &str = "/run/corten";
const LOG_FILE: &str = "/run/corten/daemon.log";
const PATIENCE: Duration = Duration::from_secs(20);
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
    let child = spawn()?;
    report(&format!(
        "{PROGRAM}: started a daemon in the background (log: {LOG_FILE}; '{PROGRAM} daemon stop' ends it)"
    ));
    await_answer(client, child)
}

fn spawn() -> Outcome<Child> {
    std::fs::create_dir_all(EXEC_ROOT).map_err(local(format_args!("cannot create {EXEC_ROOT}")))?;
    let log = open_log(Path::new(LOG_FILE)).map_err(local(format_args!("cannot open {LOG_FILE}")))?;
    let log_again = log.try_clone().map_err(local(format_args!("cannot open {LOG_FILE}")))?;
    // `--background` makes the child begin a session of its own, out of reach of the terminal's signals: doing that here,
    // between fork and exec, would need unsafe code.
    Command::new("/proc/self/exe")
        .args(["daemon", "--background"])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(log_again)
        .spawn()
        .map_err(local("cannot start the daemon"))
}

fn open_log(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Waits for the socket to answer, the daemon to die, or patience to end. The socket's appearance could be watched, but
/// not that somebody listens on it, so this tries again at short and growing distances.
fn await_answer(client: &Client, mut child: Child) -> Outcome {
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if client.connect().is_ok() {
            return Ok(());
        }
        let ended = child.try_wait().map_err(local("cannot watch the daemon"))?;
        if let Some(status) = ended {
            // Another invocation may have been faster: then its daemon answers, and this one has stepped back.
            return if client.connect().is_ok() {
                Ok(())
            } else {
                Err(start_failed(&format!("it ended with {status}")))
            };
        }
        if begin.elapsed() > PATIENCE {
            return Err(start_failed(&format!("no answer within {} seconds", PATIENCE.as_secs())));
        }
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(100));
    }
}

fn start_failed(reason: &str) -> Failure {
    let log = std::fs::read_to_string(LOG_FILE).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
    Failure::message(format!("The daemon could not be started: {reason}. The end of {LOG_FILE}:\n  {tail}"))
}
