//! Start, exit, failure, signals, exec, adoption.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use corten_runtime::FailureKind;
use corten_shim::client::ExecProcess;
use corten_shim::client::{Connection, Error, read_exit_status};
use corten_shim::protocol::{Event, LogConfig, Phase};
use corten_shim::spawn::{Executable, WarmOptions, Zygote};
use corten_sys::precedence;
use corten_sys::process::Child;
use corten_testkit::kernel;
use rustix::event::{PollFd, PollFlags, Timespec};
use serde_json::json;

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[
    ("life::exit_codes", exit_codes),
    ("life::isolation", isolation),
    ("life::identity", identity),
    ("life::failures_in_dockers_words", failures_in_dockers_words),
    ("life::programs_that_the_kernel_refuses", programs_that_the_kernel_refuses),
    ("life::signals", signals),
    ("life::exec", exec),
    ("life::adoption_after_the_daemon_died", adoption_after_the_daemon_died),
    ("life::exit_without_a_daemon", exit_without_a_daemon),
    (
        "life::a_shim_whose_container_was_not_asked_for_ends_with_its_socket",
        a_shim_whose_container_was_not_asked_for_ends_with_its_socket,
    ),
    ("life::release_of_what_never_ran", release_of_what_never_ran),
    ("life::a_zygote_that_dies_before_it_tells", a_zygote_that_dies_before_it_tells),
    ("life::late_stub_and_joined_namespaces", late_stub_and_joined_namespaces),
    ("life::binds", binds),
    ("life::seccomp", seccomp),
    ("life::a_held_program_waits", a_held_program_waits),
    ("life::a_program_has_the_usual_time_slice", a_program_has_the_usual_time_slice),
    ("life::a_filter_that_the_plan_lacks", a_filter_that_the_plan_lacks),
];

fn exit_codes(world: &World) {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("sh -c 'kill -9 $$'; exit $?", 137)] {
        let (_, status) = sh(world, script);
        assert_eq!(status, code, "{script}");
    }
}

fn isolation(world: &World) {
    let script = "hostname; echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/self/mountinfo | grep -c ' / / '; \
        ls /sys/class/net; cat /proc/kcore | head -c 1; (echo x > /proc/sys/kernel/printk) 2>&1; \
        ls -d /dev/null /dev/fd /dev/ptmx; ls /proc/self/fd; touch /tmp/x && echo written";
    let (output, code) = sh(world, script);
    assert_eq!(code, 0, "{output}");
    assert!(output.starts_with("box\n1\n"), "{output}");
    assert!(
        output.contains("\nlo\n") && output.contains("Read-only file system") && output.contains("written"),
        "{output}"
    );
    // Descriptors: 0 1 2 and the directory that ls itself has open.
    assert!(output.contains("\n0\n1\n2\n3\n") && !output.contains("\n4\n"), "{output}");
    let mut readonly = spec(&["sh", "-c", "touch /x; touch /dev/shm/y && echo shm"]);
    readonly["root"]["readonly"] = json!(true);
    let (output, _) = run(world, &world.rootfs, readonly);
    assert!(output.contains("Read-only") && output.contains("shm"), "{output}");
}

