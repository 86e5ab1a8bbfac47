//! Other runtimes by name: the daemon drives their OCI command line, and Docker's users see no difference. The runtime that is
//! always there is Corten's own command line; crun and runc join in where `./x peers` has made their root.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use common::{CORTEN, engine_with};
use corten_testkit::{Answer, TestEngine, engine::docker_client, is_root, workspace};

/// Runtimes as programs in a directory of the test's own.
struct Programs {
    directory: tempfile::TempDir,
}

impl Programs {
    fn new() -> Programs {
        let directory =
            tempfile::Builder::new().prefix("corten-runtimes-").tempdir_in("/var/tmp").expect("a directory");
        symlink(CORTEN, directory.path().join("corten-runtime")).expect("a link to the program");
        Programs { directory }
    }

    /// A shell script that stands for a runtime.
    fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, format!("#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\n{text}\n")).expect("writing a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("making it executable");
        path
    }

    /// The runtime that is always there.
    fn own(&self) -> PathBuf {
        self.directory.path().join("corten-runtime")
    }

    /// A runtime of Debian sid, if its root has been made. It sees sid's `/usr`, and no cgroup2 beside v1: crun refuses that.
    fn peer(&self, name: &str) -> Option<PathBuf> {
        let usr = workspace().join("target/peers/sid/usr");
        if !usr.join("bin").join(name).exists() && !usr.join("sbin").join(name).exists() {
            println!("skipped: no {name}; ./x peers makes the root that it runs in");
            return None;
        }
        let enter = format!(
            "exec unshare --mount --propagation unchanged sh -eu -c '\
             ! mountpoint -q /sys/fs/cgroup/unified || umount -l /sys/fs/cgroup/unified\n\
             mount --bind {} /usr\nexec {name} \"$@\"' {name} \"$@\"",
            usr.display()
        );
        Some(self.script(name, &enter))
    }

    /// An engine that knows all of them.
    fn engine(&self) -> (TestEngine, Vec<&'static str>) {
        let mut known = vec![("own", self.own())];
        known.extend(["crun", "runc"].into_iter().filter_map(|name| Some((name, self.peer(name)?))));
        let flag = |(name, path): &(&str, PathBuf)| {
            let name = if *name == "runc" { "peer-runc" } else { name };
            format!("--add-runtime={name}={}", path.display())
        };
        let flags: Vec<String> = known.iter().map(flag).collect();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let names = known.iter().map(|(name, _)| if *name == "runc" { "peer-runc" } else { name });
        (engine_with(&flags), names.collect())
    }
}

/// `docker run --runtime ..` without a network.
fn run(engine: &TestEngine, runtime: &str, arguments: &[&str]) -> Answer {
    engine.docker(&[&["run", "--rm", "--network", "none", "--runtime", runtime], arguments].concat())
}

