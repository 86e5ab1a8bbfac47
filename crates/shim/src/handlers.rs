//! What the daemon asks for, one function per request.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use corten_runtime::agent::Agent;
use corten_runtime::apply::Stdio;
use corten_runtime::{Failure, FailureKind, NamespaceKind, PidNamespace};
use corten_sys::memfd;
use corten_sys::process::{self, flags};
use corten_sys::socket::Listener;

use crate::external::{Parts, Runtime};
use crate::io::Io;
use crate::json_log::JsonLog;
use crate::process::Process;
use crate::protocol::{
    Assign, Attach, Command, Event, Exec as ExecRequest, ExecStarted, External, Phase, Prepare, Resize, SOCKET_NAME,
    Signal, Start, State, Target, VERSION,
};
use crate::stub::{Fds, MAX_PLAN, Order, Stub, read_agent, read_process};
use crate::supervisor::{Exec, Origin, Supervisor};

const SIGKILL: i32 = 9;

impl Supervisor {
    /// Carries a request out and answers it, now or when it is decided.
    pub(crate) fn handle(&mut self, origin: Origin, command: Command, fds: Vec<OwnedFd>) {
        let fds = Fds(fds.into_iter());
        let result = match command {
            Command::Prepare(request) => self.prepare(request, fds),
            Command::Assign(request) => self.assign(request, fds),
            Command::Descriptors if self.phase == Phase::Assigned => return self.ahead.extend(fds.0),
            Command::Descriptors => return,
            // Answered when exec has happened.
            Command::Start(request) => match self.start(origin, request, fds) {
                Ok(()) => return,
                Err(failure) => self.fail_start(failure),
            },
            Command::Exec(request) => match self.exec(origin, request, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Command::Attach(request) => self.attach(&request, fds),
            Command::Resize(request) => self.resize(&request),
            Command::Signal(request) => match self.signal(origin, &request) {
                Ok(Answered::Later) => return,
                Ok(Answered::Now) => Ok(()),
                Err(failure) => Err(failure),
            },
            Command::Freeze(request) => match self.have_runtime(origin, |runtime| runtime.freeze(request.on)) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Command::Limit => match self.limit(origin, fds) {
                Ok(()) => return,
                Err(failure) => Err(failure),
            },
            Command::CloseStdin(target) => self.close_stdin(&target),
            Command::State => {
                let state = Event::State(Box::new(self.state()));
                return self.send(origin.connection, Some(origin.seq), state, true);
            }
            Command::Release => self.release(),
        };
        let event = result.map_or_else(Event::Failed, |()| Event::Done);
        self.answer(origin, event);
    }

    /// Lets the shim end, unless there is a process to be supervised. A start that is under way is given up.
    fn release(&mut self) -> Result<(), Failure> {
        if self.phase == Phase::Running {
            return Err(Failure::new(FailureKind::Conflict, "the container is running"));
        }
        self.released = true;
        if let Some(init) = self.init.as_ref().filter(|_| self.phase == Phase::Starting) {
            let _ = process::signal_pidfd(init.stub.pidfd.as_fd(), SIGKILL);
        }
        Ok(())
    }

    /// The stub stages while nobody waits; without a stub there is nothing to prepare.
    fn prepare(&mut self, request: Prepare, mut fds: Fds) -> Result<(), Failure> {
        self.expect_phase(Phase::Warm)?;
        let failed = |error: io::Error| Failure::host("cannot have a start prepared", &error);
        let cgroups = fds.take(request.cgroups).map_err(failed)?;
        let Some(stub) = &self.stub else { return Ok(()) };
        let passed: Vec<_> = cgroups.iter().map(AsFd::as_fd).collect();
        stub.order(&Order::Prepare { cgroups: cgroups.len() }, &passed).map_err(failed)?;
        self.placed = !cgroups.is_empty();
        Ok(())
    }

    fn assign(&mut self, request: Assign, mut fds: Fds) -> Result<(), Failure> {
        self.expect_phase(Phase::Warm)?;
        let (run, log) = (one(&mut fds)?, one(&mut fds)?);
        // Bound relative to the directory's descriptor: the host's tree is not visible here.
        let listener = rustix::process::fchdir(&run)
            .map_err(io::Error::from)
            .and_then(|()| Listener::bind(Path::new(SOCKET_NAME)))
            .map_err(|error| Failure::host("cannot listen for later daemons", &error));
        rustix::process::chdir("/").map_err(|error| Failure::host("cannot leave the directory", &error.into()))?;
        self.listener = Some(listener?);
        self.container_id = Some(request.container_id);
        self.run_directory = Some(run);
        // What is wrong with it is told by the start, which needs it.
        self.log = JsonLog::open(log, &request.log);
        self.phase = Phase::Assigned;
        Ok(())
    }

    fn expect_phase(&self, phase: Phase) -> Result<(), Failure> {
        if self.phase == phase {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Conflict, format!("the shim is {:?}, not {phase:?}", self.phase)))
    }

