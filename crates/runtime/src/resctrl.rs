//! The kernel's resctrl file system: groups of the processor's caches and memory bandwidth.
//!
//! ```text
//! <root>/schemata, tasks, info/L3, info/MB         the default group, and what the processor can do
//! <root>/<group>/schemata, tasks                   a group (class of service)
//! <root>/<group>/mon_groups/<id>/tasks             whose use is counted apart
//! ```
//!
//! A process joins by writing "0" to `tasks` of a group's directory, as it joins a v1 cgroup: the directories that
//! [`Made::directories`] opens go to it among those. Source: the kernel's Documentation/filesystems/resctrl.rst.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::plan::RdtPlan;

/// A group cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host has no such control, or does not show it.
    #[error("intelRdt is specified in config, but Intel RDT is not supported or enabled")]
    Absent,
    /// The group was to be there, or to be another.
    #[error("{0}")]
    Group(String),
    /// The kernel refused something.
    #[error("{operation} {path}")]
    Io {
        /// What was done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The file system, where it is mounted.
#[derive(Clone, Debug)]
pub struct Resctrl {
    root: PathBuf,
}

/// A container's groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The group's directory.
    pub group: PathBuf,
    /// It was made for the container and goes with it.
    pub removed: bool,
    /// The monitoring group, which always does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub monitor: Option<PathBuf>,
}

impl Resctrl {
    /// The one that this process sees mounted.
    pub fn find() -> Option<Resctrl> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let line = mounts.lines().find(|line| line.contains(" - resctrl "))?;
        Some(Resctrl { root: line.split(' ').nth(4)?.into() })
    }

    /// One at a directory.
    pub fn at(root: &Path) -> Resctrl {
        Resctrl { root: root.to_owned() }
    }

    /// Whether a resource such as `L3` or `MB` can be divided.
    pub fn divides(&self, resource: &str) -> bool {
        self.root.join("info").join(resource).is_dir()
    }

    /// What [`make`](Resctrl::make) will have made: for a record that is there before.
    pub fn place(&self, plan: &RdtPlan) -> Made {
        let group = self.root.join(&plan.group);
        let monitor = plan.monitor.as_ref().map(|name| group.join("mon_groups").join(name));
        Made { removed: !plan.named && !plan.group.is_empty(), group, monitor }
    }

    /// Makes or checks the groups of a plan. What fails leaves nothing.
    pub fn make(&self, plan: &RdtPlan) -> Result<Made, Error> {
        let place = self.place(plan);
        let group = &place.group;
        let made = self.make_group(plan, group)?;
        let finish = || {
            if made || (plan.group.is_empty() && !plan.schemata.is_empty()) {
                write_schemata(group, &plan.schemata)?;
            }
            place.monitor.as_ref().map_or(Ok(()), |path| fs::create_dir(path).map_err(failed("making", path)))
        };
        finish().inspect_err(|_| {
            if made {
                let _ = fs::remove_dir(group);
            }
        })?;
        Ok(place)
    }

    /// Makes the group's directory unless it may and does exist; true if it is new.
    fn make_group(&self, plan: &RdtPlan, group: &Path) -> Result<bool, Error> {
        if plan.group.is_empty() {
            return Ok(false);
        }
        match fs::create_dir(group) {
            Ok(()) if plan.named && plan.schemata.is_empty() => {
                let _ = fs::remove_dir(group);
                Err(Error::Group(format!("closID {} is not there, and no schema says how to make it", plan.group)))
            }
            Ok(()) => Ok(true),
            // Its name is the container's: a creation that was killed has left it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !plan.named => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => compare(plan, group).map(|()| false),
            Err(source) => Err(failed("making", group)(source)),
        }
    }
}

impl Made {
    /// Directories whose `tasks` the container's processes write themselves into, the most special last.
    pub fn directories(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |path: &PathBuf| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|error| failed("opening", path)(error.into()))
        };
        [Some(&self.group), self.monitor.as_ref()].into_iter().flatten().map(open).collect()
    }

    /// Changes the group's division.
    pub fn divide(&self, schemata: &[String]) -> Result<(), Error> {
        write_schemata(&self.group, schemata)
    }

    /// Removes what was made for the container; what is gone is fine.
    pub fn remove(&self) -> Result<(), Error> {
        let own = Some(&self.group).filter(|_| self.removed);
        let gone = |path: &PathBuf| match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("removing", path)(error)),
            _ => Ok(()),
        };
        self.monitor.as_ref().into_iter().chain(own).try_for_each(gone)
    }
}

fn failed<'a>(operation: &'static str, path: &'a Path) -> impl Fn(io::Error) -> Error + use<'a> {
    move |source| Error::Io { operation, path: path.to_owned(), source }
}

