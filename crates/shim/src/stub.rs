//! The init stub: a copy of the shim that waits in its namespaces for a plan, then becomes the container's process.
//!
//! It is made at warm-up, or at start where the PID namespace or the cgroup is known only then; the code is the same.
//! It hangs on its control socket: the socket's end before a plan means that the shim is gone, and it with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use corten_runtime::agent::Agent;
use corten_runtime::apply::base::{Base, leave_minimal_root};
use corten_runtime::apply::{self, Channel, Entrance, Hold, InitInputs, Manner, Note, Reporter, Reports, Stage, Stdio};
use corten_runtime::{Failure, FailureKind, NamespaceKind, NamespaceSource, Plan, ProcessPlan};
use corten_sys::process::{self, Cloned, flags};
use corten_sys::{memfd, precedence};
use serde::{Deserialize, Serialize};

use crate::protocol::MAX_FDS;

/// No plan is larger.
pub(crate) const MAX_PLAN: u64 = 16 << 20;

const URGENT: Manner = Manner { preserve_fds: 0, keep_keyring: false, no_pivot: false, urgent: true };

/// A process under construction, from the shim's side.
#[derive(Debug)]
pub(crate) struct Stub {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    /// It leads the way for another process, which a note will name.
    pub(crate) leading: bool,
    /// By other means than a clone: no container sees it.
    pub(crate) guiding: bool,
    /// Until it is known whether there will be a program.
    reports: Option<Reports>,
}

/// What a stub is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Stage the mounts of the usual plan, and join the cgroups. Fds: cgroups.
    Prepare { cgroups: usize },
    /// The first of the start's descriptors, where they are more than one packet carries.
    Descriptors,
    /// Become the container's process. Fds: plan, rootfs, sources, namespaces, cgroups, three standard streams if `pipes`, a
    /// pipe to wait for if `held`. `same_cgroups`: they are those of [`Order::Prepare`]; `usual_filter`: that plan's filter is
    /// to be taken.
    Start {
        sources: usize,
        namespaces: Vec<NamespaceKind>,
        cgroups: usize,
        same_cgroups: bool,
        pipes: bool,
        held: bool,
        usual_filter: bool,
    },
}

impl Stub {
    /// Clones a stub: in a new PID namespace if `namespaces` says so, always in a new mount namespace; on v2 inside
    /// the given cgroup. It can prepare itself for `usual`.
    pub(crate) fn new(
        namespaces: u64,
        cgroup: Option<BorrowedFd<'_>>,
        usual: Option<&'static Plan>,
    ) -> io::Result<Stub> {
        Stub::spawn(namespaces | flags::MOUNT, cgroup, |reporter| wait_and_become(reporter, usual))
    }

    /// Clones a stub inside the PID namespace of others.
    pub(crate) fn in_pid_namespace(
        namespace: BorrowedFd<'_>,
        cgroup: Option<BorrowedFd<'_>>,
        usual: Option<&'static Plan>,
    ) -> io::Result<Stub> {
        let stub = Stub::spawn(flags::MOUNT, cgroup, |mut reporter| {
            process::close_all_but(&[reporter.socket().as_fd(), namespace]);
            let joined = corten_sys::namespace::join(namespace, flags::PID)
                .map_err(|error| Failure::host("cannot join the PID namespace", &error));
            process::close_all_but(&[reporter.socket().as_fd()]);
            if go_in(joined, &mut reporter) {
                wait_and_become(reporter, usual);
            }
        })?;
        Ok(Stub { leading: true, ..stub })
    }

    /// Clones a process that leads the way into a plan's user namespace: the container's first process is another one, beside it.
    pub(crate) fn leader(usual: Option<&'static Plan>) -> io::Result<Stub> {
        let stub = Stub::spawn(0, None, |reporter| wait_and_lead(reporter, usual))?;
        Ok(Stub { leading: true, ..stub })
    }

