//! `manifest` beside Docker's own client, against Debian's docker-registry: the same words, exit codes and files, and either
//! program goes on with the other's lists.

mod common;

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use common::{ADDRESS, CORTEN, add_address};
use corten_testkit::image::{Packing, TestImage, docker_archive_bytes, tar};
use corten_testkit::server::{certificates, request};
use corten_testkit::{Answer, Registry, TestEngine, engine::docker_client, is_root};

const HOST: &str = Registry::HOST;

/// Two clients, each with a configuration of its own.
struct Pair<'a> {
    engine: &'a TestEngine,
    docker: PathBuf,
    corten: PathBuf,
}

impl<'a> Pair<'a> {
    fn new(engine: &'a TestEngine) -> Pair<'a> {
        let directory = |name: &str| engine.path().join(name);
        Pair { engine, docker: directory("docker-config"), corten: directory("corten-config") }
    }

    /// From now on each has what the other has made.
    fn crossed(self) -> Pair<'a> {
        Pair { docker: self.corten, corten: self.docker, ..self }
    }

    /// Runs both and expects no difference, in words or files. The words are given to be expected too.
    #[track_caller]
    fn check(&self, line: &str) -> Answer {
        let run = |program: PathBuf, config: &Path| {
            let mut command = self.engine.inside("timeout");
            command.arg("60").arg(program).arg("manifest").args(line.split_whitespace()).env("DOCKER_CONFIG", config);
            Answer::of(&mut command, b"")
        };
        let expect = run(docker_client(), &self.docker);
        let found = run(CORTEN.into(), &self.corten);
        let shown = |answer: &Answer| (answer.code, answer.stdout.clone(), answer.stderr.replace("docker", "corten"));
        assert_eq!(shown(&found), shown(&expect), "{line}");
        assert_eq!(files(&self.corten), files(&self.docker), "{line}");
        found
    }
}

/// The lists' files, by their paths in the configuration's directory.
fn files(config: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![config.join("manifests")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let text = std::fs::read_to_string(&path).expect("reading a list's file");
                found.insert(path.strip_prefix(config).expect("it is below").to_owned(), text);
            }
        }
    }
    found
}

/// Images for two architectures, in Docker's format and OCI's, and in a second repository.
fn seed(engine: &TestEngine, host: &str) {
    for architecture in ["amd64", "arm64"] {
        let mut image = TestImage::new("box:v1", [tar(&[("file", architecture.as_bytes())])]);
        image.architecture = architecture.to_owned();
        image.run = serde_json::json!({ "Cmd": ["a", "<b> & \u{2028}"], "Labels": { "x": "y" } });
        let archive = engine.path().join(format!("{architecture}.tar"));
        std::fs::write(&archive, docker_archive_bytes(&[image], Packing::Gzip)).expect("writing an archive");
        for (format, repository) in [("v2s2", "box"), ("oci", "obox"), ("v2s2", "far/box")] {
            let mut skopeo = engine.inside("skopeo");
            skopeo.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--format", format]);
            skopeo.arg(format!("docker-archive:{}", archive.display()));
            Answer::of(skopeo.arg(format!("docker://{host}/{repository}:{architecture}")), b"").ok();
        }
    }
}

