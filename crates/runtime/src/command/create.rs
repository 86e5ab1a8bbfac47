//! `create` and `run`: from a bundle to a container that waits for its start, or to its program's exit code.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use corten_base::time::rfc3339_nano;
use corten_cgroup::{Group, Tree};
use corten_sys::{netlink, process};
use oci_spec::runtime::{ContainerState, Hook, Hooks, Spec};

use super::bundle::{Bundle, DIVIDE, Place};
use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::launch::{Init, Launched, Stage, open_fifo};
use super::store::{self, Container, Record};
use super::terminal::{self, Console};
use super::{Context, own_binary, wait};
use crate::agent::{Agent, Container as Listening};
use crate::apply::{Gate, Manner};
use crate::devices;
use crate::plan::NetDevice;
use crate::resctrl::Made;

/// More descriptors than a process may have by default are a mistake.
const MAX_FDS: u32 = 1 << 20;

macro_rules! flags_and {
    ($($more:expr),*) => {
        &[
            Flag::value("bundle", "b"),
            Flag::value("console-socket", ""),
            Flag::value("pidfd-socket", ""),
            Flag::value("pid-file", ""),
            Flag::switch("no-pivot", ""),
            Flag::switch("no-new-keyring", ""),
            Flag::value("preserve-fds", ""),
            $($more),*
        ]
    };
}

pub(super) const CREATE_FLAGS: &[Flag] = flags_and!();
pub(super) const RUN_FLAGS: &[Flag] =
    flags_and!(Flag::switch("detach", "d"), Flag::switch("keep", ""), Flag::switch("no-subreaper", ""));

/// Makes a container that waits for its start.
pub(super) fn create(context: &Context, parsed: &Parsed) -> Result<u8> {
    let made = || {
        let mut making = Making::begin(context, parsed, true)?;
        making.finish(parsed, false).inspect_err(|_| making.undo())?;
        Ok(0)
    };
    made().map_err(|error: Error| error.within("corten runtime create failed"))
}

/// Makes a container and starts it; unless detached, waits for its end and removes it.
pub(super) fn run(context: &Context, parsed: &Parsed) -> Result<u8> {
    let made = || {
        let detached = parsed.is_set("detach");
        let mut making = Making::begin(context, parsed, false)?;
        let console = making.finish(parsed, true).inspect_err(|_| making.undo())?;
        if detached {
            return Ok(0);
        }
        let code = wait::foreground(&making.launched, console, making.signals.as_ref());
        if !parsed.is_set("keep") {
            making.remove_or_warn();
        }
        code
    };
    made().map_err(|error: Error| error.within("corten runtime run failed"))
}

/// A container on its way.
struct Making<'a> {
    context: &'a Context,
    bundle: Bundle,
    container: Container,
    launched: Launched,
    group: Group,
    terminal: bool,
    /// The container has a PID namespace of its own: nothing outlives its init.
    contained: bool,
    signals: Option<OwnedFd>,
    devices: Vec<NetDevice>,
}

