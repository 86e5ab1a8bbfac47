//! The mounts of a container: the defaults, what the user lays over them, and what `--read-only` and `--privileged` change.

use std::path::Path;

use oci_spec::runtime::{Mount as OciMount, MountBuilder};

use crate::{Access, Bind, Error, HostFacts, Mount, MountKind, Namespace, Propagation, Settings, Shm};

/// Where the init program appears with `--init`.
pub(crate) const INIT_PATH: &str = "/sbin/docker-init";

/// Mount points that stay writable with `--read-only`.
const WRITABLE: [&str; 5] = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];

/// Target, type, source and options of the default mounts, in order.
const DEFAULT: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]),
];

/// All mounts in the order in which they are made, and the root's propagation where a bind asks for it.
pub(crate) fn mounts(settings: &Settings, host: &HostFacts) -> Result<(Vec<OciMount>, Option<Propagation>), Error> {
    let mut user: Vec<Mount> = settings.mounts.clone();
    if let Shm::Shared(source) = &settings.shm {
        let taken = user.iter().any(|mount| mount.target == "/dev/shm");
        let bind = Mount { target: "/dev/shm".to_owned(), kind: MountKind::Bind(Bind::writable(source)) };
        user.extend((!taken).then_some(bind));
    }
    // A mount below another must come after it.
    user.sort_by_key(|mount| Path::new(&mount.target).components().count());

    let mut mounts = Vec::new();
    for mount in defaults(settings, &user)? {
        mounts.push(adjust_default(mount, settings));
    }
    for mount in &user {
        mounts.push(user_mount(mount, host)?);
    }
    if let (Some(init), Namespace::New) = (&settings.init, &settings.namespaces.pid) {
        mounts.push(oci(INIT_PATH, "bind", init, vec!["bind".to_owned(), "ro".to_owned()])?);
    }
    Ok((mounts, root_propagation(&user)))
}

/// The defaults without those that the user's mounts replace; a user's `/dev` takes everything below it along.
fn defaults(settings: &Settings, user: &[Mount]) -> Result<Vec<OciMount>, Error> {
    let taken = |target: &str| user.iter().any(|mount| mount.target == target);
    let own_dev = taken("/dev");
    let wanted = DEFAULT.iter().filter(|(target, ..)| {
        let below_own_dev = own_dev && target.starts_with("/dev/");
        let other_shm = *target == "/dev/shm" && !matches!(settings.shm, Shm::Private(_));
        !(taken(target) || below_own_dev || other_shm)
    });
    wanted.map(|(target, kind, source, options)| default_mount(settings, target, kind, source, options)).collect()
}

fn default_mount(
    settings: &Settings,
    target: &str,
    kind: &str,
    source: &str,
    options: &[&str],
) -> Result<OciMount, Error> {
    let mut options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
    if let (Shm::Private(size), "/dev/shm") = (&settings.shm, target) {
        options.push(format!("size={size}"));
    }
    oci(target, kind, Path::new(source), options)
}

/// Applies `--privileged` and `--read-only` to a default mount; the user's own mounts are never touched.
fn adjust_default(mut mount: OciMount, settings: &Settings) -> OciMount {
    let target = mount.destination().to_string_lossy().into_owned();
    let mut options = mount.options().clone().unwrap_or_default();
    if settings.readonly_rootfs && !WRITABLE.contains(&target.as_str()) && !options.iter().any(|it| it == "ro") {
        options.push("ro".to_owned());
    }
    if settings.privileged && (target == "/sys" || mount.typ().as_deref() == Some("cgroup")) {
        options.retain(|option| option != "ro");
    }
    mount.set_options(Some(options));
    mount
}

fn user_mount(mount: &Mount, host: &HostFacts) -> Result<OciMount, Error> {
    match &mount.kind {
        MountKind::Tmpfs(options) => oci(&mount.target, "tmpfs", Path::new("tmpfs"), tmpfs_options(options)?),
        MountKind::Bind(bind) => {
            let mut options = vec![if bind.recursive { "rbind" } else { "bind" }.to_owned()];
            options.extend(access_option(bind.access, &mount.target, host)?.map(str::to_owned));
            options.push(bind.propagation.as_str().to_owned());
            oci(&mount.target, "bind", &bind.source, options)
        }
    }
}

