//! Bad command lines and help pages; the same lines are given to Docker's own client where it is installed.

mod support;

use std::process::{Command, Stdio};

use support::{Shown, client};

const NOBODY: &str = "unix:///nonexistent/x.sock";

fn corten(arguments: &[&str]) -> Shown {
    Shown::from(client(arguments).env("DOCKER_HOST", NOBODY).env("HOME", "/nonexistent").output().expect("client runs"))
}

fn check(line: &str, status: i32, expect: &str) {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let shown = corten(&arguments);
    assert_eq!((shown.err.as_str(), shown.status, shown.out.as_str()), (expect, status, ""), "{line}");
}

#[test]
fn bad_flags() {
    let tail =
        "\n\nUsage:  corten run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nRun 'corten run --help' for more information\n";
    check("run --foo", 125, &format!("unknown flag: --foo{tail}"));
    check("run -z", 125, &format!("unknown shorthand flag: 'z' in -z{tail}"));
    check("run -m x img", 125, &format!("invalid argument \"x\" for \"-m, --memory\" flag: invalid size: 'x'{tail}"));
    check(
        "--foo",
        125,
        "unknown flag: --foo\n\nUsage:  corten [OPTIONS] COMMAND [ARG...]\n\nRun 'corten --help' for more information\n",
    );
}

#[test]
fn bad_arguments() {
    check(
        "run",
        1,
        "corten: 'corten run' requires at least 1 argument\n\nUsage:  corten run [OPTIONS] IMAGE [COMMAND] [ARG...]\n\nSee 'corten run --help' for more information\n",
    );
    check("foo", 1, "corten: unknown command: corten foo\n\nRun 'corten --help' for more information\n");
    check(
        "container foo",
        1,
        "corten: unknown command: corten container foo\n\nUsage:  corten container\n\nRun 'corten container --help' for more information\n",
    );
    check(
        "container ls x",
        1,
        "corten: 'corten container ls' accepts no arguments\n\nUsage:  corten container ls [OPTIONS]\n\nRun 'corten container ls --help' for more information\n",
    );
}

#[test]
fn help_pages() {
    let shown = corten(&["ps", "--help"]);
    assert_eq!(shown.status, 0);
    let expect = "\
Usage:  corten ps [OPTIONS]

List containers

Aliases:
  corten container ls, corten container list, corten container ps, corten ps

Options:
  -a, --all             Show all containers, not only running ones
  -f, --filter filter   Show only containers that match (e.g. \"status=exited\")
      --format string   How to show the output: 'table', 'table
                        TEMPLATE', 'json', or 'TEMPLATE', a Go template
  -n, --last int        Show the n containers created last, in whatever
                        state (default -1)
  -l, --latest          Show the container created last, in whatever state
      --no-trunc        Show everything in full length
  -q, --quiet           Show only container IDs
  -s, --size            Show the size of containers' files
";
    assert_eq!(shown.out, expect);
    for page in [&["--help"][..], &["help"], &["container", "--help"], &["help", "run"], &["rm", "-h"]] {
        let shown = corten(page);
        assert_eq!((shown.status, shown.err.as_str()), (0, ""), "{page:?}");
        assert!(shown.out.starts_with("Usage:  corten "), "{page:?}: {}", shown.out);
    }
    // Help that nobody asked for is no output.
    for page in [&[][..], &["container"]] {
        let shown = corten(page);
        assert_eq!((shown.status, shown.out.as_str()), (0, ""), "{page:?}");
        assert!(shown.err.starts_with("Usage:  corten "), "{page:?}: {}", shown.err);
    }
}

/// Lines where both clients must say the same, but for the program's name.
const SAME: &[&str] = &[
    "run --foo",
    "run -z",
    "run -izt x",
    "run",
    "run --name",
    "run -e",
    "run -i=x b",
    "run -m x b",
    "run --cpus x b",
    "ps x",
    "ps --foo",
    "stop",
    "tag a",
    "logs a b",
    "inspect",
    "rmi",
    "volume rm",
    "foo",
    "version x",
    "create -p x b",
    "create -p 1.2.3:80:80 b",
    "create -p 80:80/foo b",
    "create --expose x b",
    "create -e =x b",
    "create -l =x b",
    "create --add-host x b",
    "create --dns x b",
    "create --ulimit nofile=10:5 b",
    "create --mount x b",
    "create --mount type=bind b",
    "create --network alias=x b",
    "create --network a --network a b",
    "create --restart on-failure:x b",
    "create --pid foo b",
    "create --security-opt foo b",
    "create --health-interval -1s b",
    "create --mac-address zz b",
    "create -v :/x b",
    "create --sysctl x b",
    "create --gpus x b",
    "create --env-file /nonexistent/e b",
    "create --memory-swappiness 101 b",
    "run -d -a stdout b",
    "run -d --rm --restart always b",
    "run --pull foo b",
    "pull Foo",
    "pull -a foo:bar",
    "tag a b:C:D",
    "inspect --type=foo x",
    "ps -f x",
    "ps --no-trunc=x",
    "exec a",
    "rename a",
    "network create",
    "volume create -d",
];

#[test]
fn same_as_docker() {
    let docker = |line: &str| {
        Command::new("docker")
            .args(line.split_whitespace())
            .env("DOCKER_HOST", NOBODY)
            .env("HOME", "/nonexistent")
            .stdin(Stdio::null())
            .output()
    };
    let Ok(version) = docker("--version") else {
        println!("skipped: no docker client is installed to compare with");
        return;
    };
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    if !version.starts_with("Docker version 28.") {
        println!("skipped: these are the texts of Docker 28, and here is {version}");
        return;
    }
    for line in SAME {
        let theirs = Shown::from(docker(line).expect("docker runs"));
        let ours = corten(&line.split_whitespace().collect::<Vec<_>>());
        let renamed = |text: &str| text.replace("docker", "corten");
        assert_eq!((renamed(&theirs.err), theirs.status), (renamed(&ours.err), ours.status), "{line}");
    }
}
