//! What is kept of a container between commands.
//!
//! ```text
//! <root>/<id>/
//!   state.json      the record below, replaced by rename
//!   start.pending   FIFO: the container is being created
//!   start           the same FIFO, once the container waits for its start; locked by whoever starts it
//!   report          FIFO: what goes wrong after the start
//!   init/           empty; the init's minimal root is mounted there, in its own mount namespace
//! ```
//!
//! The status is not written down: it follows from the process (by id and start time, so that another process with the
//! same id is never taken for it), the FIFO and the freezer.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use corten_cgroup::{CgroupPath, Group, Tree};
use corten_sys::process;
use oci_spec::runtime::{ContainerState, Hook, LinuxNamespaceType, Spec, State};
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::{Error, Result};
use super::{Context, SPEC_VERSION};
use crate::resctrl;

/// Layout of the record.
pub(super) const FORMAT: u32 = 1;

/// A container's record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) format: u32,
    pub(super) id: String,
    /// The init, in the caller's PID namespace; 0 before it is made.
    pub(super) pid: i32,
    /// When it began, in clock ticks since boot: field 22 of `/proc/<pid>/stat`.
    pub(super) start_time: u64,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    /// RFC 3339.
    pub(super) created: String,
    pub(super) cgroup: String,
    /// Where the group's path begins in each hierarchy; empty where it begins at their roots.
    #[serde(default)]
    pub(super) cgroup_roots: Vec<PathBuf>,
    /// The session keyring is that of whoever made the container, for its execs, too.
    #[serde(default)]
    pub(super) keeps_keyring: bool,
    /// Its groups of the processor's resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rdt: Option<resctrl::Made>,
    /// The bundle's `config.json` as it was at creation.
    pub(super) config: Box<RawValue>,
}

impl Record {
    /// The hierarchies, and where the container's group is in them.
    fn place(&self) -> Result<(Tree, CgroupPath), corten_cgroup::Error> {
        let (tree, path) = (Tree::detect()?, CgroupPath::parse(&self.cgroup)?);
        let tree = if self.cgroup_roots.is_empty() { tree } else { tree.below(&self.cgroup_roots)? };
        Ok((tree, path))
    }
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container and its directory.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) record: Record,
    pub(super) directory: PathBuf,
}

/// Checks an id: it is a directory's name.
pub(super) fn check_id(id: &str) -> Result<()> {
    let fine = |letter: char| letter.is_ascii_alphanumeric() || "_+-.".contains(letter);
    if id.is_empty() || id.len() > 1024 || matches!(id, "." | "..") || !id.chars().all(fine) {
        return Err(Error::new("invalid container ID format"));
    }
    Ok(())
}

/// Takes an id: makes the container's directory.
pub(super) fn claim(context: &Context, id: &str) -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    check_id(id)?;
    let directory = context.root.join(id);
    let mut builder = fs::DirBuilder::new();
    builder.mode(0o700);
    let made = match builder.create(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            builder.recursive(true).create(&context.root).and_then(|()| builder.recursive(false).create(&directory))
        }
        made => made,
    };
    match made {
        Ok(()) => Ok(directory),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::new("container with given ID already exists"))
        }
        Err(error) => Err(Error::doing(format!("cannot make {}", directory.display()))(error)),
    }
}

