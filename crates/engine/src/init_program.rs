//! The program that `--init` mounts as `/sbin/docker-init`: the one that the settings name, else this executable, which plays the role
//! under that name.
//!
//! A container gets a copy of the executable, never the file itself, not even read-only: a privileged container can make any mount of
//! its own writable, and what it would overwrite then is the daemon (CVE-2019-5736 by another way).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::error::Error;

/// The file's name below the data root.
const NAME: &str = "docker-init";

/// The copy, made when the first container asks for it.
#[derive(Debug, Default)]
pub(crate) struct InitProgram {
    copied: Mutex<Option<PathBuf>>,
}

impl InitProgram {
    /// The program's path on the host. Blocks.
    pub(crate) fn path(&self, config: &Config) -> Result<PathBuf, Error> {
        if let Some(path) = &config.init_path {
            return Ok(path.clone());
        }
        let mut copied = self.copied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = copied.as_ref().filter(|path| path.exists()) {
            return Ok(path.clone());
        }
        // One that an earlier daemon made may be of another version. Containers that have it mounted keep it.
        let path = config.data_root.join(NAME);
        copy(&config.executable, &path).map_err(Error::failed("cannot prepare the init program"))?;
        Ok(copied.insert(path).clone())
    }
}

fn copy(executable: &Path, path: &Path) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    fs::copy(executable, &temporary)?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(0o555))?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_once_and_again_when_it_is_gone() {
        let root = tempfile::tempdir().unwrap();
        let config = Config { data_root: root.path().into(), ..Config::default() };
        let program = InitProgram::default();
        let path = program.path(&config).unwrap();
        assert_eq!(fs::read(&path).unwrap(), fs::read("/proc/self/exe").unwrap());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o555);
        fs::remove_file(&path).unwrap();
        assert_eq!(program.path(&config).unwrap(), path);
        assert!(path.exists());
        let own = Config { init_path: Some("/usr/bin/tini".into()), ..config };
        assert_eq!(program.path(&own).unwrap(), Path::new("/usr/bin/tini"));
    }
}
