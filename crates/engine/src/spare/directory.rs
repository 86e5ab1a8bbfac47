//! Containers' directories before they are any container's, and after.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::reuse::Marks;
use crate::undo::log;

/// The files that every container's directory has from its start on.
const FILES: [&str; 3] = ["hostname", "hosts", "resolv.conf"];
/// The log, which gets its name with the container. A new file is the dearest part of a log's opening.
const LOG: &str = "log";

/// A container's directory on its way; removed if it is dropped before it is [given](Directory::give).
#[derive(Debug)]
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// An empty one.
    pub(crate) fn make(path: PathBuf) -> Result<Directory, Error> {
        fs::create_dir(&path).map_err(Error::failed("cannot make the container's directory"))?;
        Ok(Directory(path))
    }

    /// Makes the files that every container has, empty.
    pub(super) fn fill(&self) -> std::io::Result<()> {
        for name in FILES {
            fs::File::create(self.0.join(name))?;
        }
        self.add_log()
    }

    fn add_log(&self) -> std::io::Result<()> {
        fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(self.0.join(LOG)).map(drop)
    }

    /// Takes a removed container's, to be at `path`. What the files say is written over when the next container starts; none if
    /// anything was done to them since `marks`. Its log is nobody else's.
    pub(super) fn take(used: &Path, path: PathBuf, marks: &Marks) -> std::io::Result<Option<Directory>> {
        fs::rename(used, &path)?;
        let directory = Directory(path);
        for entry in fs::read_dir(&directory.0)? {
            let name = entry?.file_name();
            if !FILES.iter().any(|file| name == *file) {
                fs::remove_file(directory.0.join(name))?;
            }
        }
        if !FILES.iter().zip(marks).all(|(file, mark)| mark.still_holds(&directory.0.join(file))) {
            return Ok(None);
        }
        directory.add_log()?;
        Ok(Some(directory))
    }

    /// Gives it to a container, under this name, with a log of that name if it has one.
    pub(crate) fn give(mut self, path: &Path, log: Option<&str>) -> Result<(), Error> {
        let failed = || Error::failed("cannot make the container's directory");
        let named = match log {
            Some(name) => fs::rename(self.0.join(LOG), self.0.join(name)),
            None => fs::remove_file(self.0.join(LOG)),
        };
        match named {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed()(error)),
            _ => fs::rename(&self.0, path).map_err(failed())?,
        }
        self.0.clear();
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            log("a spare directory stays behind", fs::remove_dir_all(&self.0));
        }
    }
}
