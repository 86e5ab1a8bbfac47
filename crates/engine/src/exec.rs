//! Additional processes in running containers.
//!
//! An execution is known from its create until some time after its end, so that its exit code can be asked for; it lives in memory
//! only, as Docker's do. Its process belongs to the container's shim.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corten_base::{ContainerId, ExecId, Namespace};
use corten_runtime::ProcessPlan;
use corten_runtime::agent::Agent;
use corten_runtime::plan::SeccompProgram;
use corten_shim::client::{Error as ShimError, ExecProcess};
use corten_shim::protocol::{AttachMode, Event, ExecExited, TerminalSize};
use corten_spec::exec::ExecSettings;
use oci_spec::runtime::{ContainerState, Process, Spec};
use tokio::sync::watch;

use crate::attach::{Attached, DetachKeys};
use crate::blocking;
use crate::error::{Error, chain};
use crate::launch;
use crate::life::{Phase, Refusal};
use crate::logs::LogStream;
use crate::record::Record;
use crate::registry::Handle;
use crate::shared::Shared;
use crate::task::{Request, Task};
use crate::translate::{self, StartFacts};
use crate::view::{ExecSpec, ExecView, Files};

/// How long an ended execution is remembered.
const REMEMBERED: Duration = Duration::from_secs(300);

/// The exit code of an execution that nobody waited for.
const NEVER_RAN: i32 = 126;

/// How long a process whose streams have ended is expected to end as well.
const END_AFTER_STREAMS: Duration = Duration::from_secs(2);

/// The executions of one namespace.
#[derive(Debug, Clone)]
pub struct ExecService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
}

/// How an execution is started.
#[derive(Debug, Clone, Default)]
pub struct StartExec {
    /// Nobody takes part in its streams.
    pub detach: bool,
    /// Height and width of its terminal.
    pub console_size: Option<(u16, u16)>,
}

/// All executions that are remembered.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    entries: Mutex<HashMap<ExecId, Arc<Entry>>>,
}

/// One execution.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: ExecId,
    pub(crate) namespace: Namespace,
    pub(crate) container: Arc<Handle>,
    pub(crate) spec: Arc<ExecSpec>,
    state: watch::Sender<ExecState>,
}

#[derive(Debug, Clone, Default)]
struct ExecState {
    started: bool,
    running: bool,
    exit_code: Option<i32>,
    pid: i32,
    ended: Option<Instant>,
}

/// The end of an execution, to be waited for.
#[derive(Debug)]
pub struct ExecEnd {
    state: watch::Receiver<ExecState>,
}

impl ExecEnd {
    /// Returns when the exit code can be asked for, or after a moment: a process may close its streams and live on.
    pub async fn recorded(mut self) {
        let _ = tokio::time::timeout(END_AFTER_STREAMS, self.state.wait_for(|state| !state.running)).await;
    }
}

/// An execution that is to be started; one whose client went away before has ended without a beginning.
struct Pending {
    entry: Option<Arc<Entry>>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(entry) = &self.entry {
            entry.end(NEVER_RAN);
        }
    }
}

impl Entry {
    fn start(&self) -> Result<(), Error> {
        let mut refused = None;
        self.state.send_modify(|state| match (state.started, state.running) {
            (_, true) => refused = Some(format!("exec command {} is already running", self.id)),
            (true, false) => refused = Some(format!("exec command {} has already run", self.id)),
            _ => (state.started, state.running) = (true, true),
        });
        refused.map_or(Ok(()), |text| Err(Error::Conflict(text)))
    }

    fn end(&self, exit_code: i32) {
        self.state.send_modify(|state| {
            state.running = false;
            state.exit_code = Some(exit_code);
            state.ended = Some(Instant::now());
        });
    }

    /// The command line as events show it.
    fn command(&self) -> String {
        let (program, arguments) =
            self.spec.args.split_first().map_or(("", [].as_slice()), |(first, rest)| (first, rest));
        format!("{program} {}", arguments.join(" "))
    }
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<ExecId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a removed container's executions.
    pub(crate) fn forget(&self, container: &ContainerId) {
        self.lock().retain(|_, entry| entry.container.id != *container);
    }

    fn add(&self, entry: Arc<Entry>) {
        let mut entries = self.lock();
        entries.retain(|_, entry| entry.state.borrow().ended.is_none_or(|ended| ended.elapsed() < REMEMBERED));
        entries.insert(entry.id.clone(), entry);
    }
}

