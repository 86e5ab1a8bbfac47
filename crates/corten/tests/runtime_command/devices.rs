//! What a start does on the host's side: network devices that are handed over, the processor's resources.

use std::fs;
use std::os::fd::AsFd;
use std::process::Command;

use corten_sys::netlink::netns;
use serde_json::{Value, json};

use crate::support::{Bench, bench};

/// Runs a command of iproute2 in the caller's network namespace.
fn ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).output().is_ok_and(|output| output.status.success())
}

fn has_ip() -> bool {
    let there = ip("-V");
    if !there {
        println!("skipped: iproute2 is not installed");
    }
    there
}

/// Does something in a new network namespace: the host's devices are not touched, and all goes away with it.
fn apart<T: Send>(job: impl FnOnce() -> T + Send) -> T {
    let namespace = netns::create().unwrap();
    netns::run_in(namespace.as_fd(), job).unwrap()
}

fn with_devices(devices: Value) -> Option<Bench> {
    bench("ip -o addr; ip -o link", |config, _| config["linux"]["netDevices"] = devices)
}

/// Renamed or not, with lasting addresses of global scope, up; the others keep theirs.
#[test]
fn network_devices_become_the_containers() {
    let devices = json!({"corten0": {"name": "inner"}, "corten2": {}, "corten4": {"name": "any%d"}});
    let Some(bench) = with_devices(devices).filter(|_| has_ip()) else { return };
    let seen = apart(|| {
        for pair in
            ["corten0 type veth peer corten1", "corten2 type veth peer corten3", "corten4 type veth peer corten5"]
        {
            assert!(ip(&format!("link add {pair}")));
        }
        assert!(ip("addr add 10.98.0.5/24 dev corten0") && ip("addr add 10.98.2.6/24 dev corten0 scope link"));
        assert!(ip("addr add fd98::5/64 dev corten0") && ip("link set corten0 mtu 1300 up"));
        assert!(ip("addr add 10.98.1.5/32 dev corten2 valid_lft 1000 preferred_lft 1000"));
        let seen = bench.run(&[]).ok();
        assert!(!ip("link show corten0"), "it was moved, and is gone with the container");
        seen
    });
    let line = |start: &str| seen.lines().find(|line| line.contains(start)).unwrap_or_default();
    assert!(seen.contains("10.98.0.5/24") && seen.contains("fd98::5/64"), "{seen}");
    assert!(!seen.contains("10.98.2.6") && !seen.contains("10.98.1.5"), "{seen}");
    for device in [": inner@", ": corten2@", ": any0@"] {
        assert!(line(device).contains(",UP"), "{device}: {seen}");
    }
    assert!(line(": inner@").contains("mtu 1300") && !seen.contains("corten0"), "{seen}");
    bench.is_clean();
}

#[test]
fn devices_that_cannot_be_moved_are_refused() {
    let Some(bench) = with_devices(json!({"no-such": {}})) else { return };
    apart(|| bench.run(&[]).fails(1, "cannot give the container the network device no-such: look up link no-such"));
    bench.is_clean();
    let Some(bench) = with_devices(json!({"corten0": {"name": "lo"}})).filter(|_| has_ip()) else { return };
    apart(|| {
        assert!(ip("link add corten0 type veth peer corten1"));
        bench.run(&[]).fails(1, "move link corten0 to lo: file exists");
        assert!(ip("link show corten0"), "it stays where it was");
    });
    bench.is_clean();
    let Some(bench) = crate::support::bench("true", |config, _| {
        config["linux"]["netDevices"] = json!({"corten0": {}});
        config["linux"]["namespaces"].as_array_mut().unwrap().retain(|namespace| namespace["type"] != "network");
        config["mounts"].as_array_mut().unwrap().retain(|mount| mount["destination"] != "/sys");
    }) else {
        return;
    };
    bench.run(&[]).fails(1, "there is no network namespace to move it to");
    bench.is_clean();
}

/// Where the host has no resctrl; that groups are made and joined is shown on a directory, in the runtime's own tests.
#[test]
fn division_of_the_processor_needs_a_processor_that_can() {
    if fs::read_to_string("/proc/self/mountinfo").unwrap().contains(" - resctrl ") {
        println!("skipped: this host has resctrl mounted");
        return;
    }
    let Some(bench) = bench("true", |config, _| {
        config["linux"]["intelRdt"] = json!({"closID": "group", "l3CacheSchema": "L3:0=7"});
    }) else {
        return;
    };
    bench.create(&[]).fails(1, "intelRdt is specified in config, but Intel RDT is not supported or enabled");
    bench.is_clean();
}
