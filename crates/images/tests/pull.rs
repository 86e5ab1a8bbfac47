//! Pulling from registries that mean well, if not always able to. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::{Fixture, Opened, nobody};
use corten_base::{ErrorKind, Platform, Reference};
use corten_distribution::Limits;
use corten_images::{Cancel, Error, Progress, TransferOptions};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, noise, pack, tar};
use registry::{Fault, INDEX, MANIFEST, Registry, blob_path, image};
use serde_json::json;

/// Pulls, and answers what was reported, without the byte counts.
fn pull_lines(store: &Opened, registry: &Registry, name: &str) -> Vec<String> {
    let client = registry.client();
    let options = TransferOptions { registry: &client, credentials: None, platform: None };
    let lines = Mutex::new(Vec::new());
    let report = |progress| {
        if let Progress::Status { id, status, .. } = progress {
            let line = id.map_or_else(|| status.clone(), |id| format!("{id}: {status}"));
            let mut lines = lines.lock().unwrap();
            if lines.last() != Some(&line) {
                lines.push(line);
            }
        }
    };
    store.images.pull(&Reference::parse_normalized(&registry.name(name)).unwrap(), &options, &report).unwrap();
    lines.into_inner().unwrap()
}

#[test]
fn an_image_is_pulled_and_whole() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        let store = fixture.open();
        let image = image(7);
        let manifest = registry.push("team/app", "1", &image, packing);
        let id = registry.pull(&store, "team/app:1").unwrap();
        assert_eq!(id.0, image.id());
        let found = store.images.resolve(&registry.name("team/app:1"), Some(&Platform::host())).unwrap();
        let digest = manifest["digest"].as_str().unwrap();
        assert_eq!(found.repo_digests, [registry.name(&format!("team/app@{digest}"))]);
        let root = store.snapshots.prepare("c", found.chain.as_ref()).unwrap();
        assert_eq!(root.lower.len(), 7);
        for number in 0..7_u32 {
            let lower = &root.lower[6 - number as usize];
            assert_eq!(fs::read(lower.join(format!("file-{number}"))).unwrap(), noise(number.into(), 300_000));
        }
        // All by digest: manifest, configuration, layers.
        assert_eq!(store.holdings(&fixture), [9, 7, 8, 0]);
    }
}

#[test]
fn docker_s_steps() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let manifest = registry.push("app", "1", &image(1), Packing::Gzip);
    let digest = manifest["digest"].as_str().unwrap();
    let blob = store_layer(&image(1));
    let expect: Vec<String> = [
        "1: Pulling from app",
        "{blob}: Pulling fs layer",
        "{blob}: Downloading",
        "{blob}: Verifying Checksum",
        "{blob}: Download complete",
        "{blob}: Extracting",
        "{blob}: Pull complete",
        "Digest: {digest}",
        "Status: Downloaded newer image for {name}",
    ]
    .map(|line| line.replace("{blob}", &blob).replace("{digest}", digest).replace("{name}", &registry.name("app:1")))
    .into();
    assert_eq!(pull_lines(&store, &registry, "app:1"), expect);
    let again = [
        "1: Pulling from app".into(),
        format!("Digest: {digest}"),
        format!("Status: Image is up to date for {}", registry.name("app:1")),
    ];
    registry.take_blob_requests();
    assert_eq!(pull_lines(&store, &registry, "app:1"), again);
    // Another name for it: nothing is downloaded.
    registry.push("app", "2", &image(1), Packing::Gzip);
    let lines = pull_lines(&store, &registry, "app:2");
    assert!(lines.contains(&format!("{blob}: Already exists")), "{lines:?}");
    assert!(registry.take_blob_requests().is_empty());
    let by_digest = pull_lines(&store, &registry, &format!("app@{digest}"));
    assert_eq!(by_digest[0], format!("{digest}: Pulling from app"));
}

fn store_layer(image: &TestImage) -> String {
    corten_base::Digest::sha256(&pack(&image.layers[0], Packing::Gzip)).short().to_owned()
}

