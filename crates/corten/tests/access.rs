//! The ways to a registry: proxies of daemon.json, TLS with authorities and client certificates of certs.d, passwords.

mod common;

use std::fs;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use common::{ADDRESS, CORTEN, add_address};
use corten_testkit::server::{certificates, connect_in, request};
use corten_testkit::{Registry, TestEngine, debian, engine::docker_client, image, is_root};
use serde_json::json;

/// An image's archive, and its name once it is loaded.
fn loaded(engine: &TestEngine, name: &str) {
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, name, &[&debian::busybox_tar()]).expect("writing an archive");
    engine.docker(&["load", "-q", "-i", archive.to_str().expect("UTF-8")]).ok();
}

/// What a proxy was asked for: the first line of each connection's first request, and who asked.
type Asked = Arc<Mutex<Vec<String>>>;

/// Forwards a connection to docker-registry inside the network of the process `pid`, whatever host it is meant for.
fn forward(mut stream: TcpStream, pid: u32, asked: &Asked) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some((head, body)) = request(&mut reader)? else { return Ok(()) };
    let first = head.lines().next().unwrap_or_default();
    let account = head.lines().find(|line| line.to_lowercase().starts_with("proxy-authorization: "));
    let account = account.and_then(|line| line.split_once(": ")).map_or("nobody", |(_, value)| value);
    asked.lock().expect("no panic").push(format!("{first} by {account}"));
    let mut onward = connect_in(pid, Registry::HOST)?;
    if first.starts_with("CONNECT ") {
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        // One request each, so that each is counted.
        onward.write_all(head.replacen("\r\n\r\n", "\r\nConnection: close\r\n\r\n", 1).as_bytes())?;
        onward.write_all(&body)?;
    }
    let mut back = onward.try_clone()?;
    let mut there = stream.try_clone()?;
    let answers = thread::spawn(move || {
        drop(std::io::copy(&mut back, &mut there));
        drop(there.shutdown(std::net::Shutdown::Both));
    });
    drop(std::io::copy(&mut reader, &mut onward));
    drop(onward.shutdown(std::net::Shutdown::Write));
    answers.join().expect("no panic");
    Ok(())
}

#[test]
fn proxies_of_daemon_json() {
    if !is_root("proxies_of_daemon_json") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("daemon.json");
    fs::write(&config, "{}").expect("writing daemon.json");
    let mut engine = TestEngine::start_with(CORTEN, &["--config-file", config.to_str().expect("UTF-8")]);
    let _registry = Registry::start(&engine);
    let asked = Asked::default();
    let (pid, kept) = (engine.namespace_pid(), asked.clone());
    let port = engine.serve(move |stream| forward(stream, pid, &kept));
    let proxy = |user: &str| format!("http://{user}:hunter2@127.0.0.1:{port}");
    let settings = json!({
        "proxies": { "http-proxy": proxy("plain"), "https-proxy": proxy("tunnel"), "no-proxy": "other.test,direct.test" },
        "insecure-registries": ["registry.test:5000", "direct.test:5000"],
    });
    fs::write(&config, settings.to_string()).expect("writing daemon.json");
    engine.stop_daemon();
    engine.start_daemon();
    let take = || std::mem::take(&mut *asked.lock().expect("no panic"));
    // No server knows this name: whatever comes has come through the proxy.
    let name = "registry.test:5000/box:v1";
    loaded(&engine, name);
    engine.docker(&["push", name]).ok();
    let pushed = take();
    let account = |user: &str| format!(" by Basic {user}");
    // tunnel:hunter2 and plain:hunter2
    let (tunnel, plain) = (account("dHVubmVsOmh1bnRlcjI="), account("cGxhaW46aHVudGVyMg=="));
    let tunnels: Vec<&String> = pushed.iter().filter(|line| line.starts_with("CONNECT ")).collect();
    assert!(tunnels.iter().all(|line| line.starts_with("CONNECT registry.test:5000 HTTP/1.1 by ")), "{pushed:#?}");
    assert!(!tunnels.is_empty() && tunnels.iter().all(|line| line.ends_with(&tunnel)), "{pushed:#?}");
    let through = pushed.iter().filter(|line| line.contains(" http://registry.test:5000/v2/box/"));
    assert!(through.clone().count() > 0 && through.clone().all(|line| line.ends_with(&plain)), "{pushed:#?}");
    assert_eq!(through.count() + tunnels.len(), pushed.len(), "{pushed:#?}");
    engine.docker(&["rmi", name]).ok();
    engine.docker(&["pull", "-q", name]).ok();
    // The daemon remembers that there is no TLS, and the connection.
    assert!(take().iter().all(|line| !line.starts_with("CONNECT ")));
    // Loopback and exceptions are reached directly, or not at all.
    engine.docker(&["pull", &format!("{}/box:nosuch", Registry::HOST)]).fails(1, "manifest unknown");
    engine.docker(&["pull", "direct.test:5000/box:v1"]).fails(1, "lookup direct.test");
    assert_eq!(take(), [""; 0]);
    // `import` and `login` go the same way.
    let import = engine.docker(&["import", "http://files.test/nothing.tar", "x"]);
    import.fails(1, "failed to GET http://files.test/nothing.tar with status 404 Not Found");
    engine.client(docker_client(), &["login", "-u", "a", "--password-stdin", "registry.test:5000"], b"b").ok();
    let others = take();
    assert!(others[0].starts_with("GET http://files.test/nothing.tar HTTP/1.1 by "), "{others:#?}");
    assert!(others.iter().any(|line| line.starts_with("GET http://registry.test:5000/v2/ ")), "{others:#?}");
    assert!(!engine.log().contains("hunter2"), "{}", engine.log());
    let info = engine.docker(&["info", "-f", "{{.HTTPProxy}} {{.HTTPSProxy}} {{.NoProxy}}"]);
    let shown = |user: &str| proxy(user).replace(&format!("{user}:hunter2"), "xxxxx:xxxxx");
    assert_eq!(info.ok(), format!("{} {} other.test,direct.test", shown("plain"), shown("tunnel")));
    engine.finish();
}

