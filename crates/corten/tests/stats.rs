//! `docker stats`: what containers use, on whatever control groups the machine has (`./x vm-test` runs this on v2).

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{CORTEN, engine};
use corten_testkit::{Answer, TestEngine, is_root};
use serde_json::{Value, json};

/// Longer than any of this takes, even on an emulated machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(engine: &TestEngine, options: &[&str], script: &str) {
    engine.docker(&[&["run", "-d"], options, &["busybox", "sh", "-c", script]].concat()).ok();
}

/// A GET of a container's stats that ends by itself, answered with this status; the body.
fn get(engine: &TestEngine, target: &str, status: u16) -> Value {
    let answer = engine.get(target).expect("the daemon answers");
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// A stream of samples, as a client sees it.
struct Samples(BufReader<UnixStream>);

impl Samples {
    fn of(engine: &TestEngine, container: &str) -> Samples {
        let mut stream = UnixStream::connect(engine.socket()).expect("the daemon listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        // Of HTTP/1.0, so that the answer comes without chunks.
        write!(stream, "GET /containers/{container}/stats HTTP/1.0\r\nHost: d\r\n\r\n").expect("sending");
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut head).expect("a head"), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.0 200 "), "{head}");
        Samples(stream)
    }

    /// The next one; none at the end.
    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.0.read_line(&mut line).expect("a sample in time");
        (length > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The first one from now on that is so.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let sample = self.next().expect("more samples");
            if wanted(&sample) {
                return sample;
            }
            assert!(Instant::now() < deadline, "the last sample: {sample}");
        }
    }
}

/// An answer with all figures: clients wait two seconds for them, which is short on an emulated machine.
fn known(ask: impl Fn() -> Answer) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if !answer.ok().contains("--") {
            return answer;
        }
        assert!(Instant::now() < deadline, "{answer:?}");
    }
}

fn total(sample: &Value) -> u64 {
    sample["cpu_usage"]["total_usage"].as_u64().expect("processor time")
}

#[test]
fn dockers_client_shows_what_containers_use() {
    if !is_root("dockers_client_shows_what_containers_use") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "busy", "-m", "64m"], "while :; do :; done");
    start(&engine, &["--name", "idle", "--network", "none"], "sleep 1000 & sleep 1000");
    engine.docker(&["create", "--name", "never", "busybox", "true"]).ok();
    let table = engine.docker(&["stats", "--no-stream"]);
    let titles = "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS";
    let words: Vec<&str> = table.ok().lines().next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(words.join(" "), titles);
    assert_eq!(table.ok().lines().count(), 3, "{table:?}");
    let format = "{{.Name}} {{.PIDs}} {{.MemUsage}} {{.CPUPerc}}";
    let asked = ["stats", "--no-stream", "--format", format, "busy"];
    for shown in [known(|| engine.docker(&asked)), known(|| engine.corten(&asked))] {
        let cells: Vec<&str> = shown.ok().split(' ').collect();
        assert_eq!((cells[0], cells[1], cells[4]), ("busy", "1", "64MiB"), "{shown:?}");
        let processors: f64 = cells[5].trim_end_matches('%').parse().expect("a percentage");
        assert!(processors > 0.5, "{shown:?}");
    }
    let all = ["stats", "--no-stream", "--all", "--no-trunc", "--format", "{{.Name}} {{.ID}} {{.PIDs}}"];
    let id = |name: &str| engine.docker(&["inspect", "-f", "{{.Id}}", name]).ok().to_owned();
    let expect =
        [format!("never {} 0", id("never")), format!("idle {} 2", id("idle")), format!("busy {} 1", id("busy"))];
    assert_eq!(known(|| engine.docker(&all)).ok().lines().collect::<Vec<_>>(), expect);
    assert_eq!(known(|| engine.corten(&all)).ok().lines().collect::<Vec<_>>(), expect);
    for fails in
        [engine.docker(&["stats", "--no-stream", "nosuch"]), engine.corten(&["stats", "--no-stream", "nosuch"])]
    {
        fails.fails(1, "No such container: nosuch");
    }
    engine.docker(&["rm", "-f", "busy", "idle", "never"]).ok();
    engine.finish();
}

