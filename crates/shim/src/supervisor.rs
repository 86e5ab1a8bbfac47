//! The shim's loop: one poll(2) over the daemon's connections, the child events, the start under way and all streams.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_runtime::{Failure, FailureKind, Plan};
use corten_sys::socket::{Listener, Seqpacket};
use corten_sys::{precedence, process, signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, openat, renameat};

use crate::external::Runtime;
use crate::io::Ready;
use crate::json_log::JsonLog;
use crate::oom;
use crate::process::Process;
use crate::protocol::{
    EXIT_NAME, Event, ExecExited, ExecStarted, ExitStatus, MAX_PACKET, Message, Phase, Ready as WarmReady, Request,
    Started, VERSION,
};
use crate::stub::Stub;
use crate::time::now_ns;
use crate::warm::Warm;

const SIGKILL: i32 = 9;

/// A running shim.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) connections: Vec<Option<Seqpacket>>,
    pub(crate) listener: Option<Listener>,
    children: OwnedFd,
    pub(crate) netns: OwnedFd,
    pub(crate) container_id: Option<String>,
    pub(crate) run_directory: Option<OwnedFd>,
    /// The container's log, from its assignment to its start.
    pub(crate) log: io::Result<Option<JsonLog>>,
    pub(crate) cgroups: Vec<OwnedFd>,
    /// Which of them the memory controller has.
    pub(crate) memory: Option<u8>,
    /// Descriptors of the start that is to come.
    pub(crate) ahead: Vec<OwnedFd>,
    /// The init stub of a warm shim, before its start.
    pub(crate) stub: Option<Stub>,
    /// The stub was told to join the cgroups of the start to come.
    pub(crate) placed: bool,
    pub(crate) phase: Phase,
    pub(crate) init: Option<Process>,
    pub(crate) execs: Vec<Exec>,
    /// The other runtime whose container it is.
    pub(crate) runtime: Option<Runtime>,
    /// What that runtime was asked to do; each goes when it is answered.
    pub(crate) jobs: Vec<Process>,
    /// What stubs prepare themselves for.
    pub(crate) usual: Option<&'static Plan>,
    /// Where the null device is.
    pub(crate) null: &'static str,
    pub(crate) exit: Option<ExitStatus>,
    /// Ends of processes that no note has named yet.
    strays: Vec<process::Ended>,
    pub(crate) released: bool,
    buffer: Vec<u8>,
}

/// One exec.
#[derive(Debug)]
pub(crate) struct Exec {
    pub(crate) id: String,
    pub(crate) process: Process,
    /// Its end has been reported; it stays until its clients have everything.
    pub(crate) reported: bool,
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) connection: usize,
    pub(crate) seq: u64,
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy, Debug)]
enum Token {
    Children,
    Listener,
    Connection(usize),
    InitControl,
    ExecControl(usize),
    JobControl(usize),
    Init(Ready),
    Exec(usize, Ready),
}

impl Supervisor {
    /// Serves a warm shim until it is released, or nobody needs it any more.
    pub(crate) fn run(warm: Warm) -> io::Result<()> {
        // Whoever wakes it from now on waits for it; what is being warmed meanwhile is not to keep it waiting.
        precedence::take();
        let ready = WarmReady {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            init_pid: warm.stub.as_ref().map(|stub| stub.pid),
        };
        let mut shim = Supervisor {
            connections: vec![Some(warm.daemon)],
            listener: None,
            children: warm.children,
            netns: warm.netns,
            container_id: None,
            run_directory: None,
            log: Ok(None),
            cgroups: Vec::new(),
            memory: None,
            ahead: Vec::new(),
            stub: warm.stub,
            placed: false,
            phase: Phase::Warm,
            init: None,
            execs: Vec::new(),
            runtime: None,
            jobs: Vec::new(),
            usual: warm.usual,
            null: warm.null,
            exit: None,
            strays: Vec::new(),
            released: false,
            buffer: Vec::new(),
        };
        shim.send(0, None, Event::Ready(ready), true);
        while !shim.is_finished() {
            shim.turn()?;
        }
        if let Some(runtime) = &shim.runtime {
            runtime.end();
        }
        Ok(())
    }