#[test]
fn proxies_of_the_environment() {
    if !is_root("proxies_of_the_environment") {
        return;
    }
    let mut engine = TestEngine::start_with(CORTEN, &["--insecure-registry", "registry.test:5000"]);
    let _registry = Registry::start(&engine);
    let asked = Asked::default();
    let (pid, kept) = (engine.namespace_pid(), asked.clone());
    let port = engine.serve(move |stream| forward(stream, pid, &kept));
    let proxy = format!("http://plain:hunter2@127.0.0.1:{port}");
    // Names in lower case count too; a list of exceptions may name networks, and all names below one.
    engine.set_environment(&[("http_proxy", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", "10.0.0.0/8,.direct.test")]);
    engine.stop_daemon();
    engine.start_daemon();
    engine.corten(&["pull", "registry.test:5000/box:v1"]).fails(1, "not found");
    let through = std::mem::take(&mut *asked.lock().expect("no panic"));
    assert!(through.iter().any(|line| line.starts_with("CONNECT registry.test:5000 ")), "{through:#?}");
    assert!(through.iter().all(|line| line.ends_with(" by Basic cGxhaW46aHVudGVyMg==")), "{through:#?}");
    engine.corten(&["pull", "a.direct.test:5000/box:v1"]).fails(1, "lookup a.direct.test");
    engine.corten(&["import", "http://10.1.2.3:1/x.tar", "x"]).fails(1, "10.1.2.3:1");
    assert_eq!(*asked.lock().expect("no panic"), [""; 0]);
    let info = engine.docker(&["info", "-f", "{{.HTTPProxy}} {{.NoProxy}}"]);
    assert_eq!(info.ok(), format!("http://xxxxx:xxxxx@127.0.0.1:{port} 10.0.0.0/8,.direct.test"));
    assert!(!engine.log().contains("hunter2"), "{}", engine.log());
    engine.finish();
}

#[test]
fn mirrors_of_hosts_toml() {
    if !is_root("mirrors_of_hosts_toml") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let folder = directory.path().join("registry.test:5000");
    fs::create_dir(&folder).expect("making a folder");
    let engine = TestEngine::start_with(CORTEN, &["--registries-dir", directory.path().to_str().expect("UTF-8")]);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    let digest = registry.push(&engine, &archive, "team/box:v1");
    let name = "registry.test:5000/team/box:v1";
    engine.docker(&["pull", name]).fails(1, "lookup registry.test");
    // The first one isn't there, the second one has no such path, the third has it.
    let text = format!(
        "[host.\"http://127.0.0.1:1\"]\n{1}[host.\"http://{0}/other\"]\n{1}[host.\"http://{0}\"]\n{1}",
        Registry::HOST,
        "capabilities = [\"pull\", \"resolve\"]\n",
    );
    fs::write(folder.join("hosts.toml"), text).expect("writing hosts.toml");
    common::wait_until("the file is read", || engine.docker(&["pull", name]).code == 0);
    assert_eq!(
        engine.docker(&["inspect", "-f", "{{index .RepoDigests 0}}", name]).ok(),
        format!("registry.test:5000/team/box@{digest}")
    );
    assert_eq!(engine.docker(&["run", "--rm", "--network", "none", name, "echo", "mirrored"]).ok(), "mirrored");
    // It is asked, and never pushed to.
    engine.docker(&["push", name]).fails(1, "lookup registry.test");
    // A file with a mistake is told, with its name.
    fs::write(folder.join("hosts.toml"), "[host.\"x").expect("writing hosts.toml");
    common::wait_until("the mistake is told", || {
        engine.docker(&["pull", "registry.test:5000/team/box:v2"]).stderr.contains("hosts.toml")
    });
    engine.finish();
}

#[test]
fn a_redirect_does_not_lead_out_of_tls() {
    if !is_root("a_redirect_does_not_lead_out_of_tls") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let host = format!("{ADDRESS}:5443");
    let folder = directory.path().join(&host);
    fs::create_dir(&folder).expect("making a folder");
    let engine = TestEngine::start_with(CORTEN, &["--registries-dir", directory.path().to_str().expect("UTF-8")]);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    registry.push(&engine, &archive, "box:v1");
    add_address(&engine);
    let served = engine.path().join("served");
    fs::create_dir_all(served.join("v2/box/manifests")).expect("making a folder");
    certificates(&served, ADDRESS);
    fs::copy(served.join("ca.pem"), folder.join("ca.crt")).expect("copying a certificate");
    // The server's files are whole answers.
    let moved = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://{}/v2/box/manifests/v1\r\nContent-Length: 0\r\n\r\n",
        Registry::HOST
    );
    fs::write(served.join("v2/box/manifests/v1"), moved).expect("writing an answer");
    let command = format!(
        "cd {} && exec openssl s_server -quiet -HTTP -accept {host} -cert server.pem -key server.key",
        served.display()
    );
    let mut server = engine.inside("/bin/sh");
    let mut server = server.args(["-c", &command]).stdin(std::process::Stdio::piped()).spawn().expect("sh starts");
    common::wait_until("the server listens", || engine.connect(&host).is_ok());
    let pulled = engine.corten(&["pull", &format!("{host}/box:v1")]);
    server.kill().expect("ending the server");
    server.wait().expect("the server ends");
    pulled.fails(1, "it leads from https to http");
    assert_eq!(engine.docker(&["images", "-q", &format!("{host}/box")]).ok(), "");
    engine.finish();
}

#[test]
fn certificates_and_passwords() {
    if !is_root("certificates_and_passwords") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let certs = directory.path().join("certs.d");
    let arguments = ["--registries-dir", certs.to_str().expect("UTF-8"), "--log-level", "debug"];
    let engine = TestEngine::start_with(CORTEN, &arguments);
    add_address(&engine);
    let made = engine.path().join("certificates");
    fs::create_dir(&made).expect("making a directory");
    certificates(&made, ADDRESS);
    let host = format!("{ADDRESS}:5000");
    let registry = Registry::start_secure(&engine, &host, &made);
    let name = format!("{host}/box:v1");
    loaded(&engine, &name);
    let folder: PathBuf = certs.join(&host);
    fs::create_dir_all(&folder).expect("making certs.d");
    let put = |from: &str, to: &str| {
        fs::copy(made.join(from), folder.join(to)).expect("copying a certificate");
    };
    // What the daemon read of the folder holds for a few seconds.
    let fails = |text: &str| common::wait_until(text, || engine.docker(&["push", &name]).stderr.contains(text));
    fails("tls: failed to verify certificate: x509: certificate signed by unknown authority");
    put("ca.pem", "ca.crt");
    // The registry's words: "bad certificate" or "certificate required", as old as it is.
    fails(&format!("Get \"https://{host}/v2/\": remote error: tls: "));
    put("client.pem", "client.cert");
    fails("client.key: No such file");
    put("client.key", "client.key");
    fails("no basic auth credentials");
    for client in [docker_client(), CORTEN.into()] {
        let run = |arguments: &[&str], input: &str| engine.client(client.clone(), arguments, input.as_bytes());
        let wrong = run(&["login", "-u", Registry::USER, "--password-stdin", &host], "wrong");
        wrong.fails(1, &format!("login attempt to https://{host}/v2/ failed with status: 401 Unauthorized"));
        run(&["login", "-u", Registry::USER, "--password-stdin", &host], Registry::PASSWORD).ok();
        let pushed = run(&["push", &name], "");
        let digest = pushed.ok().split("digest: ").nth(1).expect("a digest").split(' ').next().expect("its end");
        run(&["rmi", &name], "").ok();
        assert!(run(&["pull", &name], "").ok().contains(&format!("Digest: {digest}")));
        assert_eq!(engine.docker(&["run", "--rm", "--network", "none", &name, "echo", "here"]).ok(), "here");
        run(&["logout", &host], "").ok();
    }
    engine.corten(&["pull", &format!("{host}/box:other")]).fails(1, "no basic auth credentials");
    assert!(!engine.log().contains(Registry::PASSWORD), "{}", engine.log());
    drop(registry);
    engine.finish();
}
