//! Images end to end through the command line and the API: save and load, lists, removal, disk usage, checks.

mod common;

use std::fs;

use common::engine;
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};
use corten_testkit::{TestEngine, is_root};
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
