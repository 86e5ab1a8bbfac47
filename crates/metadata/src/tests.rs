//! The record store's promises: grouped, isolated, durable changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::*;

const ROOM: Schema = Schema {
    room: "thing",
    migrations: &["CREATE TABLE thing(namespace TEXT, name TEXT, PRIMARY KEY(namespace, name)) WITHOUT ROWID"],
};

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    Fixture { _folder: folder, path }
}

fn insert(name: &str) -> impl FnOnce(&Transaction<'_>) -> Result<()> + Send + 'static {
    let name = name.to_owned();
    move |transaction| {
        transaction.execute("INSERT INTO thing VALUES ('default', ?1)", [name])?;
        Ok(())
    }
}

fn names(database: &Database) -> Vec<String> {
    database
        .read(|connection| -> Result<_> {
            let mut query = connection.prepare("SELECT name FROM thing ORDER BY name")?;
            let rows = query.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
            Ok(rows)
        })
        .unwrap()
}

#[test]
fn a_change_is_read_back_and_survives() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    database.write(insert("a")).unwrap();
    database.write_relaxed(insert("b")).unwrap();
    assert_eq!(names(&database), ["a", "b"]);
    drop(database);
    assert_eq!(names(&Database::open(&fixture.path, &[ROOM]).unwrap()), ["a", "b"]);
}

#[test]
fn a_failed_change_leaves_nothing_and_harms_no_other() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let threads: Vec<_> = (0..64)
        .map(|number| {
            let database = database.clone();
            thread::spawn(move || {
                database.write(move |transaction| -> Result<()> {
                    insert(&format!("{number:02}"))(transaction)?;
                    if number % 2 == 1 { Err(Error::Panicked) } else { Ok(()) }
                })
            })
        })
        .collect();
    for (number, thread) in threads.into_iter().enumerate() {
        assert_eq!(thread.join().unwrap().is_ok(), number % 2 == 0, "{number}");
    }
    assert_eq!(names(&database).len(), 32);
}

#[test]
fn a_panicking_change_is_an_error_for_its_caller_only() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let result = database.write(|transaction| -> Result<()> {
        insert("lost")(transaction)?;
        panic!("as a test");
    });
    assert!(matches!(result, Err(Error::Panicked)));
    database.write(insert("kept")).unwrap();
    assert_eq!(names(&database), ["kept"]);
}

#[test]
fn a_change_within_a_change_is_refused() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let inner = database.clone();
    let result = database.write(move |_| inner.write(insert("never")));
    assert!(matches!(result, Err(Error::Nested)));
}

