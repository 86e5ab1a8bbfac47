//! The check finds what was damaged, and mends what it says. Needs root: layers have owners.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use common::{Fixture, Opened, nobody};
use corten_base::{Algorithm, Digest};
use corten_content::LeaseOptions;
use corten_images::{Checkup, InUse};
use corten_testkit::image::{Packing, TestImage, oci_archive_bytes, pack, tar};

fn image() -> TestImage {
    TestImage::new("app:1", [tar(&[("bin/", b""), ("bin/tool", b"#!")]), tar(&[("etc/", b""), ("etc/name", b"upper")])])
}

fn archive() -> Vec<u8> {
    oci_archive_bytes(&[image()], Packing::Gzip, false)
}

fn loaded(fixture: &Fixture) -> Opened {
    let store = fixture.open();
    store.load(&archive()).unwrap();
    assert_sound(&store);
    store
}

#[track_caller]
fn assert_sound(store: &Opened) {
    assert_eq!(store.images.check(false, &nobody).unwrap().problems, []);
}

fn texts(found: &Checkup) -> Vec<String> {
    found.problems.iter().map(|problem| format!("{}: {} {}", problem.subject, problem.what, problem.repaired)).collect()
}

fn blob(fixture: &Fixture, digest: &Digest) -> PathBuf {
    fixture.path(&format!("content/blobs/sha256/{}", digest.hex()))
}

/// Overwrites one byte, as a bad disk does.
fn damage(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_sound_is_counted() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!((found.blobs, found.layers, found.images, found.names, found.freed), (4, 2, 1, 1, 0));
}

#[test]
fn a_damaged_layer_blob_is_brought_again() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let layer = Digest::sha256(&pack(&image().layers[0], Packing::Gzip));
    damage(&blob(&fixture, &layer));
    let found = store.images.check(false, &nobody).unwrap();
    assert!(texts(&found)[0].starts_with(&format!("blob {layer}: its bytes have the digest sha256:")), "{found:?}");
    assert!(texts(&found)[1].ends_with("1 of its blobs are missing; pull it again false"), "{found:?}");
    assert!(store.content.contains(&layer), "nothing is changed without being told to");
    let repaired = store.images.check(true, &nobody).unwrap();
    assert!(repaired.problems.iter().all(|problem| problem.repaired) && repaired.freed > 0, "{repaired:?}");
    // It still runs, and is told until loading it again makes it whole.
    let still = store.images.check(true, &nobody).unwrap();
    let told = "1 of its blobs are gone; it runs, but can't be handed on until it is pulled again";
    assert_eq!(texts(&still), [format!("image {}: {told} false", image().id())]);
    let found = store.images.resolve("app:1", None).unwrap();
    store.images.ensure_unpacked(&found).unwrap();
    assert!(store.images.export(&["app:1".into()], &[]).is_err());
    store.load(&archive()).unwrap();
    store.images.export(&["app:1".into()], &[]).unwrap();
    assert_sound(&store);
}

#[test]
fn a_blob_that_cannot_be_read_now_stays() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let layer = blob(&fixture, &Digest::sha256(&pack(&image().layers[0], Packing::Gzip)));
    let bytes = fs::read(&layer).unwrap();
    fs::remove_file(&layer).unwrap();
    // Opening it works, reading it fails: the bytes may be fine.
    fs::create_dir(&layer).unwrap();
    let found = store.images.check(true, &nobody).unwrap();
    let told = texts(&found);
    assert!(told[0].starts_with("blob sha256:") && told[0].ends_with("Is a directory (os error 21) false"), "{told:?}");
    fs::remove_dir(&layer).unwrap();
    fs::write(&layer, bytes).unwrap();
    assert_sound(&store);
    store.images.export(&["app:1".into()], &[]).unwrap();
}

