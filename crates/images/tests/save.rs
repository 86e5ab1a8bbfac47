//! Saving images: what comes out is what came in, for Corten and for others. Needs root: layers have owners.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use common::{Fixture, Opened};
use corten_archive::{Entry, Kind, Limits, Reader, Writer};
use corten_base::{ContainerId, Digest, ImageId, Platform};
use corten_images::{Error, InUse, ManifestKind};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, oci_archive_bytes, pack, tar};
use serde_json::{Value, json};

fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut reader = Reader::new(archive, Limits::default());
    let mut files = BTreeMap::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = Vec::new();
        reader.read_to_end(&mut data).unwrap();
        if entry.kind == Kind::File {
            files.insert(String::from_utf8(entry.path).unwrap(), data);
        }
    }
    files
}

fn save(store: &Opened, names: &[&str], platforms: &[&str]) -> Result<Vec<u8>, Error> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let platforms: Vec<Platform> = platforms.iter().map(|text| Platform::parse(text).unwrap()).collect();
    let export = store.images.export(&names, &platforms)?;
    let (length, mut archive) = (export.length(), Vec::new());
    export.write(&mut archive)?;
    assert_eq!(archive.len() as u64, length, "the length is known before");
    Ok(archive)
}

fn layers() -> [Vec<u8>; 2] {
    [tar(&[("bin/", b""), ("bin/true", b"#!")]), tar(&[("etc/", b""), ("etc/name", b"upper")])]
}

#[test]
fn what_is_saved_loads_with_the_same_digests() {
    let image = TestImage::new("app:1", layers());
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        for nested in [false, true] {
            let fixture = Fixture::new();
            let store = fixture.open();
            let archive = oci_archive_bytes(std::slice::from_ref(&image), packing, nested);
            store.load(&archive).unwrap();
            let first = store.images.resolve("app:1", None).unwrap();
            let saved = save(&store, &["app:1"], &[]).unwrap();
            assert!(saved == save(&store, &["app:1"], &[]).unwrap(), "equal images give equal archives");
            let (came, went) = (files(&archive), files(&saved));
            for (name, bytes) in came.iter().filter(|(name, _)| name.starts_with("blobs/")) {
                assert!(went.get(name) == Some(bytes), "{name} is not saved as it came");
            }
            let other = Fixture::new();
            let again = other.open();
            assert_eq!(again.load(&saved).unwrap()[0].names, ["app:1"]);
            let second = again.images.resolve("app:1", None).unwrap();
            assert_eq!((second.id, second.target, second.manifest), (first.id, first.target, first.manifest));
        }
    }
}

#[test]
fn a_docker_archive_inside() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let [base, top] = layers();
    let images = [TestImage::new("app:1", [base.clone(), top]), TestImage::new("localhost:5000/x/base:2", [base])];
    store.load(&docker_archive_bytes(&images, Packing::Gzip)).unwrap();
    store.images.tag("app:1", &"app:other".parse().unwrap()).unwrap();
    let files = files(&save(&store, &["app", "localhost:5000/x/base:2"], &[]).unwrap());
    assert_eq!(files["oci-layout"], br#"{"imageLayoutVersion":"1.0.0"}"#);
    let manifest: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], json!(["app:1", "app:other"]));
    assert_eq!(manifest[0]["Config"], json!(format!("blobs/sha256/{}", images[0].id().hex())));
    assert_eq!(manifest[1]["RepoTags"], json!(["localhost:5000/x/base:2"]));
    assert_eq!(manifest[0]["Layers"][0], manifest[1]["Layers"][0], "shared layers are there once");
    let repositories: Value = serde_json::from_slice(&files["repositories"]).unwrap();
    assert!(repositories["app"]["other"].is_string() && repositories["localhost:5000/x/base"]["2"].is_string());
    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    let names: Vec<&Value> =
        (0..3).map(|at| &index["manifests"][at]["annotations"]["io.containerd.image.name"]).collect();
    assert_eq!(names, ["docker.io/library/app:1", "docker.io/library/app:other", "localhost:5000/x/base:2"]);
    // Two configurations, two manifests, two layers.
    assert_eq!(files.keys().filter(|name| name.starts_with("blobs/")).count(), 6);
    // By id: no names at all.
    let nameless = self::files(&save(&store, &[images[0].id().hex()], &[]).unwrap());
    assert!(!nameless.contains_key("repositories"));
    let manifest: Value = serde_json::from_slice(&nameless["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["RepoTags"], Value::Null);
    assert!(matches!(save(&store, &["nosuch"], &[]), Err(Error::NotFound(_))));
    assert!(matches!(save(&store, &["app:1"], &["linux/s390x"]), Err(Error::Platform { .. })));
}

#[test]
fn a_save_event_is_told() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("app:1", layers());
    store.load(&docker_archive_bytes(std::slice::from_ref(&image), Packing::Plain)).unwrap();
    let mut events = store.subscribe();
    save(&store, &["app:1"], &[]).unwrap();
    let event = events.try_next().unwrap().unwrap();
    assert_eq!((event.action.as_str(), event.actor.id.as_str()), ("save", image.id().as_str()));
}