#[test]
fn the_platform_is_chosen_from_an_index() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let mut entries = Vec::new();
    for architecture in ["s390x", "amd64", "arm64"] {
        let image = TestImage { architecture: architecture.into(), ..image(1) };
        let mut entry = registry.push("app", architecture, &image, Packing::Gzip);
        entry["platform"] = json!({ "os": "linux", "architecture": architecture });
        entries.push(entry);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries }).to_string();
    let target = registry.manifest("app", "all", index.clone().into_bytes(), INDEX);
    for architecture in ["s390x", "arm64", "amd64"] {
        let platform = Platform::parse(&format!("linux/{architecture}")).unwrap();
        let id = registry.pull_for(&store, "app:all", Some(&platform)).unwrap();
        let found = store.images.resolve(id.as_str(), Some(&platform)).unwrap();
        assert_eq!(found.target.digest.as_str(), target["digest"].as_str().unwrap());
        // The index is kept as it was received.
        assert_eq!(store.content.read(&found.target.digest, 1 << 20).unwrap(), index.as_bytes());
    }
    let error = registry.pull_for(&store, "app:all", Some(&Platform::parse("linux/riscv64").unwrap())).unwrap_err();
    assert_eq!(error.to_string(), "no matching manifest for linux/riscv64 in the manifest list entries");
}

#[test]
fn a_broken_connection_is_continued() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let blob = json!({ "digest": corten_base::Digest::sha256(&image.layers[1]) });
    // More often than anybody tries.
    registry.fault(&blob_path(&blob), Some(Fault::Cut(100_000, 1000)));
    let error = registry.pull(&store, "app:1").unwrap_err();
    let Error::Part { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, Error::Registry(_)), "{error:?}");
    assert_eq!(store.images.count().unwrap(), 0);
    // As after kill -9: the process begins anew.
    drop(store);
    let store = fixture.open();
    registry.fault(&blob_path(&blob), None);
    registry.take_blob_requests();
    registry.pull(&store, "app:1").unwrap();
    let requests = registry.take_blob_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    assert!(requests[0].1 > 0, "{requests:?}");
    let found = store.images.resolve(&registry.name("app:1"), None).unwrap();
    let path = store.snapshots.stack(found.chain.as_ref().unwrap()).unwrap().remove(0).path;
    assert_eq!(fs::read(path.join("file-1")).unwrap(), noise(1, 300_000));
    store.images.remove(&registry.name("app:1"), false, false, &nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn what_an_interrupted_pull_left_can_be_given_up() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let blob = json!({ "digest": corten_base::Digest::sha256(&image.layers[1]) });
    registry.fault(&blob_path(&blob), Some(Fault::Cut(100_000, 1000)));
    registry.pull(&store, "app:1").unwrap_err();
    let left = store.images.interrupted().unwrap();
    assert_eq!(left.ingests, 1);
    assert!(left.blobs >= 2 && left.bytes > 400_000, "{left:?}");
    let checked = store.images.check(true, &nobody).unwrap();
    assert_eq!((checked.problems, checked.parts, checked.part_bytes), (Vec::new(), 1, left.bytes));
    assert_eq!(store.images.collect().unwrap().bytes(), 0, "its time isn't over");
    let day = Duration::from_secs(24 * 3600);
    let left_for = store.images.next_expiry().unwrap().unwrap().duration_since(std::time::SystemTime::now()).unwrap();
    assert!(left_for <= day + day / 1000 && left_for > day / 2, "{left_for:?}");
    assert_eq!(store.images.forget_interrupted().unwrap().bytes(), left.bytes);
    assert_eq!(store.holdings(&fixture), [0; 4]);
    assert_eq!(store.images.next_expiry().unwrap(), None);
}

#[test]
fn what_a_pull_that_failed_for_good_left_goes() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let [wrong, slow] = [0, 1].map(|at: usize| json!({ "digest": corten_base::Digest::sha256(&image.layers[at]) }));
    registry.fault(&blob_path(&wrong), Some(Fault::Changed));
    registry.fault(&blob_path(&slow), Some(Fault::Silent(100_000)));
    let error = registry.pull(&store, "app:1").unwrap_err();
    assert!(error.to_string().contains(": layer "), "{error}");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn a_size_that_no_disk_has_is_refused() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(1);
    let config = registry.blob("app", image.config(), "application/vnd.oci.image.config.v1+json");
    let mut layer = registry.blob("app", image.layers[0].clone(), "application/vnd.oci.image.layer.v1.tar");
    layer["size"] = (1u64 << 60).into();
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    registry.manifest("app", "1", manifest.to_string().into_bytes(), MANIFEST);
    registry.take_blob_requests();
    let error = registry.pull(&store, "app:1").unwrap_err();
    let text = format!("{:?}", std::error::Error::source(&error));
    assert!(text.contains("Full { needed: 1152921504606846976"), "{error:?}");
    assert_eq!(registry.take_blob_requests().len(), 1, "only the configuration was asked for");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