#[test]
fn output_input_and_exit_codes() {
    if !is_root("output_input_and_exit_codes") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    for runtime in runtimes {
        println!("with {runtime}");
        let split = run(&engine, runtime, &["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        assert_eq!((split.code, split.stdout.as_str(), split.stderr.as_str()), (3, "out\n", "err\n"));
        let cat = ["run", "-i", "--rm", "--network", "none", "--runtime", runtime, "busybox", "cat"];
        assert_eq!(engine.client(docker_client(), &cat, b"typed").ok(), "typed");
    }
    engine.finish();
}

#[test]
fn terminals() {
    if !is_root("terminals") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let in_terminal = |words: &str| {
        let command = format!("stty rows 33 cols 77; {} {words}", docker_client().display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &command, "/dev/null"]).env("DOCKER_HOST", engine.host());
        Answer::of(&mut script, b"")
    };
    let look = "'test -t 0 && test -t 1 && tty; i=0; until [ \"$(stty size)\" = \"33 77\" ] || [ $i = 200 ]; do \
                i=$((i+1)); sleep 0.02; done; stty size'";
    for runtime in runtimes {
        println!("with {runtime}");
        let answer = in_terminal(&format!("run -it --rm --network none --runtime {runtime} busybox sh -c {look}"));
        assert!(answer.code == 0 && answer.stdout.contains("33 77"), "{answer:?}");
        sleeper(&engine, runtime, "term", &[]);
        let answer = in_terminal(&format!("exec -it term sh -c {look}"));
        assert!(answer.code == 0 && answer.stdout.contains("33 77"), "{answer:?}");
        engine.docker(&["rm", "-f", "term"]).ok();
    }
    engine.finish();
}

/// A container in the background; its first process as the machine sees it.
fn sleeper(engine: &TestEngine, runtime: &str, name: &str, options: &[&str]) -> u32 {
    common::sleeper(engine, &[&["--name", name, "--runtime", runtime], options].concat())
}

#[test]
fn further_processes() {
    if !is_root("further_processes") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    for runtime in runtimes {
        println!("with {runtime}");
        sleeper(&engine, runtime, "exe", &["-e", "A=1"]);
        let exec = |arguments: &[&str]| engine.docker(&[&["exec"], arguments].concat());
        let split = exec(&["exe", "sh", "-c", "echo $A; echo err >&2; exit 7"]);
        assert_eq!((split.code, split.stdout.as_str(), split.stderr.as_str()), (7, "1\n", "err\n"));
        assert_eq!(
            exec(&["-w", "/tmp", "-e", "B=2", "-u", "1:1", "exe", "sh", "-c", "pwd; echo $B; id -u"]).ok(),
            "/tmp\n2\n1"
        );
        assert_eq!(engine.client(docker_client(), &["exec", "-i", "exe", "cat"], b"typed").ok(), "typed");
        let missing = exec(&["exe", "nosuch"]);
        assert_eq!(missing.code, 127, "{missing:?}");
        let told = format!("{}{}", missing.stdout, missing.stderr);
        assert!(told.contains("OCI runtime exec failed: ") && told.contains("nosuch"), "{missing:?}");
        // It is known by its command line, and ends with the container.
        exec(&["-d", "exe", "sleep", "999"]).ok();
        let top = || engine.docker(&["top", "exe", "-o", "pid,cmd"]).ok().to_owned();
        assert!(top().contains("sleep 1000"), "{}", top());
        // crun says that a process runs when it is about to execute.
        common::wait_until("the other process is listed", || top().contains("sleep 999"));
        engine.docker(&["rm", "-f", "exe"]).ok();
    }
    engine.finish();
}

#[test]
fn signals_and_the_freezer() {
    if !is_root("signals_and_the_freezer") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let state = |name: &str| {
        let shown =
            engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.HostConfig.Runtime}}", name]);
        shown.ok().to_owned()
    };
    for runtime in runtimes {
        println!("with {runtime}");
        let trap = "trap 'echo got; exit 4' TERM; echo ready; while true; do sleep 0.05; done";
        let trapping = ["run", "-d", "--network", "none", "--runtime", runtime];
        engine.docker(&[&trapping[..], &["--name", "polite", "busybox", "sh", "-c", trap]].concat()).ok();
        common::wait_until("the trap is set", || engine.docker(&["logs", "polite"]).stdout == "ready\n");
        engine.docker(&["stop", "polite"]).ok();
        assert_eq!(state("polite"), format!("exited 4 {runtime}"));
        assert_eq!(engine.docker(&["logs", "polite"]).ok(), "ready\ngot");
        // It starts again, from what it has left.
        engine.docker(&["start", "polite"]).ok();
        engine.docker(&["rm", "-f", "polite"]).ok();

        let pid = sleeper(&engine, runtime, "cold", &[]);
        engine.docker(&["pause", "cold"]).ok();
        assert_eq!(state("cold"), format!("paused 0 {runtime}"));
        assert!(is_frozen(pid), "the processes go on");
        engine.docker(&["unpause", "cold"]).ok();
        assert!(!is_frozen(pid), "the processes still stand");
        engine.docker(&["pause", "cold"]).ok();
        engine.docker(&["kill", "cold"]).ok();
        assert_eq!(state("cold"), format!("exited 137 {runtime}"));
        engine.docker(&["start", "cold"]).ok();
        engine.docker(&["pause", "cold"]).ok();
        engine.docker(&["rm", "-f", "cold"]).ok();
    }
    engine.finish();
}

/// Whether the process's group is frozen.
fn is_frozen(pid: u32) -> bool {
    let state = group_file(pid, "freezer", "freezer.state", "cgroup.events");
    state == "FROZEN" || state.contains("frozen 1")
}

