//! The records of layers and active snapshots.

use std::collections::{HashMap, HashSet};

use corten_base::{ChainId, Digest};
use corten_metadata::Database;
use corten_metadata::rusqlite::{Connection, OptionalExtension, Row, Transaction};

use crate::{Error, Result};

pub(crate) const TABLES: &str = "
    CREATE TABLE snapshot_layer(
        chain TEXT PRIMARY KEY,
        id INTEGER NOT NULL UNIQUE,
        parent TEXT,
        size INTEGER NOT NULL,
        boot TEXT
    ) WITHOUT ROWID;
    CREATE INDEX snapshot_layer_parent ON snapshot_layer(parent);
    CREATE TABLE snapshot_active(
        key TEXT PRIMARY KEY,
        id INTEGER NOT NULL UNIQUE,
        parent TEXT
    ) WITHOUT ROWID;
    CREATE INDEX snapshot_active_parent ON snapshot_active(parent);";

/// `parent` is empty for images without layers.
pub(crate) const INIT_TABLE: &str = "
    CREATE TABLE snapshot_init(
        parent TEXT PRIMARY KEY,
        id INTEGER NOT NULL UNIQUE,
        boot TEXT NOT NULL
    ) WITHOUT ROWID;";

/// One layer's record.
#[derive(Clone, Debug)]
pub(crate) struct LayerRow {
    pub chain: ChainId,
    pub id: u64,
    pub parent: Option<ChainId>,
    pub size: u64,
}

/// What was found to be whole when the store was opened.
pub(crate) struct Kept {
    pub ids: HashSet<u64>,
    pub highest: u64,
}

