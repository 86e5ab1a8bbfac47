//! The whole document, put together from the parts.

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{
    BoxBuilder, Linux, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType, PosixRlimit, PosixRlimitBuilder,
    PosixRlimitType, Process, Root, Spec, User,
};

use crate::caps::CapSet;
use crate::mounts::INIT_PATH;
use crate::user::ResolvedUser;
use crate::{Error, HostFacts, Namespace, Rlimit, Settings, caps, devices, mounts, resources, seccomp};

/// The version of the runtime-spec that the document follows.
const VERSION: &str = "1.2.1";

/// Paths that are hidden from a container that is not privileged, besides each CPU's `thermal_throttle`.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths that such a container may only read.
pub const READONLY_PATHS: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Sysctls of a new network namespace: capabilities for them are granted anyway, so nobody needs root to ping or to listen
/// on port 80.
pub(crate) const NETWORK_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ping_group_range", "0 2147483647"), ("net.ipv4.ip_unprivileged_port_start", "0")];

/// The OCI document for a container with these settings on this host.
pub fn to_oci(settings: &Settings, host: &HostFacts) -> Result<Spec, Error> {
    let caps = caps::effective(&settings.cap_add, &settings.cap_drop, settings.privileged, host)?;
    let (mounts, propagation) = mounts::mounts(settings, host)?;
    let mut linux = linux(settings, host, caps)?;
    linux.set_rootfs_propagation(propagation.map(|propagation| propagation.as_str().to_owned()));

    let mut root = Root::default();
    root.set_path(settings.rootfs.clone());
    root.set_readonly(settings.readonly_rootfs.then_some(true));

    let own_uts = settings.namespaces.uts != Namespace::Host;
    let name = |text: &String| (own_uts && !text.is_empty()).then(|| text.clone());
    let mut spec = Spec::default();
    spec.set_version(VERSION.to_owned())
        .set_root(Some(root))
        .set_process(Some(process(settings, host, caps)?))
        .set_hostname(name(&settings.hostname))
        .set_domainname(name(&settings.domainname))
        .set_mounts(Some(mounts))
        .set_hooks(None)
        .set_linux(Some(linux));
    if !settings.annotations.is_empty() {
        spec.set_annotations(Some(settings.annotations.clone().into_iter().collect()));
    }
    Ok(spec)
}

fn process(settings: &Settings, host: &HostFacts, caps: CapSet) -> Result<Process, Error> {
    let mut process = Process::default();
    process
        .set_args(Some(args(settings)))
        .set_env(Some(settings.env.clone()))
        .set_cwd(PathBuf::from(if settings.cwd.is_empty() { "/" } else { &settings.cwd }))
        .set_user(user(&settings.user, settings.umask))
        .set_terminal(settings.tty.then_some(true))
        .set_console_size(settings.console_size.filter(|_| settings.tty).map(console_size).transpose()?)
        .set_capabilities(Some(caps.to_oci()?))
        .set_rlimits(Some(settings.rlimits.iter().map(rlimit).collect::<Result<_, _>>()?))
        .set_no_new_privileges(Some(settings.no_new_privileges))
        .set_apparmor_profile(apparmor(settings, host))
        .set_selinux_label(settings.selinux_label.clone())
        .set_oom_score_adj(Some(settings.oom_score_adj));
    Ok(process)
}

/// As Docker decides; where its default profile is not loaded, which Docker would do, a container has none.
fn apparmor(settings: &Settings, host: &HostFacts) -> Option<String> {
    let profile = match &settings.apparmor {
        _ if !host.apparmor => return None,
        Some(profile) => profile,
        None if settings.privileged => "unconfined",
        None if host.default_profile => "docker-default",
        None => return None,
    };
    Some(profile.to_owned())
}

fn args(settings: &Settings) -> Vec<String> {
    let mut args = Vec::new();
    // Only the first process of a PID namespace inherits orphans.
    if settings.init.is_some() && settings.namespaces.pid == Namespace::New {
        args.extend([INIT_PATH.to_owned(), "--".to_owned()]);
    }
    args.extend_from_slice(&settings.args);
    args
}

pub(crate) fn user(user: &ResolvedUser, umask: Option<u32>) -> User {
    let mut oci = User::default();
    oci.set_uid(user.uid);
    oci.set_gid(user.gid);
    oci.set_umask(umask);
    oci.set_additional_gids((!user.groups.is_empty()).then(|| user.groups.clone()));
    oci
}

pub(crate) fn console_size((height, width): (u64, u64)) -> Result<oci_spec::runtime::Box, Error> {
    Ok(BoxBuilder::default().height(height).width(width).build()?)
}