#[test]
fn blobs_stay_while_they_are_being_saved() {
    let fixture = Fixture::new();
    let store = fixture.open();
    store.load(&docker_archive_bytes(&[TestImage::new("app:1", layers())], Packing::Gzip)).unwrap();
    let export = store.images.export(&["app:1".into()], &[]).unwrap();
    store.images.remove("app:1", true, false, &common::nobody).unwrap();
    let mut archive = Vec::new();
    export.write(&mut archive).unwrap();
    assert_eq!(Fixture::new().open().load(&archive).unwrap()[0].names, ["app:1"]);
    store.images.collect().unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

/// Blobs of a layout and the descriptors that name them.
#[derive(Default)]
struct Layout(BTreeMap<Digest, Vec<u8>>);

impl Layout {
    fn put(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let (digest, size) = (Digest::sha256(&bytes), bytes.len());
        self.0.insert(digest.clone(), bytes);
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    }

    fn image(&mut self, image: &TestImage) -> Value {
        let config = self.put(image.config(), "application/vnd.oci.image.config.v1+json");
        let layers = image
            .layers
            .iter()
            .map(|layer| self.put(pack(layer, Packing::Gzip), "application/vnd.oci.image.layer.v1.tar+gzip"));
        let layers: Vec<Value> = layers.collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut entry = self.put(manifest.to_string().into_bytes(), MANIFEST);
        entry["platform"] = json!({ "os": "linux", "architecture": image.architecture });
        entry
    }

    fn attestation(&mut self, subject: &Value) -> Value {
        let config = self.put(b"{}".to_vec(), "application/vnd.oci.image.config.v1+json");
        let mut statement = self.put(br#"{"_type":"https://in-toto.io/Statement/v0.1"}"#.to_vec(), STATEMENT);
        statement["annotations"] = json!({ "in-toto.io/predicate-type": PREDICATE });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [statement] });
        let mut entry = self.put(manifest.to_string().into_bytes(), MANIFEST);
        entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
        entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject["digest"] });
        entry
    }

    /// The layout as a tar, with one index of these entries behind one name.
    fn archive(mut self, name: &str, entries: &[Value]) -> Vec<u8> {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let mut named = self.put(index.to_string().into_bytes(), INDEX);
        named["annotations"] = json!({ "io.containerd.image.name": name });
        let top = json!({ "schemaVersion": 2, "manifests": [named] }).to_string();
        let mut writer = Writer::new(Vec::new());
        let mut put = |path: &str, bytes: &[u8]| {
            writer.append_bytes(&Entry::new(Kind::File, path, 0o644), bytes).unwrap();
        };
        put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        put("index.json", top.as_bytes());
        self.0.iter().for_each(|(digest, bytes)| put(&format!("blobs/sha256/{}", digest.hex()), bytes));
        writer.finish().unwrap()
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const STATEMENT: &str = "application/vnd.in-toto+json";
const PREDICATE: &str = "https://slsa.dev/provenance/v0.2";

/// An image for this machine with an attestation, one for s390x, and a manifest that isn't in the archive.
fn several() -> (Vec<u8>, TestImage, TestImage) {
    let mut layout = Layout::default();
    let own = TestImage::new("app:1", layers());
    let foreign = TestImage { architecture: "s390x".into(), ..TestImage::new("app:1", [tar(&[("s390x", b"x")])]) };
    let (first, second) = (layout.image(&own), layout.image(&foreign));
    let attestation = layout.attestation(&first);
    let mut absent = first.clone();
    absent["digest"] = json!(Digest::sha256(b"absent"));
    absent["platform"] = json!({ "os": "linux", "architecture": "riscv64" });
    (layout.archive("app:1", &[first, second, attestation, absent]), own, foreign)
}

#[test]
fn all_platforms_and_attestations_are_kept_and_shown() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (archive, own, _) = several();
    store.load(&archive).unwrap();
    let image = store.images.resolve("app:1", None).unwrap();
    assert_eq!(image.id.0, own.id());
    let manifests = store.images.manifests(&image.target).unwrap();
    let kinds: Vec<(bool, bool)> = manifests.iter().map(|found| (found.available, found.unpacked > 0)).collect();
    assert_eq!(kinds, [(true, true), (true, false), (true, false), (false, false)]);
    let ManifestKind::Attestation { subject } = &manifests[2].kind else { panic!("{:?}", manifests[2].kind) };
    assert_eq!(*subject, manifests[0].descriptor.digest.to_string());
    let statements = store.images.attestations(&image, None, &[], true).unwrap();
    assert_eq!((statements.len(), statements[0].predicate_type.as_str()), (1, PREDICATE));
    assert!(statements[0].text.as_ref().unwrap().starts_with(b"{"));
    let other = ["https://spdx.dev/Document".to_owned()];
    assert!(store.images.attestations(&image, None, &other, true).unwrap().is_empty());
    let s390x = Platform::parse("linux/s390x").unwrap();
    assert!(store.images.attestations(&image, Some(&s390x), &[], false).unwrap().is_empty());
    let mips = Platform::parse("linux/mips").unwrap();
    assert!(matches!(store.images.attestations(&image, Some(&mips), &[], false), Err(Error::NoManifest { .. })));
    // Everything goes out again, and goes with the image.
    let (came, went) = (files(&archive), files(&save(&store, &["app:1"], &[]).unwrap()));
    assert!(
        came.iter().filter(|(name, _)| name.starts_with("blobs/")).all(|(name, bytes)| went.get(name) == Some(bytes))
    );
    store.images.remove("app:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn one_platform_of_several() {
    let (archive, own, foreign) = several();
    let s390x = [Platform::parse("linux/s390x").unwrap()];
    let fixture = Fixture::new();
    let store = fixture.open();
    store.images.load(&archive[..], &s390x, &|_| {}).unwrap();
    let image = store.images.resolve("app:1", None).unwrap();
    assert_eq!(image.id.0, foreign.id());
    let available = |store: &Opened| {
        let target = store.images.resolve("app:1", None).unwrap().target;
        store.images.manifests(&target).unwrap().iter().map(|found| found.available).collect::<Vec<_>>()
    };
    assert_eq!(available(&store), [false, true, true, false]);
    let mips = [Platform::parse("linux/mips").unwrap()];
    for archive in [&archive[..], &docker_archive_bytes(std::slice::from_ref(&own), Packing::Gzip)] {
        let error = store.images.load(archive, &mips, &|_| {}).unwrap_err();
        assert_eq!(error.to_string(), "no matching manifest for linux/mips in the manifest list entries");
    }
    // Out of an image for several platforms: the manifest alone.
    let whole = Fixture::new();
    let store = whole.open();
    store.load(&archive).unwrap();
    let saved = save(&store, &["app:1"], &["linux/s390x"]).unwrap();
    let manifest: Value = serde_json::from_slice(&files(&saved)["manifest.json"]).unwrap();
    assert_eq!(manifest[0]["Config"], json!(format!("blobs/sha256/{}", foreign.id().hex())));
    assert_eq!(files(&saved).keys().filter(|name| name.starts_with("blobs/")).count(), 3);
}

#[test]
fn another_platform_behind_a_name_is_unpacked_when_it_is_wanted() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let (archive, own, foreign) = several();
    store.load(&archive).unwrap();
    let s390x = Platform::parse("linux/s390x").unwrap();
    let image = store.images.resolve("app:1", Some(&s390x)).unwrap();
    assert_eq!((image.id.0.clone(), image.config.platform()), (foreign.id(), s390x.clone()));
    assert_eq!(store.images.resolve("app:1", None).unwrap().id.0, own.id());
    let unpacked = |store: &Opened| store.images.manifests(&image.target).unwrap()[1].unpacked;
    assert_eq!(unpacked(&store), 0);
    let held = store.images.ensure_unpacked(&image).unwrap();
    store.images.collect().unwrap();
    assert_eq!(unpacked(&store), 1, "what is held stays");
    assert_eq!(std::fs::read(store.images.layer_paths(&image).unwrap()[0].join("s390x")).unwrap(), b"x");
    drop(held);
    store.images.collect().unwrap();
    assert_eq!(unpacked(&store), 0, "and goes with its last user");
    // A container of it stands in the way of the name's removal.
    let user = |id: &ImageId| match id.0 == foreign.id() {
        true => vec![InUse { container: ContainerId::generate(), running: false }],
        false => Vec::new(),
    };
    let error = store.images.remove("app:1", false, false, &user).unwrap_err();
    assert!(error.to_string().contains("(must force) - container"), "{error}");
    // What isn't here can't be: the index alone names it.
    let riscv = Platform::parse("linux/riscv64").unwrap();
    let error = store.images.resolve("app:1", Some(&riscv)).unwrap_err();
    assert!(error.to_string().contains("does not match the specified platform (linux/riscv64)"), "{error}");
}

