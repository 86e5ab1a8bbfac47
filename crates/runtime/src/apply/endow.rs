//! What a program is given that only the host's root may give: done by the program's own process, or, for one that
//! will live in a user namespace, by the process that leads there. Clones inherit all of it.

use std::io;

use corten_sys::limits::{self, Limit, Resource};
use corten_sys::scheduling::{self, Scheduler};

use super::report::{Explain, Reporter};
use super::sysctl::Proc;
use crate::Failure;
use crate::plan::{ProcessPlan, RlimitPlan};

/// Everything but the exact limits, for a process that is cloned into a user namespace later.
pub(super) fn ahead_of_clone(plan: &ProcessPlan, proc: &mut Proc, reporter: &mut Reporter) -> Result<(), Failure> {
    privileged(plan, proc, reporter)?;
    for limit in &plan.rlimits {
        make_room(limit);
    }
    // A deadline's thread cannot fork, and one that resets its children would not hand the policy on.
    match plan.scheduler.filter(|wanted| wanted.policy != scheduling::DEADLINE) {
        Some(wanted) => set_scheduler(&Scheduler { flags: wanted.flags & !scheduling::RESET_ON_FORK, ..wanted }),
        None => Ok(()),
    }
}

/// What nobody in a user namespace could do again.
pub(super) fn privileged(plan: &ProcessPlan, proc: &mut Proc, reporter: &mut Reporter) -> Result<(), Failure> {
    set_oom_score(plan, proc, reporter)?;
    match plan.io_priority {
        Some(wanted) => scheduling::set_io_priority(wanted.class, wanted.level).explain("cannot set the I/O priority"),
        None => Ok(()),
    }
}

/// What a process can do for itself, in a user namespace, too.
pub(super) fn own(plan: &ProcessPlan, reporter: &mut Reporter) -> Result<(), Failure> {
    for limit in &plan.rlimits {
        set_rlimit(limit, reporter)?;
    }
    if let Some(policy) = &plan.memory_policy {
        scheduling::set_memory_policy(policy.mode, &policy.nodes).explain("cannot set the memory policy")?;
    }
    if let Some(domain) = plan.personality {
        scheduling::set_personality(domain).explain("cannot set the personality")?;
    }
    plan.scheduler.as_ref().map_or(Ok(()), set_scheduler)
}

fn set_scheduler(wanted: &Scheduler) -> Result<(), Failure> {
    scheduling::set_scheduler(wanted).explain("cannot set the scheduler")
}

fn set_oom_score(plan: &ProcessPlan, proc: &mut Proc, reporter: &mut Reporter) -> Result<(), Failure> {
    let Some(score) = plan.oom_score_adj else { return Ok(()) };
    match proc.write_own("oom_score_adj", &score.to_string()) {
        // Lowering it takes CAP_SYS_RESOURCE, which a host may withhold: the container runs with what is there.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            reporter.warn(format!("the host does not allow oom_score_adj {score}; it is left as it is"));
            Ok(())
        }
        result => result.explain("cannot set oom_score_adj"),
    }
}

/// Raises the hard value as far as the limit will need it; what the host refuses is clamped when the limit is set.
fn make_room(limit: &RlimitPlan) {
    let resource = Resource(limit.resource);
    if let Ok(has) = limits::get(resource)
        && has.hard < limit.hard
    {
        let _ = limits::set(resource, Limit { hard: limit.hard, ..has });
    }
}

/// Sets a limit; where the host refuses to raise the hard value, both are clamped to what it has.
fn set_rlimit(limit: &RlimitPlan, reporter: &mut Reporter) -> Result<(), Failure> {
    let resource = Resource(limit.resource);
    let wanted = Limit { soft: limit.soft, hard: limit.hard };
    match limits::set(resource, wanted) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let has = limits::get(resource).explain("cannot read a limit")?;
            let clamped = Limit { soft: wanted.soft.min(has.hard), hard: wanted.hard.min(has.hard) };
            limits::set(resource, clamped).explain("cannot set a limit")?;
            reporter.warn(format!(
                "the host does not allow limit {} to be raised to {}; it is {}",
                limit.resource, wanted.hard, clamped.hard
            ));
            Ok(())
        }
        result => result.explain_with(|| format!("cannot set limit {}", limit.resource)),
    }
}
