//! What faces ask of containers.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_base::{ContainerId, Namespace, Platform};
use tokio::sync::watch;

use crate::attach::{AttachOptions, Attached};
use crate::error::Error;
use crate::logs::{LogOptions, LogStream};
use crate::settings::ContainerSpec;
use crate::shared::Shared;
use crate::task::Request;
use crate::view::{ContainerView, Echo};

/// The containers of one namespace.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: Namespace,
}

/// A container to be made.
#[derive(Debug, Clone, Default)]
pub struct CreateContainer {
    /// Its name; a made-up one if none is given. A leading slash is taken off.
    pub name: Option<String>,
    /// The image's platform, if a certain one is wanted.
    pub platform: Option<Platform>,
    /// Its settings.
    pub spec: ContainerSpec,
    /// The client's JSON, for `inspect`.
    pub echo: Echo,
}

/// A container that was made.
#[derive(Debug, Clone)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// What the client should know.
    pub warnings: Vec<String>,
}

/// How `stop` and `restart` end a container.
#[derive(Debug, Clone, Default)]
pub struct StopOptions {
    /// Instead of the container's own stop signal.
    pub signal: Option<String>,
    /// Seconds until SIGKILL instead of the container's own; negative waits for ever.
    pub timeout: Option<i64>,
}

/// What `update` changes; what isn't set stays.
#[derive(Debug, Clone, Default)]
pub struct UpdateContainer {
    /// Limits that aren't zero or empty.
    pub resources: crate::settings::Resources,
    /// When it is started again.
    pub restart: Option<crate::settings::RestartPolicy>,
}

/// What `remove` takes along.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Kill it first if it runs.
    pub force: bool,
    /// Remove its anonymous volumes.
    pub volumes: bool,
}

/// Which containers `list` shows.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Also those that don't run.
    pub all: bool,
    /// Only so many, the latest ones (implies `all`).
    pub limit: Option<usize>,
    /// Docker's filters, by key: `id name label status ancestor exited before since volume network publish expose health
    /// is-task isolation`.
    pub filters: BTreeMap<String, Vec<String>>,
}

/// What `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It doesn't run (any more).
    #[default]
    NotRunning,
    /// It ends once more.
    NextExit,
    /// It is gone.
    Removed,
}

/// How a wait ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaitResult {
    /// The container's exit code.
    pub exit_code: i32,
    /// Why it could not be removed.
    pub error: Option<String>,
}

/// A wait that has begun: what happens from now on is seen even if [`Waiting::finished`] is polled later.
#[derive(Debug)]
pub struct Waiting {
    pub(crate) view: watch::Receiver<Arc<ContainerView>>,
    pub(crate) condition: WaitCondition,
    pub(crate) exits_before: u64,
}

impl Waiting {
    /// Returns when the condition holds. Cancelling the future ends the wait.
    pub async fn finished(mut self) -> WaitResult {
        let (condition, before) = (self.condition, self.exits_before);
        let holds = |view: &Arc<ContainerView>| {
            let ended = match condition {
                WaitCondition::NotRunning => {
                    !view.state.is_running() && view.state.phase != crate::life::Phase::Starting
                }
                WaitCondition::NextExit => view.state.exits > before,
                WaitCondition::Removed => false,
            };
            ended || view.removed
        };
        // The sender never goes away before `removed` was published, but if the engine ends, the last state counts.
        let held = self.view.wait_for(holds).await.map(|view| view.state.clone()).ok();
        let last = held.unwrap_or_else(|| self.view.borrow().state.clone());
        // A start that failed is told to whoever started it; a wait fails only with the removal it waits for.
        let error = (last.phase == crate::life::Phase::Dead).then_some(last.error);
        WaitResult { exit_code: last.exit_code, error }
    }
}

impl Containers {
    /// Makes a container. It is there, durably, when this returns.
    pub async fn create(&self, request: CreateContainer) -> Result<Created, Error> {
        crate::create::create(&self.shared, &self.namespace, request).await
    }

    /// Starts a container; `NotModified` if it runs.
    pub async fn start(&self, name: &str) -> Result<(), Error> {
        self.handle(name)?.ask(|reply| Request::Start { reply }).await
    }

    /// Ends a container, politely first; `NotModified` if it doesn't run. Returns when it has ended.
    pub async fn stop(&self, name: &str, options: StopOptions) -> Result<(), Error> {
        let handle = self.handle(name)?;
        let stopped = handle.ask(|reply| Request::Stop { options, reply }).await;
        stopped.map_err(|error| context(error, format!("cannot stop container: {name}")))
    }

    /// Ends a container if it runs, and starts it. Returns when it runs again.
    pub async fn restart(&self, name: &str, options: StopOptions) -> Result<(), Error> {
        let handle = self.handle(name)?;
        let done = handle.ask(|reply| Request::Restart { options, reply }).await;
        done.map_err(|error| context(error, format!("Cannot restart container {name}")))
    }

