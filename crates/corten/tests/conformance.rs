//! The API's answers are those that a dockerd 28.5 gives to the same requests: shapes, defaults, statuses, texts, framing.
//! What is expected here was recorded from one.

mod common;

use common::engine;
use corten_testkit::{TestEngine, is_root};
use serde_json::{Value, json};

/// An answer's status line and headers, its status, and its body.
struct Reply {
    head: String,
    status: u16,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        let line = self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_default()
    }
}

/// A request as `curl` would make it; the path may have what a careful client would encode.
fn ask(engine: &TestEngine, method: &str, path: &str, body: &str) -> Reply {
    let length = body.len();
    let text = engine
        .request(&format!(
            "{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .expect("the daemon answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Reply { head: head.to_owned(), status, body: body.to_owned() }
}

fn create(engine: &TestEngine, name: &str, request: Value) {
    let reply = ask(engine, "POST", &format!("/v1.51/containers/create?name={name}"), &request.to_string());
    assert_eq!(reply.status, 201, "{}", reply.body);
}

#[test]
fn inspect_shows_dockers_defaults() {
    if !is_root("inspect_shows_dockers_defaults") {
        return;
    }
    let engine = engine();
    create(&engine, "plain", json!({"Image": "busybox", "HostConfig": {"PidsLimit": 0}}));
    create(
        &engine,
        "rich",
        json!({"Image": "busybox", "HostConfig": {"Memory": 67_108_864, "PidMode": "host", "Binds": ["named:/v", "/tmp:/t:ro"],
            "Tmpfs": {"/q": "size=1m"}, "Mounts": [{"Type": "tmpfs", "Target": "/m"}]}}),
    );
    let check = |name: &str, expect: &[(&str, Value)]| {
        let shown = ask(&engine, "GET", &format!("/v1.51/containers/{name}/json"), "").json();
        for (path, value) in expect {
            assert_eq!(shown.pointer(path), Some(value), "{name} {path}");
        }
        shown
    };
    let host = "/HostConfig/";
    let plain = check(
        "plain",
        &[
            ("/HostConfig/PortBindings", Value::Null),
            ("/HostConfig/Dns", Value::Null),
            ("/HostConfig/PidsLimit", Value::Null),
            ("/HostConfig/SecurityOpt", Value::Null),
            ("/HostConfig/ShmSize", json!(67_108_864)),
            ("/HostConfig/IpcMode", json!("private")),
            ("/HostConfig/RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
            ("/HostConfig/LogConfig", json!({"Type": "json-file", "Config": {}})),
            ("/Mounts", json!([])),
            ("/ExecIDs", Value::Null),
            ("/NetworkSettings/Ports", json!({})),
        ],
    );
    // Whether the killer can be disabled is the memory controller's matter: only version 1 can.
    let version = ask(&engine, "GET", "/info", "").json();
    let disable = if version["OomKillDisable"] == true { json!(false) } else { Value::Null };
    assert_eq!(plain.pointer("/HostConfig/OomKillDisable"), Some(&disable));
    let mode = plain.pointer(&format!("{host}CgroupnsMode")).and_then(Value::as_str);
    assert!(matches!(mode, Some("host" | "private")), "{mode:?}");
    let rich = check(
        "rich",
        &[
            ("/HostConfig/MemorySwap", json!(134_217_728)),
            ("/HostConfig/SecurityOpt", json!(["label=disable"])),
            ("/HostConfig/ShmSize", json!(67_108_864)),
        ],
    );
    let mounts = rich["Mounts"].as_array().expect("a list");
    let of = |target: &str| mounts.iter().find(|mount| mount["Destination"] == target);
    assert_eq!(mounts.len(), 3, "a tmpfs of HostConfig.Tmpfs is no mount: {mounts:?}");
    assert_eq!(of("/v").map(|mount| &mount["Mode"]), Some(&json!("z")));
    assert_eq!(of("/t").map(|mount| &mount["Mode"]), Some(&json!("ro")));
    assert_eq!(of("/m").map(|mount| &mount["Type"]), Some(&json!("tmpfs")));
    ask(&engine, "DELETE", "/containers/plain", "");
    ask(&engine, "DELETE", "/containers/rich", "");
    engine.finish();
}

#[test]
fn refusals_have_dockers_texts() {
    if !is_root("refusals_have_dockers_texts") {
        return;
    }
    let engine = engine();
    create(&engine, "there", json!({"Image": "busybox"}));
    let check = |method: &str, path: &str, body: Value, status: u16, message: &str| {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = ask(&engine, method, path, &body);
        assert_eq!((reply.status, reply.json()["message"].as_str()), (status, Some(message)), "{method} {path} {body}");
    };
    let create = "/v1.51/containers/create";
    let host = |host: Value, message: &str| {
        check("POST", create, json!({"Image": "busybox", "HostConfig": host}), 400, message);
    };
    host(json!({"IpcMode": "container:nosuch"}), "No such container: nosuch");
    host(json!({"PidMode": "container:nosuch"}), "No such container: nosuch");
    host(json!({"VolumesFrom": ["nosuch"]}), "No such container: nosuch");
    host(json!({"NetworkMode": "container:"}), "invalid network mode: invalid container format container:<name|id>");
    host(json!({"ExtraHosts": ["a:b"]}), "invalid IP address in add-host: \"b\"");
    host(json!({"Tmpfs": {"x": ""}}), "invalid mount path: 'x' mount path must be absolute");
    host(json!({"LogConfig": {"Type": "x"}}), "error looking up logging plugin x: plugin \"x\" not found");
    check("POST", create, json!({"Image": "nosuch"}), 404, "No such image: nosuch:latest");
    check("POST", create, json!({}), 400, "config cannot be empty in order to create a container");
    let twice = ask(&engine, "POST", create, "{\"Image\":\"busybox\"}{}");
    assert_eq!((twice.status, twice.json()["message"].as_str()), (400, Some("unexpected content after JSON")));
    let keys = "/v1.51/containers/there/attach?stream=1&stdout=1&detachKeys=bad-key";
    check("POST", keys, Value::Null, 400, "Invalid detach keys (bad-key) provided");
    let private = "run --rm --network none --ipc container:private busybox true";
    engine.docker(&["run", "-d", "--name", "private", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let joined = engine.docker(&private.split(' ').collect::<Vec<_>>());
    joined.fails(125, "non-shareable IPC (hint: use IpcMode:shareable for the donor container)");
    engine.docker(&["rm", "-f", "private"]).ok();
    let kill = |signal: &str, message: &str| {
        let path = format!("/v1.51/containers/there/kill?signal={signal}");
        check("POST", &path, Value::Null, 400, message);
    };
    kill("BAD", "cannot kill container: there: invalid signal: BAD");
    kill("99", "cannot kill container: there: the linux daemon does not support signal 99");
    let events = "/v1.51/events?since=5&until=1";
    check("GET", events, Value::Null, 400, "`since` time (5) cannot be after `until` time (1)");
    check("GET", "/v1.51/images/nosuch/json", Value::Null, 404, "No such image: nosuch:latest");
    check("GET", "/v1.51/volumes/nosuch", Value::Null, 404, "get nosuch: no such volume");
    check("GET", "/v1.51/networks/nosuch", Value::Null, 404, "network nosuch not found");
    check("GET", "/v1.51/nosuch", Value::Null, 404, "page not found");
    ask(&engine, "DELETE", "/containers/there", "");
    engine.finish();
}

#[test]
fn filters_are_taken_as_people_type_them() {
    if !is_root("filters_are_taken_as_people_type_them") {
        return;
    }
    let engine = engine();
    create(&engine, "one", json!({"Image": "busybox"}));
    let found = |filters: &str| {
        let reply = ask(&engine, "GET", &format!("/v1.51/containers/json?all=1&filters={filters}"), "");
        assert_eq!(reply.status, 200, "{}", reply.body);
        reply.json().as_array().map(Vec::len)
    };
    assert_eq!(found(r#"{"name":["one"]}"#), Some(1));
    assert_eq!(found(r#"{"name":{"one":true},"status":["created"]}"#), Some(1));
    assert_eq!(found("%7B%22name%22:[%22two%22]%7D"), Some(0));
    assert_eq!(found(r#"{"name":["^/?o.e$"]}"#), Some(1));
    assert_eq!(found(r#"{"name":["one("]}"#), Some(0));
    let bad = ask(&engine, "GET", r#"/v1.51/containers/json?filters={"status":["bad"]}"#, "");
    assert_eq!(
        bad.json()["message"],
        "invalid filter 'status=bad': invalid value for state (bad): must be one of created, running, paused, \
         restarting, removing, exited, dead"
    );
    ask(&engine, "DELETE", "/containers/one", "");
    engine.finish();
}

#[test]
fn older_versions_get_what_they_know() {
    if !is_root("older_versions_get_what_they_know") {
        return;
    }
    let engine = engine();
    let ipc = |version: &str| {
        ask(&engine, "POST", &format!("/v{version}/containers/create?name=old"), r#"{"Image":"busybox"}"#);
        let shown = ask(&engine, "GET", "/containers/old/json", "").json();
        ask(&engine, "DELETE", "/containers/old", "");
        shown["HostConfig"]["IpcMode"].clone()
    };
    assert_eq!((ipc("1.24"), ipc("1.39"), ipc("1.40")), (json!("shareable"), json!("shareable"), json!("private")));
    let image = |version: &str| ask(&engine, "GET", &format!("/v{version}/images/busybox/json"), "").json();
    assert_eq!(image("1.43")["VirtualSize"], image("1.43")["Size"]);
    assert!(image("1.44").get("VirtualSize").is_none());
    assert_eq!(image("1.51")["Comment"], "Imported from -");
    let upper = image("1.51")["GraphDriver"]["Data"]["UpperDir"].as_str().map(str::to_owned).expect("a directory");
    assert!(std::path::Path::new(&upper).join("bin").is_dir(), "{upper}");
    let listed = ask(&engine, "GET", "/v1.51/images/json", "").json();
    assert!(listed.as_array().is_some_and(|images| images.iter().all(|image| image["Containers"] == -1)), "{listed}");
    let new = ask(&engine, "GET", "/v1.99/info", "");
    assert_eq!(new.json()["message"], "client version 1.99 is too new. Maximum supported API version is 1.55");
    engine.finish();
}

#[test]
fn streams_are_framed_and_named() {
    if !is_root("streams_are_framed_and_named") {
        return;
    }
    let engine = engine();
    let script = json!(["sh", "-c", "echo out; echo err >&2"]);
    create(&engine, "pipes", json!({"Image": "busybox", "Cmd": script, "HostConfig": {"NetworkMode": "none"}}));
    create(
        &engine,
        "terminal",
        json!({"Image": "busybox", "Cmd": ["echo", "tty"], "Tty": true, "HostConfig": {"NetworkMode": "none"}}),
    );
    for name in ["pipes", "terminal"] {
        assert_eq!(ask(&engine, "POST", &format!("/containers/{name}/start"), "").status, 204);
        assert!(ask(&engine, "POST", &format!("/containers/{name}/wait"), "").body.contains("\"StatusCode\":0"));
    }
    let logs = |version: &str, name: &str| {
        ask(&engine, "GET", &format!("/v{version}/containers/{name}/logs?stdout=1&stderr=1&since=0"), "")
    };
    let (multiplexed, raw) = ("application/vnd.docker.multiplexed-stream", "application/vnd.docker.raw-stream");
    let pipes = logs("1.51", "pipes");
    assert_eq!(pipes.header("Content-Type"), multiplexed);
    for frame in ["\u{1}\0\0\0\0\0\0\u{4}out\n", "\u{2}\0\0\0\0\0\0\u{4}err\n"] {
        assert!(pipes.body.contains(frame), "{:?}", pipes.body);
    }
    assert_eq!(logs("1.41", "pipes").header("Content-Type"), raw);
    assert_eq!(logs("1.51", "terminal").header("Content-Type"), raw);
    assert!(logs("1.51", "terminal").body.contains("\r\ntty\r\n"));
    let future = ask(&engine, "GET", "/containers/pipes/logs?stdout=1&since=9999999999", "");
    assert_eq!((future.status, future.body.as_str()), (200, "0\r\n\r\n"));
    let ping = ask(&engine, "HEAD", "/_ping", "");
    assert_eq!(
        (ping.header("Api-Version"), ping.header("Ostype"), ping.header("Swarm")),
        ("1.55", "linux", "inactive")
    );
    let attach = "POST /containers/pipes/attach?logs=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n";
    let old = engine.request(&format!("{attach}\r\n")).expect("an answer");
    assert!(old.starts_with("HTTP/1.1 200 OK\r\n") && old.contains(raw), "{old:?}");
    let new = engine.request(&format!("{attach}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n")).expect("an answer");
    assert!(new.starts_with("HTTP/1.1 101 UPGRADED\r\n") && new.contains(multiplexed), "{new:?}");
    for name in ["pipes", "terminal"] {
        ask(&engine, "DELETE", &format!("/containers/{name}"), "");
    }
    engine.finish();
}

#[test]
fn events_tell_a_containers_life() {
    if !is_root("events_tell_a_containers_life") {
        return;
    }
    let engine = engine();
    engine.docker(&["volume", "create", "data"]).ok();
    engine.docker(&["run", "-d", "--name", "told", "-l", "k=w", "-v", "data:/v", "busybox", "sleep", "100"]).ok();
    engine.docker(&["exec", "told", "true"]).ok();
    engine.docker(&["kill", "-s", "KILL", "told"]).ok();
    assert_eq!(engine.docker(&["wait", "told"]).ok(), "137");
    engine.docker(&["rm", "told"]).ok();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970").as_secs();
    let reply = ask(&engine, "GET", &format!("/events?since=1&until={}", now + 1), "");
    let events: Vec<Value> = reply.body.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let name =
        |event: &Value| format!("{} {}", event["Type"].as_str().unwrap_or(""), event["Action"].as_str().unwrap_or(""));
    let told = |action: &str| {
        let event = events.iter().find(|event| name(event) == action);
        event.unwrap_or_else(|| panic!("no {action} in {:?}", events.iter().map(name).collect::<Vec<_>>()))
    };
    let of = |action: &str, key: &str| told(action)["Actor"]["Attributes"][key].clone();
    for action in ["create", "start", "exec_create: true ", "exec_start: true ", "exec_die", "kill", "die", "destroy"] {
        let action = format!("container {action}");
        assert_eq!(
            (of(&action, "image"), of(&action, "name"), of(&action, "k")),
            (json!("busybox"), json!("told"), json!("w")),
            "{action}"
        );
    }
    assert_eq!((of("container kill", "signal"), of("container die", "exitCode")), (json!("9"), json!("137")));
    assert_eq!(of("container exec_die", "exitCode"), "0");
    assert_eq!((of("network connect", "name"), of("network disconnect", "type")), (json!("bridge"), json!("bridge")));
    assert_eq!((of("volume mount", "destination"), of("volume mount", "read/write")), (json!("/v"), json!("true")));
    assert_eq!(of("volume unmount", "driver"), "local");
    let create = told("container create");
    assert_eq!(
        (&create["status"], &create["from"], &create["scope"]),
        (&json!("create"), &json!("busybox"), &json!("local"))
    );
    let place = |action: &str| events.iter().position(|event| name(event) == action);
    assert!(
        place("container create") < place("network connect") && place("network connect") < place("container start")
    );
    // As dockerd cleans up: the networks, then the volumes; then it says that the container has ended.
    let end = ["container kill", "network disconnect", "volume unmount", "container die", "container destroy"];
    assert!(end.map(place).is_sorted() && place(end[0]).is_some(), "{:?}", end.map(place));
    engine.finish();
}

#[test]
fn an_exec_is_checked_when_it_is_made() {
    if !is_root("an_exec_is_checked_when_it_is_made") {
        return;
    }
    let engine = engine();
    engine.docker(&["run", "-d", "--name", "box", "--network", "none", "busybox", "sleep", "1000"]).ok();
    let make = |request: Value| ask(&engine, "POST", "/containers/box/exec", &request.to_string());
    let unknown = make(json!({"Cmd": ["id"], "User": "nosuch"}));
    let text = "unable to find user nosuch: no matching entries in passwd file";
    assert_eq!((unknown.status, unknown.json()["message"].as_str()), (400, Some(text)));
    let nothing = ask(&engine, "POST", "/containers/box/exec", "");
    assert_eq!((nothing.status, nothing.json()["message"].as_str()), (400, Some("No exec command specified")));
    let made = make(json!({"Cmd": ["sh", "-c", "exit 5"], "User": "daemon", "DetachKeys": "ctrl-a"})).json();
    let id = made["Id"].as_str().expect("an id").to_owned();
    assert_eq!(ask(&engine, "POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#).status, 200);
    let shown = || ask(&engine, "GET", &format!("/exec/{id}/json"), "").json();
    while shown()["Running"] == true {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let shown = shown();
    assert_eq!(
        (&shown["ExitCode"], &shown["CanRemove"], &shown["DetachKeys"]),
        (&json!(5), &json!(false), &json!("AQ=="))
    );
    let again = ask(&engine, "POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#);
    let text = format!("exec command {id} has already run");
    assert_eq!((again.status, again.json()["message"].as_str()), (409, Some(&*text)));
    let directory = engine.docker(&["exec", "box", "/etc"]);
    assert!(directory.code == 126 && directory.stdout.contains("is a directory: permission denied"), "{directory:?}");
    engine.docker(&["rm", "-f", "box"]).ok();
    engine.finish();
}

#[test]
fn networks_show_what_was_asked_for() {
    if !is_root("networks_show_what_was_asked_for") {
        return;
    }
    let engine = engine();
    let options = |name: &str, ipam: Value| {
        let request = json!({"Name": name, "IPAM": ipam}).to_string();
        assert_eq!(ask(&engine, "POST", "/networks/create", &request).status, 201);
        ask(&engine, "GET", &format!("/networks/{name}"), "").json()["IPAM"]["Options"].clone()
    };
    assert_eq!(options("plain", Value::Null), Value::Null);
    assert_eq!(options("given", json!({"Options": {}})), json!({}));
    for name in ["plain", "given"] {
        engine.docker(&["network", "rm", name]).ok();
    }
    // What is named twice is there only once.
    for client in [TestEngine::docker, TestEngine::corten] {
        client(&engine, &["volume", "create", "v1"]).ok();
        let removed = client(&engine, &["volume", "rm", "v1", "v1"]);
        removed.fails(1, "get v1: no such volume");
        assert_eq!(removed.stdout, "v1\n");
    }
    engine.finish();
}

#[test]
fn a_forced_removal_and_an_automatic_one_do_not_meet() {
    if !is_root("a_forced_removal_and_an_automatic_one_do_not_meet") {
        return;
    }
    let engine = engine();
    engine.docker(&["run", "-d", "--rm", "--name", "gone", "--network", "none", "busybox", "sleep", "1000"]).ok();
    engine.docker(&["rm", "-f", "gone"]).ok();
    assert_eq!(engine.docker(&["ps", "-aq"]).ok(), "");
    assert!(!engine.log().contains(" WARN "), "{}", engine.log());
    engine.finish();
}

#[test]
fn a_working_directory_is_made_with_the_container() {
    if !is_root("a_working_directory_is_made_with_the_container") {
        return;
    }
    let engine = engine();
    let run = |directory: &str| engine.docker(&["run", "--rm", "--network", "none", "-w", directory, "busybox", "pwd"]);
    assert_eq!(run("/made/here").ok(), "/made/here");
    run("/etc/passwd").fails(125, "Cannot mkdir: /etc/passwd is not a directory");
    run("/etc/passwd/x").fails(125, "not a directory");
    let missing = engine.docker(&["run", "--rm", "--network", "none", "busybox", "/nosuch"]);
    missing
        .fails(127, "OCI runtime create failed: runc create failed: unable to start container process: error during");
    assert!(!missing.stderr.contains("Are you trying"), "{missing:?}");
    engine.finish();
}