impl ExecService {
    /// Prepares a process in a running container.
    pub async fn create(&self, container: &str, spec: ExecSpec) -> Result<ExecId, Error> {
        let handle = self.shared.registry.find(&self.namespace, container)?;
        let view = handle.now();
        match view.state.phase {
            Phase::Running => {}
            Phase::Paused => return Err(Refusal::ExecPaused(container.into()).into()),
            Phase::Restarting => return Err(Refusal::Restarting(container.into()).into()),
            _ => return Err(Refusal::NotRunning(view.id.to_string()).into()),
        }
        if spec.args.is_empty() {
            return Err(Error::Invalid("No exec command specified".into()));
        }
        if !spec.detach_keys.is_empty() {
            DetachKeys::parse(&spec.detach_keys)?;
        }
        let spec = Arc::new(spec);
        if !spec.user.is_empty() {
            // A user whom the container doesn't know is refused here; everybody else is looked up again at the start.
            let prepare = |reply| Request::PrepareExec { spec: spec.clone(), size: None, reply };
            handle.ask(prepare).await.map_err(|error| Error::Invalid(error.message()))?;
        }
        let id = ExecId::generate();
        let entry = Arc::new(Entry {
            id: id.clone(),
            namespace: self.namespace.clone(),
            container: handle,
            spec,
            state: watch::Sender::new(ExecState::default()),
        });
        tell(&self.shared, &view, &entry, &format!("exec_create: {}", entry.command()), None);
        self.shared.execs.add(entry);
        Ok(id)
    }

    /// Starts it. Without `detach`, what fails in the container (a command that can't be executed) is told on the stream, as
    /// Docker does; what fails before is an error.
    pub async fn start(&self, id: &str, options: StartExec) -> Result<Option<Attached>, Error> {
        let entry = self.entry(id)?;
        let size = options.console_size.or(entry.spec.console_size);
        let view = entry.container.now();
        match view.state.phase {
            Phase::Running => {}
            Phase::Paused => return Err(Refusal::ExecPaused(view.id.to_string()).into()),
            _ => return Err(Refusal::NotRunning(view.id.to_string()).into()),
        }
        entry.start()?;
        tell(&self.shared, &view, &entry, &format!("exec_start: {}", entry.command()), None);
        let prepared = entry.container.ask(|reply| Request::PrepareExec { spec: entry.spec.clone(), size, reply });
        let process = prepared.await.inspect_err(|error| entry.end(exit_code(error)))?;
        if options.detach {
            let run = |reply| Request::Exec { entry: entry.clone(), process, size, attach: None, reply };
            return entry.container.ask(run).await.inspect_err(|error| entry.end(exit_code(error))).map(|()| None);
        }
        self.start_attached(entry, process, size).map(Some)
    }

    /// The process is started when the client's stream is read: some clients lose output that comes with the answer to their request.
    fn start_attached(
        &self,
        entry: Arc<Entry>,
        process: Box<Prepared>,
        size: Option<(u16, u16)>,
    ) -> Result<Attached, Error> {
        let spec = entry.spec.clone();
        let (client, theirs) = crate::attach::pair()?;
        let mode = AttachMode { stdin: spec.attach_stdin, stdout: spec.attach_stdout, stderr: spec.attach_stderr };
        let keys = (spec.tty && spec.attach_stdin).then(|| DetachKeys::parse(&spec.detach_keys)).transpose()?;
        let end = ExecEnd { state: entry.state.subscribe() };
        let (shared, view) = (self.shared.clone(), entry.container.now());
        let detach = Some(crate::attach::Detach { shared, view, exec: Some(entry.id.clone()) });
        let mut pending = Pending { entry: Some(entry) };
        let start = async move {
            let entry = pending.entry.take()?;
            let attach = Some((mode, theirs));
            let run = |reply| Request::Exec { entry: entry.clone(), process, size, attach, reply };
            let error = entry.container.ask(run).await.err()?;
            entry.end(exit_code(&error));
            Some(complaint(&error, entry.spec.tty))
        };
        let log = Some(LogStream::starting(spec.tty, start));
        Ok(Attached { tty: spec.tty, log, stream: Some(client), keys, end: Some(end), detach })
    }

    /// Sets the size of its terminal.
    pub async fn resize(&self, id: &str, height: u16, width: u16) -> Result<(), Error> {
        let entry = self.entry(id)?;
        if !entry.state.borrow().running {
            return Err(Error::Conflict(format!("exec command {id} is not running")));
        }
        let exec = Some(entry.id.clone());
        entry.container.ask(|reply| Request::Resize { exec, height, width, reply }).await
    }

