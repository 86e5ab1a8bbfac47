//! How a container's task gets rid of a run that has ended, and of the container itself.

use std::sync::Arc;
use std::time::Duration;

use corten_base::{ImageId, Namespace};

use super::Task;
use crate::blocking;
use crate::error::Error;
use crate::life::{Event, Phase};
use crate::shared::Shared;
use crate::view::ContainerView;

/// How long the tear-down lets those who waited for the end have the processors. Often they remove the container, and then its end
/// need not be recorded.
const AFTER_EXIT: Duration = Duration::from_millis(2);
/// How long a removed container's files stay, so that a later change makes the removal durable along with itself.
const UNTIL_SETTLED: Duration = Duration::from_millis(100);

impl Task {
    /// The run has ended: what it held is given back behind the answers.
    pub(super) fn tear_down(&mut self) {
        let Some(run) = self.run.take() else { return };
        // A container that is about to be removed has no use for a record of its end.
        let saved = (!self.record.spec.auto_remove || self.state.phase == Phase::Restarting)
            .then(|| (self.record.clone(), self.state.clone()));
        let (shared, record, view) = (self.shared.clone(), self.record.clone(), self.view.subscribe());
        self.teardown = Some(self.shared.background.spawn(async move {
            // Until the shim is released it knows of the end: whoever dies meanwhile, nothing is lost.
            tokio::time::sleep(AFTER_EXIT).await;
            let removed = view.borrow().removed;
            if let Some((record, state)) = saved.filter(|_| !removed) {
                crate::undo::log("a container's end is not recorded", shared.records.saved(&record, &state).await);
            }
            run.tear_down(&shared, &record).await;
        }));
        self.release_root();
    }

    /// A container that has ended or not begun, and stays, doesn't keep its root mounted.
    pub(super) fn release_root(&self) {
        if self.reuse.is_empty() {
            return;
        }
        let (reuse, view) = (self.reuse.clone(), self.view.subscribe());
        self.shared.background.spawn(async move {
            tokio::time::sleep(UNTIL_SETTLED).await;
            if !view.borrow().removed {
                let done = blocking::run_behind(move || reuse.forget()).await;
                crate::undo::log("a root file system stays mounted", done);
            }
        });
    }

    /// Removes the container for good: the record first; what it leaves is swept behind the answer, when that has settled.
    pub(super) async fn destroy(&mut self) -> Option<Event> {
        let layer = match self.shared.records.remove(&self.record.namespace, &self.record.id).await {
            Ok(layer) => layer,
            Err(error) => return Some(Event::RemoveFailed { message: error.message() }),
        };
        if self.remove_volumes && self.record.mounts.iter().any(|point| point.kind == "volume") {
            crate::undo::log("a container's anonymous volumes stay behind", self.remove_anonymous_volumes().await);
        }
        self.shared.registry.remove(&self.record.namespace, &self.record.id);
        self.shared.execs.forget(&self.record.id);
        self.tell_action("destroy", []);
        self.view.send_modify(|view| {
            let mut last = ContainerView::clone(view);
            last.removed = true;
            *view = Arc::new(last);
        });
        let (shared, id, teardown) = (self.shared.clone(), self.record.id.clone(), self.teardown.take());
        let (root, reuse) = (self.root.take(), self.reuse.clone());
        let (namespace, image) = (self.record.namespace.clone(), self.record.image_id.clone());
        self.shared.background.spawn(async move {
            if let Some(teardown) = teardown {
                let _ = teardown.await;
            }
            tokio::time::sleep(UNTIL_SETTLED).await;
            if let Err(error) = shared.records.settled().await {
                return tracing::warn!(
                    error = error.message(),
                    "what a removed container left stays until the next start"
                );
            }
            let swept = blocking::run_behind(move || {
                drop(root);
                let left = layer
                    .and_then(|layer| shared.spares.hand_on(reuse.take(), layer, &shared.container_directory(&id)));
                left.into_iter().for_each(|layer| shared.snapshots.sweep(layer));
                crate::create::remove_directory(&shared, &id);
                crate::undo::log("an image's layers stay behind", collect_with_last(&shared, &namespace, &image));
            });
            crate::undo::log("what a removed container left stays behind", swept.await);
        });
        None
    }

    /// After the container, for good: it must not come back without them.
    async fn remove_anonymous_volumes(&self) -> Result<(), Error> {
        self.shared.records.settled().await?;
        let (shared, record) = (self.shared.clone(), self.record.clone());
        blocking::run(move || crate::volumes::remove_anonymous(&shared, &record)).await?
    }
}

/// The layers of an image that has no record (it was removed by force, or is another platform's) go with its last container.
fn collect_with_last(shared: &Shared, namespace: &Namespace, image: &ImageId) -> Result<(), Error> {
    let images = shared.images.within(namespace);
    if images.is_recorded(image)? || !crate::services::users(shared, namespace, image).is_empty() {
        return Ok(());
    }
    // What was made for its next container stands on them.
    shared.spares.clear();
    images.collect()?;
    Ok(())
}
