//! The process of an `exec`: what it takes over from its container, and what its own flags change.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::environment::replace_or_append;
use crate::user::ResolvedUser;
use crate::{Error, HostFacts, caps, oci};

/// The settings of one additional process in a container.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecSettings {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Additional environment; without `=` an entry is removed.
    pub env: Vec<String>,
    /// Working directory; empty means the container's.
    pub cwd: String,
    /// `None` is the container's user.
    pub user: Option<ResolvedUser>,
    /// The process gets a terminal of its own.
    pub tty: bool,
    /// Height and width of that terminal.
    pub console_size: Option<(u64, u64)>,
    /// `--privileged`: all capabilities of the host.
    pub privileged: bool,
}

/// The process in OCI form, over the container's own document.
pub fn process(container: &Spec, exec: &ExecSettings, host: &HostFacts) -> Result<Process, Error> {
    let mut process = container.process().clone().unwrap_or_default();
    let mut env = process.env().clone().unwrap_or_default();
    // The container's TERM is there for its own terminal.
    if exec.tty && !env.iter().any(|entry| entry.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let umask = process.user().umask();
    if let Some(user) = &exec.user {
        process.set_user(oci::user(user, umask));
    }
    if exec.privileged {
        process.set_capabilities(Some(caps::available(host).to_oci()?));
    }
    if !exec.cwd.is_empty() {
        process.set_cwd(PathBuf::from(&exec.cwd));
    }
    process
        .set_args(Some(exec.args.clone()))
        .set_env(Some(replace_or_append(env, &exec.env)))
        .set_terminal(exec.tty.then_some(true))
        .set_console_size(exec.console_size.filter(|_| exec.tty).map(oci::console_size).transpose()?);
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Settings, to_oci};

    #[test]
    fn inherits_and_overrides() {
        let host = HostFacts { last_capability: 40, bounding: !0, ..HostFacts::default() };
        let settings = Settings {
            args: vec!["sleep".into()],
            env: vec!["A=1".into()],
            cwd: "/srv".into(),
            no_new_privileges: true,
            ..Settings::default()
        };
        let spec = to_oci(&settings, &host).unwrap();
        let exec = ExecSettings {
            args: vec!["id".into()],
            env: vec!["A=2".into(), "B=3".into()],
            tty: true,
            ..ExecSettings::default()
        };
        let result = process(&spec, &exec, &host).unwrap();
        assert_eq!(result.env().clone().unwrap(), ["A=2", "TERM=xterm", "B=3"]);
        assert_eq!(result.cwd().to_str(), Some("/srv"));
        assert_eq!(result.no_new_privileges(), Some(true));
        assert_eq!(result.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 14);
        let exec = ExecSettings { privileged: true, cwd: "/x".into(), ..exec };
        let result = process(&spec, &exec, &host).unwrap();
        assert_eq!(result.capabilities().as_ref().unwrap().bounding().as_ref().unwrap().len(), 41);
        assert_eq!(result.cwd().to_str(), Some("/x"));
    }
}
