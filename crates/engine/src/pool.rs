//! Warm shims: spawned, with their namespaces and init stub, before anybody asks.
//!
//! A start takes one and tells the pool, which makes another in the background. When the pool is empty (many starts at once) a
//! shim is spawned for the asker, so that the pool is never more than a short cut. All are copies of one [`Zygote`], which is
//! started anew should it end. Zygote and unassigned shims end by themselves when the daemon does: their connection closes.
//!
//! What a container with default settings gets is there already ([`Usual`]): the init stub has mounted its `/proc`, `/dev` and
//! `/sys`. On cgroup v1 it has also joined a group of the pool's that has the limits; the start renames that group.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::blocking;
use crate::error::Error;
use crate::refill::{Demand, Refill};
use crate::undo::log;
use corten_cgroup::{CgroupPath, Group, Limits, Tree};
use corten_runtime::Plan;
use corten_shim::client::{Connection, Error as ShimError};
use corten_shim::protocol::{Event, Ready};
use corten_shim::spawn::{Executable, Spawned, WarmOptions, Zygote, spawn_external};
use corten_sys::process::Child;

/// How long a shim may take to get warm on a machine that is busy.
const WARM_TIMEOUT: Duration = Duration::from_secs(60);

/// What a container with default settings asks for: made before it is there.
#[derive(Debug)]
pub(crate) struct Usual {
    /// Its mounts are staged.
    pub(crate) plan: Plan,
    /// They are set on the pool's groups.
    pub(crate) limits: Limits,
}

/// A shim that waits for its container.
#[derive(Debug)]
pub(crate) struct Warm {
    pub(crate) connection: Connection,
    pub(crate) child: Child,
    /// The network namespace that it made.
    pub(crate) netns: OwnedFd,
    /// Where its init stub is already: v1 only.
    pub(crate) group: Option<Group>,
}

/// The shims that wait.
#[derive(Debug)]
struct Idle {
    shims: VecDeque<Warm>,
    demand: Demand,
}

impl Idle {
    fn lacks(&self) -> bool {
        self.shims.len() < self.demand.wanted()
    }

    fn calm_after(&self) -> Option<Duration> {
        self.demand.calm_after(self.shims.len())
    }

    fn surplus(&mut self) -> Option<Warm> {
        if self.shims.len() > self.demand.wanted() { self.shims.pop_back() } else { None }
    }
}

/// The pool's shared part.
#[derive(Debug)]
pub(crate) struct Pool {
    executable: Executable,
    zygote: Mutex<Option<Zygote>>,
    tree: Tree,
    parent: CgroupPath,
    usual: OnceLock<Usual>,
    idle: Mutex<Idle>,
    next: AtomicU64,
    refill: Refill,
}

impl Pool {
    /// A pool that is still empty; see [`Pool::keep_filled`].
    pub(crate) fn new(executable: &Path, tree: Tree, parent: CgroupPath, size: usize) -> Result<Pool, Error> {
        let executable = Executable::open(executable).map_err(Error::failed("cannot prepare shims"))?;
        Ok(Pool {
            executable,
            zygote: Mutex::default(),
            tree,
            parent,
            usual: OnceLock::new(),
            idle: Mutex::new(Idle { shims: VecDeque::new(), demand: Demand::new(size) }),
            next: AtomicU64::new(0),
            refill: Refill::default(),
        })
    }

    /// Has the shims made from now on prepare themselves for a container like this.
    pub(crate) fn expect(&self, usual: Usual) {
        if self.usual.set(usual).is_err() {
            tracing::error!("the pool was told twice what to prepare for");
        }
    }

