//! Logging in and out: against Debian's docker-registry with passwords and a token service of the test's own, with config.json
//! and with a helper; and that no secret shows anywhere.

mod common;

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::CORTEN;
use corten_testkit::{Answer, Registry, TestEngine, debian, engine::docker_client, image, is_root, server};

const HOST: &str = Registry::HOST;
const SECRET: &str = Registry::PASSWORD;

fn config(engine: &TestEngine) -> String {
    std::fs::read_to_string(engine.path().join("config/config.json")).unwrap_or_default()
}

#[test]
fn passwords_with_both_clients() {
    if !is_root("passwords_with_both_clients") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["--log-level", "trace"]);
    let _registry = Registry::start_with_password(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    engine.docker(&["load", "-i", archive.to_str().expect("UTF-8")]).ok();
    let name = format!("{HOST}/box:v1");
    engine.docker(&["tag", "box:v1", &name]).ok();
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str], input: &str| engine.client(client.clone(), arguments, input.as_bytes());
        run(&["push", &name], "").fails(1, "no basic auth credentials");
        let wrong = run(&["login", "-u", "me", "--password-stdin", HOST], "wrong\n");
        wrong.fails(1, &format!("login attempt to http://{HOST}/v2/ failed with status: 401 Unauthorized"));
        assert!(!config(&engine).contains("auth\""), "{}", config(&engine));
        let right = run(&["login", "-u", "me", "--password-stdin", HOST], &format!("{SECRET}\r\n"));
        assert_eq!(right.ok(), "Login Succeeded");
        let warning = format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this \
             warning. See\nhttps://docs.docker.com/go/credential-store/\n\n",
            engine.path().join("config/config.json").display()
        );
        assert_eq!(right.stderr, warning);
        // me:U*U
        assert!(
            config(&engine).contains("\"127.0.0.1:5000\": {\n\t\t\t\"auth\": \"bWU6VSpV\"\n"),
            "{}",
            config(&engine)
        );
        run(&["push", &name], "").ok();
        run(&["pull", &name], "").ok();
        let again = run(&["login", HOST], "");
        assert!(again.ok().ends_with("Login Succeeded"), "{again:?}");
        assert!(again.stderr.contains("Authenticating with existing credentials"), "{again:?}");
        let out = run(&["logout", &format!("https://{HOST}/")], "");
        assert_eq!(out.ok(), format!("Removing login credentials for {HOST}"));
        assert!(!config(&engine).contains("bWU6VSpV"), "{}", config(&engine));
    }
    let log = engine.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "{log}");
    for secret in [SECRET, "bWU6VSpV", "bWU6VSpV".trim_end_matches('V')] {
        assert!(!log.contains(secret), "{log}");
    }
    engine.finish();
}

#[test]
fn mistakes_of_the_command_line() {
    if !is_root("mistakes_of_the_command_line") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    for client in [docker_client(), CORTEN.into()] {
        let check = |arguments: &[&str], expect: &str| {
            engine.client(client.clone(), &[&["login"], arguments].concat(), b"").fails(1, expect);
        };
        let both = "conflicting options: cannot specify both --password and --password-stdin";
        check(&["-p", "x", "--password-stdin", HOST], both);
        check(&["--password-stdin", HOST], "the --password-stdin option requires --username to be set");
        check(&["-u", "", "-p", "x", HOST], "username is empty");
        check(&[HOST], "Error: Cannot perform an interactive login from a non TTY device");
        check(&["-u", "x", HOST], "Error: Cannot perform an interactive login from a non TTY device");
        check(&["-u", "x", "-p", "y", "127.0.0.1:1"], "connection refused");
        let insecure = engine.client(client.clone(), &["login", "-u", "x", "-p", "y", "127.0.0.1:1"], b"");
        assert!(insecure.stderr.starts_with("WARNING! Using --password via the CLI is insecure."), "{insecure:?}");
    }
    let answer = engine.post("/auth", "{}");
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("registry-1.docker.io"), "{answer}");
    assert!(engine.post("/auth", "nonsense").starts_with("HTTP/1.1 400"));
    engine.finish();
}

