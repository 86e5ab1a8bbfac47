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

/// What is on the screen after these bytes, line by line.
fn screen(shown: &str) -> Vec<String> {
    let (mut lines, mut at) = (vec![String::new()], 0);
    let mut rest = shown;
    while let Some(c) = rest.chars().next() {
        if let Some(order) = rest.strip_prefix("\x1b[") {
            let end = order.find(|c: char| c.is_ascii_alphabetic()).expect("an order ends");
            let number: usize = order[..end].parse().unwrap_or(1);
            match &order[end..=end] {
                "A" => at = usize::checked_sub(at, number).expect("not above what was shown"),
                "B" => at += number,
                "K" => lines[at].clear(),
                other => panic!("an order that nobody knows: {other}"),
            }
            rest = &order[end + 1..];
            continue;
        }
        match c {
            '\n' => at += 1,
            '\r' => {}
            c => lines[at].push(c),
        }
        lines.resize(lines.len().max(at + 1), String::new());
        rest = &rest[c.len_utf8()..];
    }
    lines.into_iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
}

#[test]
fn progress_has_a_line_for_each_part() {
    let progress = |id: &str, status: &str, current: u64| {
        format!(
            "{{\"id\":\"{id}\",\"status\":\"{status}\",\"progressDetail\":{{\"current\":{current},\"total\":1000}}}}\r\n"
        )
    };
    let state =
        |id: &str, status: &str| format!("{{\"id\":\"{id}\",\"status\":\"{status}\",\"progressDetail\":{{}}}}\r\n");
    let mut messages = "{\"id\":\"1\",\"status\":\"Pulling from app\"}\r\n".to_owned();
    for id in ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] {
        messages.push_str(&state(id, "Pulling fs layer"));
    }
    for current in [1, 500, 1000] {
        messages.push_str(&progress("aaaaaaaaaaaa", "Downloading", current));
        messages.push_str(&progress("bbbbbbbbbbbb", "Downloading", current / 2));
    }
    messages.push_str(&state("aaaaaaaaaaaa", "Pull complete"));
    messages.push_str("{\"status\":\"Digest: sha256:0\"}\r\n");
    let daemon = Daemon::start(move |_| Reply::Json(200, messages.clone()));
    let (mut ours, theirs) = terminal();
    let mut child = spawn(&daemon, &["pull", "app:1"], &theirs);
    let shown = read_until(&mut ours, "docker.io/library/app:1");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(shown.contains("Downloading [="), "{shown:?}");
    let half = format!("bbbbbbbbbbbb: Downloading [{}>{}]     500B/1kB", "=".repeat(25), " ".repeat(25));
    let expect =
        ["1: Pulling from app", "aaaaaaaaaaaa: Pull complete", &half, "Digest: sha256:0", "docker.io/library/app:1"];
    assert_eq!(screen(&shown), expect, "{shown:?}");
    // A screen of fewer columns gets shorter lines, none of them broken in two.
    tcsetwinsize(&ours, Winsize { ws_row: 33, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 }).expect("size");
    let mut child = spawn(&daemon, &["pull", "app:1"], &theirs);
    let narrow = read_until(&mut ours, "docker.io/library/app:1");
    assert_eq!(child.wait().expect("ends").code(), Some(0));
    assert!(screen(&narrow).iter().all(|line| line.chars().count() <= 40), "{narrow:?}");
}
