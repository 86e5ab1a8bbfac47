//! From a container's record to its running process.
//!
//! All that is done on the host happens on one blocking thread, up to the request to the shim; its answer that the program was
//! executed is awaited by the container's task itself. Each change of threads costs as much as several of the steps. When a step
//! fails, what was done is undone in reverse, and the host is as before.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corten_base::ContainerId;
use corten_cgroup::Group;
use corten_runtime::agent::{Agent, Container};
use corten_runtime::plan::{Facts, SeccompProgram};
use corten_runtime::sources;
use corten_shim::client::{Connection, Error as ShimError, StartRequest};
use corten_shim::protocol::{AttachMode, Event, LogConfig, Started, Streams, TerminalSize};
use corten_snapshot::MountOptions;
use corten_spec::{Namespace, Namespaces};
use corten_sys::process::Child;
use oci_spec::runtime::ContainerState;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::blocking;
use crate::error::{Error, chain};
use crate::grouped::Grouped;
use crate::joined::{Joined, share_shm};
use crate::link::Link;
use crate::network_files::NetworkFiles;
use crate::pool::{Usual, Warm};
use crate::record::Record;
use crate::reuse::{Reuse, Root};
use crate::settings::ContainerSpec;
use crate::shared::{Shared, read_in_root};
use crate::translate::{self, StartFacts};
use crate::undo::{Undo, log};
use crate::view::{Files, MountPoint, NetworkView};

/// How long a start may take once the shim has everything: the kernel's part, on a machine that is busy.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the shim of a failed start may take to end once it has closed its connection.
const SHIM_END: Duration = Duration::from_secs(1);

/// Everything that a start needs, owned, so that it can be handed to another thread.
#[derive(Debug)]
pub(crate) struct Launch {
    pub shared: Arc<Shared>,
    pub record: Record,
    pub files: Arc<Files>,
    /// The root file system mounted at create; mounted anew if it was used.
    pub root: Option<Root>,
    pub reuse: Arc<Reuse>,
    /// Clients that are there before the process.
    pub attaches: Vec<(AttachMode, OwnedFd)>,
    /// Other containers' namespaces.
    pub joined: Joined,
}

/// A container whose start is in its shim's hands.
pub(crate) struct Sent {
    link: Link,
    /// The request that the shim will answer.
    wanted: u64,
    held: Held,
}

/// What a start has made on the host, to be kept or taken back.
struct Held {
    shared: Arc<Shared>,
    record: Record,
    netns: OwnedFd,
    group: Grouped,
    network: NetworkView,
    external: bool,
    undo: Undo<'static>,
}

/// A container's running process.
#[derive(Debug)]
pub(crate) struct Launched {
    pub link: Link,
    pub netns: OwnedFd,
    pub group: Option<Group>,
    /// To be removed behind the answer.
    pub spare: Option<Group>,
    pub pid: i32,
    pub network: NetworkView,
    pub warnings: Vec<String>,
    /// Another runtime made it.
    pub external: bool,
}

/// The exit code that Docker shows for a start that failed before the program could.
pub(crate) const FAILED: i32 = 128;

/// Makes everything that the container's process needs and hands it to a shim. Blocks.
pub(crate) fn send(mut launch: Launch) -> Result<Sent, Error> {
    let (shared, record) = (launch.shared.clone(), launch.record.clone());
    let mut undo = Undo::default();
    launch.joined.share();

    let rootfs = match launch.root.take() {
        Some(root) => shared.spares.lend(&launch.reuse, root),
        None => {
            // What it ran on before is unmounted first: one layer is not to be in two overlays.
            launch.reuse.forget();
            mount_root(&shared, &record)?
        }
    };
    let mounted = mount_volumes(&shared, &record)?;
    undo.push({
        let (shared, id) = (shared.clone(), record.id.clone());
        move || unmount_volumes(&shared, &id, &mounted)
    });

    let runtime = shared.config.runtimes.find(&record.spec.runtime)?;
    let warm = if runtime.is_some() { shared.pool.on_host()? } else { shared.pool.take()? };
    let network = match crate::network::plug(&shared, &record, warm.netns.as_fd(), &launch.joined) {
        Ok(network) => network,
        // Taken back last, so that no namespace is left when this returns.
        Err(error) => {
            shared.pool.discard(warm);
            return Err(error);
        }
    };
    undo.push({
        let (shared, space, id, network) =
            (shared.clone(), record.namespace.clone(), record.id.clone(), network.clone());
        move || crate::network::unplug_failed(&shared, &space, &id, &network)
    });

    let Warm { connection, mut child, netns, group } = warm;
    let group = Grouped::new(group);
    let link = match Link::new(connection, None, VecDeque::new()) {
        Ok(link) => link.with_child(child),
        Err(error) => {
            // Its connection is closed, and it was not assigned: it ends.
            log("a warm shim could not be reaped", child.wait().map(drop));
            return Err(error);
        }
    };
    let external = runtime.is_some();
    let held = Held { shared: shared.clone(), record: record.clone(), netns, group, network, external, undo };
    let mut sent = Sent { link, wanted: 0, held };
    let making = Making {
        shared: &shared,
        record: &record,
        files: &launch.files,
        rootfs: &rootfs,
        attaches: &launch.attaches,
        joined: &launch.joined,
        network: &sent.held.network,
        reuse: &launch.reuse,
    };
    let (group, connection) = (&mut sent.held.group, sent.link.connection());
    let handed = match runtime {
        None => hand_over(&making, group, connection),
        Some(runtime) => crate::external::hand_over(&making, runtime, group, connection),
    };
    match handed {
        Ok(wanted) => Ok(Sent { wanted, ..sent }),
        Err(error) => {
            sent.take_back();
            Err(error)
        }
    }
}

