//! What a container can see and do, looked at from inside: the attacks that container engines have fallen for, tried through the
//! `docker` client. Each test ends with the leak check.

#![expect(clippy::unwrap_used, reason = "a test program: what fails here is the test")]

mod common;

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{engine, image, replace_by_link, sh, sleeper};
use corten_testkit::kernel::{MOUNT_SETATTR, without};
use corten_testkit::{engine::docker_client, is_root};

fn parent(pid: u32) -> u32 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

fn kill(pid: u32) {
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

/// Until the process is gone or only waits to be reaped.
fn wait_for_end(pid: u32) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let stat = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    while !(stat().is_empty() || stat().contains(") Z ")) {
        assert!(Instant::now() < deadline, "process {pid} goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn namespaces(pid: u32) -> BTreeSet<String> {
    ["mnt", "uts", "ipc", "pid", "net"]
        .map(|kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned())
        .into()
}

#[test]
fn nothing_of_the_host_is_open_inside() {
    if !is_root("nothing_of_the_host_is_open_inside") {
        return;
    }
    let engine = engine();
    let script = "cd /proc/$$/fd; for fd in *; do readlink $fd; done; true";
    let check = |output: &str| {
        let known = |target: &str| ["/dev/null", "pipe:", "/dev/pts/"].iter().any(|start| target.starts_with(start));
        assert!(output.lines().all(known) && output.lines().count() == 3, "{output}");
    };
    check(&sh(&engine, &[], script));
    check(&sh(&engine, &["-t"], script));
    sleeper(&engine, &["--name", "box", "-v", &format!("{}:/host", engine.path().display())]);
    check(engine.docker(&["exec", "box", "sh", "-c", script]).ok());
    check(engine.docker(&["exec", "-t", "box", "sh", "-c", script]).ok());
    let first = engine.docker(&["exec", "box", "sh", "-c", "cd /proc/1/fd; for fd in *; do readlink $fd; done; true"]);
    check(first.ok());
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn namespaces_are_a_containers_own() {
    if !is_root("namespaces_are_a_containers_own") {
        return;
    }
    let engine = engine();
    let (one, two) = (sleeper(&engine, &["--name", "one"]), sleeper(&engine, &["--name", "two"]));
    let hosts = namespaces(engine.pid());
    assert!(namespaces(one).is_disjoint(&hosts) && namespaces(two).is_disjoint(&hosts));
    assert!(namespaces(one).is_disjoint(&namespaces(two)));
    let list = "for kind in mnt uts ipc pid net cgroup; do readlink /proc/self/ns/$kind; done";
    let inside = engine.docker(&["exec", "one", "sh", "-c", list]);
    assert!(namespaces(one).iter().all(|namespace| inside.ok().contains(namespace)), "{inside:?}");
    assert_eq!(
        sh(&engine, &["--pid", "container:one"], "readlink /proc/self/ns/pid"),
        inside.ok().lines().nth(3).unwrap()
    );
    // Nothing of the containers shows in the host's table.
    let table = std::fs::read_to_string(format!("/proc/{}/mountinfo", engine.pid())).unwrap();
    assert!(!table.contains("overlay") || !table.contains(&*engine.path().to_string_lossy()), "{table}");
    engine.docker(&["rm", "-f", "one", "two"]).ok();
    engine.finish();
}

#[test]
fn the_kernels_views_are_masked() {
    if !is_root("the_kernels_views_are_masked") {
        return;
    }
    let engine = engine();
    image(&engine, "sly", "CMD [\"sh\"]", |root| {
        replace_by_link("/proc", root.join("p"));
        replace_by_link("../../../../sys", root.join("s"));
    });
    let script = "exec 2>/dev/null; for top in /proc /p /s/../proc; do \
        for file in kcore keys timer_list sched_debug latency_stats; do head -c 1 $top/$file; done; \
        for file in sys/kernel/hostname sys/kernel/core_pattern sys/kernel/printk sysrq-trigger irq/default_smp_affinity; do \
        (echo x > $top/$file) && echo wrote $file; done; rm $top/keys && echo removed; chmod 777 $top/kcore && echo changed; done; \
        (echo x > /s/kernel/profiling) && echo wrote; find /s/firmware/ /sys/firmware/ /proc/acpi/ -mindepth 1; \
        umount /proc/keys && echo unmounted; mount -o remount,rw /proc/sys && echo remounted; mount -t proc p /tmp && echo mounted; \
        echo done";
    let check = |answer: corten_testkit::Answer| assert_eq!(answer.stdout, "done\n", "{answer:?}");
    check(engine.docker(&["run", "--rm", "--network", "none", "sly", "sh", "-c", script]));
    engine.docker(&["run", "-d", "--name", "box", "--network", "none", "sly", "sleep", "1000"]).ok();
    check(engine.docker(&["exec", "box", "sh", "-c", script]));
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn nothing_is_mounted_over_procfs() {
    if !is_root("nothing_is_mounted_over_procfs") {
        return;
    }
    let engine = engine();
    image(&engine, "sly", "VOLUME [\"/p/sys/kernel\"]", |root| replace_by_link("/proc", root.join("p")));
    engine.docker(&["run", "--rm", "sly", "true"]).fails(125, "inside /proc");
    for (option, why) in
        [("/tmp:/proc", "not of type proc"), ("/tmp:/proc/sys", "inside /proc"), ("/tmp:/proc/self/attr", "inside")]
    {
        engine.docker(&["run", "--rm", "-v", option, "busybox", "true"]).fails(125, why);
    }
    engine.docker(&["run", "--rm", "--tmpfs", "/proc/tty", "busybox", "true"]).fails(125, "inside /proc");
    assert_eq!(sh(&engine, &["-v", "/etc/passwd:/proc/cpuinfo:ro"], "head -c 4 /proc/cpuinfo"), "root");
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    engine.finish();
}

#[test]
fn images_with_links_write_nothing_outside() {
    if !is_root("images_with_links_write_nothing_outside") {
        return;
    }
    let engine = engine();
    let outside = engine.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let up = format!("../../../../../../../..{}", outside.display());
    image(&engine, "sly", "WORKDIR /work/dir", |root| {
        for name in ["hosts", "hostname", "resolv.conf"] {
            replace_by_link(&format!("{up}/{name}"), root.join("etc").join(name));
        }
        replace_by_link(&outside.to_string_lossy(), root.join("work"));
        replace_by_link(&up, root.join("data"));
    });
    let run = |options: &[&str], script: &str| {
        let all = [&["run", "--rm", "--network", "none"], options, &["sly", "sh", "-c", script]].concat();
        engine.docker(&all)
    };
    // Docker makes plain files of the three; what counts here is where they are made.
    run(&["-v", "named:/data/volume", "--tmpfs", "/data/memory"], "touch /data/volume/x; pwd");
    engine.docker(&["volume", "rm", "-f", "named"]).ok();
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    engine.finish();
}

#[test]
fn devices_are_those_of_the_list() {
    if !is_root("devices_are_those_of_the_list") {
        return;
    }
    let engine = engine();
    let script = "cd /tmp; mknod disk b 8 0; mknod memory c 1 1; mknod fuse c 10 229; mknod null c 1 3; mknod zero c 1 5; \
        for node in disk memory fuse zero null; do head -c 1 $node >/dev/null 2>&1 && echo $node; done; echo x > null && echo written";
    let allowed = "zero\nnull\nwritten";
    assert_eq!(sh(&engine, &[], script), allowed);
    assert_eq!(sh(&engine, &["--device", "/dev/zero:/dev/kept"], "head -c 3 /dev/kept | wc -c"), "3");
    sleeper(&engine, &["--name", "box"]);
    assert_eq!(engine.docker(&["exec", "box", "sh", "-c", script]).ok(), allowed);
    engine.docker(&["rm", "-f", "box"]).ok();
    let dropped = engine.docker(&["run", "--rm", "--cap-drop", "MKNOD", "busybox", "mknod", "/tmp/x", "c", "1", "3"]);
    dropped.fails(1, "Operation not permitted");
    let listed = sh(&engine, &[], "ls /dev | grep -v core");
    assert_eq!(
        listed.split_whitespace().collect::<Vec<_>>(),
        [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
            "urandom", "zero"
        ]
    );
    engine.finish();
}

#[test]
fn control_groups_are_shown_and_not_writable() {
    if !is_root("control_groups_are_shown_and_not_writable") {
        return;
    }
    let engine = engine();
    // On v2 the host's namespace shows the whole tree, so the group is looked up in it.
    let script = "own=$(sed -n s/^0:://p /proc/self/cgroup); \
        cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup$own/memory.max 2>/dev/null; \
        for file in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/devices/devices.allow /sys/fs/cgroup/new; \
        do (echo a > $file) 2>/dev/null && echo wrote $file; done; mkdir /sys/fs/cgroup/x /sys/fs/cgroup/memory/x 2>/dev/null && echo made; \
        find /sys/fs/cgroup -name release_agent";
    for options in [&["-m", "64m"][..], &["-m", "64m", "--cgroupns", "private"], &["-m", "64m", "--cgroupns", "host"]] {
        assert_eq!(sh(&engine, options, script), "67108864", "{options:?}");
    }
    let own = sh(&engine, &["--cgroupns", "private"], "cut -d: -f3 /proc/self/cgroup | sort -u");
    assert_eq!(own, "/", "a private cgroup namespace begins at the container's own group");
    engine.finish();
}

#[test]
fn system_calls_are_filtered() {
    if !is_root("system_calls_are_filtered") {
        return;
    }
    let engine = engine();
    // Not a matter of capabilities: only the filter keeps an ordinary program from making a user namespace.
    let script = "unshare -U true && echo user; unshare -m true && echo mount; grep Seccomp: /proc/self/status";
    assert_eq!(sh(&engine, &[], script), "Seccomp:\t2");
    assert_eq!(sh(&engine, &["--cap-add", "SYS_ADMIN"], script), "user\nmount\nSeccomp:\t2");
    assert_eq!(sh(&engine, &["--security-opt", "seccomp=unconfined"], script), "user\nSeccomp:\t0");
    sleeper(&engine, &["--name", "box"]);
    assert_eq!(engine.docker(&["exec", "box", "sh", "-c", script]).stdout, "Seccomp:\t2\n");
    let privileged =
        engine.docker(&["exec", "--privileged", "box", "sh", "-c", "grep -E 'CapEff|Seccomp:' /proc/self/status"]);
    assert!(privileged.ok().contains("Seccomp:\t0") && !privileged.stdout.contains("a80425fb"), "{privileged:?}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn privileges_are_the_users_own() {
    if !is_root("privileges_are_the_users_own") {
        return;
    }
    let engine = engine();
    let script = "grep -E 'Cap|NoNew|^Groups|^Uid' /proc/self/status | tr '\\t\\n' '  '";
    let none = "0000000000000000";
    let default = "00000000a80425fb";
    let expect = |eff: &str, bnd: &str, nnp: u8| {
        format!("CapInh: {none} CapPrm: {eff} CapEff: {eff} CapBnd: {bnd} CapAmb: {none} NoNewPrivs: {nnp}")
    };
    assert!(sh(&engine, &[], script).contains(&expect(default, default, 0)));
    assert!(sh(&engine, &["-u", "1000:1000"], script).contains(&expect(none, default, 0)));
    let strict = ["--security-opt", "no-new-privileges", "--cap-drop", "ALL"];
    assert!(sh(&engine, &strict, script).contains(&expect(none, none, 1)));
    sleeper(&engine, &[&["--name", "box"], &strict[..]].concat());
    assert!(engine.docker(&["exec", "box", "sh", "-c", script]).ok().contains(&expect(none, none, 1)));
    let user = engine.docker(&["exec", "-u", "1000:5", "box", "sh", "-c", script]);
    assert!(user.ok().contains("Uid: 1000 1000 1000 1000") && user.ok().contains(&expect(none, none, 1)), "{user:?}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn working_directories_stay_inside() {
    if !is_root("working_directories_stay_inside") {
        return;
    }
    let engine = engine();
    sleeper(&engine, &["--name", "box"]);
    for fd in 3..12 {
        let directory = format!("/proc/self/fd/{fd}");
        let run =
            engine.docker(&["run", "--rm", "--network", "none", "-w", &directory, "busybox", "ls", "../../../../.."]);
        assert_ne!(run.code, 0, "{run:?}");
        let exec = engine.docker(&["exec", "-w", &directory, "box", "ls"]);
        assert_ne!(exec.code, 0, "{exec:?}");
    }
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn large_requests_work_or_are_refused() {
    if !is_root("large_requests_work_or_are_refused") {
        return;
    }
    let engine = engine();
    let (name, directory) = ("a".repeat(100_000), engine.path().join("b"));
    engine.docker(&["run", "--rm", "--network", "none", "busybox", &name]).fails(127, "exec: \"aaaa");
    let binds: Vec<String> = (0..300).map(|number| format!("-v={}:/many/{number}", directory.display())).collect();
    let options: Vec<&str> = binds.iter().map(String::as_str).collect();
    assert_eq!(sh(&engine, &options, "ls /many | wc -l; grep -c ' /many/' /proc/mounts"), "300\n300");
    let environment = |lines: usize| {
        let file = engine.path().join("environment");
        let line = |number| format!("E{number}={}\n", "x".repeat(60_000));
        std::fs::write(&file, (0..lines).map(line).collect::<String>()).unwrap();
        file.to_string_lossy().into_owned()
    };
    let size = sh(&engine, &["--env-file", &environment(20)], "env | wc -c");
    assert!(size.parse::<usize>().unwrap() > 1_200_000, "{size}");
    let more = engine.docker(&["run", "--rm", "--env-file", &environment(40), "busybox", "true"]);
    assert!(more.code != 0 && more.stderr.contains("argument list too long"), "{more:?}");
    // The attributes are part of what the shim is told.
    let big = format!("BIG={}", "x".repeat(100_000));
    assert_eq!(sh(&engine, &["-e", &big, "--log-opt", "env=BIG"], "echo logged"), "logged");
    engine.finish();
}

#[test]
fn whatever_is_killed_the_rest_goes_on() {
    if !is_root("whatever_is_killed_the_rest_goes_on") {
        return;
    }
    let engine = engine();
    // Each thread has its own.
    let children = |pid: u32| -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let texts = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
        texts.flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
    };
    let state =
        |name: &str| engine.docker(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", name]).ok().to_owned();
    // Warm shims, then their stubs, with which they end; on cgroup v2 they have none before the start.
    let deadline = Instant::now() + Duration::from_secs(60);
    while children(engine.pid()).is_empty() {
        assert!(Instant::now() < deadline, "no shim is warm:\n{}", engine.log());
    }
    for shim in children(engine.pid()) {
        kill(shim);
        wait_for_end(shim);
    }
    assert_eq!(sh(&engine, &[], "echo on"), "on");
    for shim in children(engine.pid()) {
        let stubs = children(shim);
        if !stubs.is_empty() {
            stubs.into_iter().for_each(kill);
            wait_for_end(shim);
        }
    }
    assert_eq!(sh(&engine, &[], "echo on"), "on");
    // A container's shim, also while it is frozen.
    for frozen in [false, true] {
        let first = sleeper(&engine, &["--name", "box"]);
        if frozen {
            engine.docker(&["pause", "box"]).ok();
        }
        kill(parent(first));
        assert_eq!(engine.docker(&["wait", "box"]).ok(), "137");
        assert_eq!(state("box"), "exited 137");
        engine.docker(&["start", "box"]).ok();
        assert_eq!(state("box"), "running 0");
        engine.docker(&["rm", "-f", "box"]).ok();
    }
    engine.finish();
}

#[test]
fn a_stopped_client_holds_nobody_up() {
    if !is_root("a_stopped_client_holds_nobody_up") {
        return;
    }
    let engine = engine();
    engine.docker(&["create", "--name", "loud", "--network", "none", "busybox", "sh", "-c", "yes; sleep 1000"]).ok();
    let mut client = Command::new(docker_client())
        .args(["start", "-a", "loud"])
        .env("DOCKER_HOST", engine.host())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while engine.docker(&["inspect", "-f", "{{.State.Running}}", "loud"]).stdout != "true\n" {
        assert!(Instant::now() < deadline, "the container does not start");
    }
    // Nobody reads the pipe, so the client stands still.
    engine.docker(&["stop", "-t", "0", "loud"]).ok();
    let begun = Instant::now();
    engine.docker(&["start", "loud"]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10), "the next start waits for a client of the last run");
    client.kill().unwrap();
    client.wait().unwrap();
    engine.docker(&["rm", "-f", "loud"]).ok();
    engine.finish();
}

#[test]
fn processes_that_outlive_the_first_are_killed() {
    if !is_root("processes_that_outlive_the_first_are_killed") {
        return;
    }
    let engine = engine();
    for options in [&["--pid", "host"][..], &["--pid", "host", "--network", "host", "--ipc", "host", "--uts", "host"]] {
        let script = "trap '' PIPE; (while :; do echo yyyyyyyyyyyyyyyy; done) 2>/dev/null & sleep 0.2";
        let all = [&["run", "--rm"], options, &["busybox", "sh", "-c", script]].concat();
        assert_eq!(engine.docker(&all).code, 0);
    }
    engine.finish();
}

#[test]
fn joined_ipc_shares_memory_files() {
    if !is_root("joined_ipc_shares_memory_files") {
        return;
    }
    let engine = engine();
    let donor = ["run", "-d", "--name", "donor", "--ipc", "shareable", "--network", "none", "busybox"];
    let write = ["sh", "-c", "echo shared >/dev/shm/segment; exec sleep 1000"];
    engine.docker(&[&donor[..], &write[..]].concat()).ok();
    let join = |arguments: &[&str]| {
        let fixed = ["run", "--rm", "--ipc", "container:donor", "--network", "none", "busybox"];
        engine.docker(&[&fixed, arguments].concat())
    };
    // The donor writes before or after: the joiner waits for it.
    let read = "until [ -s /dev/shm/segment ]; do sleep 0.01; done; cat /dev/shm/segment; echo back >/dev/shm/answer";
    assert_eq!(join(&["sh", "-c", read]).ok(), "shared");
    assert_eq!(engine.docker(&["exec", "donor", "cat", "/dev/shm/answer"]).ok(), "back");
    let namespace = join(&["readlink", "/proc/self/ns/ipc"]);
    assert_eq!(namespace.ok(), engine.docker(&["exec", "donor", "readlink", "/proc/self/ns/ipc"]).ok());
    engine.docker(&["rm", "-f", "donor"]).ok();
    engine.finish();
}

/// A kernel before 5.12, played by a filter over the daemon and all that it starts.
#[test]
fn all_of_it_on_a_kernel_without_mount_setattr() {
    if !is_root("all_of_it_on_a_kernel_without_mount_setattr") {
        return;
    }
    let engine = without(MOUNT_SETATTR, engine);
    let volume = format!("{}:/host:ro", engine.path().display());
    let look = "for p in / /host /proc/sys /proc/keys; do grep -oE \" $p (ro|rw)[a-z,]* \" /proc/self/mountinfo; done; stat -c %t:%T /proc/keys";
    let with_all = |start: &str| {
        format!("{start} ro,relatime \n /host ro,relatime \n /proc/sys ro,nosuid,nodev,noexec,relatime \n")
    };
    let told = sh(&engine, &["--read-only", "-v", &volume], look);
    assert!(told.starts_with(&with_all(" /")) && told.ends_with("\n1:3"), "{told}");
    sleeper(&engine, &["--name", "box"]);
    assert_eq!(engine.docker(&["exec", "box", "echo", "in"]).ok(), "in");
    // The shims' executable is read-only all the same.
    let shim = parent(common::pid(&engine, "box"));
    let open = std::fs::OpenOptions::new().write(true).truncate(true).open(format!("/proc/{shim}/exe"));
    assert_eq!(open.unwrap_err().raw_os_error(), Some(30));
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}
