//! Init layers, and snapshots recorded together with what they are for. Needs root; nothing is attached to the caller's mount table.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use common::{Fixture, chain};
use corten_metadata::Error as MetadataError;
use corten_snapshot::{Error, MountOptions, Snapshots};
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat};

/// Replaces a file of the image and makes a directory.
fn furnish(root: BorrowedFd<'_>) -> io::Result<()> {
    unlinkat(root, "same", AtFlags::empty())?;
    openat(root, "same", OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY, Mode::from(0o644))?;
    Ok(mkdirat(root, "place", Mode::from(0o755))?)
}

fn open(fixture: &Fixture) -> Snapshots {
    fixture.open().with_init(furnish)
}

/// The folders of the store, once what is to go is gone.
fn folders(fixture: &Fixture, store: &Snapshots) -> usize {
    store.wait_removed();
    fs::read_dir(fixture.path("snapshots")).unwrap().count() - 1
}

#[test]
fn one_stands_below_all_snapshots_of_a_layer() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    fixture.layers(&store, 2);
    let (first, second) = (store.prepare("a", Some(&chain(2))).unwrap(), store.prepare("b", Some(&chain(2))).unwrap());
    assert_eq!((first.lower.len(), &first.lower), (3, &second.lower));
    let mount = second.mount_detached(MountOptions::default()).unwrap();
    assert_eq!(statat(mount.as_fd(), "same", AtFlags::empty()).unwrap().st_size, 0);
    assert!(statat(mount.as_fd(), "place", AtFlags::empty()).is_ok());
    assert!(statat(mount.as_fd(), "file-1", AtFlags::empty()).is_ok());
    assert_eq!(fs::read_dir(&second.upper).unwrap().count(), 0);
    assert_eq!(store.rootfs("a").unwrap(), first);
    // Two layers, their one init layer, two snapshots.
    assert_eq!(folders(&fixture, &store), 5);
}

#[test]
fn it_goes_with_its_layer() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    fixture.layers(&store, 2);
    store.prepare("a", Some(&chain(1))).unwrap();
    store.prepare("b", Some(&chain(2))).unwrap();
    for key in ["a", "b"] {
        store.remove(key).unwrap();
    }
    store.remove_layer(&chain(2)).unwrap();
    assert_eq!(folders(&fixture, &store), 2);
    store.collect(|_| Ok::<_, Error>(HashSet::new())).unwrap();
    assert_eq!(folders(&fixture, &store), 0);
}

#[test]
fn it_is_kept_until_the_machine_starts_again() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    fixture.layers(&store, 1);
    let before = store.prepare("a", Some(&chain(1))).unwrap();
    store.sync().unwrap();
    drop(store);
    let store = open(&fixture);
    assert_eq!(store.rootfs("a").unwrap(), before);
    drop(store);
    let another = |transaction: &corten_metadata::rusqlite::Transaction<'_>| -> Result<(), MetadataError> {
        transaction.execute("UPDATE snapshot_init SET boot = 'another'", [])?;
        Ok(())
    };
    fixture.database().write(another).unwrap();
    let store = open(&fixture);
    store.wait_removed();
    assert!(!before.lower[0].exists());
    let after = store.rootfs("a").unwrap();
    assert_ne!(after.lower, before.lower);
    assert!(after.lower[0].join("place").is_dir());
}

#[test]
fn an_image_without_layers_has_one() {
    let fixture = Fixture::new();
    let store = fixture.open().with_init(|root| Ok(mkdirat(root, "place", Mode::from(0o755))?));
    assert!(store.prepare("a", None).unwrap().lower[0].join("place").is_dir());
    drop(store);
    assert!(fixture.open().rootfs("a").unwrap().lower[0].join("place").is_dir());
}

#[test]
fn what_cannot_be_furnished_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open().with_init(|_| Err(io::ErrorKind::StorageFull.into()));
    fixture.layers(&store, 1);
    let error = store.prepare("a", Some(&chain(1))).unwrap_err();
    assert!(error.to_string().starts_with("cannot furnish "), "{error}");
    assert_eq!(folders(&fixture, &store), 1);
}

#[test]
fn a_draft_is_recorded_with_its_owner_or_not_at_all() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    fixture.layers(&store, 1);
    let database = fixture.database();
    let draft = store.draft_active(Some(&chain(1))).unwrap();
    let record = draft.record("a");
    let failed = database.write(move |transaction| -> Result<(), Error> {
        record(transaction)?;
        Err(Error::Exists("the owner".into()))
    });
    assert!(matches!(failed, Err(Error::Exists(owner)) if owner == "the owner"));
    assert!(matches!(store.rootfs("a"), Err(Error::NoSnapshot(_))));
    database.write(draft.record("a")).unwrap();
    let root = draft.keep().root().clone();
    assert_eq!(store.rootfs("a").unwrap(), root);
    let forgotten = database.write(|transaction| Snapshots::forget(transaction, "a")).unwrap().unwrap();
    assert!(matches!(store.rootfs("a"), Err(Error::NoSnapshot(_))) && root.upper.exists());
    store.sweep(forgotten);
    drop(store.draft_active(Some(&chain(1))).unwrap());
    assert_eq!(folders(&fixture, &store), 2);
}

#[test]
fn a_draft_notices_that_its_layer_was_replaced() {
    let fixture = Fixture::new();
    let store = open(&fixture);
    fixture.layers(&store, 1);
    let draft = store.draft_active(Some(&chain(1))).unwrap();
    assert!(draft.is_current());
    store.remove_layer(&chain(1)).unwrap();
    assert!(!draft.is_current());
    fixture.layers(&store, 1);
    assert!(!draft.is_current());
    let recorded = fixture.database().write(draft.record("a"));
    assert!(matches!(recorded, Err(Error::NoLayer(missing)) if missing == chain(1)));
}