#[test]
fn one_answer_and_its_limits() {
    if !is_root("one_answer_and_its_limits") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box", "--network", "none", "-m", "64m", "--pids-limit", "9"], "while :; do :; done");
    // Two looks, about a second apart.
    let two = get(&engine, "/v1.51/containers/box/stats?stream=0", 200);
    assert!(total(&two["cpu_stats"]) > total(&two["precpu_stats"]) && total(&two["precpu_stats"]) > 0, "{two}");
    let system = |part: &str| two[part]["system_cpu_usage"].as_u64().expect("processor time");
    assert!(system("cpu_stats") > system("precpu_stats"), "{two}");
    let processors = std::thread::available_parallelism().expect("a count").get();
    assert!(two["cpu_stats"]["online_cpus"].as_u64() >= Some(processors as u64), "{two}");
    assert_eq!((&two["name"], &two["os_type"], &two["num_procs"]), (&json!("/box"), &json!("linux"), &json!(0)));
    assert_eq!(two["pids_stats"], json!({"current": 1, "limit": 9}));
    assert_eq!(two["memory_stats"]["limit"], 64 << 20);
    assert!(two["memory_stats"]["usage"].as_u64() > Some(0), "{two}");
    assert!(two["memory_stats"]["stats"]["pgfault"].as_u64() > Some(0), "{two}");
    assert!(two.get("networks").is_none(), "{two}");
    // One look alone.
    let one = get(&engine, "/v1.51/containers/box/stats?stream=0&one-shot=1", 200);
    assert_eq!((total(&one["precpu_stats"]), &one["preread"]), (0, &json!("0001-01-01T00:00:00Z")));
    assert!(total(&one["cpu_stats"]) >= total(&two["cpu_stats"]), "{one}");
    // Before 1.41 nobody could ask for that.
    let old = get(&engine, "/v1.40/containers/box/stats?stream=0&one-shot=1", 200);
    assert!(total(&old["precpu_stats"]) > 0, "{old}");
    let text = "cannot have stream=true and one-shot=true";
    assert_eq!(get(&engine, "/v1.51/containers/box/stats?one-shot=1", 400)["message"], text);
    assert_eq!(get(&engine, "/containers/nosuch/stats", 404)["message"], "No such container: nosuch");
    // A container that doesn't run answers at once, with its names.
    engine.docker(&["kill", "box"]).ok();
    let none = get(&engine, "/v1.51/containers/box/stats?stream=0", 200);
    assert_eq!((&none["name"], &none["read"]), (&json!("/box"), &json!("0001-01-01T00:00:00Z")));
    assert_eq!((&none["memory_stats"], &none["pids_stats"]), (&json!({}), &json!({})));
    engine.docker(&["rm", "box"]).ok();
    engine.finish();
}

#[test]
fn a_stream_lasts_as_long_as_the_container() {
    if !is_root("a_stream_lasts_as_long_as_the_container") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box", "--network", "none"], "sleep 1000");
    let mut samples = Samples::of(&engine, "box");
    let first = samples.next().expect("a sample");
    assert_eq!(total(&first["precpu_stats"]), 0, "{first}");
    let second = samples.next().expect("a sample");
    assert_eq!((&second["precpu_stats"], &second["preread"]), (&first["cpu_stats"], &first["read"]));
    let runs = |sample: &Value| sample["pids_stats"]["current"] == 1;
    engine.docker(&["pause", "box"]).ok();
    let frozen = samples.next().expect("a sample");
    assert!(runs(&frozen), "{frozen}");
    engine.docker(&["unpause", "box"]).ok();
    engine.docker(&["stop", "-t", "0", "box"]).ok();
    samples.until(|sample| !runs(sample));
    engine.docker(&["rename", "box", "crate"]).ok();
    engine.docker(&["start", "crate"]).ok();
    assert_eq!(samples.until(runs)["name"], "/crate");
    engine.docker(&["rm", "-f", "crate"]).ok();
    let deadline = Instant::now() + PATIENCE;
    while samples.next().is_some() {
        assert!(Instant::now() < deadline, "the stream goes on without its container");
    }
    engine.finish();
}

