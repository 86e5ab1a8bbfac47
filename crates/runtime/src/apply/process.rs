//! The last steps: from a process in the right namespaces to the program with its identity and limits.
//!
//! The order matters. What needs privileges comes first; without no_new_privileges the seccomp filter needs
//! CAP_SYS_ADMIN and is loaded before capabilities go, with it as late as possible, so that the filter need not allow
//! what happens here. Nothing is looked up in the container's file system with more privileges than the program has,
//! apart from its working directory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_sys::credentials::{self, Capabilities};
use corten_sys::pty::{self, Terminal};
use corten_sys::{path, precedence, process, signal};
use rustix::fs::{Mode, OFlags};
use rustix::process::Uid;

use super::gate::{Gate, Hold};
use super::program::{self, Program};
use super::report::{Explain, Reporter};
use super::sysctl::Proc;
use super::{Manner, Never, endow, user};
use crate::failure::describe;
use crate::plan::{CapabilityPlan, ProcessPlan, SeccompProgram};
use crate::{Failure, FailureKind};

/// `f_type` of devpts.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// The program's standard streams.
#[derive(Debug)]
pub enum Stdio {
    /// One descriptor each.
    Pipes {
        /// Standard input.
        stdin: OwnedFd,
        /// Standard output.
        stdout: OwnedFd,
        /// Standard error.
        stderr: OwnedFd,
    },
    /// A terminal for all three.
    Terminal(OwnedFd),
}

/// How the container's first process differs from an exec's.
pub(super) struct Placement<'a> {
    /// A missing working directory is made.
    pub(super) make_cwd: bool,
    /// A trusted procfs.
    pub(super) proc: &'a mut Proc,
    /// Whoever led into the user namespace gave it what only the host's root may give.
    pub(super) endowed: bool,
    /// Waits for the start.
    pub(super) gate: Option<Gate>,
    pub(super) hold: Option<Hold>,
    /// What the runtime's user asked for.
    pub(super) manner: Manner,
}

/// Allocates a terminal from the devpts below `root`, sized as the plan says.
pub(super) fn open_terminal(root: BorrowedFd<'_>, plan: &ProcessPlan) -> Result<Terminal, Failure> {
    let what = "cannot allocate a terminal";
    let devpts = path::find(root, "/dev/pts").explain(what)?;
    if rustix::fs::fstatfs(&devpts).explain(what)?.f_type != DEVPTS_MAGIC {
        return Err(Failure::new(FailureKind::Invalid, "cannot allocate a terminal: /dev/pts is not a devpts"));
    }
    let terminal = pty::open(devpts.as_fd()).explain(what)?;
    if let Some((columns, lines)) = plan.terminal_size {
        pty::resize(terminal.primary.as_fd(), columns, lines).explain("cannot set the terminal's size")?;
    }
    Ok(terminal)
}

/// Takes on the plan's identity and executes its program.
pub(super) fn become_program(
    plan: &ProcessPlan,
    stdio: Stdio,
    mut placement: Placement<'_>,
    reporter: &mut Reporter,
) -> Result<Never, Failure> {
    set_stdio(plan, stdio)?;
    if !placement.manner.keep_keyring {
        leave_keyring()?;
    }
    if !placement.endowed {
        endow::privileged(plan, placement.proc, reporter)?;
    }
    endow::own(plan, reporter)?;
    warn_of_withheld(&plan.capabilities, reporter)?;
    set_security_labels(plan, &mut placement)?;
    // Others in a joined PID namespace may look into this process from now on at the latest, while it waits for its start.
    *placement.proc = Proc::None;
    let environment = environment(plan);
    if placement.make_cwd {
        path::make_directories(rustix::fs::CWD, &plan.cwd, 0o755)
            .map(drop)
            .or_else(tolerate_readonly)
            .explain_with(|| format!("mkdir {}", plan.cwd))?;
    }
    // As Docker's users know it, root may put a program into a directory that its own user cannot enter; where root
    // itself cannot (a network file system), the user may. Where it leads is checked below.
    let entered = rustix::process::chdir(&*plan.cwd).is_ok();
    rustix::process::umask(Mode::from_raw_mode(plan.umask.unwrap_or(0o022)));
    process::close_on_exec_from(3 + placement.manner.preserve_fds).explain("cannot mark descriptors close-on-exec")?;
    if let Some(hold) = placement.hold {
        hold.wait()?;
    }
    if placement.manner.urgent {
        // The program itself is waited for until it runs. The filter to come may not let this through.
        precedence::keep_from_children();
    }
    signal::unblock_all().explain("cannot reset signals")?;
    if plan.no_new_privileges {
        process::set_no_new_privs().explain("cannot set no_new_privs")?;
    } else if let Some(seccomp) = &plan.seccomp {
        load_seccomp(seccomp, reporter)?;
    }
    set_identity(plan)?;
    enter_cwd(&plan.cwd, entered)?;
    let program = Program::new(&program::find(plan)?, plan, environment)?;
    if let Some(seccomp) = plan.seccomp.as_ref().filter(|_| plan.no_new_privileges) {
        load_seccomp(seccomp, reporter)?;
    }
    // With the filter in force: its listener is handed over while whoever connected to the agent is there.
    if let Some(gate) = placement.gate {
        gate.ready(reporter)?;
    }
    reporter.executing();
    program.execute()
}

