//! Images end to end through the command line and the API: save and load, lists, removal, disk usage, checks.

mod common;

use std::fs;

use common::{engine, engine_with, sound};
use corten_testkit::image::{self, Packing, TestImage, docker_archive_bytes, tar};
use corten_testkit::{Answer, TestEngine, is_root};
use serde_json::Value;

/// Loads two images that share their lower layer, `base:1` and `app:1`.
fn two_images(engine: &TestEngine) -> [TestImage; 2] {
    let base = tar(&[("bin/", b""), ("bin/tool", &[7; 40_000])]);
    let top = tar(&[("etc/", b""), ("etc/name", &[8; 20_000])]);
    let images = [TestImage::new("base:1", [base.clone()]), TestImage::new("app:1", [base, top])];
    let archive = engine.path().join("images.tar");
    fs::write(&archive, docker_archive_bytes(&images, Packing::Gzip)).expect("the archive is written");
    engine.corten(&["load", "-i", &archive.display().to_string()]).ok();
    images
}

fn json(engine: &TestEngine, target: &str) -> Value {
    let answer = engine.get(target).unwrap_or_else(|| panic!("{target} is not answered"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{target}: {error}: {answer}"))
}

#[test]
fn save_and_load_with_both_clients() {
    if !is_root("save_and_load_with_both_clients") {
        return;
    }
    let engine = engine();
    let images = two_images(&engine);
    let path = |name: &str| engine.path().join(name).display().to_string();
    engine.corten(&["save", "-o", &path("both.tar"), "app:1", "base:1"]).ok();
    engine.docker(&["save", "-o", &path("docker.tar"), "app:1", "base:1"]).ok();
    let read = |name: &str| fs::read(engine.path().join(name)).expect("it was saved");
    assert!(read("both.tar") == read("docker.tar"), "the clients save different archives");
    let piped = engine.corten(&["save", "app:1"]).stdout;
    assert!(piped.len() > 1000 && piped.contains("manifest.json"));
    let before = json(&engine, "/images/app:1/json");
    for client in [TestEngine::corten, TestEngine::docker] {
        client(&engine, &["rmi", "app:1", "base:1"]).ok();
        let loaded = client(&engine, &["load", "-i", &path("both.tar")]);
        assert_eq!(loaded.ok(), "Loaded image: app:1\nLoaded image: base:1");
        let after = json(&engine, "/images/app:1/json");
        assert_eq!((&after["Id"], &after["Descriptor"]), (&before["Id"], &before["Descriptor"]));
    }
    assert_eq!(before["Id"], images[1].id().as_str());
    engine.corten(&["save", "nosuch"]).fails(1, "No such image: nosuch:latest");
    engine.corten(&["save", "--platform", "linux/s390x", "app:1"]).fails(1, "does not match the specified platform");
    engine
        .corten(&["save", "-o", "/nosuch/x.tar", "app:1"])
        .fails(1, "failed to save image: no such file or directory");
    let here = platform(&engine);
    engine.corten(&["save", "--platform", &here, "-o", &path("one.tar"), "app:1"]).ok();
    engine.corten(&["load", "--platform", &here, "-i", &path("one.tar")]).ok();
    engine.corten(&["load", "--platform", "linux/s390x", "-i", &path("one.tar")]).fails(1, "no matching manifest");
    for (name, program) in [("bzip2", "bzip2"), ("xz", "xz"), ("gzip", "gzip")] {
        let Ok(output) = std::process::Command::new(program).args(["-kc", &path("both.tar")]).output() else {
            eprintln!("skipped {name}: there is no such program");
            continue;
        };
        fs::write(path("packed"), output.stdout).expect("the archive is written");
        engine.corten(&["load", "-qi", &path("packed")]).ok();
    }
    engine.finish();
}

fn platform(engine: &TestEngine) -> String {
    let version = json(engine, "/version");
    format!("{}/{}", version["Os"].as_str().unwrap_or_default(), version["Arch"].as_str().unwrap_or_default())
}

#[test]
fn manifests_are_shown_when_asked_for() {
    if !is_root("manifests_are_shown_when_asked_for") {
        return;
    }
    let engine = engine();
    two_images(&engine);
    assert!(json(&engine, "/images/app:1/json").get("Manifests").is_none());
    let shown = json(&engine, "/images/app:1/json?manifests=1");
    let manifest = &shown["Manifests"][0];
    assert_eq!((&manifest["Kind"], &manifest["Available"]), (&"image".into(), &true.into()));
    assert_eq!(manifest["ID"], shown["Descriptor"]["digest"]);
    assert!(manifest["Size"]["Total"].as_i64() > manifest["Size"]["Content"].as_i64());
    assert_eq!(manifest["ImageData"]["Containers"], serde_json::json!([]));
    engine.docker(&["create", "app:1"]).ok();
    let list = json(&engine, "/images/json?manifests=1");
    let used =
        |line: &&Value| line["Manifests"][0]["ImageData"]["Containers"].as_array().is_some_and(|ids| !ids.is_empty());
    assert_eq!(list.as_array().map(|lines| lines.iter().filter(used).count()), Some(1));
    let refused = engine.get("/images/app:1/json?manifests=1&platform=linux/amd64").unwrap_or_default();
    assert!(refused.contains("400 Bad Request") && refused.contains("cannot both be set"), "{refused}");
    assert_eq!(json(&engine, "/images/app:1/attestations"), serde_json::json!([]));
    engine.docker(&["rm", "-f", engine.docker(&["ps", "-aq"]).ok()]).ok();
    engine.finish();
}

#[test]
fn disk_usage_tells_shared_from_unique() {
    if !is_root("disk_usage_tells_shared_from_unique") {
        return;
    }
    let engine = engine();
    for name in engine.corten(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().lines() {
        engine.corten(&["rmi", name]).ok();
    }
    two_images(&engine);
    engine.docker(&["create", "--name", "user", "-v", "/data", "app:1"]).ok();
    let usage = json(&engine, "/v1.51/system/df");
    assert_eq!(usage["LayersSize"], 60_000);
    let image = |name: &str| {
        let found = usage["Images"].as_array().and_then(|images| images.iter().find(|it| it["RepoTags"][0] == name));
        found.cloned().unwrap_or_default()
    };
    let sizes =
        |name: &str| [&image(name)["Size"], &image(name)["SharedSize"], &image(name)["Containers"]].map(Value::as_i64);
    assert_eq!(sizes("base:1"), [Some(40_000), Some(40_000), Some(0)]);
    assert_eq!(sizes("app:1"), [Some(60_000), Some(40_000), Some(1)]);
    let listed = |target: &str| {
        let images = json(&engine, target);
        let shared = |image: &Value| (image["RepoTags"][0].as_str().map(str::to_owned), image["SharedSize"].as_i64());
        let mut shared: Vec<_> = images.as_array().expect("a list").iter().map(shared).collect();
        shared.sort();
        shared
    };
    let with = |base, app| vec![(Some("app:1".to_owned()), Some(app)), (Some("base:1".to_owned()), Some(base))];
    assert_eq!(listed("/images/json?shared-size=1"), with(40_000, 40_000));
    assert_eq!(listed("/images/json"), with(-1, -1), "it costs, and nobody asked");
    let newest = json(&engine, "/system/df?type=image");
    assert_eq!(newest["ImageUsage"]["TotalSize"], 60_000);
    assert_eq!((&newest["ImageUsage"]["ActiveCount"], newest.get("ContainerUsage")), (&1.into(), None));
    assert!(newest["ImageUsage"].get("Items").is_none());
    assert!(json(&engine, "/system/df?verbose=1")["ImageUsage"]["Items"].is_array());
    let table = "{{.Type}} {{.TotalCount}} {{.Active}} {{.Size}} {{.Reclaimable}}";
    let shown = engine.corten(&["system", "df", "--format", table]).stdout;
    assert_eq!(shown, engine.docker(&["system", "df", "--format", table]).stdout);
    assert!(shown.starts_with("Images 2 1 60kB 40kB (66%)\nContainers 1 0 "), "{shown}");
    let verbose = engine.corten(&["system", "df", "-v"]).stdout;
    assert_eq!(verbose, engine.docker(&["system", "df", "-v"]).stdout);
    let line = verbose.lines().find(|line| line.starts_with("app ")).unwrap_or_default();
    let cells: Vec<&str> = line.split_whitespace().rev().take(4).collect();
    assert_eq!(cells, ["1", "20kB", "40kB", "60kB"], "{verbose}");
    engine.docker(&["rm", "-fv", "user"]).ok();
    engine.finish();
}

#[test]
fn prune_frees_what_it_says() {
    if !is_root("prune_frees_what_it_says") {
        return;
    }
    let engine = engine();
    two_images(&engine);
    engine.corten(&["rmi", "busybox", "corten/hello"]).ok();
    let refused = engine.client(common::CORTEN.into(), &["image", "prune", "-a"], b"n\n");
    assert!(refused.ok().starts_with("WARNING! This will remove all images without at least one container"));
    assert_eq!(engine.corten(&["image", "prune", "-f"]).ok(), "Total reclaimed space: 0B");
    // A name that goes to another image leaves one that dangles.
    engine.corten(&["tag", "base:1", "app:1"]).ok();
    let listed = |filter: &str| engine.corten(&["images", "-q", "-f", filter]).ok().lines().count();
    assert_eq!((listed("dangling=true"), listed("reference=app:*"), listed("reference=none")), (1, 1, 0));
    let pruned = engine.corten(&["image", "prune", "-f"]);
    assert!(pruned.ok().starts_with("Deleted Images:\ndeleted: sha256:"), "{pruned:?}");
    assert!(pruned.ok().ends_with("\n\nTotal reclaimed space: 20kB"), "{pruned:?}");
    engine.docker(&["create", "--name", "user", "app:1"]).ok();
    engine.corten(&["image", "prune", "-af", "--filter", "until=2h", "--filter", "label!=x"]).ok();
    assert_eq!(engine.corten(&["images", "-q"]).ok().lines().count(), 2, "a container uses it, under both names");
    engine.docker(&["rm", "user"]).ok();
    let pruned = engine.corten(&["image", "prune", "-af"]);
    assert!(pruned.ok().contains("untagged: app:1\nuntagged: base:1\n"), "{pruned:?}");
    assert_eq!(engine.corten(&["images", "-aq"]).stdout, "");
    engine.finish();
}

#[test]
fn layers_go_with_the_last_container_of_a_removed_image() {
    if !is_root("layers_go_with_the_last_container_of_a_removed_image") {
        return;
    }
    let engine = engine();
    let count = |folder: &str| fs::read_dir(engine.path().join("data").join(folder)).expect("the folder").count();
    let held = || (count("content/blobs/sha256"), count("snapshots"));
    let before = held();
    two_images(&engine);
    engine.corten(&["rmi", "base:1"]).ok();
    engine.docker(&["create", "--name", "one", "app:1"]).ok();
    engine.docker(&["create", "--name", "two", "app:1"]).ok();
    engine.corten(&["rmi", "-f", "app:1"]).ok();
    assert_eq!(count("content/blobs/sha256"), before.0, "a container needs no blobs");
    engine.docker(&["rm", "one"]).ok();
    engine.docker(&["rm", "two"]).ok();
    common::wait_until("the layers are gone", || held() == before);
    engine.finish();
}

#[test]
fn images_as_a_tree() {
    if !is_root("images_as_a_tree") {
        return;
    }
    let engine = engine();
    two_images(&engine);
    engine.docker(&["create", "--name", "user", "app:1"]).ok();
    let shown = engine.corten(&["images", "--tree"]).stdout;
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let at = lines.iter().position(|line| line.first() == Some(&"app:1")).expect("the image is shown");
    assert_eq!(lines[at].last(), Some(&"U"), "{shown}");
    assert_eq!(lines[at + 1][..2], ["└─", platform(&engine).as_str()]);
    engine.corten(&["images", "--tree", "-q"]).fails(1, "--quiet is not yet supported with --tree");
    engine.docker(&["rm", "user"]).ok();
    engine.finish();
}

#[test]
fn a_check_finds_damage_and_mends_it() {
    if !is_root("a_check_finds_damage_and_mends_it") {
        return;
    }
    let engine = engine();
    let images = two_images(&engine);
    sound(&engine);
    let config = engine.path().join("data/content/blobs/sha256").join(images[1].id().hex());
    fs::remove_file(&config).expect("the blob is there");
    fs::write(&config, "{}").expect("the blob is replaced");
    let found = engine.corten(&["system", "check"]);
    found.fails(1, "");
    assert!(found.stdout.contains("its manifest or configuration is missing"), "{}", found.stdout);
    let repaired = engine.corten(&["system", "check", "--repair"]);
    assert!(repaired.ok().contains("2 found, 2 repaired\nTotal reclaimed space: 20"), "{repaired:?}");
    sound(&engine);
    assert_eq!(engine.corten(&["images", "-q", "app"]).stdout, "");
    engine.finish();
}

#[test]
fn nothing_is_wrong_after_kills() {
    if !is_root("nothing_is_wrong_after_kills") {
        return;
    }
    // A sample of what `./x soak images` does for longer.
    let report = corten_testkit::soak::images(common::CORTEN, 8, 4, |_, _| {});
    assert_eq!(report.failures, Vec::<String>::new());
    assert!(report.kills == 8 && !report.met.is_empty(), "{report:?}");
}

#[test]
fn unused_images_go_when_the_disk_fills() {
    if !is_root("unused_images_go_when_the_disk_fills") {
        return;
    }
    // Every disk is in use to more than nothing.
    let engine = engine_with(&["--image-gc-high", "1", "--image-gc-low", "0", "--image-gc-min-age", "100000"]);
    two_images(&engine);
    engine.docker(&["create", "--name", "user", "busybox"]).ok();
    let listed = || engine.corten(&["images", "--format", "{{.Repository}}"]).stdout;
    assert!(listed().contains("app\nbase"), "what was just named stays");
    engine.docker(&["rm", "user"]).ok();
    engine.finish();

    let engine = engine_with(&["--image-gc-high", "1", "--image-gc-low", "0%", "--image-gc-min-age", "0"]);
    let archive = engine.path().join("one.tar");
    let image = TestImage::new("one:1", [tar(&[("file", b"one")])]);
    fs::write(&archive, docker_archive_bytes(&[image], Packing::Plain)).expect("the archive is written");
    engine.corten(&["load", "-i", &archive.display().to_string()]).ok();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !engine.corten(&["images", "-q"]).stdout.is_empty() {
        assert!(std::time::Instant::now() < deadline, "unused images stay; the log:\n{}", engine.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    engine.finish();
    let refused = std::process::Command::new(common::CORTEN).args(["daemon", "--image-gc-high", "101"]).output();
    let refused = refused.expect("the daemon runs");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("is no percentage"));
}

#[test]
fn images_go_from_the_high_mark_to_the_low_one() {
    if !is_root("images_go_from_the_high_mark_to_the_low_one") {
        return;
    }
    let mut engine = on_small_disk(&["--image-gc-high", "60", "--image-gc-low", "40", "--image-gc-min-age", "0"]);
    let loaded = load_until(&engine, || percent_in_use(&engine) >= 60 || !names(&engine).contains("image00"));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while percent_in_use(&engine) >= 40 {
        assert!(std::time::Instant::now() < deadline, "the disk stays full; the log:\n{}", engine.log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let left = names(&engine);
    assert!(!left.contains("image00") && left.contains(&format!("image{:02}", loaded - 1)), "{left}");
    assert!(percent_in_use(&engine) > 20, "it ends at the low mark: {left}");
    leave_disk(&mut engine);
    engine.finish();
}

#[test]
fn without_marks_all_images_stay() {
    if !is_root("without_marks_all_images_stay") {
        return;
    }
    let mut engine = on_small_disk(&[]);
    let loaded = load_until(&engine, || percent_in_use(&engine) >= 70);
    // A look is taken whenever an image has arrived: there have been as many.
    assert_eq!(names(&engine).matches("image").count(), loaded);
    leave_disk(&mut engine);
    engine.finish();
}

/// An engine whose data root is on a disk of its own, in its mount namespace.
fn on_small_disk(flags: &[&str]) -> TestEngine {
    let mut engine = engine_with(flags);
    engine.stop_daemon();
    let data = engine.path().join("data");
    Answer::of(engine.inside("mount").args(["-t", "tmpfs", "-o", "size=64m", "own"]).arg(data), b"").ok();
    engine.start_daemon();
    engine
}

fn leave_disk(engine: &mut TestEngine) {
    engine.stop_daemon();
    let data = engine.path().join("data");
    Answer::of(engine.inside("umount").arg(data), b"").ok();
    engine.start_daemon();
}

fn percent_in_use(engine: &TestEngine) -> u32 {
    let table = Answer::of(engine.inside("df").arg("--output=pcent").arg(engine.path().join("data")), b"");
    table.ok().lines().last().expect("a line").trim().trim_end_matches('%').parse().expect("a percentage")
}

fn names(engine: &TestEngine) -> String {
    engine.corten(&["images", "--format", "{{.Repository}}"]).ok().to_owned()
}

/// Loads images of 3 MB of noise, `image00` and so on. How many.
fn load_until(engine: &TestEngine, done: impl Fn() -> bool) -> usize {
    let (archive, filler) = (engine.path().join("one.tar"), engine.path().join("filler.tar"));
    let mut loaded = 0;
    while !done() || loaded == 0 {
        assert!(loaded < 30, "{}", names(engine));
        image::tar_of_random_file(&filler, 3 << 20).expect("writing an archive");
        image::docker_archive(&archive, &format!("image{loaded:02}:1"), &[&filler]).expect("writing an archive");
        engine.corten(&["load", "-i", &archive.display().to_string()]).ok();
        loaded += 1;
    }
    loaded
}

#[test]
fn layers_are_as_large_as_was_configured() {
    if !is_root("layers_are_as_large_as_was_configured") {
        return;
    }
    let engine = engine_with(&["--max-layer-size", "3m"]);
    let archive = engine.path().join("large.tar");
    let load = |bytes: usize| {
        // A bomb: it packs to nearly nothing.
        let image = TestImage::new("large:1", [tar(&[("zeros", &vec![0; bytes])])]);
        fs::write(&archive, docker_archive_bytes(&[image], Packing::Gzip)).expect("the archive is written");
        engine.corten(&["load", "-i", &archive.display().to_string()])
    };
    load(2 << 20).ok();
    load(4 << 20).fails(1, "the archive has more than 3145728 bytes");
    sound(&engine);
    engine.finish();
}
