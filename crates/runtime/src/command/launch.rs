//! The init of a container: cloned from this process, and answered while it makes itself ready.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use corten_cgroup::Group;
use corten_sys::process::{self, Cloned, flags};
use corten_sys::{namespace, signal};
use rustix::fs::{CWD, Mode, OFlags};

use super::Context;
use super::error::{Error, Result, chain};
use crate::agent::Agent;
use crate::apply::base::{self, Base};
use crate::apply::clone_flags;
use crate::apply::{self, Channel, Entrance, Gate, InitInputs, Manner, Note, Reporter, Reports, Stdio};
use crate::plan::NamespaceSource;
use crate::resctrl::Made;
use crate::{Failure, Plan, sources};

/// A process under construction, from the runtime's side.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) control: Reports,
    /// It leads the way for another process, which a note will name.
    pub(super) leading: bool,
    /// Whoever answers what its filter notifies.
    pub(super) agent: Option<Agent>,
}

/// What the init is made from.
#[derive(Debug)]
pub(super) struct Init<'a> {
    pub(super) plan: &'a Plan,
    pub(super) rootfs: &'a Path,
    /// An empty directory for the minimal root.
    pub(super) place: &'a Path,
    pub(super) group: &'a Group,
    /// Groups of the processor's resources.
    pub(super) rdt: Option<&'a Made>,
    pub(super) gate: Option<Gate>,
    pub(super) manner: Manner,
    /// What goes wrong after the start is written there.
    pub(super) report: Option<OwnedFd>,
}

/// What is opened with the host's eyes before the clone.
struct Opened {
    rootfs: OwnedFd,
    sources: Vec<OwnedFd>,
    entrance: Entrance,
}

