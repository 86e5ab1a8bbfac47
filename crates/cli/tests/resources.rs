//! `update` and `stats` against scripted answers.

mod support;

use serde_json::{Value, json};
use support::{Daemon, Reply};

fn message(status: u16, text: &str) -> Reply {
    Reply::Json(status, json!({ "message": text }).to_string())
}

#[test]
fn update_asks_for_each_and_warns_at_the_end() {
    let daemon = Daemon::start(|request| match request.path.as_str() {
        "/containers/one/update" => Reply::Json(200, r#"{"Warnings":["no swap"]}"#.to_owned()),
        "/containers/two/update" => Reply::Json(200, r#"{"Warnings":null}"#.to_owned()),
        path => message(404, &format!("No such thing: {path}")),
    });
    let options = ["update", "-m", "64m", "--memory-swap", "-1", "--cpus", "1.5", "--restart", "on-failure:3"];
    let shown = daemon.run(&[&options[..], &["one", "nosuch", "two"]].concat());
    let error = "Error response from daemon: No such thing: /containers/nosuch/update\n";
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("one\ntwo\nno swap\n", error, 1));
    let seen = daemon.seen.lock().expect("lock");
    let body: Value = serde_json::from_slice(&seen[0].body).expect("a JSON body");
    let policy = json!({"Name": "on-failure", "MaximumRetryCount": 3});
    assert_eq!(
        (&body["Memory"], &body["MemorySwap"], &body["NanoCpus"]),
        (&json!(64 << 20), &json!(-1), &json!(1_500_000_000))
    );
    assert_eq!((&body["RestartPolicy"], &body["PidsLimit"]), (&policy, &Value::Null));
}

#[test]
fn update_refuses_what_it_cannot_ask() {
    let check = |arguments: &[&str], expect: &str, status: i32| {
        let shown = support::client(arguments).output().expect("client runs");
        let text = String::from_utf8_lossy(&shown.stderr).into_owned();
        assert!(text.starts_with(expect), "{text}");
        assert_eq!(shown.status.code(), Some(status));
    };
    check(&["update", "one"], "you must provide one or more flags when using this command", 1);
    check(&["update", "-m", "x", "one"], "invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'", 125);
    check(&["update", "--restart", "on-failure:x", "one"], "invalid restart policy format: maximum retry count", 1);
}

fn stats() -> Daemon {
    let sample = |name: &str, id: char, used: u64| {
        json!({"name": format!("/{name}"), "id": id.to_string().repeat(64),
            "memory_stats": {"usage": used, "limit": 64 << 20}, "pids_stats": {"current": 2}})
        .to_string()
    };
    let (web, db) = (sample("web", 'a', 4 << 20), sample("db", 'b', 8 << 20));
    Daemon::start(move |request| match request.path.as_str() {
        "/containers/json" => {
            Reply::Json(200, format!(r#"[{{"Id":"{}"}},{{"Id":"{}"}}]"#, "b".repeat(64), "a".repeat(64)))
        }
        "/containers/aaaaaaaaaaaa/stats?stream=0" | "/containers/web/stats?stream=0" => Reply::Json(200, web.clone()),
        "/containers/bbbbbbbbbbbb/stats?stream=0" => Reply::Json(200, db.clone()),
        path => message(404, &format!("No such thing: {path}")),
    })
}

#[test]
fn stats_are_shown_in_the_lists_order() {
    let shown = stats().run(&["stats", "--no-stream"]);
    let table = "\
CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS
bbbbbbbbbbbb   db        0.00%     8MiB / 64MiB        12.50%    0B / 0B   0B / 0B     2
aaaaaaaaaaaa   web       0.00%     4MiB / 64MiB        6.25%     0B / 0B   0B / 0B     2
";
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), (table, "", 0));
    let shown = stats().run(&["stats", "--no-stream", "--format", "json", "web"]);
    let line = "{\"BlockIO\":\"0B / 0B\",\"CPUPerc\":\"0.00%\",\"Container\":\"web\",\"ID\":\"aaaaaaaaaaaa\",\"MemPerc\":\"6.25%\",\
                \"MemUsage\":\"4MiB / 64MiB\",\"Name\":\"web\",\"NetIO\":\"0B / 0B\",\"PIDs\":\"2\"}\n";
    assert_eq!(shown.out, line);
}

#[test]
fn stats_of_what_is_not_there() {
    let shown = stats().run(&["stats", "--no-stream", "web", "nosuch", "other"]);
    let error = "Error response from daemon: No such thing: /containers/nosuch/stats?stream=0\n\
                 Error response from daemon: No such thing: /containers/other/stats?stream=0\n";
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), ("", error, 1));
    assert_eq!(stats().run(&["stats", ""]).err, "invalid container name or ID: value is empty\n");
}
