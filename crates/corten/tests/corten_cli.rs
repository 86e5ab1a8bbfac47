//! Corten's own command line end to end, as Docker's users know it, and the daemon that it starts by itself.

mod common;

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{CORTEN, engine};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};
use corten_testkit::{Answer, TestEngine, is_root, leaks};

/// Waits until `done`, which something else brings about.
#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The client at work, its streams in the test's hands.
fn spawn(engine: &TestEngine, arguments: &[&str]) -> std::process::Child {
    let mut command = Command::new(CORTEN);
    command.args(arguments).env("DOCKER_HOST", engine.host()).env("DOCKER_CONFIG", engine.path().join("config"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client starts")
}

fn signal(process: &std::process::Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.id().to_string()]).status().expect("kill(1) starts");
    assert!(status.success(), "signalling the client");
}

#[test]
fn run_ps_logs_exec_and_inspect() {
    if !is_root("run_ps_logs_exec_and_inspect") {
        return;
    }
    let engine = engine();
    let corten = |arguments: &[&str]| engine.corten(arguments);
    let split = corten(&["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((split.code, split.stdout.as_str(), split.stderr.as_str()), (3, "out\n", "err\n"));
    let stdout = corten(&["run", "--rm", "-a", "stdout", "busybox", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((stdout.ok(), stdout.stderr.as_str()), ("out", ""));
    corten(&["run", "--rm", "busybox", "nosuch"]).fails(127, "executable file not found in $PATH");
    corten(&["run", "--rm", "busybox", "/etc"]).fails(126, "is a directory: permission denied");
    corten(&["run", "--rm", "--pull", "never", "nosuch"]).fails(125, "No such image: nosuch:latest");
    let file = engine.path().join("cid");
    let id = corten(&[
        "run",
        "-d",
        "--cidfile",
        &file.display().to_string(),
        "--name",
        "web",
        "-v",
        "/tmp:/t",
        "busybox",
        "sh",
        "-c",
        "echo started; exec sleep 1000",
    ])
    .ok()
    .to_owned();
    assert_eq!(std::fs::read_to_string(&file).expect("the id's file"), id);
    let again = corten(&["run", "--cidfile", &file.display().to_string(), "busybox", "true"]);
    again.fails(125, "container ID file found");
    let lines = corten(&["ps", "--no-trunc", "--format", "table {{.ID}}\t{{.Names}}\t{{.State}}"]);
    let lines: Vec<Vec<&str>> = lines.ok().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [vec!["CONTAINER", "ID", "NAMES", "STATE"], vec![id.as_str(), "web", "running"]]);
    assert_eq!(corten(&["ps", "-qf", "name=web", "-f", "status=running"]).ok(), &id[..12]);
    assert!(corten(&["ps", "-s"]).ok().contains("B (virtual "), "the sizes are not shown");
    assert_eq!(corten(&["logs", "-n", "1", "web"]).ok(), "started");
    assert_eq!(
        corten(&["exec", "-w", "/tmp", "-e", "A=b", "web", "sh", "-c", "echo $PWD $A; exit 7"]).stdout,
        "/tmp b\n"
    );
    assert_eq!(corten(&["exec", "web", "sh", "-c", "exit 7"]).code, 7);
    let format = "{{.Name}} {{.State.Status}} {{range .Mounts}}[{{.Name}}{{.Destination}}]{{end}} {{json .Config.Cmd}}";
    assert_eq!(
        corten(&["inspect", "-f", format, "web"]).ok(),
        "/web running [/t] [\"sh\",\"-c\",\"echo started; exec sleep 1000\"]"
    );
    corten(&["inspect", "-f", "{{.Nothing}}", "web"]).fails(1, "map has no entry for key \"Nothing\"");
    corten(&["inspect", "--type", "image", "web"]).fails(1, "No such image: web");
    corten(&["stop", "-t", "0", "web"]).ok();
    assert_eq!(corten(&["wait", "web"]).ok(), "137");
    assert_eq!(corten(&["rm", "web"]).ok(), "web");
    corten(&["rm", "web"]).fails(1, "No such container: web");
    engine.finish();
}

#[test]
fn input_signals_and_leaving_a_terminal() {
    if !is_root("input_signals_and_leaving_a_terminal") {
        return;
    }
    let engine = engine();
    engine.corten(&["create", "-i", "--name", "cat", "busybox", "cat"]).ok();
    let echoed = engine.client(CORTEN.into(), &["start", "-ai", "cat"], b"through\n");
    assert_eq!(echoed.ok(), "through");
    // What ends the client goes to the container, which decides.
    let script = "trap 'echo asked; exit 6' TERM INT; echo ready; while true; do sleep 0.05; done";
    for name in ["TERM", "INT"] {
        let mut run = spawn(&engine, &["run", "--rm", "--network", "none", "busybox", "sh", "-c", script]);
        let mut output = run.stdout.take().expect("its output");
        let mut ready = [0; 6];
        output.read_exact(&mut ready).expect("the container says that it is ready");
        signal(&run, name);
        let mut rest = String::new();
        output.read_to_string(&mut rest).expect("the rest of the output");
        assert_eq!((rest.as_str(), run.wait().expect("it ends").code()), ("asked\n", Some(6)), "{name}");
    }
    // A terminal's size, and the keys that leave the container running.
    let command = format!("stty rows 33 cols 77; {CORTEN} run -it --name shell --network none busybox sh");
    let mut script = Command::new("script");
    script.args(["-qec", &command, "/dev/null"]).env("DOCKER_HOST", engine.host());
    let mut terminal = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script(1) starts");
    let mut keys = terminal.stdin.take().expect("its keys");
    wait_until("the shell", || engine.corten(&["ps", "-qf", "name=shell"]).stdout.len() > 1);
    keys.write_all(b"stty size\n").expect("typing");
    wait_until("the answer", || engine.corten(&["logs", "shell"]).stdout.contains("33 77"));
    keys.write_all(b"\x10\x11").expect("typing");
    assert_eq!(terminal.wait().expect("the client leaves").code(), Some(0));
    assert_eq!(engine.corten(&["inspect", "-f", "{{.State.Running}}", "shell"]).ok(), "true");
    engine.corten(&["rm", "-f", "cat", "shell"]).ok();
    engine.finish();
}

#[test]
fn images_come_and_go() {
    if !is_root("images_come_and_go") {
        return;
    }
    let engine = engine();
    let layer = tar(&[("etc/motd", b"loaded\n")]);
    let archive = docker_archive_bytes(&[TestImage::new("made:1", [layer])], Packing::Plain);
    let loaded = engine.client(CORTEN.into(), &["load"], &archive);
    assert_eq!(loaded.ok(), "Loaded image: made:1");
    let path = engine.path().join("made.tar");
    std::fs::write(&path, &archive).expect("writing the archive");
    let quiet = engine.corten(&["load", "-q", "-i", &path.display().to_string()]);
    assert_eq!(quiet.ok(), "Loaded image: made:1");
    engine.corten(&["load", "-i", "/nosuch"]).fails(1, "open /nosuch: no such file or directory");
    let cut = engine.client(CORTEN.into(), &["load"], &archive[..archive.len() / 3]);
    assert_eq!(cut.code, 1, "{cut:?}");
    let imported =
        engine.client(CORTEN.into(), &["import", "-c", "CMD [\"x\"]", "-", "flat:1"], &tar(&[("file", b"x")]));
    let id = imported.ok().lines().last().expect("an id").to_owned();
    assert_eq!(engine.corten(&["images", "-q", "--no-trunc", "flat"]).ok(), id);
    assert!(engine.corten(&["history", "flat:1"]).ok().contains("Imported from -"));
    let table = engine.corten(&["images", "made"]);
    let heading: Vec<&str> = table.ok().lines().next().expect("a heading").split_whitespace().collect();
    assert_eq!(heading, ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]);
    let format = "{{.Repository}}:{{.Tag}} {{.Containers}} {{.Digest}}";
    assert_eq!(engine.corten(&["images", "--format", format, "made"]).ok(), "made:1 N/A <none>");
    engine.corten(&["tag", "made:1", "other:2"]).ok();
    assert_eq!(engine.corten(&["rmi", "other:2"]).ok(), "Untagged: other:2");
    assert!(engine.corten(&["rmi", "made:1", "flat:1"]).ok().contains(&format!("Deleted: {id}")));
    engine.corten(&["rmi", "made:1"]).fails(1, "No such image: made:1");
    engine.finish();
}

/// Root finds no daemon: the client starts one, says so, and can end it. In namespaces of its own, where `/run`,
/// `/var/lib` and `/etc` are the test's.
#[test]
fn a_daemon_is_started_when_none_is_there() {
    if !is_root("a_daemon_is_started_when_none_is_there") {
        return;
    }
    let name = format!("corten-test-own-{}", std::process::id());
    let script = format!(
        "set -e
        mount -t tmpfs own /run && mount -t tmpfs own /var/lib && mkdir /run/upper /run/work && ip link set lo up
        mount -t overlay -o lowerdir=/etc,upperdir=/run/upper,workdir=/run/work overlay /etc
        mkdir -p /etc/corten && echo '{{\"cgroup-parent\": \"/{name}\"}}' > /etc/corten/daemon.json
        {CORTEN} daemon stop 2>&1 || echo \"none: $?\"
        {CORTEN} run --rm --network none corten/hello
        {CORTEN} ps -aq
        test -S /run/corten/corten.sock -o -S /run/corten.sock -o -S /var/run/corten.sock && echo listens
        {CORTEN} daemon stop && echo stopped
        {CORTEN} daemon stop 2>&1 || echo \"none: $?\"
        grep -c overlay /proc/self/mounts"
    );
    let mut command = Command::new("timeout");
    command.args(["100", "unshare", "--mount", "--net", "--propagation", "private", "sh", "-c", &script]);
    for variable in ["DOCKER_HOST", "CORTEN_HOST", "DOCKER_CONTEXT"] {
        command.env_remove(variable);
    }
    command.env("DOCKER_CONFIG", "/nonexistent");
    let answer = Answer::of(&mut command, b"");
    leaks::kill_containers(&name);
    leaks::remove_parent_groups(&name);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.starts_with("No daemon runs according to /run/corten/corten.pid\nnone: 1\n"), "{answer:?}");
    assert!(answer.stdout.contains("Hello from Corten"), "{answer:?}");
    assert!(
        answer.stdout.ends_with("listens\nstopped\nNo daemon runs according to /run/corten/corten.pid\nnone: 1\n1\n"),
        "{answer:?}"
    );
    let said = answer.stderr.matches("corten: started a daemon in the background").count();
    assert_eq!(said, 1, "{answer:?}");
}
