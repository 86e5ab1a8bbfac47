//! Taking images away, with Docker's rules and words: what stands in the way, what force changes, what is told; and an image's
//! history.

mod common;

use std::fs;

use common::{CORTEN, engine, sleeper, sound, told};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};
use corten_testkit::{Registry, TestEngine, engine::docker_client, is_root};

const HOST: &str = Registry::HOST;

/// Loads images of one small layer each, by their names.
fn load(engine: &TestEngine, names: &[String]) {
    let image = |name: &String| TestImage::new(name, [tar(&[("name", name.as_bytes())])]);
    let archive = engine.path().join("images.tar");
    let images: Vec<TestImage> = names.iter().map(image).collect();
    fs::write(&archive, docker_archive_bytes(&images, Packing::Plain)).expect("writing an archive");
    engine.docker(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]).ok();
}

fn id(engine: &TestEngine, name: &str) -> String {
    engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok().to_owned()
}

fn short(id: &str) -> &str {
    &id["sha256:".len()..][..12]
}

#[test]
fn names_ids_and_force() {
    if !is_root("names_ids_and_force") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    for client in [docker_client(), CORTEN.into()] {
        let rmi = |arguments: &[&str]| engine.client(client.clone(), &[&["rmi"], arguments].concat(), b"");
        load(&engine, &["a:1".to_owned()]);
        let image = id(&engine, "a:1");
        engine.docker(&["tag", "a:1", "a:2"]).ok();
        engine.docker(&["tag", "a:1", "other/b:1"]).ok();
        // One name of several goes alone.
        let events = told(&engine, || assert_eq!(rmi(&["a:2"]).ok(), "Untagged: a:2"));
        assert_eq!(events, [format!("untag {image}")]);
        let refused = format!(
            "Error response from daemon: conflict: unable to delete {} (must be forced) - image is referenced in multiple repositories",
            short(&image)
        );
        assert_eq!(rmi(&[short(&image)]).stderr.trim(), refused);
        // What can't be done does not keep the rest from being done.
        engine.docker(&["tag", "a:1", "a:3"]).ok();
        let some = rmi(&["nosuch", "a:3", "sha256:beef"]);
        some.fails(1, "No such image: nosuch:latest");
        assert_eq!(some.stdout.trim(), "Untagged: a:3");
        assert_eq!(rmi(&["-f", "nosuch"]).code, 0);
        let mut lines = Vec::new();
        let events = told(&engine, || lines.extend(rmi(&["-f", short(&image)]).ok().lines().map(str::to_owned)));
        assert_eq!(lines[..3], ["Untagged: a:1", "Untagged: other/b:1", &format!("Deleted: {image}")]);
        assert!(lines.len() == 4 && lines[3].starts_with("Deleted: sha256:"), "{lines:?}");
        assert_eq!(events, [format!("untag {image}"), format!("untag {image}"), format!("delete {image}")]);
        // Two tags of one repository are two names all the same.
        load(&engine, &["a:1".to_owned()]);
        engine.docker(&["tag", "a:1", "a:2"]).ok();
        assert_eq!(rmi(&[&image]).stderr.trim(), refused);
        rmi(&["a:1"]).ok();
        assert!(rmi(&[&image]).ok().starts_with(&format!("Untagged: a:2\nDeleted: {image}\n")));
        rmi(&[&image]).fails(1, &format!("No such image: {image}"));
    }
    engine.finish();
}

#[test]
fn containers_in_the_way() {
    if !is_root("containers_in_the_way") {
        return;
    }
    let engine = engine();
    let image = id(&engine, "busybox");
    sleeper(&engine, &["--name", "user"]);
    let container = engine.docker(&["inspect", "-f", "{{.Id}}", "user"]).ok()[..12].to_owned();
    let using = format!(
        "conflict: unable to remove repository reference \"busybox\" (must force) - container {container} is using its referenced image {}",
        short(&image)
    );
    let by = |force: &str, state: &str| {
        let image = short(&image);
        format!("conflict: unable to delete {image} ({force}) - image is being used by {state} container {container}")
    };
    let rmi = |arguments: &[&str]| engine.docker(&[&["rmi"], arguments].concat());
    rmi(&["busybox"]).fails(1, &using);
    rmi(&[short(&image)]).fails(1, &by("cannot be forced", "running"));
    rmi(&["-f", short(&image)]).fails(1, &by("cannot be forced", "running"));
    // A second name goes without force, the last one with it; the image stays for the container.
    engine.docker(&["tag", "busybox", "second"]).ok();
    assert_eq!(rmi(&["second"]).ok(), "Untagged: second:latest");
    let events = told(&engine, || assert_eq!(rmi(&["-f", "busybox"]).ok(), "Untagged: busybox:latest"));
    assert_eq!(events, [format!("untag {image}")]);
    assert_eq!(engine.docker(&["images", "-q", "--no-trunc", "--filter", "dangling=true"]).ok(), image);
    assert_eq!(engine.docker(&["exec", "user", "echo", "alive"]).ok(), "alive");
    rmi(&["-f", &image]).fails(1, &by("cannot be forced", "running"));
    engine.docker(&["kill", "user"]).ok();
    rmi(&[&image]).fails(1, &by("must be forced", "stopped"));
    // By force the image goes below a stopped container, which can still be started and removed.
    let events = told(&engine, || assert!(rmi(&["-f", &image]).ok().starts_with(&format!("Deleted: {image}"))));
    assert_eq!(events, [format!("delete {image}")]);
    engine.docker(&["rm", "user"]).ok();
    sound(&engine);
    engine.finish();
}

