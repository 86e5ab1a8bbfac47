//! Images exchanged both ways with podman, through a registry, and with umoci, through a layout: the digests stay.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, oci_archive_bytes, tar};
use corten_testkit::registry::Registry;
use corten_testkit::{Answer, TestEngine, is_root, peers, workspace};
use serde_json::Value;

/// podman with its images in the test's folder, and a policy, without which it takes none.
const PODMAN: &str = r#"
    export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin PODMAN_IGNORE_CGROUPSV1_WARNING=1
    mkdir -p /etc/containers
    [ -e /etc/containers/policy.json ] || echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
    exec podman --root /bench/store --runroot /run/podman "$@"
"#;

fn load(engine: &TestEngine, name: &str, archive: impl Fn(&TestImage) -> Vec<u8>) -> TestImage {
    let image = TestImage::new(name, [tar(&[("etc/", b""), ("etc/one", b"1")]), tar(&[("etc/two", &[2; 9000])])]);
    let path = engine.path().join("image.tar");
    fs::write(&path, archive(&image)).expect("the archive is written");
    engine.corten(&["load", "-qi", &path.display().to_string()]).ok();
    image
}

fn inspect(engine: &TestEngine, name: &str, format: &str) -> String {
    engine.docker(&["inspect", "--type", "image", "--format", format, name]).ok().to_owned()
}

#[test]
fn podman_through_a_registry() {
    if !is_root("podman_through_a_registry") {
        return;
    }
    let root = workspace().join("target/peers/engines");
    if !root.join(".complete").exists() {
        eprintln!("skipped podman_through_a_registry: there is no podman (./x peers engines)");
        return;
    }
    let engine = common::engine_with(&["--insecure-registry", Registry::HOST]);
    let _registry = Registry::start(&engine);
    let place = engine.path().join("podman");
    fs::create_dir(&place).expect("a folder for podman");
    let podman = |words: &[&str]| {
        let mut command = peers::enter_beside(engine.namespace_pid(), &root, &place, &["--pid", "--fork"]);
        command.args(["sh", "-eu", "-c", PODMAN, "podman"]);
        Answer::of(command.args(words), b"")
    };

    // There...
    let ours = format!("{}/ours:1", Registry::HOST);
    let image = load(&engine, &ours, |image| docker_archive_bytes(std::slice::from_ref(image), Packing::Plain));
    engine.corten(&["push", "-q", &ours]).ok();
    let pushed = inspect(&engine, &ours, "{{index .RepoDigests 0}}");
    podman(&["pull", "-q", "--tls-verify=false", &ours]).ok();
    let seen = podman(&["image", "inspect", "--format", "{{.Digest}} {{.Id}}", &ours]);
    let (_, digest) = pushed.split_once('@').expect("a name with a digest");
    assert_eq!(seen.ok(), format!("{digest} {}", image.id().hex()));

    // ...and back, from podman's own archive and by its push.
    let theirs = format!("{}/theirs:1", Registry::HOST);
    podman(&["tag", &ours, &theirs]).ok();
    podman(&["push", "-q", "--tls-verify=false", "--digestfile", "/bench/digest", &theirs]).ok();
    let digest = fs::read_to_string(place.join("digest")).expect("podman wrote the digest");
    engine.corten(&["pull", "-q", &theirs]).ok();
    let known = inspect(&engine, &theirs, "{{json .RepoDigests}}");
    let pulled = format!("{}/theirs@{}", Registry::HOST, digest.trim());
    assert!(known.contains(&pulled), "{pulled} is not in {known}");
    assert_eq!(inspect(&engine, &theirs, "{{.Id}}"), image.id().as_str());
    // As an OCI archive the configuration is another one, which podman writes; with it the id, which stays from there on.
    for (format, known) in [("docker-archive", Some(image.id())), ("oci-archive", None)] {
        podman(&["save", "-q", "--format", format, "-o", &format!("/bench/{format}"), &theirs]).ok();
        engine.corten(&["rmi", "-f", image.id().as_str()]).ok();
        engine.corten(&["load", "-qi", &place.join(format).display().to_string()]).ok();
        let id = inspect(&engine, &theirs, "{{.Id}}");
        assert!(known.is_none_or(|known| known.as_str() == id), "{format}: {id}");
        let saved = place.join("saved.tar");
        engine.corten(&["save", "-o", &saved.display().to_string(), &theirs]).ok();
        podman(&["rmi", "-fa"]).ok();
        podman(&["load", "-q", "-i", "/bench/saved.tar"]).ok();
        let seen = podman(&["image", "inspect", "--format", "{{.Id}}", &theirs]);
        assert_eq!(format!("sha256:{}", seen.ok()), id, "{format}");
    }
    engine.finish();
}