/// A working directory that exists is fine on a read-only root, too; one that is missing there is reported by chdir.
fn tolerate_readonly(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::ReadOnlyFilesystem { Ok(()) } else { Err(error) }
}

fn set_stdio(plan: &ProcessPlan, stdio: Stdio) -> Result<(), Failure> {
    let what = "cannot set the standard streams up";
    rustix::process::setsid().map(drop).or_else(already_leader).explain(what)?;
    match stdio {
        Stdio::Terminal(terminal) => {
            own(terminal.as_fd(), plan.uid).explain(what)?;
            for target in 0..3 {
                process::set_standard_fd(terminal.as_fd(), target).explain(what)?;
            }
            pty::set_controlling(terminal.as_fd()).explain("cannot set the controlling terminal")
        }
        Stdio::Pipes { stdin, stdout, stderr } => {
            for (fd, target) in [(own_null(stdin), 0), (stdout, 1), (stderr, 2)] {
                own(fd.as_fd(), plan.uid).explain(what)?;
                process::set_standard_fd(fd.as_fd(), target).explain(what)?;
            }
            Ok(())
        }
    }
}

/// Keys of whoever started the daemon are not the container's; kernels without keyrings have none to hide.
fn leave_keyring() -> Result<(), Failure> {
    match process::new_session_keyring(None) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        left => left.explain("unable to join session keyring: unable to create session key"),
    }
}

/// A null device from outside is exchanged for the container's own, if that is one.
fn own_null(fd: OwnedFd) -> OwnedFd {
    let is_null = |fd: BorrowedFd<'_>| path::is_character_device(fd, 1, 3);
    if !is_null(fd.as_fd()).unwrap_or(false) {
        return fd;
    }
    let own = path::open_fitting(rustix::fs::CWD, "/dev/null", OFlags::RDWR, is_null);
    own.ok().flatten().unwrap_or(fd)
}

fn already_leader(error: rustix::io::Errno) -> rustix::io::Result<()> {
    if error == rustix::io::Errno::PERM { Ok(()) } else { Err(error) }
}

/// A program that is not root may reopen its streams through `/dev/stdout`; the null device belongs to nobody.
fn own(fd: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    use rustix::io::Errno;
    if path::is_character_device(fd, 1, 3)? || rustix::fs::fstat(fd)?.st_uid == uid {
        return Ok(());
    }
    match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None) {
        // A file handed in from a file system that knows no owners, or where they cannot change.
        Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => Ok(()),
        result => Ok(result?),
    }
}

fn set_security_labels(plan: &ProcessPlan, placement: &mut Placement<'_>) -> Result<(), Failure> {
    if let Some(profile) = &plan.apparmor_profile {
        let value = format!("exec {profile}");
        let written = placement.proc.write_own("attr/apparmor/exec", &value);
        let written = written.or_else(|_| placement.proc.write_own("attr/exec", &value));
        let what = format!("apparmor profile {profile}");
        written.map_err(|error| match placement.proc.read_own("attr/apparmor/current") {
            // The module answers: it is the profile that it does not know.
            Ok(_) => Failure::host(format!("cannot apply {what}"), &error),
            Err(_) => label_failure(&what, "AppArmor", &error),
        })?;
    }
    if let Some(label) = &plan.selinux_label {
        let written = placement.proc.write_own("attr/exec", label);
        written.map_err(|error| label_failure(&format!("selinux label {label}"), "SELinux", &error))?;
    }
    Ok(())
}

