//! Seccomp profiles: the default one, and the JSON language of `--security-opt seccomp=FILE`.
//!
//! Both are lists of rules with conditions (capabilities of the container, architecture and kernel of the host) and become an
//! OCI filter by leaving out the rules whose conditions don't hold. The language is described by the types in `language`.

mod language;
mod table;

pub use language::ProfileError;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::caps::CapSet;
use crate::{Error, HostFacts, SeccompChoice, Settings};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// A condition of a rule.
#[derive(Clone, Copy, Debug)]
enum When {
    /// The container has the capability.
    Cap(&'static str),
    /// The container lacks it.
    NoCap(&'static str),
    /// The host is one of these, by Go's names.
    Arch(&'static [&'static str]),
    /// The host is none of these.
    NoArch(&'static [&'static str]),
    /// The kernel is at least this new.
    Kernel(u32, u32),
}

impl When {
    fn holds(self, context: &Context) -> bool {
        match self {
            Self::Cap(name) => context.caps.contains(name),
            Self::NoCap(name) => !context.caps.contains(name),
            Self::Arch(names) => names.contains(&context.arch),
            Self::NoArch(names) => !names.contains(&context.arch),
            Self::Kernel(major, minor) => context.kernel >= (major, minor),
        }
    }
}

/// What conditions are checked against.
struct Context {
    caps: CapSet,
    arch: &'static str,
    kernel: (u32, u32),
}

impl Context {
    fn new(caps: CapSet, host: &HostFacts) -> Self {
        Self { caps, arch: architecture(&host.machine).0, kernel: host.kernel }
    }
}

/// The filter that a container with these settings gets.
pub(crate) fn for_container(
    settings: &Settings,
    caps: CapSet,
    host: &HostFacts,
) -> Result<Option<LinuxSeccomp>, Error> {
    match &settings.seccomp {
        SeccompChoice::Unconfined => Ok(None),
        SeccompChoice::Profile(_) if !host.seccomp => Err(Error::NoSeccomp),
        SeccompChoice::Profile(json) => Ok(load_profile(json, caps, host)?),
        SeccompChoice::Default if settings.privileged || !host.seccomp => Ok(None),
        SeccompChoice::Default => Ok(Some(default_profile(caps, host)?)),
    }
}

/// The filter of a profile in Docker's JSON language; `None` if it says nothing at all.
pub fn load_profile(json: &str, caps: CapSet, host: &HostFacts) -> Result<Option<LinuxSeccomp>, ProfileError> {
    language::Profile::parse(json)?.into_oci(&Context::new(caps, host), architecture(&host.machine).1)
}

/// The default filter for a container with these capabilities.
pub fn default_profile(caps: CapSet, host: &HostFacts) -> Result<LinuxSeccomp, Error> {
    let context = Context::new(caps, host);
    let rows = table::ROWS.iter().filter(|row| row.when.iter().all(|condition| condition.holds(&context)));
    let mut filter = LinuxSeccomp::default();
    filter.set_default_action(LinuxSeccompAction::ScmpActErrno);
    filter.set_default_errno_ret(Some(EPERM));
    let native = architecture(&host.machine).1;
    filter.set_architectures(native.map(|native| companions(native).to_vec()));
    filter.set_syscalls(Some(rows.map(rule).collect::<Result<_, _>>()?));
    Ok(filter)
}

fn rule(row: &table::Row) -> Result<LinuxSyscall, Error> {
    let action = if row.errno.is_some() { LinuxSeccompAction::ScmpActErrno } else { LinuxSeccompAction::ScmpActAllow };
    let names: Vec<String> = row.names.split_whitespace().map(str::to_owned).collect();
    let mut rule = LinuxSyscallBuilder::default().names(names).action(action).build()?;
    rule.set_errno_ret(row.errno);
    if !row.args.is_empty() {
        let args: Result<Vec<LinuxSeccompArg>, _> = row
            .args
            .iter()
            .map(|(index, op, value, two)| {
                LinuxSeccompArgBuilder::default().index(*index).op(*op).value(*value).value_two(*two).build()
            })
            .collect();
        rule.set_args(Some(args?));
    }
    Ok(rule)
}

/// Go's name and seccomp's constant for a machine name of uname(2).
fn architecture(machine: &str) -> (&'static str, Option<Arch>) {
    match machine {
        "x86_64" => ("amd64", Some(Arch::ScmpArchX86_64)),
        "aarch64" => ("arm64", Some(Arch::ScmpArchAarch64)),
        "i386" | "i486" | "i586" | "i686" => ("x86", Some(Arch::ScmpArchX86)),
        "riscv64" => ("riscv64", Some(Arch::ScmpArchRiscv64)),
        "ppc64le" => ("ppc64le", Some(Arch::ScmpArchPpc64le)),
        "s390x" => ("s390x", Some(Arch::ScmpArchS390x)),
        "loongarch64" => ("loongarch64", Some(Arch::ScmpArchLoongarch64)),
        _ if machine.starts_with("arm") => ("arm", Some(Arch::ScmpArchArm)),
        _ => ("", None),
    }
}

/// The architectures whose programs a host of this one can run, itself first.
fn companions(native: Arch) -> &'static [Arch] {
    match native {
        Arch::ScmpArchX86_64 => &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        Arch::ScmpArchAarch64 => &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        Arch::ScmpArchX86 => &[Arch::ScmpArchX86],
        Arch::ScmpArchArm => &[Arch::ScmpArchArm],
        Arch::ScmpArchRiscv64 => &[Arch::ScmpArchRiscv64],
        Arch::ScmpArchPpc64le => &[Arch::ScmpArchPpc64le],
        Arch::ScmpArchS390x => &[Arch::ScmpArchS390x, Arch::ScmpArchS390],
        Arch::ScmpArchLoongarch64 => &[Arch::ScmpArchLoongarch64],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caps;

    fn profile(add: &[&str], kernel: (u32, u32)) -> LinuxSeccomp {
        let host =
            HostFacts { machine: "x86_64".into(), kernel, last_capability: 40, bounding: !0, ..HostFacts::default() };
        let add: Vec<String> = add.iter().map(|name| (*name).to_owned()).collect();
        default_profile(caps::effective(&add, &[], false, &host).unwrap(), &host).unwrap()
    }

    fn rules<'a>(profile: &'a LinuxSeccomp, name: &str) -> Vec<&'a LinuxSyscall> {
        let all = profile.syscalls().as_ref().unwrap();
        all.iter().filter(|rule| rule.names().iter().any(|it| it == name)).collect()
    }

    #[test]
    fn follows_capabilities_and_kernel() {
        let plain = profile(&[], (6, 1));
        assert!(rules(&plain, "mount").is_empty());
        assert!(rules(&plain, "reboot").is_empty());
        assert_eq!(rules(&plain, "clone").len(), 1);
        assert_eq!(rules(&plain, "clone3")[0].errno_ret(), Some(ENOSYS));
        assert_eq!(rules(&plain, "ptrace").len(), 1);
        assert!(rules(&profile(&[], (4, 7)), "ptrace").is_empty());
        let admin = profile(&["SYS_ADMIN"], (6, 1));
        assert_eq!(rules(&admin, "mount").len(), 1);
        assert!(rules(&admin, "clone")[0].args().is_none());
        assert_eq!(rules(&admin, "clone3")[0].action(), LinuxSeccompAction::ScmpActAllow);
    }

    #[test]
    fn no_name_twice_in_the_common_row() {
        let mut names: Vec<&str> = table::ROWS[0].names.split_whitespace().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.contains(&"read") && !names.contains(&"io_uring_setup") && !names.contains(&"keyctl"));
    }
}
