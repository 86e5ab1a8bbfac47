//! The task that owns one container: it takes requests from its mailbox and reports from its shim, asks the table in [`life`] what
//! follows, and performs that. While it is busy (starting, say), requests wait in the mailbox and readers see the last snapshot; no
//! other container notices.

mod ending;
mod launching;
mod requests;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::SystemTime;

use corten_base::ExecId;
use corten_events::{Actor, Kind};
use corten_shim::protocol::{AttachMode, Event as ShimEvent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::containers::{RemoveOptions, StopOptions, UpdateContainer};
use crate::error::{Error, chain};
use crate::exec::Entry;
use crate::life::{self, Effect, Event, Phase, Policy, State, Told, Who};
use crate::network;
use crate::record::Record;
use crate::registry::Reply;
use crate::reuse::{Reuse, Root};
use crate::run::Run;
use crate::shared::Shared;
use crate::view::{ContainerView, ExecSpec, Files, NetworkView};

/// Requests that may wait for one container.
pub(crate) const MAILBOX: usize = 32;

/// What others ask of a container.
#[derive(Debug)]
pub(crate) enum Request {
    Start {
        reply: Reply<()>,
    },
    Stop {
        options: StopOptions,
        reply: Reply<()>,
    },
    Restart {
        options: StopOptions,
        reply: Reply<()>,
    },
    Kill {
        signal: i32,
        reply: Reply<()>,
    },
    Freeze {
        on: bool,
        reply: Reply<()>,
    },
    Rename {
        new_name: String,
        reply: Reply<()>,
    },
    Update {
        change: Box<UpdateContainer>,
        reply: Reply<()>,
    },
    Remove {
        options: RemoveOptions,
        by: String,
        reply: Reply<()>,
    },
    Resize {
        exec: Option<ExecId>,
        height: u16,
        width: u16,
        reply: Reply<()>,
    },
    Attach {
        mode: AttachMode,
        socket: OwnedFd,
        reply: Reply<()>,
    },
    PrepareExec {
        spec: Arc<ExecSpec>,
        size: Option<(u16, u16)>,
        reply: Reply<Box<crate::exec::Prepared>>,
    },
    Exec {
        entry: Arc<Entry>,
        process: Box<crate::exec::Prepared>,
        size: Option<(u16, u16)>,
        attach: Option<(AttachMode, OwnedFd)>,
        reply: Reply<()>,
    },
    /// The daemon ends: stop, and don't start again. Also answered when there is nothing to stop.
    Shutdown {
        reply: Reply<()>,
    },
}

/// What is done once the container has ended.
#[derive(Debug)]
enum AfterExit {
    Answer(Reply<()>),
    Start(Reply<()>),
    Remove(RemoveOptions, String, Reply<()>),
}

/// What a deadline is for.
#[derive(Debug, Clone, Copy)]
enum Due {
    Grace,
    Restart,
}

/// One container and everything that belongs to it.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) shared: Arc<Shared>,
    pub(crate) record: Record,
    pub(crate) state: State,
    pub(crate) files: Arc<Files>,
    /// Mounted when the container was made, for its first start.
    pub(crate) root: Option<Root>,
    pub(crate) reuse: Arc<Reuse>,
    pub(crate) run: Option<Run>,
    pub(crate) view: watch::Sender<Arc<ContainerView>>,
    attaches: Vec<(AttachMode, OwnedFd)>,
    after_exit: Vec<AfterExit>,
    deadline: Option<(Instant, Due)>,
    /// The run before this one, on its way out.
    teardown: Option<JoinHandle<()>>,
    pub(crate) execs: BTreeMap<ExecId, Arc<Entry>>,
    launch_error: Option<Error>,
    remove_volumes: bool,
    args: Arc<[String]>,
}

enum Input {
    Request(Request),
    Shim(Option<ShimEvent>),
    Due(Due),
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    corten_base::time::unix_nanos(SystemTime::now())
}

impl Task {
    /// A task for a container; [`Task::spawn`] sets it going.
    pub(crate) fn new(shared: Arc<Shared>, record: Record, state: State, files: Arc<Files>) -> Task {
        let args: Arc<[String]> = crate::merge::arguments(&record.spec).into();
        let view = watch::Sender::new(Arc::new(view_of(&record, &state, &files, &args, [].into())));
        Task {
            shared,
            record,
            state,
            files,
            root: None,
            reuse: Arc::default(),
            run: None,
            view,
            attaches: Vec::new(),
            after_exit: Vec::new(),
            deadline: None,
            teardown: None,
            execs: BTreeMap::new(),
            launch_error: None,
            remove_volumes: false,
            args,
        }
    }

    /// Makes the container known and runs its task; `first` happens before any request.
    pub(crate) fn spawn(self, first: Option<Event>) {
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        let handle =
            crate::registry::Handle::new(self.record.id.clone(), sender, self.view.subscribe(), self.reuse.clone());
        self.shared.registry.insert(&self.record.namespace.clone(), Arc::new(handle));
        tokio::spawn(self.live(mailbox, first));
    }

