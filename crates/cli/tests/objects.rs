//! Inspecting, images, and the connection itself.

mod support;

use std::process::Command;

use support::{Daemon, Reply, Shown, client};

fn message(status: u16, text: &str) -> Reply {
    Reply::Json(status, serde_json::json!({ "message": text }).to_string())
}

fn inspectable() -> Daemon {
    Daemon::start(|request| match request.path.as_str() {
        "/containers/web/json" => Reply::Json(
            200,
            r#"{"Id":"cc","State":{"Running":true,"Pid":7},"Args":["<a>"],"Config":{"Z":null,"A":{}}}"#.to_owned(),
        ),
        "/images/img/json" => Reply::Json(200, r#"{"Id":"ii"}"#.to_owned()),
        path => message(404, &format!("No such thing: {path}")),
    })
}

#[test]
fn inspect_keeps_the_daemons_order() {
    let shown = inspectable().run(&["inspect", "web", "img"]);
    let expect = r#"[
    {
        "Id": "cc",
        "State": {
            "Running": true,
            "Pid": 7
        },
        "Args": [
            "<a>"
        ],
        "Config": {
            "Z": null,
            "A": {}
        }
    },
    {
        "Id": "ii"
    }
]
"#;
    assert_eq!((shown.out.as_str(), shown.status), (expect, 0));
}

#[test]
fn inspect_formats() {
    let check = |template: &str, out: &str, err: &str, status: i32| {
        let shown = inspectable().run(&["inspect", "-f", template, "web"]);
        assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), (out, err, status), "{template}");
    };
    check("{{.State.Running}} {{.ID}}", "true cc\n", "", 0);
    check("{{json .Config}}{{json .Args}}", "{\"Z\":null,\"A\":{}}[\"<a>\"]\n", "", 0);
    check("{{range .Args}}{{.}};{{end}}{{len .Args}}", "<a>;1\n", "", 0);
    let error =
        "template parsing error: template: :1:8: executing \"\" at <.State.No>: map has no entry for key \"No\"\n";
    check("{{.State.No}}", "\n", error, 1);
    check("{{.State", "", "template parsing error: template: :1: unclosed action\n", 64);
}

#[test]
fn inspect_without_a_match() {
    let daemon = inspectable();
    let shown = daemon.run(&["inspect", "nope"]);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("[]\n", "Error: No such object: nope\n", 1));
    let shown = daemon.run(&["volume", "inspect", "nope"]);
    assert_eq!(shown.err, "Error response from daemon: No such thing: /volumes/nope\n");
    let shown = daemon.run(&["inspect", "--type", "foo", "x"]);
    assert!(shown.err.starts_with("unknown type: \"foo\": must be one of \"config\", "), "{}", shown.err);
}

