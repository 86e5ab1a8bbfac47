//! A real v2 tree with its controllers, as root: what `./x vm-test` boots a machine for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_cgroup::{BlockIo, DeviceKind, Group, HugepageLimit, Layout, Limits, Tree};
use rustix::event::{PollFd, PollFlags, poll};

use common::{Fixture, rule};

fn dir(tree: &Tree, group: &Group) -> PathBuf {
    let Layout::V2 { root } = tree.layout() else { panic!() };
    root.join(&group.path().as_str()[1..])
}

fn file(fixture: &Fixture, group: &Group, name: &str) -> String {
    let path = dir(&fixture.tree, group).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

#[test]
fn limits_are_set_and_changed() {
    let Some(fixture) = Fixture::new("limits", true) else { return };
    let group = fixture.group("one");
    let limits = Limits {
        memory: Some(64 << 20),
        memory_swap: Some(96 << 20),
        memory_reservation: Some(32 << 20),
        cpu_shares: Some(512),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        cpu_burst: Some(5_000),
        cpuset_cpus: Some("0".into()),
        cpuset_mems: Some("0".into()),
        pids: Some(10),
        hugepages: vec![HugepageLimit { size: "2MB".into(), limit: 4 << 20 }],
        unified: BTreeMap::from([("memory.high".into(), "60M".into())]),
        ..Limits::default()
    };
    group.apply(&limits).unwrap();
    let expect = [
        ("memory.max", "67108864"),
        ("memory.swap.max", "33554432"),
        ("memory.low", "33554432"),
        ("memory.high", "62914560"),
        ("cpu.weight", "59"),
        ("cpu.max", "25000 50000"),
        ("cpu.max.burst", "5000"),
        ("cpuset.cpus", "0"),
        ("cpuset.mems", "0"),
        ("pids.max", "10"),
        ("hugetlb.2MB.max", "4194304"),
    ];
    for (name, value) in expect {
        assert_eq!(file(&fixture, &group, name), value, "{name}");
    }
    group.apply(&Limits { memory: Some(-1), pids: Some(-1), cpu_quota: Some(-1), ..Limits::default() }).unwrap();
    for (name, value) in [("memory.max", "max"), ("memory.swap.max", "max"), ("pids.max", "max")] {
        assert_eq!(file(&fixture, &group, name), value, "{name}");
    }
    // Only the quota was asked: the period stays.
    assert_eq!(file(&fixture, &group, "cpu.max"), "max 50000");
    group.apply(&Limits { cpu_period: Some(20_000), ..Limits::default() }).unwrap();
    group.apply(&Limits { cpu_quota: Some(10_000), ..Limits::default() }).unwrap();
    assert_eq!(file(&fixture, &group, "cpu.max"), "10000 20000");
    group.apply(&Limits { cpu_period: Some(40_000), ..Limits::default() }).unwrap();
    assert_eq!(file(&fixture, &group, "cpu.max"), "10000 40000");
}

#[test]
fn an_idle_group_and_back() {
    let Some(fixture) = Fixture::new("idle", true) else { return };
    let group = fixture.group("one");
    group.apply(&Limits { cpu_idle: Some(1), cpu_shares: Some(2048), ..Limits::default() }).unwrap();
    assert_eq!(file(&fixture, &group, "cpu.idle"), "1");
    group.apply(&Limits { cpu_idle: Some(0), cpu_shares: Some(2048), ..Limits::default() }).unwrap();
    assert_eq!((file(&fixture, &group, "cpu.idle"), file(&fixture, &group, "cpu.weight")), ("0".into(), "174".into()));
}

#[test]
fn what_the_kernel_refuses_is_named() {
    let Some(fixture) = Fixture::new("refused", true) else { return };
    let group = fixture.group("one");
    let error = group.apply(&Limits { cpuset_cpus: Some("4000".into()), ..Limits::default() }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"4000\"") && text.contains("one/cpuset.cpus"), "{text}");
    let unified = BTreeMap::from([("memory.nonsense".into(), "1".into())]);
    let error = group.apply(&Limits { unified, ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("memory.nonsense"), "{error}");
}

/// A limit below what is used now would end the processes; the check refuses it, as runc does.
#[test]
fn a_limit_below_the_usage_is_refused_when_asked() {
    let Some(mut fixture) = Fixture::new("check", true) else { return };
    let group = fixture.group("one");
    fixture.spawn(&group, "x=$(head -c 4000000 /dev/zero | tr '\\0' x); while :; do :; done");
    while group.stats().unwrap().memory.usage < 4_000_000 {
        std::thread::yield_now();
    }
    let low = Limits { memory: Some(1 << 20), memory_check_before_update: true, ..Limits::default() };
    let error = group.apply(&low).unwrap_err();
    assert!(error.to_string().starts_with("rejecting memory limit 1048576 <= usage "), "{error}");
    assert_eq!(file(&fixture, &group, "memory.max"), "max");
    group.kill_all().unwrap();
    fixture.wait();
}

#[test]
fn block_devices_are_throttled_and_weighed() {
    let Some(fixture) = Fixture::new("blkio", true) else { return };
    let Ok(device) = std::fs::read_to_string("/sys/block/vda/dev") else {
        eprintln!("skipped: no /dev/vda");
        return;
    };
    let (major, minor) = device.trim().split_once(':').unwrap();
    let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
    let group = fixture.group("one");
    let blkio = BlockIo {
        weight: Some(500),
        weight_devices: vec![(major, minor, 300)],
        read_bps: vec![(major, minor, 1 << 20)],
        write_iops: vec![(major, minor, 50)],
        ..BlockIo::default()
    };
    group.apply(&Limits { blkio, ..Limits::default() }).unwrap();
    let max = file(&fixture, &group, "io.max");
    assert!(max.contains("rbps=1048576") && max.contains("wiops=50") && max.contains("wbps=max"), "{max}");
    let weight = file(&fixture, &group, "io.bfq.weight");
    assert!(weight.contains("default 500") && weight.contains(&format!("{major}:{minor} 300")), "{weight}");
}

#[test]
fn devices_are_denied_and_rules_replaced() {
    let Some(mut fixture) = Fixture::new("devices", true) else { return };
    let group = fixture.group("one");
    let devices = |rules: Vec<_>| Limits { device_rules: Some(rules), ..Limits::default() };
    let all = |allow| rule(allow, DeviceKind::All, None, "rwm");
    group.apply(&devices(vec![all(false), rule(true, DeviceKind::Char, Some(3), "rw")])).unwrap();
    fixture.spawn(&group, ": > /dev/null && ! (: < /dev/zero) && ! mknod /tmp/corten-node c 1 3");
    assert!(fixture.wait().success());
    // An update takes the place of the first rules, also for processes that are there.
    group.apply(&devices(vec![all(true), rule(false, DeviceKind::Char, Some(3), "w")])).unwrap();
    fixture.spawn(&group, ": < /dev/zero && : < /dev/null && ! (: > /dev/null)");
    assert!(fixture.wait().success());
}

#[test]
fn freezing_killing_and_counting() {
    let Some(mut fixture) = Fixture::new("freeze", true) else { return };
    let group = fixture.group("one");
    fixture.spawn(&group, "sleep 1000 & sleep 1000 & while :; do :; done");
    while group.procs().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    let pressure = group.pressure();
    let is_measured = std::path::Path::new("/proc/pressure/cpu").exists();
    for stalls in [pressure.cpu, pressure.memory, pressure.io] {
        assert_eq!(stalls.is_some(), is_measured, "{pressure:?}");
    }
    group.freeze(true).unwrap();
    assert!(group.is_frozen().unwrap());
    let stats = group.stats().unwrap();
    assert!(stats.pids.current >= 3 && stats.memory.usage > 0 && stats.cpu.usage > 0);
    assert!(stats.memory.details.contains_key("anon"), "{:?}", stats.memory.details);
    assert_eq!(stats.cpu.usage, group.stats().unwrap().cpu.usage, "a frozen group uses no processor time");
    // Frozen processes can be killed all the same.
    group.kill_all().unwrap();
    assert!(!fixture.wait().success());
    group.freeze(false).unwrap();
    assert!(!group.is_frozen().unwrap());
}

#[test]
fn an_oom_kill_is_seen() {
    let Some(mut fixture) = Fixture::new("oom", true) else { return };
    let group = fixture.group("one");
    group.apply(&Limits { memory: Some(16 << 20), memory_swap: Some(16 << 20), ..Limits::default() }).unwrap();
    let watch = group.oom_events().unwrap();
    assert_eq!(group.oom_kill_count().unwrap(), 0);
    fixture.spawn(&group, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    let mut ready = [PollFd::new(&watch, PollFlags::IN)];
    while group.oom_kill_count().unwrap() == 0 {
        assert!(poll(&mut ready, None).unwrap() > 0);
        watch.drain();
    }
    assert!(!fixture.wait().success());
}
