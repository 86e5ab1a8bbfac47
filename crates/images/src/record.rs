//! The records of images and their names.
//!
//! ```text
//! images_image  one image of one platform: its id, its manifest, and what lists show, so that they read no documents
//! images_name   (repository, reference) -> image and what was pulled; the reference is `:tag` or `@digest`
//! images_blob   the blobs an image needs, for the garbage collection
//! images_packed what a plain layer's blob became when it was packed for a registry: its digest there and size
//! images_layer  which blobs unfold to a layer: the same layer may have come packed in several ways
//! ```

use std::collections::{BTreeMap, HashSet};

use corten_base::{ChainId, DiffId, Digest, ImageId, Namespace, Reference};
use corten_metadata::rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef};
use corten_metadata::rusqlite::{self, Connection, OptionalExtension, Row, Transaction};

use crate::types::Descriptor;
use crate::{Error, Result};

pub(crate) const TABLES: &str = "
    CREATE TABLE images_image(
        namespace TEXT NOT NULL,
        id TEXT NOT NULL,
        manifest TEXT NOT NULL,
        target TEXT NOT NULL,
        chain TEXT,
        size INTEGER NOT NULL,
        created INTEGER NOT NULL,
        labels TEXT NOT NULL,
        parent TEXT,
        last_tagged INTEGER,
        PRIMARY KEY(namespace, id)
    ) WITHOUT ROWID;
    CREATE INDEX images_image_parent ON images_image(namespace, parent);
    CREATE TABLE images_name(
        namespace TEXT NOT NULL,
        repository TEXT NOT NULL,
        reference TEXT NOT NULL,
        image TEXT NOT NULL,
        target TEXT NOT NULL,
        PRIMARY KEY(namespace, repository, reference)
    ) WITHOUT ROWID;
    CREATE INDEX images_name_image ON images_name(namespace, image);
    CREATE TABLE images_blob(
        namespace TEXT NOT NULL,
        image TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY(namespace, image, digest)
    ) WITHOUT ROWID;
    CREATE TABLE images_layer(
        diff TEXT NOT NULL,
        digest TEXT NOT NULL,
        PRIMARY KEY(diff, digest)
    ) WITHOUT ROWID;";

/// What became of plain layers when they were packed for a registry.
pub(crate) const PACKED: &str = "
    CREATE TABLE images_packed(
        plain TEXT NOT NULL PRIMARY KEY,
        digest TEXT NOT NULL,
        size INTEGER NOT NULL
    ) WITHOUT ROWID;";

/// Who needs a blob.
pub(crate) const NEEDED: &str = "CREATE INDEX images_blob_digest ON images_blob(digest);";

/// An image's record.
#[derive(Clone, Debug)]
pub(crate) struct ImageRow {
    pub id: ImageId,
    pub manifest: Descriptor,
    pub target: Descriptor,
    pub chain: Option<ChainId>,
    pub size: u64,
    pub created: i64,
    pub labels: BTreeMap<String, String>,
    pub parent: Option<ImageId>,
    /// Nanoseconds since 1970.
    pub last_tagged: Option<i64>,
}

impl ImageRow {
    /// Whether it is one of an index's images.
    pub fn is_of_index(&self) -> bool {
        self.target.digest != self.manifest.digest
    }

    /// Whether it is no image, but something else that registries keep: a manifest is its own id then.
    pub fn is_artifact(&self) -> bool {
        self.id.0 == self.manifest.digest
    }
}

/// A name's record.
#[derive(Clone, Debug)]
pub(crate) struct NameRow {
    pub reference: Reference,
    pub image: ImageId,
    pub target: Descriptor,
}

