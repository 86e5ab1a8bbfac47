//! A full disk: a clear error, and a database that works again when there is room. Needs root to mount a small tmpfs, in a
//! mount namespace of the test's own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use corten_base::ErrorKind;
use corten_metadata::{Database, Error, Result, Schema};
use corten_sys::mount::{Propagation, set_root_propagation};
use corten_sys::{namespace, process};

const ROOM: Schema = Schema { room: "thing", migrations: &["CREATE TABLE thing(data BLOB)"] };

fn insert(database: &Database, bytes: usize) -> Result<()> {
    database.write(move |transaction| {
        transaction.execute("INSERT INTO thing VALUES (?1)", [vec![7_u8; bytes]])?;
        Ok(())
    })
}

fn count(database: &Database) -> i64 {
    database
        .read(|connection| -> Result<_> {
            Ok(connection.query_row("SELECT count(*) FROM thing", [], |row| row.get(0))?)
        })
        .unwrap()
}

/// Takes all the room there is.
fn fill(path: &Path) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    while file.write(&[0; 4096]).is_ok_and(|written| written > 0) {}
}

#[test]
fn a_full_disk_is_told_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_owned();
    let test = move || {
        namespace::unshare(process::flags::MOUNT).unwrap();
        set_root_propagation(Propagation::Private).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &place, "tmpfs", flags, Some(c"size=4m")).unwrap();
        let database = Database::open(&place.join("metadata.db"), &[ROOM]).unwrap();
        insert(&database, 1000).unwrap();
        fill(&place.join("filler"));
        let error = insert(&database, 3 << 20).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error:?}");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        // Many at once, some of which may still fit into what the log has.
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| insert(&database, 500_000).unwrap_err());
            }
        });
        assert_eq!(count(&database), 1);
        fs::remove_file(place.join("filler")).unwrap();
        insert(&database, 1000).unwrap();
        assert_eq!(count(&database), 2);
        drop(database);
        let database = Database::open(&place.join("metadata.db"), &[ROOM]).unwrap();
        assert_eq!(count(&database), 2);
    };
    std::thread::spawn(test).join().unwrap();
}
