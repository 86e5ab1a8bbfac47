//! `exec`: another process in a running container.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_cgroup::{CgroupPath, Group, Tree};
use corten_sys::process::{self, Cloned};
use oci_spec::runtime::{Capability, ContainerState, Process, Spec};

use super::error::{Error, Result};
use super::flags::{Flag, Parsed};
use super::launch::{Launched, give_up, inherited_streams, spawn};
use super::store::{Container, Status};
use super::terminal::{self, Console};
use super::{Context, bundle, create, own_binary, wait};
use crate::agent::{Agent, Container as Listening};
use crate::apply::{self, Manner, Reporter, Stdio};
use crate::{Failure, ProcessPlan};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("process", "p"),
    Flag::switch("tty", "t"),
    Flag::value("user", "u"),
    Flag::value("cwd", ""),
    Flag::value("env", "e"),
    Flag::value("additional-gids", "g"),
    Flag::switch("detach", "d"),
    Flag::value("pid-file", ""),
    Flag::value("console-socket", ""),
    Flag::value("cgroup", ""),
    Flag::value("cap", "c"),
    Flag::value("apparmor", ""),
    Flag::value("process-label", ""),
    Flag::switch("no-new-privs", ""),
    Flag::switch("no-subreaper", ""),
    Flag::value("preserve-fds", ""),
    Flag::switch("ignore-paused", ""),
];

/// Runs a process in a container; its exit code unless detached. What keeps it from running is exit code 255.
pub(super) fn exec(context: &Context, parsed: &Parsed) -> Result<u8> {
    run(context, parsed).map_err(|error| Error { code: 255, ..error.within("exec failed") })
}

fn run(context: &Context, parsed: &Parsed) -> Result<u8> {
    own_binary::protect()?;
    let container = Container::load(context, parsed.id())?;
    check_status(container.status(), parsed.is_set("ignore-paused"))?;
    let spec = container.spec()?;
    let process = wanted(&spec, parsed)?;
    let plan = crate::exec_plan(&spec, &process, bundle::compile(&spec)?).map_err(Error::doing("invalid process"))?;
    let detached = parsed.is_set("detach");
    terminal::check(plan.terminal, detached, parsed.value("console-socket"))?;
    let manner = Manner { preserve_fds: create::preserved(parsed)?, ..Manner::default() };
    let signals = if detached { None } else { Some(wait::watch_signals(parsed.is_set("no-subreaper"))?) };
    let pidfd = container.process().ok_or_else(|| Error::new("cannot exec in a stopped container"))?;
    let group = group_of(&container, parsed.value("cgroup"))?;
    let record = &container.record;
    let whose = Listening { id: record.id.clone(), bundle: record.bundle.clone(), status: ContainerState::Running };
    let agent = Agent::connect(&spec, whose).map_err(Error::doing("seccomp"))?;
    let mut launched = Launched { agent, ..launch(&plan, &pidfd, &group, manner)? };
    let console = follow(context, parsed, &mut launched).inspect_err(|_| launched.kill())?;
    if detached { Ok(0) } else { wait::foreground(&launched, console, signals.as_ref()) }
}

fn check_status(status: Status, ignore_paused: bool) -> Result<()> {
    match status {
        Status::Stopped | Status::Creating => Err(Error::new("cannot exec in a stopped container")),
        Status::Paused if !ignore_paused => {
            Err(Error::new("cannot exec in a paused container (use --ignore-paused to override)"))
        }
        _ => Ok(()),
    }
}

/// The container's group, or one below it.
fn group_of(container: &Container, below: Option<&str>) -> Result<Group> {
    let failed = || Error::doing("cgroup");
    let path = CgroupPath::parse(&container.record.cgroup).map_err(failed())?;
    let path = match below.filter(|below| !below.trim_matches('/').is_empty()) {
        Some(below) => path.join(below.trim_matches('/')).map_err(failed())?,
        None => path,
    };
    Tree::detect().and_then(|tree| tree.open(&path)).map_err(failed())
}

/// Waits until the program runs. Returns its terminal, if it is to be served here.
fn follow(context: &Context, parsed: &Parsed, launched: &mut Launched) -> Result<Option<Console>> {
    let mut terminal = None;
    launched.next_stage(context, &mut terminal)?;
    let console = match terminal {
        Some(terminal) => Console::serve(terminal, parsed.value("console-socket"))?,
        None => None,
    };
    if let Some(path) = parsed.value("pid-file") {
        create::write_pid_file(Path::new(path), launched.pid)?;
    }
    Ok(console)
}

