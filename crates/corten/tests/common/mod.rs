//! What the end-to-end suites share: an engine with the test images in it.
#![allow(dead_code, reason = "each suite is an executable of its own and uses a part of this")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use corten_testkit::{Answer, TestEngine, debian};

/// The product under test.
pub const CORTEN: &str = env!("CARGO_BIN_EXE_corten");

/// An engine that has the image `busybox`.
pub fn engine() -> TestEngine {
    engine_with(&[])
}

/// The same, its daemon started with further arguments.
pub fn engine_with(arguments: &[&str]) -> TestEngine {
    let engine = TestEngine::start_with(CORTEN, arguments);
    import_busybox(&engine);
    engine
}

/// The image `busybox`.
pub fn import_busybox(engine: &TestEngine) {
    import(engine, "busybox", debian::busybox_tar().to_str().expect("a UTF-8 path"), "CMD [\"sh\"]");
}

/// Imports a root file system's tar as an image.
pub fn import(engine: &TestEngine, name: &str, tar: &str, change: &str) {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    engine.corten(&["import", "-c", change, "-c", &format!("ENV {path}"), tar, name]).ok();
}

/// `docker run` of a shell script in busybox, without a network; the standard output.
pub fn sh(engine: &TestEngine, options: &[&str], script: &str) -> String {
    let run = ["run", "--rm", "--network", "none"];
    engine.docker(&[&run, options, &["busybox", "sh", "-c", script]].concat()).ok().to_owned()
}

/// A busybox image that `spoil` has changed.
pub fn image(engine: &TestEngine, name: &str, change: &str, spoil: impl FnOnce(&Path)) {
    let root = engine.path().join(format!("image-{name}"));
    std::fs::create_dir(&root).expect("making the image's root");
    let tar = root.with_extension("tar");
    let status = Command::new("tar").arg("-xf").arg(debian::busybox_tar()).arg("-C").arg(&root).status();
    assert!(status.expect("running tar").success(), "unpacking busybox");
    spoil(&root);
    let status = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg(".").status();
    assert!(status.expect("running tar").success(), "packing {name}");
    import(engine, name, tar.to_str().expect("a UTF-8 path"), change);
    std::fs::remove_dir_all(&root).expect("removing the image's root");
}

/// Puts a symbolic link where something else may be.
pub fn replace_by_link(target: &str, link: PathBuf) {
    let _ = std::fs::remove_dir_all(&link).or_else(|_| std::fs::remove_file(&link));
    std::os::unix::fs::symlink(target, link).expect("making a link");
}

/// A container in the background; its first process as the machine sees it.
pub fn sleeper(engine: &TestEngine, options: &[&str]) -> u32 {
    engine.docker(&[&["run", "-d", "--network", "none"], options, &["busybox", "sleep", "1000"]].concat()).ok();
    pid(engine, options[1])
}

/// A container's first process as the machine sees it.
pub fn pid(engine: &TestEngine, name: &str) -> u32 {
    engine.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok().parse().expect("a process id")
}

/// Waits until something is so.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !done() {
        assert!(std::time::Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What was told of images while `work` ran: action and name.
pub fn told(engine: &TestEngine, work: impl FnOnce()) -> Vec<String> {
    told_as(engine, "{{.Action}} {{.Actor.Attributes.name}}", work)
}

/// The same, each event as a template shows it.
pub fn told_as(engine: &TestEngine, format: &str, work: impl FnOnce()) -> Vec<String> {
    let now = || format!("{:.9}", std::time::UNIX_EPOCH.elapsed().expect("the clock is right").as_secs_f64());
    let since = now();
    work();
    let until = now();
    let events = ["events", "--since", &since, "--until", &until, "--filter", "type=image", "--format", format];
    engine.docker(&events).ok().lines().map(str::to_owned).collect()
}

/// Nothing is wrong with what the engine keeps.
#[track_caller]
pub fn sound(engine: &TestEngine) {
    assert!(engine.corten(&["system", "check"]).ok().ends_with("nothing is wrong"));
}

/// A client at work beside the test.
pub fn spawn(engine: &TestEngine, program: impl AsRef<OsStr>, arguments: &[&str]) -> Child {
    let mut client = engine.inside(program);
    client.args(arguments).env("DOCKER_HOST", engine.host()).stdout(Stdio::piped()).stderr(Stdio::null());
    client.spawn().expect("the client starts")
}

/// An address of the engine's own that is not on loopback, so that certificates count there.
pub const ADDRESS: &str = "10.199.0.1";

/// Gives the engine's network [`ADDRESS`].
pub fn add_address(engine: &TestEngine) {
    let add = ["address", "add", &format!("{ADDRESS}/32"), "dev", "lo"];
    Answer::of(engine.inside("/usr/sbin/ip").args(add), b"").ok();
}
