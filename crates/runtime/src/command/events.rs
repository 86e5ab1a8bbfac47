//! `events`: statistics at intervals and out-of-memory events, one JSON object per line, in runc's form.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use corten_cgroup::Tree;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use super::Context;
use super::error::{Error, Result};
use super::figures::Figures;
use super::flags::{Flag, Parsed};
use super::store::{Container, Status};

pub(super) const FLAGS: &[Flag] = &[Flag::switch("stats", ""), Flag::value("interval", "")];

/// Prints one line of statistics, or lines of all events until the container ends.
pub(super) fn events(context: &Context, parsed: &Parsed) -> Result<u8> {
    let interval = parsed.value("interval").map_or(Ok(Duration::from_secs(5)), interval)?;
    let container = Container::load(context, parsed.id())?;
    if container.status() == Status::Stopped {
        return Err(Error::new(format!("container with id {} is not running", container.record.id)));
    }
    let group = container.group()?;
    let print_stats = || {
        let stats = group.stats().map_err(Error::doing("cannot read the statistics"))?;
        let data = Figures::new(stats, group.details(), &group.pressure());
        print(&Event { kind: "stats", id: &container.record.id, data: Some(data) })
    };
    if parsed.is_set("stats") {
        return print_stats().map(|()| 0);
    }
    let Some(pidfd) = container.process() else { return Ok(0) };
    let watch = group.oom_events().map_err(Error::doing("cannot watch for events"))?;
    // v1 tells of nothing else but of the group's end, and tells before anybody is killed; v2 tells of much.
    let counted = Tree::detect().is_ok_and(|tree| tree.is_v2());
    let mut seen = group.oom_kill_count().unwrap_or(0);
    let mut next = Instant::now() + interval;
    loop {
        let (ended, event) = wait(&pidfd, watch.as_fd(), next.saturating_duration_since(Instant::now()))?;
        if event {
            watch.drain();
            let count = group.oom_kill_count().ok();
            if count.is_some_and(|count| !counted || count > seen) {
                print(&Event { kind: "oom", id: &container.record.id, data: None })?;
            }
            seen = count.unwrap_or(seen);
        }
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_stats()?;
            next += interval;
        }
    }
}

/// runc's `types.Event`.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Figures>,
}

fn print(event: &Event<'_>) -> Result<()> {
    println!("{}", serde_json::to_string(event).map_err(Error::doing("cannot write an event"))?);
    Ok(())
}

fn interval(text: &str) -> Result<Duration> {
    match corten_base::duration::parse_go_duration(text) {
        Ok(nanos) if nanos > 0 => Ok(Duration::from_nanos(nanos as u64)),
        _ => Err(Error::new("duration interval must be greater than 0")),
    }
}

fn wait(pidfd: &OwnedFd, events: std::os::fd::BorrowedFd<'_>, left: Duration) -> Result<(bool, bool)> {
    let mut fds = [PollFd::new(pidfd, PollFlags::IN), PollFd::new(&events, PollFlags::IN | PollFlags::PRI)];
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    rustix::io::retry_on_intr(|| poll(&mut fds, Some(&left))).map_err(Error::doing("poll"))?;
    Ok((!fds[0].revents().is_empty(), !fds[1].revents().is_empty()))
}
