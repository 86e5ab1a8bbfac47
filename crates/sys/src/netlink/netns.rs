//! Work inside another network namespace, without ever leaving a thread of the daemon in it.
//!
//! A netlink socket belongs to the namespace of the thread that makes it, and `/proc/sys/net` shows the namespace of the
//! thread that opens a file there. [`Workers`] keeps a few threads for such work: a worker enters the namespace, does one job
//! and returns to where it came from. One that can't return ends (its namespace would otherwise live as long as it). See
//! `network_namespaces(7)` and `setns(2)`.

use super::Error;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// A job in a namespace may take this long; netlink itself answers within a fraction.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// So many idle threads are kept.
const IDLE: usize = 4;

/// The network namespace of the calling thread.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open("/proc/thread-self/ns/net")?.into())
}

/// A new, empty network namespace, held by the descriptor alone.
pub fn create() -> io::Result<OwnedFd> {
    on_new_thread(|| {
        // SAFETY: only the thread's network namespace changes, and the thread was started for this alone; its memory and
        // its file descriptors stay shared with the process.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
        current()
    })?
}

/// Runs `job` on a new thread inside the namespace, and waits for it.
pub fn run_in<T: Send>(netns: BorrowedFd<'_>, job: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_new_thread(|| {
        enter(netns)?;
        Ok(job())
    })?
}

fn on_new_thread<T: Send>(job: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, job)?;
        thread.join().map_err(|_| io::Error::other("the thread panicked"))
    })
}

fn enter(netns: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))?)
}

type Job = Box<dyn FnOnce() + Send>;

/// Threads that do jobs in other namespaces and belong to the namespace in which the pool was made.
#[derive(Clone, Debug)]
pub struct Workers {
    home: Arc<OwnedFd>,
    idle: Arc<Mutex<Vec<SyncSender<Job>>>>,
}

impl Workers {
    /// A pool whose threads live in the calling thread's namespace.
    pub fn new() -> io::Result<Workers> {
        Ok(Workers { home: Arc::new(current()?), idle: Arc::default() })
    }

    /// Begins `job` inside the namespace; [`Pending::wait`] gives its result.
    ///
    /// # Errors
    /// [`Error::Namespace`] if no thread can be started.
    pub fn start<T, F>(&self, netns: OwnedFd, job: F) -> Result<Pending<T>, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let worker = self.worker()?;
        let (result, answer) = mpsc::sync_channel(1);
        let (home, idle, again) = (self.home.clone(), self.idle.clone(), worker.clone());
        let job: Job = Box::new(move || {
            let outcome = rustix_enter(&netns).map(|()| job());
            drop(netns);
            // Only a thread that is home again may be used again; else its last sender goes and with it the thread.
            if rustix_enter(&home).is_ok() {
                let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() < IDLE {
                    idle.push(again);
                }
            }
            let _ = result.send(outcome);
        });
        worker.send(job).map_err(|_| Error::Namespace(io::Error::other("the worker thread is gone")))?;
        Ok(Pending { answer })
    }

    /// Runs `job` inside the namespace and waits for it.
    ///
    /// # Errors
    /// As [`start`](Workers::start) and [`Pending::wait`].
    pub fn run<T, F>(&self, netns: OwnedFd, job: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.start(netns, job)?.wait()
    }

    fn worker(&self) -> Result<SyncSender<Job>, Error> {
        if let Some(worker) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(worker);
        }
        let (sender, jobs) = mpsc::sync_channel::<Job>(1);
        let home = self.home.clone();
        thread::Builder::new()
            .name("netns-worker".to_owned())
            .spawn(move || {
                if rustix_enter(&home).is_ok() {
                    while let Ok(job) = jobs.recv() {
                        job();
                    }
                }
            })
            .map_err(Error::Namespace)?;
        Ok(sender)
    }
}

fn rustix_enter(netns: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsFd;
    enter(netns.as_fd())
}

/// A job under way in another namespace.
#[derive(Debug)]
#[must_use]
pub struct Pending<T> {
    answer: mpsc::Receiver<io::Result<T>>,
}

impl<T> Pending<T> {
    /// Waits for the job, for half a minute at most.
    ///
    /// # Errors
    /// [`Error::Namespace`] if the namespace can't be entered or the job panicked, [`Error::Timeout`] if it takes too long.
    pub fn wait(self) -> Result<T, Error> {
        match self.answer.recv_timeout(TIME_LIMIT) {
            Ok(outcome) => outcome.map_err(Error::Namespace),
            Err(RecvTimeoutError::Timeout) => Err(Error::Timeout { request: "work in a network namespace".to_owned() }),
            Err(RecvTimeoutError::Disconnected) => Err(Error::Namespace(io::Error::other("the job panicked"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Route;
    use std::os::fd::AsFd;

    fn links() -> usize {
        Route::open().unwrap().links().unwrap().len()
    }

    /// None where the tests run without privileges.
    fn empty_namespace() -> Option<OwnedFd> {
        create().map_err(|error| eprintln!("skipped: cannot make a network namespace: {error}")).ok()
    }

    #[test]
    fn threads_go_in_and_the_caller_stays() {
        let Some(netns) = empty_namespace() else { return };
        let here = links();
        assert!(run_in(netns.as_fd(), links).unwrap() >= 1);
        assert_eq!(links(), here);
    }

    #[test]
    fn workers_return_and_are_used_again() {
        let Some(netns) = empty_namespace() else { return };
        let home = run_in(netns.as_fd(), Workers::new).unwrap().unwrap();
        let mut ids = Vec::new();
        for _ in 0..3 {
            let other = empty_namespace().unwrap();
            ids.push(home.run(other, || thread::current().id()).unwrap());
        }
        assert!(ids.iter().all(|id| *id == ids[0]));
        let other = empty_namespace().unwrap();
        let error = home.run(other, || panic!("on purpose")).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.to_string(), "cannot work in the network namespace");
        assert!(home.run(empty_namespace().unwrap(), || ()).is_ok());
    }
}
