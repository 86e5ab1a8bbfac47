//! How a container's task starts it.

use std::sync::Arc;

use super::Task;
use crate::blocking;
use crate::error::Error;
use crate::grouped;
use crate::joined::Joined;
use crate::launch::{self, Launch};
use crate::life::Event;
use crate::run::Run;

impl Task {
    /// Starts the container, and says what came of it.
    pub(super) async fn launch(&mut self) -> Event {
        match self.try_launch().await {
            Ok(pid) => Event::Launched { pid },
            Err(error) => {
                self.release_root();
                let exit_code = match &error {
                    Error::Launch { exit_code, .. } => *exit_code,
                    _ => launch::FAILED,
                };
                let message = error.message();
                self.launch_error = Some(error);
                Event::LaunchFailed { exit_code, message }
            }
        }
    }

    async fn try_launch(&mut self) -> Result<i32, Error> {
        if let Some(teardown) = self.teardown.take() {
            let _ = teardown.await;
        }
        let joined = Joined::of(&self.shared, &self.record)?;
        if let Some(other) = &joined.network {
            self.files = Arc::new(other.shared_with(&self.files));
        }
        let launch = Launch {
            shared: self.shared.clone(),
            record: self.record.clone(),
            files: self.files.clone(),
            root: self.root.take(),
            reuse: self.reuse.clone(),
            attaches: std::mem::take(&mut self.attaches),
            joined,
        };
        let permit = self
            .shared
            .starts_with(&self.record.spec.runtime)
            .acquire()
            .await
            .map_err(Error::failed("the engine is ending"))?;
        let launched = match blocking::run(move || launch::send(launch)).await? {
            Ok(sent) => sent.answered().await,
            Err(error) => Err(error),
        };
        drop(permit);
        self.shared.pool.refill();
        self.shared.spares.refill();
        let mut launched = launched?;
        if let Some(spare) = launched.spare.take() {
            self.shared.background.spawn(async move {
                let done = blocking::run_behind(move || grouped::discard(&spare)).await;
                crate::undo::log("a control group stays behind", done);
            });
        }
        let (run, network, warnings) = Run::new(launched);
        for warning in warnings {
            tracing::warn!(container = %self.record.id, warning, "a setting was not applied as asked");
        }
        let pid = run.pid;
        self.run = Some(run);
        self.record.network = Arc::new(network);
        crate::volumes::tell_mounted(&self.shared, &self.record);
        Ok(pid)
    }
}