#[test]
fn umoci_through_a_layout() {
    if !is_root("umoci_through_a_layout") {
        return;
    }
    if Command::new("umoci").arg("--version").output().is_err() {
        eprintln!("skipped umoci_through_a_layout: there is no umoci");
        return;
    }
    let engine = common::engine();
    load(&engine, "app:1", |image| oci_archive_bytes(std::slice::from_ref(image), Packing::Gzip, false));
    let path = |name: &str| engine.path().join(name);
    let text = |name: &str| path(name).display().to_string();
    let run = |program: &str, words: &[&str]| Answer::of(Command::new(program).args(words), b"");
    engine.corten(&["save", "-o", &text("saved.tar"), "app:1"]).ok();
    fs::create_dir(path("layout")).expect("a folder for the layout");
    run("tar", &["-xf", &text("saved.tar"), "-C", &text("layout")]).ok();
    let image = format!("{}:1", text("layout"));
    assert_eq!(run("umoci", &["list", "--layout", &text("layout")]).ok(), "1");
    run("umoci", &["unpack", "--image", &image, &text("bundle")]).ok();
    assert_eq!(fs::read(path("bundle/rootfs/etc/two")).expect("it is unpacked"), [2; 9000]);

    // A layer more, by umoci, and back with the digests that it gave.
    fs::write(path("bundle/rootfs/etc/three"), b"3").expect("a new file");
    run("umoci", &["repack", "--image", &format!("{}:2", text("layout")), &text("bundle")]).ok();
    let index = fs::read(path("layout/index.json")).expect("the index");
    let index: Value = serde_json::from_slice(&index).expect("JSON");
    let tagged = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == "2";
    let mut entry = index["manifests"].as_array().and_then(|list| list.iter().find(tagged)).expect("the tag").clone();
    // umoci knows tags only; a name comes with the annotation that containerd reads.
    entry["annotations"]["io.containerd.image.name"] = "docker.io/library/app:2".into();
    let alone = serde_json::json!({ "schemaVersion": 2, "manifests": [entry] });
    fs::write(path("layout/index.json"), alone.to_string()).expect("the index is written");
    run("tar", &["-cf", &text("back.tar"), "-C", &text("layout"), "oci-layout", "index.json", "blobs"]).ok();
    engine.corten(&["load", "-qi", &text("back.tar")]).ok();
    let digest = entry["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(inspect(&engine, "app:2", "{{.Descriptor.Digest}}"), digest);
    // What goes out again is what came, byte for byte.
    engine.corten(&["save", "-o", &text("again.tar"), "app:2"]).ok();
    fs::create_dir(path("again")).expect("a folder");
    run("tar", &["-xf", &text("again.tar"), "-C", &text("again")]).ok();
    for blob in fs::read_dir(path("again/blobs/sha256")).expect("blobs") {
        let name = blob.expect("a blob").file_name();
        let read = |place: &Path| fs::read(place.join("blobs/sha256").join(&name)).ok();
        assert!(read(&path("again")) == read(&path("layout")), "{name:?} differs");
    }
    engine.finish();
}
