//! Images for several platforms behind one name, loaded as an index: run, listed, saved, removed.

mod common;

use std::fs;

use common::{engine, sound};
use corten_base::Platform;
use corten_testkit::image::{Packing, TestImage, oci_index_archive_bytes, tar, tar_of};
use corten_testkit::{TestEngine, debian, is_root};

/// An index of images for this machine, for its 32-bit kin, and for one that it can't run; all with the same programs, each with
/// its name in `/platform`.
fn load(engine: &TestEngine) -> Vec<TestImage> {
    let busybox = fs::read(debian::busybox_tar()).expect("busybox is there");
    let image = |architecture: &str, programs: Vec<u8>| TestImage {
        architecture: architecture.to_owned(),
        ..TestImage::new("multi:1", [programs, tar(&[("platform", architecture.as_bytes())])])
    };
    let program = corten_archive::Entry::new(corten_archive::Kind::File, "bin/cat", 0o755);
    let images = vec![
        image(&Platform::host().architecture, busybox.clone()),
        image(KIN, busybox),
        image("s390x", tar_of(&[(program, b"\x7fELF\x02\x02\x01 not for this machine")])),
    ];
    let archive = engine.path().join("multi.tar");
    fs::write(&archive, oci_index_archive_bytes(&images, Packing::Gzip)).expect("the archive is written");
    engine.corten(&["load", "-qi", &archive.display().to_string()]).ok();
    images
}

/// What a 64-bit machine runs besides.
const KIN: &str = if cfg!(target_arch = "aarch64") { "arm" } else { "386" };

fn shown(engine: &TestEngine) -> Vec<Vec<String>> {
    let shown = engine.corten(&["images", "--tree"]).stdout;
    shown.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn another_platform_of_a_loaded_index_runs_where_the_host_can() {
    if !is_root("another_platform_of_a_loaded_index_runs_where_the_host_can") {
        return;
    }
    let engine = engine();
    let images = load(&engine);
    let (kin, host) = (format!("linux/{KIN}"), Platform::host());
    let run = |platform: &str| {
        engine.corten(&["run", "--rm", "--pull", "never", "--platform", platform, "multi:1", "cat", "/platform"])
    };
    assert_eq!(engine.corten(&["run", "--rm", "multi:1", "cat", "/platform"]).ok(), host.architecture);
    let ran = run(&kin);
    assert_eq!((ran.ok(), ran.stderr.as_str()), (KIN, ""));
    assert_eq!(run(&host.to_string()).ok(), host.architecture);
    // Here, but not for this machine: the kernel's word, when it has been started.
    let foreign = run("linux/s390x");
    foreign.fails(255, "");
    assert_eq!(foreign.stderr, "exec /bin/cat: exec format error\n");
    let logged = ["run", "--name", "foreign", "--pull", "never", "--platform", "linux/s390x", "multi:1", "cat"];
    engine.docker(&logged).fails(255, "exec /bin/cat: exec format error");
    let state = engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "foreign"]);
    assert_eq!(state.ok(), "exited 255");
    assert_eq!(engine.docker(&["logs", "foreign"]).stderr, "exec /bin/cat: exec format error\n");
    engine.docker(&["rm", "foreign"]).ok();
    // Not here.
    run("linux/riscv64").fails(
        125,
        &format!("image with reference multi:1 was found but its platform ({host}) does not match the specified platform (linux/riscv64)"),
    );
    // It is in use as long as a container stands on it, and doesn't go with the name.
    let made = engine.docker(&["create", "--platform", &kin, "--name", "user", "multi:1"]);
    made.ok();
    let line = shown(&engine).into_iter().find(|line| line.contains(&kin)).expect("the platform is shown");
    assert_eq!(line.last().map(String::as_str), Some("U"), "{line:?}");
    let inspected = engine.docker(&["inspect", "--format", "{{.Image}}", "user"]);
    assert_eq!(inspected.ok(), images[1].id().as_str());
    engine
        .corten(&["rmi", "multi:1"])
        .fails(1, "conflict: unable to remove repository reference \"multi:1\" (must force)");
    engine.docker(&["rm", "user"]).ok();
    engine.corten(&["rmi", "multi:1"]).ok();
    sound(&engine);
    engine.finish();
}

#[test]
fn one_platform_is_saved_and_loaded() {
    if !is_root("one_platform_is_saved_and_loaded") {
        return;
    }
    let engine = engine();
    let images = load(&engine);
    let path = |name: &str| engine.path().join(name).display().to_string();
    engine.corten(&["save", "--platform", "linux/s390x", "-o", &path("one.tar"), "multi:1"]).ok();
    engine.corten(&["save", "-o", &path("all.tar"), "multi:1"]).ok();
    engine
        .corten(&["save", "--platform", "linux/riscv64", "multi:1"])
        .fails(1, "does not match the specified platform");
    let id = || engine.docker(&["inspect", "--format", "{{.Id}}", "multi:1"]).ok().to_owned();
    for archive in ["one.tar", "all.tar"] {
        engine.corten(&["rmi", "multi:1"]).ok();
        engine.corten(&["load", "--platform", "linux/s390x", "-qi", &path(archive)]).ok();
        assert_eq!(id(), images[2].id().as_str(), "{archive}");
    }
    // Nobody asked for its platform: it is tried, and said.
    let ran = engine.corten(&["run", "--rm", "multi:1", "cat", "/platform"]);
    ran.fails(255, "The requested image's platform (linux/s390x) does not match the detected host platform (linux/");
    engine.corten(&["load", "--platform", "linux/riscv64", "-qi", &path("all.tar")]).fails(1, "no matching manifest");
    engine.finish();
}
