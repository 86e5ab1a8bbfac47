//! What is kept of networks and endpoints.
//!
//! ```text
//! network_networks   (namespace, id)                -> name, record (JSON of `Network`)
//! network_endpoints  (namespace, sandbox, endpoint) -> record (JSON of `Endpoint`)
//! network_settings   (namespace, name)              -> value
//! ```
//!
//! Networks are written through to the disk. Endpoints only have to survive the daemon, not a power failure: after one there
//! are no sandboxes left.

use crate::model::{Endpoint, Network};
use crate::{Error, Result};
use corten_base::{Namespace, NetworkId, SandboxId};
use corten_metadata::{Database, Schema};
use rusqlite::Connection;
use serde::de::DeserializeOwned;

/// This room's tables.
pub const SCHEMA: Schema = Schema {
    room: "network",
    migrations: &["
    CREATE TABLE network_networks(
        namespace TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY(namespace, id), UNIQUE(namespace, name)
    ) WITHOUT ROWID;
    CREATE TABLE network_endpoints(
        namespace TEXT NOT NULL, sandbox TEXT NOT NULL, endpoint TEXT NOT NULL, record TEXT NOT NULL,
        PRIMARY KEY(namespace, sandbox, endpoint)
    ) WITHOUT ROWID;
    CREATE TABLE network_settings(
        namespace TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY(namespace, name)
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

    pub(crate) fn networks(&self) -> Result<Vec<Network>> {
        self.load("SELECT id, record FROM network_networks WHERE namespace = ?1")
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.load("SELECT endpoint, record FROM network_endpoints WHERE namespace = ?1")
    }

    pub(crate) fn put_network(&self, network: &Network) -> Result<()> {
        let namespace = self.namespace.clone();
        let (id, name, record) = (network.id.clone(), network.name.clone(), encode(&network.name, network)?);
        Ok(self.db.write(move |tx| {
            let insert = "INSERT OR REPLACE INTO network_networks(namespace, id, name, record) VALUES (?1, ?2, ?3, ?4)";
            tx.prepare_cached(insert)?.execute((namespace.as_str(), id.as_str(), name, record))?;
            Ok::<_, corten_metadata::Error>(())
        })?)
    }

    pub(crate) fn delete_network(&self, id: &NetworkId) -> Result<()> {
        let (namespace, id) = (self.namespace.clone(), id.clone());
        Ok(self.db.write(move |tx| {
            let delete = "DELETE FROM network_networks WHERE namespace = ?1 AND id = ?2";
            tx.prepare_cached(delete)?.execute((namespace.as_str(), id.as_str()))?;
            Ok::<_, corten_metadata::Error>(())
        })?)
    }

    pub(crate) fn put_endpoints(&self, endpoints: &[Endpoint]) -> Result<()> {
        let namespace = self.namespace.clone();
        let mut rows = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            rows.push((endpoint.sandbox.clone(), endpoint.id.clone(), encode(&endpoint.name, endpoint)?));
        }
        Ok(self.db.write_relaxed(move |tx| {
            let insert =
                "INSERT OR REPLACE INTO network_endpoints(namespace, sandbox, endpoint, record) VALUES (?1, ?2, ?3, ?4)";
            let mut insert = tx.prepare_cached(insert)?;
            for (sandbox, id, record) in rows {
                insert.execute((namespace.as_str(), sandbox.as_str(), id.as_str(), record))?;
            }
            Ok::<_, corten_metadata::Error>(())
        })?)
    }

    pub(crate) fn delete_endpoints(&self, sandbox: &SandboxId) -> Result<()> {
        let (namespace, sandbox) = (self.namespace.clone(), sandbox.clone());
        Ok(self.db.write_relaxed(move |tx| {
            let delete = "DELETE FROM network_endpoints WHERE namespace = ?1 AND sandbox = ?2";
            tx.prepare_cached(delete)?.execute((namespace.as_str(), sandbox.as_str()))?;
            Ok::<_, corten_metadata::Error>(())
        })?)
    }

    pub(crate) fn setting(&self, name: &str) -> Result<Option<String>> {
        let select = "SELECT value FROM network_settings WHERE namespace = ?1 AND name = ?2";
        let values = self.db.read(|connection| {
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map((self.namespace.as_str(), name), |row| row.get(0))?;
            Ok::<_, corten_metadata::Error>(rows.collect::<Result<Vec<String>, _>>()?)
        })?;
        Ok(values.into_iter().next())
    }

    pub(crate) fn set_setting(&self, name: &'static str, value: String) -> Result<()> {
        let namespace = self.namespace.clone();
        Ok(self.db.write(move |tx| {
            let insert = "INSERT OR REPLACE INTO network_settings(namespace, name, value) VALUES (?1, ?2, ?3)";
            tx.execute(insert, (namespace.as_str(), name, value))?;
            Ok::<_, corten_metadata::Error>(())
        })?)
    }

    fn load<T: DeserializeOwned>(&self, select: &str) -> Result<Vec<T>> {
        let rows = self.db.read(|connection: &Connection| {
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([self.namespace.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok::<_, corten_metadata::Error>(rows.collect::<Result<Vec<(String, String)>, _>>()?)
        })?;
        rows.into_iter()
            .map(|(key, record)| serde_json::from_str(&record).map_err(|error| Error::Record(key, error)))
            .collect()
    }
}

fn encode<T: serde::Serialize>(name: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Record(name.to_owned(), error))
}
