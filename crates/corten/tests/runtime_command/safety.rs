//! What a container must not reach.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use corten_testkit::kernel::{KEYCTL, MOUNT_SETATTR, SENDMSG, refusing, without};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use serde_json::{Value, json};

use crate::support::{bench, receive, until};

/// CVE-2019-5736: the runtime's own file, which stands behind an init's `/proc/<pid>/exe`, cannot be opened for writing. That
/// it is being executed is no defence: it ends with the execution.
#[test]
fn the_executable_cannot_be_reached_for_writing() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    bench.create(&[]).ok();
    let exe = format!("/proc/{}/exe", bench.state()["pid"]);
    // Truncation asks for the mount's permission before it asks whether the file is busy.
    let error = fs::OpenOptions::new().write(true).truncate(true).open(exe).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()), "{error}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn nor_on_a_kernel_without_mount_setattr() {
    without(MOUNT_SETATTR, the_executable_cannot_be_reached_for_writing);
}

/// CVE-2016-9962: who comes in with `exec` can be looked at and traced from inside before it executes its program, by a process
/// with CAP_SYS_PTRACE. Here the newcomer is held in that moment by a seccomp listener that does not answer; whatever it has
/// open then is the container's.
#[test]
fn newcomers_bring_nothing_of_the_host() {
    let watch = |host: &str| {
        format!(
            "until test -e /go; do :; done; for p in /proc/[0-9]*; do case $(readlink $p/exe) in */busybox) continue;; esac; \
             for f in $p/fd/*; do echo \"open $(readlink $f)\"; test -d $f/. && echo directory $f; done; \
             test -e $p/root/bin/busybox && echo inside; test -e $p/root{host} && echo outside; test -e $p/cwd{host} && echo outside; \
             done >/seen; echo >/done; exec sleep 1000"
        )
    };
    let Some(bench) = bench("", |config, place| {
        config["process"]["args"] = json!(["sh", "-c", watch(place.to_str().unwrap())]);
        config["process"]["noNewPrivileges"] = json!(false);
        // It takes a procfs to set it.
        config["process"]["oomScoreAdj"] = json!(77);
        for set in ["bounding", "effective", "permitted"] {
            config["process"]["capabilities"][set].as_array_mut().unwrap().push(json!("CAP_SYS_PTRACE"));
        }
        // The group that only the newcomer takes on.
        let call = |name: &str| json!({"names": [name], "action": "SCMP_ACT_NOTIFY", "args": [{"index": 0, "value": 4242, "op": "SCMP_CMP_EQ"}]});
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place.join("agent"),
            "syscalls": [call("setgid"), call("setresgid"), call("setregid")],
        });
    }) else {
        return;
    };
    let agent = UnixListener::bind(bench.path("agent")).unwrap();
    bench.run(&["--detach"]).ok();
    drop(receive(&agent.accept().unwrap().0.into()));
    let mut command = bench.command(&["exec", "--user", "0:4242", &bench.id, "true"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let listener: OwnedFd = receive(&agent.accept().unwrap().0.into());
    let mut fds = [PollFd::new(&listener, PollFlags::IN)];
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    let count = poll(&mut fds, Some(&limit)).unwrap();
    // The newcomer's end would be told here, too.
    if count == 0 || !fds[0].revents().contains(PollFlags::IN) {
        drop(listener);
        panic!("nobody is held: {:?}", child.wait_with_output());
    }
    fs::write(bench.path("bundle/rootfs/go"), "").unwrap();
    until("the watcher has looked", || fs::metadata(bench.path("bundle/rootfs/done")).is_ok());
    let seen = fs::read_to_string(bench.path("bundle/rootfs/seen")).unwrap();
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.contains(&"inside"), "the watcher has seen nobody: {seen}");
    // Its streams, and the socket over which it tells whether it could execute.
    let own = ["open pipe:[", "open socket:[", "open /dev/null", "inside"];
    let strange: Vec<_> = lines.iter().filter(|line| !own.iter().any(|start| line.starts_with(start))).collect();
    assert!(strange.is_empty(), "{strange:?}");
    // Nobody answers any more: what was held fails.
    drop(listener);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// CVE-2024-21626: a program named by way of an open descriptor, as an image may name it, could be one of the host's.
#[test]
fn no_descriptor_leads_to_the_hosts_programs() {
    let Some(bench) = bench("", |_, _| {}) else { return };
    // Seen from the bundle, from the root file system, from anything deeper.
    for fd in 3..48 {
        bench.configure(|config| {
            let program = format!("/proc/self/fd/{fd}/../../../../../../../../../../usr/bin/env");
            config["process"]["args"] = json!([program, "-i"]);
        });
        let answer = bench.runtime(&["--log", &bench.path("log"), "run", "--bundle", &bench.path("bundle"), &bench.id]);
        assert_eq!((answer.code, &*answer.out), (Some(1), ""), "{fd}: {answer:?}");
    }
    bench.is_clean();
}

/// The first process stands in the container before its start, for as long as its caller likes. What it holds is its streams, the
/// runtime's socket and the two pipes of the start.
#[test]
fn who_waits_for_the_start_holds_nothing_of_the_host() {
    let join_processes = |config: &mut Value, pid: u32| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "pid");
        namespaces.push(json!({"type": "pid", "path": format!("/proc/{pid}/ns/pid")}));
    };
    let user_namespace = |config: &mut Value| {
        let map = json!([{"containerID": 0, "hostID": 0, "size": 65536}]);
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        (config["linux"]["uidMappings"], config["linux"]["gidMappings"]) = (map.clone(), map);
    };
    for kind in ["usual", "joined", "user"] {
        let Some(bench) = bench("true", |config, place| {
            let bind = json!({"destination": "/seen", "source": place, "options": ["rbind"]});
            config["mounts"].as_array_mut().unwrap().push(bind);
            match kind {
                "joined" => join_processes(config, std::process::id()),
                "user" => user_namespace(config),
                _ => {}
            }
        }) else {
            return;
        };
        let words = ["--log", &bench.path("log"), "create", "--bundle", &bench.path("bundle"), &bench.id];
        bench.runtime(&words).ok();
        let held = fs::read_dir(format!("/proc/{}/fd", bench.state()["pid"])).unwrap();
        let held = held.map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_str().unwrap().to_owned());
        let own = ["/dev/null", &bench.path("out"), &bench.path("err")];
        let is_own = |to: &String| {
            own.contains(&to.as_str())
                || to.starts_with("socket:[")
                || to.ends_with("/start")
                || to.ends_with("/report")
        };
        assert_eq!(held.filter(|to| !is_own(to)).collect::<Vec<_>>(), [""; 0], "{kind}");
        bench.on("start").ok();
        bench.wait_for_end();
        bench.on("delete").ok();
        bench.is_clean();
    }
}

