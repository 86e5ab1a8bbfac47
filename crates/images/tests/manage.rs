//! Names, lists, history, removal, import. Needs root: layers have owners and devices.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use common::{Fixture, Opened, nobody};
use corten_base::{ContainerId, ErrorKind, ImageId, Namespace, Platform, Reference};
use corten_images::{Deleted, Error, Filters, ImportOptions, InUse, Progress};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, pack, tar};

fn layer(name: &str) -> Vec<u8> {
    tar(&[(name, b"content")])
}

fn load(store: &Opened, images: &[TestImage]) {
    store.load(&docker_archive_bytes(images, Packing::Plain)).unwrap();
}

fn reference(text: &str) -> Reference {
    Reference::parse_normalized(text).unwrap()
}

fn user(running: bool) -> impl Fn(&ImageId) -> Vec<InUse> {
    let container = ContainerId::parse(&"c".repeat(64)).unwrap();
    move |_| vec![InUse { container: container.clone(), running }]
}

fn untagged(name: &str) -> Deleted {
    Deleted::Untagged(name.into())
}

fn deleted(id: &impl ToString) -> Deleted {
    Deleted::Deleted(id.to_string())
}

#[test]
fn images_are_found_by_name_digest_and_id() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("registry.example:5000/team/app:1.2", [layer("a")]);
    load(&store, std::slice::from_ref(&image));
    store.images.tag("registry.example:5000/team/app:1.2", &reference("app")).unwrap();
    let hex = image.id().hex().to_owned();
    let spellings = [
        "registry.example:5000/team/app:1.2",
        "app",
        "app:latest",
        "docker.io/library/app",
        &hex,
        &hex[..12],
        &hex[..1],
    ];
    for spelling in spellings {
        assert_eq!(store.images.resolve(spelling, None).unwrap().id.0, image.id(), "{spelling}");
    }
    for spelling in [format!("sha256:{hex}"), format!("sha256:{}", &hex[..5])] {
        assert_eq!(store.images.resolve(&spelling, None).unwrap().id.0, image.id(), "{spelling}");
    }
    let refused = |name: &str, kind: ErrorKind, text: &str| {
        let error = store.images.resolve(name, None).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    };
    refused("nope", ErrorKind::NotFound, "No such image: nope:latest");
    refused("app:2", ErrorKind::NotFound, "No such image: app:2");
    refused("sha256:ffff", ErrorKind::NotFound, "No such image: sha256:ffff");
    refused("App", ErrorKind::Invalid, "invalid reference format: repository name (library/App) must be lowercase");
    refused("a//b", ErrorKind::Invalid, "invalid reference format");
    refused("", ErrorKind::Invalid, "invalid reference format");
    let zeros = "0".repeat(64);
    refused(&zeros, ErrorKind::NotFound, &format!("No such image: sha256:{zeros}"));
}

#[test]
fn ambiguous_ids_are_reported() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let images: Vec<TestImage> =
        (0..40).map(|number| TestImage::new(&format!("app:{number}"), [layer(&number.to_string())])).collect();
    load(&store, &images);
    // Forty images and sixteen digits: some must share their first.
    let digit = "0123456789abcdef"
        .chars()
        .find(|&digit| images.iter().filter(|image| image.id().hex().starts_with(digit)).count() > 1)
        .unwrap();
    let error = store.images.resolve(&digit.to_string(), None).unwrap_err();
    assert_eq!(error.to_string(), format!("multiple IDs found with provided prefix: {digit}"));
    assert_eq!(store.images.count().unwrap(), 40);
}

#[test]
fn tags_move() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let images = [TestImage::new("a:1", [layer("a")]), TestImage::new("b:1", [layer("b")])];
    load(&store, &images);
    store.images.tag("a:1", &reference("x/y")).unwrap();
    store.images.tag("b:1", &reference("x/y")).unwrap();
    let found = store.images.resolve("x/y", None).unwrap();
    assert_eq!(found.id.0, images[1].id());
    assert_eq!(found.repo_tags, ["b:1", "x/y:latest"]);
    let refused = |target: &str| store.images.tag("a:1", &reference(target)).unwrap_err().to_string();
    assert_eq!(refused("sha256:abc"), "refusing to create an ambiguous tag using digest algorithm as name");
    assert_eq!(refused(&format!("x@{}", images[0].id())), "cannot import digest reference");
    assert_eq!(store.images.tag("nope", &reference("x")).unwrap_err().to_string(), "No such image: nope:latest");
}

