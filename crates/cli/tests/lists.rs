//! Tables and formats against scripted answers.

mod support;

use support::{Daemon, Reply, ago};

fn daemon() -> Daemon {
    Daemon::start(|request| {
        let path = request.path.split('?').next().unwrap_or_default();
        let body = match path {
            "/containers/json" => containers(),
            "/images/json" => images(),
            "/images/web/history" => history(),
            "/volumes" => r#"{"Volumes":[{"Name":"v10","Driver":"local","Labels":{"a":"b"},"Mountpoint":"/v10","Scope":"local"},{"Name":"v2","Driver":"local","Mountpoint":"/v2","Labels":null,"Scope":"local"}],"Warnings":null}"#.to_owned(),
            "/networks" => format!(r#"[{{"Name":"bridge","Id":"{}","Driver":"bridge","Scope":"local","Created":"2025-01-01T00:00:00.123Z"}},{{"Name":"alpha","Id":"{}","Driver":"null","Scope":"local"}}]"#, "9".repeat(64), "8".repeat(64)),
            _ => return Reply::Json(404, r#"{"message":"page not found"}"#.to_owned()),
        };
        Reply::Json(200, body)
    })
}

fn containers() -> String {
    format!(
        r#"[{{"Id":"{}","Names":["/web","/other/web"],"Image":"nginx:latest","ImageID":"sha256:{}","Command":"/docker-entrypoint.sh nginx -g 'daemon off;'","Created":{},"Ports":[{{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"}},{{"PrivatePort":443,"Type":"tcp"}}],"Labels":{{"a.x-y":"1","b":"two"}},"State":"running","Status":"Up 2 hours","SizeRw":1234567,"SizeRootFs":98765432,"HostConfig":{{"NetworkMode":"bridge"}},"NetworkSettings":{{"Networks":{{"bridge":{{}}}}}},"Mounts":[{{"Type":"volume","Name":"data","Source":"/x","Destination":"/data","Driver":"local"}}]}}]"#,
        "a".repeat(64),
        "b".repeat(64),
        ago(7300)
    )
}

fn images() -> String {
    format!(
        r#"[{{"Id":"sha256:{}","Created":{},"RepoTags":["nginx:latest","localhost:5000/my/nginx:1.2"],"RepoDigests":["nginx@sha256:{}"],"Size":192345678,"SharedSize":-1,"Containers":-1,"Labels":null}},{{"Id":"sha256:{}","Created":{},"RepoTags":[],"RepoDigests":[],"Size":999,"SharedSize":-1,"Containers":-1}}]"#,
        "b".repeat(64),
        ago(86400 * 40),
        "1".repeat(64),
        "e".repeat(64),
        ago(50)
    )
}

fn history() -> String {
    format!(
        r#"[{{"Id":"sha256:{}","Created":{},"CreatedBy":"/bin/sh -c #(nop)  CMD [\"nginx\" \"-g\" \"daemon off;\"]","Tags":null,"Size":0,"Comment":"c"}},{{"Id":"<missing>","Created":{},"CreatedBy":"RUN\tx","Tags":null,"Size":1234567,"Comment":""}}]"#,
        "b".repeat(64),
        ago(86400 * 40),
        ago(86400 * 41)
    )
}

fn check(arguments: &[&str], expect: &str) {
    let shown = daemon().run(arguments);
    assert_eq!((shown.out.as_str(), shown.err.as_str(), shown.status), (expect, "", 0), "{arguments:?}");
}

#[test]
fn containers_table() {
    let table = "\
CONTAINER ID   IMAGE          COMMAND                  CREATED       STATUS       PORTS                           NAMES
aaaaaaaaaaaa   nginx:latest   \"/docker-entrypoint.…\"   2 hours ago   Up 2 hours   443/tcp, 0.0.0.0:8080->80/tcp   web
";
    check(&["ps"], table);
    check(&["container", "ls"], table);
    check(&["ps", "-q"], "aaaaaaaaaaaa\n");
    check(&["ps", "-q", "--no-trunc"], &format!("{}\n", "a".repeat(64)));
}

#[test]
fn containers_with_size() {
    let shown = daemon().run(&["ps", "-s"]);
    assert!(shown.out.lines().next().expect("header").ends_with("NAMES     SIZE"), "{}", shown.out);
    assert!(shown.out.ends_with("web       1.23MB (virtual 98.8MB)\n"), "{}", shown.out);
}

#[test]
fn containers_by_template() {
    check(&["ps", "--format", "{{.Names}}|{{.Ports}}|{{upper .State}}"], "web|443/tcp, 0.0.0.0:8080->80/tcp|RUNNING\n");
    check(&["ps", "--format", r#"{{.Label "b"}} {{json .Names}}"#], "two \"web\"\n");
    check(
        &["ps", "--format", r"table {{.Names}}\t{{.Label `a.x-y`}}\t{{.Mounts}}"],
        "NAMES     x y       MOUNTS\nweb       1         data\n",
    );
    let shown = daemon().run(&["ps", "--format", "json"]);
    assert!(shown.out.starts_with(r#"{"Command":"\"/docker-entrypoint.…\"","CreatedAt":""#), "{}", shown.out);
    assert!(shown.out.contains(r#""Platform":null,"Ports":"443/tcp, 0.0.0.0:8080-\u003e80/tcp""#), "{}", shown.out);
}

#[test]
fn template_errors() {
    let shown = daemon().run(&["ps", "--format", "{{.Foo}}"]);
    assert_eq!(
        shown.err,
        "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext\n"
    );
    assert_eq!(shown.status, 1);
    let shown = daemon().run(&["ps", "--format", "{{.ID"]);
    assert_eq!(shown.err, "failed to parse template: template: :1: unclosed action\n");
}

#[test]
fn images_table() {
    check(
        &["images"],
        "\
REPOSITORY                TAG       IMAGE ID       CREATED          SIZE
nginx                     latest    bbbbbbbbbbbb   5 weeks ago      192MB
localhost:5000/my/nginx   1.2       bbbbbbbbbbbb   5 weeks ago      192MB
<none>                    <none>    eeeeeeeeeeee   50 seconds ago   999B
",
    );
    check(
        &["image", "ls", "--format", "{{.Repository}}:{{.Tag}} {{.VirtualSize}}", "nginx"],
        "nginx:latest 192.3MB\nlocalhost:5000/my/nginx:1.2 192.3MB\n<none>:<none> 999B\n",
    );
}

#[test]
fn history_table() {
    check(
        &["history", "web"],
        "\
IMAGE          CREATED       CREATED BY                                      SIZE      COMMENT
bbbbbbbbbbbb   5 weeks ago   /bin/sh -c #(nop)  CMD [\"nginx\" \"-g\" \"daemon…   0B        c
<missing>      5 weeks ago   RUN x                                           1.23MB    
",
    );
}

#[test]
fn volumes_and_networks() {
    check(&["volume", "ls"], "DRIVER    VOLUME NAME\nlocal     v2\nlocal     v10\n");
    check(&["volume", "ls", "-q"], "v2\nv10\n");
    check(
        &["network", "ls"],
        "NETWORK ID     NAME      DRIVER    SCOPE\n888888888888   alpha     null      local\n999999999999   bridge    bridge    local\n",
    );
    check(
        &["network", "ls", "--format", "{{.Name}} {{.CreatedAt}}", "-f", "name=b"],
        "alpha \nbridge 2025-01-01 00:00:00.123 +0000 UTC\n",
    );
}

#[test]
fn filters_travel() {
    let daemon = daemon();
    daemon.run(&["ps", "-a", "-n", "3", "-f", "status=exited", "--filter", "label=a=b"]);
    assert_eq!(
        daemon.requests(),
        ["GET /containers/json?all=1&limit=3&filters=%7B%22label%22:%7B%22a%3Db%22:true%7D,%22status%22:%7B%22exited%22:true%7D%7D".replace(',', "%2C")]
    );
}

#[test]
fn formats_from_the_configuration() {
    let daemon = daemon();
    std::fs::create_dir(daemon.directory.path().join(".docker")).expect("dir");
    std::fs::write(daemon.directory.path().join(".docker/config.json"), r#"{"psFormat":"{{.Names}}!"}"#).expect("file");
    assert_eq!(daemon.run(&["ps"]).out, "web!\n");
    assert_eq!(daemon.run(&["ps", "--format", "{{.ID}}"]).out, "aaaaaaaaaaaa\n");
    assert_eq!(daemon.run(&["ps", "-q"]).out, "aaaaaaaaaaaa\n");
}
