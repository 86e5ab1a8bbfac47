//! Commands of the runtime that are killed on their way, and removals that cannot remove everything: what is left is known.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use serde_json::json;

use crate::support::{bench, until};

/// A start that is killed before it has given the word has not been: the next one can.
#[test]
fn a_start_that_is_killed_can_be_done_again() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.create(&[]).ok();
    // Whoever starts it holds the lock meanwhile; here somebody else does.
    let fifo =
        fs::OpenOptions::new().read(true).write(true).open(bench.path(&format!("state/{}/start", bench.id))).unwrap();
    fifo.lock().unwrap();
    let mut start = bench.command(&["start", &bench.id]).spawn().unwrap();
    let waiting = format!("-> FLOCK  ADVISORY  WRITE {} ", start.id());
    until("the start waits for the lock", || fs::read_to_string("/proc/locks").unwrap().contains(&waiting));
    start.kill().unwrap();
    start.wait().unwrap();
    drop(fifo);
    assert_eq!(bench.status(), "created");
    bench.on("start").ok();
    assert_eq!(bench.status(), "running");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// One that is killed after it has given the word leaves a container that runs, whatever else it did not come to.
#[test]
fn a_start_that_is_killed_may_have_been_one() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.create(&[]).ok();
    fs::write(bench.path(&format!("state/{}/start", bench.id)), "1").unwrap();
    until("the program runs", || bench.status() == "running");
    bench.on("start").fails(1, "cannot start a container in the running state");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// A seccomp agent with as many waiting connections as it may have: the next one waits, too.
fn busy_agent(path: &str) -> Vec<OwnedFd> {
    let address = SocketAddrUnix::new(path).unwrap();
    let socket = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    };
    let mut sockets = vec![socket()];
    bind(&sockets[0], &address).unwrap();
    listen(&sockets[0], 0).unwrap();
    loop {
        sockets.push(socket());
        match connect(&sockets[sockets.len() - 1], &address) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return sockets,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A creation is held up where the group is made and the process is not.
#[test]
fn a_creation_that_is_killed_leaves_a_record_of_what_it_made() {
    let Some(bench) = bench("true", |config, place| {
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": place.join("agent"),
            "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
        });
    }) else {
        return;
    };
    let agent = busy_agent(&bench.path("agent"));
    for command in ["create", "run"] {
        let mut creation = bench.command(&[command, "--bundle", &bench.path("bundle"), &bench.id]).spawn().unwrap();
        until("the group is made", || !bench.groups().is_empty());
        creation.kill().unwrap();
        creation.wait().unwrap();
        assert_eq!((bench.status(), bench.state()["pid"].clone()), ("creating".into(), json!(0)));
        bench.on("start").fails(1, "cannot start a container in the creating state");
        bench.runtime(&["kill", &bench.id, "KILL"]).fails(1, "container not running");
        bench.create(&[]).fails(1, "container with given ID already exists");
        bench.on("delete").ok();
        bench.is_clean();
    }
    drop(agent);
}

/// What has made nothing yet is no container, and gone after it was asked for once.
#[test]
fn a_directory_without_a_record_is_removed() {
    let Some(bench) = bench("true", |_, _| {}) else { return };
    let directory = bench.path(&format!("state/{}", bench.id));
    fs::create_dir_all(&directory).unwrap();
    bench.on("state").fails(1, "container does not exist");
    bench.on("delete").fails(1, "container does not exist");
    assert!(!Path::new(&directory).exists());
    fs::create_dir_all(&directory).unwrap();
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// A process of somebody else's in its group: the container's record stays until a removal succeeds, and only that one runs hooks.
#[test]
fn what_cannot_be_removed_stays_known() {
    let Some(bench) = bench("read line </go; exit 7", |config, place| {
        let script = format!("echo stopped >>{}", place.join("hooks").display());
        config["hooks"] = json!({"poststop": [{"path": "/usr/bin/sh", "args": ["sh", "-c", script]}]});
    }) else {
        return;
    };
    let fifo = bench.path("bundle/rootfs/go");
    rustix::fs::mknodat(rustix::fs::CWD, &*fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    let said = fs::File::create(bench.path("said")).unwrap();
    let mut run = bench.command(&["run", "--bundle", &bench.path("bundle"), &bench.id]);
    let mut run = run.stderr(said).spawn().unwrap();
    until("the program runs", || bench.on("state").code == Some(0) && bench.status() == "running");
    let mut guest = Command::new("sleep").arg("1000").spawn().unwrap();
    // One is enough; every one is waited for.
    fs::write(bench.groups()[0].join("cgroup.procs"), guest.id().to_string()).unwrap();
    fs::write(fifo, "go\n").unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(7), "the program's exit code counts");
    assert!(guest.try_wait().unwrap().is_none(), "it is not the container's");
    let said = fs::read_to_string(bench.path("said")).unwrap();
    assert!(said.contains("level=warning msg=\"cannot remove the container's cgroup"), "{said}");
    assert_eq!(bench.status(), "stopped");
    assert!(!Path::new(&bench.path("hooks")).exists());
    guest.kill().unwrap();
    guest.wait().unwrap();
    bench.on("delete").ok();
    assert_eq!(fs::read_to_string(bench.path("hooks")).unwrap(), "stopped\n");
    bench.is_clean();
}
