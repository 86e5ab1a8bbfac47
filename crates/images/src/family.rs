//! Images for several platforms that came one after the other behind one index.
//!
//! Each has its own record, so that its layers stay. One of them **leads**: it has all names that mean the index, this machine's
//! if it is there, else the one that came first. The others **follow**: they have no names there; lists don't show them, and they go
//! with the last name of the index.
//!
//! An image may have come for several indexes, and by its own manifest: its record needs the blob of each of these indexes, and
//! its target is one that still has a name. It goes when the last of them lets it go.

use std::collections::HashSet;

use corten_base::{Digest, ImageId};
use corten_metadata::rusqlite::{Connection, Transaction};

use crate::record::{self, ImageRow, Parsed};
use crate::types::Descriptor;
use crate::{Result, media_type};

/// Records with names that mean an index.
const NAMED: &str = "SELECT DISTINCT image FROM images_name
    WHERE namespace = ?1 AND target ->> '$.digest' = ?2";
/// Records that came for an index.
const CAME: &str = "SELECT image FROM images_blob WHERE namespace = ?1 AND digest = ?2";
/// Records whose target is an index that another one came for.
const BESIDE: &str = "SELECT id FROM images_image
    WHERE namespace = ?1 AND id <> ?2 AND target ->> '$.digest' <> manifest ->> '$.digest'
        AND target ->> '$.digest' IN (SELECT digest FROM images_blob WHERE namespace = ?1 AND image = ?2)";

/// Which image gets the names of a record's target. One for this machine (`is_hosts`) takes those that others have.
pub(crate) fn lead(transaction: &Transaction<'_>, namespace: &str, row: &ImageRow, is_hosts: bool) -> Result<ImageId> {
    if !row.is_of_index() {
        return Ok(row.id.clone());
    }
    let target = &row.target.digest;
    if is_hosts {
        give_names(transaction, namespace, target, &row.id)?;
        return Ok(row.id.clone());
    }
    let named = ids(transaction, NAMED, namespace, target.as_str())?;
    Ok(named.into_iter().next().unwrap_or_else(|| row.id.clone()))
}

/// Gives all names that mean an index to one image of it.
pub(crate) fn give_names(transaction: &Transaction<'_>, namespace: &str, target: &Digest, to: &ImageId) -> Result<()> {
    let text = "UPDATE images_name SET image = ?3 WHERE namespace = ?1 AND target ->> '$.digest' = ?2";
    transaction.prepare_cached(text)?.execute((namespace, target.as_str(), to.as_str()))?;
    Ok(())
}

/// The records of all images that came for an index.
pub(crate) fn members(connection: &Connection, namespace: &str, target: &Digest) -> Result<Vec<ImageRow>> {
    let ids = ids(connection, CAME, namespace, target.as_str())?;
    let rows = ids.iter().map(|id| record::image(connection, namespace, id));
    let rows = rows.collect::<Result<Vec<_>>>()?.into_iter().flatten();
    Ok(rows.filter(|row| row.manifest.digest != *target).collect())
}

/// Whether an image is here for the sake of what a name means, not only because something else needs it.
pub(crate) fn came_for(connection: &Connection, namespace: &str, target: &Digest, id: &ImageId) -> Result<bool> {
    let text = "SELECT EXISTS(SELECT 1 FROM images_blob AS came JOIN images_blob AS own USING(namespace, image)
        WHERE namespace = ?1 AND came.digest = ?2 AND own.digest = ?3)";
    let mut query = connection.prepare_cached(text)?;
    Ok(query.query_row((namespace, target.as_str(), id.as_str()), |row| row.get(0))?)
}

/// What names mean by the indexes that an image came for.
pub(crate) fn indexes_of(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Vec<Descriptor>> {
    let blobs = record::blobs_of(connection, namespace, id)?;
    let names = record::names(connection, namespace)?.into_iter();
    let means = |target: &Descriptor| media_type::is_index(&target.media_type) && blobs.contains(&target.digest);
    Ok(names.map(|name| name.target).filter(means).collect())
}

/// What became of a record that was let go.
#[derive(Debug, Default)]
pub(crate) struct Released {
    /// Whether it follows an index now.
    pub stays: bool,
    /// The records that are gone: its own, then those that belonged to an index that has no name any more.
    pub gone: Vec<ImageRow>,
    /// What they needed.
    pub blobs: HashSet<Digest>,
}

/// Lets a record go that has lost its last name: to an index that has one and that it came for too, or for good.
pub(crate) fn release(transaction: &Transaction<'_>, namespace: &str, row: &ImageRow) -> Result<Released> {
    let beside = ids(transaction, BESIDE, namespace, row.id.as_str())?;
    let mut released = Released::default();
    released.blobs.extend(record::blobs_of(transaction, namespace, &row.id)?);
    released.stays = follow(transaction, namespace, &row.id)?;
    if !released.stays {
        released.gone.push(row.clone());
    }
    for id in beside {
        let Some(other) = record::image(transaction, namespace, &id)? else { continue };
        if !ids(transaction, NAMED, namespace, other.target.digest.as_str())?.is_empty() {
            continue;
        }
        released.blobs.extend(record::blobs_of(transaction, namespace, &id)?);
        if !depart(transaction, namespace, &other, &other.target.digest)? {
            released.gone.push(other);
        }
    }
    Ok(released)
}

/// Has a record leave an index, for its own names or another index; if nothing is left, it goes. Whether it stays.
pub(crate) fn depart(transaction: &Transaction<'_>, namespace: &str, row: &ImageRow, index: &Digest) -> Result<bool> {
    let names = record::names_of(transaction, namespace, &row.id)?;
    // It leads, and nobody took its place.
    if names.iter().any(|name| name.target.digest == *index) {
        return Ok(true);
    }
    record::take_blobs(transaction, namespace, &row.id, [index])?;
    match names.first() {
        Some(_) if row.target.digest != *index => Ok(true),
        Some(name) => record::set_target(transaction, namespace, &row.id, &name.target).map(|()| true),
        None => follow(transaction, namespace, &row.id),
    }
}

/// Has a nameless record follow an index that it came for; if none has a name, it goes. Whether it stays.
fn follow(transaction: &Transaction<'_>, namespace: &str, id: &ImageId) -> Result<bool> {
    match indexes_of(transaction, namespace, id)?.into_iter().next() {
        Some(index) => record::set_target(transaction, namespace, id, &index).map(|()| true),
        None => record::delete_image(transaction, namespace, id).map(|()| false),
    }
}

fn ids(connection: &Connection, query: &str, namespace: &str, about: &str) -> Result<Vec<ImageId>> {
    let mut query = connection.prepare_cached(query)?;
    let rows = query.query_map((namespace, about), |row| Ok(row.get::<_, Parsed<ImageId>>(0)?.0))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