    /// The limits that the pool's groups have.
    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.usual.get().map(|usual| &usual.limits)
    }

    /// Takes the seccomp program out of a plan, if it is the one that the shims have been told of. Whether it was.
    pub(crate) fn leave_filter_out(&self, plan: &mut Plan) -> bool {
        let usual = self.usual.get().and_then(|usual| usual.plan.process.seccomp.as_ref());
        let same = usual.is_some() && plan.process.seccomp.as_ref() == usual;
        if same {
            plan.process.seccomp = None;
        }
        same
    }

    /// Fills the pool now and whenever something was taken from it and it is [time](Refill), until it is closed.
    pub(crate) async fn keep_filled(self: Arc<Pool>) {
        loop {
            self.fill().await;
            if self.is_closed() {
                return;
            }
            let calm = self.lock().calm_after();
            if self.refill.asked(calm).await {
                self.refill.due(|| self.is_empty()).await;
            } else {
                self.lock().demand.calm();
            }
        }
    }

    /// Makes what is lacking, or ends what is too much.
    async fn fill(self: &Arc<Pool>) {
        while !self.is_closed() && self.lock().lacks() {
            let pool = self.clone();
            match blocking::run_behind(move || pool.spawn()).await.and_then(|spawned| spawned) {
                Ok(warm) => self.lock().shims.push_back(warm),
                Err(error) => {
                    tracing::warn!(error = error.message(), "cannot make a warm shim");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
        while let Some(warm) = { self.lock().surplus() } {
            let pool = self.clone();
            log("a warm shim could not be ended", blocking::run_behind(move || pool.discard(warm)).await);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has [`Pool::keep_filled`] end, after the shim that it may be making.
    pub(crate) fn close(&self) {
        self.refill.close();
    }

    fn is_closed(&self) -> bool {
        self.refill.is_closed()
    }

    fn is_empty(&self) -> bool {
        self.lock().shims.is_empty()
    }

    /// A warm shim: a ready one, or one made for the caller. Blocks. The pool is refilled after [`Pool::refill`].
    pub(crate) fn take(&self) -> Result<Warm, Error> {
        loop {
            let Some(mut warm) = self.take_idle() else { return self.spawn() };
            if is_alive(&mut warm.connection) {
                return Ok(warm);
            }
            self.discard(warm);
        }
    }

    fn take_idle(&self) -> Option<Warm> {
        let mut idle = self.lock();
        let warm = idle.shims.pop_front();
        if idle.shims.is_empty() {
            idle.demand.ran_out();
        }
        warm
    }

    /// Lets the pool make what was taken, once the taker has answered its client.
    pub(crate) fn refill(&self) {
        self.refill.ask();
    }

    /// Ends a shim that was never assigned. Blocks for its end.
    pub(crate) fn discard(&self, warm: Warm) {
        let Warm { connection, child, netns, group } = warm;
        drop(netns);
        end(connection, child, group);
    }

    /// Ends all warm shims, and what they are copies of. Blocks.
    pub(crate) fn drain(&self) {
        *self.zygote.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let idle: Vec<Warm> = self.lock().shims.drain(..).collect();
        for warm in idle {
            self.discard(warm);
        }
    }

    /// A shim for another runtime's container, made for the caller: those are not kept ready. Blocks.
    pub(crate) fn on_host(&self) -> Result<Warm, Error> {
        let failed = "cannot make a supervisor for another runtime";
        let path = std::env::var_os("PATH");
        let spawned = spawn_external(&self.executable, path.as_deref()).map_err(Error::failed(failed))?;
        let Spawned { mut connection, child } = spawned;
        match receive_ready(&mut connection, &child) {
            Ok((_, netns)) => Ok(Warm { connection, child, netns, group: None }),
            Err(error) => {
                end(connection, child, None);
                Err(error)
            }
        }
    }

    /// Spawns a shim and waits until it is warm. Blocks.
    fn spawn(&self) -> Result<Warm, Error> {
        let copied = self.copy_zygote().map_err(Error::failed("cannot make a warm shim"))?;
        let Spawned { mut connection, child } = copied;
        let mut group = None;
        match self.greet(&mut connection, &child, &mut group) {
            Ok(netns) => Ok(Warm { connection, child, netns, group }),
            Err(error) => {
                end(connection, child, group);
                Err(error)
            }
        }
    }

    /// A fresh copy of the zygote, which is started if there is none, or none any more.
    fn copy_zygote(&self) -> Result<Spawned, ShimError> {
        let mut slot = self.zygote.lock().unwrap_or_else(PoisonError::into_inner);
        let was_there = slot.is_some();
        match self.copy_from(&mut slot) {
            Err(ShimError::Closed) if was_there => {
                tracing::warn!("the shims' zygote has ended: another is started");
                self.copy_from(&mut slot)
            }
            copied => copied,
        }
    }

    /// Only a zygote that has answered is kept: an answer that comes late would be taken for the next one's.
    fn copy_from(&self, slot: &mut Option<Zygote>) -> Result<Spawned, ShimError> {
        let mut zygote = match slot.take() {
            Some(zygote) => zygote,
            None => Zygote::start(&self.executable, self.usual.get().map(|usual| &usual.plan))?,
        };
        let copied = zygote.spawn(WarmOptions { late_init: self.tree.is_v2() });
        if matches!(copied, Ok(_) | Err(ShimError::Failed(_))) {
            *slot = Some(zygote);
        }
        copied
    }

    /// Waits until a new shim is warm, and has it prepare itself for a usual container, in a control group of its own. Returns its
    /// network namespace; whatever becomes of it, `group` is what has to be removed.
    fn greet(&self, connection: &mut Connection, child: &Child, group: &mut Option<Group>) -> Result<OwnedFd, Error> {
        let (ready, netns) = receive_ready(connection, child)?;
        *group = self.group_for(&ready).map_err(Error::failed("cannot make a warm shim's control group"))?;
        if self.usual.get().is_some() {
            let directories = group.as_ref().map_or(Ok(Vec::new()), Group::dir_fds);
            let directories = directories.map_err(Error::failed("cannot open a warm shim's control group"))?;
            let directories: Vec<_> = directories.iter().map(AsFd::as_fd).collect();
            connection.prepare(&directories).map_err(Error::failed("cannot prepare a warm shim"))?;
        }
        Ok(netns)
    }

    fn group_for(&self, ready: &Ready) -> Result<Option<Group>, corten_cgroup::Error> {
        if ready.init_pid.is_none() || self.tree.is_v2() {
            return Ok(None);
        }
        // The daemon's own pid keeps the names of a dead daemon's leftovers apart from ours.
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.parent.join(&format!("pool-{}-{number}", std::process::id()))?;
        let group = self.tree.create(&path)?;
        match self.limits().map_or(Ok(()), |limits| group.apply(limits)) {
            Ok(()) => Ok(Some(group)),
            Err(error) => {
                let _ = group.remove();
                Err(error)
            }
        }
    }
}

/// Whether a warm shim is still there. One that somebody killed has closed its connection, behind all that it had said before.
fn is_alive(connection: &mut Connection) -> bool {
    loop {
        match connection.try_recv() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

/// Waits for a new shim's greeting, which brings its network namespace. Whoever greets is the child that is reaped in the end.
fn receive_ready(connection: &mut Connection, child: &Child) -> Result<(Ready, OwnedFd), Error> {
    let (message, mut fds) = connection.recv(WARM_TIMEOUT).map_err(Error::failed("cannot make a warm shim"))?;
    let Event::Ready(ready) = message.event else {
        return Err(Error::Unavailable("a shim did not begin with its greeting".into()));
    };
    if ready.pid != child.pid {
        return Err(Error::Unavailable(format!("process {} greets as the shim that is {}", ready.pid, child.pid)));
    }
    let netns = fds.pop().ok_or_else(|| Error::Unavailable("a shim sent no network namespace".into()))?;
    Ok((ready, netns))
}

/// Ends a shim that was never assigned, by its connection, and removes its control group. Blocks for its end.
fn end(connection: Connection, mut child: Child, group: Option<Group>) {
    drop(connection);
    log("a warm shim could not be reaped", child.wait().map(drop));
    log("a warm shim's control group stays behind", group.map_or(Ok(()), |group| group.remove()));
}

#[cfg(test)]
mod tests {
    use std::os::fd::BorrowedFd;

    use corten_shim::protocol::{Message, VERSION};
    use corten_sys::memfd;
    use corten_sys::socket::{Listener, Seqpacket};

    use super::*;

    fn send(socket: &Seqpacket, pid: i32, fds: &[BorrowedFd<'_>]) {
        let event = Event::Ready(Ready { version: VERSION, pid, init_pid: None });
        socket.send(&serde_json::to_vec(&Message { re: None, event }).unwrap(), fds).unwrap();
    }

    #[test]
    fn the_shim_that_greets_is_the_one_that_was_made() {
        let place = tempfile::tempdir().unwrap();
        let listener = Listener::bind(&place.path().join("socket")).unwrap();
        let mut connection = Connection::connect(&place.path().join("socket")).unwrap();
        let shim = listener.accept().unwrap();
        let netns = memfd::sealed("netns", b"").unwrap();
        let own = std::process::id().cast_signed();
        let child = Child::open(own).unwrap();
        send(&shim, own, &[netns.as_fd()]);
        assert_eq!(receive_ready(&mut connection, &child).unwrap().0.pid, own);
        send(&shim, own, &[]);
        assert!(receive_ready(&mut connection, &child).is_err(), "without its network namespace");
        send(&shim, own + 1, &[netns.as_fd()]);
        let error = receive_ready(&mut connection, &child).unwrap_err();
        assert!(error.message().contains("greets as the shim"), "{}", error.message());
    }
}
