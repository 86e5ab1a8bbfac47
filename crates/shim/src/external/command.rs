//! One command of a runtime: run, waited for, its failure told in containerd's words.
//!
//! The runtime gets an environment of `PATH` alone, the three standard streams, and nothing else of the shim.

use std::env;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio as Stream};
use std::time::{Duration, Instant};

use corten_runtime::apply::Stdio;
use corten_sys::{process, signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;

use crate::lookup::{self, describe};
use crate::protocol::External;

/// Where programs are looked for when the daemon's environment doesn't say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of a log is looked at.
const MAX_LOG: u64 = 1 << 20;

/// Runs one command to its end and waits for it until the deadline. Without streams it has the null device's. The error is the
/// last one in the runtime's own log, or what is known without it.
pub(super) fn run(
    runtime: &External,
    words: &[&str],
    log: &Path,
    streams: Option<&Stdio>,
    deadline: Instant,
) -> Result<(), String> {
    let path = env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.into());
    let ended = find(&runtime.program, &path)
        .and_then(|program| execute(&program, &path, runtime, words, log, streams, deadline));
    let Err(reason) = ended else { return Ok(()) };
    Err(match last_error(log) {
        Ok(Some(message)) => message,
        Ok(None) => reason,
        Err(error) => {
            let error = describe(&error);
            format!("unable to retrieve OCI runtime error (open {}: {error}): {reason}", log.display())
        }
    })
}

/// The program's path. What has a slash is not looked at before it is executed: the kernel's answer is the one to tell.
fn find(program: &str, path: &str) -> Result<PathBuf, String> {
    if program.contains('/') { Ok(program.into()) } else { lookup::find(program, path) }
}

fn execute(
    program: &Path,
    path: &str,
    runtime: &External,
    words: &[&str],
    log: &Path,
    streams: Option<&Stdio>,
    deadline: Instant,
) -> Result<(), String> {
    let patience = deadline.saturating_duration_since(Instant::now());
    let failed = |error: io::Error| format!("fork/exec {}: {}", program.display(), describe(&error));
    let mut command = Command::new(program);
    command
        .args(&runtime.arguments)
        .arg("--root")
        .arg(Path::new(&runtime.directory).join("state"))
        .arg("--log")
        .arg(log)
        .args(["--log-format", "json"])
        .args(words)
        .current_dir(&runtime.directory)
        .env_clear()
        .env("PATH", path);
    connect(&mut command, streams).map_err(failed)?;
    let mut child = signal::bind_to_parent(&mut command).spawn().map_err(failed)?;
    drop(command);
    let name = program.display();
    match wait(&mut child, deadline).map_err(|error| format!("cannot wait for {name}: {}", describe(&error)))? {
        Some(status) if status.success() => Ok(()),
        Some(status) => {
            let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(255);
            Err(format!("{name} did not terminate successfully: exit status {code}"))
        }
        None => Err(format!("{name} did not end within {} s and was killed", patience.as_secs())),
    }
}

fn connect(command: &mut Command, streams: Option<&Stdio>) -> io::Result<()> {
    match streams {
        Some(Stdio::Pipes { stdin, stdout, stderr }) => {
            command.stdin(stdin.try_clone()?).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?)
        }
        _ => command.stdin(Stream::null()).stdout(Stream::null()).stderr(Stream::null()),
    };
    Ok(())
}

/// The child's end; none if it had to be killed at the deadline. Never any other child's: a container's process may have
/// ended by now, and is left to the shim.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let pidfd = process::open_pidfd(child.id().cast_signed())?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(0) if left > Duration::ZERO => {}
            Ok(0) => {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            Ok(_) => return child.wait().map(Some),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One line of a runtime's log.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// The last message of level "error".
fn last_error(log: &Path) -> io::Result<Option<String>> {
    let mut text = Vec::new();
    File::open(log)?.take(MAX_LOG).read_to_end(&mut text)?;
    Ok(last_error_in(&text))
}

fn last_error_in(text: &[u8]) -> Option<String> {
    let entries = serde_json::Deserializer::from_slice(text).into_iter::<Entry>().map_while(Result::ok);
    let errors = entries.filter(|entry| entry.level == "error").map(|entry| entry.msg.trim().to_owned());
    errors.filter(|message| !message.is_empty()).last()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_last_error_counts() {
        let log = br#"{"level":"warning","msg":"w"}
            {"level":"error","msg":"first","time":"t"}
            {"level":"error","msg":" second \n","time":"t"}
            {"level":"info","msg":"after"}"#;
        assert_eq!(last_error_in(log).as_deref(), Some("second"));
        assert_eq!(last_error_in(b"{\"level\":\"info\",\"msg\":\"x\"}"), None);
        // What was cut short, or is no JSON, ends the reading.
        assert_eq!(last_error_in(b"{\"level\":\"error\",\"msg\":\"x\"}\n{\"level\":").as_deref(), Some("x"));
        assert_eq!(last_error_in(b"panic: no"), None);
    }

    fn runtime(program: &str, directory: &Path) -> External {
        External { program: program.into(), arguments: Vec::new(), directory: directory.to_string_lossy().into() }
    }

    fn outcome(program: &str, patience: Duration) -> String {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("log.json");
        let deadline = Instant::now() + patience;
        let ended = run(&runtime(program, directory.path()), &["create", "x"], &log, None, deadline);
        ended.err().unwrap_or_default().replace(&*directory.path().to_string_lossy(), "DIR")
    }

    #[test]
    fn failures_are_told_as_containerd_does() {
        const AN_HOUR: Duration = Duration::from_secs(3600);
        let log = "unable to retrieve OCI runtime error (open DIR/log.json: no such file or directory)";
        assert_eq!(outcome("/bin/true", AN_HOUR), "");
        assert_eq!(
            outcome("/nonexistent/runtime", AN_HOUR),
            format!("{log}: fork/exec /nonexistent/runtime: no such file or directory")
        );
        assert_eq!(
            outcome("nosuch-runtime", AN_HOUR),
            format!("{log}: exec: \"nosuch-runtime\": executable file not found in $PATH")
        );
        assert_eq!(
            outcome("/bin/false", AN_HOUR),
            format!("{log}: /bin/false did not terminate successfully: exit status 1")
        );
    }

    #[test]
    fn who_takes_too_long_is_killed() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("slow");
        fs::write(&script, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let told = outcome(&script.to_string_lossy(), Duration::ZERO);
        assert!(told.ends_with("did not end within 0 s and was killed"), "{told}");
    }
}
