//! Containers' records.
//!
//! ```text
//! engine_containers(namespace, id, name, record, state)   primary key (namespace, id), unique (namespace, name)
//!   record   JSON of [`Record`]: what never changes, or only by rename, update and network connect
//!   state    JSON of [`crate::life::State`]
//! ```
//!
//! A create is durable before it is acknowledged, in one transaction with the record of the container's layer. Once a removal is
//! committed the container is gone; it is durable before anything of what it leaves is swept, so that a machine that loses power in
//! between has the whole container or nothing. What nobody swept the next start of the daemon knows by its having no record. A change of
//! state survives the daemon's death, not the machine's, which ends what it speaks of.

use std::sync::Arc;

use corten_base::{ContainerId, ImageId, Namespace};
use corten_metadata::rusqlite::{self, params};
use corten_metadata::{Database, Schema};
use corten_snapshot::{Forgotten, Snapshots};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::life::State;
use crate::settings::ContainerSpec;
use crate::view::{Echo, MountPoint, NetworkView};

/// The engine's tables.
pub const SCHEMA: Schema = Schema {
    room: "engine",
    migrations: &[
        "CREATE TABLE engine_containers(
        namespace TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, state TEXT NOT NULL,
        PRIMARY KEY(namespace, id)) WITHOUT ROWID;
    CREATE UNIQUE INDEX engine_container_names ON engine_containers(namespace, name);
    CREATE TABLE engine_garbage(id TEXT PRIMARY KEY) WITHOUT ROWID;",
        "DROP TABLE engine_garbage;",
    ],
};

/// What is kept of a container beside its state.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub namespace: Namespace,
    pub id: ContainerId,
    pub name: String,
    pub created_ns: i64,
    pub image_id: ImageId,
    #[serde(default)]
    pub os: String,
    #[serde(with = "shared")]
    pub spec: Arc<ContainerSpec>,
    #[serde(default, with = "shared")]
    pub echo: Arc<Echo>,
    #[serde(default, with = "shared")]
    pub mounts: Arc<Vec<MountPoint>>,
    #[serde(default, with = "shared")]
    pub network: Arc<NetworkView>,
}

/// Shared parts are written as what they share.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
        T::serialize(value, serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// The records.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    db: Database,
    /// Held by the one that waits for the disk: a stalled one is not to take up all threads that may block.
    settling: Arc<tokio::sync::Mutex<()>>,
}

