//! Registries and images that mean harm, pulled: each refused with an error that names image and part, within bounds, and
//! without a trace. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/registry.rs"]
mod registry;

use std::fs;

use common::Fixture;
use corten_archive::{Entry, Kind};
use corten_base::{Digest, ErrorKind, Platform};
use corten_testkit::hostile;
use corten_testkit::image::{Packing, TestImage, link, pack, tar, tar_of};
use registry::{Fault, INDEX, MANIFEST, Registry, blob_path, image};
use serde_json::{Value, json};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// What lies in the store's folder and beside it, one level deep.
fn listed(fixture: &Fixture) -> Vec<String> {
    let below = |folder: &str| fs::read_dir(fixture.path(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = below("").chain(below("outside")).map(|path| path.display().to_string()).collect();
    paths.sort();
    paths
}

#[test]
fn what_a_hostile_registry_sends_is_refused() {
    let registry = Registry::start();
    let image = image(2);
    let layer = json!({ "digest": Digest::sha256(&image.layers[1]) });
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
        let error = registry.pull(&store, name).unwrap_err();
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
        registry.pull(&store, "app:1").unwrap();
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
        let error = registry.pull(&store, "app:bad").expect_err(what);
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
    registry.take_requests();
    let told = registry.pull(&store, "app:level5").unwrap_err().to_string();
    assert!(told.ends_with("indexes are nested too deeply") && told.contains("app:level5"), "{told}");
    assert_eq!(registry.take_requests().len(), 5);
    registry.manifest("app", "large", vec![b' '; 10 << 20], MANIFEST);
    let told = registry.pull(&store, "app:large").unwrap_err().to_string();
    assert_eq!(told, format!("the manifest of {} is larger than 4194304 bytes", registry.name("app:large")));
    registry.manifest("app", "broken", b"{\"schemaVersion\":2,".to_vec(), MANIFEST);
    let told = registry.pull(&store, "app:broken").unwrap_err().to_string();
    assert!(told.starts_with("invalid manifest sha256:") && told.contains(&registry.name("app:broken")), "{told}");
    let error = registry.pull(&store, "app:missing").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn layers_that_mean_harm() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "untouched").unwrap();
    let before = listed(&fixture);
    let base = tar(&[("etc/", b""), ("etc/file", b"base"), ("a/", b""), ("a/below", b"base")]);
    for (what, layer) in hostile::layers(&outside.join("file")) {
        // The lowest one, and one with a layer below that the other comes with.
        for layers in [vec![layer.clone()], vec![base.clone(), layer.clone()]] {
            let image = TestImage::new("bad:1", layers);
            registry.push("app", "bad", &image, Packing::Gzip);
            let error = registry.pull(&store, "app:bad").expect_err(what);
            assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}");
            let blob = Digest::sha256(&pack(&layer, Packing::Gzip));
            let text = told(&error);
            let named = format!("{}: layer {}: failed to register layer ", registry.name("app:bad"), blob.short());
            assert!(text.starts_with(&named), "{what}: {text}");
            assert_eq!(store.holdings(&fixture), [0; 4], "{what}");
            assert_eq!(store.images.count().unwrap(), 0, "{what}");
            assert_eq!(listed(&fixture), before, "{what}");
            assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "untouched", "{what}");
        }
    }
}

