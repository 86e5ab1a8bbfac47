//! Containers that another runtime makes: the OCI command line in the place of the init stub.
//!
//! A guide, a copy of the shim, runs the runtime's commands and waits for them, so that the shim's loop never does. It reports
//! over the same channel as a stub and names the container's process as one that it has led to; from there on nothing
//! differs: streams, log, attach, exit report, adoption.
//!
//! While a guide lives it is the reaper of what the runtime leaves behind. So the process named in a pid file can't be
//! another one's by now, and a failed start ends whatever is left. With the guide's end the shim becomes the reaper.
//!
//! Source: runtime-spec 1.3, runtime.md "Operations", and runc's command line, which all runtimes follow.

mod bundle;
mod command;
mod console;

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use corten_runtime::apply::{Reporter, Stdio};
use corten_runtime::{Failure, FailureKind};
use corten_sys::{memfd, precedence, process};
use rustix::fs::Mode;

use crate::lookup::describe;
use crate::protocol::{Bundle, External};
use crate::stub::{MAX_PLAN, Stub};
use console::Console;

pub(crate) use bundle::Parts;

/// How long a start or an exec may take. The daemon waits a little longer.
const START_TIMEOUT: Duration = Duration::from_secs(90);
/// How long any other command may take. The daemon waits a little longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(8);
const SIGKILL: i32 = 9;

/// The runtime of one container.
#[derive(Debug)]
pub(crate) struct Runtime {
    external: External,
    id: String,
}

impl Runtime {
    pub(crate) fn new(external: External, id: &str) -> Runtime {
        Runtime { external, id: id.to_owned() }
    }

    /// Creates and starts the container from its parts.
    pub(crate) fn create(&self, parts: &Parts<'_>, terminal: bool, stdio: Option<&Stdio>) -> io::Result<Stub> {
        self.guide(&parts.descriptors(), stdio, |reporter| {
            let made = self.create_here(parts, terminal, stdio, reporter);
            made.inspect_err(|_| self.end())
        })
    }

    /// Runs another process in the container; `process` is a memfd with its description.
    pub(crate) fn exec(
        &self,
        exec_id: &str,
        process: OwnedFd,
        terminal: bool,
        stdio: Option<&Stdio>,
    ) -> io::Result<Stub> {
        let text = memfd::read(process, MAX_PLAN)?;
        self.guide(&[], stdio, |reporter| {
            let files = ExecFiles::new(&self.directory(), exec_id);
            let made = self.exec_here(&files, &text, terminal, stdio, reporter);
            files.remove();
            made.inspect_err(|_| end_descendants())
        })
    }

    /// Sends a signal to the container. A runtime that can't do it keeps no container alive: then the kernel is asked.
    pub(crate) fn kill(&self, signal: i32, init: BorrowedFd<'_>) -> io::Result<Stub> {
        self.guide(&[init], None, |_| {
            let number = signal.to_string();
            let told = self.command("kill", "kill", &[&self.id, &number]);
            told.or_else(|failure| process::signal_pidfd(init, signal).map_err(|_| failure))
        })
    }

    /// Freezes or thaws the container.
    pub(crate) fn freeze(&self, on: bool) -> io::Result<Stub> {
        let word = if on { "pause" } else { "resume" };
        self.guide(&[], None, |_| self.command(word, word, &[&self.id]))
    }

    /// Sets other limits; `resources` is a memfd with them.
    pub(crate) fn limit(&self, resources: OwnedFd) -> io::Result<Stub> {
        let text = memfd::read(resources, MAX_PLAN)?;
        self.guide(&[], None, |_| {
            let file = self.directory().join("resources.json");
            fs::write(&file, &text).map_err(|error| Failure::host("cannot write the limits down", &error))?;
            self.command("update", "update", &["--resources", &file.to_string_lossy(), &self.id])
        })
    }

    /// Has the runtime forget the container, with whatever of it still runs, and ends what it has left. Waits for that, within
    /// limits; what is not done then the daemon does when it takes the control group and the run directory away.
    pub(crate) fn end(&self) {
        let _ = self.command("delete", "delete", &["--force", &self.id]);
        end_descendants();
    }

