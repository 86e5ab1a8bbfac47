//! Pulls from a registry that the test runs: limits, patience, tokens, digests of sha512, and what a hostile one sends.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use common::{CORTEN, sound, spawn, wait_until};
use corten_base::{Algorithm, Digest};
use corten_metadata::rusqlite;
use corten_testkit::fake::{CONFIG, Fake, Fault, LAYER, MANIFEST, blob_path};
use corten_testkit::image::{Packing, TestImage, noise, pack, tar};
use corten_testkit::{TestEngine, debian, engine::docker_client, hostile, is_root};
use serde_json::{Value, json};

const SHA256: Algorithm = Algorithm::Sha256;

/// How many bytes are here of each blob that isn't whole.
fn ingests(engine: &TestEngine) -> Vec<u64> {
    let entries = fs::read_dir(engine.path().join("data/content/ingest")).expect("the folder is there");
    entries.map(|entry| entry.expect("an entry").metadata().map_or(0, |it| it.len())).collect()
}

fn image(name: &str, layers: u64, bytes: usize) -> TestImage {
    let seed = name.bytes().map(u64::from).sum::<u64>() * 1000;
    let layer = |number: u64| tar(&[(&format!("file-{number}"), &noise(seed + number, bytes))]);
    TestImage::new(name, (0..layers).map(layer))
}

#[test]
fn digests_of_sha512() {
    if !is_root("digests_of_sha512") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let busybox = fs::read(debian::busybox_tar()).expect("busybox is there");
    let image = TestImage::new("box:1", [busybox, tar(&[("etc/", b""), ("etc/motd", b"long\n")])]);
    let (digest, layers) = registry.push("box", "1", &image, Algorithm::Sha512);
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
        let name = format!("{}/box@{digest}", registry.host);
        assert_eq!(run(&["pull", "-q", &name]).ok(), name);
        assert_eq!(run(&["inspect", "-f", "{{index .RepoDigests 0}}", &name]).ok(), name);
        let blobs = engine.path().join("data/content/blobs/sha512");
        assert!(layers.iter().chain([&digest]).all(|digest| blobs.join(digest.hex()).is_file()));
        let id = Digest::of(Algorithm::Sha512, &image.config());
        assert_eq!(run(&["inspect", "-f", "{{.Id}}", &name]).ok(), id.as_str());
        assert!(run(&["images", "--no-trunc", "--digests"]).ok().contains(digest.as_str()));
        assert_eq!(run(&["run", "--rm", "--network", "none", &name, "cat", "/etc/motd"]).ok(), "long");
        assert_eq!(run(&["run", "--rm", "--network", "none", id.as_str(), "cat", "/etc/motd"]).ok(), "long");
        run(&["tag", &name, "local:1"]).ok();
        sound(&engine);
        let archive = engine.path().join("saved.tar").display().to_string();
        run(&["save", "-o", &archive, "local:1"]).ok();
        run(&["rmi", "-f", &name, "local:1"]).ok();
        assert_eq!(fs::read_dir(&blobs).expect("the folder stays").count(), 0);
        run(&["load", "-qi", &archive]).ok();
        assert_eq!(run(&["inspect", "-f", "{{.Id}}", "local:1"]).ok(), id.as_str());
        assert!(layers.iter().chain([&digest]).all(|digest| blobs.join(digest.hex()).is_file()));
        assert_eq!(run(&["run", "--rm", "--network", "none", "local:1", "cat", "/etc/motd"]).ok(), "long");
        sound(&engine);
        run(&["rmi", "local:1"]).ok();
    }
    // Other bytes than its digest says.
    registry.change(&blob_path("box", &layers[1]));
    let name = format!("{}/box@{digest}", registry.host);
    engine.docker(&["pull", &name]).fails(1, &format!("{name}: layer {}: ", layers[1].short()));
    sound(&engine);
    registry.change(&blob_path("box", &layers[1]));
    engine.docker(&["pull", "-q", &name]).ok();
    engine.finish();
}

