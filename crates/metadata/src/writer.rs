//! The one thread that changes the database, and its group commit.
//!
//! The queue is bounded, so that a stalled disk holds callers back instead of growing the daemon. While one group is being
//! synchronised the next one gathers; a lone caller never waits for company.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle, ThreadId};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::log::Log;
use crate::{Error, Result};

/// At most so many changes share one commit.
const GROUP: usize = 256;
/// At most so many wait in the queue before callers block.
const QUEUE: usize = 1024;

/// What a commit must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// The process being killed.
    ProcessDeath,
    /// The machine losing power.
    PowerLoss,
}

#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
}

impl Writer {
    /// Starts the thread; `log` is the connection's write-ahead log.
    pub(crate) fn spawn(connection: Connection, log: Arc<Log>) -> Result<Writer> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name("metadata".into())
            .stack_size(1 << 20)
            .spawn(move || run(connection, &log, &jobs))
            .map_err(Error::Spawn)?;
        let id = thread.thread().id();
        Ok(Writer { queue: Some(queue), thread: Mutex::new(Some(thread)), id })
    }

    pub(crate) fn call<T, E, F>(&self, durability: Durability, change: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if thread::current().id() == self.id {
            return Err(Error::Nested.into());
        }
        let (reply, answer) = sync_channel(1);
        self.send(Call::new(durability, change, move |result| drop(reply.send(result))))?;
        answer.recv().unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    pub(crate) fn call_async<T, E, F>(
        &self,
        durability: Durability,
        change: F,
    ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, F>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // The queue is deep enough that this blocks only when a disk has stalled, when nothing else would get on either.
        let sent = self.send(Call::new(durability, change, move |result| drop(reply.send(result))));
        async move {
            sent?;
            answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
        }
    }

    fn send(&self, call: impl Job + 'static) -> Result<()> {
        self.queue.as_ref().ok_or(Error::Closed)?.send(Box::new(call)).map_err(|_| Error::Closed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        let thread = self.thread.get_mut().ok().and_then(Option::take);
        // The last handle may be dropped by a change that captured it: a thread can't wait for itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            drop(thread.join());
        }
    }
}

/// A change on its way through the writer.
trait Job: Send {
    fn durability(&self) -> Durability;
    /// Makes the change; whether it shall be kept.
    fn run(&mut self, transaction: &Transaction<'_>) -> Result<Keep, Box<dyn Any + Send>>;
    /// Tells the caller how it went; `failure` if the commit (or the savepoint) did.
    fn finish(self: Box<Self>, failure: Option<Error>);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

struct Call<F, R, T, E> {
    durability: Durability,
    change: Option<F>,
    result: Option<Result<T, E>>,
    reply: R,
}

impl<F, R, T, E> Call<F, R, T, E> {
    fn new(durability: Durability, change: F, reply: R) -> Call<F, R, T, E> {
        Call { durability, change: Some(change), result: None, reply }
    }
}

impl<F, R, T, E> Job for Call<F, R, T, E>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    R: FnOnce(Result<T, E>) + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> Result<Keep, Box<dyn Any + Send>> {
        let Some(change) = self.change.take() else { return Ok(Keep::No) };
        let result = catch_unwind(AssertUnwindSafe(|| change(transaction)))?;
        let keep = if result.is_ok() { Keep::Yes } else { Keep::No };
        self.result = Some(result);
        Ok(keep)
    }

    fn finish(self: Box<Self>, failure: Option<Error>) {
        let result = match (self.result, failure) {
            // A change that failed by itself tells its own story, whatever became of the others.
            (Some(Err(error)), _) => Err(error),
            (_, Some(failure)) => Err(failure.into()),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(Error::Panicked.into()),
        };
        (self.reply)(result);
    }
}

fn run(mut connection: Connection, log: &Log, jobs: &Receiver<Box<dyn Job>>) {
    // What a commit survives as the connection is opened.
    let mut durability = Durability::PowerLoss;
    while let Ok(first) = jobs.recv() {
        // `synchronous` can't be changed within a transaction: a durable change that joins a relaxed group would be lost, so
        // a group is gathered before it begins.
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(job) = jobs.try_recv()
        {
            group.push(job);
        }
        let wanted = group.iter().map(|job| job.durability()).max().unwrap_or(Durability::PowerLoss);
        if wanted != durability {
            match synchronise(&connection, wanted) {
                Ok(()) => durability = wanted,
                Err(error) if wanted == Durability::PowerLoss => {
                    let failed = Error::from(error);
                    group.into_iter().for_each(|job| job.finish(Some(failed.again())));
                    continue;
                }
                // More than was asked for.
                Err(_) => {}
            }
        }
        while !group.is_empty() {
            group = commit(&mut connection, log, durability, group);
        }
    }
}

fn synchronise(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    let level = match durability {
        Durability::PowerLoss => "FULL",
        Durability::ProcessDeath => "NORMAL",
    };
    connection.pragma_update(None, "synchronous", level)
}

/// Runs and commits a group and answers its callers; the rest of the group if its transaction was lost on the way.
fn commit(
    connection: &mut Connection,
    log: &Log,
    durability: Durability,
    group: Vec<Box<dyn Job>>,
) -> Vec<Box<dyn Job>> {
    let mut waiting = group.into_iter();
    let mut done = Vec::with_capacity(waiting.len());
    let outcome = transact(connection, log, durability, &mut waiting, &mut done);
    if let Err(error) = &outcome
        && done.is_empty()
    {
        // No transaction could even be begun: trying the rest again would spin.
        waiting.by_ref().for_each(|job| job.finish(Some(error.again())));
    }
    for (job, failure) in done {
        let failure = failure.or_else(|| outcome.as_ref().err().map(Error::again));
        job.finish(failure);
    }
    waiting.collect()
}

/// Changes that have been run, each with its own failure.
type Done = Vec<(Box<dyn Job>, Option<Error>)>;

fn transact(
    connection: &mut Connection,
    log: &Log,
    durability: Durability,
    waiting: &mut dyn Iterator<Item = Box<dyn Job>>,
    done: &mut Done,
) -> Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for mut job in waiting {
        let outcome = guarded(&transaction, job.as_mut());
        let (failure, broken) = match outcome {
            Ok(failure) => (failure, None),
            Err(broken) => (None, Some(broken)),
        };
        done.push((job, failure));
        if let Some(broken) = broken {
            return Err(broken);
        }
    }
    transaction.commit()?;
    log.committed(durability)
}

/// Runs one change in its own savepoint; its own failure, or an error if the whole transaction is broken.
fn guarded(transaction: &Transaction<'_>, job: &mut dyn Job) -> Result<Option<Error>> {
    transaction.prepare_cached("SAVEPOINT change")?.execute([])?;
    let kept = job.run(transaction);
    // A full disk or an I/O error can roll the whole transaction back: nothing before it was kept then either.
    if transaction.is_autocommit() {
        return Err(Error::Commit { reason: "the disk is full or failing".into() });
    }
    if !matches!(kept, Ok(Keep::Yes)) {
        transaction.prepare_cached("ROLLBACK TO change")?.execute([])?;
    }
    transaction.prepare_cached("RELEASE change")?.execute([])?;
    Ok(kept.err().map(|_| Error::Panicked))
}
