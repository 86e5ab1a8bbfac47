//! The volumes of a namespace: making, finding, using and removing them.

use crate::driver::{self, LocalOptions};
use crate::model::{ANONYMOUS_LABEL, CreateVolume, Filters, Volume};
use crate::records::Records;
use crate::{Error, Result, content, copy};
use corten_base::{Namespace, VolumeName};
use corten_metadata::Database;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The only driver so far.
const LOCAL: &str = "local";
/// Begins the name of a directory on its way out; no volume name begins with a dot.
const REMOVING: &str = ".removing-";
const CONTENT: &str = "_data";
const FILLING: &str = "filling";

/// All volumes of a namespace. Clones share one state.
#[derive(Clone, Debug)]
pub struct Volumes {
    root: PathBuf,
    records: Records,
    /// Who uses each volume with a file system of its own; also keeps mounting and removing apart.
    users: Arc<Mutex<HashMap<VolumeName, HashSet<String>>>>,
}

impl Volumes {
    /// Opens the volumes below `<data root>/volumes`, finishing what an earlier engine began.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory can't be made or read, [`Error::Metadata`].
    pub fn open(data_root: &Path, db: Database) -> Result<Volumes> {
        let root = data_root.join("volumes");
        DirBuilder::new()
            .recursive(true)
            .mode(0o701)
            .create(&root)
            .map_err(Error::io(format!("create {}", root.display())))?;
        let volumes = Volumes { root, records: Records::new(db, Namespace::default()), users: Arc::default() };
        volumes.sweep()?;
        Ok(volumes)
    }

    /// Creates a volume; answers the existing one if the name is taken with the same driver.
    ///
    /// # Errors
    /// [`Error::InvalidName`], [`Error::NoDriver`], [`Error::InvalidOptions`], [`Error::Conflict`].
    pub fn create(&self, request: CreateVolume) -> Result<Volume> {
        let CreateVolume { name, driver, options, mut labels } = request;
        let name = if name.is_empty() {
            labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
            random_name()?
        } else {
            VolumeName::parse(&name).map_err(|reason| Error::InvalidName { name, reason })?
        };
        if !matches!(driver.as_str(), "" | LOCAL) {
            return Err(Error::NoDriver { name: name.to_string(), driver });
        }
        LocalOptions::read(&options).map_err(|reason| Error::InvalidOptions { name: name.to_string(), reason })?;
        if let Some(existing) = self.records.get(name.as_str())? {
            return Ok(existing);
        }
        let (created, mountpoint) = (SystemTime::now(), self.content(&name));
        let volume = Volume { name, driver: LOCAL.to_owned(), mountpoint, created, labels, options };
        if !self.records.insert(&volume)? {
            return self.get(volume.name.as_str());
        }
        if let Err(error) = self.ensure_directory(&volume.name) {
            if let Err(error) = self.records.delete(&volume.name) {
                tracing::warn!(%error, volume = %volume.name, "the record of a failed volume stays");
            }
            return Err(error);
        }
        Ok(volume)
    }

