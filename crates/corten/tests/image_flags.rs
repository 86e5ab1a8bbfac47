//! The flags of `images`, `import`, `load` and `rmi`, archives in every packing, and what an image says that nobody should believe.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{CORTEN, engine, sound};
use corten_archive::{Entry, Kind, Writer};
use corten_base::Digest;
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, oci_attested_archive_bytes, pack, tar};
use corten_testkit::{TestEngine, debian, engine::docker_client, is_root};
use serde_json::{Value, json};

fn json_of(engine: &TestEngine, target: &str) -> Value {
    let answer = engine.get(target).unwrap_or_else(|| panic!("{target} is not answered"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{target}: {error}: {answer}"))
}

/// Writes an archive and loads it.
fn load(engine: &TestEngine, archive: &[u8]) {
    let path = engine.path().join("load.tar");
    fs::write(&path, archive).expect("the archive is written");
    engine.corten(&["load", "-qi", &path.display().to_string()]).ok();
}

/// A docker-archive of one image with these files, and what its line in the manifest says besides.
fn archive(image: &TestImage, config: &[u8], layers: &[Vec<u8>], besides: Value) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut item = json!({ "Config": "config.json", "RepoTags": image.tags, "Layers": [] });
    for (number, layer) in layers.iter().enumerate() {
        let path = format!("{number}/layer.tar");
        writer.append_bytes(&Entry::new(Kind::File, path.as_str(), 0o644), layer).expect("memory takes everything");
        item["Layers"].as_array_mut().expect("a list").push(path.into());
    }
    item.as_object_mut().expect("an object").extend(besides.as_object().cloned().unwrap_or_default());
    for (path, bytes) in [("config.json", config), ("manifest.json", json!([item]).to_string().as_bytes())] {
        writer.append_bytes(&Entry::new(Kind::File, path, 0o644), bytes).expect("memory takes everything");
    }
    writer.finish().expect("memory takes everything")
}

/// What a program makes of a file; none if there is no such program.
fn packed_by(program: &str, path: &Path) -> Option<Vec<u8>> {
    let Ok(output) = Command::new(program).arg("-kc").arg(path).output() else {
        eprintln!("skipped {program}: there is no such program");
        return None;
    };
    assert!(output.status.success(), "{program}: {output:?}");
    Some(output.stdout)
}

/// A layer packed in every way that is read.
fn packings(engine: &TestEngine, plain: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let path = engine.path().join("plain.tar");
    fs::write(&path, plain).expect("writing a layer");
    let mut found = vec![("plain", plain.to_vec())];
    found
        .extend([("gzip", Packing::Gzip), ("zstd", Packing::Zstd)].map(|(name, packing)| (name, pack(plain, packing))));
    found.extend(["bzip2", "xz"].into_iter().filter_map(|name| Some((name, packed_by(name, &path)?))));
    found
}

#[test]
fn imports_and_layers_in_every_packing() {
    if !is_root("imports_and_layers_in_every_packing") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let busybox = fs::read(debian::busybox_tar()).expect("busybox is there");
    let one = TestImage::new("one:1", [busybox.clone()]);
    let mut diff_ids = Vec::new();
    for (name, bytes) in packings(&engine, &busybox) {
        let path = engine.path().join(name).display().to_string();
        fs::write(&path, &bytes).expect("writing an archive");
        for client in [docker_client(), CORTEN.into()] {
            let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
            let imported = format!("imported:{name}");
            run(&["import", "-m", "by hand", "--platform", "linux/arm/v7", "-c", "LABEL a=b", &path, &imported]).ok();
            let shown = json_of(&engine, &format!("/images/{imported}/json"));
            let platform = ["Os", "Architecture", "Variant"].map(|key| shown[key].as_str().unwrap_or_default());
            assert_eq!(platform, ["linux", "arm", "v7"], "{name}");
            assert_eq!((&shown["Comment"], &shown["Config"]["Labels"]["a"]), (&"by hand".into(), &"b".into()));
            assert_eq!(run(&["history", "--format", "{{.Comment}}", &imported]).ok(), "by hand");
            diff_ids.push(shown["RootFS"]["Layers"].clone());
            run(&["rmi", &imported]).ok();
        }
        // The same as a layer of an archive, which is handed on as it came.
        load(&engine, &archive(&one, &one.config(), std::slice::from_ref(&bytes), Value::Null));
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", "one:1"]).ok(), one.id().as_str());
        assert_eq!(engine.docker(&["run", "--rm", "--network", "none", "one:1", "echo", name]).ok(), name);
        let saved = engine.path().join("saved.tar").display().to_string();
        engine.docker(&["save", "-o", &saved, "one:1"]).ok();
        let blob = format!("blobs/sha256/{}", Digest::sha256(&bytes).hex());
        let found = Command::new("tar").args(["-xOf", &saved, &blob]).output().expect("tar runs");
        assert!(found.status.success() && found.stdout == bytes, "{name}");
        engine.docker(&["rmi", "one:1"]).ok();
        engine.docker(&["load", "-qi", &saved]).ok();
        assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", "one:1"]).ok(), one.id().as_str());
        engine.docker(&["rmi", "one:1"]).ok();
    }
    assert!(diff_ids.iter().all(|found| *found == diff_ids[0]), "{diff_ids:?}");
    sound(&engine);
    engine.finish();
}

#[test]
fn filters_of_lists() {
    if !is_root("filters_of_lists") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let image = |name: &str, created: &str, labels: Value| TestImage {
        created: created.to_owned(),
        run: json!({ "Cmd": ["sh"], "Labels": labels }),
        ..TestImage::new(name, [tar(&[("name", name.as_bytes())])])
    };
    let images = [
        image("old:1", "2020-01-01T00:00:00Z", json!({ "kind": "base" })),
        image("middle:1", "2021-01-01T00:00:00Z", json!({ "kind": "app", "team": "a" })),
        image("new:1", "2022-01-01T00:00:00Z", json!({})),
    ];
    load(&engine, &docker_archive_bytes(&images, Packing::Gzip));
    engine.corten(&["rmi", "corten/hello"]).ok();
    let check = |filters: &[&str], expect: &[&str]| {
        let mut arguments = vec!["images", "--format", "{{.Repository}}"];
        filters.iter().for_each(|filter| arguments.extend(["--filter", filter]));
        for client in [docker_client(), CORTEN.into()] {
            let listed = engine.client(client, &arguments, b"");
            assert_eq!(listed.ok().lines().collect::<Vec<_>>(), expect, "{filters:?}");
        }
    };
    check(&[], &["new", "middle", "old"]);
    check(&["label=kind"], &["middle", "old"]);
    check(&["label=kind=app"], &["middle"]);
    check(&["label=kind", "label=team"], &["middle"]);
    check(&["label=nothing"], &[]);
    check(&["before=middle:1"], &["old"]);
    check(&["since=middle:1"], &["new"]);
    check(&["before=new:1", "since=old:1"], &["middle"]);
    check(&["until=2021-06-01"], &["middle", "old"]);
    check(&["until=2021-06-01", "label=team=a"], &["middle"]);
    check(&["reference=*d*:1"], &["middle", "old"]);
    check(&["reference=old", "reference=new"], &["new", "old"]);
    for (filter, expect) in
        [("before=nosuch", "No such image: nosuch:latest"), ("until=x", ""), ("foo=x", "invalid filter 'foo'")]
    {
        engine.corten(&["images", "--filter", filter]).fails(1, expect);
    }
    for arguments in
        [&["images", "--digests"][..], &["images", "-a", "--no-trunc"], &["images", "-q"], &["images", "old"]]
    {
        assert_eq!(engine.corten(arguments).stdout, engine.docker(arguments).stdout, "{arguments:?}");
    }
    for flag in ["quiet", "no-trunc", "digests", "format=x"] {
        let refused = format!("--{} is not yet supported with --tree", flag.trim_end_matches("=x"));
        engine.corten(&["images", "--tree", &format!("--{flag}")]).fails(1, &refused);
    }
    let tree = engine.corten(&["images", "--tree", "--filter", "label=team"]);
    assert!(tree.ok().contains("middle:1") && !tree.ok().contains("old:1"), "{tree:?}");
    engine.finish();
}

#[test]
fn parents_stay_with_no_prune() {
    if !is_root("parents_stay_with_no_prune") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let (lower, upper) = (tar(&[("lower", b"1")]), tar(&[("upper", b"2")]));
    let parent = TestImage { tags: Vec::new(), ..TestImage::new("x:1", [lower.clone()]) };
    let child = TestImage::new("child:1", [lower.clone(), upper.clone()]);
    let both = || {
        let mut writer = Writer::new(Vec::new());
        let items = json!([
            { "Config": "parent.json", "RepoTags": null, "Layers": ["lower.tar"] },
            { "Config": "child.json", "RepoTags": child.tags, "Layers": ["lower.tar", "upper.tar"], "Parent": parent.id() },
        ]);
        let files = [
            ("lower.tar", lower.clone()),
            ("upper.tar", upper.clone()),
            ("parent.json", parent.config()),
            ("child.json", child.config()),
            ("manifest.json", items.to_string().into_bytes()),
        ];
        for (name, bytes) in files {
            writer.append_bytes(&Entry::new(Kind::File, name, 0o644), &bytes).expect("memory takes everything");
        }
        writer.finish().expect("memory takes everything")
    };
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
        load(&engine, &both());
        assert_eq!(run(&["inspect", "-f", "{{.Parent}}", "child:1"]).ok(), parent.id().as_str());
        run(&["rmi", parent.id().as_str()]).fails(1, "image has dependent child images");
        let kept = run(&["rmi", "--no-prune", "child:1"]);
        assert!(kept.ok().contains(&format!("Deleted: {}", child.id())) && !kept.ok().contains(parent.id().as_str()));
        assert_eq!(run(&["images", "-aq", "--no-trunc", "--filter", "dangling=true"]).ok(), parent.id().as_str());
        load(&engine, &both());
        let both = run(&["rmi", "child:1"]);
        assert!(both.ok().contains(&format!("Deleted: {}", parent.id())), "{both:?}");
        assert_eq!(run(&["images", "-aq", "--filter", "dangling=true"]).ok(), "");
    }
    engine.finish();
}

