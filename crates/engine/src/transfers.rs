//! The second doorway for work that blocks: what moves images, and may wait for a network or a client for as long as it takes.
//!
//! Pulls, pushes, loads, saves, imports and checks have threads of their own, so that container work, which goes through
//! [`blocking`](crate::blocking), never waits for them. So many may go on at once; who comes later is told, and has its turn in the
//! order of coming. Nothing is refused: a hundred pulls at once are a script's way to bring a hundred images.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::error::Error;

/// Transfers at once. What they do together is bounded elsewhere (layers moved at once); this bounds threads.
const MOST: usize = 64;
/// Address space for each one's stack; only what is touched costs memory. A pull's TLS needs more than half a megabyte.
const STACK: usize = 2 << 20;

/// Who may move images now.
#[derive(Debug)]
pub(crate) struct Transfers(Arc<Semaphore>);

impl Default for Transfers {
    fn default() -> Transfers {
        Transfers(Arc::new(Semaphore::new(MOST)))
    }
}

/// The right to one of the threads.
#[derive(Debug)]
pub(crate) struct Turn(OwnedSemaphorePermit);

impl Transfers {
    /// A turn, if one is free and nobody waits for it.
    pub fn turn_now(&self) -> Option<Turn> {
        self.0.clone().try_acquire_owned().ok().map(Turn)
    }

    /// Waits for a turn.
    pub fn turn(&self) -> impl Future<Output = Turn> + Send + use<> {
        let turns = self.0.clone();
        async move { Turn(turns.acquire_owned().await.expect("the semaphore is never closed")) }
    }

    /// Runs `work` when it is its turn, and answers what it answers.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (sender, answer) = oneshot::channel();
        self.turn().await.start(move || drop(sender.send(work())))?;
        answer.await.map_err(Error::failed("a transfer ended early"))
    }
}

impl Turn {
    /// Begins `work` on a thread of its own. The turn is over with it.
    pub fn start(self, work: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let on_it = move || {
            let _turn = self.0;
            // Whoever starts a container meanwhile goes first.
            corten_sys::precedence::give_way();
            work();
        };
        let started = std::thread::Builder::new().name("transfer".into()).stack_size(STACK).spawn(on_it);
        started.map(drop).map_err(Error::failed("cannot start a thread"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_at_once_and_then_in_order() {
        let transfers = Transfers::default();
        let held: Vec<Turn> = std::iter::from_fn(|| transfers.turn_now()).collect();
        assert_eq!(held.len(), MOST);
        let waiting = transfers.run(|| std::thread::current().name().map(str::to_owned));
        let mut waiting = std::pin::pin!(waiting);
        assert!(look_at(waiting.as_mut()).await.is_none());
        drop(held);
        assert_eq!(waiting.await.unwrap().as_deref(), Some("transfer"));
        // The thread gives its turn back as well.
        let mut held = Vec::new();
        for _ in 0..MOST {
            held.push(transfers.turn().await);
        }
        assert!(transfers.turn_now().is_none());
    }

    /// One look at a future.
    async fn look_at<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
