//! The control group of a container that is being started: the pool's, or one made for it.

use corten_cgroup::Group;

use crate::error::{Error, chain};
use crate::launch::{FAILED, task_failure};
use crate::record::Record;
use crate::shared::Shared;
use crate::undo::log;

/// The control group on its way from the pool to the container; removed when the way ends early.
pub(crate) struct Grouped {
    group: Option<Group>,
    /// The pool's group of a container that couldn't use it; the stub in it ends with the start.
    spare: Option<Group>,
}

impl Grouped {
    /// With the pool's, if the shim has one.
    pub(crate) fn new(group: Option<Group>) -> Grouped {
        Grouped { group, spare: None }
    }

    /// Makes a group with its final name and without limits: whoever else makes the container sets them.
    pub(crate) fn make_unlimited(&mut self, shared: &Shared, record: &Record) -> Result<(), Error> {
        self.group = Some(shared.create_group(&record.id, &record.spec.cgroup_parent)?);
        Ok(())
    }

    /// Makes sure of a group with the container's limits. True if the init has to join it by itself; else it is the pool's, which
    /// is still to be [renamed](Grouped::rename).
    pub(crate) fn place(
        &mut self,
        shared: &Shared,
        record: &Record,
        oci: &oci_spec::runtime::Spec,
    ) -> Result<bool, Error> {
        let own_pid_namespace = record.spec.pid_mode == crate::settings::JoinMode::Private;
        // The warm init stub is in it; a joined PID namespace needs another one, and a rename can't leave the parent.
        let stays = record.spec.cgroup_parent.is_empty() && own_pid_namespace;
        let joins_itself = !stays || self.group.is_none();
        if joins_itself {
            self.spare = self.group.replace(shared.create_group(&record.id, &record.spec.cgroup_parent)?);
        }
        let limits = corten_runtime::devices::limits(oci);
        // A group from the pool has the usual ones already.
        if joins_itself || shared.pool.limits() != Some(&limits) {
            self.get()?.apply(&limits).map_err(|error| task_failure(&chain(&error), FAILED))?;
        }
        Ok(joins_itself)
    }

    /// Gives the pool's group its final name.
    pub(crate) fn rename(&mut self, shared: &Shared, record: &Record) -> Result<(), Error> {
        let path = shared.cgroup_path(&record.id, &record.spec.cgroup_parent)?;
        match &mut self.group {
            Some(group) if *group.path() != path => {
                group.rename(&path).map_err(Error::failed("cannot name the container's control group"))
            }
            _ => Ok(()),
        }
    }

    /// The container's, which runs, and the one to be removed behind the answer.
    pub(crate) fn keep(mut self) -> (Option<Group>, Option<Group>) {
        (self.group.take(), self.spare.take())
    }

    /// Kills whatever is in it.
    pub(crate) fn kill_all(&self) {
        self.groups().for_each(kill);
    }

    fn groups(&self) -> impl Iterator<Item = &Group> {
        self.group.iter().chain(&self.spare)
    }

    pub(crate) fn get(&self) -> Result<&Group, Error> {
        self.group.as_ref().ok_or_else(|| Error::Unavailable("the container has no control group".into()))
    }
}

impl Drop for Grouped {
    fn drop(&mut self) {
        self.groups().for_each(discard);
    }
}

/// Removes a control group with whatever is still in it. Blocks.
pub(crate) fn discard(group: &Group) {
    kill(group);
    discard_empty(group);
}

fn kill(group: &Group) {
    log("a control group's processes could not be killed", group.kill_all());
}

/// Removes a control group whose processes have ended. Blocks.
pub(crate) fn discard_empty(group: &Group) {
    log("a control group stays behind", group.remove());
}
