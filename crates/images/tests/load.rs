//! Loading image archives. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use common::Fixture;
use corten_archive::{Entry, Kind};
use corten_base::{Digest, ErrorKind, Platform};
use corten_images::Error;
use corten_testkit::hostile;
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, link, oci_archive_bytes, pack, tar, tar_of};
use serde_json::{Value, json};

fn layers() -> [Vec<u8>; 2] {
    [
        tar(&[("bin/", b""), ("bin/true", b"#!"), ("etc/", b""), ("etc/name", b"lower")]),
        tar(&[("etc/", b""), ("etc/name", b"upper"), ("etc/.wh.gone", b"")]),
    ]
}

#[test]
fn archives_of_all_kinds_give_the_same_image() {
    let image = TestImage::new("app:1", layers());
    let archives = std::slice::from_ref(&image);
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let kinds = [
            docker_archive_bytes(archives, packing),
            oci_archive_bytes(archives, packing, false),
            oci_archive_bytes(archives, packing, true),
            pack(&docker_archive_bytes(archives, Packing::Plain), packing),
        ];
        for (number, archive) in kinds.iter().enumerate() {
            let fixture = Fixture::new();
            let store = fixture.open();
            let loaded = store.load(archive).unwrap();
            assert_eq!(loaded[0].names, ["app:1"], "{number} {packing:?}");
            let found = store.images.resolve("app:1", None).unwrap();
            assert_eq!(found.id.0, image.id());
            assert_eq!(found.layers.len(), 2);
            assert_eq!(store.images.raw_config(&found.id).unwrap(), image.config());
            let root = store.snapshots.prepare("c", found.chain.as_ref()).unwrap();
            assert_eq!(fs::read_to_string(root.lower[0].join("etc/name")).unwrap(), "upper");
            assert_eq!(fs::read_to_string(root.lower[1].join("etc/name")).unwrap(), "lower");
        }
    }
}

#[test]
fn docker_s_lines() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let first = TestImage::new("app:1", layers());
    let mut second = TestImage::new("app:1", [tar(&[("b", b"2")])]);
    second.tags.push("localhost:5000/x/y:2".into());
    let nameless = TestImage { tags: vec![], ..TestImage::new("x:1", [tar(&[("c", b"3")])]) };
    let archive = |image: &TestImage| docker_archive_bytes(std::slice::from_ref(image), Packing::Plain);
    assert_eq!(store.load_lines(&archive(&first)), ["Loaded image: app:1\n"]);
    let moved =
        format!("The image app:1 already exists, renaming the old one with ID {} to empty string\n", first.id());
    let expect = [moved, "Loaded image: app:1\n".into(), "Loaded image: localhost:5000/x/y:2\n".into()];
    assert_eq!(store.load_lines(&archive(&second)), expect);
    assert_eq!(store.load_lines(&archive(&nameless)), [format!("Loaded image ID: {}\n", nameless.id())]);
    let dangling = store.images.resolve(first.id().hex(), None).unwrap();
    assert!(dangling.repo_tags.is_empty());
}