#[test]
fn old_manifests_are_refused() {
    if !is_root("old_manifests_are_refused") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let schema1 = json!({ "schemaVersion": 1, "name": "old", "tag": "1", "architecture": "amd64",
        "fsLayers": [{ "blobSum": Digest::sha256(b"") }], "history": [{ "v1Compatibility": "{}" }], "signatures": [] });
    for kind in ["v1+prettyjws", "v1+json"] {
        let media_type = format!("application/vnd.docker.distribution.manifest.{kind}");
        registry.manifest("old", "1", &schema1, &media_type, SHA256);
        let name = format!("{}/old:1", registry.host);
        for client in [docker_client(), CORTEN.into()] {
            let pulled = engine.client(client, &["pull", &name], b"");
            pulled.fails(1, "Docker image manifest version 2, schema 1 is not supported; push the image again");
            assert!(pulled.stderr.contains(&name), "{pulled:?}");
        }
    }
    assert_eq!(engine.docker(&["images", "-q"]).ok().lines().count(), 1, "corten/hello");
    engine.finish();
}

#[test]
fn downloads_at_once_and_attempts() {
    if !is_root("downloads_at_once_and_attempts") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--max-concurrent-downloads", "2", "--max-download-attempts", "2"]);
    let registry = Fake::start(&engine);
    registry.wait_for_together(3);
    let names = ["one", "two"].map(|name| {
        registry.push(name, "1", &image(name, 4, 1000), SHA256);
        format!("{}/{name}:1", registry.host)
    });
    // Both pulls together have no more than two downloads.
    let clients = names.clone().map(|name| spawn(&engine, CORTEN, &["pull", "-q", &name]));
    for mut client in clients {
        assert!(client.wait().expect("the client ends").success());
    }
    assert_eq!(registry.most_at_once(), 2);
    registry.wait_for_together(0);
    // A blob is tried so often and no more.
    let (_, layers) = registry.push("bad", "1", &image("bad", 1, 1000), SHA256);
    let path = blob_path("bad", &layers[0]);
    registry.fault(&path, &[Fault::Status(100, "503 Service Unavailable", String::new())]);
    let name = format!("{}/bad:1", registry.host);
    let pulled = engine.docker(&["pull", &name]);
    pulled.fails(1, "503 Service Unavailable");
    assert!(pulled.stderr.contains(&format!("{name}: layer {}", layers[0].short())), "{pulled:?}");
    assert_eq!(registry.requests(&path).len(), 2);
    sound(&engine);
    engine.finish();
}

#[test]
fn patience_and_tokens() {
    if !is_root("patience_and_tokens") {
        return;
    }
    // One after the other: what a token is good for doesn't depend on who comes first.
    let engine = TestEngine::start_with(CORTEN, &["--max-concurrent-downloads", "1"]);
    let registry = Fake::start(&engine);
    let (_, layers) = registry.push("busy", "1", &image("busy", 3, 1000), SHA256);
    let path = blob_path("busy", &layers[1]);
    let later = Fault::Status(1, "429 Too Many Requests", "Retry-After: 2\r\n".to_owned());
    registry.fault(&path, &[later, Fault::Status(1, "502 Bad Gateway", String::new())]);
    let name = format!("{}/busy:1", registry.host);
    engine.docker(&["pull", "-q", &name]).ok();
    let asked = registry.requests(&path);
    assert_eq!(asked.len(), 3);
    assert!(asked[1].2 - asked[0].2 >= Duration::from_secs(2), "as long as it was asked to");
    // Who asks for a day's patience gets none.
    registry.push("closed", "1", &image("closed", 1, 10), SHA256);
    let path = "/v2/closed/manifests/1";
    registry.fault(path, &[Fault::Status(9, "429 Too Many Requests", "Retry-After: 86400\r\n".to_owned())]);
    engine.docker(&["pull", &format!("{}/closed:1", registry.host)]).fails(1, "toomanyrequests");
    assert!(registry.requests(path).len() <= 2, "{:?}", registry.requests(path));
    // Tokens that end in the middle are replaced.
    registry.want_tokens(3);
    registry.push("tokens", "1", &image("tokens", 8, 1000), SHA256);
    engine.docker(&["pull", "-q", &format!("{}/tokens:1", registry.host)]).ok();
    assert!(registry.tokens() >= 3, "{}", registry.tokens());
    // Those that are worth nothing are not fetched for ever.
    registry.want_tokens(0);
    let before = registry.tokens();
    registry.push("never", "1", &image("never", 1, 1000), SHA256);
    engine.corten(&["pull", &format!("{}/never:1", registry.host)]).fails(1, "unauthorized");
    assert!(registry.tokens() - before <= 4, "{}", registry.tokens() - before);
    sound(&engine);
    engine.finish();
}

