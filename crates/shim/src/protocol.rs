//! The messages between the daemon and a shim, and the files a shim leaves behind.
//!
//! One JSON object per packet of a `SOCK_SEQPACKET` Unix socket. A request carries `seq`, its answer carries the same
//! number as `re`; events that answer nothing (`Ready`, `Exited`, `ExecExited`) carry none. Descriptors ride along in
//! the order that the message's documentation names; payloads that may outgrow a packet (plans) travel in a sealed
//! memfd. Unknown fields are ignored and fields are only ever added, so that a newer daemon adopts every older shim.
//!
//! ```text
//! {"seq":1,"type":"Assign","container_id":"4f.."}                     fds: run directory, log directory
//! {"seq":2,"type":"Start","sources":1,"namespaces":["network"],..}    fds: plan, rootfs, sources.., namespaces.., cgroups.., attaches..
//! {"re":2,"type":"Started","pid":4711,"warnings":[]}
//! {"type":"Exited","code":0,"oom":false,"time_ns":1795226400000000000}
//! ```
//!
//! Below the run directory (`<run>/shims/<id>/`) a shim keeps `shim.sock`, where later daemons connect, and writes
//! `exit.json` (one [`ExitStatus`], by rename) before it reports the exit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_runtime::{Failure, NamespaceKind, PidNamespace};
use serde::{Deserialize, Serialize};

/// The protocol's version, named in `Ready` and `State` answers.
pub const VERSION: u32 = 1;
/// No packet is larger (a socket's default buffer takes about 200 KiB); what could be is sent in a memfd.
pub const MAX_PACKET: usize = 1024 * 1024;
/// The kernel's limit on descriptors in one packet.
pub const MAX_FDS: usize = 253;
/// Name of the adoption socket below the run directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// Name of the exit status file below the run directory.
pub const EXIT_NAME: &str = "exit.json";

/// A packet from the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the sender, repeated as `re` in the answer.
    pub seq: u64,
    /// What to do.
    #[serde(flatten)]
    pub command: Command,
}

/// A packet from the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The request that this answers; none for events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub re: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What a daemon asks of a shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Command {
    /// Has a warm shim do beforehand what its zygote's usual plan asks for. Fds: `cgroups` cgroup directories that its init
    /// joins. Answered by `Done`; a plan that differs is served all the same, only more slowly.
    Prepare(Prepare),
    /// Binds the warm shim to a container: it opens the adoption socket. Fds: run directory, log directory. Answered by `Done`.
    Assign(Assign),
    /// The first of the next `Start`'s descriptors, where they are more than one packet carries. Not answered: if it
    /// is out of place the start fails.
    Descriptors,
    /// Starts the container. Answered by `Started` once exec has happened, or by `Failed`. See [`Start`] for the fds.
    Start(Start),
    /// Joins a client's stream to the container's or a running exec's streams. Fd: one stream socket. Answered by `Done`.
    Attach(Attach),
    /// Runs another process in the container. Fds: process plan, then the attach socket if any. Answered by `ExecStarted` or `Failed`.
    Exec(Exec),
    /// Sets a terminal's size. Answered by `Done` or `Failed`.
    Resize(Resize),
    /// Sends a signal to the container's init or an exec's process. Answered by `Done` or `Failed`.
    Signal(Signal),
    /// Closes the container's (or exec's) standard input. Answered by `Done`.
    CloseStdin(Target),
    /// Has the container's own runtime freeze or thaw it. Only for a container with [`External`]. Answered by `Done` or `Failed`.
    Freeze(Freeze),
    /// Has the container's own runtime set other limits. Fd: memfd with the runtime-spec's LinuxResources. Only for a container
    /// with [`External`]. Answered by `Done` or `Failed`.
    Limit,
    /// Asks for the shim's state. Answered by `State` with the network namespace's fd.
    State,
    /// The exit has been recorded: the shim may end. A start that is under way is given up, and the container ended. Answered by `Done`.
    Release,
}