impl Init<'_> {
    /// Clones the init: once and into all its new namespaces, on v2 into its group; or, where another has to lead the
    /// way, a leader that clones it.
    pub(super) fn launch(self) -> Result<Launched> {
        let into = self.group.dir_fd();
        let opened = self.open(into.is_some())?;
        let spaces = &self.plan.namespaces;
        let led = spaces.user != NamespaceSource::Host || matches!(spaces.pid, NamespaceSource::Join(_));
        let into_group = into.as_ref().map(AsFd::as_fd);
        let launched = match led {
            true => spawn(flags::MOUNT, None, |mut reporter| self.lead(opened, into_group, &mut reporter))
                .map(|leader| Launched { leading: true, ..leader }),
            false => spawn(clone_flags(spaces), into_group, |mut reporter| {
                self.close_others(&opened, None, &reporter);
                let made = base::make_beside_host(self.place);
                let failed = |error| Failure::host("cannot make the container's first mounts", &error);
                match signal::block_all().and(made).map_err(failed) {
                    Ok(()) => self.become_init(opened, &mut reporter),
                    Err(failure) => give_up(failure, None, &mut reporter),
                }
            }),
        };
        let mut launched = launched.map_err(Error::doing("cannot make the container's process"))?;
        launched.follow_leader()?;
        Ok(launched)
    }

    fn open(&self, in_group: bool) -> Result<Opened> {
        let kinds = self.plan.joins().into_iter().map(|join| join.kind);
        let namespaces = sources::open_namespaces(self.plan).map_err(Error::doing("cannot join a namespace"))?;
        let cgroups = if in_group { Ok(Vec::new()) } else { self.group.dir_fds() };
        let mut cgroups = cgroups.map_err(Error::doing("cannot open the cgroup"))?;
        if let Some(rdt) = self.rdt {
            cgroups.extend(rdt.directories().map_err(Error::doing("resctrl"))?);
        }
        Ok(Opened {
            rootfs: sources::open_root(self.rootfs).map_err(Error::doing("cannot open the root file system"))?,
            sources: sources::open_sources(self.plan).map_err(Error::doing("error mounting"))?,
            entrance: Entrance { namespaces: kinds.zip(namespaces).collect(), cgroups },
        })
    }

    /// Closes what a copy of the runtime holds besides what the container is made from: its log, control groups of the host, what its
    /// caller left open.
    fn close_others(&self, opened: &Opened, into: Option<BorrowedFd<'_>>, reporter: &Reporter) {
        let Opened { rootfs, sources, entrance: Entrance { namespaces, cgroups } } = opened;
        let start = self.gate.iter().filter_map(|gate| gate.start.as_ref());
        let own = [rootfs].into_iter().chain(sources).chain(cgroups).chain(start).chain(&self.report);
        let mut keep: Vec<_> = own.chain(namespaces.iter().map(|(_, fd)| fd)).map(AsFd::as_fd).collect();
        keep.extend(into);
        keep.push(reporter.socket().as_fd());
        process::close_from_but(3 + self.manner.preserve_fds, &keep);
    }

    /// The leader's side, and its clone's.
    fn lead(self, mut opened: Opened, into: Option<BorrowedFd<'_>>, reporter: &mut Reporter) -> i32 {
        self.close_others(&opened, into, reporter);
        let made = signal::block_all().and_then(|()| base::make_beside_host(self.place));
        let led = made
            .map_err(|error| Failure::host("cannot make the container's first mounts", &error))
            .and_then(|()| apply::lead(self.plan, &mut opened.entrance, into, reporter));
        match led {
            Ok(true) => {
                // On v2 the leader's way in was a directory of the host: who waits for the start holds it no more.
                self.close_others(&opened, None, reporter);
                self.become_init(opened, reporter)
            }
            Ok(false) => 0,
            Err(failure) => give_up(failure, None, reporter),
        }
    }

    /// The clone's side. Returns the exit code of a process that could not become its program.
    fn become_init(mut self, opened: Opened, reporter: &mut Reporter) -> i32 {
        let (plan, report) = (self.plan, self.report.take());
        let failure = match self.inputs(opened) {
            Ok(inputs) => apply::init(plan, inputs, reporter),
            Err(error) => Failure::host("cannot prepare the container's process", &error),
        };
        give_up(failure, report, reporter)
    }

    fn inputs(self, opened: Opened) -> io::Result<InitInputs> {
        if self.plan.namespaces.network == NamespaceSource::New {
            namespace::bring_loopback_up()?;
        }
        let stdio = match self.plan.process.terminal {
            true => None,
            false => Some(inherited_streams()?),
        };
        let Entrance { namespaces, cgroups } = opened.entrance;
        Ok(InitInputs {
            // Attached at its own place, where hooks look for it.
            base: Base { root_place: base::host_directory(self.rootfs)?, in_host: true, ..Base::open()? },
            stage: None,
            rootfs: opened.rootfs,
            sources: opened.sources,
            namespaces,
            cgroups,
            stdio,
            gate: self.gate,
            hold: None,
            manner: self.manner,
        })
    }
}

/// Reports a failure. Should a seccomp filter keep the report back, the exit code still tells.
pub(super) fn give_up(failure: Failure, report: Option<OwnedFd>, reporter: &mut Reporter) -> i32 {
    if let Some(report) = report {
        let _ = rustix::io::write(report, failure.message.as_bytes());
    }
    let code = failure.exit_code();
    reporter.failed(failure);
    code
}

/// This process's own standard streams, for the program.
pub(super) fn inherited_streams() -> io::Result<Stdio> {
    Ok(Stdio::Pipes {
        stdin: rustix::stdio::stdin().try_clone_to_owned()?,
        stdout: rustix::stdio::stdout().try_clone_to_owned()?,
        stderr: rustix::stdio::stderr().try_clone_to_owned()?,
    })
}

/// Clones a process that runs `body` with its reporter and ends with the code that it returns.
pub(super) fn spawn(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce(Reporter) -> i32,
) -> io::Result<Launched> {
    let channel = Channel::new()?;
    match process::clone_process(flags, cgroup)? {
        Cloned::Parent { pid, pidfd } => {
            Ok(Launched { pid, pidfd, control: channel.reports(), leading: false, agent: None })
        }
        Cloned::Child => {
            // A panic must not unwind into the runtime's own frames.
            let code = catch_unwind(AssertUnwindSafe(|| body(channel.reporter()))).unwrap_or(1);
            process::exit_now(code)
        }
    }
}

/// How far a process has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its mounts are made; it waits for [`Launched::go_on`].
    Mounted,
    /// It waits for its start.
    Ready,
    /// It has executed its program, or is gone.
    Executed,
}