#[test]
fn a_cancelled_pull_leaves_what_can_go_on() {
    if !is_root("a_cancelled_pull_leaves_what_can_go_on") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let (_, layers) = registry.push("box", "1", &image("box", 2, 3 << 20), SHA256);
    let paths = [0, 1].map(|layer| blob_path("box", &layers[layer]));
    paths.iter().for_each(|path| registry.fault(path, &[Fault::Trickle(2 << 20)]));
    let folders = || fs::read_dir(engine.path().join("data/snapshots")).expect("layers").count();
    let before = folders();
    let name = format!("{}/box:1", registry.host);
    let mut client = spawn(&engine, CORTEN, &["pull", &name]);
    wait_until("both downloads are half done", || {
        ingests(&engine).iter().filter(|&&bytes| bytes >= 2 << 20).count() == 2
    });
    client.kill().expect("killing the client");
    client.wait().expect("the client ends");
    wait_until("what was extracted is gone", || folders() == before);
    // The parts stay, and nothing else but the documents.
    assert_eq!(ingests(&engine).len(), 2);
    assert_eq!(engine.docker(&["images", "-q", &name]).ok(), "");
    sound(&engine);
    engine.docker(&["pull", "-q", &name]).ok();
    for path in &paths {
        let asked = registry.requests(path);
        assert!(asked.len() == 2 && asked[1].1.starts_with("bytes=") && asked[1].1 != "bytes=0-", "{asked:?}");
    }
    assert_eq!(ingests(&engine), [0; 0]);
    sound(&engine);
    engine.finish();
}

#[test]
fn a_pull_from_who_has_fallen_silent_ends_with_its_client() {
    if !is_root("a_pull_from_who_has_fallen_silent_ends_with_its_client") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let image = image("box", 2, 1 << 20);
    let (digest, layers) = registry.push("box", "1", &image, SHA256);
    let name = format!("{}/box:1", registry.host);
    let config = Digest::sha256(&image.config());
    let folders = || fs::read_dir(engine.path().join("data/snapshots")).expect("layers").count();
    let before = folders();
    let (manifest, config) = (vec!["/v2/box/manifests/1".to_owned()], vec![blob_path("box", &config)]);
    // Both: what is whole is kept, and would not be asked for again.
    let layers: Vec<String> = layers.iter().map(|layer| blob_path("box", layer)).collect();
    let cases = [(&manifest, None), (&manifest, Some(10)), (&config, None), (&layers, None), (&layers, Some(300_000))];
    let mut left = 0;
    for (number, (paths, bytes)) in cases.into_iter().enumerate() {
        paths.iter().for_each(|path| registry.fault(path, &[Fault::Silent(bytes)]));
        let asked = || paths.iter().map(|path| registry.requests(path).len()).sum::<usize>();
        let before_it = asked();
        let program = if number % 2 == 0 { docker_client() } else { CORTEN.into() };
        let mut client = spawn(&engine, program, &["pull", &name]);
        wait_until("it waits", || asked() == before_it + paths.len());
        // As Ctrl-C does.
        let interrupted = Command::new("kill").args(["-INT", &client.id().to_string()]).status();
        assert!(interrupted.expect("kill(1) starts").success());
        assert!(!client.wait().expect("the client ends").success());
        left += paths.len();
        wait_until(&format!("the registry is left: {paths:?}"), || registry.left_alone() == left);
        wait_until("what was extracted is gone", || folders() == before);
        assert_eq!(engine.docker(&["images", "-q", &name]).ok(), "");
        sound(&engine);
    }
    // What has come is not asked for again, and nothing is in the way.
    assert!(engine.docker(&["pull", &name]).ok().contains(&format!("Digest: {digest}")));
    let last = layers.iter().map(|path| registry.requests(path).pop().expect("it was asked for").1);
    assert!(
        last.clone().any(|range| range.starts_with("bytes=") && range != "bytes=0-"),
        "{:?}",
        last.collect::<Vec<_>>()
    );
    engine.docker(&["rmi", &name]).ok();
    assert_eq!(ingests(&engine), [0; 0]);
    sound(&engine);
    engine.finish();
}