    /// A guide's surroundings: it ends with the shim, and reaps what the runtime leaves.
    fn guide(
        &self,
        keep: &[BorrowedFd<'_>],
        stdio: Option<&Stdio>,
        body: impl FnOnce(&mut Reporter) -> Result<(), Failure>,
    ) -> io::Result<Stub> {
        let shim = rustix::process::getpid();
        Stub::guide(keep, stdio, |reporter| {
            let surroundings = || -> io::Result<()> {
                process::set_parent_death_signal(SIGKILL)?;
                if rustix::process::getppid() != Some(shim) {
                    return Err(io::Error::other("the shim is gone"));
                }
                process::become_subreaper()
            };
            surroundings().map_err(|error| Failure::host("cannot prepare for the runtime", &error))?;
            // Runtimes make files and directories with the mode that they mean, as long as nobody else's mask stands out.
            rustix::process::umask(Mode::from_raw_mode(0o022));
            precedence::give_way();
            body(reporter)
        })
    }

    fn create_here(
        &self,
        parts: &Parts<'_>,
        terminal: bool,
        stdio: Option<&Stdio>,
        reporter: &mut Reporter,
    ) -> Result<(), Failure> {
        let (directory, deadline) = (self.directory(), Instant::now() + START_TIMEOUT);
        let place = Bundle::below(&directory);
        bundle::put_together(&place, parts)
            .map_err(|error| Failure::host("cannot put the container's bundle together", &error))?;
        let (bundle, pid_file) = (text(place.path()), text(&directory.join("init.pid")));
        let console = terminal.then(|| Console::listen(&directory, "console.sock")).transpose();
        let console = console.map_err(|error| Failure::host("cannot listen for the terminal", &error))?;
        let mut words = vec!["create", "--bundle", &bundle, "--pid-file", &pid_file];
        words.extend(console.iter().flat_map(|console| ["--console-socket", console.path()]));
        words.push(&self.id);
        let log = directory.join("log.json");
        command::run(&self.external, &words, &log, stdio, deadline).map_err(|reason| failed("create", &reason))?;
        let (pid, pidfd) = named(Path::new(&pid_file)).map_err(|reason| failed("create", &reason))?;
        if let Some(console) = console {
            let primary = console.receive(deadline).map_err(|reason| failed("create", &reason))?;
            reporter.console(primary)?;
        }
        command::run(&self.external, &["start", &self.id], &log, None, deadline)
            .map_err(|reason| failed("start", &reason))?;
        tell(reporter, pid, pidfd)
    }

    fn exec_here(
        &self,
        files: &ExecFiles,
        process: &[u8],
        terminal: bool,
        stdio: Option<&Stdio>,
        reporter: &mut Reporter,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + START_TIMEOUT;
        fs::write(&files.process, process).map_err(|error| Failure::host("cannot write the process down", &error))?;
        let console = terminal.then(|| Console::listen(&self.directory(), &files.socket)).transpose();
        let console = console.map_err(|error| Failure::host("cannot listen for the terminal", &error))?;
        let (process, pid_file) = (text(&files.process), text(&files.pid));
        let mut words = vec!["exec", "--process", &process, "--detach", "--pid-file", &pid_file];
        words.extend(console.iter().flat_map(|console| ["--console-socket", console.path()]));
        words.push(&self.id);
        command::run(&self.external, &words, &files.log, stdio, deadline).map_err(|reason| failed("exec", &reason))?;
        let (pid, pidfd) = named(&files.pid).map_err(|reason| failed("exec", &reason))?;
        if let Some(console) = console {
            let primary = console.receive(deadline).map_err(|reason| failed("exec", &reason))?;
            reporter.console(primary)?;
        }
        tell(reporter, pid, pidfd)
    }

    /// A command that only has to succeed.
    fn command(&self, operation: &str, word: &str, arguments: &[&str]) -> Result<(), Failure> {
        let log = self.directory().join(format!("{word}.log"));
        let words: Vec<&str> = [word].iter().chain(arguments).copied().collect();
        let done = command::run(&self.external, &words, &log, None, Instant::now() + COMMAND_TIMEOUT);
        let _ = fs::remove_file(log);
        done.map_err(|reason| failed(operation, &reason))
    }

    fn directory(&self) -> PathBuf {
        PathBuf::from(&self.external.directory)
    }
}

/// What an exec writes down, and what its runtime writes.
struct ExecFiles {
    process: PathBuf,
    pid: PathBuf,
    log: PathBuf,
    socket: String,
}

impl ExecFiles {
    fn new(directory: &Path, exec_id: &str) -> ExecFiles {
        let file = |end: &str| directory.join(format!("exec-{exec_id}.{end}"));
        ExecFiles { process: file("json"), pid: file("pid"), log: file("log"), socket: format!("exec-{exec_id}.sock") }
    }

    fn remove(&self) {
        for file in [&self.process, &self.pid, &self.log] {
            let _ = fs::remove_file(file);
        }
    }
}

/// containerd's words for a failed operation, which Docker's users know.
fn failed(operation: &str, reason: &str) -> Failure {
    Failure::new(FailureKind::Internal, format!("OCI runtime {operation} failed: {reason}"))
}

fn tell(reporter: &mut Reporter, pid: i32, pidfd: OwnedFd) -> Result<(), Failure> {
    reporter.moved(pid, pidfd).map_err(|error| Failure::host("cannot tell of the process", &error))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The process of a pid file. It has to be a child of this process by now: then its id is its own until it is reaped here.
fn named(pid_file: &Path) -> Result<(i32, OwnedFd), String> {
    let unusable = |reason: String| format!("the runtime's pid file is of no use: {reason}");
    let text = fs::read_to_string(pid_file).map_err(|error| unusable(describe(&error)))?;
    let pid: i32 = text.trim().parse().map_err(|_| unusable(format!("{:?} is no process id", text.trim())))?;
    if !process::is_child(pid) {
        return Err(unusable(format!("process {pid} is not the runtime's")));
    }
    let pidfd = process::open_pidfd(pid).map_err(|error| unusable(describe(&error)))?;
    Ok((pid, pidfd))
}

/// Kills and reaps every process that the runtime has left, and what those leave in turn.
fn end_descendants() {
    let list = format!("/proc/self/task/{}/children", rustix::thread::gettid().as_raw_nonzero());
    loop {
        let children = fs::read_to_string(&list).unwrap_or_default();
        let pids: Vec<i32> = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            // Nobody else reaps it, so the id is still its own.
            if let Ok(pidfd) = process::open_pidfd(pid) {
                let _ = process::signal_pidfd(pidfd.as_fd(), SIGKILL);
            }
            let _ = process::reap(pid);
        }
    }
}
