//! Active snapshots that nothing was ever changed in: the next one like them needs no other files, nor another overlay.

use std::fs;
use std::io;

use corten_sys::mark::Mark;

use crate::{ActiveDraft, Forgotten, RootFs};

/// What overlayfs itself has in its work directory: the mark of a volatile mount.
const OWN: &str = "incompat";

/// An active snapshot with its record.
#[derive(Debug)]
#[must_use]
pub struct Recorded(pub(crate) ActiveDraft);

impl Recorded {
    /// Its folders.
    #[must_use]
    pub fn root(&self) -> &RootFs {
        self.0.root()
    }

    /// A draft once more, if its record was the one that has been forgotten, and nothing has changed in it since its upper directory
    /// looked as in `mark`. No process may be left that has anything of it open.
    ///
    /// # Errors
    /// The forgotten record, whose files are of no further use.
    pub fn renew(self, forgotten: Forgotten, mark: &Mark) -> Result<ActiveDraft, Forgotten> {
        let Recorded(mut draft) = self;
        if draft.id != forgotten.0 || !draft.root.is_untouched(mark).unwrap_or(false) {
            return Err(forgotten);
        }
        draft.kept = false;
        Ok(draft)
    }
}

impl RootFs {
    /// Whether the upper directory looks as it did and has nothing in it, and nothing has been left in overlayfs's work directory.
    fn is_untouched(&self, mark: &Mark) -> io::Result<bool> {
        let is_empty = fs::read_dir(&self.upper)?.next().is_none();
        for entry in fs::read_dir(self.work.join("work"))? {
            if entry?.file_name() != OWN {
                return Ok(false);
            }
        }
        // Last: what is changed while the rest is looked at shows here.
        Ok(is_empty && mark.still_holds(&self.upper))
    }
}