/// Inserts an image or, if it is there, leaves its parent and tag time alone.
pub(crate) fn put_image(
    transaction: &Transaction<'_>,
    namespace: &str,
    row: &ImageRow,
    blobs: &HashSet<Digest>,
) -> Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO images_image VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT(namespace, id) DO UPDATE SET manifest = excluded.manifest, target = excluded.target",
        )?
        .execute((
            namespace,
            row.id.as_str(),
            json(&row.manifest),
            json(&row.target),
            row.chain.as_ref().map(ChainId::as_str),
            i64::try_from(row.size).unwrap_or(i64::MAX),
            row.created,
            json(&row.labels),
            row.parent.as_ref().map(ImageId::as_str),
            row.last_tagged,
        ))?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO images_blob VALUES (?1, ?2, ?3)")?;
    for digest in blobs {
        insert.execute((namespace, row.id.as_str(), digest.as_str()))?;
    }
    Ok(())
}

/// Records which blob unfolds to which layer.
pub(crate) fn put_layers(transaction: &Transaction<'_>, layers: &[(DiffId, Digest)]) -> Result<()> {
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO images_layer VALUES (?1, ?2)")?;
    layers.iter().try_for_each(|(diff_id, digest)| insert.execute((diff_id.as_str(), digest.as_str())).map(drop))?;
    Ok(())
}

