//! Between the request and the container's program nobody executes anything: shims apply their plans by themselves. The kernel tells of
//! every execve below the daemon.

mod common;

use std::collections::BTreeSet;

use common::{engine, engine_with, pid, sleeper};
use corten_testkit::executions::Executions;
use corten_testkit::{TestEngine, is_root};

fn create(engine: &TestEngine, options: &[&str]) {
    engine.docker(&[&["create"], options, &["busybox", "sleep", "1000"]].concat()).ok();
}

fn start(engine: &TestEngine, name: &str) {
    let answer = engine.post(&format!("/containers/{name}/start"), "");
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[test]
fn a_start_executes_the_program_and_nothing_else() {
    if !is_root("a_start_executes_the_program_and_nothing_else") {
        return;
    }
    let engine = engine();
    let Some(mut executions) = Executions::of("a_start_executes_the_program_and_nothing_else", engine.pid()) else {
        return;
    };
    sleeper(&engine, &["--name", "other", "--ipc", "shareable"]);
    let joined = ["--network", "container:other", "--ipc", "container:other", "--pid", "container:other"];
    let host = ["--network", "host", "--ipc", "host", "--pid", "host", "--uts", "host", "--cgroupns", "host"];
    let kinds: [(&str, &[&str]); 4] = [
        ("prepared", &["--network", "none"]),
        ("plugged", &["-p", "127.0.0.1::80", "--memory", "64m", "--tmpfs", "/t", "-v", "/v"]),
        ("joined", &joined),
        ("host", &host),
    ];
    for (name, options) in kinds {
        create(&engine, &[&["--name", name], options].concat());
        executions.so_far();
        start(&engine, name);
        let program = pid(&engine, name);
        assert_eq!(executions.so_far(), [program], "{name}");
        engine.docker(&["exec", name, "true"]).ok();
        let further = executions.so_far();
        assert!(further.len() == 1 && further[0] != program, "{name}: {further:?}");
    }
    engine.docker(&["rm", "-f", "prepared", "plugged", "joined", "host", "other"]).ok();
    assert_eq!(executions.so_far(), [0; 0]);
    engine.finish();
}

/// More at once than there are warm shims, which are made meanwhile.
#[test]
fn starts_without_a_warm_shim_execute_their_programs_only() {
    if !is_root("starts_without_a_warm_shim_execute_their_programs_only") {
        return;
    }
    let engine = engine();
    let Some(mut executions) = Executions::of("starts_without_a_warm_shim_execute_their_programs_only", engine.pid())
    else {
        return;
    };
    let names: Vec<String> = (0..12).map(|number| format!("box-{number}")).collect();
    for name in &names {
        create(&engine, &["--name", name, "--network", "none"]);
    }
    executions.so_far();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| start(&engine, name));
        }
    });
    let executed = executions.so_far();
    let programs: BTreeSet<u32> = names.iter().map(|name| pid(&engine, name)).collect();
    assert_eq!((executed.len(), BTreeSet::from_iter(executed)), (names.len(), programs));
    for name in &names {
        engine.docker(&["rm", "-f", name]).ok();
    }
    engine.finish();
}

/// What the other cases would see: a runtime is executed for create and start, on the shim's way to the program.
#[test]
fn a_program_on_the_way_is_seen() {
    if !is_root("a_program_on_the_way_is_seen") {
        return;
    }
    let directory = tempfile::tempdir_in("/var/tmp").expect("a directory");
    let runtime = directory.path().join("corten-runtime");
    std::os::unix::fs::symlink(common::CORTEN, &runtime).expect("a link");
    let engine = engine_with(&[&format!("--add-runtime=own={}", runtime.display())]);
    let Some(mut executions) = Executions::of("a_program_on_the_way_is_seen", engine.pid()) else { return };
    create(&engine, &["--name", "box", "--network", "none", "--runtime", "own"]);
    assert_eq!(executions.so_far(), [0; 0]);
    start(&engine, "box");
    let (executed, program) = (executions.so_far(), pid(&engine, "box"));
    // The supervisor, create and start, and the program after its init.
    assert!(executed.len() >= 4 && executed.contains(&program), "{executed:?}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}
