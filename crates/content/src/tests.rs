//! The blob store's promises: verified, resumable, held while in use.

use std::io::{Read, Write};
use std::time::Duration;

use corten_base::ErrorKind;

use super::*;

struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { folder: tempfile::tempdir().unwrap() }
    }

    fn open(&self) -> Store {
        let database = Database::open(&self.folder.path().join("metadata.db"), &[SCHEMA]).unwrap();
        Store::open(&self.folder.path().join("content"), database).unwrap()
    }

    fn ingests(&self) -> usize {
        fs::read_dir(self.folder.path().join("content/ingest")).unwrap().count()
    }
}

fn lease(store: &Store) -> Lease {
    store.lease(LeaseOptions { owner: "test".into(), ..LeaseOptions::default() }).unwrap()
}

/// Puts a blob that the lease holds.
fn put(store: &Store, text: &[u8], lease: &Lease) -> Digest {
    let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
    ingest.write_all(text).unwrap();
    ingest.commit(None, lease).unwrap().0
}

fn holds(store: &Store, digest: &Digest) -> bool {
    store.held().unwrap().has_blob(digest)
}

fn collect(store: &Store, live: &[&Digest]) -> u64 {
    let live = live.iter().map(|&digest| digest.clone()).collect();
    store.collect(|| Ok::<_, Error>(live)).unwrap().blobs
}

#[test]
fn a_blob_is_read_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let lease = lease(&store);
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let mut ingest = store.ingest_nameless(algorithm, Some(5)).unwrap();
        ingest.write_all(b"hello").unwrap();
        let (digest, size) = ingest.commit(None, &lease).unwrap();
        assert_eq!((digest.algorithm(), size), (algorithm, 5));
        assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
        assert!(matches!(store.read(&digest, 4), Err(Error::TooLarge { size: 5, .. })));
    }
    let missing = Digest::sha256(b"missing");
    assert_eq!(store.read(&missing, 5).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(fixture.ingests(), 0);
}

#[test]
fn a_named_ingest_is_continued_after_the_process_died() {
    let fixture = Fixture::new();
    let whole = Digest::sha256(b"hello world");
    let store = fixture.open();
    let held = lease(&store);
    let mut first = store.ingest("layer", Algorithm::Sha256, Some(11), &held).unwrap();
    first.write_all(b"hello").unwrap();
    assert!(matches!(store.ingest("layer", Algorithm::Sha256, None, &held), Err(Error::Busy(_))));
    // As kill -9 does: nothing is dropped, nothing flushed.
    std::mem::forget(first);
    let store = fixture.open();
    let held = lease(&store);
    let mut second = store.ingest("layer", Algorithm::Sha256, Some(11), &held).unwrap();
    assert_eq!(second.offset(), 5);
    let mut follower = second.follow().unwrap();
    let mut part = [0; 5];
    follower.read_exact(&mut part).unwrap();
    assert_eq!(&part, b"hello");
    second.write_all(b" world").unwrap();
    second.complete();
    second.commit(Some(&whole), &lease(&store)).unwrap();
    assert!(store.contains(&whole));
    let mut rest = String::new();
    follower.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, " world");
}

#[test]
fn those_who_follow_an_ingest_wait_for_its_bytes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let follow = |end: fn(Ingest)| {
        let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
        let mut follower = ingest.follow().unwrap();
        let (begin, begun) = std::sync::mpsc::channel();
        let reader = std::thread::spawn(move || {
            begin.send(()).unwrap();
            let mut bytes = Vec::new();
            follower.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.kind())
        });
        begun.recv().unwrap();
        for _ in 0..1000 {
            ingest.write_all(b"0123456789").unwrap();
        }
        end(ingest);
        reader.join().unwrap()
    };
    assert_eq!(follow(|ingest| ingest.complete()), Ok(b"0123456789".repeat(1000)));
    assert_eq!(follow(drop), Err(std::io::ErrorKind::UnexpectedEof));
}

