//! Pulls from Debian's docker-registry on loopback: by tag, by digest, again, missing, and with the daemon killed meanwhile.

mod common;

use std::time::Duration;

use common::{CORTEN, sound, spawn};
use corten_testkit::image::{Packing, TestImage};
use corten_testkit::{Registry, TestEngine, debian, engine::docker_client, image, is_root};

#[test]
fn pull_by_tag_and_digest() {
    if !is_root("pull_by_tag_and_digest") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    let digest = registry.push(&engine, &archive, "library/box:v1");
    let name = format!("{}/library/box:v1", Registry::HOST);
    let first = engine.docker(&["pull", &name]);
    assert!(first.ok().contains(&format!("Digest: {digest}")), "{first:?}");
    assert!(first.stdout.contains(&format!("Status: Downloaded newer image for {name}")), "{first:?}");
    assert!(engine.docker(&["pull", &name]).ok().contains(&format!("Status: Image is up to date for {name}")));
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "pulled"]).ok(), "pulled");
    let by_digest = format!("{}/library/box@{digest}", Registry::HOST);
    assert_eq!(engine.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok(), by_digest);
    engine.docker(&["rmi", &name]).ok();
    assert_eq!(engine.docker(&["pull", "-q", &by_digest]).ok(), by_digest);
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &by_digest, "echo", "again"]).ok(), "again");
    // A run pulls what is missing.
    engine.docker(&["rmi", &by_digest]).ok();
    let run = engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "missing"]);
    assert_eq!(run.ok(), "missing");
    assert!(run.stderr.contains(&format!("Unable to find image '{name}' locally")), "{run:?}");
    let missing = engine.docker(&["pull", &format!("{}/library/box:nosuch", Registry::HOST)]);
    missing.fails(1, "manifest unknown");
    engine.docker(&["pull", "127.0.0.1:1/box"]).fails(1, "connection refused");
    engine.docker(&["pull", "Box"]).fails(1, "must be lowercase");
    engine.finish();
}

#[test]
fn a_mirror_is_asked_for_docker_hubs_images() {
    if !is_root("a_mirror_is_asked_for_docker_hubs_images") {
        return;
    }
    // The first one is not there: the second one is asked then.
    let mirrors = ["--registry-mirror", "http://127.0.0.1:1", "--registry-mirror", "http://127.0.0.1:5000/"];
    let engine = TestEngine::start_with(CORTEN, &mirrors);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    let digest = registry.push(&engine, &archive, "library/box:v1");
    let pulled = engine.docker(&["pull", "box:v1"]);
    assert!(pulled.ok().contains(&format!("Digest: {digest}")), "{pulled:?}");
    assert!(pulled.stdout.contains("docker.io/library/box:v1"), "{pulled:?}");
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", "box:v1", "echo", "pulled"]).ok(), "pulled");
    engine.finish();
}

#[test]
fn a_killed_pull_leaves_nothing_half_done() {
    if !is_root("a_killed_pull_leaves_nothing_half_done") {
        return;
    }
    let mut engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let (random, archive) = (engine.path().join("random.tar"), engine.path().join("box.tar"));
    image::tar_of_random_file(&random, 24 << 20).expect("writing an archive");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar(), &random]).expect("writing an archive");
    registry.push(&engine, &archive, "box:v1");
    let name = format!("{}/box:v1", Registry::HOST);
    for after in [5, 40, 120, 250] {
        let mut client = spawn(&engine, docker_client(), &["pull", &name]);
        std::thread::sleep(Duration::from_millis(after));
        engine.kill_daemon();
        client.wait().expect("the client ends");
        engine.start_daemon();
        let leaks = engine.leaks();
        assert!(leaks.mounts.is_empty() && leaks.links.is_empty() && leaks.processes.is_empty(), "{leaks:#?}");
        if !engine.docker(&["images", "-q", &name]).ok().is_empty() {
            // It was quicker than the kill: then it is whole.
            assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "whole"]).ok(), "whole");
            engine.docker(&["rmi", &name]).ok();
        }
    }
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "whole"]).ok(), "whole");
    engine.finish();
}

#[test]
fn a_bomb_from_a_registry_is_refused() {
    if !is_root("a_bomb_from_a_registry_is_refused") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--max-layer-size", "8m"]);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("bomb.tar");
    // Each of a hundred megabytes packs to a kilobyte.
    let bomb = image::tar(&[("zeros", &vec![0; 100 << 20])]);
    let layers = [image::tar(&[("file", b"harmless")]), bomb];
    let image = TestImage::new("bomb:v1", layers);
    std::fs::write(&archive, image::docker_archive_bytes(&[image], Packing::Gzip)).expect("writing an archive");
    registry.push(&engine, &archive, "bomb:v1");
    let name = format!("{}/bomb:v1", Registry::HOST);
    for client in [docker_client(), CORTEN.into()] {
        let pulled = engine.client(client, &["pull", &name], b"");
        pulled.fails(1, "the archive has more than 8388608 bytes");
        assert!(pulled.stderr.contains(&format!("{name}: layer ")), "{pulled:?}");
        assert_eq!(engine.docker(&["images", "-q", &name]).ok(), "");
        sound(&engine);
    }
    engine.finish();
}
