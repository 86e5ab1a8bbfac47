//! `exec` and its flags.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Bench, bench, until};

#[test]
fn exec_joins_the_container() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let exec =
        |flags: &[&str], words: &[&str]| bench.runtime(&[&["exec"], flags, &[bench.id.as_str()], words].concat());
    let answer =
        exec(&["--env", "A=1", "--cwd", "/bin"], &["sh", "-c", "echo $A $PWD $(readlink /proc/1/exe); exit 3"]);
    assert_eq!((answer.code, &*answer.out), (Some(3), "1 /bin /bin/busybox\n"), "{answer:?}");
    let answer = exec(&["--user", "7:8", "--additional-gids", "9"], &["sh", "-c", "id -u; id -g; id -G"]);
    assert_eq!(answer.ok(), "7\n8\n8 9\n");
    exec(&[], &["nosuch"]).fails(255, "executable file not found in $PATH");
    exec(&["--detach", "--pid-file", &bench.path("pid")], &["sleep", "1000"]).ok();
    let pid = fs::read_to_string(bench.path("pid")).unwrap();
    let pids: Vec<i32> = serde_json::from_str(&bench.runtime(&["ps", "--format", "json", &bench.id]).ok()).unwrap();
    assert_eq!(pids.len(), 2);
    assert!(pids.contains(&pid.parse().unwrap()));
    assert_eq!(bench.on("ps").ok().lines().count(), 3, "a heading and two processes");
    bench.runtime(&["kill", "--all", &bench.id, "KILL"]).ok();
    bench.wait_for_end();
    bench.on("delete").ok();
    exec(&[], &["true"]).fails(255, "container does not exist");
    bench.is_clean();
}

/// A running container and what an exec in it says.
fn running(change: impl FnOnce(&mut Value, &Path)) -> Option<Bench> {
    let bench = bench("exec sleep 1000", change)?;
    bench.run(&["--detach"]).ok();
    Some(bench)
}

impl Bench {
    fn exec(&self, flags: &[&str], script: &str) -> crate::support::Answer {
        self.runtime(&[&["exec"], flags, &[self.id.as_str(), "sh", "-c", script]].concat())
    }

    fn end(&self) {
        self.runtime(&["delete", "--force", &self.id]).ok();
        self.is_clean();
    }
}

#[test]
fn a_process_from_a_file() {
    let Some(bench) = running(|_, _| {}) else { return };
    let process = json!({
        "args": ["sh", "-c", "id -u; id -G; pwd; echo $ONE; grep -E 'NoNewPrivs|CapEff' /proc/self/status; exit 4"],
        "cwd": "/bin", "env": ["PATH=/bin", "ONE=two"], "user": {"uid": 5, "gid": 6, "additionalGids": [7]},
        "noNewPrivileges": true, "capabilities": {"bounding": ["CAP_KILL", "CAP_NOT_YET"]},
    });
    fs::write(bench.path("process"), process.to_string()).unwrap();
    let answer = bench.runtime(&["exec", "--process", &bench.path("process"), &bench.id]);
    let expected = "5\n6 7\n/bin\ntwo\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n";
    assert_eq!((answer.code, &*answer.out), (Some(4), expected), "{answer:?}");
    bench.runtime(&["exec", "--process", "/nowhere", &bench.id]).fails(255, "cannot read /nowhere");
    bench.runtime(&["exec", &bench.id]).fails(255, "exec args cannot be empty");
    bench.end();
}

