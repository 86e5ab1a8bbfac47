//! Asking registries without pulling: what they have of a name, and what they find.

mod common;

use std::io::{BufReader, Write};
use std::net::TcpStream;

use common::CORTEN;
use corten_testkit::{Registry, TestEngine, debian, image, is_root, server};
use serde_json::{Value, json};

const HOST: &str = Registry::HOST;

/// A registry with Docker Hub's search.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let Some((head, _)) = server::request(&mut BufReader::new(stream.try_clone()?))? else {
        return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    };
    let result = |name: &str, stars: i64, official: bool| {
        json!({ "name": name, "star_count": stars, "is_official": official, "is_automated": false,
                "description": format!("{name}, which is {}", "described at length ".repeat(4)) })
    };
    let results = [result("box", 90, true), result("me/box", 3, false), result("you/box", 0, false)];
    let body = match head.split_whitespace().nth(1).unwrap_or_default() {
        "/v1/search?q=bo%2Fx&n=25" => json!({ "results": results }),
        "/v1/search?q=bo%2Fx&n=1" => json!({ "results": results[..1] }),
        "/v1/search?q=nothing&n=25" => json!({ "results": null }),
        _ => return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    };
    let body = body.to_string();
    write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn searching() {
    if !is_root("searching") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    let port = engine.serve(answer);
    let term = format!("127.0.0.1:{port}/bo/x");
    for client in ["docker", "corten"] {
        let run =
            |arguments: &[&str]| if client == "docker" { engine.docker(arguments) } else { engine.corten(arguments) };
        let table = run(&["search", &term]);
        let lines: Vec<&str> = table.ok().lines().collect();
        let columns: Vec<&str> = lines[0].split_whitespace().collect();
        assert_eq!(columns, ["NAME", "DESCRIPTION", "STARS", "OFFICIAL"], "{client}");
        assert!(lines[1].starts_with("box ") && lines[1].ends_with("[OK]") && lines[1].contains("… "), "{lines:?}");
        assert_eq!(lines.len(), 4, "{lines:?}");
        let names = |arguments: &[&str]| {
            let all = [&["search", "--format", "{{.Name}}:{{.StarCount}}"], arguments, &[&term]].concat();
            run(&all).ok().replace('\n', " ")
        };
        assert_eq!(names(&[]), "box:90 me/box:3 you/box:0", "{client}");
        assert_eq!(names(&["--limit", "1"]), "box:90");
        assert_eq!(names(&["-f", "stars=3"]), "box:90 me/box:3");
        assert_eq!(names(&["-f", "is-official=false"]), "me/box:3 you/box:0");
        let whole = run(&["search", "--no-trunc", "--format", "{{.Description}}", &term]);
        assert!(whole.ok().starts_with("box, which is described at length described"), "{whole:?}");
        assert_eq!(run(&["search", "--format", "{{.Name}}", &format!("127.0.0.1:{port}/nothing")]).ok(), "");
        run(&["search", "--limit", "101", &term]).fails(1, "limit 101 is outside the range of [1, 100]");
        run(&["search", "-f", "colour=red", &term]).fails(1, "invalid filter 'colour'");
        let without = format!("the registry {HOST} can't be searched: it has no /v1/search");
        run(&["search", &format!("{HOST}/box")]).fails(1, &without);
    }
    engine.finish();
}

#[test]
fn what_a_registry_has_of_a_name() {
    if !is_root("what_a_registry_has_of_a_name") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let registry = Registry::start(&engine);
    let archive = engine.path().join("box.tar");
    image::docker_archive(&archive, "box:v1", &[&debian::busybox_tar()]).expect("writing an archive");
    let digest = registry.push(&engine, &archive, "a/box:latest");
    let ask = |name: &str| {
        let answer = engine.get(&format!("/v1.47/distribution/{name}/json")).expect("the daemon answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status: u16 = head.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, serde_json::from_str::<Value>(body).expect("JSON"))
    };
    for name in [format!("{HOST}/a/box"), format!("{HOST}/a/box:latest"), format!("{HOST}/a/box@{digest}")] {
        let (status, found) = ask(&name);
        assert_eq!((status, &found["Descriptor"]["digest"]), (200, &json!(digest)), "{found}");
        assert_eq!(found["Platforms"][0]["os"], "linux", "{found}");
        assert!(found["Descriptor"]["size"].as_i64().is_some_and(|size| size > 100), "{found}");
    }
    assert_eq!(engine.docker(&["images", "-q", &format!("{HOST}/a/box")]).ok(), "");
    let (status, error) = ask(&format!("{HOST}/a/box:none"));
    assert_eq!(status, 404, "{error}");
    assert!(error["message"].as_str().is_some_and(|text| text.contains("manifest unknown")), "{error}");
    assert_eq!(ask("A").0, 400);
    engine.finish();
}