#[test]
fn several_images_share_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let [base, top] = layers();
    let images = [
        TestImage::new("base:1", [base.clone()]),
        TestImage::new("app:1", [base.clone(), top.clone()]),
        TestImage::new("other:1", [top, base]),
    ];
    store.load(&docker_archive_bytes(&images, Packing::Gzip)).unwrap();
    assert_eq!(store.snapshots.layers().unwrap().len(), 4);
    assert_eq!(store.images.list(&Default::default()).unwrap().len(), 3);
    // Again: nothing more.
    let before = store.holdings(&fixture);
    store.load(&docker_archive_bytes(&images, Packing::Gzip)).unwrap();
    assert_eq!(store.holdings(&fixture), before);
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    let whole = docker_archive_bytes(&[TestImage::new("app:1", layers())], Packing::Plain);
    for (what, archive) in hostile::archives(&whole, &outside) {
        let error = store.load(&archive).expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{what}: {error:?}");
        assert_eq!(store.holdings(&fixture), [0; 4], "{what}");
        assert_eq!(store.images.count().unwrap(), 0, "{what}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
}

#[test]
fn layers_stay_inside_whatever_their_links_say() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let outside = fixture.path("outside");
    fs::create_dir(&outside).unwrap();
    let target = outside.to_str().unwrap();
    let file = |name: &str| Entry::new(Kind::File, name, 0o4755);
    let absolute = link(Kind::Symlink, "x", target);
    let relative = link(Kind::Symlink, "y", "../../../../../../../../..");
    let inside_out = format!("y/{target}/escaped");
    let layers = [
        // Through a link of the same layer, and through one of the layer below.
        vec![tar_of(&[(absolute.clone(), b""), (file("x/escaped"), b"1")])],
        vec![tar_of(&[(relative.clone(), b""), (file(&inside_out), b"1")])],
        vec![tar_of(&[(absolute.clone(), b"")]), tar_of(&[(file("x/escaped"), b"1")])],
        vec![tar_of(&[(absolute.clone(), b"")]), tar_of(&[(file("x/.wh.escaped"), b"")])],
        vec![tar_of(&[(absolute.clone(), b"")]), tar_of(&[(file("x/.wh..wh..opq"), b"")])],
        vec![tar_of(&[(relative, b"")]), tar_of(&[(file(&inside_out), b"1")])],
        // A link that is replaced by a directory, and the other way round.
        vec![tar_of(&[
            (absolute.clone(), b""),
            (Entry::new(Kind::Directory, "x", 0o755), b""),
            (file("x/escaped"), b"1"),
        ])],
        vec![tar_of(&[(Entry::new(Kind::Directory, "x", 0o755), b""), (absolute, b""), (file("x/escaped"), b"1")])],
        vec![tar_of(&[
            (file("/absolute"), b"1"),
            (Entry { device: (8, 0), ..Entry::new(Kind::BlockDevice, "sda", 0o666) }, b""),
        ])],
    ];
    fs::write(outside.join("escaped"), "untouched").unwrap();
    for (number, layers) in layers.into_iter().enumerate() {
        // Loaded or refused: either is fine, as long as nothing happens outside.
        let archive = docker_archive_bytes(&[TestImage::new("x:1", layers)], Packing::Plain);
        println!("{number}: {:?}", store.load(&archive).map_err(|error| error.to_string()));
        assert_eq!(fs::read_to_string(outside.join("escaped")).unwrap(), "untouched", "{number}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{number}");
        assert!(!std::path::Path::new("/absolute").exists());
    }
}

#[test]
fn archives_cut_anywhere_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole = docker_archive_bytes(&[TestImage::new("app:1", layers())], Packing::Gzip);
    // The last two blocks are the end mark, which other readers don't insist on either.
    for length in (0..whole.len() - 1024).step_by(97) {
        assert!(store.load(&whole[..length]).is_err(), "{length}");
    }
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

/// Fails in the middle, as a connection does.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("connection reset"));
        }
        self.0.read(buffer)
    }
}

#[test]
fn a_reader_that_fails_is_told_as_such() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole = docker_archive_bytes(&[TestImage::new("app:1", layers())], Packing::Plain);
    for length in [0, 100, 1500, whole.len() - 2000] {
        let error = store.images.load(Broken(&whole[..length]), &[], &|_| {}).unwrap_err();
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(next) = cause {
            text = format!("{text}: {next}");
            cause = next.source();
        }
        assert!(text.contains("connection reset"), "{length}: {text}");
    }
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn what_a_killed_load_left_is_collected() {
    let fixture = Fixture::new();
    let store = fixture.open();
    // As if killed before the images were recorded: layers and blobs are there, nobody names them.
    let draft = store.snapshots.draft_layer().unwrap();
    let chain = corten_base::ChainId(Digest::sha256(b"x"));
    std::mem::forget(draft.commit(&chain, None, 1).unwrap());
    std::mem::forget(store.snapshots.draft_layer().unwrap());
    let lease = store.content.lease(Default::default()).unwrap();
    let mut ingest = store.content.ingest_nameless(corten_base::Algorithm::Sha256, None).unwrap();
    io::Write::write_all(&mut ingest, b"blob").unwrap();
    ingest.commit(None, &lease).unwrap();
    std::mem::forget(lease);
    drop(store);
    let store = fixture.open();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn layers_lost_with_the_power_are_unpacked_again() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("app:1", layers());
    store.load(&docker_archive_bytes(std::slice::from_ref(&image), Packing::Zstd)).unwrap();
    let found = store.images.resolve("app:1", None).unwrap();
    let top = found.chain.clone().unwrap();
    store.snapshots.remove_layer(&top).unwrap();
    assert!(!store.snapshots.exists(&top).unwrap());
    store.images.ensure_unpacked(&found).unwrap();
    let path = store.snapshots.stack(&top).unwrap().remove(0).path;
    assert_eq!(fs::read_to_string(path.join("etc/name")).unwrap(), "upper");
}