fn identity(world: &World) {
    let mut wanted = spec(&[
        "sh",
        "-c",
        "id; umask; pwd; echo $HOME; grep Cap /proc/self/status; grep NoNew /proc/self/status; echo out > /dev/stdout",
    ]);
    wanted["process"]["user"] = json!({"uid": 1000, "gid": 1000, "additionalGids": [7], "umask": 0o77});
    wanted["process"]["cwd"] = json!("/work/deep");
    wanted["process"]["noNewPrivileges"] = json!(true);
    wanted["process"]["capabilities"] = json!({"bounding": ["CAP_CHOWN"]});
    wanted["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 1_000_000_000}]);
    wanted["process"]["oomScoreAdj"] = json!(-1000);
    let rootfs = world.own_rootfs("identity");
    let (output, code) = run(world, &rootfs, wanted);
    assert_eq!(code, 0, "{output}");
    for expected in [
        "uid=1000",
        "gid=1000",
        "0077\n/work/deep\n/home/user\n",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000001",
        "NoNewPrivs:\t1",
        "out\n",
    ] {
        assert!(output.contains(expected), "{expected}: {output}");
    }
}

fn failures_in_dockers_words(world: &World) {
    for (command, kind, text) in [
        ("nosuch", FailureKind::NotFound, r#"exec: "nosuch": executable file not found in $PATH"#),
        ("/nosuch", FailureKind::NotFound, r#"exec: "/nosuch": stat /nosuch: no such file or directory"#),
        ("/etc/plain", FailureKind::NotExecutable, r#"exec: "/etc/plain": permission denied"#),
        ("/etc", FailureKind::NotExecutable, r#"exec: "/etc": is a directory"#),
    ] {
        let rootfs = world.own_rootfs(&format!("failure-{}", text.len()));
        let mut shim = Shim::new(world);
        match shim.start(&rootfs, &plan(spec(&[command])), pipes(), &[]) {
            Err(Error::Failed(failure)) => {
                assert_eq!((failure.kind, failure.message.as_str()), (kind, text));
                assert_eq!(failure.exit_code(), if kind == FailureKind::NotFound { 127 } else { 126 });
            }
            other => panic!("{command}: {other:?}"),
        }
        assert_eq!(shim.drop_connection().code, 0);
    }
}

/// What only the kernel finds out is the program's own end.
fn programs_that_the_kernel_refuses(world: &World) {
    for (command, content, text) in [
        ("/bin/format", "\x7fELF nonsense", "exec /bin/format: exec format error\n"),
        ("/bin/script", "#!/nosuch\n", "exec /bin/script: no such file or directory\n"),
    ] {
        let rootfs = world.own_rootfs(&format!("refused-{}", text.len()));
        let path = rootfs.join(&command[1..]);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(run(world, &rootfs, spec(&[command])), (text.to_owned(), 255));
    }
}

fn signals(world: &World) {
    let mut shim = Shim::new(world);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    shim.start(&world.rootfs, &plan(spec(&["sh", "-c", script])), pipes(), &[(ALL, &theirs)]).unwrap();
    read_until(&ours, "ready");
    let seq = shim.connection.signal(None, 15).unwrap();
    assert_eq!(shim.answer(seq).unwrap(), Event::Done);
    assert_eq!(shim.exited().code, 42);
    let seq = shim.connection.signal(None, 15).unwrap();
    assert!(shim.answer(seq).is_err(), "nobody is there to be signalled");
    shim.release();

    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.answer(seq).unwrap();
    let status = shim.exited();
    assert_eq!((status.code, status.oom), (137, false));
    assert_eq!(read_exit_status(&shim.run).unwrap(), Some(status));
    shim.release();
}

fn exec(world: &World) {
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let process = |args: &[&str]| plan(spec(args)).process;

    let (ours, theirs) = UnixStream::pair().unwrap();
    let script = "hostname; ps | grep -q 'sleep 100' && echo together; cat; ls /proc/self/fd; exit 5";
    let seq = shim
        .connection
        .exec("e1", ExecProcess::Plan(&process(&["sh", "-c", script])), None, Some((ALL, theirs.as_fd())), None)
        .unwrap();
    drop(theirs);
    assert!(matches!(shim.answer(seq).unwrap(), Event::ExecStarted(_)));
    write_all(&ours, "typed");
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let output = unframe(&read_all(&ours));
    assert!(
        output.starts_with("box\ntogether\n") && output.contains("typed0\n1\n2\n3\n") && !output.contains("\n4\n"),
        "{output}"
    );
    assert_eq!(shim.exec_exited("e1").code, 5);

    for (command, code) in [("nosuch", 127), ("/etc", 126)] {
        let seq = shim.connection.exec("e2", ExecProcess::Plan(&process(&[command])), None, None, None).unwrap();
        match shim.answer(seq) {
            Err(Error::Failed(failure)) => assert_eq!(failure.exit_code(), code),
            other => panic!("{other:?}"),
        }
    }
    let mut away = process(&["true"]);
    away.cwd = "/nosuch".into();
    let seq = shim.connection.exec("e3", ExecProcess::Plan(&away), None, None, None).unwrap();
    assert!(shim.answer(seq).unwrap_err().to_string().contains("chdir to cwd (\"/nosuch\")"));

    let seq = shim.connection.exec("e4", ExecProcess::Plan(&process(&["sleep", "100"])), None, None, None).unwrap();
    shim.answer(seq).unwrap();
    let seq = shim.connection.signal(Some("e4"), 15).unwrap();
    shim.answer(seq).unwrap();
    assert_eq!(shim.exec_exited("e4").code, 143);

    let seq = shim.connection.signal(None, 9).unwrap();
    shim.answer(seq).unwrap();
    shim.exited();
    let seq = shim.connection.exec("e5", ExecProcess::Plan(&process(&["true"])), None, None, None).unwrap();
    assert!(shim.answer(seq).is_err());
    shim.release();
}

fn adoption_after_the_daemon_died(world: &World) {
    let mut shim = Shim::new(world);
    let pid = shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let Shim { connection, child, ready, run, log } = shim;
    drop(connection);
    let connection = Connection::connect(&run.join("shim.sock")).unwrap();
    let mut shim = Shim { connection, child, ready, run, log };
    let seq = shim.connection.state().unwrap();
    let (event, fds) = shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
    let Event::State(state) = event else { panic!("{event:?}") };
    assert_eq!((state.phase, state.pid, state.container_id.as_deref()), (Phase::Running, Some(pid), Some(ID)));
    assert_eq!(fds.len(), 1);
    drop(fds);
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.answer(seq).unwrap();
    assert_eq!(shim.exited().code, 137);
    shim.release();
}

fn exit_without_a_daemon(world: &World) {
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sh", "-c", "sleep 0.2; exit 3"])), pipes(), &[]).unwrap();
    let run = shim.run.clone();
    assert_eq!(shim.drop_connection().code, 0, "it ends by itself");
    assert_eq!(read_exit_status(&run).unwrap().unwrap().code, 3);
}

fn release_of_what_never_ran(world: &World) {
    Shim::new(world).release();
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let seq = shim.connection.release().unwrap();
    assert!(shim.answer(seq).is_err(), "a running container keeps its shim");
    let seq = shim.connection.signal(None, 9).unwrap();
    shim.answer(seq).unwrap();
    shim.exited();
    shim.release();
}

/// Whether it is assigned or not: a daemon that comes later has no use for it.
fn a_shim_whose_container_was_not_asked_for_ends_with_its_socket(world: &World) {
    let warm = Shim::warm(world);
    let assigned = Shim::prepared(world);
    for (connection, child, ready) in [warm, (assigned.connection, assigned.child, assigned.ready)] {
        drop(connection);
        ends_with_its_stub(child, ready.init_pid.unwrap());
    }
}

fn ends_with_its_stub(mut child: Child, stub: i32) {
    let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    let mut polled = [PollFd::new(&child.pidfd, PollFlags::IN)];
    assert_eq!(rustix::event::poll(&mut polled, Some(&patience)).unwrap(), 1, "the shim stays");
    assert_eq!(child.wait().unwrap().code, 0);
    let stub = std::path::PathBuf::from(format!("/proc/{stub}"));
    let deadline = std::time::Instant::now() + PATIENCE;
    while stub.exists() && std::time::Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert!(!stub.exists(), "the stub is gone, too");
}

/// It has made a shim, and ends with the first word that it says of it, as does the shim.
fn a_zygote_that_dies_before_it_tells(_: &World) {
    let executable = Executable::open(Path::new("/proc/self/exe")).unwrap();
    let mut zygote = kernel::without(kernel::SENDMSG, || Zygote::start(&executable, None)).unwrap();
    let before = children();
    assert!(matches!(zygote.spawn(WarmOptions::default()), Err(Error::Closed)));
    assert_eq!(children().len(), before.len() + 1, "the shim that was not told of is there, if only as a zombie");
    drop(zygote);
    assert_eq!(children().len(), before.len() - 1, "with the zygote it is gone");
}

/// This process's children, dead ones too, whichever thread has made them.
fn children() -> Vec<String> {
    // A thread may end meanwhile; it has no children then.
    let of = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks.flat_map(|task| of(task.unwrap()).split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn late_stub_and_joined_namespaces(world: &World) {
    // One container, and another in its network, IPC and PID namespaces.
    let mut first = Shim::new(world);
    let pid = first.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let mut joined = spec(&["sh", "-c", "ps | grep -v grep | grep -c 'sleep 100'; ls -l /proc/self/ns/net"]);
    let path = |kind: &str| format!("/proc/{pid}/ns/{kind}");
    joined["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "pid", "path": path("pid")},
        {"type": "network", "path": path("net")}, {"type": "ipc", "path": path("ipc")}, {"type": "uts"}]);
    let (output, code) = run(world, &world.rootfs, joined);
    assert_eq!(code, 0, "{output}");
    let net = std::fs::read_link(path("net")).unwrap();
    assert!(output.starts_with("1\n") && output.contains(net.to_str().unwrap()), "{output}");
    first.connection.signal(None, 9).unwrap();
    first.connection.recv(PATIENCE).unwrap();
    first.exited();
    first.release();

    // The host's namespaces.
    let mut host = spec(&["sh", "-c", "for kind in pid net uts; do readlink /proc/self/ns/$kind; done"]);
    host["linux"]["namespaces"] = json!([{"type": "mount"}]);
    host.as_object_mut().unwrap().remove("hostname");
    let (output, _) = run(world, &world.rootfs, host);
    for kind in ["pid", "net", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert!(output.contains(own.to_str().unwrap()), "{output}");
    }

    let options = WarmOptions { late_init: true };
    let warm = Shim::warm_with(world, options);
    assert_eq!(warm.2.init_pid, None);
    let mut late = Shim::assign(world, warm, LogConfig::None);
    late.start(&world.rootfs, &plan(spec(&["true"])), pipes(), &[]).unwrap();
    assert_eq!(late.exited().code, 0);
    late.release();
}

fn binds(world: &World) {
    let host = world.directory.path().join("host");
    std::fs::create_dir_all(host.join("deep")).unwrap();
    std::fs::write(host.join("file"), "from the host\n").unwrap();
    let mut wanted = spec(&[
        "sh",
        "-c",
        "exec 2>&1; cat /data/file /single; touch /data/new; touch /ro/new; cat /up/plain; ls /up; grep -c /dev/more /proc/self/mountinfo",
    ]);
    let mounts = wanted["mounts"].as_array_mut().unwrap();
    mounts.push(json!({"destination": "/data", "source": host, "options": ["rbind", "rprivate"]}));
    mounts.push(json!({"destination": "/ro", "source": host, "options": ["rbind", "rro", "ro"]}));
    mounts.push(json!({"destination": "/single", "source": host.join("file"), "options": ["bind", "ro"]}));
    mounts.push(json!({"destination": "/dev/more", "type": "tmpfs", "source": "tmpfs"}));
    mounts.push(json!({"destination": "/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "size=1m"]}));
    let mut mismatched = spec(&["true"]);
    mismatched["mounts"]
        .as_array_mut()
        .unwrap()
        .push(json!({"destination": "/etc/passwd", "source": host, "options": ["bind"]}));
    let mut shim = Shim::new(world);
    let error = shim.start(&world.rootfs, &plan(mismatched), pipes(), &[]).unwrap_err().to_string();
    assert!(error.contains("/etc/passwd") && error.contains("or vice-versa"), "{error}");
    shim.drop_connection();
    let rootfs = world.own_rootfs("binds");
    std::fs::create_dir(rootfs.join("up")).unwrap();
    std::fs::write(rootfs.join("up/plain"), "copied up\n").unwrap();
    let (output, _) = run(world, &rootfs, wanted);
    assert!(
        output.starts_with("from the host\nfrom the host\n")
            && output.contains("copied up")
            && output.ends_with("\n1\n"),
        "{output}"
    );
    assert!(output.contains("/ro/new: Read-only file system"), "{output}");
    assert!(host.join("new").exists());
}

fn seccomp(world: &World) {
    use corten_runtime::plan::SeccompProgram;
    // uname answers EPERM, everything else is allowed: load nr; jeq uname; ret errno; ret allow.
    let word = |code: u64, jt: u64, jf: u64, k: u64| code | jt << 16 | jf << 24 | k << 32;
    let uname = 63;
    // Neither close_range nor faccessat2, as profiles of old have it: the start must not need them by then.
    let (close_range, faccessat2) = (436, 439);
    let filter = vec![
        word(0x20, 0, 0, 0),
        word(0x15, 2, 0, uname),
        word(0x15, 1, 0, close_range),
        word(0x15, 0, 1, faccessat2),
        word(0x06, 0, 0, 0x0005_0001),
        word(0x06, 0, 0, 0x7fff_0000),
    ];
    for no_new_privileges in [false, true] {
        let mut wanted = plan(spec(&["sh", "-c", "grep Seccomp: /proc/self/status; hostname"]));
        wanted.process.no_new_privileges = no_new_privileges;
        wanted.process.seccomp = Some(SeccompProgram { filter: filter.clone(), flags: 0 });
        let mut shim = Shim::new(world);
        let (ours, theirs) = UnixStream::pair().unwrap();
        shim.start(&world.rootfs, &wanted, pipes(), &[(ALL, &theirs)]).unwrap();
        drop(theirs);
        let output = unframe(&read_all(&ours));
        assert!(output.contains("Seccomp:\t2") && !output.contains("box"), "{output}");
        shim.exited();
        shim.release();
    }
}

/// Who waits for a start has the processor soon; the program and its children do not keep that.
fn a_program_has_the_usual_time_slice(world: &World) {
    let take = || {
        precedence::take();
        precedence::is_taken(0).unwrap()
    };
    let supported = std::thread::spawn(take).join().unwrap();
    for staged in [false, true] {
        let mut shim = if staged { Shim::prepared(world) } else { Shim::new(world) };
        assert_eq!(precedence::is_taken(shim.ready.pid).unwrap(), supported);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let wanted = plan(spec(&["sh", "-c", "sleep 1000 & echo; sleep 1000"]));
        let pid = shim.start(&world.rootfs, &wanted, pipes(), &[(ALL, &theirs)]).unwrap();
        read_until(&ours, "\n");
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pids: Vec<i32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).chain([pid]).collect();
        assert!(pids.len() > 1, "{children:?}");
        for pid in pids {
            assert!(!precedence::is_taken(pid).unwrap());
        }
        let init = corten_sys::process::open_pidfd(pid).unwrap();
        corten_sys::process::signal_pidfd(init.as_fd(), 9).unwrap();
        shim.exited();
        shim.release();
    }
}

fn a_held_program_waits(world: &World) {
    for go in [true, false] {
        let mut shim = Shim::prepared(world);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (hold, word) = std::io::pipe().unwrap();
        let extras = Extras { hold: Some(hold.as_fd()), ..Extras::default() };
        let plan = plan(spec(&["cat", "/etc/hostname"]));
        let rootfs = world.own_rootfs(if go { "held" } else { "given-up" });
        std::fs::write(rootfs.join("etc/hostname"), "too early").unwrap();
        let seq = shim.begin(&rootfs, &plan, pipes(), &[(ALL, &theirs)], (&[], false), extras).unwrap();
        drop((theirs, hold));
        let seq_of_state = shim.connection.state().unwrap();
        let Event::State(state) = shim.answer(seq_of_state).unwrap() else { panic!("no state") };
        assert_eq!(state.phase, Phase::Starting);
        std::fs::write(rootfs.join("etc/hostname"), "in time").unwrap();
        if go {
            std::io::Write::write_all(&mut &word, b"g").unwrap();
            assert!(matches!(shim.answer(seq).unwrap(), Event::Started(_)));
            assert_eq!(unframe(&read_all(&ours)), "in time");
            assert_eq!(shim.exited().code, 0);
            shim.release();
        } else {
            drop(word);
            let error = shim.answer(seq).unwrap_err();
            assert!(error.to_string().contains("the start was given up"), "{error}");
            shim.drop_connection();
        }
    }
}

fn a_filter_that_the_plan_lacks(world: &World) {
    // This world's usual plan has none: the start is refused, not made without one.
    let mut shim = Shim::new(world);
    let extras = Extras { usual_filter: true, ..Extras::default() };
    let plan = plan(spec(&["true"]));
    assert_eq!(plan.process.seccomp, None);
    let error = shim.start_with(&world.rootfs, &plan, pipes(), &[], (&[], false), extras).unwrap_err();
    assert!(error.to_string().contains("the usual filter is not known"), "{error}");
    shim.drop_connection();
}