/// A helper that keeps one secret per registry in a directory.
const HELPER: &str = r#"#!/bin/sh
store=STORE
echo "$1" >> "$store/calls"
case $1 in
get) read -r key; cat "$store/$(echo "$key" | tr /: __)" 2>/dev/null || { echo "credentials not found in native keychain"; exit 1; } ;;
store) json=$(cat); key=$(echo "$json" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); echo "$json" > "$store/$(echo "$key" | tr /: __)" ;;
erase) read -r key; rm -f "$store/$(echo "$key" | tr /: __)" ;;
esac
"#;

/// Puts the helper where the client finds it, with this configuration of the client.
fn helper(engine: &TestEngine, settings: &str) -> PathBuf {
    let store = engine.path().join("helper");
    std::fs::create_dir(&store).expect("making the helper's store");
    let program = store.join("docker-credential-test");
    std::fs::write(&program, HELPER.replace("STORE", store.to_str().expect("UTF-8"))).expect("writing the helper");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("making it executable");
    let config = engine.path().join("config");
    std::fs::create_dir_all(&config).expect("making the client's directory");
    std::fs::write(config.join("config.json"), settings).expect("config");
    store
}

/// A client that finds the helper.
fn with_helper(engine: &TestEngine, arguments: &[&str], input: &str) -> Answer {
    let mut command = std::process::Command::new(CORTEN);
    let path = format!("{}:/usr/bin:/bin", engine.path().join("helper").display());
    command.args(arguments).env("PATH", path).env("DOCKER_HOST", engine.host());
    command.env("DOCKER_CONFIG", engine.path().join("config"));
    Answer::of(&mut command, input.as_bytes())
}