#[test]
fn namespaces_do_not_see_each_other_but_share_layers() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let other = store.images.within(&Namespace::new("k8s.io"));
    let archive = docker_archive_bytes(&[TestImage::new("a:1", [layer("a")])], Packing::Plain);
    store.load(&archive).unwrap();
    assert!(other.resolve("a:1", None).is_err());
    other.load(&archive[..], &[], &|_| {}).unwrap();
    assert_eq!(store.snapshots.layers().unwrap().len(), 1);
    store.images.remove("a:1", false, false, &nobody).unwrap();
    assert!(store.images.resolve("a:1", None).is_err());
    let image = other.resolve("a:1", None).unwrap();
    assert!(store.snapshots.exists(image.chain.as_ref().unwrap()).unwrap());
    assert_eq!(other.raw_config(&image.id).unwrap().len(), store.content.size(image.id.digest()).unwrap() as usize);
}

#[test]
fn the_last_name_takes_the_image_along() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let base = layer("base");
    let images = [TestImage::new("base:1", [base.clone()]), TestImage::new("app:1", [base, layer("top")])];
    load(&store, &images);
    store.images.tag("app:1", &reference("app:2")).unwrap();
    let app = store.images.resolve("app:1", None).unwrap();
    let remove = |name: &str| store.images.remove(name, false, false, &nobody).unwrap();
    assert_eq!(remove("app:1"), [untagged("app:1")]);
    // The base image's layer stays.
    assert_eq!(remove("app:2"), [untagged("app:2"), deleted(&app.id), deleted(app.chain.as_ref().unwrap())]);
    let base = store.images.resolve("base:1", None).unwrap();
    assert_eq!(remove("base:1"), [untagged("base:1"), deleted(&base.id), deleted(base.chain.as_ref().unwrap())]);
    assert_eq!(store.holdings(&fixture), [0; 4]);
    assert_eq!(store.images.remove("base:1", false, false, &nobody).unwrap_err().to_string(), "No such image: base:1");
}

#[test]
fn removing_by_id() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("a:1", [layer("a")]);
    load(&store, std::slice::from_ref(&image));
    let short = image.id().short().to_owned();
    store.images.tag("a:1", &reference("b:1")).unwrap();
    let error = store.images.remove(&short, false, false, &nobody).unwrap_err();
    let text =
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories");
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Conflict, text));
    let chain = store.images.resolve("a:1", None).unwrap().chain.unwrap();
    let done = store.images.remove(&short, true, false, &nobody).unwrap();
    assert_eq!(done, [untagged("a:1"), untagged("b:1"), deleted(&image.id()), deleted(&chain)]);
    load(&store, std::slice::from_ref(&image));
    let done = store.images.remove(image.id().as_str(), false, false, &nobody).unwrap();
    assert_eq!(done, [untagged("a:1"), deleted(&image.id()), deleted(&chain)]);
    assert_eq!(store.holdings(&fixture), [0; 4]);
}

