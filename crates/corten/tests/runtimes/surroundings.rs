//! What a container sees, what its runtime sees, and which names and settings are taken.

use std::fs;

use corten_testkit::{Answer, is_root};

use crate::common::{self, engine_with};
use crate::{Programs, run, supervisor};

#[test]
fn what_the_container_sees() {
    if !is_root("what_the_container_sees") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let volume = programs.directory.path().join("volume");
    fs::create_dir(&volume).expect("a directory");
    fs::write(volume.join("file"), "bound\n").expect("a file");
    let bind = format!("{}:/bound:ro", volume.display());
    for runtime in runtimes {
        println!("with {runtime}");
        let sh = |options: &[&str], script: &str| {
            let answer = run(&engine, runtime, &[options, &["busybox", "sh", "-c", script]].concat());
            answer.ok().to_owned()
        };
        assert_eq!(sh(&["-v", &bind], "cat /bound/file; echo x 2>/dev/null >/bound/file || echo kept"), "bound\nkept");
        assert_eq!(sh(&["--read-only", "--tmpfs", "/t"], "touch /x 2>/dev/null || touch /t/x && echo fine"), "fine");
        assert_eq!(sh(&["--hostname", "box", "-u", "1"], "hostname; id -u"), "box\n1");
        assert_eq!(sh(&["--init"], "tr '\\0' ' ' </proc/1/cmdline | cut -d' ' -f1"), "/sbin/docker-init");
        // Nothing of the supervisor's comes along, and what the engine's own runtime gives is there.
        let look = "umask; pwd; env | sort; grep -E 'SigBlk|Cap|NoNew|Seccomp:|Groups' /proc/1/status; \
                    grep SigIgn /proc/1/status | tail -c 5; cat /proc/1/oom_score_adj; ulimit -a; cut -d' ' -f5 /proc/self/mountinfo | sort";
        let descriptors = run(&engine, runtime, &["busybox", "ls", "/proc/self/fd"]);
        assert_eq!(descriptors.ok(), "0\n1\n2\n3", "3 is the list's own");
        let fixed = ["--hostname", "box"];
        let usual = run(&engine, "corten", &[&fixed[..], &["busybox", "sh", "-c", look]].concat());
        assert_eq!(sh(&fixed, look), usual.ok());
        // On a network, and in another container's.
        let options = ["run", "-d", "--runtime", runtime, "--name", "server", "--ipc", "shareable"];
        let serve = "echo hello >/tmp/index.html; echo shared >/dev/shm/x; exec httpd -f -p 80 -h /tmp";
        engine.docker(&[&options[..], &["busybox", "sh", "-c", serve]].concat()).ok();
        let address = engine.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "server"]);
        let fetch =
            format!("for i in $(seq 50); do wget -qO- http://{}/index.html && break; sleep 0.1; done", address.ok());
        let client = ["run", "--rm", "--runtime", runtime];
        assert_eq!(engine.docker(&[&client[..], &["busybox", "sh", "-c", &fetch]].concat()).ok(), "hello");
        let joined = ["--network", "container:server", "--ipc", "container:server", "--pid", "container:server"];
        let look = "wget -qO- http://127.0.0.1/index.html; cat /dev/shm/x; tr '\\0' ' ' </proc/1/cmdline";
        let seen = engine.docker(&[&client[..], &joined, &["busybox", "sh", "-c", look]].concat());
        assert_eq!(seen.ok(), "hello\nshared\nhttpd -f -p 80 -h /tmp");
        engine.docker(&["rm", "-f", "server"]).ok();
    }
    engine.finish();
}

#[test]
fn mounts_that_are_shared_with_the_host() {
    if !is_root("mounts_that_are_shared_with_the_host") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let place = engine.path().join("place");
    fs::create_dir(&place).expect("a directory");
    let shell = |text: &str| {
        let answer = Answer::of(engine.inside("sh").args(["-euc", text, "sh"]).arg(&place), b"");
        answer.ok().to_owned()
    };
    shell("mount -t tmpfs place $1; mount --make-shared $1; mkdir $1/inner");
    let bind = format!("{}:/place:rshared", place.display());
    for runtime in runtimes {
        println!("with {runtime}");
        let options =
            ["run", "-d", "--privileged", "--network", "none", "--runtime", runtime, "--name", "mounts", "-v", &bind];
        let command =
            ["busybox", "sh", "-c", "mount -t tmpfs in /place/inner && touch /place/inner/mark && exec sleep 1000"];
        engine.docker(&[&options[..], &command].concat()).ok();
        common::wait_until("the mount reaches the host", || shell("ls $1/inner") == "mark");
        engine.docker(&["rm", "-f", "mounts"]).ok();
        shell("umount $1/inner");
    }
    shell("umount $1");
    engine.finish();
}

