//! What a starting engine finds: containers whose shims live on, exit statuses of those that ended meanwhile, and what operations left
//! that a dead daemon had begun.
//!
//! The truth about a process is its shim, not a record. A live shim is adopted whatever the record says; without one, the status
//! it left in `exit.json` counts; without that, the container was lost (a power loss, or somebody killed the shim too), and Docker's
//! exit code for that is 255. Everything that no record names is removed.

use std::collections::{HashSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_base::{ContainerId, SandboxId};
use corten_shim::client::{Connection, read_exit_status};
use corten_shim::protocol::{Event as ShimEvent, Phase as ShimPhase, SOCKET_NAME, State as ShimState};

use rustix::fs::{CWD, Mode, OFlags};

use crate::error::{Error, chain};
use crate::life::{Event, Phase, State, restarts_with_daemon};
use crate::link::Link;
use crate::record::Record;
use crate::run::Run;
use crate::shared::Shared;
use crate::task::{Task, now_ns};
use crate::undo::log;

/// Docker's exit code for a container whose end nobody saw while the daemon was away.
const LOST: i32 = 255;
/// How long a shim may take to say how it is.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a shim is asked that was starting its container when its daemon died.
const START_POLLS: u32 = 100;

/// A live shim of an earlier daemon.
#[derive(Debug)]
struct Adopted {
    connection: Connection,
    events: VecDeque<ShimEvent>,
    state: ShimState,
    netns: Option<OwnedFd>,
}

/// One container as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    record: Record,
    state: State,
    adopted: Option<Adopted>,
    first: Option<Event>,
}

/// Looks at all records and shims, and cleans up what belongs to neither. Blocks.
pub(crate) fn survey(shared: &Shared) -> Result<Vec<Found>, Error> {
    let mut found = Vec::new();
    for (record, state) in shared.records.all()? {
        // One that asked for a place that can't be is refused when it starts, and has no group: no reason to be without a daemon.
        let noted = shared.note_cgroup_parent(&record.id, &record.spec.cgroup_parent);
        log("a container's control group can't be looked for", noted);
        found.push(look_at(shared, record, state));
    }
    let known: HashSet<ContainerId> = found.iter().map(|found| found.record.id.clone()).collect();
    let adopted = found.iter().filter(|found| found.adopted.is_some());
    let live: HashSet<ContainerId> = adopted.map(|found| found.record.id.clone()).collect();
    remove_strangers(shared, &known)?;
    let sandboxes: HashSet<SandboxId> = live.iter().map(crate::network::sandbox_id).collect();
    shared.networks.recover(&sandboxes)?;
    Ok(found)
}

/// Sets the containers' tasks going.
pub(crate) fn revive(shared: &Arc<Shared>, found: Vec<Found>) -> Result<(), Error> {
    let mut tasks = Vec::with_capacity(found.len());
    for Found { record, state, adopted, first } in found {
        shared.registry.reserve_name(&record.namespace, &record.name, &record.id)?;
        let rootfs = shared.snapshots.rootfs(record.id.as_str()).ok();
        let files = Arc::new(crate::create::files(shared, &record, rootfs.as_ref()));
        let mut task = Task::new(shared.clone(), record, state, files);
        if let Some(adopted) = adopted {
            task.run = Some(run(shared, &task.record, adopted)?);
        }
        let restarts =
            first.is_none() && task.run.is_none() && restarts_with_daemon(task.record.spec.restart, &task.state);
        let first = first.or(restarts.then_some(Event::Start));
        tasks.push((task, first));
    }
    // All are known before the first one starts: it may need another one's namespaces.
    for (task, first) in tasks {
        shared.records.save(&task.record, &task.state);
        task.spawn(first);
    }
    Ok(())
}

/// Finds out what has become of a container.
fn look_at(shared: &Shared, record: Record, mut state: State) -> Found {
    let directory = shared.run_directory(&record.id);
    state.stopping = false;
    if let Some(adopted) = adopt(&directory) {
        let (phase, exit) = (adopted.state.phase, adopted.state.exit);
        tracing::info!(container = %record.id, ?phase, "took over a container");
        if !state.has_process() {
            // The start was not recorded any more.
            state.phase = Phase::Running;
            state.started_ns = Some(now_ns());
            state.finished_ns = None;
        }
        state.pid = adopted.state.pid.unwrap_or(state.pid);
        // An end that the shim reported to nobody is reported by it again only in its state.
        let first = exit.map(|exit| Event::Exited {
            exit_code: exit.code,
            oom: exit.oom,
            at_ns: i64::try_from(exit.time_ns).unwrap_or(i64::MAX),
        });
        return Found { record, state, adopted: Some(adopted), first };
    }
    let left = read_exit_status(&directory).unwrap_or_else(|error| {
        tracing::warn!(container = %record.id, error = chain(&error), "an exit status is not readable");
        None
    });
    let first = match (left, state.has_process()) {
        (Some(exit), true) => {
            let at_ns = i64::try_from(exit.time_ns).unwrap_or(i64::MAX);
            Some(Event::Exited { exit_code: exit.code, oom: exit.oom, at_ns })
        }
        // The start was not recorded any more, and its end neither.
        (Some(exit), false)
            if state.finished_ns.is_none_or(|end| i64::try_from(exit.time_ns).is_ok_and(|at| at > end)) =>
        {
            state.phase = Phase::Running;
            let at_ns = i64::try_from(exit.time_ns).unwrap_or(i64::MAX);
            state.started_ns = Some(at_ns);
            Some(Event::Exited { exit_code: exit.code, oom: exit.oom, at_ns })
        }
        (None, true) => Some(Event::Exited { exit_code: LOST, oom: false, at_ns: now_ns() }),
        _ if state.phase == Phase::Exited && record.spec.auto_remove => Some(Event::Remove { force: true }),
        _ => None,
    };
    if directory.exists() {
        clean_up_run(shared, &record.id);
    }
    Found { record, state, adopted: None, first }
}

