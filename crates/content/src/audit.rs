//! Leases whose records aren't as they should be.
//!
//! A lease that nobody is at work with has a record, ends at its expiry, and holds what is here: what isn't it forgets when it
//! is [abandoned](crate::Lease::abandon) or garbage is collected. Any other holds what it shouldn't, or was to hold what was lost.

use std::collections::{BTreeMap, HashSet};

use corten_base::Digest;
use corten_metadata::rusqlite::Transaction;

use crate::ingest::part_of;
use crate::lease::{delete, ingest_of, now};
use crate::{Result, Store};

/// So many seconds may a lease's end be behind its time: who looks after that sleeps until then.
const LATE: i64 = 60;

/// A lease that isn't as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLease {
    /// The operation it was taken for; its id where that isn't known.
    pub owner: String,
    /// What is wrong with it.
    pub what: String,
}

/// What is recorded of a lease.
#[derive(Default)]
struct Record {
    /// None: what it holds is recorded, and the lease isn't.
    owner: Option<String>,
    expires: Option<i64>,
    entries: Vec<String>,
}

/// A lease's namespace and id.
type Key = (String, String);

/// A lease that isn't as it should be, as it is recorded.
struct Faulty {
    key: Key,
    owner: Option<String>,
    fault: Fault,
}

enum Fault {
    NoRecord,
    OperationOver,
    TimeOver,
    /// It holds what isn't here.
    Lost(Vec<String>),
}

impl Store {
    /// Leases that nobody is at work with and that aren't as they should be. With `repair` those end that should have ended, and
    /// what isn't here is forgotten.
    ///
    /// # Errors
    /// [`Error::Metadata`](crate::Error::Metadata).
    pub fn bad_leases(&self, repair: bool) -> Result<Vec<BadLease>> {
        let store = self.clone();
        let seen = self.database().write_relaxed(move |transaction| store.faults(transaction))?;
        if seen.is_empty() {
            return Ok(Vec::new());
        }
        // Twice: what belongs to a lease that was dropped as it was looked at is in the writer's queue, and gone the second time.
        let store = self.clone();
        self.database().write_relaxed(move |transaction| {
            let mut found = Vec::new();
            for Faulty { key, owner, fault } in store.faults(transaction)? {
                if !seen.iter().any(|other| other.key == key) {
                    continue;
                }
                let (namespace, id) = key;
                match &fault {
                    Fault::Lost(lost) if repair => forget(transaction, &namespace, &id, lost)?,
                    _ if repair => delete(transaction, &namespace, &id)?,
                    _ => {}
                }
                found.push(BadLease { owner: owner.unwrap_or(id), what: fault.text() });
            }
            Ok(found)
        })
    }

    fn faults(&self, transaction: &Transaction<'_>) -> Result<Vec<Faulty>> {
        let records = records(transaction)?;
        let active = self.active();
        let left = records.into_iter().filter(|((_, id), _)| !active.contains(id));
        let faulty = |(key, record): (Key, Record)| {
            let fault = self.fault(&record)?;
            Some(Faulty { key, owner: record.owner, fault })
        };
        Ok(left.filter_map(faulty).collect())
    }

    fn fault(&self, record: &Record) -> Option<Fault> {
        match record {
            Record { owner: None, .. } => Some(Fault::NoRecord),
            Record { expires: None, .. } => Some(Fault::OperationOver),
            Record { expires: Some(expires), .. } if expires.saturating_add(LATE) < now() => Some(Fault::TimeOver),
            Record { entries, .. } => Some(self.lost(entries)).filter(|lost| !lost.is_empty()).map(Fault::Lost),
        }
    }

    /// Has abandoned leases forget what isn't here.
    pub(crate) fn forget_lost(&self, transaction: &Transaction<'_>) -> Result<()> {
        let mut query = transaction.prepare_cached("SELECT DISTINCT namespace, lease FROM content_lease_blob")?;
        let leases = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for (namespace, id) in leases.collect::<Result<Vec<Key>, _>>()? {
            if !self.active().contains(&id) {
                self.forget_lost_of(transaction, &namespace, &id)?;
            }
        }
        Ok(())
    }

    /// Has one forget what isn't here.
    pub(crate) fn forget_lost_of(&self, transaction: &Transaction<'_>, namespace: &str, id: &str) -> Result<()> {
        let mut query =
            transaction.prepare_cached("SELECT digest FROM content_lease_blob WHERE namespace = ?1 AND lease = ?2")?;
        let entries = query.query_map((namespace, id), |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
        forget(transaction, namespace, id, &self.lost(&entries))
    }

    /// Those of a lease's entries of which neither the blob nor a part is here.
    fn lost(&self, entries: &[String]) -> Vec<String> {
        let blobs = entries.iter().filter_map(|entry| Digest::parse(entry).ok());
        let whole: HashSet<String> = blobs.filter(|blob| self.contains(blob)).map(|blob| part_of(&blob)).collect();
        let is_lost = |entry: &&String| {
            let part = match ingest_of(entry) {
                Some(name) => Some(name.to_owned()),
                None => Digest::parse(entry).ok().map(|blob| part_of(&blob)),
            };
            !part.is_some_and(|part| whole.contains(&part) || self.has_part(&part))
        };
        entries.iter().filter(is_lost).cloned().collect()
    }
}

impl Fault {
    fn text(&self) -> String {
        match self {
            Fault::NoRecord => "it has no record, and holds blobs".to_owned(),
            Fault::OperationOver => "its operation is over".to_owned(),
            Fault::TimeOver => "its time is over".to_owned(),
            Fault::Lost(lost) => format!("{} of what it holds is not here", lost.len()),
        }
    }
}

fn records(transaction: &Transaction<'_>) -> Result<BTreeMap<Key, Record>> {
    let mut records: BTreeMap<Key, Record> = BTreeMap::new();
    let mut query = transaction.prepare_cached("SELECT namespace, id, owner, expires FROM content_lease")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let record = Record { owner: Some(row.get(2)?), expires: row.get(3)?, entries: Vec::new() };
        records.insert((row.get(0)?, row.get(1)?), record);
    }
    let mut query = transaction.prepare_cached("SELECT namespace, lease, digest FROM content_lease_blob")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        records.entry((row.get(0)?, row.get(1)?)).or_default().entries.push(row.get(2)?);
    }
    Ok(records)
}

fn forget(transaction: &Transaction<'_>, namespace: &str, id: &str, entries: &[String]) -> Result<()> {
    let mut delete = transaction
        .prepare_cached("DELETE FROM content_lease_blob WHERE namespace = ?1 AND lease = ?2 AND digest = ?3")?;
    entries.iter().try_for_each(|entry| delete.execute((namespace, id, entry)).map(drop))?;
    Ok(())
}