#[test]
fn layers_that_came_in_another_packing_are_saved_as_they_are() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("app:1", layers());
    store.load(&oci_archive_bytes(std::slice::from_ref(&image), Packing::Gzip, false)).unwrap();
    let found = store.images.resolve("app:1", None).unwrap();
    // As if a pull had found the layers there and fetched the manifest only: its own blobs are gone, others are there.
    let plain = docker_archive_bytes(std::slice::from_ref(&TestImage::new("plain:1", layers())), Packing::Plain);
    store.load(&plain).unwrap();
    for layer in &image.layers {
        store.content.remove(&Digest::sha256(&pack(layer, Packing::Gzip))).unwrap();
    }
    let saved = save(&store, &["app:1"], &[]).unwrap();
    let other = Fixture::new();
    let again = other.open();
    again.load(&saved).unwrap();
    assert_eq!(again.images.resolve("app:1", None).unwrap().id, found.id);
    for layer in &image.layers {
        store.content.remove(&Digest::sha256(layer)).unwrap();
    }
    assert!(matches!(save(&store, &["app:1"], &[]), Err(Error::Content(_))), "what is missing is said");
}

fn skopeo(arguments: &[&str]) -> Option<String> {
    let Ok(output) = Command::new("skopeo").args(["--insecure-policy"]).args(arguments).output() else {
        eprintln!("skipped: there is no skopeo");
        return None;
    };
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn skopeo_reads_it_and_is_read_with_the_same_digests() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("app:1", layers());
    store.load(&oci_archive_bytes(std::slice::from_ref(&image), Packing::Gzip, false)).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (saved, layout, back) = (fixture.path("saved.tar"), fixture.path("layout"), fixture.path("back.tar"));
    std::fs::write(&saved, save(&store, &["app:1"], &[]).unwrap()).unwrap();
    let unpacked = fixture.path("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    assert!(Command::new("tar").args(["-xf", &text(&saved), "-C", &text(&unpacked)]).status().unwrap().success());
    let digest = store.images.resolve("app:1", None).unwrap().target.digest;
    let source = format!("oci:{}:1", text(&unpacked));
    let Some(shown) = skopeo(&["inspect", "--raw", &source]) else { return };
    assert_eq!(Digest::sha256(shown.as_bytes()), digest);
    // As a docker-archive, and as a layout there and back again.
    let docker = skopeo(&["inspect", &format!("docker-archive:{}", text(&saved))]).unwrap();
    assert!(
        docker.contains(image.layers.iter().map(|layer| Digest::sha256(layer).to_string()).next().unwrap().as_str())
    );
    skopeo(&["copy", "--preserve-digests", &source, &format!("oci:{}:docker.io/library/back:1", text(&layout))])
        .unwrap();
    assert!(Command::new("tar").args(["-cf", &text(&back), "-C", &text(&layout), "."]).status().unwrap().success());
    store.load(&std::fs::read(&back).unwrap()).unwrap();
    let found = store.images.resolve("back:1", None).unwrap();
    assert_eq!((found.target.digest, found.id.0), (digest, image.id()));
}
