//! Whose child a process becomes when its parent ends, in a container without a PID namespace of its own.

use std::fs;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::support::{Bench, bench, until};

/// Leaves a process behind, says which, and waits for a word.
const LEAVE_ONE: &str = "(sleep 1000 & echo $! >/orphan); echo >/left; read line </go";

fn in_hosts_processes(config: &mut Value) {
    config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
    config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
}

/// A command of the runtime in the foreground, and whether the process that its program leaves becomes its child.
fn reaps(bench: &Bench, words: &[&str]) -> bool {
    let file = |name: &str| bench.path(&format!("bundle/rootfs/{name}"));
    for name in ["orphan", "left", "go"] {
        let _ = fs::remove_file(file(name));
    }
    rustix::fs::mknodat(rustix::fs::CWD, file("go"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let mut child: Child = bench.command(words).stdout(Stdio::null()).spawn().unwrap();
    until("a process is left behind", || fs::metadata(file("left")).is_ok());
    let orphan = fs::read_to_string(file("orphan")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", orphan.trim())).unwrap();
    let parent = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    fs::write(file("go"), "go\n").unwrap();
    assert!(child.wait().unwrap().success());
    parent == child.id().to_string()
}

#[test]
fn the_runtime_takes_orphans_in_unless_told_not_to() {
    let Some(bench) = bench(LEAVE_ONE, |config, _| in_hosts_processes(config)) else { return };
    let bundle = bench.path("bundle");
    assert!(reaps(&bench, &["run", "--bundle", &bundle, &bench.id]));
    assert!(!reaps(&bench, &["run", "--no-subreaper", "--bundle", &bundle, &bench.id]));
    // What is left goes with the container.
    bench.is_clean();
}

/// As with runc, whose flag of the same name says nothing.
#[test]
fn an_exec_takes_none_in() {
    let Some(bench) = bench("exec sleep 1000", |config, _| in_hosts_processes(config)) else { return };
    bench.run(&["--detach"]).ok();
    assert!(!reaps(&bench, &["exec", &bench.id, "sh", "-c", LEAVE_ONE]));
    assert!(!reaps(&bench, &["exec", "--no-subreaper", &bench.id, "sh", "-c", LEAVE_ONE]));
    let pids: Value = serde_json::from_str(&bench.runtime(&["ps", "-f", "json", &bench.id]).ok()).unwrap();
    assert_eq!(pids.as_array().unwrap().len(), 3, "both are still the container's: {pids}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// The kernel ends nobody with an init that has no PID namespace of its own.
#[test]
fn who_is_killed_leaves_nobody_behind() {
    let script = "sleep 1000 & exec sleep 1000";
    let Some(bench) = bench(script, |config, _| in_hosts_processes(config)) else { return };
    let pids = || serde_json::from_str::<Value>(&bench.runtime(&["ps", "-f", "json", &bench.id]).ok()).unwrap();
    let count = |count| until("as many processes", || pids().as_array().unwrap().len() == count);
    bench.run(&["--detach"]).ok();
    count(2);
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    count(0);
    // As often as asked, as with runc; another signal is the init's alone.
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    bench.on("kill").fails(1, "container not running");
    bench.on("delete").ok();
    bench.run(&["--detach"]).ok();
    count(2);
    bench.runtime(&["kill", &bench.id, "USR1"]).ok();
    bench.wait_for_end();
    count(1);
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    count(0);
    bench.on("delete").ok();
    bench.is_clean();
}