impl Sent {
    /// Waits for the shim's answer that the program was executed. On failure the host is as before the start.
    pub(crate) async fn answered(mut self) -> Result<Launched, Error> {
        let refused = match self.held.external {
            false => task_failure,
            true => |message: &str, _| crate::external::task_failure(message),
        };
        // The answer to Assign comes before; if it is a refusal the start is refused too.
        let error = match self.link.answer(self.wanted, START_TIMEOUT).await {
            Ok((Event::Started(started), _)) => return Ok(self.held.keep(self.link, started)),
            Ok((other, _)) => Error::Unavailable(format!("the shim answered a start with {other:?}")),
            Err(ShimError::Failed(failure)) => refused(&failure.message, failure.exit_code()),
            Err(error) => refused(&chain(&error), FAILED),
        };
        log("a failed start was not taken back", blocking::run(move || self.take_back()).await);
        Err(error)
    }

    /// Undoes the start in reverse. Blocks.
    fn take_back(self) {
        let Sent { link, held, .. } = self;
        held.group.kill_all();
        let (connection, child) = link.into_parts();
        end(&held.record, connection, child);
        // Only now: a warm init stub may be joining it for as long as its shim lives.
        drop(held.group);
        log("a failed start's directory stays behind", remove_run_directory(&held.shared, &held.record));
        drop(held.undo);
    }
}

impl Held {
    fn keep(self, link: Link, started: Started) -> Launched {
        let Held { netns, group, network, external, undo, .. } = self;
        undo.keep();
        let (group, spare) = group.keep();
        let Started { pid, warnings } = started;
        Launched { link, netns, group, spare, pid, network, warnings, external }
    }
}

/// The root file system, attached to nothing yet.
pub(crate) fn mount_root(shared: &Shared, record: &Record) -> Result<OwnedFd, Error> {
    let failed = || Error::failed("cannot mount the container's root file system");
    let rootfs = shared.snapshots.rootfs(record.id.as_str()).map_err(failed())?;
    rootfs.mount_detached(root_options(&record.spec)).map_err(failed())
}

/// A container that is removed at its end need not survive the machine's.
pub(crate) fn root_options(spec: &ContainerSpec) -> MountOptions {
    MountOptions { read_only: false, volatile: spec.auto_remove }
}

/// What a start has gathered when it comes to the container itself.
#[derive(Clone, Copy)]
pub(crate) struct Making<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) record: &'a Record,
    pub(crate) files: &'a Files,
    pub(crate) rootfs: &'a OwnedFd,
    pub(crate) attaches: &'a [(AttachMode, OwnedFd)],
    pub(crate) joined: &'a Joined,
    pub(crate) network: &'a NetworkView,
    pub(crate) reuse: &'a Reuse,
}

