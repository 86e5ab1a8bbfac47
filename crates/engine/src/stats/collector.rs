//! The one task that looks at all watched containers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use corten_base::ContainerId;
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tokio::time::MissedTickBehavior;

use super::Sample;
use super::read::{Host, Source};
use crate::blocking;
use crate::registry::Handle;
use crate::shared::Shared;

/// Between two looks, as with Docker.
const PERIOD: Duration = Duration::from_secs(1);

/// Who is watched. Costs nothing while nobody is.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    state: Mutex<State>,
    /// Somebody began to watch a container that nobody watched.
    came: Notify,
}

#[derive(Debug, Default)]
struct State {
    watched: HashMap<ContainerId, Watched>,
    /// The task, while there is one.
    task: Option<AbortHandle>,
    is_closed: bool,
}

#[derive(Debug)]
struct Watched {
    source: Source,
    latest: watch::Sender<Option<(Instant, Sample)>>,
}

/// A container that is looked at about once a second.
#[derive(Debug)]
pub struct Watcher {
    receiver: watch::Receiver<Option<(Instant, Sample)>>,
    last: Option<Instant>,
}

impl Watcher {
    /// The next look, the first one being there at once; none when the container is gone. A watcher that is slow misses some.
    pub async fn next(&mut self) -> Option<Sample> {
        loop {
            let latest = self.receiver.wait_for(|latest| latest.as_ref().map(|(at, _)| *at) > self.last).await;
            let (at, sample) = latest.ok()?.clone()?;
            // Whoever begins to watch gets a first look out of turn: what soon follows says nothing about a period.
            let is_early = self.last.is_some_and(|last| at - last < PERIOD / 2);
            self.last = Some(at);
            if !is_early {
                return Some(sample);
            }
        }
    }
}

impl Collector {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to watch a container; the task is set going if nobody watched anything.
    pub(crate) fn watch(shared: &Arc<Shared>, handle: Arc<Handle>) -> Watcher {
        let collector = &shared.collector;
        let mut state = collector.state();
        let id = handle.now().id.clone();
        let watched = state.watched.entry(id).or_insert_with(|| {
            collector.came.notify_one();
            Watched { source: Source::new(handle), latest: watch::Sender::new(None) }
        });
        let receiver = watched.latest.subscribe();
        if state.is_closed {
            state.watched.clear();
        } else if state.task.is_none() {
            state.task = Some(tokio::spawn(collect(shared.clone())).abort_handle());
        }
        Watcher { receiver, last: None }
    }

    /// Ends all watching, for good.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.watched.clear();
        if let Some(task) = state.task.take() {
            task.abort();
        }
    }

    /// What is to be looked at: all, or those that nobody has seen yet. None when nobody watches any more: the task is over
    /// then.
    fn due(&self, only_new: bool) -> Option<Vec<Source>> {
        let mut state = self.state();
        state.watched.retain(|_, watched| !watched.latest.is_closed());
        if state.watched.is_empty() {
            state.task = None;
            return None;
        }
        let due = state.watched.values().filter(|watched| !only_new || watched.latest.borrow().is_none());
        Some(due.map(|watched| watched.source.clone()).collect())
    }

    fn publish(&self, at: Instant, looks: Vec<(Source, Sample)>) {
        let mut state = self.state();
        for (source, sample) in looks {
            let id = sample.view.id.clone();
            if sample.view.removed {
                state.watched.remove(&id);
            } else if let Some(watched) = state.watched.get_mut(&id) {
                watched.source = source;
                watched.latest.send_replace(Some((at, sample)));
            }
        }
    }
}

/// Looks at all that is watched, once a period, and at what somebody begins to watch.
async fn collect(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let only_new = tokio::select! {
            _ = ticks.tick() => false,
            () = shared.collector.came.notified() => true,
        };
        let Some(sources) = shared.collector.due(only_new) else { return };
        let inner = shared.clone();
        let looks = blocking::run(move || look_at(&inner, sources)).await;
        match looks {
            Ok(Ok(looks)) => shared.collector.publish(Instant::now(), looks),
            Ok(Err(error)) => tracing::warn!(%error, "cannot read the machine's processor times"),
            Err(error) => tracing::warn!(error = error.message(), "containers could not be looked at"),
        }
    }
}

/// One look at each. Blocks.
fn look_at(shared: &Shared, sources: Vec<Source>) -> std::io::Result<Vec<(Source, Sample)>> {
    let host = Host::now()?;
    let look = |mut source: Source| {
        let sample = source.look(shared, &host);
        (source, sample)
    };
    Ok(sources.into_iter().map(look).collect())
}
