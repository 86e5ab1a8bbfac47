//! The unmodified `docker` client drives the daemon: the commands of every day, with Docker's results, texts and exit codes.

mod common;

use common::{CORTEN, engine, engine_with};
use corten_testkit::{TestEngine, engine::docker_client, is_root};

#[test]
fn the_executable_is_static() {
    const PT_INTERP: u32 = 3;
    let image = std::fs::read(CORTEN).expect("reading the executable");
    let half = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let table = usize::try_from(u64::from_le_bytes(image[32..40].try_into().expect("eight bytes"))).expect("an offset");
    let (size, count) = (half(54), half(56));
    assert!(count > 0, "no program headers");
    let kinds = (0..count)
        .map(|index| table + index * size)
        .map(|at| u32::from_le_bytes(image[at..at + 4].try_into().expect("four bytes")));
    assert!(kinds.into_iter().all(|kind| kind != PT_INTERP), "the executable asks for a dynamic loader");
}

#[test]
fn hello_prints_from_its_own_namespaces() {
    if !is_root("hello_prints_from_its_own_namespaces") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let answer = engine.docker(&["run", "--rm", "corten/hello"]);
    assert!(answer.ok().contains("Hello from Corten"), "{answer:?}");
    let own = std::fs::read_link("/proc/self/ns/pid").expect("this process has namespaces");
    assert!(!answer.stdout.contains(&*own.to_string_lossy()), "the container shares the test's PID namespace");
    engine.finish();
}

#[test]
fn run_gives_output_and_exit_codes() {
    if !is_root("run_gives_output_and_exit_codes") {
        return;
    }
    let engine = engine();
    let run = |arguments: &[&str]| engine.docker(&[&["run", "--rm", "--network", "none"], arguments].concat());
    assert_eq!(run(&["busybox", "echo", "hi"]).ok(), "hi");
    let split = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((split.code, split.stdout.as_str(), split.stderr.as_str()), (3, "out\n", "err\n"));
    run(&["busybox", "nosuch"]).fails(127, "executable file not found in $PATH");
    run(&["busybox", "/etc/passwd"]).fails(126, "permission denied");
    run(&["busybox", "/etc"]).fails(126, "");
    let unknown = engine.docker(&["run", "--rm", "--pull=never", "nosuch", "true"]);
    unknown.fails(125, "No such image: nosuch:latest");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "", "a failed run left a container");
    engine.finish();
}

#[test]
fn standard_input_reaches_the_container() {
    if !is_root("standard_input_reaches_the_container") {
        return;
    }
    let engine = engine();
    let input = "0123456789abcdef".repeat(40_000);
    let answer = engine.client(docker_client(), &["run", "-i", "--rm", "busybox", "md5sum"], input.as_bytes());
    let mut md5 = std::process::Command::new("md5sum");
    let expect = corten_testkit::Answer::of(&mut md5, input.as_bytes());
    assert_eq!(answer.ok(), expect.ok());
    let echoed = engine.client(docker_client(), &["run", "-i", "--rm", "busybox", "cat"], input.as_bytes());
    assert_eq!(echoed.ok().len(), input.len());
    engine.finish();
}

#[test]
fn a_terminal_is_a_terminal() {
    if !is_root("a_terminal_is_a_terminal") {
        return;
    }
    let engine = engine();
    let command = format!(
        "{} run -it --rm busybox sh -c 'test -t 0 && test -t 1 && tty; i=0; until [ \"$(stty size 2>/dev/null)\" = \"33 77\" ] || [ $i = 200 ]; do i=$((i+1)); sleep 0.02; done; stty size'",
        docker_client().display()
    );
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 77; {command}"), "/dev/null"]).env("DOCKER_HOST", engine.host());
    let answer = corten_testkit::Answer::of(&mut script, b"");
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.stdout.contains("/dev/pts/0") && answer.stdout.contains("33 77"), "{answer:?}");
    engine.finish();
}

