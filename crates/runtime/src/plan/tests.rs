use oci_spec::runtime::Spec;

use super::*;

fn spec(change: impl FnOnce(&mut serde_json::Value)) -> Spec {
    let mut value = serde_json::json!({
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/"},
        "mounts": [],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}]},
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

pub(crate) fn planned(change: impl FnOnce(&mut serde_json::Value)) -> Result<Plan, Error> {
    plan(&spec(change), &Facts::default())
}

#[test]
fn namespaces_missing_from_the_list_are_the_hosts() {
    let plan = planned(|value| {
        value["linux"]["namespaces"] =
            serde_json::json!([{"type": "mount"}, {"type": "pid", "path": "/proc/7/ns/pid"}, {"type": "uts"}]);
    })
    .unwrap();
    assert_eq!(plan.namespaces.network, NamespaceSource::Host);
    assert_eq!(plan.namespaces.pid_mode(), PidNamespace::Join);
    let joins: Vec<String> = plan.joins().into_iter().map(|join| join.path).collect();
    assert_eq!(joins, ["/proc/7/ns/pid", "/proc/self/ns/net", "/proc/self/ns/ipc"]);
}

#[test]
fn bind_sources_are_numbered_in_their_order() {
    let plan = planned(|value| {
        value["mounts"] = serde_json::json!([
            {"destination": "/a", "source": "/x", "options": ["bind"]},
            {"destination": "/proc", "type": "proc"},
            {"destination": "/b", "source": "/y", "options": ["rbind", "ro"]},
        ]);
    })
    .unwrap();
    assert_eq!(
        plan.sources(),
        [Source { path: "/x".into(), recursive: false }, Source { path: "/y".into(), recursive: true },]
    );
}

#[test]
fn default_devices_come_with_an_own_dev_only() {
    assert_eq!(planned(|_| {}).unwrap().devices.len(), 6);
    let bound = planned(|value| {
        value["mounts"] = serde_json::json!([{"destination": "/dev", "source": "/dev", "options": ["rbind"]}]);
    })
    .unwrap();
    assert!(bound.devices.is_empty() && !bound.setup_dev);
}

#[test]
fn capabilities_become_masks() {
    let plan = planned(|value| {
        value["process"]["capabilities"] =
            serde_json::json!({"bounding": ["CAP_CHOWN", "CAP_SYS_ADMIN"], "effective": ["CAP_CHOWN"]});
    })
    .unwrap();
    let sets = plan.process.capabilities.unwrap();
    assert_eq!((sets.bounding, sets.effective), (1 | 1 << 21, 1));
}

#[test]
fn what_cannot_be_done_is_refused() {
    for (path, value) in [
        ("/process/args", serde_json::json!([])),
        ("/process/cwd", serde_json::json!("relative")),
        ("/linux/maskedPaths", serde_json::json!(["relative"])),
        ("/mounts", serde_json::json!([{"destination": "relative", "type": "tmpfs"}])),
        ("/linux/uidMappings", serde_json::json!([{"hostID": 1, "containerID": 0, "size": 1}])),
    ] {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let result = planned(|spec| spec.pointer_mut(parent).unwrap()[key] = value);
        assert!(result.is_err(), "{path}");
    }
}

#[test]
fn empty_lists_of_hooks_are_no_hooks() {
    let spec_with = |hooks: serde_json::Value| planned(|value| value["hooks"] = hooks);
    assert!(spec_with(serde_json::json!({"prestart": [], "poststop": []})).is_ok());
    assert!(spec_with(serde_json::json!({"poststop": [{"path": "/x"}]})).is_err());
}

#[test]
fn a_plan_survives_its_journey() {
    let plan = planned(|_| {}).unwrap();
    let bytes = serde_json::to_vec(&plan).unwrap();
    assert_eq!(serde_json::from_slice::<Plan>(&bytes).unwrap(), plan);
}

#[test]
fn only_the_containers_own_settings_are_taken() {
    let with = |key: &str| planned(|value| value["linux"]["sysctl"] = serde_json::json!({key: "1"})).is_ok();
    assert!(with("net.ipv4.ip_forward") && with("kernel.shmmax") && with("net/ipv4/conf/eth0.1/forwarding"));
    assert!(with("kernel/shmmax") && with("net/ipv4/ip_forward") && !with("kernel/printk"));
    assert!(
        !with("kernel.printk") && !with("vm.swappiness") && !with("net./../kernel.printk") && !with("kernel.hostname")
    );
    let host = planned(|value| {
        value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
        value["linux"]["sysctl"] = serde_json::json!({"net.ipv4.ip_forward": "1"});
    });
    assert!(host.is_err());
}

#[test]
fn a_seccomp_profile_is_never_forgotten() {
    let result = planned(|value| value["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert!(matches!(result, Err(Error::Missing(_))));
}