#[test]
fn containers_stand_in_the_way() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("a:1", [layer("a")]);
    load(&store, std::slice::from_ref(&image));
    let (short, container) = (image.id().short().to_owned(), "c".repeat(12));
    let refused = |name: &str, force: bool, running: bool| {
        store.images.remove(name, force, false, &user(running)).unwrap_err().to_string()
    };
    for running in [false, true] {
        assert_eq!(
            refused("a:1", false, running),
            format!(
                "conflict: unable to remove repository reference \"a:1\" (must force) - container {container} is using its referenced image {short}"
            )
        );
    }
    let by = |force: &str, state: &str| {
        format!("conflict: unable to delete {short} ({force}) - image is being used by {state} container {container}")
    };
    assert_eq!(refused(&short, false, false), by("must be forced", "stopped"));
    assert_eq!(refused(&short, false, true), by("cannot be forced", "running"));
    assert_eq!(refused(&short, true, true), by("cannot be forced", "running"));
    // A forced name goes although a container runs, and the image stays without one.
    assert_eq!(store.images.remove("a:1", true, false, &user(true)).unwrap(), [untagged("a:1")]);
    assert!(store.images.resolve(&short, None).unwrap().repo_tags.is_empty());
    // A stopped one's image goes by force; its layers stay for as long as the container stands on them.
    let chain = store.images.resolve(&short, None).unwrap().chain.unwrap();
    store.snapshots.prepare("c", Some(&chain)).unwrap();
    assert_eq!(store.images.remove(&short, true, false, &user(false)).unwrap(), [deleted(&image.id())]);
    assert!(store.snapshots.exists(&chain).unwrap());
    store.snapshots.remove("c").unwrap();
    drop(store);
    assert_eq!(fixture.open().holdings(&fixture), [0; 4]);
}

#[test]
fn a_name_that_is_given_meanwhile_stays() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("app:1", [layer("a")]);
    load(&store, std::slice::from_ref(&image));
    // Its containers are asked for behind the look at its names.
    let tags = |_: &ImageId| {
        store.images.tag(image.id().as_str(), &reference("app:2")).unwrap();
        Vec::new()
    };
    assert_eq!(store.images.remove("app:1", true, false, &tags).unwrap(), [untagged("app:1")]);
    assert_eq!(store.images.resolve("app:2", None).unwrap().id.0, image.id());
    // Both at once: whatever comes first, what was acknowledged is there.
    for _ in 0..60 {
        let tagged = std::thread::scope(|scope| {
            let tagging = scope.spawn(|| store.images.tag(image.id().as_str(), &reference("app:3")));
            drop(store.images.remove("app:2", false, false, &nobody));
            tagging.join().unwrap().is_ok()
        });
        assert_eq!(store.images.resolve("app:3", None).is_ok(), tagged);
        if tagged {
            store.images.remove("app:3", false, false, &nobody).unwrap();
        }
        load(&store, std::slice::from_ref(&image));
        store.images.tag("app:1", &reference("app:2")).unwrap();
        store.images.remove("app:1", false, false, &nobody).unwrap();
    }
}

#[test]
fn events_are_told() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut events = store.subscribe();
    let mut image = TestImage::new("a:1", [layer("a")]);
    image.run = serde_json::json!({ "Labels": { "color": "red" } });
    load(&store, std::slice::from_ref(&image));
    store.images.tag("a:1", &reference("b:1")).unwrap();
    store.images.remove("a:1", false, false, &nobody).unwrap();
    store.images.remove("b:1", false, false, &nobody).unwrap();
    let mut told = Vec::new();
    while let Some(event) = events.try_next().unwrap() {
        assert_eq!(event.actor.attributes["color"], "red");
        assert_eq!(event.actor.id, image.id().to_string());
        told.push((event.action.clone(), event.actor.attributes["name"].clone()));
    }
    let id = image.id().to_string();
    let expect = [("load", &id), ("tag", &"b:1".to_owned()), ("untag", &id), ("untag", &id), ("delete", &id)];
    let expect: Vec<_> = expect.into_iter().map(|(action, name)| (action.to_owned(), name.clone())).collect();
    assert_eq!(told, expect);
}

