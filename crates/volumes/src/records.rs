//! What is kept of volumes.

use crate::{Error, Result, Volume};
use corten_base::{Namespace, VolumeName};
use corten_metadata::{Database, Schema};

/// This room's tables.
pub const SCHEMA: Schema = Schema {
    room: "volumes",
    migrations: &["
    CREATE TABLE volumes_volumes(
        namespace TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, PRIMARY KEY(namespace, name)
    ) WITHOUT ROWID;
    "],
};

/// The records of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    db: Database,
    namespace: Namespace,
}

impl Records {
    pub(crate) fn new(db: Database, namespace: Namespace) -> Records {
        Records { db, namespace }
    }

    pub(crate) fn all(&self) -> Result<Vec<Volume>> {
        let rows = self.db.read(|connection| {
            let mut select = connection
                .prepare_cached("SELECT name, record FROM volumes_volumes WHERE namespace = ?1 ORDER BY name")?;
            let rows = select.query_map([self.namespace.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, corten_metadata::Error>(rows.collect::<Result<Vec<(String, String)>, _>>()?)
        })?;
        rows.into_iter().map(|(name, record)| decode(name, &record)).collect()
    }

    pub(crate) fn get(&self, name: &str) -> Result<Option<Volume>> {
        let rows = self.db.read(|connection| {
            let mut select =
                connection.prepare_cached("SELECT record FROM volumes_volumes WHERE namespace = ?1 AND name = ?2")?;
            let rows = select.query_map([self.namespace.as_str(), name], |row| row.get(0))?;
            Ok::<_, corten_metadata::Error>(rows.collect::<Result<Vec<String>, _>>()?)
        })?;
        rows.into_iter().next().map(|record| decode(name.to_owned(), &record)).transpose()
    }

    /// Records a volume unless its name is taken; answers whether it did.
    pub(crate) fn insert(&self, volume: &Volume) -> Result<bool> {
        let namespace = self.namespace.clone();
        let name = volume.name.clone();
        let record = serde_json::to_string(volume).map_err(|error| Error::Record(name.to_string(), error))?;
        Ok(self.db.write(move |tx| {
            let insert = "INSERT OR IGNORE INTO volumes_volumes(namespace, name, record) VALUES (?1, ?2, ?3)";
            let rows = tx.prepare_cached(insert)?.execute((namespace.as_str(), name.as_str(), record))?;
            Ok::<_, corten_metadata::Error>(rows == 1)
        })?)
    }

    pub(crate) fn delete(&self, name: &VolumeName) -> Result<()> {
        let (namespace, name) = (self.namespace.clone(), name.clone());
        Ok(self.db.write(move |tx| {
            let delete = "DELETE FROM volumes_volumes WHERE namespace = ?1 AND name = ?2";
            tx.prepare_cached(delete)?.execute((namespace.as_str(), name.as_str()))?;
            Ok::<_, corten_metadata::Error>(())
        })?)
    }
}

fn decode(name: String, record: &str) -> Result<Volume> {
    serde_json::from_str(record).map_err(|error| Error::Record(name, error))
}