#[test]
fn a_killed_daemon_goes_on_where_it_was() {
    if !is_root("a_killed_daemon_goes_on_where_it_was") {
        return;
    }
    let mut engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let busybox = fs::read(debian::busybox_tar()).expect("busybox is there");
    let image = TestImage::new("box:1", [busybox, tar(&[("etc/", b""), ("etc/motd", b"small\n")])]);
    let (digest, layers) = registry.push("box", "1", &image, SHA256);
    let [large, small] = [0, 1].map(|layer| blob_path("box", &layers[layer]));
    let blobs = engine.path().join("data/content/blobs/sha256");
    let name = format!("{}/box:1", registry.host);
    let parts = [200_000_usize, 150_000];
    let mut there = 0;
    for part in parts {
        // The registry sends so much of what is missing, and no more.
        registry.fault(&large, &[Fault::Silent(Some(part))]);
        there += part as u64;
        let mut client = spawn(&engine, CORTEN, &["pull", &name]);
        wait_until("a part is here", || ingests(&engine) == [there]);
        wait_until("the other layer is here", || blobs.join(layers[1].hex()).exists());
        engine.kill_daemon();
        assert!(!client.wait().expect("the client ends").success());
        engine.start_daemon();
        assert_eq!(ingests(&engine), [there]);
        assert_eq!(engine.docker(&["images", "-q", &name]).ok(), "");
        sound(&engine);
    }
    assert!(engine.docker(&["pull", &name]).ok().contains(&format!("Digest: {digest}")));
    let asked: Vec<String> = registry.requests(&large).into_iter().map(|(_, range, _)| range).collect();
    assert_eq!(asked[1..], [format!("bytes={}-", parts[0]), format!("bytes={there}-")]);
    assert!(!asked[0].starts_with("bytes=") || asked[0] == "bytes=0-", "{asked:?}");
    assert_eq!(registry.requests(&small).len(), 1, "what was whole isn't asked for again");
    assert_eq!(ingests(&engine), [0; 0]);
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", &name]).ok(), Digest::sha256(&image.config()).as_str());
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "cat", "/etc/motd"]).ok(), "small");
    sound(&engine);
    engine.finish();
}

#[test]
fn nobody_waits_for_a_silent_registry_s_answer_in_vain() {
    if !is_root("nobody_waits_for_a_silent_registry_s_answer_in_vain") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let image = image("box", 1, 10);
    let (digest, _) = registry.push("box", "1", &image, SHA256);
    let target = format!("/distribution/{}/box:1/json", registry.host);
    let config = blob_path("box", &Digest::sha256(&image.config()));
    // Before its manifest, in the middle of it, and before the configuration.
    let cases = [("/v2/box/manifests/1", None), ("/v2/box/manifests/1", Some(10)), (&config, None)];
    for (number, (path, bytes)) in cases.into_iter().enumerate() {
        registry.fault(path, &[Fault::Silent(bytes)]);
        let before = registry.requests(path).len();
        let mut stream = UnixStream::connect(engine.socket()).expect("the daemon listens");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: d\r\n\r\n").expect("sending a request");
        wait_until("it waits", || registry.requests(path).len() > before);
        drop(stream);
        wait_until(&format!("the registry is left: {path}"), || registry.left_alone() == number + 1);
    }
    let shown = engine.get(&target).expect("it is answered");
    assert!(shown.contains(digest.as_str()), "{shown}");
    engine.finish();
}

