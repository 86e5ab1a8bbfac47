//! Pulling from registries, good and bad. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Fixture, Opened, nobody};
use corten_base::{ErrorKind, ImageId, Platform, Reference};
use corten_images::{Error, Progress, Result, TransferOptions};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, pack, tar};
use registry::{Fault, INDEX, MANIFEST, Registry};
use serde_json::{Value, json};

fn pull(store: &Opened, registry: &Registry, name: &str) -> Result<ImageId> {
    pull_for(store, registry, name, None)
}

fn pull_for(store: &Opened, registry: &Registry, name: &str, platform: Option<&Platform>) -> Result<ImageId> {
    let client = registry.client();
    let options = TransferOptions { registry: &client, credentials: None, platform, cancelled: None };
    store.images.pull(&Reference::parse_normalized(&registry.name(name)).unwrap(), &options, &|_| {})
}

/// Pulls, and answers what was reported, without the byte counts.
fn pull_lines(store: &Opened, registry: &Registry, name: &str) -> Vec<String> {
    let client = registry.client();
    let options = TransferOptions { registry: &client, credentials: None, platform: None, cancelled: None };
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

fn image(layers: u32) -> TestImage {
    let layer = |number: u32| {
        let name = format!("file-{number}");
        tar(&[("etc/", b""), ("etc/same", name.as_bytes()), (&name, &noise(number, 300_000))])
    };
    TestImage::new("app:1", (0..layers).map(layer))
}

/// Bytes that don't compress.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

fn blob_path(descriptor: &Value) -> String {
    format!("/v2/app/blobs/{}", descriptor["digest"].as_str().unwrap())
}

#[test]
fn an_image_is_pulled_and_whole() {
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let (fixture, registry) = (Fixture::new(), Registry::start());
        let store = fixture.open();
        let image = image(7);
        let manifest = registry.push("team/app", "1", &image, packing);
        let id = pull(&store, &registry, "team/app:1").unwrap();
        assert_eq!(id.0, image.id());
        let found = store.images.resolve(&registry.name("team/app:1"), Some(&Platform::host())).unwrap();
        let digest = manifest["digest"].as_str().unwrap();
        assert_eq!(found.repo_digests, [registry.name(&format!("team/app@{digest}"))]);
        let root = store.snapshots.prepare("c", found.chain.as_ref()).unwrap();
        assert_eq!(root.lower.len(), 7);
        for number in 0..7_u32 {
            let lower = &root.lower[6 - number as usize];
            assert_eq!(fs::read(lower.join(format!("file-{number}"))).unwrap(), noise(number, 300_000));
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
        let id = pull_for(&store, &registry, "app:all", Some(&platform)).unwrap();
        let found = store.images.resolve(id.as_str(), Some(&platform)).unwrap();
        assert_eq!(found.target.digest.as_str(), target["digest"].as_str().unwrap());
        // The index is kept as it was received.
        assert_eq!(store.content.read(&found.target.digest, 1 << 20).unwrap(), index.as_bytes());
    }
    let error = pull_for(&store, &registry, "app:all", Some(&Platform::parse("linux/riscv64").unwrap())).unwrap_err();
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
    let error = pull(&store, &registry, "app:1").unwrap_err();
    let Error::Part { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(**source, Error::Registry(_)), "{error:?}");
    assert_eq!(store.images.count().unwrap(), 0);
    // As after kill -9: the process begins anew.
    drop(store);
    let store = fixture.open();
    registry.fault(&blob_path(&blob), None);
    registry.take_blob_requests();
    pull(&store, &registry, "app:1").unwrap();
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
        let error = pull(&store, &registry, "app:1").unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: {part}", registry.name("app:1"))), "{error}");
        let asked = registry.take_blob_requests().into_iter().filter(|(asked, _)| *asked == path).count();
        assert!(asked <= tries, "{asked}");
        registry.fault(&path, None);
    }
    pull(&store, &registry, "app:1").unwrap();
}

#[test]
fn what_a_hostile_registry_sends_is_refused() {
    let registry = Registry::start();
    let image = image(2);
    let layer = json!({ "digest": corten_base::Digest::sha256(&image.layers[1]) });
    let config = json!({ "digest": image.id() });
    let manifest = registry.push("app", "1", &image, Packing::Plain);
    let by_digest = format!("app@{}", manifest["digest"].as_str().unwrap());
    let manifest_path = format!("/v2/app/manifests/{}", manifest["digest"].as_str().unwrap());
    let cases = [
        (blob_path(&layer), Fault::Changed, "app:1"),
        (blob_path(&layer), Fault::Endless, "app:1"),
        (blob_path(&config), Fault::Changed, "app:1"),
        (blob_path(&config), Fault::Endless, "app:1"),
        (manifest_path.clone(), Fault::Changed, by_digest.as_str()),
        (manifest_path, Fault::Endless, by_digest.as_str()),
    ];
    for (path, fault, name) in cases {
        let fixture = Fixture::new();
        let store = fixture.open();
        registry.fault(&path, Some(fault.clone()));
        let error = pull(&store, &registry, name).unwrap_err();
        if path.contains("/blobs/") {
            let part = if path == blob_path(&config) {
                "image configuration".to_owned()
            } else {
                format!("layer {}", &path[path.len() - 64..][..12])
            };
            assert_eq!(error.to_string(), format!("{}: {part}", registry.name("app:1")), "{path} {fault:?}");
        }
        registry.fault(&path, None);
        assert_eq!(store.images.count().unwrap(), 0, "{path} {fault:?}");
        assert!(store.snapshots.layers().unwrap().is_empty(), "{path} {fault:?}");
        // Whatever was kept, it does no harm.
        pull(&store, &registry, "app:1").unwrap();
    }
}

