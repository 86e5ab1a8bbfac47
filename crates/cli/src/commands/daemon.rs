//! `corten daemon stop`. Without `stop`, the program becomes the daemon before its command line is read here.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::command::{Arguments, Command, value};
use crate::container::signed;
use crate::daemon::{PID_FILE, running_daemon};
use crate::failure::{Failure, Outcome, local};
use crate::matches::Matches;
use crate::session::Session;

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
    let pid = running_daemon(path).ok_or_else(|| Failure::message(format!("No daemon runs according to {path}")))?;
    // A descriptor names this very process, even if its number is given away while we wait.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
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