impl Launched {
    /// Waits for the next stage. A terminal that comes on the way goes to `console`.
    pub(super) fn next_stage(&mut self, context: &Context, console: &mut Option<OwnedFd>) -> Result<Stage> {
        // The process that was led in may tell of its listener before its leader has named it.
        let mut listener = None;
        loop {
            match self.note()? {
                None if self.leading => return self.leader_died(),
                None => return Ok(Stage::Executed),
                Some((Note::Mounted, _)) => return Ok(Stage::Mounted),
                Some((Note::Ready, _)) => return Ok(Stage::Ready),
                Some((Note::Console, fds)) => *console = fds.into_iter().next(),
                Some((Note::Warning(text), _)) => context.log.warn(&text),
                Some((Note::Moved { pid }, _)) => self.follow(pid)?,
                Some((Note::Listener { fd }, _)) => listener = Some(fd),
                Some((Note::MountNamespace, _)) => {}
                Some((Note::Failed(failure), _)) => {
                    return Err(refused(&failure));
                }
            }
            if let Some(fd) = listener.take_if(|_| !self.leading) {
                self.tell_agent(fd)?;
            }
        }
    }

    /// Waits until the leader has named the process that it made: from then on that one is meant.
    fn follow_leader(&mut self) -> Result<()> {
        while self.leading {
            match self.note()? {
                Some((Note::Moved { pid }, _)) => self.follow(pid)?,
                Some((Note::Failed(failure), _)) => return Err(refused(&failure)),
                Some(_) => {}
                None => return Err(Error::new("the process that leads into the container has died")),
            }
        }
        Ok(())
    }

    fn note(&self) -> Result<Option<(Note, Vec<OwnedFd>)>> {
        self.control.receive().map_err(Error::doing("cannot hear the container's process"))
    }

    /// From now on the process is meant that the leader has led to. What stands inside a container already has no further one to name;
    /// who could take the socket or the memory from it may have named any process of the host. It has to be a child of this one, which
    /// nothing but a leader's clone of a sibling makes.
    fn follow(&mut self, pid: i32) -> Result<()> {
        if !self.leading {
            return Err(Error::new("a process was named that nobody was led to"));
        }
        if !process::is_child(pid) {
            return Err(Error::new("a process was named that is none of the container's"));
        }
        self.pidfd = process::open_pidfd(pid).map_err(Error::doing("pidfd_open"))?;
        let leader = std::mem::replace(&mut self.pid, pid);
        self.leading = false;
        process::reap(leader).map(drop).map_err(Error::doing("waitpid"))
    }

    /// It may have led somebody in before: that process has become its program by now.
    fn leader_died(&mut self) -> Result<Stage> {
        let died = || Error::new("the process that leads into the container has died");
        self.follow(self.control.led().ok_or_else(died)?)?;
        Ok(Stage::Executed)
    }

    fn tell_agent(&mut self, listener: i32) -> Result<()> {
        let failed = || Error::doing("cannot hand the seccomp listener to its agent");
        let agent = self.agent.take().ok_or_else(|| Error::new("a seccomp filter notifies, and nobody listens"))?;
        agent.tell(self.pidfd.as_fd(), self.pid, listener).and_then(|()| self.control.go_on()).map_err(failed())
    }

    /// Lets a process go on that waits with its mounts made.
    pub(super) fn go_on(&self) -> Result<()> {
        self.control.go_on().map_err(Error::doing("the container's process is gone"))
    }

    /// Ends the process, and waits for its end.
    pub(super) fn kill(&self) {
        let _ = process::signal_pidfd(self.pidfd.as_fd(), 9);
        let _ = process::reap(self.pid);
    }
}

fn refused(failure: &Failure) -> Error {
    Error::new(format!("unable to start container process: {}", chain(failure)))
}

/// Opens a FIFO both ways, so that neither opening nor reading it depends on others being there.
pub(super) fn open_fifo(path: &Path) -> Result<OwnedFd> {
    let failed = || Error::doing(format!("cannot make {}", path.display()));
    rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .map_err(io::Error::from)
        .map_err(failed())?;
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(io::Error::from).map_err(failed())
}
