//! What a container's task does with each request that is more than one event for the table.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use corten_base::{ContainerName, ExecId};
use corten_shim::protocol::{AttachMode, TerminalSize};

use super::{AfterExit, Task, answer};
use crate::containers::{RemoveOptions, StopOptions, UpdateContainer};
use crate::error::Error;
use crate::life::{Event, Phase, Refusal, SIGKILL, Told};
use crate::limits;
use crate::record::Record;
use crate::registry::Reply;
use crate::settings::ContainerSpec;

/// Clients that may be attached before a start.
const MOST_EARLY_ATTACHES: usize = 64;
/// Docker's time between the stop signal and SIGKILL.
const DEFAULT_GRACE: i64 = 10;

impl Task {
    pub(super) async fn stop(&mut self, options: &StopOptions, after: AfterExit) {
        let event = match stop_event(&self.record.spec, options) {
            Ok(event) => event,
            Err(error) => return self.refuse(after, error),
        };
        match (self.feed(event).await, after) {
            (Ok(()), after) if self.state.has_process() => self.after_exit.push(after),
            // A container that only waited for its restart has stopped already.
            (Ok(()), AfterExit::Answer(reply)) => answer(reply, Ok(())),
            (Ok(()) | Err(Error::Refused(Refusal::AlreadyStopped)), AfterExit::Start(reply)) => {
                self.start_again(reply).await
            }
            (Ok(()), after) => self.after_exit.push(after),
            (Err(error), after) => self.refuse(after, error),
        }
    }

    fn refuse(&mut self, after: AfterExit, error: Error) {
        match after {
            AfterExit::Answer(reply) | AfterExit::Start(reply) | AfterExit::Remove(_, _, reply) => {
                answer(reply, Err(error))
            }
        }
    }

    pub(super) async fn start_again(&mut self, reply: Reply<()>) {
        let started = Box::pin(self.feed(Event::Start)).await;
        if started.is_ok() {
            self.tell(&Told::Restart);
        }
        answer(reply, started);
    }

    pub(super) async fn kill(&mut self, signal: i32, reply: Reply<()>) {
        match self.feed(Event::Kill { signal }).await {
            Ok(()) if signal == SIGKILL && self.state.has_process() => self.after_exit.push(AfterExit::Answer(reply)),
            result => answer(reply, result),
        }
    }

    pub(super) async fn shut_down(&mut self, reply: Reply<()>) {
        match stop_event(&self.record.spec, &StopOptions::default()) {
            Ok(event) if self.state.is_running() => {
                // The daemon ends it, not the user: policies bring it back with the next daemon.
                let by_user = self.state.stopped_by_user;
                let _ = self.feed(event).await;
                self.state.stopped_by_user = by_user;
                self.state.daemon_stops = true;
                match self.state.has_process() {
                    true => self.after_exit.push(AfterExit::Answer(reply)),
                    false => answer(reply, Ok(())),
                }
            }
            _ => answer(reply, Ok(())),
        }
    }

    /// Does what waited for the container's end.
    pub(super) async fn run_after_exit(&mut self) {
        for after in std::mem::take(&mut self.after_exit) {
            match after {
                AfterExit::Answer(reply) => answer(reply, Ok(())),
                AfterExit::Start(reply) if self.removed() => {
                    answer(reply, Err(Error::NoSuchContainer(self.record.id.to_string())))
                }
                AfterExit::Start(reply) => self.start_again(reply).await,
                AfterExit::Remove(_, _, reply) if self.removed() => answer(reply, Ok(())),
                AfterExit::Remove(options, by, reply) => Box::pin(self.remove(options, by, reply)).await,
            }
        }
    }

    pub(super) async fn remove(&mut self, options: RemoveOptions, by: String, reply: Reply<()>) {
        self.remove_volumes = options.volumes;
        match self.feed_as(Event::Remove { force: options.force }, &by).await {
            Ok(()) if self.state.has_process() => self.after_exit.push(AfterExit::Remove(options, by, reply)),
            Ok(()) if !self.removed() => {
                answer(reply, Err(Error::Conflict(format!("container {by}: {}", self.state.error))));
            }
            result => answer(reply, result),
        }
    }