/// The process that leads an exec in is in the container's control group by then, where it may be killed for memory. Who was led
/// in is not lost: here the leader ends because it cannot tell of it.
#[test]
fn an_exec_whose_leader_dies_is_the_runtimes() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let exec = |words: &[&str]| without(SENDMSG, || bench.runtime(&[&["exec"], words].concat()));
    let answer = exec(&[&bench.id, "sh", "-c", "echo ran; exit 3"]);
    assert_eq!((answer.code, &*answer.out), (Some(3), "ran\n"), "{answer:?}");
    exec(&["--detach", "--pid-file", &bench.path("pid"), &bench.id, "sleep", "1000"]).ok();
    let pids: Vec<u32> = serde_json::from_str(&bench.runtime(&["ps", "-f", "json", &bench.id]).ok()).unwrap();
    let named = fs::read_to_string(bench.path("pid")).unwrap();
    assert!(pids.len() == 2 && pids.contains(&named.parse().unwrap()), "{named}: {pids:?}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// A process of the host, which goes with the test.
struct Bystander(Child);

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whoever may trace the newcomer writes into its memory, of which its leader has a part in common, while that one dies: the runtime takes no
/// process of the host for the container's, nor tells its caller of one, who would send it the container's signals.
#[test]
fn a_newcomer_that_is_taken_over_names_no_process_of_the_host() {
    let Some(bench) = bench("exec sleep 1000", |config, place| {
        // The newcomer is held where it waits for its agent, who never hears of it: its leader can tell nothing.
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place.join("agent"),
            "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}],
        });
    }) else {
        return;
    };
    let agent = UnixListener::bind(bench.path("agent")).unwrap();
    bench.run(&["--detach"]).ok();
    drop(receive(&agent.accept().unwrap().0.into()));
    let mut host =
        Bystander(Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let words = ["exec", "--detach", "--pid-file", &bench.path("pid"), &bench.id, "true"];
    let mut exec =
        without(SENDMSG, || bench.command(&words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let children = format!("/proc/{0}/task/{0}/children", exec.id());
    let status = |pid: &str| fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let mut newcomer = String::new();
    until("the newcomer has loaded its filter", || {
        let children = fs::read_to_string(&children).unwrap();
        // One filter keeps the leader from telling, the other one is the container's.
        let held = children.split_whitespace().find(|pid| status(pid).contains("\nSeccomp_filters:\t2\n"));
        newcomer = held.unwrap_or_default().to_owned();
        !newcomer.is_empty()
    });
    let maps = fs::read_to_string(format!("/proc/{newcomer}/maps")).unwrap();
    let slate = maps.lines().find(|line| line.contains(" rw-s ") && line.contains("/dev/zero")).expect("the slate");
    let start = u64::from_str_radix(slate.split('-').next().unwrap(), 16).unwrap();
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{newcomer}/mem")).unwrap();
    // That it executes, and who it is: `corten_sys::slate`.
    let forged = [1, host.0.id()].map(u32::to_ne_bytes).concat();
    std::os::unix::fs::FileExt::write_all_at(&memory, &forged, start).unwrap();
    let pid = corten_sys::process::open_pidfd(newcomer.parse().unwrap()).unwrap();
    corten_sys::process::signal_pidfd(std::os::fd::AsFd::as_fd(&pid), 9).unwrap();
    until("the exec fails", || exec.try_wait().unwrap().is_some());
    let output = exec.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(255) && said.contains("none of the container's"), "{output:?}");
    assert!(!fs::exists(bench.path("pid")).unwrap(), "a process of the host is named");
    assert_eq!(host.0.try_wait().unwrap(), None, "a process of the host was killed");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// Dispositions are inherited: whoever starts the runtime may ignore signals, also the two that glibc keeps for itself and whose
/// disposition its functions don't change.
#[test]
fn no_signal_is_ignored_or_blocked() {
    let Some(bench) = bench("exec grep -E 'Sig(Ign|Blk|Cgt)' /proc/self/status", |_, _| {}) else { return };
    let call = if cfg!(target_arch = "x86_64") { 13 } else { 134 };
    let ignore = format!(
        "my $ignore = pack('Q4', 1, 0, 0, 0); syscall({call}, my $n = $_, $ignore, 0, 8) for (1, 13, 32, 33, 64); exec @ARGV or die;"
    );
    let ignoring = |words: &[&str]| {
        let inner = bench.command(words);
        let mut command = Command::new("perl");
        command.args(["-e", &ignore, "sh", "-c", "grep SigIgn /proc/self/status; exec \"$@\"", "sh"]);
        let output = command.arg(inner.get_program()).args(inner.get_args()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let none = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n";
    let expected = format!("SigIgn:\t8000000180001001\n{none}");
    assert_eq!(ignoring(&["run", "--bundle", &bench.path("bundle"), &bench.id]), expected);
    bench.configure(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    bench.run(&["--detach"]).ok();
    let words = ["exec", &bench.id, "grep", "-E", "Sig(Ign|Blk|Cgt)", "/proc/self/status"];
    assert_eq!(ignoring(&words), expected);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// Opening what is no file has effects: who only looks for a home directory sees what it is first.
#[test]
fn what_is_no_file_is_not_opened() {
    let Some(bench) = bench("echo $HOME", |config, _| config["process"]["env"] = json!(["PATH=/bin"])) else { return };
    fs::create_dir_all(bench.path("bundle/rootfs/etc")).unwrap();
    let passwd = bench.path("bundle/rootfs/etc/passwd");
    rustix::fs::mknodat(rustix::fs::CWD, &*passwd, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).unwrap();
    inotify::add_watch(&watch, &*passwd, inotify::WatchFlags::OPEN).unwrap();
    assert_eq!(bench.run(&[]).ok(), "/\n");
    let event = |watch| rustix::io::read(watch, &mut [0; 64]);
    assert_eq!(event(&watch), Err(rustix::io::Errno::AGAIN), "it was opened");
    drop(fs::OpenOptions::new().read(true).write(true).open(&passwd).unwrap());
    assert!(event(&watch).is_ok(), "who opens it is seen");
    fs::remove_file(&passwd).unwrap();
    fs::write(&passwd, "root:x:0:0::/home/root:/bin/sh\n").unwrap();
    assert_eq!(bench.run(&[]).ok(), "/home/root\n");
    bench.is_clean();
}

/// As with runc: who is given no capabilities has none, and an exec has what the container has.
#[test]
fn capabilities_that_nobody_gives_are_not_there() {
    let script = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status";
    let none = ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}:\t{:016x}\n", 0)).concat();
    let Some(bench) = bench(script, |config, _| {
        config["process"].as_object_mut().unwrap().remove("capabilities");
    }) else {
        return;
    };
    assert_eq!(bench.run(&[]).ok(), none);
    bench.configure(|config| config["process"]["args"] = json!(["sleep", "1000"]));
    bench.run(&["--detach"]).ok();
    assert_eq!(bench.runtime(&["exec", &bench.id, "sh", "-c", script]).ok(), none);
    bench.runtime(&["delete", "--force", &bench.id]).ok();

    let kill = ["Prm", "Eff", "Bnd"].map(|set| format!("Cap{set}:\t{:016x}\n", 1 << 5)).concat();
    bench.configure(|config| {
        let set = json!(["CAP_KILL"]);
        config["process"]["capabilities"] = json!({"bounding": set, "permitted": set, "effective": set});
    });
    bench.run(&["--detach"]).ok();
    let process = json!({"args": ["sh", "-c", script], "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}});
    fs::write(bench.path("process"), process.to_string()).unwrap();
    let seen = bench.runtime(&["exec", "--process", &bench.path("process"), &bench.id]).ok();
    assert!(seen.contains(&kill), "{seen}");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// Where a keyring can't be left the keys in it would be the container's. A kernel without keyrings has none.
#[test]
fn a_keyring_that_cannot_be_left_ends_the_start() {
    let Some(bench) = bench("echo on", |_, _| {}) else { return };
    let refused = "unable to join session keyring: unable to create session key: ";
    refusing(KEYCTL, 0, || bench.run(&[])).fails(1, refused);
    bench.is_clean();
    assert_eq!(refusing(KEYCTL, 0, || bench.run(&["--no-new-keyring"])).ok(), "on\n");
    assert_eq!(without(KEYCTL, || bench.run(&[])).ok(), "on\n");
    bench.is_clean();
}
