//! A container's life as a pure table: `step(state, event) -> (state, effects)`.
//!
//! Nothing here waits, reads a clock or touches the system: the container's task (see `task.rs`) performs the effects and feeds
//! what comes of them back as events. What Docker's users may rely on is decided here: which request is refused in which state and
//! with which words, in which order events are told, when a container is started again.
//!
//! ```text
//!  Created --Start--> Starting --Launched--> Running <--Unpause/Pause--> Paused
//!     ^                  | LaunchFailed         | Exited, Lost               |
//!     |                  v                      v                            v
//!     +--(never ran)-- Created/Exited <-------Exited <---------------------(Exited)
//!                                               |  restart policy ^ | RestartDue
//!                                               +--> Restarting --+-+--> Starting
//!  any but running --Remove--> Removing --> (gone)
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::refusal::Refusal;
use crate::settings::RestartPolicy;

/// SIGKILL, which no container survives.
pub const SIGKILL: i32 = 9;
/// The exit code of a container whose end nobody saw (Docker's 128 + SIGKILL).
pub const LOST_EXIT_CODE: i32 = 137;
/// Running this long makes the next restart wait the shortest time again.
const SETTLED: Duration = Duration::from_secs(10);
/// The longest wait before a restart.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How long a killed process may take to end before the stop is called a failure.
pub const KILL_PATIENCE: Duration = Duration::from_secs(10);

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Never started, or its first start failed.
    #[default]
    Created,
    /// A start is under way.
    Starting,
    /// Its process lives.
    Running,
    /// Its process is frozen.
    Paused,
    /// Ended, and waiting to be started again.
    Restarting,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Its removal failed.
    Dead,
}

impl Phase {
    /// Docker's word for it. A start under way looks as the state before it did.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Created | Phase::Starting => "created",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Restarting => "restarting",
            Phase::Exited => "exited",
            Phase::Removing => "removing",
            Phase::Dead => "dead",
        }
    }
}

/// The state of one container: what its record keeps beside its settings. Times are nanoseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Where in its life.
    pub phase: Phase,
    /// The process, 0 when there is none.
    pub pid: i32,
    /// Of the last end, or of the last failed start.
    pub exit_code: i32,
    /// Why the last start failed; empty otherwise.
    pub error: String,
    /// The kernel killed a process of the container for lack of memory.
    pub oom_killed: bool,
    /// The last start.
    pub started_ns: Option<i64>,
    /// The last end.
    pub finished_ns: Option<i64>,
    /// Restarts by the policy since somebody started it.
    pub restart_count: u32,
    /// Somebody stopped or killed it: policies other than `always` leave it so.
    pub stopped_by_user: bool,
    /// Times it ended, so that who waits for the next end sees each one.
    pub exits: u64,
    /// The wait before the latest restart, in milliseconds.
    pub backoff_ms: u64,
    /// A stop is under way: signals were sent and nobody may start it until it has ended.
    #[serde(skip)]
    pub stopping: bool,
    /// The daemon is ending it because it ends itself: no policy starts it again before the next daemon does.
    #[serde(skip)]
    pub daemon_stops: bool,
}

impl State {
    /// Docker's `State.Running`: also paused and restarting containers are.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused | Phase::Restarting)
    }

    /// Whether a process of it lives.
    pub fn has_process(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Paused)
    }
}

/// What never changes in a container's life but by `update`, as far as the table asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Policy {
    /// When it is started again.
    pub restart: RestartPolicy,
    /// It is removed when it has ended.
    pub auto_remove: bool,
}