    /// The execution as it is now.
    pub fn inspect(&self, id: &str) -> Result<ExecView, Error> {
        let entry = self.entry(id)?;
        let state = entry.state.borrow().clone();
        Ok(ExecView {
            id: entry.id.clone(),
            container_id: entry.container.id.clone(),
            spec: entry.spec.clone(),
            running: state.running,
            exit_code: state.exit_code,
            pid: state.pid,
        })
    }

    fn entry(&self, id: &str) -> Result<Arc<Entry>, Error> {
        let missing = || Error::NoSuchExec(id.to_string());
        let key = ExecId::parse(id).map_err(|_| missing())?;
        let entry = self.shared.execs.lock().get(&key).cloned();
        entry.filter(|entry| entry.namespace == self.namespace).ok_or_else(missing)
    }
}

/// The exit code of an execution that could not be started.
fn exit_code(error: &Error) -> i32 {
    match error {
        Error::Launch { exit_code, .. } => *exit_code,
        _ => 126,
    }
}

/// What a client's stream says when nothing runs.
fn complaint(error: &Error, tty: bool) -> Bytes {
    let text = format!("{}\r\n", error.message());
    let mut frame = Vec::new();
    if !tty {
        frame.extend_from_slice(&[1, 0, 0, 0]);
        frame.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    frame.extend_from_slice(text.as_bytes());
    frame.into()
}

fn tell(shared: &Shared, view: &crate::view::ContainerView, entry: &Entry, action: &str, exit_code: Option<i32>) {
    let mut actor = corten_events::Actor { id: view.id.to_string(), attributes: view.spec.labels.clone() };
    actor.attributes.insert("image".into(), view.spec.image.clone());
    actor.attributes.insert("name".into(), view.name.clone());
    actor.attributes.insert("execID".into(), entry.id.to_string());
    if let Some(code) = exit_code {
        actor.attributes.insert("exitCode".into(), code.to_string());
    }
    shared.events.publish(&view.namespace, corten_events::Kind::Container, action, actor);
}

/// What the shim is given for an execution.
#[derive(Debug)]
pub(crate) struct Prepared {
    process: Form,
    agent: Option<Agent>,
}

/// A process as whoever makes it takes it.
#[derive(Debug)]
enum Form {
    Plan(Box<ProcessPlan>),
    /// For another runtime: the runtime-spec's Process, and whether it has a terminal.
    Document(Vec<u8>, bool),
}

impl Form {
    fn for_shim(&self) -> ExecProcess<'_> {
        match self {
            Form::Plan(plan) => ExecProcess::Plan(plan),
            Form::Document(text, terminal) => ExecProcess::Document(text, *terminal),
        }
    }
}

/// What an execution runs, worked out on its container's task.
pub(crate) async fn prepare(
    task: &Task,
    spec: Arc<ExecSpec>,
    size: Option<(u16, u16)>,
) -> Result<Box<Prepared>, Error> {
    if task.state.phase != Phase::Running {
        return Err(Refusal::NotRunning(task.record.id.to_string()).into());
    }
    let (shared, record, files, pid) = (task.shared.clone(), task.record.clone(), task.files.clone(), task.state.pid);
    let reuse = task.reuse.clone();
    let external = task.run.as_ref().is_some_and(|run| run.external);
    blocking::run(move || {
        reuse.forget();
        let (oci, filter, process) = process(&shared, &record, &files, &spec, size, pid)?;
        let prepared = match external {
            true => document(&process),
            false => plan(&shared, &record, &files, (&oci, filter), &process, spec.privileged),
        };
        prepared.map(Box::new)
    })
    .await?
}

/// The container's part of a start: on its task.
pub(crate) async fn run(
    task: &mut Task,
    entry: Arc<Entry>,
    prepared: &Prepared,
    size: Option<(u16, u16)>,
    attach: Option<(AttachMode, OwnedFd)>,
) -> Result<(), Error> {
    let not_running = || Error::from(Refusal::NotRunning(task.record.id.to_string()));
    if task.state.phase != Phase::Running {
        return Err(not_running());
    }
    let Some(run) = &mut task.run else { return Err(not_running()) };
    let size = size.map(|(height, width)| TerminalSize { width, height });
    let id = entry.id.to_string();
    let started = run
        .link
        .call(|shim| {
            let attach = attach.as_ref().map(|(mode, socket)| (*mode, socket.as_fd()));
            shim.exec(&id, prepared.process.for_shim(), size, attach, prepared.agent.as_ref())
        })
        .await;
    match started {
        Ok((Event::ExecStarted(started), _)) => {
            entry.state.send_modify(|state| state.pid = started.pid);
            task.execs.insert(entry.id.clone(), entry);
            task.publish();
            Ok(())
        }
        Ok((other, _)) => Err(Error::Unavailable(format!("the shim answered an exec with {other:?}"))),
        Err(error) if matches!(prepared.process, Form::Document(..)) => Err(crate::external::exec_failure(&error)),
        Err(ShimError::Failed(failure)) => Err(failed(&failure.message, failure.exit_code())),
        Err(error) => Err(failed(&chain(&error), 126)),
    }
}