/// What can't be a layer is told as that when much of it is still to come, and by its digest when it is nearly whole.
#[test]
fn a_long_layer_that_is_none_is_not_downloaded_to_its_end() {
    for (length, is_told_by_digest) in [(300 << 20, false), (1 << 20, true)] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        let store = fixture.open();
        let image = TestImage::new("x:1", [vec![b'x'; length]]);
        registry.push("app", "1", &image, Packing::Plain);
        let layer = json!({ "digest": corten_base::Digest::sha256(&image.layers[0]) });
        registry.fault(&blob_path(&layer), Some(Fault::Changed));
        let error = registry.pull(&store, "app:1").unwrap_err();
        let text = format!("{:?}", std::error::Error::source(&error));
        assert_eq!(text.contains("Mismatch"), is_told_by_digest, "{text}");
        assert!(is_told_by_digest || text.contains("invalid tar header") || text.contains("Header {"), "{text}");
        assert_eq!(store.holdings(&fixture), [0; 4]);
    }
}

#[test]
fn who_falls_silent_is_not_waited_for() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let layer = json!({ "digest": corten_base::Digest::sha256(&image.layers[1]) });
    let config = json!({ "digest": image.id() });
    let tries = 5;
    for (path, part) in [(blob_path(&config), "image configuration"), (blob_path(&layer), "layer ")] {
        registry.fault(&path, Some(Fault::Silent(100)));
        registry.take_blob_requests();
        let error = registry.pull(&store, "app:1").unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: {part}", registry.name("app:1"))), "{error}");
        let asked = registry.take_blob_requests().into_iter().filter(|(asked, _)| *asked == path).count();
        assert!(asked <= tries, "{asked}");
        registry.fault(&path, None);
    }
    registry.pull(&store, "app:1").unwrap();
}

#[test]
fn the_same_image_pulled_by_many_at_once() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(4);
    registry.push("app", "1", &image, Packing::Gzip);
    registry.push("app", "2", &image, Packing::Gzip);
    thread::scope(|scope| {
        for number in 0..6 {
            let (store, registry) = (&store, &registry);
            scope.spawn(move || registry.pull(store, if number % 2 == 0 { "app:1" } else { "app:2" }).unwrap());
        }
    });
    assert_eq!(store.holdings(&fixture), [6, 4, 4, 0]);
    // Every layer came over the network once.
    assert_eq!(registry.take_blob_requests().len(), 5);
}

#[test]
fn a_layer_that_was_loaded_is_not_unpacked_again() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    store.load(&docker_archive_bytes(std::slice::from_ref(&image), Packing::Plain)).unwrap();
    let unpacked = store.holdings(&fixture)[1..3].to_vec();
    let manifest = registry.push("app", "1", &image, Packing::Gzip);
    registry.pull(&store, "app:1").unwrap();
    // Its blobs are: they are what its manifest names. They are not unpacked again.
    let asked = registry.take_blob_requests();
    assert_eq!(asked.len(), 2, "{asked:?}");
    assert_eq!(store.holdings(&fixture)[1..3], unpacked);
    let found = store.images.resolve(&registry.name("app:1"), None).unwrap();
    assert_eq!(found.manifest.digest.as_str(), manifest["digest"].as_str().unwrap());
    // One that unfolds to something else is refused all the same.
    let config = json!({ "mediaType": "application/vnd.oci.image.config.v1+json", "digest": image.id(), "size": image.config().len() });
    let other = pack(&tar(&[("other", b"1")]), Packing::Gzip);
    let other = registry.blob("app", other, "application/vnd.oci.image.layer.v1.tar+gzip");
    let lie = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [other, other] });
    registry.manifest("app", "lie", lie.to_string().into_bytes(), MANIFEST);
    let refused = registry.pull(&store, "app:lie").unwrap_err();
    let Error::Part { source, .. } = &refused else { panic!("{refused:?}") };
    assert!(matches!(**source, Error::Mismatch { .. }), "{refused:?}");
    // The plain blobs go with the name they came with; what is left is enough to unpack it again.
    store.images.remove("app:1", false, false, &nobody).unwrap();
    let found = store.images.resolve(&registry.name("app:1"), None).unwrap();
    let chain = found.chain.clone().unwrap();
    store.snapshots.remove_layer(&chain).unwrap();
    store.images.ensure_unpacked(&found).unwrap();
    assert!(store.snapshots.exists(&chain).unwrap());
}

