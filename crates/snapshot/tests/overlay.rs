//! Overlays as detached mounts. Needs root; nothing is attached to the caller's mount table.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use common::{Fixture, chain};
use corten_snapshot::{Error, Forgotten, MountOptions, Recorded, Result, RootFs, Snapshots};
use corten_sys::mark::Mark;
use corten_sys::mount::{Propagation, attach, set_root_propagation};
use corten_sys::{namespace, process};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;

const PLAIN: MountOptions = MountOptions { read_only: false, volatile: false };

/// Both ways of mounting, which must show the same.
const WAYS: [fn(&RootFs, MountOptions) -> Result<OwnedFd>; 2] =
    [RootFs::mount_detached, RootFs::mount_detached_in_a_page];

fn read(mount: &OwnedFd, name: &str) -> String {
    let mut text = String::new();
    let file = openat(mount, name, OFlags::RDONLY, Mode::empty()).unwrap();
    File::from(file).read_to_string(&mut text).unwrap();
    text
}

fn write(mount: &OwnedFd, name: &str, text: &str) -> Result<(), Errno> {
    let file = openat(mount, name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, Mode::from(0o644))?;
    File::from(file).write_all(text.as_bytes()).unwrap();
    Ok(())
}

#[test]
fn layers_and_changes_are_seen_through_the_overlay() {
    for way in WAYS {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.layers(&store, 3);
        let root = store.prepare("c", Some(&chain(3))).unwrap();
        let mount = way(&root, PLAIN).unwrap();
        assert_eq!((read(&mount, "file-1"), read(&mount, "same")), ("1".into(), "3".into()));
        write(&mount, "same", "changed").unwrap();
        unlinkat(&mount, "file-2", AtFlags::empty()).unwrap();
        assert_eq!(fs::read_to_string(root.upper.join("same")).unwrap(), "changed");
        assert_eq!(fs::symlink_metadata(root.upper.join("file-2")).unwrap().rdev(), 0);
        drop(mount);
        // As at the next start: the changes are there.
        assert_eq!(read(&way(&root, PLAIN).unwrap(), "same"), "changed");
    }
}

#[test]
fn a_hundred_and_twenty_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 120);
    for (number, way) in WAYS.into_iter().enumerate() {
        let root = store.prepare(&format!("c{number}"), Some(&chain(120))).unwrap();
        assert_eq!(root.lower.len(), 120);
        let mount = way(&root, PLAIN).unwrap();
        for number in 1..=120 {
            assert_eq!(read(&mount, &format!("file-{number}")), number.to_string());
        }
        assert_eq!(read(&mount, "same"), "120");
        write(&mount, "new", "1").unwrap();
    }
}

#[test]
fn an_image_without_layers_has_an_empty_root() {
    for way in WAYS {
        let fixture = Fixture::new();
        let store = fixture.open();
        let root = store.prepare("c", None).unwrap();
        let mount = way(&root, PLAIN).unwrap();
        write(&mount, "file", "1").unwrap();
        assert_eq!(fs::read_dir(&root.upper).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&root.lower[0]).unwrap().count(), 0);
    }
}

#[test]
fn read_only_refuses_changes() {
    for way in WAYS {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.layers(&store, 1);
        let root = store.prepare("c", Some(&chain(1))).unwrap();
        let mount = way(&root, MountOptions { read_only: true, ..PLAIN }).unwrap();
        assert_eq!(read(&mount, "same"), "1");
        assert_eq!(write(&mount, "same", "2").unwrap_err(), Errno::ROFS);
    }
}

#[test]
fn volatile_can_be_mounted_again() {
    for way in WAYS {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.layers(&store, 1);
        let root = store.prepare("c", Some(&chain(1))).unwrap();
        let options = MountOptions { volatile: true, ..PLAIN };
        let mount = way(&root, options).unwrap();
        write(&mount, "file", "1").unwrap();
        assert!(root.work.join("work/incompat/volatile").exists());
        drop(mount);
        assert_eq!(read(&root.mount_detached(options).unwrap(), "file"), "1");
    }
}