impl<'a> Making<'a> {
    /// Takes the id, makes the group and clones the init. What fails leaves nothing.
    fn begin(context: &'a Context, parsed: &Parsed, waits: bool) -> Result<Making<'a>> {
        own_binary::protect()?;
        let asked = asked(parsed)?;
        let bundle = Bundle::read(Path::new(parsed.value("bundle").unwrap_or(".")), &context.log)?;
        let detached = waits || parsed.is_set("detach");
        let terminal = bundle.spec.process().as_ref().and_then(|process| process.terminal()).unwrap_or(false);
        terminal::check(terminal, detached, parsed.value("console-socket"))?;
        let id = parsed.id();
        let directory = store::claim(context, id)?;
        let signals = if detached { None } else { Some(wait::watch_signals()?) };
        if !detached && !parsed.is_set("no-subreaper") {
            process::become_subreaper().map_err(Error::doing("prctl"))?;
        }
        let made = Making::make(context, id, bundle, &directory, asked, waits);
        match made {
            Ok(making) => Ok(Making { terminal, signals, ..making }),
            Err(error) => {
                let _ = fs::remove_dir_all(&directory);
                Err(error)
            }
        }
    }

    fn make(
        context: &'a Context,
        id: &str,
        bundle: Bundle,
        directory: &Path,
        Asked { manner, listening }: Asked,
        waits: bool,
    ) -> Result<Making<'a>> {
        let tree = Tree::detect().map_err(Error::doing("cgroup"))?;
        let mut plan = bundle.plan(&tree)?;
        if listening > 0 {
            plan.process.env.extend([format!("LISTEN_FDS={listening}"), "LISTEN_PID=1".to_owned()]);
        }
        let devices = crate::plan::net_devices(&bundle.spec).map_err(Error::doing("invalid specification"))?;
        let cgroup = bundle.cgroup(id, &tree)?;
        cgroup.check()?;
        let rdt = bundle.rdt(id)?;
        // The intent, before anything is made that the directory doesn't hold: should this process be killed, a removal finds it.
        let intended = rdt.as_ref().map(|(resctrl, plan)| resctrl.place(plan));
        let container = Container::save(record(id, &bundle, &cgroup, intended, manner), directory.to_owned())?;
        let place = directory.join("init");
        fs::create_dir(&place).map_err(Error::doing(format!("cannot make {}", place.display())))?;
        let (start, report) = match waits {
            true => (Some(open_fifo(&directory.join("start.pending"))?), Some(open_fifo(&directory.join("report"))?)),
            false => (None, None),
        };
        let gate = gate(&bundle, id, start, !devices.is_empty());
        let rdt = rdt.map(|(resctrl, plan)| resctrl.make(&plan)).transpose().map_err(Error::doing(DIVIDE))?;
        let group = cgroup.make().inspect_err(|_| drop(store::remove_rdt(rdt.as_ref())))?;
        let launch = || {
            group.apply(&devices::limits(&bundle.spec)).map_err(Error::doing("cannot set the container's limits"))?;
            let (rootfs, rdt) = (&bundle.rootfs, rdt.as_ref());
            let init = Init { plan: &plan, rootfs, place: &place, group: &group, rdt, gate, manner, report };
            let whose =
                Listening { id: id.to_owned(), bundle: bundle.directory.clone(), status: ContainerState::Creating };
            let agent = Agent::connect(&bundle.spec, whose).map_err(Error::doing("seccomp"))?;
            let launched = Launched { agent, ..init.launch()? };
            context.log.debug(&format!("the container's init is process {}", launched.pid));
            let container = container.with_process(launched.pid).inspect_err(|_| launched.kill())?;
            Ok((launched, container))
        };
        let (launched, container) = launch().inspect_err(|_: &Error| {
            // The first error is the one to be told.
            let _ = store::remove_group(&group);
            let _ = store::remove_rdt(rdt.as_ref());
        })?;
        let contained = store::is_contained(&bundle.spec);
        Ok(Making { context, bundle, container, launched, group, terminal: false, contained, signals: None, devices })
    }

    /// Answers the init until it waits for its start, or runs. Returns its terminal, if it is to be served here.
    fn finish(&mut self, parsed: &Parsed, started: bool) -> Result<Option<Console>> {
        let mut terminal = None;
        loop {
            match self.launched.next_stage(self.context, &mut terminal)? {
                Stage::Mounted => {
                    self.carry_devices()?;
                    self.run_hooks("prestart", ContainerState::Creating)?;
                    self.run_hooks("createRuntime", ContainerState::Creating)?;
                    self.launched.go_on()?;
                }
                Stage::Executed if !started => {
                    return Err(Error::new("unable to start container process: it ended before it was ready"));
                }
                Stage::Ready | Stage::Executed => break,
            }
        }
        let console = match terminal {
            Some(terminal) if self.terminal => Console::serve(terminal, parsed.value("console-socket"))?,
            _ => None,
        };
        tell_pid(parsed, &self.launched)?;
        if started {
            self.run_hooks("poststart", ContainerState::Running)?;
        } else {
            let directory = &self.container.directory;
            fs::rename(directory.join("start.pending"), directory.join("start"))
                .map_err(Error::doing("cannot finish the creation"))?;
        }
        Ok(console)
    }