/// Payload of [`Command::Prepare`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepare {
    /// Number of cgroup directories: v1 one per hierarchy, or none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cgroups: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Payload of [`Command::Assign`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assign {
    /// The container's full id.
    pub container_id: String,
    /// The log.
    pub log: LogConfig,
}

/// Payload of [`Command::Start`].
///
/// Fds: plan memfd (with `external`: the runtime-spec's document), detached root file system mount, `sources` mount trees in the plan's order, one per entry of
/// `namespaces`, `cgroups` cgroup directories (v1: one per hierarchy; v2: one), one stream socket per entry of `attach`; with
/// `agent` a connected stream socket and a memfd with a runtime-spec ContainerProcessState without the process id; with `held` the
/// reading end of a pipe, from which a byte comes when the program may be executed, and without one its end when it may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Number of bind source trees.
    pub sources: usize,
    /// Kinds of the namespaces to be joined; a `Pid` entry goes with `pid: join`.
    pub namespaces: Vec<NamespaceKind>,
    /// Where the init's PID namespace comes from.
    pub pid: PidNamespace,
    /// The plan has a user namespace, new or joined: the init is led there, and its new namespaces belong to that one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub user: bool,
    /// Number of cgroup directories; kept for execs and for the OOM counter.
    pub cgroups: usize,
    /// Which of them the memory controller has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u8>,
    /// True when these are other cgroups than those that the init has joined beforehand, if any.
    pub join_cgroups: bool,
    /// Standard streams and log.
    pub streams: Streams,
    /// Streams to be attached before the process runs, so that no byte is missed.
    pub attach: Vec<AttachMode>,
    /// The seccomp filter's listener goes to an agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agent: bool,
    /// Something is made for the container while its init prepares itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The plan was sent without its seccomp program, which is that of the zygote's usual plan.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub usual_filter: bool,
    /// Another program makes the container, by the OCI command line. The shim has to be one made for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

/// A runtime that is another program: `<program> <arguments> create --bundle .. <container id>`, and so on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Its path, or its name to be looked up in the shim's `PATH`.
    pub program: String,
    /// What stands before the command's own arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The run directory's path on the host. The bundle is below it: see [`Bundle`].
    pub directory: String,
}

/// Where a container of another runtime is put together, below its run directory. The mounts are in the shim's own mount
/// namespace.
///
/// ```text
/// bundle/config.json   the document
/// bundle/rootfs/       the root file system is attached here
/// bundle/netns         the shim's network namespace is attached here
/// bundle/sources/<n>   the n-th mount tree that was handed over is attached here
/// state/               the runtime's own, given as --root
/// ```
#[derive(Clone, Debug)]
pub struct Bundle {
    directory: PathBuf,
}

impl Bundle {
    /// The bundle below a run directory.
    pub fn below(run_directory: &Path) -> Bundle {
        Bundle { directory: run_directory.join("bundle") }
    }

    /// The bundle's directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// The network namespace that the shim holds.
    pub fn network_namespace(&self) -> PathBuf {
        self.directory.join("netns")
    }

    /// A mount tree that is handed over.
    pub fn source(&self, index: usize) -> PathBuf {
        self.directory.join("sources").join(index.to_string())
    }
}

/// How the container's standard streams are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// A terminal instead of pipes.
    pub tty: bool,
    /// Keeps standard input open for attached clients; otherwise it is `/dev/null` (without a terminal).
    pub open_stdin: bool,
    /// Standard input ends with the first attached client's.
    pub stdin_once: bool,
    /// First size of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Lines.
    pub height: u16,
}

/// Where the output is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "driver", rename_all = "kebab-case")]
pub enum LogConfig {
    /// Nowhere.
    None,
    /// Docker's json-file format.
    JsonFile {
        /// File name below the log directory, `<id>-json.log`.
        file: String,
        /// A file that has reached this many bytes is rotated before the next entry.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_size: Option<u64>,
        /// Number of files kept, the current one included; at least 1.
        max_files: u32,
        /// Extra attributes (labels, environment) written into each entry.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        attrs: BTreeMap<String, String>,
    },
}

