//! Indexes from a registry: what of them is kept, shown, and handed on byte for byte; artifacts; and one platform of several removed.

mod common;

use std::fs;

use common::{CORTEN, sound, told};
use corten_base::{Digest, Platform};
use corten_testkit::image::{self, PREDICATE, Packing, TestImage, tar};
use corten_testkit::{Registry, TestEngine, debian, engine::docker_client, is_root};
use serde_json::Value;

const HOST: &str = Registry::HOST;
/// What a 64-bit machine runs besides.
const KIN: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "386" };

/// An index in the registry, `multi:1`: images for this machine and for its 32-bit kin with the same programs, each with its
/// name in `/platform`, and a statement about each. Answers the index's digest.
fn index(engine: &TestEngine, registry: &Registry) -> String {
    index_for(engine, registry, &[&Platform::host().architecture, KIN])
}

/// The same for these architectures.
fn index_for(engine: &TestEngine, registry: &Registry, architectures: &[&str]) -> String {
    let busybox = fs::read(debian::busybox_tar()).expect("busybox is there");
    let image = |architecture: &&str| TestImage {
        architecture: (*architecture).to_owned(),
        ..TestImage::new("multi:1", [busybox.clone(), tar(&[("platform", architecture.as_bytes())])])
    };
    let images: Vec<TestImage> = architectures.iter().map(image).collect();
    let archive = engine.path().join("multi.tar");
    fs::write(&archive, image::oci_attested_archive_bytes(&images, Packing::Gzip)).expect("writing an archive");
    registry.push_layout(engine, &archive, "multi:1")
}

