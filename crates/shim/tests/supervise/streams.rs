//! Logs, attached clients, terminals.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use corten_shim::client::ExecProcess;
use corten_shim::protocol::{AttachMode, LogConfig, Streams, TerminalSize};

use crate::Case;
use crate::support::*;

pub const CASES: &[Case] = &[
    ("streams::log_and_rotation", log_and_rotation),
    ("streams::several_clients_and_stdin_once", several_clients_and_stdin_once),
    ("streams::a_slow_client_holds_the_container_back", a_slow_client_holds_the_container_back),
    ("streams::all_output_reaches_client_and_log", all_output_reaches_client_and_log),
    ("streams::terminal", terminal),
    ("streams::exec_terminal", exec_terminal),
];

fn json_file(max_size: Option<u64>, max_files: u32) -> LogConfig {
    LogConfig::JsonFile { file: format!("{ID}-json.log"), max_size, max_files, attrs: Default::default() }
}

fn log_and_rotation(world: &World) {
    let mut shim = Shim::logging(world, json_file(Some(2000), 3));
    let script = "seq 1 200; echo problem >&2; printf end";
    shim.start(&world.rootfs, &plan(spec(&["sh", "-c", script])), pipes(), &[]).unwrap();
    assert_eq!(shim.exited().code, 0);
    let read = |suffix: &str| fs::read_to_string(shim.log.join(format!("{ID}-json.log{suffix}"))).unwrap();
    let all = read(".2") + &read(".1") + &read("");
    let lines: Vec<serde_json::Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(fs::read_dir(&shim.log).unwrap().count(), 3);
    let logs = |stream: &str| {
        lines
            .iter()
            .filter(|line| line["stream"] == stream)
            .map(|line| line["log"].as_str().unwrap())
            .collect::<Vec<_>>()
    };
    assert!(logs("stdout").ends_with(&["200\n", "end"]) || logs("stdout").contains(&"200\n"), "{all}");
    assert_eq!(logs("stderr"), ["problem\n"]);
    shim.release();
}

fn several_clients_and_stdin_once(world: &World) {
    let mut shim = Shim::new(world);
    let (first, one) = UnixStream::pair().unwrap();
    let streams = Streams { open_stdin: true, stdin_once: true, ..pipes() };
    shim.start(&world.rootfs, &plan(spec(&["cat"])), streams, &[(ALL, &one)]).unwrap();
    let (second, two) = UnixStream::pair().unwrap();
    let mode = AttachMode { stdin: false, ..ALL };
    let seq = shim.connection.attach(None, mode, two.as_fd()).unwrap();
    shim.answer(seq).unwrap();
    drop((one, two));
    write_all(&first, "hello\n");
    read_until(&first, "hello");
    read_until(&second, "hello");
    first.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(shim.exited().code, 0, "cat sees the end");
    shim.release();
}

fn a_slow_client_holds_the_container_back(world: &World) {
    let mut shim = Shim::new(world);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let script = "dd if=/dev/zero bs=1024 count=4096 2>/dev/null; echo done >&2";
    shim.start(&world.rootfs, &plan(spec(&["sh", "-c", script])), pipes(), &[(ALL, &theirs)]).unwrap();
    drop(theirs);
    // Nobody reads: the buffers fill, dd stands still, the shim stays small and answers.
    let seq = shim.connection.state().unwrap();
    shim.answer(seq).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let status = fs::read_to_string(format!("/proc/{}/status", shim.ready.pid)).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
    assert!(resident.split(' ').next().unwrap().parse::<u64>().unwrap() < 8000, "{resident}");
    let output = unframe(&read_all(&ours));
    assert_eq!(output.len(), 4 * 1024 * 1024 + 5);
    assert_eq!(shim.exited().code, 0);
    shim.release();
}

fn all_output_reaches_client_and_log(world: &World) {
    let mut shim = Shim::logging(world, json_file(None, 1));
    let (ours, theirs) = UnixStream::pair().unwrap();
    shim.start(&world.rootfs, &plan(spec(&["seq", "1", "20000"])), pipes(), &[(ALL, &theirs)]).unwrap();
    drop(theirs);
    let output = unframe(&read_all(&ours));
    let expected: String = (1..=20000).map(|number| format!("{number}\n")).collect();
    assert!(output == expected, "{} of {} bytes", output.len(), expected.len());
    assert_eq!(shim.exited().code, 0);
    let log = fs::read_to_string(shim.log.join(format!("{ID}-json.log"))).unwrap();
    assert_eq!(log.lines().count(), 20000);
    shim.release();
}

fn terminal(world: &World) {
    let mut shim = Shim::logging(world, json_file(None, 1));
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut wanted = spec(&[
        "sh",
        "-c",
        "tty; stty size; ls -l /dev/console; echo over > /dev/console; read line; echo got $line; stty size",
    ]);
    wanted["process"]["terminal"] = true.into();
    let size = Some(TerminalSize { width: 91, height: 33 });
    let streams = Streams { tty: true, open_stdin: true, size, ..pipes() };
    wanted["process"]["consoleSize"] = serde_json::json!({"width": 91, "height": 33});
    shim.start(&world.rootfs, &plan(wanted), streams, &[(ALL, &theirs)]).unwrap();
    drop(theirs);
    let output = read_until(&ours, "over");
    assert!(output.contains("/dev/pts/0\r\n33 91\r\n") && output.contains("136,"), "{output}");
    let seq = shim.connection.resize(None, TerminalSize { width: 50, height: 20 }).unwrap();
    shim.answer(seq).unwrap();
    write_all(&ours, "word\n");
    let output = read_until(&ours, "20 50");
    assert!(output.contains("got word"), "{output}");
    assert_eq!(shim.exited().code, 0);
    assert!(fs::read_to_string(shim.log.join(format!("{ID}-json.log"))).unwrap().contains("got word\\r\\n"));
    shim.release();
}

fn exec_terminal(world: &World) {
    let mut shim = Shim::new(world);
    shim.start(&world.rootfs, &plan(spec(&["sleep", "100"])), pipes(), &[]).unwrap();
    let mut process = plan(spec(&["sh", "-c", "tty; read line; stty size; exit 9"])).process;
    process.terminal = true;
    let (ours, theirs) = UnixStream::pair().unwrap();
    let size = Some(TerminalSize { width: 70, height: 30 });
    let seq = shim.connection.exec("t", ExecProcess::Plan(&process), size, Some((ALL, theirs.as_fd())), None).unwrap();
    drop(theirs);
    shim.answer(seq).unwrap();
    read_until(&ours, "/dev/pts/");
    let seq = shim.connection.resize(Some("t"), TerminalSize { width: 71, height: 31 }).unwrap();
    shim.answer(seq).unwrap();
    write_all(&ours, "\n");
    read_until(&ours, "31 71");
    assert_eq!(shim.exec_exited("t").code, 9);
    shim.connection.signal(None, 9).unwrap();
    shim.connection.recv(PATIENCE).unwrap();
    shim.exited();
    shim.release();
}
