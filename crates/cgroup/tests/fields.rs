//! Each field of the runtime spec's `linux.resources` on the real control groups of this machine, as root: what the document says, and
//! what the file of that version then says. docs/oci-runtime.md names these cases; `./x vm-test` runs them on each layout.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::path::PathBuf;

use corten_cgroup::{Group, Layout, Limits};
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};

use common::Fixture;

/// A file in v1's hierarchy of a controller, or on v2, and a line or a word of it that holds the value.
struct Says {
    controller: &'static str,
    v1: Option<(&'static str, String)>,
    v2: Option<(&'static str, String)>,
}

fn says(controller: &'static str, v1: (&'static str, &str), v2: (&'static str, &str)) -> Says {
    Says { controller, v1: Some((v1.0, v1.1.to_owned())), v2: Some((v2.0, v2.1.to_owned())) }
}

/// A field that v2 has no file for.
fn only_v1(controller: &'static str, file: &'static str, value: &str) -> Says {
    Says { controller, v1: Some((file, value.to_owned())), v2: None }
}

fn only_v2(file: &'static str, value: &str) -> Says {
    Says { controller: "", v1: None, v2: Some((file, value.to_owned())) }
}

/// The file and its value, if this machine has it.
fn place(fixture: &Fixture, group: &Group, says: Says) -> Option<(PathBuf, String)> {
    let below = &group.path().as_str()[1..];
    let (file, value) = match fixture.tree.layout() {
        Layout::V2 { root } => {
            let (name, value) = says.v2?;
            (root.join(below).join(name), value)
        }
        Layout::V1 { controllers, .. } => {
            let (name, value) = says.v1?;
            let mount = controllers.iter().find(|it| it.controllers.iter().any(|it| it.name() == says.controller))?;
            (mount.path.join(below).join(name), value)
        }
    };
    file.exists().then_some((file, value))
}

fn limits(resources: Value) -> Limits {
    Limits::from(&serde_json::from_value::<LinuxResources>(resources).unwrap())
}

/// Applies a document to a group of its own; the file says so then, and did not before.
fn check(name: &str, resources: Value, expected: Says) {
    let Some(fixture) = Fixture::on_any(name) else { return };
    let group = fixture.top();
    let Some((file, value)) = place(&fixture, &group, expected) else {
        println!("skipped: there is no such file in these control groups");
        return;
    };
    let text = || std::fs::read_to_string(&file).unwrap();
    let holds =
        |text: &str| text.lines().any(|line| line == value) || text.split_whitespace().any(|word| word == value);
    assert!(!holds(&text()), "{value:?} is there already: {}", file.display());
    group.apply(&limits(resources)).unwrap();
    assert!(holds(&text()), "{value:?}: {:?} in {}", text(), file.display());
}

#[test]
fn memory_limit() {
    let v1 = ("memory.limit_in_bytes", "67108864");
    check("memory_limit", json!({"memory": {"limit": 64 << 20}}), says("memory", v1, ("memory.max", "67108864")));
}

#[test]
fn memory_reservation() {
    let (v1, v2) = (("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    check("memory_reservation", json!({"memory": {"reservation": 32 << 20}}), says("memory", v1, v2));
}

/// Together with memory on v1, swap alone on v2.
#[test]
fn memory_swap() {
    let (v1, v2) = (("memory.memsw.limit_in_bytes", "100663296"), ("memory.swap.max", "33554432"));
    check("memory_swap", json!({"memory": {"limit": 64 << 20, "swap": 96 << 20}}), says("memory", v1, v2));
}

#[test]
fn memory_swappiness() {
    check("memory_swappiness", json!({"memory": {"swappiness": 7}}), only_v1("memory", "memory.swappiness", "7"));
}

#[test]
fn memory_disable_oom_killer() {
    let file = only_v1("memory", "memory.oom_control", "oom_kill_disable 1");
    check("memory_disable_oom_killer", json!({"memory": {"disableOOMKiller": true}}), file);
}

/// Groups have counted what is below them since Linux 5.11, whatever is asked: on v1 the file says so from the start.
#[test]
fn memory_use_hierarchy() {
    let Some(fixture) = Fixture::on_any("memory_use_hierarchy") else { return };
    let group = fixture.top();
    for wanted in [true, false] {
        group.apply(&limits(json!({"memory": {"useHierarchy": wanted}}))).unwrap();
    }
    let file = only_v1("memory", "memory.use_hierarchy", "1");
    match place(&fixture, &group, file) {
        Some((file, value)) => assert_eq!(std::fs::read_to_string(file).unwrap().trim(), value),
        None => println!("skipped: v2 has no such file"),
    }
}

#[test]
fn cpu_shares() {
    check("cpu_shares", json!({"cpu": {"shares": 512}}), says("cpu", ("cpu.shares", "512"), ("cpu.weight", "59")));
}

#[test]
fn cpu_quota() {
    let (v1, v2) = (("cpu.cfs_quota_us", "25000"), ("cpu.max", "25000 100000"));
    check("cpu_quota", json!({"cpu": {"quota": 25_000}}), says("cpu", v1, v2));
}

#[test]
fn cpu_period() {
    let (v1, v2) = (("cpu.cfs_period_us", "50000"), ("cpu.max", "max 50000"));
    check("cpu_period", json!({"cpu": {"period": 50_000}}), says("cpu", v1, v2));
}

#[test]
fn cpu_burst() {
    let (v1, v2) = (("cpu.cfs_burst_us", "5000"), ("cpu.max.burst", "5000"));
    check("cpu_burst", json!({"cpu": {"quota": 25_000, "burst": 5000}}), says("cpu", v1, v2));
}

#[test]
fn cpu_realtime_runtime() {
    let file = only_v1("cpu", "cpu.rt_runtime_us", "1000");
    check("cpu_realtime_runtime", json!({"cpu": {"realtimeRuntime": 1000}}), file);
}

#[test]
fn cpu_realtime_period() {
    let file = only_v1("cpu", "cpu.rt_period_us", "500000");
    check("cpu_realtime_period", json!({"cpu": {"realtimePeriod": 500_000}}), file);
}

#[test]
fn cpu_cpus() {
    if std::thread::available_parallelism().unwrap().get() == 1 {
        println!("skipped: there is one processor");
        return;
    }
    check("cpu_cpus", json!({"cpu": {"cpus": "1"}}), says("cpuset", ("cpuset.cpus", "1"), ("cpuset.cpus", "1")));
}

/// v1's groups begin with their parent's nodes, and a machine may have but one.
#[test]
fn cpu_mems() {
    let Some(fixture) = Fixture::on_any("cpu_mems") else { return };
    let group = fixture.top();
    let Some((file, value)) = place(&fixture, &group, says("cpuset", ("cpuset.mems", "0"), ("cpuset.mems", "0")))
    else {
        println!("skipped: there is no cpuset here");
        return;
    };
    let error = group.apply(&limits(json!({"cpu": {"mems": "4000"}}))).unwrap_err();
    assert!(error.to_string().contains("cpuset.mems"), "{error}");
    group.apply(&limits(json!({"cpu": {"mems": "0"}}))).unwrap();
    assert_eq!(std::fs::read_to_string(file).unwrap().trim(), value);
}

#[test]
fn cpu_idle() {
    check("cpu_idle", json!({"cpu": {"idle": 1}}), says("cpu", ("cpu.idle", "1"), ("cpu.idle", "1")));
}

#[test]
fn block_io_weight() {
    let (v1, v2) = (("blkio.bfq.weight", "300"), ("io.bfq.weight", "default 300"));
    check("block_io_weight", json!({"blockIO": {"weight": 300}}), says("blkio", v1, v2));
}

/// The machine's disk; none, with the reason printed, without one, or where the scheduler must have weights and has none.
fn disk(weighs: bool) -> Option<(String, i64, i64)> {
    let read = |file: &str| std::fs::read_to_string(format!("/sys/block/vda/{file}")).unwrap_or_default();
    let numbers = read("dev").trim().to_owned();
    if numbers.is_empty() || (weighs && !read("queue/scheduler").contains("[bfq]")) {
        println!("skipped: there is no /dev/vda{}", if weighs { " with the scheduler bfq" } else { "" });
        return None;
    }
    let (major, minor) = numbers.split_once(':').unwrap();
    let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
    Some((numbers, major, minor))
}

#[test]
fn block_io_weight_device() {
    let Some((disk, major, minor)) = disk(true) else { return };
    let value = format!("{disk} 300");
    let device = json!({"blockIO": {"weightDevice": [{"major": major, "minor": minor, "weight": 300}]}});
    let files = says("blkio", ("blkio.bfq.weight_device", &value), ("io.bfq.weight", &value));
    check("block_io_weight_device", device, files);
}

fn throttle(field: &str, v1: &'static str, v2: &'static str) {
    let Some((disk, major, minor)) = disk(false) else { return };
    let rates = json!({"blockIO": {field: [{"major": major, "minor": minor, "rate": 5000}]}});
    let files = says("blkio", (v1, &format!("{disk} 5000")), ("io.max", &format!("{v2}=5000")));
    check(field, rates, files);
}

#[test]
fn block_io_throttle_read_bps_device() {
    throttle("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps");
}

#[test]
fn block_io_throttle_write_bps_device() {
    throttle("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps");
}

#[test]
fn block_io_throttle_read_iops_device() {
    throttle("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops");
}

#[test]
fn block_io_throttle_write_iops_device() {
    throttle("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops");
}

/// No kernel since 5.0 has leaves with weights. On v1 that is told, on v2 there never were any.
#[test]
fn block_io_leaf_weights() {
    let Some(fixture) = Fixture::on_any("block_io_leaf_weights") else { return };
    let group = fixture.top();
    let device = json!([{"major": 8, "minor": 0, "leafWeight": 300}]);
    for (document, file) in [
        (json!({"blockIO": {"leafWeight": 300}}), "/blkio.leaf_weight"),
        (json!({"blockIO": {"weightDevice": device}}), "/blkio.leaf_weight_device"),
    ] {
        match group.apply(&limits(document)) {
            Err(error) => assert!(error.to_string().ends_with(file) && !fixture.tree.is_v2(), "{error}"),
            Ok(()) => assert!(fixture.tree.is_v2()),
        }
    }
}

#[test]
fn hugepage_limits() {
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    let (v1, v2) = (("hugetlb.2MB.limit_in_bytes", "4194304"), ("hugetlb.2MB.max", "4194304"));
    check("hugepage_limits", pages, says("hugetlb", v1, v2));
}

/// Reservations are counted apart.
#[test]
fn hugepage_limits_of_reservations() {
    let pages = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}]});
    let (v1, v2) = (("hugetlb.2MB.rsvd.limit_in_bytes", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304"));
    check("hugepage_limits_of_reservations", pages, says("hugetlb", v1, v2));
}

#[test]
fn network_class_id() {
    let file = only_v1("net_cls", "net_cls.classid", "1048577");
    check("network_class_id", json!({"network": {"classID": 1_048_577}}), file);
}

#[test]
fn network_priorities() {
    let file = only_v1("net_prio", "net_prio.ifpriomap", "lo 5");
    check("network_priorities", json!({"network": {"priorities": [{"name": "lo", "priority": 5}]}}), file);
}

#[test]
fn pids_limit() {
    check("pids_limit", json!({"pids": {"limit": 77}}), says("pids", ("pids.max", "77"), ("pids.max", "77")));
}

#[test]
fn unified() {
    check("unified", json!({"unified": {"memory.high": "60M"}}), only_v2("memory.high", "62914560"));
}
