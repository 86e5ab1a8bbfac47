//! Pushes to Debian's docker-registry on loopback, checked with skopeo, and what came from it back to it byte for byte.

mod common;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use common::{CORTEN, sound, spawn};
use corten_base::Algorithm;
use corten_testkit::fake::{CONFIG, Fake, LAYER, MANIFEST, blob_path};
use corten_testkit::image::{Packing, TestImage, pack, tar};
use corten_testkit::{Answer, Registry, TestEngine, debian, image, is_root};
use serde_json::json;

const HOST: &str = Registry::HOST;

/// An archive of busybox and a second layer.
fn archive(engine: &TestEngine) -> PathBuf {
    let (random, archive) = (engine.path().join("random.tar"), engine.path().join("box.tar"));
    image::tar_of_random_file(&random, 3 << 20).expect("writing a layer");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar(), &random]).expect("writing an archive");
    archive
}

/// What skopeo finds in the registry: the manifest's digest.
fn digest(engine: &TestEngine, name: &str) -> String {
    let mut skopeo = engine.inside("skopeo");
    skopeo.args(["inspect", "--tls-verify=false", "--format", "{{.Digest}}"]).arg(format!("docker://{HOST}/{name}"));
    Answer::of(&mut skopeo, b"").ok().to_owned()
}

/// The lines of a push through the API.
fn lines(engine: &TestEngine, repository: &str, tag: &str) -> Vec<serde_json::Value> {
    let answer = engine
        .request(&format!(
            "POST /v1.47/images/{HOST}/{repository}/push?tag={tag} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\
             X-Registry-Auth: e30=\r\nContent-Length: 0\r\n\r\n"
        ))
        .expect("the daemon answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_loaded_image_is_packed_and_pushed() {
    if !is_root("a_loaded_image_is_packed_and_pushed") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    engine.docker(&["load", "-i", archive(&engine).to_str().expect("UTF-8")]).ok();
    let name = format!("{HOST}/team/box:v1");
    engine.docker(&["tag", "box:v1", &name]).ok();
    let pushed = engine.docker(&["push", &name]);
    let first = pushed.ok();
    assert!(first.contains(&format!("The push refers to repository [{HOST}/team/box]")), "{first}");
    assert_eq!(first.matches(": Pushed").count(), 2, "{first}");
    let told = first.lines().last().expect("a last line");
    let found = digest(&engine, "team/box:v1");
    assert!(told.starts_with(&format!("v1: digest: {found} size: ")), "{told}");
    // The registry has it: the same digest without packing again, and the image is known by it.
    let again = engine.docker(&["push", &name]);
    assert_eq!(again.ok().matches("Layer already exists").count(), 2, "{again:?}");
    assert_eq!(again.ok().lines().last(), Some(told));
    let by_digest = format!("{HOST}/team/box@{found}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{join .RepoDigests \" \"}}", &name]).ok(), by_digest);
    assert!(engine.docker(&["pull", &name]).ok().contains("Image is up to date"));
    // Another repository of the same registry gets the layers from the first.
    let other = format!("{HOST}/other/box:v2");
    engine.docker(&["tag", &name, &other]).ok();
    let mounted = engine.docker(&["push", &other]);
    assert_eq!(mounted.ok().matches("Mounted from team/box").count(), 2, "{mounted:?}");
    assert_eq!(digest(&engine, "other/box:v2"), found);
    // And it is the image it was.
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok().to_owned();
    engine.docker(&["rmi", "-f", &id]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "back"]).ok(), "back");
    engine.finish();
}

#[test]
fn what_came_from_a_registry_goes_back_byte_for_byte() {
    if !is_root("what_came_from_a_registry_goes_back_byte_for_byte") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let digests = registry.push(&engine, &archive(&engine), "box:v1");
    let (name, copy) = (format!("{HOST}/box:v1"), format!("{HOST}/deep/down/copy:latest"));
    engine.corten(&["pull", "-q", &name]).ok();
    engine.corten(&["tag", &name, &copy]).ok();
    let pushed = engine.corten(&["push", &format!("{HOST}/deep/down/copy")]);
    assert!(pushed.ok().starts_with("Using default tag: latest\n"), "{pushed:?}");
    assert_eq!(digest(&engine, "deep/down/copy:latest"), digests);
    // Through skopeo to another place, and back here by digest.
    let mut skopeo = engine.inside("skopeo");
    skopeo.args(["copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"]);
    skopeo.args([format!("docker://{copy}"), format!("docker://{HOST}/third:x")]);
    Answer::of(&mut skopeo, b"").ok();
    engine.corten(&["pull", "-q", &format!("{HOST}/third@{digests}")]).ok();
    engine.finish();
}

