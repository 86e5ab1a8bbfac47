//! The real control groups of this machine, v1 or hybrid, as root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::fd::AsFd;
use std::time::Duration;

use corten_base::ErrorKind;
use corten_cgroup::{Controller, DeviceKind, Group, Layout, Limits, Tree};

use common::{Fixture, rule};
use rustix::event::{PollFd, PollFlags, poll};

fn file(tree: &Tree, group: &Group, controller: &str, name: &str) -> String {
    let Layout::V1 { controllers, .. } = tree.layout() else { panic!() };
    let mount = controllers.iter().find(|it| it.controllers.iter().any(|it| it.name() == controller)).unwrap();
    let path = mount.path.join(&group.path().as_str()[1..]).join(name);
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn limits_on_v1_are_set_and_changed() {
    let Some(fixture) = Fixture::new("limits", false) else { return };
    let (tree, group) = (&fixture.tree, fixture.group("one"));
    let swap = tree.support().swap;
    let limits = Limits {
        memory: Some(64 << 20),
        memory_swap: swap.then_some(128 << 20),
        cpu_shares: Some(512),
        cpu_period: Some(50_000),
        cpu_quota: Some(25_000),
        cpuset_cpus: Some("0".into()),
        pids: Some(10),
        ..Limits::default()
    };
    group.apply(&limits).unwrap();
    assert_eq!(file(tree, &group, "memory", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(tree, &group, "cpu", "cpu.shares"), "512");
    assert_eq!(file(tree, &group, "cpu", "cpu.cfs_quota_us"), "25000");
    assert_eq!(file(tree, &group, "cpuset", "cpuset.cpus"), "0");
    assert!(!file(tree, &group, "cpuset", "cpuset.mems").is_empty());
    assert_eq!(file(tree, &group, "pids", "pids.max"), "10");
    // Up beyond the old swap limit, then down below the old memory limit.
    for memory in [256 << 20, 16 << 20] {
        let limits = Limits { memory: Some(memory), memory_swap: swap.then_some(memory), ..Limits::default() };
        group.apply(&limits).unwrap();
        assert_eq!(file(tree, &group, "memory", "memory.limit_in_bytes"), memory.to_string());
    }
    let error = group.apply(&Limits { cpuset_cpus: Some("4000".into()), ..Limits::default() }).unwrap_err();
    assert!(error.to_string().contains("cpuset.cpus"), "{error}");
}

#[test]
fn devices_are_denied() {
    let Some(mut fixture) = Fixture::new("devices", false) else { return };
    let group = fixture.group("one");
    let rules = vec![
        rule(false, DeviceKind::All, None, "rwm"),
        rule(true, DeviceKind::Char, Some(3), "rw"),
        rule(true, DeviceKind::Char, Some(5), "r"),
    ];
    group.apply(&Limits { device_rules: Some(rules), ..Limits::default() }).unwrap();
    let list = file(&fixture.tree, &group, "devices", "devices.list");
    assert_eq!(list, "c 1:3 rw\nc 1:5 r");
    fixture.spawn(&group, ": < /dev/zero && ! (: > /dev/zero) && ! (: < /dev/urandom) && : > /dev/null");
    assert!(fixture.wait().success());
    group
        .apply(&Limits { device_rules: Some(vec![rule(true, DeviceKind::All, None, "rwm")]), ..Limits::default() })
        .unwrap();
    assert_eq!(file(&fixture.tree, &group, "devices", "devices.list"), "a *:* rwm");
}

/// A device that is allowed before and after a change can be opened at every moment.
#[test]
fn devices_stay_while_others_come_and_go() {
    let Some(mut fixture) = Fixture::new("flicker", false) else { return };
    let group = fixture.group("one");
    let change = |others: &[u32]| {
        let mut rules = vec![rule(false, DeviceKind::All, None, "rwm"), rule(true, DeviceKind::Char, Some(3), "rw")];
        rules.extend(others.iter().map(|minor| rule(true, DeviceKind::Char, Some(*minor), "r")));
        group.apply(&Limits { device_rules: Some(rules), ..Limits::default() }).unwrap();
    };
    change(&[]);
    let pid = fixture.spawn(&group, "i=0; while [ $i -lt 20000 ]; do : > /dev/null || exit 1; i=$((i+1)); done");
    let is_running = || !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z ");
    let mut changes = 0;
    while is_running() {
        change(&[5, 8, 9]);
        change(&[]);
        changes += 2;
    }
    assert!(fixture.wait().success(), "/dev/null was away for a moment");
    assert!(changes > 10, "{changes} changes show nothing");
    assert_eq!(file(&fixture.tree, &group, "devices", "devices.list"), "c 1:3 rw");
}

/// Real-time shares are given from above: a group has what its parent has to give.
#[test]
fn real_time_and_the_killer() {
    let Some(fixture) = Fixture::new("rt", false) else { return };
    let group = fixture.group("one");
    group.apply(&Limits { oom_kill_disable: true, ..Limits::default() }).unwrap();
    assert!(file(&fixture.tree, &group, "memory", "memory.oom_control").starts_with("oom_kill_disable 1"));
    let parent = fixture.tree.open(&fixture.parent).unwrap();
    let limits = Limits {
        cpu_realtime_period: Some(500_000),
        cpu_realtime_runtime: Some(10_000),
        memory_swappiness: Some(7),
        ..Limits::default()
    };
    if let Err(error) = parent.apply(&limits) {
        assert!(error.to_string().contains("cpu.rt_"), "{error}");
        eprintln!("skipped: the kernel schedules no groups in real time: {error}");
        return;
    }
    group.apply(&Limits { cpu_realtime_runtime: Some(5_000), ..limits }).unwrap();
    assert_eq!(file(&fixture.tree, &group, "cpu", "cpu.rt_period_us"), "500000");
    assert_eq!(file(&fixture.tree, &group, "cpu", "cpu.rt_runtime_us"), "5000");
    assert_eq!(file(&fixture.tree, &group, "memory", "memory.swappiness"), "7");
}

/// Not every kernel has these controllers; Debian's has (`./x vm-test --cgroup v1`).
#[test]
fn network_class_and_priorities() {
    let Some(fixture) = Fixture::new("net", false) else { return };
    let group = fixture.group("one");
    let limits =
        Limits { network_class: Some(0x10_0001), network_priorities: vec![("lo".into(), 5)], ..Limits::default() };
    match group.apply(&limits) {
        Err(error) if error.to_string().contains("is not available") => eprintln!("skipped: {error}"),
        applied => {
            applied.unwrap();
            assert_eq!(file(&fixture.tree, &group, "net_cls", "net_cls.classid"), 0x10_0001.to_string());
            let priorities = file(&fixture.tree, &group, "net_prio", "net_prio.ifpriomap");
            assert!(priorities.lines().any(|line| line == "lo 5"), "{priorities}");
        }
    }
}

#[test]
fn a_pooled_group_is_renamed_with_its_process() {
    let Some(mut fixture) = Fixture::new("rename", false) else { return };
    let mut group = fixture.group("pool-1");
    let pid = fixture.spawn(&group, "sleep 30");
    let (tree, path) = (fixture.tree.clone(), fixture.parent.join("renamed").unwrap());
    group.rename(&path).unwrap();
    assert_eq!(tree.open(&fixture.parent.join("pool-1").unwrap()).unwrap_err().kind(), ErrorKind::NotFound);
    group.apply(&Limits { pids: Some(5), ..Limits::default() }).unwrap();
    let again = tree.open(&path).unwrap();
    assert!(again.procs().unwrap().contains(&pid));
    assert_eq!(group.dir_fds().unwrap().len(), again.dir_fds().unwrap().len());
    // A name that is taken: nothing changes anywhere.
    fixture.group("taken");
    assert!(group.rename(&fixture.parent.join("taken").unwrap()).is_err());
    assert!(tree.open(&path).unwrap().procs().unwrap().contains(&pid));
    group.kill_all().unwrap();
    fixture.wait();
    group.remove().unwrap();
}

#[test]
fn freezing_killing_and_counting() {
    let Some(mut fixture) = Fixture::new("freeze", false) else { return };
    let group = fixture.group("one");
    fixture.spawn(&group, "sleep 30 & sleep 30 & while :; do :; done");
    while group.procs().unwrap().len() < 3 {
        std::thread::yield_now();
    }
    group.freeze(true).unwrap();
    let before = group.stats().unwrap();
    std::thread::sleep(Duration::from_millis(30));
    let after = group.stats().unwrap();
    assert_eq!(before.cpu.usage, after.cpu.usage, "a frozen group uses no processor time");
    assert!(after.pids.current >= 3 && after.memory.usage > 0 && !after.memory.details.is_empty());
    group.freeze(false).unwrap();
    group.kill_all().unwrap();
    assert!(!fixture.wait().success());
    group.remove().unwrap();
    assert_eq!(fixture.tree.open(group.path()).unwrap_err().kind(), ErrorKind::NotFound);
}

/// Nothing holds them still, and each forks the next one and ends.
#[test]
fn who_forks_all_the_time_is_killed_without_a_freezer() {
    let Some(mut fixture) = Fixture::new("unfrozen", false) else { return };
    let Layout::V1 { mut controllers, unified } = fixture.tree.layout().clone() else { panic!() };
    controllers.retain(|mount| !mount.controllers.contains(&Controller::Freezer));
    fixture.tree = Tree::open_layout(Layout::V1 { controllers, unified }).unwrap();
    let group = fixture.group("one");
    assert!(group.freeze(true).is_err());
    for _ in 0..4 {
        fixture.spawn(&group, "f() { (f) & }; f; f; while :; do (:) & done");
    }
    while group.stats().unwrap().pids.current < 8 {
        std::thread::yield_now();
    }
    group.kill_all().unwrap();
    // With one that had got away there would always be somebody.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !group.procs().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "{:?} live on", group.procs());
        std::thread::yield_now();
    }
}

#[test]
fn an_oom_kill_is_seen() {
    let Some(mut fixture) = Fixture::new("oom", false) else { return };
    let group = fixture.group("one");
    let memory = 16 << 20;
    let memory_swap = fixture.tree.support().swap.then_some(memory);
    group.apply(&Limits { memory: Some(memory), memory_swap, ..Limits::default() }).unwrap();
    let watch = group.oom_events().unwrap();
    assert_eq!(group.oom_kill_count().unwrap(), 0);
    fixture.spawn(&group, "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done");
    let timeout = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&watch.as_fd(), PollFlags::IN)], Some(&timeout)).unwrap();
    assert_eq!(ready, 1);
    watch.drain();
    assert!(!fixture.wait().success());
    assert_eq!(group.oom_kill_count().unwrap(), 1);
}

