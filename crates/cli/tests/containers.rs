//! The life of containers: run, exec, attach, logs, and what they ask of the daemon in which order.

mod support;

use std::sync::Mutex;

use support::{Daemon, Reply, Request, frame};

const ID: &str = "0123456789ab0123456789ab0123456789ab0123456789ab0123456789abcdef";

fn message(status: u16, text: &str) -> Reply {
    Reply::Json(status, serde_json::json!({ "message": text }).to_string())
}

/// A daemon where every container prints two lines and exits with 3.
fn lively(request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let both = || [frame(1, "to out\n"), frame(2, "to err\n")].concat();
    match (request.method.as_str(), path) {
        (_, "/containers/create") => Reply::Json(201, format!(r#"{{"Id":"{ID}","Warnings":["careful"]}}"#)),
        (_, path) if path.contains("/nope") => message(404, "No such container: nope"),
        (_, path) if path.ends_with("/attach") => {
            Reply::Hijack { bytes: both(), echo: request.path.contains("stdin=1") }
        }
        (_, path) if path.ends_with("/wait") => Reply::Json(200, r#"{"StatusCode":3}"#.to_owned()),
        ("POST", path) if path.starts_with("/exec/") && path.ends_with("/start") => {
            Reply::Hijack { bytes: both(), echo: false }
        }
        ("GET", path) if path.starts_with("/exec/") => {
            Reply::Json(200, r#"{"ID":"e","ExitCode":5,"Running":false}"#.to_owned())
        }
        (_, path) if path.ends_with("/exec") => Reply::Json(201, r#"{"Id":"e"}"#.to_owned()),
        (_, path) if path.ends_with("/logs") => Reply::Bytes("application/vnd.docker.multiplexed-stream", both()),
        ("GET", path) if path.ends_with("/json") => Reply::Json(
            200,
            format!(
                r#"{{"Id":"{ID}","State":{{"Running":true}},"Config":{{"Tty":false,"OpenStdin":true}},"HostConfig":{{}}}}"#
            ),
        ),
        _ => Reply::Empty,
    }
}

#[test]
fn run_attaches_and_waits_before_it_starts() {
    let daemon = Daemon::start(lively);
    let shown = daemon.run(&["run", "--name", "n", "img", "sh", "-c", "x"]);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("to out\n", "WARNING: careful\nto err\n", 3));
    let requests = daemon.requests();
    assert_eq!(requests[0], "POST /containers/create?name=n");
    let mut middle = requests[1..3].to_vec();
    middle.sort();
    assert_eq!(
        middle,
        [
            format!("POST /containers/{ID}/attach?stderr=1&stdout=1&stream=1"),
            format!("POST /containers/{ID}/wait?condition=next-exit")
        ]
    );
    assert_eq!(requests[3..], [format!("POST /containers/{ID}/start")]);
}

#[test]
fn run_in_the_background_prints_the_id() {
    let daemon = Daemon::start(lively);
    let shown = daemon.run(&["run", "-d", "--cidfile", "id", "img"]);
    assert_eq!((shown.out, shown.status), (format!("{ID}\n"), 0));
    assert_eq!(daemon.requests(), ["POST /containers/create".to_owned(), format!("POST /containers/{ID}/start")]);
    assert_eq!(std::fs::read_to_string(daemon.directory.path().join("id")).expect("file"), ID);
    let again = daemon.run(&["run", "-d", "--cidfile", "id", "img"]);
    assert_eq!(again.status, 125);
    assert!(
        again
            .err
            .starts_with("corten: container ID file found, make sure the other container isn't running or delete id\n")
    );
}

#[test]
fn removed_containers_are_waited_for() {
    let daemon = Daemon::start(lively);
    daemon.run(&["run", "--rm", "img"]);
    assert!(daemon.requests().contains(&format!("POST /containers/{ID}/wait?condition=removed")));
}

#[test]
fn input_is_carried_and_its_end_too() {
    let daemon = Daemon::start(lively);
    let input = "line\n".repeat(50_000);
    let shown = daemon.run_with(&["run", "-i", "img", "cat"], input.as_bytes());
    assert_eq!(shown.out, format!("to out\n{input}"));
}

#[test]
fn the_daemons_refusals() {
    let daemon = Daemon::start(|request| match request.path.as_str() {
        path if path.starts_with("/containers/create") && request.body.windows(4).any(|part| part == b"busy") => {
            message(409, "Conflict. The container name \"/x\" is already in use")
        }
        path if path.starts_with("/containers/create") => Reply::Json(201, format!(r#"{{"Id":"{ID}"}}"#)),
        path if path.ends_with("/start") => message(400, "exec: \"nosuch\": executable file not found in $PATH"),
        _ => lively(request),
    });
    let hint = "\n\nRun 'corten run --help' for more information\n";
    let shown = daemon.run(&["run", "busy"]);
    let text = "corten: Error response from daemon: Conflict. The container name \"/x\" is already in use";
    assert_eq!((shown.err, shown.status), (format!("{text}{hint}"), 125));
    let shown = daemon.run(&["run", "-d", "img", "nosuch"]);
    let text = "corten: Error response from daemon: exec: \"nosuch\": executable file not found in $PATH";
    assert_eq!((shown.err, shown.status), (format!("{text}{hint}"), 127));
    let shown = daemon.run(&["create", "busy"]);
    assert_eq!(shown.status, 1);
    assert_eq!(shown.err, "Error response from daemon: Conflict. The container name \"/x\" is already in use\n");
}

#[test]
fn a_missing_image_is_pulled() {
    let pulled = Mutex::new(false);
    let daemon = Daemon::start(move |request| match request.path.split('?').next().unwrap_or_default() {
        "/containers/create" if !*pulled.lock().expect("lock") => message(404, "No such image: img:latest"),
        "/images/create" => {
            *pulled.lock().expect("lock") = true;
            Reply::Lines(vec![
                r#"{"status":"Pulling from library/img","id":"latest"}"#.to_owned(),
                r#"{"status":"Downloading","progressDetail":{"current":5,"total":9},"id":"aa"}"#.to_owned(),
                r#"{"status":"Pull complete","progressDetail":{},"id":"aa"}"#.to_owned(),
            ])
        }
        _ => lively(request),
    });
    let shown = daemon.run(&["run", "-d", "img"]);
    let expect = "Unable to find image 'img:latest' locally\nlatest: Pulling from library/img\naa: Pull complete\nWARNING: careful\n";
    assert_eq!((shown.err.as_str(), shown.status), (expect, 0));
    assert_eq!(daemon.requests()[1], "POST /images/create?fromImage=docker.io/library/img&tag=latest");
    let shown = Daemon::start(|_| message(404, "No such image: img:latest")).run(&["run", "--pull", "never", "img"]);
    assert_eq!(shown.status, 125);
}

#[test]
fn exec_takes_the_commands_status() {
    let daemon = Daemon::start(lively);
    let shown = daemon.run(&["exec", "-e", "A=1", "-w", "/d", "web", "ls", "-l"]);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("to out\n", "to err\n", 5));
    let seen = daemon.seen.lock().expect("lock");
    let body: serde_json::Value = serde_json::from_slice(&seen[0].body).expect("JSON");
    assert_eq!(body["Cmd"], serde_json::json!(["ls", "-l"]));
    assert_eq!(
        (&body["Env"][0], &body["WorkingDir"], &body["AttachStdin"]),
        (&"A=1".into(), &"/d".into(), &false.into())
    );
}

#[test]
fn terminals_need_terminals() {
    let daemon = Daemon::start(lively);
    for arguments in [&["run", "-it", "img"][..], &["exec", "-it", "web", "sh"]] {
        let shown = daemon.run(arguments);
        assert_eq!((shown.err.as_str(), shown.status), ("the input device is not a TTY\n", 1));
    }
    assert_eq!(daemon.requests(), Vec::<String>::new());
}

#[test]
fn logs_are_split() {
    let daemon = Daemon::start(lively);
    let shown = daemon.run(&["logs", "--since", "10.5", "-n", "2", "web"]);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("to out\n", "to err\n", 0));
    assert!(
        daemon.requests()[1].ends_with("/logs?since=10.500000000&stderr=1&stdout=1&tail=2"),
        "{:?}",
        daemon.requests()
    );
    let shown = daemon.run(&["logs", "nope"]);
    assert_eq!((shown.err.as_str(), shown.status), ("Error response from daemon: No such container: nope\n", 1));
}

#[test]
fn several_names_at_once() {
    let daemon = Daemon::start(lively);
    let missing = "Error response from daemon: No such container: nope\n";
    for verb in ["stop", "kill", "restart", "rm", "pause"] {
        let shown = daemon.run(&[verb, "web", "nope", "db"]);
        assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("web\ndb\n", missing, 1), "{verb}");
    }
    let shown = daemon.run(&["start", "web", "nope"]);
    assert_eq!(shown.err, format!("{missing}Error: failed to start containers: nope\n"));
    assert_eq!(daemon.run(&["rm", "-f", "nope"]).status, 0);
    let shown = daemon.run(&["wait", "web", "db"]);
    assert_eq!((shown.out.as_str(), shown.status), ("3\n3\n", 0));
}

#[test]
fn attach_ends_with_the_container() {
    let shown = Daemon::start(lively).run(&["attach", "--no-stdin", "web"]);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("to out\n", "to err\n", 3));
}