#[test]
fn one_layer_in_two_packings_goes_in_both() {
    if !is_root("one_layer_in_two_packings_goes_in_both") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (_registry, from) = (Registry::start(&engine), Fake::start(&engine));
    // Nothing as a layer, as builders wrote it at different times.
    let (empty, box_) = (vec![0; 1024], tar(&[("file", b"content")]));
    let image = TestImage::new("box:1", [empty.clone(), box_.clone(), empty.clone()]);
    let whole = pack(&empty, Packing::Gzip);
    let halves = [pack(&empty[..512], Packing::Gzip), pack(&empty[512..], Packing::Gzip)].concat();
    let blob = |bytes, media_type| from.blob("box", bytes, media_type, Algorithm::Sha256);
    let layers = [whole, pack(&box_, Packing::Gzip), halves].map(|bytes| blob(bytes, LAYER));
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": blob(image.config(), CONFIG), "layers": layers });
    let pushed = from.manifest("box", "1", &manifest, MANIFEST, Algorithm::Sha256);
    let (name, copy) = (format!("{}/box:1", from.host), format!("{HOST}/copy:1"));
    engine.docker(&["pull", "-q", &name]).ok();
    engine.docker(&["tag", &name, &copy]).ok();
    engine.docker(&["push", "-q", &copy]).ok();
    assert_eq!(digest(&engine, "copy:1"), pushed.as_str());
    engine.finish();
}

#[test]
fn a_name_means_its_own_manifest_whatever_came_later() {
    if !is_root("a_name_means_its_own_manifest_whatever_came_later") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (registry, from) = (Registry::start(&engine), Fake::start(&engine));
    let layer = tar(&[("file", b"content")]);
    let config = from.blob("r", TestImage::new("r:1", [layer.clone()]).config(), CONFIG, Algorithm::Sha256);
    let manifest = |tag: &str, packing, suffix: &str| {
        let layer = from.blob("r", pack(&layer, packing), &LAYER.replace("gzip", suffix), Algorithm::Sha256);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
        let digest = from.manifest("r", tag, &manifest, MANIFEST, Algorithm::Sha256);
        (json!({ "mediaType": MANIFEST, "digest": digest, "size": manifest.to_string().len() }), digest)
    };
    let ((mut entry, gz), (_, zst)) = (manifest("gz", Packing::Gzip, "gzip"), manifest("zst", Packing::Zstd, "zstd"));
    // An index of which only the one for this machine is here.
    entry["platform"] = json!({ "os": "linux", "architecture": corten_base::Platform::host().architecture });
    let absent = json!({ "mediaType": MANIFEST, "digest": corten_base::Digest::sha256(b"absent"), "size": 6,
        "platform": { "os": "linux", "architecture": "s390x" } });
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": [entry, absent] });
    from.manifest("r", "index", &index, media_type, Algorithm::Sha256);
    let name = |tag: &str| format!("{}/r:{tag}", from.host);
    for tag in ["gz", "index", "zst"] {
        engine.docker(&["pull", "-q", &name(tag)]).ok();
    }
    for (tag, digest) in [("gz", &gz), ("zst", &zst), ("index", &gz)] {
        let copy = format!("{HOST}/copy:{tag}");
        engine.docker(&["tag", &name(tag), &copy]).ok();
        engine.docker(&["push", "-q", &copy]).ok();
        assert_eq!(self::digest(&engine, &format!("copy:{tag}")), digest.as_str(), "{tag}");
        if tag != "index" {
            let shown = engine.get(&format!("/images/{}/json", name(tag))).expect("it is answered");
            let (_, body) = shown.split_once("\r\n\r\n").expect("a body");
            let shown: serde_json::Value = serde_json::from_str(body).expect("JSON");
            assert_eq!(shown["Descriptor"]["digest"], digest.as_str());
        }
    }
    // Together in one archive, and back.
    let archive = engine.path().join("both.tar").display().to_string();
    engine.docker(&["save", "-o", &archive, &name("gz"), &name("zst")]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name("gz")]).ok().to_owned();
    engine.docker(&["rmi", "-f", &id]).ok();
    engine.docker(&["load", "-qi", &archive]).ok();
    for (tag, digest) in [("gz", &gz), ("zst", &zst)] {
        let again = format!("{HOST}/again:{tag}");
        engine.docker(&["tag", &name(tag), &again]).ok();
        engine.docker(&["push", "-q", &again]).ok();
        assert_eq!(corten_base::Digest::sha256(&registry.manifest(&engine, &format!("again:{tag}"))), *digest, "{tag}");
    }
    engine.finish();
}