/// Connects to a shim that has its container, waiting for a start that is under way. None when there is none worth keeping.
fn adopt(directory: &Path) -> Option<Adopted> {
    // By way of a descriptor: a socket's address has room for 107 bytes only, and a run directory's path may have more.
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(CWD, directory, flags, Mode::empty()).ok()?;
    let socket = corten_sys::process::fd_path(handle.as_fd()).join(SOCKET_NAME);
    let mut connection = match Connection::connect(&socket) {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(directory = %directory.display(), error = chain(&error), "no shim answers");
            return None;
        }
    };
    let mut events = VecDeque::new();
    for _ in 0..START_POLLS {
        let wanted = connection.state().ok()?;
        let answer = connection.recv_answer(wanted, ANSWER_TIMEOUT, |message, _| events.push_back(message.event));
        let (state, netns) = match answer {
            Ok((ShimEvent::State(state), mut fds)) => (*state, fds.pop()),
            _ => break,
        };
        match state.phase {
            // Its exit is in its state; what it reported meanwhile would be counted twice.
            ShimPhase::Exited if state.exit.is_some() => {
                events.retain(|event| !matches!(event, ShimEvent::Exited(_)));
                return Some(Adopted { connection, events, state, netns });
            }
            ShimPhase::Running => return Some(Adopted { connection, events, state, netns }),
            ShimPhase::Starting => std::thread::sleep(Duration::from_millis(50)),
            ShimPhase::Warm | ShimPhase::Assigned | ShimPhase::Exited => break,
        }
    }
    // A start that never got as far, or failed.
    log("a half-started container's shim could not be released", connection.release().map(|_| ()));
    while connection.recv(ANSWER_TIMEOUT).is_ok() {}
    None
}

fn run(shared: &Shared, record: &Record, adopted: Adopted) -> Result<Run, Error> {
    let Adopted { connection, events, state, netns } = adopted;
    let group = shared.find_group(&record.id, &record.spec.cgroup_parent).ok();
    let link = Link::new(connection, None, events)?;
    let network = (*record.network).clone();
    Ok(Run::adopted(link, state.pid.unwrap_or(0), netns, group, network, state.external))
}

/// Removes what a run left whose shim is gone. Blocks.
fn clean_up_run(shared: &Shared, id: &ContainerId) {
    for group in shared.cgroup_parents.groups_of(id) {
        log("a lost container's processes could not be killed", group.kill_all());
        log("a lost container's control group stays behind", group.remove());
    }
    log("a lost container's directory stays behind", remove_directory(&shared.run_directory(id)));
}

fn remove_directory(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Removes what no record names: half-made and half-removed containers' parts, a dead daemon's pool.
fn remove_strangers(shared: &Shared, known: &HashSet<ContainerId>) -> Result<(), Error> {
    for id in ids_below(&shared.config.exec_root.join("shims")) {
        if !known.contains(&id) {
            if let Some(mut adopted) = adopt(&shared.run_directory(&id)) {
                tracing::warn!(container = %id, "killing a container that no record knows");
                log(
                    "a stranger could not be killed",
                    adopted.connection.signal(None, crate::life::SIGKILL).map(|_| ()),
                );
                log("a stranger's shim could not be released", adopted.connection.release().map(|_| ()));
            }
            clean_up_run(shared, &id);
        }
    }
    for id in ids_below(&shared.config.data_root.join("containers")) {
        if !known.contains(&id) {
            crate::create::remove_files(shared, &id);
        }
    }
    let keys = shared.snapshots.keys().map_err(Error::failed("cannot list the containers' layers"))?;
    for key in keys {
        if ContainerId::parse(&key).is_ok_and(|id| !known.contains(&id)) {
            log("a layer without a container stays behind", shared.snapshots.remove(&key));
        }
    }
    remove_pools(shared);
    Ok(())
}

/// Control groups of dead pools. Those of containers are found by their directories: another daemon, with a data root of its own,
/// may have its containers below the same parent.
fn remove_pools(shared: &Shared) {
    let parents = shared.cgroup_parents.all();
    for path in parents.iter().flat_map(|parent| shared.cgroups.children(parent).unwrap_or_default()) {
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        if is_dead_pool(name)
            && let Ok(group) = shared.cgroups.open(&path)
        {
            log("a leftover control group stays behind", group.remove());
        }
    }
}

/// `pool-<pid of the daemon>-<number>` of a daemon that is gone; our own pool is still empty, so our pid is of one that had it before us
/// (a daemon in a PID namespace of its own always has the same). Where another process has the pid by now, an empty group stays a while.
fn is_dead_pool(name: &str) -> bool {
    let pid = name.strip_prefix("pool-").and_then(|rest| rest.split('-').next()).and_then(|pid| pid.parse().ok());
    pid.is_some_and(|pid| pid == std::process::id() || !is_alive(pid))
}

/// A process that has ended counts as dead also while nobody has reaped it (proc_pid_stat(5), the field after the name).
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

fn ids_below(directory: &Path) -> Vec<ContainerId> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok()).collect()
}
