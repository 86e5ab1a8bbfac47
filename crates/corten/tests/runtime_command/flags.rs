//! Flags of `create`, `run` and `spec`, and those of the whole program.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Bench, bench, receive, until};

/// Runs the bundle with files open from descriptor 3 on.
fn run_with_open_files(bench: &Bench, environment: &str, flags: &str) -> (Option<i32>, String) {
    for (name, fd) in [("three", 3), ("four", 4), ("five", 5)] {
        fs::write(bench.path(name), format!("{fd}\n")).unwrap();
    }
    let line = format!(
        "exec 3<{} 4<{} 5<{}; {environment} exec {} runtime --root {} run --bundle {} {flags} {}",
        bench.path("three"),
        bench.path("four"),
        bench.path("five"),
        env!("CARGO_BIN_EXE_corten"),
        bench.path("state"),
        bench.path("bundle"),
        bench.id
    );
    let output = Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn descriptors_are_inherited_when_asked() {
    let script =
        "echo ${LISTEN_FDS-none} ${LISTEN_PID-none}; for fd in 3 4 5; do test -e /proc/self/fd/$fd && cat <&$fd; done";
    for user_namespace in [false, true] {
        let Some(bench) = bench(script, |config, _| {
            if user_namespace {
                let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
                config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
                (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
            }
        }) else {
            return;
        };
        assert_eq!(run_with_open_files(&bench, "", "--preserve-fds 2").1, "none none\n3\n4\n");
        assert_eq!(run_with_open_files(&bench, "", "").1, "none none\n");
        // A service manager's sockets come first, and the program is told.
        let listening = "LISTEN_FDS=1 LISTEN_PID=$$";
        assert_eq!(run_with_open_files(&bench, listening, "").1, "1 1\n3\n");
        assert_eq!(run_with_open_files(&bench, listening, "--preserve-fds 1").1, "1 1\n3\n4\n");
        assert_eq!(run_with_open_files(&bench, "LISTEN_FDS=1 LISTEN_PID=1", "").1, "none none\n");
        bench.run(&["--preserve-fds", "7"]).fails(1, "descriptor 3 is not open");
        // Nor is what the runtime itself has opened there.
        let words = ["--log", &bench.path("log"), "run", "--bundle", &bench.path("bundle"), "--preserve-fds", "1"];
        bench.runtime(&[&words[..], &[&bench.id]].concat()).fails(1, "descriptor 3 is not open");
        bench.is_clean();
    }
}

/// The root is moved over the old one instead of being exchanged for it: whoever takes it away there sees the old one.
#[test]
fn no_pivot_leaves_the_old_root_below() {
    for (flags, below) in [(&[][..], false), (&["--no-pivot"], true)] {
        let Some(bench) = bench("exec sleep 1000", |config, _| {
            for set in ["bounding", "effective", "permitted"] {
                config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_ADMIN"));
            }
        }) else {
            return;
        };
        bench.run(&[&["--detach"], flags].concat()).ok();
        assert_eq!(bench.runtime(&["exec", &bench.id, "readlink", "/proc/1/root"]).ok(), "/\n");
        bench.runtime(&["exec", &bench.id, "umount", "-l", "/"]).ok();
        // An exec enters the namespace by its top.
        let host = bench.path("bundle/rootfs/bin/busybox");
        assert_eq!(bench.runtime(&["exec", &bench.id, &host, "true"]).code == Some(0), below, "{flags:?}");
        bench.runtime(&["delete", "--force", &bench.id]).ok();
        bench.is_clean();
    }
}

#[test]
fn the_callers_keyring_is_kept_when_asked() {
    if !Path::new("/proc/keys").exists() {
        println!("skipped: this kernel has no keyrings");
        return;
    }
    // Root sees everybody's keys; others see those that they hold.
    let Some(bench) = bench("cat /proc/keys; exec sleep 1000", |config, _| {
        config["linux"]["maskedPaths"] = json!([]);
        config["process"]["user"] = json!({"uid": 5, "gid": 5});
    }) else {
        return;
    };
    // Keyrings belong to threads, and to what they start.
    let with_ring = |words: &[&str]| {
        std::thread::scope(|scope| {
            let run = || {
                corten_sys::process::new_session_keyring(Some(c"corten-test-ring")).unwrap();
                bench.runtime(words).ok().contains("corten-test-ring")
            };
            scope.spawn(run).join().unwrap()
        })
    };
    let bundle = bench.path("bundle");
    for (flags, kept) in [(&[][..], false), (&["--no-new-keyring"], true)] {
        let run = [&["run", "--detach", "--bundle", &bundle], flags, &[bench.id.as_str()]].concat();
        with_ring(&run);
        until("the program has spoken", || {
            fs::read_to_string(bench.path("out")).is_ok_and(|out| out.contains("keyring"))
        });
        assert_eq!(fs::read_to_string(bench.path("out")).unwrap().contains("corten-test-ring"), kept, "{flags:?}");
        assert_eq!(with_ring(&["exec", &bench.id, "cat", "/proc/keys"]), kept, "an exec, {flags:?}");
        bench.runtime(&["delete", "--force", &bench.id]).ok();
    }
    bench.is_clean();
}

#[test]
fn a_container_is_kept_when_asked() {
    let Some(bench) = bench("exit 7", |_, _| {}) else { return };
    assert_eq!(bench.run(&["--keep"]).code, Some(7));
    assert_eq!(bench.status(), "stopped");
    bench.run(&[]).fails(1, "container with given ID already exists");
    bench.on("delete").ok();
    bench.is_clean();
}

#[test]
fn the_process_is_told_as_a_descriptor() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    let socket = UnixListener::bind(bench.path("pidfd")).unwrap();
    bench.create(&["--pidfd-socket", &bench.path("pidfd")]).ok();
    let pidfd = receive(&socket.accept().unwrap().0.into());
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(info.lines().any(|line| line == format!("Pid:\t{}", bench.state()["pid"])), "{info}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.create(&["--pidfd-socket", "/nowhere"]).fails(1, "pidfd socket /nowhere");
    bench.is_clean();
}

#[test]
fn flags_of_the_whole_program() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let answer = bench.runtime(&["--debug", "run", "--bundle", &bench.path("bundle"), &bench.id]);
    assert!(answer.code == Some(0) && answer.err.contains("level=debug"), "{answer:?}");
    assert_eq!(bench.run(&[]).err, "", "nothing is said without --debug");
    bench.runtime(&["--rootless", "maybe", "list"]).fails(1, "invalid value \"maybe\" for flag -rootless");
    bench.runtime(&["--rootless=false", "--criu", "x", "list"]).ok();
    bench.runtime(&["--log-format", "xml", "list"]).fails(1, "invalid log-format: xml");
    let answer = bench.runtime(&["--systemd-cgroup", "run", "--bundle", &bench.path("bundle"), &bench.id]);
    assert_eq!((answer.code, answer.err.lines().count()), (Some(1), 1), "{answer:?}");
    bench.runtime(&["nosuch"]).fails(1, "no such command: \"nosuch\"");
    assert!(bench.runtime(&["--version"]).ok().contains("spec: 1.3.0"));
    bench.is_clean();
}

#[test]
fn lists_in_every_form() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    assert_eq!(bench.runtime(&["list", "-f", "json"]).ok(), "null\n");
    bench.run(&["--detach"]).ok();
    assert_eq!(bench.runtime(&["list", "-q", "-f", "json"]).ok(), format!("{}\n", bench.id));
    let listed: Value = serde_json::from_str(&bench.runtime(&["list", "-f", "json"]).ok()).unwrap();
    let mut state = bench.state();
    assert_eq!((&listed[0]["pid"], &listed[0]["owner"]), (&state["pid"], &json!("root")));
    state["owner"] = json!("root");
    assert_eq!(listed, json!([state]));
    assert_eq!(bench.runtime(&["ps", "-f", "json", &bench.id]).ok(), format!("[{}]\n", state["pid"]));
    let named = bench.runtime(&["ps", &bench.id, "-e", "-o", "comm,pid"]).ok();
    let words: Vec<_> = named.split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["COMMAND", "PID", "sleep", &state["pid"].to_string()], "ps with options of one's own");
    bench.runtime(&["ps", &bench.id, "-e", "-o", "comm"]).fails(1, "couldn't find PID field in ps output");
    bench.runtime(&["list", "-f", "xml"]).fails(1, "invalid format option");
    bench.runtime(&["ps", "-f", "xml", &bench.id]).fails(1, "invalid format option");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn a_first_configuration_is_written() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let config = bench.path("bundle/config.json");
    bench.runtime(&["spec", "--bundle", &bench.path("bundle")]).fails(1, "cannot write");
    fs::remove_file(&config).unwrap();
    bench.runtime(&["spec", "--bundle", &bench.path("bundle"), "--rootless"]).ok();
    let mut value: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    value["process"]["terminal"] = json!(false);
    value["process"]["args"] = json!(["cat", "/proc/self/uid_map"]);
    fs::write(&config, value.to_string()).unwrap();
    let map = bench.run(&[]).ok();
    let own = rustix::process::geteuid().as_raw().to_string();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", &own, "1"]);
    bench.is_clean();
}
