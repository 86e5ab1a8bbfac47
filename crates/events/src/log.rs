//! The ring, its publishers and its readers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use corten_base::Namespace;
use tokio::sync::watch;

use crate::event::{Actor, Event, Kind};
use crate::filter::Filter;

/// The shared log; clones are handles to the same one.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// The number of events ever published; readers wait on it.
    published: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    capacity: usize,
    /// The sequence number of `events[0]`.
    first: u64,
    events: VecDeque<Arc<Event>>,
    last_time_ns: i64,
}

/// A reader was slower than the ring is long; events it wanted are gone.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the reader of the event log fell behind by {missed} events")]
pub struct Lagged {
    /// How many events were overwritten before the reader came for them.
    pub missed: u64,
}

impl Log {
    /// An empty log that keeps the latest `capacity` events (at least one).
    pub fn new(capacity: usize) -> Log {
        let ring = Ring { capacity: capacity.max(1), first: 0, events: VecDeque::new(), last_time_ns: 0 };
        Log { shared: Arc::new(Shared { ring: Mutex::new(ring), published: watch::Sender::new(0) }) }
    }

    /// Appends an event with the present time. Never blocks on readers.
    pub fn publish(&self, namespace: &Namespace, kind: Kind, action: impl Into<String>, actor: Actor) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i64);
        self.append(Event { namespace: namespace.clone(), kind, action: action.into(), actor, time_ns: now });
    }

    /// Appends an event with its own time, moved forward where the clock went back: order in the log is order in time.
    fn append(&self, mut event: Event) {
        let total = {
            let mut ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
            event.time_ns = event.time_ns.max(ring.last_time_ns + 1);
            ring.last_time_ns = event.time_ns;
            if ring.events.len() == ring.capacity {
                ring.events.pop_front();
                ring.first += 1;
            }
            ring.events.push_back(Arc::new(event));
            ring.first + ring.events.len() as u64
        };
        self.shared.published.send_replace(total);
    }

    /// How many readers there are.
    pub fn readers(&self) -> usize {
        self.shared.published.receiver_count()
    }

    /// A reader of one namespace's events. With `since_ns` it begins with the kept events from that time on (a time at or
    /// after theirs), without it with the next one that happens.
    pub fn subscribe(&self, namespace: &Namespace, filter: Filter, since_ns: Option<i64>) -> Subscription {
        let ring = self.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match since_ns {
            Some(since) => ring.first + ring.events.partition_point(|event| event.time_ns < since) as u64,
            None => ring.first + ring.events.len() as u64,
        };
        drop(ring);
        let changed = self.shared.published.subscribe();
        Subscription { log: self.clone(), namespace: namespace.clone(), filter, next, changed }
    }
}

/// A reader's place in the log.
#[derive(Debug)]
pub struct Subscription {
    log: Log,
    namespace: Namespace,
    filter: Filter,
    next: u64,
    changed: watch::Receiver<u64>,
}

impl Subscription {
    /// The next wanted event that is there already, without waiting.
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Lagged> {
        let ring = self.log.shared.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.next < ring.first {
            return Err(Lagged { missed: ring.first - self.next });
        }
        for event in ring.events.iter().skip((self.next - ring.first) as usize) {
            self.next += 1;
            if event.namespace == self.namespace && self.filter.matches(event) {
                return Ok(Some(event.clone()));
            }
        }
        Ok(None)
    }

    /// Waits for the next wanted event. Cancelling the future loses nothing.
    pub async fn next(&mut self) -> Result<Arc<Event>, Lagged> {
        loop {
            self.changed.borrow_and_update();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            // The sender lives as long as `self.log`, so this can only return for a new event.
            if self.changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(log: &Log, action: &str) {
        log.publish(&Namespace::default(), Kind::Container, action, Actor::default());
    }

    fn drain(reader: &mut Subscription) -> Vec<String> {
        std::iter::from_fn(|| reader.try_next().unwrap()).map(|event| event.action.clone()).collect()
    }

    #[test]
    fn a_reader_sees_what_comes_after_it_in_order() {
        let log = Log::new(8);
        say(&log, "a");
        let mut reader = log.subscribe(&Namespace::default(), Filter::default(), None);
        say(&log, "b");
        say(&log, "c");
        assert_eq!(drain(&mut reader), ["b", "c"]);
        assert_eq!(drain(&mut reader), Vec::<String>::new());
    }

    #[test]
    fn since_replays_the_ring() {
        let log = Log::new(2);
        for action in ["a", "b", "c"] {
            say(&log, action);
        }
        let mut all = log.subscribe(&Namespace::default(), Filter::default(), Some(0));
        assert_eq!(drain(&mut all), ["b", "c"]);
        let mut none = log.subscribe(&Namespace::default(), Filter::default(), Some(i64::MAX));
        assert_eq!(drain(&mut none), Vec::<String>::new());
    }

    #[test]
    fn a_lapped_reader_is_told() {
        let log = Log::new(2);
        let mut reader = log.subscribe(&Namespace::default(), Filter::default(), None);
        for action in ["a", "b", "c"] {
            say(&log, action);
        }
        assert_eq!(reader.try_next(), Err(Lagged { missed: 1 }));
    }

    #[test]
    fn time_never_goes_back() {
        let log = Log::new(8);
        let event = |time_ns| Event {
            namespace: Namespace::default(),
            kind: Kind::Image,
            action: "pull".into(),
            actor: Actor::default(),
            time_ns,
        };
        log.append(event(100));
        log.append(event(50));
        let mut reader = log.subscribe(&Namespace::default(), Filter::default(), Some(101));
        assert_eq!(reader.try_next().unwrap().unwrap().time_ns, 101);
    }

    #[tokio::test]
    async fn a_waiting_reader_wakes_up() {
        let log = Log::new(8);
        let mut reader = log.subscribe(&Namespace::default(), Filter::default(), None);
        let (event, ()) = tokio::join!(reader.next(), async { say(&log, "x") });
        assert_eq!(event.unwrap().action, "x");
    }

    #[test]
    fn namespaces_do_not_see_each_other() {
        let log = Log::new(8);
        let other = Namespace::new("other");
        let mut reader = log.subscribe(&other, Filter::default(), None);
        say(&log, "a");
        assert_eq!(drain(&mut reader), Vec::<String>::new());
    }
}
