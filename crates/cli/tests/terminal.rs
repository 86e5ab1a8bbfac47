//! A container with a terminal: raw mode and its end, the size, detaching, and signals.

mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use support::{Daemon, Reply, Request, frame};

const ID: &str = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789abcdef";

/// A terminal: our side and the program's.
fn terminal() -> (File, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let primary = openpt(flags).expect("pty");
    grantpt(&primary).expect("pty");
    unlockpt(&primary).expect("pty");
    tcsetwinsize(&primary, Winsize { ws_row: 33, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 }).expect("size");
    let secondary = ioctl_tiocgptpeer(&primary, flags).expect("pty");
    (File::from(primary), secondary)
}

fn script(request: &Request) -> Reply {
    match request.path.split('?').next().unwrap_or_default() {
        "/containers/create" => Reply::Json(201, format!(r#"{{"Id":"{ID}"}}"#)),
        path if path.ends_with("/attach") => Reply::Hijack { bytes: b"ready\r\n".to_vec(), echo: true },
        path if path.ends_with("/wait") => Reply::Json(200, r#"{"StatusCode":0}"#.to_owned()),
        _ => Reply::Empty,
    }
}

fn spawn(daemon: &Daemon, arguments: &[&str], terminal: &OwnedFd) -> Child {
    let copy = || Stdio::from(terminal.try_clone().expect("fd"));
    daemon.command(arguments).stdin(copy()).stdout(copy()).stderr(copy()).spawn().expect("client runs")
}

fn read_until(terminal: &mut File, text: &str) -> String {
    let mut shown = String::new();
    let mut buffer = [0; 4096];
    while !shown.contains(text) {
        let length = terminal.read(&mut buffer).expect("terminal");
        shown.push_str(&String::from_utf8_lossy(&buffer[..length]));
    }
    shown
}

/// Requests come on other threads of the daemon; they are there soon, or the test fails.
fn await_request(daemon: &Daemon, wanted: &str) {
    let begin = Instant::now();
    while !daemon.requests().iter().any(|request| request == wanted) {
        assert!(begin.elapsed() < Duration::from_secs(10), "no {wanted} among {:?}", daemon.requests());
        std::thread::yield_now();
    }
}

#[test]
fn detaching_restores_the_terminal() {
    let daemon = Daemon::start(script);
    let (mut ours, theirs) = terminal();
    let before = tcgetattr(&theirs).expect("modes");
    let mut child = spawn(&daemon, &["run", "-it", "img"], &theirs);
    read_until(&mut ours, "ready");
    let during = tcgetattr(&theirs).expect("modes");
    assert!(before.local_modes.contains(LocalModes::ICANON) && !during.local_modes.contains(LocalModes::ICANON));
    await_request(&daemon, &format!("POST /containers/{ID}/resize?h=33&w=120"));
    ours.write_all(b"x\x10\x11").expect("terminal");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    let after = tcgetattr(&theirs).expect("modes");
    assert_eq!(after.local_modes, before.local_modes);
    let seen = daemon.seen.lock().expect("lock");
    let body: serde_json::Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    assert_eq!(body["HostConfig"]["ConsoleSize"], serde_json::json!([33, 120]));
}

#[test]
fn a_new_size_is_reported() {
    let daemon = Daemon::start(script);
    let (mut ours, theirs) = terminal();
    let mut child = spawn(&daemon, &["run", "-it", "img"], &theirs);
    read_until(&mut ours, "ready");
    await_request(&daemon, &format!("POST /containers/{ID}/resize?h=33&w=120"));
    tcsetwinsize(&ours, Winsize { ws_row: 5, ws_col: 6, ws_xpixel: 0, ws_ypixel: 0 }).expect("size");
    // The terminal controls no session here, so the kernel tells nobody by itself.
    signal(&child, Signal::WINCH);
    await_request(&daemon, &format!("POST /containers/{ID}/resize?h=5&w=6"));
    ours.write_all(b"\x10\x11").expect("terminal");
    child.wait().expect("ends");
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process");
    kill_process(pid, signal).expect("signal");
}

#[test]
fn signals_reach_the_container() {
    let daemon = Daemon::start(|request| match request.path.split('?').next().unwrap_or_default() {
        path if path.ends_with("/attach") => Reply::Hijack { bytes: frame(1, "ready\n"), echo: true },
        _ => script(request),
    });
    let mut child = daemon
        .command(&["run", "-i", "img"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("client runs");
    let mut output = child.stdout.take().expect("piped");
    output.read_exact(&mut [0; 6]).expect("first line");
    signal(&child, Signal::TERM);
    await_request(&daemon, &format!("POST /containers/{ID}/kill?signal=TERM"));
    signal(&child, Signal::USR1);
    await_request(&daemon, &format!("POST /containers/{ID}/kill?signal=USR1"));
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("ends").code(), Some(0));
}