fn rlimit(limit: &Rlimit) -> Result<PosixRlimit, Error> {
    let unknown = || Error::Rlimit(limit.name.clone());
    let kind: PosixRlimitType = format!("RLIMIT_{}", limit.name.to_uppercase()).parse().map_err(|_| unknown())?;
    // -1 is RLIM_INFINITY in the kernel's two's complement.
    Ok(PosixRlimitBuilder::default().typ(kind).hard(limit.hard as u64).soft(limit.soft as u64).build()?)
}

fn linux(settings: &Settings, host: &HostFacts, caps: CapSet) -> Result<Linux, Error> {
    let mut limits = resources(&settings.resources)?;
    limits.set_devices(Some(devices::rules(settings)?));
    let mut linux = Linux::default();
    linux
        .set_namespaces(Some(namespaces(settings)?))
        .set_devices(Some(devices::nodes(settings, host)?))
        .set_resources(Some(limits))
        .set_cgroups_path(Some(PathBuf::from(&settings.cgroup_path)))
        .set_sysctl(Some(sysctls(settings, host)))
        .set_seccomp(seccomp::for_container(settings, caps, host)?)
        .set_mount_label(settings.mount_label.clone())
        .set_masked_paths(Some(paths(&settings.masked_paths, settings.privileged, || masked(host))))
        .set_readonly_paths(Some(paths(&settings.readonly_paths, settings.privileged, || {
            READONLY_PATHS.map(str::to_owned).to_vec()
        })));
    Ok(linux)
}

fn paths(chosen: &Option<Vec<String>>, privileged: bool, default: impl FnOnce() -> Vec<String>) -> Vec<String> {
    match chosen {
        Some(paths) => paths.clone(),
        None if privileged => Vec::new(),
        None => default(),
    }
}

fn masked(host: &HostFacts) -> Vec<String> {
    MASKED_PATHS.iter().map(|path| (*path).to_owned()).chain(host.thermal_throttle.iter().cloned()).collect()
}

fn sysctls(settings: &Settings, host: &HostFacts) -> HashMap<String, String> {
    let own_network = settings.namespaces.network == Namespace::New;
    let known = |name: &str| host.default_sysctls.iter().any(|it| it == name);
    let defaults = NETWORK_SYSCTLS.iter().filter(|(name, _)| own_network && known(name));
    defaults.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).chain(settings.sysctls.clone()).collect()
}

