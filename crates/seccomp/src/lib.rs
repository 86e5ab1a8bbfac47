//! Seccomp profile to BPF.
//!
//! [`compile`] turns the seccomp part of an OCI document into a classic BPF program for seccomp(2). For each architecture
//! the program is a balanced tree over ranges of system call numbers that share a verdict, so that a call costs a handful of
//! comparisons; conditions on arguments hang below its leaves. Nothing before a verdict without conditions reads an argument,
//! so the kernel can cache it and won't run the program for such calls at all.
//!
//! Verdicts follow libseccomp as runc uses it:
//! - rules that say the same as the default action are ignored;
//! - for one call, the first rule without conditions beats all others, then the first rule whose conditions hold;
//! - a rule that names the same argument twice counts as one rule for each of its conditions;
//! - calls newer than every one that the profile names fail with `ENOSYS` rather than the default action (unless that allows,
//!   logs or traces), so that programs fall back to older calls; ARM's private calls, numbered far above all others, don't
//!   count, and neither does an architecture that the profile doesn't list;
//! - programs of an architecture that the profile doesn't list are killed, but for the machine's own.
//!
//! See seccomp(2), and the OCI runtime-spec 1.3, config-linux.md, "Seccomp".

mod arch;
mod assemble;
pub mod interpret;
mod policy;
mod table;

pub use arch::Machine;

use corten_base::ErrorKind;
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag};

use policy::Policy;

/// The most instructions that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

/// A program for seccomp(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// One `struct sock_filter` per word as a little-endian machine has it in memory: code, jt, jf, k from the low bits up.
    pub filter: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*`, with `NEW_LISTENER` where a rule notifies.
    pub flags: u64,
    /// A rule has the action `SCMP_ACT_NOTIFY`: loading answers a listener descriptor.
    pub notify: bool,
}

/// Why a profile can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The machine's architecture has no table here.
    #[error("seccomp filters are not supported on this architecture")]
    Machine,
    /// An argument condition beyond the sixth argument.
    #[error("seccomp rule for {name}: argument index {index} is out of range")]
    Argument {
        /// The system call.
        name: String,
        /// The index given.
        index: usize,
    },
    /// An error number that the kernel can't return.
    #[error("seccomp rule: errnoRet {0} is out of range")]
    Errno(u32),
    /// Notifying by default would stop the process that has to hand over the listener.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    /// Likewise for the call that hands it over.
    #[error("SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite,
    /// A notify rule, or something to tell its listener, without a listener.
    #[error("SCMP_ACT_NOTIFY and listenerMetadata need a listenerPath")]
    Listener,
    /// The kernel takes 4096 instructions.
    #[error("seccomp filter has {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

impl Error {
    /// The sort of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Machine => ErrorKind::NotImplemented,
            _ => ErrorKind::Invalid,
        }
    }
}

/// Compiles `profile` for a machine.
pub fn compile(profile: &LinuxSeccomp, machine: Machine) -> Result<Program, Error> {
    check_listener(profile)?;
    let policy = Policy::new(profile, machine)?;
    let filter = assemble::assemble(&policy);
    if filter.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(filter.len()));
    }
    let notify = policy.notifies();
    Ok(Program { filter: filter.into_iter().map(u64::from).collect(), flags: flags(profile, notify), notify })
}

fn check_listener(profile: &LinuxSeccomp) -> Result<(), Error> {
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        return Err(Error::NotifyDefault);
    }
    let mut rules = profile.syscalls().iter().flatten();
    let notifies_write = rules.any(|rule| {
        rule.action() == LinuxSeccompAction::ScmpActNotify && rule.names().iter().any(|name| name == "write")
    });
    if notifies_write {
        return Err(Error::NotifyWrite);
    }
    let notifies = profile.syscalls().iter().flatten().any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    let metadata = profile.listener_metadata().as_deref().is_some_and(|text| !text.is_empty());
    let path = profile.listener_path().as_deref().is_some_and(|path| !path.as_os_str().is_empty());
    if (notifies || metadata) && !path { Err(Error::Listener) } else { Ok(()) }
}

const TSYNC: u64 = 1;
const LOG: u64 = 1 << 1;
const SPEC_ALLOW: u64 = 1 << 2;
const NEW_LISTENER: u64 = 1 << 3;
const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Without any list, runc's default applies: no mitigation of speculative store bypass for the whole process.
fn flags(profile: &LinuxSeccomp, notify: bool) -> u64 {
    let named = match profile.flags() {
        None => SPEC_ALLOW,
        Some(flags) => flags.iter().fold(0, |bits, flag| bits | bit(*flag)),
    };
    if notify {
        // A listener and TSYNC would both want the return value; the process has one thread when it loads the filter.
        named & !TSYNC | NEW_LISTENER
    } else {
        // Waiting killably is about notifications; the kernel refuses it without them.
        named & !WAIT_KILLABLE_RECV
    }
}

fn bit(flag: LinuxSeccompFilterFlag) -> u64 {
    match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => TSYNC,
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => LOG,
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => SPEC_ALLOW,
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => WAIT_KILLABLE_RECV,
    }
}