#[test]
fn the_life_of_a_container() {
    if !is_root("the_life_of_a_container") {
        return;
    }
    let engine = engine();
    let id = engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "web",
            "--label",
            "a=b",
            "busybox",
            "sh",
            "-c",
            "echo started; exec sleep 1000",
        ])
        .ok()
        .to_owned();
    assert_eq!(id.len(), 64);
    assert_eq!(
        engine.docker(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.Image}} {{.State}}"]).ok(),
        format!("{id} web busybox running")
    );
    assert_eq!(engine.docker(&["logs", "web"]).ok(), "started");
    engine
        .docker(&["create", "--name", "web", "busybox"])
        .fails(1, "Conflict. The container name \"/web\" is already in use by container");
    assert_eq!(engine.docker(&["exec", "web", "sh", "-c", "echo in; exit 7"]).code, 7);
    let missing = engine.docker(&["exec", "web", "nosuch"]);
    assert!(missing.code == 127 && missing.stdout.contains("executable file not found in $PATH"), "{missing:?}");
    assert_eq!(
        engine
            .docker(&["exec", "-e", "A=1", "-w", "/tmp", "-u", "daemon", "web", "sh", "-c", "echo $A $PWD $(id -u)"])
            .ok(),
        "1 /tmp 1"
    );
    engine.docker(&["rm", "web"]).fails(1, "container is running: stop the container before removing or force remove");
    assert_eq!(engine.docker(&["stop", "-t", "1", "web"]).ok(), "web");
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}", "web"]).ok(),
        "exited 137 false"
    );
    engine.docker(&["exec", "web", "true"]).fails(1, "is not running");
    assert_eq!(engine.docker(&["start", "web"]).ok(), "web");
    assert_eq!(engine.docker(&["kill", "-s", "KILL", "web"]).ok(), "web");
    assert_eq!(engine.docker(&["wait", "web"]).ok(), "137");
    assert_eq!(engine.docker(&["logs", "web"]).ok(), "started\nstarted");
    assert_eq!(engine.docker(&["logs", "--tail", "1", "web"]).ok(), "started");
    assert_eq!(engine.docker(&["rm", "web"]).ok(), "web");
    engine.docker(&["inspect", "web"]).fails(1, "No such object: web");
    engine.docker(&["start", "web"]).fails(1, "No such container: web");
    engine.finish();
}

#[test]
fn attach_and_logs_follow_a_running_container() {
    if !is_root("attach_and_logs_follow_a_running_container") {
        return;
    }
    let engine = engine();
    engine
        .docker(&[
            "run",
            "-d",
            "-i",
            "--name",
            "talker",
            "busybox",
            "sh",
            "-c",
            "read a; echo got $a; read b; echo got $b >&2",
        ])
        .ok();
    let attached = engine.client(docker_client(), &["attach", "talker"], b"one\ntwo\n");
    assert_eq!((attached.code, attached.stdout.as_str(), attached.stderr.as_str()), (0, "got one\n", "got two\n"));
    assert_eq!(engine.docker(&["logs", "-f", "talker"]).stdout, "got one\n");
    assert_eq!(engine.docker(&["logs", "-f", "talker"]).stderr, "got two\n");
    engine.docker(&["rm", "talker"]).ok();
    engine.finish();
}

