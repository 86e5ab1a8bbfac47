//! A container's life, in the foreground and step by step.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{bench, until};

#[test]
fn a_life_step_by_step() {
    let Some(bench) = bench("echo started >/mark; exec sleep 1000", |config, _| {
        config["annotations"] = json!({"a": "b"});
    }) else {
        return;
    };
    bench.create(&["--pid-file", &bench.path("pid")]).ok();
    let state = bench.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["annotations"], json!({"a": "b"}));
    assert_eq!(state["bundle"], bench.path("bundle").as_str());
    assert_eq!(state["pid"].to_string(), fs::read_to_string(bench.path("pid")).unwrap());
    assert!(!Path::new(&bench.path("bundle/rootfs/mark")).exists(), "the program ran before its start");
    bench.create(&[]).fails(1, "container with given ID already exists");
    bench.on("resume").fails(1, "container not paused");

    bench.on("start").ok();
    assert_eq!(bench.status(), "running");
    bench.on("start").fails(1, "cannot start a container in the running state");
    bench.on("delete").fails(1, "that is not stopped: running");
    let listed: Value = serde_json::from_str(&bench.runtime(&["list", "--format", "json"]).ok()).unwrap();
    assert_eq!(listed[0]["id"], bench.id.as_str());
    assert_eq!(bench.runtime(&["list", "-q"]).ok(), format!("{}\n", bench.id));
    assert!(bench.runtime(&["list"]).ok().starts_with("ID "));

    bench.on("kill").ok();
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    assert_eq!((bench.status(), bench.state()["pid"].clone()), ("stopped".into(), json!(0)));
    bench.on("kill").fails(1, "container not running");
    bench.on("delete").ok();
    bench.on("state").fails(1, "container does not exist");
    bench.on("delete").fails(1, "container does not exist");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// A frozen container stays so: on v1 its processes get the signal when they go on, on v2 one that ends them does so at once. The first
/// one takes none that it doesn't handle.
#[test]
fn a_signal_for_all() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let init = bench.state()["pid"].clone();
    let pids = || serde_json::from_str::<Value>(&bench.runtime(&["ps", "-f", "json", &bench.id]).ok()).unwrap();
    for frozen in [false, true] {
        for _ in 0..2 {
            bench.runtime(&["exec", "--detach", &bench.id, "sleep", "1000"]).ok();
        }
        assert_eq!(pids().as_array().unwrap().len(), 3);
        if frozen {
            bench.on("pause").ok();
        }
        bench.runtime(&["kill", "--all", &bench.id, "TERM"]).ok();
        if frozen {
            assert_eq!(bench.status(), "paused");
            let on_v2 = bench.groups()[0].join("cgroup.freeze").exists();
            assert!(on_v2 || pids().as_array().unwrap().len() == 3);
            bench.on("resume").ok();
        }
        until("the signal has ended all others", || pids() == json!([init]));
        assert_eq!(bench.status(), "running");
    }
    bench.runtime(&["kill", "-a", &bench.id, "NOPE"]).fails(1, "unknown signal \"NOPE\"");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// On v1 what is frozen dies when it goes on; runc's `kill` sees to that for SIGKILL, and for no other.
#[test]
fn a_paused_container_is_killed() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    bench.on("pause").ok();
    bench.runtime(&["kill", &bench.id, "USR1"]).ok();
    assert_eq!(bench.status(), "paused");
    bench.runtime(&["kill", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    assert_eq!(bench.status(), "stopped");
    bench.on("delete").ok();
    bench.is_clean();
}

/// The root is the bundle's where its path is relative; versions 1.x are understood.
#[test]
fn the_version_and_the_root() {
    let Some(bench) = bench("echo $PWD", |_, _| {}) else { return };
    for (version, root) in
        [("1.0.0", "rootfs".to_owned()), ("1.3.0", bench.path("bundle/rootfs")), ("1.9.0-dev", "./rootfs/".to_owned())]
    {
        bench.configure(|config| (config["ociVersion"], config["root"]["path"]) = (json!(version), json!(root)));
        assert_eq!(bench.run(&[]).ok(), "/\n");
    }
    bench.configure(|config| config["root"]["path"] = json!("elsewhere"));
    bench.run(&[]).fails(1, "invalid rootfs");
    bench.configure(|config| config["ociVersion"] = json!("2.0.0"));
    bench.run(&[]).fails(1, "unsupported ociVersion \"2.0.0\"");
    bench.is_clean();
}

#[test]
fn the_exit_code_is_the_programs() {
    let Some(bench) = bench("echo out; echo err >&2; exit 7", |_, _| {}) else { return };
    let answer = bench.run(&[]);
    assert_eq!((answer.code, &*answer.out, &*answer.err), (Some(7), "out\n", "err\n"));
    bench.is_clean();
}

#[test]
fn signals_end_with_128_and_more() {
    let Some(bench) = bench("kill -9 $$; sleep 1000", |config, _| {
        // As the first process of a PID namespace it could not kill itself.
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "pid");
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/proc");
    }) else {
        return;
    };
    assert_eq!(bench.run(&[]).code, Some(137));
    bench.is_clean();
}

#[test]
fn what_cannot_be_made_leaves_nothing() {
    let Some(bench) = bench("true", |config, _| config["process"]["args"] = json!(["nosuch"])) else { return };
    bench.create(&[]).fails(1, "executable file not found in $PATH");
    bench.is_clean();
    bench.run(&[]).fails(1, "corten runtime run failed: unable to start container process");
    bench.is_clean();
    bench.runtime(&["create", "--bundle", "/nonexistent", &bench.id]).fails(1, "cannot open the bundle");
    bench.runtime(&["create", "--bundle", &bench.path("bundle"), "a/b"]).fails(1, "invalid container ID format");
    bench.runtime(&["create", "--nope"]).fails(1, "flag provided but not defined: -nope");
    bench.runtime(&["--systemd-cgroup", "list"]).fails(1, "--systemd-cgroup is not supported");
    bench.is_clean();
}

#[test]
fn messages_are_logged_as_runc_does() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let log = bench.path("log");
    let answer = bench.runtime(&["--log", &log, "--log-format", "json", "state", "nosuch"]);
    assert_eq!((answer.code, &*answer.err), (Some(1), "container does not exist\n"));
    let line: Value = serde_json::from_str(&fs::read_to_string(log).unwrap()).unwrap();
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("container does not exist")));
    assert!(corten_base::time::parse_rfc3339(line["time"].as_str().unwrap()).is_ok());
    bench.on("state").fails(1, "level=error msg=\"container does not exist\"");
}

#[test]
fn a_user_namespace_has_hooks_and_execs_too() {
    let Some(bench) = bench("exec sleep 1000", |config, _| {
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map;
    }) else {
        return;
    };
    let chown =
        Command::new("chown").args(["-R", "-h", "100000:100000", &bench.path("bundle/rootfs")]).status().unwrap();
    assert!(chown.success());
    bench.run(&["--detach"]).ok();
    let map = bench.runtime(&["exec", &bench.id, "cat", "/proc/self/uid_map"]).ok();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn the_name_chooses_the_role() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let link = bench.path("corten-runtime");
    symlink(env!("CARGO_BIN_EXE_corten"), &link).unwrap();
    let output: Output = Command::new(link).arg("features").output().unwrap();
    let features: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(features["ociVersionMax"], "1.3.0");
}
