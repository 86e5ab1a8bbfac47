//! `--init`: a first process that reaps, passes signals on and ends as the program does.

mod common;

use common::{engine, engine_with};
use corten_testkit::is_root;

#[test]
fn an_init_stands_before_the_program() {
    if !is_root("an_init_stands_before_the_program") {
        return;
    }
    let engine = engine();
    let run = |arguments: &[&str]| {
        let fixed = ["run", "--rm", "--init", "--network", "none"];
        engine.docker(&[&fixed, arguments].concat())
    };
    assert_eq!(
        run(&["busybox", "sh", "-c", "tr '\\0' ' ' </proc/1/cmdline; echo $$"]).ok().split(' ').next(),
        Some("/sbin/docker-init")
    );
    run(&["busybox", "sh", "-c", "exit 42"]).fails(42, "");
    run(&["busybox", "sh", "-c", "kill -9 $$"]).fails(137, "");
    run(&["busybox", "/nosuch"]).fails(127, "docker-init: exec /nosuch failed");
    run(&["busybox", "/etc"]).fails(126, "docker-init: exec /etc failed");
    // An orphan becomes the init's child, and is reaped: no zombie stays.
    let orphan = "sh -c 'sleep 0.1 & exit'; sleep 0.5; grep -l '^State:.Z' /proc/[0-9]*/status; true";
    assert_eq!(run(&["busybox", "sh", "-c", orphan]).ok(), "");
    // The program has no handler: process 1 of a PID namespace would not notice the signal.
    engine.docker(&["run", "-d", "--init", "--name", "polite", "--network", "none", "busybox", "sleep", "1000"]).ok();
    // What comes before the init has its handlers is lost, as for every process 1.
    let forked = |line: &str| line.ends_with("sleep 1000") && !line.contains("docker-init");
    common::wait_until("the init has its child", || engine.docker(&["top", "polite"]).stdout.lines().any(forked));
    engine.docker(&["kill", "-s", "TERM", "polite"]).ok();
    assert_eq!(engine.docker(&["wait", "polite"]).ok(), "143");
    engine.docker(&["rm", "polite"]).ok();
    engine.finish();
}

#[test]
fn the_init_is_not_the_hosts_file() {
    if !is_root("the_init_is_not_the_hosts_file") {
        return;
    }
    let engine = engine_with(&["--init"]);
    let script = "stat -c %d:%i /sbin/docker-init; mount -o remount,bind,rw /sbin/docker-init && echo over >>/sbin/docker-init; \
                  echo x >/proc/1/exe || echo kept";
    let run = engine.docker(&["run", "--rm", "--privileged", "--network", "none", "busybox", "sh", "-c", script]);
    let text = run.ok();
    let host = std::fs::metadata(common::CORTEN).expect("the executable");
    let device_and_inode =
        format!("{}:{}", std::os::unix::fs::MetadataExt::dev(&host), std::os::unix::fs::MetadataExt::ino(&host));
    assert!(!text.starts_with(&device_and_inode) && text.ends_with("kept"), "{run:?}");
    assert_eq!(
        engine.docker(&["run", "--rm", "--init=false", "--network", "none", "busybox", "sh", "-c", "echo $$"]).ok(),
        "1"
    );
    assert_eq!(engine.docker(&["info", "-f", "{{.InitBinary}}"]).ok(), "docker-init");
    engine.finish();
}

#[test]
fn the_program_has_the_terminal() {
    if !is_root("the_program_has_the_terminal") {
        return;
    }
    let engine = engine();
    // Its own process group, and the terminal's in the foreground (proc_pid_stat(5)): else it would be stopped for reading.
    let look = "cut -d' ' -f5,8 /proc/self/stat; tty";
    let run = engine.docker(&["run", "-t", "--rm", "--init", "--network", "none", "busybox", "sh", "-c", look]);
    let words: Vec<&str> = run.ok().split_whitespace().collect();
    let [own, foreground, "/dev/pts/0"] = words[..] else { panic!("{run:?}") };
    assert!(own == foreground && own != "1", "{run:?}");
    // What the terminal sends to the foreground arrives.
    let script = "trap 'echo got; exit 3' INT; echo ready; while true; do sleep 0.05; done";
    engine
        .docker(&["run", "-dit", "--init", "--name", "typed", "--network", "none", "busybox", "sh", "-c", script])
        .ok();
    common::wait_until("the trap is set", || engine.docker(&["logs", "typed"]).stdout == "ready\r\n");
    let attach = "/containers/typed/attach?stream=1&stdin=1";
    let request = format!("POST {attach} HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n\x03");
    engine.request(&request).expect("the daemon answers");
    assert_eq!(engine.docker(&["wait", "typed"]).ok(), "3");
    assert!(engine.docker(&["logs", "typed"]).ok().ends_with("got"));
    engine.docker(&["rm", "typed"]).ok();
    engine.finish();
}
