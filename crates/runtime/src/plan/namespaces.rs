//! Which namespaces a container gets, and what is set inside them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use corten_base::sysctl::{self, Owner};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespace, LinuxNamespaceType, LinuxTimeOffset};
use serde::{Deserialize, Serialize};

use super::Error;
use super::build::text;

/// Kinds of namespaces that can be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    /// Process ids.
    Pid,
    /// Network devices, addresses, ports.
    Network,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// View of the cgroup tree.
    Cgroup,
    /// User and group ids, and the capabilities over everything that belongs to them.
    User,
    /// The mount tree.
    Mount,
    /// Offsets of the monotonic and the boot-time clock.
    Time,
}

/// Where a namespace comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceSource {
    /// A new one: the shim's own, made when it warmed up.
    #[default]
    New,
    /// The host's.
    Host,
    /// The one behind this path, as the daemon sees it.
    Join(String),
}

impl NamespaceSource {
    /// What plans without the field meant.
    fn host() -> NamespaceSource {
        NamespaceSource::Host
    }
}

/// Where each namespace comes from; the mount namespace is new or joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    /// Process ids.
    pub pid: NamespaceSource,
    /// Network.
    pub network: NamespaceSource,
    /// IPC.
    pub ipc: NamespaceSource,
    /// Host name.
    pub uts: NamespaceSource,
    /// Cgroup view.
    pub cgroup: NamespaceSource,
    /// Users and groups.
    #[serde(default = "NamespaceSource::host")]
    pub user: NamespaceSource,
    /// Mounts.
    #[serde(default)]
    pub mount: NamespaceSource,
    /// Clock offsets.
    #[serde(default = "NamespaceSource::host")]
    pub time: NamespaceSource,
}

/// A range of ids of a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside, in the user namespace around it.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

/// How ids are mapped, for a user namespace or a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<IdRange>,
    /// Group ids.
    pub gids: Vec<IdRange>,
}

impl IdMap {
    /// Nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() && self.gids.is_empty()
    }

    /// The lines for `/proc/<pid>/uid_map`.
    pub fn uid_lines(&self) -> String {
        lines(&self.uids)
    }

    /// The lines for `/proc/<pid>/gid_map`.
    pub fn gid_lines(&self) -> String {
        lines(&self.gids)
    }
}

fn lines(ranges: &[IdRange]) -> String {
    ranges.iter().map(|range| format!("{} {} {}\n", range.inside, range.outside, range.size)).collect()
}

/// By how much a clock of a time namespace is ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffset {
    /// `monotonic` or `boottime`.
    pub clock: String,
    /// Seconds.
    pub seconds: i64,
    /// And nanoseconds.
    pub nanoseconds: u32,
}

/// How the init's PID namespace is chosen, for the process that clones it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PidNamespace {
    /// A new one.
    New,
    /// The host's.
    Host,
    /// The one handed over as a descriptor.
    Join,
}

/// A namespace to be opened by whoever hands the plan over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Its kind.
    pub kind: NamespaceKind,
    /// Path in the daemon's view, such as `/proc/4711/ns/net`.
    pub path: String,
}

impl Namespaces {
    /// The choice for the PID namespace.
    pub fn pid_mode(&self) -> PidNamespace {
        match self.pid {
            NamespaceSource::New => PidNamespace::New,
            NamespaceSource::Host => PidNamespace::Host,
            NamespaceSource::Join(_) => PidNamespace::Join,
        }
    }

    pub(super) fn each(&self) -> [(NamespaceKind, &NamespaceSource); 8] {
        [
            (NamespaceKind::Pid, &self.pid),
            (NamespaceKind::Network, &self.network),
            (NamespaceKind::Ipc, &self.ipc),
            (NamespaceKind::Uts, &self.uts),
            (NamespaceKind::Cgroup, &self.cgroup),
            (NamespaceKind::User, &self.user),
            (NamespaceKind::Time, &self.time),
            (NamespaceKind::Mount, &self.mount),
        ]
    }
}

impl NamespaceKind {
    /// Name below `/proc/<pid>/ns`.
    pub fn file_name(self) -> &'static str {
        match self {
            NamespaceKind::Pid => "pid",
            NamespaceKind::Network => "net",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Uts => "uts",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::User => "user",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Time => "time",
        }
    }

    /// As runc's messages call it.
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            NamespaceKind::Network => "network",
            other => other.file_name(),
        }
    }
}

pub(super) fn namespaces(list: &[LinuxNamespace]) -> Result<Namespaces, Error> {
    let find = |kind| {
        let mut found = list.iter().filter(|namespace| namespace.typ() == kind);
        let first =
            found.next().map(|namespace| namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()));
        if found.next().is_some() {
            return Err(Error::Invalid { what: "namespace (named twice)", value: kind.to_string() });
        }
        match first {
            None => Ok(NamespaceSource::Host),
            Some(None) => Ok(NamespaceSource::New),
            Some(Some(path)) => text(path, "namespace path").map(NamespaceSource::Join),
        }
    };
    let mount = find(LinuxNamespaceType::Mount)?;
    if mount == NamespaceSource::Host {
        return Err(Error::Unsupported("a container without a mount namespace of its own".into()));
    }
    Ok(Namespaces {
        pid: find(LinuxNamespaceType::Pid)?,
        network: find(LinuxNamespaceType::Network)?,
        ipc: find(LinuxNamespaceType::Ipc)?,
        uts: find(LinuxNamespaceType::Uts)?,
        cgroup: find(LinuxNamespaceType::Cgroup)?,
        user: find(LinuxNamespaceType::User)?,
        mount,
        time: find(LinuxNamespaceType::Time)?,
    })
}

