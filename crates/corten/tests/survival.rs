//! kill -9 of the daemon at the worst moments: containers live on, their output and exit status are kept, nothing is lost, nothing leaks.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{CORTEN, engine, sleeper, wait_until};
use corten_testkit::{TestEngine, debian, engine::docker_client, is_root};

#[test]
fn a_running_container_survives_its_daemon() {
    if !is_root("a_running_container_survives_its_daemon") {
        return;
    }
    let mut engine = engine();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "counter",
            "busybox",
            "sh",
            "-c",
            "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done",
        ])
        .ok();
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "counter"]).ok().to_owned();
    engine.kill_daemon();
    std::thread::sleep(Duration::from_millis(400));
    assert!(std::path::Path::new("/proc").join(&pid).exists(), "the container died with its daemon");
    engine.start_daemon();
    let state = engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "counter"]);
    assert_eq!(state.ok(), format!("running {pid}"));
    assert_eq!(engine.docker(&["exec", "counter", "echo", "in"]).ok(), "in");
    engine.docker(&["kill", "counter"]).ok();
    let lines: Vec<u32> = numbers(engine.docker(&["logs", "counter"]).ok());
    assert!(lines.len() > 6, "{lines:?}");
    assert!(lines.iter().enumerate().all(|(index, &number)| index as u32 == number), "output was lost: {lines:?}");
    engine.docker(&["rm", "-f", "counter"]).ok();
    engine.finish();
}

/// The daemon dies at a different moment of its containers' starts each time. Whatever came of a start, the next daemon knows it, and
/// nothing else is left.
#[test]
fn starts_that_lose_their_daemon_leave_nothing_half_done() {
    if !is_root("starts_that_lose_their_daemon_leave_nothing_half_done") {
        return;
    }
    let mut engine = engine();
    let (mut running, mut others) = (0, 0);
    for round in 0..16 {
        let start = || {
            let words = ["run", "-d", "--network", ["none", "bridge"][round % 2], "busybox", "sleep", "1000"];
            let mut client = Command::new(docker_client());
            client.args(words).env("DOCKER_HOST", engine.host());
            client
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("the client starts")
        };
        let clients: Vec<_> = (0..3).map(|_| start()).collect();
        let made = || engine.get("/containers/json?all=1").is_some_and(|list| list.contains("\"Id\""));
        wait_until("a container is made", made);
        std::thread::sleep(Duration::from_millis(round as u64));
        engine.kill_daemon();
        for mut client in clients {
            client.wait().expect("the client ends");
        }
        engine.start_daemon();
        let found = engine.docker(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]).ok().to_owned();
        for line in found.lines() {
            let (id, state) = line.split_once(' ').expect("two columns");
            match state {
                "running" => {
                    assert_eq!(engine.docker(&["exec", id, "echo", "in"]).ok(), "in");
                    running += 1;
                }
                "created" | "exited" => others += 1,
                state => panic!("{id} is {state}"),
            }
            engine.docker(&["rm", "-f", id]).ok();
        }
    }
    println!("{running} had started, {others} had not");
    assert!(running + others >= 16);
    engine.finish();
}

#[test]
fn a_run_that_loses_its_daemon_goes_on() {
    if !is_root("a_run_that_loses_its_daemon_goes_on") {
        return;
    }
    let mut engine = engine();
    let mut client = Command::new(docker_client())
        .args([
            "run",
            "--name",
            "front",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "echo before; sleep 1; echo after; exit 5",
        ])
        .env("DOCKER_HOST", engine.host())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the client starts");
    wait_until("the container runs", || engine.docker(&["logs", "front"]).stdout == "before\n");
    engine.kill_daemon();
    assert!(!client.wait().expect("the client ends").success(), "the client did not notice");
    engine.start_daemon();
    assert_eq!(engine.docker(&["wait", "front"]).ok(), "5");
    assert_eq!(engine.docker(&["logs", "front"]).ok(), "before\nafter");
    engine.docker(&["rm", "front"]).ok();
    engine.finish();
}

#[test]
fn an_exit_without_a_daemon_is_kept() {
    if !is_root("an_exit_without_a_daemon_is_kept") {
        return;
    }
    let mut engine = engine();
    let fifo = engine.path().join("go");
    let bind = format!("{}:/go", engine.path().display());
    let made = Command::new("mkfifo").arg(&fifo).status().expect("mkfifo(1) starts");
    assert!(made.success());
    engine
        .docker(&["run", "-d", "--name", "late", "-v", &bind, "busybox", "sh", "-c", "cat /go/go; echo bye; exit 42"])
        .ok();
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "gone",
            "--rm",
            "-v",
            &bind,
            "busybox",
            "sh",
            "-c",
            "test -e /go/stop || sleep 1",
        ])
        .ok();
    let pid = engine.docker(&["inspect", "-f", "{{.State.Pid}}", "late"]).ok().to_owned();
    engine.kill_daemon();
    std::fs::write(&fifo, "word\n").expect("the container reads the pipe");
    wait_until("the container ends", || !std::path::Path::new("/proc").join(&pid).exists());
    engine.start_daemon();
    assert_eq!(engine.docker(&["wait", "late"]).ok(), "42");
    assert_eq!(engine.docker(&["logs", "late"]).ok(), "word\nbye");
    wait_until("--rm is carried out", || engine.docker(&["ps", "-aq", "--filter", "name=gone"]).ok().is_empty());
    engine.docker(&["rm", "late"]).ok();
    engine.finish();
}

