//! Applies a plan inside the process that becomes the container's (or an exec's) program.
//!
//! The process is a single-threaded copy of the shim in a minimal mount namespace ([`base`]). It mounts below the
//! root file system's descriptor, leaves the old world by pivot_root, takes on the program's identity and executes it.
//! What goes wrong is reported to whoever made the process, whose socket closes by itself when exec has happened.

mod attributes;
pub mod base;
mod cgroupfs;
mod copy_up;
mod devices;
mod endow;
mod gate;
mod lead;
mod mask;
mod mounts;
mod namespaces;
mod process;
mod procfs;
mod program;
mod report;
mod stage;
mod sysctl;
mod user;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::mount::{self, Attributes, attr};
use corten_sys::process::flags;
use corten_sys::{namespace, path, scheduling};

use crate::plan::{NamespaceKind, NamespaceSource, Plan, ProcessPlan, Propagation};
use crate::{Failure, FailureKind};
use attributes::change_attached;
use base::Base;
pub use gate::{Gate, Hold};
pub use lead::{Entrance, lead};
pub use namespaces::clone_flags;
pub use process::Stdio;
use report::Explain;
pub use report::{Channel, Note, Reporter, Reports};
pub use stage::Stage;
use stage::Staged;

/// What a start gets besides its plan.
#[derive(Debug)]
pub struct InitInputs {
    /// The minimal root that the process lives in.
    pub base: Base,
    /// What was mounted before the plan came.
    pub stage: Option<Stage>,
    /// The root file system: a detached mount.
    pub rootfs: OwnedFd,
    /// Bind sources in the plan's order.
    pub sources: Vec<OwnedFd>,
    /// Namespaces to be joined; the PID namespace was chosen when the process was cloned.
    pub namespaces: Vec<(NamespaceKind, OwnedFd)>,
    /// Cgroup directories to be joined.
    pub cgroups: Vec<OwnedFd>,
    /// Standard streams; with a terminal plan they are made here.
    pub stdio: Option<Stdio>,
    /// Where the process stops on its way; none goes straight through.
    pub gate: Option<Gate>,
    /// What else the container needs is being made meanwhile: see [`Hold`].
    pub hold: Option<Hold>,
    /// What the runtime's user asked for.
    pub manner: Manner,
}

/// How a process is made besides its plan: the runtime command line's own options.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// How many descriptors from 3 on the program inherits.
    pub preserve_fds: u32,
    /// The session keyring of the caller stays.
    pub keep_keyring: bool,
    /// The root is moved over `/` instead of being pivoted into: for a host that runs from its initial ramdisk.
    pub no_pivot: bool,
    /// The process has a short time slice, which its driver ends once the program runs ([`corten_sys::precedence::end`]).
    pub urgent: bool,
}