/// Clones a process that joins the container and clones the program's from there: the first stays outside the PID
/// namespace, and gives up every descriptor of the host before the second goes in (CVE-2016-9962).
fn launch(plan: &ProcessPlan, container: &OwnedFd, group: &Group, manner: Manner) -> Result<Launched> {
    let failed = || Error::doing("cannot make the process");
    let into = group.dir_fd();
    let cgroups =
        if into.is_some() { Vec::new() } else { group.dir_fds().map_err(Error::doing("cannot open the cgroup"))? };
    let stdio = if plan.terminal { None } else { Some(inherited_streams().map_err(failed())?) };
    let launched = spawn(0, into.as_ref().map(AsFd::as_fd), |mut reporter| {
        let entered = corten_sys::signal::block_all()
            .map_err(|error| Failure::host("cannot reset signals", &error))
            .and_then(|()| apply::enter_container(plan, container.as_fd(), &cgroups, &mut reporter));
        close_others(&reporter, stdio.as_ref(), manner);
        let cloned = entered.and_then(|()| {
            process::clone_sibling().map_err(|error| Failure::host("cannot go into the PID namespace", &error))
        });
        match cloned {
            Ok(Cloned::Parent { pid, pidfd }) => reporter.moved(pid, pidfd).map_or(1, |()| 0),
            Ok(Cloned::Child) => give_up(apply::exec(plan, stdio, manner, &mut reporter), None, &mut reporter),
            Err(failure) => give_up(failure, None, &mut reporter),
        }
    });
    launched.map(|launched| Launched { leading: true, ..launched }).map_err(failed())
}

/// Closes what the program doesn't inherit.
fn close_others(reporter: &Reporter, stdio: Option<&Stdio>, manner: Manner) {
    let mut keep = vec![reporter.socket().as_fd()];
    if let Some(Stdio::Pipes { stdin, stdout, stderr }) = stdio {
        keep.extend([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]);
    }
    process::close_from_but(3 + manner.preserve_fds, &keep);
}

/// The process that is asked for: a file's, or the container's own with another command and the flags' changes.
fn wanted(spec: &Spec, parsed: &Parsed) -> Result<Process> {
    if let Some(path) = parsed.value("process") {
        let text = fs::read(path).map_err(Error::doing(format!("cannot read {path}")))?;
        return serde_json::from_slice(&text).map_err(Error::doing(format!("cannot parse {path}")));
    }
    let args = parsed.rest.get(1..).filter(|args| !args.is_empty());
    let args = args.ok_or_else(|| Error::new("process args cannot be empty"))?;
    let mut process = spec.process().clone().ok_or_else(|| Error::new("the specification has no process"))?;
    process.set_args(Some(args.to_vec())).set_terminal(Some(parsed.is_set("tty")));
    if let Some(cwd) = parsed.value("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    let env = process.env().iter().flatten().cloned().chain(parsed.all("env").map(str::to_owned));
    let env = env.collect();
    process.set_env(Some(env));
    if let Some(profile) = parsed.value("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = parsed.value("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    if parsed.value("no-new-privs").is_some() {
        process.set_no_new_privileges(Some(parsed.is_set("no-new-privs")));
    }
    add_capabilities(&mut process, parsed)?;
    set_user(&mut process, parsed)?;
    Ok(process)
}

/// Capabilities that are named are added to every set but the ambient one, which follows the inheritable.
fn add_capabilities(process: &mut Process, parsed: &Parsed) -> Result<()> {
    let mut named = Vec::new();
    for name in parsed.all("cap") {
        let upper = name.to_uppercase();
        let known: Capability = upper
            .trim_start_matches("CAP_")
            .parse()
            .or_else(|_| upper.parse())
            .map_err(|_| Error::new(format!("unknown capability {name:?}")))?;
        named.push(known);
    }
    if named.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let add = |set: &Option<oci_spec::runtime::Capabilities>| {
        Some(set.iter().flatten().copied().chain(named.iter().copied()).collect())
    };
    let (bounding, effective, permitted) = (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted);
    process.set_capabilities(Some(sets));
    Ok(())
}

/// `--user UID[:GID]` and `--additional-gids`.
fn set_user(process: &mut Process, parsed: &Parsed) -> Result<()> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| Error::new(format!("cannot parse {text:?} as a user or group id")))
    };
    let mut user = process.user().clone();
    if let Some(wanted) = parsed.value("user") {
        let (uid, gid) = wanted.split_once(':').map_or((wanted, None), |(uid, gid)| (uid, Some(gid)));
        user.set_uid(number(uid)?);
        if let Some(gid) = gid {
            user.set_gid(number(gid)?);
        }
    }
    let more = parsed.all("additional-gids").flat_map(|list| list.split(',')).map(number);
    let more = more.collect::<Result<Vec<_>>>()?;
    if !more.is_empty() {
        let groups = user.additional_gids().iter().flatten().copied().chain(more).collect();
        user.set_additional_gids(Some(groups));
    }
    process.set_user(user);
    Ok(())
}
