//! kill -9 in the middle of things: what is named is whole, and what isn't named goes. Needs root.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, fs, thread};

use common::{Fixture, Opened, nobody, open_at};
use corten_base::Reference;
use corten_images::{Client, Filters, RegistryConfig, TransferOptions};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, oci_archive_bytes, tar};
use registry::Registry;

/// Set for the process that gets killed: its store's folder, and the registry's image.
const FOLDER: &str = "CORTEN_TEST_CRASH_FOLDER";
const IMAGE: &str = "CORTEN_TEST_CRASH_IMAGE";

const KILLS: u64 = 25;

fn image() -> TestImage {
    let layer = |number: u8| {
        let name = format!("file-{number}");
        tar(&[("etc/", b""), ("etc/same", &[number]), (&name, &vec![number; 200_000]), (".wh.gone", b"")])
    };
    TestImage { tags: vec!["app:1".into()], ..TestImage::new("app:1", (1..=3).map(layer)) }
}

/// Not a test of its own: what the killed process does, for as long as it lives.
#[test]
fn the_victim() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = open_at(&folder);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(RegistryConfig::default()).blocking(runtime.handle().clone());
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    let pulled = env::var(IMAGE).unwrap();
    let pulled_name = Reference::parse_normalized(&pulled).unwrap();
    let options = TransferOptions { registry: &client, credentials: None, platform: None };
    let archives = [
        docker_archive_bytes(&[image()], Packing::Gzip),
        oci_archive_bytes(&[TestImage::new("other:1", image().layers)], Packing::Plain, true),
    ];
    loop {
        store.images.pull(&pulled_name, &options, &|_| {}).unwrap();
        for archive in &archives {
            store.load(archive).unwrap();
        }
        store.images.tag("app:1", &Reference::parse_normalized("app:2").unwrap()).unwrap();
        let found = store.images.resolve("app:1", None).unwrap();
        store.snapshots.prepare("container", found.chain.as_ref()).unwrap();
        store.snapshots.remove("container").unwrap();
        for name in [&pulled, "app:1", "other:1", "app:2"] {
            // Different archives of one image may give it one id.
            drop(store.images.remove(name, false, false, &nobody));
        }
    }
}

fn victim(folder: &std::path::Path, image: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "the_victim", "--nocapture"]).env(FOLDER, folder).env(IMAGE, image);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
}

#[test]
fn what_is_named_is_whole_after_kill_9() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    registry.push("pulled", "1", &TestImage { created: "2026-11-20T00:00:00Z".into(), ..image() }, Packing::Zstd);
    let name = registry.name("pulled:1");
    for kill in 0..KILLS {
        let mut victim = victim(fixture.folder(), &name);
        // Spread over the start and several rounds.
        thread::sleep(Duration::from_millis(20 + (kill * 7919) % 600));
        assert!(victim.try_wait().unwrap().is_none(), "the victim failed by itself");
        victim.kill().unwrap();
        victim.wait().unwrap();
        let store = fixture.open();
        // Nothing but what holds containers' layers, and this victim's has none left when it is removed.
        store.snapshots.remove("container").unwrap();
        check(&store, &fixture);
    }
    // Removing everything leaves nothing but what a pull may continue with.
    let store = fixture.open();
    for summary in store.images.list(&Filters { all: true, ..Filters::default() }).unwrap() {
        store.images.remove(summary.id.as_str(), true, false, &nobody).unwrap();
    }
    let [_, layers, folders, _] = store.holdings(&fixture);
    assert_eq!([layers, folders], [0, 0]);
}

/// Everything that is named is there and right, and no folder is without a record.
fn check(store: &Opened, fixture: &Fixture) {
    for digest in store.content.blobs().unwrap() {
        store.content.read(&digest, 1 << 24).unwrap();
    }
    for summary in store.images.list(&Filters { all: true, ..Filters::default() }).unwrap() {
        let image = store.images.resolve(summary.id.as_str(), None).unwrap();
        let paths = store.images.layer_paths(&image).unwrap();
        assert_eq!(paths.len(), 3);
        for (number, path) in (1..=3).rev().zip(paths) {
            assert_eq!(fs::read(path.join(format!("file-{number}"))).unwrap(), vec![number; 200_000]);
            assert_eq!(fs::read(path.join("etc/same")).unwrap(), [number]);
        }
        assert!(store.content.contains(&image.manifest.digest) && store.content.contains(&image.target.digest));
    }
    let [_, layers, folders, _] = store.holdings(fixture);
    assert_eq!(layers, folders);
}