/// A file of the process's control group: on v1 in the hierarchy of `controller`, or else on v2.
fn group_file(pid: u32, controller: &str, v1: &str, v2: &str) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the process's groups");
    let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let file = match lines.find(|line| line[1].split(',').any(|name| name == controller)) {
        Some(line) => format!("/sys/fs/cgroup/{controller}{}/{v1}", line[2]),
        None => format!("/sys/fs/cgroup{}/{v2}", groups.trim().trim_start_matches("0::")),
    };
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}")).trim().to_owned()
}

#[test]
fn limits_and_their_end() {
    if !is_root("limits_and_their_end") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    for runtime in runtimes {
        println!("with {runtime}");
        let pid = sleeper(&engine, runtime, "small", &["-m", "64m", "--pids-limit", "77"]);
        let memory = || group_file(pid, "memory", "memory.limit_in_bytes", "memory.max");
        assert_eq!((memory(), group_file(pid, "pids", "pids.max", "pids.max")), ((64 << 20).to_string(), "77".into()));
        engine.docker(&["update", "--memory", "96m", "--memory-swap", "96m", "--pids-limit", "88", "small"]).ok();
        assert_eq!((memory(), group_file(pid, "pids", "pids.max", "pids.max")), ((96 << 20).to_string(), "88".into()));
        let stats = engine.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "small"]);
        assert!(stats.ok().ends_with(" / 96MiB 1"), "{stats:?}");
        engine.docker(&["rm", "-f", "small"]).ok();
        // A program that wants more than there is.
        let options =
            ["--network", "none", "--runtime", runtime, "--name", "greedy", "-m", "16m", "--memory-swap", "16m"];
        let command = ["busybox", "sh", "-c", "exec tail /dev/zero"];
        engine.docker(&[&["run"], &options[..], &command].concat()).fails(137, "");
        let killed = engine.docker(&["inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}", "greedy"]);
        assert_eq!(killed.ok(), "true 137");
        engine.docker(&["rm", "greedy"]).ok();
    }
    engine.finish();
}

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
fn failed_starts_leave_nothing() {
    if !is_root("failed_starts_leave_nothing") {
        return;
    }
    let programs = Programs::new();
    let own = programs.own();
    let flags = [
        ("own", own.clone()),
        ("missing", "/nonexistent/runtime".into()),
        ("absent", "no-such-runtime".into()),
        ("dumb", programs.script("dumb", "exit 3")),
        ("killed", programs.script("killed", "case \"$*\" in *' create '*) kill -9 $$;; esac")),
        // Killed with a container half made, and other processes about.
        ("half", programs.script("half", &format!(
            "case \"$*\" in *' create '*) sleep 1000 & {} \"$@\" & wait $!; kill -9 $$;; esac\nexec {0} \"$@\"", own.display()))),
        ("silent", programs.script("silent", "exit 0")),
        ("wrong", programs.script("wrong", "while [ $# -gt 0 ]; do [ $1 != --pid-file ] || echo 1 >$2; shift; done")),
        ("stuck", programs.script("stuck", &format!(
            "case \"$*\" in *' start '*) echo '{{\"level\":\"error\",\"msg\":\"no start\"}}' >$4; exit 1;; esac\nexec {} \"$@\"",
            own.display()))),
    ];
    let flags = flags.map(|(name, path)| format!("--add-runtime={name}={}", path.display()));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let engine = engine_with(&flags);
    let before = engine.leaks_of_containers();
    let check = |runtime: &str, command: &str, code: i32, texts: [&str; 2]| {
        println!("with {runtime}");
        let answer = run(&engine, runtime, &["busybox", command]);
        assert_eq!(answer.code, code, "{answer:?}");
        for text in texts {
            assert!(answer.stderr.contains(text), "expected {text:?} in {answer:?}");
        }
        common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
    };
    let create = "failed to create task for container: failed to create shim task: OCI runtime create failed: ";
    let unread = "unable to retrieve OCI runtime error (open ";
    check("own", "nosuch", 127, [create, "exec: \"nosuch\": executable file not found in $PATH"]);
    check("own", "/etc/passwd", 126, [create, "permission denied"]);
    check("missing", "true", 127, [create, "fork/exec /nonexistent/runtime: no such file or directory"]);
    check("absent", "true", 127, [create, "exec: \"no-such-runtime\": executable file not found in $PATH"]);
    check("dumb", "true", 127, [unread, "dumb did not terminate successfully: exit status 3"]);
    check("killed", "true", 127, [unread, "killed did not terminate successfully: exit status 137"]);
    check("half", "true", 125, [create, "half did not terminate successfully: exit status 137"]);
    check("silent", "true", 127, [create, "the runtime's pid file is of no use"]);
    check("wrong", "true", 125, [create, "process 1 is not the runtime's"]);
    check("stuck", "true", 125, ["failed to start task for container: OCI runtime start failed: no start", ""]);
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
fn a_runtime_that_hangs_holds_nobody_else_back() {
    if !is_root("a_runtime_that_hangs_holds_nobody_else_back") {
        return;
    }
    let programs = Programs::new();
    let pids = programs.directory.path().join("pids");
    let stuck = format!("case \"$*\" in *' create '*) echo $$ >>{}; exec sleep 1000;; esac", pids.display());
    let stuck = programs.script("stuck", &stuck);
    let engine = engine_with(&[&format!("--add-runtime=stuck={}", stuck.display())]);
    let before = engine.leaks_of_containers();
    // More than the engine starts at once.
    let count = std::thread::available_parallelism().map_or(1, usize::from) * 4 + 2;
    let starts: Vec<_> = (0..count)
        .map(|number| {
            let name = format!("stuck-{number}");
            engine
                .docker(&["create", "--network", "none", "--runtime", "stuck", "--name", &name, "busybox", "true"])
                .ok();
            let mut start = std::process::Command::new(docker_client());
            start.args(["start", &name]).env("DOCKER_HOST", engine.host()).stderr(std::process::Stdio::null());
            start.spawn().expect("the client starts")
        })
        .collect();
    let hanging = || fs::read_to_string(&pids).unwrap_or_default();
    common::wait_until("all hang that may", || hanging().lines().count() >= count - 2);
    assert_eq!(run(&engine, "runc", &["busybox", "echo", "on time"]).ok(), "on time");
    // Each that ends lets the next one in.
    let mut ended = 0;
    common::wait_until("all have hung", || {
        for pid in hanging().lines().skip(ended) {
            let _ = std::process::Command::new("kill").args(["-9", pid]).status();
            ended += 1;
        }
        ended == count
    });
    for mut start in starts {
        assert!(!start.wait().expect("the client ends").success(), "a container started by itself");
    }
    for number in 0..count {
        engine.docker(&["rm", &format!("stuck-{number}")]).ok();
    }
    common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
    engine.finish();
}

#[test]
fn a_start_whose_daemon_dies_is_given_up() {
    if !is_root("a_start_whose_daemon_dies_is_given_up") {
        return;
    }
    let programs = Programs::new();
    let own = programs.own();
    let pids = programs.directory.path().join("pids");
    // Hangs with the container made, but not known to anybody.
    let stuck = format!(
        "case \"$*\" in *' create '*) {} \"$@\" && echo $$ >>{} && exec sleep 1000;; esac\nexec {0} \"$@\"",
        own.display(),
        pids.display()
    );
    let stuck = programs.script("stuck", &stuck);
    let mut engine = engine_with(&[&format!("--add-runtime=stuck={}", stuck.display())]);
    let before = engine.leaks_of_containers();
    engine.docker(&["create", "--runtime", "stuck", "--name", "late", "busybox", "sleep", "1000"]).ok();
    let mut start = std::process::Command::new(docker_client());
    start.args(["start", "late"]).env("DOCKER_HOST", engine.host()).stderr(std::process::Stdio::null());
    let mut start = start.spawn().expect("the client starts");
    common::wait_until("the runtime hangs", || fs::read_to_string(&pids).is_ok_and(|text| text.ends_with('\n')));
    engine.kill_daemon();
    assert!(!start.wait().expect("the client ends").success());
    engine.start_daemon();
    let state = engine.docker(&["inspect", "-f", "{{.State.Status}}", "late"]);
    assert_ne!(state.ok(), "running");
    let pid = fs::read_to_string(&pids).expect("the runtime's process");
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "the runtime lives on");
    engine.docker(&["rm", "late"]).ok();
    common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
    engine.finish();
}

