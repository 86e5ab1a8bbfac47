//! The create request for many flags: byte for byte the JSON values that Docker's client 28.2 was seen to send for the
//! same command lines (`create/*.json`).

mod support;

use serde_json::Value;
use support::{Daemon, Reply};

fn check(recorded: &str) {
    let recorded: Value = serde_json::from_str(recorded).expect("JSON");
    let arguments: Vec<&str> =
        recorded["arguments"].as_array().expect("list").iter().filter_map(Value::as_str).collect();
    let daemon = Daemon::start(|_| Reply::Json(201, r#"{"Id":"x"}"#.to_owned()));
    let shown = daemon.run(&arguments);
    assert_eq!((shown.err.as_str(), shown.status), ("", 0));
    let seen = daemon.seen.lock().expect("lock");
    let sent: Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    for part in ["HostConfig", "NetworkingConfig"] {
        for (name, expect) in recorded["request"][part].as_object().expect("object") {
            assert_eq!(&sent[part][name], expect, "{part}.{name}");
        }
    }
    assert_eq!(sent, recorded["request"]);
}

#[test]
fn no_flags() {
    check(include_str!("create/plain.json"));
}

#[test]
fn nearly_all_flags() {
    check(include_str!("create/full.json"));
}

#[test]
fn other_forms() {
    check(include_str!("create/short.json"));
    check(include_str!("create/networks.json"));
}

#[test]
fn files_are_read_here() {
    let daemon = Daemon::start(|_| Reply::Json(201, r#"{"Id":"x"}"#.to_owned()));
    let write = |name: &str, text: &str| std::fs::write(daemon.directory.path().join(name), text).expect("file");
    write("env", "# comment\nA=1\nFROM_HERE\nUNSET\n");
    write("labels", "l=1\nm\n");
    write("profile.json", "{\"defaultAction\": \"SCMP_ACT_ALLOW\"}\n");
    let mut command = daemon.command(&[
        "create",
        "--env-file",
        "env",
        "-e",
        "GONE",
        "--label-file",
        "labels",
        "--security-opt",
        "seccomp=profile.json",
        "-v",
        "./sub:/s",
        "img",
    ]);
    let shown = support::Shown::from(command.env("FROM_HERE", "yes").output().expect("client runs"));
    assert_eq!((shown.err.as_str(), shown.status), ("", 0));
    let seen = daemon.seen.lock().expect("lock");
    let sent: Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    assert_eq!(sent["Env"], serde_json::json!(["A=1", "FROM_HERE=yes", "GONE"]));
    assert_eq!(sent["Labels"], serde_json::json!({ "l": "1" }));
    assert_eq!(sent["HostConfig"]["SecurityOpt"][0], r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#);
    let directory = daemon.directory.path().canonicalize().expect("exists");
    assert_eq!(sent["HostConfig"]["Binds"][0], format!("{}/sub:/s", directory.display()));
}