    /// The volume of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn get(&self, name: &str) -> Result<Volume> {
        self.records.get(name)?.ok_or_else(|| Error::NotFound(name.to_owned()))
    }

    /// All volumes that pass the filters, by name. `in_use` are those that a container refers to.
    ///
    /// # Errors
    /// [`Error::Metadata`].
    pub fn list(&self, filters: &Filters, in_use: &HashSet<VolumeName>) -> Result<Vec<Volume>> {
        let mut volumes = self.records.all()?;
        volumes.retain(|volume| filters.pass(volume, in_use.contains(&volume.name)));
        Ok(volumes)
    }

    /// Removes a volume and its content. `users` are the ids of the containers that refer to it; with `force` a volume
    /// that doesn't exist is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], [`Error::Io`].
    pub fn remove(&self, name: &str, force: bool, users: &[String]) -> Result<()> {
        // Held from the first look on: of two who remove the same volume one finds it gone.
        let mut mounted_by = self.users();
        let volume = match self.get(name) {
            Err(Error::NotFound(_)) if force => return Ok(()),
            found => found?,
        };
        let mut all: Vec<String> = mounted_by.get(&volume.name).into_iter().flatten().cloned().collect();
        all.extend(users.iter().filter(|id| !all.contains(id)).cloned().collect::<Vec<_>>());
        if !all.is_empty() {
            return Err(Error::InUse { name: name.to_owned(), users: all });
        }
        driver::unmount(&self.content(&volume.name))?;
        mounted_by.remove(&volume.name);
        self.take_away(&volume.name)
    }

    /// Removes unused volumes: anonymous ones only unless `all`. Answers names and the bytes freed.
    ///
    /// # Errors
    /// [`Error::Metadata`]; volumes that can't be removed are logged and left.
    pub fn prune(&self, all: bool, filters: &Filters, in_use: &HashSet<VolumeName>) -> Result<(Vec<VolumeName>, u64)> {
        let (mut removed, mut freed) = (Vec::new(), 0);
        for volume in self.list(filters, in_use)? {
            if in_use.contains(&volume.name) || !(all || volume.is_anonymous()) {
                continue;
            }
            let size = if volume.options.is_empty() { self.usage(volume.name.as_str())? } else { 0 };
            match self.remove(volume.name.as_str(), true, &[]) {
                Ok(()) => {
                    freed += size;
                    removed.push(volume.name);
                }
                Err(error) => tracing::warn!(%error, "a volume was not pruned"),
            }
        }
        Ok((removed, freed))
    }

    /// Makes the volume's content available (mounts it if it has a `type`) and answers where it is. `user` is the
    /// container; repeating it is harmless, one [`unmount`](Volumes::unmount) of the same user ends it.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Mount`].
    pub fn mount(&self, name: &str, user: &str) -> Result<PathBuf> {
        let volume = self.get(name)?;
        self.ensure_directory(&volume.name)?;
        let options = LocalOptions::read(&volume.options)
            .map_err(|reason| Error::InvalidOptions { name: name.to_owned(), reason })?;
        let Some(options) = options else { return Ok(volume.mountpoint) };
        let mut users = self.users();
        driver::mount(&options, &volume.mountpoint)?;
        users.entry(volume.name).or_default().insert(user.to_owned());
        Ok(volume.mountpoint)
    }

    /// Ends a container's use; the last one's unmounts the volume's own file system.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn unmount(&self, name: &str, user: &str) -> Result<()> {
        let mut users = self.users();
        let Ok(name) = VolumeName::parse(name) else { return Ok(()) };
        let Some(mine) = users.get_mut(&name) else { return Ok(()) };
        if mine.remove(user) && mine.is_empty() {
            users.remove(&name);
            driver::unmount(&self.content(&name))?;
        }
        Ok(())
    }

    /// Fills an empty volume with the content of the image's directory `path` below `root` (the container's root file
    /// system); does nothing if the volume has content or the image no such directory. Answers whether it copied.
    ///
    /// Owners, modes, times, extended attributes, links and devices are kept; no link leads out of either side. A copy that
    /// was cut short is completed by the next call; one that fails is taken back.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn copy_up(&self, name: &str, root: BorrowedFd<'_>, path: &Path) -> Result<bool> {
        let volume = self.get(name)?;
        let marker = self.root.join(volume.name.as_str()).join(FILLING);
        let resumed = marker.exists();
        let target =
            File::open(&volume.mountpoint).map_err(Error::io(format!("open {}", volume.mountpoint.display())))?;
        let failed = || Error::io(format!("copy {} of the image to volume {name}", path.display()));
        if !resumed && !content::is_empty(&volume.mountpoint).map_err(failed())? {
            return Ok(false);
        }
        let Some(source) = copy::open_source(root, path).map_err(failed())? else { return Ok(false) };
        File::create(&marker).map_err(failed())?;
        if let Err(error) = copy::tree(source, &target) {
            if let Err(error) = content::clear(&volume.mountpoint) {
                tracing::warn!(%error, volume = name, "a failed copy stays in the volume");
            }
            let _ = fs::remove_file(&marker);
            return Err(failed()(error));
        }
        fs::remove_file(&marker).map_err(failed())?;
        Ok(true)
    }

    /// The bytes of a volume's content on the disk; files with several names count once.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Io`].
    pub fn usage(&self, name: &str) -> Result<u64> {
        let volume = self.get(name)?;
        content::usage(&volume.mountpoint).map_err(Error::io(format!("measure volume {name}")))
    }

    /// Labels of a volume with no name given by a user.
    pub fn anonymous_labels() -> BTreeMap<String, String> {
        BTreeMap::from([(ANONYMOUS_LABEL.to_owned(), String::new())])
    }

    fn content(&self, name: &VolumeName) -> PathBuf {
        self.root.join(name.as_str()).join(CONTENT)
    }

    fn users(&self) -> MutexGuard<'_, HashMap<VolumeName, HashSet<String>>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ensure_directory(&self, name: &VolumeName) -> Result<()> {
        let path = self.content(name);
        if path.is_dir() {
            return Ok(());
        }
        let make = || {
            DirBuilder::new().recursive(true).mode(0o701).create(path.parent().unwrap_or(&path))?;
            DirBuilder::new().mode(0o755).create(&path)
        };
        match make() {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            result => result.map_err(Error::io(format!("create {}", path.display()))),
        }
    }

    /// Out of sight, out of the records, off the disk: whatever happens in between, the next start finishes it.
    fn take_away(&self, name: &VolumeName) -> Result<()> {
        let (from, to) = (self.root.join(name.as_str()), self.root.join(format!("{REMOVING}{name}")));
        let act = || Error::io(format!("remove volume {name}"));
        content::remove(&to).map_err(act())?;
        match fs::rename(&from, &to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(act()(error)),
            _ => {}
        }
        if let Err(error) = self.records.delete(name) {
            let _ = fs::rename(&to, &from);
            return Err(error);
        }
        content::remove(&to).map_err(act())
    }

    /// Finishes removals, and takes directories without a record for volumes.
    fn sweep(&self) -> Result<()> {
        let known: HashSet<VolumeName> = self.records.all()?.into_iter().map(|volume| volume.name).collect();
        let act = || Error::io(format!("read {}", self.root.display()));
        for entry in fs::read_dir(&self.root).map_err(act())? {
            let entry = entry.map_err(act())?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else { continue };
            if let Some(name) = text.strip_prefix(REMOVING) {
                if let Ok(name) = VolumeName::parse(name)
                    && !self.content(&name).exists()
                {
                    self.records.delete(&name)?;
                }
                content::remove(&entry.path()).map_err(Error::io(format!("remove volume {name}")))?;
            } else if let Ok(name) = VolumeName::parse(text)
                && !known.contains(&name)
                && entry.path().join(OsStr::new(CONTENT)).is_dir()
            {
                self.adopt(name)?;
            }
        }
        Ok(())
    }

    fn adopt(&self, name: VolumeName) -> Result<()> {
        let mountpoint = self.content(&name);
        let created = fs::metadata(&mountpoint).and_then(|data| data.modified()).unwrap_or_else(|_| SystemTime::now());
        let (labels, options) = Default::default();
        self.records.insert(&Volume { name, driver: LOCAL.to_owned(), mountpoint, created, labels, options })?;
        Ok(())
    }
}

impl Filters {
    /// Whether a volume passes; `used` tells whether containers refer to it.
    fn pass(&self, volume: &Volume, used: bool) -> bool {
        let one_of =
            |values: &[String], test: &dyn Fn(&str) -> bool| values.is_empty() || values.iter().any(|v| test(v));
        let labelled = |wanted: &String| match wanted.split_once('=') {
            None => volume.labels.contains_key(wanted),
            Some((key, value)) => volume.labels.get(key).is_some_and(|found| found == value),
        };
        one_of(&self.name, &|part| volume.name.as_str().contains(part))
            && one_of(&self.driver, &|driver| volume.driver == driver)
            && self.label.iter().all(labelled)
            && !self.label_not.iter().any(labelled)
            && self.dangling.is_none_or(|dangling| dangling != used)
    }
}

/// 64 hexadecimal digits.
fn random_name() -> Result<VolumeName> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| Error::Io {
        action: "make up a volume name".to_owned(),
        source: io::Error::other(error.to_string()),
    })?;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    VolumeName::parse(&digits).map_err(|reason| Error::InvalidName { name: digits, reason })
}
