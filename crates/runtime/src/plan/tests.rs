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
        [
            Source { path: "/x".into(), recursive: false, id_map: None },
            Source { path: "/y".into(), recursive: true, id_map: None },
        ]
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
    let sets = plan.process.capabilities;
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
        ("/linux/timeOffsets", serde_json::json!({"boottime": {"secs": 1}})),
        ("/process/rlimits", {
            let limit = serde_json::json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
            serde_json::json!([limit, limit])
        }),
        ("/linux/personality", serde_json::json!({"domain": "LINUX", "flags": ["x"]})),
        ("/linux/rootfsPropagation", serde_json::json!("sideways")),
        ("/linux/namespaces", serde_json::json!([{"type": "mount"}, {"type": "user"}])),
        ("/linux/namespaces", serde_json::json!([{"type": "mount"}, {"type": "pid"}, {"type": "pid"}])),
        ("/linux/namespaces", serde_json::json!([{"type": "pid"}])),
        ("/mounts", serde_json::json!([{"destination": "/a", "source": "/b", "options": ["bind", "idmap"]}])),
    ] {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let result = planned(|spec| spec.pointer_mut(parent).unwrap()[key] = value);
        assert!(result.is_err(), "{path}");
    }
}

/// What the runtime spec leaves to the host, or allows to be refused, with the words for it.
#[test]
fn what_is_not_supported_is_named() {
    let map = serde_json::json!([{"hostID": 1, "containerID": 0, "size": 1}]);
    let idmapped = serde_json::json!([{"destination": "/a", "type": "tmpfs", "uidMappings": map, "gidMappings": map}]);
    for (path, value, text) in [
        ("/mounts", idmapped, "an id-mapped mount that is not a bind is not supported"),
        (
            "/linux/namespaces",
            serde_json::json!([{"type": "pid"}]),
            "a container without a mount namespace of its own is not supported",
        ),
        ("/linux/netDevices", serde_json::json!({"eth0": {}}), "a network device is not supported"),
        (
            "/mounts",
            serde_json::json!([{"destination": "/c", "type": "cgroup2", "source": "cgroup"}]),
            "mounting cgroup2 without a cgroup namespace on a host with v1 controllers is not supported",
        ),
        ("/linux/intelRdt", serde_json::json!({"closID": "x"}), "an Intel RDT setting is not supported"),
    ] {
        let (parent, key) = path.rsplit_once('/').unwrap();
        let error = planned(|spec| spec.pointer_mut(parent).unwrap()[key] = value).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.kind()), (text, ErrorKind::NotImplemented));
    }
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
    let on_host = |key: &str| {
        let refused = planned(|value| {
            value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}]);
            value["linux"]["sysctl"] = serde_json::json!({key: "1"});
        });
        refused.unwrap_err().to_string()
    };
    // runc 1.3's texts.
    assert_eq!(on_host("net.a"), "sysctl \"net.a\" not allowed in host network namespace");
    assert_eq!(on_host("kernel.shmmax"), "sysctl \"kernel.shmmax\" is not allowed in the hosts ipc namespace");
    assert_eq!(on_host("vm.swappiness"), "sysctl \"vm.swappiness\" is not in a separate kernel namespace");
    assert_eq!(
        on_host("kernel.hostname"),
        "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field"
    );
}

#[test]
fn a_seccomp_profile_is_never_forgotten() {
    let result = planned(|value| value["linux"]["seccomp"] = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    assert!(matches!(result, Err(Error::Missing(_))));
}

#[test]
fn a_user_namespace_binds_devices_and_maps_mounts() {
    let change = |value: &mut serde_json::Value| {
        let map = serde_json::json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
        value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "user"}]);
        (value["linux"]["uidMappings"], value["linux"]["gidMappings"]) = (map.clone(), map);
        value["mounts"] = serde_json::json!([{"destination": "/a", "source": "/x", "options": ["bind", "ridmap"]}]);
    };
    let plan = planned(change).unwrap();
    assert!(plan.devices.is_empty());
    let sources = plan.sources();
    assert_eq!((sources.len(), sources[1].path.as_str()), (7, "/dev/null"));
    let map = sources[0].id_map.as_ref().unwrap();
    assert!(map.recursive && map.map.uid_lines() == "0 1000 10\n");
    let unmapped = planned(|value| {
        change(value);
        value["process"]["user"] = serde_json::json!({"uid": 10, "gid": 0});
    });
    assert!(unmapped.is_err());
}

#[test]
fn the_hosts_unified_hierarchy_is_bound() {
    let planned_on = |unified_cgroup, own: bool| {
        let spec = spec(|value| {
            value["mounts"] = serde_json::json!([{"destination": "/sys/fs/cgroup", "type": "cgroup"}]);
            if own {
                value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "cgroup"}]);
            }
        });
        plan(&spec, &Facts { unified_cgroup, ..Facts::default() }).unwrap().mounts.remove(0).kind
    };
    assert!(matches!(planned_on(true, false), MountKind::Bind { path, .. } if path == "/sys/fs/cgroup"));
    assert_eq!(planned_on(true, true), MountKind::CgroupV2);
    assert_eq!((planned_on(false, true), planned_on(false, false)), (MountKind::CgroupV1, MountKind::CgroupV1));
}

#[test]
fn labels_go_to_the_containers_own_file_systems() {
    let plan = planned(|value| {
        value["linux"]["mountLabel"] = "label".into();
        value["mounts"] = serde_json::json!([
            {"destination": "/proc", "type": "proc"}, {"destination": "/t", "type": "tmpfs"},
            {"destination": "/own", "type": "tmpfs", "options": ["context=other"]},
        ]);
    })
    .unwrap();
    let labels = |mount: &MountPlan| match &mount.kind {
        MountKind::FileSystem { options, .. } => options.clone(),
        _ => Vec::new(),
    };
    let labels: Vec<_> = plan.mounts.iter().map(labels).collect();
    let context = |label: &str| vec![("context".to_owned(), Some(label.to_owned()))];
    assert_eq!(labels, [vec![], context("label"), context("other")]);
}

#[test]
fn an_older_plan_lives_in_the_hosts_user_and_time_namespaces() {
    let mut value = serde_json::to_value(planned(|_| {}).unwrap()).unwrap();
    for name in ["user", "time", "mount"] {
        value["namespaces"].as_object_mut().unwrap().remove(name);
    }
    value["process"].as_object_mut().unwrap().remove("enters");
    value.as_object_mut().unwrap().remove("root_propagation_recursive");
    let plan: Plan = serde_json::from_value(value).unwrap();
    assert_eq!((plan.namespaces.user, plan.namespaces.time), (NamespaceSource::Host, NamespaceSource::Host));
    assert_eq!(plan.namespaces.mount, NamespaceSource::New);
}

#[test]
fn execs_enter_what_the_container_has() {
    let spec = spec(|value| {
        value["linux"]["namespaces"] = serde_json::json!([{"type": "mount"}, {"type": "time"}]);
        value["linux"]["personality"] = serde_json::json!({"domain": "LINUX32"});
        value["process"]["execCPUAffinity"] = serde_json::json!({"initial": "0", "final": "0"});
    });
    let plan = exec_plan(&spec, spec.process().as_ref().unwrap(), None).unwrap();
    assert_eq!(plan.enters, EnteredNamespaces { user: false, time: true });
    assert_eq!((plan.personality, plan.affinity.unwrap().last), (Some(8), vec![0]));
}