impl Container {
    /// A new container's record, written.
    pub(super) fn save(record: Record, directory: PathBuf) -> Result<Container> {
        let (path, new) = (directory.join("state.json"), directory.join("state.json.new"));
        let failed = || Error::doing(format!("cannot write {}", path.display()));
        let text = serde_json::to_vec(&record).map_err(Error::doing("state"))?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).map_err(failed())?;
        Ok(Container { record, directory })
    }

    /// The same container with its init.
    pub(super) fn with_process(self, pid: i32) -> Result<Container> {
        let stat = stat(pid).ok_or_else(|| Error::new("the container's process is gone"))?;
        Container::save(Record { pid, start_time: stat.start_time, ..self.record }, self.directory)
    }

    /// Reads the record of an existing container.
    pub(super) fn load(context: &Context, id: &str) -> Result<Container> {
        Container::find(context, id)?.ok_or_else(Container::missing)
    }

    /// What is said of an id that has no record.
    pub(super) fn missing() -> Error {
        Error::new("container does not exist")
    }

    /// Reads the record of a container, if there is one.
    pub(super) fn find(context: &Context, id: &str) -> Result<Option<Container>> {
        check_id(id)?;
        let directory = context.root.join(id);
        let text = match fs::read(directory.join("state.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(Error::doing("cannot read the container's state"))?,
        };
        let record: Record = serde_json::from_slice(&text).map_err(Error::doing("malformed state.json"))?;
        if record.format != FORMAT {
            return Err(Error::new(format!("state.json has format {}, this program reads {FORMAT}", record.format)));
        }
        Ok(Some(Container { record, directory }))
    }

    /// All containers, sorted by id; what is just being made or removed is left out.
    pub(super) fn all(context: &Context) -> Result<Vec<Container>> {
        let entries = match fs::read_dir(&context.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::doing(format!("cannot list {}", context.root.display())))?,
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<Container> = names.filter_map(|id| Container::load(context, &id).ok()).collect();
        found.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        Ok(found)
    }

    /// A pidfd of the init, if it is still that process and has not ended.
    pub(super) fn process(&self) -> Option<OwnedFd> {
        let pidfd = process::open_pidfd(self.record.pid).ok()?;
        // Looked at after it was opened: what has the right start time now had the id all the time.
        match stat(self.record.pid) {
            Some(Stat { start_time, ended: false }) if start_time == self.record.start_time => Some(pidfd),
            _ => None,
        }
    }

    pub(super) fn status(&self) -> Status {
        if self.record.pid == 0 {
            Status::Creating
        } else if self.process().is_none() {
            Status::Stopped
        } else if self.directory.join("start.pending").exists() {
            Status::Creating
        } else if self.group().is_ok_and(|group| group.is_frozen().unwrap_or(false)) {
            Status::Paused
        } else if self.waits() {
            Status::Created
        } else {
            Status::Running
        }
    }

    /// Whether the init waits for its start. Its end of the FIFO closes when it executes its program, and the name may outlive that where
    /// a start was killed.
    fn waits(&self) -> bool {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rustix::fs::open(self.directory.join("start"), flags, Mode::empty()).is_ok()
    }

    /// The control group.
    pub(super) fn group(&self) -> Result<Group> {
        self.group_below("")
    }

    /// A group below it that somebody has made; the container's own for an empty path.
    pub(super) fn group_below(&self, below: &str) -> Result<Group> {
        let failed = || Error::doing("cgroup");
        let (tree, path) = self.record.place().map_err(failed())?;
        let path = match below.trim_matches('/') {
            "" => path,
            below => path.join(below).map_err(|_| Error::new(format!("{below} is not a sub cgroup path")))?,
        };
        tree.open(&path).map_err(failed())
    }

    pub(super) fn spec(&self) -> Result<Spec> {
        crate::parse_spec(self.record.config.get().as_bytes()).map_err(Error::doing("state.json"))
    }

    /// Ends the container: its processes, its groups, its directory; then the `poststop` hooks.
    pub(super) fn destroy(&self, context: &Context) -> Result<()> {
        let group = self.group().map_or(Ok(()), |group| remove_group(&group));
        self.remove_rest(group)?;
        run_poststop(context, &self.spec()?, &self.record.id, &self.record.bundle);
        Ok(())
    }

    /// Removes everything but the control group; how that went is `group`. Whatever can go goes, and the first error is told. The record
    /// goes last: as long as a group is left, a further removal finds it.
    pub(super) fn remove_rest(&self, group: Result<()>) -> Result<()> {
        let rdt = remove_rdt(self.record.rdt.as_ref());
        group.and(rdt)?;
        fs::remove_dir_all(&self.directory).map_err(Error::doing("cannot remove the container's directory"))
    }
}

/// Whether a container has a PID namespace of its own: nothing in it outlives its init.
pub(super) fn is_contained(spec: &Spec) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    let joined = |path: &Option<PathBuf>| path.as_ref().is_some_and(|path| !path.as_os_str().is_empty());
    let mut all = namespaces.into_iter().flatten();
    all.any(|namespace| namespace.typ() == LinuxNamespaceType::Pid && !joined(namespace.path()))
}

/// Kills what is left in a group and removes it.
pub(super) fn remove_group(group: &Group) -> Result<()> {
    let failed = || Error::doing("cannot remove the container's cgroup");
    if !group.procs().map_err(failed())?.is_empty() {
        group.kill_all().map_err(failed())?;
    }
    group.remove().map_err(failed())
}

/// Removes the groups of the processor's resources that were made for the container.
pub(super) fn remove_rdt(made: Option<&resctrl::Made>) -> Result<()> {
    made.map_or(Ok(()), |made| made.remove().map_err(Error::doing("cannot remove the container's resctrl group")))
}

/// A hook that fails after the end changes nothing; it is only told.
pub(super) fn run_poststop(context: &Context, spec: &Spec, id: &str, bundle: &Path) {
    let hooks: &[Hook] = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref()).unwrap_or_default();
    for hook in hooks {
        let state = state_of(spec, id, bundle, ContainerState::Stopped, None);
        if let Err(error) = crate::hooks::run("poststop", std::slice::from_ref(hook), &state, Some(bundle)) {
            context.log.warn(&error.to_string());
        }
    }
}

/// What hooks are told.
pub(super) fn state_of(spec: &Spec, id: &str, bundle: &Path, status: ContainerState, pid: Option<i32>) -> State {
    let mut state = State::default();
    state
        .set_version(SPEC_VERSION.to_owned())
        .set_id(id.to_owned())
        .set_status(status)
        .set_pid(pid)
        .set_bundle(bundle.to_owned())
        .set_annotations(spec.annotations().clone());
    state
}

/// What `/proc/<pid>/stat` says of a process.
pub(super) struct Stat {
    pub(super) start_time: u64,
    ended: bool,
}

pub(super) fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    Some(Stat { start_time: fields.nth(18)?.parse().ok()?, ended })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_names_of_directories() {
        for good in ["a", "A-b_c.d+1", "..."] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "\u{e9}"] {
            assert_eq!(check_id(bad).unwrap_err().message, "invalid container ID format", "{bad}");
        }
    }

    #[test]
    fn a_process_is_known_by_its_start() {
        let me = stat(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert!(me.start_time > 0 && !me.ended);
    }
}
