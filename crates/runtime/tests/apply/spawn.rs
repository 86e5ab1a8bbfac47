//! A container's first process with as little around it as there can be: cloned from the test's own, which has one thread.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use corten_sys::process::{self, Cloned};

use corten_runtime::apply::base::{Base, enter_minimal_root};
use corten_runtime::apply::{self, Channel, Entrance, Note, Reporter, Reports};
use corten_runtime::plan::{NamespaceSource, PidNamespace, Plan};
use corten_runtime::{Failure, FailureKind};

/// The process on its way.
#[derive(Debug)]
pub(super) struct Spawned {
    /// Its id, as the caller sees it. It is the caller's child.
    pub(super) pid: i32,
    /// A pidfd of it.
    pub(super) pidfd: OwnedFd,
    /// What it tells; after [`Note::Failed`], or the end, nothing more.
    pub(super) reports: Reports,
    /// What was done otherwise than asked so far.
    pub(super) warnings: Vec<String>,
}

/// Clones the process that becomes the container's first and runs `body` in it, which ends in [`apply::init`] with the
/// given base and with what is left of the entrance; what it returns is reported. On v2 the process is made inside the
/// cgroup `into`. The caller has one thread; descriptors that `body` does not use are to be close-on-exec.
pub(super) fn spawn(
    plan: &Plan,
    mut entrance: Entrance,
    into: Option<BorrowedFd<'_>>,
    body: impl FnOnce(Base, Entrance, &mut Reporter) -> Failure,
) -> Result<Spawned, Failure> {
    let failed = |error: io::Error| Failure::host("cannot clone the container's init", &error);
    let channel = Channel::new().map_err(failed)?;
    let leading = plan.namespaces.user != NamespaceSource::Host || plan.namespaces.pid_mode() == PidNamespace::Join;
    let flags = if leading { process::flags::MOUNT } else { apply::clone_flags(&plan.namespaces) };
    let into_first = if leading { None } else { into };
    match process::clone_process(flags, into_first).map_err(failed)? {
        Cloned::Child => {
            let mut reporter = channel.reporter();
            // A panic must not unwind into the caller's frames.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let led = enter_minimal_root()
                    .map_err(|error| Failure::host("cannot make the minimal root", &error))
                    .and_then(
                        |()| if leading { apply::lead(plan, &mut entrance, into, &mut reporter) } else { Ok(true) },
                    );
                match led.and_then(|stays| Ok((stays, open_base()?))) {
                    Ok((true, base)) => Some(body(base, entrance, &mut reporter)),
                    Ok((false, _)) => None,
                    Err(failure) => Some(failure),
                }
            }));
            if let Ok(Some(failure)) = outcome {
                let code = failure.exit_code();
                reporter.failed(failure);
                process::exit_now(code);
            }
            process::exit_now(i32::from(outcome.is_err()))
        }
        Cloned::Parent { pid, pidfd } => {
            let spawned = Spawned { pid, pidfd, reports: channel.reports(), warnings: Vec::new() };
            if leading { follow(spawned) } else { Ok(spawned) }
        }
    }
}

fn open_base() -> Result<Base, Failure> {
    Base::open().map_err(|error| Failure::host("cannot open the minimal root", &error))
}

/// Waits until the leader has named the process that goes on, and reaps it.
fn follow(mut spawned: Spawned) -> Result<Spawned, Failure> {
    let leader = spawned.pid;
    let outcome = loop {
        let note = spawned.reports.receive();
        match note.map_err(|error| Failure::host("cannot hear from the container's init", &error)) {
            Ok(Some((Note::Moved { pid }, fds))) => {
                break fds
                    .into_iter()
                    .next()
                    .map(|pidfd| (pid, pidfd))
                    .ok_or_else(|| lost("a descriptor was lost on the way"));
            }
            Ok(Some((Note::Warning(text), _))) => spawned.warnings.push(text),
            Ok(Some((Note::Failed(failure), _))) => break Err(failure),
            Ok(Some(_)) => {}
            Ok(None) => break Err(lost("the process that leads into the namespaces has died")),
            Err(failure) => break Err(failure),
        }
    };
    let _ = process::reap(leader);
    let (pid, pidfd) = outcome?;
    Ok(Spawned { pid, pidfd, ..spawned })
}

fn lost(text: &str) -> Failure {
    Failure::new(FailureKind::Internal, text)
}
