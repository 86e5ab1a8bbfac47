//! The default bridge: out to the world through NAT, in through published ports, on a real Debian image.

mod common;

use std::process::Command;

use common::{engine, import};
use corten_testkit::{Answer, TestEngine, debian, is_root};

/// A way out of the engine's network namespace: a veth to the machine's and one masquerade rule in a table of its own, both
/// removed when dropped.
struct Uplink {
    name: String,
    forwarded: bool,
}

const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

impl Uplink {
    fn new(engine: &TestEngine) -> Self {
        let name = format!("ct{}", std::process::id() % 100_000);
        let target = engine.namespace_pid().to_string();
        let forwarded = std::fs::read_to_string(FORWARD).expect("this kernel has IPv4").trim() != "0";
        std::fs::write(FORWARD, "1").expect("root may turn forwarding on");
        let ruleset = format!(
            "table ip {name} {{ chain out {{ type nat hook postrouting priority srcnat; ip saddr 10.213.77.0/30 masquerade; }}; }}"
        );
        for step in [
            format!("ip link add {name} type veth peer name uplink netns {target}"),
            format!("ip addr add 10.213.77.1/30 dev {name}"),
            format!("ip link set {name} up"),
            format!("nsenter -t {target} -n ip addr add 10.213.77.2/30 dev uplink"),
            format!("nsenter -t {target} -n ip link set uplink up"),
            format!("nsenter -t {target} -n ip route add default via 10.213.77.1"),
            format!("nft '{ruleset}'"),
        ] {
            Answer::of(Command::new("sh").args(["-c", &step]), b"").ok();
        }
        Self { name, forwarded }
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        let _ = Command::new("nft").args(["delete", "table", "ip", &self.name]).status();
        let _ = Command::new("ip").args(["link", "del", &self.name]).status();
        if !self.forwarded {
            let _ = std::fs::write(FORWARD, "0");
        }
    }
}

#[test]
fn a_debian_container_installs_nginx_and_serves_it() {
    if !is_root("a_debian_container_installs_nginx_and_serves_it") {
        return;
    }
    let engine = TestEngine::start(common::CORTEN);
    import(&engine, "debian", debian::debian_tar().to_str().expect("a UTF-8 path"), "CMD [\"bash\"]");
    let uplink = Uplink::new(&engine);
    let install = "apt-get -o Acquire::Check-Valid-Until=false update -qq && \
                   DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx >/dev/null && \
                   exec nginx -g 'daemon off;'";
    engine.docker(&["run", "-d", "--name", "web", "-p", "8080:80", "debian", "sh", "-c", install]).ok();
    let fetch = "for i in $(seq 600); do curl -sf http://127.0.0.1:8080/ && exit; sleep 0.2; done; exit 1";
    let page = Answer::of(engine.inside("sh").args(["-c", fetch]), b"");
    assert!(page.stdout.contains("Welcome to nginx"), "{page:?}\n{}", engine.docker(&["logs", "web"]).stderr);
    let gateway =
        engine.docker(&["network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", "bridge"]).ok().to_owned();
    for address in [gateway.as_str(), "10.213.77.2"] {
        let page = Answer::of(engine.inside("curl").args(["-sf", &format!("http://{address}:8080/")]), b"");
        assert!(page.ok().contains("Welcome to nginx"), "through {address}");
    }
    let outside = Answer::of(Command::new("curl").args(["-sf", "http://10.213.77.2:8080/"]), b"");
    assert!(outside.ok().contains("Welcome to nginx"));
    engine.docker(&["rm", "-f", "web"]).ok();
    drop(uplink);
    engine.finish();
}

#[test]
fn ports_of_both_protocols_and_their_conflicts() {
    if !is_root("ports_of_both_protocols_and_their_conflicts") {
        return;
    }
    let engine = engine();
    let serve =
        "while true; do echo tcp | nc -l -p 7 >/dev/null; done & while true; do echo udp | nc -u -l -p 7 -w 1; done";
    engine
        .docker(&[
            "run",
            "-d",
            "--name",
            "echo",
            "-p",
            "7000:7",
            "-p",
            "7000:7/udp",
            "-p",
            "7",
            "busybox",
            "sh",
            "-c",
            serve,
        ])
        .ok();
    let ports = engine.docker(&["port", "echo", "7/tcp"]);
    assert!(ports.ok().contains("0.0.0.0:7000"), "{ports:?}");
    let ask = "for i in $(seq 50); do a=$(busybox nc -w 2 127.0.0.1 7000 </dev/null); [ -n \"$a\" ] && echo $a && exit; sleep 0.1; done; exit 1";
    assert_eq!(Answer::of(engine.inside("sh").args(["-c", ask]), b"").ok(), "tcp");
    let taken = engine.docker(&["run", "--rm", "-p", "7000:7", "busybox", "true"]);
    taken.fails(125, "7000");
    assert!(
        taken.stderr.contains("port is already allocated") || taken.stderr.contains("address already in use"),
        "{taken:?}"
    );
    assert_eq!(engine.docker(&["ps", "-q"]).ok().lines().count(), 1);
    engine.docker(&["rm", "-f", "echo"]).ok();
    engine.docker(&["run", "--rm", "-p", "7000:7", "busybox", "true"]).ok();
    engine.finish();
}

#[test]
fn containers_reach_each_other_and_share_namespaces() {
    if !is_root("containers_reach_each_other_and_share_namespaces") {
        return;
    }
    let engine = engine();
    engine
        .docker(&["run", "-d", "--name", "one", "busybox", "sh", "-c", "while true; do echo from-a | nc -l -p 9; done"])
        .ok();
    let address =
        engine.docker(&["inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "one"]).ok().to_owned();
    let ask = format!("for i in $(seq 50); do nc {address} 9 </dev/null && exit; sleep 0.1; done; exit 1");
    assert_eq!(engine.docker(&["run", "--rm", "busybox", "sh", "-c", &ask]).ok(), "from-a");
    let shared = engine.docker(&[
        "run",
        "--rm",
        "--network",
        "container:one",
        "busybox",
        "ip",
        "-4",
        "-o",
        "addr",
        "show",
        "eth0",
    ]);
    assert!(shared.ok().contains(&address), "{shared:?}");
    let none = engine.docker(&["run", "--rm", "--network", "none", "busybox", "ls", "/sys/class/net"]);
    assert_eq!(none.ok(), "lo");
    let host = engine.docker(&["run", "--rm", "--network", "host", "busybox", "ls", "/sys/class/net"]);
    assert!(host.ok().contains("corten0"), "{host:?}");
    let hosts =
        engine.docker(&["run", "--rm", "-h", "name", "--add-host", "other:1.2.3.4", "busybox", "cat", "/etc/hosts"]);
    assert!(hosts.ok().contains("1.2.3.4\tother") && hosts.ok().contains("\tname"), "{hosts:?}");
    engine.docker(&["network", "create", "own"]).ok();
    let own = engine.docker(&["run", "--rm", "--network", "own", "busybox", "ip", "-4", "-o", "addr", "show", "eth0"]);
    assert!(!own.ok().is_empty());
    engine.docker(&["network", "rm", "own"]).ok();
    engine.docker(&["rm", "-f", "one"]).ok();
    engine.finish();
}