#[test]
fn manifests_that_make_no_sense_are_refused() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(1);
    let good = registry.push("app", "good", &image, Packing::Plain);
    let manifest = registry.blob("app", image.config(), "application/vnd.oci.image.config.v1+json");
    let layer = registry.blob("app", image.layers[0].clone(), "application/vnd.oci.image.layer.v1.tar");
    let other = registry.blob("app", tar(&[("other", b"1")]), "application/vnd.oci.image.layer.v1.tar");
    let mut short = layer.clone();
    short["size"] = json!(10);
    let mut huge = manifest.clone();
    huge["size"] = json!(1_u64 << 40);
    let image = |config: &Value, layers: Vec<Value>| json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
    let cases = [
        ("no layers", image(&manifest, vec![])),
        ("more layers than diff ids", image(&manifest, vec![layer.clone(), layer.clone()])),
        ("ten thousand layers", image(&manifest, vec![layer.clone(); 10_000])),
        ("another layer than the diff id", image(&manifest, vec![other])),
        ("a layer of another size", image(&manifest, vec![short])),
        ("a huge configuration", image(&huge, vec![layer.clone()])),
        (
            "an artifact",
            image(
                &json!({ "mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": good["digest"], "size": 2 }),
                vec![],
            ),
        ),
        ("schema 1", json!({ "schemaVersion": 1, "fsLayers": [] })),
        ("no manifest", json!(["x"])),
        (
            "an index of attestations",
            json!({ "schemaVersion": 2, "manifests": [{ "digest": good["digest"], "size": 1, "platform": { "os": "unknown", "architecture": "unknown" } }] }),
        ),
    ];
    for (what, document) in cases {
        let media_type = if document.get("manifests").is_some() { INDEX } else { MANIFEST };
        registry.manifest("app", "bad", document.to_string().into_bytes(), media_type);
        let error = pull(&store, &registry, "app:bad").expect_err(what);
        let told = error.to_string();
        let is_named =
            told.contains(&registry.name("app")) || told.starts_with("invalid") || told.starts_with("no matching");
        assert!(is_named, "{what}: {told}");
        assert_eq!(store.images.count().unwrap(), 0, "{what}");
        assert_eq!(store.holdings(&fixture)[1..3], [0, 0], "{what}");
    }
    // Indexes within indexes end somewhere, as one that leads to itself would not.
    let mut below = good.clone();
    for level in 0..6 {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [below] });
        below = registry.manifest("app", &format!("level{level}"), index.to_string().into_bytes(), INDEX);
        below["platform"] = json!({ "os": "linux", "architecture": Platform::host().architecture });
    }
    let told = pull(&store, &registry, "app:level5").unwrap_err().to_string();
    assert!(told.ends_with("indexes are nested too deeply") && told.contains("app:level5"), "{told}");
    registry.manifest("app", "large", vec![b' '; 10 << 20], MANIFEST);
    let told = pull(&store, &registry, "app:large").unwrap_err().to_string();
    assert_eq!(told, format!("the manifest of {} is larger than 4194304 bytes", registry.name("app:large")));
    registry.manifest("app", "broken", b"{\"schemaVersion\":2,".to_vec(), MANIFEST);
    let told = pull(&store, &registry, "app:broken").unwrap_err().to_string();
    assert!(told.starts_with("invalid manifest sha256:") && told.contains(&registry.name("app:broken")), "{told}");
    let error = pull(&store, &registry, "app:missing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
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
            scope.spawn(move || pull(store, registry, if number % 2 == 0 { "app:1" } else { "app:2" }).unwrap());
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
    pull(&store, &registry, "app:1").unwrap();
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
    let refused = pull(&store, &registry, "app:lie").unwrap_err();
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
    registry.push("app", "1", &image(5), Packing::Plain);
    let (client, cancelled) = (registry.client(), AtomicBool::new(false));
    let options = TransferOptions { registry: &client, credentials: None, platform: None, cancelled: Some(&cancelled) };
    let reference = Reference::parse_normalized(&registry.name("app:1")).unwrap();
    let report = |progress: Progress| {
        if matches!(&progress, Progress::Status { status, .. } if status == "Downloading") {
            cancelled.store(true, Ordering::Relaxed);
        }
    };
    let error = store.images.pull(&reference, &options, &report).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(store.images.count().unwrap(), 0);
}