/// What the host withholds is told, and the program runs without it; the first one and a further one.
#[test]
fn capabilities_that_the_host_withholds_are_told() {
    let Some(bench) = bench("grep CapBnd /proc/self/status; exec sleep 1000", |config, _| {
        let set = json!(["CAP_KILL", "CAP_LEASE"]);
        config["process"]["capabilities"] = json!({"bounding": set, "permitted": set, "effective": set});
    }) else {
        return;
    };
    let without = |words: &[&str]| {
        let inner = bench.command(words);
        let mut command = std::process::Command::new("setpriv");
        command.args(["--bounding-set", "-lease"]).arg(inner.get_program()).args(inner.get_args());
        bench.answer(command)
    };
    let told = "level=warning msg=\"ignoring unknown or unavailable capabilities: [CAP_LEASE]\"";
    let answer = without(&["run", "--detach", "--bundle", &bench.path("bundle"), &bench.id]);
    assert!(answer.code == Some(0) && answer.err.contains(told), "{answer:?}");
    until("the program runs", || fs::read_to_string(bench.path("out")).unwrap() == "CapBnd:\t0000000000000020\n");
    let answer = without(&["exec", &bench.id, "true"]);
    assert!(answer.code == Some(0) && answer.err.contains(told), "{answer:?}");
    // With all there is nothing to be told.
    let answer = bench.runtime(&["exec", &bench.id, "true"]);
    assert_eq!((answer.code, &*answer.err), (Some(0), ""));
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn capabilities_are_added() {
    let Some(bench) = running(|config, _| {
        config["process"]["capabilities"]["inheritable"] = json!(["CAP_NET_RAW"]);
        config["process"]["capabilities"]["bounding"].as_array_mut().unwrap().push(json!("CAP_NET_RAW"));
        config["process"]["capabilities"]["permitted"].as_array_mut().unwrap().push(json!("CAP_NET_RAW"));
    }) else {
        return;
    };
    let sets = |flags: &[&str]| {
        let text = bench.exec(flags, "grep -E 'Cap(Eff|Bnd|Amb)' /proc/self/status").ok();
        let sets = text.lines().map(|line| u64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap());
        sets.collect::<Vec<_>>()
    };
    // 29, 5 and 10 are the template's, 13 is added above, and 25.
    let (own, time, raw) = (1 << 29 | 1 << 5 | 1 << 10 | 1 << 13, 1 << 25, 1 << 13);
    assert_eq!(sets(&[]), [own, own, 0]);
    assert_eq!(sets(&["--cap", "CAP_SYS_TIME"]), [own | time, own | time, 0]);
    // Only what is inheritable becomes ambient, which is what another user has in effect.
    let user = ["--user", "5", "--cap", "sys_time", "-c", "net_raw"];
    assert_eq!(sets(&user[..2]), [0, own, 0]);
    assert_eq!(sets(&user), [raw, own | time, raw]);
    let answer = bench.exec(&["--cap", "CAP_NOPE"], "true");
    assert!(answer.code == Some(0) && answer.err.contains("ignoring unknown or unavailable capabilities: [CAP_NOPE]"));
    bench.end();
}

#[test]
fn labels_and_privileges() {
    let Some(bench) = running(|config, _| config["process"]["noNewPrivileges"] = json!(false)) else { return };
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(bench.exec(&[], script).ok(), "NoNewPrivs:\t0\n");
    assert_eq!(bench.exec(&["--no-new-privs"], script).ok(), "NoNewPrivs:\t1\n");
    let is_enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|it| it.trim() == "Y");
    let why = if is_enabled { "cannot apply apparmor profile some" } else { "AppArmor is not enabled on this host" };
    bench.exec(&["--apparmor", "some"], "true").fails(255, why);
    if Path::new("/sys/fs/selinux/enforce").exists() {
        println!("skipped: this host has SELinux");
    } else {
        bench.exec(&["--process-label", "some"], "true").fails(255, "SELinux is not enabled on this host");
    }
    bench.exec(&["--user", "somebody"], "true").fails(255, "cannot parse \"somebody\" as a user or group id");
    bench.end();
}

/// `final` has the last word; without it the processors of `initial` stay, but before Linux 6.2, where joining a group of v1's
/// cpuset forgets them.
#[test]
fn an_exec_is_kept_on_its_processors() {
    if std::thread::available_parallelism().unwrap().get() < 2 {
        println!("skipped: there is one processor");
        return;
    }
    let Some(bench) = running(|_, _| {}) else { return };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let is_old = (numbers.next(), numbers.next()) < (Some(6), Some(2));
    let forgets = is_old && bench.groups().iter().any(|group| group.to_str().unwrap().contains("/cpuset/"));
    for (affinity, kept) in [
        (json!({"initial": "0"}), if forgets { "0-1" } else { "0" }),
        (json!({"initial": "1"}), if forgets { "0-1" } else { "1" }),
        (json!({"initial": "0", "final": "1"}), "1"),
        (json!({"final": "0-1"}), "0-1"),
    ] {
        let process = json!({
            "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/", "env": ["PATH=/bin"],
            "user": {"uid": 0, "gid": 0}, "execCPUAffinity": affinity,
        });
        fs::write(bench.path("process"), process.to_string()).unwrap();
        let output = bench.runtime(&["exec", "--process", &bench.path("process"), &bench.id]).ok();
        assert_eq!(output, format!("Cpus_allowed_list:\t{kept}\n"), "{affinity}");
    }
    bench.end();
}