/// A kernel without the module has no such file or, with another module, does not understand what is written to it.
fn label_failure(what: &str, module: &str, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
            Failure::new(FailureKind::Invalid, format!("cannot apply {what}: {module} is not enabled on this host"))
        }
        _ => Failure::host(format!("cannot apply {what}"), error),
    }
}

/// The plan's environment, with a HOME from the container's passwd file if it has none.
fn environment(plan: &ProcessPlan) -> Vec<String> {
    let mut environment = plan.env.clone();
    if !environment.iter().any(|line| line.strip_prefix("HOME=").is_some_and(|home| !home.is_empty())) {
        environment.retain(|line| !line.starts_with("HOME="));
        environment.push(format!("HOME={}", user::home(plan.uid)));
    }
    environment
}

/// A listener goes to its agent before anything else is done: whatever follows may be what the filter notifies.
fn load_seccomp(program: &SeccompProgram, reporter: &mut Reporter) -> Result<(), Failure> {
    let listener = process::load_seccomp(&program.filter, program.flags).explain("cannot load the seccomp filter")?;
    listener.map_or(Ok(()), |listener| reporter.listener(listener.as_fd()))
}

fn set_identity(plan: &ProcessPlan) -> Result<(), Failure> {
    credentials::limit_bounding_set(plan.capabilities.bounding).explain("cannot limit the bounding set")?;
    credentials::keep_capabilities(true).explain("cannot keep capabilities")?;
    credentials::set_groups(&plan.groups).explain("setgroups")?;
    credentials::set_gid(plan.gid).explain("setgid")?;
    credentials::set_uid(plan.uid).explain("setuid")?;
    set_capabilities(&plan.capabilities).explain("cannot set capabilities")?;
    credentials::keep_capabilities(false).explain("cannot drop the keep-capabilities flag")
}

/// Capabilities that the caller does not have, or the kernel does not know, cannot be given, which has to be told (the runtime
/// specification's config.md, "Linux Process"). In runc's words, and before a filter that need not let them through.
fn warn_of_withheld(sets: &CapabilityPlan, reporter: &mut Reporter) -> Result<(), Failure> {
    let has = credentials::capabilities().explain("cannot read this process's capabilities")?.permitted;
    let withheld = sets.beyond(has);
    if !withheld.is_empty() {
        reporter.warn(format!("ignoring unknown or unavailable capabilities: [{}]", withheld.join(" ")));
    }
    Ok(())
}

/// Of every set what there is to be given.
fn set_capabilities(sets: &CapabilityPlan) -> io::Result<()> {
    let has = credentials::capabilities()?.permitted;
    let permitted = sets.permitted & has;
    let inheritable = sets.inheritable & (has | sets.bounding);
    let effective = sets.effective & permitted;
    credentials::set_capabilities(Capabilities { effective, permitted, inheritable: inheritable & has })?;
    credentials::set_ambient(sets.ambient & permitted & inheritable)
}

/// Enters the working directory and makes sure that it lies inside the container: a path such as
/// `/proc/self/fd/7` could name a directory outside (CVE-2024-21626).
fn enter_cwd(cwd: &str, entered: bool) -> Result<(), Failure> {
    let refused = |error: &io::Error| {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => FailureKind::NotFound,
            _ => FailureKind::NotExecutable,
        };
        Failure::new(kind, format!("chdir to cwd ({cwd:?}) set in config.json failed: {}", describe(error)))
    };
    if !entered {
        rustix::process::chdir(cwd).map_err(|error| refused(&error.into()))?;
    }
    match rustix::process::getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        _ => Err(Failure::new(
            FailureKind::Invalid,
            "current working directory is outside of container mount namespace root -- possible container breakout detected",
        )),
    }
}
