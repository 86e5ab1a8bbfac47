//! A container's record to the settings that `spec` turns into an OCI document: pure but for looking up device nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_spec::user::ResolvedUser;
use corten_spec::{
    Access, Bind, DeviceValue, Mount, MountKind, Namespace, Namespaces, Propagation, Resources, Rlimit, SeccompChoice,
    Settings, Shm,
};

use crate::config::Config;
use crate::error::Error;
use crate::merge;
use crate::record::Record;
use crate::settings::{CgroupNs, ContainerSpec, DeviceRate, IpcMode, JoinMode, NetworkMode};
use crate::view::{Files, MountPoint};

/// What is known about a container only when it starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct StartFacts {
    /// The user, looked up in the container's own files.
    pub user: ResolvedUser,
    /// Processes whose namespaces are joined.
    pub network_pid: Option<i32>,
    pub ipc_pid: Option<i32>,
    pub pid_pid: Option<i32>,
    /// The directory that stands for another container's `/dev/shm` until the start has that itself.
    pub shared_shm: Option<PathBuf>,
    /// The program that stands before the container's, where `--init` asks for one.
    pub init: Option<PathBuf>,
    /// The host mounts cgroup v2 alone.
    pub cgroup_v2: bool,
    /// Below the hierarchy's root.
    pub cgroup_path: String,
    /// The host's name, for containers in its UTS namespace.
    pub host_name: String,
}

/// The settings of a container that is about to start.
pub(crate) fn settings(record: &Record, files: &Files, facts: StartFacts, config: &Config) -> Result<Settings, Error> {
    let spec = &record.spec;
    let security = SecurityOptions::parse(&spec.security_opt, config)?;
    let hostname = if spec.uts_host { facts.host_name.clone() } else { spec.hostname.clone() };
    let mut devices = Vec::new();
    for device in &spec.devices {
        let inside = if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
        let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
        let found = corten_spec::host::devices_at(&device.path_on_host, inside, access);
        devices.extend(found.map_err(|error| Error::Invalid(error.to_string()))?);
    }
    Ok(Settings {
        args: merge::arguments(spec),
        env: corten_spec::environment(&hostname, spec.tty, &[], &spec.env),
        cwd: spec.working_dir.clone(),
        tty: spec.tty,
        console_size: spec.console_size.map(|(height, width)| (height.into(), width.into())),
        hostname,
        domainname: spec.domainname.clone(),
        rootfs: "rootfs".into(),
        readonly_rootfs: spec.readonly_rootfs,
        privileged: spec.privileged,
        cap_add: spec.cap_add.clone(),
        cap_drop: spec.cap_drop.clone(),
        no_new_privileges: security.no_new_privileges,
        seccomp: security.seccomp,
        apparmor: security.apparmor,
        selinux_label: None,
        mount_label: None,
        rlimits: rlimits(spec, config),
        mounts: mounts(record, files)?,
        devices,
        device_cgroup_rules: spec.device_cgroup_rules.clone(),
        resources: resources(&spec.resources)?,
        sysctls: spec.sysctls.clone(),
        namespaces: namespaces(spec, &facts),
        cgroup_path: facts.cgroup_path,
        shm: shm(spec, facts.shared_shm),
        masked_paths: spec.masked_paths.clone(),
        readonly_paths: spec.readonly_paths.clone(),
        oom_score_adj: spec.oom_score_adj,
        annotations: spec.annotations.clone(),
        init: facts.init,
        user: facts.user,
        umask: None,
    })
}

/// `HOME` after the user's entry in the container, unless the environment says it: Docker leaves that to the runtime.
pub(crate) fn add_home(env: &mut Vec<String>, home: &str) {
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={home}"));
    }
}

/// `--security-opt`, read.
#[derive(Debug, Default)]
pub(crate) struct SecurityOptions {
    pub no_new_privileges: bool,
    pub seccomp: SeccompChoice,
    pub apparmor: Option<String>,
}

