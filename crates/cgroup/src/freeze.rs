//! Stopping all processes of a group at once, and killing them.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::detect::Controller;
use crate::tree::Hierarchy;
use crate::{Error, Group, Result, file};

/// A process in an uninterruptible wait can't freeze; after this long it is an error.
const PATIENCE: Duration = Duration::from_secs(10);

impl Group {
    /// Freezes or thaws everything in the group and waits until that is so.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        if self.tree.is_v2() { self.freeze_v2(frozen) } else { self.freeze_v1(frozen) }
    }

    /// Whether the group was frozen, by itself or with one above it; false without a freezer.
    pub fn is_frozen(&self) -> Result<bool> {
        if self.tree.is_v2() {
            let (hierarchy, dir) = self.place(Controller::Core)?;
            return Ok(file::value_of(&self.read(hierarchy, dir, "cgroup.events")?, "frozen") == Some(1));
        }
        let Ok((hierarchy, dir)) = self.place(Controller::Freezer) else { return Ok(false) };
        Ok(self.read(hierarchy, dir, "freezer.state")?.trim() != "THAWED")
    }

    fn freeze_v1(&self, frozen: bool) -> Result<()> {
        let (hierarchy, dir) = self.place(Controller::Freezer)?;
        let state = if frozen { "FROZEN" } else { "THAWED" };
        let result = self.until("freezing", || {
            // Processes that fork meanwhile may escape one pass: the state is written again until it holds.
            self.write_in(hierarchy, dir, "freezer.state", state)?;
            Ok(self.read(hierarchy, dir, "freezer.state")?.trim() == state)
        });
        if result.is_err() && frozen {
            // Half frozen is the worst state to leave a container in.
            let _ = file::write(dir, "freezer.state", "THAWED");
        }
        result
    }

    fn freeze_v2(&self, frozen: bool) -> Result<()> {
        let (hierarchy, dir) = self.place(Controller::Core)?;
        self.write_in(hierarchy, dir, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let result = self.until("freezing", || {
            let events = self.read(hierarchy, dir, "cgroup.events")?;
            Ok(file::value_of(&events, "frozen") == Some(u64::from(frozen)))
        });
        if result.is_err() && frozen {
            let _ = file::write(dir, "cgroup.freeze", "0");
        }
        result
    }

    /// Sends SIGKILL to everything in the group and below, and to what is forked meanwhile. It doesn't wait for their end.
    pub fn kill_all(&self) -> Result<()> {
        if self.tree.is_v2() {
            let (_, dir) = self.place(Controller::Core)?;
            match file::write(dir, "cgroup.kill", "1") {
                // Linux 5.14 brought the file.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
                Err(error) => {
                    let (hierarchy, _) = self.place(Controller::Core)?;
                    return Err(hierarchy.failed("killing", &self.path)(error));
                }
                Ok(()) => return Ok(()),
            }
        }
        // Frozen, nothing can fork away; the signal takes effect when they thaw.
        let frozen = self.freeze(true).is_ok();
        let result = self.kill_listed(if frozen { 1 } else { 16 });
        if frozen {
            self.freeze(false)?;
        }
        result
    }

    fn kill_listed(&self, passes: u32) -> Result<()> {
        for _ in 0..passes {
            let pids = self.procs()?;
            if pids.is_empty() {
                break;
            }
            for pid in pids.into_iter().filter_map(Pid::from_raw) {
                // It may have ended; anything else would be a process of ours that we may not kill, which can't be.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, hierarchy: &Hierarchy, dir: BorrowedFd<'_>, name: &str) -> Result<String> {
        file::read(dir.as_fd(), name).map_err(hierarchy.failed("reading", &self.path))
    }

    /// Asks again and again, slower and slower, until it is so or too late.
    fn until(&self, operation: &'static str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = Instant::now();
        let mut pause = Duration::from_micros(50);
        while !done()? {
            if start.elapsed() > PATIENCE {
                return Err(Error::Timeout { operation, path: self.path.as_str().into() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        Ok(())
    }
}
