//! The runtimes that containers may name: the engine's own, and other programs that speak the OCI command line.
//!
//! The engine's own has three names: its own, and the two that every Docker has (`runc` and `io.containerd.runc.v2`), so that what
//! asks for those gets what it means. Others come from the settings. containerd's shims (`runtimeType` in daemon.json, names like
//! `io.containerd.kata.v2`) can't be had: there is no containerd.

use std::collections::BTreeMap;
use std::env;

use crate::error::Error;

/// The names of the engine's own runtime; the first one is shown.
pub const BUILT_IN: [&str; 3] = ["corten", "runc", "io.containerd.runc.v2"];

/// Another program that makes containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExternalRuntime {
    /// Its path, or its name to be found in the daemon's `PATH`.
    pub path: String,
    /// What stands before each command's own arguments.
    pub arguments: Vec<String>,
}

/// What the settings say about runtimes.
#[derive(Debug, Clone)]
pub struct Runtimes {
    /// By the names that containers use.
    pub external: BTreeMap<String, ExternalRuntime>,
    /// For containers that name none.
    pub default: String,
}

impl Default for Runtimes {
    fn default() -> Runtimes {
        Runtimes { external: BTreeMap::new(), default: BUILT_IN[0].into() }
    }
}

impl Runtimes {
    /// Refuses settings that contradict themselves, in dockerd's words.
    pub fn check(&self) -> Result<(), String> {
        if let Some(name) = BUILT_IN.iter().find(|name| self.external.contains_key(**name)) {
            return Err(format!("runtime name '{name}' is reserved"));
        }
        match self.is_known(&self.default) {
            true => Ok(()),
            false => Err(format!("specified default runtime '{}' does not exist", self.default)),
        }
    }

    fn is_known(&self, name: &str) -> bool {
        BUILT_IN.contains(&name) || self.external.contains_key(name)
    }

    /// Whether a name means another program, known or not.
    pub(crate) fn is_external(&self, name: &str) -> bool {
        !name.is_empty() && !BUILT_IN.contains(&name)
    }

    /// The runtime of a name; none is the engine's own. One with arguments has to be there now: so it is with Docker, which looks
    /// for others only when they are executed.
    pub(crate) fn find(&self, name: &str) -> Result<Option<&ExternalRuntime>, Error> {
        if !self.is_external(name) {
            return Ok(None);
        }
        let unknown = || Error::Invalid(format!("unknown or invalid runtime name: {name}"));
        let runtime = self.external.get(name).ok_or_else(unknown)?;
        if !runtime.arguments.is_empty() {
            let path = env::var("PATH").unwrap_or_default();
            let missing = |error| Error::Launch {
                message: format!("error while looking up the specified runtime path: {error}"),
                exit_code: 128,
            };
            corten_shim::lookup::find(&runtime.path, &path).map_err(missing)?;
        }
        Ok(Some(runtime))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtimes(default: &str, external: &[(&str, &str, &[&str])]) -> Runtimes {
        let external = external.iter().map(|(name, path, arguments)| {
            let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
            ((*name).to_owned(), ExternalRuntime { path: (*path).to_owned(), arguments })
        });
        Runtimes { external: external.collect(), default: default.to_owned() }
    }

    #[test]
    fn settings_are_checked_as_dockerd_does() {
        assert_eq!(runtimes("corten", &[]).check(), Ok(()));
        assert_eq!(runtimes("runc", &[("crun", "/usr/bin/crun", &[])]).check(), Ok(()));
        assert_eq!(runtimes("crun", &[("crun", "/usr/bin/crun", &[])]).check(), Ok(()));
        assert_eq!(runtimes("corten", &[("runc", "/x", &[])]).check().unwrap_err(), "runtime name 'runc' is reserved");
        assert_eq!(runtimes("x", &[]).check().unwrap_err(), "specified default runtime 'x' does not exist");
    }

    #[test]
    fn names_are_found() {
        let known =
            runtimes("corten", &[("crun", "/nonexistent/crun", &[]), ("loud", "/nonexistent/crun", &["--debug"])]);
        for name in BUILT_IN.iter().chain(&[""]) {
            assert_eq!(known.find(name).unwrap(), None);
        }
        assert_eq!(known.find("crun").unwrap().unwrap().path, "/nonexistent/crun");
        let refused = |name| known.find(name).unwrap_err();
        assert_eq!(refused("kata").message(), "unknown or invalid runtime name: kata");
        assert_eq!(refused("kata").kind(), corten_base::ErrorKind::Invalid);
        assert_eq!(
            refused("io.containerd.kata.v2").message(),
            "unknown or invalid runtime name: io.containerd.kata.v2"
        );
        assert_eq!(
            refused("loud").message(),
            "error while looking up the specified runtime path: exec: \"/nonexistent/crun\": stat /nonexistent/crun: no such \
             file or directory"
        );
        assert_eq!(refused("loud").kind(), corten_base::ErrorKind::Internal);
    }
}