/// Becomes the container's first process. Returns only if that failed.
pub fn init(plan: &Plan, inputs: InitInputs, reporter: &mut Reporter) -> Failure {
    match try_init(plan, inputs, reporter) {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

type Never = std::convert::Infallible;

fn try_init(plan: &Plan, inputs: InitInputs, reporter: &mut Reporter) -> Result<Never, Failure> {
    // Nothing of the host is held for longer than it is needed.
    join_cgroups(&inputs.cgroups)?;
    drop(inputs.cgroups);
    forget_affinity();
    namespaces::settle(plan, inputs.namespaces)?;
    if plan.namespaces.mount != NamespaceSource::New {
        drop((inputs.base, inputs.stage, inputs.rootfs, inputs.sources));
        return in_joined_mounts(plan, inputs.stdio, (inputs.gate, inputs.hold), inputs.manner, reporter);
    }
    let root = Root::attach(inputs.rootfs, &inputs.base, plan)?;
    let mut staged = inputs.stage.map(|stage| stage.fit(plan)).unwrap_or_default();
    let mounted = root.mount_all(plan, &inputs.base, &inputs.sources, &staged)?;
    drop(inputs.sources);
    let mut proc = std::mem::take(&mut staged.proc).or(mounted);
    devices::make(plan, &root, &staged)?;
    let stdio = match inputs.stdio {
        Some(stdio) => stdio,
        None => open_terminal(plan, &root, reporter)?,
    };
    set_names(plan)?;
    sysctl::apply(plan, &staged.sysctls, &mut proc)?;
    mask::apply(plan, &root, &inputs.base, &staged)?;
    let in_host = inputs.base.in_host;
    // Whoever has a user namespace of its own is not to have what the minimal root was made from either.
    let over = staged.all && inputs.base.is_bare() && plan.namespaces.user == NamespaceSource::Host;
    // By name of a descriptor the program could be one of the host's, whatever the root is (CVE-2024-21626).
    drop(inputs.base);
    if let Some(gate) = &inputs.gate {
        gate.mounted(reporter)?;
    }
    if in_host {
        namespace::stand_at_root().explain("cannot find the mount namespace's root")?;
    }
    root.enter(plan, over || inputs.manner.no_pivot)?;
    become_first(plan, stdio, proc, (inputs.gate, inputs.hold), inputs.manner, reporter)
}

/// The rest of a start in a mount namespace of others, which is left as it is.
fn in_joined_mounts(
    plan: &Plan,
    stdio: Option<Stdio>,
    (gate, hold): (Option<Gate>, Option<Hold>),
    manner: Manner,
    reporter: &mut Reporter,
) -> Result<Never, Failure> {
    if let Some(gate) = &gate {
        gate.mounted(reporter)?;
    }
    let stdio = match stdio {
        Some(stdio) => stdio,
        None => own_terminal(&plan.process, reporter)?,
    };
    let mut proc = sysctl::Proc::default();
    set_names(plan)?;
    sysctl::apply(plan, &BTreeMap::new(), &mut proc)?;
    become_first(plan, stdio, proc, (gate, hold), manner, reporter)
}

fn become_first(
    plan: &Plan,
    stdio: Stdio,
    mut proc: sysctl::Proc,
    (gate, hold): (Option<Gate>, Option<Hold>),
    manner: Manner,
    reporter: &mut Reporter,
) -> Result<Never, Failure> {
    let make_cwd = plan.namespaces.mount == NamespaceSource::New;
    let endowed = plan.namespaces.user != NamespaceSource::Host;
    let placement = process::Placement { make_cwd, proc: &mut proc, endowed, gate, hold, manner };
    process::become_program(&plan.process, stdio, placement, reporter)
}

/// A root file system in place, and the minimal root around it.
struct Root {
    fd: OwnedFd,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Root {
    /// Attaches the root file system below the minimal root: it becomes part of this mount namespace. What it was cloned from may have
    /// peers; a slave goes on receiving from them, which nothing that was private once does.
    fn attach(fd: OwnedFd, base: &Base, plan: &Plan) -> Result<Root, Failure> {
        mount::attach(fd.as_fd(), base.root_place.as_fd()).explain("cannot attach the root file system")?;
        let kind = match plan.root_propagation {
            Some(Propagation::Slave) => mount::Propagation::Slave,
            _ => mount::Propagation::Private,
        };
        let apart = Attributes { propagation: Some(kind), ..Attributes::default() };
        change_attached(fd.as_fd(), &apart, true).explain("cannot take the root file system out of its peer group")?;
        Ok(Root { fd })
    }

    /// Makes all mounts of the plan but those that were staged; returns the procfs among them.
    fn mount_all(
        &self,
        plan: &Plan,
        base: &Base,
        sources: &[OwnedFd],
        staged: &Staged,
    ) -> Result<sysctl::Proc, Failure> {
        let private_cgroup = plan.namespaces.cgroup == NamespaceSource::New;
        let proc = sysctl::Proc::default();
        let mut context = mounts::Context { root: self.as_fd(), base, sources, staged, private_cgroup, proc };
        for mount in &plan.mounts {
            context.mount(mount).map_err(|failure| Failure {
                kind: failure.kind,
                message: format!("error mounting {:?}: {}", mount.destination, failure.message),
            })?;
        }
        Ok(context.proc)
    }

    /// Makes it the root directory; what was there is gone afterwards, or is below it if it is to go `over` that: to take it away is to
    /// wait for a grace period of the kernel.
    fn enter(self, plan: &Plan, over: bool) -> Result<(), Failure> {
        let enter = if over { mount::move_into } else { mount::pivot_into };
        enter(self.as_fd()).explain("cannot enter the root file system")?;
        if plan.readonly_root {
            let readonly = Attributes { set: attr::RDONLY, ..Attributes::default() };
            change_attached(self.as_fd(), &readonly, false).explain("cannot make the root read-only")?;
        }
        if let Some(propagation) = plan.root_propagation.filter(|kind| *kind != Propagation::Private) {
            let change = Attributes { propagation: Some(mounts::propagation(propagation)), ..Attributes::default() };
            change_attached(self.as_fd(), &change, plan.root_propagation_recursive)
                .explain("cannot set the root's propagation")?;
        }
        Ok(())
    }
}

/// Joins each cgroup by writing to its directory's own file; "0" means the writer, which has a single thread.
///
/// On v1 the thread's own file is taken: a thread that moves itself is the one case in which the kernel does not hold all
/// forks, execs and exits of the machine back until an RCU grace period has passed (`cgroup_procs_write_start`), which
/// costs 10 ms and more. v2 has no such file.
pub fn join_cgroups(cgroups: &[OwnedFd]) -> Result<(), Failure> {
    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;
    let open = |cgroup, name| {
        rustix::fs::openat(cgroup, name, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
    };
    for cgroup in cgroups {
        let file = match open(cgroup, "tasks") {
            Err(Errno::NOENT) => open(cgroup, "cgroup.procs"),
            opened => opened,
        };
        file.and_then(|file| rustix::io::write(&file, b"0")).explain("cannot join the container's cgroup")?;
    }
    Ok(())
}

fn set_names(plan: &Plan) -> Result<(), Failure> {
    if plan.namespaces.uts == NamespaceSource::Host {
        return Ok(());
    }
    if let Some(name) = &plan.hostname {
        namespace::set_hostname(name).explain("sethostname")?;
    }
    if let Some(name) = &plan.domainname {
        namespace::set_domainname(name).explain("setdomainname")?;
    }
    Ok(())
}

/// The container's terminal, out of its own devpts; its other side goes to the shim.
fn open_terminal(plan: &Plan, root: &Root, reporter: &mut Reporter) -> Result<Stdio, Failure> {
    let terminal = process::open_terminal(root.as_fd(), &plan.process)?;
    if plan.setup_dev {
        devices::bind_console(root, terminal.secondary.as_fd())?;
    }
    reporter.console(terminal.primary)?;
    Ok(Stdio::Terminal(terminal.secondary))
}

/// The terminal of a process that finds its devpts in place.
fn own_terminal(plan: &ProcessPlan, reporter: &mut Reporter) -> Result<Stdio, Failure> {
    let root = path::find(rustix::fs::CWD, "/").explain("cannot open the container's root")?;
    let terminal = process::open_terminal(root.as_fd(), plan)?;
    reporter.console(terminal.primary)?;
    Ok(Stdio::Terminal(terminal.secondary))
}

/// Joins a running container with the calling process, for an exec of `plan`: its cgroups, all its namespaces, and its
/// PID namespace for the children to come. The caller itself stays outside the PID namespace, where nothing in the
/// container can trace it: it gives up every descriptor of the host before it clones the process that goes in
/// (CVE-2016-9962).
pub fn enter_container(
    plan: &ProcessPlan,
    container: BorrowedFd<'_>,
    cgroups: &[OwnedFd],
    reporter: &mut Reporter,
) -> Result<(), Failure> {
    if let Some(affinity) = &plan.affinity {
        keep_on(&affinity.initial)?;
    }
    join_cgroups(cgroups)?;
    match &plan.affinity {
        Some(affinity) => keep_on(&affinity.last)?,
        None => forget_affinity(),
    }
    if plan.enters.user {
        endow::ahead_of_clone(plan, &mut sysctl::Proc::default(), reporter)?;
    }
    let user = if plan.enters.user { flags::USER } else { 0 };
    let time = if plan.enters.time { flags::TIME } else { 0 };
    namespace::join_process(container, namespace::EXEC | flags::PID | user | time)
        .map_err(|error| Failure::new(FailureKind::Conflict, format!("cannot enter the container: {error}")))?;
    if plan.enters.user {
        namespaces::become_root().explain("cannot become root of the user namespace")?;
    }
    Ok(())
}

/// Where the daemon may run (`CPUAffinity=` of its unit) is nothing to its containers. A host that refuses has its reasons.
fn forget_affinity() {
    let _ = scheduling::forget_affinity();
}

fn keep_on(processors: &[u32]) -> Result<(), Failure> {
    if processors.is_empty() {
        return Ok(());
    }
    scheduling::set_affinity(processors).explain("cannot set the CPU affinity")
}

/// Becomes another process of the container that the caller was cloned into. Returns only if that failed.
/// Without `stdio` the plan's terminal is made here.
pub fn exec(plan: &ProcessPlan, stdio: Option<Stdio>, manner: Manner, reporter: &mut Reporter) -> Failure {
    match try_exec(plan, stdio, manner, reporter) {
        Err(failure) => failure,
        Ok(never) => match never {},
    }
}

fn try_exec(
    plan: &ProcessPlan,
    stdio: Option<Stdio>,
    manner: Manner,
    reporter: &mut Reporter,
) -> Result<Never, Failure> {
    let stdio = match stdio {
        Some(stdio) => stdio,
        None => own_terminal(plan, reporter)?,
    };
    let mut proc = sysctl::Proc::default();
    let placement = process::Placement {
        make_cwd: false,
        proc: &mut proc,
        endowed: plan.enters.user,
        gate: None,
        hold: None,
        manner,
    };
    process::become_program(plan, stdio, placement, reporter)
}