#[test]
fn names_twice_and_in_other_letters() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let entry = |kind, name: &str| Entry::new(kind, name, 0o755);
    let file = |name: &str| entry(Kind::File, name);
    let lower = tar(&[("etc/", b""), ("etc/passwd", b"lower"), ("etc/Passwd", b"Lower"), ("gone", b""), ("GONE", b"")]);
    let layer = tar_of(&[
        (file("etc/passwd"), b"one"),
        (file("etc/PASSWD"), b"three"),
        (file("./etc//passwd"), b"two"),
        (file(".wh.gone"), b""),
        (entry(Kind::Directory, "tree"), b""),
        (file("tree/file"), b"below"),
        (link(Kind::HardLink, "kept", "tree/file"), b""),
        (file("tree/file"), b"again"),
        (file("tree/../tree/FILE"), b"other"),
        (link(Kind::Symlink, "link", "etc/passwd"), b""),
        (file("/link"), b"a file"),
        (entry(Kind::Directory, "link"), b""),
    ]);
    registry.push("app", "1", &TestImage::new("app:1", [lower, layer]), Packing::Gzip);
    registry.pull(&store, "app:1").unwrap();
    let found = store.images.resolve(&registry.name("app:1"), None).unwrap();
    let paths = store.images.layer_paths(&found).unwrap();
    let read = |name: &str| fs::read_to_string(paths[0].join(name)).unwrap();
    // The last one of a name counts, and what an earlier one was linked to stays.
    let names = ["etc/passwd", "etc/PASSWD", "tree/file", "tree/FILE", "kept"];
    assert_eq!(names.map(read), ["two", "three", "again", "other", "below"]);
    assert!(paths[0].join("link").is_dir());
    // What is below by a name in other letters is neither covered nor hidden.
    assert!(!paths[0].join("etc/Passwd").exists() && fs::symlink_metadata(paths[0].join("GONE")).is_err());
    assert!(fs::symlink_metadata(paths[0].join("gone")).is_ok());
    assert_eq!(fs::read_to_string(paths[1].join("etc/Passwd")).unwrap(), "Lower");
}

#[test]
fn layers_by_other_names() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(1);
    let config = registry.blob("app", image.config(), CONFIG);
    let manifest = |layer: &Value| {
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        registry.manifest("app", "1", manifest.to_string().into_bytes(), MANIFEST);
        registry.pull(&store, "app:1")
    };
    // What it is packed with is told by its bytes, as Docker does it.
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        for media_type in [
            LAYER,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/octet-stream",
            "",
        ] {
            let layer = registry.blob("app", pack(&image.layers[0], packing), media_type);
            let id = manifest(&layer).unwrap();
            assert_eq!(id.0, image.id(), "{packing:?} as {media_type}");
            store.images.remove(&registry.name("app:1"), false, false, &common::nobody).unwrap();
            assert_eq!(store.holdings(&fixture), [0; 4]);
        }
    }
    // What no layer is called is refused in Docker's words before it is fetched.
    for media_type in [
        "application/vnd.oci.images_are_fun",
        "application/vnd.in-toto+json",
        "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        "application/x-tar",
        "nonsense",
    ] {
        let layer = registry.blob("app", pack(&image.layers[0], Packing::Gzip), media_type);
        registry.take_blob_requests();
        let error = manifest(&layer).unwrap_err();
        let blob = Digest::parse(layer["digest"].as_str().unwrap()).unwrap();
        let name = registry.name("app:1");
        let expect = format!("{name}: layer {}: unsupported media type {media_type}", blob.short());
        assert_eq!((told(&error), error.kind()), (expect, ErrorKind::Invalid));
        assert_eq!(registry.take_blob_requests(), []);
        assert_eq!(store.holdings(&fixture), [0; 4], "{media_type}");
    }
    // A configuration in a layer's place, under its own name, is no archive.
    let text = told(&manifest(&config).unwrap_err());
    let short = image.id();
    let named = format!("{}: layer {1}: failed to register layer {1}", registry.name("app:1"), short.short());
    assert!(text.starts_with(&named), "{text}");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn documents_by_other_names() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let image = image(1);
    let manifest = registry.push("app", "one", &image, Packing::Gzip);
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let index = |entry: &Value, tag: &str| {
        let mut entry = entry.clone();
        entry["platform"] = platform.clone();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        registry.manifest("app", tag, index.to_string().into_bytes(), INDEX)
    };
    let inner = index(&manifest, "inner");
    // What an index says of its entries is not believed: they are what they are.
    for (below, said, depth) in
        [(&manifest, INDEX, 1), (&manifest, "text/html", 1), (&inner, MANIFEST, 2), (&inner, CONFIG, 2)]
    {
        let mut entry = below.clone();
        entry["mediaType"] = json!(said);
        let target = index(&entry, "1");
        assert_eq!(registry.pull(&store, "app:1").unwrap().0, image.id(), "{said}");
        let found = store.images.resolve(&registry.name("app:1"), None).unwrap();
        assert_eq!(found.target.digest.as_str(), target["digest"].as_str().unwrap());
        assert_eq!(
            (found.manifest.digest.as_str(), &found.manifest.media_type[..]),
            (manifest["digest"].as_str().unwrap(), MANIFEST)
        );
        // Configuration, layer, manifest and the indexes.
        assert_eq!(store.holdings(&fixture)[0], 3 + depth, "{said}");
        store.images.remove(&registry.name("app:1"), false, false, &common::nobody).unwrap();
    }
    // What a document says of itself has to be what it was sent as.
    let documents = |media_type: &str| {
        let config = registry.blob("app", image.config(), CONFIG);
        let layer = registry.blob("app", image.layers[0].clone(), LAYER);
        let manifest = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
        (manifest, json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": [] }))
    };
    let cases = [
        (
            documents(MANIFEST).0,
            DOCKER_MANIFEST,
            format!("mediaType in manifest should be '{DOCKER_MANIFEST}' not '{MANIFEST}'"),
        ),
        (
            documents(DOCKER_MANIFEST).0,
            MANIFEST,
            format!("if present, mediaType in manifest should be '{MANIFEST}' not '{DOCKER_MANIFEST}'"),
        ),
        (
            documents(INDEX).1,
            DOCKER_LIST,
            format!("mediaType in manifest list should be '{DOCKER_LIST}' not '{INDEX}'"),
        ),
        (
            documents(DOCKER_LIST).1,
            INDEX,
            format!("if present, mediaType in image index should be '{INDEX}' not '{DOCKER_LIST}'"),
        ),
        (documents("x").1, MANIFEST, "ocimanifest: expected manifest but found index".to_owned()),
        (documents("x").0, INDEX, "index: expected index but found manifest".to_owned()),
    ];
    for (document, sent_as, expect) in cases {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::sha256(&bytes);
        let sent = registry.manifest("app", "bad", bytes, sent_as);
        let name = registry.name("app:bad");
        assert_eq!(
            told(&registry.pull(&store, "app:bad").unwrap_err()),
            format!("invalid manifest {digest} of {name}: {expect}")
        );
        // The same behind an index.
        index(&sent, "outer");
        let name = registry.name("app:outer");
        assert_eq!(
            told(&registry.pull(&store, "app:outer").unwrap_err()),
            format!("invalid manifest {digest} of {name}: {expect}")
        );
        assert_eq!(store.holdings(&fixture), [0; 4]);
    }
}