    /// Gives the container its network devices; they go where its namespace goes.
    fn carry_devices(&self) -> Result<()> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let path = format!("/proc/{}/ns/net", self.launched.pid);
        let namespace = fs::File::open(&path).map_err(Error::doing(path))?;
        self.devices.iter().try_for_each(|device| {
            netlink::carry(&device.name, &device.new_name, namespace.as_fd())
                .map_err(Error::doing(format!("cannot give the container the network device {}", device.name)))
        })
    }

    fn run_hooks(&self, stage: &str, status: ContainerState) -> Result<()> {
        run_hooks(&self.bundle.spec, &self.container.record, stage, status)
    }

    /// After a failure: the processes, the group and the directory go, and those who were told of the container hear.
    fn undo(&self) {
        self.launched.kill();
        self.remove_or_warn();
    }

    /// What cannot be removed is told of and left to `delete`; the result is the program's, or the first error.
    fn remove_or_warn(&self) {
        if let Err(error) = self.remove() {
            self.context.log.warn(&error.message);
        }
    }

    /// After the end.
    fn remove(&self) -> Result<()> {
        let group = match self.contained {
            true => self.group.remove().map_err(Error::doing("cannot remove the container's cgroup")),
            false => store::remove_group(&self.group),
        };
        self.container.remove_rest(group)?;
        let record = &self.container.record;
        store::run_poststop(self.context, &self.bundle.spec, &record.id, &record.bundle);
        Ok(())
    }
}

/// What the command line asks for besides the bundle.
#[derive(Clone, Copy, Debug)]
struct Asked {
    manner: Manner,
    /// Sockets that a service manager has opened for the program; they come before those of `--preserve-fds`.
    listening: u32,
}

fn asked(parsed: &Parsed) -> Result<Asked> {
    let listening = listen_fds(|name| std::env::var(name).ok(), std::process::id());
    let manner = Manner {
        preserve_fds: preserved(parsed, listening)?,
        keep_keyring: parsed.is_set("no-new-keyring"),
        no_pivot: parsed.is_set("no-pivot"),
        urgent: false,
    };
    Ok(Asked { manner, listening })
}

/// Socket activation (sd_listen_fds(3)): how many descriptors from 3 on are meant for this process, to be handed on.
fn listen_fds(variable: impl Fn(&str) -> Option<String>, own: u32) -> u32 {
    let number = |name| variable(name)?.parse::<u32>().ok();
    if number("LISTEN_PID") == Some(own) { number("LISTEN_FDS").unwrap_or(0).min(MAX_FDS) } else { 0 }
}

/// The number of descriptors that the program inherits: `listening`, and those of `--preserve-fds`. All must be open; what
/// else the caller left open is not for the container.
pub(super) fn preserved(parsed: &Parsed, listening: u32) -> Result<u32> {
    let count: u32 = parsed.number("preserve-fds")?.unwrap_or(0).min(MAX_FDS);
    let all = listening + count;
    if let Some(closed) = (3..3 + all).find(|fd| !is_inherited(*fd)) {
        return Err(Error::new(format!("--preserve-fds {count}: descriptor {closed} is not open")));
    }
    process::close_on_exec_from(3 + all).map_err(Error::doing("close_range"))?;
    Ok(all)
}

/// Whether a descriptor came from the caller. Those of this process's own (its log may have a number that the caller left free) are
/// closed when it executes something.
fn is_inherited(fd: u32) -> bool {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| u32::from_str_radix(line.strip_prefix("flags:")?.trim(), 8).ok());
    flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
}