/// Something that happened or was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A client asks for a start.
    Start,
    /// The process runs.
    Launched {
        /// Its pid on the host.
        pid: i32,
    },
    /// The process could not be started; everything was undone.
    LaunchFailed {
        /// 126, 127 or 128.
        exit_code: i32,
        /// Why.
        message: String,
    },
    /// A client sends a signal.
    Kill {
        /// The signal's number.
        signal: i32,
    },
    /// A client asks for the end.
    Stop {
        /// The polite signal.
        signal: i32,
        /// Until SIGKILL; `None` waits for ever.
        grace: Option<Duration>,
    },
    /// The time given with the last `ArmGrace` is over.
    GraceElapsed,
    /// The process ended.
    Exited {
        /// As a shell would say it.
        exit_code: i32,
        /// The kernel killed for memory.
        oom: bool,
        /// When it ended; `now` is when we heard of it.
        at_ns: i64,
    },
    /// The supervisor is gone without a word.
    Lost,
    /// A process was killed for memory, the container may live on.
    Oom,
    /// A client freezes it.
    Pause,
    /// A client thaws it.
    Unpause,
    /// The time given with `ArmRestart` is over.
    RestartDue,
    /// A client asks for removal.
    Remove {
        /// Even if it runs (the task kills it first).
        force: bool,
    },
    /// The removal could not be finished.
    RemoveFailed {
        /// Why.
        message: String,
    },
}

/// Something to be done, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start the process; answer with `Launched` or `LaunchFailed`.
    Launch,
    /// Send a signal to the first process.
    Signal(i32),
    /// Come back with `GraceElapsed`, instead of any earlier time asked for.
    ArmGrace(Duration),
    /// Come back with `RestartDue`.
    ArmRestart(Duration),
    /// No time is waited for any more.
    Disarm,
    /// Freeze (`true`) or thaw.
    Freeze(bool),
    /// Tell the event log.
    Tell(Told),
    /// Write the record; not needed for the answer.
    Record,
    /// Write the record, then let the supervisor go, and give back network, mounts and control group.
    Teardown,
    /// Remove the container with its anonymous volumes, as `--rm` asks.
    AutoRemove,
    /// Remove the container.
    Remove,
}

/// What the event log is told, in Docker's words ([`Told::action`]).
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the action of the same name")]
pub enum Told {
    Start,
    Restart,
    Kill { signal: i32 },
    Stop,
    Die { exit_code: i32, seconds: u64 },
    Oom,
    Pause,
    Unpause,
}

impl Told {
    /// The action's name.
    pub fn action(&self) -> &'static str {
        match self {
            Told::Start => "start",
            Told::Restart => "restart",
            Told::Kill { .. } => "kill",
            Told::Stop => "stop",
            Told::Die { .. } => "die",
            Told::Oom => "oom",
            Told::Pause => "pause",
            Told::Unpause => "unpause",
        }
    }
}

/// Who the container is, for refusals.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The whole id.
    pub id: &'a str,
    /// What the client called it.
    pub name: &'a str,
}

/// The state and the effects that follow from an event, or why it is refused (and the state stays).
pub fn step(
    state: &State,
    policy: Policy,
    who: Who<'_>,
    event: Event,
    now_ns: i64,
) -> Result<(State, Vec<Effect>), Refusal> {
    let next = state.clone();
    match event {
        Event::Start => start(next),
        Event::Launched { pid } => Ok(launched(next, pid, now_ns)),
        Event::LaunchFailed { exit_code, message } => Ok(launch_failed(next, policy, exit_code, message)),
        Event::Kill { signal } => kill(next, who, signal),
        Event::Stop { signal, grace } => stop(next, signal, grace),
        Event::GraceElapsed => Ok(grace_elapsed(next)),
        Event::Exited { exit_code, oom, at_ns } => Ok(exited(next, policy, exit_code, oom, at_ns)),
        Event::Lost => Ok(exited(next, policy, LOST_EXIT_CODE, false, now_ns)),
        Event::Oom => Ok(oom(next)),
        Event::Pause => freeze(next, who, true),
        Event::Unpause => freeze(next, who, false),
        Event::RestartDue => Ok(restart_due(next)),
        Event::Remove { force } => remove(next, who, force),
        Event::RemoveFailed { message } => {
            Ok((State { phase: Phase::Dead, error: message, ..next }, vec![Effect::Record]))
        }
    }
}

fn start(state: State) -> Result<(State, Vec<Effect>), Refusal> {
    match state.phase {
        Phase::Paused => Err(Refusal::StartPaused),
        Phase::Running | Phase::Starting => Err(Refusal::AlreadyStarted),
        Phase::Removing | Phase::Dead => Err(Refusal::MarkedForRemoval),
        Phase::Created | Phase::Exited | Phase::Restarting => {
            let next = State {
                phase: Phase::Starting,
                restart_count: 0,
                backoff_ms: 0,
                stopped_by_user: false,
                stopping: false,
                ..state
            };
            Ok((next, vec![Effect::Disarm, Effect::Launch]))
        }
    }
}