    /// A shim whose container hasn't been asked for ends with its socket; one whose container has ended when it is released, or when no
    /// daemon is there and every client has got everything.
    fn is_finished(&self) -> bool {
        let connected = self.connections.iter().any(Option::is_some);
        match self.phase {
            Phase::Warm | Phase::Assigned => !connected || self.released,
            Phase::Exited => (self.released || !connected) && !self.has_clients(),
            _ => false,
        }
    }

    fn has_clients(&self) -> bool {
        self.init.iter().chain(self.execs.iter().map(|exec| &exec.process)).any(|process| process.io.has_clients())
    }

    fn turn(&mut self) -> io::Result<()> {
        let (tokens, mut polled) = self.interests();
        match poll(&mut polled, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready: Vec<(Token, PollFlags)> =
            tokens.into_iter().zip(polled.iter().map(PollFd::revents)).filter(|(_, flags)| !flags.is_empty()).collect();
        drop(polled);
        // Ends are handled last: notes and output that came before them are served before.
        let mut children = false;
        for (token, flags) in ready {
            children |= matches!(token, Token::Children);
            self.serve(token, flags);
        }
        if children {
            signal::drain(self.children.as_fd());
            self.reap()?;
        }
        self.sweep();
        Ok(())
    }

    fn interests(&self) -> (Vec<Token>, Vec<PollFd<'_>>) {
        let mut tokens = vec![Token::Children];
        let mut polled = vec![PollFd::new(&self.children, PollFlags::IN)];
        let mut add = |token, fd| {
            tokens.push(token);
            polled.push(fd);
        };
        if let Some(listener) = &self.listener {
            add(Token::Listener, PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN));
        }
        for (index, connection) in self.connections.iter().enumerate() {
            if let Some(socket) = connection {
                add(Token::Connection(index), PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN));
            }
        }
        if let Some(init) = &self.init {
            if let Ok(reports) = init.stub.reports() {
                add(Token::InitControl, PollFd::from_borrowed_fd(reports.as_fd(), PollFlags::IN));
            }
            if init.flows() {
                init.io.interests(|ready, fd| add(Token::Init(ready), fd));
            }
        }
        for (index, exec) in self.execs.iter().enumerate() {
            if let Ok(reports) = exec.process.stub.reports() {
                add(Token::ExecControl(index), PollFd::from_borrowed_fd(reports.as_fd(), PollFlags::IN));
            }
            if exec.process.flows() {
                exec.process.io.interests(|ready, fd| add(Token::Exec(index, ready), fd));
            }
        }
        for (index, job) in self.jobs.iter().enumerate() {
            if let Ok(reports) = job.stub.reports() {
                add(Token::JobControl(index), PollFd::from_borrowed_fd(reports.as_fd(), PollFlags::IN));
            }
        }
        (tokens, polled)
    }

    fn serve(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Children => {}
            Token::Listener => self.accept(),
            Token::Connection(index) => self.receive(index),
            Token::InitControl => self.init_notes(),
            Token::ExecControl(index) => self.exec_notes(index),
            Token::JobControl(index) => self.job_notes(index),
            Token::Init(ready) => {
                if let Some(init) = &mut self.init {
                    init.io.serve(ready, flags, &mut self.buffer);
                }
            }
            Token::Exec(index, ready) => self.execs[index].process.io.serve(ready, flags, &mut self.buffer),
        }
    }

    /// Forgets what is done; indices are not in use here.
    fn sweep(&mut self) {
        if let Some(init) = &mut self.init {
            init.io.sweep();
        }
        for exec in &mut self.execs {
            exec.process.io.sweep();
        }
        self.execs.retain(|exec| !exec.reported || exec.process.io.has_clients());
        self.jobs.retain(|job| job.starting.is_some());
        // Large only while output flows.
        self.buffer = Vec::new();
    }

    fn accept(&mut self) {
        let Some(socket) = self.listener.as_ref().and_then(|listener| listener.accept().ok()) else { return };
        match self.connections.iter().position(Option::is_none) {
            Some(free) => self.connections[free] = Some(socket),
            None => self.connections.push(Some(socket)),
        }
    }

    fn receive(&mut self, index: usize) {
        let Some(socket) = &self.connections[index] else { return };
        match socket.recv_sized(MAX_PACKET) {
            Ok((packet, fds)) if !packet.is_empty() => match serde_json::from_slice::<Request>(&packet) {
                Ok(request) => {
                    let origin = Origin { connection: index, seq: request.seq };
                    self.handle(origin, request.command, fds);
                }
                Err(error) => self.refuse_packet(index, &packet, &error),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // A packet that was lost (no room for its descriptors) may have been the start: there will be none, and
            // whoever waits for it sees the shim end.
            Err(_) if self.phase == Phase::Assigned => self.released = true,
            _ => self.connections[index] = None,
        }
    }

    /// A newer daemon may ask what this shim does not know: it gets an answer if its number can be read.
    fn refuse_packet(&mut self, index: usize, packet: &[u8], error: &serde_json::Error) {
        #[derive(serde::Deserialize)]
        struct Number {
            seq: u64,
        }
        if let Ok(number) = serde_json::from_slice::<Number>(packet) {
            let failure =
                Failure::new(FailureKind::Invalid, format!("the shim does not understand the request: {error}"));
            self.send(index, Some(number.seq), Event::Failed(failure), false);
        }
    }

    /// Sends to one connection; one that does not take its packets is dropped, its daemon asks for the state anew.
    pub(crate) fn send(&mut self, index: usize, re: Option<u64>, event: Event, with_netns: bool) {
        let Some(Some(socket)) = self.connections.get(index) else { return };
        let sent = serde_json::to_vec(&Message { re, event }).map_err(io::Error::from).and_then(|packet| {
            let netns = [self.netns.as_fd()];
            socket.send(&packet, if with_netns { &netns } else { &[] })
        });
        if sent.is_err() {
            self.connections[index] = None;
        }
    }

    pub(crate) fn answer(&mut self, origin: Origin, event: Event) {
        self.send(origin.connection, Some(origin.seq), event, false);
    }

    fn broadcast(&mut self, event: &Event) {
        for index in 0..self.connections.len() {
            self.send(index, None, event.clone(), false);
        }
    }

    fn init_notes(&mut self) {
        let Some(init) = &mut self.init else { return };
        let Some((origin, outcome)) = init.take_notes(&mut self.strays) else { return };
        let pid = init.stub.pid;
        match outcome {
            Ok(()) => {
                let warnings = std::mem::take(&mut init.warnings);
                let ended = init.ended;
                self.phase = Phase::Running;
                if self.released {
                    // It was given up when nothing could stop it any more.
                    let _ = process::signal_pidfd(init.stub.pidfd.as_fd(), SIGKILL);
                }
                self.answer(origin, Event::Started(Started { pid, warnings }));
                if let Some(code) = ended {
                    self.init_ended(code);
                }
            }
            Err(failure) => {
                init.fail(&mut self.buffer);
                self.phase = Phase::Exited;
                self.answer(origin, Event::Failed(failure));
            }
        }
    }

    fn exec_notes(&mut self, index: usize) {
        let exec = &mut self.execs[index];
        let Some((origin, outcome)) = exec.process.take_notes(&mut self.strays) else { return };
        let (exec_id, pid) = (exec.id.clone(), exec.process.stub.pid);
        match outcome {
            Ok(()) => {
                let ended = exec.process.ended;
                self.answer(origin, Event::ExecStarted(ExecStarted { exec_id, pid }));
                if let Some(code) = ended {
                    self.exec_ended(index, code);
                }
            }
            Err(failure) => {
                exec.process.fail(&mut self.buffer);
                exec.reported = true;
                self.answer(origin, Event::Failed(failure));
            }
        }
    }

    fn job_notes(&mut self, index: usize) {
        let Some((origin, outcome)) = self.jobs[index].take_notes(&mut self.strays) else { return };
        self.answer(origin, outcome.map_or_else(Event::Failed, |()| Event::Done));
    }

    fn reap(&mut self) -> io::Result<()> {
        while let Some(ended) = process::reap_any()? {
            if self.init.as_ref().is_some_and(|init| init.is(ended.pid)) {
                self.init_reaped(ended.code);
            } else if let Some(index) = self.execs.iter().position(|exec| exec.process.is(ended.pid)) {
                self.exec_reaped(index, ended.code);
            } else if self.stub.as_ref().is_some_and(|stub| stub.pid == ended.pid) {
                // Without its init stub a warm shim is of no use; its end tells the daemon so.
                self.stub = None;
                self.released |= self.phase == Phase::Warm;
            } else {
                // A process whose note is still to be read; or an unused stub, a leader that has done its work, an
                // orphan of a container without a PID namespace of its own.
                self.strays.push(ended);
            }
        }
        let starting = |process: &Process| process.starting.is_some();
        if !self.init.iter().chain(self.execs.iter().map(|exec| &exec.process)).any(starting) {
            self.strays = Vec::new();
        }
        Ok(())
    }

    fn init_reaped(&mut self, code: i32) {
        let Some(init) = &mut self.init else { return };
        let decided = init.reaped(code);
        if init.starting.is_some() {
            self.init_notes();
        } else if decided {
            self.init_ended(code);
        }
    }

    fn exec_reaped(&mut self, index: usize, code: i32) {
        let process = &mut self.execs[index].process;
        let decided = process.reaped(code);
        if process.starting.is_some() {
            self.exec_notes(index);
        } else if decided {
            self.exec_ended(index, code);
        }
    }

    /// The order keeps promises: output is in the log before the status is on disk, that before it is told.
    fn init_ended(&mut self, code: i32) {
        let status = ExitStatus { code, oom: self.memory_cgroup().is_some_and(oom::happened), time_ns: now_ns() };
        if let Some(init) = &mut self.init {
            init.io.finish(&mut self.buffer);
        }
        // Without the file a later daemon finds a shim that is gone, and says so; there is nothing better to do.
        let _ = self.write_exit(&status);
        self.exit = Some(status);
        self.phase = Phase::Exited;
        self.broadcast(&Event::Exited(status));
        if let Some(init) = &mut self.init {
            // Taking the mounts down takes a while; nobody waits for it any more.
            init.mounts.clear();
        }
    }

    fn memory_cgroup(&self) -> Option<&OwnedFd> {
        self.cgroups.get(usize::from(self.memory?))
    }

    fn write_exit(&self, status: &ExitStatus) -> io::Result<()> {
        let Some(directory) = &self.run_directory else { return Ok(()) };
        let temporary = "exit.json.new";
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(directory, temporary, flags, Mode::from_raw_mode(0o600))?;
        rustix::io::write(&file, &serde_json::to_vec(status)?)?;
        Ok(renameat(directory, temporary, directory, EXIT_NAME)?)
    }

    fn exec_ended(&mut self, index: usize, code: i32) {
        let exec = &mut self.execs[index];
        exec.process.io.finish(&mut self.buffer);
        exec.reported = true;
        let status = ExitStatus { code, oom: false, time_ns: now_ns() };
        let event = Event::ExecExited(ExecExited { exec_id: exec.id.clone(), status });
        self.broadcast(&event);
    }
}