/// What Docker says in front of the runtime's own words. Exit codes other than 126 and 127 are 126 here.
fn failed(message: &str, exit_code: i32) -> Error {
    let message = launch::as_denied(message);
    Error::Launch {
        message: format!("OCI runtime exec failed: exec failed: unable to start container process: {message}"),
        exit_code: if exit_code == 127 { 127 } else { 126 },
    }
}

/// What runs: the container's process with the execution's changes, beside the container's own document and, if it has the default
/// filter, that. Blocks.
fn process(
    shared: &Shared,
    record: &Record,
    files: &Files,
    spec: &ExecSpec,
    size: Option<(u16, u16)>,
    pid: i32,
) -> Result<(Spec, Option<SeccompProgram>, Process), Error> {
    let path = format!("/proc/{pid}/root");
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::openat(rustix::fs::CWD, path, flags, rustix::fs::Mode::empty())
        .map_err(std::io::Error::from)
        .map_err(Error::failed("cannot open the container's root"))?;
    let container_user = launch::resolve_user(root.as_fd(), &record.spec.user, &record.spec.group_add)?;
    let user = match spec.user.as_str() {
        "" => None,
        user => Some(launch::resolve_user(root.as_fd(), user, &record.spec.group_add)?),
    };
    let home = user.as_ref().unwrap_or(&container_user).home.clone();
    let facts = StartFacts {
        user: container_user,
        cgroup_v2: shared.cgroups.is_v2(),
        cgroup_path: shared.cgroup_path(&record.id, &record.spec.cgroup_parent)?.as_str().into(),
        host_name: launch::host_name(),
        ..Default::default()
    };
    let mut settings = translate::settings(record, files, facts, &shared.config)?;
    let filter = shared.filters.take_default(&mut settings, &shared.host)?;
    let oci = launch::oci_document(shared, &settings)?;
    let exec = ExecSettings {
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.working_dir.clone(),
        user,
        tty: spec.tty,
        console_size: size.map(|(height, width)| (height.into(), width.into())),
        privileged: spec.privileged,
    };
    let mut process =
        corten_spec::exec::process(&oci, &exec, &shared.host).map_err(|error| failed(&chain(&error), 126))?;
    let mut env = process.env().clone().unwrap_or_default();
    translate::add_home(&mut env, &home);
    process.set_env(Some(env));
    Ok((oci, filter, process))
}

/// For another runtime, which knows the container's seccomp profile by itself.
fn document(process: &Process) -> Result<Prepared, Error> {
    let text = serde_json::to_vec(process).map_err(Error::failed("cannot write the process's document"))?;
    Ok(Prepared { process: Form::Document(text, process.terminal().unwrap_or_default()), agent: None })
}

/// What the shim applies.
fn plan(
    shared: &Shared,
    record: &Record,
    files: &Files,
    (oci, filter): (&Spec, Option<SeccompProgram>),
    process: &Process,
    privileged: bool,
) -> Result<Prepared, Error> {
    let seccomp = if privileged { None } else { launch::filter(shared, filter, oci)? };
    let process = corten_runtime::process_plan(process, seccomp).map_err(|error| failed(&chain(&error), 126))?;
    let agent = match privileged {
        true => None,
        false => launch::connect_agent(oci, record, files, ContainerState::Running)
            .map_err(|error| failed(&chain(&error), 126))?,
    };
    Ok(Prepared { process: Form::Plan(Box::new(process)), agent })
}

/// An execution's process has ended.
pub(crate) fn ended(task: &mut Task, exited: &ExecExited) {
    let Some(entry) = ExecId::parse(&exited.exec_id).ok().and_then(|id| task.execs.remove(&id)) else { return };
    finish(task, &entry, exited.status.code);
    task.publish();
}

/// The container has ended, and with it what ran inside.
pub(crate) fn container_ended(task: &mut Task) {
    for entry in std::mem::take(&mut task.execs).into_values() {
        finish(task, &entry, crate::life::LOST_EXIT_CODE);
    }
}

fn finish(task: &Task, entry: &Entry, exit_code: i32) {
    entry.end(exit_code);
    let view = task.view.borrow().clone();
    tell(&task.shared, &view, entry, "exec_die", Some(exit_code));
}
