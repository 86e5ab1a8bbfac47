//! An OCI runtime spec becomes a plan.

use std::path::Path;

use corten_sys::limits::Resource;
use oci_spec::runtime::{Linux, LinuxNamespaceType, Process, Spec};

use super::{
    EnteredNamespaces, Error, Facts, IdRange, NamespaceSource, Plan, ProcessPlan, RlimitPlan, SeccompProgram,
    capability, mounts, namespaces, scheduling,
};

/// The longest filter that seccomp(2) takes.
const MAX_FILTER: usize = 4096;

/// Decides everything that a start of `spec` does. Pure.
pub fn plan(spec: &Spec, facts: &Facts) -> Result<Plan, Error> {
    let linux = spec.linux().as_ref().ok_or(Error::Missing("linux section"))?;
    let process = spec.process().as_ref().ok_or(Error::Missing("process"))?;
    if !facts.host_side {
        refuse_host_side(linux)?;
    }
    if linux.seccomp().is_some() && facts.seccomp.is_none() {
        // A profile that is forgotten on the way must not become no profile.
        return Err(Error::Missing("compiled seccomp filter"));
    }
    let namespaces = namespaces::namespaces(linux.namespaces().as_deref().unwrap_or_default())?;
    let id_map = namespaces::id_map(&namespaces.user, linux.uid_mappings(), linux.gid_mappings())?;
    let sysctls = linux.sysctl().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    namespaces::check_sysctls(&sysctls, &namespaces)?;
    let surroundings = mounts::Surroundings {
        unified_cgroup: facts.unified_cgroup,
        namespaces: &namespaces,
        id_map: &id_map,
        label: linux.mount_label().as_deref().filter(|label| !label.is_empty()),
    };
    let mut mounts = surroundings.mounts(spec.mounts().as_deref().unwrap_or_default())?;
    let setup_dev = mounts::needs_dev(&mounts) && namespaces.mount == NamespaceSource::New;
    let mut devices = mounts::devices(linux.devices().as_deref().unwrap_or_default(), setup_dev)?;
    if namespaces.user != NamespaceSource::Host {
        mounts::bind_devices(&mut mounts, &mut devices);
    }
    let (root_propagation, root_propagation_recursive) =
        mounts::root_propagation(linux.rootfs_propagation().as_deref())?;
    let plan = Plan {
        hostname: spec.hostname().clone().filter(|name| !name.is_empty()),
        domainname: spec.domainname().clone().filter(|name| !name.is_empty()),
        readonly_root: spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false),
        root_propagation,
        root_propagation_recursive,
        devices,
        setup_dev,
        mounts,
        sysctls,
        masked_paths: absolute(linux.masked_paths().as_deref(), "masked path")?,
        readonly_paths: absolute(linux.readonly_paths().as_deref(), "read-only path")?,
        process: process_in(spec, process, facts.seccomp.clone())?,
        time_offsets: namespaces::time_offsets(&namespaces.time, linux.time_offsets())?,
        id_map,
        namespaces,
    };
    check_names(&plan)?;
    check_joined_mounts(&plan)?;
    check_ids(&plan)?;
    Ok(plan)
}

/// Names are set in a UTS namespace of the container's, or in none.
fn check_names(plan: &Plan) -> Result<(), Error> {
    let named = [("hostname", &plan.hostname), ("domainname", &plan.domainname)];
    let named = named.into_iter().find_map(|(what, name)| name.is_some().then_some(what));
    match named.filter(|_| plan.namespaces.uts == NamespaceSource::Host) {
        Some(what) => Err(Error::Unsupported(format!("setting a {what} without a private UTS namespace"))),
        None => Ok(()),
    }
}

/// A mount namespace that is joined is somebody else's: it is used as it is.
fn check_joined_mounts(plan: &Plan) -> Result<(), Error> {
    let changes = !plan.mounts.is_empty()
        || !plan.masked_paths.is_empty()
        || !plan.readonly_paths.is_empty()
        || plan.readonly_root
        || plan.root_propagation.is_some();
    if plan.namespaces.mount != NamespaceSource::New && changes {
        return Err(Error::Unsupported("changing the mounts of a mount namespace that is joined".into()));
    }
    Ok(())
}

