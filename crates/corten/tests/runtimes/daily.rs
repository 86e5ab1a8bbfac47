//! What is done with containers every day, by each runtime that is there.

use corten_testkit::{Answer, engine::docker_client, is_root};

use crate::common::{self};
use crate::{Programs, group_file, is_frozen, run, sleeper};

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