    fn start(&mut self, origin: Origin, request: Start, fds: Fds) -> Result<(), Failure> {
        self.expect_phase(Phase::Assigned)?;
        let mut ahead = std::mem::take(&mut self.ahead);
        ahead.extend(fds.0);
        let mut fds = Fds(ahead.into_iter());
        let handed = Handed::take(&request, &mut fds).map_err(|error| Failure::host("malformed start", &error))?;
        (self.cgroups, self.memory) = (handed.cgroups, request.memory);
        let (mut io, stdio) =
            self.open_streams(&request).map_err(|error| Failure::host("cannot open streams", &error))?;
        for (mode, socket) in request.attach.iter().zip(handed.attach) {
            io.attach(socket, *mode);
        }
        let stub = match &request.external {
            None => self.begin(&request, (handed.tree, handed.hold), stdio)?,
            Some(external) => self.begin_external(external, handed.tree, stdio)?,
        };
        self.init = Some(Process::new(stub, io, request.streams.size, origin, handed.agent));
        self.phase = Phase::Starting;
        Ok(())
    }

    /// Hands the plan to the init stub.
    fn begin(
        &mut self,
        request: &Start,
        (tree, hold): (Tree, Option<OwnedFd>),
        stdio: Option<Stdio>,
    ) -> Result<Stub, Failure> {
        let warm = request.pid == PidNamespace::New && self.stub.is_some() && !request.user;
        let stub = self
            .stub_for(request, &tree.namespaces)
            .map_err(|error| Failure::host("cannot make the container's init", &error))?;
        let inside = !warm && !request.user && self.unified_cgroup(request.join_cgroups).is_some();
        // A stub that could not join what it was prepared with, or that is not the one that was, joins now.
        let join = if (request.join_cgroups || self.placed) && !inside { &self.cgroups[..] } else { &[] };
        let order = Order::Start {
            sources: request.sources,
            namespaces: request.namespaces.clone(),
            cgroups: join.len(),
            same_cgroups: !request.join_cgroups,
            pipes: stdio.is_some(),
            held: hold.is_some(),
            usual_filter: request.usual_filter,
        };
        let mut passed = vec![tree.plan.as_fd(), tree.rootfs.as_fd()];
        passed.extend(tree.sources.iter().chain(&tree.namespaces).chain(join).map(AsFd::as_fd));
        if let Some(Stdio::Pipes { stdin, stdout, stderr }) = &stdio {
            passed.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
        }
        passed.extend(hold.as_ref().map(AsFd::as_fd));
        stub.order(&order, &passed).map_err(|error| Failure::host("cannot hand the plan over", &error))?;
        Ok(stub)
    }

    /// Has another runtime make the container.
    fn begin_external(&mut self, external: &External, tree: Tree, stdio: Option<Stdio>) -> Result<Stub, Failure> {
        let failed = |error: io::Error| Failure::host("cannot have the runtime make the container", &error);
        let document = memfd::read(tree.plan, MAX_PLAN).map_err(failed)?;
        let (rootfs, netns) = (tree.rootfs.as_fd(), self.netns.as_fd());
        let parts = Parts { document: &document, rootfs, netns, sources: &tree.sources };
        let runtime = Runtime::new(external.clone(), self.container_id.as_deref().unwrap_or_default());
        let stub = runtime.create(&parts, stdio.is_none(), stdio.as_ref()).map_err(failed)?;
        self.runtime = Some(runtime);
        Ok(stub)
    }

    fn limit(&mut self, origin: Origin, mut fds: Fds) -> Result<(), Failure> {
        let resources = one(&mut fds)?;
        self.have_runtime(origin, |runtime| runtime.limit(resources))
    }