#[test]
fn an_image_without_its_configuration_goes_unless_it_is_used() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    fs::remove_file(blob(&fixture, &image().id())).unwrap();
    let container = corten_base::ContainerId::generate();
    let used = |_: &corten_base::ImageId| vec![InUse { container: container.clone(), running: false }];
    let found = store.images.check(true, &used).unwrap();
    assert!(texts(&found)[0].ends_with(&format!("; container {} uses it false", container.short())), "{found:?}");
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!(found.problems.len(), 1);
    assert!(found.problems[0].repaired && found.freed > 0);
    assert_sound(&store);
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn a_changed_layer_is_extracted_again_unless_a_container_stands_on_it() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let chain = store.images.resolve("app:1", None).unwrap().chain.unwrap();
    let file = || store.snapshots.stack(&chain).unwrap()[0].path.join("etc/name");
    fs::write(file(), "UPPER").unwrap();
    store.snapshots.prepare("container", Some(&chain)).unwrap();
    let found = store.images.check(true, &nobody).unwrap();
    assert!(texts(&found)[0].starts_with(&format!("layer {chain}: /etc/name: its content differs; ")), "{found:?}");
    assert!(!found.problems[0].repaired);
    store.snapshots.remove("container").unwrap();
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!(texts(&found), [format!("layer {chain}: /etc/name: its content differs true")]);
    assert_eq!(fs::read_to_string(file()).unwrap(), "upper");
    assert_sound(&store);
    fs::remove_dir_all(file().ancestors().nth(2).unwrap()).unwrap();
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!(texts(&found), [format!("layer {chain}: its folder is missing true")]);
    assert_sound(&store);
    assert_eq!(store.holdings(&fixture)[2], 2, "the damaged folders are gone");
}

#[test]
fn a_container_that_cannot_be_mounted_is_told() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let root = store.snapshots.prepare("container", None).unwrap();
    assert_sound(&store);
    fs::remove_dir(&root.work).unwrap();
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!(texts(&found), ["container container: its file system can't be mounted false"]);
}

#[test]
fn a_name_of_nothing_is_taken_away() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let schemas = [corten_content::SCHEMA, corten_snapshot::SCHEMA, corten_images::SCHEMA];
    drop(store);
    let database = corten_metadata::Database::open(&fixture.path("metadata.db"), &schemas).unwrap();
    database
        .write(|transaction| -> Result<(), corten_metadata::Error> {
            transaction
                .execute("UPDATE images_name SET image = 'sha256:0'", [])
                .map_err(corten_metadata::Error::from)?;
            Ok(())
        })
        .unwrap();
    drop(database);
    let store = fixture.open();
    let found = store.images.check(true, &nobody).unwrap();
    assert_eq!(texts(&found), ["name docker.io/library/app:1: its image is not there true"]);
    assert_sound(&store);
}

#[test]
fn a_lease_of_what_is_lost_is_told() {
    let fixture = Fixture::new();
    let store = loaded(&fixture);
    let options =
        LeaseOptions { owner: "pull x".into(), ttl: Some(Duration::from_secs(3600)), ..LeaseOptions::default() };
    let lease = store.content.lease(options).unwrap();
    let [lost, damaged] = [b"a blob that will be lost", b"a blob that gets damaged"].map(|text| {
        let mut ingest = store.content.ingest_nameless(Algorithm::Sha256, None).unwrap();
        ingest.write_all(text).unwrap();
        ingest.commit(None, &lease).unwrap().0
    });
    lease.abandon();
    assert_sound(&store);
    fs::remove_file(blob(&fixture, &lost)).unwrap();
    damage(&blob(&fixture, &damaged));
    let found = texts(&store.images.check(true, &nobody).unwrap());
    assert_eq!(found[0], "lease pull x: 1 of what it holds is not here true");
    assert!(found[1].starts_with(&format!("blob {damaged}: ")) && found.len() == 2, "{found:?}");
    // With what was removed the lease has forgotten it.
    assert_sound(&store);
}
