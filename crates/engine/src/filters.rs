//! Compiled seccomp profiles: nearly all containers have one and the same.

use std::sync::{Mutex, MutexGuard, PoisonError};

use corten_runtime::plan::SeccompProgram;
use corten_spec::caps::{self, CapSet};
use corten_spec::{HostFacts, SeccompChoice, Settings, seccomp};
use oci_spec::runtime::LinuxSeccomp;

use crate::error::Error;

/// Other profiles than the default one are rare; a client that makes one up for each container gets them compiled each time.
const MOST: usize = 16;

/// Programs with what they were compiled from.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// The default profile's, which depends on the container's capabilities.
    defaults: Mutex<Vec<(CapSet, SeccompProgram)>>,
    others: Mutex<Vec<(LinuxSeccomp, SeccompProgram)>>,
}

impl Filters {
    /// The program of the default profile, if that is what these settings ask for. It is taken out of them then: hundreds of names
    /// in a document that nobody but the compiler would read.
    pub(crate) fn take_default(
        &self,
        settings: &mut Settings,
        host: &HostFacts,
    ) -> Result<Option<SeccompProgram>, Error> {
        if settings.seccomp != SeccompChoice::Default || settings.privileged || !host.seccomp {
            return Ok(None);
        }
        let failed = || Error::failed("cannot make the default seccomp profile");
        let caps = caps::effective(&settings.cap_add, &settings.cap_drop, false, host).map_err(failed())?;
        settings.seccomp = SeccompChoice::Unconfined;
        let program =
            known(&self.defaults, &caps, || compile(&seccomp::default_profile(caps, host).map_err(failed())?))?;
        Ok(Some(program))
    }

    /// The program for a profile. Profiles are compared, which is quicker than to make a key of one.
    pub(crate) fn compile(&self, profile: &LinuxSeccomp) -> Result<SeccompProgram, Error> {
        known(&self.others, profile, || compile(profile))
    }
}

/// What was compiled before, or is now.
fn known<K: Clone + PartialEq>(
    programs: &Mutex<Vec<(K, SeccompProgram)>>,
    key: &K,
    compile: impl FnOnce() -> Result<SeccompProgram, Error>,
) -> Result<SeccompProgram, Error> {
    if let Some((_, program)) = lock(programs).iter().find(|(known, _)| known == key) {
        return Ok(program.clone());
    }
    let program = compile()?;
    let mut programs = lock(programs);
    if programs.len() < MOST {
        programs.push((key.clone(), program.clone()));
    }
    Ok(program)
}

fn compile(profile: &LinuxSeccomp) -> Result<SeccompProgram, Error> {
    let failed = "cannot compile the seccomp profile";
    let machine =
        corten_seccomp::Machine::host().ok_or(corten_seccomp::Error::Machine).map_err(Error::failed(failed))?;
    let compiled = corten_seccomp::compile(profile, machine).map_err(Error::failed(failed))?;
    Ok(SeccompProgram { filter: compiled.filter, flags: compiled.flags })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_profile_is_compiled_for_the_containers_capabilities() {
        let host = corten_spec::host::facts();
        let filters = Filters::default();
        let program = |settings: &Settings| filters.take_default(&mut settings.clone(), &host).unwrap();
        let expected = |settings: &Settings| {
            let document = corten_spec::to_oci(settings, &host).unwrap();
            compile(document.linux().as_ref().unwrap().seccomp().as_ref().unwrap()).unwrap()
        };
        let with = |cap_add: &[&str], cap_drop: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
            Settings { cap_add: names(cap_add), cap_drop: names(cap_drop), ..Settings::default() }
        };
        let kinds = [with(&[], &[]), with(&["SYS_ADMIN"], &[]), with(&[], &["ALL"]), with(&["SYS_PTRACE"], &["CHOWN"])];
        for settings in kinds.iter().chain(&kinds) {
            assert_eq!(program(settings), Some(expected(settings)));
        }
        assert_ne!(expected(&kinds[0]), expected(&kinds[1]));
        for none in [
            Settings { privileged: true, ..Settings::default() },
            Settings { seccomp: SeccompChoice::Unconfined, ..Settings::default() },
            Settings { seccomp: SeccompChoice::Profile("{}".into()), ..Settings::default() },
        ] {
            let mut asked = none.clone();
            assert_eq!(filters.take_default(&mut asked, &host).unwrap(), None);
            assert_eq!(asked, none);
        }
        let mut asked = Settings::default();
        assert_eq!(filters.take_default(&mut asked, &HostFacts { seccomp: false, ..host.clone() }).unwrap(), None);
        assert_eq!(asked, Settings::default());
    }
}