#[test]
fn load_uploads_in_chunks() {
    let daemon = Daemon::start(|_| Reply::Lines(vec![r#"{"stream":"Loaded image: a:1\n"}"#.to_owned()]));
    let archive: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    std::fs::write(daemon.directory.path().join("a.tar"), &archive).expect("file");
    let shown = daemon.run(&["load", "-i", "a.tar"]);
    assert_eq!((shown.out.as_str(), shown.status), ("Loaded image: a:1\n", 0));
    assert_eq!(daemon.run_with(&["load"], &archive).status, 0);
    let seen = daemon.seen.lock().expect("lock");
    assert!(seen.iter().all(|request| request.body == archive && request.path == "/images/load?quiet=1"));
    drop(seen);
    let shown = daemon.run(&["load", "-i", "none.tar"]);
    assert_eq!((shown.err.as_str(), shown.status), ("open none.tar: no such file or directory\n", 1));
}

#[test]
fn errors_amid_progress() {
    let line = r#"{"errorDetail":{"message":"archive ends early"},"error":"archive ends early"}"#;
    let daemon = Daemon::start(move |_| Reply::Lines(vec![line.to_owned()]));
    let shown = daemon.run_with(&["load"], b"x");
    assert_eq!((shown.err.as_str(), shown.status), ("archive ends early\n", 1));
}

#[test]
fn pull_prints_the_full_name() {
    let daemon =
        Daemon::start(|_| Reply::Lines(vec![r#"{"status":"Status: Image is up to date for x:latest"}"#.to_owned()]));
    let shown = daemon.run(&["pull", "x"]);
    assert_eq!(
        shown.out,
        "Using default tag: latest\nStatus: Image is up to date for x:latest\ndocker.io/library/x:latest\n"
    );
    assert_eq!(daemon.run(&["pull", "-q", "localhost:5000/x:2"]).out, "localhost:5000/x:2\n");
    let shown = daemon.run(&["pull", "Foo"]);
    assert_eq!(shown.err, "invalid reference format: repository name (library/Foo) must be lowercase\n");
}

#[test]
fn rmi_and_tag() {
    let daemon = Daemon::start(|request| match request.method.as_str() {
        "DELETE" if request.path.contains("nope") => message(404, "No such image: nope:latest"),
        "DELETE" => Reply::Json(200, r#"[{"Untagged":"x:latest"},{"Deleted":"sha256:aa"}]"#.to_owned()),
        _ => Reply::Json(201, String::new()),
    });
    let shown = daemon.run(&["rmi", "nope", "x"]);
    assert_eq!(shown.out, "Untagged: x:latest\nDeleted: sha256:aa\n");
    assert_eq!((shown.err.as_str(), shown.status), ("Error response from daemon: No such image: nope:latest\n", 1));
    assert_eq!(daemon.run(&["tag", "x", "localhost:5000/y/z:3"]).status, 0);
    assert!(daemon.requests().contains(&"POST /images/x/tag?repo=localhost:5000/y/z&tag=3".to_owned()));
    let shown = daemon.run(&["tag", "x", "b:C:D"]);
    assert_eq!(
        shown.err,
        "Error parsing reference: \"b:C:D\" is not a valid repository/tag: invalid reference format\n"
    );
}

#[test]
fn an_older_daemon_is_asked_in_its_own_version() {
    let daemon = Daemon::start(|request| match request.headers[":target"].starts_with("/v1.41/") {
        true => Reply::Json(200, "[]".to_owned()),
        false => message(400, "client version 1.51 is too new. Maximum supported API version is 1.41"),
    });
    assert_eq!(daemon.run(&["ps", "-q"]), Shown { out: String::new(), err: String::new(), status: 0 });
    assert_eq!(daemon.requests().len(), 2);
}

#[test]
fn nobody_there() {
    let run = |command: &mut Command| Shown::from(command.output().expect("client runs"));
    let shown = run(client(&["ps"]).env("DOCKER_HOST", "unix:///nonexistent/x.sock"));
    assert_eq!(
        shown.err,
        "Cannot connect to the Docker daemon at unix:///nonexistent/x.sock. Is the docker daemon running?\n"
    );
    let shown = run(client(&["ps"]).env("DOCKER_HOST", "unix:///a").env("CORTEN_HOST", "foo://x"));
    assert_eq!(
        shown.err,
        "Failed to initialize: unable to resolve docker endpoint: invalid bind address format: foo://x\n"
    );
    let shown = run(client(&["-c", "nope", "ps"]).env("HOME", "/nonexistent"));
    assert!(
        shown.err.starts_with(
            "Failed to initialize: context \"nope\": context not found: open /nonexistent/.docker/contexts/meta/ca3704"
        ),
        "{}",
        shown.err
    );
}

#[test]
fn version_without_a_daemon() {
    let shown = Shown::from(
        client(&["version"]).env("DOCKER_HOST", "unix:///nonexistent/x.sock").output().expect("client runs"),
    );
    assert!(shown.out.starts_with("Client: Corten\n Version:           "), "{}", shown.out);
    assert!(!shown.out.contains("Server"), "{}", shown.out);
    assert_eq!(shown.status, 1);
}
