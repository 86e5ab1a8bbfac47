//! The role `/sbin/docker-init`: the first process of a container that was started with `--init`.
//!
//! A program that doesn't expect to be process 1 neither reaps the orphans that become its children nor is ended by signals that it
//! has no handler for (pid_namespaces(7)). This one does the former and stands between: it starts the container's program in a
//! process group of its own, gives it the terminal, passes on what signals it gets, and ends as the program does. Its command line is
//! that of tini, which Docker ships for this: `docker-init -- PROGRAM [ARGUMENT...]`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use corten_sys::process;
use corten_sys::signal;
use rustix::event::{PollFd, PollFlags, poll};

/// Whether this is the role that a program's own name asks for.
pub(super) fn is_wanted(program: &str) -> bool {
    Path::new(program).file_name().is_some_and(|name| name == "docker-init")
}

/// Signals that a process gets for what it did itself, that stop it for using the terminal, or that are about its children: they
/// are not the program's (ill, trap, abrt, bus, fpe, segv, chld, ttin, ttou, sys).
const OWN: [i32; 10] = [4, 5, 6, 7, 8, 11, 17, 21, 22, 31];

/// Runs the program that the arguments name. Ends this process.
pub(super) fn main(arguments: &[String]) -> ! {
    let arguments = match arguments {
        [first, rest @ ..] if first == "--" => rest,
        other => other,
    };
    let code = match arguments {
        [] => usage(),
        [option, ..] if option.starts_with('-') => usage(),
        [program, arguments @ ..] => run(program, arguments).unwrap_or_else(|error| {
            eprintln!("docker-init: {error}");
            1
        }),
    };
    process::exit_now(code)
}

fn usage() -> i32 {
    eprintln!("Usage: docker-init -- PROGRAM [ARGUMENT...]");
    1
}

/// The program's exit code; 128+n after signal n, 127 if it isn't there, 126 if it can't be executed.
fn run(program: &str, arguments: &[String]) -> io::Result<i32> {
    let all: Vec<i32> = (1..=64).collect();
    let signals = signal::watch(&all)?;
    let mut command = Command::new(program);
    let child = match signal::unblock_in(command.args(arguments).process_group(0)).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("docker-init: exec {program} failed: {error}");
            return Ok(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let pid = child.id().cast_signed();
    let pidfd = process::open_pidfd(pid)?;
    give_terminal(child.id(), &pidfd);
    watch_over(pid, &pidfd, &signals)
}

/// Makes the program's group the terminal's, if there is one. It may have been stopped already for having used it too early.
fn give_terminal(pid: u32, pidfd: &OwnedFd) {
    let Some(group) = rustix::process::Pid::from_raw(pid.cast_signed()) else { return };
    if rustix::termios::tcsetpgrp(rustix::stdio::stdin(), group).is_ok() {
        let _ = process::signal_pidfd(pidfd.as_fd(), rustix::process::Signal::CONT.as_raw());
    }
}

fn watch_over(pid: i32, pidfd: &OwnedFd, signals: &OwnedFd) -> io::Result<i32> {
    loop {
        match poll(&mut [PollFd::new(signals, PollFlags::IN)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while let Some(number) = signal::next(signals.as_fd()) {
            if !OWN.contains(&number) {
                // It may have ended a moment ago: that is read next.
                let _ = process::signal_pidfd(pidfd.as_fd(), number);
            }
        }
        while let Some(ended) = process::reap_any()? {
            if ended.pid == pid {
                return Ok(ended.code);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_wanted;

    #[test]
    fn the_role_is_chosen_by_the_programs_name() {
        assert!(is_wanted("/sbin/docker-init") && is_wanted("docker-init"));
        assert!(!is_wanted("/usr/bin/corten") && !is_wanted("") && !is_wanted("/docker-init/corten"));
    }
}