#[test]
fn removal_takes_nested_groups_along_and_waits_for_the_dying() {
    let Some(mut fixture) = Fixture::new("remove", false) else { return };
    let group = fixture.group("one");
    fixture.tree.create(&group.path().join("a").unwrap()).unwrap();
    fixture.tree.create(&group.path().join("a/b").unwrap()).unwrap();
    fixture.spawn(&group, "sleep 30");
    group.kill_all().unwrap();
    // Not waited for: it may be busy leaving.
    group.remove().unwrap();
    group.remove().unwrap();
    fixture.wait();
}

/// The device program, loaded and attached for real on the v2 tree that hybrid hosts have beside v1.
#[test]
fn device_programs_on_the_unified_tree() {
    let Some(mut fixture) = Fixture::new("bpf", false) else { return };
    let Layout::V1 { unified: Some(unified), .. } = fixture.tree.layout().clone() else {
        eprintln!("skipped: no unified tree");
        return;
    };
    fixture.tree = Tree::at(&unified).unwrap();
    let group = fixture.group("one");
    let rules = vec![rule(false, DeviceKind::All, None, "rwm"), rule(true, DeviceKind::Char, Some(3), "rwm")];
    let applied = group.apply(&Limits { device_rules: Some(rules), ..Limits::default() });
    if let Err(error) = &applied
        && let Some(source) = std::error::Error::source(error)
        && source.to_string().contains("not implemented")
    {
        eprintln!("skipped: the kernel has no bpf(2)");
        return;
    }
    applied.unwrap();
    fixture.spawn(&group, ": > /dev/null && ! (: < /dev/zero)");
    assert!(fixture.wait().success());
    // The second program takes the first one's place.
    let rules = vec![rule(true, DeviceKind::All, None, "rwm"), rule(false, DeviceKind::Char, Some(3), "rwm")];
    group.apply(&Limits { device_rules: Some(rules), ..Limits::default() }).unwrap();
    fixture.spawn(&group, ": < /dev/zero && ! (: > /dev/null)");
    assert!(fixture.wait().success());
    fixture.spawn(&group, "sleep 30");
    group.freeze(true).unwrap();
    group.freeze(false).unwrap();
    group.kill_all().unwrap();
    assert!(!fixture.wait().success());
}
