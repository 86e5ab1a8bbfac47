//! `exec`: another process in a running container.

use std::os::fd::{AsFd, OwnedFd};

use corten_cgroup::Group;
use corten_sys::process::{self, Cloned};
use oci_spec::runtime::ContainerState;

use super::error::{Error, Result};
use super::exec_process::wanted;
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
    Flag::value("pidfd-socket", ""),
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
    let process = wanted(context, &spec, parsed)?;
    let plan = crate::exec_plan(&spec, &process, bundle::compile(&spec)?).map_err(Error::doing("invalid process"))?;
    let detached = parsed.is_set("detach");
    terminal::check(plan.terminal, detached, parsed.value("console-socket"))?;
    let keep_keyring = container.record.keeps_keyring;
    let manner = Manner { preserve_fds: create::preserved(parsed, 0)?, keep_keyring, ..Manner::default() };
    // Orphans of an exec's are not for it to reap, with or without `--no-subreaper`.
    let signals = if detached { None } else { Some(wait::watch_signals()?) };
    let pidfd = container.process().ok_or_else(|| Error::new("cannot exec in a stopped container"))?;
    let cgroups: Vec<&str> = parsed.all("cgroup").collect();
    let joined = Joined::new(&container, &cgroups)?;
    let record = &container.record;
    let whose = Listening { id: record.id.clone(), bundle: record.bundle.clone(), status: ContainerState::Running };
    let agent = Agent::connect(&spec, whose).map_err(Error::doing("seccomp"))?;
    let mut launched = Launched { agent, ..launch(&plan, &pidfd, joined, manner)? };
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

/// Directories of the groups that the process joins.
#[derive(Debug)]
struct Joined {
    /// On v2: where it is cloned.
    into: Option<OwnedFd>,
    /// What it joins, in this order: those of v1, and those of the processor's resources.
    cgroups: Vec<OwnedFd>,
}

impl Joined {
    /// The container's groups, or those below them that `--cgroup [CONTROLLER[,...]:]PATH` names.
    fn new(container: &Container, named: &[&str]) -> Result<Joined> {
        let group = container.group()?;
        let fds = |group: &Group| group.dir_fds().map_err(Error::doing("cannot open the cgroup"));
        let mut cgroups = fds(&group)?;
        let mut into = group.dir_fd();
        for (controller, path) in subgroups(named)? {
            let below = container.group_below(path)?;
            let own = match controller {
                None => fds(&below)?,
                Some(name) if group.dir_fd_of(name).is_none() => {
                    return Err(Error::new(format!("unknown controller {name} in SubCgroupPaths")));
                }
                Some(name) => below.dir_fd_of(name).into_iter().collect(),
            };
            // Nobody is left behind in a group above because the one below is not there.
            if own.len() < if controller.is_none() { fds(&group)?.len() } else { 1 } {
                return Err(Error::new(format!("cgroup {path}: no such file or directory")));
            }
            into = into.and_then(|_| below.dir_fd());
            cgroups.extend(own);
        }
        if into.is_some() {
            cgroups.clear();
        }
        if let Some(rdt) = &container.record.rdt {
            cgroups.extend(rdt.directories().map_err(Error::doing("resctrl"))?);
        }
        Ok(Joined { into, cgroups })
    }
}

/// The values of `--cgroup`: pairs of controller and path, or one path for all.
fn subgroups<'a>(named: &[&'a str]) -> Result<Vec<(Option<&'a str>, &'a str)>> {
    let mut found: Vec<(Option<&str>, &str)> = Vec::new();
    let invalid = |word: &str, why: &str| Error::new(format!("invalid --cgroup argument: {word} ({why})"));
    for word in named {
        let Some((controllers, path)) = word.split_once(':') else {
            if named.len() != 1 {
                return Err(invalid(word, "missing <controller>: prefix"));
            }
            return Ok(vec![(None, word)]);
        };
        for controller in controllers.split(',') {
            if controller.is_empty() {
                return Err(invalid(word, "empty <controller> prefix"));
            }
            if found.iter().any(|(other, _)| *other == Some(controller)) {
                return Err(invalid(word, "a controller is named twice"));
            }
            found.push((Some(controller), path));
        }
    }
    Ok(found)
}

/// Waits until the program runs. Returns its terminal, if it is to be served here.
fn follow(context: &Context, parsed: &Parsed, launched: &mut Launched) -> Result<Option<Console>> {
    let mut terminal = None;
    launched.next_stage(context, &mut terminal)?;
    let console = match terminal {
        Some(terminal) => Console::serve(terminal, parsed.value("console-socket"))?,
        None => None,
    };
    create::tell_pid(parsed, launched)?;
    Ok(console)
}

/// Clones a process that joins the container and clones the program's from there: the first stays outside the PID
/// namespace, and gives up every descriptor of the host before the second goes in (CVE-2016-9962).
fn launch(plan: &ProcessPlan, container: &OwnedFd, joined: Joined, manner: Manner) -> Result<Launched> {
    let failed = || Error::doing("cannot make the process");
    let Joined { into, cgroups } = joined;
    let stdio = if plan.terminal { None } else { Some(inherited_streams().map_err(failed())?) };
    let launched = spawn(0, into.as_ref().map(AsFd::as_fd), |mut reporter| {
        let entered = corten_sys::signal::block_all()
            .map_err(|error| Failure::host("cannot reset signals", &error))
            .and_then(|()| apply::enter_container(plan, container.as_fd(), &cgroups, &mut reporter));
        close_others(&reporter, stdio.as_ref(), manner);
        let cloned = entered.and_then(|()| {
            reporter.lead_in().map_err(|error| Failure::host("cannot go into the PID namespace", &error))
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

#[cfg(test)]
mod tests {
    use super::subgroups;

    #[test]
    fn groups_below_by_controller() {
        assert_eq!(subgroups(&["a/b"]).unwrap(), [(None, "a/b")]);
        let by_name = [(Some("cpu"), "x"), (Some("cpuacct"), "x"), (Some("memory"), "y")];
        assert_eq!(subgroups(&["cpu,cpuacct:x", "memory:y"]).unwrap(), by_name);
        for wrong in [&[":x"][..], &["a:x", "a:y"], &["x", "a:y"], &["a,:x"]] {
            assert!(subgroups(wrong).is_err(), "{wrong:?}");
        }
    }
}