impl Making<'_> {
    /// What the container is to be. What `-v` binds is there afterwards.
    pub(crate) fn settings(&self) -> Result<corten_spec::Settings, Error> {
        let Making { shared, record, files, .. } = *self;
        let facts = start_facts(shared, record, files, self.rootfs.as_fd(), self.joined)?;
        let home = facts.user.home.clone();
        let mut settings = translate::settings(record, files, facts, &shared.config)?;
        translate::add_home(&mut settings.env, &home);
        prepare_sources(&record.mounts)?;
        Ok(settings)
    }

    /// The clients that are there before the process.
    pub(crate) fn attach(&self) -> Vec<(AttachMode, BorrowedFd<'_>)> {
        self.attaches.iter().map(|(mode, socket)| (*mode, socket.as_fd())).collect()
    }

    /// Binds the shim to the container; its directory is there afterwards, by which a later daemon finds it.
    pub(crate) fn assign(&self, connection: &mut Connection) -> Result<(), Error> {
        let (run, directory) = open_directories(self.shared, self.record, self.files)?;
        let log = log_config(self.record);
        let assigned = connection.assign(self.record.id.as_str(), run.as_fd(), directory.as_fd(), log);
        assigned.map(drop).map_err(unsent())
    }

    /// The files that tell the container about its networks, to be written; none for one that has another's network, and its files.
    pub(crate) fn network_files(&self) -> Result<Option<NetworkFiles<'_>>, Error> {
        self.joined.network.is_none().then(|| NetworkFiles::open(self.files)).transpose()
    }
}

/// A shim that does not take its packets.
pub(crate) fn unsent() -> impl FnOnce(ShimError) -> Error {
    Error::failed("cannot hand the container to its shim")
}

/// Decides what the process will be and tells the shim; returns the number of the request that it answers. Whatever becomes of it,
/// `group` is what has to be removed.
fn hand_over(making: &Making<'_>, group: &mut Grouped, connection: &mut Connection) -> Result<u64, Error> {
    let Making { shared, record, files, rootfs, joined, network, .. } = *making;
    // The shim does its part of it meanwhile. The directory comes before the control group: by it a later daemon finds both.
    making.assign(connection)?;
    let network_files = making.network_files()?;
    let (oci, mut plan) = plan(shared, making.settings()?)?;
    let usual_filter = shared.pool.leave_filter_out(&mut plan);

    let failed = |error: sources::Error| task_failure(&chain(&error), FAILED);
    let mut trees = sources::open_sources(&plan).map_err(failed)?;
    share_shm(&plan, files, joined, &mut trees)?;
    let namespaces = sources::open_namespaces(&plan).map_err(failed)?;
    joined.recheck()?;
    let agent = connect_agent(&oci, record, files, ContainerState::Creating)
        .map_err(|error| task_failure(&chain(&error), FAILED))?;
    let joins_itself = group.place(shared, record, &oci)?;
    let group_fds = group.get()?.dir_fds().map_err(Error::failed("cannot open the control group"))?;

    let (hold, go) = pipe_with(PipeFlags::CLOEXEC)
        .map_err(|error| Error::failed("cannot make a pipe")(std::io::Error::from(error)))?;
    let request = StartRequest {
        plan: &plan,
        rootfs: rootfs.as_fd(),
        sources: &borrow(&trees),
        namespaces: &borrow(&namespaces),
        cgroups: &borrow(&group_fds),
        memory: group.get()?.memory_dir(),
        join_cgroups: joins_itself,
        streams: streams(record),
        attach: &making.attach(),
        agent: agent.as_ref(),
        hold: Some(hold.as_fd()),
        usual_filter,
    };
    let wanted = connection.start(&request).map_err(unsent())?;
    drop(hold);
    // The init is at work already, and waits for these at the end.
    network_files.map_or(Ok(()), |files| files.write(shared, record, network))?;
    shared.spares.begin(making.reuse, trees.iter().chain([rootfs]).map(AsFd::as_fd), files);
    group.rename(shared, record)?;
    // Nobody may be waiting any more: the shim's answer says why.
    let _ = rustix::io::write(&go, b"g");
    Ok(wanted)
}

/// A directory in the place of a program is refused in the same words as what has no permission to be executed.
pub(crate) fn as_denied(message: &str) -> Cow<'_, str> {
    if message.ends_with(": is a directory") { format!("{message}: permission denied").into() } else { message.into() }
}

/// What the runtime says of a file in the place of a directory, or the other way round.
pub(crate) const MOUNT_HINT: &str = "Are you trying to mount a directory onto a file";

/// What Docker says when a task could not be made, in front of what the runtime says.
pub(crate) fn task_failure(message: &str, exit_code: i32) -> Error {
    // A mount's failure brings its hint along; Docker's exit code for it is that of a command which isn't there.
    let exit_code = if message.contains(MOUNT_HINT) { 127 } else { exit_code };
    let message = as_denied(message);
    create_failure(&format!("unable to start container process: error during container init: {message}"), exit_code)
}

/// The same for a container that there was nothing to start of: what it asks for can't be.
fn create_failure(message: &str, exit_code: i32) -> Error {
    let before = "failed to create task for container: failed to create shim task: OCI runtime create failed";
    Error::Launch { message: format!("{before}: runc create failed: {message}"), exit_code }
}

