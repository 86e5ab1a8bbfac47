//! docker and podman of Debian sid, with their daemons, in the network namespace of an engine under test and namespaces of their own
//! inside the root that `./x peers engines` makes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use corten_testkit::{TestEngine, peers, workspace};

/// The peers at work; ended with the last of these.
#[derive(Clone)]
pub struct Peers(Arc<Holder>);

struct Holder {
    child: Child,
    /// A process in the peers' namespaces.
    inside: u32,
    daemons: Vec<u32>,
}

impl Peers {
    /// Starts dockerd with its data below `place`, which is `/bench` inside, where it meets what listens in `engine`'s network;
    /// nothing, and a line that says so, without the root.
    pub fn start(place: &Path, engine: &TestEngine) -> Result<Option<Peers>> {
        let root = engines();
        if !root.join(".complete").exists() {
            println!("no figures for docker and podman: ./x peers engines makes the root that they run in");
            return Ok(None);
        }
        let mut command =
            peers::enter_beside(engine.namespace_pid(), &root, place, &["--pid", "--fork", "--kill-child"]);
        command.args(["sh", "-eu", "-c", DAEMONS]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("starting the peers")?;
        let output = child.stdout.take().context("the peers have no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let log = || fs::read_to_string(place.join("dockerd.log")).unwrap_or_default();
        ensure!(line.trim() == "ready", "dockerd did not start: {}", log());
        let inside = children(child.id())?.first().copied().context("the peers ended")?;
        let daemons = children(inside)?;
        Ok(Some(Peers(Arc::new(Holder { child, inside, daemons }))))
    }

    /// A command inside.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.0.inside.to_string(),
            "--mount",
            "--net",
            "--pid",
            "--wdns=/",
            "--",
            "env",
            "-i",
        ]);
        command
            .args(["HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PODMAN_IGNORE_CGROUPSV1_WARNING=1"])
            .args(words);
        command
    }

    /// The version that a program says it has.
    pub fn version(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(&[&[program], arguments].concat()).output();
        output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
    }

    /// containerd and dockerd.
    pub fn daemons(&self) -> Vec<u32> {
        self.0.daemons.clone()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The process namespace ends with its first process, and all daemons in it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn engines() -> PathBuf {
    workspace().join("target/peers/engines")
}

fn children(pid: u32) -> Result<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    text.split_whitespace().map(|pid| pid.parse().context("an odd process id")).collect()
}

/// Starts the daemons and waits.
const DAEMONS: &str = r#"
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mkdir -p /etc/containers
    export HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin
    unset DOCKER_HOST
    [ -e /etc/containers/policy.json ] || echo '{"default":[{"type":"insecureAcceptAnything"}]}' >/etc/containers/policy.json
    containerd --root /bench/containerd --state /run/containerd >/bench/containerd.log 2>&1 &
    dockerd --data-root /bench/docker --containerd /run/containerd/containerd.sock --storage-driver overlay2 --bridge none \
        --iptables=false --ip6tables=false --exec-opt native.cgroupdriver=cgroupfs --pidfile /run/docker.pid \
        -H unix:///run/docker.sock >/bench/dockerd.log 2>&1 &
    for i in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.1; done
    docker version >/dev/null && echo ready
    exec >/dev/null
    wait
"#;