#[test]
fn a_killed_load_leaves_nothing_half_done() {
    if !is_root("a_killed_load_leaves_nothing_half_done") {
        return;
    }
    let mut engine = TestEngine::start(CORTEN);
    let clean = engine.leaks_of_containers();
    let archive = engine.path().join("big.tar");
    corten_testkit::image::docker_archive(&archive, "big:latest", &[&debian::busybox_tar()])
        .expect("writing an archive");
    let bytes = std::fs::read(&archive).expect("reading the archive");
    for cut in [bytes.len() / 10, bytes.len() / 2, bytes.len() - 2048] {
        let mut client = Command::new(docker_client())
            .args(["load"])
            .env("DOCKER_HOST", engine.host())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the client starts");
        let mut stdin = client.stdin.take().expect("its input is a pipe");
        std::io::Write::write_all(&mut stdin, &bytes[..cut]).expect("the client reads");
        std::thread::sleep(Duration::from_millis(200));
        engine.kill_daemon();
        drop(stdin);
        client.wait().expect("the client ends");
        engine.start_daemon();
        assert!(
            !engine.docker(&["images", "-q", "big"]).ok().contains(char::is_alphanumeric),
            "half an image is listed"
        );
        assert_eq!(engine.leaks_of_containers(), clean);
    }
    engine.client(docker_client(), &["load"], &bytes).ok();
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", "big", "echo", "whole"]).ok(), "whole");
    engine.finish();
}

/// The records are lost, and some of the shims: what runs below a parent that a container had asked for ends and goes all the same.
#[test]
fn what_no_record_names_goes_wherever_its_groups_are() {
    if !is_root("what_no_record_names_goes_wherever_its_groups_are") {
        return;
    }
    let mut engine = engine();
    let own = sleeper(&engine, &["--name", "own"]);
    let groups = std::fs::read_to_string(format!("/proc/{own}/cgroup")).expect("the container lives");
    let group = groups.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find(|path| path.contains("corten-test"));
    let parent =
        std::path::Path::new(group.expect("a group of the engine's")).parent().expect("a parent").join("inner");
    let place = ["--cgroup-parent", parent.to_str().expect("a UTF-8 path")];
    let kept = sleeper(&engine, &[&["--name", "kept"], &place[..]].concat());
    let lost = sleeper(&engine, &[&["--name", "lost"], &place[..]].concat());
    engine.kill_daemon();
    for pid in [own, lost] {
        let shim = parent_of(pid);
        assert!(Command::new("kill").args(["-9", &shim]).status().expect("kill(1) starts").success());
        wait_until("the shim ends", || !is_alive(&shim));
    }
    for file in ["metadata.db", "metadata.db-wal", "metadata.db-shm"] {
        let _ = std::fs::remove_file(engine.path().join("data").join(file));
    }
    engine.start_daemon();
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    for pid in [own, kept, lost] {
        wait_until("the container's process ends", || !is_alive(&pid.to_string()));
    }
    // Only the parent stays, as with Docker, and it is empty.
    for group in engine.leaks().cgroups {
        assert!(group.ends_with("inner"), "{} was left", group.display());
        std::fs::remove_dir(&group).expect("an empty group");
    }
    engine.finish();
}

#[test]
fn a_second_daemon_is_refused() {
    if !is_root("a_second_daemon_is_refused") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let mut second = engine.inside(CORTEN);
    second
        .arg("daemon")
        .arg("--data-root")
        .arg(engine.path().join("data"))
        .arg("--exec-root")
        .arg(engine.path().join("run2"));
    second.arg("--pidfile").arg(engine.path().join("run2/pid")).args(["--host", &format!("{}2", engine.host())]);
    corten_testkit::Answer::of(&mut second, b"").fails(1, &engine.pid().to_string());
    engine.finish();
}

fn parent_of(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process lives");
    status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim().to_owned()
}

/// Not so if it only waits to be reaped.
fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

fn numbers(text: &str) -> Vec<u32> {
    text.lines().map(|line| line.parse().expect("a number a line")).collect()
}