#[test]
fn settings_reach_the_container() {
    if !is_root("settings_reach_the_container") {
        return;
    }
    let engine = engine();
    let run = |arguments: &[&str]| {
        let answer = engine.docker(&[&["run", "--rm", "--network", "none"], arguments].concat());
        answer.ok().to_owned()
    };
    assert_eq!(run(&["-h", "box", "busybox", "hostname"]), "box");
    assert_eq!(run(&["busybox", "sh", "-c", "test -f /.dockerenv && readlink /etc/mtab"]), "/proc/mounts");
    assert_eq!(
        run(&["-u", "1:10", "-w", "/srv", "-e", "X=y z", "busybox", "sh", "-c", "id -u; id -g; pwd; echo $X"]),
        "1\n10\n/srv\ny z"
    );
    assert!(run(&["--read-only", "busybox", "sh", "-c", "touch /x 2>&1 || true"]).contains("Read-only file system"));
    assert_eq!(run(&["--tmpfs", "/t:size=1m", "busybox", "sh", "-c", "df /t | tail -1 | awk '{print $2}'"]), "1024");
    assert_eq!(run(&["--ulimit", "nofile=100:200", "busybox", "sh", "-c", "ulimit -n; ulimit -Hn"]), "100\n200");
    assert_eq!(run(&["--shm-size", "1m", "busybox", "sh", "-c", "df /dev/shm | tail -1 | awk '{print $2}'"]), "1024");
    assert_eq!(run(&["--entrypoint", "echo", "busybox", "a", "b"]), "a b");
    assert_eq!(
        run(&["--cap-drop", "ALL", "busybox", "grep", "CapEff", "/proc/self/status"]),
        "CapEff:\t0000000000000000"
    );
    assert_eq!(run(&["busybox", "grep", "CapEff", "/proc/self/status"]), "CapEff:\t00000000a80425fb");
    assert_eq!(run(&["busybox", "grep", "Seccomp:", "/proc/self/status"]), "Seccomp:\t2");
    assert_eq!(run(&["--privileged", "busybox", "grep", "Seccomp:", "/proc/self/status"]), "Seccomp:\t0");
    // Its control groups are mounted anew, while the group gets its name.
    for _ in 0..20 {
        let groups = run(&[
            "--privileged",
            "busybox",
            "sh",
            "-c",
            "ls /sys/fs/cgroup | grep -c .; cut -d: -f3 /proc/self/cgroup",
        ]);
        assert!(!groups.starts_with("0\n") && !groups.contains("pool"), "{groups}");
    }
    let readonly = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "echo x > /proc/sys/kernel/domainname",
    ]);
    readonly.fails(1, "Read-only file system");
    assert_eq!(
        run(&[
            "--init=false",
            "--pid",
            "host",
            "busybox",
            "sh",
            "-c",
            "test $(ls -d /proc/[0-9]* | wc -l) -gt 3 && echo many"
        ]),
        "many"
    );
    assert_eq!(run(&["busybox", "sh", "-c", "echo /proc/[0-9]*"]), "/proc/1");
    engine.finish();
}

#[test]
fn limits_hold() {
    if !is_root("limits_hold") {
        return;
    }
    let engine = engine();
    let hog = "x=; while true; do x=$x$x$(head -c 1048576 /dev/zero | tr '\\0' a); done";
    let killed = engine.docker(&[
        "run",
        "--name",
        "hog",
        "--network",
        "none",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
        hog,
    ]);
    assert_eq!(killed.code, 137, "{killed:?}");
    assert_eq!(engine.docker(&["inspect", "-f", "{{.State.OOMKilled}}", "hog"]).ok(), "true");
    engine.docker(&["rm", "hog"]).ok();
    let forks = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "none",
        "--pids-limit",
        "5",
        "busybox",
        "sh",
        "-c",
        "for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait",
    ]);
    assert!(forks.stderr.contains("fork"), "{forks:?}");
    engine.docker(&["run", "--rm", "-m", "1m", "busybox"]).fails(125, "Minimum memory limit allowed is 6MB");
    engine.docker(&["run", "--rm", "--cpus", "1000", "busybox"]).fails(125, "range of CPUs is from 0.01 to");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    engine.finish();
}