#[test]
fn many_watchers_cost_no_threads_and_leave_nothing() {
    if !is_root("many_watchers_cost_no_threads_and_leave_nothing") {
        return;
    }
    let mut engine = engine();
    start(&engine, &["--name", "one", "--network", "none"], "sleep 1000");
    start(&engine, &["--name", "other", "--network", "none"], "sleep 1000");
    let id = engine.docker(&["inspect", "-f", "{{.Id}}", "one"]).ok().to_owned();
    let daemon = engine.pid();
    let of_daemon = |what: &str| format!("/proc/{daemon}/{what}");
    // Descriptors of one container's control groups, and sockets; the pool has some that come and go.
    let open = |wanted: &str| {
        let entries = std::fs::read_dir(of_daemon("fd")).expect("the daemon lives");
        let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
        links.filter(|link| link.to_string_lossy().contains(wanted)).count()
    };
    let (groups, sockets) = (open(&id), open("socket:"));
    let mut watchers: Vec<Samples> = (0..60).map(|it| Samples::of(&engine, ["one", "other"][it % 2])).collect();
    for _ in 0..2 {
        watchers.iter_mut().for_each(|watcher| assert!(watcher.next().is_some()));
    }
    let threads = std::fs::read_dir(of_daemon("task")).expect("the daemon lives").count();
    assert!(threads < 30, "{threads} threads");
    assert!(open(&id) > groups && open("socket:") >= sockets + 50);
    drop(watchers);
    let deadline = Instant::now() + PATIENCE;
    while open(&id) > groups || open("socket:") > sockets + 10 {
        let left = (open(&id), groups, open("socket:"), sockets);
        assert!(Instant::now() < deadline, "groups and sockets stay open: {left:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    engine.docker(&["rm", "-f", "one", "other"]).ok();
    // Who watches when the daemon ends doesn't hold it up.
    start(&engine, &["--name", "box", "--network", "none", "--stop-signal", "KILL"], "sleep 1000");
    let mut watcher = Samples::of(&engine, "box");
    assert!(watcher.next().is_some());
    engine.stop_daemon();
    engine.start_daemon();
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn interfaces_are_those_of_the_containers_network() {
    if !is_root("interfaces_are_those_of_the_containers_network") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "box"], "sleep 1000");
    start(&engine, &["--name", "guest", "--network", "container:box"], "sleep 1000");
    start(&engine, &["--name", "host", "--network", "host"], "sleep 1000");
    let networks = |name: &str| {
        let sample = get(&engine, &format!("/containers/{name}/stats?stream=0&one-shot=1"), 200);
        sample.get("networks").cloned().unwrap_or_default()
    };
    let sent = |name: &str| networks(name)["eth0"]["tx_bytes"].as_u64().expect("a counter");
    let before = sent("box");
    engine.docker(&["exec", "box", "ping", "-c", "3", "-s", "1000", "172.17.0.1"]).ok();
    assert!(sent("box") >= before + 3000, "{}", networks("box"));
    assert!(sent("guest") >= before + 3000, "{}", networks("guest"));
    assert_eq!(networks("box").as_object().map(|all| all.keys().cloned().collect()), Some(vec!["eth0".to_owned()]));
    assert_eq!(networks("host"), Value::Null);
    engine.docker(&["rm", "-f", "box", "guest", "host"]).ok();
    engine.finish();
}

/// The table is painted over and over, and containers come and go in it.
#[test]
fn the_table_follows_the_containers() {
    if !is_root("the_table_follows_the_containers") {
        return;
    }
    let engine = engine();
    start(&engine, &["--name", "first", "--network", "none"], "sleep 1000");
    let mut client = Command::new(CORTEN)
        .args(["stats", "--format", "<{{.Name}}>"])
        .env("DOCKER_HOST", engine.host())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the client starts");
    let mut screen = client.stdout.take().expect("piped");
    let deadline = Instant::now() + PATIENCE;
    let mut shows = |wanted: &str, unwanted: &str| {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        // The last whole painting.
        while !text.rsplit("\x1b[H").nth(1).is_some_and(|it| it.contains(wanted) && !it.contains(unwanted)) {
            assert!(Instant::now() < deadline, "{text:?}");
            let length = screen.read(&mut buffer).expect("the client paints");
            assert_ne!(length, 0, "the client ended: {text:?}");
            text += &String::from_utf8_lossy(&buffer[..length]);
        }
    };
    shows("<first>", "<second>");
    start(&engine, &["--name", "second", "--network", "none"], "sleep 1000");
    shows("<second>", "<third>");
    engine.docker(&["rm", "-f", "first"]).ok();
    shows("<second>", "<first>");
    client.kill().expect("ending the client");
    client.wait().expect("waiting for the client");
    engine.docker(&["rm", "-f", "second"]).ok();
    engine.finish();
}