#[test]
fn digests_and_platforms() {
    if !is_root("digests_and_platforms") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    let other = if cfg!(target_arch = "x86_64") { "linux/arm64" } else { "linux/amd64" };
    let here = if cfg!(target_arch = "x86_64") { "linux/amd64" } else { "linux/arm64" };
    let image = TestImage::new("box:v1", [tar(&[("file", b"data")])]);
    fs::write(&archive, docker_archive_bytes(&[image], Packing::Gzip)).expect("writing an archive");
    let digest = registry.push(&engine, &archive, "box:v1");
    let (tagged, pinned) = (format!("{HOST}/box:v1"), format!("{HOST}/box@{digest}"));
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
        // The last tag takes its repository's digests along, and only the tag is told.
        engine.docker(&["pull", "-q", &tagged]).ok();
        let image = id(&engine, &tagged);
        let mut lines = Vec::new();
        let events = told(&engine, || lines.extend(run(&["rmi", &tagged]).ok().lines().map(str::to_owned)));
        assert_eq!(
            lines[..3],
            [format!("Untagged: {tagged}"), format!("Untagged: {pinned}"), format!("Deleted: {image}")]
        );
        assert_eq!(events, [format!("untag {image}"), format!("delete {image}")]);
        // The digest alone goes alone.
        engine.docker(&["pull", "-q", &tagged]).ok();
        assert_eq!(run(&["rmi", &pinned]).ok(), format!("Untagged: {pinned}"));
        assert_eq!(
            engine.docker(&["inspect", "-f", "{{.RepoTags}} {{.RepoDigests}}", &image]).ok(),
            format!("[{tagged}] []")
        );
        // Another repository's name keeps the image.
        engine.docker(&["pull", "-q", &tagged]).ok();
        engine.docker(&["tag", &tagged, "mine:1"]).ok();
        assert_eq!(run(&["rmi", &tagged]).ok(), format!("Untagged: {tagged}\nUntagged: {pinned}"));
        assert_eq!(id(&engine, "mine:1"), image);
        let mismatch = format!(
            "image with reference mine:1 was found but its platform ({here}) does not match the specified platform ({other})"
        );
        run(&["history", "--platform", other, "mine:1"]).fails(1, &mismatch);
        run(&["rmi", "--platform", other, "mine:1"]).fails(1, &mismatch);
        run(&["rmi", "--platform", &format!("{other},{here}"), "mine:1"])
            .fails(1, "multiple platforms are not supported");
        run(&["history", "--platform", "a/b/c/d", "mine:1"]).fails(1, "a/b/c/d");
        let history = ["history", "--no-trunc", "--format", "{{.ID}} {{.Comment}}", "mine:1"];
        let all = run(&history);
        assert!(all.ok().starts_with(&image), "{all:?}");
        assert_eq!(run(&[&history[..], &["--platform", here]].concat()).ok(), all.stdout.trim());
        assert!(run(&["rmi", "--platform", here, "mine:1"]).ok().contains(&format!("Deleted: {image}")));
    }
    engine.finish();
}

#[test]
fn ids_that_are_cut_short() {
    if !is_root("ids_that_are_cut_short") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    // Of seventeen ids two begin with the same digit.
    load(&engine, &(0..17).map(|number| format!("many:{number}")).collect::<Vec<_>>());
    let listed = engine.docker(&["images", "--no-trunc", "--format", "{{.ID}}", "many"]);
    let ids: Vec<&str> = listed.ok().lines().collect();
    let first = |id: &str| id["sha256:".len()..][..1].to_owned();
    let shared = ids.iter().find(|id| ids.iter().filter(|other| first(other) == first(id)).count() > 1);
    let shared = first(shared.expect("two share their first digit"));
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str]| engine.client(client.clone(), arguments, b"");
        for ambiguous in [shared.clone(), format!("sha256:{shared}")] {
            let text = format!("multiple IDs found with provided prefix: {ambiguous}");
            for command in [&["rmi", "-f"][..], &["history"], &["tag"], &["save"], &["inspect", "--type=image"]] {
                let rest: &[&str] = if command == ["tag"] { &[&ambiguous, "x:1"] } else { &[&ambiguous] };
                run(&[command, rest].concat()).fails(1, &text);
            }
        }
        // A name comes before the ids that begin so.
        run(&["tag", ids[0], &shared]).ok();
        assert_eq!(id(&engine, &shared), ids[0]);
        run(&["rmi", &format!("{shared}:latest")]).ok();
        assert_eq!(engine.docker(&["images", "-q", "many"]).ok().lines().count(), 17);
    }
    engine.finish();
}

#[test]
fn digests_whose_tags_mean_something_else_by_now_are_pruned() {
    if !is_root("digests_whose_tags_mean_something_else_by_now_are_pruned") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    engine.docker(&["rmi", "corten/hello"]).ok();
    for has_tag in [true, false] {
        load(&engine, &["a:1".to_owned(), "b:1".to_owned()]);
        for repository in ["one", "two"] {
            let name = format!("{HOST}/{repository}:1");
            engine.docker(&["tag", "a:1", &name]).ok();
            engine.docker(&["push", "-q", &name]).ok();
            engine.docker(&["tag", "b:1", &name]).ok();
        }
        let [a, b] = ["a:1", "b:1"].map(|name| id(&engine, name));
        let all = if has_tag { "-af" } else { "-f" };
        if !has_tag {
            assert_eq!(engine.docker(&["rmi", "a:1"]).ok(), "Untagged: a:1");
        }
        let pruned = engine.docker(&["image", "prune", all]);
        assert!(pruned.ok().contains(&format!("deleted: {a}")), "{pruned:?}");
        let left = engine.docker(&["images", "-aq", "--no-trunc"]);
        assert_eq!(left.ok().lines().collect::<Vec<_>>(), if has_tag { vec![] } else { vec![&b[..]; 3] });
    }
    engine.finish();
}