#[test]
fn a_helper_keeps_the_secrets() {
    if !is_root("a_helper_keeps_the_secrets") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start_with_password(&engine);
    let store = helper(&engine, r#"{"credHelpers":{"127.0.0.1:5000":"test","b.test":"gone"}}"#);
    let login = with_helper(&engine, &["login", "-u", "me", "--password-stdin", HOST], SECRET);
    assert_eq!(login.ok(), "Login Succeeded");
    assert_eq!(login.stderr, "");
    let kept = std::fs::read_to_string(store.join("127.0.0.1_5000")).expect("the helper stored it");
    assert!(kept.contains(r#""Username":"me""#) && kept.contains(r#""Secret":"U*U""#), "{kept}");
    assert!(config(&engine).contains("\"127.0.0.1:5000\": {}"), "{}", config(&engine));
    with_helper(&engine, &["pull", &format!("{HOST}/box")], "").fails(1, "manifest unknown");
    with_helper(&engine, &["logout", HOST], "").ok();
    assert!(!store.join("127.0.0.1_5000").exists());
    with_helper(&engine, &["pull", &format!("{HOST}/box")], "").fails(1, "no basic auth credentials");
    let calls = std::fs::read_to_string(store.join("calls")).expect("the helper was called");
    assert_eq!(calls.lines().collect::<Vec<_>>(), ["get", "store", "get", "erase", "get"]);
    engine.finish();
}

#[test]
fn a_store_keeps_all_secrets() {
    if !is_root("a_store_keeps_all_secrets") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start_with_password(&engine);
    // What stood in the file before moves into the store with the next login, and a helper comes before the store.
    let settings =
        r#"{"auths":{"127.0.0.1:5000":{"auth":"b2xkOm9sZA=="}},"credsStore":"test","credHelpers":{"b.test":"gone"}}"#;
    let store = helper(&engine, settings);
    let login = with_helper(&engine, &["login", "-u", "me", "--password-stdin", HOST], SECRET);
    assert_eq!((login.ok(), login.stderr.as_str()), ("Login Succeeded", ""));
    assert!(std::fs::read_to_string(store.join("127.0.0.1_5000")).expect("it is stored").contains("U*U"));
    let kept = config(&engine);
    assert!(!kept.contains("b2xkOm9sZA==") && kept.contains("\"credsStore\": \"test\""), "{kept}");
    // Docker's client reads the same store.
    let path = format!("{}:{}", store.display(), std::env::var("PATH").expect("there is one"));
    let mut docker = std::process::Command::new(docker_client());
    docker.args(["pull", &format!("{HOST}/box")]).env("PATH", path).env("DOCKER_HOST", engine.host());
    docker.env("DOCKER_CONFIG", engine.path().join("config"));
    Answer::of(&mut docker, b"").fails(1, "manifest unknown");
    with_helper(&engine, &["pull", &format!("{HOST}/box")], "").fails(1, "manifest unknown");
    with_helper(&engine, &["logout", HOST], "").ok();
    assert!(!store.join("127.0.0.1_5000").exists());
    with_helper(&engine, &["pull", &format!("{HOST}/box")], "").fails(1, "no basic auth credentials");
    // A store that isn't there says so, and no secret goes anywhere else.
    std::fs::write(engine.path().join("config/config.json"), r#"{"credsStore":"absent"}"#).expect("config");
    let absent = with_helper(&engine, &["login", "-u", "me", "--password-stdin", HOST], SECRET);
    absent.fails(1, "docker-credential-absent");
    assert!(!config(&engine).contains("auth\""), "{}", config(&engine));
    engine.finish();
}

/// A registry with a token service, both in one: what it was asked, and where it listens inside the engine's namespace.
fn token_registry(engine: &TestEngine) -> (u16, Arc<Mutex<Vec<String>>>) {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = seen.clone();
    (engine.serve(move |stream| converse(stream, &kept)), seen)
}

fn converse(mut stream: TcpStream, seen: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let port = stream.local_addr()?.port();
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let Some((mut head, body)) = server::request(&mut reader)? else {
            return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
        };
        head.push_str(&String::from_utf8_lossy(&body));
        seen.lock().expect("no panic").push(head.clone());
        // me:U*U, or the token that was given for it.
        let is_known = head.contains("authorization: Basic bWU6VSpV") || head.contains("refresh_token=stands-for-it");
        let (status, header, body) = match head.split_whitespace().nth(1).unwrap_or_default() {
            path if path.starts_with("/token") && !is_known => {
                ("401 Unauthorized", String::new(), r#"{"details":"incorrect username or password"}"#)
            }
            path if path.starts_with("/token") && path.contains("offline_token=true") => {
                ("200 OK", String::new(), r#"{"token":"good","refresh_token":"stands-for-it"}"#)
            }
            path if path.starts_with("/token") => ("200 OK", String::new(), r#"{"access_token":"good"}"#),
            path if path.starts_with("/loop") => ("401 Unauthorized", challenge(port), ""),
            _ if !head.contains("authorization: Bearer good") => ("401 Unauthorized", challenge(port), ""),
            "/v2/" => ("200 OK", String::new(), "{}"),
            _ => ("404 Not Found", String::new(), ""),
        };
        write!(stream, "HTTP/1.1 {status}\r\n{header}Content-Length: {}\r\n\r\n{body}", body.len())?;
    }
}

fn challenge(port: u16) -> String {
    format!("WWW-Authenticate: Bearer realm=\"http://127.0.0.1:{port}/token\",service=\"tests\"\r\n")
}

#[test]
fn identity_tokens() {
    if !is_root("identity_tokens") {
        return;
    }
    let engine = TestEngine::start_with(CORTEN, &["-D"]);
    let (port, seen) = token_registry(&engine);
    let host = format!("127.0.0.1:{port}");
    for (client, repository) in [(docker_client(), "a"), (CORTEN.into(), "b")] {
        let run = |arguments: &[&str], input: &str| engine.client(client.clone(), arguments, input.as_bytes());
        let wrong = run(&["login", "-u", "me", "--password-stdin", &host], "wrong");
        wrong.fails(1, &format!("Get \"http://{host}/v2/\": unauthorized: incorrect username or password"));
        assert_eq!(run(&["login", "-u", "me", "--password-stdin", &host], SECRET).ok(), "Login Succeeded");
        let config = config(&engine);
        assert!(config.contains("stands-for-it") && !config.contains("bWU6VSpV"), "{config}");
        seen.lock().expect("no panic").clear();
        run(&["pull", &format!("{host}/{repository}/b:t")], "").fails(1, "manifest unknown");
        let asked = seen.lock().expect("no panic").clone();
        let token = asked.iter().find(|head| head.starts_with("POST /token")).expect("a token was asked for");
        assert!(token.ends_with("refresh_token=stands-for-it"), "{token}");
        assert!(
            token.contains("grant_type=refresh_token")
                && token.contains(&format!("scope=repository%3A{repository}%2Fb%3Apull")),
            "{token}"
        );
        run(&["logout", &host], "").ok();
    }
    let log = engine.log();
    assert!(!log.contains(SECRET) && !log.contains("stands-for-it") && !log.contains("bWU6VSpV"), "{log}");
    engine.finish();
}
