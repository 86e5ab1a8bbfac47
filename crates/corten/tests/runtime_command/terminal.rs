//! Terminals: handed to a socket, or served from the caller's.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::Child;

use corten_sys::pty::{self, Terminal};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::json;

use crate::support::{Bench, bench, receive, until};

#[test]
fn the_terminal_goes_to_the_console_socket() {
    let Some(bench) = bench("tty; read line", |config, _| config["process"]["terminal"] = json!(true)) else {
        return;
    };
    bench.create(&[]).fails(1, "cannot allocate tty if the runtime will detach without setting console socket");
    let path = bench.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    bench.run(&["--detach", "--console-socket", &path]).ok();
    let (socket, _) = listener.accept().unwrap();
    let mut terminal = fs::File::from(receive(&OwnedFd::from(socket)));
    let mut text = Vec::new();
    while !text.ends_with(b"\n") {
        let mut byte = [0];
        terminal.read_exact(&mut byte).unwrap();
        text.push(byte[0]);
    }
    assert_eq!(String::from_utf8(text).unwrap(), "/dev/pts/0\r\n");
    terminal.write_all(b"\n").unwrap();
    bench.wait_for_end();
    bench.on("delete").ok();
    bench.is_clean();
}

/// A runtime in the foreground of a terminal that this test holds.
struct Served {
    terminal: Terminal,
    child: Child,
    text: String,
}

impl Served {
    fn start(bench: &Bench, words: &[&str]) -> Served {
        let devpts = fs::File::open("/dev/pts").unwrap();
        let terminal = pty::open(devpts.as_fd()).unwrap();
        rustix::io::ioctl_fionbio(&terminal.primary, false).unwrap();
        let end = || terminal.secondary.try_clone().unwrap();
        let child = bench.command(words).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        Served { terminal, child, text: String::new() }
    }

    /// Reads what comes out, up to a word.
    fn expect(&mut self, word: &str) {
        while !self.text.contains(word) {
            let mut buffer = [0; 512];
            let length = rustix::io::read(&self.terminal.primary, &mut buffer).unwrap();
            self.text += std::str::from_utf8(&buffer[..length]).unwrap();
        }
        self.text = self.text.split_once(word).unwrap().1.to_owned();
    }

    fn write(&self, text: &str) {
        rustix::io::write(&self.terminal.primary, text.as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal.secondary).unwrap().local_modes.contains(LocalModes::ECHO)
    }

    fn signal(&self, number: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, number).unwrap();
    }

    /// The exit code; the caller's terminal is as it was.
    fn end(mut self, pidfd: &OwnedFd) -> i32 {
        let mut fds = [rustix::event::PollFd::new(pidfd, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        let ended = rustix::event::poll(&mut fds, Some(&limit)).unwrap() > 0;
        if !ended {
            self.child.kill().unwrap();
        }
        let status = self.child.wait().unwrap();
        assert!(ended, "it does not end");
        assert!(self.echoes(), "the terminal is left raw");
        status.code().unwrap()
    }

    fn pidfd(&self) -> OwnedFd {
        corten_sys::process::open_pidfd(i32::try_from(self.child.id()).unwrap()).unwrap()
    }
}

/// Raw mode, both directions, the size at the start and after a change, the end.
#[test]
fn the_callers_terminal_is_served() {
    let script =
        "stty size; trap 'stty size; read line; echo \"got $line\"; exit 6' WINCH; echo ready; sleep 1000 & wait";
    let Some(bench) = bench(script, |config, _| config["process"]["terminal"] = json!(true)) else { return };
    let devpts = fs::File::open("/dev/pts").unwrap();
    let probe = pty::open(devpts.as_fd()).unwrap();
    assert!(tcgetattr(&probe.secondary).unwrap().local_modes.contains(LocalModes::ECHO));
    let mut served = Served::start(&bench, &["run", "--bundle", &bench.path("bundle"), &bench.id]);
    served.expect("ready\r\n");
    assert!(!served.echoes(), "the caller's terminal is raw meanwhile");
    pty::resize(served.terminal.secondary.as_fd(), 101, 37).unwrap();
    served.signal(rustix::process::Signal::WINCH);
    served.expect("37 101\r\n");
    served.write("word\r");
    served.expect("got word\r\n");
    let pidfd = served.pidfd();
    assert_eq!(served.end(&pidfd), 6);
    bench.is_clean();
}

#[test]
fn an_exec_has_a_terminal_of_its_own() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let mut served =
        Served::start(&bench, &["exec", "--tty", &bench.id, "sh", "-c", "tty; read line; echo \"got $line\"; exit 3"]);
    served.expect("/dev/pts/0\r\n");
    served.write("word\r");
    served.expect("got word\r\n");
    let pidfd = served.pidfd();
    assert_eq!(served.end(&pidfd), 3);
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

#[test]
fn an_execs_terminal_goes_to_the_console_socket() {
    let Some(bench) = bench("exec sleep 1000", |_, _| {}) else { return };
    bench.run(&["--detach"]).ok();
    let path = bench.path("console");
    let listener = UnixListener::bind(&path).unwrap();
    let flags = ["--detach", "--tty", "--console-socket", &path];
    bench
        .runtime(&[&["exec"], &flags[..], &[&bench.id, "sh", "-c", "tty; read line; echo \"got $line\""]].concat())
        .ok();
    let mut terminal = fs::File::from(receive(&listener.accept().unwrap().0.into()));
    terminal.write_all(b"word\n").unwrap();
    let mut text = String::new();
    // The end of the last process that has it open is an error here.
    let _ = terminal.read_to_string(&mut text);
    assert!(text.starts_with("/dev/pts/0\r\n") || text.starts_with("word\r\n/dev/pts/0\r\n"), "{text}");
    assert!(text.ends_with("got word\r\n"), "{text}");
    bench.runtime(&["exec", "--tty", "--console-socket", &path, &bench.id, "true"]).fails(255, "console socket");
    bench.runtime(&["delete", "--force", &bench.id]).ok();
    bench.is_clean();
}

/// A program may close its terminal and go on: signals reach it, and its exit code is the runtime's.
#[test]
fn signals_are_passed_on_after_the_terminal_is_gone() {
    let script = "trap 'exit 5' TERM; echo ready; exec <&- >&- 2>&-; sleep 1000 & echo >/closed; wait";
    let Some(bench) = bench(script, |config, _| config["process"]["terminal"] = json!(true)) else { return };
    let mut served = Served::start(&bench, &["run", "--bundle", &bench.path("bundle"), &bench.id]);
    served.expect("ready\r\n");
    until("the terminal is closed", || fs::metadata(bench.path("bundle/rootfs/closed")).is_ok());
    let pidfd = served.pidfd();
    served.signal(rustix::process::Signal::TERM);
    assert_eq!(served.end(&pidfd), 5);
    bench.is_clean();
}