#[test]
fn a_newer_database_is_refused_untouched() {
    let fixture = fixture();
    const NEWER: Schema = Schema { room: "thing", migrations: &[ROOM.migrations[0], "CREATE TABLE thing_two(x)"] };
    const OTHER: Schema = Schema { room: "other", migrations: &["CREATE TABLE other(x)"] };
    drop(Database::open(&fixture.path, &[NEWER]).unwrap());
    let error = Database::open(&fixture.path, &[OTHER, ROOM]).unwrap_err();
    assert!(matches!(error, Error::Newer { room: "thing", found: 2, known: 1 }), "{error}");
    let database = Database::open(&fixture.path, &[NEWER]).unwrap();
    let tables: i64 = database
        .read(|connection| -> Result<_> {
            Ok(connection.query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'other'", [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn a_failing_migration_changes_nothing() {
    let fixture = fixture();
    const BROKEN: Schema = Schema { room: "broken", migrations: &["CREATE TABLE broken(x)", "nonsense"] };
    let error = Database::open(&fixture.path, &[BROKEN]).unwrap_err();
    assert!(matches!(error, Error::Migrate { room: "broken", version: 2, .. }), "{error}");
    const MENDED: Schema = Schema { room: "broken", migrations: &["CREATE TABLE broken(x)"] };
    Database::open(&fixture.path, &[MENDED]).unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let fixture = fixture();
    std::fs::write(&fixture.path, vec![b'x'; 9000]).unwrap();
    assert!(matches!(Database::open(&fixture.path, &[ROOM]), Err(Error::Open { .. })));
    let missing = fixture.path.join("missing/metadata.db");
    assert!(matches!(Database::open(&missing, &[ROOM]), Err(Error::Create { .. })));
}

#[tokio::test]
async fn changes_are_queued_before_they_are_polled() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let unpolled = database.write_relaxed_async(insert("a"));
    database.write_async(insert("b")).await.unwrap();
    assert_eq!(names(&database), ["a", "b"]);
    unpolled.await.unwrap();
}

#[test]
fn more_readers_than_connections_take_turns() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let reads = Arc::new(AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                names(&database);
                reads.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(reads.load(Ordering::Relaxed), 16);
}

#[test]
fn the_last_handle_may_be_dropped_by_a_change() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    let inner = database.clone();
    let future = database.write_async(move |transaction| {
        let held = inner;
        insert("a")(transaction)?;
        drop(held);
        Ok::<_, Error>(())
    });
    drop(database);
    drop(future);
    // Opening waits for nobody: the writer thread ends by itself, with the change made or (never started) not made.
    Database::open(&fixture.path, &[ROOM]).unwrap();
}

/// SQLite writes nothing, and synchronises nothing, where a row is overwritten with what it says already.
#[test]
fn a_durable_change_that_changes_no_byte_takes_those_before_it_along() {
    const STATES: Schema = Schema { room: "states", migrations: &["CREATE TABLE states(state TEXT)"] };
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[STATES]).unwrap();
    let change = |statement: &'static str| {
        move |transaction: &Transaction<'_>| -> Result<usize> { Ok(transaction.execute(statement, [])?) }
    };
    database.write_relaxed(change("INSERT INTO states VALUES ('up')")).unwrap();
    // That it goes to the disk shows where there is no log to be found.
    let log = fixture.path.with_file_name("metadata.db-wal");
    let away = log.with_file_name("away");
    std::fs::rename(&log, &away).unwrap();
    let error = database.write(change("UPDATE states SET state = state")).unwrap_err();
    assert!(error.to_string().contains("cannot be synchronised"), "{error}");
    std::fs::rename(&away, &log).unwrap();
    assert_eq!(database.write(change("UPDATE states SET state = state")).unwrap(), 1);
}

/// The kernel tells of a failure once, and of what it has thrown away for it not at all.
#[test]
fn what_the_disk_has_refused_is_never_settled() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    database.write_relaxed(insert("a")).unwrap();
    let log = fixture.path.with_file_name("metadata.db-wal");
    let away = log.with_file_name("away");
    std::fs::rename(&log, &away).unwrap();
    // It can be opened, and not be synchronised.
    std::os::unix::fs::symlink("/dev/null", &log).unwrap();
    assert!(database.settle().is_err());
    std::fs::rename(&away, &log).unwrap();
    database.write(insert("b")).unwrap();
    let error = database.settle().unwrap_err();
    assert!(error.to_string().contains("failed before"), "{error}");
}

#[test]
fn the_log_is_folded_into_the_file() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    for number in 0..1000 {
        database.write_relaxed(insert(&format!("{number:02000}"))).unwrap();
    }
    let length = |path: &Path| std::fs::metadata(path).unwrap().len();
    let log = length(&fixture.path.with_file_name("metadata.db-wal"));
    assert!(log < 4 << 20 && length(&fixture.path) > 1 << 20, "{log}");
}

#[test]
fn a_relaxed_write_can_be_settled() {
    let fixture = fixture();
    let database = Database::open(&fixture.path, &[ROOM]).unwrap();
    database.write_relaxed(insert("a")).unwrap();
    database.settle().unwrap();
    // That it goes to the disk shows where there is no log to be found.
    let log = fixture.path.with_file_name("metadata.db-wal");
    let away = log.with_file_name("away");
    std::fs::rename(&log, &away).unwrap();
    database.settle().unwrap();
    database.write_relaxed(insert("b")).unwrap();
    let error = database.settle().unwrap_err();
    assert!(error.to_string().contains("cannot be synchronised"), "{error}");
    // A durable change takes those before it along.
    database.write(insert("c")).unwrap();
    database.settle().unwrap();
    std::fs::rename(&away, &log).unwrap();
    assert_eq!(names(&database), ["a", "b", "c"]);
}