#[test]
fn lists_and_their_filters() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let mut images: Vec<TestImage> = (1..=3)
        .map(|day| TestImage {
            created: format!("2026-11-0{day}T00:00:00Z"),
            ..TestImage::new(&format!("app:{day}"), [layer(&day.to_string())])
        })
        .collect();
    images[0].tags = vec![];
    images[1].run = serde_json::json!({ "Labels": { "tier": "web" } });
    load(&store, &images);
    let list = |filters: Filters| {
        let summaries = store.images.list(&filters).unwrap();
        summaries.into_iter().map(|summary| summary.repo_tags.join(",")).collect::<Vec<_>>()
    };
    let texts = |values: &[&str]| values.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(list(Filters::default()), ["app:3", "app:2", ""]);
    assert_eq!(list(Filters { dangling: Some(true), ..Filters::default() }), [""]);
    assert_eq!(list(Filters { dangling: Some(false), ..Filters::default() }), ["app:3", "app:2"]);
    assert_eq!(list(Filters { reference: texts(&["ap?:2", "x"]), ..Filters::default() }), ["app:2"]);
    assert_eq!(list(Filters { label: texts(&["tier=web"]), ..Filters::default() }), ["app:2"]);
    assert_eq!(list(Filters { label: texts(&["tier=db"]), ..Filters::default() }), [""; 0]);
    assert_eq!(list(Filters { label_not: texts(&["tier"]), ..Filters::default() }), ["app:3", ""]);
    assert_eq!(list(Filters { before: texts(&["app:3"]), ..Filters::default() }), ["app:2", ""]);
    assert_eq!(list(Filters { since: texts(&["app:2"]), ..Filters::default() }), ["app:3"]);
    let error = store.images.list(&Filters { since: texts(&["nope"]), ..Filters::default() }).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)));
}

#[test]
fn history_is_newest_first() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let image = TestImage::new("a:1", [layer("a"), tar(&[("b", b"12345")])]);
    load(&store, std::slice::from_ref(&image));
    let history = store.images.history("a:1", None).unwrap();
    let lines: Vec<_> = history.iter().map(|item| (item.id.as_str(), item.created_by.as_str(), item.size)).collect();
    let id = image.id().to_string();
    assert_eq!(lines, [(id.as_str(), "layer 1", 5), ("<missing>", "layer 0", 7)]);
    assert_eq!(history[0].tags, ["a:1"]);
}

#[test]
fn import_makes_an_image_of_one_layer() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let root = tar(&[("bin/", b""), ("bin/sh", b"#!")]);
    let options = ImportOptions {
        name: Some(reference("mine")),
        changes: vec!["CMD echo hi".into(), "ENV A=1".into()],
        message: "by hand".into(),
        platform: None,
    };
    for packing in [Packing::Plain, Packing::Gzip, Packing::Zstd] {
        let last = std::sync::Mutex::new(None);
        let report = |progress| *last.lock().unwrap() = Some(progress);
        let id = store.images.import(&pack(&root, packing)[..], &options, &report).unwrap();
        assert_eq!(last.into_inner().unwrap(), Some(Progress::status(id.to_string())));
        let image = store.images.resolve("mine", None).unwrap();
        assert_eq!(image.id, id);
        assert_eq!(image.config.config.cmd.as_deref().unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(image.config.platform(), Platform::host());
        assert_eq!(store.images.history("mine", None).unwrap()[0].comment, "by hand");
        assert_eq!(image.config.docker_version, env!("CARGO_PKG_VERSION"));
        let path = store.snapshots.stack(image.chain.as_ref().unwrap()).unwrap().remove(0).path;
        assert_eq!(fs::read_to_string(path.join("bin/sh")).unwrap(), "#!");
    }
    // The first two lost their name to the last, and share its layer.
    assert_eq!(store.images.count().unwrap(), 3);
    assert_eq!(store.snapshots.layers().unwrap().len(), 1);
}

#[test]
fn bad_imports_leave_nothing() {
    let fixture = Fixture::new();
    let store = fixture.open();
    let good = tar(&[("a", b"1")]);
    let import = |bytes: &[u8], change: &str| {
        let changes = if change.is_empty() { vec![] } else { vec![change.to_owned()] };
        store.images.import(bytes, &ImportOptions { changes, ..ImportOptions::default() }, &|_| {}).unwrap_err()
    };
    assert_eq!(import(&good, "RUN true").to_string(), "RUN is not a valid change command");
    for bad in [&good[..600], b"no tar at all".repeat(100).as_slice(), &tar(&[("../x", b"1")])] {
        assert_eq!(import(bad, "").kind(), ErrorKind::Invalid);
    }
    assert_eq!(store.holdings(&fixture), [0; 4]);
}