#[test]
fn lists_as_dockers_client_makes_them() {
    if !is_root("lists_as_dockers_client_makes_them") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    seed(&engine, HOST);
    let mut pair = Pair::new(&engine);
    for (list, kind) in [("multi:v1", "box"), ("index", "obox")] {
        let check = |line: &str| pair.check(&line.replace("LIST", &format!("{HOST}/{list}")).replace('~', HOST));
        check(&format!("create --insecure LIST ~/{kind}:amd64 ~/{kind}:arm64")).ok();
        check(&format!("create --insecure LIST ~/{kind}:amd64"))
            .fails(1, "refusing to amend an existing manifest list");
        check(&format!(
            "annotate LIST ~/{kind}:arm64 --variant v8 --os-version 10 --os-features b,a --os-features=c,a"
        ))
        .ok();
        check(&format!("inspect LIST ~/{kind}:arm64")).ok();
        check(&format!("inspect -v LIST ~/{kind}:arm64")).ok();
        pair = pair.crossed();
        let check = |line: &str| pair.check(&line.replace("LIST", &format!("{HOST}/{list}")).replace('~', HOST));
        // What was annotated stays.
        check(&format!("create -a --insecure LIST ~/{kind}:arm64 ~/far/box:amd64")).ok();
        check(&format!("annotate LIST ~/{kind}:arm64 --os windows --arch amd64")).ok();
        check(&format!("annotate LIST ~/{kind}:arm64 --os windows --arch arm")).fails(1, "unsupported os/arch");
        check("inspect LIST").ok();
        assert!(check("inspect --verbose LIST").ok().contains("\"os.features\": [\n\t\t\t\t\t\"b\",\n\t\t\t\t\t\"a\""));
        // Docker takes loopback without TLS for pushes alone.
        check("push LIST").ok();
        check("push --insecure --purge LIST").ok();
        assert!(files(&pair.corten).is_empty());
        check("push LIST").fails(1, "No such manifest: ");
        check("inspect LIST").fails(1, "no such manifest: ");
        check("inspect --insecure LIST").ok();
        assert!(check("inspect --insecure -v LIST").ok().contains("\"Ref\": \"127.0.0.1:5000/"));
        check("create --insecure ~/list:of-lists LIST").fails(1, "is a manifest list");
    }
    // What was pushed is an image like others.
    let pulled = engine.docker(&["pull", "-q", "--platform", "linux/amd64", &format!("{HOST}/multi:v1")]);
    assert_eq!(pulled.ok(), format!("{HOST}/multi:v1"));
    engine.finish();
}

#[test]
fn single_manifests_and_mistakes() {
    if !is_root("single_manifests_and_mistakes") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start(&engine);
    seed(&engine, HOST);
    let pair = Pair::new(&engine);
    let check = |line: &str| pair.check(&line.replace('~', HOST));
    for kind in ["box", "obox"] {
        check(&format!("inspect --insecure ~/{kind}:amd64")).ok();
        let shown = check(&format!("inspect --insecure -v ~/{kind}:amd64"));
        let digest = shown.ok().split("\"digest\": \"").nth(1).expect("a digest").split('"').next().expect("its end");
        check(&format!("inspect --insecure ~/{kind}@{digest}")).ok();
        check(&format!("create --insecure ~/pinned:{kind} ~/{kind}@{digest}")).ok();
        check(&format!("push --insecure ~/pinned:{kind}")).ok();
        check(&format!("rm ~/pinned:{kind} ~/absent")).fails(1, "No such manifest: ");
    }
    check("inspect ~/box:amd64").fails(1, "no such manifest: ");
    check("inspect --insecure ~/box:absent").fails(1, "no such manifest: ");
    check("inspect --insecure ~/absent").fails(1, "no such manifest: ");
    check("inspect --insecure ~/Box").fails(1, "must be lowercase");
    check("inspect 127.0.0.1:1/box").fails(1, "connection refused");
    check("inspect --insecure 127.0.0.1:1/box").fails(1, "connection refused");
    check("inspect -v ~/none ~/box:amd64").fails(1, "No such manifest: ");
    check("create --insecure ~/x ~/box:absent").fails(1, "no such manifest: ");
    check("create --insecure Bad ~/box:amd64").fails(1, "error parsing name for manifest list Bad: ");
    check("create ~/x").fails(1, "requires at least 2 arguments");
    check("annotate Bad x").fails(1, "annotate: error parsing name for manifest list Bad: ");
    check("annotate ~/x Bad").fails(1, "annotate: error parsing name for manifest Bad: ");
    check("annotate ~/x ~/y --arch amd64").fails(1, "does not exist in");
    check("rm a Ccc b").fails(1, "invalid reference format");
    check("create --insecure elsewhere.test/x ~/box:amd64").ok();
    check("push elsewhere.test/x").fails(1, "cannot use source images from a different registry");
    check("annotate --wings 2 a b").fails(125, "unknown flag: --wings");
    check("inspect a b c").fails(1, "requires at least 1 and at most 2 arguments");
    // Files that older clients made, and broken ones.
    for config in [&pair.docker, &pair.corten] {
        let list = config.join("manifests/127.0.0.1-5000_old-v1");
        std::fs::create_dir_all(&list).expect("making a list");
        let manifest = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"x","size":1,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"layers":[]}"#;
        let digest = corten_base::Digest::sha256(manifest.as_bytes());
        let file = format!(
            r#"{{"Ref":"127.0.0.1:5000/old:a","Digest":"{digest}","Platform":{{"architecture":"arm","os":"linux"}},"SchemaV2Manifest":{manifest}}}"#
        );
        std::fs::write(list.join("127.0.0.1-5000_old-a"), &file).expect("writing an old file");
        let wrong = file.replace("\"layers\":[]", "\"layers\":null");
        std::fs::create_dir_all(config.join("manifests/127.0.0.1-5000_wrong-v1")).expect("making a list");
        std::fs::write(config.join("manifests/127.0.0.1-5000_wrong-v1/a"), wrong).expect("writing a broken file");
    }
    check("inspect -v ~/old:v1").ok();
    check("annotate ~/old:v1 ~/old:a --variant v7").ok();
    check("inspect ~/old:v1").ok();
    let wrong = engine
        .inside(CORTEN)
        .args(["manifest", "push", &format!("{HOST}/wrong:v1")])
        .env("DOCKER_CONFIG", &pair.corten)
        .output();
    let wrong = String::from_utf8(wrong.expect("the client runs").stderr).expect("UTF-8");
    assert!(wrong.contains("image manifest digest mismatch (sha256:"), "{wrong}");
    engine.finish();
}