/// One write for all lines: the kernel takes several.
fn write_schemata(group: &Path, schemata: &[String]) -> Result<(), Error> {
    if schemata.is_empty() {
        return Ok(());
    }
    let path = group.join("schemata");
    let text: String = schemata.iter().map(|line| format!("{line}\n")).collect();
    fs::write(&path, text).map_err(failed("writing", &path))
}

/// A group that others made has to be divided as the plan says.
fn compare(plan: &RdtPlan, group: &Path) -> Result<(), Error> {
    let path = group.join("schemata");
    let there = fs::read_to_string(&path).map_err(failed("reading", &path))?;
    let present: Vec<(String, String, String)> = there.lines().flat_map(parts).collect();
    match plan.schemata.iter().find(|line| !parts(line).iter().all(|part| present.contains(part))) {
        Some(line) => Err(Error::Group(format!("closID {} is there with another schema than {line}", plan.group))),
        None => Ok(()),
    }
}

/// `L3:0=07ff;1=1f` as (resource, domain, value), without blanks and leading zeros.
fn parts(line: &str) -> Vec<(String, String, String)> {
    let Some((resource, domains)) = line.split_once(':') else { return Vec::new() };
    let plain = |text: &str| text.trim().trim_start_matches('0').to_ascii_lowercase();
    let domains = domains.split(';').filter_map(|part| part.split_once('='));
    domains.map(|(domain, value)| (resource.trim().to_owned(), plain(domain), plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with one group that somebody else has made. A real one has files in each new directory.
    fn fake() -> (tempfile::TempDir, Resctrl) {
        let directory = tempfile::tempdir().expect("a directory");
        for path in ["info/L3", "theirs/mon_groups"] {
            fs::create_dir_all(directory.path().join(path)).expect("a directory");
        }
        fs::write(directory.path().join("theirs/schemata"), "    MB:0= 20;1= 70\n    L3:0=007f0;1=0001f\n")
            .expect("a file");
        let resctrl = Resctrl::at(directory.path());
        (directory, resctrl)
    }

    fn plan(group: &str, named: bool, schemata: &[&str], monitor: bool) -> RdtPlan {
        let schemata = schemata.iter().map(|line| (*line).to_owned()).collect();
        RdtPlan { group: group.into(), named, schemata, monitor: monitor.then(|| "id".into()) }
    }

    #[test]
    fn a_group_of_the_containers_own_goes_with_it() {
        let (directory, resctrl) = fake();
        let made = resctrl.make(&plan("id", false, &["L3:0=7", "MB:0=20"], false)).expect("made");
        let group = directory.path().join("id");
        assert_eq!(fs::read_to_string(group.join("schemata")).expect("written"), "L3:0=7\nMB:0=20\n");
        assert_eq!(made.directories().expect("opened").len(), 1);
        let again = resctrl.make(&plan("id", false, &["L3:0=3"], false)).expect("what was left is taken");
        assert_eq!(again, made);
        fs::remove_file(group.join("schemata")).expect("the kernel's files go with the directory");
        made.remove().expect("removed");
        assert!(!group.exists());
        made.remove().expect("it is gone, which is fine");
    }

    #[test]
    fn a_group_of_others_has_to_fit_and_stays() {
        let (directory, resctrl) = fake();
        for fitting in [&[][..], &["L3:0=7f0;1=1f"], &["MB:1=70", "L3:1=1F"]] {
            let made = resctrl.make(&plan("theirs", true, fitting, false)).expect("it fits");
            made.remove().expect("nothing to be removed");
            assert!(directory.path().join("theirs").exists());
        }
        for other in ["L3:0=7f1", "L2:0=f", "MB:2=70"] {
            let refused = resctrl.make(&plan("theirs", true, &[other], false)).expect_err("it differs");
            assert!(refused.to_string().contains(other), "{refused}");
        }
        assert!(resctrl.make(&plan("missing", true, &[], false)).is_err());
        assert!(!directory.path().join("missing").exists());
        let made = resctrl.make(&plan("new", true, &["L3:0=1"], false)).expect("made");
        made.divide(&["L3:0=3".into()]).expect("changed");
        made.remove().expect("nothing to be removed");
        assert_eq!(fs::read_to_string(directory.path().join("new/schemata")).expect("there"), "L3:0=3\n");
    }

    #[test]
    fn monitoring_groups_go_with_the_container() {
        let (directory, resctrl) = fake();
        let made = resctrl.make(&plan("theirs", true, &[], true)).expect("made");
        let monitor = directory.path().join("theirs/mon_groups/id");
        assert!(monitor.exists() && made.directories().expect("opened").len() == 2);
        made.remove().expect("removed");
        assert!(!monitor.exists());
        // Without room for one more nothing is left.
        assert!(resctrl.make(&plan("id", false, &[], true)).is_err() && !directory.path().join("id").exists());
        assert!(resctrl.divides("L3") && !resctrl.divides("MB"));
    }
}
