//! `corten daemon stop`. Without `stop`, the program becomes the daemon before its command line is read here.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::command::{Arguments, Command, value};
use crate::container::signed;
use crate::failure::{Failure, Outcome, local};
use crate::matches::Matches;
use crate::session::Session;

/// Where the daemon writes its process id unless it is told otherwise.
const PID_FILE: &str = "/run/corten/corten.pid";

pub(crate) static STOP: Command = Command {
    spellings: &["daemon stop"],
    usage: "[OPTIONS]",
    about: "Stop the daemon, and its containers as the daemon is set up to",
    flags: &[&[
        value("pidfile", "string", "File with the daemon's process ID").default("\"/run/corten/corten.pid\""),
        value("timeout", "int", "Seconds to wait until the daemon has ended").short('t').check(signed).default("60"),
    ]],
    arguments: Arguments::None,
    interspersed: true,
    run,
};

fn run(_: &Session, matches: &Matches) -> Outcome {
    let path = matches.get("pidfile").unwrap_or(PID_FILE);
    let Ok(text) = std::fs::read_to_string(path) else {
        return Err(Failure::message(format!("No daemon runs: there is no {path}")));
    };
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::message(format!("{path} holds no process ID")))?;
    // A descriptor names this very process, even if its number is given away while we wait.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return Err(Failure::message(format!(
            "No daemon runs: the process {} of {path} has ended",
            pid.as_raw_nonzero()
        )));
    };
    if !is_daemon(pid) {
        return Err(Failure::message(format!(
            "The process {} of {path} is no {} daemon",
            pid.as_raw_nonzero(),
            crate::help::PROGRAM
        )));
    }
    pidfd_send_signal(&process, Signal::TERM).map_err(|error| local("cannot stop the daemon")(error.into()))?;
    let patience = if matches.is_set("timeout") { matches.number("timeout") } else { 60 };
    let deadline = Instant::now() + Duration::from_secs(u64::try_from(patience).unwrap_or_default());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Failure::message(format!("The daemon has not ended within {patience} seconds"))),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(local("cannot wait for the daemon")(error.into())),
        }
    }
}

/// A number in an old file may belong to anybody by now.
fn is_daemon(pid: Pid) -> bool {
    let command_line = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    command_line.split(|byte| *byte == 0).skip(1).any(|word| word == b"daemon" || word == b"-d")
}
