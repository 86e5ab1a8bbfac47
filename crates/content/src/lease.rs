//! Leases: who needs which blobs although no record names them yet.

use std::collections::{BTreeMap, HashSet};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use corten_base::{Digest, Namespace};
use corten_metadata::rusqlite::Transaction;

use crate::{Result, Store};

pub(crate) const TABLES: &str = "
    CREATE TABLE content_lease(
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        owner TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER,
        labels TEXT NOT NULL,
        PRIMARY KEY(namespace, id)
    ) WITHOUT ROWID;
    CREATE TABLE content_lease_blob(
        namespace TEXT NOT NULL,
        lease TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY(namespace, lease, digest)
    ) WITHOUT ROWID;";

/// Who takes a lease, and for how long.
#[derive(Clone, Debug, Default)]
pub struct LeaseOptions {
    /// The namespace of the operation.
    pub namespace: Namespace,
    /// The operation, for people.
    pub owner: String,
    /// How long it holds, from now, if the process dies or it is [abandoned](Lease::abandon); none: it ends with the process.
    pub ttl: Option<Duration>,
    /// Anything else.
    pub labels: BTreeMap<String, String>,
}

/// Holds blobs until it is dropped (or has expired).
#[derive(Debug)]
pub struct Lease {
    store: Store,
    namespace: String,
    id: String,
    abandoned: bool,
}

impl Store {
    /// Takes a lease that holds nothing yet.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn lease(&self, options: LeaseOptions) -> Result<Lease> {
        let LeaseOptions { namespace, owner, ttl, labels } = options;
        let id = format!("{}-{}", now_nanos(), self.next());
        let lease = Lease { store: self.clone(), namespace: namespace.to_string(), id, abandoned: false };
        self.active().insert(lease.id.clone());
        let (namespace, id) = (lease.namespace.clone(), lease.id.clone());
        let created = now();
        let expires = ttl.map(|ttl| created.saturating_add(i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)));
        let labels = serde_json::Value::from_iter(labels).to_string();
        self.database().write_relaxed(move |transaction| -> Result<()> {
            let mut insert = transaction.prepare_cached("INSERT INTO content_lease VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
            insert.execute((namespace, id, owner, created, expires, labels))?;
            Ok(())
        })?;
        Ok(lease)
    }

    /// Ends the leases that were abandoned or left by a process that died: those of this owner, or of all. Answers how many; what
    /// they held is garbage then.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn end_abandoned(&self, namespace: &Namespace, owner: Option<&str>) -> Result<usize> {
        let (store, namespace, owner) = (self.clone(), namespace.to_string(), owner.map(str::to_owned));
        self.database().write_relaxed(move |transaction| {
            let mut query = transaction
                .prepare_cached("SELECT id FROM content_lease WHERE namespace = ?1 AND owner = ifnull(?2, owner)")?;
            let ids = query.query_map((&namespace, &owner), |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
            let active = store.active();
            let abandoned: Vec<&String> = ids.iter().filter(|id| !active.contains(*id)).collect();
            abandoned.iter().try_for_each(|id| delete(transaction, &namespace, id))?;
            Ok(abandoned.len())
        })
    }

    /// When the first of the leases ends that nobody is at work with; none if there are none.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn next_expiry(&self) -> Result<Option<SystemTime>> {
        self.database().read(|connection| {
            let mut query = connection
                .prepare_cached("SELECT id, expires FROM content_lease WHERE expires IS NOT NULL ORDER BY expires")?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                if !self.active().contains(&row.get::<_, String>(0)?) {
                    let seconds = u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0);
                    // It holds through its last second.
                    return Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.saturating_add(1))));
                }
            }
            Ok(None)
        })
    }

    /// The leases that somebody in this process is at work with.
    pub(crate) fn active(&self) -> MutexGuard<'_, HashSet<String>> {
        self.shared.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn forget_process_leases(&self) -> Result<()> {
        self.database().write_relaxed(|transaction| -> Result<()> {
            transaction.execute("DELETE FROM content_lease WHERE expires IS NULL OR expires < ?1", [now()])?;
            transaction.execute(
                "DELETE FROM content_lease_blob WHERE (namespace, lease) NOT IN (SELECT namespace, id FROM content_lease)",
                [],
            )?;
            Ok(())
        })
    }

    /// What leases hold now: those of operations under way, however long they take, and those whose time isn't over; the others
    /// end, and forget what isn't here. Goes through the writer's queue, behind the leases that were dropped before.
    pub(crate) fn held(&self) -> Result<Held> {
        let store = self.clone();
        self.database().write_relaxed(move |transaction| {
            store.end_expired(transaction)?;
            store.forget_lost(transaction)?;
            let mut query = transaction.prepare_cached("SELECT lease, digest FROM content_lease_blob")?;
            let active = store.active();
            let mut held = Held::default();
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let part =
                    if active.contains(&row.get::<_, String>(0)?) { &mut held.active } else { &mut held.abandoned };
                part.insert(row.get(1)?);
            }
            Ok(held)
        })
    }

    fn end_expired(&self, transaction: &Transaction<'_>) -> Result<()> {
        let mut query = transaction
            .prepare_cached("SELECT namespace, id FROM content_lease WHERE expires IS NOT NULL AND expires < ?1")?;
        let expired = query.query_map([now()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let expired = expired.collect::<Result<Vec<(String, String)>, _>>()?;
        let active = self.active();
        let ended = expired.iter().filter(|(_, id)| !active.contains(id));
        ended.into_iter().try_for_each(|(namespace, id)| delete(transaction, namespace, id))
    }
}

/// What leases hold: the texts of digests, and the [names](ingest_row) of ingests.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// By operations under way.
    pub active: HashSet<String>,
    /// For those who may come back.
    pub abandoned: HashSet<String>,
}