#[test]
fn a_runtime_that_only_starts() {
    if !is_root("a_runtime_that_only_starts") {
        return;
    }
    let programs = Programs::new();
    let text =
        format!("case \"$*\" in *' create '*|*' start '*) exec {} \"$@\";; esac\nexit 1", programs.own().display());
    let lazy = programs.script("lazy", &text);
    let engine = engine_with(&[&format!("--add-runtime=lazy={}", lazy.display())]);
    let before = engine.leaks_of_containers();
    let pid = sleeper(&engine, "lazy", "idle", &[]);
    let refused = engine.docker(&["exec", "idle", "true"]);
    // Docker's code for what names a missing file: here the log that the runtime has not written.
    assert_eq!(refused.code, 127, "{refused:?}");
    let told = format!("{}{}", refused.stdout, refused.stderr);
    assert!(told.contains("OCI runtime exec failed: ") && told.contains("exit status 1"), "{refused:?}");
    engine.docker(&["update", "--pids-limit", "9", "idle"]).fails(1, "OCI runtime update failed: ");
    // It is frozen, thawed, ended and cleared away all the same.
    engine.docker(&["pause", "idle"]).ok();
    assert!(is_frozen(pid), "the processes go on");
    engine.docker(&["unpause", "idle"]).ok();
    assert!(!is_frozen(pid), "the processes still stand");
    engine.docker(&["pause", "idle"]).ok();
    engine.docker(&["rm", "-f", "idle"]).ok();
    common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
    engine.finish();
}