/// The blobs that unfold to a layer; some may be gone.
pub(crate) fn blobs_of_layer(connection: &Connection, diff_id: &Digest) -> Result<Vec<Digest>> {
    let mut query = connection.prepare_cached("SELECT digest FROM images_layer WHERE diff = ?1")?;
    let rows = query.query_map([diff_id.as_str()], |row| Ok(row.get::<_, Parsed<Digest>>(0)?.0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// Says of an image behind what it came.
pub(crate) fn set_target(
    transaction: &Transaction<'_>,
    namespace: &str,
    id: &ImageId,
    target: &Descriptor,
) -> Result<()> {
    let text = "UPDATE images_image SET target = ?3 WHERE namespace = ?1 AND id = ?2";
    transaction.prepare_cached(text)?.execute((namespace, id.as_str(), json(target)))?;
    Ok(())
}

/// One more blob that an image needs.
pub(crate) fn add_blob(transaction: &Transaction<'_>, namespace: &str, id: &ImageId, digest: &Digest) -> Result<()> {
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO images_blob VALUES (?1, ?2, ?3)")?;
    insert.execute((namespace, id.as_str(), digest.as_str()))?;
    Ok(())
}

/// Takes blobs from an image's record.
pub(crate) fn take_blobs<'a>(
    transaction: &Transaction<'_>,
    namespace: &str,
    id: &ImageId,
    blobs: impl IntoIterator<Item = &'a Digest>,
) -> Result<()> {
    let mut delete =
        transaction.prepare_cached("DELETE FROM images_blob WHERE namespace = ?1 AND image = ?2 AND digest = ?3")?;
    for digest in blobs {
        delete.execute((namespace, id.as_str(), digest.as_str()))?;
    }
    Ok(())
}

/// Has an image need what another one needs.
pub(crate) fn give_blobs(transaction: &Transaction<'_>, namespace: &str, from: &ImageId, to: &ImageId) -> Result<()> {
    let text = "INSERT OR IGNORE INTO images_blob
        SELECT namespace, ?3, digest FROM images_blob WHERE namespace = ?1 AND image = ?2";
    transaction.prepare_cached(text)?.execute((namespace, from.as_str(), to.as_str()))?;
    Ok(())
}

/// Records what a plain blob became when it was packed.
pub(crate) fn put_packed(transaction: &Transaction<'_>, plain: &Digest, packed: &Digest, size: u64) -> Result<()> {
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    transaction.prepare_cached("INSERT OR REPLACE INTO images_packed VALUES (?1, ?2, ?3)")?.execute((
        plain.as_str(),
        packed.as_str(),
        size,
    ))?;
    Ok(())
}

/// What a plain blob became when it was packed.
pub(crate) fn packed(connection: &Connection, plain: &Digest) -> Result<Option<(Digest, u64)>> {
    let mut query = connection.prepare_cached("SELECT digest, size FROM images_packed WHERE plain = ?1")?;
    let row = query.query_row([plain.as_str()], |row| {
        Ok((row.get::<_, Parsed<Digest>>(0)?.0, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0)))
    });
    row.optional().map_err(Error::from)
}

/// Repositories that are known to have (had) an image with one of these blobs: those that gave it a digest.
pub(crate) fn repositories_with(connection: &Connection, namespace: &str, blobs: &[Digest]) -> Result<Vec<Reference>> {
    let mut query = connection.prepare_cached(
        "SELECT DISTINCT repository FROM images_name WHERE namespace = ?1 AND reference LIKE '@%'
             AND image IN (SELECT image FROM images_blob WHERE namespace = ?1 AND digest = ?2)",
    )?;
    let mut names: Vec<Reference> = Vec::new();
    for blob in blobs {
        let rows = query.query_map((namespace, blob.as_str()), |row| row.get::<_, String>(0))?;
        for name in rows {
            names.extend(Reference::parse_normalized(&name?).ok().filter(|name| !names.contains(name)));
        }
    }
    Ok(names)
}

/// Forgets the blobs that no image needs any more.
pub(crate) fn forget_layers(transaction: &Transaction<'_>) -> Result<()> {
    transaction.execute("DELETE FROM images_layer WHERE digest NOT IN (SELECT digest FROM images_blob)", [])?;
    transaction.execute("DELETE FROM images_packed WHERE plain NOT IN (SELECT digest FROM images_blob)", [])?;
    Ok(())
}

/// Deletes an image with its names.
pub(crate) fn delete_image(transaction: &Transaction<'_>, namespace: &str, id: &ImageId) -> Result<()> {
    for statement in [
        "DELETE FROM images_name WHERE namespace = ?1 AND image = ?2",
        "DELETE FROM images_blob WHERE namespace = ?1 AND image = ?2",
        "DELETE FROM images_image WHERE namespace = ?1 AND id = ?2",
    ] {
        transaction.prepare_cached(statement)?.execute((namespace, id.as_str()))?;
    }
    forget_layers(transaction)
}

/// The image of this id.
pub(crate) fn image(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Option<ImageRow>> {
    let mut query = connection.prepare_cached(&format!("{IMAGE} AND id = ?2"))?;
    query.query_row((namespace, id.as_str()), image_row).optional().map_err(Error::from)
}

/// All images of a namespace.
pub(crate) fn images(connection: &Connection, namespace: &str) -> Result<Vec<ImageRow>> {
    let mut query = connection.prepare_cached(IMAGE)?;
    query.query_map([namespace], image_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// At most two images whose ids begin so; `prefix` is `algorithm:digits`, and its digits are checked here.
pub(crate) fn images_by_prefix(connection: &Connection, namespace: &str, prefix: &str) -> Result<Vec<ImageRow>> {
    let mut query = connection.prepare_cached(&format!("{IMAGE} AND id >= ?2 AND id < ?2 || 'g' LIMIT 2"))?;
    query.query_map([namespace, prefix], image_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// All images of all namespaces.
pub(crate) fn all_images(connection: &Connection) -> Result<Vec<(Namespace, ImageRow)>> {
    let mut query = connection.prepare_cached("SELECT DISTINCT namespace FROM images_image")?;
    let names = query.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::new();
    for name in names {
        let namespace = Namespace::new(name.as_str());
        rows.extend(images(connection, &name)?.into_iter().map(|row| (namespace.clone(), row)));
    }
    Ok(rows)
}

/// The blobs that an image needs.
pub(crate) fn blobs_of(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Vec<Digest>> {
    let mut query = connection.prepare_cached("SELECT digest FROM images_blob WHERE namespace = ?1 AND image = ?2")?;
    let rows = query.query_map((namespace, id.as_str()), |row| Ok(row.get::<_, Parsed<Digest>>(0)?.0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// Takes blobs from an image, and its names with digests.
pub(crate) fn forget_blobs(
    transaction: &Transaction<'_>,
    namespace: &str,
    id: &ImageId,
    blobs: &[Digest],
) -> Result<()> {
    take_blobs(transaction, namespace, id, blobs)?;
    transaction.execute(
        "DELETE FROM images_name WHERE namespace = ?1 AND image = ?2 AND reference LIKE '@%'",
        (namespace, id.as_str()),
    )?;
    forget_layers(transaction)
}

/// Names whose image isn't there, in any namespace; takes them away with `remove`.
pub(crate) fn names_without_image(transaction: &Transaction<'_>, remove: bool) -> Result<Vec<String>> {
    const LOST: &str = "(namespace, image) NOT IN (SELECT namespace, id FROM images_image)";
    let mut query = transaction.prepare(&format!("SELECT repository || reference FROM images_name WHERE {LOST}"))?;
    let names = query.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?;
    if remove && !names.is_empty() {
        transaction.execute(&format!("DELETE FROM images_name WHERE {LOST}"), [])?;
    }
    Ok(names)
}

/// The images that were built on this one.
pub(crate) fn children(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Vec<ImageId>> {
    let mut query = connection.prepare_cached("SELECT id FROM images_image WHERE namespace = ?1 AND parent = ?2")?;
    let rows = query.query_map((namespace, id.as_str()), |row| Ok(row.get::<_, Parsed<ImageId>>(0)?.0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// Gives a name, taking it from whatever had it; the image that had it, if it was another.
pub(crate) fn put_name(transaction: &Transaction<'_>, namespace: &str, row: &NameRow) -> Result<Option<ImageId>> {
    let before = name(transaction, namespace, &row.reference)?.map(|row| row.image);
    transaction.prepare_cached("INSERT OR REPLACE INTO images_name VALUES (?1, ?2, ?3, ?4, ?5)")?.execute((
        namespace,
        row.reference.name(),
        suffix(&row.reference),
        row.image.as_str(),
        json(&row.target),
    ))?;
    Ok(before.filter(|before| *before != row.image))
}

/// Marks an image as named at this time.
pub(crate) fn touch(transaction: &Transaction<'_>, namespace: &str, id: &ImageId, now: i64) -> Result<()> {
    transaction
        .prepare_cached("UPDATE images_image SET last_tagged = ?3 WHERE namespace = ?1 AND id = ?2")?
        .execute((namespace, id.as_str(), now))?;
    Ok(())
}

/// Takes a name away; whether it was there.
pub(crate) fn delete_name(transaction: &Transaction<'_>, namespace: &str, reference: &Reference) -> Result<bool> {
    let deleted = transaction
        .prepare_cached("DELETE FROM images_name WHERE namespace = ?1 AND repository = ?2 AND reference = ?3")?
        .execute((namespace, reference.name(), suffix(reference)))?;
    Ok(deleted > 0)
}

/// What a name with a tag or a digest (which comes first) means.
pub(crate) fn name(connection: &Connection, namespace: &str, reference: &Reference) -> Result<Option<NameRow>> {
    let mut query = connection.prepare_cached(&format!("{NAME} AND repository = ?2 AND reference = ?3"))?;
    let key = (namespace, reference.name(), suffix(reference));
    query.query_row(key, name_row).optional().map_err(Error::from)
}

/// The names of an image, by repository, digests after tags.
pub(crate) fn names_of(connection: &Connection, namespace: &str, id: &ImageId) -> Result<Vec<NameRow>> {
    let mut query = connection.prepare_cached(&format!("{NAME} AND image = ?2 ORDER BY repository, reference"))?;
    query.query_map((namespace, id.as_str()), name_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// The names with tags of a repository.
pub(crate) fn tags_of(connection: &Connection, namespace: &str, repository: &Reference) -> Result<Vec<NameRow>> {
    let text = format!("{NAME} AND repository = ?2 AND reference >= ':' AND reference < ';' ORDER BY reference");
    let mut query = connection.prepare_cached(&text)?;
    query.query_map((namespace, repository.name()), name_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// All names of a namespace.
pub(crate) fn names(connection: &Connection, namespace: &str) -> Result<Vec<NameRow>> {
    let mut query = connection.prepare_cached(&format!("{NAME} ORDER BY repository, reference"))?;
    query.query_map([namespace], name_row)?.collect::<Result<_, _>>().map_err(Error::from)
}

/// The layer stacks of all images of all namespaces.
pub(crate) fn live_chains(connection: &Connection) -> Result<HashSet<ChainId>> {
    let mut query = connection.prepare_cached("SELECT DISTINCT chain FROM images_image WHERE chain IS NOT NULL")?;
    let rows = query.query_map([], |row| Ok(row.get::<_, Parsed<ChainId>>(0)?.0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// The blobs of all images of all namespaces.
pub(crate) fn live_blobs(connection: &Connection) -> Result<HashSet<Digest>> {
    let mut query = connection.prepare_cached("SELECT DISTINCT digest FROM images_blob")?;
    let rows = query.query_map([], |row| Ok(row.get::<_, Parsed<Digest>>(0)?.0))?;
    rows.collect::<Result<_, _>>().map_err(Error::from)
}

/// Those of these blobs that an image of any namespace needs.
pub(crate) fn live_among(connection: &Connection, blobs: &HashSet<Digest>) -> Result<HashSet<Digest>> {
    let mut query = connection.prepare_cached("SELECT 1 FROM images_blob WHERE digest = ?1")?;
    let mut live = HashSet::new();
    for blob in blobs {
        if query.exists([blob.as_str()])? {
            live.insert(blob.clone());
        }
    }
    Ok(live)
}

const IMAGE: &str = "SELECT id, manifest, target, chain, size, created, labels, parent, last_tagged
    FROM images_image WHERE namespace = ?1";
const NAME: &str = "SELECT repository, reference, image, target FROM images_name WHERE namespace = ?1";

/// The part of a name that follows the repository.
fn suffix(reference: &Reference) -> String {
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("@{digest}"),
        (None, tag) => format!(":{}", tag.unwrap_or(corten_base::reference::DEFAULT_TAG)),
    }
}

fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRow> {
    Ok(ImageRow {
        id: row.get::<_, Parsed<ImageId>>(0)?.0,
        manifest: row.get::<_, Document<Descriptor>>(1)?.0,
        target: row.get::<_, Document<Descriptor>>(2)?.0,
        chain: row.get::<_, Option<Parsed<ChainId>>>(3)?.map(|chain| chain.0),
        size: u64::try_from(row.get::<_, i64>(4)?).unwrap_or(0),
        created: row.get(5)?,
        labels: row.get::<_, Document<_>>(6)?.0,
        parent: row.get::<_, Option<Parsed<ImageId>>>(7)?.map(|parent| parent.0),
        last_tagged: row.get(8)?,
    })
}

fn name_row(row: &Row<'_>) -> rusqlite::Result<NameRow> {
    let text = format!("{}{}", row.get::<_, String>(0)?, row.get::<_, String>(1)?);
    let reference = Reference::parse_normalized(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(1, Type::Text, Box::new(error)))?;
    Ok(NameRow {
        reference,
        image: row.get::<_, Parsed<ImageId>>(2)?.0,
        target: row.get::<_, Document<Descriptor>>(3)?.0,
    })
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("maps and structs with text keys are always JSON")
}

/// A column that holds the text form of something.
pub(crate) struct Parsed<T>(pub T);

impl<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>> FromSql for Parsed<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Parsed<T>> {
        value.as_str()?.parse().map(Parsed).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// A column that holds JSON.
struct Document<T>(T);

impl<T: serde::de::DeserializeOwned> FromSql for Document<T> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Document<T>> {
        serde_json::from_str(value.as_str()?).map(Document).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}