/// Where the init stops: for its start, and for network devices and hooks before its root is entered.
fn gate(bundle: &Bundle, id: &str, start: Option<OwnedFd>, devices: bool) -> Option<Gate> {
    let hooks = bundle.spec.hooks().clone().unwrap_or_default();
    let list = |stage| list(&hooks, stage).to_vec();
    let gate = Gate {
        stop_mounted: devices
            || ["prestart", "createRuntime", "createContainer"].iter().any(|stage| !list(stage).is_empty()),
        create_container: list("createContainer"),
        start_container: list("startContainer"),
        state: store::state_of(&bundle.spec, id, &bundle.directory, ContainerState::Creating, None),
        bundle: bundle.directory.clone(),
        start,
    };
    let needed = gate.stop_mounted || !gate.start_container.is_empty() || gate.start.is_some();
    needed.then_some(gate)
}

fn list<'h>(hooks: &'h Hooks, stage: &str) -> &'h [Hook] {
    let list = match stage {
        "prestart" => hooks.prestart(),
        "createRuntime" => hooks.create_runtime(),
        "createContainer" => hooks.create_container(),
        "startContainer" => hooks.start_container(),
        _ => hooks.poststart(),
    };
    list.as_deref().unwrap_or_default()
}

/// Runs one of the lists that belong to the runtime's namespaces.
pub(super) fn run_hooks(spec: &Spec, record: &Record, stage: &str, status: ContainerState) -> Result<()> {
    let Some(hooks) = spec.hooks() else { return Ok(()) };
    let state = store::state_of(spec, &record.id, &record.bundle, status, Some(record.pid));
    crate::hooks::run(stage, list(hooks, stage), &state, Some(&record.bundle)).map_err(Error::doing("hooks"))
}

/// What is to be made; it has no process yet.
fn record(id: &str, bundle: &Bundle, cgroup: &Place, rdt: Option<Made>, manner: Manner) -> Record {
    Record {
        format: store::FORMAT,
        id: id.to_owned(),
        pid: 0,
        start_time: 0,
        bundle: bundle.directory.clone(),
        rootfs: bundle.rootfs.clone(),
        created: rfc3339_nano(SystemTime::now()),
        cgroup: cgroup.path.to_string(),
        cgroup_roots: cgroup.roots.clone(),
        rdt,
        keeps_keyring: manner.keep_keyring,
        config: bundle.config.clone(),
    }
}

/// Tells those who asked for it which process it is: a file by its id, a socket by its descriptor.
pub(super) fn tell_pid(parsed: &Parsed, launched: &Launched) -> Result<()> {
    if let Some(path) = parsed.value("pidfd-socket") {
        terminal::send(launched.pidfd.as_fd(), b"pidfd", path).map_err(Error::doing(format!("pidfd socket {path}")))?;
    }
    parsed.value("pid-file").map_or(Ok(()), |path| write_pid_file(Path::new(path), launched.pid))
}

/// Written beside and renamed: who waits for the file finds it whole.
fn write_pid_file(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().ok_or_else(|| Error::new(format!("invalid pid file {}", path.display())))?;
    let new = path.with_file_name(format!(".{}", name.to_string_lossy()));
    fs::write(&new, pid.to_string())
        .and_then(|()| fs::rename(&new, path))
        .map_err(Error::doing(format!("cannot write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::listen_fds;

    #[test]
    fn sockets_are_for_whom_they_name() {
        let count = |pid: &str, fds: &str| {
            let (pid, fds) = (pid.to_owned(), fds.to_owned());
            listen_fds(move |name| Some(if name == "LISTEN_PID" { pid.clone() } else { fds.clone() }), 7)
        };
        assert_eq!((count("7", "2"), count("8", "2"), count("", "2"), count("7", "x")), (2, 0, 0, 0));
        assert_eq!(listen_fds(|_| None, 7), 0);
    }
}
