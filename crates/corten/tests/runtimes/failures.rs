//! Starts that fail, runtimes that hang or refuse, and daemons and supervisors that die: nothing is lost, nothing stays.

use std::fs;

use corten_testkit::{engine::docker_client, is_root};

use crate::common::{self, engine_with};
use crate::{Programs, is_frozen, run, sleeper, supervisor};

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
        let supervisor = supervisor(&engine, pid).to_string();
        let killed = std::process::Command::new("kill").args(["-9", &supervisor]).status().expect("kill(1) starts");
        assert!(killed.success());
        assert_eq!(engine.docker(&["wait", "orphan"]).ok(), "137");
        engine.docker(&["rm", "orphan"]).ok();
        common::wait_until("nothing is left", || engine.leaks_of_containers() == before);
        let left = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        assert!(left.is_empty() || left.contains("\nState:\tZ"), "the container's process lives on: {left}");
    }
    engine.finish();
}
