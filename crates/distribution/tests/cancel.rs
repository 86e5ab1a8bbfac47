//! Whatever waits for a registry ends at once when it is given up: no limit on the registry's silence has to pass.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::{Reply, Server, answer, bytes};
use corten_base::Digest;
use corten_distribution::{
    Blocking, Cancel, Client, Descriptor, Direction, Error, Limits, RegistryConfig, Result, Source, WebAddress,
};
use std::io::{self, Read};
use std::thread;

/// A client whose patience is longer than any test's.
fn patient() -> Blocking {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    // It ends with the test's process.
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Client::new(RegistryConfig { limits: Limits { downloads: 1, ..Limits::default() }, ..RegistryConfig::default() })
        .blocking(handle)
}

/// Runs `work` on a thread of its own, gives it up once `is_waiting`, and asserts that this is what it tells.
fn given_up<T>(work: impl FnOnce(&Blocking) -> Result<T> + Send, is_waiting: impl Fn() -> bool) {
    let cancel = Cancel::default();
    let client = patient().under(&cancel);
    thread::scope(|scope| {
        let working = scope.spawn(|| work(&client).map(drop));
        while !is_waiting() {
            assert!(!working.is_finished(), "{:?}", working.join());
            thread::yield_now();
        }
        cancel.cancel();
        let told = working.join().unwrap();
        assert!(matches!(told, Err(Error::Cancelled)), "{told:?}");
    });
}

fn blob() -> Descriptor {
    Descriptor { media_type: "x".to_owned(), digest: Digest::sha256(&[7; 1000]), size: 1000 }
}

#[test]
fn a_silent_registry_is_left_at_once() {
    // Silent from the start, with a head, and in the middle of a body.
    let starts = [Vec::new(), b"HTTP/1.1 200 OK\r\n".to_vec(), bytes("200 OK", &[], &[7; 1000])[..500].to_vec()];
    for start in starts {
        let server = Server::start({
            let start = start.clone();
            move |_, _| Reply::Stall(start.clone())
        });
        let reference = server.reference("a/b:t");
        let address = WebAddress::parse(&format!("http://127.0.0.1:{}/x", server.port)).unwrap();
        let asked = std::cell::Cell::new(0);
        let one_more = || server.count() > asked.get();
        let check = |work: &(dyn Fn(&Blocking) -> Result<()> + Sync)| {
            asked.set(server.count());
            given_up(work, one_more);
        };
        check(&|client| client.resolve(&reference, None).map(drop));
        check(&|client| client.manifest(&reference, &blob().digest, None).map(drop));
        check(&|client| client.tags(&reference, None).map(drop));
        let drained = |reader: Result<corten_distribution::Reader>| {
            let read = reader?.read_to_end(&mut Vec::new());
            read.map(drop).map_err(|error| error.downcast().expect("an error of this crate"))
        };
        check(&|client| drained(client.blob(&reference, &blob(), 0, None)));
        check(&|client| drained(client.download(&address)));
        if start.len() < 100 {
            check(&|client| client.head(&reference, None).map(drop));
            check(&|client| client.has_blob(&reference, &blob().digest, None).map(drop));
            check(&|client| client.mount(&reference, &blob().digest, "other", None).map(drop));
            check(&|client| client.put_manifest(&reference, "t", "x", b"{}".to_vec(), None).map(drop));
            let open = |_| -> io::Result<Box<dyn Read + Send>> { Ok(Box::new(io::repeat(7).take(1000))) };
            let (identity, progress) = (|| Some((blob().digest, 1000)), |_| true);
            let source = Source { open: &open, size: Some(1000), identity: &identity, progress: &progress };
            check(&|client| client.upload(&reference, &source, None, None).map(drop));
        }
    }
}

#[test]
fn patience_between_two_tries_ends_as_well() {
    // It asks to be left alone for as long as it is waited for.
    let server = Server::start(|_, _| answer("503 Service Unavailable", &[("Retry-After", "30")], b""));
    let reference = server.reference("a/b:t");
    given_up(|client| client.resolve(&reference, None), || server.count() > 0);
    assert_eq!(server.count(), 1);
}

#[test]
fn who_waits_for_a_turn_leaves_the_queue() {
    let client = patient();
    let first = client.slot(Direction::Download).unwrap();
    let cancel = Cancel::default();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.under(&cancel).slot(Direction::Download).map(drop));
        cancel.cancel();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Cancelled)));
    });
    // Only that one was given up, and the turn comes to others.
    drop(first);
    client.slot(Direction::Download).unwrap();
}