#[test]
fn one_of_several_is_inspected() {
    if !is_root("one_of_several_is_inspected") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let image = |architecture: &str| TestImage {
        architecture: architecture.to_owned(),
        ..TestImage::new("multi:1", [tar(&[("platform", architecture.as_bytes())])])
    };
    let images = ["amd64", "arm64", "s390x"].map(image);
    load(&engine, &oci_attested_archive_bytes(&images, Packing::Gzip));
    for image in &images {
        let platform = format!("%7B%22os%22:%22linux%22,%22architecture%22:%22{}%22%7D", image.architecture);
        let shown = json_of(&engine, &format!("/v1.49/images/multi:1/json?platform={platform}"));
        assert_eq!(shown["Id"], image.id().as_str(), "{shown}");
        assert_eq!(shown["Architecture"], image.architecture.as_str());
        assert_eq!(shown["RepoTags"], json!(["multi:1"]));
        let said = json_of(&engine, &format!("/images/multi:1/attestations?statement=1&platform={platform}"));
        assert_eq!(said[0]["Statement"]["predicate"]["architecture"], image.architecture.as_str());
        let history = json_of(&engine, &format!("/v1.49/images/multi:1/history?platform={platform}"));
        assert_eq!(history[0]["Id"], image.id().as_str(), "{history}");
    }
    let absent =
        engine.get("/v1.49/images/multi:1/json?platform=%7B%22os%22:%22linux%22,%22architecture%22:%22mips%22%7D");
    let absent = absent.expect("an answer");
    assert!(absent.starts_with("HTTP/1.1 404") && absent.contains("does not match the specified platform"), "{absent}");
    engine.finish();
}

