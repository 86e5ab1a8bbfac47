//! Bad input: each a clear error, nothing half-created, nothing leaked.

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{CORTEN, engine, engine_with};
use corten_testkit::{Answer, TestEngine, debian, engine::docker_client, hostile, image, is_root, leaks::Leaks};

/// Runs `attempt` and asserts that the engine has on the machine what it had before.
#[track_caller]
fn leaves_nothing(engine: &TestEngine, attempt: impl FnOnce(&TestEngine)) {
    let before = everything(engine);
    attempt(engine);
    // A link's end of life is not waited for by the command that caused it.
    let deadline = Instant::now() + Duration::from_secs(5);
    while everything(engine) != before && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(before, everything(engine));
}

fn everything(engine: &TestEngine) -> (Leaks, [String; 3]) {
    let lists = [&["ps", "-aq"][..], &["images", "-aq"], &["volume", "ls", "-q"]];
    (engine.leaks_of_containers(), lists.map(|list| engine.docker(list).stdout))
}

#[test]
fn references_commands_and_limits() {
    if !is_root("references_commands_and_limits") {
        return;
    }
    let engine = engine();
    for (arguments, code, text) in [
        (&["run", "--pull=never", "nosuch"][..], 125, "No such image: nosuch:latest"),
        (&["run", "--network", "none", "busybox", "nosuch"], 127, "executable file not found in $PATH"),
        (&["run", "--network", "none", "busybox", "/etc/passwd"], 126, "permission denied"),
        (&["run", "busybox:UPPER:x"], 125, "invalid reference format"),
        (&["run", "-m", "1k", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
        (&["run", "--cpuset-cpus", "99", "busybox"], 125, "Requested CPUs are not available"),
        (&["run", "-u", "nosuch", "busybox"], 125, "unable to find user nosuch: no matching entries in passwd file"),
        (&["run", "--cap-add", "NOSUCH", "busybox"], 125, "invalid CapAdd: unknown capability: \"CAP_NOSUCH\""),
        (
            &["run", "--name", "x/y", "busybox"],
            125,
            "Invalid container name (x/y), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
        ),
        (&["run", "--network", "nosuch", "busybox"], 125, "network nosuch not found"),
        (
            &["run", "-v", "/nosuch:relative", "busybox"],
            125,
            "invalid mount path: 'relative' mount path must be absolute",
        ),
        (&["run", "--network", "container:nosuch", "busybox"], 125, "No such container: nosuch"),
    ] {
        leaves_nothing(&engine, |engine| {
            engine.docker(&[&arguments[..1], &["--rm"], &arguments[1..]].concat()).fails(code, text);
        });
    }
    engine.finish();
}

#[test]
fn json_of_the_wrong_shape() {
    if !is_root("json_of_the_wrong_shape") {
        return;
    }
    let engine = engine();
    for body in
        ["", "{", "[]", "3", "{\"Image\": 3}", "{\"Cmd\": {\"a\": 1}}", "{\"HostConfig\": []}", "{\"Env\": [1]}", "{}"]
    {
        leaves_nothing(&engine, |engine| {
            let answer = engine.post("/v1.50/containers/create", body);
            assert!(answer.starts_with("HTTP/1.1 400"), "{body}: {answer}");
            assert!(answer.contains("{\"message\":\""), "{body}: {answer}");
        });
    }
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    assert!(engine.post("/containers/create", &deep).starts_with("HTTP/1.1 400"));
    assert!(
        engine
            .get("/nosuch")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 404") && answer.contains("page not found"))
    );
    assert!(
        engine
            .get("/v1.99/version")
            .is_some_and(|answer| answer.starts_with("HTTP/1.1 400") && answer.contains("too new"))
    );
    assert!(engine.get("/containers/json?filters=nonsense").is_some_and(|answer| answer.starts_with("HTTP/1.1 400")));
    engine.finish();
}

#[test]
fn archives_that_lie() {
    if !is_root("archives_that_lie") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let whole = engine.path().join("whole.tar");
    image::docker_archive(&whole, "whole:latest", &[&debian::busybox_tar()]).expect("writing an archive");
    let bytes = std::fs::read(&whole).expect("reading the archive");
    let outside = engine.path().join("outside");
    std::fs::write(&outside, "untouched").expect("writing a file beside the data root");
    for (what, archive) in hostile::archives(&bytes, &outside) {
        leaves_nothing(&engine, |engine| {
            let answer = engine.client(docker_client(), &["load"], &archive);
            assert_ne!(answer.code, 0, "{what} was loaded: {answer:?}");
            assert!(!answer.stderr.trim().is_empty(), "{what}: no error text");
        });
        assert_eq!(std::fs::read_to_string(&outside).expect("the file is still there"), "untouched", "{what}");
    }
    engine.client(docker_client(), &["load"], &bytes).ok();
    engine.finish();
}

#[test]
fn a_full_disk_is_an_error_and_no_damage() {
    if !is_root("a_full_disk_is_an_error_and_no_damage") {
        return;
    }
    // Two files of the test stand in for the disk: a tmpfs of 24 MiB below the data root, made inside the engine's mount namespace.
    let mut engine = TestEngine::start(CORTEN);
    engine.stop_daemon();
    let data = engine.path().join("data");
    let mut mount = engine.inside("mount");
    let mounted = Answer::of(mount.args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"]).arg(&data), b"");
    mounted.ok();
    engine.start_daemon();
    let archive = engine.path().join("big.tar");
    let filler = engine.path().join("filler.tar");
    image::tar_of_random_file(&filler, 30 << 20).expect("writing an archive");
    image::docker_archive(&archive, "big:latest", &[&filler]).expect("writing an archive");
    let bytes = std::fs::read(&archive).expect("reading the archive");
    engine.client(docker_client(), &["load"], &bytes).fails(1, "no space left on device");
    assert_eq!(engine.docker(&["images", "-q", "big"]).ok(), "");
    assert!(engine.docker(&["run", "--rm", "--network", "none", "corten/hello"]).ok().contains("Hello from Corten"));
    engine.stop_daemon();
    Answer::of(engine.inside("umount").arg(&data), b"").ok();
    engine.start_daemon();
    engine.finish();
}

#[test]
fn an_unwritable_data_root_is_refused() {
    if !is_root("an_unwritable_data_root_is_refused") {
        return;
    }
    let directory = tempfile_path();
    let mut daemon = Command::new("unshare");
    daemon.args(["--net", "--mount", "--propagation", "private", CORTEN, "daemon", "--data-root", "/proc/nosuch"]);
    daemon.args([
        "--exec-root",
        &directory,
        "--host",
        &format!("unix://{directory}/s"),
        "--pidfile",
        &format!("{directory}/p"),
    ]);
    Answer::of(&mut daemon, b"").fails(1, "/proc/nosuch");
    let mut unknown = Command::new(CORTEN);
    Answer::of(unknown.args(["daemon", "--nosuch"]), b"").fails(1, "unknown flag: --nosuch");
    std::fs::remove_dir_all(directory).ok();
}

#[test]
fn tcp_without_tls_needs_a_word() {
    if !is_root("tcp_without_tls_needs_a_word") {
        return;
    }
    let directory = tempfile_path();
    let mut daemon = Command::new("unshare");
    daemon.args([
        "--net",
        "--mount",
        "--propagation",
        "private",
        CORTEN,
        "daemon",
        "--data-root",
        &format!("{directory}/d"),
    ]);
    daemon.args(["--exec-root", &directory, "--host", "tcp://0.0.0.0:2375", "--pidfile", &format!("{directory}/p")]);
    let answer = Answer::of(&mut daemon, b"");
    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains("TLS"), "{answer:?}");
    let engine = engine_with(&["--host", "tcp://127.0.0.1:2375"]);
    let mut curl = engine.inside("curl");
    assert_eq!(Answer::of(curl.args(["-s", "http://127.0.0.1:2375/_ping"]), b"").ok(), "OK");
    engine.finish();
    std::fs::remove_dir_all(directory).ok();
}

fn tempfile_path() -> String {
    let path = format!("/var/tmp/corten-test-{}-{}", std::process::id(), line!());
    std::fs::create_dir_all(&path).expect("making a directory");
    path
}