    /// Has the container's own runtime do something; answered when it has.
    fn have_runtime(&mut self, origin: Origin, job: impl FnOnce(&Runtime) -> io::Result<Stub>) -> Result<(), Failure> {
        let own = || Failure::new(FailureKind::Conflict, "the container has no other runtime");
        let runtime = self.runtime.as_ref().ok_or_else(own)?;
        let stub = job(runtime).map_err(|error| Failure::host("cannot run the container's runtime", &error))?;
        self.jobs.push(Process::new(stub, Io::default(), None, origin, None));
        Ok(())
    }

    /// A start that failed here leaves nothing to be supervised.
    fn fail_start(&mut self, failure: Failure) -> Result<(), Failure> {
        if self.phase == Phase::Assigned {
            self.phase = Phase::Exited;
        }
        Err(failure)
    }

    fn open_streams(&mut self, request: &Start) -> io::Result<(Io, Option<Stdio>)> {
        let (mut io, stdio) = if request.streams.tty {
            (Io::terminal(), None)
        } else {
            let (io, stdio) = Io::pipes(request.streams.open_stdin, self.null)?;
            (io, Some(stdio))
        };
        io.stdin_once = request.streams.stdin_once;
        io.log = std::mem::replace(&mut self.log, Ok(None))?;
        Ok((io, stdio))
    }

    /// The warm stub where it fits; otherwise one made for this start, in the PID namespace and cgroup asked for.
    fn stub_for(&mut self, request: &Start, namespaces: &[OwnedFd]) -> io::Result<Stub> {
        let kinds = &request.namespaces;
        if request.user {
            self.stub = None;
            return Stub::leader(self.usual);
        }
        match request.pid {
            PidNamespace::New => match self.stub.take() {
                Some(stub) => return Ok(stub),
                None => return Stub::new(flags::PID, self.unified_cgroup(request.join_cgroups), self.usual),
            },
            // The unused stub ends with its control socket.
            PidNamespace::Host => self.stub = None,
            PidNamespace::Join => {
                self.stub = None;
                let position = kinds.iter().position(|kind| *kind == NamespaceKind::Pid);
                let namespace = position.and_then(|index| namespaces.get(index));
                let missing = || io::Error::other("the PID namespace was not handed over");
                let namespace = namespace.ok_or_else(missing)?.as_fd();
                return Stub::in_pid_namespace(namespace, self.unified_cgroup(request.join_cgroups), self.usual);
            }
        }
        Stub::new(0, self.unified_cgroup(request.join_cgroups), self.usual)
    }

