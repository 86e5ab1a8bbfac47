//! The process that `exec` is asked for: a file's, or the container's own with another command and the flags' changes.

use std::fs;
use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, Process, Spec};

use super::Context;
use super::error::{Error, Result};
use super::flags::Parsed;

/// Decides it. With `--process` the other flags about the process mean nothing, as with runc.
pub(super) fn wanted(context: &Context, spec: &Spec, parsed: &Parsed) -> Result<Process> {
    if let Some(path) = parsed.value("process") {
        let text = fs::read(path).map_err(Error::doing(format!("cannot read {path}")))?;
        return crate::plan::parse_process(&text).map_err(Error::doing(format!("cannot parse {path}")));
    }
    let args = parsed.rest.get(1..).filter(|args| !args.is_empty());
    let args = args.ok_or_else(|| Error::new("exec args cannot be empty"))?;
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
    add_capabilities(context, &mut process, parsed);
    set_user(&mut process, parsed)?;
    Ok(process)
}

/// Capabilities that are named are added to every set but the inheritable one, and to the ambient set only where that one
/// has them already: the kernel allows no others there.
fn add_capabilities(context: &Context, process: &mut Process, parsed: &Parsed) {
    let (mut named, mut unknown) = (Vec::new(), Vec::new());
    for name in parsed.all("cap") {
        let upper = name.to_uppercase();
        match upper.trim_start_matches("CAP_").parse::<Capability>().or_else(|_| upper.parse()) {
            Ok(known) => named.push(known),
            Err(_) => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        context.log.warn(&format!("ignoring unknown or unavailable capabilities: [{}]", unknown.join(" ")));
    }
    if named.is_empty() {
        return;
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let inheritable: Capabilities = sets.inheritable().clone().unwrap_or_default();
    let add = |set: &Option<Capabilities>| Some(set.iter().flatten().chain(&named).copied().collect());
    let (bounding, effective, permitted) = (add(sets.bounding()), add(sets.effective()), add(sets.permitted()));
    let inherited = named.iter().filter(|capability| inheritable.contains(capability));
    let ambient = sets.ambient().iter().flatten().chain(inherited).copied().collect();
    sets.set_bounding(bounding).set_effective(effective).set_permitted(permitted).set_ambient(Some(ambient));
    process.set_capabilities(Some(sets));
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