fn json(engine: &TestEngine, target: &str) -> Value {
    let answer = engine.get(target).unwrap_or_else(|| panic!("{target} is not answered"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).expect("JSON")
}

/// Kind, architecture or subject, and whether it is there, of each manifest behind a name.
fn manifests(engine: &TestEngine, name: &str) -> Vec<(String, String, bool)> {
    let shown = json(engine, &format!("/images/{name}/json?manifests=1"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |manifest: &Value| {
        let about = match manifest["Kind"].as_str() {
            Some("image") => text(&manifest["ImageData"]["Platform"]["architecture"]),
            Some("attestation") => text(&manifest["AttestationData"]["For"]),
            _ => String::new(),
        };
        (text(&manifest["Kind"]), about, manifest["Available"] == true)
    };
    shown["Manifests"].as_array().expect("manifests").iter().map(one).collect()
}

/// The digests of an index's manifests.
fn entries(index: &[u8]) -> Vec<String> {
    let index: Value = serde_json::from_slice(index).expect("JSON");
    let entries = index["manifests"].as_array().expect("manifests").iter();
    entries.map(|entry| entry["digest"].as_str().expect("a digest").to_owned()).collect()
}

#[test]
fn an_index_is_kept_completed_and_handed_on() {
    if !is_root("an_index_is_kept_completed_and_handed_on") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let digest = index(&engine, &registry);
    let bytes = registry.manifest(&engine, "multi:1");
    let parts = entries(&bytes);
    let (name, copy) = (format!("{HOST}/multi:1"), |tag: &str| format!("{HOST}/copy:{tag}"));
    let (host, kin) = (Platform::host(), format!("linux/{KIN}"));
    engine.docker(&["pull", "-q", &name]).ok();
    let shown = json(&engine, &format!("/images/{name}/json"));
    assert_eq!(shown["Descriptor"]["digest"], digest.as_str());
    assert_eq!(shown["Descriptor"]["mediaType"], "application/vnd.oci.image.index.v1+json");
    let expect = |with_kin: bool| {
        let row = |kind: &str, about: &str, available| (kind.to_owned(), about.to_owned(), available);
        vec![
            row("image", &host.architecture, true),
            row("image", KIN, with_kin),
            row("attestation", &parts[0], true),
            row("attestation", &parts[1], with_kin),
        ]
    };
    assert_eq!(manifests(&engine, &name), expect(false));
    let listed = json(&engine, "/images/json?manifests=1");
    assert!(listed.as_array().expect("a list").iter().any(|line| line["Manifests"][3]["Kind"] == "attestation"));
    let said = json(&engine, &format!("/images/{name}/attestations?statement=1"));
    assert_eq!(said[0]["PredicateType"], PREDICATE);
    assert_eq!(said[0]["Statement"]["predicate"]["architecture"], host.architecture.as_str());
    sound(&engine);

    // Not all of it is here: this machine's image goes, and that is said.
    for (client, tag) in [(docker_client(), "docker"), (CORTEN.into(), "corten")] {
        engine.docker(&["tag", &name, &copy(tag)]).ok();
        let pushed = engine.client(client.clone(), &["push", &copy(tag)], b"");
        assert!(pushed.ok().contains("Not all multiplatform-content is present"), "{pushed:?}");
        assert_eq!(Digest::sha256(&registry.manifest(&engine, &format!("copy:{tag}"))).as_str(), parts[0]);
        engine.client(client, &["push", "--platform", &kin, &copy(tag)], b"").fails(1, &kin);
    }

    // The other platform comes to it; the name stays this machine's.
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok().to_owned();
    engine.docker(&["pull", "-q", "--platform", &kin, &name]).ok();
    assert_eq!(manifests(&engine, &name), expect(true));
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    let listed = engine.docker(&["images", "-a", "--no-trunc", "--format", "{{.ID}}"]);
    assert!(listed.ok().lines().all(|line| line == id || !line.contains("none")), "{listed:?}");
    assert_eq!(engine.docker(&["images", "-qf", "dangling=true"]).ok(), "");
    let run = |platform: &str| {
        let arguments = ["run", "--rm", "--network", "none", "--platform", platform, &name, "cat", "/platform"];
        engine.docker(&arguments).ok().to_owned()
    };
    assert_eq!([run(&kin), run(&host.to_string())], [KIN.to_owned(), host.architecture.clone()]);
    assert!(engine.docker(&["pull", "--platform", &kin, &name]).ok().contains("Image is up to date"));
    sound(&engine);
    let pushed = engine.docker(&["push", &copy("docker")]);
    assert!(!pushed.ok().contains("Not all"), "{pushed:?}");
    assert_eq!(registry.manifest(&engine, "copy:docker"), bytes);
    engine.docker(&["push", "--platform", &kin, &copy("corten")]).ok();
    assert_eq!(Digest::sha256(&registry.manifest(&engine, "copy:corten")).as_str(), parts[1]);

    // As an archive, and back.
    let archive = engine.path().join("saved.tar").display().to_string();
    engine.docker(&["save", "-o", &archive, &name]).ok();
    engine.docker(&["rmi", &copy("docker"), &copy("corten"), &name]).ok();
    assert_eq!(engine.docker(&["images", "-aq", "--filter", "reference=*/multi"]).ok(), "");
    sound(&engine);
    engine.docker(&["load", "-qi", &archive]).ok();
    assert_eq!(manifests(&engine, &name), expect(true));
    engine.docker(&["tag", &name, &copy("again")]).ok();
    engine.docker(&["push", "-q", &copy("again")]).ok();
    assert_eq!(registry.manifest(&engine, "copy:again"), bytes);
    engine.finish();
}

#[test]
fn of_several_foreign_images_none_is_chosen_for_a_push() {
    if !is_root("of_several_foreign_images_none_is_chosen_for_a_push") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let foreign = ["s390x", "riscv64"];
    index_for(&engine, &registry, &[&Platform::host().architecture, foreign[0], foreign[1]]);
    let parts = entries(&registry.manifest(&engine, "multi:1"));
    let name = format!("{HOST}/multi:1");
    let pull = |architecture: &str| {
        engine.docker(&["pull", "-q", "--platform", &format!("linux/{architecture}"), &name]).ok();
    };
    foreign.iter().for_each(|architecture| pull(architecture));
    for (client, tag) in [(docker_client(), "docker"), (CORTEN.into(), "corten")] {
        let push = |arguments: &[&str]| engine.client(client.clone(), &[&["push"], arguments].concat(), b"");
        let (copy, pushed) = (format!("{HOST}/copy:{tag}"), format!("copy:{tag}"));
        let in_registry = || Digest::sha256(&registry.manifest(&engine, &pushed)).to_string();
        engine.docker(&["tag", &name, &copy]).ok();
        push(&[&copy]).fails(1, "multiple matching manifests found but no specific platform requested");
        engine.docker(&["pull", &copy]).fails(1, "not found");
        for (architecture, part) in foreign.iter().zip(&parts[1..]) {
            push(&["--platform", &format!("linux/{architecture}"), &copy]).ok();
            assert_eq!(in_registry(), *part);
        }
        // Of one there is a choice, and with this machine's one too.
        engine.corten(&["rmi", "-f", "--platform", "linux/riscv64", &name]).ok();
        assert!(push(&[&copy]).ok().contains("Not all multiplatform-content is present"));
        assert_eq!(in_registry(), parts[1]);
        pull("riscv64");
        pull(&Platform::host().architecture);
        engine.corten(&["rmi", "-f", "--platform", "linux/s390x", &name]).ok();
        assert!(push(&[&copy]).ok().contains("Not all multiplatform-content is present"));
        assert_eq!(in_registry(), parts[0]);
        sound(&engine);
        pull("s390x");
        engine.corten(&["rmi", "-f", "--platform", &Platform::host().to_string(), &name]).ok();
    }
    engine.finish();
}

#[test]
fn a_registry_without_the_statements_gives_the_image() {
    if !is_root("a_registry_without_the_statements_gives_the_image") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    index(&engine, &registry);
    let parts = entries(&registry.manifest(&engine, "multi:1"));
    let folder = engine.path().join("registry/docker/registry/v2/repositories/multi/_manifests/revisions/sha256");
    fs::remove_dir_all(folder.join(&parts[2]["sha256:".len()..])).expect("it is there");
    let name = format!("{HOST}/multi:1");
    engine.docker(&["pull", "-q", &name]).ok();
    let there: Vec<bool> = manifests(&engine, &name).into_iter().map(|(_, _, available)| available).collect();
    assert_eq!(there, [true, false, false, false]);
    assert_eq!(json(&engine, &format!("/images/{name}/attestations")), serde_json::json!([]));
    sound(&engine);
    engine.finish();
}

#[test]
fn an_artifact_is_kept_and_handed_on() {
    if !is_root("an_artifact_is_kept_and_handed_on") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("chart.tar");
    let kind = "application/vnd.cncf.helm.config.v1+json";
    let blob = image::pack(&tar(&[("chart/Chart.yaml", b"name: chart")]), Packing::Gzip);
    fs::write(&archive, image::oci_artifact_archive_bytes("chart:1", kind, &blob)).expect("writing an archive");
    let digest = registry.push_layout(&engine, &archive, "chart:1");
    let bytes = registry.manifest(&engine, "chart:1");
    let name = format!("{HOST}/chart:1");
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
        assert!(run(&["pull", &name]).ok().contains(&format!("Digest: {digest}")));
        assert!(run(&["pull", &name]).ok().contains("Image is up to date"));
        assert_eq!(run(&["inspect", "-f", "{{.Id}}", &name]).ok(), digest);
        assert_eq!(json(&engine, &format!("/images/{name}/json"))["Descriptor"]["digest"], digest.as_str());
        assert_eq!(manifests(&engine, &name), [("unknown".to_owned(), String::new(), true)]);
        assert!(run(&["images", "--digests", &format!("{HOST}/chart")]).ok().contains(&digest));
        let refused = format!(
            "image with reference {name} was found but does not provide any platform: it is an artifact ({kind})"
        );
        run(&["run", "--rm", &name]).fails(125, &refused);
        run(&["run", "--rm", "--platform", "linux/amd64", &name]).fails(125, &refused);
        run(&["history", &name]).ok();
        sound(&engine);
        // Everywhere byte for byte.
        let (copy, saved) = (format!("{HOST}/copy:1"), engine.path().join("saved.tar").display().to_string());
        run(&["tag", &name, &copy]).ok();
        run(&["push", "-q", &copy]).ok();
        assert_eq!(registry.manifest(&engine, "copy:1"), bytes);
        run(&["save", "-o", &saved, &name]).ok();
        run(&["save", "--platform", "linux/amd64", "-o", &saved, &name]).fails(1, "it is an artifact");
        run(&["rmi", &name, &copy]).ok();
        run(&["inspect", &digest]).fails(1, "No such");
        run(&["load", "-qi", &saved]).ok();
        let again = format!("{HOST}/again:1");
        run(&["tag", &name, &again]).ok();
        run(&["push", "-q", &again]).ok();
        assert_eq!(registry.manifest(&engine, "again:1"), bytes);
        run(&["rmi", &name, &again]).ok();
        sound(&engine);
    }
    assert_eq!(engine.docker(&["images", "-aq", "--filter", "reference=*/chart"]).ok(), "");
    engine.finish();
}

#[test]
fn another_packing_of_a_layer_that_is_here_is_kept_as_it_came() {
    if !is_root("another_packing_of_a_layer_that_is_here_is_kept_as_it_came") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let one = TestImage::new("box:1", [tar(&[("one", &[7; 100_000])]), tar(&[("two", b"2")])]);
    let layout = |packing| {
        let path = engine.path().join("box.tar");
        fs::write(&path, image::oci_archive_bytes(std::slice::from_ref(&one), packing, false)).expect("writing");
        path
    };
    let zstd = registry.push_layout(&engine, &layout(Packing::Zstd), "box:zstd");
    let gzip = registry.push_layout(&engine, &layout(Packing::Gzip), "box:gzip");
    assert_ne!(zstd, gzip);
    engine.docker(&["load", "-qi", &layout(Packing::Plain).display().to_string()]).ok();
    for (tag, digest) in [("zstd", &zstd), ("gzip", &gzip)] {
        let (name, copy) = (format!("{HOST}/box:{tag}"), format!("{HOST}/copy-{tag}:1"));
        engine.docker(&["pull", "-q", &name]).ok();
        engine.docker(&["tag", &name, "saved:1"]).ok();
        let saved = engine.path().join("saved.tar").display().to_string();
        engine.docker(&["save", "-o", &saved, &name]).ok();
        let index = std::process::Command::new("tar").args(["-xOf", &saved, "index.json"]).output().expect("tar runs");
        let index: Value = serde_json::from_slice(&index.stdout).expect("JSON");
        assert_eq!(index["manifests"][0]["digest"], digest.as_str());
        engine.docker(&["tag", &name, &copy]).ok();
        engine.docker(&["push", "-q", &copy]).ok();
        assert_eq!(Digest::sha256(&registry.manifest(&engine, &format!("copy-{tag}:1"))).as_str(), digest);
    }
    // Unpacked once.
    assert_eq!(engine.docker(&["images", "-q", "--filter", "dangling=true"]).ok(), "");
    let layers = fs::read_dir(engine.path().join("data/snapshots")).expect("layers").count();
    engine.docker(&["pull", "-q", &format!("{HOST}/box@{zstd}")]).ok();
    assert_eq!(fs::read_dir(engine.path().join("data/snapshots")).expect("layers").count(), layers);
    sound(&engine);
    engine.finish();
}

/// The manifests behind a name that are here, by platform or, for a statement, by its subject.
fn available(engine: &TestEngine, name: &str) -> Vec<String> {
    let there = manifests(engine, name).into_iter().filter(|(_, _, available)| *available);
    there.map(|(_, about, _)| about).collect()
}

#[test]
fn one_platform_of_several_is_removed() {
    if !is_root("one_platform_of_several_is_removed") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    index(&engine, &registry);
    let parts = entries(&registry.manifest(&engine, "multi:1"));
    let (name, host, kin) = (format!("{HOST}/multi:1"), Platform::host(), format!("linux/{KIN}"));
    let saved = engine.path().join("saved.tar").display().to_string();
    let id = || engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok().to_owned();
    let pull = |platform: &str| engine.docker(&["pull", "-q", "--platform", platform, &name]).ok().to_owned();
    let rmi = |platform: &str| engine.corten(&["rmi", "-f", "--platform", platform, &name]);
    pull(&host.to_string());
    pull(&kin);
    engine.docker(&["save", "-o", &saved, &name]).ok();
    // Pulled one by one, or loaded with one of them unpacked: it is the same.
    for is_loaded in [false, true] {
        if is_loaded {
            engine.docker(&["rmi", &name]).ok();
            engine.docker(&["load", "-qi", &saved]).ok();
        }
        let own = id();
        engine.corten(&["rmi", "--platform", &kin, &name]).fails(
            1,
            "Content will be removed from all images referencing this variant. Use \u{2014}-force to force delete.",
        );
        let missing = rmi("linux/riscv64");
        // By force, what isn't there is no failure.
        assert_eq!(missing.code, 0);
        assert!(missing.stderr.contains("failed to delete platform linux/riscv64 for image sha256:"), "{missing:?}");
        assert!(missing.stderr.contains("does not match the specified platform (linux/riscv64)"), "{missing:?}");
        let events = told(&engine, || {
            let gone = rmi(&kin);
            assert_eq!(gone.ok(), format!("Deleted: {}\nDeleted: {}", parts[1], parts[3]), "{is_loaded}");
        });
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].starts_with("delete sha256:") && !events[0].contains(&own), "{events:?}");
        assert_eq!(available(&engine, &name), [host.architecture.clone(), parts[0].clone()]);
        assert_eq!(id(), own);
        sound(&engine);
        // It comes back, and this machine's goes: the name means what is left.
        pull(&kin);
        let user = engine.docker(&["create", "--name", "user", &name]);
        user.ok();
        rmi(&host.to_string()).ok();
        assert_eq!(available(&engine, &name), [KIN.to_owned(), parts[1].clone()]);
        assert_ne!(id(), own);
        sound(&engine);
        // A stopped container stays what it was.
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Image}}", "user"]).ok(), own);
        engine.docker(&["start", "user"]).ok();
        engine.docker(&["rm", "-f", "user"]).ok();
        sound(&engine);
        let run = ["run", "--rm", "--network", "none", "--pull", "never", &name, "cat", "/platform"];
        assert_eq!(engine.docker(&run).ok(), KIN);
        // The last one takes the image along.
        let last = engine.corten(&["rmi", "--platform", &kin, &name]);
        assert!(last.ok().starts_with(&format!("Untagged: {name}\n")), "{last:?}");
        assert_eq!(engine.docker(&["images", "-aq", "--filter", "reference=*/multi"]).ok(), "");
        sound(&engine);
        engine.docker(&["load", "-qi", &saved]).ok();
    }
    // The loaded index whose own image goes at once: its sibling is unpacked and takes the names.
    let mut told = engine
        .corten(&["rmi", "-f", "--platform", &host.to_string(), &name])
        .ok()
        .lines()
        .map(str::to_owned)
        .collect::<Vec<_>>();
    told.sort();
    let mut expect = vec![format!("Deleted: {}", parts[0]), format!("Deleted: {}", parts[2])];
    expect.sort();
    assert_eq!(told, expect);
    assert_eq!(available(&engine, &name), [KIN.to_owned(), parts[1].clone()]);
    sound(&engine);
    // What runs stays.
    engine.docker(&["load", "-qi", &saved]).ok();
    let sleeper = ["run", "-d", "--name", "runs", "--network", "none", "--platform", &kin, &name, "sleep", "1000"];
    engine.docker(&sleeper).ok();
    rmi(&kin).fails(1, "(cannot be forced) - image is being used by running container");
    engine.docker(&["rm", "-f", "runs"]).ok();
    let all = engine.corten(&["rmi", "-f", "--platform", &format!("{kin},{host}"), &name]);
    assert!(all.ok().contains(&format!("Untagged: {name}\n")), "{all:?}");
    assert_eq!(engine.docker(&["images", "-aq", "--filter", "reference=*/multi"]).ok(), "");
    sound(&engine);
    engine.finish();
}