#[test]
fn what_differs_is_thrown_away() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let lease = lease(&store);
    let expected = Digest::sha256(b"good");
    let mut ingest = store.ingest("x", Algorithm::Sha256, None, &lease).unwrap();
    ingest.write_all(b"evil").unwrap();
    let error = ingest.commit(Some(&expected), &lease).unwrap_err();
    assert!(matches!(&error, Error::Mismatch { expected: e, .. } if *e == expected), "{error}");
    assert!(!store.contains(&expected));

    let mut short = store.ingest("x", Algorithm::Sha256, Some(4), &lease).unwrap();
    assert_eq!(short.offset(), 0);
    short.write_all(b"goo").unwrap();
    assert!(matches!(short.commit(Some(&expected), &lease), Err(Error::Size { expected: 4, actual: 3 })));

    let mut long = store.ingest("x", Algorithm::Sha256, Some(4), &lease).unwrap();
    assert!(long.write_all(b"goods").is_err());
    drop(long);
    assert_eq!(fixture.ingests(), 0);
    assert!(store.blobs().unwrap().is_empty());
}

#[test]
fn leases_hold_until_they_are_dropped() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let held = lease(&store);
    let mut digests = Vec::new();
    for text in ["a", "b"] {
        let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
        ingest.write_all(text.as_bytes()).unwrap();
        digests.push(ingest.commit(None, &held).unwrap().0);
    }
    assert_eq!(collect(&store, &[]), 0);
    drop(held);
    assert_eq!(collect(&store, &[&digests[0]]), 1);
    assert!(store.contains(&digests[0]) && !store.contains(&digests[1]));
    assert!(lease(&store).hold(&digests[0]).unwrap());
    assert!(!lease(&store).hold(&digests[1]).unwrap());
}

#[test]
fn some_blobs_are_collected_and_no_others() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let held = lease(&store);
    let put = |text: &[u8], lease: &Lease| {
        let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
        ingest.write_all(text).unwrap();
        ingest.commit(None, lease).unwrap().0
    };
    let passing = lease(&store);
    let [garbage, other, live] = [&b"a"[..], b"b", b"c"].map(|text| put(text, &passing));
    let leased = put(b"d", &held);
    drop(passing);
    let asked = HashSet::from([garbage.clone(), live.clone(), leased.clone(), Digest::sha256(b"gone")]);
    let alive = HashSet::from([live.clone()]);
    let collected = store.collect_among(&asked, || Ok::<_, Error>(alive)).unwrap();
    assert_eq!(collected, Collected { blobs: 1, ingests: 0, bytes: 1 });
    assert!(!store.contains(&garbage));
    assert!([&other, &live, &leased].into_iter().all(|digest| store.contains(digest)));
}

#[test]
fn a_lease_says_whose_it_is_and_ends_with_its_time() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let options = LeaseOptions {
        owner: "pull x".into(),
        ttl: Some(Duration::from_secs(3600)),
        labels: [("reason".to_owned(), "test".to_owned())].into(),
        ..LeaseOptions::default()
    };
    let held = store.lease(options).unwrap();
    let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
    ingest.write_all(b"a").unwrap();
    let (digest, _) = ingest.commit(None, &held).unwrap();
    held.abandon();
    let database = store.database();
    let row = database.read(|connection| -> Result<(String, String, i64)> {
        let query = "SELECT owner, labels, expires - created FROM content_lease";
        Ok(connection.query_row(query, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?)
    });
    assert_eq!(row.unwrap(), ("pull x".to_owned(), r#"{"reason":"test"}"#.to_owned(), 3600));
    assert_eq!(collect(&store, &[]), 0);
    // Two hours later, without a restart.
    let age = |transaction: &corten_metadata::rusqlite::Transaction<'_>| -> Result<()> {
        transaction.execute("UPDATE content_lease SET created = created - 7200, expires = expires - 7200", [])?;
        Ok(())
    };
    database.write(age).unwrap();
    assert_eq!(collect(&store, &[]), 1);
    assert!(!store.contains(&digest));
}

#[test]
fn leases_end_with_the_process_unless_they_have_an_expiry() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let ttl = Some(Duration::from_secs(60));
    let lasting = store.lease(LeaseOptions { ttl, ..LeaseOptions::default() }).unwrap();
    let passing = lease(&store);
    let (a, b) = (put(&store, b"a", &lasting), put(&store, b"b", &passing));
    std::mem::forget(lasting);
    std::mem::forget(passing);
    drop(store);
    let store = fixture.open();
    assert!(holds(&store, &a) && !holds(&store, &b));
}