pub(crate) fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

fn start_facts(
    shared: &Shared,
    record: &Record,
    files: &Files,
    root: BorrowedFd<'_>,
    joined: &Joined,
) -> Result<StartFacts, Error> {
    let user = resolve_user(root, &record.spec.user, &record.spec.group_add)?;
    let cgroup_path = shared.cgroup_path(&record.id, &record.spec.cgroup_parent)?;
    let init = record.spec.init.unwrap_or(shared.config.init);
    Ok(StartFacts {
        user,
        init: init.then(|| shared.init.path(&shared.config)).transpose()?,
        network_pid: joined.network.as_ref().map(|other| other.pid),
        ipc_pid: joined.ipc,
        pid_pid: joined.pid,
        shared_shm: joined.ipc.map(|_| files.directory.clone()),
        cgroup_v2: shared.cgroups.is_v2(),
        cgroup_path: cgroup_path.as_str().into(),
        host_name: host_name(),
    })
}

/// Looks a user up in the container's own files.
pub(crate) fn resolve_user(
    root: BorrowedFd<'_>,
    user: &str,
    groups: &[String],
) -> Result<corten_spec::user::ResolvedUser, Error> {
    let passwd = read_in_root(root, "etc/passwd")?;
    let group = read_in_root(root, "etc/group")?;
    corten_spec::user::resolve(&passwd, &group, user, groups)
        .map_err(|error| Error::Launch { message: error.to_string(), exit_code: FAILED })
}

/// The host's name, for containers in its UTS namespace.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The OCI document of a container's settings.
pub(crate) fn oci_document(
    shared: &Shared,
    settings: &corten_spec::Settings,
) -> Result<oci_spec::runtime::Spec, Error> {
    let failed = |error: corten_spec::Error| Error::Launch { message: chain(&error), exit_code: FAILED };
    if !settings.privileged {
        return corten_spec::to_oci(settings, &shared.host).map_err(failed);
    }
    let host = corten_spec::HostFacts { devices: corten_spec::host::devices(), ..shared.host.clone() };
    corten_spec::to_oci(settings, &host).map_err(failed)
}

/// The container's OCI document, but for the default filter, and what the shim does for it.
fn plan(
    shared: &Shared,
    mut settings: corten_spec::Settings,
) -> Result<(oci_spec::runtime::Spec, corten_runtime::Plan), Error> {
    let usual = shared.filters.take_default(&mut settings, &shared.host)?;
    let oci = oci_document(shared, &settings)?;
    let seccomp = filter(shared, usual, &oci)?;
    let facts = Facts { seccomp, unified_cgroup: shared.cgroups.is_v2(), host_side: false };
    let plan = corten_runtime::plan(&oci, &facts).map_err(|error| create_failure(&chain(&error), FAILED))?;
    Ok((oci, plan))
}

/// The filter of a container: the usual one, or its document's.
pub(crate) fn filter(
    shared: &Shared,
    usual: Option<SeccompProgram>,
    oci: &oci_spec::runtime::Spec,
) -> Result<Option<SeccompProgram>, Error> {
    let profile = oci.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    match (usual, profile) {
        (None, Some(profile)) => shared.filters.compile(profile).map(Some),
        (usual, _) => Ok(usual),
    }
}

/// What a container asks for whose client has set nothing.
pub(crate) fn usual(shared: &Shared) -> Result<Usual, Error> {
    let cgroup = if shared.cgroups.is_v2() { Namespace::New } else { Namespace::Host };
    let settings = corten_spec::Settings {
        args: vec!["true".into()],
        rootfs: "rootfs".into(),
        namespaces: Namespaces { cgroup, ..Namespaces::default() },
        shm: translate::shm(&ContainerSpec { shm_size: shared.config.default_shm_size, ..Default::default() }, None),
        ..Default::default()
    };
    let (oci, plan) = plan(shared, settings)?;
    Ok(Usual { plan, limits: corten_runtime::devices::limits(&oci) })
}

/// A connection to whoever answers what the container's seccomp filter notifies, if its profile names somebody.
pub(crate) fn connect_agent(
    oci: &oci_spec::runtime::Spec,
    record: &Record,
    files: &Files,
    status: ContainerState,
) -> Result<Option<Agent>, corten_runtime::agent::Error> {
    Agent::connect(oci, Container { id: record.id.to_string(), bundle: files.directory.clone(), status })
}

