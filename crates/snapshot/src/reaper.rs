//! Removes files nobody needs any more, off the path of those who wait for an answer.
//!
//! A thread lives while there is something to remove. What isn't removed when the process dies has no record, and goes when
//! the store is opened next.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// With more than this in the queue, callers remove for themselves: nothing grows without bound.
const QUEUE: usize = 512;

#[derive(Debug, Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<PathBuf>,
    running: bool,
}

impl Reaper {
    /// Removes a folder with all that is in it, soon.
    pub(crate) fn remove(self: &Arc<Self>, folder: PathBuf) {
        let mut state = self.lock();
        if state.queue.len() >= QUEUE {
            drop(state);
            return remove(&folder);
        }
        state.queue.push_back(folder);
        if state.running {
            return;
        }
        state.running = true;
        drop(state);
        let reaper = Arc::clone(self);
        let spawned = thread::Builder::new().name("reaper".into()).stack_size(256 << 10).spawn(move || {
            // Whoever waits for something comes first; a kernel without time slices to choose treats both alike.
            corten_sys::precedence::give_way();
            reaper.run();
        });
        if spawned.is_err() {
            self.run();
        }
    }

    /// Blocks until the queue is empty.
    pub(crate) fn wait(&self) {
        let mut state = self.lock();
        while state.running {
            state = self.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self) {
        loop {
            let mut state = self.lock();
            let Some(folder) = state.queue.pop_front() else {
                state.running = false;
                drop(state);
                return self.idle.notify_all();
            };
            drop(state);
            remove(&folder);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "cannot remove an unused snapshot; trying again at the next start");
        }
        _ => {}
    }
}
