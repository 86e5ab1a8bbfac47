//! Layers and active snapshots as records and folders. Needs root (for the store's owner, not for mounts).

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::HashSet;
use std::fs;

use common::{Fixture, chain};
use corten_metadata::Error as MetadataError;
use corten_snapshot::{Error, LayerDraft, Snapshots};

/// The folders of the store, once what is to go is gone.
fn folders(fixture: &Fixture, store: &Snapshots) -> usize {
    store.wait_removed();
    fs::read_dir(fixture.path("snapshots")).unwrap().count() - 1
}

#[test]
fn a_committed_layer_stays_where_it_is() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let draft = store.draft_layer().unwrap();
    let path = draft.path();
    fs::write(path.join("file"), "1").unwrap();
    assert!(!store.exists(&chain(1)).unwrap());
    drop(draft.commit(&chain(1), None, 1).unwrap());
    let layer = store.layers().unwrap().remove(0);
    assert_eq!((layer.path, layer.size, layer.parent), (path.clone(), 1, None));
    drop(store);
    let store = fixture.open();
    assert!(store.exists(&chain(1)).unwrap() && path.join("file").exists());
}

#[test]
fn drafts_that_are_dropped_or_interrupted_leave_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    drop(store.draft_layer().unwrap());
    assert_eq!(folders(&fixture, &store), 0);
    let interrupted: LayerDraft = store.draft_layer().unwrap();
    fs::create_dir_all(interrupted.path().join("a/b/c")).unwrap();
    std::mem::forget(interrupted);
    let store = fixture.open();
    assert_eq!(folders(&fixture, &store), 0);
}

#[test]
fn a_layer_needs_its_parent() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let error = store.draft_layer().unwrap().commit(&chain(2), Some(&chain(1)), 0).unwrap_err();
    assert!(matches!(error, Error::NoLayer(missing) if missing == chain(1)));
    assert!(matches!(store.prepare("c", Some(&chain(1))), Err(Error::NoLayer(_))));
    assert_eq!(folders(&fixture, &store), 0);
}

#[test]
fn the_same_layer_twice_is_kept_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (first, second) = (store.draft_layer().unwrap(), store.draft_layer().unwrap());
    let kept = first.path();
    first.commit(&chain(1), None, 1).unwrap();
    second.commit(&chain(1), None, 1).unwrap();
    assert_eq!(store.stack(&chain(1)).unwrap()[0].path, kept);
    assert_eq!(folders(&fixture, &store), 1);
}

#[test]
fn active_snapshots() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 3);
    let root = store.prepare("c", Some(&chain(3))).unwrap();
    assert_eq!(root.lower.len(), 3);
    assert!(root.lower[0].join("file-3").exists() && root.lower[2].join("file-1").exists());
    assert_eq!(store.rootfs("c").unwrap(), root);
    assert!(matches!(store.prepare("c", None), Err(Error::Exists(_))));
    assert_eq!(store.keys().unwrap(), ["c"]);
    fs::write(root.upper.join("data"), "12345").unwrap();
    fs::hard_link(root.upper.join("data"), root.upper.join("again")).unwrap();
    let usage = store.usage("c").unwrap();
    assert_eq!((usage.bytes, usage.files), (5, 2));
    store.remove("c").unwrap();
    store.remove("c").unwrap();
    assert!(matches!(store.rootfs("c"), Err(Error::NoSnapshot(_))));
    assert_eq!(folders(&fixture, &store), 3);
}

#[test]
fn layers_in_use_stay() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 3);
    assert!(matches!(store.remove_layer(&chain(2)), Err(Error::InUse(_))));
    let hold = store.hold(&chain(3)).unwrap().unwrap();
    assert!(matches!(store.remove_layer(&chain(3)), Err(Error::InUse(_))));
    drop(hold);
    store.remove_layer(&chain(3)).unwrap();
    assert!(store.hold(&chain(3)).unwrap().is_none());
    assert!(matches!(store.remove_layer(&chain(3)), Err(Error::NoLayer(_))));
}

#[test]
fn garbage_is_what_nothing_stands_on() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 5);
    let collect = |live: HashSet<_>| {
        let removed = store.collect(move |_| Ok::<_, Error>(live)).unwrap();
        removed.into_iter().map(|layer| layer.chain).collect::<Vec<_>>()
    };
    store.prepare("c", Some(&chain(3))).unwrap();
    let hold = store.hold(&chain(4)).unwrap();
    assert_eq!(collect(HashSet::new()), [chain(5)]);
    drop(hold);
    assert_eq!(collect(HashSet::new()), [chain(4)]);
    store.remove("c").unwrap();
    assert_eq!(collect([chain(2)].into()), [chain(3)]);
    assert_eq!(collect(HashSet::new()), [chain(2), chain(1)]);
    assert_eq!(folders(&fixture, &store), 0);
}

#[test]
fn layers_that_a_power_loss_may_have_damaged_are_dropped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 1);
    store.sync().unwrap();
    fixture.layer(&store, 2);
    fixture.layer(&store, 3);
    store.prepare("c", Some(&chain(3))).unwrap();
    drop(store);
    fixture
        .database()
        .write(|transaction| -> Result<(), MetadataError> {
            transaction.execute("UPDATE snapshot_layer SET boot = 'another' WHERE chain = ?1", [chain(2).as_str()])?;
            Ok(())
        })
        .unwrap();
    let store = fixture.open();
    assert!(store.exists(&chain(1)).unwrap());
    assert!(!store.exists(&chain(2)).unwrap() && !store.exists(&chain(3)).unwrap());
    assert!(matches!(store.rootfs("c"), Err(Error::NoLayer(_))));
    fixture.layer(&store, 2);
    fixture.layer(&store, 3);
    assert_eq!(store.rootfs("c").unwrap().lower.len(), 3);
}

#[test]
fn syncing_in_the_background_marks_the_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 2);
    for _ in 0..10 {
        store.sync_soon();
    }
    store.sync().unwrap();
    let unsynced: i64 = fixture
        .database()
        .read(|connection| -> Result<_, MetadataError> {
            let query = "SELECT count(*) FROM snapshot_layer WHERE boot IS NOT NULL";
            Ok(connection.query_row(query, [], |row| row.get(0))?)
        })
        .unwrap();
    assert_eq!(unsynced, 0);
}