#[test]
fn a_lone_image_of_another_platform_is_loaded() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let foreign = if Platform::host().architecture == "s390x" { "amd64" } else { "s390x" };
    let image = TestImage { architecture: foreign.into(), ..TestImage::new("app:1", layers()) };
    store.load(&oci_archive_bytes(&[image], Packing::Gzip, true)).unwrap();
    let wanted = Platform::host();
    let error = store.images.resolve("app:1", Some(&wanted)).unwrap_err();
    let text = format!(
        "image with reference app:1 was found but its platform (linux/{foreign}) does not match the specified platform ({wanted})"
    );
    assert_eq!(error.to_string(), text);
    assert!(matches!(error, Error::Platform { .. }));
}

#[test]
fn the_embedded_image_is_registered_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let id = store.images.ensure_hello().unwrap();
    assert_eq!(store.images.ensure_hello().unwrap(), id);
    let image = store.images.resolve("corten/hello", None).unwrap();
    assert_eq!((image.id, image.repo_tags), (id, vec!["corten/hello:latest".to_owned()]));
    assert!(image.size > 1000);
    assert!(image.config.config.cmd.is_some());
}

#[test]
fn a_hundred_and_twenty_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let layer = |number: usize| {
        let (own, hidden) = (format!("d/f{number}"), format!("d/.wh.f{}", number.wrapping_sub(1)));
        tar(&[(&own, number.to_string().as_bytes()), (&hidden, b""), ("same", number.to_string().as_bytes())])
    };
    let image = TestImage::new("tall:1", (0..120).map(layer));
    store.load(&docker_archive_bytes(std::slice::from_ref(&image), Packing::Gzip)).unwrap();
    let found = store.images.resolve("tall:1", None).unwrap();
    let root = store.snapshots.prepare("c", found.chain.as_ref()).unwrap();
    let mount = root.mount_detached(corten_snapshot::MountOptions::default()).unwrap();
    let shown = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
    assert_eq!(fs::read_to_string(shown.join("same")).unwrap(), "119");
    let names: Vec<_> = fs::read_dir(shown.join("d")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names, ["f119"]);
    assert_eq!(store.images.check(false, &common::nobody).unwrap().problems, []);
    drop(mount);
    store.snapshots.remove("c").unwrap();
    store.images.remove("tall:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn removing_one_image_leaves_what_others_share() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let [base, top] = layers();
    let images = [TestImage::new("base:1", [base.clone()]), TestImage::new("app:1", [base, top])];
    store.load(&docker_archive_bytes(&images, Packing::Gzip)).unwrap();
    let before = store.holdings(&fixture);
    store.images.remove("app:1", false, false, &common::nobody).unwrap();
    let after = store.holdings(&fixture);
    // The upper layer with its blob, configuration and manifest.
    assert_eq!([before[0] - after[0], before[1] - after[1], before[2] - after[2]], [3, 1, 1]);
    let left = store.images.resolve("base:1", None).unwrap();
    assert!(store.images.layer_paths(&left).unwrap()[0].join("bin/true").exists());
    assert_eq!(store.images.check(false, &common::nobody).unwrap().problems, []);
}