    /// Sends a signal, by name or number; empty is SIGKILL, and that returns when the container has ended.
    pub async fn kill(&self, name: &str, signal: &str) -> Result<(), Error> {
        let signal = match signal {
            "" => crate::life::SIGKILL,
            text => corten_base::signal::parse(text).map_err(|error| Error::Invalid(error.to_string()))?,
        };
        let killed = match self.handle(name) {
            Ok(handle) => handle.ask(|reply| Request::Kill { signal, reply }).await,
            Err(error) => Err(error),
        };
        killed.map_err(|error| context(error, format!("cannot kill container: {name}")))
    }

    /// Freezes a container's processes.
    pub async fn pause(&self, name: &str) -> Result<(), Error> {
        self.handle(name)?.ask(|reply| Request::Freeze { on: true, reply }).await
    }

    /// Thaws a container's processes.
    pub async fn unpause(&self, name: &str) -> Result<(), Error> {
        self.handle(name)?.ask(|reply| Request::Freeze { on: false, reply }).await
    }

    /// Gives a container another name.
    pub async fn rename(&self, name: &str, new_name: &str) -> Result<(), Error> {
        if name.is_empty() || new_name.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".into()));
        }
        let new_name = new_name.to_string();
        self.handle(name)?.ask(|reply| Request::Rename { new_name, reply }).await
    }

    /// Changes limits and restart policy, also while the container runs: durably, and in force when this returns. Returns
    /// warnings for the client.
    pub async fn update(&self, name: &str, mut change: UpdateContainer) -> Result<Vec<String>, Error> {
        let warnings = crate::limits::check_change(&self.shared.support, &mut change.resources)?;
        let handle = self.handle(name)?;
        let id = handle.now().id.clone();
        let updated = handle.ask(|reply| Request::Update { change: Box::new(change), reply }).await;
        updated.map_err(|error| context(error, format!("Cannot update container {id}")))?;
        Ok(warnings)
    }

    /// Removes a container. It is gone, durably, when this returns.
    pub async fn remove(&self, name: &str, options: RemoveOptions) -> Result<(), Error> {
        let by = name.to_string();
        self.handle(name)?.ask(|reply| Request::Remove { options, by, reply }).await
    }

    /// Sets the size of the container's terminal.
    pub async fn resize(&self, name: &str, height: u16, width: u16) -> Result<(), Error> {
        self.handle(name)?.ask(|reply| Request::Resize { exec: None, height, width, reply }).await
    }

    /// Begins to wait for a container.
    pub fn wait(&self, name: &str, condition: WaitCondition) -> Result<Waiting, Error> {
        let view = self.handle(name)?.view();
        let exits_before = view.borrow().state.exits;
        Ok(Waiting { view, condition, exits_before })
    }

    /// The container as it is now.
    pub fn inspect(&self, name: &str) -> Result<Arc<ContainerView>, Error> {
        Ok(self.handle(name)?.now())
    }

    /// Containers, the latest first.
    pub fn list(&self, options: &ListOptions) -> Result<Vec<Arc<ContainerView>>, Error> {
        crate::list::list(&self.shared, &self.namespace, options)
    }

    /// Bytes in the container's own layer, and in the whole root file system.
    pub async fn size(&self, name: &str) -> Result<(u64, u64), Error> {
        crate::list::size(&self.shared, self.handle(name)?.now()).await
    }

    /// The container's log.
    pub async fn logs(&self, name: &str, options: LogOptions) -> Result<LogStream, Error> {
        if !options.stdout && !options.stderr {
            return Err(Error::Invalid("You must choose at least one stream".into()));
        }
        LogStream::open(self.handle(name)?.view(), options).await
    }

    /// Attaches a client to a container's streams; before its start as well as while it runs.
    pub async fn attach(&self, name: &str, options: AttachOptions) -> Result<Attached, Error> {
        let handle = self.handle(name)?;
        crate::attach::attach(&self.shared, &handle, options).await
    }

    /// Removes all containers that don't run and pass the filters (`label`, `label!`, `until`). Returns their ids and the bytes freed.
    pub async fn prune(&self, filters: &BTreeMap<String, Vec<String>>) -> Result<(Vec<ContainerId>, u64), Error> {
        crate::list::prune(self, filters).await
    }

    /// The processes of a running container, as `ps` prints them: titles and rows. `arguments` are `ps`'s own.
    pub async fn top(&self, name: &str, arguments: &str) -> Result<(Vec<String>, Vec<Vec<String>>), Error> {
        crate::top::top(&self.shared, self.handle(name)?.now(), arguments).await
    }

    pub(crate) fn handle(&self, name: &str) -> Result<Arc<crate::registry::Handle>, Error> {
        self.shared.registry.find(&self.namespace, name)
    }
}

/// Puts what was tried in front of an error's message, as Docker does; a refusal that changes nothing stays as it is.
fn context(error: Error, what: String) -> Error {
    match error.kind() {
        corten_base::ErrorKind::NotModified => error,
        _ => Error::Context { what, source: Box::new(error) },
    }
}