/// The container's own maps: needed for a new user namespace, impossible for any other.
pub(super) fn id_map(
    user: &NamespaceSource,
    uids: &Option<Vec<LinuxIdMapping>>,
    gids: &Option<Vec<LinuxIdMapping>>,
) -> Result<IdMap, Error> {
    let map = ranges(uids, gids)?;
    let refuse = |why: &str| Err(Error::Invalid { what: "id mappings", value: why.into() });
    let has_root = |ranges: &[IdRange]| ranges.iter().any(|range| range.inside == 0);
    match user {
        NamespaceSource::New if map.is_empty() => Err(Error::Missing("id mappings for its new user namespace")),
        NamespaceSource::New if !(has_root(&map.uids) && has_root(&map.gids)) => {
            refuse("user and group 0 are not mapped")
        }
        NamespaceSource::Host if !map.is_empty() => refuse("there is no user namespace to map for"),
        NamespaceSource::Join(_) if !map.is_empty() => refuse("the user namespace that is joined has its own"),
        _ => Ok(map),
    }
}

/// Both lists or none.
pub(super) fn ranges(uids: &Option<Vec<LinuxIdMapping>>, gids: &Option<Vec<LinuxIdMapping>>) -> Result<IdMap, Error> {
    let list = |list: &Option<Vec<LinuxIdMapping>>| list.iter().flatten().map(range).collect::<Result<Vec<_>, _>>();
    let map = IdMap { uids: list(uids)?, gids: list(gids)? };
    if map.uids.is_empty() != map.gids.is_empty() {
        let value = "user ids and group ids have to be mapped together".into();
        return Err(Error::Invalid { what: "id mappings", value });
    }
    Ok(map)
}

fn range(mapping: &LinuxIdMapping) -> Result<IdRange, Error> {
    let range = IdRange { inside: mapping.container_id(), outside: mapping.host_id(), size: mapping.size() };
    let fits = |first: u32| first.checked_add(range.size - 1).is_some_and(|last| last != u32::MAX);
    if range.size == 0 || !fits(range.inside) || !fits(range.outside) {
        let value = format!("{} {} {}", range.inside, range.outside, range.size);
        return Err(Error::Invalid { what: "id mapping", value });
    }
    Ok(range)
}

/// Offsets can be set before anybody lives in the namespace only: in a new one.
pub(super) fn time_offsets(
    time: &NamespaceSource,
    offsets: &Option<HashMap<String, LinuxTimeOffset>>,
) -> Result<Vec<TimeOffset>, Error> {
    let mut list = Vec::new();
    for (clock, offset) in offsets.iter().flatten() {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(Error::Invalid { what: "clock for a time offset", value: clock.clone() });
        }
        let nanoseconds = offset.nanosecs().unwrap_or(0);
        if nanoseconds >= 1_000_000_000 {
            return Err(Error::Invalid { what: "time offset (nanoseconds)", value: nanoseconds.to_string() });
        }
        list.push(TimeOffset { clock: clock.clone(), seconds: offset.secs().unwrap_or(0), nanoseconds });
    }
    if !list.is_empty() && *time != NamespaceSource::New {
        let value = "there is no new time namespace to set it in".into();
        return Err(Error::Invalid { what: "time offset", value });
    }
    list.sort_by(|one, other| one.clock.cmp(&other.clock));
    Ok(list)
}

/// The kind of namespace that a setting belongs to; none for what is the whole machine's.
pub(crate) fn owner(key: &str) -> Option<NamespaceKind> {
    let name = dotted(key);
    match sysctl::owner(&name) {
        _ if name.contains("..") => None,
        Some(Owner::Ipc) => Some(NamespaceKind::Ipc),
        Some(Owner::Network) => Some(NamespaceKind::Network),
        None => (name == "kernel.domainname").then_some(NamespaceKind::Uts),
    }
}

/// The name with dots between its parts; one that begins with slashes has dots in them.
fn dotted(key: &str) -> Cow<'_, str> {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => key.replace('/', ".").into(),
        _ => key.into(),
    }
}

/// A container may only set what is its own: everything else would change the host.
pub(super) fn check_sysctls(sysctls: &BTreeMap<String, String>, namespaces: &Namespaces) -> Result<(), Error> {
    const SHARED: &str = "is not in a separate kernel namespace";
    for key in sysctls.keys() {
        let own = |source: &NamespaceSource| *source != NamespaceSource::Host;
        let reason = match owner(key) {
            Some(NamespaceKind::Ipc) if own(&namespaces.ipc) => continue,
            Some(NamespaceKind::Ipc) => "is not allowed in the hosts ipc namespace",
            Some(NamespaceKind::Network) if own(&namespaces.network) => continue,
            Some(NamespaceKind::Network) => "not allowed in host network namespace",
            Some(_) if own(&namespaces.uts) => continue,
            None if dotted(key) == "kernel.hostname" => {
                "is not allowed as it conflicts with the OCI \"hostname\" field"
            }
            _ => SHARED,
        };
        return Err(Error::Sysctl { name: key.clone(), reason });
    }
    Ok(())
}