#[test]
fn an_operation_that_outlasts_its_lease_s_time_still_holds() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let expired = Some(Duration::ZERO);
    let slow = store.lease(LeaseOptions { ttl: expired, ..LeaseOptions::default() }).unwrap();
    let blob = Digest::sha256(b"a");
    slow.hold(&blob).unwrap();
    store
        .database()
        .write(|transaction| -> Result<()> {
            transaction.execute("UPDATE content_lease SET expires = expires - 10", [])?;
            Ok(())
        })
        .unwrap();
    assert!(holds(&store, &blob));
    assert_eq!(store.next_expiry().unwrap(), None, "nobody has to look after it");
    slow.abandon();
    assert!(store.next_expiry().unwrap().unwrap() < std::time::SystemTime::now());
    assert!(!holds(&store, &blob));
    assert_eq!(store.next_expiry().unwrap(), None, "it has ended");
}

#[test]
fn leftovers_are_cleared_at_open() {
    let fixture = Fixture::new();
    let store = fixture.open();
    std::mem::forget(store.ingest_nameless(Algorithm::Sha256, None).unwrap());
    let mut kept = store.ingest("kept", Algorithm::Sha256, None, &lease(&store)).unwrap();
    kept.write_all(b"1").unwrap();
    drop(kept);
    assert_eq!(fixture.ingests(), 2);
    fixture.open();
    assert_eq!(fixture.ingests(), 1);
}

#[test]
fn damage_on_the_disk_is_noticed() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
    ingest.write_all(b"document").unwrap();
    let (digest, _) = ingest.commit(None, &lease(&store)).unwrap();
    assert_eq!(store.verify(&digest).unwrap(), 8);
    let path = store.blob_path(&digest);
    fs::remove_file(&path).unwrap();
    fs::write(&path, b"d0cument").unwrap();
    assert!(matches!(store.read(&digest, 100), Err(Error::Mismatch { .. })));
    assert!(matches!(store.verify(&digest), Err(Error::Mismatch { .. })));
}

#[test]
fn abandoned_leases_hold_until_somebody_comes_back() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let options =
        || LeaseOptions { owner: "pull x".into(), ttl: Some(Duration::from_secs(60)), ..LeaseOptions::default() };
    let first = store.lease(options()).unwrap();
    let a = put(&store, b"a", &first);
    first.abandon();
    let second = store.lease(options()).unwrap();
    let b = Digest::sha256(b"b");
    second.hold(&b).unwrap();
    assert!(holds(&store, &a) && holds(&store, &b));
    let namespace = corten_base::Namespace::default();
    assert_eq!(store.end_abandoned(&namespace, Some("pull y")).unwrap(), 0);
    assert_eq!(store.end_abandoned(&namespace, Some("pull x")).unwrap(), 1);
    assert!(!holds(&store, &a) && holds(&store, &b));
    drop(second);
    assert!(!holds(&store, &b));
}

#[test]
fn an_ingest_goes_with_the_last_lease_that_it_was_written_under() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let part = |lease: &Lease| {
        let mut ingest = store.ingest("layer", Algorithm::Sha256, Some(100), lease).unwrap();
        ingest.write_all(b"12345").unwrap();
        ingest
    };
    let all = || store.collect(|| Ok::<_, Error>(HashSet::new())).unwrap();
    let ttl = Some(Duration::from_secs(60));
    let first = store.lease(LeaseOptions { ttl, ..LeaseOptions::default() }).unwrap();
    let written = part(&first);
    assert_eq!(store.interrupted(|| Ok::<_, Error>(HashSet::new())).unwrap(), Collected::default());
    drop(written);
    first.abandon();
    let interrupted = store.interrupted(|| Ok::<_, Error>(HashSet::new())).unwrap();
    assert_eq!(interrupted, Collected { blobs: 0, ingests: 1, bytes: 5 });
    assert_eq!(all(), Collected::default(), "somebody may come back");
    let second = lease(&store);
    drop(part(&second));
    store.end_abandoned(&corten_base::Namespace::default(), None).unwrap();
    assert_eq!(all(), Collected::default());
    let written = part(&second);
    drop(second);
    assert_eq!(all(), Collected::default(), "it is being written");
    drop(written);
    assert_eq!(all(), Collected { blobs: 0, ingests: 1, bytes: 15 });
    assert_eq!(fixture.ingests(), 0);
}