#[test]
fn what_nobody_comes_back_for_goes() {
    if !is_root("what_nobody_comes_back_for_goes") {
        return;
    }
    let mut engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    let (_, layers) = registry.push("box", "1", &image("box", 1, 3 << 20), SHA256);
    let path = blob_path("box", &layers[0]);
    let data = engine.path().join("data");
    let name = format!("{}/box:1", registry.host);
    let interrupt = |engine: &TestEngine| {
        registry.fault(&path, &[Fault::Trickle(2 << 20)]);
        let mut client = spawn(engine, CORTEN, &["pull", &name]);
        wait_until("the download is half done", || ingests(engine).iter().any(|&bytes| bytes >= 2 << 20));
        client.kill().expect("killing the client");
        client.wait().expect("the client ends");
    };
    let size = || engine.corten(&["system", "df", "--format", "{{.Size}} {{.Reclaimable}}"]).ok().to_owned();
    let before = size();
    interrupt(&engine);
    let told = || engine.corten(&["system", "check"]).stdout;
    wait_until("the pull has ended", || told().contains("Interrupted pulls keep 1 parts of blobs ("));
    assert_ne!(size(), before);
    let pruned = engine.corten(&["image", "prune", "-f"]);
    assert!(pruned.ok().contains("Total reclaimed space: 2."), "{pruned:?}");
    assert_eq!(size(), before);
    assert_eq!(ingests(&engine), [0; 0]);
    interrupt(&engine);
    // A day later.
    engine.kill_daemon();
    let database = rusqlite::Connection::open(data.join("metadata.db")).expect("the records");
    let aged = database.execute("UPDATE content_lease SET expires = unixepoch() + 3", []);
    assert_eq!(aged.expect("there are leases"), 1);
    drop(database);
    engine.start_daemon();
    assert_eq!(ingests(&engine).len(), 1, "its time isn't over");
    wait_until("its time is over", || ingests(&engine).is_empty());
    sound(&engine);
    engine.finish();
}

#[test]
fn what_a_mirror_has_sent_wrong_comes_from_the_next() {
    if !is_root("what_a_mirror_has_sent_wrong_comes_from_the_next") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let arguments = ["--registries-dir", directory.path().to_str().expect("UTF-8")];
    let mut engine = TestEngine::start_with(CORTEN, &arguments);
    let (mirror, registry) = (Fake::start(&engine), Fake::start(&engine));
    let folder = directory.path().join(&registry.host);
    fs::create_dir(&folder).expect("making a folder");
    fs::write(folder.join("hosts.toml"), format!("[host.\"http://{}\"]\n", mirror.host)).expect("writing a file");
    let image = image("box", 3, 100_000);
    let config = Digest::sha256(&image.config());
    let (_, layers) = registry.push("box", "1", &image, SHA256);
    mirror.push("box", "1", &image, SHA256);
    // With an `ns` in its query, as mirrors are asked.
    let path = |digest| format!("{}?ns={}", blob_path("box", digest), registry.host);
    [&config, &layers[0], &layers[1], &layers[2]]
        .into_iter()
        .for_each(|digest| mirror.alias(&blob_path("box", digest), &path(digest)));
    mirror.alias("/v2/box/manifests/1", &format!("/v2/box/manifests/1?ns={}", registry.host));
    let name = format!("{}/box:1", registry.host);
    engine.docker(&["pull", "-q", &name]).ok();
    assert!(registry.requests(&blob_path("box", &layers[1])).is_empty());
    engine.docker(&["rmi", &name]).ok();
    for wrong in [&layers[1], &config] {
        mirror.change(&path(wrong));
        engine.kill_daemon();
        engine.start_daemon();
        engine.docker(&["pull", "-q", &name]).ok();
        assert_eq!(registry.requests(&blob_path("box", wrong)).len(), 1, "{wrong}");
        sound(&engine);
        engine.docker(&["rmi", &name]).ok();
    }
    engine.finish();
}