/// Drops the records of layers that were lost: without a folder, not synced before the last boot ended, or standing on such.
pub(crate) fn reconcile(database: &Database, boot: &str, folders: &[u64]) -> Result<Kept> {
    let boot = boot.to_owned();
    let folders: HashSet<u64> = folders.iter().copied().collect();
    database.write_relaxed(move |transaction| {
        let synced: HashMap<String, bool> = transaction
            .prepare("SELECT chain, boot IS NULL OR boot = ?1 FROM snapshot_layer")?
            .query_map([&boot], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        let rows = layers(transaction)?;
        let mut whole: HashMap<&ChainId, u64> = HashMap::new();
        // A layer can only be whole after its parent was found to be: repeat until nothing is added.
        loop {
            let before = whole.len();
            for row in &rows {
                let there = folders.contains(&row.id) && synced.get(row.chain.as_str()).copied().unwrap_or(false);
                if there && row.parent.as_ref().is_none_or(|parent| whole.contains_key(parent)) {
                    whole.insert(&row.chain, row.id);
                }
            }
            if whole.len() == before {
                break;
            }
        }
        for row in rows.iter().filter(|row| !whole.contains_key(&row.chain)) {
            delete_layer(transaction, &row.chain)?;
        }
        let mut ids: HashSet<u64> = whole.values().copied().collect();
        ids.extend(kept_inits(transaction, &boot, &folders, |parent| {
            whole.keys().any(|chain| chain.as_str() == parent)
        })?);
        let mut actives = transaction.prepare("SELECT id FROM snapshot_active")?;
        for id in actives.query_map([], |row| row.get::<_, i64>(0))? {
            ids.insert(id?.cast_unsigned());
        }
        let highest = ids.iter().copied().max().unwrap_or(0);
        Ok(Kept { ids, highest })
    })
}

/// Drops the records of init layers that aren't of this boot (nobody synced their files) or stand on nothing; the ids of the others.
fn kept_inits(
    transaction: &Transaction<'_>,
    boot: &str,
    folders: &HashSet<u64>,
    is_whole: impl Fn(&str) -> bool,
) -> Result<Vec<u64>> {
    transaction.execute("DELETE FROM snapshot_init WHERE boot <> ?1", [boot])?;
    let rows: Vec<(String, i64)> = transaction
        .prepare("SELECT parent, id FROM snapshot_init")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut kept = Vec::new();
    for (parent, id) in rows {
        match folders.contains(&id.cast_unsigned()) && (parent.is_empty() || is_whole(&parent)) {
            true => kept.push(id.cast_unsigned()),
            false => drop(transaction.execute("DELETE FROM snapshot_init WHERE parent = ?1", [parent])?),
        }
    }
    Ok(kept)
}

/// The init layer on a layer, or on none.
pub(crate) fn init(connection: &Connection, parent: Option<&ChainId>) -> Result<Option<u64>> {
    let mut query = connection.prepare_cached("SELECT id FROM snapshot_init WHERE parent = ?1")?;
    let id = query.query_row([parent.map_or("", ChainId::as_str)], |row| row.get::<_, i64>(0)).optional()?;
    Ok(id.map(i64::cast_unsigned))
}

/// Records an init layer whose files belong to `boot`.
pub(crate) fn insert_init(transaction: &Transaction<'_>, parent: Option<&ChainId>, id: u64, boot: &str) -> Result<()> {
    let parent = parent.map_or("", ChainId::as_str);
    transaction.prepare_cached("INSERT INTO snapshot_init VALUES (?1, ?2, ?3)")?.execute((
        parent,
        id.cast_signed(),
        boot,
    ))?;
    Ok(())
}

/// Records an active snapshot. Its parent is looked up in the same transaction: it can't be collected in between.
pub(crate) fn insert_active(
    transaction: &Transaction<'_>,
    key: &str,
    id: u64,
    parent: Option<&ChainId>,
    on_init: Option<u64>,
) -> Result<()> {
    if active(transaction, key)?.is_some() {
        return Err(Error::Exists(key.into()));
    }
    // An init layer goes with the layer that it stands on: a layer that came back meanwhile is another one.
    if let Some(parent) = parent
        && (!has_layer(transaction, parent)? || init(transaction, Some(parent))? != on_init)
    {
        return Err(Error::NoLayer(parent.clone()));
    }
    let parent = parent.map(ChainId::as_str);
    transaction.prepare_cached("INSERT INTO snapshot_active VALUES (?1, ?2, ?3)")?.execute((
        key,
        id.cast_signed(),
        parent,
    ))?;
    Ok(())
}

/// All layers.
pub(crate) fn layers(connection: &Connection) -> Result<Vec<LayerRow>> {
    let mut query = connection.prepare_cached("SELECT chain, id, parent, size FROM snapshot_layer")?;
    query.query_map([], layer_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// A layer with those below it, nearest first.
pub(crate) fn stack(connection: &Connection, chain: &ChainId) -> Result<Vec<LayerRow>> {
    let mut query = connection.prepare_cached(
        "WITH RECURSIVE stack(depth, chain, id, parent, size) AS (
             SELECT 0, chain, id, parent, size FROM snapshot_layer WHERE chain = ?1
             UNION ALL
             SELECT depth + 1, below.chain, below.id, below.parent, below.size
                 FROM stack JOIN snapshot_layer AS below ON below.chain = stack.parent
         ) SELECT chain, id, parent, size FROM stack ORDER BY depth",
    )?;
    let rows: Vec<LayerRow> = query.query_map([chain.as_str()], layer_row)?.collect::<Result<_, _>>()?;
    match rows.last() {
        None => Err(Error::NoLayer(chain.clone())),
        Some(LayerRow { parent: Some(missing), .. }) => Err(Error::NoLayer(missing.clone())),
        Some(_) => Ok(rows),
    }
}

/// Whether the layer is there.
pub(crate) fn has_layer(connection: &Connection, chain: &ChainId) -> Result<bool> {
    let mut query = connection.prepare_cached("SELECT 1 FROM snapshot_layer WHERE chain = ?1")?;
    Ok(query.exists([chain.as_str()])?)
}

/// Records a layer whose files belong to `boot`.
pub(crate) fn insert_layer(transaction: &Transaction<'_>, row: &LayerRow, boot: &str) -> Result<()> {
    let parent = row.parent.as_ref().map(ChainId::as_str);
    let size = i64::try_from(row.size).unwrap_or(i64::MAX);
    transaction.prepare_cached("INSERT INTO snapshot_layer VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        row.chain.as_str(),
        row.id.cast_signed(),
        parent,
        size,
        boot,
    ))?;
    Ok(())
}

/// Deletes a layer's record and that of the init layer on it, whose id it answers.
pub(crate) fn delete_layer(transaction: &Transaction<'_>, chain: &ChainId) -> Result<Option<u64>> {
    let init = init(transaction, Some(chain))?;
    transaction.prepare_cached("DELETE FROM snapshot_init WHERE parent = ?1")?.execute([chain.as_str()])?;
    transaction.prepare_cached("DELETE FROM snapshot_layer WHERE chain = ?1")?.execute([chain.as_str()])?;
    Ok(init)
}

/// Whether a layer or an active snapshot stands on the layer.
pub(crate) fn has_children(connection: &Connection, chain: &ChainId) -> Result<bool> {
    let mut layers = connection.prepare_cached("SELECT 1 FROM snapshot_layer WHERE parent = ?1")?;
    let mut actives = connection.prepare_cached("SELECT 1 FROM snapshot_active WHERE parent = ?1")?;
    Ok(layers.exists([chain.as_str()])? || actives.exists([chain.as_str()])?)
}

/// The layers that active snapshots stand on.
pub(crate) fn active_parents(connection: &Connection) -> Result<HashSet<ChainId>> {
    let mut query =
        connection.prepare_cached("SELECT DISTINCT parent FROM snapshot_active WHERE parent IS NOT NULL")?;
    let rows = query.query_map([], |row| chain(row, 0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// An active snapshot's id and parent.
pub(crate) fn active(connection: &Connection, key: &str) -> Result<Option<(u64, Option<ChainId>)>> {
    let mut query = connection.prepare_cached("SELECT id, parent FROM snapshot_active WHERE key = ?1")?;
    let row = query.query_row([key], |row| Ok((row.get::<_, i64>(0)?.cast_unsigned(), optional_chain(row, 1)?)));
    row.optional().map_err(Error::from)
}

fn layer_row(row: &Row<'_>) -> Result<LayerRow, corten_metadata::rusqlite::Error> {
    let size: i64 = row.get(3)?;
    Ok(LayerRow {
        chain: chain(row, 0)?,
        id: row.get::<_, i64>(1)?.cast_unsigned(),
        parent: optional_chain(row, 2)?,
        size: u64::try_from(size).unwrap_or(0),
    })
}

fn chain(row: &Row<'_>, column: usize) -> Result<ChainId, corten_metadata::rusqlite::Error> {
    parse(row.get(column)?, column)
}

fn optional_chain(row: &Row<'_>, column: usize) -> Result<Option<ChainId>, corten_metadata::rusqlite::Error> {
    row.get::<_, Option<String>>(column)?.map(|text| parse(text, column)).transpose()
}

fn parse(text: String, column: usize) -> Result<ChainId, corten_metadata::rusqlite::Error> {
    use corten_metadata::rusqlite::{Error, types::Type};
    Digest::parse(&text)
        .map(ChainId)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}
