//! Deleting links away from anyone who waits.
//!
//! Deleting one veth pair takes the kernel tens of milliseconds, a hundred in one go hardly more; and most pairs vanish by
//! themselves with the namespace of their sandbox. So links of detached endpoints are collected for a moment and then deleted
//! together. An endpoint's address is free again only after that.

use crate::links;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// Links are collected for this long, which also gives sandboxes the time to end by themselves.
const COLLECT: Duration = Duration::from_millis(60);

/// At most so many links go at once: deletion holds the lock of all link changes.
const AT_ONCE: usize = 64;

/// What to do with each link's name when it is gone.
type Gone = Box<dyn FnOnce() + Send>;

enum Order {
    Delete(String, Gone),
    /// Delete everything now, then answer.
    Settle(SyncSender<()>),
}

/// The thread that deletes links, in the network namespace of the thread that started it. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Reaper {
    orders: mpsc::Sender<Order>,
}

impl Reaper {
    pub(crate) fn start() -> std::io::Result<Reaper> {
        let (orders, inbox) = mpsc::channel();
        thread::Builder::new().name("link-reaper".to_owned()).spawn(move || run(&inbox))?;
        Ok(Reaper { orders })
    }

    /// Deletes a link soon; `gone` runs when it is gone.
    pub(crate) fn delete(&self, link: String, gone: impl FnOnce() + Send + 'static) {
        // The thread only ends with this sender.
        let _ = self.orders.send(Order::Delete(link, Box::new(gone)));
    }

    /// Waits until all links ordered so far are gone.
    pub(crate) fn settle(&self) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.orders.send(Order::Settle(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(30));
        }
    }
}

fn run(inbox: &Receiver<Order>) {
    let mut waiting = Vec::new();
    while let Ok(first) = inbox.recv() {
        let until = Instant::now() + COLLECT;
        let mut settled = take(first, &mut waiting);
        while settled.is_none() && waiting.len() < AT_ONCE {
            match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(order) => settled = take(order, &mut waiting),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        delete(&mut waiting);
        if let Some(done) = settled {
            let _ = done.send(());
        }
    }
}

fn take(order: Order, waiting: &mut Vec<(String, Gone)>) -> Option<SyncSender<()>> {
    match order {
        Order::Delete(link, gone) => {
            waiting.push((link, gone));
            None
        }
        Order::Settle(done) => Some(done),
    }
}

fn delete(waiting: &mut Vec<(String, Gone)>) {
    if waiting.is_empty() {
        return;
    }
    let (names, gone): (Vec<String>, Vec<Gone>) = waiting.drain(..).unzip();
    if let Err(error) = links::delete_all(&names) {
        tracing::warn!(%error, ?names, "cannot delete links");
    }
    for then in gone {
        then();
    }
}