/// Makes the directories that `-v` binds and that aren't there, as Docker does.
fn prepare_sources(mounts: &[MountPoint]) -> Result<(), Error> {
    for point in mounts.iter().filter(|point| point.kind == "bind") {
        let source = translate::source(point);
        if let Err(error) = fs::metadata(&source) {
            let failed = Error::failed(format!("error while creating mount source path '{}'", source.display()));
            match error.kind() {
                std::io::ErrorKind::NotFound => fs::create_dir_all(&source).map_err(failed)?,
                _ => return Err(failed(error)),
            }
        }
    }
    Ok(())
}

/// Makes the shim's directory and opens it and the container's.
fn open_directories(shared: &Shared, record: &Record, files: &Files) -> Result<(OwnedFd, OwnedFd), Error> {
    let failed = || Error::failed("cannot make the shim's directory");
    let path = shared.run_directory(&record.id);
    match rustix::fs::mkdir(&path, Mode::RWXU) {
        // What a run before left is not ours to read.
        Err(rustix::io::Errno::EXIST) => {
            fs::remove_dir_all(&path).map_err(failed())?;
            rustix::fs::mkdir(&path, Mode::RWXU).map_err(std::io::Error::from).map_err(failed())?;
        }
        made => made.map_err(std::io::Error::from).map_err(failed())?,
    }
    let open = |path: &std::path::Path| {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(std::io::Error::from).map_err(failed())
    };
    Ok((open(&path)?, open(&files.directory)?))
}

/// Removes the shim's directory; harmless when it is gone.
pub(crate) fn remove_run_directory(shared: &Shared, record: &Record) -> std::io::Result<()> {
    match fs::remove_dir_all(shared.run_directory(&record.id)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Ends a shim whose start failed: an assigned one ends only when it is told to.
fn end(record: &Record, mut connection: Connection, child: Option<Child>) {
    if let Err(error) = connection.release() {
        tracing::warn!(container = %record.id, error = chain(&error), "a failed start's shim could not be released");
    }
    loop {
        match connection.recv(START_TIMEOUT) {
            Ok(_) => {}
            Err(ShimError::Closed) => break,
            Err(error) => {
                tracing::warn!(container = %record.id, error = chain(&error), "a failed start's shim does not end");
                break;
            }
        }
    }
    let Some(mut child) = child else { return };
    // It ends by itself as soon as it has closed the connection; nothing of a failed start is worth waiting longer for.
    let deadline = Instant::now() + SHIM_END;
    while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    if matches!(child.try_wait(), Ok(None)) {
        log("a failed start's shim could not be killed", child.kill());
    }
    log("a failed start's shim could not be reaped", child.wait().map(|_| ()));
}

pub(crate) fn streams(record: &Record) -> Streams {
    let spec = &record.spec;
    Streams {
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        stdin_once: spec.stdin_once,
        size: spec.console_size.map(|(height, width)| TerminalSize { width, height }),
    }
}

fn log_config(record: &Record) -> LogConfig {
    let spec = &record.spec;
    if spec.log_driver == "none" {
        return LogConfig::None;
    }
    let option = |key: &str| spec.log_options.get(key).map(String::as_str);
    // Both were checked when the container was made.
    let max_size = option("max-size").and_then(|size| corten_base::units::parse_ram(size).ok());
    let max_files = option("max-file").and_then(|count| count.parse().ok()).unwrap_or(1);
    LogConfig::JsonFile {
        file: log_name(&record.id),
        max_size: max_size.and_then(|size| u64::try_from(size).ok()),
        max_files,
        attrs: crate::create::log_attributes(spec),
    }
}

/// The log's file name in the container's directory.
pub(crate) fn log_name(id: &ContainerId) -> String {
    format!("{id}-json.log")
}

/// Makes the container's volumes available. Returns the names of those it did, for taking it back.
fn mount_volumes(shared: &Shared, record: &Record) -> Result<Vec<String>, Error> {
    let mut mounted: Vec<String> = Vec::new();
    for point in record.mounts.iter().filter(|point| point.kind == "volume") {
        let Some(name) = &point.name else { continue };
        if let Err(error) = shared.volumes.mount(name, record.id.as_str()) {
            unmount_volumes(shared, &record.id, &mounted);
            return Err(error.into());
        }
        mounted.push(name.clone());
    }
    Ok(mounted)
}

/// Ends the container's use of volumes.
pub(crate) fn unmount_volumes(shared: &Shared, id: &ContainerId, names: &[String]) {
    for name in names {
        log("a volume stays mounted", shared.volumes.unmount(name, id.as_str()));
    }
}