#[test]
fn a_manifest_goes_as_what_it_is_whatever_it_was_sent_as() {
    if !is_root("a_manifest_goes_as_what_it_is_whatever_it_was_sent_as") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (_registry, from) = (Registry::start(&engine), Fake::start(&engine));
    let layer = tar(&[("file", b"content")]);
    let blob = |bytes, media_type| from.blob("odd", bytes, media_type, Algorithm::Sha256);
    let config = blob(TestImage::new("odd:1", [layer.clone()]).config(), CONFIG);
    let mut manifest =
        json!({ "schemaVersion": 2, "config": config, "layers": [blob(pack(&layer, Packing::Gzip), LAYER)] });
    for (tag, own) in [("silent", None), ("saying", Some(MANIFEST))] {
        if let Some(own) = own {
            manifest["mediaType"] = own.into();
        }
        let sent = from.manifest("odd", tag, &manifest, "text/plain", Algorithm::Sha256);
        let (name, copy) = (format!("{}/odd:{tag}", from.host), format!("{HOST}/odd:{tag}"));
        engine.docker(&["pull", "-q", &name]).ok();
        let shown = engine.get(&format!("/images/{name}/json")).expect("it is answered");
        assert!(shown.contains(&format!("\"mediaType\":\"{MANIFEST}\"")), "{shown}");
        engine.docker(&["tag", &name, &copy]).ok();
        engine.docker(&["push", "-q", &copy]).ok();
        assert_eq!(digest(&engine, &format!("odd:{tag}")), sent.as_str());
    }
    engine.finish();
}

#[test]
fn what_is_about_another_image_is_listed() {
    if !is_root("what_is_about_another_image_is_listed") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (registry, from) = (Registry::start(&engine), Fake::start(&engine));
    let subject = corten_base::Digest::sha256(b"an image");
    let blob = |bytes: &[u8], media_type| from.blob("sig", bytes.to_vec(), media_type, Algorithm::Sha256);
    for (number, text) in ["one", "two"].into_iter().enumerate() {
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/x-signature",
            "config": blob(b"{}", "application/vnd.oci.empty.v1+json"), "layers": [blob(text.as_bytes(), "text/plain")],
            "subject": { "mediaType": MANIFEST, "digest": subject, "size": 8 } });
        let pushed = from.manifest("sig", text, &manifest, MANIFEST, Algorithm::Sha256);
        let (name, copy) = (format!("{}/sig:{text}", from.host), format!("{HOST}/sig:{text}"));
        engine.docker(&["pull", "-q", &name]).ok();
        engine.docker(&["tag", &name, &copy]).ok();
        for _ in 0..2 {
            engine.docker(&["push", "-q", &copy]).ok();
            let index = registry.manifest(&engine, &format!("sig:sha256-{}", subject.hex()));
            let index: serde_json::Value = serde_json::from_slice(&index).expect("JSON");
            assert_eq!(index["manifests"].as_array().map(Vec::len), Some(number + 1), "{index}");
            assert_eq!(index["manifests"][number]["digest"], pushed.as_str());
            assert_eq!(index["manifests"][number]["artifactType"], "application/x-signature");
        }
    }
    engine.finish();
}

#[test]
fn the_messages_of_a_push() {
    if !is_root("the_messages_of_a_push") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--max-concurrent-uploads", "1"]);
    let _registry = Registry::start(&engine);
    engine.docker(&["load", "-i", archive(&engine).to_str().expect("UTF-8")]).ok();
    engine.docker(&["tag", "box:v1", &format!("{HOST}/box:v1")]).ok();
    let told = lines(&engine, "box", "v1");
    let status = |line: &serde_json::Value| line["status"].as_str().unwrap_or_default().to_owned();
    assert_eq!(told[0], serde_json::json!({ "status": format!("The push refers to repository [{HOST}/box]") }));
    let steps: Vec<String> = told.iter().map(status).filter(|status| status != "Pushing").collect();
    assert_eq!(steps[1..4], ["Preparing", "Preparing", "Waiting"], "{steps:?}");
    assert_eq!(steps[4..6], ["Pushed", "Pushed"], "{steps:?}");
    assert_eq!(told[1]["progressDetail"], serde_json::json!({}));
    assert_eq!(told[1]["id"].as_str().map(str::len), Some(12));
    let [.., last, aux] = &told[..] else { panic!("{told:?}") };
    assert_eq!(
        status(last),
        format!("v1: digest: {} size: {}", aux["aux"]["Digest"].as_str().unwrap_or_default(), aux["aux"]["Size"])
    );
    assert_eq!(aux["aux"]["Tag"], "v1");
    engine.finish();
}