#[test]
fn images_are_listed_tagged_and_removed() {
    if !is_root("images_are_listed_tagged_and_removed") {
        return;
    }
    let engine = engine();
    let id = engine.docker(&["images", "-q", "--no-trunc", "busybox"]).ok().to_owned();
    assert!(id.starts_with("sha256:") && id.len() == 71, "{id}");
    engine.docker(&["tag", "busybox", "example.com:5000/a/b:v1"]).ok();
    assert_eq!(
        engine.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "example.com:5000/a/b"]).ok(),
        "example.com:5000/a/b:v1"
    );
    assert_eq!(engine.docker(&["inspect", "-f", "{{.Id}}", "example.com:5000/a/b:v1"]).ok(), id);
    assert!(engine.docker(&["history", "-q", "--no-trunc", "busybox"]).ok().contains(&id));
    engine.docker(&["create", "--name", "user", "busybox"]).ok();
    engine.docker(&["rmi", &id]).fails(1, "conflict: unable to delete");
    engine.docker(&["rm", "user"]).ok();
    let untagged = engine.docker(&["rmi", "example.com:5000/a/b:v1"]);
    assert_eq!(untagged.ok(), "Untagged: example.com:5000/a/b:v1");
    assert!(engine.docker(&["rmi", "busybox"]).ok().contains(&format!("Deleted: {id}")));
    engine.docker(&["rmi", "busybox"]).fails(1, "No such image: busybox");
    engine.docker(&["tag", "busybox", "Bad/Name"]).fails(1, "must be lowercase");
    engine.finish();
}

#[test]
fn volumes_and_binds() {
    if !is_root("volumes_and_binds") {
        return;
    }
    let engine = engine();
    assert_eq!(engine.docker(&["volume", "create", "data"]).ok(), "data");
    engine.docker(&["run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file"]).ok();
    assert_eq!(
        engine
            .docker(&["run", "--rm", "--mount", "type=volume,src=data,dst=/d,readonly", "busybox", "cat", "/d/file"])
            .ok(),
        "kept"
    );
    let host = engine.path().join("host");
    std::fs::create_dir(&host).expect("making a directory to bind");
    let bind = format!("{}:/h", host.display());
    engine.docker(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", "echo out > /h/file"]).ok();
    assert_eq!(std::fs::read_to_string(host.join("file")).expect("the container wrote it"), "out\n");
    let read_only = engine.docker(&["run", "--rm", "-v", &format!("{bind}:ro"), "busybox", "touch", "/h/x"]);
    read_only.fails(1, "Read-only file system");
    engine
        .docker(&["run", "--rm", "--mount", "type=bind,src=/nosuch,dst=/h", "busybox"])
        .fails(125, "bind source path does not exist: /nosuch");
    assert!(engine.docker(&["volume", "ls"]).ok().contains("data"));
    engine.docker(&["create", "--name", "holder", "-v", "data:/d", "busybox"]).ok();
    engine.docker(&["volume", "rm", "data"]).fails(1, "volume is in use");
    engine.docker(&["rm", "holder"]).ok();
    assert_eq!(engine.docker(&["volume", "rm", "data"]).ok(), "data");
    engine.finish();
}

#[test]
fn events_and_info_and_version() {
    if !is_root("events_and_info_and_version") {
        return;
    }
    let engine = engine_with(&["--label", "tier=test"]);
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    engine.docker(&["run", "--rm", "--name", "seen", "--network", "none", "busybox", "true"]).ok();
    let events = engine.docker(&[
        "events",
        "--since",
        &since.to_string(),
        "--until",
        &(since + 2).to_string(),
        "--filter",
        "type=container",
        "--format",
        "{{.Action}}",
    ]);
    assert_eq!(events.ok().lines().collect::<Vec<_>>(), ["create", "attach", "start", "die", "destroy"]);
    let version = engine.docker(&["version", "--format", "{{.Server.Os}} {{.Server.APIVersion}}"]);
    assert_eq!(version.ok(), "linux 1.55");
    assert_eq!(
        engine.docker(&["info", "--format", "{{.Images}} {{.Swarm.LocalNodeState}} {{.Labels}}"]).ok(),
        "2 inactive [tier=test]"
    );
    engine.docker(&["swarm", "init"]).fails(1, "");
    engine.docker(&["node", "ls"]).fails(1, "This node is not a swarm manager");
    engine.finish();
}