#[test]
fn what_is_wrong_is_told_with_its_image_and_layer() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let whole = docker_archive_bytes(&[TestImage::new("whole:1", layers())], Packing::Plain);
    let archives = hostile::archives(&whole, fixture.folder());
    let told = |what: &str| {
        let (_, archive) = archives.iter().find(|(name, _)| *name == what).expect(what);
        told(&store.load(archive).unwrap_err())
    };
    let layer = Digest::sha256(&tar(&[("a/", b""), ("a/file", b"content")]));
    let path = format!("{}/layer.tar", layer.hex());
    let mismatch = told("another layer than the configuration says");
    assert!(
        mismatch.starts_with(&format!("hostile:1: layer {} ({path}): digest mismatch", layer.short())),
        "{mismatch}"
    );
    assert_eq!(told("a layer that is missing"), "hostile:1: invalid image archive: missing/layer.tar is missing");
    let short = told("a layer cut short");
    assert!(short.starts_with("hostile:1: failed to register layer "), "{short}");
    let config = told("a layout with a changed configuration");
    assert!(config.starts_with("hostile:1: blob blobs/sha256/"), "{config}");
}

/// A layout on its way whose digests are right, whatever else is wrong.
#[derive(Default)]
struct Layout {
    blobs: Vec<Vec<u8>>,
}