#[test]
fn what_an_image_says_of_itself_gives_no_orders() {
    if !is_root("what_an_image_says_of_itself_gives_no_orders") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r";
    let one = TestImage::new("evil:1", [tar(&[("file", b"1")])]);
    let mut config: Value = serde_json::from_slice(&one.config()).expect("JSON");
    let large = "x".repeat(1 << 20);
    config["author"] = evil.into();
    config["comment"] = evil.into();
    config["config"] = json!({ "Cmd": [evil], "Env": [format!("A={evil}")], "Labels": { evil: evil, "large": large },
        "WorkingDir": "/../../../x", "StopSignal": evil, "User": format!("{evil}:0") });
    config["history"][0] = json!({ "created_by": evil, "comment": evil, "created": evil });
    let layer = one.layers.clone();
    load(&engine, &archive(&one, config.to_string().as_bytes(), &layer, Value::Null));
    let printed = [
        &["images"][..],
        &["images", "--tree"],
        &["history", "evil:1"],
        &["history", "--no-trunc", "evil:1"],
        &["inspect", "evil:1"],
        &["image", "ls", "--format", "json"],
        &["system", "df", "-v"],
    ];
    for arguments in printed {
        let shown = engine.corten(arguments);
        assert!(shown.ok().chars().all(|c| c == '\n' || !c.is_ascii_control()), "{arguments:?}: {shown:?}");
    }
    // They are kept as they are for who asks for them.
    assert_eq!(json_of(&engine, "/images/evil:1/json")["Comment"], evil);
    let made = engine.corten(&["create", "--name", "c", "evil:1"]);
    assert!(!made.stderr.contains('\u{1b}'), "{made:?}");
    for arguments in [&["ps", "-a"][..], &["ps", "-a", "--no-trunc"], &["start", "c"]] {
        let shown = engine.corten(arguments);
        let text = format!("{}{}", shown.stdout, shown.stderr);
        assert!(text.chars().all(|c| c == '\n' || !c.is_ascii_control()), "{arguments:?}: {text:?}");
    }
    assert!(engine.log().chars().all(|c| c == '\n' || !c.is_ascii_control()), "{:?}", engine.log());
    assert!(!PathBuf::from("/x").exists());
    engine.corten(&["rm", "c"]);
    engine.corten(&["rmi", "evil:1"]).ok();
    engine.finish();
}

#[test]
fn nobody_else_reads_the_store() {
    if !is_root("nobody_else_reads_the_store") {
        return;
    }
    let engine = engine();
    let data = engine.path().join("data");
    let mode = |path: &Path| fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    // Who isn't root may pass by to what is mounted into containers, and no further.
    assert_eq!(mode(&data) & 0o066, 0);
    for (name, expect) in [("content", 0o700), ("snapshots", 0o700), ("metadata.db", 0o600)] {
        assert_eq!(mode(&data.join(name)), expect, "{name}");
    }
    engine.finish();
}
