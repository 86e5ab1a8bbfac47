//! A container's limits: whether they can be, at its making and later, and what the kernel is told when they change.

use corten_spec::limits::{self, Support};

use crate::containers::UpdateContainer;
use crate::error::Error;
use crate::settings::{ContainerSpec, Resources, RestartPolicy};

/// Checks a new container's limits, takes away what the host can't do and fills in those that follow from others. Returns
/// warnings for the client.
pub(crate) fn check_new(support: &Support, wanted: &mut Resources) -> Result<Vec<String>, Error> {
    let mut checked = crate::translate::resources(wanted)?;
    limits::adapt(&mut checked);
    let warnings = limits::verify(&mut checked, support, false).map_err(|error| Error::Invalid(error.to_string()))?;
    keep(checked, wanted);
    wanted.oom_kill_disable = support.oom_kill_disable.then_some(wanted.oom_kill_disable.unwrap_or_default());
    Ok(warnings)
}

/// Checks limits that are about to take the place of others, by themselves as Docker does: nothing is filled in.
pub(crate) fn check_change(support: &Support, change: &mut Resources) -> Result<Vec<String>, Error> {
    let lifts_pids = change.pids_limit.is_some_and(|limit| limit <= 0);
    let mut checked = crate::translate::resources(change)?;
    let warnings = limits::verify(&mut checked, support, true).map_err(|error| Error::Invalid(error.to_string()))?;
    keep(checked, change);
    if lifts_pids && support.pids {
        change.pids_limit = Some(0);
    }
    Ok(warnings)
}

/// Takes over what a check left.
fn keep(checked: corten_spec::Resources, wanted: &mut Resources) {
    wanted.memory = checked.memory.unwrap_or(0);
    wanted.memory_swap = checked.memory_swap.unwrap_or(0);
    wanted.memory_reservation = checked.memory_reservation.unwrap_or(0);
    wanted.memory_swappiness = checked.memory_swappiness;
    wanted.oom_kill_disable = wanted.oom_kill_disable.map(|_| checked.oom_kill_disable);
    wanted.pids_limit = checked.pids_limit;
    wanted.cpu_shares = checked.cpu_shares.unwrap_or(0);
    wanted.nano_cpus = checked.nano_cpus.unwrap_or(0);
    wanted.cpu_period = checked.cpu_period.unwrap_or(0);
    wanted.cpu_quota = checked.cpu_quota.unwrap_or(0);
    wanted.cpuset_cpus = checked.cpuset_cpus.unwrap_or_default();
    wanted.cpuset_mems = checked.cpuset_mems.unwrap_or_default();
    wanted.blkio_weight = checked.blkio_weight.unwrap_or(0);
    let lists = [
        (checked.blkio_weight_device.is_empty(), &mut wanted.blkio_weight_device),
        (checked.device_read_bps.is_empty(), &mut wanted.device_read_bps),
        (checked.device_write_bps.is_empty(), &mut wanted.device_write_bps),
        (checked.device_read_iops.is_empty(), &mut wanted.device_read_iops),
        (checked.device_write_iops.is_empty(), &mut wanted.device_write_iops),
    ];
    for (_, list) in lists.into_iter().filter(|(is_discarded, _)| *is_discarded) {
        list.clear();
    }
}

/// A container's settings with an update's changes, which were checked; refused where they contradict what stays.
pub(crate) fn updated(spec: &ContainerSpec, change: &UpdateContainer) -> Result<ContainerSpec, Error> {
    let mut next = spec.clone();
    check_conflicts(&spec.resources, &change.resources)?;
    merge(&mut next.resources, &change.resources);
    if let Some(restart) = change.restart {
        if spec.auto_remove && restart != RestartPolicy::No {
            let text = "Restart policy cannot be updated because AutoRemove is enabled for the container";
            return Err(Error::Conflict(text.into()));
        }
        next.restart = restart;
    }
    Ok(next)
}

fn check_conflicts(present: &Resources, new: &Resources) -> Result<(), Error> {
    let conflicts = [
        (
            new.nano_cpus > 0 && present.cpu_period > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set",
        ),
        (
            new.nano_cpus > 0 && present.cpu_quota > 0,
            "Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set",
        ),
        (
            new.cpu_period > 0 && present.nano_cpus > 0,
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set",
        ),
        (
            new.cpu_quota > 0 && present.nano_cpus > 0,
            "Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set",
        ),
        (
            // Also for containers without any limit, and with swap without one: Docker's rule to the letter.
            new.memory != 0 && new.memory > present.memory_swap && new.memory_swap == 0,
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
        ),
    ];
    match conflicts.iter().find(|(holds, _)| *holds) {
        Some((_, text)) => Err(Error::Conflict((*text).into())),
        None => Ok(()),
    }
}

/// Zero and empty leave what is there.
fn merge(limits: &mut Resources, new: &Resources) {
    let number = |value: &mut i64, new: i64| *value = if new == 0 { *value } else { new };
    let text = |value: &mut String, new: &String| {
        if !new.is_empty() {
            value.clone_from(new);
        }
    };
    number(&mut limits.memory, new.memory);
    number(&mut limits.memory_swap, new.memory_swap);
    number(&mut limits.memory_reservation, new.memory_reservation);
    number(&mut limits.cpu_shares, new.cpu_shares);
    number(&mut limits.cpu_period, new.cpu_period);
    number(&mut limits.cpu_quota, new.cpu_quota);
    number(&mut limits.nano_cpus, new.nano_cpus);
    number(&mut limits.cpu_realtime_period, new.cpu_realtime_period);
    number(&mut limits.cpu_realtime_runtime, new.cpu_realtime_runtime);
    text(&mut limits.cpuset_cpus, &new.cpuset_cpus);
    text(&mut limits.cpuset_mems, &new.cpuset_mems);
    limits.pids_limit = new.pids_limit.or(limits.pids_limit);
    if new.blkio_weight != 0 {
        limits.blkio_weight = new.blkio_weight;
    }
}

/// The limits of which a running container's group has to hear when `before` becomes `after`.
pub(crate) fn difference(before: &Resources, after: &Resources) -> Resources {
    let number = |of: fn(&Resources) -> i64| if of(before) == of(after) { 0 } else { of(after) };
    let text = |of: fn(&Resources) -> &String| match of(before) == of(after) {
        true => String::new(),
        false => of(after).clone(),
    };
    // v2 keeps swap alone, which takes both numbers to know.
    let is_memory_new = (before.memory, before.memory_swap) != (after.memory, after.memory_swap);
    Resources {
        memory: if is_memory_new { after.memory } else { 0 },
        memory_swap: if is_memory_new { after.memory_swap } else { 0 },
        memory_reservation: number(|it| it.memory_reservation),
        cpu_shares: number(|it| it.cpu_shares),
        cpu_period: number(|it| it.cpu_period),
        cpu_quota: number(|it| it.cpu_quota),
        nano_cpus: number(|it| it.nano_cpus),
        cpu_realtime_period: number(|it| it.cpu_realtime_period),
        cpu_realtime_runtime: number(|it| it.cpu_realtime_runtime),
        cpuset_cpus: text(|it| &it.cpuset_cpus),
        cpuset_mems: text(|it| &it.cpuset_mems),
        // 0 is "no limit" to a container, and "not said" to a group.
        pids_limit: if before.pids_limit == after.pids_limit { None } else { Some(after.pids_limit.unwrap_or(0)) }
            .map(|limit| if limit > 0 { limit } else { -1 }),
        blkio_weight: if before.blkio_weight == after.blkio_weight { 0 } else { after.blkio_weight },
        ..Resources::default()
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