#[test]
fn a_part_of_what_came_whole_in_another_way_goes() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole = Digest::sha256(b"hello world");
    let other = Digest::sha256(b"another");
    let lease = lease(&store);
    for digest in [&whole, &other] {
        let mut part = store.ingest_blob(digest, 11, &lease).unwrap();
        part.write_all(b"hello").unwrap();
    }
    let mut ingest = store.ingest_nameless(Algorithm::Sha256, None).unwrap();
    ingest.write_all(b"hello world").unwrap();
    ingest.commit(None, &lease).unwrap();
    assert_eq!(fixture.ingests(), 2);
    // Who is at it finds out by itself.
    let continued = store.ingest_blob(&whole, 11, &lease).unwrap();
    assert_eq!((collect(&store, &[]), fixture.ingests()), (0, 2));
    drop(continued);
    // What hasn't come can still be continued.
    assert_eq!((collect(&store, &[]), fixture.ingests()), (0, 1));
    assert_eq!(store.ingest_blob(&other, 11, &lease).unwrap().offset(), 5);
    assert_eq!(store.ingest_blob(&whole, 11, &lease).unwrap().offset(), 0);
}

#[test]
fn leases_are_as_they_should_be() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let options =
        || LeaseOptions { owner: "pull x".into(), ttl: Some(Duration::from_secs(60)), ..LeaseOptions::default() };
    let said = |repair| {
        let bad = store.bad_leases(repair).unwrap();
        bad.into_iter().map(|lease| format!("{}: {}", lease.owner, lease.what)).collect::<Vec<String>>()
    };
    let entries = || -> i64 {
        let count = "SELECT count(*) FROM content_lease_blob";
        store
            .database()
            .read(|connection| -> Result<i64> { Ok(connection.query_row(count, [], |row| row.get(0))?) })
            .unwrap()
    };
    // At work with what isn't here yet; over; and interrupted: a part of one blob has come, nothing of another.
    let (coming, other) = (Digest::sha256(b"coming"), Digest::sha256(b"other"));
    let at_work = lease(&store);
    at_work.hold(&other).unwrap();
    drop(lease(&store));
    let interrupted = store.lease(options()).unwrap();
    interrupted.hold(&coming).unwrap();
    interrupted.hold(&other).unwrap();
    let mut ingest = store.ingest_blob(&coming, 6, &interrupted).unwrap();
    ingest.write_all(b"com").unwrap();
    drop(ingest);
    let whole = put(&store, b"whole", &interrupted);
    interrupted.abandon();
    assert_eq!(said(false), [""; 0]);
    assert_eq!(entries(), 1 + 3, "what has not come is not held any more");
    // Another one brings it: it is here all the same.
    let second = lease(&store);
    let mut ingest = store.ingest_blob(&coming, 6, &second).unwrap();
    ingest.write_all(b"ing").unwrap();
    ingest.commit(Some(&coming), &second).unwrap();
    drop(second);
    assert_eq!(said(false), [""; 0]);
    // Lost.
    fs::remove_file(store.blob_path(&whole)).unwrap();
    let spoil = |statement: &'static str| {
        let spoil = move |transaction: &corten_metadata::rusqlite::Transaction<'_>| -> Result<()> {
            transaction.execute(statement, [])?;
            Ok(())
        };
        store.database().write(spoil).unwrap();
    };
    let check = |expect: &str| {
        assert_eq!(said(false), [expect]);
        assert_eq!(said(true), [expect], "nothing is changed without being told to");
        assert_eq!(said(false), [""; 0]);
    };
    check("pull x: 1 of what it holds is not here");
    spoil("INSERT INTO content_lease_blob VALUES ('default', 'unknown', 'ingest/../../x')");
    check("unknown: it has no record, and holds blobs");
    spoil("INSERT INTO content_lease VALUES ('default', '1-1', 'load', 0, NULL, '{}')");
    check("load: its operation is over");
    spoil("UPDATE content_lease SET expires = unixepoch() - 10 WHERE expires IS NOT NULL");
    assert_eq!(said(false), [""; 0], "somebody is about to end it");
    spoil("UPDATE content_lease SET expires = unixepoch() - 100 WHERE expires IS NOT NULL");
    check("pull x: its time is over");
    assert_eq!(entries(), 1, "who is at work keeps what it holds");
    assert!(holds(&store, &other) && !holds(&store, &coming));
}