#[test]
fn the_daemon_dies_and_comes_back() {
    if !is_root("the_daemon_dies_and_comes_back") {
        return;
    }
    let programs = Programs::new();
    let (mut engine, runtimes) = programs.engine();
    let count = "i=0; while true; do echo $i; i=$((i+1)); sleep 0.05; done";
    for runtime in &runtimes {
        let options = ["run", "-d", "--runtime", runtime, "--name", runtime];
        engine.docker(&[&options[..], &["busybox", "sh", "-c", count]].concat()).ok();
        let late = format!("late-{runtime}");
        let options = ["run", "-d", "--network", "none", "--runtime", runtime, "--name", &late];
        engine.docker(&[&options[..], &["busybox", "sh", "-c", "read x; sleep 0.2; exit 42"]].concat()).ok();
    }
    let pids: Vec<u32> = runtimes.iter().map(|runtime| common::pid(&engine, runtime)).collect();
    engine.kill_daemon();
    engine.start_daemon();
    for (runtime, pid) in runtimes.iter().zip(pids) {
        println!("with {runtime}");
        let late = format!("late-{runtime}");
        assert_eq!(engine.docker(&["wait", &late]).ok(), "42");
        let state = engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", runtime]);
        assert_eq!(state.ok(), format!("running {pid}"));
        assert_eq!(engine.docker(&["exec", runtime, "echo", "in"]).ok(), "in");
        engine.docker(&["pause", runtime]).ok();
        assert!(is_frozen(pid), "the adopted container's own runtime was not asked");
        engine.docker(&["unpause", runtime]).ok();
        engine.docker(&["kill", runtime]).ok();
        let lines = engine.docker(&["logs", runtime]);
        let numbers = lines.ok().lines().map(|line| line.parse::<usize>().expect("a number"));
        assert!(numbers.enumerate().all(|(index, number)| index == number), "output was lost: {lines:?}");
        engine.docker(&["rm", runtime, &late]).ok();
    }
    engine.finish();
}

#[test]
fn a_supervisor_that_is_killed_leaves_nothing() {
    if !is_root("a_supervisor_that_is_killed_leaves_nothing") {
        return;
    }
    let programs = Programs::new();
    let (engine, runtimes) = programs.engine();
    let before = engine.leaks_of_containers();
    for runtime in runtimes {
        println!("with {runtime}");
        let pid = sleeper(&engine, runtime, "orphan", &[]);
        // Whoever made the container's process for it may be just about to end.
        let daemon = engine.pid().to_string();
        let supervisor = || parent(pid).parse().is_ok_and(|shim| parent(shim) == daemon);
        common::wait_until("the container is its supervisor's child", supervisor);
        let parent = &parent(pid);
        let killed = std::process::Command::new("kill").args(["-9", parent]).status().expect("kill(1) starts");
        assert!(killed.success());
        assert_eq!(engine.docker(&["wait", "orphan"]).ok(), "137");
        engine.docker(&["rm", "orphan"]).ok();
        common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
        let left = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(left.is_empty() || left.contains("\nState:\tZ"), "the container's process lives on: {left}");
    }
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
        let shim = format!("/proc/{}/cmdline", parent(common::pid(&engine, options[1])));
        let line = fs::read_to_string(shim).expect("the supervisor's command line").replace('\0', " ");
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

fn parent(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the container's process");
    status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("a parent").trim().to_owned()
}