#[test]
fn a_pull_is_cancelled() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(5);
    registry.push("app", "1", &image, Packing::Plain);
    let layers = image.layers.iter().map(|layer| json!({ "digest": corten_base::Digest::sha256(layer) }));
    let paths: Vec<String> = layers.map(|layer| blob_path(&layer)).collect();
    // While bytes come, and when none come any more.
    for silent in [false, true] {
        let cancel = Cancel::default();
        let client = registry.patient_client().under(&cancel);
        let options = TransferOptions { registry: &client, credentials: None, platform: None };
        let reference = Reference::parse_normalized(&registry.name("app:1")).unwrap();
        let report = |progress: Progress| {
            if matches!(progress, Progress::Status { current: Some(1..), .. }) {
                cancel.cancel();
            }
        };
        paths.iter().filter(|_| silent).for_each(|path| registry.fault(path, Some(Fault::Silent(250_000))));
        let error = store.images.pull(&reference, &options, &report).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), ("context canceled", ErrorKind::Cancelled));
        assert_eq!(store.images.count().unwrap(), 0);
        assert_eq!(store.holdings(&fixture)[1..3], [0, 0], "nothing of a layer");
    }
    // What has come is not asked for again.
    paths.iter().for_each(|path| registry.fault(path, None));
    registry.take_blob_requests();
    registry.pull(&store, "app:1").unwrap();
    assert!(registry.take_blob_requests().iter().any(|(_, offset)| *offset > 0));
    store.images.remove(&registry.name("app:1"), false, false, &nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

/// The status that is told of a part.
fn said(progress: &Progress) -> Option<(&str, &str)> {
    let Progress::Status { id: Some(id), status, .. } = progress else { return None };
    Some((id, status))
}

#[test]
fn a_pull_is_cancelled_when_its_bytes_are_here() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    registry.push("app", "1", &image(1), Packing::Gzip);
    let cancel = Cancel::default();
    let client = registry.client().under(&cancel);
    let options = TransferOptions { registry: &client, credentials: None, platform: None };
    let reference = Reference::parse_normalized(&registry.name("app:1")).unwrap();
    let report = |progress: Progress| {
        if said(&progress).is_some_and(|(_, status)| status == "Download complete") {
            cancel.cancel();
        }
    };
    let error = store.images.pull(&reference, &options, &report).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}");
    assert_eq!(store.images.count().unwrap(), 0);
    assert_eq!(store.holdings(&fixture)[1..], [0, 0, 0], "nothing of a layer");
    // What has come is kept for who comes back.
    registry.take_blob_requests();
    registry.pull(&store, "app:1").unwrap();
    assert_eq!(registry.take_blob_requests(), []);
}

#[test]
fn a_layer_that_has_come_makes_room_for_the_next() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let short = |number: usize| corten_base::Digest::sha256(&image.layers[number]).short().to_owned();
    let (first, second) = (short(0), short(1));
    let limits = Limits { downloads: 1, ..Limits::default() };
    let client = registry.client_with(limits);
    let options = TransferOptions { registry: &client, credentials: None, platform: None };
    let reference = Reference::parse_normalized(&registry.name("app:1")).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let receive = Mutex::new(receive);
    // All of the first has come, and it isn't done with until the second has begun to come.
    let report = |progress: Progress| match said(&progress) {
        Some((id, "Verifying Checksum")) if id == first => {
            receive.lock().unwrap().recv_timeout(Duration::from_secs(30)).expect("the next one comes meanwhile");
        }
        Some((id, "Downloading")) if id == second => send.send(()).unwrap(),
        _ => {}
    };
    store.images.pull(&reference, &options, &report).unwrap();
}

#[test]
fn a_failure_waits_for_nobody_who_is_silent() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(2);
    registry.push("app", "1", &image, Packing::Plain);
    let blob = |number: usize| corten_base::Digest::sha256(&image.layers[number]);
    let path = |number: usize| blob_path(&json!({ "digest": blob(number) }));
    registry.fault(&path(0), Some(Fault::Silent(100)));
    registry.fault(&path(1), Some(Fault::Changed));
    registry.take_blob_requests();
    let client = registry.patient_client();
    let options = TransferOptions { registry: &client, credentials: None, platform: None };
    let reference = Reference::parse_normalized(&registry.name("app:1")).unwrap();
    let error = store.images.pull(&reference, &options, &|_| {}).unwrap_err();
    assert_eq!(error.to_string(), format!("{}: layer {}", registry.name("app:1"), blob(1).short()));
    // It was not asked again, as it would have been after a minute.
    let asked = registry.take_blob_requests().into_iter().filter(|(asked, _)| *asked == path(0)).count();
    assert!(asked <= 1, "{asked}");
}