#[test]
fn uploads_at_once_of_all_pushes() {
    if !is_root("uploads_at_once_of_all_pushes") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--max-concurrent-uploads", "2"]);
    let (from, to) = (Fake::start(&engine), Fake::start(&engine));
    let copies = ["one", "two"].map(|name| {
        let layers = (0..4).map(|number| tar(&[(&format!("{name}-{number}"), b"content")]));
        let (digest, layers) = from.push(name, "1", &TestImage::new(name, layers), Algorithm::Sha256);
        let (name, copy) = (format!("{}/{name}:1", from.host), format!("{}/{name}:1", to.host));
        engine.docker(&["pull", "-q", &name]).ok();
        engine.docker(&["tag", &name, &copy]).ok();
        (copy, digest, layers)
    });
    // Each push alone has as many threads as there may be uploads.
    to.wait_for_together(3);
    let clients = copies.each_ref().map(|(copy, ..)| spawn(&engine, CORTEN, &["push", "-q", copy]));
    for mut client in clients {
        assert!(client.wait().expect("the client ends").success());
    }
    assert_eq!(to.most_at_once(), 2);
    for (copy, digest, layers) in &copies {
        let name = copy.split('/').nth(1).expect("a path").trim_end_matches(":1");
        assert!(to.has(&format!("/v2/{name}/manifests/1"), digest));
        assert!(layers.iter().all(|layer| to.has(&blob_path(name, layer), layer)));
    }
    engine.finish();
}

#[test]
fn tags_flags_and_refusals() {
    if !is_root("tags_flags_and_refusals") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    engine.docker(&["load", "-i", archive(&engine).to_str().expect("UTF-8")]).ok();
    let repository = format!("{HOST}/many");
    for tag in ["a", "b"] {
        engine.docker(&["tag", "box:v1", &format!("{repository}:{tag}")]).ok();
    }
    for (client, tag) in [("docker", "a"), ("corten", "b")] {
        let run = |arguments: &[&str]| match client {
            "docker" => engine.docker(arguments),
            _ => engine.corten(arguments),
        };
        let name = format!("{repository}:{tag}");
        assert_eq!(run(&["push", "-q", &name]).ok(), name, "{client}");
        let all = run(&["push", "--all-tags", &repository]);
        assert!(all.ok().contains("a: digest: sha256:") && all.ok().contains("b: digest: sha256:"), "{all:?}");
        run(&["push", "-a", &name]).fails(1, "tag can't be used with --all-tags/-a");
        run(&["push", &format!("{repository}:none")]).fails(1, &format!("tag does not exist: {repository}:none"));
        let missing = format!("An image does not exist locally with the tag: {HOST}/nothing");
        run(&["push", &format!("{HOST}/nothing")]).fails(1, &missing);
        run(&["push", &format!("127.0.0.1:1/{tag}")]).fails(1, "An image does not exist locally");
        run(&["push", "--platform", "linux/s390x", &name]).fails(1, "linux/s390x");
    }
    assert_eq!(digest(&engine, "many:a"), digest(&engine, "many:b"));
    engine.docker(&["tag", "box:v1", "127.0.0.1:1/box:v1"]).ok();
    engine.docker(&["push", "127.0.0.1:1/box:v1"]).fails(1, "connection refused");
    engine.finish();
}

#[test]
fn all_tags_come_back_and_a_tag_with_its_digest() {
    if !is_root("all_tags_come_back_and_a_tag_with_its_digest") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    engine.docker(&["load", "-i", archive(&engine).to_str().expect("UTF-8")]).ok();
    let repository = format!("{HOST}/many");
    let names = ["a", "b", "c"].map(|tag| format!("{repository}:{tag}"));
    for name in &names {
        engine.docker(&["tag", "box:v1", name]).ok();
    }
    engine.docker(&["push", "-a", &repository]).ok();
    for client in ["docker", "corten"] {
        let run =
            |arguments: &[&str]| if client == "docker" { engine.docker(arguments) } else { engine.corten(arguments) };
        for name in &names {
            run(&["rmi", name]);
        }
        let pulled = run(&["pull", "--all-tags", &repository]);
        for tag in ["a", "b", "c"] {
            assert!(pulled.ok().contains(&format!("{tag}: Pulling from many")), "{pulled:?}");
        }
        assert_eq!(pulled.ok().matches("Status: ").count(), 1, "{pulled:?}");
        assert!(pulled.ok().contains(&format!("image for {repository}\n")), "{pulled:?}");
        for name in &names {
            run(&["inspect", name]).ok();
        }
        let both = format!("{repository}:a@{}", digest(&engine, "many:a"));
        assert_eq!(run(&["pull", "-q", &both]).ok(), both, "{client}");
    }
    engine.docker(&["pull", "-a", &format!("{HOST}/none")]).fails(1, "repository name not known to registry");
    engine.finish();
}