/// A failure in a transaction, of the statement or of the store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Store(#[from] corten_metadata::Error),
    #[error(transparent)]
    Statement(#[from] rusqlite::Error),
    #[error(transparent)]
    Layer(#[from] corten_snapshot::Error),
    #[error("a record is not readable")]
    Json(#[from] serde_json::Error),
}

impl Records {
    pub(crate) fn new(db: Database) -> Records {
        Records { db, settling: Arc::default() }
    }

    /// All records with their states.
    pub(crate) fn all(&self) -> Result<Vec<(Record, State)>, Error> {
        let rows = self.db.read(|connection| -> Result<Vec<(String, String)>, RecordError> {
            let mut statement = connection.prepare("SELECT record, state FROM engine_containers")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        });
        let rows = rows.map_err(Error::failed("cannot read the containers' records"))?;
        let mut records = Vec::with_capacity(rows.len());
        for (record, state) in rows {
            let read = || -> Result<_, serde_json::Error> {
                Ok((serde_json::from_str(&record)?, serde_json::from_str(&state)?))
            };
            // One unreadable record must not keep the daemon from managing all the others.
            match read() {
                Ok(pair) => records.push(pair),
                Err(error) => tracing::error!(%error, record, "skipping a container's record that is not readable"),
            }
        }
        Ok(records)
    }

    /// Adds a container with its layer, durably; one that is removed at its end need not survive the machine's.
    pub(crate) async fn insert(
        &self,
        record: &Record,
        state: &State,
        layer: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<(), corten_snapshot::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let row = row(record, state)?;
        let change = move |tx: &rusqlite::Transaction<'_>| -> Result<(), RecordError> {
            layer(tx)?;
            let [namespace, id, name, record, state] = row;
            let mut statement = tx.prepare_cached(
                "INSERT INTO engine_containers(namespace, id, name, record, state) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            statement.execute(params![namespace, id, name, record, state])?;
            Ok(())
        };
        let written = match record.spec.auto_remove {
            true => self.db.write_relaxed_async(change).await,
            false => self.db.write_async(change).await,
        };
        written.map_err(Error::failed("cannot record the container"))
    }

    /// Replaces a container's record and state, durably (a rename, an update).
    pub(crate) async fn replace(&self, record: &Record, state: &State) -> Result<(), Error> {
        let row = row(record, state)?;
        let change = self.db.write_async(move |tx| update(tx, row));
        change.await.map_err(Error::failed("cannot record the container"))
    }

    /// Replaces a container's record and state so that they survive the daemon; the write is under way when this returns, and later
    /// writes come after it.
    pub(crate) fn save(&self, record: &Record, state: &State) {
        let row = match row(record, state) {
            Ok(row) => row,
            Err(error) => return tracing::error!(error = error.message(), "cannot record a container's state"),
        };
        let change = self.db.write_relaxed_async(move |tx| update(tx, row));
        tokio::spawn(async move {
            if let Err(error) = change.await {
                tracing::error!(error = crate::error::chain(&error), "cannot record a container's state");
            }
        });
    }

    /// As [`Records::save`], and returns when it is written.
    pub(crate) async fn saved(&self, record: &Record, state: &State) -> Result<(), Error> {
        let row = row(record, state)?;
        let change = self.db.write_relaxed_async(move |tx| update(tx, row));
        change.await.map_err(Error::failed("cannot record the container's state"))
    }

    /// Removes a container with its layer; answers the layer, whose files are still there. They may go when this has
    /// [settled](Records::settled): until then a loss of power brings the container back.
    pub(crate) async fn remove(&self, namespace: &Namespace, id: &ContainerId) -> Result<Option<Forgotten>, Error> {
        let (namespace, id) = (namespace.as_str().to_string(), id.to_string());
        let change = self.db.write_relaxed_async(move |tx| -> Result<Option<Forgotten>, RecordError> {
            tx.prepare_cached("DELETE FROM engine_containers WHERE namespace = ?1 AND id = ?2")?
                .execute([&namespace, &id])?;
            Ok(Snapshots::forget(tx, &id)?)
        });
        change.await.map_err(Error::failed("cannot record the removal"))
    }

    /// Returns once all that was recorded before survives the loss of power.
    pub(crate) async fn settled(&self) -> Result<(), Error> {
        let _settling = self.settling.lock().await;
        let db = self.db.clone();
        crate::blocking::run(move || db.settle()).await?.map_err(Error::failed("the records are not on the disk"))
    }
}

/// The columns of a container, in the table's order.
fn row(record: &Record, state: &State) -> Result<[String; 5], Error> {
    let failed = || Error::failed("cannot write the container's record");
    Ok([
        record.namespace.as_str().into(),
        record.id.to_string(),
        record.name.clone(),
        serde_json::to_string(record).map_err(failed())?,
        serde_json::to_string(state).map_err(failed())?,
    ])
}

/// Changes a row that is there; a removed container's late write changes nothing.
fn update(tx: &rusqlite::Transaction<'_>, row: [String; 5]) -> Result<(), RecordError> {
    let [namespace, id, name, record, state] = row;
    let mut statement = tx.prepare_cached(
        "UPDATE engine_containers SET name = ?3, record = ?4, state = ?5 WHERE namespace = ?1 AND id = ?2",
    )?;
    statement.execute(params![namespace, id, name, record, state])?;
    Ok(())
}
