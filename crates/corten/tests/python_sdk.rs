//! The Docker SDK for Python, as its users call it, against the daemon.

mod common;

use std::process::Command;

use common::engine;
use corten_testkit::{Answer, is_root, workspace};

#[test]
fn the_python_sdk_drives_the_daemon() {
    if !is_root("the_python_sdk_drives_the_daemon") {
        return;
    }
    let engine = engine();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python_sdk.py");
    let mut python = Command::new("python3");
    python.arg(script).env("DOCKER_HOST", engine.host()).env("PYTHONPATH", workspace().join("target/tools/python"));
    let answer = Answer::of(&mut python, b"");
    assert_eq!(answer.code, 0, "{}\n{}", answer.stdout, answer.stderr);
    assert!(answer.stdout.ends_with("all done\n"), "{}", answer.stdout);
    engine.finish();
}