fn access_option(access: Access, target: &str, host: &HostFacts) -> Result<Option<&'static str>, Error> {
    Ok(match (access, host.recursive_readonly) {
        (Access::ReadWrite, _) => None,
        (Access::ReadOnlyNonRecursive, _) | (Access::ReadOnly, false) => Some("ro"),
        (Access::ReadOnly | Access::ReadOnlyForceRecursive, true) => Some("rro"),
        (Access::ReadOnlyForceRecursive, false) => return Err(Error::RecursiveReadonly(target.to_owned())),
    })
}

/// A shared (or slave) bind only works below a root that is not more private than itself.
fn root_propagation(user: &[Mount]) -> Option<Propagation> {
    let asked = |wanted: [Propagation; 2]| {
        user.iter().any(|mount| matches!(&mount.kind, MountKind::Bind(bind) if wanted.contains(&bind.propagation)))
    };
    if asked([Propagation::Shared, Propagation::RShared]) {
        Some(Propagation::Shared)
    } else if asked([Propagation::Slave, Propagation::RSlave]) {
        Some(Propagation::RSlave)
    } else {
        None
    }
}

fn oci(target: &str, kind: &str, source: &Path, options: Vec<String>) -> Result<OciMount, Error> {
    Ok(MountBuilder::default().destination(target).typ(kind).source(source).options(options).build()?)
}

/// Options of a tmpfs that are flags: name, and the group of which the last one counts.
const TMPFS_FLAGS: [(&str, &str); 32] = [
    ("ro", "ro"),
    ("rw", "ro"),
    ("suid", "suid"),
    ("nosuid", "suid"),
    ("dev", "dev"),
    ("nodev", "dev"),
    ("exec", "exec"),
    ("noexec", "exec"),
    ("sync", "sync"),
    ("async", "sync"),
    ("dirsync", "dirsync"),
    ("remount", "remount"),
    ("mand", "mand"),
    ("nomand", "mand"),
    ("atime", "atime"),
    ("noatime", "atime"),
    ("diratime", "diratime"),
    ("nodiratime", "diratime"),
    ("bind", "propagation"),
    ("rbind", "propagation"),
    ("unbindable", "propagation"),
    ("runbindable", "propagation"),
    ("private", "propagation"),
    ("rprivate", "propagation"),
    ("shared", "propagation"),
    ("rshared", "propagation"),
    ("slave", "propagation"),
    ("rslave", "propagation"),
    ("relatime", "relatime"),
    ("norelatime", "relatime"),
    ("strictatime", "strictatime"),
    ("nostrictatime", "strictatime"),
];
const TMPFS_VALUES: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];

/// The defaults with the user's options laid over them: of each kind the last one counts.
pub(crate) fn tmpfs_options(user: &[String]) -> Result<Vec<String>, Error> {
    let defaults = ["noexec", "nosuid", "nodev", "rprivate"];
    let all: Vec<&str> = defaults.into_iter().chain(user.iter().map(String::as_str)).collect();
    let mut seen: Vec<&str> = Vec::new();
    let mut kept = Vec::new();
    for option in all.into_iter().rev().filter(|option| !matches!(*option, "defaults" | "")) {
        let group = match TMPFS_FLAGS.iter().find(|(name, _)| *name == option) {
            Some((_, group)) => *group,
            None => tmpfs_value(option)?,
        };
        if !seen.contains(&group) {
            seen.push(group);
            kept.push(option.to_owned());
        }
    }
    kept.reverse();
    Ok(kept)
}

