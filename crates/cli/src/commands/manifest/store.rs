//! Lists on this machine, in the files of Docker's client: `manifests/<list>/<image>` beside its `config.json`, each name
//! with `:` as `-` and `/` as `_`.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use corten_base::Reference;

use super::entry::Entry;
use crate::failure::{Failure, Outcome, plain_io};
use crate::session::Session;

/// The lists of a user.
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub fn of(session: &Session) -> Store {
        Store { root: session.config().directory.join("manifests") }
    }

    /// The manifest of an image in a list, if it is there.
    pub fn find(&self, list: &Reference, image: &Reference) -> Outcome<Option<Entry>> {
        let path = self.directory(list).join(file_name(image));
        match fs::read(&path) {
            Ok(text) => Entry::read(&path.display().to_string(), &text).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("open", &path, &error)),
        }
    }

    /// The same, missing as an error in Docker's words.
    pub fn get(&self, list: &Reference, image: &Reference) -> Outcome<Entry> {
        self.find(list, image)?.ok_or_else(|| missing(image))
    }

    /// The manifests of a list by their files' names, if there is such a list.
    pub fn find_list(&self, list: &Reference) -> Outcome<Option<Vec<Entry>>> {
        let directory = self.directory(list);
        let unreadable = |error: io::Error| failed("open", &directory, &error);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
        let mut paths = paths.map_err(unreadable)?;
        paths.sort();
        let read = |path: &PathBuf| {
            let text = fs::read(path).map_err(|error| failed("open", path, &error))?;
            Entry::read(&path.display().to_string(), &text)
        };
        paths.iter().map(read).collect::<Outcome<_>>().map(Some)
    }

    /// The same, missing as an error in Docker's words.
    pub fn list(&self, list: &Reference) -> Outcome<Vec<Entry>> {
        self.find_list(list)?.ok_or_else(|| missing(list))
    }

    /// Puts an image's manifest into a list, which is made if there is none. Whoever reads meanwhile sees the old or the
    /// new one.
    pub fn save(&self, list: &Reference, image: &Reference, entry: &Entry) -> Outcome {
        let directory = self.directory(list);
        fs::create_dir_all(&directory).map_err(|error| failed("mkdir", &directory, &error))?;
        let path = directory.join(file_name(image));
        // Beside the lists: all that lies in one is taken for a manifest.
        let temporary = self.root.join(format!(".{}.tmp", std::process::id()));
        let written = fs::write(&temporary, entry.text()).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| {
            drop(fs::remove_file(&temporary));
            failed("open", &path, &error)
        })
    }

    /// Forgets a list.
    pub fn remove(&self, list: &Reference) -> Outcome {
        let directory = self.directory(list);
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("unlinkat", &directory, &error)),
            _ => Ok(()),
        }
    }

    fn directory(&self, list: &Reference) -> PathBuf {
        self.root.join(file_name(list))
    }
}

/// The grammar of references lets no name through that would lead elsewhere.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn missing(reference: &Reference) -> Failure {
    Failure::message(format!("No such manifest: {reference}"))
}

/// As Go's errors of paths.
fn failed(operation: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::message(format!("{operation} {}: {}", path.display(), plain_io(error)))
}
