//! An OCI runtime spec becomes a plan.

use std::collections::BTreeMap;
use std::path::Path;

use corten_sys::limits::Resource;
use oci_spec::runtime::{
    Hooks, Linux, LinuxDevice, LinuxDeviceType, LinuxNamespace, LinuxNamespaceType, Mount, Process, Spec,
};

use super::{
    DevicePlan, Error, Facts, MountKind, MountPlan, NamespaceSource, Namespaces, Plan, ProcessPlan, Propagation,
    RlimitPlan, SeccompProgram, capability, options,
};

/// The longest filter that seccomp(2) takes.
const MAX_FILTER: usize = 4096;
/// SECCOMP_FILTER_FLAG_NEW_LISTENER.
const NEW_LISTENER: u64 = 1 << 3;
/// S_IFCHR.
const CHARACTER: u32 = 0o020_000;
/// S_IFBLK.
const BLOCK: u32 = 0o060_000;
/// S_IFIFO.
const FIFO: u32 = 0o010_000;

/// Decides everything that a start of `spec` does. Pure.
pub fn plan(spec: &Spec, facts: &Facts) -> Result<Plan, Error> {
    let linux = spec.linux().as_ref().ok_or(Error::Missing("linux section"))?;
    let process = spec.process().as_ref().ok_or(Error::Missing("process"))?;
    refuse_unsupported(spec, linux)?;
    if linux.seccomp().is_some() && facts.seccomp.is_none() {
        // A profile that is forgotten on the way must not become no profile.
        return Err(Error::Missing("compiled seccomp filter"));
    }
    let namespaces = namespaces(linux.namespaces().as_deref().unwrap_or_default())?;
    let sysctls = linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    check_sysctls(&sysctls, &namespaces)?;
    let mounts = mounts(spec.mounts().as_deref().unwrap_or_default(), facts)?;
    let setup_dev = needs_dev(&mounts);
    Ok(Plan {
        namespaces,
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        root_propagation: root_propagation(linux.rootfs_propagation().as_deref())?,
        devices: devices(linux.devices().as_deref().unwrap_or_default(), setup_dev)?,
        setup_dev,
        mounts,
        sysctls,
        masked_paths: absolute(linux.masked_paths().as_deref(), "masked path")?,
        readonly_paths: absolute(linux.readonly_paths().as_deref(), "read-only path")?,
        process: process_plan(process, facts.seccomp.clone())?,
    })
}

/// What this runtime does not do yet is refused instead of being left out silently.
fn refuse_unsupported(spec: &Spec, linux: &Linux) -> Result<(), Error> {
    let refuse = |what: &str, there: bool| if there { Err(Error::Unsupported(what.into())) } else { Ok(()) };
    let mapped = |mappings: &Option<Vec<_>>| mappings.as_ref().is_some_and(|list| !list.is_empty());
    refuse("a user namespace mapping", mapped(linux.uid_mappings()) || mapped(linux.gid_mappings()))?;
    refuse("an OCI hook", spec.hooks().as_ref().is_some_and(has_hooks))?;
    refuse("a personality", linux.personality().is_some())?;
    refuse("a time offset", linux.time_offsets().as_ref().is_some_and(|offsets| !offsets.is_empty()))?;
    refuse("an Intel RDT setting", linux.intel_rdt().is_some())?;
    refuse("a memory policy", linux.memory_policy().is_some())?;
    refuse("a network device", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()))?;
    if let Some(process) = spec.process() {
        refuse("a scheduler setting", process.scheduler().is_some())?;
        refuse("an I/O priority", process.io_priority().is_some())?;
        refuse("a CPU affinity for execs", process.exec_cpu_affinity().is_some())?;
    }
    refuse("a mount label", linux.mount_label().as_ref().is_some_and(|label| !label.is_empty()))
}

fn has_hooks(hooks: &Hooks) -> bool {
    let lists = [
        hooks.prestart(),
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.start_container(),
        hooks.poststart(),
        hooks.poststop(),
    ];
    lists.into_iter().flatten().any(|list| !list.is_empty())
}

/// A container may only set what is its own: everything else would change the host.
fn check_sysctls(sysctls: &BTreeMap<String, String>, namespaces: &Namespaces) -> Result<(), Error> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for key in sysctls.keys() {
        let dotted = key.replace('/', ".");
        let slashes = key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/');
        let name = if slashes { &dotted } else { key };
        let own = |source: &NamespaceSource| *source != NamespaceSource::Host;
        let allowed = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
            own(&namespaces.ipc)
        } else if name.starts_with("net.") {
            own(&namespaces.network)
        } else {
            name == "kernel.domainname" && own(&namespaces.uts)
        };
        if !allowed || name.contains("..") {
            return Err(Error::Sysctl(key.clone()));
        }
    }
    Ok(())
}