/// The process's ids have to be known inside the user namespace.
fn check_ids(plan: &Plan) -> Result<(), Error> {
    if plan.namespaces.user != NamespaceSource::New {
        return Ok(());
    }
    let known = |ranges: &[IdRange], id: u32| {
        ranges.iter().any(|range| id >= range.inside && u64::from(id) < u64::from(range.inside) + u64::from(range.size))
    };
    let unknown = |what, id: u32| Err(Error::Invalid { what, value: id.to_string() });
    if !known(&plan.id_map.uids, plan.process.uid) {
        return unknown("user id (not mapped)", plan.process.uid);
    }
    let mut groups = plan.process.groups.iter().chain([&plan.process.gid]);
    match groups.find(|group| !known(&plan.id_map.gids, **group)) {
        Some(group) => unknown("group id (not mapped)", *group),
        None => Ok(()),
    }
}

/// Decides everything about an exec's process in a container of this spec. Pure.
pub fn exec_plan(spec: &Spec, process: &Process, seccomp: Option<SeccompProgram>) -> Result<ProcessPlan, Error> {
    let mut plan = process_in(spec, process, seccomp)?;
    if let (None, Some(container)) = (process.capabilities(), spec.process()) {
        plan.capabilities = container.capabilities().as_ref().map(capability::plan).unwrap_or_default();
    }
    let own = |kind| {
        let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        namespaces.iter().any(|namespace| namespace.typ() == kind)
    };
    let enters = EnteredNamespaces { user: own(LinuxNamespaceType::User), time: own(LinuxNamespaceType::Time) };
    Ok(ProcessPlan { enters, ..plan })
}

/// A process with what the container's spec says of all of its processes.
fn process_in(spec: &Spec, process: &Process, seccomp: Option<SeccompProgram>) -> Result<ProcessPlan, Error> {
    let plan = process_plan(process, seccomp)?;
    let Some(linux) = spec.linux() else { return Ok(plan) };
    Ok(ProcessPlan {
        personality: linux.personality().as_ref().map(scheduling::personality).transpose()?,
        memory_policy: linux.memory_policy().as_ref().map(scheduling::memory_policy).transpose()?,
        ..plan
    })
}

/// What is not for the container's own process is refused where nobody else would do it, instead of being left out silently.
fn refuse_host_side(linux: &Linux) -> Result<(), Error> {
    let refuse = |what: &str, there: bool| if there { Err(Error::Unsupported(what.into())) } else { Ok(()) };
    refuse("an Intel RDT setting", linux.intel_rdt().is_some())?;
    refuse("a network device", linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()))
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
        // As with runc: whoever is given none has none.
        capabilities: process.capabilities().as_ref().map(capability::plan).unwrap_or_default(),
        rlimits: rlimits(process)?,
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        oom_score_adj: process.oom_score_adj(),
        apparmor_profile: process.apparmor_profile().clone().filter(|name| !name.is_empty()),
        selinux_label: process.selinux_label().clone().filter(|label| !label.is_empty()),
        seccomp,
        scheduler: process.scheduler().as_ref().map(scheduling::scheduler).transpose()?,
        io_priority: process.io_priority().as_ref().map(scheduling::io_priority).transpose()?,
        affinity: process.exec_cpu_affinity().as_ref().map(scheduling::affinity).transpose()?,
        ..ProcessPlan::default()
    })
}

fn clamp(cells: u64) -> u16 {
    u16::try_from(cells).unwrap_or(u16::MAX)
}

fn rlimits(process: &Process) -> Result<Vec<RlimitPlan>, Error> {
    let list = process.rlimits().as_deref().unwrap_or_default();
    list.iter()
        .enumerate()
        .map(|(index, limit)| {
            let name = limit.typ().to_string();
            if list[..index].iter().any(|other| other.typ() == limit.typ()) {
                return Err(Error::Invalid { what: "rlimit (named twice)", value: name });
            }
            let resource =
                Resource::parse(&name).ok_or_else(|| Error::Invalid { what: "rlimit", value: name.clone() })?;
            if limit.soft() > limit.hard() {
                return Err(Error::Invalid { what: "rlimit (soft above hard)", value: name });
            }
            Ok(RlimitPlan { resource: resource.0, soft: limit.soft(), hard: limit.hard() })
        })
        .collect()
}

pub(super) fn text(path: &Path, what: &'static str) -> Result<String, Error> {
    let invalid = || Error::Invalid { what, value: path.display().to_string() };
    path.to_str().map(str::to_owned).ok_or_else(invalid)
}