    async fn live(mut self, mut mailbox: mpsc::Receiver<Request>, first: Option<Event>) {
        match first {
            Some(event @ (Event::Exited { .. } | Event::Lost)) => Box::pin(self.ended(event)).await,
            Some(event) => Box::pin(self.happened(event)).await,
            None => {}
        }
        while !self.removed() {
            let input = tokio::select! {
                request = mailbox.recv() => match request {
                    Some(request) => Input::Request(request),
                    None => return,
                },
                event = next_event(&mut self.run) => Input::Shim(event),
                due = wait_for(self.deadline) => Input::Due(due),
            };
            // Boxed, so that a thousand idle containers are a thousand small futures.
            match input {
                Input::Request(request) => Box::pin(self.request(request)).await,
                Input::Shim(event) => Box::pin(self.reported(event)).await,
                Input::Due(due) => {
                    self.deadline = None;
                    let event = match due {
                        Due::Grace => Event::GraceElapsed,
                        Due::Restart => Event::RestartDue,
                    };
                    Box::pin(self.happened(event)).await;
                }
            }
        }
    }

    fn removed(&self) -> bool {
        self.view.borrow().removed
    }

    async fn request(&mut self, request: Request) {
        match request {
            Request::Start { reply } => answer(reply, self.feed(Event::Start).await),
            Request::Stop { options, reply } => self.stop(&options, AfterExit::Answer(reply)).await,
            Request::Restart { options, reply } => self.stop(&options, AfterExit::Start(reply)).await,
            Request::Kill { signal, reply } => self.kill(signal, reply).await,
            Request::Freeze { on, reply } => {
                let event = if on { Event::Pause } else { Event::Unpause };
                answer(reply, self.feed(event).await);
            }
            Request::Rename { new_name, reply } => answer(reply, self.rename(&new_name).await),
            Request::Update { change, reply } => answer(reply, self.update(&change).await),
            Request::Remove { options, by, reply } => self.remove(options, by, reply).await,
            Request::Resize { exec, height, width, reply } => answer(reply, self.resize(exec, height, width).await),
            Request::Attach { mode, socket, reply } => answer(reply, self.attach(mode, socket).await),
            Request::PrepareExec { spec, size, reply } => answer(reply, crate::exec::prepare(self, spec, size).await),
            Request::Exec { entry, process, size, attach, reply } => {
                answer(reply, crate::exec::run(self, entry, &process, size, attach).await);
            }
            Request::Shutdown { reply } => self.shut_down(reply).await,
        }
    }

    /// Something the shim said by itself; none when it is gone.
    async fn reported(&mut self, event: Option<ShimEvent>) {
        match event {
            Some(ShimEvent::Exited(status)) => {
                let at_ns = i64::try_from(status.time_ns).unwrap_or_else(|_| now_ns());
                self.ended(Event::Exited { exit_code: status.code, oom: status.oom, at_ns }).await;
            }
            Some(ShimEvent::ExecExited(exited)) => crate::exec::ended(self, &exited),
            Some(other) => tracing::debug!(container = %self.record.id, ?other, "a shim said something unexpected"),
            None => {
                tracing::warn!(container = %self.record.id, "the container's shim is gone; its processes are killed");
                if let Some(run) = &mut self.run {
                    run.kill_all().await;
                }
                self.ended(Event::Lost).await;
            }
        }
    }

    /// The container's process has ended.
    async fn ended(&mut self, event: Event) {
        // Who hears of the end may want to publish the same ports at once.
        if !self.record.network.ports.is_empty()
            && let Some(run) = &mut self.run
        {
            run.unplug(&self.shared, &self.record).await;
        }
        crate::exec::container_ended(self);
        if self.state.has_process() {
            // In Docker's order: the end is told last. What it costs to leave a network is paid behind the answer.
            network::tell_left(&self.shared, &self.record);
            crate::volumes::tell_unmounted(&self.shared, &self.record);
        }
        self.happened(event).await;
    }

    /// Something happened that nobody asked for.
    async fn happened(&mut self, event: Event) {
        if let Err(error) = self.feed(event).await {
            tracing::warn!(container = %self.record.id, error = error.message(), "a container could not go on");
        }
    }

    /// Passes an event through the table and performs what follows.
    async fn feed(&mut self, event: Event) -> Result<(), Error> {
        let name = self.record.name.clone();
        self.feed_as(event, &name).await
    }