impl Held {
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.active.contains(digest.as_str()) || self.abandoned.contains(digest.as_str())
    }

    pub fn has_ingest(&self, name: &str) -> bool {
        let row = ingest_row(name);
        self.active.contains(&row) || self.abandoned.contains(&row)
    }
}

const INGEST: &str = "ingest/";

/// How an ingest's file stands among a lease's digests; none of these looks so.
fn ingest_row(name: &str) -> String {
    format!("{INGEST}{name}")
}

/// The ingest's name if an entry of a lease is one.
pub(crate) fn ingest_of(entry: &str) -> Option<&str> {
    entry.strip_prefix(INGEST)
}

impl Lease {
    /// Leaves the lease to its expiry (at the latest the end of the process, if it has none): somebody may come back for
    /// what it holds and is here. The rest is forgotten.
    pub fn abandon(mut self) {
        let (store, namespace, id) = (self.store.clone(), self.namespace.clone(), self.id.clone());
        let forget = move |transaction: &Transaction<'_>| store.forget_lost_of(transaction, &namespace, &id);
        // What it holds too much because this fails is forgotten when garbage is collected.
        drop(self.store.database().write_relaxed(forget));
        self.abandoned = true;
    }

    /// Holds a blob, whether or not it is there yet; whether it is.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn hold(&self, digest: &Digest) -> Result<bool> {
        self.add(digest.to_string())?;
        Ok(self.store.contains(digest))
    }

    /// Holds an ingest by its file's name.
    pub(crate) fn hold_ingest(&self, name: &str) -> Result<()> {
        self.add(ingest_row(name))
    }

    fn add(&self, text: String) -> Result<()> {
        let _shared = self.store.shared.garbage.read().unwrap_or_else(PoisonError::into_inner);
        let (namespace, lease) = (self.namespace.clone(), self.id.clone());
        self.store.database().write_relaxed(move |transaction| -> Result<()> {
            transaction
                .prepare_cached("INSERT OR IGNORE INTO content_lease_blob VALUES (?1, ?2, ?3)")?
                .execute((namespace, lease, text))?;
            Ok(())
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.abandoned {
            let (namespace, id) = (std::mem::take(&mut self.namespace), self.id.clone());
            // Nobody waits for it: what stays because this fails is forgotten when the store is opened next. It is in the queue
            // before the lease is nobody's: who looks at leases relies on that.
            let ended = move |transaction: &Transaction<'_>| delete(transaction, &namespace, &id);
            drop(self.store.database().write_relaxed_async(ended));
        }
        self.store.active().remove(&self.id);
    }
}

pub(crate) fn delete(transaction: &Transaction<'_>, namespace: &str, id: &str) -> Result<()> {
    for statement in [
        "DELETE FROM content_lease WHERE namespace = ?1 AND id = ?2",
        "DELETE FROM content_lease_blob WHERE namespace = ?1 AND lease = ?2",
    ] {
        transaction.prepare_cached(statement)?.execute((namespace, id))?;
    }
    Ok(())
}

pub(crate) fn now() -> i64 {
    i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX)
}

fn now_nanos() -> u128 {
    since_epoch().as_nanos()
}

fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