    /// On v2 there is one cgroup directory, and a process can be cloned into it.
    fn unified_cgroup(&self, join: bool) -> Option<BorrowedFd<'_>> {
        match &self.cgroups[..] {
            [only] if join && is_unified(only) => Some(only.as_fd()),
            _ => None,
        }
    }

    fn exec(&mut self, origin: Origin, request: ExecRequest, mut fds: Fds) -> Result<(), Failure> {
        self.expect_phase(Phase::Running)?;
        let plan = one(&mut fds)?;
        let socket = request.attach.map(|mode| Ok::<_, Failure>((mode, one(&mut fds)?))).transpose()?;
        let agent = request.agent.then(|| read_agent(&mut fds)).transpose();
        let agent = agent.map_err(|error| Failure::host("malformed exec", &error))?;
        let init = self.init.as_ref().ok_or_else(not_running)?;
        let failed = |error: io::Error| Failure::host("cannot run another process in the container", &error);
        let (mut io, stdio) = if request.tty {
            (Io::terminal(), None)
        } else {
            let stdin = request.attach.is_some_and(|mode| mode.stdin);
            let (io, stdio) = Io::pipes(stdin, self.null).map_err(failed)?;
            (io, Some(stdio))
        };
        io.stdin_once = true;
        if let Some((mode, socket)) = socket {
            io.attach(socket, mode);
        }
        let stub = match &self.runtime {
            None => {
                let (plan, into) = (read_process(plan)?, self.unified_cgroup(true));
                Stub::exec(&plan, init.stub.pidfd.as_fd(), &self.cgroups, into, stdio)
            }
            Some(runtime) => runtime.exec(&request.exec_id, plan, request.tty, stdio.as_ref()),
        };
        let stub = stub.map_err(failed)?;
        let process = Process::new(stub, io, request.size, origin, agent);
        self.execs.push(Exec { id: request.exec_id, process, reported: false });
        Ok(())
    }

    fn attach(&mut self, request: &Attach, mut fds: Fds) -> Result<(), Failure> {
        let socket = one(&mut fds)?;
        self.find(request.exec_id.as_deref())?.io.attach(socket, request.mode);
        Ok(())
    }

    fn resize(&mut self, request: &Resize) -> Result<(), Failure> {
        let process = self.find(request.exec_id.as_deref())?;
        match process.io.resize(request.size) {
            Ok(true) => Ok(()),
            Ok(false) => {
                // The terminal is still to come.
                process.size = Some(request.size);
                Ok(())
            }
            Err(error) => Err(Failure::host("cannot set the terminal's size", &error)),
        }
    }

    /// The first process of another runtime's container may only stand for it (a sandbox): there that runtime delivers.
    fn signal(&mut self, origin: Origin, request: &Signal) -> Result<Answered, Failure> {
        if let (Some(_), None) = (&self.runtime, &request.exec_id) {
            let init = self.find(None)?.stub.pidfd.try_clone();
            let job = |runtime: &Runtime| runtime.kill(request.signal, init?.as_fd());
            return self.have_runtime(origin, job).map(|()| Answered::Later);
        }
        self.signal_process(request).map(|()| Answered::Now)
    }

    fn signal_process(&mut self, request: &Signal) -> Result<(), Failure> {
        let process = self.find(request.exec_id.as_deref())?;
        process::signal_pidfd(process.stub.pidfd.as_fd(), request.signal).map_err(|error| match error.raw_os_error() {
            Some(3) => not_running(),
            _ => Failure::host(format!("cannot send signal {}", request.signal), &error),
        })
    }

    fn close_stdin(&mut self, target: &Target) -> Result<(), Failure> {
        self.find(target.exec_id.as_deref())?.io.close_stdin();
        Ok(())
    }

    /// The process that a request means, while it runs.
    fn find(&mut self, exec_id: Option<&str>) -> Result<&mut Process, Failure> {
        let process = match exec_id {
            None => self.init.as_mut(),
            Some(id) => self.execs.iter_mut().find(|exec| exec.id == id).map(|exec| &mut exec.process),
        };
        process.filter(|process| process.ended.is_none() && !process.failed).ok_or_else(not_running)
    }

    fn state(&self) -> State {
        let running = matches!(self.phase, Phase::Running);
        State {
            version: VERSION,
            shim_pid: rustix::process::getpid().as_raw_nonzero().get(),
            container_id: self.container_id.clone(),
            phase: self.phase,
            pid: self.init.as_ref().filter(|_| running).map(|init| init.stub.pid),
            exit: self.exit,
            external: self.runtime.is_some(),
            execs: self
                .execs
                .iter()
                .filter(|exec| exec.process.starting.is_none() && !exec.reported)
                .map(|exec| ExecStarted { exec_id: exec.id.clone(), pid: exec.process.stub.pid })
                .collect(),
        }
    }
}

/// True for a directory of the unified hierarchy.
fn is_unified(directory: &OwnedFd) -> bool {
    const CGROUP2_MAGIC: i64 = 0x6367_7270;
    rustix::fs::fstatfs(directory).is_ok_and(|system| system.f_type == CGROUP2_MAGIC)
}

/// Whether a request has its answer.
enum Answered {
    Now,
    Later,
}

/// What a container is made from.
struct Tree {
    plan: OwnedFd,
    rootfs: OwnedFd,
    sources: Vec<OwnedFd>,
    namespaces: Vec<OwnedFd>,
}

/// The descriptors of a start, sorted.
struct Handed {
    tree: Tree,
    cgroups: Vec<OwnedFd>,
    attach: Vec<OwnedFd>,
    agent: Option<Agent>,
    hold: Option<OwnedFd>,
}

impl Handed {
    fn take(request: &Start, fds: &mut Fds) -> io::Result<Handed> {
        Ok(Handed {
            tree: Tree {
                plan: fds.one()?,
                rootfs: fds.one()?,
                sources: fds.take(request.sources)?,
                namespaces: fds.take(request.namespaces.len())?,
            },
            cgroups: fds.take(request.cgroups)?,
            attach: fds.take(request.attach.len())?,
            agent: request.agent.then(|| read_agent(fds)).transpose()?,
            hold: request.held.then(|| fds.one()).transpose()?,
        })
    }
}

fn one(fds: &mut Fds) -> Result<OwnedFd, Failure> {
    fds.one().map_err(|error| Failure::new(FailureKind::Invalid, error.to_string()))
}

fn not_running() -> Failure {
    Failure::new(FailureKind::Conflict, "the process is not running")
}