fn namespaces(list: &[LinuxNamespace]) -> Result<Namespaces, Error> {
    let find = |kind| {
        let found = list.iter().find(|namespace| namespace.typ() == kind);
        match found.map(|namespace| namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty())) {
            None => Ok(NamespaceSource::Host),
            Some(None) => Ok(NamespaceSource::New),
            Some(Some(path)) => text(path, "namespace path").map(NamespaceSource::Join),
        }
    };
    if find(LinuxNamespaceType::User)? != NamespaceSource::Host {
        return Err(Error::Unsupported("a user namespace".into()));
    }
    if find(LinuxNamespaceType::Mount)? != NamespaceSource::New {
        return Err(Error::Unsupported("a container without a mount namespace of its own".into()));
    }
    Ok(Namespaces {
        pid: find(LinuxNamespaceType::Pid)?,
        network: find(LinuxNamespaceType::Network)?,
        ipc: find(LinuxNamespaceType::Ipc)?,
        uts: find(LinuxNamespaceType::Uts)?,
        cgroup: find(LinuxNamespaceType::Cgroup)?,
    })
}

fn root_propagation(word: Option<&str>) -> Result<Option<Propagation>, Error> {
    match word {
        None | Some("") => Ok(None),
        Some("private" | "rprivate") => Ok(Some(Propagation::Private)),
        Some("shared" | "rshared") => Ok(Some(Propagation::Shared)),
        Some("slave" | "rslave") => Ok(Some(Propagation::Slave)),
        Some("unbindable" | "runbindable") => Ok(Some(Propagation::Unbindable)),
        Some(other) => Err(Error::Invalid { what: "rootfsPropagation", value: other.into() }),
    }
}

fn mounts(list: &[Mount], facts: &Facts) -> Result<Vec<MountPlan>, Error> {
    let mut next_source = 0;
    list.iter().map(|mount| mount_plan(mount, facts, &mut next_source)).collect()
}

fn mount_plan(mount: &Mount, facts: &Facts, next_source: &mut usize) -> Result<MountPlan, Error> {
    let destination = text(mount.destination(), "mount destination")?;
    if !destination.starts_with('/') || destination.contains('\0') {
        return Err(Error::Invalid { what: "mount destination", value: destination });
    }
    if mount.uid_mappings().is_some() || mount.gid_mappings().is_some() {
        return Err(Error::Unsupported("an id-mapped mount".into()));
    }
    let sorted = options::parse(mount.options().as_deref().unwrap_or_default());
    let fstype = mount.typ().clone().unwrap_or_default();
    let source = mount.source().as_deref().map(|path| text(path, "mount source")).transpose()?.unwrap_or_default();
    let kind = if sorted.bind || fstype == "bind" {
        *next_source += 1;
        MountKind::Bind { source: *next_source - 1, path: source, recursive: sorted.recursive }
    } else {
        match (fstype.as_str(), facts.unified_cgroup) {
            ("", _) => return Err(Error::Invalid { what: "mount type", value: fstype }),
            ("cgroup", false) => MountKind::CgroupV1,
            ("cgroup" | "cgroup2", _) => MountKind::CgroupV2,
            _ => MountKind::FileSystem { fstype, source, options: sorted.file_system },
        }
    };
    Ok(MountPlan {
        destination,
        kind,
        set: sorted.set,
        clear: sorted.clear,
        set_recursive: sorted.set_recursive,
        clear_recursive: sorted.clear_recursive,
        propagation: sorted.propagation,
        copy_up: sorted.copy_up,
    })
}

/// A `/dev` that is a bind of somebody else's directory is left as it is.
fn needs_dev(mounts: &[MountPlan]) -> bool {
    let own = |mount: &MountPlan| !matches!(mount.kind, MountKind::Bind { .. });
    mounts.iter().rev().find(|mount| mount.destination.trim_end_matches('/') == "/dev").is_none_or(own)
}

