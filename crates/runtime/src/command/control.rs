//! What is done to a container that exists: start, kill, delete, pause, resume.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use corten_base::signal;
use corten_sys::process;
use oci_spec::runtime::ContainerState;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::store::{self, Container, Status};
use super::{Context, create};

pub(super) const KILL_FLAGS: &[Flag] = &[Flag::switch("all", "a")];
pub(super) const DELETE_FLAGS: &[Flag] = &[Flag::switch("force", "f")];

/// How long a killed init may take to end before the removal gives up.
const PATIENCE: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Lets a created container's program run. Returns when it was executed, or with the reason why it was not.
pub(super) fn start(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    match container.status() {
        Status::Created => {}
        Status::Stopped => return Err(Error::new("cannot start a container that has stopped")),
        status => {
            return Err(Error::new(format!("cannot start a container in the {} state", status.as_str())));
        }
    }
    let (fifo, report) = (container.directory.join("start"), container.directory.join("report"));
    let open = |path, flags| {
        rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::doing("cannot start a container that has stopped"))
    };
    // Opened for writing alone it fails if nobody waits any more. The init holds the report open until it executes.
    let go = open(&fifo, OFlags::WRONLY)?;
    let report = open(&report, OFlags::RDONLY)?;
    claim_start(&go, &fifo)?;
    let failure = read_report(report)?;
    let spec = container.spec()?;
    let poststart = match failure {
        Some(failure) => Err(Error::new(format!("unable to start container process: {failure}"))),
        None => create::run_hooks(&spec, &container.record, "poststart", ContainerState::Running),
    };
    // The container of a failed hook is stopped; its end is what the caller sees of it.
    poststart.inspect_err(|_| {
        if let Some(pidfd) = container.process() {
            let _ = process::signal_pidfd(pidfd.as_fd(), 9);
        }
    })?;
    Ok(0)
}

/// Gives the word. One start wins: who holds the lock and still finds the name. The name goes last, so that a start which is killed at
/// any point leaves a container that waits and can be started, or one that runs.
fn claim_start(go: &OwnedFd, fifo: &Path) -> Result<()> {
    let failed = || Error::doing("cannot start the container");
    rustix::io::retry_on_intr(|| flock(go, FlockOperation::LockExclusive)).map_err(failed())?;
    fs::metadata(fifo).map_err(Error::doing("cannot start a container that is being started"))?;
    rustix::io::write(go, b"1").map_err(failed())?;
    fs::remove_file(fifo).map_err(Error::doing("cannot start the container"))?;
    flock(go, FlockOperation::Unlock).map_err(failed())
}

/// What the init wrote before the file's end, which comes with the execution.
fn read_report(report: OwnedFd) -> Result<Option<String>> {
    let mut text = Vec::new();
    rustix::io::ioctl_fionbio(&report, false).map_err(Error::doing("report"))?;
    fs::File::from(report).read_to_end(&mut text).map_err(Error::doing("cannot hear the container's process"))?;
    Ok((!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned()))
}

/// Sends a signal to the init, or to all processes of the container. Without a PID namespace of its own they would outlive an init that
/// is killed: SIGKILL goes to all of them then, also once the init is gone.
pub(super) fn kill(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    let word = parsed.rest.get(1).map_or("SIGTERM", String::as_str);
    let number = signal::parse(word).map_err(|error| Error::new(format!("unknown signal {:?}", error.0)))?;
    if parsed.is_set("all") {
        let group = container.group()?;
        if number == 9 {
            group.kill_all().map_err(Error::doing("cannot kill the container"))?;
        } else {
            signal_all(&group, number)?;
        }
        return Ok(0);
    }
    let not_running = || Error::new("container not running");
    if number == 9 && !store::is_contained(&container.spec()?) {
        let group = container.group().map_err(|_| not_running())?;
        group.kill_all().map_err(Error::doing("unable to kill all processes"))?;
        return Ok(0);
    }
    let pidfd = container.process().ok_or_else(not_running)?;
    process::signal_pidfd(pidfd.as_fd(), number).map_err(Error::doing("unable to signal init"))?;
    if number == 9 {
        // The signal is sent: what keeps the group frozen is the next command's to find.
        let _ = thaw(&container);
    }
    Ok(0)
}

/// Lets a frozen container go on. On v1 its processes take no signal before, not even the last one.
fn thaw(container: &Container) -> Result<()> {
    match container.group() {
        Ok(group) if group.is_frozen().unwrap_or(false) => {
            group.freeze(false).map_err(Error::doing("cannot resume the container"))
        }
        _ => Ok(()),
    }
}

/// Signals each process of a group, which is frozen meanwhile so that none of its ids can become another's.
fn signal_all(group: &corten_cgroup::Group, number: i32) -> Result<()> {
    let was_frozen = group.is_frozen().unwrap_or(false);
    let frozen = was_frozen || group.freeze(true).is_ok();
    let signalled = group.procs().map_err(Error::doing("cannot list the container's processes")).map(|pids| {
        for pidfd in pids.into_iter().filter_map(|pid| process::open_pidfd(pid).ok()) {
            let _ = process::signal_pidfd(pidfd.as_fd(), number);
        }
    });
    if frozen && !was_frozen {
        group.freeze(false).map_err(Error::doing("cannot resume the container"))?;
    }
    signalled
}

/// Removes a stopped container; with force any, and none is fine, too.
pub(super) fn delete(context: &Context, parsed: &Parsed) -> Result<u8> {
    let force = parsed.is_set("force");
    let id = parsed.id();
    let Some(container) = Container::find(context, id)? else {
        // A directory without a record is what a creation that was killed at its beginning has left. As with runc it is no container.
        let _ = fs::remove_dir_all(context.root.join(id));
        return if force { Ok(0) } else { Err(Container::missing()) };
    };
    let process = container.process();
    let status = container.status();
    if let Some(pidfd) = &process {
        if !force && status != Status::Created {
            let message = format!("cannot delete container {id} that is not stopped: {}", status.as_str());
            return Err(Error::new(message));
        }
        end(&container, pidfd)?;
    }
    container.destroy(context)?;
    Ok(0)
}

/// Kills the init and waits for its end.
fn end(container: &Container, pidfd: &OwnedFd) -> Result<()> {
    let _ = process::signal_pidfd(pidfd.as_fd(), 9);
    thaw(container)?;
    let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
    match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&PATIENCE))) {
        Ok(0) => Err(Error::new("container init still running")),
        result => result.map(drop).map_err(Error::doing("poll")),
    }
}

/// Stops all processes.
pub(super) fn pause(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    match container.status() {
        Status::Running | Status::Created => {}
        _ => return Err(Error::new("container not running")),
    }
    container.group()?.freeze(true).map_err(Error::doing("cannot pause the container"))?;
    Ok(0)
}

/// Lets them go on.
pub(super) fn resume(context: &Context, parsed: &Parsed) -> Result<u8> {
    let container = Container::load(context, parsed.id())?;
    if container.status() != Status::Paused {
        return Err(Error::new("container not paused"));
    }
    container.group()?.freeze(false).map_err(Error::doing("cannot resume the container"))?;
    Ok(0)
}