impl Layout {
    fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let descriptor = json!({ "mediaType": media_type, "digest": Digest::sha256(&bytes), "size": bytes.len() });
        self.blobs.push(bytes);
        descriptor
    }

    fn image(&mut self, image: &TestImage) -> Value {
        // Layers of a type that nobody knows are what they look like.
        let layers: Vec<Value> =
            image.layers.iter().map(|layer| self.add(layer.clone(), "application/octet-stream")).collect();
        let config = self.add(image.config(), "application/vnd.oci.image.config.v1+json");
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        self.add(manifest.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json")
    }

    fn index(&mut self, entries: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "manifests": entries });
        self.add(index.to_string().into_bytes(), "application/vnd.oci.image.index.v1+json")
    }

    fn finish(self, mut root: Value, name: &str) -> Vec<u8> {
        root["annotations"] = json!({ "io.containerd.image.name": format!("docker.io/library/{name}") });
        let index = json!({ "schemaVersion": 2, "manifests": [root] }).to_string().into_bytes();
        let path = |bytes: &Vec<u8>| format!("blobs/sha256/{}", Digest::sha256(bytes).hex());
        let names: Vec<String> = self.blobs.iter().map(path).collect();
        let mut files: Vec<(&str, &[u8])> =
            vec![("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), ("index.json", &index)];
        files.extend(names.iter().map(String::as_str).zip(self.blobs.iter().map(Vec::as_slice)));
        tar(&files)
    }
}

/// A layout whose index leads through so many others to an image.
fn nested(depth: usize) -> Vec<u8> {
    let mut layout = Layout::default();
    let mut below = layout.image(&TestImage::new("deep:1", layers()));
    for _ in 0..depth {
        below = layout.index(&[below]);
    }
    layout.finish(below, "deep:1")
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn indexes_within_indexes_end_somewhere() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let loaded = store.load(&nested(3)).unwrap();
    assert_eq!(loaded[0].names, ["deep:1"]);
    let found = store.images.resolve("deep:1", None).unwrap();
    assert_eq!(store.images.manifests(&found.target).unwrap().len(), 1);
    store.images.remove("deep:1", false, false, &common::nobody).unwrap();
    let told = told(&store.load(&nested(6)).unwrap_err());
    assert!(told.starts_with("deep:1: invalid manifest sha256:") && told.ends_with("nested too deeply"), "{told}");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn indexes_that_name_each_other_again_and_again_are_read_once() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut layout = Layout::default();
    let mut below = layout.image(&TestImage { tags: Vec::new(), ..TestImage::new("other:1", [tar(&[("a", b"1")])]) });
    // 6 * 10^11 ways lead to it.
    for _ in 0..4 {
        below = layout.index(&vec![below; 900]);
    }
    let archive = layout.finish(below, "wide:1");
    assert_eq!(store.load(&archive).unwrap()[0].names, ["wide:1"]);
    let found = store.images.resolve("wide:1", None).unwrap();
    assert_eq!(store.images.manifests(&found.target).unwrap().len(), 900);
    store.images.remove("wide:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn an_image_that_comes_again_behind_another_index_sheds_the_one_before() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let build = |number: u8| {
        let mut layout = Layout::default();
        let image = layout.image(&TestImage::new("app:1", layers()));
        let config = layout.add(vec![b'{', b'}', number], "application/vnd.example.statement");
        let statement = json!({ "schemaVersion": 2, "config": config, "layers": [] });
        let statement = layout.add(statement.to_string().into_bytes(), "application/vnd.oci.image.manifest.v1+json");
        let index = layout.index(&[image, statement]);
        layout.finish(index, "app:1")
    };
    store.load(&build(1)).unwrap();
    let before = store.holdings(&fixture);
    store.load(&build(2)).unwrap();
    assert_eq!(store.holdings(&fixture), before);
    assert_eq!(store.images.check(false, &common::nobody).unwrap().problems, []);
    // As long as a name means it, it stays.
    store.images.tag("app:1", &corten_base::Reference::parse_normalized("old:1").unwrap()).unwrap();
    store.load(&build(3)).unwrap();
    assert_eq!(store.holdings(&fixture)[0], before[0] + 3);
    store.images.remove("old:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), before);
    store.images.export(&["app:1".into()], &[]).unwrap();
    store.images.remove("app:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn a_name_that_leads_to_too_much_is_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut layout = Layout::default();
    let mut entries = vec![layout.image(&TestImage::new("many:1", layers()))];
    // Manifests that aren't in the archive cost who made it nothing.
    for group in 0..5 {
        let absent = |number: u32| {
            let digest = Digest::sha256(format!("{group} {number}").as_bytes());
            json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": 2 })
        };
        let absent: Vec<Value> = (0..1000).map(absent).collect();
        entries.push(layout.index(&absent));
    }
    let root = layout.index(&entries);
    let told = told(&store.load(&layout.finish(root, "many:1")).unwrap_err());
    assert!(told.starts_with("many:1: invalid manifest sha256:") && told.ends_with("too many manifests"), "{told}");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn what_became_too_deep_is_removed_all_the_same() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let deep = || {
        let mut layout = Layout::default();
        let mut below = layout.image(&TestImage::new("deep:1", layers()));
        for _ in 0..3 {
            below = layout.index(&[below]);
        }
        (layout, below)
    };
    // Two levels above an index that comes later: each alone is as deep as it may be.
    let mut layout = Layout::default();
    let own = layout.image(&TestImage::new("above:1", [tar(&[("a", b"1")])]));
    let inner = layout.index(&[own, deep().1]);
    let outer = layout.index(&[inner]);
    store.load(&layout.finish(outer, "above:1")).unwrap();
    let (layout, below) = deep();
    store.load(&layout.finish(below, "deep:1")).unwrap();
    let above = store.images.resolve("above:1", None).unwrap();
    let told = told(&store.images.manifests(&above.target).unwrap_err());
    assert!(told.ends_with("nested too deeply"), "{told}");
    store.images.remove("above:1", false, false, &common::nobody).unwrap();
    store.images.remove("deep:1", false, false, &common::nobody).unwrap();
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

/// A file of four bytes at the beginning of a hole, as GNU tar stores it.
fn sparse(name: &str, size: u64) -> Vec<u8> {
    let mut tar = tar(&[(name, b"data")]);
    tar[156] = b'S';
    tar[257..265].copy_from_slice(b"ustar  \0");
    tar[345..512].fill(0);
    tar[386..410].copy_from_slice(b"00000000000\x0000000000004\0");
    tar[483] = 0x80;
    tar[487..495].copy_from_slice(&size.to_be_bytes());
    tar[148..156].fill(b' ');
    let sum: u32 = tar[..512].iter().map(|&byte| u32::from(byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let told = told(&store.load(&sparse("blobs/sha256/hole", 1 << 60)).unwrap_err());
    assert!(told.contains("no space left on device: 1152921504606846976 bytes are needed"), "{told}");
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn names_of_an_archive_are_bounded() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let long = "n".repeat(250);
    let target = format!("{long}/").repeat(15);
    let links: Vec<Entry> = (0..5000).map(|number| link(Kind::Symlink, &format!("{number}"), &target)).collect();
    let entries: Vec<(Entry, &[u8])> = links.into_iter().map(|link| (link, &b""[..])).collect();
    let told = told(&store.load(&tar_of(&entries)).unwrap_err());
    assert!(told.ends_with("its names take more than 16777216 bytes"), "{told}");
}
