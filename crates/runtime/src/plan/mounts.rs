//! Mounts and device nodes of a spec become the plan's.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Mount};

use super::build::text;
use super::options::{self, Options};
use super::{
    DevicePlan, Error, IdMap, MountKind, MountMap, MountPlan, NamespaceSource, Namespaces, Propagation, namespaces,
};

/// S_IFCHR.
const CHARACTER: u32 = 0o020_000;
/// S_IFBLK.
const BLOCK: u32 = 0o060_000;
/// S_IFIFO.
const FIFO: u32 = 0o010_000;

/// What a mount's meaning depends on besides itself.
pub(super) struct Surroundings<'a> {
    pub(super) unified_cgroup: bool,
    pub(super) namespaces: &'a Namespaces,
    /// The container's own maps.
    pub(super) id_map: &'a IdMap,
    /// SELinux label for the container's own file systems.
    pub(super) label: Option<&'a str>,
}

impl Surroundings<'_> {
    pub(super) fn mounts(&self, list: &[Mount]) -> Result<Vec<MountPlan>, Error> {
        let mut mounts = list.iter().map(|mount| self.mount(mount)).collect::<Result<Vec<_>, _>>()?;
        number_sources(&mut mounts);
        Ok(mounts)
    }

    fn mount(&self, mount: &Mount) -> Result<MountPlan, Error> {
        let destination = text(mount.destination(), "mount destination")?;
        if !destination.starts_with('/') || destination.contains('\0') {
            return Err(Error::Invalid { what: "mount destination", value: destination });
        }
        let sorted = options::parse(mount.options().as_deref().unwrap_or_default());
        let kind = self.kind(mount, &sorted)?;
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

    fn kind(&self, mount: &Mount, sorted: &Options) -> Result<MountKind, Error> {
        let fstype = mount.typ().clone().unwrap_or_default();
        let source = mount.source().as_deref().map(|path| text(path, "mount source")).transpose()?.unwrap_or_default();
        let id_map = self.mount_map(mount, sorted)?;
        if sorted.remount {
            return Ok(MountKind::Remount);
        }
        if sorted.bind || fstype == "bind" {
            return Ok(MountKind::Bind { source: 0, path: source, recursive: sorted.recursive, id_map });
        }
        if id_map.is_some() {
            return Err(Error::Unsupported("an id-mapped mount that is not a bind".into()));
        }
        match (fstype.as_str(), self.unified_cgroup) {
            ("", _) => Err(Error::Invalid { what: "mount type", value: fstype }),
            ("cgroup", false) => Ok(MountKind::CgroupV1),
            // The same holds for the unified hierarchy of a hybrid host, whose place is not known here.
            ("cgroup2", false) if self.namespaces.cgroup == NamespaceSource::Host => Err(Error::Unsupported(
                "mounting cgroup2 without a cgroup namespace on a host with v1 controllers".into(),
            )),
            // Mounting the hierarchy from the host's cgroup namespace would change the options of all its mounts.
            ("cgroup" | "cgroup2", true) if self.namespaces.cgroup == NamespaceSource::Host => {
                Ok(MountKind::Bind { source: 0, path: "/sys/fs/cgroup".into(), recursive: false, id_map: None })
            }
            ("cgroup" | "cgroup2", _) => Ok(MountKind::CgroupV2),
            _ => {
                let options = self.labelled(&fstype, sorted.file_system.clone());
                Ok(MountKind::FileSystem { fstype, source, options })
            }
        }
    }

    /// The kernel labels its own views itself; everything else of the container gets the container's label.
    fn labelled(&self, fstype: &str, mut options: Vec<(String, Option<String>)>) -> Vec<(String, Option<String>)> {
        let chosen = options.iter().any(|(key, _)| key == "context");
        if let Some(label) = self.label.filter(|_| !chosen && !matches!(fstype, "proc" | "sysfs" | "mqueue")) {
            options.push(("context".into(), Some(label.into())));
        }
        options
    }

    /// The mount's own maps, or the container's where it asks for some and names none.
    fn mount_map(&self, mount: &Mount, sorted: &Options) -> Result<Option<MountMap>, Error> {
        let own = namespaces::ranges(mount.uid_mappings(), mount.gid_mappings())?;
        let recursive = sorted.id_map == Some(true);
        if !own.is_empty() {
            return Ok(Some(MountMap { map: own, recursive }));
        }
        match sorted.id_map {
            None => Ok(None),
            Some(_) if !self.id_map.is_empty() => Ok(Some(MountMap { map: self.id_map.clone(), recursive })),
            Some(_) => Err(Error::Missing("id mappings for an id-mapped mount")),
        }
    }
}

/// Bind sources are handed over in the order of their mounts.
fn number_sources(mounts: &mut [MountPlan]) {
    let mut next = 0;
    for mount in mounts {
        if let MountKind::Bind { source, .. } = &mut mount.kind {
            *source = next;
            next += 1;
        }
    }
}

/// In a user namespace nobody makes device nodes: the host's are bound in their place.
pub(super) fn bind_devices(mounts: &mut Vec<MountPlan>, devices: &mut Vec<DevicePlan>) {
    mounts.extend(devices.drain(..).map(|device| MountPlan {
        kind: MountKind::Bind { source: 0, path: device.path.clone(), recursive: false, id_map: None },
        destination: device.path,
        set: 0,
        clear: 0,
        set_recursive: 0,
        clear_recursive: 0,
        propagation: None,
        copy_up: false,
    }));
    number_sources(mounts);
}

/// The propagation of the root mount, and whether it covers the mounts below.
pub(super) fn root_propagation(word: Option<&str>) -> Result<(Option<Propagation>, bool), Error> {
    match word {
        None | Some("") => Ok((None, false)),
        Some(word) => match options::propagation(word) {
            Some((kind, recursive)) => Ok((Some(kind), recursive)),
            None => Err(Error::Invalid { what: "rootfsPropagation", value: word.into() }),
        },
    }
}

/// A `/dev` that is a bind of somebody else's directory is left as it is.
pub(super) fn needs_dev(mounts: &[MountPlan]) -> bool {
    let own = |mount: &MountPlan| !matches!(mount.kind, MountKind::Bind { .. });
    mounts.iter().rev().find(|mount| mount.destination.trim_end_matches('/') == "/dev").is_none_or(own)
}

pub(super) fn devices(list: &[LinuxDevice], setup_dev: bool) -> Result<Vec<DevicePlan>, Error> {
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