    pub(super) async fn rename(&mut self, new_name: &str) -> Result<(), Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Invalid(format!("Error when allocating new name: {error}"));
        let new = ContainerName::parse(&format!("/{}", new_name.strip_prefix('/').unwrap_or(new_name)))
            .map_err(|error| failed(&error))?;
        let (space, id, old) = (self.record.namespace.clone(), self.record.id.clone(), self.record.name.clone());
        if new.as_str() == old {
            return Err(Error::Invalid("Renaming a container with the same name as its current name".into()));
        }
        let taken = |error: Error| Error::Conflict(format!("Error when allocating new name: {}", error.message()));
        self.shared.registry.reserve_name(&space, new.as_str(), &id).map_err(taken)?;
        let renamed = Record { name: new.to_string(), ..self.record.clone() };
        if let Err(error) = self.shared.records.replace(&renamed, &self.state).await {
            self.shared.registry.release_name(&space, new.as_str(), &id);
            return Err(error);
        }
        self.record = renamed;
        self.shared.registry.release_name(&space, &old, &id);
        self.publish();
        self.tell_action("rename", [("oldName", format!("/{old}"))]);
        Ok(())
    }

    /// The kernel hears first: what it refuses leaves no trace, and what isn't recorded was not acknowledged.
    pub(super) async fn update(&mut self, change: &UpdateContainer) -> Result<(), Error> {
        if matches!(self.state.phase, Phase::Removing | Phase::Dead) {
            return Err(Error::Conflict("container is marked for removal and cannot be \"update\"".into()));
        }
        let spec = limits::updated(&self.record.spec, change)?;
        let (before, after) = (&self.record.spec.resources, &spec.resources);
        if let Some(run) = &mut self.run
            && let Err(error) = run.limit(&limits::difference(before, after)).await
        {
            let restored = run.limit(&limits::difference(after, before)).await;
            crate::undo::log("a refused update's limits were not all put back", restored);
            return Err(error);
        }
        let updated = Record { spec: Arc::new(spec), ..self.record.clone() };
        self.shared.records.replace(&updated, &self.state).await?;
        self.record = updated;
        self.publish();
        self.tell_action("update", []);
        Ok(())
    }

    pub(super) async fn resize(&mut self, exec: Option<ExecId>, height: u16, width: u16) -> Result<(), Error> {
        let not_running = || Refusal::NotRunning(self.record.id.to_string());
        if !self.state.has_process() {
            return Err(not_running().into());
        }
        let Some(run) = &mut self.run else { return Err(not_running().into()) };
        let target = exec.as_ref().map(ExecId::to_string);
        let resized = run.link.call(|shim| shim.resize(target.as_deref(), TerminalSize { width, height })).await;
        resized.map_err(Error::failed("cannot set the terminal's size"))?;
        if exec.is_none() {
            self.tell_action("resize", [("height", height.to_string()), ("width", width.to_string())]);
        }
        Ok(())
    }

    pub(super) async fn attach(&mut self, mode: AttachMode, socket: OwnedFd) -> Result<(), Error> {
        let id = self.record.id.to_string();
        match (self.state.phase, &mut self.run) {
            (Phase::Paused, _) => {
                return Err(Error::Conflict(format!("container {id} is paused, unpause the container before attach")));
            }
            (Phase::Restarting, _) => {
                return Err(Error::Conflict(format!(
                    "container {id} is restarting, wait until the container is running"
                )));
            }
            (Phase::Removing | Phase::Dead, _) => return Err(Refusal::MarkedForRemoval.into()),
            (_, Some(run)) => {
                let attached = run.link.call(|shim| shim.attach(None, mode, socket.as_fd())).await;
                attached.map_err(Error::failed("cannot attach to the container"))?;
            }
            (_, None) if self.attaches.len() >= MOST_EARLY_ATTACHES => {
                return Err(Error::Unavailable(format!("too many clients wait for the start of container {id}")));
            }
            (_, None) => self.attaches.push((mode, socket)),
        }
        self.tell_action("attach", []);
        Ok(())
    }
}

/// The signal and grace of a stop, from the request or else the container's settings.
fn stop_event(spec: &ContainerSpec, options: &StopOptions) -> Result<Event, Error> {
    let own = Some(spec.stop_signal.as_str()).filter(|signal| !signal.is_empty());
    let signal = match options.signal.as_deref().filter(|signal| !signal.is_empty()).or(own) {
        Some(text) => corten_base::signal::parse(text).map_err(|error| Error::Invalid(error.to_string()))?,
        None => corten_base::signal::SIGTERM,
    };
    let seconds = options.timeout.or(spec.stop_timeout).unwrap_or(DEFAULT_GRACE);
    Ok(Event::Stop { signal, grace: u64::try_from(seconds).ok().map(Duration::from_secs) })
}
