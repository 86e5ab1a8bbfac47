//! The `docker run` smoke test: the unmodified client, the daemon, a container on the default network with limits, on whatever kernel and
//! layout of control groups this is (`./x vm-test` boots each). Ends with the leak check.

mod common;

use common::engine;
use corten_testkit::is_root;

#[test]
fn docker_run_smoke_test() {
    if !is_root("docker_run_smoke_test") {
        return;
    }
    let engine = engine();
    println!("control groups: {}", engine.docker(&["info", "-f", "v{{.CgroupVersion}} {{.CgroupDriver}}"]).ok());
    let hello = engine.docker(&["run", "--rm", "corten/hello"]);
    assert!(hello.ok().contains("Hello from Corten"), "{hello:?}");

    let limits = ["--memory", "64m", "--pids-limit", "50", "--cpus", "0.5", "--publish", "127.0.0.1:8080:80"];
    let server = ["busybox", "sh", "-c", "echo served >/index.html; echo up; exec httpd -f -p 80 -h /"];
    engine.docker(&[&["run", "-d", "--name", "web"], &limits[..], &server].concat()).ok();
    common::wait_until("the server is up", || engine.docker(&["logs", "web"]).ok() == "up");
    let limit = "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true";
    assert_eq!(engine.docker(&["exec", "web", "sh", "-c", limit]).ok(), (64 << 20).to_string());
    common::wait_until("the server answers on its published port", || {
        let fetch = engine.inside("/bin/busybox").args(["wget", "-qO-", "http://127.0.0.1:8080/"]).output();
        fetch.is_ok_and(|fetched| fetched.stdout == b"served\n")
    });
    engine.docker(&["stop", "-t", "1", "web"]).ok();
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.Status}}", "web"]).ok(), "exited");
    engine.docker(&["rm", "web"]).ok();
    engine.docker(&["run", "--rm", "busybox", "sh", "-c", "exit 3"]).fails(3, "");
    engine.finish();
}