#[test]
fn settings_that_cannot_be() {
    if !is_root("settings_that_cannot_be") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let told = |runtime: &str, options: &[&str]| {
        let fixed = ["run", "--rm", "--runtime", runtime];
        let answer = engine.docker(&[&fixed[..], options, &["busybox", "true"]].concat());
        assert_eq!(answer.code, 125, "{answer:?}");
        answer.stderr
    };
    let refused = [["--ipc=host", "--sysctl=kernel.msgmax=1"], ["--network=host", "--sysctl=net.ipv4.ip_forward=1"]];
    for options in refused {
        let own = told("corten", &options);
        assert!(own.contains(": OCI runtime create failed: runc create failed: "), "{own}");
        // runc's own words, where there is one.
        for runtime in runtimes.iter().filter(|name| **name == "peer-runc") {
            assert_eq!(own, told(runtime, &options));
        }
    }
    engine.finish();
}

#[test]
fn a_runtime_gets_nothing_of_the_supervisors() {
    if !is_root("a_runtime_gets_nothing_of_the_supervisors") {
        return;
    }
    let programs = Programs::new();
    let seen = programs.directory.path().join("seen");
    let look = "env; ls /proc/self/fd; umask; grep SigBlk /proc/self/status; readlink /proc/self/ns/net";
    let nosy = programs.script(
        "nosy",
        &format!(
            "case \"$*\" in *' create '*) {{ {look}; }} >{} 2>&1;; esac\nexec {} \"$@\"",
            seen.display(),
            programs.own().display()
        ),
    );
    let engine = engine_with(&[&format!("--add-runtime=nosy={}", nosy.display())]);
    run(&engine, "nosy", &["busybox", "true"]).fails(0, "");
    let host = Answer::of(engine.inside("readlink").arg("/proc/self/ns/net"), b"");
    let text = fs::read_to_string(seen).expect("what the runtime has seen");
    let (environment, rest): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.contains('='));
    // The shell adds those of its own.
    let shells = ["PWD", "OLDPWD", "SHLVL", "_"];
    let given = environment.iter().filter_map(|line| line.split('=').next()).filter(|name| !shells.contains(name));
    assert_eq!(given.collect::<Vec<_>>(), ["PATH"], "{text}");
    // 3 is the list's own.
    assert_eq!(rest, ["0", "1", "2", "3", "0022", "SigBlk:\t0000000000000000", host.ok()]);
    engine.finish();
}

#[test]
fn names() {
    if !is_root("names") {
        return;
    }
    let programs = Programs::new();
    let config = programs.directory.path().join("daemon.json");
    let own = programs.own();
    let text = serde_json::json!({
        "runtimes": {
            "own": {"path": own, "runtimeArgs": ["--debug"]},
            "gone": {"path": "/nonexistent/runtime", "runtimeArgs": ["--debug"]},
        },
        "default-runtime": "own",
    });
    fs::write(&config, text.to_string()).expect("writing the settings");
    let engine = engine_with(&["--config-file", config.to_str().expect("a UTF-8 path")]);
    let info = engine.docker(&["info", "-f", "{{.DefaultRuntime}} {{range $name, $_ := .Runtimes}}{{$name}} {{end}}"]);
    assert_eq!(info.ok(), "own corten gone io.containerd.runc.v2 own runc");
    assert_eq!(
        engine.docker(&["info", "-f", "{{.Runtimes.own.Path}} {{.Runtimes.own.Args}}"]).ok(),
        format!("{} [--debug]", own.display())
    );
    let runtime_of = |name: &str| engine.docker(&["inspect", "-f", "{{.HostConfig.Runtime}}", name]).ok().to_owned();
    let parent_of = |options: &[&str]| {
        common::sleeper(&engine, options);
        let shim = supervisor(&engine, common::pid(&engine, options[1]));
        let line = fs::read_to_string(format!("/proc/{shim}/cmdline"))
            .expect("the supervisor's command line")
            .replace('\0', " ");
        (runtime_of(options[1]), line.contains("--external"))
    };
    assert_eq!(parent_of(&["--name", "plain"]), ("own".into(), true));
    assert_eq!(parent_of(&["--name", "asked", "--runtime", "runc"]), ("runc".into(), false));
    assert_eq!(
        parent_of(&["--name", "built-in", "--runtime", "io.containerd.runc.v2"]),
        ("io.containerd.runc.v2".into(), false)
    );
    engine.docker(&["rm", "-f", "plain", "asked", "built-in"]).ok();
    run(&engine, "nosuch", &["busybox", "true"]).fails(125, "unknown or invalid runtime name: nosuch");
    let gone = "error while looking up the specified runtime path: exec: \"/nonexistent/runtime\": stat /nonexistent/runtime: no such file or directory";
    run(&engine, "gone", &["busybox", "true"]).fails(127, gone);
    let answer = engine.post("/containers/create", r#"{"Image":"busybox","HostConfig":{"Runtime":"nosuch"}}"#);
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("unknown or invalid runtime name: nosuch"),
        "{answer}"
    );
    engine.finish();
}