    async fn feed_as(&mut self, event: Event, name: &str) -> Result<(), Error> {
        let mut events = VecDeque::from([event]);
        let exits_before = self.state.exits;
        while let Some(event) = events.pop_front() {
            // A restart that somebody asked for ends the run, not the container.
            let restarting = self.after_exit.iter().any(|after| matches!(after, AfterExit::Start(_)));
            let policy =
                Policy { restart: self.record.spec.restart, auto_remove: self.record.spec.auto_remove && !restarting };
            let id = self.record.id.to_string();
            let exits = self.state.exits;
            let (next, effects) = life::step(&self.state, policy, Who { id: &id, name }, event, now_ns())?;
            self.state = next;
            if self.state.exits != exits {
                let endpoints = network::wanted(&self.record.spec);
                self.record.network = Arc::new(NetworkView { endpoints, ..Default::default() });
            }
            // A start under way looks as the state before it.
            if self.state.phase != Phase::Starting {
                self.publish();
            }
            for effect in effects {
                events.extend(self.perform(effect).await);
            }
        }
        // After all that follows from the end by itself: who waits to remove a container with `--rm` finds it removed.
        if self.state.exits != exits_before {
            self.run_after_exit().await;
        }
        match self.launch_error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn perform(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Launch => return Some(self.launch().await),
            Effect::Signal(signal) => self.signal(signal).await,
            Effect::ArmGrace(after) => self.deadline = Some((Instant::now() + after, Due::Grace)),
            Effect::ArmRestart(after) => self.deadline = Some((Instant::now() + after, Due::Restart)),
            Effect::Disarm => self.deadline = None,
            Effect::Freeze(on) => {
                if let Some(run) = &mut self.run {
                    run.freeze(on).await;
                }
            }
            Effect::Tell(told) => self.tell(&told),
            Effect::Record => self.shared.records.save(&self.record, &self.state),
            Effect::Teardown => self.tear_down(),
            Effect::AutoRemove => {
                let options = RemoveOptions { force: true, volumes: true };
                self.remove_volumes = options.volumes;
                return Some(Event::Remove { force: true });
            }
            Effect::Remove => return self.destroy().await,
        }
        None
    }

    async fn signal(&mut self, signal: i32) {
        let Some(run) = &mut self.run else { return };
        if let Err(error) = run.link.call(|shim| shim.signal(None, signal)).await {
            // It may have ended a moment ago: the report of that is on its way.
            tracing::debug!(container = %self.record.id, error = chain(&error), signal, "a signal was not delivered");
        }
    }

    /// Shows readers the present state.
    pub(crate) fn publish(&self) {
        let exec_ids: Arc<[ExecId]> = self.execs.keys().cloned().collect();
        self.view.send_replace(Arc::new(view_of(&self.record, &self.state, &self.files, &self.args, exec_ids)));
    }

    fn tell(&self, told: &Told) {
        match told {
            Told::Kill { signal } => self.tell_action("kill", [("signal", signal.to_string())]),
            Told::Die { exit_code, seconds } => {
                let attributes = [("exitCode", exit_code.to_string()), ("execDuration", seconds.to_string())];
                self.tell_action(told.action(), attributes);
            }
            other => self.tell_action(other.action(), []),
        }
    }

    /// Tells the event log of this container.
    pub(crate) fn tell_action<const N: usize>(&self, action: &str, attributes: [(&str, String); N]) {
        tell(&self.shared, &self.record, action, attributes);
    }
}

/// Tells the event log of a container: its labels, image and name besides what is given.
pub(crate) fn tell<const N: usize>(shared: &Shared, record: &Record, action: &str, attributes: [(&str, String); N]) {
    let mut actor = Actor { id: record.id.to_string(), attributes: record.spec.labels.clone() };
    actor.attributes.insert("image".into(), record.spec.image.clone());
    actor.attributes.insert("name".into(), record.name.clone());
    actor.attributes.extend(attributes.map(|(key, value)| (key.to_string(), value)));
    shared.events.publish(&record.namespace, Kind::Container, action, actor);
}

fn view_of(
    record: &Record,
    state: &State,
    files: &Arc<Files>,
    args: &Arc<[String]>,
    exec_ids: Arc<[ExecId]>,
) -> ContainerView {
    ContainerView {
        namespace: record.namespace.clone(),
        id: record.id.clone(),
        name: record.name.clone(),
        created_ns: record.created_ns,
        image_id: record.image_id.clone(),
        os: record.os.clone(),
        spec: record.spec.clone(),
        echo: record.echo.clone(),
        args: args.clone(),
        state: state.clone(),
        mounts: record.mounts.clone(),
        network: record.network.clone(),
        files: files.clone(),
        exec_ids,
        removed: false,
    }
}

/// Answers a request; whoever asked may be gone.
fn answer<T>(reply: Reply<T>, result: Result<T, Error>) {
    let _ = reply.send(result);
}

async fn next_event(run: &mut Option<Run>) -> Option<ShimEvent> {
    match run {
        Some(run) => run.link.next_event().await,
        None => std::future::pending().await,
    }
}

async fn wait_for(deadline: Option<(Instant, Due)>) -> Due {
    match deadline {
        Some((at, due)) => {
            tokio::time::sleep_until(at).await;
            due
        }
        None => std::future::pending().await,
    }
}
