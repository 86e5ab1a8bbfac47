//! Stopping all processes of a group at once, and killing them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use corten_sys::process::{open_pidfd, signal_pidfd};
use rustix::io::Errno;

use crate::detect::Controller;
use crate::tree::Hierarchy;
use crate::{Error, Group, Result, file};

/// A process in an uninterruptible wait can't freeze; after this long it is an error.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a group is listed whose processes fork as fast as they are killed.
const PASSES: u32 = 256;
/// How many processes are held at once: a descriptor each, of which a caller may have no more than 1024.
const AT_ONCE: usize = 256;
const SIGKILL: i32 = 9;

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
        let result = self.kill_listed();
        if frozen {
            self.freeze(false)?;
        }
        result
    }

    /// Signals whatever is listed, until a list has only those that had their signal before it was read: they can't have forked since.
    fn kill_listed(&self) -> Result<()> {
        let mut signalled = BTreeSet::new();
        for _ in 0..PASSES {
            let listed: Vec<i32> = self.procs()?.into_iter().filter(|pid| *pid > 0).collect();
            if listed.iter().all(|pid| signalled.contains(pid)) {
                return Ok(());
            }
            for some in listed.chunks(AT_ONCE) {
                signalled.extend(self.kill_members(some)?);
            }
        }
        Err(Error::Timeout { operation: "killing", path: self.path.as_str().into() })
    }

    /// Signals those of the processes that are in the group; returns them.
    ///
    /// Since it was listed a process may have ended, and its number be that of another one that nobody asked to kill. So it is held
    /// first: what is in the group after that is the process that is held, or that one has ended and takes no signal.
    fn kill_members(&self, pids: &[i32]) -> Result<Vec<i32>> {
        let mut held = Vec::with_capacity(pids.len());
        for &pid in pids {
            match open_pidfd(pid) {
                Ok(pidfd) => held.push((pid, pidfd)),
                Err(error) if is_nobodys(&error) => {}
                Err(source) => return Err(Error::Io { operation: "killing", path: self.path.as_str().into(), source }),
            }
        }
        let members = self.procs()?;
        held.retain(|(pid, _)| members.binary_search(pid).is_ok());
        for (_, pidfd) in &held {
            // It may have ended; anything else would be a process of ours that we may not kill, which can't be.
            let _ = signal_pidfd(pidfd.as_fd(), SIGKILL);
        }
        Ok(held.into_iter().map(|(pid, _)| pid).collect())
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

/// Whether a number is no process's: nobody's, or a further thread's by now (ENOENT since Linux 6.15, EINVAL before).
fn is_nobodys(error: &std::io::Error) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| [Errno::SRCH, Errno::NOENT, Errno::INVAL].contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CgroupPath, Tree};
    use std::process::{Child, Command};

    /// A directory that says of itself who is in it, as a group of a kernel without `cgroup.kill` and without a freezer would.
    fn group(members: &[u32]) -> (tempfile::TempDir, Group) {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("group");
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("cgroup.procs"), members.iter().map(|pid| format!("{pid}\n")).collect::<String>())
            .unwrap();
        let group = Tree::at(directory.path()).unwrap().open(&CgroupPath::parse("/group").unwrap()).unwrap();
        (directory, group)
    }

    fn sleeper() -> Child {
        Command::new("sleep").arg("1000").spawn().expect("sleep(1) starts")
    }

    #[test]
    fn a_number_that_is_another_processs_by_now_is_left_alone() {
        let (mut member, mut other) = (sleeper(), sleeper());
        let (_directory, group) = group(&[member.id()]);
        let listed = [member.id() as i32, other.id() as i32];
        assert_eq!(group.kill_members(&listed).unwrap(), listed[..1]);
        assert!(!member.wait().unwrap().success());
        // A signal would have taken it to its end before the one sent now.
        signal_pidfd(open_pidfd(other.id() as i32).unwrap().as_fd(), 15).unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&other.wait().unwrap()), Some(15));
    }

    #[test]
    fn a_number_that_is_a_threads_by_now_is_nobodys() {
        let mut member = sleeper();
        let (_directory, group) = group(&[member.id()]);
        let (send, receive) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            scope.spawn(move || {
                let own = std::fs::read_link("/proc/thread-self").unwrap();
                tell.send(own.file_name().unwrap().to_str().unwrap().parse().unwrap()).unwrap();
                receive.recv().unwrap_err();
            });
            let thread: i32 = told.recv().unwrap();
            let killed = group.kill_members(&[thread, member.id() as i32]);
            drop(send);
            // It must not outlive the test that fails.
            member.kill().unwrap();
            member.wait().unwrap();
            assert_eq!(killed.unwrap(), [member.id() as i32]);
        });
    }

    #[test]
    fn all_that_are_listed_are_killed() {
        let mut members: Vec<Child> = (0..5).map(|_| sleeper()).collect();
        let (_directory, group) = group(&members.iter().map(Child::id).collect::<Vec<_>>());
        group.kill_all().unwrap();
        for member in &mut members {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&member.wait().unwrap()), Some(9));
        }
    }

    #[test]
    fn who_is_never_caught_ends_the_search() {
        let mut gone = sleeper();
        gone.kill().unwrap();
        gone.wait().unwrap();
        let (_directory, group) = group(&[gone.id()]);
        assert!(matches!(group.kill_all(), Err(Error::Timeout { operation: "killing", .. })));
    }
}