#[test]
fn a_killed_push_goes_on() {
    if !is_root("a_killed_push_goes_on") {
        return;
    }
    let mut engine = TestEngine::start_with(CORTEN, &["--max-concurrent-uploads", "1"]);
    let _registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    let layers: Vec<PathBuf> = (0..4)
        .map(|number| {
            let path = engine.path().join(format!("layer-{number}.tar"));
            // The lowest goes last, and takes its time.
            let size = if number == 0 { 32 << 20 } else { 1 << 20 };
            image::tar_of_random_file(&path, size).expect("writing a layer");
            path
        })
        .collect();
    image::docker_archive(&archive, "box:v1", &layers).expect("writing an archive");
    engine.docker(&["load", "-i", archive.to_str().expect("UTF-8")]).ok();
    for kept in 1..4 {
        let name = format!("{HOST}/killed-{kept}:v1");
        engine.docker(&["tag", "box:v1", &name]).ok();
        let mut client = spawn(&engine, CORTEN, &["push", &name]);
        let told = BufReader::new(client.stdout.take().expect("its output")).lines().map_while(Result::ok);
        assert_eq!(told.filter(|line| line.ends_with(": Pushed")).take(kept).count(), kept);
        engine.kill_daemon();
        client.wait().expect("the client ends");
        engine.start_daemon();
        sound(&engine);
        // A name in the registry is a whole image, so there is none yet.
        engine.docker(&["pull", &name]).fails(1, "manifest unknown");
        let again = engine.corten(&["push", &name]);
        let there = again.ok().lines().filter(|line| line.ends_with(": Layer already exists")).count();
        assert!(there >= kept, "{kept} layers were there: {again:?}");
        let pushed = digest(&engine, &format!("killed-{kept}:v1"));
        assert!(again.stdout.contains(&format!("v1: digest: {pushed}")), "{again:?}");
        // The next round begins with nothing that could be mounted.
        engine.docker(&["rmi", &name]).ok();
        let registry = engine.path().join("registry/docker/registry/v2");
        std::fs::remove_dir_all(registry.join("repositories")).expect("emptying the registry");
        std::fs::remove_dir_all(registry.join("blobs")).expect("emptying the registry");
    }
    sound(&engine);
    engine.finish();
}

#[test]
fn layers_that_are_packed_otherwise_go_as_gzip() {
    if !is_root("layers_that_are_packed_otherwise_go_as_gzip") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    let packed = engine.path().join("box.tar.zst");
    let plain = std::fs::read(debian::busybox_tar()).expect("busybox is there");
    std::fs::write(&packed, pack(&plain, Packing::Zstd)).expect("writing an archive");
    let name = format!("{HOST}/team/zstd:v1");
    engine.docker(&["import", packed.to_str().expect("UTF-8"), &name]).ok();
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok().to_owned();
    assert!(engine.docker(&["push", &name]).ok().contains(": Pushed"));
    let mut skopeo = engine.inside("skopeo");
    skopeo.args(["inspect", "--tls-verify=false", "--raw"]).arg(format!("docker://{name}"));
    let manifest: serde_json::Value = serde_json::from_str(Answer::of(&mut skopeo, b"").ok()).expect("JSON");
    let layer = &manifest["layers"][0];
    assert_eq!(layer["mediaType"], "application/vnd.docker.image.rootfs.diff.tar.gzip");
    let digest = layer["digest"].as_str().expect("a digest");
    let mut blob = engine.inside("curl");
    blob.args(["-sf", &format!("http://{HOST}/v2/team/zstd/blobs/{digest}")]);
    let bytes = blob.output().expect("curl(1) starts").stdout;
    assert_eq!(bytes.get(..3), Some(&[0x1f, 0x8b, 8][..]), "gzip");
    engine.docker(&["rmi", "-f", &id]).ok();
    engine.docker(&["pull", "-q", &name]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), id);
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "back"]).ok(), "back");
    engine.finish();
}
