//! What has been done, so that it can be taken back in reverse when a later step fails.

/// Steps to take back; dropping it takes them back, the last one first.
#[derive(Default)]
pub(crate) struct Undo<'a> {
    steps: Vec<Box<dyn FnOnce() + Send + 'a>>,
}

impl<'a> Undo<'a> {
    /// Remembers how to take back what was just done.
    pub(crate) fn push(&mut self, step: impl FnOnce() + Send + 'a) {
        self.steps.push(Box::new(step));
    }

    /// All went well: nothing is taken back.
    pub(crate) fn keep(mut self) {
        self.steps.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(step) = self.steps.pop() {
            step();
        }
    }
}

/// Logs a failure that must not hide the first one.
pub(crate) fn log<E: std::error::Error>(what: &str, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::warn!(error = crate::error::chain(&error), "{what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn the_last_step_is_taken_back_first() {
        let order = Mutex::new(Vec::new());
        let mut undo = Undo::default();
        undo.push(|| order.lock().unwrap().push(1));
        undo.push(|| order.lock().unwrap().push(2));
        drop(undo);
        assert_eq!(*order.lock().unwrap(), [2, 1]);
    }

    #[test]
    fn kept_steps_stay() {
        let mut touched = false;
        let mut undo = Undo::default();
        undo.push(|| touched = true);
        undo.keep();
        assert!(!touched);
    }
}