impl SecurityOptions {
    /// Reads the options with Docker's texts for those that aren't any.
    pub(crate) fn parse(options: &[String], config: &Config) -> Result<SecurityOptions, Error> {
        let mut found = SecurityOptions { no_new_privileges: config.no_new_privileges, ..Default::default() };
        for option in options {
            let invalid = || Error::Invalid(format!("invalid --security-opt 2: {option:?}"));
            if option == "no-new-privileges" {
                found.no_new_privileges = true;
                continue;
            }
            // A colon was the separator once, and still is where there is no equals sign.
            let (key, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .ok_or_else(|| Error::Invalid(format!("invalid --security-opt 1: {option:?}")))?;
            match key {
                "no-new-privileges" => found.no_new_privileges = parse_bool(value).ok_or_else(invalid)?,
                "seccomp" => {
                    found.seccomp = match value {
                        "unconfined" => SeccompChoice::Unconfined,
                        "builtin" => SeccompChoice::Default,
                        profile => SeccompChoice::Profile(profile.into()),
                    }
                }
                "apparmor" => found.apparmor = Some(value.into()),
                // Labels mean nothing on a host without SELinux, as Docker has it too.
                "label" | "writable-cgroups" => {}
                _ => return Err(invalid()),
            }
        }
        Ok(found)
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

fn rlimits(spec: &ContainerSpec, config: &Config) -> Vec<Rlimit> {
    let mut limits: BTreeMap<&str, Rlimit> = BTreeMap::new();
    for limit in config.default_ulimits.iter().chain(&spec.ulimits) {
        limits.insert(&limit.name, Rlimit { name: limit.name.clone(), soft: limit.soft, hard: limit.hard });
    }
    limits.into_values().collect()
}

fn mounts(record: &Record, files: &Files) -> Result<Vec<Mount>, Error> {
    let mut mounts = Vec::new();
    let own =
        [("/etc/resolv.conf", &files.resolv_conf), ("/etc/hostname", &files.hostname), ("/etc/hosts", &files.hosts)];
    for (target, source) in own {
        if !record.mounts.iter().any(|point| point.destination == target) {
            mounts.push(Mount { target: target.into(), kind: MountKind::Bind(Bind::writable(source)) });
        }
    }
    for point in record.mounts.iter() {
        mounts.push(mount(point)?);
    }
    Ok(mounts)
}

fn mount(point: &MountPoint) -> Result<Mount, Error> {
    let kind = match point.kind.as_str() {
        "tmpfs" => MountKind::Tmpfs(point.tmpfs_options.clone()),
        _ => MountKind::Bind(Bind {
            source: source(point),
            access: match (point.writable, point.read_only_depth.as_str()) {
                (true, _) => Access::ReadWrite,
                (false, "non-recursive") => Access::ReadOnlyNonRecursive,
                (false, "force-recursive") => Access::ReadOnlyForceRecursive,
                (false, _) => Access::ReadOnly,
            },
            propagation: Propagation::parse(&point.propagation)
                .ok_or_else(|| Error::Invalid(format!("invalid propagation mode: {}", point.propagation)))?,
            recursive: point.recursive,
        }),
    };
    Ok(Mount { target: point.destination.clone(), kind })
}

/// Where a mount point's content is on the host.
pub(crate) fn source(point: &MountPoint) -> PathBuf {
    let source = PathBuf::from(&point.source);
    if point.subpath.is_empty() { source } else { source.join(&point.subpath) }
}

fn namespaces(spec: &ContainerSpec, facts: &StartFacts) -> Namespaces {
    let joined = |pid: Option<i32>| pid.map_or(Namespace::New, Namespace::JoinPid);
    Namespaces {
        network: match spec.network_mode {
            NetworkMode::Host => Namespace::Host,
            _ => joined(facts.network_pid),
        },
        ipc: match spec.ipc_mode {
            IpcMode::Host => Namespace::Host,
            _ => joined(facts.ipc_pid),
        },
        pid: match spec.pid_mode {
            JoinMode::Host => Namespace::Host,
            _ => joined(facts.pid_pid),
        },
        uts: if spec.uts_host { Namespace::Host } else { Namespace::New },
        cgroup: match spec.cgroupns {
            Some(CgroupNs::Host) => Namespace::Host,
            Some(CgroupNs::Private) => Namespace::New,
            None if facts.cgroup_v2 && !spec.privileged => Namespace::New,
            None => Namespace::Host,
        },
    }
}

pub(crate) fn shm(spec: &ContainerSpec, shared: Option<PathBuf>) -> Shm {
    match (&spec.ipc_mode, shared) {
        (_, Some(directory)) => Shm::Shared(directory),
        (IpcMode::None, None) => Shm::None,
        (IpcMode::Host, None) => Shm::Shared("/dev/shm".into()),
        (_, None) if spec.shm_size > 0 => Shm::Private(spec.shm_size),
        (_, None) => Shm::Private(Shm::DEFAULT_SIZE),
    }
}

/// The client's limits in `spec`'s form: zero is "not set".
pub(crate) fn resources(limits: &crate::settings::Resources) -> Result<Resources, Error> {
    let some = |value: i64| (value != 0).then_some(value);
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value != 0);
    let text = |value: &String| (!value.is_empty()).then(|| value.clone());
    Ok(Resources {
        memory: some(limits.memory),
        memory_swap: some(limits.memory_swap),
        memory_reservation: some(limits.memory_reservation),
        memory_swappiness: limits.memory_swappiness,
        oom_kill_disable: limits.oom_kill_disable.unwrap_or_default(),
        cpu_shares: some(limits.cpu_shares),
        cpu_period: some(limits.cpu_period),
        cpu_quota: some(limits.cpu_quota),
        nano_cpus: some(limits.nano_cpus),
        cpu_realtime_period: positive(limits.cpu_realtime_period),
        cpu_realtime_runtime: some(limits.cpu_realtime_runtime),
        cpuset_cpus: text(&limits.cpuset_cpus),
        cpuset_mems: text(&limits.cpuset_mems),
        pids_limit: limits.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: (limits.blkio_weight != 0).then_some(limits.blkio_weight),
        blkio_weight_device: rates(&limits.blkio_weight_device)?,
        device_read_bps: rates(&limits.device_read_bps)?,
        device_write_bps: rates(&limits.device_write_bps)?,
        device_read_iops: rates(&limits.device_read_iops)?,
        device_write_iops: rates(&limits.device_write_iops)?,
    })
}

fn rates(rates: &[DeviceRate]) -> Result<Vec<DeviceValue>, Error> {
    let value = |rate: &DeviceRate| {
        let (major, minor) = corten_spec::host::device_number(&rate.path)
            .map_err(|error| Error::Invalid(format!("cannot use the device {:?}: {error}", rate.path)))?;
        Ok(DeviceValue { major, minor, value: rate.value })
    };
    rates.iter().map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(options: &[&str]) -> Result<SecurityOptions, String> {
        let options: Vec<String> = options.iter().map(|option| option.to_string()).collect();
        SecurityOptions::parse(&options, &Config::default()).map_err(|error| error.message())
    }

    #[test]
    fn security_options() {
        assert!(options(&["no-new-privileges"]).unwrap().no_new_privileges);
        assert!(options(&["no-new-privileges:true"]).unwrap().no_new_privileges);
        assert!(!options(&["no-new-privileges=false"]).unwrap().no_new_privileges);
        assert_eq!(options(&["seccomp=unconfined"]).unwrap().seccomp, SeccompChoice::Unconfined);
        assert_eq!(options(&["seccomp={}"]).unwrap().seccomp, SeccompChoice::Profile("{}".into()));
        assert_eq!(options(&["apparmor=mine"]).unwrap().apparmor.as_deref(), Some("mine"));
        assert_eq!(options(&["foo=bar"]).unwrap_err(), "invalid --security-opt 2: \"foo=bar\"");
        assert_eq!(options(&["foo"]).unwrap_err(), "invalid --security-opt 1: \"foo\"");
    }

    #[test]
    fn home_is_only_added() {
        let mut env = vec!["A=b".to_string()];
        add_home(&mut env, "/root");
        add_home(&mut env, "/other");
        assert_eq!(env, ["A=b", "HOME=/root"]);
    }

    #[test]
    fn later_limits_win() {
        let limit = |soft| crate::settings::Ulimit { name: "nofile".into(), soft, hard: 9 };
        let config = Config { default_ulimits: vec![limit(1)], ..Default::default() };
        let spec = ContainerSpec { ulimits: vec![limit(2)], ..Default::default() };
        assert_eq!(rlimits(&spec, &config), [Rlimit { name: "nofile".into(), soft: 2, hard: 9 }]);
    }
}