#[test]
fn containers_do_not_wait_for_transfers() {
    if !is_root("containers_do_not_wait_for_transfers") {
        return;
    }
    let engine = common::engine();
    let registry = Fake::start(&engine);
    registry.push("box", "1", &image("box", 1, 1000), SHA256);
    // Loads that bring nothing, more than there may be at once.
    let stalled: Vec<UnixStream> = (0..80)
        .map(|_| {
            let mut stream = UnixStream::connect(engine.socket()).expect("the daemon listens");
            let head = "POST /images/load HTTP/1.1\r\nHost: d\r\nContent-Length: 1024\r\n\r\n";
            stream.write_all(head.as_bytes()).expect("sending a request");
            stream
        })
        .collect();
    let mut run = spawn(&engine, CORTEN, &["run", "--rm", "--network", "none", "busybox", "true"]);
    wait_until("a container has run", || run.try_wait().expect("waiting for it").is_some());
    assert!(run.wait().expect("its end").success());
    // Who comes later is told, and has its turn.
    let mut pull = spawn(&engine, CORTEN, &["pull", &format!("{}/box:1", registry.host)]);
    let mut told = BufReader::new(pull.stdout.take().expect("its output")).lines().map_while(Result::ok);
    assert_eq!(told.next().as_deref(), Some("Waiting for other transfers"));
    drop(stalled);
    assert!(told.any(|line| line.starts_with("Status: Downloaded newer image")));
    assert!(pull.wait().expect("its end").success());
    sound(&engine);
    engine.finish();
}

#[test]
fn memory_is_bounded_whatever_is_sent() {
    if !is_root("memory_is_bounded_whatever_is_sent") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Fake::start(&engine);
    registry.push("large", "1", &image("large", 4, 24 << 20), SHA256);
    engine.docker(&["pull", "-q", &format!("{}/large:1", registry.host)]).ok();
    // Documents as large as may be, and larger; layers of zeros; ten thousand layers; many entries.
    let config = registry.blob("bad", image("bad", 1, 10).config(), CONFIG, SHA256);
    let layer = registry.blob("bad", pack(&tar(&[("zeros", &vec![0; 64 << 20])]), Packing::Gzip), LAYER, SHA256);
    let manifest = |config: &Value, layers: Vec<Value>, padding: usize| {
        json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
            "annotations": { "padding": "x".repeat(padding) } })
    };
    let huge = registry.blob("bad", vec![b' '; 9 << 20], CONFIG, SHA256);
    let cases = [
        (manifest(&config, vec![layer.clone()], 3 << 20), "digest mismatch"),
        (manifest(&config, vec![layer.clone()], 9 << 20), "larger than 4194304 bytes"),
        (manifest(&huge, vec![layer.clone()], 0), "at most 8388608 are allowed"),
        (manifest(&config, vec![layer; 10_000], 0), "10000 layers, at most 500 are allowed"),
        (json!({ "schemaVersion": 2, "manifests": vec![config; 20_000] }), "at most 1000 are allowed"),
    ];
    for (document, expect) in &cases {
        registry.manifest("bad", "1", document, MANIFEST, SHA256);
        let pulled = engine.docker(&["pull", &format!("{}/bad:1", registry.host)]);
        assert!(pulled.code == 1 && pulled.stderr.contains(expect), "{expect}: {}", pulled.stderr);
    }
    let name = format!("{}/bad:1", registry.host);
    for (what, layer) in hostile::layers(&engine.path().join("log")) {
        let (_, layers) = registry.push("bad", "1", &TestImage::new("bad:1", [layer]), SHA256);
        let pulled = engine.docker(&["pull", &name]);
        let expect = format!("{name}: layer {}: failed to register layer ", layers[0].short());
        assert!(pulled.code == 1 && pulled.stderr.contains(&expect), "{what}: {}", pulled.stderr);
    }
    // The same image from a file.
    let archive = engine.path().join("large.tar").display().to_string();
    engine.docker(&["save", "-o", &archive, &format!("{}/large:1", registry.host)]).ok();
    engine.docker(&["rmi", &format!("{}/large:1", registry.host)]).ok();
    engine.docker(&["load", "-qi", &archive]).ok();
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid())).expect("the daemon lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak of its memory");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 80 << 10, "the daemon has had {peak} kB in memory");
    sound(&engine);
    engine.finish();
}