#[test]
fn a_registry_with_passwords() {
    if !is_root("a_registry_with_passwords") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let _registry = Registry::start_with_password(&engine);
    let archive = engine.path().join("box.tar");
    let image = TestImage::new("box:v1", [tar(&[("file", b"data")])]);
    std::fs::write(&archive, docker_archive_bytes(&[image], Packing::Gzip)).expect("writing an archive");
    let mut skopeo = engine.inside("skopeo");
    skopeo.args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false", "--dest-creds"]);
    skopeo
        .arg(format!("{}:{}", Registry::USER, Registry::PASSWORD))
        .arg(format!("docker-archive:{}", archive.display()));
    Answer::of(skopeo.arg(format!("docker://{HOST}/box:v1")), b"").ok();
    let pair = Pair::new(&engine);
    let check = |line: &str| pair.check(&line.replace('~', HOST));
    check("inspect --insecure ~/box:v1").fails(1, "no basic auth credentials");
    for (config, auth) in [("wrong", "bWU6d3Jvbmc="), ("right", "bWU6VSpV")] {
        let text = format!(r#"{{"auths":{{"{HOST}":{{"auth":"{auth}"}}}}}}"#);
        for directory in [&pair.docker, &pair.corten] {
            std::fs::create_dir_all(directory).expect("making a configuration's directory");
            std::fs::write(directory.join("config.json"), &text).expect("writing a configuration");
        }
        let found = check("inspect --insecure ~/box:v1");
        assert_eq!(found.code, i32::from(config == "wrong"), "{found:?}");
    }
    check("create --insecure ~/multi ~/box:v1").ok();
    check("push ~/multi").ok();
    engine.finish();
}

#[test]
fn hosts_other_than_loopback() {
    if !is_root("hosts_other_than_loopback") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    add_address(&engine);
    certificates(engine.path(), ADDRESS);
    let (tls, plain) = (format!("{ADDRESS}:5000"), format!("{ADDRESS}:5001"));
    let pair = Pair::new(&engine);
    for (host, text) in [
        (&tls, "tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        (&plain, "http: server gave HTTP response to HTTPS client"),
    ] {
        let _registry = match host == &tls {
            true => Registry::start_with_tls(&engine, host, engine.path()),
            false => Registry::start_at(&engine, &engine.path().join("registry"), host),
        };
        seed(&engine, host);
        let check = |line: &str| pair.check(&line.replace('~', host));
        let inspected = check("inspect ~/box:amd64");
        inspected.fails(1, if host == &tls { text } else { "no such manifest: " });
        check("inspect --insecure -v ~/box:amd64").ok();
        check("create --insecure ~/multi ~/box:amd64 ~/far/box:arm64").ok();
        let ping =
            format!("failed to configure transport: error pinging v2 registry: Get \"https://{host}/v2/\": {text}");
        check("push ~/multi").fails(1, &ping);
        check("push --insecure ~/multi").ok();
        check("rm ~/multi").ok();
        check("inspect --insecure ~/multi").ok();
    }
    engine.finish();
}

/// Answers each repository in its own way: status, content type, body.
fn odd(repository: &str) -> (&'static str, &'static str, String) {
    const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
    const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const JSON: &str = "application/json";
    let config = corten_base::Digest::sha256(ODD_CONFIG.as_bytes());
    let size = ODD_CONFIG.len();
    let manifest = |media_type: &str, more: &str| {
        format!(r#"{{"schemaVersion":2,{media_type}"config":{{"size":{size},"digest":"{config}"}},"layers":[]{more}}}"#)
    };
    let of = |media_type: &str| format!("\"mediaType\":\"{media_type}\",");
    let error = |code: &str, message: &str, detail: &str| {
        format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{detail}}}]}}"#)
    };
    match repository {
        "denied" => ("403 Forbidden", JSON, error("DENIED", "requested access to the resource is denied", "null")),
        "because" => ("403 Forbidden", JSON, error("DENIED", "it is Sunday", "{}")),
        "who" => ("401 Unauthorized", JSON, error("UNAUTHORIZED", "authentication required", "null")),
        "whoso" => ("401 Unauthorized", JSON, error("UNAUTHORIZED", "authentication required", "[1]")),
        "gone" => ("404 Not Found", JSON, error("MANIFEST_UNKNOWN", "manifest unknown", "null")),
        "gonetoo" => ("404 Not Found", JSON, error("MANIFEST_UNKNOWN", "manifest unknown", "{}")),
        "unheard" => ("404 Not Found", JSON, error("NAME_UNKNOWN", "repository name not known to registry", "null")),
        "invented" => ("400 Bad Request", JSON, error("INVENTED", "what", "1")),
        "silent" => ("404 Not Found", JSON, "{}".to_owned()),
        "page" => ("404 Not Found", "text/html", "<html>".to_owned()),
        "teapot" => ("418 I'm a teapot", "text/plain", "no coffee".to_owned()),
        "page200" => ("200 OK", "text/html; charset=utf-8", "<html>".to_owned()),
        "schema1" => ("200 OK", "application/vnd.docker.distribution.manifest.v1+prettyjws", "{}".to_owned()),
        "lying" => ("200 OK", DOCKER, manifest(&of(OCI), "")),
        "lyingtoo" => ("200 OK", OCI, manifest(&of(DOCKER), "")),
        "nameless" => ("200 OK", OCI, manifest("", "")),
        "namelesstoo" => ("200 OK", DOCKER, manifest("", "")),
        "both" => ("200 OK", OCI, manifest(&of(OCI), ",\"manifests\":[]")),
        "signs" => ("200 OK", DOCKER, manifest(&of(DOCKER), ",\"x\":{\"n\":1.50,\"s\":\"<\u{2028}&>\",\"e\":[ ]}")),
        "spaced" => ("200 OK", DOCKER, format!("\n  {}\n\n", manifest(&of(DOCKER), "").replace("\":", "\" : "))),
        "empty" => ("200 OK", INDEX, r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()),
        _ => ("200 OK", INDEX, r#"{"schemaVersion":2,"manifests":null}"#.to_owned()),
    }
}

