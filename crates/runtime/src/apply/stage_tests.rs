use super::*;
use crate::plan::{NamespaceSource, tests::planned};

fn docker_like(change: impl FnOnce(&mut serde_json::Value)) -> Plan {
    planned(|value| {
        value["mounts"] = serde_json::json!([
            {"destination": "/proc", "type": "proc"},
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/dev/pts", "type": "devpts"},
            {"destination": "/sys", "type": "sysfs"},
            {"destination": "/sys/fs/cgroup", "type": "cgroup"},
            {"destination": "/dev/shm", "type": "tmpfs", "options": ["size=64m"]},
        ]);
        value["linux"]["maskedPaths"] = serde_json::json!(["/proc/kcore", "/sys/firmware"]);
        change(value);
    })
    .unwrap()
}

/// The trees of the default that fit a plan that differs.
fn fitting(change: impl FnOnce(&mut serde_json::Value)) -> Vec<&'static str> {
    let staged = stageable(&docker_like(|_| {}), true);
    let wanted = docker_like(change);
    TREES.iter().filter_map(|at| Tree::of(&staged, at)).filter(|tree| tree.fits(&wanted)).map(|tree| tree.at).collect()
}

fn push(value: &mut serde_json::Value, mount: serde_json::Value) {
    value["mounts"].as_array_mut().unwrap().push(mount);
}

#[test]
fn what_is_asked_for_exactly_fits() {
    assert_eq!(fitting(|_| {}), ["/proc", "/dev", "/sys"]);
    let volume = serde_json::json!({"destination": "/data", "source": "/x", "options": ["bind"]});
    assert_eq!(fitting(|value| push(value, volume)), ["/proc", "/dev", "/sys"]);
    let inside = serde_json::json!({"destination": "/dev/data", "source": "/x", "options": ["bind"]});
    assert_eq!(fitting(|value| push(value, inside)), ["/proc", "/dev", "/sys"]);
}

#[test]
fn what_differs_is_made_anew() {
    assert_eq!(fitting(|value| value["mounts"][5]["options"][0] = "size=1g".into()), ["/proc", "/sys"]);
    assert_eq!(fitting(|value| value["linux"]["maskedPaths"] = serde_json::json!(["/sys/firmware"])), ["/dev", "/sys"]);
    let network = serde_json::json!([{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}]);
    assert_eq!(fitting(|value| value["linux"]["namespaces"] = network), ["/proc", "/dev"]);
    let over = serde_json::json!({"destination": "/proc/kcore", "source": "/x", "options": ["bind"]});
    assert_eq!(fitting(|value| push(value, over)), ["/dev", "/sys"]);
    let device = serde_json::json!([{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]);
    assert_eq!(fitting(|value| value["linux"]["devices"] = device), ["/proc", "/sys"]);
    let hidden = serde_json::json!({"destination": "/sys/../dev/pts", "source": "/x", "options": ["bind"]});
    assert!(fitting(|value| push(value, hidden)).is_empty());
}

#[test]
fn the_callers_cgroups_are_staged_for_who_stays_in_them() {
    let in_namespace = |value: &mut serde_json::Value| {
        let types = ["mount", "pid", "ipc", "network", "cgroup"];
        value["linux"]["namespaces"] = types.map(|kind| serde_json::json!({"type": kind})).to_vec().into();
    };
    let staged = stageable(&docker_like(|_| {}), true);
    assert!(Tree::of(&staged, "/sys").unwrap().shows_cgroups());
    assert!(!Tree::of(&stageable(&docker_like(in_namespace), true), "/sys").unwrap().shows_cgroups());
    assert_eq!(fitting(in_namespace), ["/proc", "/dev"]);
    let trees = TREES.iter().filter_map(|at| Tree::of(&staged, at)).collect();
    let stage = Stage { trees, built: 3, sysctls: BTreeMap::new(), proc: Proc::default() };
    let left = stage.without_cgroups();
    assert_eq!(left.trees.iter().map(|tree| tree.at).collect::<Vec<_>>(), ["/proc", "/dev"]);
}

#[test]
fn cgroups_and_binds_are_not_staged() {
    let plan = stageable(&docker_like(|_| {}), false);
    assert!(plan.mounts.iter().all(|mount| matches!(mount.kind, MountKind::FileSystem { .. })));
    assert_eq!(plan.namespaces.pid, NamespaceSource::New);
}