fn launched(state: State, pid: i32, now_ns: i64) -> (State, Vec<Effect>) {
    let next = State {
        phase: Phase::Running,
        pid,
        exit_code: 0,
        error: String::new(),
        oom_killed: false,
        started_ns: Some(now_ns),
        finished_ns: None,
        ..state
    };
    (next, vec![Effect::Tell(Told::Start), Effect::Record])
}

fn launch_failed(state: State, policy: Policy, exit_code: i32, message: String) -> (State, Vec<Effect>) {
    // A container that never ran stays "created"; Docker shows the code and the error all the same.
    let phase = if state.exits == 0 { Phase::Created } else { Phase::Exited };
    let next = State { phase, pid: 0, exit_code, error: message, stopping: false, ..state };
    let last = if policy.auto_remove { Effect::AutoRemove } else { Effect::Record };
    (next, vec![last])
}

fn kill(state: State, who: Who<'_>, signal: i32) -> Result<(State, Vec<Effect>), Refusal> {
    let told = Effect::Tell(Told::Kill { signal });
    match state.phase {
        Phase::Running => {
            Ok((State { stopped_by_user: true, ..state }, vec![Effect::Signal(signal), told, Effect::Record]))
        }
        // A frozen process can't take SIGKILL on cgroup v1, and takes no other signal before it is thawed.
        Phase::Paused if signal == SIGKILL => {
            let next = State { stopped_by_user: true, phase: Phase::Running, ..state };
            Ok((next, vec![Effect::Signal(signal), Effect::Freeze(false), told, Effect::Record]))
        }
        Phase::Paused => {
            Ok((State { stopped_by_user: true, ..state }, vec![Effect::Signal(signal), told, Effect::Record]))
        }
        Phase::Restarting => Ok(give_up_restart(state)),
        _ => Err(Refusal::NotRunning(who.id.into())),
    }
}

/// Somebody ends a container that waits for its restart.
fn give_up_restart(state: State) -> (State, Vec<Effect>) {
    let next = State { phase: Phase::Exited, stopped_by_user: true, stopping: false, ..state };
    (next, vec![Effect::Disarm, Effect::Tell(Told::Stop), Effect::Record])
}

fn stop(state: State, signal: i32, grace: Option<Duration>) -> Result<(State, Vec<Effect>), Refusal> {
    match state.phase {
        Phase::Restarting => Ok(give_up_restart(state)),
        Phase::Running | Phase::Paused => {
            let mut effects = vec![Effect::Signal(signal)];
            if state.phase == Phase::Paused {
                effects.push(Effect::Freeze(false));
            }
            effects.push(Effect::Tell(Told::Kill { signal }));
            if let Some(grace) = grace {
                effects.push(Effect::ArmGrace(grace));
            }
            effects.push(Effect::Record);
            Ok((State { phase: Phase::Running, stopped_by_user: true, stopping: true, ..state }, effects))
        }
        _ => Err(Refusal::AlreadyStopped),
    }
}

fn grace_elapsed(state: State) -> (State, Vec<Effect>) {
    if !state.has_process() {
        return (state, Vec::new());
    }
    (state, vec![Effect::Signal(SIGKILL), Effect::Tell(Told::Kill { signal: SIGKILL })])
}

fn exited(state: State, policy: Policy, exit_code: i32, oom: bool, at_ns: i64) -> (State, Vec<Effect>) {
    if !state.has_process() && state.phase != Phase::Starting {
        return (state, Vec::new());
    }
    let ran = Duration::from_nanos(at_ns.saturating_sub(state.started_ns.unwrap_or(at_ns)).max(0) as u64);
    let mut effects = vec![Effect::Disarm];
    if oom && !state.oom_killed {
        effects.push(Effect::Tell(Told::Oom));
    }
    effects.push(Effect::Tell(Told::Die { exit_code, seconds: ran.as_secs() }));
    if state.stopping {
        effects.push(Effect::Tell(Told::Stop));
    }
    effects.push(Effect::Teardown);
    let oom_killed = state.oom_killed || oom;
    let mut next = State {
        pid: 0,
        exit_code,
        oom_killed,
        finished_ns: Some(at_ns),
        exits: state.exits + 1,
        stopping: false,
        phase: Phase::Exited,
        ..state
    };
    if restarts(policy.restart, &next) {
        let backoff = backoff(next.backoff_ms, ran);
        next.phase = Phase::Restarting;
        next.restart_count += 1;
        next.backoff_ms = backoff.as_millis() as u64;
        effects.push(Effect::ArmRestart(backoff));
    } else if policy.auto_remove {
        effects.push(Effect::AutoRemove);
    }
    (next, effects)
}

