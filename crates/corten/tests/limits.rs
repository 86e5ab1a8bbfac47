//! A container's limits, as the kernel enforces them: on whatever control groups the machine has, v1 and v2 alike (`./x vm-test`
//! runs this on v2). Each test ends with the leak check.

mod common;

use std::process::Stdio;

use common::engine;
use corten_testkit::{TestEngine, is_root};

/// The first of these files that is there, on v2 and on v1, from inside a container.
fn limit(engine: &TestEngine, container: &str, v2: &str, v1: &str) -> String {
    let script = format!("cat /sys/fs/cgroup/{v2} 2>/dev/null || cat /sys/fs/cgroup/{v1}");
    engine.docker(&["exec", container, "sh", "-c", &script]).ok().to_owned()
}

fn inspect(engine: &TestEngine, container: &str, format: &str) -> String {
    engine.docker(&["inspect", "-f", format, container]).ok().to_owned()
}

#[test]
fn limits_reach_the_kernel() {
    if !is_root("limits_reach_the_kernel") {
        return;
    }
    let engine = engine();
    let options =
        ["--memory", "64m", "--memory-swap", "96m", "--cpus", "0.5", "--pids-limit", "20", "--cpuset-cpus", "0"];
    engine.docker(&[&["run", "-d", "--name", "box"], &options[..], &["busybox", "sleep", "1000"]].concat()).ok();
    assert_eq!(limit(&engine, "box", "memory.max", "memory/memory.limit_in_bytes"), "67108864");
    assert_eq!(limit(&engine, "box", "pids.max", "pids/pids.max"), "20");
    assert_eq!(limit(&engine, "box", "cpuset.cpus", "cpuset/cpuset.cpus"), "0");
    let cpu = limit(&engine, "box", "cpu.max", "cpu/cpu.cfs_quota_us");
    assert!(["50000 100000", "50000"].contains(&cpu.as_str()), "{cpu}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn an_oom_kill_is_recorded() {
    if !is_root("an_oom_kill_is_recorded") {
        return;
    }
    let engine = engine();
    let eat = "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done";
    let run = ["run", "--name", "eater", "--network", "none", "--memory", "16m", "--memory-swap", "16m", "busybox"];
    engine.docker(&[&run[..], &["sh", "-c", eat]].concat()).fails(137, "");
    assert_eq!(inspect(&engine, "eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
    engine.docker(&["rm", "eater"]).ok();
    engine.finish();
}

#[test]
fn tasks_are_counted() {
    if !is_root("tasks_are_counted") {
        return;
    }
    let engine = engine();
    let fork = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let run = ["run", "--rm", "--network", "none", "--pids-limit", "5", "busybox", "sh", "-c", fork];
    let answer = engine.docker(&run);
    assert!(answer.code != 0 && answer.stderr.contains("fork"), "{answer:?}");
    engine.finish();
}

#[test]
fn devices_need_a_rule() {
    if !is_root("devices_need_a_rule") {
        return;
    }
    let engine = engine();
    let run = |options: &[&str], script: &str| {
        let base = ["run", "--rm", "--network", "none", "--cap-add", "SYSLOG"];
        engine.docker(&[&base, options, &["busybox", "sh", "-c", script]].concat())
    };
    // Docker lets every node be made, and few be opened: kmsg (1:11) is none of them, even for who
    // may read the kernel's log.
    let open = "mknod /kmsg c 1 11 && exec 3</kmsg && echo opened";
    run(&[], open).fails(1, "can't open /kmsg: Operation not permitted");
    assert_eq!(run(&["--device-cgroup-rule", "c 1:11 r"], open).ok(), "opened");
    run(&["--device-cgroup-rule", "c 1:11 w"], open).fails(1, "can't open /kmsg: Operation not permitted");
    assert_eq!(run(&["--privileged"], open).ok(), "opened");
    run(&[], "mknod /null c 1 3 && echo x > /null").ok();
    engine.finish();
}

#[test]
fn a_paused_container_stands_still() {
    if !is_root("a_paused_container_stands_still") {
        return;
    }
    let engine = engine();
    engine.docker(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]).ok();
    engine.docker(&["pause", "box"]).ok();
    assert_eq!(inspect(&engine, "box", "{{.State.Status}}"), "paused");
    engine.docker(&["exec", "box", "true"]).fails(1, "is paused");
    engine.docker(&["unpause", "box"]).ok();
    assert_eq!(engine.docker(&["exec", "box", "echo", "awake"]).ok(), "awake");
    // One that is paused can be removed all the same.
    engine.docker(&["pause", "box"]).ok();
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

/// The daemon takes all descriptors that it may have; containers and what is executed in them have what it began with.
#[test]
fn the_daemons_descriptors_are_not_the_containers() {
    if !is_root("the_daemons_descriptors_are_not_the_containers") {
        return;
    }
    use corten_sys::limits::{Limit, Resource, get, set};
    let nofile = Resource::parse("RLIMIT_NOFILE").expect("a name of the specification");
    let before = get(nofile).expect("this process has limits");
    set(nofile, Limit { soft: 512, ..before }).expect("lowering the soft limit");
    let engine = engine();
    set(nofile, before).expect("raising the soft limit");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", engine.pid())).expect("the daemon lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("the limit");
    let hard = before.hard.to_string();
    assert_eq!(line.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), [&hard, &hard], "{line}");
    let shows = "ulimit -Sn; ulimit -Hn";
    engine.docker(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", "sleep 1000"]).ok();
    let run = |options: &[&str]| {
        let run = ["run", "--rm", "--network", "none"];
        engine.docker(&[&run, options, &["busybox", "sh", "-c", shows]].concat()).ok().to_owned()
    };
    let expect = format!("512\n{hard}");
    assert_eq!(run(&[]), expect);
    assert_eq!(engine.docker(&["exec", "box", "sh", "-c", shows]).ok(), expect);
    assert_eq!(run(&["--ulimit", "nofile=100:200"]), "100\n200");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

/// A published port on the bridge, asked from the engine's own network namespace.
#[test]
fn a_limited_server_is_reached_on_its_port() {
    if !is_root("a_limited_server_is_reached_on_its_port") {
        return;
    }
    let engine = engine();
    let serve = "while :; do echo hello | nc -l -p 80; done";
    let run =
        ["run", "-d", "--name", "web", "--memory", "64m", "-p", "127.0.0.1:8080:80", "busybox", "sh", "-c", serve];
    engine.docker(&run).ok();
    // The server needs a moment: ask until it answers, as any client would.
    let ask = "until nc 127.0.0.1 8080 </dev/null | grep hello; do :; done";
    let answer =
        engine.inside("timeout").args(["60", "busybox", "sh", "-c", ask]).stdin(Stdio::null()).output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("hello"), "{answer:?}");
    engine.docker(&["rm", "-f", "web"]).ok();
    engine.finish();
}