#[test]
fn the_root_directory_is_open_to_all_whatever_the_umask() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let before = rustix::process::umask(Mode::from(0o077));
    let root = store.prepare("c", None).unwrap();
    rustix::process::umask(before);
    assert_eq!(fs::metadata(&root.upper).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(fixture.path("snapshots")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_detached_mount_is_attached_in_another_namespace() {
    for way in WAYS {
        let fixture = Fixture::new();
        let store = fixture.open();
        fixture.layers(&store, 2);
        let root = store.prepare("c", Some(&chain(2))).unwrap();
        let mount = way(&root, PLAIN).unwrap();
        let place = fixture.path("place");
        fs::create_dir(&place).unwrap();
        let inside = place.clone();
        std::thread::spawn(move || {
            namespace::unshare(process::flags::MOUNT).unwrap();
            set_root_propagation(Propagation::Private).unwrap();
            let target = File::open(&inside).unwrap();
            attach(mount.as_fd(), target.as_fd()).unwrap();
            assert_eq!(fs::read_to_string(inside.join("same")).unwrap(), "2");
        })
        .join()
        .unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }
}

#[test]
fn a_data_root_with_a_long_path() {
    let fixture = Fixture::new();
    let deep = fixture.path(&"a-rather-long-name/".repeat(16));
    fs::create_dir_all(&deep).unwrap();
    let store = Snapshots::open(&deep.join("snapshots"), fixture.database()).unwrap();
    fixture.layers(&store, 2);
    let root = store.prepare("c", Some(&chain(2))).unwrap();
    assert_eq!(read(&root.mount_detached(PLAIN).unwrap(), "same"), "2");
}

#[test]
fn the_kernels_refusal_is_told() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 1);
    let root = store.prepare("c", Some(&chain(1))).unwrap();
    fs::remove_dir(&root.work).unwrap();
    let error = root.mount_detached(PLAIN).unwrap_err();
    assert!(error.to_string().starts_with("cannot mount the overlay of 1 layers on "), "{error}");
}

/// An active snapshot that was recorded as `key` and has been forgotten.
fn recorded(fixture: &Fixture, store: &Snapshots, key: &'static str) -> (Recorded, Forgotten) {
    let draft = store.draft_active(Some(&chain(1))).unwrap();
    let database = fixture.database();
    database.write(draft.record(key)).unwrap();
    let forgotten = database.write(|transaction| Snapshots::forget(transaction, key)).unwrap().unwrap();
    (draft.keep(), forgotten)
}

#[test]
fn a_snapshot_is_a_draft_again_if_nothing_has_changed_in_it() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 1);
    let (first, its) = recorded(&fixture, &store, "first");
    let mount = first.root().mount_detached(MountOptions { volatile: true, ..PLAIN }).unwrap();
    let mark = Mark::of(&first.root().upper).unwrap();
    assert_eq!(read(&mount, "same"), "1");
    let again = first.renew(its, &mark).unwrap();
    assert!(again.is_current() && again.root().upper.exists());
    fixture.database().write(again.record("second")).unwrap();
    assert_eq!(store.rootfs("second").unwrap(), *again.keep().root());

    // What isn't handed on after all goes, as any draft does.
    let (dropped, its) = recorded(&fixture, &store, "dropped");
    let upper = dropped.root().upper.clone();
    drop(dropped.root().mount_detached(PLAIN).unwrap());
    let mark = Mark::of(&upper).unwrap();
    drop(dropped.renew(its, &mark).unwrap());
    store.wait_removed();
    assert!(!upper.exists());
}

#[test]
fn a_snapshot_that_was_changed_is_no_draft_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    fixture.layers(&store, 1);
    let changes: [fn(&RootFs, &OwnedFd); 4] = [
        |_, mount| write(mount, "new", "1").unwrap(),
        |_, mount| {
            write(mount, "new", "1").unwrap();
            unlinkat(mount, "new", AtFlags::empty()).unwrap();
        },
        |_, mount| {
            for mode in [0o700, 0o755] {
                rustix::fs::fchmod(openat(mount, ".", OFlags::RDONLY, Mode::empty()).unwrap(), Mode::from(mode))
                    .unwrap();
            }
        },
        // As overlayfs would if it were interrupted.
        |root, _| fs::write(root.work.join("work/#1"), "").unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (snapshot, its) = recorded(&fixture, &store, "changed");
        let root = snapshot.root().clone();
        let mount = root.mount_detached(PLAIN).unwrap();
        let mark = Mark::of(&root.upper).unwrap();
        change(&root, &mount);
        let its = snapshot.renew(its, &mark).expect_err(&format!("change {number}"));
        store.sweep(its);
    }
    let ((one, _), (_, others)) = (recorded(&fixture, &store, "one"), recorded(&fixture, &store, "other"));
    drop(one.root().mount_detached(PLAIN).unwrap());
    let mark = Mark::of(&one.root().upper).unwrap();
    assert!(one.renew(others, &mark).is_err(), "another one's record was forgotten");
    assert!(matches!(store.rootfs("one"), Err(Error::NoSnapshot(_))));
}
