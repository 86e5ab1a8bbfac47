//! Being told when the kernel kills for lack of memory.
//!
//! v1 signals an eventfd that is registered with the group; v2 changes `memory.events`, which inotify sees. Both also wake
//! up for other reasons (the group's removal, other events), so the counter decides.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};

use crate::detect::Controller;
use crate::{Group, Result, file};

/// A descriptor that becomes readable when something about memory happened in a group.
#[derive(Debug)]
pub struct OomWatch {
    events: OwnedFd,
    /// v1 keeps the registration only as long as this file is open in nobody's hands but its own; kept for its count.
    _control: Option<OwnedFd>,
}

impl OomWatch {
    /// Takes note of the event, so that the descriptor is quiet again.
    pub fn drain(&self) {
        let mut buffer = [0u8; 4096];
        while rustix::io::read(&self.events, &mut buffer).is_ok_and(|count| count > 8) {}
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl Group {
    /// Watches the group; poll the descriptor, and read [`Group::oom_kill_count`] when it is readable.
    pub fn oom_events(&self) -> Result<OomWatch> {
        let (hierarchy, dir) = self.place(Controller::Memory)?;
        let failed = hierarchy.failed("watching memory", &self.path);
        if self.tree.is_v2() {
            let events = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
                .map_err(|error| failed(error.into()))?;
            let path = hierarchy.path.join(self.path.relative()).join("memory.events");
            inotify::add_watch(&events, &path, inotify::WatchFlags::MODIFY).map_err(|error| failed(error.into()))?;
            return Ok(OomWatch { events, _control: None });
        }
        let events =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|error| failed(error.into()))?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let control = rustix::fs::openat(dir, "memory.oom_control", flags, Mode::empty());
        let control = control.map_err(|error| failed(error.into()))?;
        let registration = format!("{} {}", raw(&events), raw(&control));
        file::write(dir, "cgroup.event_control", &registration).map_err(&failed)?;
        Ok(OomWatch { events, _control: Some(control) })
    }

    /// How many processes of the group the kernel has killed for lack of memory; 0 without a memory controller.
    pub fn oom_kill_count(&self) -> Result<u64> {
        let Ok((hierarchy, dir)) = self.place(Controller::Memory) else { return Ok(0) };
        let name = if self.tree.is_v2() { "memory.events" } else { "memory.oom_control" };
        Ok(file::value_of(&self.read(hierarchy, dir, name)?, "oom_kill").unwrap_or(0))
    }
}

fn raw(fd: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(fd)
}