    /// Clones a process for an exec: it joins `container` and becomes the plan's program.
    pub(crate) fn exec(
        plan: &ProcessPlan,
        container: BorrowedFd<'_>,
        cgroups: &[OwnedFd],
        into_cgroup: Option<BorrowedFd<'_>>,
        stdio: Option<Stdio>,
    ) -> io::Result<Stub> {
        let stub = Stub::spawn(0, into_cgroup, |mut reporter| {
            close_others(&[reporter.socket().as_fd(), container], cgroups, stdio.as_ref());
            let cgroups = if into_cgroup.is_some() { &[] } else { cgroups };
            let entered = apply::enter_container(plan, container, cgroups, &mut reporter);
            close_others(&[reporter.socket().as_fd()], &[], stdio.as_ref());
            if go_in(entered, &mut reporter) {
                let failure = apply::exec(plan, stdio, URGENT, &mut reporter);
                give_up(failure, &mut reporter);
            }
        })?;
        Ok(Stub { leading: true, ..stub })
    }

    /// Clones a process that keeps only `keep` and the standard streams, and leads the way by other means: `body` tells of the
    /// process that it has led to, if any. When it is through, the matter is decided.
    pub(crate) fn guide(
        keep: &[BorrowedFd<'_>],
        stdio: Option<&Stdio>,
        body: impl FnOnce(&mut Reporter) -> Result<(), Failure>,
    ) -> io::Result<Stub> {
        let stub = Stub::spawn(0, None, |mut reporter| {
            let mut keep = keep.to_vec();
            keep.push(reporter.socket().as_fd());
            close_others(&keep, &[], stdio);
            match body(&mut reporter) {
                Ok(()) => reporter.executing(),
                Err(failure) => reporter.failed(failure),
            }
            process::exit_now(0)
        })?;
        Ok(Stub { leading: true, guiding: true, ..stub })
    }

    /// Clones a process that runs `body` with its reporter and never returns to the shim's code.
    fn spawn(flags: u64, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce(Reporter)) -> io::Result<Stub> {
        let channel = Channel::new()?;
        match process::clone_process(flags, cgroup)? {
            Cloned::Parent { pid, pidfd } => {
                let reports = channel.reports();
                reports.socket().set_nonblocking(true)?;
                Ok(Stub { pid, pidfd, leading: false, guiding: false, reports: Some(reports) })
            }
            Cloned::Child => {
                // A panic must not unwind into the shim's own frames.
                let _ = catch_unwind(AssertUnwindSafe(|| body(channel.reporter())));
                process::exit_now(1)
            }
        }
    }

    /// The process that was led in, as far as the kernel knows.
    pub(crate) fn led(&self) -> Option<i32> {
        self.reports.as_ref().filter(|_| self.leading)?.led()
    }

    /// The process that was led in takes over.
    pub(crate) fn moved(&mut self, pid: i32, pidfd: OwnedFd) {
        (self.pid, self.pidfd, self.leading) = (pid, pidfd, false);
    }

    /// Hands a plan over.
    pub(crate) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let (ahead, last) = fds.split_at(fds.len().saturating_sub(MAX_FDS));
        let socket = self.reports()?.socket();
        for some in ahead.chunks(MAX_FDS) {
            socket.send(&serde_json::to_vec(&Order::Descriptors)?, some)?;
        }
        socket.send(&serde_json::to_vec(order)?, last)
    }