#[test]
fn descriptors_are_inherited_when_asked() {
    let Some(bench) = running(|_, _| {}) else { return };
    for (name, fd) in [("three", 3), ("four", 4), ("five", 5)] {
        fs::write(bench.path(name), format!("{fd}\n")).unwrap();
    }
    let opened = |flags: &str, script: &str| {
        let corten = env!("CARGO_BIN_EXE_corten");
        let line = format!(
            "exec 3<{} 4<{} 5<{}; exec {corten} runtime --root {} exec {flags} {} sh -c '{script}'",
            bench.path("three"),
            bench.path("four"),
            bench.path("five"),
            bench.path("state"),
            bench.id
        );
        let output = std::process::Command::new("sh").args(["-c", &line]).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let script = "cat <&3; cat <&4; test -e /proc/self/fd/5 && echo leaked";
    assert_eq!(opened("--preserve-fds 2", script), (Some(1), "3\n4\n".into()));
    assert_eq!(opened("", "test -e /proc/self/fd/3 && echo leaked"), (Some(1), String::new()));
    bench.exec(&["--preserve-fds", "2"], "true").fails(255, "descriptor 3 is not open");
    bench.end();
}

#[test]
fn a_paused_container_takes_it_when_told_so() {
    let Some(bench) = running(|_, _| {}) else { return };
    bench.on("pause").ok();
    bench.exec(&[], "true").fails(255, "cannot exec in a paused container (use --ignore-paused to override)");
    let mut command = bench.command(&["exec", "--ignore-paused", &bench.id, "sh", "-c", "echo ran"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let inside = || bench.runtime(&["ps", "-f", "json", &bench.id]).ok();
    until("the process is in the frozen group", || inside().contains(','));
    bench.on("resume").ok();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"ran\n"[..]), "{output:?}");
    bench.end();
}

#[test]
fn groups_below_the_containers() {
    let Some(bench) = running(|_, _| {}) else { return };
    let groups = bench.groups();
    groups.iter().for_each(|group| fs::create_dir(group.join("below")).unwrap());
    let whole = bench.exec(&["--cgroup", "below"], "cat /proc/self/cgroup").ok();
    let placed = whole.lines().filter(|line| line.ends_with("/below")).count();
    assert_eq!(placed, groups.len(), "{whole}");
    if groups.len() > 1 {
        let part = bench.exec(&["--cgroup", "memory:below"], "cat /proc/self/cgroup").ok();
        let placed: Vec<_> = part.lines().filter(|line| line.ends_with("/below")).collect();
        assert!(placed.len() == 1 && placed[0].contains(":memory:"), "{part}");
        // The other hierarchies have the container's own group, not this process's.
        assert!(part.lines().any(|line| line.contains(":pids:/") && !line.ends_with("/below")), "{part}");
        fs::remove_dir(groups[0].join("below")).unwrap();
        bench.exec(&["--cgroup", "below"], "true").fails(255, "no such file or directory");
    }
    bench.exec(&["--cgroup", "nosuch:below"], "true").fails(255, "unknown controller nosuch");
    bench.exec(&["--cgroup", "../.."], "true").fails(255, "../.. is not a sub cgroup path");
    bench.end();
}

#[test]
fn nobody_waits_for_what_is_detached() {
    let Some(bench) = running(|_, _| {}) else { return };
    let socket = std::os::unix::net::UnixListener::bind(bench.path("pidfd")).unwrap();
    let flags = ["--detach", "--pid-file", &bench.path("pid"), "--pidfd-socket", &bench.path("pidfd")];
    bench.exec(&flags, "exec sleep 1000").ok();
    let pidfd = crate::support::receive(&socket.accept().unwrap().0.into());
    let pid = fs::read_to_string(bench.path("pid")).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd))).unwrap();
    assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
    bench.exec(&["--detach", "--tty"], "true").fails(255, "without setting console socket");
    let mode = fs::metadata(bench.path("pid")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    bench.end();
}