fn devices(list: &[LinuxDevice], setup_dev: bool) -> Result<Vec<DevicePlan>, Error> {
    let mut devices = Vec::new();
    if setup_dev {
        devices.extend(
            default_devices()
                .into_iter()
                .filter(|default| !list.iter().any(|device| device.path().as_path() == Path::new(&default.path))),
        );
        for device in list {
            devices.push(device_plan(device)?);
        }
    }
    Ok(devices)
}

/// The nodes that the runtime spec names as default devices; console and ptmx come with the terminal.
fn default_devices() -> Vec<DevicePlan> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| DevicePlan {
            path: format!("/dev/{name}"),
            mode: CHARACTER | 0o666,
            major,
            minor,
            uid: 0,
            gid: 0,
        })
        .collect()
}

fn device_plan(device: &LinuxDevice) -> Result<DevicePlan, Error> {
    let path = text(device.path(), "device path")?;
    let invalid = |value: i64| Error::Invalid { what: "device number", value: value.to_string() };
    let kind = match device.typ() {
        LinuxDeviceType::C | LinuxDeviceType::U => CHARACTER,
        LinuxDeviceType::B => BLOCK,
        LinuxDeviceType::P => FIFO,
        LinuxDeviceType::A => return Err(Error::Invalid { what: "device type", value: path }),
    };
    Ok(DevicePlan {
        mode: kind | device.file_mode().unwrap_or(0o666) & 0o7777,
        major: u32::try_from(device.major()).map_err(|_| invalid(device.major()))?,
        minor: u32::try_from(device.minor()).map_err(|_| invalid(device.minor()))?,
        uid: device.uid().unwrap_or(0),
        gid: device.gid().unwrap_or(0),
        path,
    })
}

fn absolute(list: Option<&[String]>, what: &'static str) -> Result<Vec<String>, Error> {
    let list = list.unwrap_or_default();
    match list.iter().find(|path| !path.starts_with('/')) {
        Some(path) => Err(Error::Invalid { what, value: path.clone() }),
        None => Ok(list.to_vec()),
    }
}

/// Decides everything about one process: the container's first, or an exec's. Pure.
pub fn process_plan(process: &Process, seccomp: Option<SeccompProgram>) -> Result<ProcessPlan, Error> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(Error::Missing("command"));
    }
    let env = process.env().clone().unwrap_or_default();
    if let Some(bad) = args.iter().chain(&env).find(|text| text.contains('\0')) {
        return Err(Error::Invalid { what: "argument or environment", value: bad.clone() });
    }
    if let Some(program) = seccomp.as_ref().filter(|program| program.filter.len() > MAX_FILTER) {
        return Err(Error::FilterTooLong(program.filter.len()));
    }
    if seccomp.as_ref().is_some_and(|program| program.flags & NEW_LISTENER != 0) {
        return Err(Error::Unsupported("a seccomp listener".into()));
    }
    let cwd = text(process.cwd(), "working directory")?;
    if !cwd.starts_with('/') || cwd.contains('\0') {
        return Err(Error::Invalid { what: "working directory", value: cwd });
    }
    let size = process.console_size().filter(|size| size.width() > 0 && size.height() > 0);
    Ok(ProcessPlan {
        args,
        env,
        cwd,
        terminal: process.terminal().unwrap_or(false),
        terminal_size: size.map(|size| (clamp(size.width()), clamp(size.height()))),
        uid: process.user().uid(),
        gid: process.user().gid(),
        groups: process.user().additional_gids().clone().unwrap_or_default(),
        umask: process.user().umask(),
        capabilities: process.capabilities().as_ref().map(capability::plan),
        rlimits: rlimits(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
        selinux_label: process.selinux_label().clone().filter(|label| !label.is_empty()),
        seccomp,
    })
}

fn clamp(cells: u64) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

fn rlimits(process: &Process) -> Result<Vec<RlimitPlan>, Error> {
    let list = process.rlimits().as_deref().unwrap_or_default();
    list.iter()
        .map(|limit| {
            let name = limit.typ().to_string();
            let resource =
                Resource::parse(&name).ok_or_else(|| Error::Invalid { what: "rlimit", value: name.clone() })?;
            if limit.soft() > limit.hard() {
                return Err(Error::Invalid { what: "rlimit (soft above hard)", value: name });
            }
            Ok(RlimitPlan { resource: resource.0, soft: limit.soft(), hard: limit.hard() })
        })
        .collect()
}

fn text(path: &Path, what: &'static str) -> Result<String, Error> {
    let invalid = || Error::Invalid { what, value: path.display().to_string() };
    path.to_str().map(str::to_owned).ok_or_else(invalid)
}