fn namespaces(settings: &Settings) -> Result<Vec<LinuxNamespace>, Error> {
    let wanted = &settings.namespaces;
    let kinds = [
        (LinuxNamespaceType::Mount, &Namespace::New, "mnt"),
        (LinuxNamespaceType::Network, &wanted.network, "net"),
        (LinuxNamespaceType::Uts, &wanted.uts, "uts"),
        (LinuxNamespaceType::Pid, &wanted.pid, "pid"),
        (LinuxNamespaceType::Ipc, &wanted.ipc, "ipc"),
        (LinuxNamespaceType::Cgroup, &wanted.cgroup, "cgroup"),
    ];
    let mut namespaces = Vec::new();
    for (kind, source, file) in kinds {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        namespaces.push(match source {
            Namespace::Host => continue,
            Namespace::New => builder.build()?,
            Namespace::Join(path) => builder.path(path).build()?,
            Namespace::JoinPid(pid) => builder.path(format!("/proc/{pid}/ns/{file}")).build()?,
        });
    }
    Ok(namespaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeccompChoice;

    fn host() -> HostFacts {
        HostFacts {
            machine: "x86_64".into(),
            kernel: (6, 1),
            last_capability: 40,
            bounding: !0,
            default_sysctls: NETWORK_SYSCTLS.map(|(name, _)| name.to_owned()).to_vec(),
            thermal_throttle: vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()],
            recursive_readonly: true,
            seccomp: true,
            ..HostFacts::default()
        }
    }

    fn json(settings: &Settings) -> serde_json::Value {
        serde_json::to_value(to_oci(settings, &host()).unwrap()).unwrap()
    }

    #[test]
    fn a_plain_container() {
        let spec = json(&Settings {
            args: vec!["sh".into()],
            hostname: "box".into(),
            rootfs: "rootfs".into(),
            user: ResolvedUser::root(),
            ..Settings::default()
        });
        assert_eq!(spec["process"]["cwd"], "/");
        assert_eq!(spec["process"]["args"], serde_json::json!(["sh"]));
        assert_eq!(spec["process"]["user"], serde_json::json!({"uid": 0, "gid": 0, "additionalGids": [0]}));
        assert_eq!(spec["process"]["capabilities"]["bounding"].as_array().unwrap().len(), 14);
        assert_eq!(spec["process"]["capabilities"]["inheritable"].as_array().unwrap().len(), 0);
        assert_eq!(spec["hostname"], "box");
        let linux = &spec["linux"];
        assert_eq!(linux["maskedPaths"].as_array().unwrap().len(), 13);
        assert_eq!(linux["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
        assert_eq!(linux["resources"]["devices"].as_array().unwrap().len(), 8);
        assert_eq!(linux["namespaces"].as_array().unwrap().len(), 6);
        assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert!(spec.get("hooks").is_none() && linux.get("rootfsPropagation").is_none());
    }

    #[test]
    fn privileged_lifts_masks_filter_and_limits() {
        let spec = json(&Settings { privileged: true, ..Settings::default() });
        assert_eq!(spec["linux"]["maskedPaths"], serde_json::json!([]));
        assert_eq!(spec["linux"]["readonlyPaths"], serde_json::json!([]));
        assert!(spec["linux"].get("seccomp").is_none());
        assert_eq!(spec["process"]["capabilities"]["effective"].as_array().unwrap().len(), 41);
        let spec = json(&Settings { privileged: true, masked_paths: Some(vec!["/x".into()]), ..Settings::default() });
        assert_eq!(spec["linux"]["maskedPaths"], serde_json::json!(["/x"]));
    }

    #[test]
    fn host_and_joined_namespaces() {
        let mut settings = Settings { hostname: "box".into(), ..Settings::default() };
        settings.namespaces.network = Namespace::JoinPid(7);
        settings.namespaces.uts = Namespace::Host;
        settings.namespaces.pid = Namespace::Join("/proc/8/ns/pid".into());
        settings.namespaces.cgroup = Namespace::Host;
        settings.init = Some("/usr/bin/corten".into());
        let spec = json(&settings);
        assert_eq!(
            spec["linux"]["namespaces"],
            serde_json::json!([
                {"type": "mount"}, {"type": "network", "path": "/proc/7/ns/net"},
                {"type": "pid", "path": "/proc/8/ns/pid"}, {"type": "ipc"},
            ])
        );
        assert!(spec.get("hostname").is_none());
        assert_eq!(spec["linux"]["sysctl"], serde_json::json!({}));
        assert_eq!(spec["process"]["args"], serde_json::json!([]), "no init below another one");
    }

    #[test]
    fn init_goes_first() {
        let settings = Settings { args: vec!["sh".into()], init: Some("/i".into()), ..Settings::default() };
        let spec = json(&settings);
        assert_eq!(spec["process"]["args"], serde_json::json!(["/sbin/docker-init", "--", "sh"]));
        assert_eq!(spec["mounts"].as_array().unwrap().last().unwrap()["destination"], "/sbin/docker-init");
    }

    #[test]
    fn profiles_of_apparmor() {
        let check = |asked: Option<&str>, privileged, (apparmor, default_profile), expected: Option<&str>| {
            let settings = Settings { apparmor: asked.map(str::to_owned), privileged, ..Settings::default() };
            let spec = to_oci(&settings, &HostFacts { apparmor, default_profile, ..host() }).unwrap();
            assert_eq!(spec.process().as_ref().unwrap().apparmor_profile().as_deref(), expected);
        };
        check(Some("mine"), false, (false, false), None);
        check(Some("mine"), true, (true, true), Some("mine"));
        check(Some("unconfined"), false, (true, true), Some("unconfined"));
        check(None, true, (true, true), Some("unconfined"));
        check(None, false, (true, true), Some("docker-default"));
        check(None, false, (true, false), None);
    }

    #[test]
    fn rlimits_and_their_names() {
        let limit = |name: &str, soft| Rlimit { name: name.into(), soft, hard: -1 };
        let spec = json(&Settings { rlimits: vec![limit("nofile", 1024)], ..Settings::default() });
        assert_eq!(
            spec["process"]["rlimits"],
            serde_json::json!([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": u64::MAX}])
        );
        let settings = Settings { rlimits: vec![limit("bogus", 1)], ..Settings::default() };
        assert_eq!(to_oci(&settings, &host()).unwrap_err().to_string(), "invalid ulimit type: bogus");
    }

    #[test]
    fn seccomp_choices() {
        let unconfined = Settings { seccomp: SeccompChoice::Unconfined, ..Settings::default() };
        assert!(json(&unconfined)["linux"].get("seccomp").is_none());
        let own = SeccompChoice::Profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#.into());
        let spec = json(&Settings { seccomp: own.clone(), privileged: true, ..Settings::default() });
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ALLOW");
        let without = HostFacts { seccomp: false, ..host() };
        assert!(to_oci(&Settings::default(), &without).unwrap().linux().as_ref().unwrap().seccomp().is_none());
        assert!(to_oci(&Settings { seccomp: own, ..Settings::default() }, &without).is_err());
    }
}
