//! A v2 tree as plain files in a directory: what is written where, without root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use corten_base::ErrorKind;
use corten_cgroup::{CgroupPath, Limits, Tree};

fn tree(root: &Path) -> Tree {
    fs::write(root.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
    Tree::at(root).unwrap()
}

fn path(text: &str) -> CgroupPath {
    CgroupPath::parse(text).unwrap()
}

#[test]
fn limits_reach_their_files() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    let group = tree.create(&path("/corten/one")).unwrap();
    let dir = root.path().join("corten/one");
    for name in ["memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus"] {
        fs::write(dir.join(name), "").unwrap();
    }
    let limits = Limits {
        memory: Some(1000),
        memory_swap: Some(1500),
        cpu_quota: Some(20_000),
        cpu_shares: Some(1024),
        cpuset_cpus: Some("0-1".into()),
        pids: Some(7),
        ..Limits::default()
    };
    group.apply(&limits).unwrap();
    fs::write(dir.join("cgroup.procs"), "4711\n").unwrap();
    let expect = [
        ("memory.max", "1000"),
        ("memory.swap.max", "500"),
        ("cpu.max", "20000"),
        ("cpu.weight", "100"),
        ("pids.max", "7"),
        ("cpuset.cpus", "0-1"),
    ];
    for (name, value) in expect {
        assert_eq!(fs::read_to_string(dir.join(name)).unwrap(), value, "{name}");
    }
    assert_eq!(group.procs().unwrap(), [4711]);
}

#[test]
fn a_missing_controller_is_an_error_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "pids\n").unwrap();
    let group = Tree::at(root.path()).unwrap().create(&path("/corten/one")).unwrap();
    fs::write(root.path().join("corten/one/pids.max"), "untouched").unwrap();
    let error = group.apply(&Limits { memory: Some(1), pids: Some(1), ..Limits::default() }).unwrap_err();
    assert_eq!(error.to_string(), "cgroup controller memory is not available");
    assert_eq!(fs::read_to_string(root.path().join("corten/one/pids.max")).unwrap(), "untouched");
}

#[test]
fn swap_off_needs_no_file() {
    let root = tempfile::tempdir().unwrap();
    let group = tree(root.path()).create(&path("/corten/one")).unwrap();
    fs::write(root.path().join("corten/one/memory.max"), "").unwrap();
    group.apply(&Limits { memory: Some(5), memory_swap: Some(5), ..Limits::default() }).unwrap();
    assert!(group.apply(&Limits { memory: Some(5), memory_swap: Some(6), ..Limits::default() }).is_err());
}

#[test]
fn groups_come_and_go() {
    let root = tempfile::tempdir().unwrap();
    let tree = tree(root.path());
    assert_eq!(tree.open(&path("/corten/one")).unwrap_err().kind(), ErrorKind::NotFound);
    let mut group = tree.create(&path("/corten/one")).unwrap();
    tree.create(&path("/corten/one")).unwrap();
    tree.create(&path("/corten/two")).unwrap();
    assert_eq!(tree.children(&path("/corten")).unwrap(), [path("/corten/one"), path("/corten/two")]);
    assert_eq!(group.rename(&path("/corten/three")).unwrap_err().kind(), ErrorKind::NotImplemented);
    assert!(group.dir_fd().is_some());
    fs::create_dir(root.path().join("corten/one/below")).unwrap();
    group.remove().unwrap();
    group.remove().unwrap();
    assert_eq!(tree.children(&path("/corten")).unwrap(), [path("/corten/two")]);
    assert_eq!(tree.children(&path("/nowhere")).unwrap(), []);
    fs::write(root.path().join("file"), "").unwrap();
    assert_eq!(tree.children(&path("/file/below")).unwrap(), []);
}

#[test]
fn a_link_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), root.path().join("corten")).unwrap();
    let tree = tree(root.path());
    assert!(tree.open(&path("/corten")).is_err());
}

#[test]
fn statistics_are_read() {
    let root = tempfile::tempdir().unwrap();
    let group = tree(root.path()).create(&path("/corten/one")).unwrap();
    let files = [
        ("memory.current", "100\n"),
        ("memory.max", "max\n"),
        ("memory.swap.current", "7\n"),
        ("memory.swap.max", "9\n"),
        ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n"),
        ("memory.stat", "anon 60\nfile 40\n"),
        ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 4\nnr_throttled 1\nthrottled_usec 6\n"),
        ("pids.current", "2\n"),
        ("pids.max", "max\n"),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.rsvd.current", "0\n"),
        ("hugetlb.2MB.events", "max 5\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=2000\nocrdma1 hca_handle=3 hca_object=max\n"),
        ("cpu.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n"),
    ];
    for (name, text) in files {
        fs::write(root.path().join("corten/one").join(name), text).unwrap();
    }
    let stats = group.stats().unwrap();
    let memory = &stats.memory;
    assert_eq!((memory.usage, memory.limit, memory.swap_usage, memory.swap_limit), (100, u64::MAX, 7, 9));
    assert_eq!((memory.failures, memory.details["anon"]), (3, 60));
    assert_eq!((stats.cpu.usage, stats.cpu.throttled, stats.cpu.periods), (5000, 6000, 4));
    assert_eq!((stats.pids.current, stats.pids.limit), (2, 0));
    let pages = corten_cgroup::HugepageStats { usage: 2 << 20, max_usage: 0, failures: 5 };
    assert_eq!(stats.hugepages, [("2MB".to_owned(), pages)].into());
    let adapter = corten_cgroup::RdmaStats { handles: 2, objects: 2000 };
    assert_eq!(stats.rdma, [("mlx4_0".to_owned(), adapter)].into());
    let pressure = group.pressure();
    assert_eq!(pressure.cpu.map(|cpu| (cpu.some.avg10, cpu.some.total)), Some((1.5, 9)));
    assert_eq!((pressure.memory, pressure.io), (None, None));
}

/// No machine of ours has such an adapter: this is only shown on plain files.
#[test]
fn limits_of_remote_memory_reach_their_file() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cgroup.controllers"), "rdma\n").unwrap();
    let group = Tree::at(root.path()).unwrap().create(&path("/corten/one")).unwrap();
    let file = root.path().join("corten/one/rdma.max");
    let set = |handles, objects| {
        fs::write(&file, "").unwrap();
        group.apply(&Limits { rdma: vec![("mlx4_0".into(), handles, objects)], ..Limits::default() }).unwrap();
        fs::read_to_string(&file).unwrap()
    };
    assert_eq!(set(Some(2), Some(2000)), "mlx4_0 hca_handle=2 hca_object=2000");
    assert_eq!(set(None, Some(5)), "mlx4_0 hca_object=5");
}