    /// Where notes come from, until [`Stub::decided`].
    pub(crate) fn reports(&self) -> io::Result<&Reports> {
        self.reports.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Takes the next note; none once the program runs. Does not wait.
    pub(crate) fn note(&self) -> io::Result<Option<(Note, Vec<OwnedFd>)>> {
        self.reports()?.receive()
    }

    /// There is nothing more to hear, nor to tell it: what only that took is given back.
    pub(crate) fn decided(&mut self) {
        self.reports = None;
    }
}

/// Clones the process that goes into the PID namespace that the caller has joined for its children, once the caller
/// holds nothing of the host any more. True in the new process; the caller ends when it has told.
fn go_in(joined: Result<(), Failure>, reporter: &mut Reporter) -> bool {
    let cloned = joined
        .and_then(|()| reporter.lead_in().map_err(|error| Failure::host("cannot go into the PID namespace", &error)));
    match cloned {
        Ok(Cloned::Child) => return true,
        Ok(Cloned::Parent { pid, pidfd }) => drop(reporter.moved(pid, pidfd)),
        Err(failure) => reporter.failed(failure),
    }
    process::exit_now(0)
}

/// Reports the failure.
fn give_up(failure: Failure, reporter: &mut Reporter) -> ! {
    let code = failure.exit_code();
    reporter.failed(failure);
    process::exit_now(code)
}

/// Closes what a copy of the shim holds besides `keep`, the cgroups and its standard streams.
fn close_others(keep: &[BorrowedFd<'_>], cgroups: &[OwnedFd], stdio: Option<&Stdio>) {
    let mut keep = keep.to_vec();
    keep.extend(cgroups.iter().map(AsFd::as_fd));
    match stdio {
        Some(Stdio::Pipes { stdin, stdout, stderr }) => keep.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        Some(Stdio::Terminal(terminal)) => keep.push(terminal.as_fd()),
        None => {}
    }
    process::close_all_but(&keep);
}

fn wait_and_become(mut reporter: Reporter, usual: Option<&'static Plan>) {
    process::close_all_but(&[reporter.socket().as_fd()]);
    let Ok(base) = Base::open() else { return };
    let mut prepared = Prepared::default();
    let start = await_start(&mut reporter, |reporter, fds| prepared = prepare(usual, fds, &base, reporter));
    if let Some((order, fds)) = start {
        become_init(reporter, base, prepared, (order, usual), fds);
    }
}

/// The order to start with its descriptors; what is to be prepared before that is, with the cgroups to be joined. Nothing if the
/// shim is gone.
fn await_start(
    reporter: &mut Reporter,
    mut prepare: impl FnMut(&mut Reporter, (&mut Fds, usize)),
) -> Option<(Order, Fds)> {
    let mut ahead = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let packet = reporter.socket().recv(&mut buffer).ok()?;
        let mut fds = Fds(packet.fds.into_iter());
        match serde_json::from_slice(&buffer[..packet.length]).ok()? {
            Order::Prepare { cgroups } => prepare(reporter, (&mut fds, cgroups)),
            Order::Descriptors => ahead.extend(fds.0),
            order @ Order::Start { .. } => {
                ahead.extend(fds.0);
                return Some((order, Fds(ahead.into_iter())));
            }
        }
    }
}

fn wait_and_lead(mut reporter: Reporter, usual: Option<&Plan>) {
    process::close_all_but(&[reporter.socket().as_fd()]);
    let Some((order, fds)) = await_start(&mut reporter, |_, _| {}) else { return };
    precedence::take();
    let failure = match lead((order, usual), fds, &mut reporter) {
        Ok(Some((plan, inputs))) => apply::init(&plan, inputs, &mut reporter),
        Ok(None) => process::exit_now(0),
        Err(failure) => failure,
    };
    give_up(failure, &mut reporter)
}

/// Leads the way from a minimal root of its own, in which the kernel's views are in sight. The process that goes on gets its plan;
/// the leader gets nothing.
fn lead(
    order: (Order, Option<&Plan>),
    fds: Fds,
    reporter: &mut Reporter,
) -> Result<Option<(Plan, InitInputs)>, Failure> {
    let failed = |what: &'static str| move |error: io::Error| Failure::host(what, &error);
    let open = || Base::open().map_err(failed("cannot open the minimal root"));
    let (plan, mut inputs) =
        inputs(open()?, Prepared::default(), order, fds).map_err(failed("cannot take the container's plan"))?;
    leave_minimal_root().map_err(failed("cannot make the minimal root"))?;
    let (namespaces, cgroups) = (std::mem::take(&mut inputs.namespaces), std::mem::take(&mut inputs.cgroups));
    let mut entrance = Entrance { namespaces, cgroups };
    if !apply::lead(&plan, &mut entrance, None, reporter)? {
        return Ok(None);
    }
    // What the leader could not join, the init does.
    Ok(Some((plan, InitInputs { base: open()?, namespaces: entrance.namespaces, ..inputs })))
}

/// What was done before the start. What could not be is done then, or refused with its reason.
#[derive(Default)]
struct Prepared {
    stage: Option<Stage>,
    in_cgroups: bool,
}

fn prepare(usual: Option<&Plan>, (fds, cgroups): (&mut Fds, usize), base: &Base, reporter: &mut Reporter) -> Prepared {
    let in_cgroups = cgroups > 0 && fds.take(cgroups).is_ok_and(|cgroups| apply::join_cgroups(&cgroups).is_ok());
    let stage = usual.and_then(|plan| Stage::build(plan, base, in_cgroups).ok()).map(|mut stage| {
        if let Ok(namespace) = stage.mount_namespace() {
            reporter.mount_namespace(namespace);
        }
        stage
    });
    // Whoever wakes it from now on waits for it. With a session comes a place in the scheduler of its own (sched(7), autogroup): who
    // changes over has to queue.
    let _ = rustix::process::setsid();
    precedence::take();
    Prepared { stage, in_cgroups }
}

fn become_init(
    mut reporter: Reporter,
    base: Base,
    prepared: Prepared,
    order: (Order, Option<&'static Plan>),
    fds: Fds,
) {
    if prepared.stage.is_none() {
        precedence::take();
    }
    let failure = match inputs(base, prepared, order, fds) {
        // Whoever is not led into it would run as the host's root.
        Ok((plan, _)) if plan.namespaces.user != NamespaceSource::Host => {
            Failure::new(FailureKind::Invalid, "a plan with a user namespace was not announced as one")
        }
        Ok((plan, inputs)) => apply::init(&plan, inputs, &mut reporter),
        Err(error) => Failure::host("cannot take the container's plan", &error),
    };
    give_up(failure, &mut reporter)
}

fn read_plan(fds: &mut Fds) -> io::Result<Plan> {
    Ok(serde_json::from_slice(&memfd::read(fds.one()?, MAX_PLAN)?)?)
}

/// A plan that came without its filter is never applied without one.
fn put_filter(process: &mut ProcessPlan, usual: Option<&Plan>) -> io::Result<()> {
    let filter = usual.and_then(|plan| plan.process.seccomp.clone());
    process.seccomp = Some(filter.ok_or_else(|| io::Error::other("the usual filter is not known"))?);
    Ok(())
}

fn inputs(
    base: Base,
    prepared: Prepared,
    (order, usual): (Order, Option<&Plan>),
    mut fds: Fds,
) -> io::Result<(Plan, InitInputs)> {
    let Order::Start { sources, namespaces, cgroups, same_cgroups, pipes, held, usual_filter } = order else {
        return Err(io::ErrorKind::Other.into());
    };
    let mut plan = read_plan(&mut fds)?;
    if usual_filter {
        put_filter(&mut plan.process, usual)?;
    }
    let placed = same_cgroups && prepared.in_cgroups;
    let inputs = InitInputs {
        base,
        stage: prepared.stage.map(|stage| if placed { stage } else { stage.without_cgroups() }),
        rootfs: fds.one()?,
        sources: fds.take(sources)?,
        namespaces: {
            let joined = fds.take(namespaces.len())?;
            namespaces.into_iter().zip(joined).collect()
        },
        cgroups: {
            let directories = fds.take(cgroups)?;
            if placed { Vec::new() } else { directories }
        },
        stdio: match pipes {
            true => Some(Stdio::Pipes { stdin: fds.one()?, stdout: fds.one()?, stderr: fds.one()? }),
            false => None,
        },
        gate: None,
        hold: held.then(|| fds.one()).transpose()?.map(Hold),
        manner: URGENT,
    };
    Ok((plan, inputs))
}

/// Descriptors of a packet, taken in the order that the message names.
#[derive(Debug)]
pub(crate) struct Fds(pub(crate) std::vec::IntoIter<OwnedFd>);

impl Fds {
    pub(crate) fn one(&mut self) -> io::Result<OwnedFd> {
        self.0.next().ok_or_else(|| io::Error::other("a descriptor is missing"))
    }

    pub(crate) fn take(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        (0..count).map(|_| self.one()).collect()
    }
}

/// Reads who answers a filter's notifications.
pub(crate) fn read_agent(fds: &mut Fds) -> io::Result<Agent> {
    let socket = fds.one()?;
    Ok(Agent::from_parts(socket, serde_json::from_slice(&memfd::read(fds.one()?, MAX_PLAN)?)?))
}

/// Reads an exec's plan.
pub(crate) fn read_process(plan: OwnedFd) -> Result<ProcessPlan, Failure> {
    let parse = || Ok(serde_json::from_slice(&memfd::read(plan, MAX_PLAN)?)?);
    parse().map_err(|error: io::Error| Failure::new(FailureKind::Invalid, format!("malformed process plan: {error}")))
}