fn tmpfs_value(option: &str) -> Result<&str, Error> {
    match option.split_once('=') {
        Some((name, _)) if TMPFS_VALUES.contains(&name) => Ok(name),
        _ => Err(Error::TmpfsOption(option.split('=').next().unwrap_or(option).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(settings: &Settings) -> Vec<String> {
        let host = HostFacts { recursive_readonly: true, ..HostFacts::default() };
        let (mounts, _) = mounts(settings, &host).unwrap();
        let line = |mount: &OciMount| {
            format!(
                "{} {} {}",
                mount.destination().display(),
                mount.typ().clone().unwrap(),
                mount.options().clone().unwrap().join(",")
            )
        };
        mounts.iter().map(line).collect()
    }

    fn bind(target: &str) -> Mount {
        Mount { target: target.into(), kind: MountKind::Bind(Bind::writable("/src")) }
    }

    #[test]
    fn defaults_are_dockers() {
        assert_eq!(
            render(&Settings::default()),
            [
                "/proc proc nosuid,noexec,nodev",
                "/dev tmpfs nosuid,strictatime,mode=755,size=65536k",
                "/dev/pts devpts nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5",
                "/sys sysfs nosuid,noexec,nodev,ro",
                "/sys/fs/cgroup cgroup ro,nosuid,noexec,nodev",
                "/dev/mqueue mqueue nosuid,noexec,nodev",
                "/dev/shm tmpfs nosuid,noexec,nodev,mode=1777,size=67108864",
            ]
        );
    }

    #[test]
    fn user_mounts_replace_defaults_and_go_by_depth() {
        let lines = render(&Settings { mounts: vec![bind("/a/b/c"), bind("/dev"), bind("/a")], ..Settings::default() });
        assert_eq!(
            lines,
            [
                "/proc proc nosuid,noexec,nodev",
                "/sys sysfs nosuid,noexec,nodev,ro",
                "/sys/fs/cgroup cgroup ro,nosuid,noexec,nodev",
                "/dev bind rbind,rprivate",
                "/a bind rbind,rprivate",
                "/a/b/c bind rbind,rprivate",
            ]
        );
    }

    #[test]
    fn privileged_and_read_only_change_the_defaults_only() {
        let settings = Settings { privileged: true, mounts: vec![bind("/sys")], ..Settings::default() };
        assert!(render(&settings).contains(&"/sys/fs/cgroup cgroup nosuid,noexec,nodev".to_owned()));
        let settings = Settings { readonly_rootfs: true, mounts: vec![bind("/data")], ..Settings::default() };
        let lines = render(&settings);
        assert!(lines.contains(&"/data bind rbind,rprivate".to_owned()));
        assert_eq!(lines[0], "/proc proc nosuid,noexec,nodev");
    }

    #[test]
    fn shm_can_be_shared_or_absent() {
        assert_eq!(render(&Settings { shm: Shm::None, ..Settings::default() }).len(), 6);
        let lines = render(&Settings { shm: Shm::Shared("/dev/shm".into()), ..Settings::default() });
        assert_eq!(lines.last().unwrap(), "/dev/shm bind rbind,rprivate");
    }

    #[test]
    fn read_only_binds() {
        let check = |access, recursive_readonly, expect: Option<&str>| {
            let host = HostFacts { recursive_readonly, ..HostFacts::default() };
            assert_eq!(access_option(access, "/t", &host).ok().flatten(), expect);
        };
        check(Access::ReadWrite, true, None);
        check(Access::ReadOnly, true, Some("rro"));
        check(Access::ReadOnly, false, Some("ro"));
        check(Access::ReadOnlyNonRecursive, true, Some("ro"));
        check(Access::ReadOnlyForceRecursive, true, Some("rro"));
        assert!(access_option(Access::ReadOnlyForceRecursive, "/t", &HostFacts::default()).is_err());
    }

    #[test]
    fn tmpfs_options_merge() {
        let check = |user: &str, expect: &str| {
            let user: Vec<String> = user.split(',').map(str::to_owned).collect();
            let text = tmpfs_options(&user).map_or_else(|error| error.to_string(), |options| options.join(","));
            assert_eq!(text, expect);
        };
        check("", "noexec,nosuid,nodev,rprivate");
        check("exec,size=64m", "nosuid,nodev,rprivate,exec,size=64m");
        check("size=1,size=2,rw,ro,shared", "noexec,nosuid,nodev,size=2,ro,shared");
        check("lower=1", "invalid tmpfs option \"lower\"");
        check("bogus", "invalid tmpfs option \"bogus\"");
    }
}