/// Whether the policy wants an ended container back.
fn restarts(policy: RestartPolicy, state: &State) -> bool {
    !state.stopped_by_user
        && !state.daemon_stops
        && match policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(most) => state.exit_code != 0 && (most == 0 || state.restart_count < most),
        }
}

/// Whether the policy wants a container back that is not running when the daemon starts.
pub fn restarts_with_daemon(policy: RestartPolicy, state: &State) -> bool {
    match policy {
        RestartPolicy::Always => state.exits > 0 || state.phase == Phase::Restarting,
        RestartPolicy::UnlessStopped => !state.stopped_by_user && (state.exits > 0 || state.phase == Phase::Restarting),
        RestartPolicy::OnFailure(_) => state.phase == Phase::Restarting || (state.exits > 0 && restarts(policy, state)),
        RestartPolicy::No => false,
    }
}

/// 100 ms, doubled each time up to a minute, from the beginning after a run of ten seconds.
fn backoff(last_ms: u64, ran: Duration) -> Duration {
    if last_ms == 0 || ran >= SETTLED {
        return Duration::from_millis(100);
    }
    Duration::from_millis(last_ms * 2).min(LONGEST_BACKOFF)
}

fn oom(state: State) -> (State, Vec<Effect>) {
    (State { oom_killed: true, ..state }, vec![Effect::Tell(Told::Oom), Effect::Record])
}

fn freeze(state: State, who: Who<'_>, on: bool) -> Result<(State, Vec<Effect>), Refusal> {
    let id = || who.id.to_string();
    match (state.phase, on) {
        (Phase::Running, true) => {
            let effects = vec![Effect::Freeze(true), Effect::Tell(Told::Pause), Effect::Record];
            Ok((State { phase: Phase::Paused, ..state }, effects))
        }
        (Phase::Paused, false) => {
            let effects = vec![Effect::Freeze(false), Effect::Tell(Told::Unpause), Effect::Record];
            Ok((State { phase: Phase::Running, ..state }, effects))
        }
        (Phase::Paused, true) => Err(Refusal::AlreadyPaused(id())),
        (Phase::Restarting, true) => Err(Refusal::Restarting(id())),
        (_, true) => Err(Refusal::NotRunning(id())),
        (_, false) => Err(Refusal::NotPaused(id())),
    }
}

fn restart_due(state: State) -> (State, Vec<Effect>) {
    if state.phase != Phase::Restarting {
        return (state, Vec::new());
    }
    (State { phase: Phase::Starting, ..state }, vec![Effect::Launch])
}

fn remove(state: State, who: Who<'_>, force: bool) -> Result<(State, Vec<Effect>), Refusal> {
    match state.phase {
        Phase::Removing => Err(Refusal::RemovalInProgress(who.name.into())),
        Phase::Paused if !force => Err(Refusal::RemovePaused(who.name.into())),
        Phase::Running | Phase::Paused | Phase::Restarting | Phase::Starting if !force => {
            Err(Refusal::RemoveRunning { name: who.name.into(), state: state.phase.as_str() })
        }
        Phase::Running | Phase::Paused => {
            let signal = Effect::Signal(SIGKILL);
            let thaw = (state.phase == Phase::Paused).then_some(Effect::Freeze(false));
            let told = Effect::Tell(Told::Kill { signal: SIGKILL });
            let effects = [Some(signal), thaw, Some(told)].into_iter().flatten().collect();
            Ok((State { phase: Phase::Running, stopped_by_user: true, ..state }, effects))
        }
        _ => Ok((State { phase: Phase::Removing, ..state }, vec![Effect::Disarm, Effect::Remove])),
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
