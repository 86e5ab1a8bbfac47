//! What the host has mounted, from `/proc/self/mountinfo`.

use std::path::PathBuf;

/// A resource controller that this crate knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the kernel's")]
pub enum Controller {
    Cpu,
    Cpuacct,
    Cpuset,
    Memory,
    Devices,
    Freezer,
    /// `blkio` on v1, `io` on v2.
    Io,
    Pids,
    Hugetlb,
    NetCls,
    NetPrio,
    PerfEvent,
    Rdma,
    Misc,
    /// v2's core (`cgroup.` files), there always.
    Core,
    /// v1's `name=systemd`: no controller, but processes in it are not taken for part of a service.
    Systemd,
}

impl Controller {
    /// The kernel's name, as v1 mount options have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Cpuset => "cpuset",
            Self::Memory => "memory",
            Self::Devices => "devices",
            Self::Freezer => "freezer",
            Self::Io => "blkio",
            Self::Pids => "pids",
            Self::Hugetlb => "hugetlb",
            Self::NetCls => "net_cls",
            Self::NetPrio => "net_prio",
            Self::PerfEvent => "perf_event",
            Self::Rdma => "rdma",
            Self::Misc => "misc",
            Self::Core => "cgroup",
            Self::Systemd => "name=systemd",
        }
    }

    /// Reads a name as v1's mount options or v2's `cgroup.controllers` have it.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        const ALL: [Controller; 15] = [
            Controller::Cpu,
            Controller::Cpuacct,
            Controller::Cpuset,
            Controller::Memory,
            Controller::Devices,
            Controller::Freezer,
            Controller::Io,
            Controller::Pids,
            Controller::Hugetlb,
            Controller::NetCls,
            Controller::NetPrio,
            Controller::PerfEvent,
            Controller::Rdma,
            Controller::Misc,
            Controller::Systemd,
        ];
        if name == "io" {
            return Some(Self::Io);
        }
        ALL.into_iter().find(|controller| controller.name() == name)
    }
}

/// One mounted v1 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct V1Mount {
    /// Where it is mounted.
    pub path: PathBuf,
    /// What it controls; several share a mount on some hosts.
    pub controllers: Vec<Controller>,
}

/// How control groups are mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Controllers on v1; with `unified` a hybrid host.
    V1 {
        /// The hierarchies.
        controllers: Vec<V1Mount>,
        /// The v2 tree beside them.
        unified: Option<PathBuf>,
    },
    /// One v2 tree.
    V2 {
        /// Where it is mounted.
        root: PathBuf,
    },
}

impl Layout {
    /// Reads a mountinfo table; `None` if there are no control groups in it.
    pub fn parse(mountinfo: &str) -> Option<Self> {
        let mut controllers: Vec<V1Mount> = Vec::new();
        let mut unified = None;
        for mount in mountinfo.lines().filter_map(parse_line) {
            match mount.kind {
                "cgroup2" if unified.is_none() => unified = Some(mount.path),
                "cgroup" => {
                    let found: Vec<_> = mount.options.split(',').filter_map(Controller::parse).collect();
                    // The same hierarchy may be mounted twice.
                    let known = |it: &Controller| controllers.iter().any(|mount| mount.controllers.contains(it));
                    if !found.is_empty() && !found.iter().any(known) {
                        controllers.push(V1Mount { path: mount.path, controllers: found });
                    }
                }
                _ => {}
            }
        }
        let controls = |mount: &V1Mount| mount.controllers.iter().any(|it| *it != Controller::Systemd);
        if controllers.iter().any(controls) {
            Some(Self::V1 { controllers, unified })
        } else {
            unified.map(|root| Self::V2 { root })
        }
    }
}

struct MountLine<'a> {
    path: PathBuf,
    kind: &'a str,
    options: &'a str,
}

/// `36 35 98:0 /root /mnt rw,noatime master:1 - cgroup source rw,cpu`: the part after the dash has a fixed form.
fn parse_line(line: &str) -> Option<MountLine<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let path = before.split(' ').nth(4)?;
    let mut fields = after.split(' ');
    let kind = fields.next()?;
    let options = fields.nth(1).unwrap_or("");
    Some(MountLine { path: PathBuf::from(unescape(path)), kind, options })
}

/// Blanks and the like are written as octal numbers.
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (code, letter)| text.replace(code, letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
        24 1 0:21 / /sys rw - sysfs sysfs rw\n\
        30 25 0:26 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 rw\n\
        31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
        34 25 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
        35 25 0:30 / /other rw - cgroup cgroup rw,cpu,cpuacct\n\
        36 25 0:31 / /sys/fs/my\\040memory rw - cgroup cgroup rw,memory\n";

    #[test]
    fn hybrid() {
        let Some(Layout::V1 { controllers, unified }) = Layout::parse(HYBRID) else { panic!() };
        assert_eq!(unified.unwrap().to_str(), Some("/sys/fs/cgroup/unified"));
        assert_eq!(controllers.len(), 3);
        assert_eq!(controllers[1].controllers, [Controller::Cpu, Controller::Cpuacct]);
        assert_eq!(controllers[2].path.to_str(), Some("/sys/fs/my memory"));
    }

    #[test]
    fn v2_also_beside_a_named_v1_tree() {
        let lines: Vec<&str> = HYBRID.lines().collect();
        assert!(matches!(Layout::parse(lines[1]), Some(Layout::V2 { .. })));
        assert!(matches!(Layout::parse(&lines[1..3].join("\n")), Some(Layout::V2 { .. })));
        assert_eq!(Layout::parse(lines[0]), None);
        assert_eq!(Layout::parse(""), None);
    }
}
