//! An exec's process is in the container before its program runs, and has what it shares with the shim still: a page of memory, and a
//! socket. Whoever may trace it there writes to both.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use corten_runtime::apply::Note;
use corten_shim::client::{Error, ExecProcess};
use corten_shim::protocol::Event;
use corten_sys::process::{open_pidfd, signal_pidfd};
use rustix::fs::{CWD, FileType, Mode};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[(
    "newcomers::an_exec_that_is_taken_over_names_no_process_of_the_host",
    an_exec_that_is_taken_over_names_no_process_of_the_host,
)];

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// What the shim has to have read on the page when the newcomer is gone: nothing, or that its program is executed next.
const MARKS: [(u32, &str); 2] = [(0, "before it could execute"), (1, "none of the container's")];

/// The leader dies while it tells whom it has led in, and the page names another process by then: the shim neither ends that one nor
/// takes it for the exec's.
fn an_exec_that_is_taken_over_names_no_process_of_the_host(world: &World) {
    for (mark, expected) in MARKS {
        let host = Bystander::start();
        let gate = Gate::new(world, mark);
        let mut shim = Shim::new(world);
        let sleeper = plan(spec(&["sleep", "100"]));
        let init = shim.start_in(&world.rootfs, &sleeper, pipes(), &[], &[gate.group()], false).unwrap();
        let mut wanted = spec(&["true"]);
        // It tells of its terminal: where nothing can be told it waits there.
        wanted["process"]["terminal"] = true.into();
        let exec = shim.connection.exec("e", ExecProcess::Plan(&plan(wanted).process), None, None, None).unwrap();

        let leader = next_child(&shim, &[init]);
        let socket = only_socket(leader);
        let supervisor = shim.ready.pid;
        signal(supervisor, SIGSTOP);
        until("the shim is stopped", || state(supervisor) == 'T');
        fill(socket);
        gate.open();
        let newcomer = next_child(&shim, &[init, leader]);
        let namespace = |pid| fs::read_link(format!("/proc/{pid}/ns/pid")).unwrap();
        assert_eq!(namespace(newcomer), namespace(init), "it is in the container");
        write_slate(newcomer, [mark, host.0.id()]);
        for pid in [leader, newcomer] {
            signal(pid, SIGKILL);
            until("it has ended", || state(pid) == 'Z');
        }
        signal(supervisor, SIGCONT);
        let answer = shim.answer(exec);

        let seq = shim.connection.signal(None, SIGKILL).unwrap();
        shim.connection.recv_answer(seq, PATIENCE, |_, _| {}).unwrap();
        shim.exited();
        shim.release();
        assert_eq!(host.ended_by(), Some(SIGTERM), "a process of the host was killed");
        assert_failed(answer, expected);
    }
}

fn assert_failed(answer: Result<Event, Error>, expected: &str) {
    match answer {
        Err(Error::Failed(failure)) => assert!(failure.message.contains(expected), "{failure}"),
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// A process that has nothing to do with the container.
struct Bystander(Child);

impl Bystander {
    fn start() -> Bystander {
        Bystander(Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap())
    }

    /// Ends it. The signal that did: one that was sent before comes first.
    fn ended_by(mut self) -> Option<i32> {
        signal(self.0.id() as i32, SIGTERM);
        self.0.wait().unwrap().signal()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the shim takes for the container's control group: who joins it waits until it is opened.
struct Gate(PathBuf);

impl Gate {
    fn new(world: &World, number: u32) -> Gate {
        let path = world.directory.path().join(format!("gate-{number}"));
        fs::create_dir(&path).unwrap();
        rustix::fs::mknodat(CWD, path.join("tasks"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        Gate(path)
    }

    fn group(&self) -> OwnedFd {
        File::open(&self.0).unwrap().into()
    }

    fn open(&self) {
        let mut joined = [0];
        File::open(self.0.join("tasks")).unwrap().read_exact(&mut joined).unwrap();
        assert_eq!(&joined, b"0");
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::yield_now();
    }
}

/// The shim's child that is none of these, as soon as there is one.
fn next_child(shim: &Shim, known: &[i32]) -> i32 {
    let path = format!("/proc/{0}/task/{0}/children", shim.ready.pid);
    let found = || {
        let children = fs::read_to_string(&path).unwrap();
        let pids = children.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.into_iter().find(|pid| !known.contains(pid))
    };
    until("another child of the shim", || found().is_some());
    found().unwrap()
}

/// A process's only socket, once it has closed all others.
fn only_socket(pid: i32) -> OwnedFd {
    let is_socket =
        |path: &Path| fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
    let sockets = || -> Vec<PathBuf> {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
        open.map(|entry| entry.path()).filter(|path| is_socket(path)).collect()
    };
    until("one socket is left", || sockets().len() == 1);
    let number = sockets()[0].file_name().unwrap().to_str().unwrap().parse().unwrap();
    pidfd_getfd(open_pidfd(pid).unwrap(), number, PidfdGetfdFlags::empty()).unwrap()
}

/// Notes until there is no room for another one.
fn fill(socket: OwnedFd) {
    let note = serde_json::to_vec(&Note::Warning("x".repeat(4096))).unwrap();
    loop {
        match rustix::net::send(&socket, &note, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(_) => {}
            Err(Errno::AGAIN) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Mark and birth, as `corten_sys::slate` has them, in the memory of a process.
fn write_slate(pid: i32, words: [u32; 2]) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let slates: Vec<_> = maps.lines().filter(|line| line.contains(" rw-s ") && line.contains("/dev/zero")).collect();
    let [slate] = slates[..] else { panic!("which is the slate? {maps}") };
    let start = u64::from_str_radix(slate.split('-').next().unwrap(), 16).unwrap();
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).unwrap();
    memory.write_all_at(&words.map(u32::to_ne_bytes).concat(), start).unwrap();
}

fn signal(pid: i32, signal: i32) {
    signal_pidfd(open_pidfd(pid).unwrap().as_fd(), signal).unwrap();
}

/// The letter in `/proc/<pid>/stat`, behind the name.
fn state(pid: i32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").and_then(|(_, fields)| fields.chars().next()).unwrap()
}