#[test]
fn indexes_in_a_circle() {
    let (fixture, registry) = (Fixture::new(), Registry::start());
    let store = fixture.open();
    let platform = json!({ "os": "linux", "architecture": Platform::host().architecture });
    let index = |digest: &Digest| {
        let entry = json!({ "mediaType": INDEX, "digest": digest, "size": 500, "platform": platform });
        json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] }).to_string().into_bytes()
    };
    // No document can name itself by its digest; a registry can answer with it all the same.
    let (one, other) = (Digest::sha256(b"one"), Digest::sha256(b"other"));
    for second in [&one, &other] {
        registry.lie("app", one.as_str(), index(second), INDEX);
        registry.lie("app", other.as_str(), index(&one), INDEX);
        registry.manifest("app", "1", index(&one), INDEX);
        registry.take_requests();
        let error = registry.pull(&store, "app:1").unwrap_err();
        let expect = format!(
            "{}: manifest {}: manifest verification failed for digest {one}",
            registry.name("app:1"),
            one.short()
        );
        assert_eq!(told(&error), expect);
        assert_eq!(registry.take_requests().len(), 2);
        assert_eq!(store.holdings(&fixture), [0; 4]);
    }
    // An attestation that is an index is none.
    let good = registry.push("app", "good", &image(1), Packing::Gzip);
    let mut image = good.clone();
    image["platform"] = platform.clone();
    let mut about = registry.manifest("app", "inner", index(&one), INDEX);
    about["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
    about["annotations"] =
        json!({ "vnd.docker.reference.digest": good["digest"], "vnd.docker.reference.type": "attestation-manifest" });
    let outer = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image, about] });
    registry.manifest("app", "1", outer.to_string().into_bytes(), INDEX);
    let text = told(&registry.pull(&store, "app:1").unwrap_err());
    assert!(
        text.starts_with(&format!("{}: attestation ", registry.name("app:1"))) && text.ends_with("it is an index"),
        "{text}"
    );
    assert_eq!(store.images.count().unwrap(), 0);
}