/// Names in other cases than usual, which Go reads all the same.
const ODD_CONFIG: &str = r#"{"OS":"linux","Architecture":"arm64","os.features":null,"variant":""}"#;

fn answer_oddly(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let Some((head, _)) = request(&mut reader)? else {
        return stream.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    };
    let path: Vec<&str> = head.split_whitespace().nth(1).unwrap_or_default().split('/').collect();
    let (status, kind, body) = match path[..] {
        [_, _, ""] => ("200 OK", "application/json", "{}".to_owned()),
        [_, _, _, "blobs", _] => ("200 OK", "application/octet-stream", ODD_CONFIG.to_owned()),
        _ => odd(path.get(2).unwrap_or(&"")),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

#[test]
fn a_registry_with_odd_answers() {
    if !is_root("a_registry_with_odd_answers") {
        return;
    }
    let engine = TestEngine::start(CORTEN);
    let host = format!("127.0.0.1:{}", engine.serve(answer_oddly));
    let pair = Pair::new(&engine);
    let names = [
        "denied",
        "because",
        "who",
        "whoso",
        "gone",
        "gonetoo",
        "unheard",
        "invented",
        "silent",
        "page",
        "teapot",
        "page200",
        "schema1",
        "lying",
        "lyingtoo",
        "nameless",
        "namelesstoo",
        "both",
        "signs",
        "spaced",
        "empty",
        "null",
    ];
    for name in names {
        let shown = pair.check(&format!("inspect --insecure {host}/{name}"));
        assert_eq!(shown.code, i32::from(!["nameless", "signs", "spaced"].contains(&name)), "{name}: {shown:?}");
        pair.check(&format!("inspect -v --insecure {host}/{name}"));
        pair.check(&format!("create --insecure {host}/list:{name} {host}/{name}"));
    }
    assert!(files(&pair.corten).len() == 3, "{:#?}", files(&pair.corten));
    engine.finish();
}