/// Which streams an attached client takes part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachMode {
    /// What the client sends becomes standard input.
    pub stdin: bool,
    /// Wants standard output (all output, with a terminal).
    pub stdout: bool,
    /// Wants standard error.
    pub stderr: bool,
}

/// Payload of [`Command::Attach`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// None: the container's streams.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<String>,
    /// Which streams.
    #[serde(flatten)]
    pub mode: AttachMode,
}

/// Payload of [`Command::Exec`]. Fds: memfd with a [`corten_runtime::ProcessPlan`] (for a container with [`External`]: with the
/// runtime-spec's Process), then one stream socket if `attach` is there,
/// then with `agent` two as for [`Start`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The exec's id, repeated in its events.
    pub exec_id: String,
    /// A terminal instead of pipes.
    pub tty: bool,
    /// First size of the terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<TerminalSize>,
    /// The client's stream; none when detached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<AttachMode>,
    /// The seccomp filter's listener goes to an agent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub agent: bool,
}

/// Payload of [`Command::Resize`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// None: the container's terminal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<String>,
    /// New size.
    #[serde(flatten)]
    pub size: TerminalSize,
}

/// Payload of [`Command::Signal`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// None: the container's init.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<String>,
    /// Signal number.
    pub signal: i32,
}

/// Payload of [`Command::Freeze`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Freeze, else thaw.
    pub on: bool,
}

/// Names the container (no exec id) or one of its execs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// None: the container itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<String>,
}

/// What a shim reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum Event {
    /// First packet of a warm shim. Fd: its network namespace.
    Ready(Ready),
    /// The request was carried out.
    Done,
    /// The request was not carried out.
    Failed(Failure),
    /// The container's process runs.
    Started(Started),
    /// The exec's process runs.
    ExecStarted(ExecStarted),
    /// Answer to `State`. Fd: the network namespace.
    State(Box<State>),
    /// The container's process has ended; `exit.json` is in place.
    Exited(ExitStatus),
    /// An exec's process has ended.
    ExecExited(ExecExited),
}

/// Payload of [`Event::Ready`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The shim's process id.
    pub pid: i32,
    /// The init stub, when it is made at warm-up: to be placed into a pool cgroup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init_pid: Option<i32>,
}

/// Payload of [`Event::Started`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The container's init as the host sees it.
    pub pid: i32,
    /// What was done otherwise than asked (limits clamped).
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Payload of [`Event::ExecStarted`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStarted {
    /// Which exec.
    pub exec_id: String,
    /// Its process as the host sees it.
    pub pid: i32,
}

/// Payload of [`Event::ExecExited`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExited {
    /// Which exec.
    pub exec_id: String,
    /// Its status.
    #[serde(flatten)]
    pub status: ExitStatus,
}

/// How a process ended; also the content of `exit.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// True when the kernel's OOM killer struck in the container's cgroup.
    pub oom: bool,
    /// When, in nanoseconds since the Unix epoch.
    pub time_ns: u64,
}

/// Payload of [`Event::State`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// [`VERSION`] of the shim.
    pub version: u32,
    /// The shim's process id.
    pub shim_pid: i32,
    /// The container it is assigned to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Its life's phase.
    pub phase: Phase,
    /// The container's init, from `Started` until it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// How the container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<ExitStatus>,
    /// Execs that are running.
    #[serde(default)]
    pub execs: Vec<ExecStarted>,
    /// Another program made the container ([`External`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

/// Phases of a shim's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// In the pool.
    Warm,
    /// Bound to a container that has not been started.
    Assigned,
    /// Start is under way.
    Starting,
    /// The container's process runs.
    Running,
    /// The container's process has ended (or its start failed).
    Exited,
}

#[cfg(test)]
#[path = "protocol_tests.rs"]
mod tests;
